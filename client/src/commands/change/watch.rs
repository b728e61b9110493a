//! Watching a change: the ring's phases, what the nodes report, the result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Report, Standing, standing};
use ringkv_common::ring::{Outcome as Answer, Phase, Ring, SignalId};

use super::audit::{heard, list};
use super::place::Ours;
use crate::commands::table::{bytes, count};
use crate::commands::{Console, Failure};
use crate::membership::Membership;
use crate::{Client, Status};

/// How often the nodes are asked, at most.
const LOOK: Duration = Duration::from_millis(200);
/// How long a node may take to say how far it is.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Waits for the answer to our signal. Without any progress for `patience` it gives up, and takes the signal back if
/// nobody took it up.
pub(super) fn watch(
    client: &mut Client,
    membership: &dyn Membership,
    console: &Console,
    ours: &Ours,
    patience: Duration,
) -> Result<Answer, Failure> {
    let mut view = View::new(console);
    let signalled = Instant::now();
    let mut index = 0;
    loop {
        let began = Instant::now();
        let seen = membership.ring(index, LOOK)?;
        // A busy store wakes watches without need: it is not to be asked without end.
        std::thread::sleep((LOOK / 4).saturating_sub(began.elapsed()));
        index = seen.index;
        if let Some(answer) = membership.outcomes()?.into_iter().find(|a| ours.answered_by(a)) {
            view.end();
            if let Some(ring) = membership.ring(0, Duration::ZERO)?.value {
                client.adopt(ring, "Consul")?;
            }
            return Ok(answer);
        }
        let Some(ring) = seen.value else { continue };
        client.adopt(ring.clone(), "Consul")?;
        match &ring.change {
            Some(running) if ours.is(&running.signal) => {
                let reports = reports(client, &ring);
                view.show(&ring, &reports, ours);
            }
            Some(running) => view.wait(&format!("{} to end, it is in phase {}", running.kind, running.phase)),
            None if signalled.elapsed() < SOON => view.wait(LAUNCHER),
            None => view.still_waits(&before(client, membership, &ring)?),
        }
        if view.idle() > patience {
            view.end();
            return Err(give_up(membership, ours, &ring, patience)?);
        }
    }
}

fn reports(client: &mut Client, ring: &Arc<Ring>) -> BTreeMap<NodeName, Report> {
    let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
    let answers = client.status_of(&names, PATIENCE).into_iter();
    answers.filter_map(|(name, answer)| Some((name, answer.ok()?.read::<Status>().ok()?.report))).collect()
}

/// What a signal waits for where its change does not begin.
fn before(client: &mut Client, membership: &dyn Membership, ring: &Ring) -> Result<String, Failure> {
    let health = membership.health()?;
    // Who is asked, and whose silence is a no. Others are done without, or make a refusal.
    let asked = |name: &NodeName| health.iter().any(|h| h.node == *name && h.healthy);
    let asked: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).filter(asked).collect();
    let (_, silent) = heard(client, &asked);
    if silent.is_empty() {
        return Ok(LAUNCHER.to_owned());
    }
    Ok(format!("an answer from {}: a change begins when every healthy node agrees to it", list(&silent)))
}

fn give_up(
    membership: &dyn Membership,
    ours: &Ours,
    ring: &Ring,
    patience: Duration,
) -> Result<Failure, Failure> {
    let s = patience.as_secs();
    if ring.change.as_ref().is_some_and(|c| ours.is(&c.signal)) {
        return Ok(Failure::failed(format!(
            "{} makes no progress for {s} s and goes on without me: `client_producer why` says what it waits for",
            ours.kind
        )));
    }
    let standing = membership.signals()?.value.into_iter().map(|signal| signal.id);
    let signal: Option<SignalId> = standing.into_iter().find(|id| ours.is(id));
    let withdrawn = match &signal {
        Some(id) => membership.withdraw_signal(id)?,
        None => false,
    };
    let end = if withdrawn { "; the signal was taken back" } else { "" };
    Ok(Failure::failed(format!("no launcher took up {} within {s} s{end}: does one run?", ours.kind)))
}

/// What is over within this time needs no words.
const SOON: Duration = Duration::from_secs(1);
/// What is waited for first of all.
const LAUNCHER: &str = "a launcher to take up the signal";

/// What a user sees of the change: a bar on a terminal, else a line per phase.
struct View<'a, 'b> {
    console: &'a Console<'b>,
    bar: Option<ProgressBar>,
    /// What is waited for before the change begins, and whether that was said.
    awaited: String,
    said: bool,
    phase: Option<Phase>,
    /// A sum that grows with every bit of progress, and when it last did.
    progress: (u64, Instant),
}

impl<'a, 'b> View<'a, 'b> {
    fn new(console: &'a Console<'b>) -> View<'a, 'b> {
        View {
            console,
            bar: None,
            awaited: String::new(),
            said: false,
            phase: None,
            progress: (0, Instant::now()),
        }
    }

    /// How long nothing went on.
    fn idle(&self) -> Duration {
        self.progress.1.elapsed()
    }

    /// Something else to wait for is progress.
    fn wait(&mut self, what: &str) {
        if self.awaited != what {
            self.progress.1 = Instant::now();
        }
        self.still_waits(what);
    }

    /// Something else that the same wait is for is none: else nodes that answer by turns would be waited for for ever.
    fn still_waits(&mut self, what: &str) {
        if self.awaited != what {
            self.awaited = what.to_owned();
            self.said = false;
        }
        if self.idle() > SOON && !std::mem::replace(&mut self.said, true) {
            self.console.say(&format!("waiting for {what}"));
        }
    }

    fn show(&mut self, ring: &Ring, reports: &BTreeMap<NodeName, Report>, ours: &Ours) {
        let Some(change) = &ring.change else { return };
        let sum = |f: fn(&Report) -> u64| reports.values().map(f).sum::<u64>();
        let incoming = sum(|r| u64::from(r.incoming));
        let (copied, verified) = (sum(|r| u64::from(r.copied)), sum(|r| u64::from(r.verified)));
        let (keys, size) = (sum(|r| r.keys_moved), sum(|r| r.bytes_moved));
        let grown = ring.epoch + copied + verified + keys;
        if grown != self.progress.0 {
            self.progress = (grown, Instant::now());
        }
        if self.phase != Some(change.phase) {
            self.phase = Some(change.phase);
            if !self.console.is_lively() {
                let moved = format!("{}, {}", count(keys, "record"), bytes(size));
                self.console.say(&format!("{}: phase {} ({moved} so far)", ours.kind, change.phase));
            }
        }
        // Each partition is received, then compared under both quorums, then once more when reads moved over.
        let steps = match change.phase {
            Phase::Copy => copied,
            Phase::Both => incoming + verified,
            Phase::Switch => 2 * incoming + verified,
        };
        let bar = self.bar.get_or_insert_with(|| self.console.bar(3 * incoming, "steps"));
        bar.set_length((3 * incoming).max(1));
        bar.set_position(steps);
        let waits = match standing(ring, reports) {
            Standing::Waiting(lines) if self.progress.1.elapsed() > Duration::from_secs(3) => {
                format!(" — {}", lines.first().map_or("", String::as_str))
            }
            _ => String::new(),
        };
        bar.set_message(format!("{}: {}, {}{waits}", ours.kind, change.phase, count(keys, "record")));
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
