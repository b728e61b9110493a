//! How far a change is: what nodes report of it, and what the next phase waits for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::name::NodeName;
use crate::ring::{Phase, Ring};

/// What a node says of itself when it is asked, as `STATUS` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The epoch of the ring it goes by; 0 without one.
    pub epoch: u64,
    /// The highest epoch of which no request of an earlier one is under way at this node.
    pub confirmed: u64,
    /// Partitions it has to receive in the change.
    pub incoming: u32,
    /// Of these: pulled once.
    pub copied: u32,
    /// Of these: compared with the former owner under the present phase, and repaired.
    pub verified: u32,
    /// Partitions that it owns, whose data it lost and that other owners give it again: their number.
    pub filling: u32,
    /// Partitions that it owns and whose data it lost with its memory.
    pub lost_partitions: Vec<u32>,
    /// Records received in the change.
    pub keys_moved: u64,
    /// Their bytes.
    pub bytes_moved: u64,
    /// What its receiving waits for, where it does.
    pub stuck: Option<String>,
}

/// What stands between a change and its next phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: the next epoch may be written.
    Ready,
    /// It waits; each line names a node and what is missing.
    Waiting(Vec<String>),
    /// It cannot succeed, and why.
    Hopeless(String),
}

/// How the change in progress stands, by the nodes' last reports. Nodes without an entry did not answer.
///
/// # Panics
/// Without a change in progress.
pub fn standing(ring: &Ring, reports: &BTreeMap<NodeName, Report>) -> Standing {
    standing_of(ring, &parties(ring), reports)
}

/// [`standing`] for whoever asks again and again: the parties of a ring never change.
pub(super) fn standing_of(ring: &Ring, parties: &Parties, reports: &BTreeMap<NodeName, Report>) -> Standing {
    let change = ring.change.as_ref().expect("only a change has a standing");
    let mut waits = Vec::new();
    for name in parties.all() {
        let lost = reports.get(&name).map_or(&[][..], |report| &report.lost_partitions);
        let lost = lost.iter().filter(|p| ring.moves(**p) && gives(ring, name, **p)).count();
        if lost > 0 && change.phase != Phase::Switch {
            return Standing::Hopeless(format!(
                "{name} lost the data of {lost} partitions that were to move"
            ));
        }
    }
    for name in &parties.takers {
        waits.extend(lags(ring, *name, reports).or_else(|| lacks(change.phase, *name, reports)));
    }
    for row in &parties.rows {
        let lagging: Vec<String> = row.iter().filter_map(|name| lags(ring, *name, reports)).collect();
        if lagging.len() >= quorum(row.len()) {
            waits.extend(lagging.into_iter().filter(|why| !waits.contains(why)).collect::<Vec<_>>());
        }
    }
    if waits.is_empty() { Standing::Ready } else { Standing::Waiting(waits) }
}

/// More than half: what reads and writes need at least, unless a request asks for less.
fn quorum(of: usize) -> usize {
    of / 2 + 1
}

/// Why a node may still serve requests of an earlier epoch, if so.
fn lags(ring: &Ring, name: NodeName, reports: &BTreeMap<NodeName, Report>) -> Option<String> {
    let Some(report) = reports.get(&name) else { return Some(format!("{name} does not answer")) };
    if report.epoch != ring.epoch {
        return Some(format!("{name} has the ring of epoch {}, {} is in force", report.epoch, ring.epoch));
    }
    (report.confirmed < ring.epoch).then(|| format!("{name} still ends requests of an earlier epoch"))
}

/// What a node still has to receive, if so.
fn lacks(phase: Phase, name: NodeName, reports: &BTreeMap<NodeName, Report>) -> Option<String> {
    let report = reports.get(&name)?;
    let (done, what) = match phase {
        Phase::Copy => (report.copied, "received"),
        Phase::Both | Phase::Switch => (report.verified, "compared"),
    };
    (done < report.incoming).then(|| {
        let stuck = report.stuck.as_deref().map(|s| format!(" ({s})")).unwrap_or_default();
        format!("{name} has {what} {done} of {} partitions{stuck}", report.incoming)
    })
}

/// Who has to do with a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// The rows of owners that give: of each fewer than a quorum may lag behind, so that those who do can neither
    /// acknowledge nor read anything by themselves.
    pub rows: BTreeSet<Vec<NodeName>>,
    /// Who receives, or has to compare what it holds.
    pub takers: BTreeSet<NodeName>,
}

impl Parties {
    /// Who gives.
    pub fn givers(&self) -> BTreeSet<NodeName> {
        self.rows.iter().flatten().copied().collect()
    }

    /// Everybody, each once.
    pub fn all(&self) -> BTreeSet<NodeName> {
        self.givers().union(&self.takers).copied().collect()
    }
}

/// The parties of the change in progress; nobody without one. Looks at every partition.
pub fn parties(ring: &Ring) -> Parties {
    let mut parties = Parties::default();
    let Some(change) = &ring.change else { return parties };
    for p in (0..ring.partitions).filter(|p| ring.moves(*p)) {
        let (old, new) = (ring.owners.owners(p), change.target.owners(p));
        let mut row: Vec<NodeName> = ring.names(old).collect();
        row.sort_unstable();
        parties.rows.insert(row);
        let takes = new.iter().filter(|i| !old.contains(i) || new.len() < old.len());
        parties.takers.extend(takes.map(|i| ring.node(*i).name));
    }
    parties
}

fn gives(ring: &Ring, name: NodeName, partition: u32) -> bool {
    ring.owners.owners(partition).iter().any(|i| ring.node(*i).name == name)
}
