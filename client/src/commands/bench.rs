//! Bench: load with a latency histogram, and with `--check` a proof that nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use ringkv_common::ring::Ring;
use serde::Serialize;

use super::check::Ledger;
use super::table::{bar, count, number, table};
use super::{Console, Failure, Outcome};
use crate::retry::Chance;
use crate::{Client, Completion, Error, Op, Options, Ticket, Value};

/// How long a worker waits for replies before it looks whether it is time to end.
const LOOK: Duration = Duration::from_millis(50);
/// The longest latency that is told apart: a minute, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Errors that are told in words.
const TOLD_MAX: usize = 5;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Bench {
    /// Connections to each node, each with a thread.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// How long; zero: until it is stopped.
    pub seconds: u64,
    /// Part of the requests that are puts, 0 to 1.
    pub puts: f64,
    /// Characters of a value.
    pub value_size: usize,
    /// Keys, shared out among the connections.
    pub keys: u64,
    /// Keys are this, the connection's number and a number.
    pub prefix: String,
    /// Whether every read is held against the last acknowledged write.
    pub check: bool,
}

/// How workers get their clients.
pub enum Access {
    /// By the ring.
    Ring(Arc<Ring>),
    /// All through one node.
    Pinned(String),
}

/// What all workers count together, for the lines in between.
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
    ended: AtomicBool,
}

/// What one worker measured.
struct Measured {
    puts: Histogram<u64>,
    gets: Histogram<u64>,
    errors: Vec<String>,
    failed: u64,
    indeterminate: u64,
    wrong: Vec<String>,
    checked: u64,
    /// How long it put load on the cluster.
    seconds: f64,
}

/// Runs it; `stop` ends it early.
///
/// # Errors
/// With `check`, where an operation failed or a read was wrong; else where nothing succeeded.
pub fn bench(
    console: &mut Console,
    access: &Access,
    options: &Options,
    bench: &Bench,
    stop: &Arc<AtomicBool>,
) -> Outcome {
    let counts = Counts::default();
    let end = (bench.seconds > 0).then(|| Instant::now() + Duration::from_secs(bench.seconds));
    let context = zmq::Context::new();
    let options = Options { in_flight_max: bench.in_flight, context: Some(context), ..options.clone() };
    let began = Instant::now();
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        let (ended, ends) = mpsc::channel();
        for n in 0..bench.connections {
            let (options, ended, counts) = (options.clone(), ended.clone(), &counts);
            scope.spawn(move || {
                let worker = Worker { n, bench, counts, stop, end };
                let measured = connect(access, options).and_then(|mut client| worker.run(&mut client));
                // The receiver waits for all of us.
                let _ = ended.send(measured);
            });
        }
        let mut told = (Instant::now(), 0);
        while all.len() < bench.connections {
            match ends.recv_timeout(Duration::from_millis(200)) {
                Ok(measured) => all.push(measured),
                Err(_) => tell(console, &counts, &mut told, began),
            }
        }
    });
    let all: Vec<Measured> = all.into_iter().collect::<Result<_, _>>()?;
    let summary = Summary::of(bench, &all);
    console.either(&summary, || summary.text(&all))?;
    summary.verdict(bench, &all)
}

fn connect(access: &Access, options: Options) -> Result<Client, Error> {
    match access {
        Access::Ring(ring) => Ok(Client::with_ring_and(ring.clone(), options)),
        Access::Pinned(address) => Client::pinned_with(address, options),
    }
}

/// One line a second to standard error.
fn tell(console: &Console, counts: &Counts, told: &mut (Instant, u64), began: Instant) {
    let since = told.0.elapsed();
    let done = counts.done.load(Ordering::Relaxed);
    // Nothing is counted while everything is read once more at the end.
    if since < Duration::from_secs(1) || (done == told.1 && done > 0 && counts.ended.load(Ordering::Relaxed))
    {
        return;
    }
    let rate = (done - told.1) as f64 / since.as_secs_f64();
    let (failed, wrong) = (counts.failed.load(Ordering::Relaxed), counts.wrong.load(Ordering::Relaxed));
    console.say(&format!(
        "{:>5.0} s  {:>9} a second  {failed} failed  {wrong} wrong",
        began.elapsed().as_secs_f64(),
        number(rate as u64)
    ));
    *told = (Instant::now(), done);
}

struct Worker<'a> {
    n: usize,
    bench: &'a Bench,
    counts: &'a Counts,
    stop: &'a AtomicBool,
    end: Option<Instant>,
}

/// A request of ours under way.
struct Asked {
    key: u64,
    /// The number of the value that a put writes.
    put: Option<u64>,
    at: Instant,
}

impl Worker<'_> {
    fn run(&self, client: &mut Client) -> Result<Measured, Error> {
        let bench = self.bench;
        let keys = (bench.keys / bench.connections as u64).max(bench.in_flight as u64 * 2);
        let mut ledger = Ledger::new(keys);
        let mut measured = Measured::new();
        let began = Instant::now();
        let mut under_way: std::collections::HashMap<Ticket, Asked> = std::collections::HashMap::new();
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
        under_way: &mut std::collections::HashMap<Ticket, Asked>,
        ledger: &mut Ledger,
        measured: &mut Measured,
    ) {
        let Some(asked) = under_way.remove(&completion.ticket) else { return };
        let latency = u64::try_from(asked.at.elapsed().as_micros()).unwrap_or(u64::MAX);
        let found = match completion.outcome {
            Err(error) if asked.put.is_none() && error.is_absent() => Ok(None),
            Ok(crate::Reply::Found(record, _)) => Ok(Some(record.value)),
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
        super::drive::drive(
            client,
            || keys.next().map(|key| Op::get(&self.name(key)).map(|op| (key, op))).transpose(),
            |key, outcome| {
                let asked = Asked { key, put: None, at: Instant::now() };
                let found = match outcome {
                    Ok(crate::Reply::Found(record, _)) => Ok(Some(record.value)),
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
    fn new() -> Measured {
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

#[derive(Serialize)]
struct Latency {
    count: u64,
    per_second: f64,
    mean_us: f64,
    p50_us: u64,
    p90_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

#[derive(Serialize)]
struct Summary {
    connections: usize,
    in_flight: usize,
    value_size: usize,
    seconds: f64,
    per_second: f64,
    put: Latency,
    get: Latency,
    failed: u64,
    indeterminate: u64,
    checked: u64,
    wrong: u64,
    #[serde(skip)]
    both: Option<Histogram<u64>>,
}

impl Summary {
    fn of(bench: &Bench, all: &[Measured]) -> Summary {
        let seconds = all.iter().map(|m| m.seconds).fold(1e-9, f64::max);
        let merged = |of: fn(&Measured) -> &Histogram<u64>| {
            let mut sum = Measured::new().puts;
            // All have the same bounds.
            all.iter().for_each(|m| sum.add(of(m)).unwrap_or(()));
            sum
        };
        let (puts, gets) = (merged(|m| &m.puts), merged(|m| &m.gets));
        let mut both = puts.clone();
        both.add(&gets).unwrap_or(());
        Summary {
            connections: bench.connections,
            in_flight: bench.in_flight,
            value_size: bench.value_size,
            seconds,
            per_second: both.len() as f64 / seconds,
            put: latency(&puts, seconds),
            get: latency(&gets, seconds),
            failed: all.iter().map(|m| m.failed).sum(),
            indeterminate: all.iter().map(|m| m.indeterminate).sum(),
            checked: all.iter().map(|m| m.checked).sum(),
            wrong: all.iter().map(|m| m.wrong.len() as u64).sum(),
            both: Some(both),
        }
    }

    fn text(&self, all: &[Measured]) -> String {
        let row = |name: &str, l: &Latency| {
            let us = [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us].map(milliseconds);
            let mut row = vec![name.to_owned(), number(l.count), number(l.per_second as u64)];
            row.extend(us);
            row
        };
        let headings = ["", "requests", "a second", "p50 ms", "p90", "p99", "p99.9", "max"];
        let mut text =
            table(&headings, &[1, 2, 3, 4, 5, 6, 7], &[row("put", &self.put), row("get", &self.get)]);
        if let Some(both) = &self.both {
            text += &histogram(both);
        }
        text += &format!(
            "{} a second over {:.1} s: {} × {} in flight, values of {} bytes; {} failed ({} of them may have happened)",
            number(self.per_second as u64),
            self.seconds,
            count(self.connections as u64, "connection"),
            self.in_flight,
            self.value_size,
            number(self.failed),
            number(self.indeterminate),
        );
        if self.checked > 0 {
            text += &format!(
                "\n{} held against acknowledged writes: {} wrong",
                count(self.checked, "read"),
                number(self.wrong)
            );
        }
        for line in all.iter().flat_map(|m| m.wrong.iter().chain(&m.errors)).take(TOLD_MAX) {
            text += &format!("\n  {line}");
        }
        text
    }

    fn verdict(&self, bench: &Bench, all: &[Measured]) -> Outcome {
        if bench.check && self.failed + self.wrong > 0 {
            let lines = all.iter().flat_map(|m| m.wrong.iter().chain(&m.errors));
            let first = lines.take(1).cloned().collect::<String>();
            let sums = format!("{} failed, {} wrong", number(self.failed), number(self.wrong));
            return Err(Failure::failed(format!("{sums}: {first}")));
        }
        if self.put.count + self.get.count == 0 && self.failed > 0 {
            let first = all.iter().flat_map(|m| &m.errors).take(1).cloned().collect::<String>();
            return Err(Failure::failed(format!("nothing succeeded: {first}")));
        }
        Ok(())
    }
}

fn latency(h: &Histogram<u64>, seconds: f64) -> Latency {
    Latency {
        count: h.len(),
        per_second: h.len() as f64 / seconds,
        mean_us: h.mean(),
        p50_us: h.value_at_quantile(0.5),
        p90_us: h.value_at_quantile(0.9),
        p99_us: h.value_at_quantile(0.99),
        p999_us: h.value_at_quantile(0.999),
        max_us: h.max(),
    }
}

fn milliseconds(us: u64) -> String {
    format!("{:.2}", us as f64 / 1000.0)
}

/// A line for each doubling of the latency.
fn histogram(h: &Histogram<u64>) -> String {
    if h.is_empty() {
        return String::new();
    }
    let steps: Vec<(u64, u64)> =
        h.iter_log(16, 2.0).map(|s| (s.value_iterated_to(), s.count_since_last_iteration())).collect();
    let most = steps.iter().map(|s| s.1).max().unwrap_or(1).max(1) as f64;
    let rows: Vec<Vec<String>> = steps
        .iter()
        .filter(|step| step.1 > 0)
        .map(|(to, n)| {
            let share = *n as f64 / h.len() as f64 * 100.0;
            vec![format!("≤ {}", milliseconds(*to)), format!("{share:.2} %"), bar(*n as f64 / most, 40)]
        })
        .collect();
    table(&["ms", "requests", ""], &[0, 1], &rows)
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

    #[test]
    fn every_request_is_in_the_histogram() {
        let mut h = Measured::new().puts;
        for us in [5, 100, 100, 90_000] {
            h.saturating_record(us);
        }
        let text = histogram(&h);
        assert!(text.contains("50.00 %") && text.matches("25.00 %").count() == 2, "{text}");
    }
}
