//! Whom to ask: pure, from the ring alone.
//!
//! A key's partition names its owners; the first of those that reads ask coordinates. Any node answers for any key
//! by forwarding, so when the coordinator does not answer the others follow: first those that hold the data, then
//! the rest, each partition starting with another one so that a dead node's work spreads.

use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::placement::NodeIndex;
use ringkv_common::ring::Ring;

/// Routes keys by one ring.
#[derive(Clone, Debug)]
pub struct Routing {
    ring: Arc<Ring>,
}

impl Routing {
    /// Routing by this ring.
    pub fn new(ring: Arc<Ring>) -> Routing {
        Routing { ring }
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// A key's partition.
    pub fn partition(&self, key: &Key) -> u32 {
        key.partition(self.ring.partitions)
    }

    /// The node that coordinates a partition's requests, as an index into [`Ring::nodes`].
    pub fn coordinator(&self, partition: u32) -> NodeIndex {
        self.ring.readers(partition)[0]
    }

    /// All nodes, in the order in which they are to be asked about a partition: the coordinator, the other readers,
    /// the owners of the other row while the partition moves, then all others, from a place that varies.
    pub fn order(&self, partition: u32) -> Vec<NodeIndex> {
        let ring = &self.ring;
        let mut order: Vec<NodeIndex> = Vec::with_capacity(ring.nodes.len());
        let mut add = |node: NodeIndex| {
            if !order.contains(&node) {
                order.push(node);
            }
        };
        ring.readers(partition).iter().copied().for_each(&mut add);
        ring.owners.owners(partition).iter().copied().for_each(&mut add);
        if let Some(change) = &ring.change {
            change.target.owners(partition).iter().copied().for_each(&mut add);
        }
        let count = ring.nodes.len();
        (0..count).map(|n| ((partition as usize + n) % count) as NodeIndex).for_each(&mut add);
        order
    }

    /// The node to ask at this attempt, counted from 0; after all were asked it starts anew.
    pub fn nth(&self, partition: u32, attempt: usize) -> NodeIndex {
        if attempt == 0 {
            return self.coordinator(partition);
        }
        let order = self.order(partition);
        order[attempt % order.len()]
    }
}

#[cfg(test)]
mod tests {
    use ringkv_common::name::NodeName;
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::plan::{self, Founding};
    use ringkv_common::ring::{ClusterId, Node, SignalId};

    use super::*;

    fn node(n: u16) -> Node {
        let ports = NodeName(n).ports(None).expect("below 100");
        let host = "127.0.0.1".to_owned();
        Node { name: NodeName(n), incarnation: 1, host, ports, zone: format!("z{n}"), weight: 100 }
    }

    fn ring(nodes: u16) -> Ring {
        let founding = Founding {
            cluster_id: ClusterId(7),
            strategy: Strategy::Hrw,
            chosen: false,
            partitions: 64,
            replicas: 2,
            balance: Some(5.0),
        };
        plan::found(&founding, (0..nodes).map(node).collect()).expect("a ring")
    }

    fn signal() -> SignalId {
        SignalId { name: "node-9".into(), index: 1 }
    }

    #[test]
    fn the_first_reader_coordinates_and_every_node_follows_once() {
        let routing = Routing::new(Arc::new(ring(5)));
        for partition in 0..64 {
            let order = routing.order(partition);
            assert_eq!(order[..2], *routing.ring().readers(partition));
            assert_eq!(routing.coordinator(partition), order[0]);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
            for attempt in 0..12 {
                assert_eq!(routing.nth(partition, attempt), order[attempt % 5]);
            }
        }
    }

    #[test]
    fn the_work_of_dead_owners_spreads_over_the_others() {
        let routing = Routing::new(Arc::new(ring(8)));
        let mut thirds: Vec<NodeIndex> = (0..64).map(|p| routing.order(p)[2]).collect();
        thirds.sort_unstable();
        thirds.dedup();
        assert!(thirds.len() >= 6, "only {thirds:?} follow the owners");
    }

    #[test]
    fn reads_move_over_at_switch_and_former_owners_come_next() {
        let mut ring = plan::add(&ring(3), node(9), signal()).expect("room for one");
        let moving = (0..64).find(|p| ring.moves(*p)).expect("something moves");
        let old = Routing::new(Arc::new(ring.clone())).order(moving)[..2].to_vec();
        ring = ring.advanced().advanced();
        let routing = Routing::new(Arc::new(ring.clone()));
        let new = &ring.change.as_ref().expect("it runs").target;
        assert_eq!(routing.order(moving)[..2], *new.owners(moving));
        let third = routing.order(moving)[2];
        assert!(old.contains(&third), "{third} comes before the former owners {old:?}");
    }
}
