//! A move in progress: what clients notice of it, and how fast it is.
//!
//! ```text
//!   foreground ── fixed rate ──► node-0 ◄── records ──► node-1     added, then removed, in turns
//!   this process's HashMap ── the same records ──► HashMap of another process: the plain copy
//! ```
//!
//! The cluster is a real one (see [`cluster`](crate::cluster)), so a change runs through all its epochs, driven by
//! the launcher's orchestrator. Clients speak to node-0 alone, as stock clients do: what node-1 owns is forwarded.
//! p99 without a move is that of as long a time before it as after it, since with one node and with two it differs.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::cluster::{Cluster, Move};
use crate::copy::Copier;
use crate::load::{Load, Peer};
use crate::process::{machine_busy, own_cpu};
use crate::report::cells;
use crate::rows::{CALM, FILLING, Goal, Quotient, calmest, goal};
use crate::stats::{Spread, short};
use crate::steady::{Answered, CONNECTIONS, Steady, latencies};
use crate::traffic::{Traffic, VALUE_BYTES};

/// What this row is called.
pub const NAME: &str = "move";
/// p99 of clients while data moves, by p99 without.
pub const GOAL_LATENCY: Goal = goal(Quotient::LatencyOfQuiet, 2.0, 1.3);
/// Records moved in a second, by those of a plain copy.
pub const GOAL_RATE: Goal = goal(Quotient::RateOfCopy, 0.3, 0.6);

/// Bytes of a key and its value.
const RECORD_BYTES: f64 = 16.0 + VALUE_BYTES as f64;
/// Plain copies of a round with the machine to themselves, of which the fastest counts.
const COPIES: usize = 3;
/// Between the plain copy and what is measured next.
const SETTLE: Duration = Duration::from_millis(300);

/// How much, how long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds of an add and a remove.
    pub rounds: usize,
    /// Of each quiet time, before and after a move.
    pub quiet: Duration,
    /// Records in the cluster.
    pub records: u64,
    /// Requests of the foreground.
    pub per_second: f64,
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug)]
struct Latencies {
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latencies {
    fn of(found: &Histogram<u64>) -> Latencies {
        let micros = |quantile| found.value_at_quantile(quantile) as f64 / 1e3;
        Latencies { p50: micros(0.5), p99: micros(0.99), p999: micros(0.999), max: found.max() as f64 / 1e3 }
    }
}

/// One move, and the quiet times around it.
#[derive(Clone, Copy, Debug)]
struct Measured {
    moved: Move,
    /// Before and after.
    quiet: Latencies,
    /// From the first epoch of the change to its end.
    moving: Latencies,
    /// From then until the former owner has dropped what it gave.
    handing_over: Latencies,
    /// Records a second of the fastest plain copy of this round with the machine to itself.
    copy: f64,
    /// The same, beside the same foreground.
    copy_beside: f64,
    /// What part of the machine's CPUs was busy with anything else meanwhile: the noise.
    others: f64,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.moved.records as f64 / seconds(self.moved.copy, self.moved.done)
    }
}

/// One of a move's times.
type Window = fn(&Measured) -> Latencies;

/// All moves.
pub struct Moves {
    plan: Plan,
    all: Vec<Measured>,
}

/// Measures moves in turns: a plain copy, an add, a remove, and so on.
pub fn measure(plan: Plan) -> Result<Moves> {
    ensure!(
        plan.records >= 1_000,
        "{} records are too few to time a move: give --records 1000 or more",
        plan.records
    );
    ensure!(
        plan.per_second >= 100.0,
        "{} requests a second give no percentiles: give --foreground 100 or more",
        plan.per_second
    );
    let cluster = Cluster::start()?;
    Load::connect(cluster.port(0), FILLING, &Traffic::single(0..plan.records), Peer::Ringkv)?.fill()?;
    let noise = |round: &[Measured; 2]| round[0].others.max(round[1].others);
    let rounds = calmest(plan.rounds, noise, || round(plan, &cluster))?;
    Ok(Moves { plan, all: rounds.concat() })
}

fn round(plan: Plan, cluster: &Cluster) -> Result<[Measured; 2]> {
    // Into a new process each time, as an added node is one: memory that is touched for the first time costs both.
    let copy = || -> Result<f64> {
        let copier = Copier::start(plan.records / 2)?;
        Ok((plan.records / 2) as f64 / copier.copy()?.as_secs_f64())
    };
    let watch = Watch::start(cluster)?;
    // The first one after a pause is far slower than those behind it: processors and memory have to wake up.
    let mut alone = 0f64;
    for _ in 0..COPIES {
        alone = alone.max(copy()?);
    }
    let others_at_copy = watch.others()?;
    let steady = Steady::start(cluster.port(0), plan.records, plan.per_second)?;
    let beside = copy()?;
    // What waited beside the copy has nothing to do with the quiet time that begins.
    std::thread::sleep(SETTLE);
    let mut changes = Vec::new();
    for op in ["add", "remove"] {
        let from = Instant::now();
        let watch = Watch::start(cluster)?;
        std::thread::sleep(plan.quiet);
        steady.check()?;
        let moved = cluster.change(op, plan.records, || steady.check())?;
        std::thread::sleep(plan.quiet);
        // A copy that was disturbed makes a move look faster than it is.
        changes.push((from, moved, Instant::now(), watch.others()?.max(others_at_copy)));
    }
    let answered = steady.stop()?;
    cluster.await_exit()?;
    let measured = |(from, moved, to, others): &(Instant, Move, Instant, f64)| -> Result<Measured> {
        let quiet = before_and_after(&answered, (*from, moved.copy), (moved.handed_over, *to), plan.quiet)?;
        let between = |from, to| Ok::<_, anyhow::Error>(Latencies::of(&latencies(&answered, from, to)?));
        Ok(Measured {
            moved: *moved,
            quiet: Latencies::of(&quiet),
            moving: between(moved.copy, moved.done)?,
            handing_over: between(moved.done, moved.handed_over)?,
            copy: alone,
            copy_beside: beside,
            others: *others,
        })
    };
    Ok([measured(&changes[0])?, measured(&changes[1])?])
}

/// Counts from a moment on what the machine does for others.
struct Watch<'a> {
    cluster: &'a Cluster,
    began: Instant,
    machine: Duration,
    ours: Duration,
}

impl Watch<'_> {
    fn start(cluster: &Cluster) -> Result<Watch<'_>> {
        let ours = own_cpu()? + cluster.cpu()?;
        Ok(Watch { cluster, began: Instant::now(), machine: machine_busy()?, ours })
    }

    /// What part of the CPUs others had.
    fn others(self) -> Result<f64> {
        let machine = machine_busy()?.saturating_sub(self.machine);
        let ours = (own_cpu()? + self.cluster.cpu()?).saturating_sub(self.ours);
        let cpus = std::thread::available_parallelism()?.get() as f64;
        Ok(machine.saturating_sub(ours).as_secs_f64() / (self.began.elapsed().as_secs_f64() * cpus))
    }
}

/// The first so long of the time before, and the last so long of the time after: what is next to the move is not quiet,
/// for a node is being started or a result written.
fn before_and_after(
    answered: &[Answered],
    before: (Instant, Instant),
    after: (Instant, Instant),
    quiet: Duration,
) -> Result<Histogram<u64>> {
    let mut found = latencies(answered, before.0, before.1.min(before.0 + quiet))?;
    found.add(latencies(answered, after.0.max(after.1 - quiet), after.1)?)?;
    Ok(found)
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64()
}

impl Moves {
    /// Moves during which others had so much of the CPUs that the figures say little.
    pub fn disturbed(&self) -> usize {
        self.all.iter().filter(|m| m.others > CALM).count()
    }

    /// How many were measured.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// p99 while data moves by p99 without, each move by itself.
    pub fn latency(&self) -> Option<Spread> {
        self.spread(|m| m.moving.p99 / m.quiet.p99)
    }

    /// Records moved in a second by those of the plain copy of the same round.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(|m| m.rate() / m.copy)
    }

    fn spread(&self, figure: impl Fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.all.iter().map(figure))
    }

    fn show(&self, figure: impl Fn(&Measured) -> f64) -> String {
        self.spread(figure).map_or("–".into(), |spread| spread.to_string())
    }

    /// Its tables.
    pub fn table(&self) -> String {
        let Plan { records, per_second, .. } = self.plan;
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let mut text = format!(
            "{records} records; node-1 is added to node-0, then removed, {} moves; {CONNECTIONS} connections to node-0 \
             send {per_second} requests a second together, PUT and GET_ONE half and half, whatever is answered; {cpus} \
             CPUs are shared by two nodes of two busy threads each, launcher, agent and load\n\n",
            self.all.len(),
        );
        let mut lines =
            vec![cells(["move", "p50 µs", "p99 µs", "p99.9 µs", "longest µs"]), cells(["---"; 5])];
        let windows: [(&str, Window); 3] = [
            ("without a move", |m| m.quiet),
            ("while data moves", |m| m.moving),
            ("while the former owner hands over", |m| m.handing_over),
        ];
        for (name, window) in windows {
            let show = |figure: fn(Latencies) -> f64| self.show(|m| figure(window(m)));
            lines.push(cells([
                name,
                &show(|l| l.p50),
                &show(|l| l.p99),
                &show(|l| l.p999),
                &show(|l| l.max),
            ]));
        }
        lines.push(String::new());
        lines.push(cells(["move", "records/s", "MB/s of keys and values"]));
        lines.push(cells(["---"; 3]));
        let bytes = self.show(|m| m.rate() * m.moved.bytes as f64 / m.moved.records as f64 / 1e6);
        lines.push(cells(["ringkv, beside the foreground", &self.show(Measured::rate), &bytes]));
        for (name, rate) in [
            ("plain copy, alone", (|m| m.copy) as fn(&Measured) -> f64),
            ("plain copy, beside the foreground", |m| m.copy_beside),
        ] {
            lines.push(cells([name, &self.show(rate), &self.show(|m| RECORD_BYTES * rate(m) / 1e6)]));
        }
        writeln!(text, "{}\n", lines.join("\n")).expect("a String takes all that is written");
        let part = |from: fn(&Move) -> Instant, to: fn(&Move) -> Instant| {
            self.spread(|m| seconds(from(&m.moved), to(&m.moved))).map_or("–".into(), |s| short(s.median))
        };
        writeln!(
            text,
            "A move of {} records takes {} s to copy, {} s to compare, {} s to switch; {} s later the former owner has \
             dropped them. p99 is {} of that without; the rate is {} of the plain copy's, {} of that beside the same \
             foreground. Others had {:.0} % of the CPUs.",
            self.spread(|m| m.moved.records as f64).map_or("–".into(), |s| short(s.median)),
            part(|m| m.copy, |m| m.both),
            part(|m| m.both, |m| m.switch),
            part(|m| m.switch, |m| m.done),
            part(|m| m.done, |m| m.handed_over),
            self.show(|m| m.moving.p99 / m.quiet.p99),
            self.show(|m| m.rate() / m.copy),
            self.show(|m| m.rate() / m.copy_beside),
            self.spread(|m| 100.0 * m.others).map_or(0.0, |s| s.median),
        )
        .expect("a String takes all that is written");
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report;

    /// A move of 1,000 records within a second, with such a p99 and such a rate of the plain copy.
    fn moves(p99: f64, copy: f64, others: f64) -> Moves {
        let latencies = |p99| Latencies { p50: 1.0, p99, p999: 300.0, max: 400.0 };
        let copy_began = Instant::now();
        let done = copy_began + Duration::from_secs(1);
        let (both, switch, handed_over) = (done, done, done);
        let moved = Move { copy: copy_began, both, switch, done, handed_over, records: 1_000, bytes: 80_000 };
        let (quiet, moving, handing_over) = (latencies(100.0), latencies(p99), latencies(100.0));
        let measured = Measured { moved, quiet, moving, handing_over, copy, copy_beside: copy, others };
        let plan = Plan { rounds: 1, quiet: done - copy_began, records: 2_000, per_second: 100.0 };
        Moves { plan, all: vec![measured; 2] }
    }

    #[test]
    fn both_goals_are_held_against_what_was_measured_beside() {
        let said = |p99, copy, others| report::goals(&[], None, Some(&moves(p99, copy, others)));
        let text = said(199.0, 3_300.0, 0.05);
        let goals: Vec<&str> = text.lines().skip(2).map(|line| line.rsplit(" | ").next().unwrap()).collect();
        assert_eq!(goals, ["reached |", "reached |"], "{text}");
        assert!(said(201.0, 1_000.0, 0.05).contains("| **missed** |"));
        assert!(said(100.0, 1_000.0, 0.5).ends_with("| aim, 2 of 2 moves disturbed |\n"));
    }

    #[test]
    fn quiet_is_the_first_of_the_time_before_and_the_last_of_the_time_after() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let answered: Vec<Answered> =
            (0..1_000).map(|ms| Answered { at: at(ms), took: Duration::from_millis(ms) }).collect();
        let quiet = Duration::from_millis(100);
        let found = before_and_after(&answered, (at(0), at(400)), (at(600), at(1_000)), quiet).unwrap();
        assert_eq!(found.len(), 200);
        assert_eq!(found.value_at_quantile(0.5) / 1_000_000, 99);
        assert_eq!(found.min() / 1_000_000, 0);
        assert_eq!(found.max() / 1_000_000, 999);
        let short = before_and_after(&answered, (at(0), at(50)), (at(980), at(1_000)), quiet).unwrap();
        assert_eq!(short.len(), 70, "no more than there was");
    }
}
