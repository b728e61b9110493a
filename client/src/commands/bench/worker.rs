//! One connection's load: requests, latencies, and with `check` the account of what was acknowledged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ledger::Ledger;
use super::{Bench, Counts, TOLD_MAX};
use crate::commands::drive::drive;
use crate::retry::Chance;
use crate::{Client, Completion, Error, Op, Reply, Ticket, Value};

/// How long a worker waits for replies before it looks whether it is time to end.
const LOOK: Duration = Duration::from_millis(50);
/// The longest latency that is told apart: a minute, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// What one worker measured.
pub(super) struct Measured {
    pub puts: Histogram<u64>,
    pub gets: Histogram<u64>,
    pub errors: Vec<String>,
    pub failed: u64,
    pub indeterminate: u64,
    pub wrong: Vec<String>,
    pub checked: u64,
    /// How long it put load on the cluster.
    pub seconds: f64,
}

/// What one worker goes by.
pub(super) struct Worker<'a> {
    pub n: usize,
    pub bench: &'a Bench,
    pub counts: &'a Counts,
    pub stop: &'a AtomicBool,
    pub end: Option<Instant>,
}

/// A request of ours under way.
struct Asked {
    key: u64,
    /// The number of the value that a put writes.
    put: Option<u64>,
    at: Instant,
}

impl Worker<'_> {
    pub fn run(&self, client: &mut Client) -> Result<Measured, Error> {
        let bench = self.bench;
        let keys = (bench.keys / bench.connections as u64).max(bench.in_flight as u64 * 2);
        let mut ledger = Ledger::new(keys);
        let mut measured = Measured::new();
        let began = Instant::now();
        let mut under_way: HashMap<Ticket, Asked> = HashMap::new();
        let mut chance = Chance::new();
        let pad = "x".repeat(bench.value_size);
        while !self.is_over() {
            while client.has_room() && !self.is_over() {
                let Some(key) = self.free_key(&mut ledger, &mut chance, keys) else { break };
                let put = (chance.draw() as f64 / u64::MAX as f64) < bench.puts;
                let put = put.then(|| ledger.begin_put(key));
                let name = self.name(key);
                let op = match put {
                    Some(n) => Op::put(&name, value(n, &pad))?,
                    None => Op::get(&name)?,
                };
                under_way.insert(client.submit(op)?, Asked { key, put, at: Instant::now() });
            }
            for completion in client.poll(LOOK)? {
                self.take(completion, &mut under_way, &mut ledger, &mut measured);
            }
        }
        while client.in_flight() > 0 {
            for completion in client.poll(LOOK)? {
                self.take(completion, &mut under_way, &mut ledger, &mut measured);
            }
        }
        self.counts.ended.store(true, Ordering::Relaxed);
        measured.seconds = began.elapsed().as_secs_f64();
        if bench.check {
            self.read_all(client, &mut ledger, &mut measured)?;
        }
        Ok(measured)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| Instant::now() >= end)
    }

    fn name(&self, key: u64) -> String {
        format!("{}{}-{key}", self.bench.prefix, self.n)
    }

    /// A key; where reads are checked, one of which nothing is under way.
    fn free_key(&self, ledger: &mut Ledger, chance: &mut Chance, keys: u64) -> Option<u64> {
        if !self.bench.check {
            return Some(chance.draw() % keys);
        }
        // There are twice as many keys as requests, so a few draws find one.
        (0..64).map(|_| chance.draw() % keys).find(|key| ledger.take(*key))
    }

    fn take(
        &self,
        completion: Completion,
        under_way: &mut HashMap<Ticket, Asked>,
        ledger: &mut Ledger,
        measured: &mut Measured,
    ) {
        let Some(asked) = under_way.remove(&completion.ticket) else { return };
        let latency = u64::try_from(asked.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        let found = match completion.outcome {
            Err(error) if asked.put.is_none() && error.is_absent() => Ok(None),
            Ok(Reply::Found(record, _)) => Ok(Some(record.value)),
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match (&found, asked.put) {
            (Ok(_), Some(_)) => measured.puts.saturating_record(latency),
            (Ok(_), None) => measured.gets.saturating_record(latency),
            (Err(error), _) => {
                measured.failed(&self.name(asked.key), error);
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.counts.done.fetch_add(1, Ordering::Relaxed);
        if self.bench.check {
            self.hold_against(ledger, &asked, found, measured);
        }
    }

    fn hold_against(
        &self,
        ledger: &mut Ledger,
        asked: &Asked,
        found: Result<Option<Value>, Error>,
        measured: &mut Measured,
    ) {
        match (asked.put, found) {
            (Some(n), Ok(_)) => ledger.acknowledged(asked.key, n),
            (Some(n), Err(error)) if error.indeterminate() => ledger.doubtful(asked.key, n),
            (Some(_), Err(_)) => {}
            (None, Ok(value)) => {
                measured.checked += 1;
                if let Err(why) = ledger.read(asked.key, value.as_ref().map(written_number)) {
                    measured.wrong.push(format!("{}: {why}", self.name(asked.key)));
                    self.counts.wrong.fetch_add(1, Ordering::Relaxed);
                }
            }
            (None, Err(_)) => {}
        }
        ledger.give_back(asked.key);
    }

    /// At the end every key that was written is read once more.
    fn read_all(
        &self,
        client: &mut Client,
        ledger: &mut Ledger,
        measured: &mut Measured,
    ) -> Result<(), Error> {
        let mut keys = ledger.written().into_iter();
        drive(
            client,
            || keys.next().map(|key| Op::get(&self.name(key)).map(|op| (key, op))).transpose(),
            |key, outcome| {
                let asked = Asked { key, put: None, at: Instant::now() };
                let found = match outcome {
                    Ok(Reply::Found(record, _)) => Ok(Some(record.value)),
                    Err(error) if !error.is_absent() => {
                        measured.failed(&self.name(key), &error);
                        Err(error)
                    }
                    _ => Ok(None),
                };
                self.hold_against(ledger, &asked, found, measured);
                Ok(())
            },
        )
    }
}

fn value(n: u64, pad: &str) -> Value {
    let mut text = format!("{n}.");
    text.push_str(&pad[..pad.len().saturating_sub(text.len())]);
    Value::from(text.as_str())
}

/// The number that [`value`] wrote; `None` for what it did not write.
fn written_number(value: &Value) -> Option<u64> {
    value.string()?.split('.').next()?.parse().ok()
}

impl Measured {
    pub fn new() -> Measured {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("1 to a minute at 3 digits is valid");
        Measured {
            puts: histogram(),
            gets: histogram(),
            errors: Vec::new(),
            failed: 0,
            indeterminate: 0,
            wrong: Vec::new(),
            checked: 0,
            seconds: 0.0,
        }
    }

    fn failed(&mut self, key: &str, error: &Error) {
        self.failed += 1;
        self.indeterminate += u64::from(error.indeterminate());
        if self.errors.len() < TOLD_MAX {
            self.errors.push(format!("{key}: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_whatever_its_size() {
        for (n, size) in [(0, 0), (7, 64), (123_456, 3)] {
            let value = value(n, &"x".repeat(size));
            assert_eq!(written_number(&value), Some(n));
            assert!(value.len() >= size);
        }
        assert_eq!(written_number(&Value::from("else")), None);
    }
}
