//! Request ids that were answered: a write that is repeated is answered again and not done again.
//!
//! The id's hash also stands in the version it wrote, so that a new owner knows it; this window is for those whose
//! version was superseded since. Ten minutes, and bounded.

use std::collections::{BTreeSet, VecDeque};

use ringkv_common::time::Now;

/// How long an id is remembered, in milliseconds.
const REMEMBERED_MS: u64 = 600_000;
/// Ids at most; beyond it the oldest go.
const IDS_MAX: usize = 1 << 20;

/// The ids of writes that were done.
#[derive(Debug, Default)]
pub struct Requests {
    order: VecDeque<(u64, u64)>,
    known: BTreeSet<u64>,
}

impl Requests {
    /// Remembers one.
    pub fn done(&mut self, now: Now, request: u64) {
        if request == 0 || !self.known.insert(request) {
            return;
        }
        self.order.push_back((now.after_ms(REMEMBERED_MS), request));
        while self.order.len() > IDS_MAX || self.order.front().is_some_and(|(until, _)| *until < now.mono_us)
        {
            let Some((_, old)) = self.order.pop_front() else { break };
            self.known.remove(&old);
        }
    }

    /// Whether it was done.
    pub fn knows(&self, request: u64) -> bool {
        request != 0 && self.known.contains(&request)
    }
}
