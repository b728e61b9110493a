//! What Consul's server takes from Go: the text of durations, and field names in any case.

use std::time::Duration;

use serde_json::{Map, Value};

/// Reads `1h2m3.5s`, `100ms`, `0`. Negative ones, which Go knows, count as none.
pub fn duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // Longer units first: `ms` begins like `m`.
        let units =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        seconds += number * factor;
        rest = &rest[unit.len()..];
    }
    if negative {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// Go matches field names in any case, and Consul also takes them with underscores: brings them into one form, and
/// leaves out those that are null.
pub fn fields(object: Map<String, Value>) -> Map<String, Value> {
    let same = |name: String| name.to_ascii_lowercase().replace('_', "");
    object
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (same(name), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        let ms = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1h2m3.5s"), Some(3_723_500));
        assert_eq!(ms("15000ms"), Some(15_000));
        assert_eq!((ms("0"), ms("0s"), ms("-3s")), (Some(0), Some(0), Some(0)));
        for text in ["", "abc", "10", "s", "1x", "1s2", "-", "1..5s", "99999999999999999999h"] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn field_names_meet_in_one_form() {
        let Value::Object(object) = serde_json::json!({"Check_ID": 1, "checkId2": 2, "TTL": null}) else {
            unreachable!("an object");
        };
        let names: Vec<String> = fields(object).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["checkid", "checkid2"]);
    }
}
