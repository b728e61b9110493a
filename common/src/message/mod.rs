//! Messages: what clients ask as JSON, what nodes ask each other in a compact form, and the answers.
//!
//! `request` reads what any ZeroMQ client may send, and refuses what is none of it with a reason; `reply` writes the
//! answers; `peer` is the codec between nodes. All three speak in the types of this module.

pub mod fault;
pub mod peer;
pub mod reply;
pub mod request;
mod text;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::key::Key;
use crate::name::NodeName;
use crate::ring::orchestrator::Question;
use crate::version::{Content, Context};

/// What went wrong, as programs read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The body is no JSON.
    BadJson,
    /// JSON of the wrong shape, or values out of range.
    BadRequest,
    /// No operation of this name.
    UnknownOp,
    /// Nothing is stored under the key.
    KeyNotFound,
    /// An INSERT found the key taken.
    KeyExists,
    /// A key, value, message or reply beyond its limit.
    TooLarge,
    /// Too few replicas answered.
    QuorumFailed,
    /// No answer in time.
    Timeout,
    /// The node does not serve yet.
    NotReady,
    /// A bounded queue is full.
    Overloaded,
    /// Not allowed.
    Forbidden,
    /// A defect of ours.
    Internal,
}

impl Code {
    /// As it stands in replies.
    pub fn text(self) -> &'static str {
        match self {
            Code::BadJson => "BAD_JSON",
            Code::BadRequest => "BAD_REQUEST",
            Code::UnknownOp => "UNKNOWN_OP",
            Code::KeyNotFound => "KEY_NOT_FOUND",
            Code::KeyExists => "KEY_EXISTS",
            Code::TooLarge => "TOO_LARGE",
            Code::QuorumFailed => "QUORUM_FAILED",
            Code::Timeout => "TIMEOUT",
            Code::NotReady => "NOT_READY",
            Code::Overloaded => "OVERLOADED",
            Code::Forbidden => "FORBIDDEN",
            Code::Internal => "INTERNAL",
        }
    }
}

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub code: Code,
    /// For people: what was wrong, with the numbers, and what to do.
    pub message: String,
    /// The write may have happened.
    pub indeterminate: bool,
    /// The key's partition lost its data, so the key may have existed.
    pub lost: bool,
}

impl Failure {
    /// An error that left nothing changed.
    pub fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), indeterminate: false, lost: false }
    }

    /// A write that may have happened.
    pub fn indeterminate(code: Code, message: impl Into<String>) -> Failure {
        Failure { indeterminate: true, ..Failure::new(code, message) }
    }
}

/// Under which circumstances a write writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// PUT and DELETE.
    Always,
    /// INSERT.
    Absent,
    /// UPDATE.
    Present,
}

/// One write of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// Where.
    pub key: Key,
    /// What; a tombstone for DELETE.
    pub content: Content,
    /// When.
    pub condition: Condition,
    /// What it supersedes; `None`: all that the coordinating owner holds.
    pub context: Option<Box<Context>>,
    /// Hash of the request id, never 0; `None` where the client gave none.
    pub request: Option<u64>,
}

/// An operation on one key, which its owner coordinates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyOp {
    /// PUT, INSERT, UPDATE, DELETE.
    Write(Write),
    /// GET_ONE.
    Read(Key),
}

impl KeyOp {
    /// The hash of its request id, 0 where it has none.
    pub fn request(&self) -> u64 {
        match self {
            KeyOp::Write(write) => write.request.unwrap_or(0),
            KeyOp::Read(_) => 0,
        }
    }

    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            KeyOp::Write(write) => &write.key,
            KeyOp::Read(key) => key,
        }
    }
}

/// Whose records a GET_ALL lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Scope {
    /// Those whose first owner this node is.
    #[default]
    Led,
    /// All that this node owns.
    Node,
    /// Everything.
    Cluster,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Page {
    /// Records at most; `None`: as many as fit into a message.
    pub limit: Option<usize>,
    /// The last key of the page before.
    pub after: Option<Key>,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// One key.
    One(KeyOp),
    /// MPUT and MGET: many keys, each with its own outcome.
    Many(Vec<Result<KeyOp, Failure>>),
    /// GET_ALL.
    GetAll(Scope, Page),
    /// SHOW_ALL.
    ShowAll(Page),
    /// SEARCH.
    Search(Key),
    /// EXPLAIN.
    Explain(Key),
    /// STATUS; with the ring's document where it was wanted.
    Status {
        /// Whether the ring is wanted too.
        ring: bool,
        /// Whether the other nodes are listed: not for whoever asks all nodes for their report alone.
        peers: bool,
    },
    /// PING.
    Ping,
    /// Asked by an orchestrator before a change.
    Consent(Question),
    /// Says that lost data is known to be lost.
    AcceptLoss,
    /// FAULT: does something wrong on purpose, or ends that.
    Fault(fault::Fault),
    /// REPAIR: compares with the other owners now.
    Repair,
}

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Any.
    One,
    /// More than half.
    Quorum,
    /// Every.
    All,
    /// So many.
    Count(u32),
}

/// What else a reply shall carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Wants {
    /// The context, though there be no siblings.
    pub context: bool,
    /// Who answered, under which epoch, and whether a hint stood in.
    pub receipt: bool,
    /// A binary value as a second frame.
    pub raw: bool,
}

/// On which terms an operation is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Replicas that a read needs; `None`: the cluster's setting.
    pub read: Option<Level>,
    /// Replicas that a write needs; `None`: the cluster's setting.
    pub write: Option<Level>,
    /// Whether others may stand in for owners that are away; `None`: the cluster's setting.
    pub sloppy: Option<bool>,
    /// Milliseconds that the client waits.
    pub timeout_ms: u32,
    /// What else the reply shall carry.
    pub want: Wants,
    /// The epoch that the client routes by: a reply tells it of a newer one.
    pub epoch: Option<u64>,
}

/// Keys at most in one MPUT or MGET: half of what a node does at one time, so that such a message leaves room for others.
pub const KEYS_MAX: usize = 1 << 15;
/// Milliseconds that a request may take unless it says otherwise.
pub const TIMEOUT_MS_DEFAULT: u32 = 2_000;
/// The most that it may say.
pub const TIMEOUT_MS_MAX: u32 = 30_000;

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            read: None,
            write: None,
            sloppy: None,
            timeout_ms: TIMEOUT_MS_DEFAULT,
            want: Wants::default(),
            epoch: None,
        }
    }
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client's `id`, as JSON text, to be echoed.
    pub id: Option<Box<str>>,
    /// What is asked.
    pub operation: Operation,
    /// On which terms.
    pub terms: Terms,
}

/// Limits that a message is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest value, in bytes (`--max-value`).
    pub value_bytes_max: usize,
    /// The largest message, in bytes, request or reply (`--max-message`).
    pub message_bytes_max: usize,
}

impl Limits {
    /// Bytes that a key's siblings may have together: a quarter of a message, so that their listing fits in one too.
    pub fn siblings_bytes_max(&self) -> usize {
        self.message_bytes_max / 4
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { value_bytes_max: 1 << 20, message_bytes_max: 64 << 20 }
    }
}

/// What a read found: the visible values, newest first, and the context that settles them.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// At least one.
    pub values: SmallVec<[Content; 1]>,
    /// Always where there are several values, else where it was wanted.
    pub context: Option<Box<Context>>,
}

/// How one operation on one key ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A write was done.
    Stored {
        /// The key's context after it, where wanted.
        context: Option<Box<Context>>,
    },
    /// A read found something.
    Found(Found),
    /// Neither.
    Failed(Failure),
}

/// Who answered a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The nodes whose answers counted.
    pub nodes: Vec<NodeName>,
    /// The ring's epoch it was answered under.
    pub epoch: u64,
    /// Whether a hint stood in for an owner.
    pub hinted: bool,
}

/// The reply to one request, as frames.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frames {
    /// The JSON frame.
    pub body: Vec<u8>,
    /// A binary value, as a second frame.
    pub value: Option<Arc<[u8]>>,
    /// Beside a large reply: what to send where there is no room for that one.
    pub instead: Option<Vec<u8>>,
}

impl Frames {
    /// Bytes of both frames.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.value.as_ref().map_or(0, |value| value.len())
    }
}
