//! The world at one moment, small enough for millions of them.

use crate::gate::Code;
use crate::rings::{Nodes, RingId};
use crate::values::Value;

/// No ring, no node: a launcher whose ring was replaced, a pull that nobody answered.
pub const NONE: u8 = u8::MAX;

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    /// Whether it runs.
    pub up: bool,
    /// The ring it goes by. Durable.
    pub ring: RingId,
    /// What it holds of the key. Durable.
    pub held: Value,
    /// An answer to its pull that is on its way: from whom, [`NONE`] where there is none, and what it brings.
    pub pulled: (u8, Value),
    /// Whether it received the key in this change.
    pub copied: bool,
    /// The old owners it has compared with since `both`.
    pub compared: Nodes,
    /// An owner said that it has all that this node holds and does not own; the word is on its way.
    pub released: bool,
    /// It crashed within this change.
    pub crashed: bool,
}

/// How far a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// No client has sent it.
    Idle,
    /// A coordinator took it and has not done it yet.
    Waiting,
    /// The coordinator did it and gathers its quorum.
    Running,
    /// Its client was told that it is done.
    Acknowledged,
    /// Nobody waits for it any more; what was sent may still arrive.
    Abandoned,
}

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Write {
    /// How far it is.
    pub stage: Stage,
    /// Who coordinates it.
    pub coordinator: u8,
    /// The ring under which it is counted now.
    pub ring: RingId,
    /// Rings under which replicas were told, as bits: such a message may arrive, again and again, at any time.
    pub told: u64,
    /// What they were told.
    pub value: Value,
    /// Who has applied it: their answers may arrive at any time.
    pub applied: Nodes,
}

/// A read that gathers its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Read {
    /// Who coordinates it; [`NONE`] between reads.
    pub coordinator: u8,
    /// The ring under which it asks.
    pub ring: RingId,
    /// Writes that had been acknowledged when it began.
    pub owed: u8,
    /// Who has answered.
    pub answered: Nodes,
    /// What they hold, joined.
    pub found: Value,
    /// Reads that may still begin.
    pub left: u8,
}

/// An orchestrator: what it knows is all in its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Launcher {
    /// Whether it lives.
    pub up: bool,
    /// The ring it read last.
    pub ring: RingId,
    /// What it was told by each node under that ring: a report's code, or 1 for consent.
    pub heard: [Code; 4],
}

/// The world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The ring in Consul.
    pub current: RingId,
    /// All rings ever written, as bits.
    pub written: u64,
    /// Signals taken up or refused.
    pub signals: u8,
    /// The nodes, by number.
    pub nodes: [Node; 4],
    /// The writes.
    pub writes: [Write; 2],
    /// The read.
    pub read: Read,
    /// The launchers; which is which does not matter, so they are kept sorted.
    pub launchers: [Launcher; 2],
    /// Crashes that may still happen.
    pub crashes: u8,
    /// A read ended without a write that it owed.
    pub stale_read: bool,
    /// Something was deleted that its owners lacked.
    pub early_delete: bool,
}

/// One step of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A node takes up a ring, from Consul or from a peer.
    Adopt(u8, RingId),
    /// A node dies: what is not durable is gone.
    Crash(u8),
    /// It is back.
    Restart(u8),
    /// It is back, and goes by this ring.
    RestartWith(u8, RingId),
    /// A client sends a write to a node that coordinates.
    Begin(u8, u8),
    /// The coordinator does the write.
    Do(u8),
    /// The coordinator repeats the write under its present ring.
    Repeat(u8),
    /// A replica receives the write.
    Replicate(u8, u8),
    /// The write has its quorums: its client is told.
    Acknowledge(u8),
    /// A client sends a read to a node that coordinates.
    Read(u8),
    /// A replica answers the read; the last answer ends it.
    Answer(u8),
    /// The coordinator repeats the read under its present ring.
    ReadAgain,
    /// A new owner's pull is answered: to whom, by whom. An answer that was lost is asked for again.
    Give(u8, u8),
    /// The answer arrives.
    Take(u8),
    /// A former owner has its data pulled by an owner, who says so.
    HandOver(u8),
    /// It hears that and drops the data.
    Drop(u8),
    /// An orchestrator reads the ring.
    Look(u8),
    /// It hears from a node: a report, or consent.
    Hear(u8, u8),
    /// It writes the next phase.
    Advance(u8),
    /// It takes the change back.
    TakeBack(u8),
    /// It begins the next signal's change, everybody having consented.
    Start(u8),
    /// It refuses the next signal.
    Refuse(u8),
    /// It dies for good.
    Die(u8),
}
