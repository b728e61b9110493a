//! A request under way.

use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;

use super::split::Part;
use crate::op::Op;
use crate::{Error, Refusal, Reply};

/// An index into the client's links.
pub(super) type LinkId = usize;

/// Where a request may go.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// To those that know about this hash best.
    Partition(u64),
    /// To any node.
    Any,
    /// To this node alone.
    Node(NodeName),
    /// To this connection alone.
    Link(LinkId),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For its connection, until then.
    Held(LinkId, Instant),
    /// For its reply, until then.
    Sent(LinkId, Instant),
    /// For the end of a pause.
    Pausing(Instant),
}

impl Stage {
    /// When the wait is over.
    pub fn until(self) -> Instant {
        match self {
            Stage::Held(_, until) | Stage::Sent(_, until) | Stage::Pausing(until) => until,
        }
    }

    /// The link that it occupies.
    pub fn link(self) -> Option<LinkId> {
        match self {
            Stage::Held(link, _) | Stage::Sent(link, _) => Some(link),
            Stage::Pausing(_) => None,
        }
    }
}

/// For whom a request is.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// Its completion goes to the caller.
    Caller,
    /// It is part of a larger one.
    Part(Part),
    /// It fetches the ring.
    Ring,
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub op: Op,
    pub target: Target,
    pub purpose: Purpose,
    pub stage: Stage,
    /// Attempts so far; the next goes to the next node.
    pub attempts: usize,
    /// Error replies so far.
    pub refusals: u32,
    pub began: Instant,
    pub deadline: Instant,
    /// An earlier attempt left us and nobody knows its fate: whatever the end says, it may have happened.
    pub unknown: bool,
    /// Addresses that it was sent to, and that could not be reached.
    pub asked: Vec<String>,
    pub unreached: Vec<String>,
    /// The last error reply.
    pub refusal: Option<Refusal>,
    /// The last reply to a part of which some keys should be tried again.
    pub partial: Option<Reply>,
    pub bytes: usize,
}

impl Flight {
    /// With what it ends when its time is out.
    pub fn give_up(&mut self, now: Instant) -> Result<Reply, Error> {
        if let Some(partial) = self.partial.take() {
            return Ok(partial);
        }
        let within = now.duration_since(self.began).max(Duration::from_millis(1));
        let indeterminate = self.op.is_write() && (self.unknown || matches!(self.stage, Stage::Sent(..)));
        if let Some(mut refusal) = self.refusal.take() {
            refusal.indeterminate |= indeterminate;
            return Err(Error::Refused(refusal));
        }
        let op = self.op.name();
        if self.asked.is_empty() {
            return Err(Error::Unreachable { op, within, tried: std::mem::take(&mut self.unreached) });
        }
        Err(Error::Silent { op, within, asked: std::mem::take(&mut self.asked), indeterminate })
    }

    /// Remembers an address once.
    pub fn note(list: &mut Vec<String>, address: &str) {
        if !list.iter().any(|held| held == address) {
            list.push(address.to_owned());
        }
    }
}
