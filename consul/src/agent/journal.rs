//! The agent's memory on disk: one file of rows, appended to and now and then rewritten.
//!
//! A line is a checksum and a row as JSON. A row is on disk before anybody is told of it. A last line without its end
//! was being written when the process or the machine died: nobody was told of it, and it is cut off. Any other damage is
//! refused: an agent that forgets half of its keys would be worse than one that does not start.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::AgentError;
use super::state::Row;

const FILE: &str = "state.jsonl";
const FIRST_LINE: &str = "consul embedded agent, state format 1";
/// A journal is rewritten when it is this much longer than after the last time, and at least twice as long.
const REWRITE_BYTES: u64 = 8 << 20;

/// The open journal. It holds a lock on its folder: two agents never write the same one.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    file: File,
    bytes: u64,
    bytes_at_rewrite: u64,
    /// Held, not read.
    _lock: File,
}

impl Journal {
    /// Opens or makes the journal in a folder, and reads its rows.
    pub fn open(folder: &Path) -> Result<(Self, Vec<Row>), AgentError> {
        let failed = |what: &str, error: io::Error| AgentError::disk(what, folder, error);
        std::fs::create_dir_all(folder).map_err(|error| failed("make the state folder", error))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"));
        let lock = lock.map_err(|error| failed("open the lock file in", error))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(AgentError::Locked { folder: folder.to_owned() });
        }
        let path = folder.join(FILE);
        let options = || OpenOptions::new().read(true).append(true).open(&path);
        let file = match options() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rewrite(folder, &[]).map_err(|error| failed("write the first state in", error))?;
                options()
            }
            other => other,
        };
        let file = file.map_err(|error| failed("open the state in", error))?;
        let text = std::fs::read(&path).map_err(|error| failed("read the state in", error))?;
        let (rows, whole) =
            parse(&text).map_err(|(line, why)| AgentError::Corrupt { path: path.clone(), line, why })?;
        let bytes = whole as u64;
        if whole < text.len() {
            file.set_len(bytes)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("repair the state in", error))?;
        }
        let journal = Journal { folder: folder.to_owned(), file, bytes, bytes_at_rewrite: 0, _lock: lock };
        Ok((journal, rows))
    }

    /// Adds rows; when it returns they are on disk.
    pub fn append(&mut self, rows: &[Row]) -> Result<(), AgentError> {
        let mut text = Vec::new();
        rows.iter().for_each(|row| push_line(&mut text, row));
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.map_err(|error| AgentError::disk("write the state in", &self.folder, error))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Whether most of the file has become history.
    pub fn wants_rewrite(&self) -> bool {
        self.bytes > 2 * self.bytes_at_rewrite && self.bytes > self.bytes_at_rewrite + REWRITE_BYTES
    }

    /// Replaces the file by these rows.
    pub fn rewrite(&mut self, rows: &[Row]) -> Result<(), AgentError> {
        let failed = |error| AgentError::disk("rewrite the state in", &self.folder, error);
        self.bytes = rewrite(&self.folder, rows).map_err(failed)?;
        self.bytes_at_rewrite = self.bytes;
        self.file = OpenOptions::new().append(true).open(self.folder.join(FILE)).map_err(failed)?;
        Ok(())
    }
}

/// Writes beside the file, then takes its place: at every moment one of the two is whole.
fn rewrite(folder: &Path, rows: &[Row]) -> io::Result<u64> {
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = BufWriter::new(File::create(&beside)?);
    let mut bytes = FIRST_LINE.len() as u64 + 1;
    writeln!(file, "{FIRST_LINE}")?;
    for row in rows {
        let mut line = Vec::new();
        push_line(&mut line, row);
        bytes += line.len() as u64;
        file.write_all(&line)?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&beside, folder.join(FILE))?;
    File::open(folder)?.sync_all()?;
    Ok(bytes)
}

fn push_line(text: &mut Vec<u8>, row: &Row) {
    let json = serde_json::to_string(row).expect("rows have no maps with keys other than strings");
    text.extend_from_slice(format!("{:016x} {json}\n", checksum(json.as_bytes())).as_bytes());
}

/// The rows, and how many bytes of the text are whole lines; or the line that cannot be read, and why.
fn parse(text: &[u8]) -> Result<(Vec<Row>, usize), (usize, String)> {
    let mut rows = Vec::new();
    let mut whole = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        whole += line.len() + 1;
        if number > 0 {
            rows.push(parse_line(line).map_err(|why| (number + 1, why))?);
        } else if line != FIRST_LINE.as_bytes() {
            return Err((1, format!("it does not begin with {FIRST_LINE:?}")));
        }
    }
    if whole == 0 {
        // The first line is written whole before the file gets its name.
        return Err((1, "it has no first line".to_owned()));
    }
    Ok((rows, whole))
}

fn parse_line(line: &[u8]) -> Result<Row, String> {
    let (sum, json) = line.split_at_checked(17).ok_or("it is too short")?;
    let sum = std::str::from_utf8(sum).ok().and_then(|sum| sum.strip_suffix(' '));
    let sum = sum.and_then(|sum| u64::from_str_radix(sum, 16).ok());
    if sum != Some(checksum(json)) {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// FNV-1a, 64 bits: it finds flipped bits and cut lines; nobody attacks a file of their own.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64) -> Row {
        Row::NoEntry { prefix: format!("key-{index}"), tree: false, index }
    }

    fn written(rows: &[Row]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("scratch folder");
        let (mut journal, found) = Journal::open(folder.path()).expect("opened");
        assert!(found.is_empty());
        journal.append(rows).expect("written");
        folder
    }

    #[test]
    fn rows_come_back_in_order() {
        let folder = written(&[row(1), row(2)]);
        let (mut journal, rows) = Journal::open(folder.path()).expect("opened");
        assert_eq!(rows, [row(1), row(2)]);
        journal.rewrite(&[row(2)]).expect("rewritten");
        journal.append(&[row(3)]).expect("written");
        drop(journal);
        assert_eq!(Journal::open(folder.path()).expect("opened").1, [row(2), row(3)]);
    }

    #[test]
    fn a_line_that_was_being_written_is_cut_off_wherever_it_ends() {
        let folder = written(&[row(1), row(2)]);
        let path = folder.path().join(FILE);
        let text = std::fs::read(&path).expect("read");
        let second = text.len() - text.split_inclusive(|b| *b == b'\n').next_back().expect("a line").len();
        for end in second..text.len() {
            std::fs::write(&path, &text[..end]).expect("written");
            let (mut journal, rows) = Journal::open(folder.path()).expect("opened");
            assert_eq!(rows, [row(1)], "cut at {end}");
            journal.append(&[row(3)]).expect("written");
            drop(journal);
            assert_eq!(Journal::open(folder.path()).expect("opened").1, [row(1), row(3)], "cut at {end}");
        }
    }

    #[test]
    fn any_other_damage_is_refused_with_file_and_line() {
        let folder = written(&[row(1), row(2), row(3)]);
        let path = folder.path().join(FILE);
        let text = std::fs::read(&path).expect("read");
        for at in 0..text.len() - 1 {
            let mut damaged = text.clone();
            damaged[at] ^= 0x11;
            std::fs::write(&path, &damaged).expect("written");
            let message = Journal::open(folder.path()).expect_err("damaged").to_string();
            assert!(message.contains(FILE) && message.contains("line"), "byte {at}: {message}");
        }
    }

    #[test]
    fn a_second_agent_is_kept_out() {
        let folder = tempfile::tempdir().expect("scratch folder");
        let first = Journal::open(folder.path()).expect("opened");
        let message = Journal::open(folder.path()).expect_err("locked").to_string();
        assert!(message.contains("another"), "{message}");
        drop(first);
        Journal::open(folder.path()).expect("free again");
    }

    #[test]
    fn a_long_history_asks_to_be_rewritten() {
        let folder = tempfile::tempdir().expect("scratch folder");
        let (mut journal, _) = Journal::open(folder.path()).expect("opened");
        let big = Row::NoEntry { prefix: "x".repeat(1 << 20), tree: false, index: 1 };
        let appended = (1..100).find(|_| {
            journal.append(std::slice::from_ref(&big)).expect("written");
            journal.wants_rewrite()
        });
        assert_eq!(appended, Some(8));
        journal.rewrite(&[big]).expect("rewritten");
        assert!(!journal.wants_rewrite());
    }
}
