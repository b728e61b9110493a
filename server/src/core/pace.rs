//! How far other nodes have come with what they were told.
//!
//! A node takes what comes from another one in order. So one that answers, and has answered nothing that was told as
//! late as some message, has not come to that message yet, or is at work on it; telling it again would only lengthen its
//! line, and where values are large and many, lines would be made of nothing else.

use std::collections::BTreeMap;

use ringkv_common::name::NodeName;
use ringkv_common::time::Now;

use super::RESEND_MS;

/// Counts what is told.
pub type Told = u64;

/// The last answer of a node.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    /// To what it was, or something earlier.
    told: Told,
    at_us: u64,
}

/// What other nodes were told, and have answered.
#[derive(Debug, Default)]
pub struct Pace {
    told: Told,
    answers: BTreeMap<NodeName, Answer>,
}

impl Pace {
    /// The number of what is told now.
    pub fn tell(&mut self) -> Told {
        self.told += 1;
        self.told
    }

    /// A node has answered what was told under this number.
    pub fn answered(&mut self, now: Now, by: NodeName, told: Told) {
        let answer = self.answers.entry(by).or_default();
        answer.told = answer.told.max(told);
        answer.at_us = now.mono_us;
    }

    /// Whether a node answers.
    pub fn answers(&self, now: Now, node: NodeName) -> bool {
        self.answers.get(&node).is_some_and(|answer| now.mono_us < answer.at_us + RESEND_MS * 1000)
    }

    /// Whether a node answers, and has yet to come to what it was told under this number.
    pub fn comes_to(&self, now: Now, node: NodeName, told: Told) -> bool {
        self.answers(now, node) && self.answers[&node].told < told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_ms(ms: u64) -> Now {
        Now { mono_us: ms * 1000, wall_ms: 0 }
    }

    #[test]
    fn who_answers_is_waited_for_until_it_has_answered_something_later_or_falls_silent() {
        let (mut pace, node) = (Pace::default(), NodeName(1));
        let [first, second, third] = [(); 3].map(|()| pace.tell());
        assert!(!pace.comes_to(at_ms(0), node, second), "nothing is known of it");
        pace.answered(at_ms(0), node, first);
        assert!(pace.comes_to(at_ms(RESEND_MS - 1), node, second), "it is at the first");
        assert!(!pace.comes_to(at_ms(RESEND_MS), node, second), "it is silent");
        assert!(!pace.comes_to(at_ms(0), node, first), "it has answered that");
        pace.answered(at_ms(1_000), node, third);
        pace.answered(at_ms(1_001), node, first);
        assert!(!pace.comes_to(at_ms(1_001), node, second), "the third came later and was answered");
        assert!(!pace.comes_to(at_ms(1_001), NodeName(2), second), "that is another one");
    }
}
