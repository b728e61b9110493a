//! How much of what clients ask for is under way at once.
//!
//! Where clients ask for more than the cluster does, what is under way beyond that only lengthens the lines of messages,
//! until whoever waits takes a slow node for a silent one and tells it again, which lengthens them more: then all nodes
//! are busy, and little is done in time. So the rest waits here, at the node that was asked, where nobody has to do
//! anything for it; and what has waited for half of its time is refused, having done nothing.
//!
//! What waits for a node that is silent is no reason to do less of what others do, and keeps no place.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use ringkv_common::message::{Code, Failure};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::{Quorum, Verdict};

use super::effect::Token;
use super::task::{Op, OpStage, Origin};
use super::{Node, RESEND_MS};

/// What [`super::Identity::window_bytes`] is where nobody experiments. With 16 MiB, five nodes on two processors that others
/// used too took each other for silent now and then.
pub const WINDOW_BYTES: usize = 4 << 20;
/// Bytes that the smallest operation takes of it, for its messages and what is known of it: so 4,096 have a place.
const COST_MIN: usize = 1024;

/// What is taken of the window, and the line before it.
#[derive(Debug, Default)]
pub struct Window {
    used: usize,
    line: VecDeque<(Token, usize)>,
}

impl Window {
    /// Operations in line.
    pub fn in_line(&self) -> usize {
        self.line.len()
    }

    /// Bytes that are taken.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used
    }

    /// One that needs more than there is begins alone.
    fn has_room(&self, cost: usize, max: usize) -> bool {
        self.used == 0 || self.used + cost <= max
    }

    /// Takes the first in line that there is room for.
    fn next(&mut self, max: usize) -> Option<Token> {
        let (token, cost) = *self.line.front()?;
        self.has_room(cost, max).then(|| self.line.pop_front()).map(|_| token)
    }

    /// An operation's place is free, where it had one.
    pub fn leave(&mut self, op: &mut Op) {
        if op.placed_us.take().is_some() {
            self.used -= op.cost();
        }
    }
}

impl Node {
    /// Gives an operation that has just come its place, or puts it in line. Whether it may begin.
    pub(super) fn finds_place(&mut self, token: Token) -> bool {
        let (now_us, max) = (NonZeroU64::new(self.now.mono_us.max(1)), self.id.window_bytes);
        let Some(op) = self.tasks.op(token) else { return false };
        if let Origin::Peer { .. } | Origin::Nobody = op.origin {
            // It has its place where the client is.
            return true;
        }
        let begins = self.window.line.is_empty() && self.window.has_room(op.cost(), max);
        if begins {
            op.placed_us = now_us;
            self.window.used += op.cost();
        } else {
            op.stage = OpStage::InLine;
            self.window.line.push_back((token, op.cost()));
        }
        begins
    }

    /// Begins what is in line, as far as there is room.
    pub(super) fn admit(&mut self) {
        while let Some(ring) = self.ring.clone()
            && let Some(token) = self.window.next(self.id.window_bytes)
        {
            let now_us = NonZeroU64::new(self.now.mono_us.max(1));
            let Some(op) = self.tasks.op(token) else { continue };
            (op.placed_us, op.stage) = (now_us, OpStage::Waiting);
            self.window.used += op.cost();
            let key = op.op.key().clone();
            self.coordinate(token, &ring, key);
        }
    }

    /// Takes their places from those that wait for silent nodes, and forgets those in line that were given up.
    pub(super) fn tend_window(&mut self) {
        let Node { tasks, window, pace, now, id, .. } = self;
        let silent = |name: &NodeName| *name != id.name && !pace.answers(*now, *name);
        let long = |op: &&mut Op| op.placed_us.is_some_and(|at| at.get() + RESEND_MS * 1000 <= now.mono_us);
        for op in tasks.ops().filter(long) {
            if waits_in_vain(op, silent) {
                window.leave(op);
            }
        }
        window.line.retain(|(token, _)| tasks.op(*token).is_some());
    }

    /// Why one that has been in line too long is refused.
    pub(super) fn no_place(&self, waited_ms: u32) -> Failure {
        let text = format!(
            "{} has {} bytes of requests under way and {} requests in line, {waited_ms} ms in line are allowed: try again \
             later, ask for less at once, or other nodes too",
            self.id.name,
            self.window.used,
            self.window.in_line(),
        );
        Failure::new(Code::Overloaded, text)
    }
}

impl Op {
    /// Bytes of the window that it takes.
    fn cost(&self) -> usize {
        self.bytes.max(COST_MIN)
    }
}

/// Whether an operation cannot end before a silent node answers, or waits for a write that may not.
fn waits_in_vain(op: &Op, silent: impl Fn(&NodeName) -> bool) -> bool {
    let without = |quorum: &Quorum| {
        let mut left = quorum.clone();
        for name in quorum.silent().filter(|name| silent(name)) {
            left.no(name);
        }
        left.verdict() == Verdict::Impossible
    };
    match &op.stage {
        OpStage::Forwarded { to } => silent(to),
        OpStage::Writing(writing) => without(&writing.quorum),
        OpStage::Gathering(gathering) => without(gathering.waits_for()),
        OpStage::Reading { .. } => true,
        OpStage::InLine | OpStage::Waiting | OpStage::Ended { .. } => false,
    }
}
