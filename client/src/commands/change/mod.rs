//! Changes of the ring: a signal is written, the change it starts is watched, and at the end records are counted.
//!
//! A client commands nobody. It writes a signal where none of that name stands; when somebody else's stands, or a
//! change runs, it is refused, backs off at random and exponentially, and tries again. Then it watches the ring, the
//! nodes' reports and the result. What is behind the signal belongs to the launchers: a client may be killed at any
//! moment and nothing is undone.

mod audit;
mod place;
mod watch;

use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;
use ringkv_common::ring::{Kind, Outcome as Answer, Verdict};
use serde::Serialize;

use self::audit::{Audit, Sample};
use self::place::{Placed, place};
pub use self::place::{Refused, lowest_free};
use super::plan::Newcomer;
use super::table::count;
use super::{Console, Failure, Outcome};
use crate::Client;
use crate::membership::Membership;

/// What is wished.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A node joins: this one, or that of the lowest number that is free.
    Add {
        /// Which.
        node: Option<NodeName>,
        /// Its zone and weight, where the signal is to say them.
        newcomer: Newcomer,
    },
    /// A node that runs already joins: `host:port`, where it answers clients.
    AddRunning(String),
    /// A node leaves.
    Remove(NodeName),
    /// Another mode.
    Migrate(Strategy),
}

/// A change, and how patient the client is.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is wished.
    pub wish: Wish,
    /// How long to try, and later how long to wait without any progress.
    pub patience: Duration,
    /// How many records are picked before and read back after; where there are fewer, all are.
    pub sample: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    answer: &'a Answer,
    seconds: f64,
    #[serde(flatten)]
    audit: &'a Audit,
}

/// Carries out a change: signal, watch, count.
///
/// # Errors
/// Where it was refused or taken back, where nothing went on, or where a record was lost.
pub fn change(
    client: &mut Client,
    membership: &dyn Membership,
    console: &mut Console,
    change: &Change,
) -> Outcome {
    let sample = Sample::take(client, console, change.sample)?;
    let began = Instant::now();
    let placed = match place(client, membership, console, change)? {
        Placed::Signal(signal) => signal,
        Placed::Needless(why) => {
            return console
                .either(&serde_json::json!({"outcome": "done", "message": why, "moved": 0}), || why.clone());
        }
    };
    let answer = watch::watch(client, membership, console, &placed, change.patience)?;
    let seconds = began.elapsed().as_secs_f64();
    if answer.outcome != Verdict::Done {
        if console.json() {
            console.object(&answer)?;
        }
        let how = if answer.outcome == Verdict::Refused { "refused" } else { "taken back" };
        return Err(Failure::told(format!("{} was {how}: {}", answer.op, answer.message)));
    }
    let audit = sample.check(client, &answer)?;
    let report = Report { answer: &answer, seconds, audit: &audit };
    console.either(&report, || {
        format!("{} (epoch {}, {seconds:.1} s)\n{}", answer.message, answer.epoch, audit.text())
    })?;
    if audit.lost.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = audit.lost.iter().take(5).map(String::as_str).collect();
    let lost = count(audit.lost.len() as u64, "record");
    Err(Failure::told(format!("{lost} lost: {}", named.join(", "))))
}

/// Sees to it that the ring has this mode, and that it counts as chosen.
///
/// # Errors
/// Usage, where the ring was chosen otherwise and holds data: it names the command that migrates it.
pub fn ensure_mode(
    client: &mut Client,
    membership: &dyn Membership,
    console: &mut Console,
    mode: Strategy,
    patience: Duration,
) -> Outcome {
    let seen = membership.ring(0, Duration::ZERO)?.value;
    let ring = seen.ok_or_else(|| Failure::failed("there is no ring"))?;
    let comes = ring.change.as_ref().is_some_and(|c| c.kind == Kind::Migrate { mode });
    if comes || (ring.chosen && ring.strategy == mode) {
        return Ok(());
    }
    if ring.chosen && ring.strategy != mode {
        let records = super::dump::cluster_records(client);
        if records != Some(0) {
            let holds = records
                .map_or_else(|| "may hold data".to_owned(), |n| format!("holds {}", count(n, "record")));
            return Err(Failure::usage(format!(
                "the ring is {}, was chosen so and {holds}: `client_producer migrate --mode {mode}` changes it",
                ring.strategy
            )));
        }
    }
    let change = Change { wish: Wish::Migrate(mode), patience, sample: 0 };
    let Placed::Signal(signal) = place(client, membership, console, &change)? else { return Ok(()) };
    let answer = watch::watch(client, membership, console, &signal, patience)?;
    if answer.outcome == Verdict::Done {
        return Ok(());
    }
    Err(Failure::failed(format!("{}: {}", answer.op, answer.message)))
}
