//! Text for people: columns, bars, numbers.

/// Rows under headings, columns as wide as they must be. Those named in `right` stand at the right.
pub(super) fn table(headings: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut text = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let gap = if column == 0 { "" } else { "  " };
            text += &if right.contains(&column) {
                format!("{gap}{pad}{cell}")
            } else {
                format!("{gap}{cell}{pad}")
            };
        }
        text.trim_end().to_owned() + "\n"
    };
    let headings: Vec<String> = headings.iter().map(|h| (*h).to_owned()).collect();
    let mut text = line(&headings);
    rows.iter().for_each(|row| text += &line(row));
    text
}

/// A bar of up to `width` characters for a part of the whole.
pub(super) fn bar(part: f64, width: usize) -> String {
    "█".repeat((part.clamp(0.0, 1.0) * width as f64).round() as usize)
}

/// A number with its thousands apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in the unit that suits it.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = n as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// `1 record`, `2 records`.
pub(super) fn count(n: u64, what: &str) -> String {
    format!("{} {what}{}", number(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["node-0".to_owned(), "7".to_owned()], vec!["n".to_owned(), "1,234".to_owned()]];
        assert_eq!(
            table(&["node", "records"], &[1], &rows),
            "node    records\nnode-0        7\nn         1,234\n"
        );
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 1234567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([5, 2048, 3 << 20].map(bytes), ["5 B", "2.0 KiB", "3.0 MiB"]);
        assert_eq!((count(1, "record"), count(0, "record")), ("1 record".into(), "0 records".into()));
        assert_eq!((bar(0.5, 4), bar(2.0, 4), bar(-1.0, 4)), ("██".into(), "████".into(), String::new()));
    }
}
