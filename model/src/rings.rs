//! Every ring that the changes can lead to, made by the real `plan`, `advanced` and `aborted`, and what each one asks
//! of the nodes, as tables: who owns the key, what is a quorum by the real [`Quorum`], and when the next phase may come
//! by the real `standing`. All tables are asked millions of times, so each question is put to the real code once.

use ringkv_common::name::NodeName;
use ringkv_common::placement::{NodeIndex, Strategy};
use ringkv_common::quorum::{Quorum, Verdict};
use ringkv_common::ring::plan::{self, Founding};
use ringkv_common::ring::{ClusterId, Node, Phase, Ring, SignalId};

use crate::config::{Bug, Config, Signal};
use crate::gate::{CODES, Code, classes, ready};

/// A ring's place in [`Rings`]. The founding ring is 0.
pub type RingId = u8;
/// Nodes as bits, by their numbers.
pub type Nodes = u8;
const PARTITIONS: u32 = 64;

/// One ring, from the key's point of view.
#[derive(Debug)]
pub struct View {
    /// The ring itself.
    pub ring: Ring,
    /// Its epoch.
    pub epoch: u64,
    /// The change's phase.
    pub phase: Option<Phase>,
    /// Signals taken up so far; also which change this ring is of.
    pub signals: u8,
    /// The nodes of the ring.
    pub members: Nodes,
    /// Whom reads ask.
    pub readers: Nodes,
    /// Whom former owners hand over to.
    pub first: usize,
    /// The owners before the change's end.
    pub old: Nodes,
    /// All whom a write is told.
    pub told: Nodes,
    /// Those of the new owners that were none before.
    pub gains: Nodes,
    /// Those who compare under `both`.
    pub compares: Nodes,
    /// Owners, old or new.
    pub holds: Nodes,
    /// `[nodes that applied it]`: whether that acknowledges a write.
    pub write_enough: Vec<bool>,
    /// `[nodes that answered]`: whether that is enough for a read.
    pub read_enough: Vec<bool>,
    /// `[codes of all nodes]`: whether the next phase may come.
    pub ready: Vec<bool>,
    /// `[node][code]`: the least code that no decision tells apart from it.
    pub class: Vec<[Code; CODES]>,
    /// The ring of the next phase.
    pub next: Option<RingId>,
    /// The ring with the change taken back.
    pub back: Option<RingId>,
    /// The ring with which the next signal's change begins; `None` where there is none or it is refused.
    pub begun: Option<RingId>,
}

/// All rings of a world.
#[derive(Debug)]
pub struct Rings {
    /// By [`RingId`].
    pub views: Vec<View>,
    /// The partition that the key is in.
    pub partition: u32,
}

impl Rings {
    /// All rings that the signals of a world can lead to.
    ///
    /// # Panics
    /// Where they are more than 64, or the world has more than 4 nodes.
    pub fn new(config: &Config) -> Rings {
        assert!(config.nodes() <= 4, "the model's states have room for 4 nodes");
        let mut grown =
            vec![Grown { ring: founded(config), signals: 0, next: None, back: None, begun: None }];
        let mut at = 0;
        while at < grown.len() {
            grow(config, &mut grown, at);
            at += 1;
        }
        assert!(grown.len() <= 64, "{} rings are too many for the model's states", grown.len());
        // The key whose partition moves most often makes the hardest world.
        let moves = |p: &u32| grown.iter().filter(|g| g.ring.moves(*p)).count();
        let partition = (0..PARTITIONS).max_by_key(moves).expect("there are partitions");
        Rings { views: grown.into_iter().map(|g| view(config, g, partition)).collect(), partition }
    }
}

/// A ring and where it leads.
struct Grown {
    ring: Ring,
    signals: u8,
    next: Option<RingId>,
    back: Option<RingId>,
    begun: Option<RingId>,
}

fn founded(config: &Config) -> Ring {
    let founding = Founding {
        cluster_id: ClusterId(1),
        strategy: Strategy::Consistent,
        chosen: true,
        partitions: PARTITIONS,
        replicas: config.quorum.0,
        balance: Some(5.0),
    };
    plan::found(&founding, (0..config.founders).map(node).collect()).expect("a handful of nodes make a ring")
}

fn node(n: u16) -> Node {
    let name = NodeName(n);
    let ports = name.ports(None).expect("numbers below 100 have ports");
    Node { name, incarnation: 0, host: "h".into(), ports, zone: "z".into(), weight: 100 }
}

fn grow(config: &Config, grown: &mut Vec<Grown>, at: usize) {
    let (ring, signals) = (grown[at].ring.clone(), grown[at].signals);
    let mut add = |ring: Ring, signals: u8| {
        grown.push(Grown { ring, signals, next: None, back: None, begun: None });
        RingId::try_from(grown.len() - 1).ok()
    };
    if let Some(change) = &ring.change {
        let next = add(ring.advanced(), signals);
        let mut from = ring.clone();
        if config.has(Bug::AbortsAfterSwitch)
            && change.phase == Phase::Switch
            && let Some(change) = &mut from.change
        {
            change.phase = Phase::Both;
        }
        let back = from.aborted("somebody wants it").and_then(|ring| add(ring, signals));
        (grown[at].next, grown[at].back) = (next, back);
    } else if let Some(signal) = config.signals.get(usize::from(signals)) {
        let id = SignalId { name: "signal".into(), index: u64::from(signals) + 1 };
        let plan = match signal {
            Signal::Add(n) => plan::add(&ring, node(*n), id),
            Signal::Remove(n) => plan::remove(&ring, NodeName(*n), id),
        };
        grown[at].begun = plan.ok().and_then(|ring| add(ring, signals + 1));
    }
}

fn view(config: &Config, grown: Grown, partition: u32) -> View {
    let Grown { ring, signals, next, back, begun } = grown;
    let bits = |row: &[NodeIndex]| ring.names(row).fold(0, |m: Nodes, n| m | 1 << n.0);
    let route = ring.route(partition);
    let phase = ring.change.as_ref().map(|c| c.phase);
    let old = bits(route.writers);
    let target = route.also.map_or(old, |(row, _)| bits(row));
    let readers = match phase {
        Some(Phase::Both) if config.has(Bug::ReadsNewInBoth) => target,
        _ => bits(ring.readers(partition)),
    };
    let first = usize::from(ring.node(ring.readers(partition)[0]).name.0);
    let members = ring.nodes.iter().fold(0, |m: Nodes, n| m | 1 << n.name.0);
    let incoming = |n: &NodeIndex| ring.incoming(*n).iter().any(|(p, _)| *p == partition);
    let receive = bits(&(0..ring.nodes.len() as NodeIndex).filter(incoming).collect::<Vec<_>>());
    let gains = receive & !old;
    let stay = if config.has(Bug::StayersDoNotCompare) { 0 } else { receive & old };
    let compares = gains | stay;
    let ready = if ring.change.is_some() { ready(config, &ring, old, compares) } else { Vec::new() };
    View {
        epoch: ring.epoch,
        phase,
        signals,
        members,
        readers,
        first,
        old,
        told: old | target,
        gains,
        compares,
        holds: old | target,
        write_enough: write_enough(config, &ring, partition),
        read_enough: read_enough(config, readers),
        class: classes(&ready),
        ready,
        next,
        back,
        begun,
        ring,
    }
}

pub(crate) fn names(nodes: Nodes) -> impl Iterator<Item = NodeName> {
    (0..8).filter(move |n| nodes & (1 << n) != 0).map(NodeName)
}

fn enough(mut quorum: Quorum, answered: Nodes) -> bool {
    names(answered).fold(quorum.verdict(), |_, n| quorum.yes(n)) == Verdict::Enough
}

fn write_enough(config: &Config, ring: &Ring, partition: u32) -> Vec<bool> {
    let w = config.quorum.2;
    let route = ring.route(partition);
    let of = |answered| {
        let quorum = Quorum::new(ring.names(route.writers), w.min(route.writers.len()));
        let quorum = match route.also {
            Some((row, true)) if !config.has(Bug::CountsOldOnly) => {
                quorum.and(ring.names(row), w.min(row.len()))
            }
            _ => quorum,
        };
        enough(quorum, answered)
    };
    (0..16).map(of).collect()
}

fn read_enough(config: &Config, readers: Nodes) -> Vec<bool> {
    let r = config.quorum.1.min(readers.count_ones() as usize);
    (0..16).map(|answered| enough(Quorum::new(names(readers), r), answered)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds;

    #[test]
    fn where_nothing_is_taken_back_the_key_moves_in_every_change() {
        for config in worlds::small() {
            let rings = Rings::new(&config);
            let (mut at, mut moved) = (0, 0);
            while let Some(next) = rings.views[at].next.or(rings.views[at].begun) {
                at = usize::from(next);
                let copies = rings.views[at].phase == Some(Phase::Copy);
                moved += usize::from(copies && rings.views[at].ring.moves(rings.partition));
            }
            assert_eq!(moved, config.signals.len(), "{config}");
        }
    }
}
