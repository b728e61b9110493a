//! The ring in force at this node: adopting a newer one, saying yes or no to a change, knowing what is lost.
//!
//! Adopting is one step: requests that no replica has applied start again under the new ring, writes that are under
//! way count their quorum anew under it, and from then on the node serves the new epoch alone. So by the end of the
//! step no request of an earlier epoch is left, which is what the node then confirms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringkv_common::bug::{self, Bug};
use ringkv_common::key::Key;
use ringkv_common::message::Terms;
use ringkv_common::message::peer::Message;
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::name::{NodeName, is_host};
use ringkv_common::ring::orchestrator::Question;
use ringkv_common::ring::{NODES_MAX, Node as RingNode, Phase, Ring};
use serde::Serialize;

use super::Node;
use super::effect::{Client, Effect, Token};
use super::task::{Greeting, Op, OpStage, Task};

/// How long a removed node goes on forwarding, in milliseconds.
const FORWARD_AFTER_REMOVAL_MS: u64 = 5_000;
/// How long it then has to answer what is under way, in milliseconds.
const LAST_ANSWERS_MS: u64 = 2_000;
/// How often a peer is sent the same ring at most, in milliseconds.
const RING_MS: u64 = 100;
/// How often a newcomer greets those who have not answered, in milliseconds.
const GREET_MS: u64 = 200;

/// What a node knows of its membership.
#[derive(Debug, Default)]
pub struct Membership {
    /// Consul was seen without a ring: if the first one comes, there was nothing that could be lost.
    saw_no_ring: bool,
    /// What is held of each partition. Empty without a ring.
    data: Vec<Held>,
    /// Partitions whose data went with this node's memory.
    lost: BTreeSet<u32>,
    /// Those of them whose loss was accepted, while this node owns them.
    accepted: BTreeSet<u32>,
    /// When which peer was last sent the ring, and of which epoch.
    rings_sent: BTreeMap<NodeName, (u64, u64)>,
    /// When a removed node may leave.
    leave_at_us: Option<u64>,
    /// When all that is under way has to be answered, since the node ends then.
    pub(super) close_at_us: Option<u64>,
    left: bool,
    /// Listings under way.
    pub(super) listings: usize,
    pub(super) counters: Counters,
}

/// How often a partition was given records here, and how often when all of them were last dropped.
#[derive(Clone, Debug, Default)]
struct Held {
    count: u64,
    dropped: u64,
}

/// What was not taken, for STATUS.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames of another cluster, or that make no sense.
    pub foreign_frames: u64,
    /// Rings of another cluster, or unreadable ones.
    pub refused_rings: u64,
    /// Messages that no peer took.
    pub unsent: u64,
    /// Versions whose stamps are too far ahead.
    pub stamps: u64,
}

impl Membership {
    pub(super) fn saw_no_ring(&mut self) {
        self.saw_no_ring = true;
    }

    pub(super) fn wake_at(&self) -> Option<u64> {
        let leave = self.leave_at_us.filter(|_| !self.left);
        leave.into_iter().chain(self.close_at_us).min()
    }

    pub(super) fn is_lost(&self, partition: u32) -> bool {
        self.lost.contains(&partition)
    }

    pub(super) fn was_lost(&self, partition: u32) -> bool {
        self.accepted.contains(&partition)
    }

    pub(super) fn lost(&self) -> &BTreeSet<u32> {
        &self.lost
    }

    pub(super) fn has_data(&self, partition: u32) -> bool {
        self.of(partition).is_some_and(|held| held.count > held.dropped)
    }

    fn of(&self, partition: u32) -> Option<&Held> {
        self.data.get(partition as usize)
    }

    /// How often a partition was given records: it holds the same while this stays the same.
    pub(super) fn held(&self, partition: u32) -> u64 {
        self.of(partition).map_or(0, |held| held.count)
    }

    /// Whether all is still there that was when it had been given records so often.
    pub(super) fn holds_since(&self, partition: u32, count: u64) -> bool {
        self.of(partition).is_some_and(|held| held.dropped < count && count <= held.count)
    }

    /// What this node had of a partition is gone, and so is what others had.
    pub(super) fn loses(&mut self, partition: u32) {
        self.lost.insert(partition);
    }

    /// A record of this key is about to be kept.
    pub(super) fn holds(&mut self, key: &Key, ring: Option<&Ring>) {
        if let Some(ring) = ring
            && let Some(held) = self.data.get_mut(key.partition(ring.partitions) as usize)
        {
            held.count += 1;
        }
    }

    pub(super) fn dropped(&mut self, partition: u32) {
        if let Some(held) = self.data.get_mut(partition as usize) {
            held.dropped = held.count;
        }
    }

    pub(super) fn count_foreign_frame(&mut self) {
        self.counters.foreign_frames += 1;
    }

    pub(super) fn count_unsent(&mut self, _to: NodeName) {
        self.counters.unsent += 1;
    }
}

impl Node {
    /// Goes by a newer ring from here on. One of another cluster or of no higher epoch changes nothing.
    pub(super) fn on_ring(&mut self, ring: Arc<Ring>) {
        if let Some(mine) = &self.ring {
            // Their number never changes: a ring with another would empty the store.
            let foreign = mine.cluster_id != ring.cluster_id || mine.partitions != ring.partitions;
            self.membership.counters.refused_rings += u64::from(foreign);
            let back = mine.epoch > ring.epoch && bug::on(Bug::TakesOldRing);
            if foreign || mine.epoch >= ring.epoch && !back {
                return;
            }
        }
        let was_in = self.me.is_some();
        self.membership.data.resize(ring.partitions as usize, Held::default());
        self.note_losses(&ring);
        self.me = ring.index_of(self.id.name);
        if was_in && self.me.is_none() {
            self.membership.leave_at_us = Some(self.now.after_ms(FORWARD_AFTER_REMOVAL_MS));
        } else if self.me.is_some() && self.membership.leave_at_us.take().is_some() {
            self.membership.close_at_us = None;
        }
        self.ring = Some(ring.clone());
        let me = self.me;
        self.hints.retain(|partition| me.is_none_or(|me| !ring.holds(me, partition)));
        self.out.push(Effect::Adopted(ring.clone()));
        self.restart_requests(&ring);
        self.begin_transfers(&ring);
        self.anti_entropy_in_ring(&ring);
        self.collect_in_ring(&ring);
        self.gossip_in_ring();
    }

    /// A partition that this node owns under the new ring, and that it neither owned before nor has received as a whole,
    /// went with the memory of an earlier life: it is filled by its other owners, or lost where there are none. At the
    /// founding nothing was there to be lost.
    fn note_losses(&mut self, ring: &Ring) {
        let name = self.id.name;
        let owned =
            |ring: &Ring, p: u32| ring.index_of(name).is_some_and(|me| ring.owners.owners(p).contains(&me));
        let before = self.ring.as_deref();
        let founding = before.is_none() && ring.epoch == 1 && self.membership.saw_no_ring;
        let has = |p: u32| founding || before.is_some_and(|b| owned(b, p)) || self.transfers.has(p);
        let missing = (0..ring.partitions).filter(|p| owned(ring, *p) && !has(*p));
        let (news, filled): (Vec<u32>, Vec<u32>) = missing.partition(|p| ring.owners.owners(*p).len() == 1);
        // What it owns no more somebody else has, or says that it is lost.
        let kept: Vec<u32> = self.membership.lost.iter().copied().filter(|p| owned(ring, *p)).collect();
        let accepted = self.membership.accepted.iter().copied().filter(|p| owned(ring, *p)).collect();
        let said = |_: &u32| !bug::on(Bug::HidesLoss);
        self.membership.lost = kept.into_iter().chain(news).filter(said).collect();
        self.membership.accepted = accepted;
        self.fill(ring, if bug::on(Bug::CountsMemoryless) { Vec::new() } else { filled });
    }

    pub(super) fn on_ring_text(&mut self, text: &str) {
        match Ring::from_json(text.as_bytes()) {
            Ok(ring) => self.on_ring(Arc::new(ring)),
            Err(_) => self.membership.counters.refused_rings += 1,
        }
    }

    /// Sends a peer the ring; once in a while, though each of its requests may show that it lacks it.
    pub(super) fn send_ring(&mut self, to: NodeName) {
        let (epoch, now_us) = (self.epoch(), self.now.mono_us);
        let sent = self.membership.rings_sent.get(&to);
        if sent.is_some_and(|(of, at)| *of == epoch && at.saturating_add(RING_MS * 1000) > now_us) {
            return;
        }
        if self.membership.rings_sent.len() >= NODES_MAX {
            self.membership.rings_sent.clear();
        }
        self.membership.rings_sent.insert(to, (epoch, now_us));
        let text = self.ring.as_ref().and_then(|r| r.to_json().ok());
        if let Some(text) = text {
            self.send(to, Message::Ring(text.into()));
        }
    }

    /// Whatever was under way goes on under the ring as it is now.
    fn restart_requests(&mut self, ring: &Arc<Ring>) {
        let mut tokens = self.tasks.tokens();
        tokens.sort_unstable();
        for token in tokens {
            match self.tasks.get(token) {
                Some(Task::Op(Op { stage: OpStage::Forwarded { .. }, .. }))
                    if bug::on(Bug::ForgetsForwarded) =>
                {
                    self.tasks.take(token);
                }
                Some(Task::Op(op @ Op { stage: OpStage::Forwarded { .. }, .. })) => {
                    op.attempts.anew();
                    self.coordinate_again(token);
                }
                Some(Task::Op(op @ Op { stage: OpStage::Writing(_), .. }))
                    if !bug::on(Bug::KeepsOldQuorum) =>
                {
                    let (key, terms) = (op.op.key().clone(), op.terms);
                    self.recount(token, &key, &terms);
                }
                Some(Task::Op(op @ Op { stage: OpStage::Gathering(_), .. })) => {
                    op.attempts.anew();
                    self.coordinate_again(token);
                }
                // Who owns the key now is told by whoever hands over, or compares.
                Some(Task::Spread(_)) => self.end_spread(token),
                Some(Task::Listing(_)) => self.list_again(token),
                _ => {}
            }
        }
        debug_assert_eq!(self.epoch(), ring.epoch);
    }

    /// Why this node does not serve a partition that the ring says it alone reads for, if so.
    pub(super) fn not_serving(&self, partition: u32) -> Option<String> {
        let ring = self.ring.as_ref()?;
        if ring.readers(partition).len() > 1 {
            return None;
        }
        if !self.is_whole(partition) {
            return Some(self.fills_again(partition));
        }
        // The receiver may have what was lost here, and soon decides: until then a write might supersede nothing.
        let moves = ring.moves(partition) && ring.change.as_ref()?.phase != Phase::Switch;
        let undecided = moves && self.membership.is_lost(partition);
        undecided
            .then(|| format!("{} lost partition {partition} while it moves, try again soon", self.id.name))
    }

    /// Why this node's records of a partition are no whole listing, if so.
    pub(super) fn not_listing(&self, partition: u32) -> Option<String> {
        let fills = || (!self.is_whole(partition)).then(|| self.fills_again(partition));
        self.not_serving(partition).or_else(fills)
    }

    fn fills_again(&self, partition: u32) -> String {
        format!("{} is still receiving partition {partition} after a restart, try again soon", self.id.name)
    }

    /// An orchestrator asks whether a change may begin. An answer is no promise and leaves nothing behind.
    pub(super) fn on_consent(
        &mut self,
        client: Client,
        id: Option<Box<str>>,
        terms: Terms,
        question: Question,
    ) {
        if question.kind.joins() == Some(self.id.name) && self.me.is_none() {
            if self.membership.leave_at_us.is_some() {
                let why = "it is leaving the ring it was in: it can join again when its process has ended";
                return self.answer_consent(client, id.as_deref(), Err(why.to_owned()));
            }
            return self.greet(client, id, terms, question.reach);
        }
        let answer = self.consent(&question);
        self.answer_consent(client, id.as_deref(), answer);
    }

    fn consent(&self, question: &Question) -> Result<(), String> {
        let ring = self.ring.as_ref().ok_or("it has no ring yet")?;
        if ring.epoch != question.base {
            return Err(format!("its ring has epoch {}, the plan starts from {}", ring.epoch, question.base));
        }
        if let Some(change) = &ring.change {
            return Err(format!("another change runs: {}, phase {}", change.kind, change.phase));
        }
        if !self.membership.lost.is_empty() {
            let lost = self.membership.lost.len();
            return Err(format!(
                "it lost {lost} partitions with its memory: client_producer accept-loss says so be it"
            ));
        }
        if self.transfers.surrendering() > 0 {
            return Err(format!(
                "it still hands over {} partitions of the last change",
                self.transfers.surrendering()
            ));
        }
        Ok(())
    }

    fn answer_consent(&mut self, client: Client, id: Option<&str>, answer: Result<(), String>) {
        #[derive(Serialize)]
        struct Answer {
            status: &'static str,
            consent: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<String>,
        }
        let answer = Answer { status: "OK", consent: answer.is_ok(), reason: answer.err() };
        self.reply(client, |envelope| reply::plain(&answer, &envelope), id, Terms::default(), None);
    }

    /// A newcomer says yes when every peer it was told of has answered it.
    fn greet(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, reach: Vec<RingNode>) {
        let silent: Vec<NodeName> = reach.iter().map(|n| n.name).collect();
        for node in &reach {
            let (host, port) = (node.host.clone().into_boxed_str(), node.ports.peer);
            self.out.push(Effect::Connect { node: node.name, host, port });
        }
        let deadline_us = self.now.after_ms(u64::from(terms.timeout_ms));
        let token = self.tasks.add(Task::Greeting(Box::new(Greeting { client, id, silent, deadline_us })));
        self.end_greeting(token);
    }

    /// Greets whoever is silent, or answers: when all have answered, or when time is up.
    pub(super) fn end_greeting(&mut self, token: Token) {
        let now = self.now;
        let Some(Task::Greeting(greeting)) = self.tasks.get(token) else { return };
        if !greeting.silent.is_empty() && now.mono_us < greeting.deadline_us {
            let silent = greeting.silent.clone();
            let again = now.after_ms(GREET_MS).min(greeting.deadline_us);
            let (host, port) = (self.id.host.clone().into_boxed_str(), self.id.ports.peer);
            for to in silent {
                self.send(to, Message::Hello { host: host.clone(), port });
            }
            return self.tasks.alarm(token, again);
        }
        let Some(Task::Greeting(greeting)) = self.tasks.take(token) else { return };
        let names: Vec<String> = greeting.silent.iter().map(|n| n.to_string()).collect();
        let answer =
            if names.is_empty() { Ok(()) } else { Err(format!("it cannot reach {}", names.join(", "))) };
        self.answer_consent(greeting.client, greeting.id.as_deref(), answer);
    }

    /// A node that is not in the ring asks whether it is heard.
    pub(super) fn on_hello(&mut self, from: NodeName, host: Box<str>, port: u16) {
        let known = self.ring.as_ref().is_some_and(|r| r.node_named(from).is_some());
        if !known && !is_host(&host) {
            return self.membership.count_foreign_frame();
        }
        if !known {
            self.out.push(Effect::Connect { node: from, host, port });
        }
        self.send(from, Message::Welcome);
    }

    pub(super) fn on_welcome(&mut self, from: NodeName) {
        for token in self.tasks.tokens() {
            if let Some(Task::Greeting(greeting)) = self.tasks.get(token) {
                greeting.silent.retain(|n| *n != from);
                if greeting.silent.is_empty() {
                    self.end_greeting(token);
                }
            }
        }
    }

    /// ACCEPT_LOSS: the operator knows that data is lost; what is there now is all there is.
    pub(super) fn accept_loss(&mut self, client: Client, id: Option<Box<str>>, terms: Terms) {
        #[derive(Serialize)]
        struct Accepted {
            status: &'static str,
            accepted_partitions: usize,
        }
        let accepted = std::mem::take(&mut self.membership.lost);
        let accepted_partitions = accepted.len();
        self.membership.accepted.extend(accepted);
        let answer = Accepted { status: "OK", accepted_partitions };
        self.reply(client, |envelope: Envelope| reply::plain(&answer, &envelope), id.as_deref(), terms, None);
    }

    pub(super) fn tick_membership(&mut self) {
        let due = self.membership.leave_at_us.is_some_and(|at| at <= self.now.mono_us);
        if !due || self.membership.left {
            return;
        }
        let over = self.transfers.surrendering() == 0 || bug::on(Bug::LeavesEarly);
        if over && self.keys.len() == 0 {
            // Whoever still asks it is told so from now on, and whoever waits for it is answered.
            self.close(LAST_ANSWERS_MS);
            if !self.owes() {
                self.membership.left = true;
                return self.out.push(Effect::Leave);
            }
        }
        self.membership.leave_at_us = Some(self.now.after_ms(50));
    }
}
