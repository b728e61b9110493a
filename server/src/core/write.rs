//! PUT, INSERT, UPDATE and DELETE at the owner that coordinates: a new version, made durable here and elsewhere.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::{Code, Condition, Failure, KeyOp, Level, Outcome};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::{Quorum, Verdict};
use ringkv_common::ring::{Ring, Route};
use ringkv_common::version::{Content, Siblings, Version};
use smallvec::SmallVec;

use super::Node;
use super::effect::{Effect, Token};
use super::task::{Op, OpStage, Task, Writing};

/// Writes at most that go on though their clients were told that time is up.
const UNSETTLED_MAX: usize = 4096;

impl Node {
    pub(super) fn proceed_write(&mut self, token: Token, key: &Key) {
        let Some(Op { op: KeyOp::Write(write), .. }) = self.tasks.op(token) else { return };
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let state = busy.state.as_mut().expect("the caller has seen to it");
        let request = write.request.unwrap_or(0);
        let exists = !state.values().is_empty();
        match write.condition {
            // Done before: only what is held is made durable and told again.
            _ if state.of_request(request).is_some() || self.requests.knows(key, request) => {}
            Condition::Absent if exists => {
                let failure = Failure::new(Code::KeyExists, "the key has a value: UPDATE or PUT it");
                return self.show(token, key, Outcome::Failed(failure));
            }
            Condition::Present if !exists => {
                let failure = self.not_found(key);
                return self.show(token, key, Outcome::Failed(failure));
            }
            _ if self.unsettled >= UNSETTLED_MAX => {
                let text = format!(
                    "{UNSETTLED_MAX} writes wait at {} for owners that do not answer, try again later",
                    self.id.name
                );
                return self.fail(token, Failure::new(Code::Overloaded, text));
            }
            _ => {
                let context = write.context.as_deref();
                if let Some(context) = context {
                    let (bytes, bytes_max) =
                        (write.content.bytes().len(), self.id.limits.siblings_bytes_max());
                    if let Err(error) = state.room(context, bytes, bytes_max) {
                        return self.fail(token, Failure::new(Code::TooLarge, error.to_string()));
                    }
                }
                self.author.outgrow(&state.clock);
                if let Some(context) = context {
                    self.author.outgrow(&context.clock);
                }
                let version = Version {
                    dot: self.author.dot(),
                    stamp: self.clock.stamp(self.now, state.stamp_max()),
                    request,
                    contextual: context.is_some(),
                    // The value goes into the state: the task needs it no more.
                    content: std::mem::replace(&mut write.content, Content::Tombstone),
                };
                state.write(context, version);
            }
        }
        let siblings = state.clone();
        busy.writes.push((token, SmallVec::new()));
        self.replicate(token, key, siblings, request);
    }

    /// Makes a key's new state durable here and tells the other owners.
    fn replicate(&mut self, token: Token, key: &Key, siblings: Siblings, request: u64) {
        let Some(op) = self.tasks.op(token) else { return };
        let context = op.terms.want.context.then(|| Box::new(siblings.context()));
        let (w, deadline_us) = (op.terms.write, op.deadline_us);
        let writing = Writing {
            told: None,
            quorum: Quorum::default(),
            durable_here: false,
            context,
            nodes: SmallVec::new(),
        };
        op.stage = OpStage::Writing(Box::new(writing));
        let resend_us = self.now.mono_us + op.attempts.patience_us();
        self.requests.begun(self.now, key, request);
        if self.ask_owners(token, key, w) {
            self.tasks.alarm(token, resend_us.min(deadline_us));
        }
        self.membership.holds(key, self.ring.as_deref());
        self.out.push(Effect::Persist { token, key: key.clone(), siblings });
    }

    /// Counts the write's quorum anew under the ring as it is, and tells the owners elsewhere. Whether there are any.
    fn ask_owners(&mut self, token: Token, key: &Key, w: Option<Level>) -> bool {
        let Some(ring) = &self.ring else { return false };
        let route = ring.route(key.partition(ring.partitions));
        let (others, name) = (others(ring, &route, self.id.name), self.id.name);
        let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), .. }) = self.tasks.op(token)
        else {
            return false;
        };
        writing.quorum = quorum_of(ring, &route, w);
        writing.nodes.clear();
        if writing.durable_here {
            writing.quorum.yes(name);
        }
        let request = write.request.unwrap_or(0);
        self.tell_state(token, key, request, &others);
        !others.is_empty()
    }

    /// A write that is under way needs the new ring's quorum.
    pub(super) fn recount(&mut self, token: Token, key: &Key, w: Option<Level>) {
        let told = self.ask_owners(token, key, w);
        let now_us = self.now.mono_us;
        if let Some(op) = self.tasks.op(token)
            && told
        {
            op.attempts.anew();
            let at = (now_us + op.attempts.patience_us()).min(op.deadline_us);
            self.tasks.alarm(token, at);
        }
        self.settle(token);
    }

    /// Sends a key's state to other owners, and keeps it for whom it does not reach.
    fn tell_state(&mut self, token: Token, key: &Key, request: u64, to: &[NodeName]) {
        let Some(first) = to.first() else { return };
        debug_assert_ne!(*first, self.id.name);
        let epoch = self.epoch();
        // What is held now may include later writes. They are told again, and change nothing.
        let held = self.keys.get(key).and_then(|b| b.state.clone());
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        if let Some(held) = held {
            writing.told = Some(Box::new(held));
        }
        let Some(state) = writing.told.clone() else { return };
        for name in to {
            let (key, siblings) = (key.clone(), (*state).clone());
            self.send(*name, Message::Replicate { id: token, epoch, key, siblings, request });
        }
    }

    /// A silent owner may not have heard, or its answer was lost: the write is told again, it is idempotent.
    pub(super) fn resend(&mut self, token: Token) {
        let (now_us, name) = (self.now.mono_us, self.id.name);
        let Some(Op {
            op: KeyOp::Write(write), stage: OpStage::Writing(writing), deadline_us, attempts, ..
        }) = self.tasks.op(token)
        else {
            return;
        };
        let silent: SmallVec<[NodeName; 3]> = writing.quorum.silent().filter(|n| *n != name).collect();
        let (key, request) = (write.key.clone(), write.request.unwrap_or(0));
        let at = (now_us + attempts.patience_us()).min(*deadline_us);
        attempts.hurried = false;
        self.tell_state(token, &key, request, &silent);
        self.tasks.alarm(token, at);
    }

    pub(super) fn on_persisted(&mut self, token: Token) {
        if let Some(Task::Absorb(_)) = self.tasks.get(token) {
            return self.absorbed(token);
        }
        let Some(key) = self.key_of(token) else { return self.on_dropped(token) };
        if let Some(Task::Join(_)) = self.tasks.get(token) {
            self.show_settled(token, &key);
            return self.joined(token);
        }
        let name = self.id.name;
        if let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), .. }) =
            self.tasks.op(token)
        {
            writing.durable_here = true;
            self.requests.durable(&key, write.request.unwrap_or(0));
        }
        self.acknowledged(token, name);
    }

    /// A replica has made a write durable.
    pub(super) fn acknowledged(&mut self, token: Token, by: NodeName) {
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        writing.quorum.yes(by);
        if !writing.nodes.contains(&by) {
            writing.nodes.push(by);
        }
        self.settle(token);
    }

    /// Ends what waited to show a write.
    pub(super) fn show_settled(&mut self, write: Token, key: &Key) {
        for reader in self.keys.settled(key, write) {
            if let Some(Op { stage: OpStage::Reading { outcome }, .. }) = self.tasks.op(reader) {
                let outcome = std::mem::replace(outcome, Outcome::Stored { context: None });
                self.finish(reader, outcome);
            }
        }
    }

    /// Ends a write that has its quorums.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(Op { op, stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        // Durable here first: else a later read here could show less than was acknowledged.
        if writing.quorum.verdict() != Verdict::Enough || !writing.durable_here {
            return;
        }
        let (key, context) = (op.key().clone(), writing.context.take());
        self.show_settled(token, &key);
        self.finish(token, Outcome::Stored { context });
    }
}

/// Replicas that a level asks for among `of`.
fn needed(level: Option<Level>, of: usize) -> usize {
    match level.unwrap_or(Level::Quorum) {
        Level::One => 1,
        Level::Quorum => of / 2 + 1,
        Level::All => of,
        Level::Count(n) => n as usize,
    }
}

fn quorum_of(ring: &Ring, route: &Route, w: Option<Level>) -> Quorum {
    let quorum = Quorum::new(ring.names(route.writers), needed(w, route.writers.len()));
    match route.also {
        Some((row, true)) => quorum.and(ring.names(row), needed(w, row.len())),
        _ => quorum,
    }
}

/// The owners elsewhere, each once.
fn others(ring: &Ring, route: &Route, me: NodeName) -> SmallVec<[NodeName; 3]> {
    let mut others: SmallVec<[NodeName; 3]> = SmallVec::new();
    let also = route.also.map_or(&[][..], |(row, _)| row);
    for name in ring.names(route.writers).chain(ring.names(also)) {
        if name != me && !others.contains(&name) {
            others.push(name);
        }
    }
    others
}
