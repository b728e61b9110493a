//! What other nodes ask of this one, and their answers to what it asked.

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::peer::{Beat, Frame, Id, Message, Purpose, Record, Stretch, Taken};
use ringkv_common::message::{Code, Failure, KeyOp, Outcome, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::ring::ClusterId;
use ringkv_common::time::{Now, Stamp};
use ringkv_common::version::{Siblings, Version};
use smallvec::SmallVec;

use super::effect::{Effect, Token};
use super::keys::Turn;
use super::quorums::Row;
use super::requests::Requests;
use super::task::{Asker, Attempts, Give, InspectKey, Join, Op, OpStage, Origin, Task};
use super::{FRESH_MS, Node, WAITING_BYTES_MAX};
use crate::store::{LOOKED_BYTES_MAX, Measure, Slice};

/// Records that a giver looks at for one answer: well below a millisecond's worth.
const GIVE_RECORDS_MAX: usize = 2048;

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

    fn on_replicate(
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

    /// Whether a peer's request is under way: told again, it is answered once it has ended.
    fn is_open(&self, from: NodeName, id: Id) -> bool {
        self.open.contains(&(from, id))
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
        let late = settle_late(&key, state, &mut news, &self.requests, None);
        if base != 0 && !late && hides(state, &news) {
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
        let before = if state.is_empty() { 0 } else { Measure::of(&key, state).bytes };
        let changed = state.join(&news) | late;
        if changed && !follows {
            self.requests.missed(self.now, &key);
        }
        let taken = match (late || overtaken, unseen(state, &news)) {
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
            Asker::Read { found, .. } => {
                *found = Some(siblings);
                if busy.shows_settled(token) {
                    self.say_held(token);
                }
            }
        }
    }

    /// What a read of another node was told to look up is durable here.
    pub(super) fn say_held(&mut self, token: Token) {
        let Some(Task::InspectKey(inspect)) = self.tasks.take(token) else { return };
        let Asker::Read { from, id, epoch, digest, request, round, found: Some(found) } = inspect.asker
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
            let knows = self.requests.vouches(&inspect.key, request);
            self.send(from, Message::Held { id, siblings, counts, knows, round });
        }
    }

    fn on_fetch(&mut self, mut give: Give, stretch: Stretch, known: Vec<(u64, u64)>, bytes_max: u32) {
        let (to, id) = (give.to, give.id);
        if !self.same_epoch(to, id, give.epoch) || self.overloaded(to, id) {
            return;
        }
        let refuse = |code, text: String| Message::Failed { id, failure: Failure::new(code, text) };
        let Some(ring) = &self.ring else { return };
        if stretch.partition >= ring.partitions {
            let text =
                format!("there is no partition {}: the ring has {}", stretch.partition, ring.partitions);
            return self.send(to, refuse(Code::BadRequest, text));
        }
        // A partition whose memory was lost must not pass for an empty one.
        let whole = self.is_whole(stretch.partition);
        if give.purpose == Purpose::Move && (self.membership.is_lost(stretch.partition) || !whole) {
            let text = format!("{} lost the data of partition {}", self.id.name, stretch.partition);
            return self.send(to, refuse(Code::NotReady, text));
        }
        if give.purpose == Purpose::List
            && let Some(why) = self.not_listing(stretch.partition)
        {
            return self.send(to, refuse(Code::NotReady, why));
        }
        if !self.gives(give.purpose, stretch.partition) {
            return;
        }
        give.whole = whole;
        if give.purpose != Purpose::List && stretch.after.is_none() {
            // Before the first record is read: whatever is durable by now will be among the records. Of keys that are not
            // asked for the records would be missing.
            let all = Stretch { until: None, ..stretch.clone() };
            give.requests = self.requests.of_stretch(&all, ring.partitions);
        }
        let token = self.tasks.add(Task::Give(give));
        let slice = Slice {
            bytes_max: bytes_max as usize,
            records_max: GIVE_RECORDS_MAX,
            looked_bytes_max: LOOKED_BYTES_MAX,
        };
        self.out.push(Effect::Scan { token, stretch, known, slice });
    }

    /// Whether what was offered is still there. Else records would be missing that the requests handed on speak of: it is
    /// not answered, and whoever has something to hand over offers it again.
    fn gives(&self, purpose: Purpose, partition: u32) -> bool {
        match purpose {
            Purpose::Handover { held } => self.membership.holds_since(partition, held),
            _ => true,
        }
    }

    pub(super) fn on_scanned(&mut self, token: Token, records: Vec<Record>, next: Option<Key>) {
        if !matches!(self.tasks.get(token), Some(Task::Give(_))) {
            return self.on_listed(token, records, next);
        }
        let Some(Task::Give(give)) = self.tasks.take(token) else { return };
        // Read under a later ring than was asked for, the store may hold less than it held under that.
        if self.gives(give.purpose, give.partition) && self.same_epoch(give.to, give.id, give.epoch) {
            let Give { to, id, requests, whole, .. } = give;
            self.send(to, Message::Fetched { id, records, next, requests, whole });
        }
    }

    fn on_forwarded(&mut self, from: NodeName, token: Token, outcome: Outcome, nodes: Row, hinted: bool) {
        if let Some(Op { stage, .. }) = self.tasks.op(token)
            && matches!(stage, OpStage::Forwarded { to } if *to == from)
        {
            *stage = OpStage::Ended { nodes, hinted };
            self.finish(token, outcome);
        }
    }

    /// A peer of another epoch did nothing: whoever is behind gets the ring, then it is told again.
    fn on_refused(&mut self, from: NodeName, token: Token, theirs: u64) {
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

    fn on_failed(&mut self, from: NodeName, token: Token, failure: Failure) {
        match self.tasks.get(token) {
            Some(Task::Op(Op { stage: OpStage::Forwarded { to }, .. })) if *to == from => {
                self.fail(token, failure)
            }
            Some(Task::Op(Op { stage: OpStage::Gathering(_), .. })) => {
                self.not_held(token, from, format!("says: {}", failure.message));
            }
            // An owner that is overloaded is told again when silence would have lasted too long.
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

/// Whether what is told without a context is hidden by what is held and its writer had not seen.
fn hides(state: &Siblings, told: &Siblings) -> bool {
    let newest = |siblings: &Siblings| {
        let plain = siblings.versions.iter().filter(|version| !version.contextual);
        plain.map(|version| (version.stamp, version.dot, version.request)).max()
    };
    let (Some(held), Some(news)) = (newest(state), newest(told)) else { return false };
    let twin = held.2 != 0 && held.2 == news.2;
    held > news && !told.clock.covers(held.1) && !twin
}

/// Whether beside a version that was told without a context another such one is held that its writer had not seen. One of
/// the same request is no other: it is the same write.
fn unseen(state: &Siblings, told: &Siblings) -> bool {
    if state.versions.len() < 2 {
        return false;
    }
    let news = told.versions.iter().filter(|version| !version.contextual);
    let Some(news) = news.max_by_key(|version| (version.stamp, version.dot)) else { return false };
    let mut held = state.versions.iter().filter(|version| !version.contextual);
    let twin = |version: &Version| version.request != 0 && version.request == news.request;
    held.clone().any(|version| version.dot == news.dot)
        && held.any(|version| !told.clock.covers(version.dot) && !twin(version))
}

/// Takes out of news what is no news though its dots are. Whether there was such. That the state has seen them follows from
/// joining the news, whose clock has them: seen before, they would pass for having superseded what else the news brings of
/// the same actor.
///
/// A write that its client repeated elsewhere may have been done by two coordinators. Where this node knows its
/// request and holds its version no more, that was superseded, and so is its twin. And where an accepted loss left
/// nothing but what this life (`since_loss`) wrote to a key, what comes back is older, whatever its stamp says.
pub(super) fn settle_late(
    key: &Key,
    state: &Siblings,
    news: &mut Siblings,
    requests: &Requests,
    since_loss: Option<u128>,
) -> bool {
    if state.is_empty() || bug::on(Bug::TakesLateTwins) {
        return false;
    }
    let written_since = since_loss.is_some_and(|id| state.clock.entries().iter().any(|d| d.actor.id == id));
    let mut changed = false;
    news.versions.retain(|version| {
        let twin = requests.knows(key, version.request) && state.of_request(version.request).is_none();
        let late = !state.clock.covers(version.dot) && (twin || written_since && !version.contextual);
        changed |= late;
        !late
    });
    changed
}
