//! What can go wrong, with what a caller branches on: may it have happened, was data lost, what did the node say.

use std::time::Duration;

use ringkv_common::key::KeyError;
use ringkv_common::message::Code;
use ringkv_common::ring::{ClusterId, RingError};
use thiserror::Error;

/// Why an operation gave no result.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A node answered with an error that repeating does not cure, or not in time.
    #[error("{0}")]
    Refused(Refusal),

    /// Requests were sent and nobody answered.
    #[error(
        "no answer to {op} within {:.1} s from {}{}", .within.as_secs_f32(), .asked.join(", "),
        if *.indeterminate { ": it may have happened" } else { "" }
    )]
    Silent {
        /// The operation's name.
        op: &'static str,
        /// How long was waited.
        within: Duration,
        /// The addresses it was sent to.
        asked: Vec<String>,
        /// Whether it was a write, which may have happened.
        indeterminate: bool,
    },

    /// No connection could be made, so nothing was sent and nothing has happened.
    #[error("cannot reach {} for {op} within {:.1} s: is a node running there?", .tried.join(", "), .within.as_secs_f32())]
    Unreachable {
        /// The operation's name.
        op: &'static str,
        /// How long was tried.
        within: Duration,
        /// The addresses that were tried.
        tried: Vec<String>,
    },

    /// As many requests as are allowed are under way; nothing was sent. Poll, then submit again.
    #[error("{in_flight} requests with {bytes} bytes are under way, more are not allowed: poll first")]
    Full {
        /// Requests that are under way or whose completions wait to be polled.
        in_flight: usize,
        /// Their bytes.
        bytes: usize,
    },

    /// The text is no address of a node; nothing was sent.
    #[error("{address:?} is no address of a node: {why}")]
    Address {
        /// What was given, shortened.
        address: String,
        /// What is wrong with it, and what it takes.
        why: String,
    },

    /// The text is no key; nothing was sent.
    #[error(transparent)]
    Key(#[from] KeyError),

    /// The text is no JSON; nothing was sent.
    #[error("the value is no JSON: {0}")]
    Value(String),

    /// A ring that contradicts itself, or of a newer format.
    #[error(transparent)]
    Ring(#[from] RingError),

    /// A ring of another cluster: this client belongs to its own.
    #[error("{from} belongs to cluster {theirs}, this client to cluster {ours}: its ring is refused")]
    OtherCluster {
        /// Who gave the ring.
        from: String,
        /// The cluster that this client belongs to.
        ours: ClusterId,
        /// The cluster of the ring.
        theirs: ClusterId,
    },

    /// The client has no ring, and the operation needs one.
    #[error("there is no ring yet: no node that was asked has one")]
    NoRing,

    /// The node is not in the ring.
    #[error("{0}")]
    NoSuchNode(String),

    /// A node answered something that is none of its replies.
    #[error("the answer of {from} to {op} cannot be read: {why}")]
    Unreadable {
        /// Who answered.
        from: String,
        /// The operation's name.
        op: &'static str,
        /// What did not fit.
        why: String,
    },

    /// ZeroMQ refused something.
    #[error("ZeroMQ: {what}: {why}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// Its own words.
        why: String,
    },
}

/// A node's error reply.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{}: {message}", .code.text())]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people, with the numbers.
    pub message: String,
    /// The write may have happened.
    pub indeterminate: bool,
    /// The key's partition lost its data, so the key may have existed.
    pub lost: bool,
    /// The address of the node that answered.
    pub from: String,
}

impl Error {
    /// The node's code, where a node answered.
    pub fn code(&self) -> Option<Code> {
        if let Error::Refused(refusal) = self { Some(refusal.code) } else { None }
    }

    /// Whether a write that failed so may have happened all the same.
    pub fn indeterminate(&self) -> bool {
        match self {
            Error::Refused(refusal) => refusal.indeterminate,
            Error::Silent { indeterminate, .. } => *indeterminate,
            // Something did answer, so something may have been done.
            Error::Unreadable { .. } => true,
            _ => false,
        }
    }

    /// Whether the key's partition lost its data.
    pub fn lost(&self) -> bool {
        matches!(self, Error::Refused(refusal) if refusal.lost)
    }

    /// Whether the key is known not to exist: not found, and nothing lost.
    pub fn is_absent(&self) -> bool {
        self.code() == Some(Code::KeyNotFound) && !self.lost()
    }
}

pub(crate) fn socket(what: &'static str) -> impl Fn(zmq::Error) -> Error {
    move |error| Error::Socket { what, why: error.to_string() }
}
