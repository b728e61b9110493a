//! Dump: every record of the cluster into a file that `load` restores, into any number of nodes.
//!
//! The file is written beside its place and moved there when it is whole, so that a half one is never taken for a
//! dump. What was written so far can be continued with `--resume`. A pipe or a device is written to where it is.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::files::{Format, Writer, replace, unwritable};
use super::table::{count, number};
use super::{Console, Failure, Outcome};
use crate::{Client, PageOf, Scope};

/// Records of a page.
const PAGE: usize = 1000;

/// What is dumped.
#[derive(Clone, Debug)]
pub struct Dump {
    /// `-` is standard output.
    pub file: PathBuf,
    /// By the file's extension where none is given.
    pub format: Option<Format>,
    /// Whether to go on where an earlier dump was interrupted.
    pub resume: bool,
}

/// How far a dump is.
#[derive(Serialize, Deserialize)]
struct Progress {
    cursor: String,
    records: u64,
    file_bytes: u64,
}

#[derive(Serialize)]
struct Summary {
    records: u64,
    /// Records of several concurrent values; CSV and TSV keep the newest.
    concurrent: u64,
    counted: Option<u64>,
    seconds: f64,
    records_per_second: f64,
}

#[derive(Default)]
struct Tally {
    records: u64,
    concurrent: u64,
}

/// Dumps the cluster.
///
/// # Errors
/// Where it cannot be read, or the file not be written.
pub fn dump(client: &mut Client, console: &mut Console, dump: &Dump) -> Outcome {
    let format = dump.format.unwrap_or_else(|| Format::of(&dump.file));
    let counted = cluster_records(client);
    let bar = match counted {
        Some(counted) => console.bar(counted, "records"),
        None => console.spinner("records"),
    };
    bar.set_message("dumping");
    let began = Instant::now();
    let to_stdout = dump.file.as_os_str() == "-";
    let mut tally = Tally::default();
    if to_stdout {
        if dump.resume {
            return Err(Failure::usage("--resume needs a file: standard output cannot be continued"));
        }
        let mut writer = Writer::new(Vec::new(), format, true)?;
        // Memory takes all; the console says itself what does not.
        pages(client, &mut writer, None, &bar, &mut tally, &Failure::from, |writer, _, _| {
            console.bytes(writer.get_mut())?;
            writer.get_mut().clear();
            Ok(())
        })?;
    } else if std::fs::metadata(&dump.file).is_ok_and(|there| !there.is_file()) {
        to_device(client, dump, format, &bar, &mut tally)?;
    } else {
        to_file(client, console, dump, format, &bar, &mut tally)?;
    }
    bar.finish_and_clear();
    if tally.concurrent > 0 && format != Format::Jsonl {
        console.say(&format!(
            "{} had several concurrent values, of which {format} holds the newest: JSON Lines hold all",
            count(tally.concurrent, "record")
        ));
    }
    let seconds = began.elapsed().as_secs_f64();
    let Tally { records, concurrent } = tally;
    let records_per_second = records as f64 / seconds.max(1e-9);
    let summary = Summary { records, concurrent, counted, seconds, records_per_second };
    let text = report(&summary);
    // Standard output may hold the records themselves.
    if to_stdout {
        console.say(&text);
        return Ok(());
    }
    console.either(&summary, || text)
}

fn report(s: &Summary) -> String {
    let rate = number(s.records_per_second as u64);
    let text = format!("{} dumped in {:.1} s ({rate} a second)", count(s.records, "record"), s.seconds);
    match s.counted {
        Some(counted) if counted == s.records => text + ", as many as the nodes counted before",
        Some(counted) => {
            text + &format!("; the nodes counted {} before: others were writing meanwhile", number(counted))
        }
        None => text,
    }
}

/// The records that all nodes lead together; `None` where one did not tell.
pub(super) fn cluster_records(client: &mut Client) -> Option<u64> {
    let ring = match client.ring() {
        Some(ring) => ring.clone(),
        None => client.fetch_ring().ok()?,
    };
    let names: Vec<_> = ring.nodes.iter().map(|n| n.name).collect();
    let answers = client.status_of(&names, std::time::Duration::from_secs(2));
    let keys = |(_, answer): (_, Result<crate::Document, crate::Error>)| {
        answer.ok()?.read::<crate::Status>().ok().map(|s| s.keys)
    };
    answers.into_iter().map(keys).sum()
}

/// Writes all pages from the cursor on. `paged` comes after each, with the cursor of the next and the count so far;
/// `wrong` says what could not be written.
fn pages<W: Write>(
    client: &mut Client,
    writer: &mut Writer<W>,
    mut cursor: Option<String>,
    bar: &indicatif::ProgressBar,
    tally: &mut Tally,
    wrong: &dyn Fn(std::io::Error) -> Failure,
    mut paged: impl FnMut(&mut Writer<W>, Option<&str>, &Tally) -> Outcome,
) -> Outcome {
    loop {
        let page = client.page(Scope::Cluster, None, PageOf { limit: Some(PAGE), cursor })?;
        for record in &page.records {
            writer.write(record).map_err(wrong)?;
            tally.concurrent += u64::from(!record.siblings.is_empty());
        }
        tally.records += page.records.len() as u64;
        bar.set_position(tally.records);
        paged(writer, page.cursor.as_deref(), tally)?;
        if page.cursor.is_none() {
            return Ok(());
        }
        cursor = page.cursor;
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn to_file(
    client: &mut Client,
    console: &Console,
    dump: &Dump,
    format: Format,
    bar: &indicatif::ProgressBar,
    tally: &mut Tally,
) -> Outcome {
    let (partial, state) = (beside(&dump.file, ".partial"), beside(&dump.file, ".partial.state"));
    let not_opened = |e: std::io::Error| Failure { exit: 2, ..unwritable(partial.display(), &e, "") };
    let progress = if dump.resume { resumable(console, &partial, &state) } else { None };
    let mut file = open(&partial, progress.as_ref().map(|p| p.file_bytes)).map_err(not_opened)?;
    let at = file.seek(SeekFrom::End(0)).map_err(not_opened)?;
    let go_on = "; what was written stays, and --resume goes on from there";
    let wrong = |e: std::io::Error| unwritable(partial.display(), &e, go_on);
    let output = BufWriter::with_capacity(1 << 20, file);
    let mut writer = Writer::new(output, format, at == 0).map_err(wrong)?;
    tally.records = progress.as_ref().map_or(0, |p| p.records);
    let start = progress.map(|p| p.cursor);
    pages(client, &mut writer, start, bar, tally, &wrong, |writer, cursor, tally| {
        writer.get_mut().flush().map_err(wrong)?;
        let Some(cursor) = cursor else { return Ok(()) };
        let file_bytes = writer.get_mut().get_mut().stream_position().map_err(wrong)?;
        let progress = Progress { cursor: cursor.to_owned(), records: tally.records, file_bytes };
        replace(&state, &serde_json::to_vec(&progress)?).map_err(|e| unwritable(state.display(), &e, go_on))
    })?;
    writer.get_mut().get_mut().sync_all().map_err(wrong)?;
    std::fs::rename(&partial, &dump.file).map_err(|e| {
        let whole = format!("; {} is the whole dump: move it by hand", partial.display());
        unwritable(dump.file.display(), &e, &whole)
    })?;
    // Absent where there was one page only.
    let _ = std::fs::remove_file(&state);
    Ok(())
}

/// How far an earlier dump came, where what it wrote is there to be continued.
fn resumable(console: &Console, partial: &Path, state: &Path) -> Option<Progress> {
    let name = partial.display();
    let Ok(text) = std::fs::read(state) else {
        console.say("there is no dump to go on with: starting anew");
        return None;
    };
    let Ok(progress) = serde_json::from_slice::<Progress>(&text) else {
        console.say(&format!("{} cannot be read: starting anew", state.display()));
        return None;
    };
    let there = std::fs::metadata(partial).map_or(0, |file| file.len());
    if there < progress.file_bytes {
        let written = progress.file_bytes;
        console.say(&format!("{name} has {there} bytes, and {written} had been written: starting anew"));
        return None;
    }
    Some(progress)
}

/// What is no file has no half that could be taken for a dump, and nothing could be put in its place.
fn to_device(
    client: &mut Client,
    dump: &Dump,
    format: Format,
    bar: &indicatif::ProgressBar,
    tally: &mut Tally,
) -> Outcome {
    let name = dump.file.display();
    if dump.resume {
        return Err(Failure::usage(format!("--resume needs a file, and {name} is none: dump without it")));
    }
    let file = OpenOptions::new().write(true).open(&dump.file);
    let file = file.map_err(|e| Failure { exit: 2, ..unwritable(name, &e, "") })?;
    let wrong = |e: std::io::Error| unwritable(dump.file.display(), &e, "");
    let mut writer = Writer::new(BufWriter::new(file), format, true).map_err(wrong)?;
    pages(client, &mut writer, None, bar, tally, &wrong, |writer, _, _| {
        writer.get_mut().flush().map_err(wrong)
    })
}

/// The file to write to: cut at `keep` bytes where a dump is continued, else empty.
fn open(path: &Path, keep: Option<u64>) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
    file.set_len(keep.unwrap_or(0))?;
    Ok(file)
}
