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
pub(super) fn standing_of(
    ring: &Ring,
    (givers, takers): &Parties,
    reports: &BTreeMap<NodeName, Report>,
) -> Standing {
    let change = ring.change.as_ref().expect("only a change has a standing");
    let mut waits = Vec::new();
    for name in givers.union(takers) {
        let Some(report) = reports.get(name) else {
            waits.push(format!("{name} does not answer"));
            continue;
        };
        let lost =
            report.lost_partitions.iter().filter(|p| ring.moves(**p) && gives(ring, *name, **p)).count();
        if lost > 0 && change.phase != Phase::Switch {
            return Standing::Hopeless(format!(
                "{name} lost the data of {lost} partitions that were to move"
            ));
        }
        if report.epoch != ring.epoch {
            waits.push(format!("{name} has the ring of epoch {}, {} is in force", report.epoch, ring.epoch));
        } else if report.confirmed < ring.epoch {
            waits.push(format!("{name} still ends requests of an earlier epoch"));
        } else {
            let (done, what) = match change.phase {
                Phase::Copy => (report.copied, "received"),
                Phase::Both | Phase::Switch => (report.verified, "compared"),
            };
            if done < report.incoming {
                let stuck = report.stuck.as_deref().map(|s| format!(" ({s})")).unwrap_or_default();
                waits.push(format!("{name} has {what} {done} of {} partitions{stuck}", report.incoming));
            }
        }
    }
    if waits.is_empty() { Standing::Ready } else { Standing::Waiting(waits) }
}

/// Who gives partitions, and who receives some.
pub type Parties = (BTreeSet<NodeName>, BTreeSet<NodeName>);

/// The parties of the change in progress; nobody without one. Looks at every partition.
pub fn parties(ring: &Ring) -> Parties {
    let (mut givers, mut takers) = (BTreeSet::new(), BTreeSet::new());
    let Some(change) = &ring.change else { return (givers, takers) };
    for p in (0..ring.partitions).filter(|p| ring.moves(*p)) {
        let old = ring.owners.owners(p);
        givers.extend(old.iter().map(|i| ring.node(*i).name));
        let gained = change.target.owners(p).iter().filter(|i| !old.contains(i));
        takers.extend(gained.map(|i| ring.node(*i).name));
    }
    (givers, takers)
}

fn gives(ring: &Ring, name: NodeName, partition: u32) -> bool {
    ring.owners.owners(partition).iter().any(|i| ring.node(*i).name == name)
}
