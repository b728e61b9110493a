//! GET_ALL and SHOW_ALL: partition by partition in the order of hashes, in slices, so that other work goes between.

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Message, Purpose, Record, Stretch};
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::request::cursor;
use ringkv_common::message::{Code, Failure, Page, Scope, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::coordinate::impossible;
use super::effect::{Client, Effect, Token};
use super::quorums::Row;
use super::slice::Gathered;
use super::task::{Attempts, Task};
use super::{FETCH_AGAIN_MS, Node};
use crate::store::{LOOKED_BYTES_MAX, Slice};

/// One slice of a listing.
pub(super) const SLICE: Slice =
    Slice { bytes_max: 256 << 10, records_max: 2048, looked_bytes_max: LOOKED_BYTES_MAX };
/// Listings at most at one time: each may gather a whole message.
const LISTINGS_MAX: usize = 16;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Values of keys, as readers see them.
    Values(Scope),
    /// All that is stored.
    Everything,
}

/// A listing under way.
#[derive(Debug)]
pub struct Listing {
    client: Client,
    id: Option<Box<str>>,
    terms: Terms,
    what: What,
    limit: usize,
    text: reply::Listing,
    /// Where it is: the partition, and the last key that was listed there.
    pub(super) partition: u32,
    pub(super) after: Option<Key>,
    /// Whom the present slice was asked of, if not the own store, and under which ring.
    pub(super) asked: Option<NodeName>,
    pub(super) epoch: u64,
    pub(super) deadline_us: u64,
    pub(super) attempts: Attempts,
    /// How many owners have to give the slice, and those that may be asked behind the first.
    pub(super) needed: usize,
    pub(super) others: Row,
    /// What the first has given.
    pub(super) slice: Option<Gathered>,
    /// Owners that were silent, or refused.
    passed_over: Row,
}

impl Node {
    pub(super) fn begin_get_all(
        &mut self,
        client: Client,
        id: Option<Box<str>>,
        terms: Terms,
        scope: Scope,
        page: Page,
    ) {
        self.begin_listing(client, id, terms, What::Values(scope), page);
    }

    pub(super) fn begin_show_all(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, page: Page) {
        self.begin_listing(client, id, terms, What::Everything, page);
    }

    fn begin_listing(&mut self, client: Client, id: Option<Box<str>>, terms: Terms, what: What, page: Page) {
        let Some(ring) = self.ring.clone() else { return self.no_ring(client, id.as_deref()) };
        if let Some(failure) = impossible(&ring, &[("r", terms.read)]) {
            return self.refuse(client, id.as_deref(), &failure);
        }
        if self.membership.listings >= LISTINGS_MAX {
            let text = format!("{LISTINGS_MAX} listings are under way at {}, try again later", self.id.name);
            return self.refuse(client, id.as_deref(), &Failure::new(Code::Overloaded, text));
        }
        self.membership.listings += 1;
        let listing = Listing {
            client,
            id,
            terms,
            what,
            limit: page.limit.unwrap_or(usize::MAX),
            text: reply::Listing::default(),
            partition: page.after.as_ref().map_or(0, |k| k.partition(ring.partitions)),
            after: page.after,
            asked: None,
            epoch: ring.epoch,
            deadline_us: self.now.after_ms(u64::from(terms.timeout_ms)),
            attempts: Attempts::default(),
            needed: 1,
            others: Row::new(),
            slice: None,
            passed_over: Row::new(),
        };
        let token = self.tasks.add(Task::Listing(Box::new(listing)));
        self.list_on(token, &ring);
    }

    /// Asks for the next slice, here or elsewhere, or ends.
    fn list_on(&mut self, token: Token, ring: &Ring) {
        loop {
            let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
            let (partition, what) = (listing.partition, listing.what);
            if partition >= ring.partitions {
                return self.end_listing(token, None);
            }
            let (terms, passed_over) = (listing.terms, listing.passed_over.clone());
            let readers = ring.readers(partition);
            let here = self.membership.has_data(partition);
            let mine = match what {
                What::Values(Scope::Led) => ring.node(readers[0]).name == self.id.name,
                What::Values(Scope::Node) => self.me.is_some_and(|me| readers.contains(&me)),
                What::Values(Scope::Cluster) => readers.len() == 1 && self.me == readers.first().copied(),
                What::Everything => false,
            };
            let skip = match what {
                What::Values(Scope::Led | Scope::Node) => !mine || !here,
                What::Values(Scope::Cluster) => mine && !here,
                What::Everything => !here,
            };
            if mine && let Some(why) = self.not_listing(partition) {
                return self.listing_failed(token, Failure::new(Code::NotReady, why));
            }
            if skip {
                if let Some(Task::Listing(listing)) = self.tasks.get(token) {
                    listing.partition += 1;
                    listing.after = None;
                }
                continue;
            }
            if what != What::Values(Scope::Cluster) {
                return self.ask_slice(token, None);
            }
            let needed = self.read_needs(readers, terms.read);
            let mut sources = match self.sources_of_slice(ring, partition, &passed_over, needed) {
                Ok(sources) => sources,
                Err(failure) => return self.listing_failed(token, failure),
            };
            let first = sources.remove(0);
            if let Some(Task::Listing(listing)) = self.tasks.get(token) {
                listing.others = if needed > 1 { sources } else { Row::new() };
                (listing.needed, listing.slice) = (needed, None);
            }
            return self.ask_slice(token, (first != self.id.name).then_some(first));
        }
    }

    fn ask_slice(&mut self, token: Token, from: Option<NodeName>) {
        let epoch = self.epoch();
        let now_us = self.now.mono_us;
        // A fresh number for every question: a late answer to an earlier one must not pass for this one's.
        let Some(Task::Listing(mut listing)) = self.tasks.take(token) else { return };
        let stretch = Stretch {
            partition: listing.partition,
            after: listing.after.clone(),
            until: None,
            buckets: None,
        };
        (listing.asked, listing.epoch) = (from, epoch);
        let left = listing.limit - listing.text.records();
        let resend_us = now_us + listing.attempts.patience_from_us(FETCH_AGAIN_MS * 1000);
        let deadline_us = listing.deadline_us;
        let token = self.tasks.add(Task::Listing(listing));
        let Some(to) = from else {
            let slice = Slice { records_max: SLICE.records_max.min(left), ..SLICE };
            self.out.push(Effect::Scan { token, stretch, known: Vec::new(), slice });
            return;
        };
        let at = resend_us.min(deadline_us);
        let bytes_max = SLICE.bytes_max as u32;
        let message = Message::Fetch {
            id: token,
            epoch,
            purpose: Purpose::List,
            stretch,
            known: Vec::new(),
            bytes_max,
        };
        self.send(to, message);
        self.tasks.alarm(token, at);
    }

    /// A slice is here, from the own store or from a peer.
    pub(super) fn on_listed(&mut self, token: Token, mut records: Vec<Record>, mut next: Option<Key>) {
        let Some(ring) = self.ring.clone() else { return };
        let max = self.id.limits.message_bytes_max;
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        if listing.slice.is_some() {
            match self.slice_joined(token, records, next) {
                Some(joined) => (records, next) = joined,
                None => return,
            }
        } else if self.gather_slice_of_epoch(token, &ring, &mut records, &next) {
            return;
        }
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        let partition = listing.partition;
        if listing.asked.is_none() && listing.epoch != ring.epoch {
            // The own store was read under a later ring, which may have taken the partition from it.
            return self.list_on(token, &ring);
        }
        let hint = self.keeps_hints_of(partition);
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        listing.asked = None;
        listing.attempts.anew();
        listing.passed_over.clear();
        for (key, siblings) in records {
            if listing.text.records() >= listing.limit {
                let last = listing.after.clone();
                return self.end_listing(token, last);
            }
            match listing.what {
                What::Values(_) => listing.text.push(&key, &siblings),
                What::Everything => listing.text.push_all(&key, &siblings, hint),
            }
            listing.after = Some(key);
            if listing.text.bytes() > max {
                let text = format!("the reply would pass {max} bytes: ask in pages, with limit and cursor");
                return self.listing_failed(token, Failure::new(Code::TooLarge, text));
            }
        }
        if next.is_some() {
            listing.after = next;
        } else if listing.text.records() < listing.limit {
            listing.partition += 1;
            listing.after = None;
        } else {
            let last = listing.after.clone();
            return self.end_listing(token, last);
        }
        self.list_on(token, &ring);
    }

    /// Whether the first owner's slice is to be joined with those of others, and is of the present ring.
    fn gather_slice_of_epoch(
        &mut self,
        token: Token,
        ring: &Ring,
        records: &mut Vec<Record>,
        next: &Option<Key>,
    ) -> bool {
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return false };
        listing.epoch == ring.epoch && self.gather_slice(token, records, next)
    }

    /// An owner cannot give a slice: another one is asked.
    pub(super) fn slice_failed(&mut self, token: Token, from: NodeName, failure: Failure) {
        let Some(ring) = self.ring.clone() else { return };
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        if listing.asked != Some(from) || ring.readers(listing.partition).len() < 2 {
            return self.listing_failed(token, failure);
        }
        listing.passed_over.push(from);
        self.list_on(token, &ring);
    }

    /// A slice was refused by an owner that is behind: it is asked again at once, and then with the alarm.
    pub(super) fn slice_refused(&mut self, token: Token) {
        let Some(ring) = self.ring.clone() else { return };
        if let Some(Task::Listing(listing)) = self.tasks.get(token)
            && !std::mem::replace(&mut listing.attempts.hurried, true)
        {
            self.list_on(token, &ring);
        }
    }

    /// A new ring is in force, or its asker was met by silence.
    pub(super) fn list_again(&mut self, token: Token) {
        let Some(ring) = self.ring.clone() else { return };
        let now_us = self.now.mono_us;
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        let Some(asked) = listing.asked else { return };
        if listing.deadline_us <= now_us {
            let text = format!("{asked} did not answer within {} ms", listing.terms.timeout_ms);
            return self.listing_failed(token, Failure::new(Code::Timeout, text));
        }
        // Where there are others one of them is asked, unless it is the ring that has changed.
        if listing.epoch != ring.epoch {
            listing.passed_over.clear();
        } else if ring.readers(listing.partition).len() > 1 {
            listing.passed_over.push(asked);
        }
        self.list_on(token, &ring);
    }

    pub(super) fn listing_failed(&mut self, token: Token, failure: Failure) {
        let Some(Task::Listing(listing)) = self.tasks.take(token) else { return };
        self.membership.listings -= 1;
        let write = |envelope: Envelope| reply::failure(&failure, &envelope);
        self.reply(listing.client, write, listing.id.as_deref(), listing.terms, None);
    }

    fn end_listing(&mut self, token: Token, last: Option<Key>) {
        let Some(Task::Listing(listing)) = self.tasks.take(token) else { return };
        self.membership.listings -= 1;
        let cursor = last.map(|key| cursor(&key));
        let Listing { text, client, id, terms, .. } = *listing;
        self.reply(client, |envelope| text.reply(cursor.as_deref(), &envelope), id.as_deref(), terms, None);
    }
}
