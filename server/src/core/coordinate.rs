//! Who does an operation on a key: this node, once the key's state is known, or the owner it is forwarded to.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Message;
use ringkv_common::message::{Code, Failure, KeyOp, Level, Outcome, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::placement::NodeIndex;
use ringkv_common::ring::Ring;
use ringkv_common::version::Siblings;

use super::Node;
use super::effect::{Effect, Token};
use super::keys::{LINE_MAX, Turn};
use super::quorums::Row;
use super::task::{Attempts, Op, OpStage, Origin, Task};
use super::write::Learned;

impl Node {
    /// Begins an operation: coordinates it where this node may, else has its owner do so.
    pub(super) fn begin(&mut self, origin: Origin, op: KeyOp, terms: Terms) {
        let Some(ring) = self.ring.clone() else {
            let failure =
                Failure::new(Code::NotReady, format!("{} has no ring yet, try again soon", self.id.name));
            return self.conclude(origin, terms, Some(op.key()), Outcome::Failed(failure), &[], false);
        };
        let counts: &[_] = match op {
            KeyOp::Read(_) => &[("r", terms.read)],
            KeyOp::Write(_) => &[("r", terms.read), ("w", terms.write)],
        };
        if let Some(failure) = impossible(&ring, counts) {
            return self.conclude(origin, terms, Some(op.key()), Outcome::Failed(failure), &[], false);
        }
        let deadline_us = self.now.after_ms(u64::from(terms.timeout_ms));
        let (key, bytes) = (op.key().clone(), bytes_of(&op));
        self.waiting_bytes += bytes;
        let op = Op {
            origin,
            op,
            terms,
            deadline_us,
            bytes,
            placed_us: None,
            stage: OpStage::Waiting,
            attempts: Attempts::default(),
            learned: None,
        };
        let token = self.tasks.add(Task::Op(op));
        if self.finds_place(token) {
            self.coordinate(token, &ring, key);
        }
    }

    /// Goes on with an operation that no replica has seen yet, under the ring as it is.
    pub(super) fn coordinate(&mut self, token: Token, ring: &Ring, key: Key) {
        let partition = key.partition(ring.partitions);
        let readers = ring.readers(partition);
        let off = self.leaves_overwrite(token, readers, ring);
        let owns = self.me.is_some_and(|me| readers.contains(&me));
        if !owns || off || self.leaves_to_others(partition, readers) {
            let Some(owner) = self.responsive(token, ring, readers) else { return };
            return self.forward(token, owner);
        }
        if let Some(why) = self.not_serving(partition) {
            return self.fail(token, Failure::new(Code::NotReady, why));
        }
        self.enter(token, key);
    }

    /// Whether another owner shall coordinate though this one may: it has lost what it held and is being filled again.
    fn leaves_to_others(&self, partition: u32, readers: &[NodeIndex]) -> bool {
        readers.len() > 1 && !self.is_whole(partition)
    }

    /// The owner to be asked next, one after the other in the ring's order and then again: of those that gossip does not
    /// call down, and where it calls all down, of all.
    fn responsive(&mut self, token: Token, ring: &Ring, readers: &[NodeIndex]) -> Option<NodeName> {
        let mut owners: Row = ring.names(readers).filter(|name| *name != self.id.name).collect();
        if owners.iter().any(|name| !self.is_away(*name)) {
            owners.retain(|name| !self.is_away(*name));
        }
        let op = self.tasks.op(token)?;
        let bit = |owner: &NodeName| {
            let place = ring.names(readers).position(|name| name == *owner);
            place.and_then(|place| 1u32.checked_shl(place as u32)).unwrap_or(0)
        };
        let fresh = owners.iter().find(|owner| op.attempts.asked_of & bit(owner) == 0);
        let turn = usize::from(op.attempts.asked) % owners.len().max(1);
        let owner = *fresh.or_else(|| owners.get(turn))?;
        op.attempts.asked = op.attempts.asked.wrapping_add(1);
        op.attempts.asked_of |= bit(&owner);
        Some(owner)
    }

    /// That no owner answered which was asked to coordinate an operation: the last one, and those in these places of the
    /// key's row. Who was not asked and is down is named too.
    pub(super) fn unanswered(&self, key: &Key, last: NodeName, places: u32, after_ms: u32) -> String {
        let ring = self.ring.as_deref();
        let row = ring.map(|ring| ring.names(ring.readers(key.partition(ring.partitions))));
        let (mut asked, mut down) = (Vec::new(), String::new());
        for (place, name) in row.into_iter().flatten().enumerate().filter(|(_, name)| *name != last) {
            if places >> place & 1 == 1 {
                asked.push(name.to_string());
            } else if self.is_away(name) {
                down += &format!(", {name} is down");
            }
        }
        let asked = match asked.as_slice() {
            [] => format!("{last}, which owns the key,"),
            others => format!("{} and {last}, which own the key,", others.join(", ")),
        };
        format!("{asked} did not answer within {after_ms} ms{down}")
    }

    /// Puts an operation in line for its key.
    pub(super) fn enter(&mut self, token: Token, key: Key) {
        match self.keys.enter(&key, token) {
            Turn::Read => self.out.push(Effect::Read { token, key }),
            Turn::Now => self.proceed(token, &key),
            Turn::Later => {}
            Turn::Full => {
                let text =
                    format!("{LINE_MAX} operations wait for this key at {}, try again later", self.id.name);
                self.fail(token, Failure::new(Code::Overloaded, text));
            }
        }
    }

    pub(super) fn on_read(&mut self, token: Token, siblings: Siblings) {
        let Some(key) = self.key_of(token) else { return };
        self.loaded(&key, siblings);
    }

    /// A key's state was read: all in line for it have their turns.
    pub(super) fn loaded(&mut self, key: &Key, siblings: Siblings) {
        let mut next = self.keys.loaded(key, siblings);
        while let Some(token) = next {
            self.proceed(token, key);
            next = self.keys.next(key);
        }
    }

    /// The key that a task is in line for.
    pub(super) fn key_of(&mut self, token: Token) -> Option<Key> {
        match self.tasks.get(token)? {
            Task::Op(op) => Some(op.op.key().clone()),
            Task::Join(join) => Some(join.key.clone()),
            Task::GivenUp(key) => Some(key.clone()),
            Task::InspectKey(inspect) => Some(inspect.key.clone()),
            Task::Collect(collect) => Some(collect.key.clone()),
            _ => None,
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
            Some(Task::Op(_)) => self.proceed_write(token, key),
            Some(Task::Join(_)) => self.proceed_join(token),
            Some(Task::Absorb(_)) => self.proceed_absorb(token, key),
            Some(Task::Collect(_)) => self.proceed_collect(token, key),
            Some(Task::GivenUp(_)) => drop(self.tasks.take(token)),
            Some(Task::InspectKey(_)) => self.proceed_inspect(token, key),
            _ => {}
        }
    }

    fn reads_for(&self, key: &Key) -> bool {
        let readers = self.ring.as_ref().map(|r| r.readers(key.partition(r.partitions)));
        readers.zip(self.me).is_some_and(|(readers, me)| readers.contains(&me))
    }

    /// Hands an operation to the node that coordinates it.
    pub(super) fn forward(&mut self, token: Token, to: NodeName) {
        let epoch = self.epoch();
        // A write may be told twice: its request id makes it one.
        let made = self.made_request_id(token);
        let told = self.pace.tell();
        let now_us = self.now.mono_us;
        let Some(op) = self.tasks.op(token) else { return };
        op.stage = OpStage::Forwarded { to };
        op.attempts.told = told;
        if let KeyOp::Write(write) = &mut op.op {
            write.request.get_or_insert(made);
        }
        let left_ms = u32::try_from(op.deadline_us.saturating_sub(now_us) / 1000).unwrap_or(u32::MAX);
        let heard = self.beats.get(&to).copied().unwrap_or_default();
        let message =
            Message::Forward { id: token, epoch, left_ms, op: op.op.clone(), terms: op.terms, heard };
        let at = (now_us + op.attempts.patience_us()).min(op.deadline_us);
        self.send(to, message);
        self.tasks.alarm(token, at);
    }

    /// The node that an operation was handed to has not answered: another one shall do it, unless that one only has yet
    /// to come to it.
    pub(super) fn forward_again(&mut self, token: Token) {
        let Some(Op { stage: OpStage::Forwarded { to }, attempts, deadline_us, .. }) = self.tasks.op(token)
        else {
            return;
        };
        if !self.pace.comes_to(self.now, *to, attempts.told) {
            return self.coordinate_again(token);
        }
        let at = (self.now.mono_us + attempts.patience_us()).min(*deadline_us);
        self.tasks.alarm(token, at);
    }

    /// An operation that no replica is known to have done: its owner may be another node by now, or this one.
    pub(super) fn coordinate_again(&mut self, token: Token) {
        let Some(ring) = self.ring.clone() else { return };
        let Some(op) = self.tasks.op(token) else { return };
        op.attempts.hurried = false;
        op.attempts.maybe_done |= matches!(op.stage, OpStage::Forwarded { .. });
        op.stage = OpStage::Waiting;
        let (learned, key) = (op.learned.take().map(|learned| *learned), op.op.key().clone());
        if let (Some(Learned::Beside(Some(_), theirs)), KeyOp::Write(write)) = (learned, &mut op.op) {
            let mut joined = self.keys.get(&key).and_then(|busy| busy.state.clone()).unwrap_or_default();
            joined.join(&theirs);
            if write.request.is_some_and(|request| joined.hides_request(request)) {
                // So it was not acknowledged, though under its id some have it: another one does it as a new one.
                write.request = None;
            }
        }
        let nobody = matches!(op.origin, Origin::Nobody);
        self.let_go(token, &key);
        if nobody {
            // Nobody waits for it to be done elsewhere, and there others may have written since.
            let text = "time was up before it was settled, and another node owns the key now";
            return self.fail(token, Failure::new(Code::Timeout, text));
        }
        self.coordinate(token, &ring, key);
    }

    /// What an operation wrote here before another node has it to do is not settled here any more: who waits to show it
    /// asks that node too.
    fn let_go(&mut self, write: Token, key: &Key) {
        for reader in self.keys.settled(key, write) {
            match self.tasks.get(reader) {
                Some(Task::Op(Op { stage: OpStage::Reading { .. }, .. })) => self.coordinate_again(reader),
                Some(Task::Op(_)) => self.gather_durable(reader),
                Some(Task::InspectKey(_)) => self.say_held(reader),
                _ => {}
            }
        }
    }

    /// A request id of our own: this life's actor, the task's number and how often it was told make it unique.
    fn made_request_id(&mut self, token: Token) -> u64 {
        let round = self.tasks.op(token).map_or(0, |op| op.attempts.round);
        let mut bytes = [0u8; 28];
        bytes[..16].copy_from_slice(&self.id.actor.to_le_bytes());
        bytes[16..24].copy_from_slice(&token.to_le_bytes());
        bytes[24..].copy_from_slice(&round.to_le_bytes());
        ringkv_common::key::hash(&bytes).max(1)
    }
}

fn bytes_of(op: &KeyOp) -> usize {
    match op {
        KeyOp::Write(write) => write.key.text().len() + write.content.bytes().len(),
        KeyOp::Read(key) => key.text().len(),
    }
}

/// More replicas than there are can never answer. Each count has the name of its field.
pub(super) fn impossible(ring: &Ring, counts: &[(&str, Option<Level>)]) -> Option<Failure> {
    let replicas = ring.owners.width();
    counts.iter().find_map(|(name, level)| match level {
        Some(Level::Count(count)) if *count as usize > replicas => {
            let text = format!("{name} is {count}, a key has {replicas} replicas here");
            Some(Failure::new(Code::BadRequest, text))
        }
        _ => None,
    })
}
