//! The whole world of a node: what may happen to it, and what it may want done.

use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::Frames;
use ringkv_common::message::fault::Fault;
use ringkv_common::message::peer::{Frame, Message, Record, Stretch};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::version::Siblings;

use super::status::Gauges;
use crate::store::{Measure, Slice};

/// Whom a reply goes to: the driver's own number, used for one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(pub u64);

/// Which of the node's tasks an effect belongs to; comes back with its result.
pub type Token = u64;

/// What happens to a node.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client's message: its JSON frame, and the second frame where there is one. Answered exactly once.
    Request {
        /// Who.
        client: Client,
        /// The JSON frame.
        body: &'a [u8],
        /// The second frame.
        value: Option<&'a [u8]>,
    },
    /// A client's message of more frames than there can be, or of none.
    TooManyFrames {
        /// Who.
        client: Client,
        /// How many.
        frames: usize,
    },
    /// A frame from another node.
    Peer(Frame),
    /// A message that could not be sent: the peer is gone or its queue is full.
    Unsent {
        /// To whom.
        to: NodeName,
        /// What.
        message: Message,
    },
    /// The answer to [`Effect::Read`].
    Read {
        /// The task.
        token: Token,
        /// What the store holds.
        siblings: Siblings,
    },
    /// The answer to [`Effect::ReadMany`].
    ReadMany {
        /// The keys, in the order asked for, with what the store holds.
        records: Vec<Record>,
    },
    /// [`Effect::Persist`], [`Effect::PersistMany`] or [`Effect::Drop`] is durable.
    Persisted {
        /// The task.
        token: Token,
    },
    /// The answer to [`Effect::Scan`].
    Scanned {
        /// The task.
        token: Token,
        /// In key order.
        records: Vec<Record>,
        /// Where to go on.
        next: Option<Key>,
    },
    /// The answer to [`Effect::Digest`].
    Digested {
        /// The task.
        token: Token,
        /// (hash, digest), sorted.
        digests: Vec<(u64, u64)>,
        /// Where to go on.
        next: Option<Key>,
    },
    /// The answer to [`Effect::Sums`].
    Sums {
        /// The task.
        token: Token,
        /// (partition, or bucket, and the lower half of its sum), sorted.
        sums: Vec<(u32, u64)>,
    },
    /// The answer to [`Effect::Dead`].
    Dead {
        /// The task.
        token: Token,
        /// Partitions that have some, with keys and digests.
        dead: Vec<(u32, Vec<(Key, u64)>)>,
    },
    /// The answer to [`Effect::Measure`].
    Measured {
        /// The task.
        token: Token,
        /// The partitions that hold something.
        measures: Vec<(u32, Measure)>,
        /// What the driver counts.
        gauges: Gauges,
    },
    /// Consul was read and has no ring.
    RingAbsent,
    /// A ring, from Consul.
    Ring(Arc<Ring>),
    /// The process is told to end: nothing new is begun, and what is under way is answered within so many milliseconds.
    Close {
        /// Milliseconds that it has.
        within_ms: u64,
    },
    /// Gossip is switched on or off. Off, the node says and hears nothing of who answers, and others take it for dead.
    Gossip(bool),
    /// Time passes.
    Tick,
}

/// What a node wants done.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Do this wrong from now on with what is sent to other nodes, or do so no more.
    Fault(Fault),
    /// Answer a client.
    Reply {
        /// Whom.
        client: Client,
        /// With what.
        frames: Frames,
    },
    /// Tell another node.
    Send {
        /// Whom.
        to: NodeName,
        /// What.
        message: Message,
    },
    /// Look a key up.
    Read {
        /// The task.
        token: Token,
        /// The key.
        key: Key,
    },
    /// Look several keys up.
    ReadMany {
        /// The keys.
        keys: Vec<Key>,
    },
    /// Keep these states of several keys, durably.
    PersistMany {
        /// The task.
        token: Token,
        /// The keys with their whole states.
        records: Vec<Record>,
    },
    /// Keep this state of a key, durably.
    Persist {
        /// The task.
        token: Token,
        /// The key.
        key: Key,
        /// Its whole state.
        siblings: Siblings,
    },
    /// Read records of a stretch; may wait behind more urgent things.
    Scan {
        /// The task.
        token: Token,
        /// Which.
        stretch: Stretch,
        /// Records that are not wanted, (hash, digest), sorted.
        known: Vec<(u64, u64)>,
        /// How many.
        slice: Slice,
    },
    /// Compute digests of a stretch; may wait.
    Digest {
        /// The task.
        token: Token,
        /// Which.
        stretch: Stretch,
        /// How many.
        slice: Slice,
    },
    /// Say the sums of all partitions, or of the buckets of one; may wait.
    Sums {
        /// The task.
        token: Token,
        /// Which partition; `None`: all.
        partition: Option<u32>,
    },
    /// Look for deleted keys in these partitions, in their order.
    Dead {
        /// The task.
        token: Token,
        /// Where.
        partitions: Vec<u32>,
        /// Partitions at most that have some.
        partitions_max: usize,
        /// Keys at most of each.
        dead_max: usize,
    },
    /// Count what the store holds.
    Measure {
        /// The task.
        token: Token,
    },
    /// Forget a partition, durably.
    Drop {
        /// The task.
        token: Token,
        /// Which.
        partition: u32,
    },
    /// Here is the ring that is now in force: connect to its nodes.
    Adopted(Arc<Ring>),
    /// Here is a node that is not in the ring: connect to it, for an answer.
    Connect {
        /// Who.
        node: NodeName,
        /// Where.
        host: Box<str>,
        /// Its peer port.
        port: u16,
    },
    /// The node was removed and has nothing left to do: end the process.
    Leave,
}
