//! How far this node's wall clock is from those of its peers, as gossip brings them.
//!
//! Clocks decide nothing that was acknowledged, see `write`. But of two overwrites that nobody has acknowledged yet the
//! higher stamp stays, and a clock that runs ahead would win them all. So a node whose clock is far from the median of its
//! peers coordinates no overwrites: another owner does (lessons of Cassandra and Aerospike, where skew lost writes).

use std::collections::BTreeMap;

use ringkv_common::message::KeyOp;
use ringkv_common::name::NodeName;
use ringkv_common::placement::NodeIndex;
use ringkv_common::ring::Ring;
use ringkv_common::time::Now;

use super::Node;
use super::effect::Token;
use super::task::{Op, Origin};

/// Milliseconds from the median beyond which a clock is not trusted.
const SKEW_MS_MAX: u64 = 5_000;
/// Of fewer peers nobody can say whose clock is wrong.
const PEERS_MIN: usize = 2;

/// By how many milliseconds this node's clock was ahead of each peer's, when last heard; messages take a moment more.
#[derive(Debug, Default)]
pub struct Clocks {
    ahead_ms: BTreeMap<NodeName, i64>,
}

impl Clocks {
    /// A peer's wall clock came.
    pub fn hear(&mut self, now: Now, from: NodeName, wall_ms: u64) {
        self.ahead_ms.insert(from, now.wall_ms.wrapping_sub(wall_ms) as i64);
    }

    /// Only these are peers.
    pub fn retain(&mut self, peer: impl Fn(NodeName) -> bool) {
        self.ahead_ms.retain(|name, _| peer(*name));
    }

    /// How far it is ahead of the median of its peers, in milliseconds; 0 where they are too few.
    pub fn ahead_ms(&self) -> i64 {
        if self.ahead_ms.len() < PEERS_MIN {
            return 0;
        }
        // Its own counts too.
        let mut all: Vec<i64> = self.ahead_ms.values().copied().chain([0]).collect();
        all.sort_unstable();
        // Of an even number the one nearer to ours.
        let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
        if low.unsigned_abs() < high.unsigned_abs() { low } else { high }
    }

    /// Whether overwrites are left to others.
    pub fn is_off(&self) -> bool {
        self.ahead_ms().unsigned_abs() > SKEW_MS_MAX
    }
}

impl Node {
    /// Whether another owner shall do an overwrite, though this one may: its clock is far from the others'. One that was
    /// forwarded is done all the same, or two such nodes would hand it to and fro.
    pub(super) fn leaves_overwrite(&mut self, token: Token, readers: &[NodeIndex], ring: &Ring) -> bool {
        if readers.len() < 2 || !self.clocks.is_off() {
            return false;
        }
        let Some(Op { op: KeyOp::Write(write), origin, .. }) = self.tasks.op(token) else { return false };
        if write.context.is_some() || matches!(origin, Origin::Peer { .. }) {
            return false;
        }
        ring.names(readers).any(|name| name != self.id.name && !self.is_away(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(others: &[u64]) -> Clocks {
        let mut clocks = Clocks::default();
        for (n, wall_ms) in (1u16..).zip(others) {
            clocks.hear(Now { mono_us: 0, wall_ms: 100_000 }, NodeName(n), *wall_ms);
        }
        clocks
    }

    #[test]
    fn the_one_that_differs_from_most_is_off() {
        assert!(!clocks(&[100_003, 99_950, 3_000_000]).is_off(), "another one is");
        assert!(!clocks(&[100_003, 0]).is_off(), "one agrees");
        let off = clocks(&[90_000, 91_000, 89_000]);
        assert_eq!((off.ahead_ms(), off.is_off()), (9_000, true));
        assert_eq!(clocks(&[108_000, 107_000]).ahead_ms(), -7_000);
        assert!(!clocks(&[100_000, 3_000_000, 3_000_000]).is_off(), "of two halves neither is wrong");
        assert!(!clocks(&[0]).is_off(), "of two nobody can say which");
    }
}
