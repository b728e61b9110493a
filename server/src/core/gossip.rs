//! Gossip on the node's own messages: what the detector wants sent and is told, and what epochs it brings to light.

use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;

use super::Node;
use super::detector::{Refusal, View};
use super::status::Gossip;

/// What gossip has come to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    suspicions: u64,
    downs: u64,
    refused: u64,
}

impl Node {
    /// A peer's packet, and the epoch of its ring: whoever has the older one asks for the newer one.
    pub(super) fn on_gossip(&mut self, from: NodeName, epoch: u64, packet: &[u8], wall_ms: u64) {
        let heard = self.detector.hear(self.now, from, epoch, packet);
        self.gossip.refused += u64::from(heard.is_err());
        if heard.is_ok() {
            self.clocks.hear(self.now, from, wall_ms);
        }
        let mine = self.epoch();
        if epoch > mine {
            self.send(from, Message::RingWanted);
        } else if epoch < mine && heard == Err(Refusal::Stranger) {
            // It is not answered, so it does not hear of the ring that it is not in.
            self.send_ring(from);
        }
        self.tell_gossip();
    }

    pub(super) fn tick_gossip(&mut self) {
        self.detector.tick(self.now);
        self.tell_gossip();
    }

    /// The ring has changed.
    pub(super) fn gossip_in_ring(&mut self) {
        let names: Vec<NodeName> = self.ring.iter().flat_map(|r| &r.nodes).map(|n| n.name).collect();
        self.clocks.retain(|name| names.contains(&name));
        self.detector.ring(self.now, &names);
        self.tell_gossip();
    }

    pub(super) fn switch_gossip(&mut self, on: bool) {
        self.detector.switch(self.now, on);
        self.tell_gossip();
    }

    /// What STATUS says of gossip.
    pub(super) fn gossip_status(&self) -> Gossip {
        let Counts { suspicions, downs, refused } = self.gossip;
        Gossip { on: self.detector.is_on(), suspicions, downs, refused }
    }

    /// Sends what the detector wants sent.
    fn tell_gossip(&mut self) {
        let epoch = self.epoch();
        let wall_ms = self.now.wall_ms;
        for (to, packet) in self.detector.take_outgoing() {
            self.send(to, Message::Gossip { epoch, packet, wall_ms });
        }
        for change in self.detector.take_changes() {
            self.gossip.suspicions += u64::from(change.to == View::Suspect);
            self.gossip.downs += u64::from(change.to == View::Down);
        }
    }
}
