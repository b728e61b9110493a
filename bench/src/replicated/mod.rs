//! What replicas cost: five nodes, each a process of its own, N = 3, R = W = 2, in memory.
//!
//! ```text
//!   load ── C DEALERs × F in flight, each key to its leader ──► five nodes, N = 1    turns of 2 s in a round
//!        ── the same                                       ──► five nodes, N = 3
//!   a core without sockets, told puts that nobody answers   bytes of each
//!   five nodes, one of them killed                          until all others know
//! ```
//!
//! The number of replicas is a ring's, so there are two clusters on one machine; while one has its turn the other one
//! only gossips.

pub mod bed;
pub mod detection;
pub mod members;
mod tables;
pub mod waiting;

use std::time::Duration;

use anyhow::Result;

use self::bed::{Bed, ROWS, Round, Row, Suspicions};
use crate::rows::{self, Goal, Quotient, goal};

/// Owners of a key where it has several.
pub const REPLICAS: usize = 3;
/// What the row about waiting puts is called.
pub const WAITING: &str = "waiting";
/// What the row about killed and suspected nodes is called.
pub const DETECTION: &str = "detection";

/// CPU time of a put to three replicas by that to one.
const GOAL_PUT: Goal = goal(Quotient::CpuOfOneReplica, 4.0, 2.5);
/// Gets a second at R = 1 of three replicas by those of one.
const GOAL_GET: Goal = goal(Quotient::RateOfOneReplica, 0.9, 1.0);
/// CPU time for sums by that of whole puts.
const GOAL_SUMS: Goal = goal(Quotient::PartOfPut, 0.1, 0.03);
/// Bytes of a put that waits.
const GOAL_WAITING: Goal = goal(Quotient::BytesOfWaiting, 1024.0, 512.0);
/// Seconds until all know of a killed node.
const GOAL_DETECTION: Goal = goal(Quotient::SecondsToNotice, 3.0, 1.0);

/// How much, how long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of the rows with turns.
    pub turns: rows::Plan,
    /// Puts that wait.
    pub puts: usize,
    /// Nodes that are killed, one after the other.
    pub kills: usize,
    /// How long suspicions under load are counted.
    pub watch: Duration,
}

/// What was measured of what was wanted.
#[derive(Default)]
struct Measured {
    rows: Vec<(Row, Vec<Round>)>,
    waiting: Option<f64>,
    /// Seconds of each kill.
    kills: Vec<f64>,
    suspicions: Option<Suspicions>,
}

/// The names of all rows.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name).chain([WAITING, DETECTION])
}

/// Measures the wanted rows, and says each table as soon as it is known.
pub fn measure(plan: Plan, wanted: impl Fn(&str) -> bool, mut say: impl FnMut(String)) -> Result<()> {
    let mut measured = Measured::default();
    if wanted(WAITING) {
        let bytes = measured.waiting.insert(waiting::measure(plan.puts)?);
        say(tables::waiting(plan.puts, *bytes));
    }
    let rows: Vec<_> = ROWS.iter().filter(|row| wanted(row.name)).collect();
    if !rows.is_empty() || wanted(DETECTION) {
        let mut bed = Bed::start(plan.turns)?;
        for row in rows {
            let (rounds, errors) = bed.measure(row)?;
            say(tables::turns(row, &rounds, errors));
            measured.rows.push((*row, rounds));
        }
        if wanted(DETECTION) {
            let suspicions = measured.suspicions.insert(bed.suspicions(plan.watch)?);
            drop(bed);
            measured.kills = detection::measure(plan.kills)?;
            say(tables::detection(&measured.kills, suspicions));
        }
    }
    say(tables::goals(&measured));
    Ok(())
}
