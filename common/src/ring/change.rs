//! A change of the ring: its kinds, its phases, how it goes on and how it ends.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Ring;
use crate::name::NodeName;
use crate::placement::{NodeIndex, Strategy, Table};

/// What a change is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Kind {
    /// A node joins.
    Add {
        /// Who.
        node: NodeName,
    },
    /// A node leaves.
    Remove {
        /// Who.
        node: NodeName,
    },
    /// Another strategy places the partitions.
    Migrate {
        /// Which.
        mode: Strategy,
    },
}

impl Kind {
    /// The node that joins.
    pub fn joins(self) -> Option<NodeName> {
        if let Kind::Add { node } = self { Some(node) } else { None }
    }

    /// The node that leaves.
    pub fn leaves(self) -> Option<NodeName> {
        if let Kind::Remove { node } = self { Some(node) } else { None }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Add { node } => write!(f, "add {node}"),
            Kind::Remove { node } => write!(f, "remove {node}"),
            Kind::Migrate { mode } => write!(f, "migrate to {mode}"),
        }
    }
}

/// How far a change is; see the table in [the module above](super). Its end is the ring without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// New owners pull; nothing depends on them.
    Copy,
    /// Writes need both rows; new owners compare and repair.
    Both,
    /// Reads follow the target table.
    Switch,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Copy => "copy",
            Phase::Both => "both",
            Phase::Switch => "switch",
        })
    }
}

/// Which signal a change answers: its key below `signals/` and the ModifyIndex it had when it was taken up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SignalId {
    /// The key's last part, as in `node-4` or `mode`.
    pub name: String,
    /// Its ModifyIndex.
    pub index: u64,
}

/// The change in progress.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What for.
    pub kind: Kind,
    /// How far.
    pub phase: Phase,
    /// The owners at its end, by the ring's node indices.
    pub target: Table,
    /// The signal it answers.
    pub signal: SignalId,
}

/// Whether what a signal asked for was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It was done; all data is there.
    Done,
    /// It was begun and taken back; the ring is as before.
    Aborted,
    /// It was not begun.
    Refused,
}

/// How a signal was answered: what stands under `results/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `add node-4`, `remove node-0`, `migrate to hrw`, or the signal's text where it could not be read.
    pub op: String,
    /// Whether it was done.
    pub outcome: Verdict,
    /// For people: what happened, with the numbers.
    pub message: String,
    /// The ring's epoch afterwards.
    pub epoch: u64,
    /// Partitions that changed hands.
    pub moved: u64,
    /// The signal that is answered.
    pub signal: SignalId,
}

impl Ring {
    /// The ring of the next epoch of the change: the next phase, or after `switch` its end.
    ///
    /// # Panics
    /// Without a change in progress.
    pub fn advanced(&self) -> Ring {
        let change = self.change.as_ref().expect("only a change in progress can go on");
        let next = match change.phase {
            Phase::Copy => Phase::Both,
            Phase::Both => Phase::Switch,
            Phase::Switch => return self.completed(change),
        };
        let change = Some(Change { phase: next, ..change.clone() });
        Ring { epoch: self.epoch + 1, change, ..self.clone() }
    }

    /// The ring of the next epoch with the change taken back; `None` from `switch` on, when it can only go forward.
    pub fn aborted(&self, why: &str) -> Option<Ring> {
        let change = self.change.as_ref().filter(|c| c.phase != Phase::Switch)?;
        let mut ring = Ring { epoch: self.epoch + 1, change: None, ..self.clone() };
        if let Some(newcomer) = change.kind.joins() {
            ring.forget(newcomer);
        }
        let message = format!("taken back in phase {}: {why}", change.phase);
        ring.last = Some(outcome(change, Verdict::Aborted, message, ring.epoch, 0));
        Some(ring)
    }

    fn completed(&self, change: &Change) -> Ring {
        let moved = (0..self.partitions).filter(|p| self.moves(*p)).count() as u64;
        let mut ring =
            Ring { epoch: self.epoch + 1, owners: change.target.clone(), change: None, ..self.clone() };
        if let Kind::Migrate { mode } = change.kind {
            ring.strategy = mode;
            ring.chosen = true;
        }
        if let Some(gone) = change.kind.leaves() {
            ring.forget(gone);
        }
        let message =
            format!("{}: {moved} of {} partitions moved, all data is there", change.kind, self.partitions);
        ring.last = Some(outcome(change, Verdict::Done, message, ring.epoch, moved));
        ring
    }

    /// Takes a node that owns nothing out of the list; those behind it move up.
    fn forget(&mut self, name: NodeName) {
        let Some(gone) = self.index_of(name) else { return };
        self.nodes.remove(usize::from(gone));
        self.owners = self.owners.remapped(|index: NodeIndex| {
            debug_assert_ne!(index, gone, "{name} still owns partitions");
            if index > gone { index - 1 } else { index }
        });
    }
}

fn outcome(change: &Change, verdict: Verdict, message: String, epoch: u64, moved: u64) -> Outcome {
    let signal = change.signal.clone();
    Outcome { op: change.kind.to_string(), outcome: verdict, message, epoch, moved, signal }
}
