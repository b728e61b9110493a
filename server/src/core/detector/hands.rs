//! What foca wants done, carried out: packets are gathered, timers set.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::{Notification, Runtime, Timer};
use ringkv_common::name::NodeName;

use super::life::Life;
use super::timers::Timers;
use super::view::Peer;

/// What foca wants done.
pub struct Hands<'a> {
    /// The driver's clock.
    pub now_us: u64,
    pub timers: &'a mut Timers,
    pub outgoing: &'a mut Vec<(NodeName, Box<[u8]>)>,
    /// Who may be told something: the others of the ring.
    pub peers: &'a BTreeMap<NodeName, Peer>,
    /// Set where this life is over for others.
    pub over: &'a mut bool,
}

impl Runtime<Life> for Hands<'_> {
    /// Views of others are compared instead: foca says nothing of suspects.
    fn notify(&mut self, notification: Notification<'_, Life>) {
        *self.over |= notification == Notification::Defunct;
    }

    fn send_to(&mut self, to: Life, bytes: &[u8]) {
        if self.peers.contains_key(&to.name) {
            self.outgoing.push((to.name, bytes.into()));
        }
    }

    fn submit_after(&mut self, timer: Timer<Life>, after: Duration) {
        self.timers.set_for_foca(self.now_us, timer, after.as_micros() as u64);
    }
}
