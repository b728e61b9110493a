//! Moving data: new owners pull what they gain, and former owners have pulled from them what nobody may lose.
//!
//! There is one mechanism, the *pull*: stretch by stretch through a partition, the receiver says what it has there
//! (hashes and digests, nothing in a first copy), the giver sends what differs, the receiver joins it into its own
//! state and makes it durable. A pull is idempotent and knows no order, so it may be cut off and begun again
//! anywhere; what writes bring meanwhile is joined the same way.
//!
//! ```text
//!   copy      pull, knowing nothing         ─► copied      everything from before the change
//!   both      pull, knowing what is there   ─► verified    what was written before writes needed both rows
//!   switch    only after a restart: pull    ─► verified
//!   (done)    Surrender ─► owner pulls, knowing what is there ─► Released ─► former owner drops the partition
//! ```
//!
//! A pull under `both` begins after the giver adopted `both`, for a giver answers only its own epoch. Every write it
//! acknowledged before is in its store, and every later one needed the receiver's own yes: when the pull is through,
//! the receiver has them all, though writes never stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::Failure;
use ringkv_common::message::peer::{Message, Purpose, Record, Stretch};
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Report;
use ringkv_common::ring::{Phase, Ring, SignalId};

use super::effect::{Effect, Token};
use super::requests::Done;
use super::task::{Attempts, JoinThen, Task};
use super::{FETCH_AGAIN_MS, Node};
use crate::store::{LOOKED_BYTES_MAX, Slice};

/// Partitions pulled at one time.
const PULLS_MAX: usize = 4;
/// Bytes of one answer: small enough for a giver to serve others in between.
const FETCH_BYTES: u32 = 64 << 10;
/// Records whose digests go into one question.
const DIGESTS_MAX: usize = 2048;
/// Partitions offered to their owners at one time.
const SURRENDERS_MAX: usize = 8;
/// How often a node looks for partitions that it holds and does not own, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Hand-overs accepted at one time.
const HANDED_OVER_MAX: usize = 64;

/// A partition that this node gains in the change.
#[derive(Debug)]
struct Incoming {
    from: NodeName,
    copied: bool,
    verified: bool,
    active: bool,
}

/// What moves to and from this node.
#[derive(Debug, Default)]
pub struct Transfers {
    /// The change that `incoming` belongs to.
    change: Option<SignalId>,
    incoming: BTreeMap<u32, Incoming>,
    /// Pulls of what former owners hand over to this node, by partition.
    handed_over: BTreeMap<u32, Token>,
    /// Partitions that this node hands over: when to offer them again, or `None` before their turn.
    surrenders: BTreeMap<u32, Option<u64>>,
    /// When to look for such partitions again: a late join may have brought one.
    look_at_us: Option<u64>,
    keys_moved: u64,
    bytes_moved: u64,
    stuck: Option<String>,
}

/// A pull under way.
#[derive(Debug)]
pub struct Pull {
    partition: u32,
    from: NodeName,
    purpose: Purpose,
    /// Whether the receiver says what it has.
    compares: bool,
    phase: Option<Phase>,
    after: Option<Key>,
    /// Where the stretch in question ends.
    until: Option<Key>,
    known: Vec<(u64, u64)>,
    fetching: bool,
    attempts: Attempts,
    /// Records that are not durable yet, and whether one could not be taken.
    open: usize,
    incomplete: bool,
    next: Option<Key>,
    /// What the giver remembered of requests when the pull began.
    requests: Vec<Done>,
}

/// A partition whose records the store forgets: its owner has all of it.
#[derive(Debug)]
pub struct Dropping {
    partition: u32,
}

impl Transfers {
    /// Whether a gained partition is complete.
    pub(super) fn has(&self, partition: u32) -> bool {
        self.incoming.get(&partition).is_some_and(|i| i.verified)
    }

    /// Partitions that still are to be handed over.
    pub(super) fn surrendering(&self) -> usize {
        self.surrenders.len()
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        self.surrenders.values().flatten().copied().chain(self.look_at_us).min()
    }

    pub(super) fn report(&self) -> Report {
        let count = |f: fn(&Incoming) -> bool| self.incoming.values().filter(|i| f(i)).count() as u32;
        Report {
            incoming: self.incoming.len() as u32,
            copied: count(|i| i.copied || i.verified),
            verified: count(|i| i.verified),
            keys_moved: self.keys_moved,
            bytes_moved: self.bytes_moved,
            stuck: self.stuck.clone(),
            ..Report::default()
        }
    }
}

impl Node {
    /// A new ring is in force: pulls of the old one end, those of the new one begin.
    pub(super) fn begin_transfers(&mut self, ring: &Arc<Ring>) {
        let mut tokens = self.tasks.tokens();
        tokens.sort_unstable();
        for token in tokens {
            if matches!(self.tasks.get(token), Some(Task::Pull(_))) {
                self.tasks.take(token);
            }
        }
        self.transfers.handed_over.clear();
        self.transfers.stuck = None;
        let change = ring.change.as_ref().map(|c| c.signal.clone());
        if self.transfers.change != change {
            self.transfers.change = change;
            self.transfers.incoming = self.gained(ring);
            (self.transfers.keys_moved, self.transfers.bytes_moved) = (0, 0);
        }
        self.transfers.incoming.values_mut().for_each(|i| i.active = false);
        self.pull_on();
        self.transfers.surrenders.clear();
        self.surrender(ring);
    }

    fn gained(&self, ring: &Ring) -> BTreeMap<u32, Incoming> {
        let Some(me) = self.me else { return BTreeMap::new() };
        let incoming = |from| Incoming { from, copied: false, verified: false, active: false };
        ring.incoming(me).into_iter().map(|(p, from)| (p, incoming(from[0]))).collect()
    }

    /// Begins as many pulls as may run at once.
    fn pull_on(&mut self) {
        let Some(phase) = self.ring.as_ref().and_then(|r| r.change.as_ref()).map(|c| c.phase) else { return };
        let due = |i: &Incoming| if phase == Phase::Copy { !i.copied } else { !i.verified };
        let active = self.transfers.incoming.values().filter(|i| i.active).count();
        let idle = self.transfers.incoming.iter().filter(|(_, i)| !i.active && due(i));
        let begin: Vec<(u32, NodeName, bool)> =
            idle.take(PULLS_MAX.saturating_sub(active)).map(|(p, i)| (*p, i.from, i.copied)).collect();
        for (partition, from, copied) in begin {
            if let Some(incoming) = self.transfers.incoming.get_mut(&partition) {
                incoming.active = true;
            }
            self.pull(Pull::new(partition, from, Purpose::Move, copied, Some(phase)));
        }
    }

    fn pull(&mut self, pull: Pull) {
        let purpose = pull.purpose;
        let partition = pull.partition;
        let token = self.tasks.add(Task::Pull(Box::new(pull)));
        if purpose == Purpose::Handover {
            self.transfers.handed_over.insert(partition, token);
        }
        self.ask_stretch(token);
    }

    /// Asks for what follows, after a look at what is here where the pull compares.
    fn ask_stretch(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if !pull.compares {
            return self.fetch(token);
        }
        let stretch = Stretch { partition: pull.partition, after: pull.after.clone(), until: None };
        let slice = Slice { bytes_max: 0, records_max: DIGESTS_MAX, looked_bytes_max: LOOKED_BYTES_MAX };
        self.out.push(Effect::Digest { token, stretch, slice });
    }

    pub(super) fn on_digested(&mut self, token: Token, digests: Vec<(u64, u64)>, next: Option<Key>) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        pull.known = digests;
        pull.until = next;
        self.fetch(token);
    }

    fn fetch(&mut self, token: Token) {
        let epoch = self.epoch();
        // A fresh number for every question: a late answer to an earlier one must not pass for this one's.
        let Some(Task::Pull(mut pull)) = self.tasks.take(token) else { return };
        pull.fetching = true;
        let patience_us = pull.attempts.patience_from_us(FETCH_AGAIN_MS * 1000);
        let stretch =
            Stretch { partition: pull.partition, after: pull.after.clone(), until: pull.until.clone() };
        let (to, purpose, partition, known) = (pull.from, pull.purpose, pull.partition, pull.known.clone());
        let token = self.tasks.add(Task::Pull(pull));
        if purpose == Purpose::Handover {
            self.transfers.handed_over.insert(partition, token);
        }
        self.send(to, Message::Fetch { id: token, epoch, purpose, stretch, known, bytes_max: FETCH_BYTES });
        self.tasks.alarm(token, self.now.mono_us + patience_us);
    }

    /// The giver was silent, or behind: it is asked again.
    pub(super) fn fetch_again(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        if !pull.fetching {
            return;
        }
        let partition = pull.partition;
        if pull.purpose == Purpose::Handover {
            // Whoever still has something to hand over offers it again; one that is gone must not block others.
            self.tasks.take(token);
            self.transfers.handed_over.remove(&partition);
            return;
        }
        self.transfers.stuck.get_or_insert_with(|| format!("{} does not answer", pull.from));
        self.fetch(token);
    }

    /// The giver refused, being behind: it is asked again at once, and where it refuses that too with the alarm.
    pub(super) fn fetch_refused(&mut self, token: Token) {
        if let Some(Task::Pull(pull)) = self.tasks.get(token)
            && !std::mem::replace(&mut pull.attempts.hurried, true)
        {
            self.fetch_again(token);
        }
    }

    /// The giver cannot give; the alarm of the question asks again.
    pub(super) fn pull_refused(&mut self, token: Token, failure: Failure) {
        if let Some(Task::Pull(_)) = self.tasks.get(token) {
            self.transfers.stuck = Some(failure.message);
        }
    }

    pub(super) fn on_fetched(
        &mut self,
        token: Token,
        records: Vec<Record>,
        next: Option<Key>,
        requests: Vec<Done>,
    ) {
        match self.tasks.get(token) {
            Some(Task::Pull(pull)) if pull.fetching => {
                pull.fetching = false;
                pull.attempts.anew();
                // One more than there are, so that the last one ends the stretch and not an earlier one.
                pull.open = records.len() + 1;
                pull.next = next;
                if pull.after.is_none() {
                    pull.requests = requests;
                }
            }
            Some(Task::Listing(_)) => return self.on_listed(token, records, next),
            _ => return,
        }
        self.transfers.stuck = None;
        self.transfers.keys_moved += records.len() as u64;
        for (key, siblings) in records {
            let values: usize = siblings.versions.iter().map(|v| v.content.bytes().len()).sum();
            self.transfers.bytes_moved += (key.text().len() + values) as u64;
            self.join(key, siblings, JoinThen::Pulled(token));
        }
        self.pulled_one(token);
    }

    /// A record could not be taken: the stretch is asked for again.
    pub(super) fn not_pulled(&mut self, token: Token) {
        if let Some(Task::Pull(pull)) = self.tasks.get(token) {
            pull.incomplete = true;
        }
        self.pulled_one(token);
    }

    /// A record is durable here; after the last one the pull goes on.
    pub(super) fn pulled_one(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.get(token) else { return };
        pull.open -= 1;
        if pull.open > 0 {
            return;
        }
        if std::mem::take(&mut pull.incomplete) {
            return self.ask_stretch(token);
        }
        // The giver stopped within the stretch, or the stretch ended before the partition does.
        let Some(after) = pull.next.take().or_else(|| pull.until.take()) else { return self.pulled(token) };
        pull.after = Some(after);
        pull.until = None;
        self.ask_stretch(token);
    }

    /// Whether a pull brings back what an accepted loss had taken.
    pub(super) fn returns_after_loss(&mut self, pull: Token) -> bool {
        match self.tasks.get(pull) {
            Some(Task::Pull(pull)) if pull.purpose == Purpose::Handover => {
                self.membership.was_lost(pull.partition)
            }
            _ => false,
        }
    }

    fn pulled(&mut self, token: Token) {
        let Some(Task::Pull(pull)) = self.tasks.take(token) else { return };
        // Now that all records are here: one whose request is known before it comes would pass for a late twin.
        self.requests.learn(self.now, pull.requests);
        if pull.purpose == Purpose::Handover {
            self.transfers.handed_over.remove(&pull.partition);
            let epoch = self.epoch();
            return self.send(pull.from, Message::Released { epoch, partition: pull.partition });
        }
        if let Some(incoming) = self.transfers.incoming.get_mut(&pull.partition) {
            incoming.active = false;
            incoming.copied = true;
            incoming.verified |= pull.phase != Some(Phase::Copy);
        }
        self.pull_on();
    }

    /// Finds the partitions that are held and not owned, and offers them to their owners.
    fn surrender(&mut self, ring: &Ring) {
        self.transfers.look_at_us = Some(self.now.after_ms(LOOK_MS));
        for partition in 0..ring.partitions {
            let owned = self.me.is_some_and(|me| ring.holds(me, partition));
            if !owned && self.membership.has_data(partition) {
                self.transfers.surrenders.entry(partition).or_insert(None);
            }
        }
        self.offer(ring);
    }

    fn offer(&mut self, ring: &Ring) {
        let (now_us, again) = (self.now.mono_us, self.now.after_ms(FETCH_AGAIN_MS));
        // One that was not taken up waits for its turn again.
        self.transfers.surrenders.values_mut().for_each(|at| *at = at.filter(|at| *at > now_us));
        let offered = self.transfers.surrenders.values().flatten().count();
        let due = self.transfers.surrenders.iter_mut().filter(|(_, at)| at.is_none());
        let mut partitions = Vec::new();
        for (partition, at) in due.take(SURRENDERS_MAX.saturating_sub(offered)) {
            *at = Some(again);
            partitions.push(*partition);
        }
        let (host, port) = (self.id.host.clone().into_boxed_str(), self.id.ports.peer);
        for partition in partitions {
            let owner = ring.node(ring.readers(partition)[0]).name;
            if self.me.is_none() {
                // The owner may have joined since this node left: it has to hear where the answer goes.
                self.send(owner, Message::Hello { host: host.clone(), port });
            }
            self.send(owner, Message::Surrender { epoch: ring.epoch, partition });
        }
    }

    pub(super) fn on_surrender(&mut self, from: NodeName, epoch: u64, partition: u32) {
        let Some(ring) = self.ring.clone() else { return };
        if epoch != ring.epoch {
            let news = if epoch > ring.epoch { Some(Message::RingWanted) } else { None };
            return match news {
                Some(message) => self.send(from, message),
                None => self.send_ring(from),
            };
        }
        let owner =
            partition < ring.partitions && self.me.is_some_and(|me| ring.readers(partition).contains(&me));
        // While the partition moves a hand-over would reach one row of owners only: it is offered again.
        let open = self.transfers.handed_over.len() < HANDED_OVER_MAX
            && !self.transfers.handed_over.contains_key(&partition);
        // What a former owner still has may be older than what was lost: it waits until the loss is accepted.
        if owner && open && !ring.moves(partition) && !self.membership.is_lost(partition) {
            self.pull(Pull::new(partition, from, Purpose::Handover, true, None));
        }
    }

    pub(super) fn on_released(&mut self, from: NodeName, epoch: u64, partition: u32) {
        let Some(ring) = self.ring.clone().filter(|r| r.epoch == epoch && partition < r.partitions) else {
            return;
        };
        let owned = self.me.is_some_and(|me| ring.holds(me, partition));
        let by_owner = ring.node(ring.readers(partition)[0]).name == from;
        if !owned && by_owner && self.transfers.surrenders.contains_key(&partition) {
            let token = self.tasks.add(Task::Dropping(Dropping { partition }));
            // From here on, or what a late join brings meanwhile would pass for dropped.
            self.membership.dropped(partition);
            self.requests.forget(partition, ring.partitions);
            self.out.push(Effect::Drop { token, partition });
        }
    }

    pub(super) fn on_dropped(&mut self, token: Token) {
        if !matches!(self.tasks.get(token), Some(Task::Dropping(_))) {
            return;
        }
        if let Some(Task::Dropping(Dropping { partition })) = self.tasks.take(token) {
            self.transfers.surrenders.remove(&partition);
            if let Some(ring) = self.ring.clone() {
                self.offer(&ring);
            }
        }
    }

    pub(super) fn tick_transfers(&mut self) {
        let Some(ring) = self.ring.clone() else { return };
        let due = |at: Option<u64>| at.is_some_and(|at| at <= self.now.mono_us);
        if due(self.transfers.look_at_us) {
            self.surrender(&ring);
        } else if self.transfers.surrenders.values().any(|at| due(*at)) {
            self.offer(&ring);
        }
    }
}

impl Pull {
    fn new(partition: u32, from: NodeName, purpose: Purpose, compares: bool, phase: Option<Phase>) -> Pull {
        Pull {
            partition,
            from,
            purpose,
            compares,
            phase,
            after: None,
            until: None,
            known: Vec::new(),
            fetching: false,
            attempts: Attempts::default(),
            open: 0,
            incomplete: false,
            next: None,
            requests: Vec::new(),
        }
    }
}
