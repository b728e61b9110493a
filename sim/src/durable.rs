//! What stores must hold at the moment at which a client is told that its write was done, or is shown what is there, or a
//! node drops what it does not own.
//!
//! Clients see a write that too few hold only if just these die, or are not asked. Who looks into the stores sees it
//! at once.

use ringkv_common::key::Key;
use ringkv_common::message::peer::Stretch;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::version::{Clock, Content, Context, Foreign, Siblings};
use ringkv_server::core::View;
use ringkv_server::store::{Slice, Storage};
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::happening::Asker;

/// What one move of a client is about.
#[derive(Clone, Debug)]
pub enum About {
    /// It writes this text, as one key's value.
    Put(Key, String),
    /// It reads one key.
    Look(Key),
}

impl Cluster {
    /// A node answers a client: what it says has to be held by enough nodes. Where somebody was killed since the client
    /// began, it may have been one of them.
    pub(crate) fn check_held(&mut self, node: NodeName, ask: u64, body: &[u8]) {
        let Some(Asker::Worker { worker, turn }) = self.asks.get(&ask) else { return };
        let Some((about, since_us)) = self.about(*worker, *turn) else { return };
        if self.killed_us.is_some_and(|at| at >= since_us) {
            return;
        }
        let (Some(ring), Ok(reply)) = (&self.newest, serde_json::from_slice::<Json>(body)) else { return };
        let wrong = match about {
            About::Put(key, text) if reply["status"] == "OK" => self.wrong_in_ack(ring, node, &key, &text),
            About::Look(key) => self.wrong_in_look(ring, &key, &reply),
            About::Put(..) => None,
        };
        self.history.violations.extend(wrong);
    }

    /// As many nodes show a write as it needs; who stands in is one of them where its owner is down.
    fn wrong_in_ack(&self, ring: &Ring, by: NodeName, key: &Key, text: &str) -> Option<String> {
        let needed = width(ring) / 2 + 1;
        let is_it = |content: &Content| matches!(content, Content::Json(held) if **held == *text.as_bytes());
        let holders = self.holders(key, |state| state.visible().iter().any(|v| is_it(&v.content)));
        if holders.len() < needed {
            let got = holders.len();
            return Some(format!(
                "{key:?} was acknowledged with {text}, and {got} of {needed} nodes show it"
            ));
        }
        // Which owners are down, only the one that counted can say.
        let partition = key.partition(ring.partitions);
        let owners: Vec<NodeName> = ring.names(ring.readers(partition)).collect();
        let held = owners.iter().filter(|owner| holders.contains(owner)).count();
        if held >= needed || ring.change.is_some() || !owners.contains(&by) {
            return None;
        }
        let status = self.status(by).filter(|status| status.report.epoch == ring.epoch)?;
        let down = status.peers.iter().filter(|p| p.view == View::Down && owners.contains(&p.node)).count();
        (held + down < needed).then(|| {
            format!(
                "{key:?} was acknowledged with {text}, {held} of {needed} owners show it, {down} are down"
            )
        })
    }

    /// So many hold what a read shows that no later one can show less.
    fn wrong_in_look(&self, ring: &Ring, key: &Key, reply: &Json) -> Option<String> {
        let shown: Context = serde_json::from_value(reply["context"].clone()).ok()?;
        let needed = width(ring) - width(ring) / 2;
        let got = self.holders(key, |state| self.has_seen(key, state, &shown.clock)).len();
        (got < needed)
            .then(|| format!("{key:?} was shown with {shown:?}, and {got} of {needed} have seen that"))
    }

    /// A node is about to drop a partition that it does not own: of each record most owners have seen all. Where one of
    /// them lost its memory since it said so, nothing is to be said.
    pub(crate) fn check_dropped(&mut self, node: NodeName, partition: u32) {
        let Some(process) = self.processes.get(&node) else { return };
        let Some(ring) = process.node.ring() else { return };
        // Who is not in the ring any more may hold what collected tombstones superseded: its owners have it drop all.
        let collected = |key: &Key| key.partition(ring.partitions) == partition;
        if ring.node_named(node).is_none() && self.collected.keys().any(collected) {
            return;
        }
        let owners: Vec<NodeName> = ring.names(ring.readers(partition)).collect();
        let whole = |owner: &NodeName| {
            self.status(*owner).is_some_and(|s| s.report.epoch == ring.epoch && s.report.filling == 0)
        };
        if !owners.iter().all(whole) {
            return;
        }
        let all = Stretch { partition, after: None, until: None, buckets: None };
        let slice = Slice { bytes_max: usize::MAX, records_max: usize::MAX, looked_bytes_max: usize::MAX };
        let needed = owners.len() / 2 + 1;
        let (records, _) = process.store.scan(&all, &[], slice);
        let lacking = records.into_iter().filter_map(|(key, state)| {
            let got = self.holders(&key, |held| self.has_seen(&key, held, &state.clock));
            let got = owners.iter().filter(|owner| got.contains(owner)).count();
            (got < needed).then(|| format!("{node} drops {key:?}, and {got} of {needed} owners have it"))
        });
        let wrong: Vec<String> = lacking.collect();
        self.history.violations.extend(wrong);
    }

    /// Whether a state of a key has seen all that a clock has. What was collected it may have forgotten, or never heard of.
    fn has_seen(&self, key: &Key, state: &Siblings, seen: &Clock) -> bool {
        let mut clock = state.clock.clone();
        self.collected.get(key).into_iter().for_each(|collected| clock.join(collected));
        covers(&clock, seen)
    }

    /// A node is about to forget a tombstone, so all owners hold it, or did.
    pub(crate) fn note_collected(&mut self, node: NodeName, key: &Key) {
        let Some(process) = self.processes.get(&node).filter(|p| p.store.partitions() > 0) else { return };
        let clock = process.store.read(key).clock;
        let collected = self.collected.entry(key.clone()).or_default();
        collected.join(&clock);
        let shown = Context { clock: collected.clone(), foreign: Foreign::default() };
        if let Ok(Json::Object(shown)) = serde_json::to_value(shown) {
            let shown = shown.into_iter().map(|(actor, n)| (actor, n.as_u64().unwrap_or_default()));
            self.history.collected(key, shown.collect());
        }
    }

    /// A state of a key, or nothing where it is a tombstone that some owners have collected already.
    pub(crate) fn uncollected(&self, key: &Key, state: Siblings) -> Siblings {
        let goes = |collected: &Clock| state.is_dead() && covers(collected, &state.clock);
        if self.collected.get(key).is_some_and(goes) { Siblings::default() } else { state }
    }

    fn holders(&self, key: &Key, holds: impl Fn(&Siblings) -> bool) -> Vec<NodeName> {
        // A store that has not heard of a ring has no partitions.
        let stores = self.processes.iter().filter(|(_, process)| process.store.partitions() > 0);
        stores.filter(|(_, process)| holds(&process.store.read(key))).map(|(name, _)| *name).collect()
    }
}

/// Whether a clock has seen all that another has.
fn covers(clock: &Clock, seen: &Clock) -> bool {
    let mut both = clock.clone();
    both.join(seen);
    both == *clock
}

/// Owners of a partition: the fewest that some node may go by.
fn width(ring: &Ring) -> usize {
    let target = ring.change.as_ref().map(|change| change.target.width());
    target.unwrap_or(usize::MAX).min(ring.owners.width())
}
