//! States that others tell: joined into what is held, made durable, and then acknowledged.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::{Id, Message, Taken};
use ringkv_common::message::{Code, Failure};
use ringkv_common::name::NodeName;
use ringkv_common::time::{Now, Stamp};
use ringkv_common::version::Siblings;
use smallvec::SmallVec;

use super::Node;
use super::effect::{Effect, Token};
use super::keys::Turn;
use super::task::{Join, Task};
use super::twins::{hides, join_without, take_late, taken_out, unseen};
use crate::store::Measure;

/// Milliseconds that a stamp may be ahead: a day, unless the key has such a one already. Nothing could be written above the
/// last stamp that there is.
const STAMP_AHEAD_MS_MAX: u64 = 86_400_000;

/// Who has a state joined, and hears when it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Another node, by its number there.
    Peer {
        /// Who.
        from: NodeName,
        /// Its number there.
        id: Id,
        /// Its count.
        round: u32,
    },
    /// A read of this node, which found that this node lacks something.
    Own {
        /// Its task.
        token: Token,
        /// Its count.
        round: u32,
    },
}

impl Node {
    pub(super) fn on_replicate(
        &mut self,
        sender: Sender,
        epoch: u64,
        key: Key,
        siblings: Siblings,
        (base, request): (u64, u64),
    ) {
        let Sender::Peer { from, id, round } = sender else { return };
        if !self.same_epoch(from, id, epoch) {
            return;
        }
        if self.is_open(from, id) || self.overloaded(from, id) {
            return;
        }
        let bytes = Measure::of(&key, &siblings).bytes as usize;
        if bug::on(Bug::DropsHints) && self.is_hint(&key) {
            return self.send(from, Message::Replicated { id, round, taken: Taken::All });
        }
        if let Some(why) = self.no_room_for_hint(&key, bytes) {
            let failure = Failure::new(Code::Overloaded, why);
            return self.send(from, Message::Failed { id, failure });
        }
        self.open.insert((from, id));
        self.join(Join { key, siblings, bytes, from: sender, base, request, taken: Taken::All });
    }

    /// Joins a state that a coordinator told into what is held.
    pub(super) fn join(&mut self, join: Join) {
        self.waiting_bytes += join.bytes;
        let key = join.key.clone();
        let token = self.tasks.add(Task::Join(Box::new(join)));
        match self.keys.enter(&key, token) {
            Turn::Read => self.out.push(Effect::Read { token, key }),
            Turn::Now => self.proceed(token, &key),
            Turn::Later => {}
            // Not done: its coordinator hears nothing and tells it again.
            Turn::Full => drop(self.end_join(token)),
        }
    }

    pub(super) fn proceed_join(&mut self, token: Token) {
        let Some(Task::Join(join)) = self.tasks.get(token) else { return };
        let (key, mut news) = (join.key.clone(), std::mem::take(&mut join.siblings));
        let (base, request) = (join.base, join.request);
        let busy = self.keys.get(&key).expect("the caller has seen to it");
        let state = busy.state.as_mut().expect("the caller has seen to it");
        let far = |siblings: &Siblings, now: Now| {
            siblings.stamp_max().wall_ms().saturating_sub(now.wall_ms) > STAMP_AHEAD_MS_MAX
        };
        if far(&news, self.now) && !far(state, self.now) {
            return self.refuse_stamp(token, news.stamp_max());
        }
        let follows = state.digest() == base;
        let late = take_late(&key, state, &mut news, &self.requests, None);
        if base != 0 && late.is_empty() && hides(state, &news) {
            // Its writer does it once more above what it had not seen. Until then it was not done.
            let taken = Taken::Beside(Box::new(state.clone()));
            if let Some(Task::Join(join)) = self.tasks.get(token) {
                (join.taken, join.request) = (taken, 0);
            }
            return self.joined(token);
        }
        // Its actor wrote later, or a client made that up: the actor knows.
        let overtaken = base != 0
            && news.versions.iter().any(|version| {
                state.clock.counter(version.dot.actor) > version.dot.counter
                    && !state.versions.iter().any(|held| held.dot == version.dot)
            });
        let gone = taken_out(state, &news);
        let before = if state.is_empty() { 0 } else { Measure::of(&key, state).bytes };
        let changed = join_without(&late, state, &news, &mut self.author);
        if changed && !follows {
            self.requests.missed(self.now, &key);
        }
        let taken = match (!late.is_empty() || gone || overtaken, unseen(state, &news)) {
            (true, _) => Taken::Late(Box::new(state.clone())),
            (_, true) => Taken::Beside(Box::new(state.clone())),
            _ => Taken::All,
        };
        self.requests.told(self.now, &key, request);
        self.requests.saw(self.now, &key, &news);
        if let Some(Task::Join(join)) = self.tasks.get(token) {
            join.taken = taken;
        }
        if !changed && busy.writes.is_empty() {
            return self.joined(token);
        }
        let gained = Measure::of(&key, state).bytes.saturating_sub(before);
        let siblings = state.clone();
        // Unchanged but not durable yet: it is persisted again rather than tied to another write's fate.
        busy.writes.push((token, SmallVec::new()));
        self.keeps_hint(&key, gained);
        self.membership.holds(&key, self.ring.as_deref());
        self.out.push(Effect::Persist { token, key, siblings });
        bug::on(Bug::OwnerAcksBeforeDurable).then(|| self.on_persisted(token));
    }

    fn refuse_stamp(&mut self, token: Token, stamp: Stamp) {
        self.membership.counters.stamps += 1;
        let Some(join) = self.end_join(token) else { return };
        let Sender::Peer { from, id, .. } = join.from else { return };
        let ahead_ms = stamp.wall_ms().saturating_sub(self.now.wall_ms);
        let text = format!(
            "the stamp is {ahead_ms} ms ahead of the clock of {}, {STAMP_AHEAD_MS_MAX} are allowed",
            self.id.name
        );
        self.send(from, Message::Failed { id, failure: Failure::new(Code::BadRequest, text) });
    }

    pub(super) fn joined(&mut self, token: Token) {
        let Some(join) = self.end_join(token) else { return };
        self.requests.durable(&join.key, join.request);
        match join.from {
            Sender::Peer { from, id, round } => {
                self.send(from, Message::Replicated { id, round, taken: join.taken });
            }
            Sender::Own { token, round } => self.acknowledged(token, self.id.name, round, join.taken),
        }
    }

    fn end_join(&mut self, token: Token) -> Option<Join> {
        let Some(Task::Join(join)) = self.tasks.take(token) else { return None };
        self.waiting_bytes -= join.bytes;
        if let Sender::Peer { from, id, .. } = join.from {
            self.open.remove(&(from, id));
        }
        Some(*join)
    }
}
