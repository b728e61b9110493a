//! The records that a pull fetched, joined into what is held: read together, joined one by one, made durable together.
//!
//! Each has its turn in its key's line, like any operation; only the store is asked once for all of them. That is what
//! makes a move fast: a task and two effects for each record cost more than the joins.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Record;
use smallvec::SmallVec;

use super::Node;
use super::effect::{Effect, Token};
use super::keys::Turn;
use super::task::Task;
use super::twins::{join_without, take_late};
use crate::store::Measure;

/// Records on their way into the store.
#[derive(Debug)]
pub struct Absorb {
    pull: Token,
    /// What came, in key order; a state is taken out at its key's turn.
    news: Vec<Record>,
    /// Keys that have not had their turn, and one more until all stand in line.
    waiting: usize,
    /// Those whose state is to be made durable.
    changed: Vec<Key>,
    /// Of keys and values, while they wait.
    bytes: usize,
}

impl Absorb {
    /// The keys of what came.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.news.iter().map(|(key, _)| key)
    }
}

impl Node {
    /// Joins what a pull fetched; the pull goes on when all of it is durable.
    pub(super) fn absorb(&mut self, pull: Token, mut news: Vec<Record>) {
        news.sort_by(|a, b| a.0.cmp(&b.0));
        news.dedup_by(|later, first| later.0 == first.0 && (first.1.join(&later.1), true).1);
        let bytes = news.iter().map(|(key, siblings)| Measure::of(key, siblings).bytes as usize).sum();
        self.waiting_bytes += bytes;
        let keys: Vec<Key> = news.iter().map(|(key, _)| key.clone()).collect();
        let absorb = Absorb { pull, news, waiting: keys.len() + 1, changed: Vec::new(), bytes };
        let token = self.tasks.add(Task::Absorb(Box::new(absorb)));
        let mut unread = Vec::with_capacity(keys.len());
        for key in keys {
            match self.keys.enter(&key, token) {
                Turn::Read => unread.push(key),
                Turn::Now => self.proceed(token, &key),
                Turn::Later => {}
                Turn::Full => {
                    self.not_pulled(pull);
                    self.had_turn(token);
                }
            }
        }
        if !unread.is_empty() {
            self.out.push(Effect::ReadMany { keys: unread });
        }
        self.had_turn(token);
    }

    /// The states of several keys were read: those in line for each have their turns.
    pub(super) fn on_read_many(&mut self, records: Vec<Record>) {
        for (key, siblings) in records {
            self.loaded(&key, siblings);
        }
    }

    pub(super) fn proceed_absorb(&mut self, token: Token, key: &Key) {
        let Some(Task::Absorb(absorb)) = self.tasks.get(token) else { return };
        let at = absorb.news.binary_search_by(|(held, _)| held.cmp(key)).expect("it is in line for its own");
        let (pull, mut news) = (absorb.pull, std::mem::take(&mut absorb.news[at].1));
        let returns = self.returns_after_loss(pull);
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let state = busy.state.as_mut().expect("the caller has seen to it");
        let follows = state.is_empty();
        let since_loss = returns.then_some(self.id.actor);
        let late = take_late(key, state, &mut news, &self.requests, since_loss);
        let changed = join_without(&late, state, &news, &mut self.author);
        if changed && !follows {
            self.requests.missed(self.now, key);
        }
        // Unchanged but not durable yet: it is persisted again rather than tied to another write's fate.
        if changed || !busy.writes.is_empty() {
            busy.writes.push((token, SmallVec::new()));
            self.membership.holds(key, self.ring.as_deref());
            if let Some(Task::Absorb(absorb)) = self.tasks.get(token) {
                absorb.changed.push(key.clone());
            }
        }
        self.had_turn(token);
    }

    /// One more key had its turn; after the last one what changed is made durable.
    fn had_turn(&mut self, token: Token) {
        let Some(Task::Absorb(absorb)) = self.tasks.get(token) else { return };
        absorb.waiting -= 1;
        if absorb.waiting > 0 {
            return;
        }
        if absorb.changed.is_empty() {
            return self.absorbed(token);
        }
        // As they are now: a later write of a key may be in the store already.
        let mut record = |key: &Key| {
            let busy = self.keys.get(key).expect("a write that is not settled keeps its key");
            (key.clone(), busy.state.clone().expect("what was joined was read"))
        };
        let records = absorb.changed.iter().map(&mut record).collect();
        self.out.push(Effect::PersistMany { token, records });
    }

    /// All that came is durable here.
    pub(super) fn absorbed(&mut self, token: Token) {
        let Some(Task::Absorb(absorb)) = self.tasks.take(token) else { return };
        self.waiting_bytes -= absorb.bytes;
        for key in &absorb.changed {
            self.show_settled(token, key);
        }
        self.pull_step(absorb.pull);
    }
}
