//! Messages between nodes, in a compact binary form.
//!
//! A frame names its cluster and its sender, and every request the epoch of the ring it goes by. A node serves only
//! requests of its own epoch; to any other it answers [`Message::Refused`] and has changed nothing.
//!
//! ```text
//!   forward     coordinator elsewhere ─► Forward ─► owner ─► Forwarded
//!   replicate   coordinating owner ─► Replicate ─► other owners, or who stands in for one ─► Replicated
//!   read        coordinating owner ─► Query ─► other owners ─► Held
//!   compare     each owner, in turn ─► Roots ─► another ─► Differ; Buckets ─► Stale; then both pull what differs
//!   pull        new owner ─► Fetch ─► former owner ─► Fetched      (repeated through a partition)
//!   gossip      each ─► one peer after another, which answers
//!   hand over   former owner ─► Surrender ─► owner, which pulls ─► Released; then the former owner deletes
//! ```

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Failure, KeyOp, Outcome, Terms};
use crate::key::{Key, first_hash, first_hash_of_bucket, last_hash, last_hash_of_bucket};
use crate::name::NodeName;
use crate::ring::ClusterId;
use crate::version::Siblings;

/// The version of this codec, the first byte of every message.
pub const VERSION: u8 = 2;

/// A request's number, unique to its sender while it is under way.
pub type Id = u64;

/// A moment by a node's own clock, in microseconds from a beginning that only that life of it knows: who hears it again can
/// tell how old what it came with is at most.
pub type Beat = u64;

/// A key with all that is known of it.
pub type Record = (Key, Siblings);

/// What a pull is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// A new owner copies, or compares and repairs: the giver owns the partition in the ring's table.
    Move,
    /// An owner that lost what it held copies it from another one, or compares with it.
    Fill,
    /// Owners take from each other what they lack.
    Repair,
    /// An owner takes what a former owner still holds.
    Handover {
        /// What that said it holds, see [`Message::Surrender`]: it has not dropped that since.
        held: u64,
    },
    /// A listing reads.
    List,
}

/// A run of a partition's buckets; see [`crate::key::bucket_of`]. With the first behind the last it is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// The first.
    pub first: u8,
    /// The last, which belongs to it.
    pub last: u8,
}

/// A stretch of a partition in key order: what all of its bounds include. Where they exclude each other it is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The partition.
    pub partition: u32,
    /// Begins behind this key; `None`: at the partition's first.
    pub after: Option<Key>,
    /// Ends with this key; `None`: with the partition's last.
    pub until: Option<Key>,
    /// Of these buckets alone; `None`: of all.
    pub buckets: Option<Buckets>,
}

impl Stretch {
    /// The smallest and the largest hash that its keys can have; the first is larger where it is empty.
    pub fn hashes(&self, partitions: u32) -> (u64, u64) {
        let Stretch { partition, after, until, buckets } = self;
        let (first, last) = match buckets {
            None => (first_hash(*partition, partitions), last_hash(*partition, partitions)),
            Some(buckets) => (
                first_hash_of_bucket(*partition, buckets.first, partitions),
                last_hash_of_bucket(*partition, buckets.last, partitions),
            ),
        };
        let after = after.as_ref().map_or(first, Key::hash);
        let until = until.as_ref().map_or(last, Key::hash);
        (first.max(after), last.min(until))
    }
}

/// A deleted key: its hash, and the digest of what is held of it.
pub type Dead = (u64, u64);

/// What came of a state that an owner was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Taken {
    /// It is held, or superseded by what had seen it.
    All,
    /// Beside what was written without a context there is such a version that its writer had not seen: all that is held
    /// now. It was not taken where that has the higher stamp.
    Beside(Box<Siblings>),
    /// A version of it was written by a request that had been done before, and that is superseded: what is held now.
    Late(Box<Siblings>),
}

/// What nodes tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// From a node that is not in the ring yet: here I am, can you hear me?
    Hello {
        /// Where it is reached.
        host: Box<str>,
        /// Its peer port there.
        port: u16,
    },
    /// The answer to it.
    Welcome,
    /// Please send your ring: mine is older than yours.
    RingWanted,
    /// A ring's JSON.
    Ring(Box<str>),
    /// A client's operation for its owner to coordinate.
    Forward {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// Milliseconds left of the client's time.
        left_ms: u32,
        /// The operation.
        op: KeyOp,
        /// Its terms.
        terms: Terms,
        /// The last [`Beat`] that its sender has heard from the receiver; 0 for none.
        heard: Beat,
    },
    /// How it ended.
    Forwarded {
        /// Number of the request.
        id: Id,
        /// The outcome.
        outcome: Outcome,
        /// The nodes whose answers counted.
        nodes: Vec<NodeName>,
        /// Whether a hint stood in for one of them.
        hinted: bool,
        /// When, by the sender's clock.
        beat: Beat,
    },
    /// A key's whole state after a write, for another owner to join and keep.
    Replicate {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// The key.
        key: Key,
        /// Its state.
        siblings: Siblings,
        /// The digest of what it followed at its writer. Who held something else has missed a write.
        base: u64,
        /// The request id behind it, 0 where there is none: remembered there too.
        request: u64,
        /// Counts what is told under one number: comes back with the answer, which else might pass for a later one's.
        round: u32,
    },
    /// It is kept, durably.
    Replicated {
        /// Number of the request.
        id: Id,
        /// Its count.
        round: u32,
        /// Whether there is more to say.
        taken: Taken,
    },
    /// Do you hold these tombstones as I do, and if you own none of the partition, nothing of it at all?
    Confirm {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// The partition.
        partition: u32,
        /// The tombstones; none for who is no owner.
        dead: Vec<Dead>,
    },
    /// These, durably.
    Confirmed {
        /// Number of the request.
        id: Id,
        /// Those that are held alike.
        dead: Vec<Dead>,
        /// Whether no record is held of a partition that others own.
        clean: bool,
    },
    /// All nodes have confirmed these tombstones: forget them.
    Collect {
        /// The sender's.
        epoch: u64,
        /// The partition.
        partition: u32,
        /// The tombstones.
        dead: Vec<Dead>,
    },
    /// What do you hold of this key? For a read that needs several owners.
    Query {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// The key.
        key: Key,
        /// The digest of what the sender holds: the same need not be sent.
        digest: u64,
        /// Whether this request is known; 0: none is asked about.
        request: u64,
        /// Counts what is asked under one number: comes back with the answer.
        round: u32,
    },
    /// This, durably.
    Held {
        /// Number of the request.
        id: Id,
        /// The key's state; `None`: the same as the sender of the question holds.
        siblings: Option<Siblings>,
        /// Whether the answer counts: it is an owner's that has not lost anything.
        counts: bool,
        /// Whether the request that was asked about was done.
        knows: bool,
        /// The question's count.
        round: u32,
    },
    /// The records of a stretch, please.
    Fetch {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// What for.
        purpose: Purpose,
        /// Which.
        stretch: Stretch,
        /// (key hash, digest) of what the sender has there already, sorted: equal ones are left out.
        known: Vec<(u64, u64)>,
        /// Bytes at most, but at least one record.
        bytes_max: u32,
    },
    /// Its answer.
    Fetched {
        /// Number of the request.
        id: Id,
        /// The records, in key order.
        records: Vec<Record>,
        /// Where to go on; `None`: the stretch is through.
        next: Option<Key>,
        /// At a partition's beginning, for a new owner: (key hash, request) of the writes that are remembered as done,
        /// so that one which is repeated there is not done again.
        requests: Vec<(u64, u64)>,
        /// Whether the giver has all that it ever acknowledged there: it has not lost its memory since.
        whole: bool,
    },
    /// I hold records of this partition and do not own it: take what you lack.
    Surrender {
        /// The sender's.
        epoch: u64,
        /// The partition.
        partition: u32,
        /// Counts what the sender was given of it.
        held: u64,
    },
    /// All of it is here, durably.
    Released {
        /// The epoch of the surrender.
        epoch: u64,
        /// The partition.
        partition: u32,
        /// The surrender's count.
        held: u64,
    },
    /// What do you hold of the partitions that we both own?
    Roots {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// What the sender holds: of each such partition, in order, the lower half of its sum, eight bytes.
        sums: Box<[u8]>,
    },
    /// Something else of these.
    Differ {
        /// Number of the request.
        id: Id,
        /// Which.
        partitions: Vec<u32>,
    },
    /// What do you hold of this partition?
    Buckets {
        /// Number of the request.
        id: Id,
        /// The sender's.
        epoch: u64,
        /// Which.
        partition: u32,
        /// What the sender holds: of each bucket the lower half of its sum, eight bytes.
        sums: Box<[u8]>,
    },
    /// Something else of these buckets, and I take what I lack.
    Stale {
        /// Number of the request.
        id: Id,
        /// Which.
        partition: u32,
        /// The first and the last that differ, if some do.
        buckets: Option<Buckets>,
    },
    /// What do you hold of this key? For SEARCH; repairs nothing.
    Inspect {
        /// Number of the request.
        id: Id,
        /// The key.
        key: Key,
    },
    /// This.
    Inspected {
        /// Number of the request.
        id: Id,
        /// The key's state.
        siblings: Siblings,
    },
    /// Not done, nothing changed: my ring has this epoch.
    Refused {
        /// Number of the request.
        id: Id,
        /// The refusing node's.
        epoch: u64,
    },
    /// Not done, nothing changed, for this reason.
    Failed {
        /// Number of the request.
        id: Id,
        /// Why.
        failure: Failure,
    },
    /// News of who answers, or the question whether you do. For the failure detector.
    Gossip {
        /// The sender's.
        epoch: u64,
        /// As the detector wrote it.
        packet: Box<[u8]>,
        /// Its wall clock, in milliseconds since 1970.
        wall_ms: u64,
    },
}

/// A message with its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The sender's cluster; all zeros from a node without a ring.
    pub cluster: ClusterId,
    /// The sender.
    pub from: NodeName,
    /// What it says.
    pub message: Message,
}

/// Why a frame was dropped.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// Not even a version, or nothing but it.
    #[error("the frame is empty")]
    Empty,
    /// Written by another release.
    #[error("the frame has version {0}, this program speaks {VERSION}")]
    Version(u8),
    /// Broken.
    #[error("the frame cannot be read: {0}")]
    Malformed(postcard::Error),
}

impl Frame {
    /// The frame as a message of its own.
    pub fn encode(&self) -> Vec<u8> {
        Frame::encode_all([self].into_iter(), self.size())
    }

    /// Frames as one message, that have so many bytes together: each message has its price, however short it is.
    pub fn encode_all<'a>(frames: impl Iterator<Item = &'a Frame>, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + size);
        bytes.push(VERSION);
        for frame in frames {
            bytes = postcard::to_extend(frame, bytes).expect("plain data in memory always encodes");
        }
        bytes
    }

    /// Its bytes in a message.
    pub fn size(&self) -> usize {
        postcard::experimental::serialized_size(self).expect("plain data in memory always encodes")
    }

    /// Reads the frames of a message: all, or none where one cannot be read.
    pub fn decode_all(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut rest = match bytes.split_first() {
            None | Some((&VERSION, [])) => return Err(FrameError::Empty),
            Some((&VERSION, rest)) => rest,
            Some((version, _)) => return Err(FrameError::Version(*version)),
        };
        let mut frames = Vec::with_capacity(1);
        while !rest.is_empty() {
            let (frame, after) = postcard::take_from_bytes(rest).map_err(FrameError::Malformed)?;
            frames.push(frame);
            rest = after;
        }
        Ok(frames)
    }
}

#[cfg(test)]
mod tests;
