//! Why a change does not progress: everything that could tell, in sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Report, Signal, Standing, standing};
use ringkv_common::ring::{Outcome as Answer, Ring, Verdict, plan};
use serde::Serialize;

use super::wait::complaint;
use super::{Console, Outcome};
use crate::membership::{Health, Membership};
use crate::{Client, Status};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Why {
    epoch: u64,
    change: Option<String>,
    /// What the next phase waits for, a node a line.
    waits: Vec<String>,
    /// Signals that stand, oldest first.
    signals: Vec<Waiting>,
    /// Who holds the lock.
    orchestrator: Option<String>,
    /// Nodes whose checks fail.
    unhealthy: Vec<String>,
    /// How the last signals were answered.
    outcomes: Vec<Answer>,
    /// All of it for people.
    sentences: Vec<String>,
}

/// A signal that stands.
#[derive(Serialize)]
struct Waiting {
    name: String,
    index: u64,
    text: String,
}

/// Says what a change waits for, or that none does.
///
/// # Errors
/// Where membership cannot be read.
pub fn why(client: &mut Client, membership: &dyn Membership, console: &mut Console) -> Outcome {
    let seen = membership.ring(0, Duration::ZERO)?.value;
    let ring =
        seen.ok_or_else(|| super::Failure::failed(format!("there is no ring ({})", membership.place())))?;
    client.adopt(ring.clone(), "Consul")?;
    let mut signals = membership.signals()?.value;
    signals.sort_by_key(|s| s.id.index);
    let mut outcomes = membership.outcomes()?;
    outcomes.sort_by_key(|o| o.signal.index);
    let facts = Facts {
        reports: reports(client, &ring),
        health: membership.health()?,
        orchestrator: membership.lock_holder()?,
        ring: &ring,
        signals: &signals,
        outcomes: &outcomes,
    };
    let (waits, sentences) = facts.sentences();
    let unhealthy = ring.nodes.iter().filter_map(|n| complaint(n.name, &facts.health)).collect();
    let why = Why {
        epoch: ring.epoch,
        change: ring.change.as_ref().map(|c| format!("{}, phase {}", c.kind, c.phase)),
        waits,
        signals: signals
            .iter()
            .map(|s| Waiting { name: s.id.name.clone(), index: s.id.index, text: s.text() })
            .collect(),
        orchestrator: facts.orchestrator.clone(),
        unhealthy,
        outcomes: outcomes.clone(),
        sentences,
    };
    console.either(&why, || why.sentences.join("\n"))
}

fn reports(client: &mut Client, ring: &Ring) -> BTreeMap<NodeName, Report> {
    let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
    let answers = client.status_of(&names, PATIENCE).into_iter();
    answers.filter_map(|(name, answer)| Some((name, answer.ok()?.read::<Status>().ok()?.report))).collect()
}

/// All that is known, from which the sentences follow.
struct Facts<'a> {
    ring: &'a Ring,
    reports: BTreeMap<NodeName, Report>,
    health: Vec<Health>,
    orchestrator: Option<String>,
    signals: &'a [Signal],
    outcomes: &'a [Answer],
}

impl Facts<'_> {
    fn sentences(&self) -> (Vec<String>, Vec<String>) {
        let mut text = Vec::new();
        let mut waits = Vec::new();
        match &self.ring.change {
            None if self.signals.is_empty() => {
                text.push(format!(
                    "No change runs and no signal waits: the ring of epoch {} is at rest.",
                    self.ring.epoch
                ));
            }
            None => {}
            Some(change) => {
                text.push(format!(
                    "{} runs, phase {} (epoch {}).",
                    capitalized(&change.kind.to_string()),
                    change.phase,
                    self.ring.epoch
                ));
                match standing(self.ring, &self.reports) {
                    Standing::Ready => text.push(match &self.orchestrator {
                        Some(who) => format!("Nothing stands in its way: {who} writes the next phase."),
                        None => "Nothing stands in its way, but nobody writes the next phase.".to_owned(),
                    }),
                    Standing::Hopeless(why) => {
                        text.push(format!("It cannot succeed and will be taken back: {why}."))
                    }
                    Standing::Waiting(lines) => {
                        text.extend(lines.iter().map(|line| format!("It waits: {line}.")));
                        waits = lines;
                    }
                }
            }
        }
        for (place, signal) in self.signals.iter().enumerate() {
            text.push(self.about_signal(place, signal));
        }
        let work = self.ring.change.is_some() || !self.signals.is_empty();
        match &self.orchestrator {
            Some(who) if work => text.push(format!(
                "{} holds the lock; if it died, Consul frees the lock within half a minute and another goes on.",
                capitalized(who)
            )),
            Some(who) => text.push(format!("{} holds the lock.", capitalized(who))),
            None if work => text.push(
                "Nobody holds the lock: no launcher runs, or none may do this. `server_consumer` goes on with it."
                    .to_owned(),
            ),
            None => {}
        }
        let ill = self.ring.nodes.iter().filter_map(|n| complaint(n.name, &self.health));
        text.extend(ill.map(|c| format!("Consul says: {c}.")));
        let silent = self.ring.nodes.iter().filter(|n| !self.reports.contains_key(&n.name));
        text.extend(
            silent.map(|n| format!("{} does not answer me within {} s.", n.name, PATIENCE.as_secs())),
        );
        for (node, report) in &self.reports {
            let lost = report.lost_partitions.len() as u64;
            if lost > 0 {
                text.push(format!(
                    "{node} lost the data of {} with its memory, and no change may begin from there: \
                     `client_producer load` brings it back, `client_producer accept-loss {node}` gives it up.",
                    super::table::count(lost, "partition")
                ));
            }
        }
        let failed = self.outcomes.iter().filter(|o| o.outcome != Verdict::Done);
        if let Some(last) = failed.max_by_key(|o| o.signal.index) {
            let how = if last.outcome == Verdict::Refused { "refused" } else { "taken back" };
            text.push(format!(
                "The last that failed: {} was {how}: {}.",
                last.op,
                last.message.trim_end_matches('.')
            ));
        }
        (waits, text)
    }

    fn about_signal(&self, place: usize, signal: &Signal) -> String {
        let name = &signal.id.name;
        let wanted = match signal.wanted() {
            Ok(wanted) => wanted,
            Err(error) => {
                return format!("The signal for {name} cannot be read and will be refused: {error}.");
            }
        };
        let begin = format!("The signal to {} stands (index {})", wanted.kind, signal.id.index);
        if let Some(change) = &self.ring.change {
            return format!("{begin}: {} comes first.", change.kind);
        }
        if place > 0 {
            return format!("{begin}: {} before it.", super::table::count(place as u64, "other"));
        }
        if let Some(node) = wanted.kind.joins() {
            if let Err(refusal) = plan::check_add(self.ring, node) {
                return format!("{begin} and will be refused: {refusal}.");
            }
            return match complaint(node, &self.health) {
                Some(why) => format!("{begin} and waits for the newcomer: {why}."),
                None => format!("{begin}; {node} is there, and all nodes are being asked."),
            };
        }
        if let Some(Err(refusal)) = wanted.kind.leaves().map(|node| plan::check_remove(self.ring, node)) {
            return format!("{begin} and will be refused: {refusal}.");
        }
        format!("{begin} and waits for a launcher to take it up.")
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
