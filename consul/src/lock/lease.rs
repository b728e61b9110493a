//! How long a lock may be believed in, without sockets, threads or clocks.

use std::time::{Duration, Instant};

/// A session's TTL as its holder may count it: from when a renewal was *sent*, because Consul started counting later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    ttl: Duration,
    renewed: Instant,
    tried: Instant,
}

impl Lease {
    /// `sent`: when the request was sent that made the session or locked the key, whichever came first.
    pub fn new(ttl: Duration, sent: Instant) -> Self {
        Lease { ttl, renewed: sent, tried: sent }
    }

    /// Beyond this the session may have ended.
    pub fn ends(&self) -> Instant {
        self.renewed + self.ttl
    }

    /// When to renew next: a third of the TTL after the last renewal, then again and again until one succeeds, so that
    /// several may fail before the lock does.
    pub fn renewal_due(&self) -> Instant {
        if self.tried > self.renewed { self.tried + self.ttl / 12 } else { self.renewed + self.ttl / 3 }
    }

    /// A renewal that was sent then succeeded.
    pub fn renewed(&mut self, sent: Instant) {
        self.renewed = sent;
        self.tried = sent;
    }

    /// A renewal that was sent then failed, and the session may still live.
    pub fn failed(&mut self, sent: Instant) {
        self.tried = sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_a_ttl_after_the_last_renewal_was_sent() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut lease = Lease::new(12 * second, start);
        assert_eq!((lease.renewal_due(), lease.ends()), (start + 4 * second, start + 12 * second));
        lease.renewed(start + 4 * second);
        assert_eq!((lease.renewal_due(), lease.ends()), (start + 8 * second, start + 16 * second));
        lease.failed(start + 8 * second);
        assert_eq!((lease.renewal_due(), lease.ends()), (start + 9 * second, start + 16 * second));
        lease.renewed(start + 9 * second);
        assert_eq!((lease.renewal_due(), lease.ends()), (start + 13 * second, start + 21 * second));
    }
}
