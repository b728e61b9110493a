//! Bench: load with a latency histogram, and with `--check` a proof that nothing acknowledged is lost.

mod ledger;
mod report;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ringkv_common::ring::Ring;

use self::report::Summary;
use self::worker::{Measured, Worker};
use super::table::number;
use super::{Console, Outcome};
use crate::{Client, Error, Options};

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
