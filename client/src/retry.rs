//! What to do with an error reply: pure.
//!
//! A write is repeated only after a definite refusal, or under the request id that it had at first: the owners know
//! it by that for 10 minutes and answer without writing twice. So every write of this client carries one.

use std::time::Duration;

use ringkv_common::message::Code;

/// The pause after a first definite refusal; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a missed quorum is tried again, which takes about a second: it may be a change of the ring passing by, or a
/// node that was called down and merely was slow; it may as well last.
const QUORUM_ATTEMPTS: u32 = 6;

/// What follows on an error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The caller is told.
    Final,
    /// The next node is asked after this pause, with the same request id.
    Again(Duration),
}

/// Decides. `refusals` are those before this one; `chance` is a random number that spreads the pauses.
pub fn next(code: Code, refusals: u32, chance: u64) -> Next {
    match code {
        Code::NotReady | Code::Overloaded => Next::Again(pause(refusals, chance)),
        Code::QuorumFailed if refusals < QUORUM_ATTEMPTS => Next::Again(pause(refusals + 2, chance)),
        // The node waited for us already.
        Code::Timeout => Next::Again(Duration::ZERO),
        _ => Next::Final,
    }
}

/// A pause that doubles with each refusal, less up to half by chance.
pub fn pause(refusals: u32, chance: u64) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << refusals.min(10)).min(PAUSE_MAX);
    whole / 2 + whole.mul_f64((chance % 1000) as f64 / 2000.0)
}

/// SplitMix64, seeded by the system: for pauses and request ids, not for secrets.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub fn new() -> Chance {
        use std::hash::{BuildHasher, RandomState};
        Chance(RandomState::new().hash_one(std::process::id()))
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        use Code::*;
        for code in [BadJson, BadRequest, UnknownOp, KeyNotFound, KeyExists, TooLarge, Forbidden, Internal] {
            assert_eq!(next(code, 0, 0), Next::Final, "{code:?}");
        }
        for code in [NotReady, Overloaded, Timeout] {
            assert!(matches!(next(code, 100, 7), Next::Again(_)), "{code:?}");
        }
        assert!(matches!(next(QuorumFailed, 5, 0), Next::Again(_)));
        assert_eq!(next(QuorumFailed, 6, 0), Next::Final);
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        for chance in [0, 499, 999] {
            let pauses: Vec<Duration> = (0..40).map(|n| pause(n, chance)).collect();
            assert!(pauses.windows(2).all(|w| w[0] <= w[1]), "{pauses:?}");
            assert!(pauses.iter().all(|p| *p <= PAUSE_MAX && *p >= PAUSE_FIRST / 2));
        }
        assert!(pause(3, 0) < pause(3, 999));
    }

    #[test]
    fn two_sources_of_chance_differ() {
        let (mut a, mut b) = (Chance::new(), Chance::new());
        assert_ne!(a.draw(), b.draw());
    }
}
