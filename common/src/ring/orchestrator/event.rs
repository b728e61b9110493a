//! The whole world of an orchestrator: what it is told, and what it wants done.

use std::sync::Arc;

use super::progress::Report;
use super::signal::Signal;
use crate::name::NodeName;
use crate::ring::plan::Founding;
use crate::ring::{Kind, Node, Outcome, Phase, Ring, SignalId};

/// A node as Consul's catalog shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What it registered; the incarnation is 0.
    pub node: Node,
    /// Whether its checks pass.
    pub healthy: bool,
}

/// What the machine is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The ring's key, read consistently: `None` where it is absent. The index is 0 then.
    Ring(Option<Arc<Ring>>, u64),
    /// All signals.
    Signals(Vec<Signal>),
    /// `cluster_size`, where it is set and valid.
    Size(Option<u16>),
    /// All nodes in the catalog.
    Candidates(Vec<Candidate>),
    /// Whether the lock is held.
    Lock(bool),
    /// A node's answer to [`Action::Survey`]; `None` is silence. The ring comes where it was asked for.
    Report(NodeName, Option<(Report, Option<Arc<Ring>>)>),
    /// A node's answer to [`Action::Ask`]: its reason for a no, or silence as one.
    Consent(NodeName, u64, Result<(), String>),
    /// A node of [`Action::Launch`] cannot be started here, and why.
    NotLaunched(NodeName, String),
    /// How the last [`Action::Write`] ended: false where somebody was faster. A fresh [`Event::Ring`] came before.
    Written(bool),
    /// Time passes.
    Tick,
}

/// What the machine wants done. Every action but the first four changes something that others see.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Try for the lock.
    Lock,
    /// Give it back.
    Unlock,
    /// Ask a node how it stands, with its ring or without.
    Survey(NodeName, bool),
    /// Ask a node whether this change may begin; the token comes back with the answer.
    Ask(NodeName, u64, Question),
    /// Start a node's process here, unless it runs already.
    Launch(NodeName),
    /// Replace the ring of this ModifyIndex.
    Write(Arc<Ring>, u64),
    /// Delete a signal, if it still has this index.
    Forget(SignalId),
    /// Write a signal's result.
    Answer(Outcome),
    /// End a node's process that was launched for nothing.
    Stop(NodeName),
}

/// The steps of a change as others see them: where an orchestrator may die and another must go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Step {
    Launch,
    Ask,
    Copy,
    Forget,
    Both,
    Switch,
    Done,
    Answer,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Step; 8] = [
        Step::Launch,
        Step::Ask,
        Step::Copy,
        Step::Forget,
        Step::Both,
        Step::Switch,
        Step::Done,
        Step::Answer,
    ];
}

impl Action {
    /// The step of a change that this action takes, if it takes one.
    pub fn step(&self) -> Option<Step> {
        Some(match self {
            Action::Lock | Action::Unlock | Action::Survey(..) | Action::Stop(_) => return None,
            Action::Launch(_) => Step::Launch,
            Action::Ask(..) => Step::Ask,
            Action::Forget(_) => Step::Forget,
            Action::Answer(_) => Step::Answer,
            Action::Write(ring, _) => match ring.change.as_ref().map(|c| c.phase) {
                Some(Phase::Copy) => Step::Copy,
                Some(Phase::Both) => Step::Both,
                Some(Phase::Switch) => Step::Switch,
                None if ring.last.is_some() => Step::Done,
                // Founding a cluster is no change.
                None => return None,
            },
        })
    }
}

/// What a node is asked before a change.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The change.
    pub kind: Kind,
    /// The epoch that the plan starts from.
    pub base: u64,
    /// Whom a newcomer must reach; empty for all others.
    pub reach: Vec<Node>,
}

/// What an orchestrator may do on its machine.
#[derive(Clone, Debug)]
pub struct Config {
    /// What a cluster is founded with.
    pub founding: Founding,
    /// The nodes it may launch; `None`: any.
    pub launches: Option<Vec<NodeName>>,
    /// Seed of the random pauses.
    pub seed: u64,
}
