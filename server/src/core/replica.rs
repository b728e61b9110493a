//! What other nodes ask of this one, and their answers to what it asked.

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Beat, Frame, Id, Message};
use ringkv_common::message::{Code, Failure, KeyOp, Outcome, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::ring::ClusterId;

use super::effect::{Effect, Token};
use super::join::Sender;
use super::keys::Turn;
use super::quorums::Row;
use super::task::{Asker, Attempts, Give, InspectKey, Op, OpStage, Origin, Task};
use super::{FRESH_MS, Node, WAITING_BYTES_MAX};

impl Node {
    pub(super) fn on_peer(&mut self, frame: Frame) {
        let Frame { cluster, from, message } = frame;
        let foreign = cluster != ClusterId::default() && self.ring.is_some() && cluster != self.cluster_id();
        if foreign {
            return self.membership.count_foreign_frame();
        }
        let stranger = self.ring.as_ref().is_some_and(|ring| ring.node_named(from).is_none());
        let of_owners = matches!(
            message,
            Message::Confirm { .. }
                | Message::Confirmed { .. }
                | Message::Collect { .. }
                | Message::Roots { .. }
                | Message::Buckets { .. }
        );
        if stranger && of_owners {
            return self.membership.count_foreign_frame();
        }
        match message {
            Message::Hello { host, port } => self.on_hello(from, host, port),
            Message::Welcome => self.on_welcome(from),
            Message::RingWanted => self.send_ring(from),
            Message::Ring(text) => self.on_ring_text(&text),
            Message::Forward { id, epoch, left_ms, op, terms, heard } => {
                let fresh_until_us = self.fresh_until_us(heard);
                let origin = Origin::Peer { from, id, fresh_until_us };
                self.on_forward(from, id, epoch, origin, op, Terms { timeout_ms: left_ms.max(1), ..terms });
            }
            Message::Replicate { id, epoch, key, siblings, base, request, round } => {
                let sender = Sender::Peer { from, id, round };
                self.on_replicate(sender, epoch, key, siblings, (base, request));
            }
            Message::Fetch { id, epoch, purpose, stretch, known, bytes_max } => {
                let requests = Vec::new();
                let give = Give {
                    to: from,
                    id,
                    purpose,
                    epoch,
                    partition: stretch.partition,
                    requests,
                    whole: true,
                };
                self.on_fetch(give, stretch, known, bytes_max);
            }
            Message::Surrender { epoch, partition, held } => self.on_surrender(from, epoch, partition, held),
            Message::Released { epoch, partition, held } => self.on_released(from, epoch, partition, held),
            Message::Query { id, epoch, key, digest, request, round } => {
                self.on_query(from, id, epoch, key, (digest, request, round));
            }
            Message::Confirm { id, epoch, partition, dead } => {
                self.on_confirm(from, id, epoch, partition, dead);
            }
            Message::Confirmed { id, dead, clean } => self.on_confirmed(from, id, dead, clean),
            Message::Collect { epoch, partition, dead } => self.on_collect(epoch, partition, dead),
            Message::Inspect { id, key } => self.on_inspect(Asker::Search { from, id }, from, id, key),
            Message::Roots { id, epoch, sums } => self.on_roots(from, id, epoch, sums),
            Message::Differ { id, partitions } => self.on_differ(from, id, partitions),
            Message::Buckets { id, epoch, partition, sums } => {
                self.on_buckets(from, id, epoch, partition, sums);
            }
            Message::Stale { id, partition, buckets } => self.on_stale(from, id, partition, buckets),
            Message::Forwarded { id, outcome, nodes, hinted, beat } => {
                self.beats.insert(from, beat);
                self.on_forwarded(from, id, outcome, nodes.into(), hinted);
            }
            Message::Replicated { id, round, taken } => self.acknowledged(id, from, round, taken),
            Message::Held { id, siblings, counts, knows, round } => {
                self.on_held(id, from, siblings, counts, (knows, round));
            }
            Message::Fetched { id, records, next, requests, whole } => {
                self.on_fetched(id, records, next, requests, whole);
            }
            Message::Inspected { id, siblings } => self.on_inspected(id, from, Ok(siblings)),
            Message::Refused { id, epoch } => self.on_refused(from, id, epoch),
            Message::Failed { id, failure } => self.on_failed(from, id, failure),
            Message::Gossip { epoch, packet, wall_ms } => {
                self.on_gossip(from, epoch, &packet, wall_ms);
            }
        }
    }

    /// Whether a request of this epoch may be served; if not, its sender is told.
    pub(super) fn same_epoch(&mut self, from: NodeName, id: Id, epoch: u64) -> bool {
        let mine = self.epoch();
        if epoch != mine {
            self.send(from, Message::Refused { id, epoch: mine });
            if epoch > mine {
                self.send(from, Message::RingWanted);
            }
        }
        epoch == mine
    }

    /// Whether there is no room for a peer's request; if so, it is told.
    pub(super) fn overloaded(&mut self, from: NodeName, id: Id) -> bool {
        let full = self.tasks.full() || self.waiting_bytes > WAITING_BYTES_MAX;
        if full {
            let text = format!("{} has {} requests waiting, try again later", self.id.name, self.tasks.len());
            self.send(from, Message::Failed { id, failure: Failure::new(Code::Overloaded, text) });
        }
        full
    }

    /// The moment of this life.
    pub(super) fn beat(&self) -> Beat {
        // Another life's must not pass for this one's.
        self.now.mono_us.wrapping_add(self.id.actor as u64)
    }

    /// Until when something is fresh whose sender had heard this beat; 0: it is not.
    fn fresh_until_us(&self, heard: Beat) -> u64 {
        let age_us = self.beat().wrapping_sub(heard);
        let left_us = (FRESH_MS * 1000).checked_sub(age_us);
        left_us.map_or(0, |left_us| self.now.mono_us + left_us)
    }

    fn on_forward(&mut self, from: NodeName, id: Id, epoch: u64, origin: Origin, op: KeyOp, terms: Terms) {
        if !self.same_epoch(from, id, epoch) {
            return;
        }
        // One that is about to end is silent: it is told again, and its next life or the next owner does it.
        if self.membership.closes() || self.is_open(from, id) || self.overloaded(from, id) {
            return;
        }
        if let Some(ring) = &self.ring {
            let partition = op.key().partition(ring.partitions);
            if ring.readers(partition).len() > 1 && !self.is_whole(partition) {
                // It has lost what it knew of requests, too: a write that was done would be done once more. Another owner
                // is asked after this one's silence.
                return;
            }
        }
        self.open.insert((from, id));
        self.begin(origin, op, terms);
    }

    /// Whether a peer's request is under way: told again, it is answered once it has ended.
    pub(super) fn is_open(&self, from: NodeName, id: Id) -> bool {
        self.open.contains(&(from, id))
    }

    fn on_query(
        &mut self,
        from: NodeName,
        id: Id,
        epoch: u64,
        key: Key,
        (digest, request, round): (u64, u64, u32),
    ) {
        if self.same_epoch(from, id, epoch) {
            self.on_inspect(
                Asker::Read { from, id, epoch, digest, request, round, found: None },
                from,
                id,
                key,
            );
        }
    }

    fn on_inspect(&mut self, asker: Asker, from: NodeName, id: Id, key: Key) {
        if self.overloaded(from, id) {
            return;
        }
        let token = self.tasks.add(Task::InspectKey(Box::new(InspectKey { key: key.clone(), asker })));
        self.look(token, key);
    }

    /// Has a key's state looked up for a task that only reads it.
    pub(super) fn look(&mut self, token: Token, key: Key) {
        match self.keys.enter(&key, token) {
            Turn::Read => self.out.push(Effect::Read { token, key }),
            Turn::Now => self.proceed(token, &key),
            Turn::Later => {}
            Turn::Full => drop(self.tasks.take(token)),
        }
    }

    pub(super) fn proceed_inspect(&mut self, token: Token, key: &Key) {
        let busy = self.keys.get(key).expect("the caller has seen to it");
        let siblings = busy.state.clone().expect("the caller has seen to it");
        let Some(Task::InspectKey(inspect)) = self.tasks.get(token) else { return };
        match &mut inspect.asker {
            Asker::Here { search } => {
                let search = *search;
                self.tasks.take(token);
                self.on_inspected(search, self.id.name, Ok(siblings));
            }
            Asker::Search { from, id } => {
                let (to, id) = (*from, *id);
                self.tasks.take(token);
                self.send(to, Message::Inspected { id, siblings });
            }
            Asker::Read { found, request, .. } => {
                // Known later, it would pass for one that what is shown has superseded.
                let knows = self.requests.vouches(key, *request);
                *found = Some((siblings, knows));
                if busy.shows_settled(token) {
                    self.say_held(token);
                }
            }
        }
    }

    /// What a read of another node was told to look up is durable here.
    pub(super) fn say_held(&mut self, token: Token) {
        let Some(Task::InspectKey(inspect)) = self.tasks.take(token) else { return };
        let Asker::Read { from, id, epoch, digest, round, found: Some((found, knows)), .. } = inspect.asker
        else {
            return;
        };
        // Looked up under a later ring than was asked for, it may be what a former owner still had.
        if self.same_epoch(from, id, epoch) {
            let counts = self.ring.as_ref().is_some_and(|ring| {
                let partition = inspect.key.partition(ring.partitions);
                self.me.is_some_and(|me| ring.holds(me, partition)) && self.is_whole(partition)
            });
            let siblings = (found.digest() != digest).then_some(found);
            self.send(from, Message::Held { id, siblings, counts, knows, round });
        }
    }

    fn on_forwarded(&mut self, from: NodeName, token: Token, outcome: Outcome, nodes: Row, hinted: bool) {
        if let Some(Op { stage, .. }) = self.tasks.op(token)
            && matches!(stage, OpStage::Forwarded { to } if *to == from)
        {
            *stage = OpStage::Ended { nodes, hinted };
            self.came_to(from, token);
            self.finish(token, outcome);
        }
    }

    /// A peer of another epoch did nothing: whoever is behind gets the ring, then it is told again.
    fn on_refused(&mut self, from: NodeName, token: Token, theirs: u64) {
        self.came_to(from, token);
        let mine = self.epoch();
        if theirs > mine {
            // Goes on when the ring is here, see `on_ring`.
            return self.send(from, Message::RingWanted);
        }
        if theirs < mine {
            self.send_ring(from);
        }
        self.tell_again(token, from);
    }

    /// Repeats the part of a task that was refused unapplied: at once, since the ring is on its way before it, and where
    /// that is refused too when silence would have lasted too long.
    fn tell_again(&mut self, token: Token, from: NodeName) {
        match self.tasks.get(token) {
            Some(Task::Op(Op { attempts: Attempts { hurried: true, .. }, .. })) => {}
            Some(Task::Op(Op { stage: OpStage::Forwarded { to }, attempts, .. })) if *to == from => {
                attempts.hurried = true;
                self.forward(token, from);
            }
            Some(Task::Op(Op { stage: OpStage::Writing(_), .. })) => {
                self.resend(token);
                if let Some(op) = self.tasks.op(token) {
                    op.attempts.hurried = true;
                }
            }
            Some(Task::Op(Op { stage: OpStage::Gathering(_), .. })) => {
                self.gather_again(token);
                if let Some(op) = self.tasks.op(token) {
                    op.attempts.hurried = true;
                }
            }
            Some(Task::Pull(_)) => self.fetch_refused(token),
            Some(Task::Listing(_)) => self.slice_refused(token),
            _ => {}
        }
    }

    /// A node does not do what it was told; so it has come to it.
    fn came_to(&mut self, from: NodeName, token: Token) {
        let told = match self.tasks.get(token) {
            Some(Task::Op(op)) => op.attempts.told,
            Some(Task::Spread(spread)) => spread.told,
            _ => return,
        };
        self.pace.answered(self.now, from, told);
    }

    fn on_failed(&mut self, from: NodeName, token: Token, failure: Failure) {
        self.came_to(from, token);
        match self.tasks.get(token) {
            Some(Task::Op(Op { stage: OpStage::Forwarded { to }, .. })) if *to == from => {
                self.fail(token, failure)
            }
            Some(Task::Op(Op { stage: OpStage::Gathering(_), .. })) => {
                self.not_held(token, from, format!("says: {}", failure.message));
            }
            // It is told again when silence would have lasted too long.
            Some(Task::Op(Op { stage: OpStage::Writing(writing), .. })) => {
                writing.reasons.retain(|(by, _)| *by != from);
                writing.reasons.push((from, format!("says: {}", failure.message)));
            }
            Some(Task::Op(_)) => {}
            Some(Task::Pull(_)) => self.pull_refused(token, failure),
            Some(Task::Listing(_)) => self.slice_failed(token, from, failure),
            Some(Task::Search(_)) => self.on_inspected(token, from, Err(failure.message)),
            _ => {}
        }
    }

    pub(super) fn on_unsent(&mut self, to: NodeName, message: Message) {
        if let Message::Gossip { .. } = message {
            // That is silence, and silence is what gossip is about.
            return;
        }
        self.membership.count_unsent(to);
        // All else is told again after a while, like what is met by silence: an earlier attempt may have arrived.
        match message {
            Message::Inspect { id, .. } => self.on_inspected(id, to, Err("cannot be reached".into())),
            Message::Query { id, .. } => self.not_held(id, to, "cannot be reached".into()),
            Message::Replicate { id, .. } => self.not_told(id, to),
            _ => {}
        }
    }
}
