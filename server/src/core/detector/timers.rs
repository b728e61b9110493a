//! The detector's timers, on a clock that stands still while its node is late.
//!
//! A node that was stopped, or busy with something long, finds all its timers due at once: its probes would count as
//! unanswered before it has read the answers. So whoever comes late takes that for its own fault (the *local health*
//! of Dadgar et al., *Lifeguard*, 2018): the clock is set back to when it should have come, and a little more, for
//! what has arrived meanwhile to be read.

use std::collections::{BTreeMap, BTreeSet};

use foca::Timer;
use ringkv_common::name::NodeName;

use super::life::Life;

/// What a timer is for. There is one of each, so their number is bounded; of those due together the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Others are asked about the peer that is being probed.
    AskOthers,
    /// The next peer is probed.
    Probe,
    /// A suspect had its time.
    Suspect(NodeName),
    /// News is spread.
    Gossip,
    /// Who is not known to live is greeted.
    Announce,
    /// A node of the ring was never heard of.
    Unheard(NodeName),
}

/// Timers by what they are for.
#[derive(Debug, Default)]
pub struct Timers {
    queue: BTreeSet<(u64, Purpose)>,
    set: BTreeMap<Purpose, (u64, Option<Timer<Life>>)>,
    /// How far this clock is behind the driver's.
    lag_us: u64,
}

impl Timers {
    /// Sets a timer so many microseconds ahead, in place of the one with its purpose.
    pub fn set(&mut self, now_us: u64, purpose: Purpose, after_us: u64, timer: Option<Timer<Life>>) {
        let at_us = self.own(now_us).saturating_add(after_us);
        if let Some((before, _)) = self.set.insert(purpose, (at_us, timer)) {
            self.queue.remove(&(before, purpose));
        }
        self.queue.insert((at_us, purpose));
    }

    /// Sets the timer that foca wants. It takes back a timer by changing a token that only it can compare; of two for
    /// the same thing the earlier may be of no use any more, and is let go.
    pub fn set_for_foca(&mut self, now_us: u64, timer: Timer<Life>, after_us: u64) {
        let purpose = match &timer {
            Timer::SendIndirectProbe { .. } => Purpose::AskOthers,
            Timer::ProbeRandomMember(_) => Purpose::Probe,
            Timer::ChangeSuspectToDown { member_id, .. } => Purpose::Suspect(member_id.name),
            Timer::PeriodicGossip(_) => Purpose::Gossip,
            // The ring says who is forgotten, and who is greeted.
            Timer::RemoveDown(_) | Timer::PeriodicAnnounce(_) | Timer::PeriodicAnnounceDown(_) => return,
        };
        // A suspect that is probed again without an answer gains no time by that.
        let same = self.set.get(&purpose).is_some_and(|(_, set)| set.as_ref() == Some(&timer));
        if !(same && matches!(purpose, Purpose::Suspect(_))) {
            self.set(now_us, purpose, after_us, Some(timer));
        }
    }

    /// Forgets a timer.
    pub fn cancel(&mut self, purpose: Purpose) {
        if let Some((at_us, _)) = self.set.remove(&purpose) {
            self.queue.remove(&(at_us, purpose));
        }
    }

    /// Takes a timer before it is due, if it is such a one.
    pub fn take(&mut self, purpose: Purpose, such: impl Fn(&Timer<Life>) -> bool) -> Option<Timer<Life>> {
        let (_, timer) = self.set.get(&purpose)?;
        if !timer.as_ref().is_some_and(such) {
            return None;
        }
        let (at_us, timer) = self.set.remove(&purpose)?;
        self.queue.remove(&(at_us, purpose));
        timer
    }

    /// Forgets all timers.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.set.clear();
    }

    /// Forgets all timers that foca wanted.
    pub fn clear_for_foca(&mut self) {
        self.set.retain(|_, (_, timer)| timer.is_none());
        self.queue.retain(|(_, purpose)| self.set.contains_key(purpose));
    }

    /// Whether there is such a timer.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.set.contains_key(&purpose)
    }

    /// The next timer that is due.
    pub fn due(&mut self, now_us: u64) -> Option<(Purpose, Option<Timer<Life>>)> {
        let (at_us, purpose) = *self.queue.first()?;
        if at_us > self.own(now_us) {
            return None;
        }
        self.queue.pop_first();
        self.set.remove(&purpose).map(|(_, timer)| (purpose, timer))
    }

    /// When the next one is due, on the driver's clock.
    pub fn wake_at(&self) -> Option<u64> {
        self.queue.first().map(|(at_us, _)| at_us.saturating_add(self.lag_us))
    }

    /// Sets the clock back where the node comes later than `late_us` to its first timer: so far that it is due
    /// `grace_us` from now. Whether it did.
    pub fn forgive(&mut self, now_us: u64, late_us: u64, grace_us: u64) -> bool {
        let Some(due_us) = self.wake_at() else { return false };
        let late = now_us.saturating_sub(due_us);
        if late > late_us {
            self.lag_us += late + grace_us;
        }
        late > late_us
    }

    /// How many timers there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    fn own(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.lag_us)
    }
}
