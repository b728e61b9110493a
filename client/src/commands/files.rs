//! Records as lines of a file: JSON Lines, CSV, TSV.
//!
//! JSON Lines hold all that a record is: `{"key","value"}`, `{"key","value_b64"}` for bytes, and `values` for
//! siblings. CSV and TSV have the columns `key`, `value` and, so that nothing is lost, `kind`: empty for a string,
//! `json` for any other JSON value, `base64` for bytes. A first line that names the columns is passed over.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Write};
use std::path::Path;
use std::str::FromStr;

use super::Failure;
use crate::value::decoded;
use crate::{Record, Value};

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Separated by commas, quoted by `"`.
    Csv,
    /// Separated by tabs, quoted by `"`.
    Tsv,
}

impl Format {
    /// By the file's extension; JSON Lines where it says nothing.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => Format::Csv,
            Some("tsv" | "tab") => Format::Tsv,
            _ => Format::Jsonl,
        }
    }

    fn delimiter(self) -> u8 {
        if self == Format::Tsv { b'\t' } else { b',' }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "jsonl" | "json" | "ndjson" => Ok(Format::Jsonl),
            "csv" => Ok(Format::Csv),
            "tsv" => Ok(Format::Tsv),
            _ => Err(format!("unknown format {text:?}: it is jsonl, csv or tsv")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
        })
    }
}

/// The longest line of JSON Lines: longer than any record that nodes take.
const LINE_BYTES_MAX: usize = 16 << 20;

/// What a line held: a record, or what is wrong with it.
pub(super) struct Line {
    /// Counted from 1.
    pub number: u64,
    pub record: Result<Record, String>,
    /// Bytes of the file up to its end.
    pub bytes: u64,
}

/// That a file cannot be written, by its name, with what helps. `more` is what else there is to say.
pub(super) fn unwritable(name: impl fmt::Display, error: &io::Error, more: &str) -> Failure {
    let help = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room there, or name a file elsewhere"
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => "name a file in a folder that there is",
        ErrorKind::IsADirectory => "name a file, not a folder",
        ErrorKind::BrokenPipe => "its reader ended before all was written",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "name a file where you may write",
        _ => "name a file elsewhere",
    };
    Failure::failed(format!("cannot write {name}: {error}: {help}{more}"))
}

/// Puts a small file in the place of the one before, which stays where that fails: on a full disk, for one.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let written = std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // The first error tells more than a second would.
        let _ = std::fs::remove_file(&new);
    }
    written
}

/// Reads records one by one.
pub(super) struct Reader {
    source: Source,
}

enum Source {
    Jsonl { input: Box<dyn BufRead>, number: u64, bytes: u64 },
    Table { input: csv::Reader<Box<dyn BufRead>>, row: csv::ByteRecord, first: bool },
}

impl Reader {
    pub fn new(input: Box<dyn BufRead>, format: Format) -> Reader {
        let source = match format {
            Format::Jsonl => Source::Jsonl { input, number: 0, bytes: 0 },
            _ => {
                let mut builder = csv::ReaderBuilder::new();
                builder.delimiter(format.delimiter()).has_headers(false).flexible(true);
                Source::Table { input: builder.from_reader(input), row: csv::ByteRecord::new(), first: true }
            }
        };
        Reader { source }
    }

    /// The next line that is not empty; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        match &mut self.source {
            Source::Jsonl { input, number, bytes } => next_jsonl(input, number, bytes),
            Source::Table { input, row, first } => next_row(input, row, first),
        }
    }
}

/// What some editors put before a text in UTF-8. Tables lose theirs in the csv reader.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

fn next_jsonl(input: &mut dyn BufRead, number: &mut u64, bytes: &mut u64) -> io::Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut *input, LINE_BYTES_MAX as u64);
        let read = limited.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        *number += 1;
        *bytes += read as u64;
        let line_number = *number;
        if line.len() >= LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            *bytes += skip_line(input)?;
            let record = Err(format!("longer than {LINE_BYTES_MAX} bytes"));
            return Ok(Some(Line { number: line_number, record, bytes: *bytes }));
        }
        let text = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(behind) if line_number == 1 => behind.trim_ascii(),
            _ => line.trim_ascii(),
        };
        if text.is_empty() {
            continue;
        }
        let record = serde_json::from_slice(text).map_err(|e| e.to_string());
        return Ok(Some(Line { number: line_number, record, bytes: *bytes }));
    }
}

fn skip_line(input: &mut dyn BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let held = input.fill_buf()?;
        if held.is_empty() {
            return Ok(skipped);
        }
        let end = held.iter().position(|b| *b == b'\n').map(|at| at + 1);
        let take = end.unwrap_or(held.len());
        input.consume(take);
        skipped += take as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

fn next_row(
    input: &mut csv::Reader<Box<dyn BufRead>>,
    row: &mut csv::ByteRecord,
    first: &mut bool,
) -> io::Result<Option<Line>> {
    loop {
        match input.read_byte_record(row) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        let number = row.position().map_or(0, csv::Position::line);
        let heading = std::mem::take(first) && row.get(0) == Some(b"key") && row.get(1) == Some(b"value");
        if !heading {
            return Ok(Some(Line { number, record: of_row(row), bytes: input.position().byte() }));
        }
    }
}

fn of_row(row: &csv::ByteRecord) -> Result<Record, String> {
    let cell = |n: usize| std::str::from_utf8(&row[n]).map_err(|_| format!("column {} is no UTF-8", n + 1));
    if !(2..=3).contains(&row.len()) {
        return Err(format!("{} columns: key and value are needed, and kind may follow", row.len()));
    }
    let (key, text) = (cell(0)?.to_owned(), cell(1)?);
    let value = match if row.len() == 3 { cell(2)? } else { "" } {
        "" | "string" => Value::from(text),
        "json" => Value::json(text).map_err(|e| e.to_string())?,
        "base64" => Value::Binary(decoded(text)?),
        other => return Err(format!("kind {other:?} is unknown: it is empty, json or base64")),
    };
    Ok(Record { key, value, siblings: Vec::new(), context: None })
}

/// Writes records one by one.
pub(super) struct Writer<W: Write> {
    output: W,
    format: Format,
}

impl<W: Write> Writer<W> {
    /// A writer; `fresh` where the file is empty yet.
    pub fn new(mut output: W, format: Format, fresh: bool) -> io::Result<Writer<W>> {
        if fresh && format != Format::Jsonl {
            let d = char::from(format.delimiter());
            writeln!(output, "key{d}value{d}kind")?;
        }
        Ok(Writer { output, format })
    }

    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        if self.format == Format::Jsonl {
            // A context names actors of the cluster that it came from: elsewhere it covers nothing.
            let record = Record { context: None, ..record.clone() };
            serde_json::to_writer(&mut self.output, &record)?;
            return self.output.write_all(b"\n");
        }
        let (text, kind) = match &record.value {
            Value::Json(raw) => match record.value.string() {
                Some(text) => (text, ""),
                None => (raw.get().to_owned(), "json"),
            },
            Value::Binary(bytes) => {
                use base64::Engine as _;
                (base64::engine::general_purpose::STANDARD.encode(bytes), "base64")
            }
        };
        let mut row = csv::WriterBuilder::new();
        row.delimiter(self.format.delimiter());
        let mut row = row.from_writer(&mut self.output);
        row.write_record([record.key.as_str(), &text, kind]).map_err(|e| match e.into_kind() {
            csv::ErrorKind::Io(error) => error,
            kind => io::Error::other(format!("{kind:?}")),
        })?;
        row.flush()
    }

    pub fn get_mut(&mut self) -> &mut W {
        &mut self.output
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;

    use super::*;

    fn lines(text: &str, format: Format) -> Vec<Line> {
        let mut reader = Reader::new(Box::new(Cursor::new(text.as_bytes().to_vec())), format);
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    fn records() -> Vec<Record> {
        let record =
            |key: &str, value| Record { key: key.into(), value, siblings: Vec::new(), context: None };
        vec![
            record("plain", Value::from("text")),
            record("comma,\"quote\"\ttab\nline", Value::from("a,\"b\"\tc\nd")),
            record("empty", Value::from("")),
            record("number", Value::json("1.50").unwrap()),
            record("object", Value::json(r#"{"a":[1,"x,y"]}"#).unwrap()),
            record("null", Value::json("null").unwrap()),
            record("bytes", Value::Binary(vec![0, 255, 10])),
            record("nothing", Value::Binary(vec![])),
        ]
    }

    #[test]
    fn what_is_written_is_read_back_in_every_format() {
        for format in [Format::Jsonl, Format::Csv, Format::Tsv] {
            let mut writer = Writer::new(Vec::new(), format, true).unwrap();
            records().iter().for_each(|r| writer.write(r).unwrap());
            let text = String::from_utf8(writer.output).unwrap();
            let read: Vec<Record> = lines(&text, format).into_iter().map(|l| l.record.unwrap()).collect();
            assert_eq!(read, records(), "{format}: {text}");
        }
    }

    #[test]
    fn broken_lines_are_told_by_their_numbers_and_the_rest_is_read() {
        let text = "{\"key\":\"a\",\"value\":1}\n\nnot json\n{\"key\":\"b\"}\n{\"key\":\"c\",\"value\":2}";
        let read = lines(text, Format::Jsonl);
        let seen: Vec<(u64, bool)> = read.iter().map(|l| (l.number, l.record.is_ok())).collect();
        assert_eq!(seen, [(1, true), (3, false), (4, false), (5, true)]);
        assert_eq!(read.last().unwrap().bytes, text.len() as u64);
        let text = "key,value\na,1\nb\nc,3,base65\n\"d\",\"x\ny\"\ne,f,z,z\n";
        let read = lines(text, Format::Csv);
        let seen: Vec<(u64, bool)> = read.iter().map(|l| (l.number, l.record.is_ok())).collect();
        assert_eq!(seen, [(2, true), (3, false), (4, false), (5, true), (7, false)]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_record() {
        for (text, format) in [("{\"key\":\"a\",\"value\":1}\r\n", Format::Jsonl), ("a,1\r\n", Format::Csv)] {
            let read = lines(&format!("\u{feff}{text}"), format);
            assert_eq!(read[0].record.as_ref().unwrap().key, "a");
            assert_eq!(read.len(), 1);
        }
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let text = format!("{}\n{{\"key\":\"a\",\"value\":1}}\n", "x".repeat(LINE_BYTES_MAX + 5));
        let read = lines(&text, Format::Jsonl);
        assert!(read[0].record.as_ref().unwrap_err().contains("longer than"));
        assert_eq!((read[1].number, read[1].record.is_ok()), (2, true));
    }

    #[test]
    fn the_extension_says_the_format() {
        for (name, format) in
            [("a.csv", Format::Csv), ("a.tsv", Format::Tsv), ("a.jsonl", Format::Jsonl), ("a", Format::Jsonl)]
        {
            assert_eq!(Format::of(Path::new(name)), format);
        }
        assert!("xml".parse::<Format>().unwrap_err().contains("jsonl, csv or tsv"));
    }
}
