//! Operations on one key, from a client's message to its reply: here where this node owns the key, else by its owner.

use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::request::parse;
use ringkv_common::message::{
    Code, Condition, Failure, Found, Frames, KeyOp, Level, Operation, Outcome, Receipt, Terms, Write,
};
use ringkv_common::name::NodeName;
use ringkv_common::quorum::{Quorum, Verdict};
use ringkv_common::ring::{Ring, Route};
use ringkv_common::version::{Siblings, Version};
use smallvec::SmallVec;

use super::effect::{Client, Effect, Token};
use super::keys::{LINE_MAX, Turn};
use super::task::{Gather, Op, OpStage, Origin, TASKS_MAX, Task, Writing};
use super::{Node, WAITING_BYTES_MAX};

/// Silence after which a message to a peer is repeated, in milliseconds.
const RESEND_MS: u64 = 300;

impl Node {
    pub(super) fn on_request(&mut self, client: Client, body: &[u8], value: Option<&[u8]>) {
        let request = match parse(body, value, &self.id.limits) {
            Ok(request) => request,
            Err((id, failure)) => return self.refuse(client, id.as_deref(), &failure),
        };
        if self.tasks.full() || self.waiting_bytes > WAITING_BYTES_MAX {
            let text = format!(
                "{} requests with {} bytes wait at {}: {TASKS_MAX} and {WAITING_BYTES_MAX} are allowed, try again later",
                self.tasks.len(),
                self.waiting_bytes,
                self.id.name
            );
            return self.refuse(client, request.id.as_deref(), &Failure::new(Code::Overloaded, text));
        }
        let (id, terms) = (request.id, request.terms);
        match request.operation {
            Operation::One(op) => self.begin(Origin::Client { client, id }, op, terms),
            Operation::Many(ops) => self.begin_many(client, id, terms, ops),
            Operation::GetAll(scope, page) => self.begin_get_all(client, id, terms, scope, page),
            Operation::ShowAll(page) => self.begin_show_all(client, id, terms, page),
            Operation::Search(key) => self.begin_search(client, id, terms, key),
            Operation::Explain(key) => self.explain(client, id, terms, &key),
            Operation::Status { ring } => self.begin_status(client, id, ring),
            Operation::Ping => {
                self.reply(client, |envelope| reply::ok(&envelope), id.as_deref(), terms, None)
            }
            Operation::Consent(question) => self.on_consent(client, id, terms, question),
            Operation::AcceptLoss => self.accept_loss(client, id, terms),
        }
    }

    fn begin_many(
        &mut self,
        client: Client,
        id: Option<Box<str>>,
        terms: Terms,
        ops: Vec<Result<KeyOp, Failure>>,
    ) {
        let gather = Gather {
            client,
            id,
            terms,
            keys: reply::keys_of(&ops),
            outcomes: vec![Outcome::Stored { context: None }; ops.len()],
            open: ops.len() + 1,
        };
        let token = self.tasks.add(Task::Gather(Box::new(gather)));
        for (slot, op) in ops.into_iter().enumerate() {
            let origin = Origin::Many { gather: token, slot };
            match op {
                Ok(op) if !self.tasks.full() => self.begin(origin, op, terms),
                Ok(_) => {
                    let text = format!("{TASKS_MAX} requests wait at {}, try again later", self.id.name);
                    self.conclude(
                        origin,
                        terms,
                        None,
                        Outcome::Failed(Failure::new(Code::Overloaded, text)),
                        &[],
                    );
                }
                Err(failure) => self.conclude(origin, terms, None, Outcome::Failed(failure), &[]),
            }
        }
        self.gathered(token, None);
    }

    /// Begins an operation: coordinates it where this node may, else has its owner do so.
    pub(super) fn begin(&mut self, origin: Origin, op: KeyOp, terms: Terms) {
        let Some(ring) = self.ring.clone() else {
            let failure =
                Failure::new(Code::NotReady, format!("{} has no ring yet, try again soon", self.id.name));
            return self.conclude(origin, terms, Some(op.key()), Outcome::Failed(failure), &[]);
        };
        if let Some(failure) = impossible(&ring, &op, &terms) {
            return self.conclude(origin, terms, Some(op.key()), Outcome::Failed(failure), &[]);
        }
        let deadline_us = self.now.after_ms(u64::from(terms.timeout_ms));
        self.waiting_bytes += bytes_of(&op);
        let key = op.key().clone();
        let token = self.tasks.add(Task::Op(Op { origin, op, terms, deadline_us, stage: OpStage::Waiting }));
        self.coordinate(token, &ring, &key);
    }

    /// Goes on with an operation that no replica has seen yet, under the ring as it is.
    pub(super) fn coordinate(&mut self, token: Token, ring: &Ring, key: &Key) {
        let partition = key.partition(ring.partitions);
        let readers = ring.readers(partition);
        if self.me.is_none_or(|me| !readers.contains(&me)) {
            let owner = ring.node(readers[0]).name;
            return self.forward(token, owner);
        }
        if let Some(why) = self.not_serving(partition) {
            return self.fail(token, Failure::new(Code::NotReady, why));
        }
        match self.keys.enter(key, token) {
            Turn::Read => self.out.push(Effect::Read { token, key: key.clone() }),
            Turn::Now => self.proceed(token, key),
            Turn::Later => {}
            Turn::Full => {
                let text =
                    format!("{LINE_MAX} operations wait for this key at {}, try again later", self.id.name);
                self.fail(token, Failure::new(Code::Overloaded, text));
            }
        }
    }

    /// The key's state is known to `keys`: does the operation.
    pub(super) fn proceed(&mut self, token: Token, key: &Key) {
        let reads = self.reads_for(key);
        match self.tasks.get(token) {
            // The ring changed while the key was read: somebody else coordinates by now.
            Some(Task::Op(_)) if !reads => self.coordinate_again(token),
            Some(Task::Op(Op { op: KeyOp::Read(_), terms, .. })) => {
                let context = terms.want.context;
                self.proceed_read(token, key, context);
            }
            Some(Task::Op(Op { op: KeyOp::Write(write), .. })) => {
                let write = write.clone();
                self.proceed_write(token, write);
            }
            Some(Task::Join(_)) => self.proceed_join(token),
            Some(Task::GivenUp(_)) => drop(self.tasks.take(token)),
            Some(Task::InspectKey(_)) => self.proceed_inspect(token, key),
            _ => {}
        }
    }

    fn reads_for(&self, key: &Key) -> bool {
        let readers = self.ring.as_ref().map(|r| r.readers(key.partition(r.partitions)));
        readers.zip(self.me).is_some_and(|(readers, me)| readers.contains(&me))
    }

    fn proceed_read(&mut self, token: Token, key: &Key, context: bool) {
        let state = self.keys.get(key).and_then(|b| b.state.as_ref()).expect("the caller has seen to it");
        let outcome = match found(state, context) {
            Some(found) => Outcome::Found(found),
            None => Outcome::Failed(self.not_found(key)),
        };
        if self.keys.shows_durable(key, token) {
            self.finish(token, outcome);
        } else if let Some(op) = self.tasks.op(token) {
            op.stage = OpStage::Reading { outcome };
        }
    }

    /// The failure of a read that found nothing.
    fn not_found(&self, key: &Key) -> Failure {
        let lost = self.ring.as_ref().is_some_and(|r| self.membership.is_lost(key.partition(r.partitions)));
        let hint = if lost { ": its partition lost its data with a node's memory" } else { "" };
        let shown: String = key.text().chars().take(64).collect();
        Failure {
            lost,
            ..Failure::new(Code::KeyNotFound, format!("nothing is stored under \"{shown}\"{hint}"))
        }
    }

    fn proceed_write(&mut self, token: Token, write: Write) {
        let key = write.key.clone();
        let mut next = self.keys.get(&key).and_then(|b| b.state.clone()).expect("the caller has seen to it");
        let request = write.request.unwrap_or(0);
        let repeated = next.of_request(request).is_some() || self.requests.knows(&key, request);
        let exists = !next.values().is_empty();
        let failure = match write.condition {
            _ if repeated => None,
            Condition::Absent if exists => {
                Some(Failure::new(Code::KeyExists, "the key has a value: UPDATE or PUT it"))
            }
            Condition::Present if !exists => Some(self.not_found(&key)),
            _ => None,
        };
        if let Some(failure) = failure {
            return self.finish(token, Outcome::Failed(failure));
        }
        let stamp = self.clock.stamp(self.now, next.stamp_max());
        if !repeated {
            self.outgrow(&next.clock);
            if let Some(context) = &write.context {
                self.outgrow(&context.clock);
            }
            let version = Version {
                dot: self.dot(),
                stamp,
                request,
                contextual: write.context.is_some(),
                content: write.content,
            };
            next.write(write.context.as_deref(), version);
        }
        self.replicate(token, &key, next, request);
    }

    /// Makes a new state durable here and tells the other owners.
    fn replicate(&mut self, token: Token, key: &Key, siblings: Siblings, request: u64) {
        let Some(op) = self.tasks.op(token) else { return };
        let outcome =
            Outcome::Stored { context: op.terms.want.context.then(|| Box::new(siblings.context())) };
        let (w, deadline_us) = (op.terms.write, op.deadline_us);
        let resend_us = self.now.after_ms(RESEND_MS);
        let writing = Writing {
            told: None,
            quorum: Quorum::default(),
            durable_here: false,
            outcome,
            nodes: SmallVec::new(),
        };
        op.stage = OpStage::Writing(Box::new(writing));
        let busy = self.keys.get(key).expect("the caller has seen to it");
        busy.state = Some(siblings.clone());
        busy.writes.push((token, SmallVec::new()));
        self.requests.begun(self.now, key, request);
        if self.ask_owners(token, key, w) {
            self.tasks.alarm(token, resend_us.min(deadline_us));
        }
        self.membership.holds(key, self.ring.as_deref());
        self.out.push(Effect::Persist { token, key: key.clone(), siblings });
    }

    /// Counts the write's quorum anew under the ring as it is, and tells the owners elsewhere. Whether there are any.
    pub(super) fn ask_owners(&mut self, token: Token, key: &Key, w: Option<Level>) -> bool {
        let Some(ring) = self.ring.clone() else { return false };
        let route = ring.route(key.partition(ring.partitions));
        let others = others(&route, self.id.name);
        let name = self.id.name;
        let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), .. }) = self.tasks.op(token)
        else {
            return false;
        };
        writing.quorum = quorum_of(&route, w);
        writing.nodes.clear();
        if writing.durable_here {
            writing.quorum.yes(name);
        }
        let request = write.request.unwrap_or(0);
        self.tell_state(token, key, request, &others);
        !others.is_empty()
    }

    /// Sends a key's state to other owners, and keeps it for whom it does not reach.
    fn tell_state(&mut self, token: Token, key: &Key, request: u64, to: &[NodeName]) {
        let Some(first) = to.first() else { return };
        debug_assert_ne!(*first, self.id.name);
        let epoch = self.epoch();
        // What is held now may include later writes. They are told again, and change nothing.
        let held = self.keys.get(key).and_then(|b| b.state.clone());
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        let Some(state) = held.or_else(|| writing.told.clone()) else { return };
        writing.told = Some(state.clone());
        for name in to {
            let (key, siblings) = (key.clone(), state.clone());
            self.send(*name, Message::Replicate { id: token, epoch, key, siblings, request });
        }
    }

    pub(super) fn on_read(&mut self, token: Token, siblings: Siblings) {
        let Some(key) = self.key_of(token) else { return };
        self.keys.loaded(&key, siblings);
        while let Some(next) = self.keys.next(&key) {
            self.proceed(next, &key);
        }
        self.keys.leave(&key);
    }

    /// The key that a task is in line for.
    fn key_of(&mut self, token: Token) -> Option<Key> {
        match self.tasks.get(token)? {
            Task::Op(op) => Some(op.op.key().clone()),
            Task::Join(join) => Some(join.key.clone()),
            Task::GivenUp(key) => Some(key.clone()),
            Task::InspectKey(inspect) => Some(inspect.key.clone()),
            _ => None,
        }
    }

    pub(super) fn on_persisted(&mut self, token: Token) {
        let Some(key) = self.key_of(token) else { return self.on_dropped(token) };
        for reader in self.keys.durable(&key, token) {
            if let Some(Op { stage: OpStage::Reading { outcome }, .. }) = self.tasks.op(reader) {
                let outcome = std::mem::replace(outcome, Outcome::Stored { context: None });
                self.finish(reader, outcome);
            }
        }
        self.keys.leave(&key);
        match self.tasks.get(token) {
            Some(Task::Join(_)) => return self.joined(token),
            Some(Task::GivenUp(_)) => return drop(self.tasks.take(token)),
            _ => {}
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

    /// Ends a write that has its quorums.
    pub(super) fn settle(&mut self, token: Token) {
        let Some(Op { stage: OpStage::Writing(writing), .. }) = self.tasks.op(token) else { return };
        // Durable here first: else a later read here could show less than was acknowledged.
        if writing.quorum.verdict() != Verdict::Enough || !writing.durable_here {
            return;
        }
        let outcome = std::mem::replace(&mut writing.outcome, Outcome::Stored { context: None });
        self.finish(token, outcome);
    }

    /// Ends an operation.
    pub(super) fn finish(&mut self, token: Token, outcome: Outcome) {
        if let Some(Task::Op(op)) = self.tasks.take(token) {
            self.tell_end(op, outcome);
        }
    }

    /// Ends an operation whose time is up. Where the store still works for it, a mark stays in its place: whoever is
    /// behind it in the key's line has to have its turn.
    pub(super) fn give_up(&mut self, token: Token, failure: Failure) {
        let Some(op) = self.tasks.op(token) else { return };
        let awaited = match &op.stage {
            OpStage::Waiting => true,
            OpStage::Writing(writing) => !writing.durable_here,
            OpStage::Forwarded { .. } | OpStage::Reading { .. } => false,
        };
        let key = op.op.key().clone();
        let ended =
            if awaited { self.tasks.replace(token, Task::GivenUp(key)) } else { self.tasks.take(token) };
        if let Some(Task::Op(op)) = ended {
            self.tell_end(op, Outcome::Failed(failure));
        }
    }

    fn tell_end(&mut self, op: Op, outcome: Outcome) {
        self.waiting_bytes -= bytes_of(&op.op);
        let me = [self.id.name];
        let nodes: SmallVec<[NodeName; 3]> = match op.stage {
            OpStage::Writing(writing) => writing.nodes,
            OpStage::Forwarded { to } => SmallVec::from_iter([to]),
            _ => SmallVec::from_slice(&me),
        };
        self.conclude(op.origin, op.terms, Some(op.op.key()), outcome, &nodes);
    }

    /// Ends an operation with an error.
    pub(super) fn fail(&mut self, token: Token, failure: Failure) {
        self.finish(token, Outcome::Failed(failure));
    }

    /// Tells whoever asked how it ended.
    pub(super) fn conclude(
        &mut self,
        origin: Origin,
        terms: Terms,
        key: Option<&Key>,
        outcome: Outcome,
        nodes: &[NodeName],
    ) {
        match origin {
            Origin::Peer { from, id } => {
                self.send(from, Message::Forwarded { id, outcome, nodes: nodes.to_vec() })
            }
            Origin::Many { gather, slot } => self.gathered(gather, Some((slot, outcome))),
            Origin::Client { client, id } => {
                let receipt = terms.want.receipt.then(|| Receipt {
                    nodes: nodes.to_vec(),
                    epoch: self.epoch(),
                    hinted: false,
                });
                let write = |envelope: Envelope| match (&outcome, key) {
                    (Outcome::Failed(failure), _) => reply::failure(failure, &envelope),
                    (outcome, Some(key)) => reply::one(key, outcome, &envelope),
                    (_, None) => reply::ok(&envelope),
                };
                self.reply(client, write, id.as_deref(), terms, receipt.as_ref());
            }
        }
    }

    /// One of many ended; when all have, their message is answered.
    fn gathered(&mut self, token: Token, one: Option<(usize, Outcome)>) {
        let Some(Task::Gather(gather)) = self.tasks.get(token) else { return };
        if let Some((slot, outcome)) = one {
            gather.outcomes[slot] = outcome;
        }
        gather.open -= 1;
        if gather.open > 0 {
            return;
        }
        let Some(Task::Gather(gather)) = self.tasks.take(token) else { return };
        let write = |envelope: Envelope| reply::many(&gather.keys, &gather.outcomes, &envelope);
        self.reply(gather.client, write, gather.id.as_deref(), gather.terms, None);
    }

    /// Answers a client.
    pub(super) fn reply(
        &mut self,
        client: Client,
        write: impl FnOnce(Envelope) -> Frames,
        id: Option<&str>,
        terms: Terms,
        receipt: Option<&Receipt>,
    ) {
        let epoch = self.epoch();
        let newer_epoch = terms.epoch.is_some_and(|e| e < epoch).then_some(epoch);
        let frames = write(Envelope { id, want: terms.want, newer_epoch, receipt });
        let frames = self.within_limit(frames, id);
        self.out.push(Effect::Reply { client, frames });
    }

    fn within_limit(&self, frames: Frames, id: Option<&str>) -> Frames {
        let max = self.id.limits.message_bytes_max;
        let bytes = frames.body.len();
        if bytes <= max {
            return frames;
        }
        let text = format!(
            "the reply would have {bytes} bytes, {max} are allowed: ask for fewer keys, or with limit"
        );
        reply::failure(&Failure::new(Code::TooLarge, text), &Envelope { id, ..Envelope::default() })
    }

    pub(super) fn refuse(&mut self, client: Client, id: Option<&str>, failure: &Failure) {
        let frames = reply::failure(failure, &Envelope { id, ..Envelope::default() });
        self.out.push(Effect::Reply { client, frames });
    }

    /// A silent owner may not have heard, or its answer was lost: the write is told again, it is idempotent.
    pub(super) fn resend(&mut self, token: Token) {
        let resend_us = self.now.after_ms(RESEND_MS);
        let name = self.id.name;
        let Some(Op { op: KeyOp::Write(write), stage: OpStage::Writing(writing), deadline_us, .. }) =
            self.tasks.op(token)
        else {
            return;
        };
        let silent: SmallVec<[NodeName; 3]> = writing.quorum.silent().filter(|n| *n != name).collect();
        let (key, request) = (write.key.clone(), write.request.unwrap_or(0));
        let at = resend_us.min(*deadline_us);
        self.tell_state(token, &key, request, &silent);
        self.tasks.alarm(token, at);
    }

    /// Hands an operation to the node that coordinates it.
    pub(super) fn forward(&mut self, token: Token, to: NodeName) {
        let resend_us = self.now.after_ms(RESEND_MS);
        let epoch = self.epoch();
        // A write may be told twice: its request id makes it one.
        let made = self.made_request_id(token);
        let now_us = self.now.mono_us;
        let Some(op) = self.tasks.op(token) else { return };
        op.stage = OpStage::Forwarded { to };
        if let KeyOp::Write(write) = &mut op.op {
            write.request.get_or_insert(made);
        }
        let left_ms = u32::try_from(op.deadline_us.saturating_sub(now_us) / 1000).unwrap_or(u32::MAX);
        let message = Message::Forward { id: token, epoch, left_ms, op: op.op.clone(), terms: op.terms };
        let at = resend_us.min(op.deadline_us);
        self.send(to, message);
        self.tasks.alarm(token, at);
    }

    /// A request id of our own: this life's actor and the task's number make it unique.
    fn made_request_id(&self, token: Token) -> u64 {
        let mut bytes = [0u8; 24];
        bytes[..16].copy_from_slice(&self.id.actor.to_le_bytes());
        bytes[16..].copy_from_slice(&token.to_le_bytes());
        ringkv_common::key::hash(&bytes).max(1)
    }
}

/// Replicas that a level asks for among `of`.
pub(super) fn needed(level: Option<Level>, of: usize) -> usize {
    match level.unwrap_or(Level::Quorum) {
        Level::One => 1,
        Level::Quorum => of / 2 + 1,
        Level::All => of,
        Level::Count(n) => n as usize,
    }
}

fn quorum_of(route: &Route, w: Option<Level>) -> Quorum {
    let quorum = Quorum::new(route.writers.iter().copied(), needed(w, route.writers.len()));
    match &route.also {
        Some((row, true)) => quorum.and(row.iter().copied(), needed(w, row.len())),
        _ => quorum,
    }
}

/// The owners elsewhere, each once.
fn others(route: &Route, me: NodeName) -> SmallVec<[NodeName; 3]> {
    let mut others: SmallVec<[NodeName; 3]> = SmallVec::new();
    let also = route.also.iter().flat_map(|(row, _)| row);
    for name in route.writers.iter().chain(also) {
        if *name != me && !others.contains(name) {
            others.push(*name);
        }
    }
    others
}

fn bytes_of(op: &KeyOp) -> usize {
    match op {
        KeyOp::Write(write) => write.key.text().len() + write.content.bytes().len(),
        KeyOp::Read(key) => key.text().len(),
    }
}

/// What a reader is shown of a state.
fn found(state: &Siblings, context: bool) -> Option<Found> {
    let values = state.values();
    if values.is_empty() {
        return None;
    }
    let context = (context || values.len() > 1).then(|| Box::new(state.context()));
    Some(Found { values: values.into_iter().map(|v| v.content.clone()).collect(), context })
}

/// More replicas than there are can never answer.
fn impossible(ring: &Arc<Ring>, op: &KeyOp, terms: &Terms) -> Option<Failure> {
    let (name, level) = match op {
        KeyOp::Read(_) => ("r", terms.read),
        KeyOp::Write(_) => ("w", terms.write),
    };
    let Some(Level::Count(count)) = level else { return None };
    let replicas = ring.owners.width();
    (count as usize > replicas).then(|| {
        Failure::new(Code::BadRequest, format!("{name} is {count}, a key has {replicas} replicas here"))
    })
}
