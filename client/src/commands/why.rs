//! Why a change does not progress: everything that could tell, in sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Report, Signal, Standing, parties, standing};
use ringkv_common::ring::{Outcome as Answer, Phase, Ring, Verdict, plan};
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
                        text.push(self.way_out(change.phase));
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
                     `client_producer load FILE --accept-loss` brings it back, `client_producer accept-loss {node}` \
                     gives it up.",
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

    /// What becomes of a change that waits.
    fn way_out(&self, phase: Phase) -> String {
        if phase != Phase::Switch {
            return "Where nothing moves for a minute it is taken back.".to_owned();
        }
        let silent = parties(self.ring).all().into_iter().filter(|name| !self.reports.contains_key(name));
        let places: Vec<String> = silent
            .filter_map(|name| self.ring.node_named(name))
            .map(|n| format!("{} at {}:{}", n.name, n.host, n.ports.client))
            .collect();
        if places.is_empty() {
            return "Reads follow the new owners, so it can only go forward.".to_owned();
        }
        format!(
            "Reads follow the new owners, so it can only go forward, and needs the word of {}: start it again there, with \
             `server_consumer`. It may be empty: whoever receives has all the data.",
            places.join(", ")
        )
    }

    fn about_signal(&self, place: usize, signal: &Signal) -> String {
        let name = &signal.id.name;
        let wanted = match signal.wanted() {
            Ok(wanted) => wanted,
            Err(error) => {
                let about = if name.is_empty() { "without a name" } else { &format!("for {name}") };
                return format!("The signal {about} cannot be read and will be refused: {error}.");
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

#[cfg(test)]
mod tests {
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::plan::{Founding, found};
    use ringkv_common::ring::{ClusterId, Node, SignalId};

    use super::*;

    /// A removal of node-1 of three, in a phase; all answer but node-1.
    fn sentences(phase: Phase) -> String {
        let founding = Founding {
            cluster_id: ClusterId(1),
            strategy: Strategy::Hrw,
            chosen: true,
            partitions: 64,
            replicas: 1,
            balance: None,
        };
        let node = |n: u16| {
            let ports = NodeName(n).ports(None).expect("below 100");
            let (host, zone) = ("h".to_owned(), "z".to_owned());
            Node { name: NodeName(n), incarnation: 1, host, ports, zone, weight: 100 }
        };
        let ring = found(&founding, (0..3).map(node).collect()).expect("a ring");
        let signal = SignalId { name: "node-1".into(), index: 9 };
        let mut ring = plan::remove(&ring, NodeName(1), signal).expect("a plan");
        while ring.change.as_ref().is_some_and(|c| c.phase < phase) {
            ring = ring.advanced();
        }
        let ready = Report { epoch: ring.epoch, confirmed: ring.epoch, ..Report::default() };
        let reports = [0, 2].map(|n| (NodeName(n), ready.clone())).into();
        let (health, orchestrator) = (Vec::new(), Some("somebody".to_owned()));
        Facts { ring: &ring, reports, health, orchestrator, signals: &[], outcomes: &[] }
            .sentences()
            .1
            .join("\n")
    }

    #[test]
    fn of_a_giver_that_is_gone_it_is_told_what_helps() {
        let both = sentences(Phase::Both);
        assert!(
            both.contains("It waits: node-1 does not answer.") && both.contains("it is taken back"),
            "{both}"
        );
        let switch = sentences(Phase::Switch);
        assert!(switch.contains("only go forward, and needs the word of node-1 at h:2001"), "{switch}");
        assert!(!switch.contains("taken back"), "{switch}");
    }
}
