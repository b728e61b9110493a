//! Handing over: partitions that are held and not owned are offered to their owners, pulled by them, and then dropped.
//!
//! Held and not owned is what a former owner still has after a change, and every hint. A former owner drops its data when
//! most owners have all of it. A hint stays until all have, for most of them had it from the first: it is meant for the
//! one that is away. Only where little room is left is most enough.

use super::effect::{Effect, Token};
use super::pull::Pull;
use super::quorums::Row;
use super::task::Task;
use super::transfer::Surrender;
use super::{FETCH_AGAIN_MS, Node};
use ringkv_common::bug::{self, Bug};
use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

/// Partitions offered to their owners at one time.
const SURRENDERS_MAX: usize = 8;
/// How often a node looks for partitions that it holds and does not own, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Hand-overs accepted at one time.
const HANDED_OVER_MAX: usize = 64;

/// A partition whose records the store forgets: its owner has all of it.
#[derive(Debug)]
pub struct Dropping {
    partition: u32,
}

impl Node {
    /// Under a new ring all is offered anew. What was owned until now waits for no owner that is away.
    pub(super) fn surrender_anew(&mut self, ring: &Ring) {
        for surrender in self.transfers.surrenders.values_mut() {
            // Those who have it may be owners no more, or may have lost it since.
            surrender.confirmed.clear();
            surrender.at_us = None;
        }
        let held: Vec<u32> = (0..ring.partitions).filter(|p| self.holds_of_others(ring, *p)).collect();
        self.transfers.surrenders.retain(|partition, _| held.contains(partition));
        for partition in held {
            let hint = self.hints.of(partition) > 0 && self.me.is_some();
            self.transfers.surrenders.entry(partition).or_insert_with(|| Surrender::of(!hint)).former |=
                !hint;
        }
        self.surrender(ring);
    }

    fn holds_of_others(&self, ring: &Ring, partition: u32) -> bool {
        let owned = self.me.is_some_and(|me| ring.holds(me, partition));
        !owned && self.membership.has_data(partition)
    }

    /// Finds the partitions that are held and not owned, and offers them to their owners.
    pub(super) fn surrender(&mut self, ring: &Ring) {
        self.transfers.look_at_us = Some(self.now.after_ms(LOOK_MS));
        let held: Vec<u32> = (0..ring.partitions).filter(|p| self.holds_of_others(ring, *p)).collect();
        for partition in held {
            let hint = self.hints.of(partition) > 0 && self.me.is_some();
            self.transfers.surrenders.entry(partition).or_insert_with(|| Surrender::of(!hint));
        }
        self.offer(ring);
    }

    fn offer(&mut self, ring: &Ring) {
        let (now_us, again_us) = (self.now.mono_us, self.now.after_ms(FETCH_AGAIN_MS));
        let mut offered = 0;
        for surrender in self.transfers.surrenders.values_mut() {
            // One that was not taken up waits for its turn again.
            surrender.at_us = surrender.at_us.filter(|at| *at > now_us);
            offered += usize::from(surrender.at_us.is_some());
        }
        let mut offers = Vec::new();
        let due = self.transfers.surrenders.iter().filter(|(_, surrender)| surrender.at_us.is_none());
        for (partition, surrender) in due {
            if offered + offers.len() >= SURRENDERS_MAX {
                break;
            }
            let to = self.takers(ring, *partition, surrender);
            if !to.is_empty() {
                offers.push((*partition, to));
            }
        }
        let (host, port) = (self.id.host.clone().into_boxed_str(), self.id.ports.peer);
        for (partition, to) in offers {
            let held = self.membership.held(partition);
            if let Some(surrender) = self.transfers.surrenders.get_mut(&partition) {
                if surrender.held != held {
                    surrender.confirmed.clear();
                }
                (surrender.held, surrender.at_us) = (held, Some(again_us));
            }
            for owner in to {
                if self.me.is_none() {
                    // The owner may have joined since this node left: it has to hear where the answer goes.
                    self.send(owner, Message::Hello { host: host.clone(), port });
                }
                self.send(owner, Message::Surrender { epoch: ring.epoch, partition, held });
            }
        }
    }

    /// Whom to offer a partition: owners that do not have all of it yet and answer. A hint waits until all of them
    /// do, for it is kept for the one that is away.
    fn takers(&self, ring: &Ring, partition: u32, surrender: &Surrender) -> Row {
        let owners: Row = ring.names(ring.readers(partition)).collect();
        let waits = !surrender.former && !surrender.forced && !self.hints.press();
        if waits && owners.iter().any(|owner| self.is_away(*owner) || bug::on(Bug::KeepsHints)) {
            return Row::new();
        }
        let same = surrender.held == self.membership.held(partition);
        let has_it = |owner: &NodeName| same && surrender.confirmed.contains(owner);
        owners.into_iter().filter(|owner| !has_it(owner) && !self.is_away(*owner)).collect()
    }

    pub(super) fn on_surrender(&mut self, from: NodeName, epoch: u64, partition: u32, held: u64) {
        let Some(ring) = self.ring.clone() else { return };
        if epoch != ring.epoch {
            let news = if epoch > ring.epoch { Some(Message::RingWanted) } else { None };
            return match news {
                Some(message) => self.send(from, message),
                None => self.send_ring(from),
            };
        }
        if ring.node_named(from).is_none() && self.collection.collected_of(partition) {
            // It left before tombstones were collected, and what it holds may be what they superseded. All that was
            // acknowledged, others had before it left.
            return self.send(from, Message::Released { epoch, partition, held });
        }
        let owner =
            partition < ring.partitions && self.me.is_some_and(|me| ring.readers(partition).contains(&me));
        // While the partition moves a hand-over would reach one row of owners only: it is offered again.
        let open = self.transfers.handed_over.len() < HANDED_OVER_MAX
            && !self.transfers.handed_over.contains_key(&partition);
        // What a former owner still has may be older than what was lost: it waits until the loss is accepted.
        if owner && open && !ring.moves(partition) && !self.membership.is_lost(partition) {
            if bug::on(Bug::ConfirmsUnpulled) {
                return self.send(from, Message::Released { epoch, partition, held });
            }
            self.pull(Pull::handover(partition, from, held));
        }
    }

    pub(super) fn on_released(&mut self, from: NodeName, epoch: u64, partition: u32, held: u64) {
        let Some(ring) = self.ring.clone().filter(|r| r.epoch == epoch && partition < r.partitions) else {
            return;
        };
        let owners: Row = ring.names(ring.readers(partition)).collect();
        if !self.holds_of_others(&ring, partition) || !owners.contains(&from) {
            return;
        }
        let same = self.membership.held(partition) == held;
        let press = self.hints.press();
        let Some(surrender) = self.transfers.surrenders.get_mut(&partition) else { return };
        // What came since that owner looked is offered again.
        if !same || surrender.held != held {
            surrender.at_us = None;
            return;
        }
        if !surrender.confirmed.contains(&from) {
            surrender.confirmed.push(from);
        }
        let most = owners.len() / 2 + 1;
        let enough = if surrender.former || press { most } else { owners.len() };
        let enough = if bug::on(Bug::DropsForOne) { 1 } else { enough };
        if surrender.confirmed.len() >= enough {
            let token = self.tasks.add(Task::Dropping(Dropping { partition }));
            // From here on, or what a late join brings meanwhile would pass for dropped.
            self.membership.dropped(partition);
            self.hints.forget(partition);
            self.requests.forget(partition, ring.partitions);
            self.out.push(Effect::Drop { token, partition });
        } else if surrender.confirmed.len() == owners.len() {
            surrender.at_us = None;
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
        } else if self.transfers.surrenders.values().any(|surrender| due(surrender.at_us)) {
            self.offer(&ring);
        }
    }
}
