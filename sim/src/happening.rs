//! What can happen in the world, and who waits for an answer.

use std::sync::Arc;

use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::ring::orchestrator::{self, Action, Step};

use crate::faults::Fault;
use crate::network::Place;
use crate::process::Work;

/// Where a change may be hit: whom, at which step, before or after it takes effect.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// The step.
    pub step: Step,
    /// Whether the step still takes effect.
    pub after: bool,
    /// The node that is killed, or else the launcher that takes the step.
    pub node: Option<NodeName>,
    /// When it comes back, in milliseconds.
    pub back_ms: u64,
}

/// What will happen.
#[derive(Debug)]
pub enum Happening {
    /// A frame arrives.
    Frame { from: NodeName, to: NodeName, place: Place, bytes: Vec<u8> },
    /// Gossip arrives, if the connection still is the one beside which it went.
    Gossip { from: NodeName, to: NodeName, connection: u64, bytes: Vec<u8> },
    /// Two nodes notice that nothing comes back on the connection from one to the other, if it is still this one.
    Noticed { from: NodeName, to: NodeName, connection: u64 },
    /// What waits for a connection is looked at.
    Flush { from: NodeName, to: NodeName },
    /// A client's request arrives at a node.
    Asked { node: NodeName, ask: u64, body: Vec<u8> },
    /// A reply arrives.
    Answered { node: NodeName, life: u64, ask: u64, body: Vec<u8> },
    /// No reply came.
    Silence { ask: u64 },
    /// The store did its work.
    Stored { node: NodeName, life: u64, work: Box<Work> },
    /// A node's timer.
    Wake { node: NodeName, life: u64 },
    /// A node's watch reads the ring's key.
    Watch { node: NodeName, life: u64 },
    /// What it read arrives.
    Seen { node: NodeName, life: u64, ring: Option<Arc<Ring>> },
    /// A node's heartbeat.
    Heartbeat { node: NodeName, life: u64 },
    /// A node's process starts.
    Start { node: NodeName },
    /// A launcher's timer.
    Tick { launcher: usize, life: u64 },
    /// A launcher reads Consul; `again`: and will do so after a while.
    Poll { launcher: usize, life: u64, again: bool },
    /// A launcher is told something.
    Told { launcher: usize, life: u64, event: Box<orchestrator::Event> },
    /// A launcher's action reaches Consul.
    Hand { launcher: usize, life: u64, action: Box<Action>, sprung: bool },
    /// A launcher starts.
    Launcher { launcher: usize },
    /// A client's next move.
    Move { worker: usize, turn: u64 },
    /// Something goes wrong.
    Fault(Fault),
    /// A fault ends: Consul is back.
    ConsulBack,
}

/// Who asked, and what for.
#[derive(Clone, Debug)]
pub enum Asker {
    /// A launcher, how a node stands.
    Survey { launcher: usize, life: u64, node: NodeName },
    /// A launcher, whether a change may begin.
    Consent { launcher: usize, life: u64, node: NodeName, token: u64 },
    /// A client.
    Worker { worker: usize, turn: u64 },
    /// The scenario.
    Scenario,
}
