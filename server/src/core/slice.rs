//! A slice of a listing of the whole cluster, read at R: one owner gives it, the others say what they hold otherwise.
//!
//! ```text
//!   first owner ─► records of the slice ─► Fetch to the next, with their digests ─► what differs, joined … R have answered
//! ```

use std::collections::BTreeMap;

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Message, Purpose, Record, Stretch};
use ringkv_common::message::{Code, Failure};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::version::Siblings;

use super::effect::Token;
use super::listing::SLICE;
use super::quorums::Row;
use super::task::Task;
use super::{FETCH_AGAIN_MS, Node};

/// A slice that one owner has given.
#[derive(Debug)]
pub struct Gathered {
    records: BTreeMap<Key, Siblings>,
    /// Where it ends; `None`: with its partition.
    until: Option<Key>,
    /// Owners to be asked next.
    others: Row,
    /// Answers that are still needed.
    needed: usize,
    /// How far the present one has answered.
    answered: Option<Key>,
}

impl Node {
    /// The owners that a slice may be asked of, this node first. Too few are an error.
    pub(super) fn sources_of_slice(
        &self,
        ring: &Ring,
        partition: u32,
        passed_over: &Row,
        needed: usize,
    ) -> Result<Row, Failure> {
        let me = self.id.name;
        let usable = |name: &NodeName| {
            let whole = *name != me || self.not_listing(partition).is_none();
            whole && !passed_over.contains(name) && !self.is_away(*name)
        };
        let mut sources: Row = ring.names(ring.readers(partition)).filter(usable).collect();
        sources.sort_by_key(|name| *name != me);
        if sources.len() < needed {
            let text = format!(
                "partition {partition}: needed {needed} owners, {} can be asked, try again soon",
                sources.len()
            );
            return Err(Failure::new(Code::QuorumFailed, text));
        }
        Ok(sources)
    }

    /// One owner has given a slice: whether others are asked too.
    pub(super) fn gather_slice(
        &mut self,
        token: Token,
        records: &mut Vec<Record>,
        next: &Option<Key>,
    ) -> bool {
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return false };
        if listing.others.is_empty() {
            return false;
        }
        let others = std::mem::take(&mut listing.others);
        listing.slice = Some(Gathered {
            records: std::mem::take(records).into_iter().collect(),
            until: next.clone(),
            needed: listing.needed.saturating_sub(1),
            others,
            answered: None,
        });
        self.ask_slice_of_next(token);
        true
    }

    fn ask_slice_of_next(&mut self, token: Token) {
        let (epoch, now_us) = (self.epoch(), self.now.mono_us);
        // A fresh number for every question: a late answer to an earlier one must not pass for this one's.
        let Some(Task::Listing(mut listing)) = self.tasks.take(token) else { return };
        let Some(slice) = &mut listing.slice else { return };
        if slice.answered.is_none() && !slice.others.is_empty() {
            listing.asked = Some(slice.others.remove(0));
        }
        let after = slice.answered.clone().or_else(|| listing.after.clone());
        let stretch =
            Stretch { partition: listing.partition, after, until: slice.until.clone(), buckets: None };
        let mut known: Vec<(u64, u64)> = Vec::with_capacity(slice.records.len());
        for (key, siblings) in &slice.records {
            match known.last_mut() {
                // Two keys of one hash are always sent.
                Some((hash, digest)) if *hash == key.hash() => *digest = 0,
                _ => known.push((key.hash(), siblings.digest())),
            }
        }
        let at = (now_us + listing.attempts.patience_from_us(FETCH_AGAIN_MS * 1000)).min(listing.deadline_us);
        listing.epoch = epoch;
        let asked = listing.asked;
        let token = self.tasks.add(Task::Listing(listing));
        let Some(to) = asked else { return };
        let bytes_max = SLICE.bytes_max as u32;
        self.send(to, Message::Fetch { id: token, epoch, purpose: Purpose::List, stretch, known, bytes_max });
        self.tasks.alarm(token, at);
    }

    /// Another owner says what it holds otherwise. The slice, when enough have.
    pub(super) fn slice_joined(
        &mut self,
        token: Token,
        records: Vec<Record>,
        next: Option<Key>,
    ) -> Option<(Vec<Record>, Option<Key>)> {
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return None };
        let slice = listing.slice.as_mut()?;
        for (key, siblings) in records {
            slice.records.entry(key).or_default().join(&siblings);
        }
        slice.answered = next;
        if slice.answered.is_none() {
            slice.needed = slice.needed.saturating_sub(1);
            if slice.needed == 0 {
                let slice = listing.slice.take()?;
                return Some((slice.records.into_iter().collect(), slice.until));
            }
        }
        self.ask_slice_of_next(token);
        None
    }
}
