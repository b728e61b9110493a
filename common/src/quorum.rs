//! Quorums, counted per set of owners by a plain counter that knows no network.
//!
//! While a partition moves, a write needs W answers from its old owners *and* W from its new ones: two sets, each
//! counted on its own, a node in both counting in both. In quiet times there is one set.

use smallvec::SmallVec;

use crate::name::NodeName;

/// One set of owners and how many of them must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Side {
    waiting: SmallVec<[NodeName; 3]>,
    needed: usize,
    got: usize,
}

/// What the counter says after each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some set still needs answers and can get them.
    Waiting,
    /// Every set has enough.
    Enough,
    /// Some set can no longer get enough.
    Impossible,
}

/// Counts answers towards the quorums of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    sides: SmallVec<[Side; 2]>,
}

impl Quorum {
    /// A quorum of `needed` among `owners`.
    pub fn new(owners: impl IntoIterator<Item = NodeName>, needed: usize) -> Quorum {
        Quorum::default().and(owners, needed)
    }

    /// The same, and `needed` among another set.
    pub fn and(mut self, owners: impl IntoIterator<Item = NodeName>, needed: usize) -> Quorum {
        self.sides.push(Side { waiting: owners.into_iter().collect(), needed, got: 0 });
        self
    }

    /// Counts a yes. A node's second answer counts nothing.
    pub fn yes(&mut self, from: NodeName) -> Verdict {
        for side in &mut self.sides {
            if let Some(at) = side.waiting.iter().position(|n| *n == from) {
                side.waiting.swap_remove(at);
                side.got += 1;
            }
        }
        self.verdict()
    }

    /// Counts a no, or a silence that lasted too long.
    pub fn no(&mut self, from: NodeName) -> Verdict {
        for side in &mut self.sides {
            side.waiting.retain(|n| *n != from);
        }
        self.verdict()
    }

    /// How it stands.
    pub fn verdict(&self) -> Verdict {
        if self.sides.iter().any(|s| s.got + s.waiting.len() < s.needed) {
            Verdict::Impossible
        } else if self.sides.iter().all(|s| s.got >= s.needed) {
            Verdict::Enough
        } else {
            Verdict::Waiting
        }
    }

    /// The numbers of the set that is furthest from its quorum: (needed, got).
    pub fn shortfall(&self) -> (usize, usize) {
        let worst = self.sides.iter().max_by_key(|s| s.needed.saturating_sub(s.got));
        worst.map_or((0, 0), |s| (s.needed, s.got))
    }

    /// The nodes that have not answered.
    pub fn silent(&self) -> impl Iterator<Item = NodeName> {
        let mut names: SmallVec<[NodeName; 6]> =
            self.sides.iter().flat_map(|s| s.waiting.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The dumb twin: keeps every answer and counts from scratch.
    fn twin(sets: &[(Vec<u16>, usize)], answers: &[(u16, bool)]) -> Verdict {
        let first = |n: u16| answers.iter().find(|(from, _)| *from == n).map(|(_, yes)| *yes);
        let mut enough = true;
        for (owners, needed) in sets {
            let yes = owners.iter().filter(|n| first(**n) == Some(true)).count();
            let open = owners.iter().filter(|n| first(**n).is_none()).count();
            if yes + open < *needed {
                return Verdict::Impossible;
            }
            enough &= yes >= *needed;
        }
        if enough { Verdict::Enough } else { Verdict::Waiting }
    }

    fn set() -> impl Strategy<Value = (Vec<u16>, usize)> {
        (prop::collection::btree_set(0..6u16, 1..4), 1..4usize)
            .prop_map(|(owners, needed)| (owners.into_iter().collect(), needed))
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_counting_from_scratch(
            sets in prop::collection::vec(set(), 1..3),
            answers in prop::collection::vec((0..6u16, any::<bool>()), 0..12),
        ) {
            let mut quorum = Quorum::default();
            for (owners, needed) in &sets {
                quorum = quorum.and(owners.iter().map(|n| NodeName(*n)), *needed);
            }
            for (count, (from, yes)) in answers.iter().enumerate() {
                let verdict = if *yes { quorum.yes(NodeName(*from)) } else { quorum.no(NodeName(*from)) };
                prop_assert_eq!(verdict, twin(&sets, &answers[..=count]));
            }
        }
    }

    #[test]
    fn a_node_in_both_sets_counts_in_both() {
        let mut quorum = Quorum::new([NodeName(1)], 1).and([NodeName(1), NodeName(2)], 1);
        assert_eq!(quorum.verdict(), Verdict::Waiting);
        assert_eq!(quorum.yes(NodeName(1)), Verdict::Enough);
    }
}
