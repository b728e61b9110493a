//! When everything has come to rest, and what must hold of the stores then.

use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use ringkv_common::version::Siblings;
use ringkv_server::core::View;
use ringkv_server::store::Storage;

use crate::cluster::Cluster;
use crate::process::Process;

impl Cluster {
    /// Whether nothing is left to do: no signal, no change, every node has the ring.
    pub fn at_rest(&mut self) -> bool {
        let quiet = self.newest.as_ref().is_some_and(|r| r.change.is_none());
        let consul = self.consul.ring().0.map(|r| r.epoch) == self.newest.as_ref().map(|r| r.epoch);
        quiet && consul && self.consul.signals().is_empty() && self.everybody_has_the_newest_ring()
    }

    /// Waits until each node has what is its own and nothing else, and all know of each other; says what does not come.
    pub(crate) fn settle(&mut self, keys: &[String], wrong: &mut Vec<String>) {
        self.run_until(60_000, |c| c.unsettled(keys).is_empty());
        wrong.extend(self.unsettled(keys).into_iter().map(|what| format!("a minute after rest {what}")));
        wrong.extend(self.emptied(keys));
    }

    /// Keys of which a node has seen versions and holds none, not even a tombstone: two that superseded each other.
    fn emptied(&self, keys: &[String]) -> Vec<String> {
        let mut emptied = Vec::new();
        for (name, process) in &self.processes {
            let states =
                keys.iter().filter_map(|text| Some((text, process.store.read(&Key::new(text).ok()?))));
            let empty =
                states.filter(|(_, state)| state.versions.is_empty() && *state != Siblings::default());
            emptied.extend(empty.map(|(text, state)| {
                format!("{name} holds nothing of {text}, and has seen {:?}", state.clock)
            }));
        }
        emptied
    }

    fn unsettled(&self, keys: &[String]) -> Vec<String> {
        let others = self.holders_of_others().into_iter();
        let mut left: Vec<String> =
            others.map(|(name, of)| format!("{name} still holds {of:?} of others")).collect();
        for (name, status) in self.running().into_iter().filter_map(|n| Some((n, self.status(n)?))) {
            if status.report.filling > 0 {
                left.push(format!("{name} still fills {} partitions", status.report.filling));
            }
            // Who is in no ring any more has no view of others.
            for peer in status.peers.iter().filter(|p| matches!(p.view, View::Suspect | View::Down)) {
                left.push(format!("{name} takes {} for {:?}", peer.node, peer.view));
            }
        }
        // Nobody has read them since: what owners lack they have from each other.
        left.extend(self.differing(keys));
        left
    }

    /// Nodes that hold partitions which they do not own.
    pub(crate) fn holders_of_others(&self) -> Vec<(NodeName, Vec<u32>)> {
        let Some(ring) = &self.newest else { return Vec::new() };
        let of = |(name, process): (&NodeName, &Process)| {
            let me = ring.index_of(*name);
            let owns = |p: u32| me.is_some_and(|me| ring.holds(me, p));
            let others = process.store.measures().into_iter().map(|(p, _)| p).filter(|p| !owns(*p));
            (*name, others.collect::<Vec<u32>>())
        };
        self.processes.iter().map(of).filter(|(_, others)| !others.is_empty()).collect()
    }

    /// Records that a node holds of partitions which it does not own: hints, or what it has not handed over yet.
    pub(crate) fn records_of_others(&self, name: NodeName) -> u64 {
        let (Some(ring), Some(process)) = (&self.newest, self.processes.get(&name)) else { return 0 };
        let me = ring.index_of(name);
        let owns = |p: u32| me.is_some_and(|me| ring.holds(me, p));
        process.store.measures().into_iter().filter(|(p, _)| !owns(*p)).map(|(_, m)| m.stored).sum()
    }

    /// Keys whose owners do not hold the same state.
    pub(crate) fn differing(&self, keys: &[String]) -> Vec<String> {
        let Some(ring) = self.newest.clone() else { return Vec::new() };
        let differs = |text: &String| {
            let key = Key::new(text).ok()?;
            let owners = ring.names(ring.readers(key.partition(ring.partitions)));
            let states: Vec<(NodeName, Option<Siblings>)> = owners
                .map(|n| (n, self.processes.get(&n).map(|p| self.uncollected(&key, p.store.read(&key)))))
                .collect();
            let differs = states.windows(2).any(|pair| pair[0].1 != pair[1].1);
            differs.then(|| format!("{text} differs among its owners: {states:?}"))
        };
        keys.iter().filter_map(differs).collect()
    }

    /// Whether one node may be killed: all others hold the ring, and with replicas all that the killed one holds.
    ///
    /// Who stands in for an owner may be one of two that hold a write: then nobody may be killed until it is handed over.
    pub(crate) fn may_kill(&mut self) -> bool {
        let Some(ring) = self.newest.clone() else { return false };
        let whole = |name: NodeName| self.status(name).is_some_and(|s| s.epoch > 0 && s.report.filling == 0);
        let others = ring.owners.width() == 1 || ring.nodes.iter().all(|n| whole(n.name));
        let hinted = self.settings.weak() && !self.holders_of_others().is_empty();
        others && !hinted && self.everybody_has_the_newest_ring()
    }
}
