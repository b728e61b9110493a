//! Load: a file's records into the cluster, as many at once as the client takes.
//!
//! Beside the file stands how far it was loaded: the last line before which everything was acknowledged. A load that
//! was interrupted goes on from there with `--resume`; lines behind it are loaded again, which changes nothing.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;
use serde::{Deserialize, Serialize};

use super::drive::drive;
use super::files::{Format, Line, Reader, replace, unwritable};
use super::table::{count, number};
use super::{Console, Failure, Outcome};
use crate::{Client, Error, Op, Record, Status};

/// Broken lines that are told one by one; the rest are counted.
const TOLD_MAX: u64 = 20;
/// How long nodes may take to say what they lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the progress is written down.
const SAVE: Duration = Duration::from_secs(1);

/// What is loaded.
#[derive(Clone, Debug)]
pub struct Load {
    /// `-` is standard input.
    pub file: PathBuf,
    /// By the file's extension where none is given.
    pub format: Option<Format>,
    /// Whether to go on where an earlier load was interrupted.
    pub resume: bool,
    /// The file has all there was: partitions that are said to be lost are so no more, once all of it is loaded.
    pub accept_loss: bool,
}

/// How far a file was loaded.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    /// Everything up to this line was acknowledged.
    line: u64,
    /// The file's size then: another size is another file.
    file_bytes: u64,
}

#[derive(Default, Serialize)]
struct Summary {
    loaded: u64,
    broken: u64,
    failed: u64,
    skipped: u64,
    /// Partitions that nodes still say they lost.
    lost_partitions: u64,
    /// Partitions of which that is no longer said.
    accepted_partitions: u64,
    seconds: f64,
    records_per_second: f64,
}

/// Loads a file; broken lines are told and counted, the rest is loaded, and the exit code says that there were some.
///
/// # Errors
/// Where the file cannot be read, or a line or record was not loaded.
pub fn load(client: &mut Client, console: &mut Console, load: &Load) -> Outcome {
    let from_stdin = load.file.as_os_str() == "-";
    if from_stdin && load.resume {
        return Err(Failure::usage("--resume needs a file: standard input cannot be read twice"));
    }
    let format = load.format.unwrap_or_else(|| Format::of(&load.file));
    let began = Instant::now();
    let (input, file_bytes): (Box<dyn BufRead>, u64) = if from_stdin {
        (Box::new(BufReader::new(stdin())), 0)
    } else {
        let unreadable =
            |e: std::io::Error| Failure::usage(format!("cannot read {}: {e}", load.file.display()));
        let mut file = File::open(&load.file).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        // A folder opens, and only reading it fails.
        file.read(&mut []).map_err(unreadable)?;
        (Box::new(BufReader::with_capacity(1 << 20, file)), bytes)
    };
    let place = (!from_stdin).then(|| state_file(&load.file));
    let skip = starting_line(console, load, place.as_deref(), file_bytes)?;
    let bar = if file_bytes > 0 { console.bar(file_bytes, "bytes") } else { console.spinner("bytes") };
    bar.set_message("loading");
    let mut run = Run {
        reader: Reader::new(input, format),
        console,
        bar,
        skip,
        read: 0,
        open: BTreeSet::new(),
        file: (!from_stdin).then_some(&load.file),
        place,
        file_bytes,
        saved: Instant::now(),
        unsaved_told: false,
        summary: Summary::default(),
        siblings: Vec::new(),
    };
    let outcome = run.all(client);
    run.save();
    outcome?;
    run.bar.finish_and_clear();
    if let Some(place) = &run.place
        && run.summary.failed == 0
    {
        // What is done needs no resuming; where the file is gone already all is well.
        let _ = std::fs::remove_file(place);
    }
    let mut summary = run.summary;
    summary.seconds = began.elapsed().as_secs_f64();
    summary.records_per_second = summary.loaded as f64 / summary.seconds.max(1e-9);
    settle_losses(client, console, load.accept_loss, &mut summary);
    console.either(&summary, || report(&summary))?;
    match summary.broken + summary.failed {
        0 => Ok(()),
        n => Err(Failure::told(format!("{} not loaded", count(n, "line")))),
    }
}

/// What a node lost with its memory it calls lost until a load brought it back. Whether this file was all there was
/// only its owner knows.
fn settle_losses(client: &mut Client, console: &Console, accept: bool, summary: &mut Summary) {
    let whole = summary.broken + summary.failed == 0;
    let names: Vec<NodeName> =
        client.ring().map_or(Vec::new(), |ring| ring.nodes.iter().map(|n| n.name).collect());
    for (node, answer) in client.status_of(&names, PATIENCE) {
        let status = answer.ok().and_then(|document| document.read::<Status>().ok());
        let Some(lost) = status.map(|s| s.lost_partitions).filter(|lost| *lost > 0) else { continue };
        if accept && whole && client.accept_loss(node).is_ok() {
            summary.accepted_partitions += lost;
        } else {
            summary.lost_partitions += lost;
            console.say(&format!(
                "{node} still calls {} lost, and what is not found there too: if this file has all there was, \
                 `client_producer accept-loss {node}` ends that (or `load --accept-loss`)",
                count(lost, "partition")
            ));
        }
    }
}

fn report(s: &Summary) -> String {
    let mut text = format!(
        "{} loaded in {:.1} s ({} a second)",
        count(s.loaded, "record"),
        s.seconds,
        number(s.records_per_second as u64)
    );
    for (n, what) in
        [(s.skipped, "were loaded before"), (s.broken, "could not be read"), (s.failed, "failed")]
    {
        if n > 0 {
            text += &format!(", {} {what}", count(n, "line"));
        }
    }
    if s.accepted_partitions > 0 {
        text += &format!(", {} no longer called lost", count(s.accepted_partitions, "partition"));
    }
    text
}

/// The file beside the loaded one that says how far it was loaded.
fn state_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".ringkv-load");
    name.into()
}

fn starting_line(
    console: &Console,
    load: &Load,
    place: Option<&Path>,
    file_bytes: u64,
) -> Result<u64, Failure> {
    let Some(text) = place.and_then(|p| std::fs::read(p).ok()) else { return Ok(0) };
    let progress: Progress = match serde_json::from_slice(&text) {
        Ok(progress) => progress,
        Err(_) => return Ok(0),
    };
    if !load.resume {
        console.say(&format!(
            "an earlier load was interrupted after line {}; starting anew (--resume goes on from there)",
            progress.line
        ));
        return Ok(0);
    }
    if progress.file_bytes != file_bytes {
        return Err(Failure::usage(format!(
            "{} had {} bytes when it was loaded, now it has {file_bytes}: load it without --resume",
            load.file.display(),
            progress.file_bytes
        )));
    }
    Ok(progress.line)
}

/// A load under way.
struct Run<'a, 'b> {
    reader: Reader,
    console: &'a Console<'b>,
    bar: indicatif::ProgressBar,
    /// Lines up to this one were loaded before.
    skip: u64,
    /// The last line that was read.
    read: u64,
    /// Lines whose records are under way.
    open: BTreeSet<u64>,
    /// `None` is standard input.
    file: Option<&'a Path>,
    place: Option<PathBuf>,
    file_bytes: u64,
    saved: Instant,
    /// Whether it was said that the progress cannot be written down.
    unsaved_told: bool,
    summary: Summary,
    /// Records with several values, which are written one after the other at the end.
    siblings: Vec<(u64, Record)>,
}

impl Run<'_, '_> {
    fn all(&mut self, client: &mut Client) -> Outcome {
        // Both closures need the run, never at one time.
        let run = std::cell::RefCell::new(&mut *self);
        drive(
            client,
            || run.borrow_mut().next_record(),
            |line, outcome| {
                // Going on would end every line of the file like this one.
                if let Err(error @ Error::Unreachable { .. }) = outcome {
                    return Err(anyhow::Error::new(error).context(format!("line {line}")).into());
                }
                run.borrow_mut().ended(line, outcome.map(drop));
                Ok::<(), Failure>(())
            },
        )?;
        for (line, record) in std::mem::take(&mut self.siblings) {
            let outcome = write_siblings(client, &record);
            self.ended(line, outcome);
        }
        Ok(())
    }

    fn next_record(&mut self) -> Result<Option<(u64, Op)>, Failure> {
        loop {
            let Some(Line { number, record, bytes }) = self.reader.next().map_err(|e| self.unreadable(&e))?
            else {
                return Ok(None);
            };
            self.bar.set_position(bytes);
            self.read = number;
            if number <= self.skip {
                self.summary.skipped += 1;
                continue;
            }
            let op = match record {
                Ok(record) if !record.siblings.is_empty() => {
                    self.open.insert(number);
                    self.siblings.push((number, record));
                    continue;
                }
                Ok(record) => Op::put(&record.key, record.value).map_err(|e| e.to_string()),
                Err(why) => Err(why),
            };
            match op {
                Ok(op) => {
                    self.open.insert(number);
                    return Ok(Some((number, op)));
                }
                Err(why) => {
                    self.summary.broken += 1;
                    self.tell(self.summary.broken, number, &why);
                }
            }
        }
    }

    /// That the file cannot be read any further: by its name, and how far it was.
    fn unreadable(&self, error: &std::io::Error) -> Failure {
        let name = self.file.as_ref().map_or("standard input".to_owned(), |file| file.display().to_string());
        Failure::failed(format!("cannot read {name} behind line {}: {error}", self.read))
    }

    fn ended(&mut self, line: u64, outcome: Result<(), Error>) {
        match outcome {
            Ok(()) => {
                self.open.remove(&line);
                self.summary.loaded += 1;
            }
            // The line stays open: a resumed load tries it again.
            Err(error) => {
                self.summary.failed += 1;
                self.tell(self.summary.failed, line, &error.to_string());
            }
        }
        if self.saved.elapsed() >= SAVE {
            self.save();
        }
    }

    fn tell(&self, so_far: u64, line: u64, why: &str) {
        if so_far <= TOLD_MAX {
            self.bar.suspend(|| self.console.say(&format!("line {line}: {why}")));
        } else if so_far == TOLD_MAX + 1 {
            self.bar.suspend(|| self.console.say("more such lines are counted and not told"));
        }
    }

    /// Writes down how far everything is acknowledged.
    fn save(&mut self) {
        self.saved = Instant::now();
        let Some(place) = &self.place else { return };
        let line = self.open.first().map_or(self.read, |open| open - 1);
        let progress = Progress { line, file_bytes: self.file_bytes };
        let written = serde_json::to_vec(&progress)
            .map_err(std::io::Error::other)
            .and_then(|text| replace(place, &text));
        if let Err(error) = written
            && !std::mem::replace(&mut self.unsaved_told, true)
        {
            let more = "; the load goes on, and is resumed from an earlier line where it is interrupted";
            let text = unwritable(place.display(), &error, more).error.to_string();
            self.bar.suspend(|| self.console.say(&text));
        }
    }
}

/// Concurrent values: the oldest overwrites, the others are put beside it.
fn write_siblings(client: &mut Client, record: &Record) -> Result<(), Error> {
    for (n, value) in record.siblings.iter().rev().enumerate() {
        let put = Op::put(&record.key, value.clone())?;
        client.call(if n == 0 { put } else { put.context("{}")? })?;
    }
    Ok(())
}
