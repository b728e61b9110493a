//! What goes on when the client has its answer: owners that lack a state are told it until they have it, or somebody
//! stands in for them. Who still lacks it then gets it by anti-entropy.
//!
//! Such a task keeps the number of the operation that it comes from, so that answers under way still count.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;
use ringkv_common::version::Siblings;
use smallvec::SmallVec;

use super::effect::Token;
use super::pace::Told;
use super::quorums::{Recipient, Row};
use super::task::{TASKS_MAX, Task};
use super::{Node, RESEND_MS, WAITING_BYTES_MAX};
use crate::store::Measure;

/// How often a silent owner is told again.
const TRIES_MAX: u32 = 3;

/// A state on its way to owners that lack it.
#[derive(Debug)]
pub struct Spread {
    pub key: Key,
    pub state: Siblings,
    /// The digest of what it followed; 0 where that is not known.
    pub base: u64,
    /// The request id behind it, 0 where there is none.
    pub request: u64,
    /// Counts what was told under the task's number: of earlier answers none counts.
    pub round: u32,
    /// The number of what they were told.
    pub told: Told,
    /// The owners that have not said that they have it.
    pub waiting: Row,
    /// Owners that were asked what they hold, and have not said.
    pub asked: Row,
    /// Who stands in for whom.
    pub stand_ins: SmallVec<[Recipient; 1]>,
    /// Whether somebody may.
    pub hints: bool,
    pub tries: u32,
}

impl Spread {
    fn bytes(&self) -> usize {
        Measure::of(&self.key, &self.state).bytes as usize
    }
}

impl Node {
    /// Goes on telling after an operation has ended, in whose place the task stands. Where much waits already, it is left to
    /// anti-entropy.
    pub(super) fn spread(&mut self, token: Token, spread: Spread) -> Option<Task> {
        let room = self.tasks.len() < TASKS_MAX / 2 && self.waiting_bytes < WAITING_BYTES_MAX / 2;
        if !room || spread.waiting.is_empty() && spread.asked.is_empty() {
            return self.tasks.take(token);
        }
        self.waiting_bytes += spread.bytes();
        self.tasks.alarm(token, self.now.after_ms(RESEND_MS));
        self.tasks.replace(token, Task::Spread(Box::new(spread)))
    }

    /// Somebody has it.
    pub(super) fn spread_to(&mut self, token: Token, by: NodeName, round: u32) {
        let Some(Task::Spread(spread)) = self.tasks.get(token) else { return };
        if spread.round != round {
            return;
        }
        self.pace.answered(self.now, by, spread.told);
        let stood_in_for = spread.stand_ins.iter().find(|(to, _)| *to == by).map(|(_, owner)| *owner);
        spread.waiting.retain(|name| *name != by && Some(*name) != stood_in_for);
        if spread.waiting.is_empty() && spread.asked.is_empty() {
            self.end_spread(token);
        }
    }

    /// An owner says late what it holds: one that lacks something is told.
    pub(super) fn spread_heard(&mut self, token: Token, from: NodeName, siblings: Option<Siblings>) {
        let epoch = self.epoch();
        let Some(Task::Spread(spread)) = self.tasks.get(token) else { return };
        if !spread.asked.contains(&from) {
            return;
        }
        spread.asked.retain(|name| *name != from);
        let lacks = siblings.is_some_and(|mut theirs| theirs.join(&spread.state));
        if lacks {
            let (key, siblings, round) = (spread.key.clone(), spread.state.clone(), spread.round);
            spread.waiting.push(from);
            self.send(
                from,
                Message::Replicate { id: token, epoch, key, siblings, base: 0, request: 0, round },
            );
        } else if spread.waiting.is_empty() && spread.asked.is_empty() {
            self.end_spread(token);
        }
    }

    /// Somebody was silent: it is told again, and somebody else in its place.
    pub(super) fn spread_again(&mut self, token: Token) {
        let Some(ring) = self.ring.clone() else { return };
        let Some(Task::Spread(spread)) = self.tasks.get(token) else { return };
        let (now, told, pace) = (self.now, spread.told, &self.pace);
        let silent: Row = spread.waiting.iter().copied().filter(|n| !pace.comes_to(now, *n, told)).collect();
        spread.tries += u32::from(!silent.is_empty() || spread.waiting.is_empty());
        let over = spread.tries > TRIES_MAX || spread.waiting.is_empty();
        let again_us = self.now.after_ms(RESEND_MS << spread.tries.min(3));
        let (key, state) = (spread.key.clone(), spread.state.clone());
        let (base, request, round) = (spread.base, spread.request, spread.round);
        let (mut stand_ins, hints) = (spread.stand_ins.clone(), spread.hints);
        if over {
            return self.end_spread(token);
        }
        let (epoch, partition) = (self.epoch(), key.partition(ring.partitions));
        let mut to: SmallVec<[NodeName; 6]> = SmallVec::new();
        for owner in silent {
            to.push(owner);
            let stands_in = stand_ins.iter().any(|(_, absent)| *absent == owner);
            if let Some(name) = Some(())
                .filter(|()| hints && !stands_in)
                .and_then(|()| self.stand_in(&ring, partition, &stand_ins))
            {
                stand_ins.push((name, owner));
                to.push(name);
            }
        }
        for name in to {
            let (key, siblings) = (key.clone(), state.clone());
            self.send(name, Message::Replicate { id: token, epoch, key, siblings, base, request, round });
        }
        if let Some(Task::Spread(spread)) = self.tasks.get(token) {
            spread.stand_ins = stand_ins;
        }
        self.tasks.alarm(token, again_us);
    }

    pub(super) fn end_spread(&mut self, token: Token) {
        if let Some(Task::Spread(spread)) = self.tasks.take(token) {
            self.waiting_bytes -= if bug::on(Bug::LeaksBytes) { 0 } else { spread.bytes() };
        }
    }
}
