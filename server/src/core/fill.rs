//! Partitions whose records went with this node's memory, while other owners still have theirs: pulled again from these.
//!
//! Until that is through the node is no full owner: what it holds is joined by reads and counts for none, and it leaves
//! coordinating to others. An acknowledged write has W owners, so it is enough to have compared with N − W + 1 of the
//! others. Where none of those has anything left either, the partition is lost, and that is said.

use std::collections::BTreeMap;

use ringkv_common::bug::{self, Bug};
use ringkv_common::message::peer::Purpose;
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Phase, Ring};

use super::Node;
use super::pull::Pull;
use super::quorums::Row;
use super::transfer::Incoming;

/// Partitions filled at one time.
const FILLS_MAX: usize = 4;

impl Node {
    /// Whether this node has all that it ever acknowledged of a partition that it owns.
    pub(super) fn is_whole(&self, partition: u32) -> bool {
        !self.transfers.fills.contains_key(&partition) && !self.still_receives(partition)
    }

    /// Whether reads go to this node as an owner of the target table that has not compared: it came back within `switch`.
    pub(super) fn still_receives(&self, partition: u32) -> bool {
        let change = self.ring.as_ref().and_then(|ring| ring.change.as_ref());
        let switched = change.is_some_and(|change| change.phase == Phase::Switch);
        switched && self.transfers.incoming.get(&partition).is_some_and(|incoming| !incoming.verified())
    }

    /// Has these partitions filled, and goes by the owners of this ring.
    pub(super) fn fill(&mut self, ring: &Ring, news: impl IntoIterator<Item = u32>) {
        let me = self.id.name;
        let others = |p: u32| ring.names(ring.owners.owners(p)).filter(|name| *name != me).collect::<Row>();
        let mut fills: BTreeMap<u32, Incoming> = std::mem::take(&mut self.transfers.fills);
        fills.retain(|p, _| ring.index_of(me).is_some_and(|me| ring.owners.owners(*p).contains(&me)));
        for partition in news {
            fills.entry(partition).or_insert_with(|| Incoming::of(Row::new(), 0));
        }
        for (partition, fill) in &mut fills {
            let from = others(*partition);
            let most = if bug::on(Bug::FillsFromOne) { 1 } else { from.len() };
            fill.needed = compared_min(from.len() + 1).min(most);
            fill.compared.retain(|name| from.contains(name));
            fill.lacking.retain(|name| from.contains(name));
            (fill.from, fill.active) = (from, false);
        }
        // Its former owner may still hand it over, and may have missed what was written since.
        for partition in fills.iter().filter(|(_, fill)| fill.from.is_empty()).map(|(p, _)| *p) {
            self.membership.loses(partition);
        }
        // With fewer owners it may have been compared with enough of them already.
        fills.retain(|_, fill| !fill.from.is_empty() && !fill.verified());
        self.transfers.fills = fills;
    }

    /// Begins as many pulls as may run at once.
    pub(super) fn fill_on(&mut self) {
        if self.ring.is_none() {
            return;
        }
        let active = self.transfers.fills.values().filter(|fill| fill.active).count();
        let idle = self.transfers.fills.iter().filter(|(_, fill)| !fill.active);
        let begin: Vec<u32> = idle.map(|(p, _)| *p).take(FILLS_MAX.saturating_sub(active)).collect();
        for partition in begin {
            let Some(from) = self.source(partition, Purpose::Fill) else { continue };
            if let Some(fill) = self.transfers.fills.get_mut(&partition) {
                fill.active = true;
                let compares = fill.copied;
                self.pull(Pull::new(partition, from, Purpose::Fill, compares, None));
            }
        }
    }

    /// A pull from another owner is through.
    pub(super) fn filled(&mut self, partition: u32, from: NodeName, whole: bool) {
        let Some(fill) = self.transfers.fills.get_mut(&partition) else { return };
        (fill.active, fill.copied) = (false, true);
        if !fill.compared.contains(&from) {
            fill.compared.push(from);
        }
        if !whole && !fill.lacking.contains(&from) {
            fill.lacking.push(from);
        }
        if fill.compared.len() >= fill.needed {
            let lost = fill.lacking.len() == fill.compared.len();
            self.transfers.fills.remove(&partition);
            if lost {
                self.membership.loses(partition);
            }
        }
        self.fill_on();
    }
}

/// With how many of `of` owners one has to compare to meet every write that more than half of them acknowledged.
pub(super) fn compared_min(of: usize) -> usize {
    of - (of / 2 + 1) + 1
}
