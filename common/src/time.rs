//! Time as an argument: what a driver tells a pure machine about the clock, and hybrid logical stamps.
//!
//! A stamp orders versions written without a context. It is a hybrid logical clock (Kulkarni et al., *Logical
//! Physical Clocks*, 2014): milliseconds of wall time where clocks agree, and a count where they do not, so that a
//! stamp is always above every stamp its writer has seen.

use serde::{Deserialize, Serialize};

/// The driver's two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Microseconds on a clock that only goes forward; its zero is arbitrary. For deadlines and pauses.
    pub mono_us: u64,
    /// Milliseconds since 1970, as the machine believes. For stamps alone.
    pub wall_ms: u64,
}

impl Now {
    /// The monotonic moment `ms` milliseconds later.
    pub fn after_ms(self, ms: u64) -> u64 {
        self.mono_us.saturating_add(ms.saturating_mul(1000))
    }
}

/// A hybrid logical stamp: 48 bits of wall milliseconds above 16 bits of count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The stamp of a wall time, count 0.
    pub fn of_wall_ms(ms: u64) -> Stamp {
        Stamp(ms << 16)
    }

    /// A stamp of both its parts; of the milliseconds the lower 48 bits count.
    pub fn new(wall_ms: u64, count: u16) -> Stamp {
        Stamp(wall_ms << 16 | u64::from(count))
    }

    /// The count in it.
    pub fn count(self) -> u16 {
        self.0 as u16
    }

    /// The wall milliseconds in it.
    pub fn wall_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next larger stamp; a full count runs over into the milliseconds.
    pub fn next(self) -> Stamp {
        Stamp(self.0.saturating_add(1))
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}", self.wall_ms(), self.0 & 0xFFFF)
    }
}

/// Milliseconds by which a hybrid clock may run ahead of the wall's, which went back.
const AHEAD_MS_MAX: u64 = 5_000;

/// A node's hybrid clock.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: Stamp,
}

impl HybridClock {
    /// A stamp above the wall time and above `seen`, and above those given before unless the wall clock went back far.
    /// What was seen of one key says nothing of others: a stamp from a clock that was wrong stays with its key.
    pub fn stamp(&mut self, now: Now, seen: Stamp) -> Stamp {
        let bound = Stamp::of_wall_ms(now.wall_ms.saturating_add(AHEAD_MS_MAX));
        self.last = Stamp::of_wall_ms(now.wall_ms).max(self.last.next().min(bound));
        self.last.max(seen.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall_ms: u64) -> Now {
        Now { mono_us: 0, wall_ms }
    }

    #[test]
    fn stamps_rise_while_the_wall_clock_stands_or_goes_back() {
        let mut clock = HybridClock::default();
        let a = clock.stamp(at(1000), Stamp::default());
        let b = clock.stamp(at(1000), Stamp::default());
        let c = clock.stamp(at(10), Stamp::default());
        assert!(a < b && b < c);
        assert_eq!(a.wall_ms(), 1000);
    }

    #[test]
    fn a_stamp_is_above_every_stamp_seen() {
        let mut clock = HybridClock::default();
        let seen = Stamp::of_wall_ms(50_000);
        assert!(clock.stamp(at(1000), seen) > seen);
        assert_eq!(clock.stamp(at(1000), Stamp::default()).wall_ms(), 1000, "and no other key is");
    }

    #[test]
    fn a_clock_that_was_far_ahead_is_right_again_when_the_wall_is() {
        let mut clock = HybridClock::default();
        clock.stamp(at(86_400_000), Stamp::default());
        assert!(clock.stamp(at(1000), Stamp::default()).wall_ms() <= 6_000);
    }
}
