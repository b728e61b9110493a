//! Says when the cluster is ready: every node of the ring is healthy and has a ring.

use std::collections::BTreeSet;

use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::watches::Seen;
use crate::server::logs;

/// What was said last.
#[derive(Debug, Default)]
pub struct Ready {
    said: Option<(usize, usize)>,
}

impl Ready {
    /// Says what has changed: counts on standard error, and on standard output when all are there.
    pub fn look(&mut self, ring: Option<&Ring>, founders: &BTreeSet<NodeName>, seen: &[Seen]) {
        let healthy = |name: NodeName| {
            seen.iter().find(|s| s.candidate.node.name == name).is_some_and(|s| s.candidate.healthy)
        };
        let Some(ring) = ring else {
            let there = founders.iter().filter(|n| healthy(**n)).count();
            return self.say((there, founders.len()), false);
        };
        let serves = |node: &&ringkv_common::ring::Node| {
            let here = |s: &&Seen| s.candidate.node.name == node.name && s.candidate.node.ports == node.ports;
            seen.iter().find(here).is_some_and(|s| s.candidate.healthy && s.epoch > 0)
        };
        let there = ring.nodes.iter().filter(serves).count();
        self.say((there, ring.nodes.len()), there == ring.nodes.len());
    }

    fn say(&mut self, count: (usize, usize), ready: bool) {
        // Founders that are all there are not ready yet: the same count is said again when they are.
        let said = (count.0, count.1 + usize::from(!ready));
        if self.said == Some(said) {
            return;
        }
        self.said = Some(said);
        let (there, all) = count;
        if ready {
            logs::say(&format!("ready: {there} of {all} nodes"));
        } else {
            tracing::info!("{there} of {all} nodes are healthy");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_said_once() {
        let mut ready = Ready::default();
        ready.say((3, 4), false);
        assert_eq!(ready.said, Some((3, 5)));
        ready.say((4, 4), false);
        assert_eq!(ready.said, Some((4, 5)));
        ready.say((4, 4), true);
        assert_eq!(ready.said, Some((4, 4)), "the same count, and now they are ready");
    }
}
