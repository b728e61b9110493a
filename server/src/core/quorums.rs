//! Who has to answer: the rows of owners that count for a read or a write, how many of each, and who stands in for an
//! owner that is away (DeCandia et al., *Dynamo*, §4.5 and §4.6).
//!
//! ```text
//!   write   W of the owners; while the partition moves, W of its old *and* W of its new ones
//!   read    R of the owners that reads go to
//!   shown   so many owners hold what a read shows that any later read meets one of them: N − R + 1 of each row
//! ```

use ringkv_common::bug::{self, Bug};
use ringkv_common::message::{Level, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::placement::NodeIndex;
use ringkv_common::quorum::Quorum;
use ringkv_common::ring::{Ring, Route};
use smallvec::SmallVec;

use super::Node;
use super::detector::View;

/// What holds where a request does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Owners that a read needs; `None`: more than half. Never more than there are.
    pub read: Option<u32>,
    /// Owners that a write needs; likewise.
    pub write: Option<u32>,
    /// Whether others stand in for owners that are away, so that writes succeed where a strict quorum has too few.
    pub sloppy: bool,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults { read: None, write: None, sloppy: true }
    }
}

/// Somebody who is told of a write, and the owner for whose sake: itself, or one that is away.
pub type Recipient = (NodeName, NodeName);

/// Owners of one row.
pub type Row = SmallVec<[NodeName; 3]>;

/// Replicas that a level asks for among `of`.
pub(super) fn needed(level: Option<Level>, default: Option<u32>, of: usize) -> usize {
    match level {
        None => default.map_or(of / 2 + 1, |n| (n as usize).clamp(1, of.max(1))),
        Some(Level::One) => 1,
        Some(Level::Quorum) => of / 2 + 1,
        Some(Level::All) => of,
        Some(Level::Count(n)) => n as usize,
    }
}

/// The owners elsewhere, old and new, each once.
pub(super) fn others(ring: &Ring, route: &Route, me: NodeName) -> Row {
    let mut others = Row::new();
    let also = route.also.map_or(&[][..], |(row, _)| row);
    for name in ring.names(route.writers).chain(ring.names(also)) {
        if name != me && !others.contains(&name) {
            others.push(name);
        }
    }
    others
}

/// A quorum of the rows that count: of each as many as `count` says of its length.
fn of_rows(ring: &Ring, route: &Route, count: impl Fn(usize) -> usize) -> Quorum {
    let quorum = Quorum::new(ring.names(route.writers), count(route.writers.len()));
    match route.also {
        Some((row, true)) if !bug::on(Bug::CountsOldOwnersOnly) => {
            quorum.and(ring.names(row), count(row.len()))
        }
        _ => quorum,
    }
}

impl Node {
    pub(super) fn write_quorum(&self, ring: &Ring, route: &Route, level: Option<Level>) -> Quorum {
        let bug = usize::from(bug::on(Bug::WritesToOneTooFew));
        of_rows(ring, route, |of| needed(level, self.id.quorums.write, of).saturating_sub(bug).max(1))
    }

    /// How many answers a read needs from the owners that reads go to.
    pub(super) fn read_needs(&self, readers: &[NodeIndex], level: Option<Level>) -> usize {
        let bug = usize::from(bug::on(Bug::ReadsOneTooFew));
        needed(level, self.id.quorums.read, readers.len()).saturating_sub(bug).max(1)
    }

    /// The owners that must hold what a read of this level shows, so that no later one of it shows less.
    pub(super) fn shown_quorum(&self, ring: &Ring, route: &Route, level: Option<Level>) -> Quorum {
        of_rows(ring, route, |of| (of + 1).saturating_sub(needed(level, self.id.quorums.read, of)).max(1))
    }

    /// Whether gossip calls a node down.
    pub(super) fn is_away(&self, name: NodeName) -> bool {
        self.detector.peer(name).is_some_and(|peer| peer.view == View::Down)
    }

    /// Whether others may stand in for owners of this partition. While it moves, a hint would count for neither row.
    pub(super) fn may_hint(&self, route: &Route, terms: &Terms) -> bool {
        let sloppy = terms.sloppy.unwrap_or(self.id.quorums.sloppy);
        sloppy && route.writers.len() > 1 && !matches!(route.also, Some((_, true)))
    }

    /// Whom a write is told: the other owners, and where one seems to be away and hints are allowed, who stands in for it.
    /// It may be only slow: so it is told too.
    pub(super) fn recipients(
        &self,
        ring: &Ring,
        route: &Route,
        partition: u32,
        hints: bool,
    ) -> SmallVec<[Recipient; 3]> {
        let mut told: SmallVec<[Recipient; 3]> = SmallVec::new();
        for owner in others(ring, route, self.id.name) {
            told.push((owner, owner));
            if hints && self.is_away(owner) && ring.names(route.writers).any(|name| name == owner) {
                told.extend(self.stand_in(ring, partition, &told).map(|name| (name, owner)));
            }
        }
        told
    }

    /// The first node of the partition's order of preference that answers, owns nothing of it and is not used yet.
    pub(super) fn stand_in(&self, ring: &Ring, partition: u32, used: &[Recipient]) -> Option<NodeName> {
        let order = ring.preference(partition);
        let free = |name: &NodeName| {
            let owns = ring.index_of(*name).is_none_or(|index| ring.holds(index, partition));
            !owns && *name != self.id.name && !self.is_away(*name) && !used.iter().any(|(to, _)| to == name)
        };
        order.iter().map(|p| ring.node(p.node).name).find(free)
    }

    /// What is left of a quorum where this node and those of these say yes that are not away.
    pub(super) fn left_of(&self, mut quorum: Quorum, told: &[Recipient]) -> Quorum {
        quorum.yes(self.id.name);
        for (_, owner) in told.iter().filter(|(to, _)| !self.is_away(*to)) {
            quorum.yes(*owner);
        }
        quorum
    }
}
