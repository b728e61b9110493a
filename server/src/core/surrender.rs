//! Handing over: partitions that are held and not owned are offered to their owners, pulled by them, and then dropped.

use super::effect::{Effect, Token};
use super::pull::Pull;
use super::task::Task;
use super::{FETCH_AGAIN_MS, Node};
use ringkv_common::message::peer::{Message, Purpose};
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
    /// Finds the partitions that are held and not owned, and offers them to their owners.
    pub(super) fn surrender(&mut self, ring: &Ring) {
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
