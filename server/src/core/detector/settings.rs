//! What the detector can be turned to, and what one trades by turning it.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

/// The largest packet, in bytes. One message of gossip has room for a whole ring of 256 nodes.
pub const PACKET_BYTES_MAX: usize = 8192;

/// Whom else a node asks about a peer that does not answer it, and how many it tells the news each period.
const FANOUT: usize = 3;
/// How many messages carry a piece of news from each node that has heard it.
const TRANSMISSIONS: u8 = 10;

/// Times of the detector. All are counted on its own clock, which stands still while its node is late.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often one peer is probed, and by when it must have answered, by itself or by way of others; in
    /// milliseconds, from 3 × `reply_ms`. Shorter finds the dead sooner, and costs each node two messages a period.
    pub probe_ms: u64,
    /// How long a peer may take before others are asked to probe it, in milliseconds: above nearly every round trip,
    /// the peer's turn of work included. Shorter leaves the others more of the period, and asks them more often.
    pub reply_ms: u64,
    /// How long a suspect may take to object before it is called down, in milliseconds, in a ring of up to 15 nodes;
    /// more in larger ones, where news travels longer. Shorter finds the dead sooner; longer forgives longer pauses.
    pub suspicion_ms: u64,
    /// How often nodes of the ring that are not known to live are greeted, in milliseconds. Shorter notices their
    /// return sooner; it costs three messages a time, while some are down.
    pub announce_ms: u64,
    /// After how many milliseconds a node of the ring that was never heard of is called down. Longer than nodes that
    /// are started together take to start.
    pub unheard_ms: u64,
    /// How late the node may come to its own timers, in milliseconds, before it takes the lateness for its own and
    /// not for its peers' silence. Shorter forgives more; far shorter and the clock never runs on a busy machine.
    pub late_ms: u64,
}

impl Default for Settings {
    /// Of five nodes, one killed, all others know within a second, half of the time.
    fn default() -> Settings {
        Settings {
            probe_ms: 300,
            reply_ms: 80,
            suspicion_ms: 400,
            announce_ms: 500,
            unheard_ms: 3_000,
            late_ms: 30,
        }
    }
}

impl Settings {
    /// For a ring of so many nodes.
    pub(super) fn config(&self, nodes: usize) -> Config {
        let ms = Duration::from_millis;
        // News takes about the logarithm of their number in rounds.
        let rounds = u64::from(nodes.max(1).ilog2() + 1).max(4);
        Config {
            probe_period: ms(self.probe_ms),
            probe_rtt: ms(self.reply_ms),
            num_indirect_probes: NonZeroUsize::new(FANOUT).expect("above 0"),
            max_transmissions: NonZeroU8::new(TRANSMISSIONS).expect("above 0"),
            suspect_to_down_after: ms(self.suspicion_ms * rounds / 4),
            // The ring says who is remembered.
            remove_down_after: None,
            max_packet_size: NonZeroUsize::new(PACKET_BYTES_MAX).expect("above 0"),
            notify_down_members: true,
            // Nodes of the ring are greeted by name, see `announce_ms`.
            periodic_announce: None,
            periodic_announce_to_down_members: None,
            // In step with the probes, so that one waking serves both.
            periodic_gossip: Some(PeriodicParams {
                frequency: ms(self.probe_ms),
                num_members: NonZeroUsize::new(FANOUT).expect("above 0"),
            }),
        }
    }
}
