//! Where Consul has no ring, or an old one: nodes that hold a newer one give it back, and only where none holds any a
//! cluster is founded.

use std::sync::Arc;

use super::{Action, Orchestrator};
use crate::name::NodeName;
use crate::ring::{Node, Ring, plan};

impl Orchestrator {
    /// Consul has no ring: nodes that hold one give it back; where none does, a cluster is founded.
    pub(super) fn found_or_restore(&mut self, actions: &mut Vec<Action>) {
        if self.restore(None, actions) || !self.held.is_empty() {
            return;
        }
        let Some(size) = self.size else { return };
        let names: Vec<NodeName> = (0..size).map(NodeName).collect();
        let healthy = |n: &NodeName| self.candidates.get(n).is_some_and(|c| c.healthy);
        let ringless = |n: &NodeName| self.reports.get(n).is_some_and(|r| r.epoch == 0);
        let live = self.candidates.values().filter(|c| c.healthy).map(|c| &c.node.name);
        if !names.iter().all(healthy) || !live.into_iter().all(ringless) {
            return;
        }
        let nodes = names.iter().map(|n| self.candidates[n].node.clone()).collect();
        if let Ok(ring) = plan::found(&self.config.founding, nodes) {
            self.write(ring, actions);
        }
    }

    /// Where most nodes of a newer ring of this cluster hold it, Consul's was lost or set back: it is written again.
    /// Most, lest a straggler decide; where all nodes of that ring have answered, the newest is known all the same.
    pub(super) fn restore(&mut self, consul: Option<&Ring>, actions: &mut Vec<Action>) -> bool {
        let of_this =
            |r: &&Arc<Ring>| consul.is_none_or(|c| c.cluster_id == r.cluster_id && r.epoch > c.epoch);
        let Some(newest) = self.held.values().filter(of_this).max_by_key(|r| r.epoch).cloned() else {
            return false;
        };
        let holders = newest.nodes.iter().filter(|n| {
            self.held
                .get(&n.name)
                .is_some_and(|r| r.epoch == newest.epoch && r.cluster_id == newest.cluster_id)
        });
        let answered = |n: &Node| self.reports.get(&n.name).is_some_and(|r| r.epoch <= newest.epoch);
        if holders.count() * 2 <= newest.nodes.len() && !newest.nodes.iter().all(answered) {
            return false;
        }
        let mut ring = (*newest).clone();
        if consul.is_none() && ring.epoch == 1 {
            // A node that sees epoch 1 appear takes it for the founding, at which it had nothing to lose.
            ring.epoch = 2;
        }
        self.write(ring, actions);
        true
    }
}
