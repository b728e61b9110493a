//! GET_ALL and SHOW_ALL: partition by partition in the order of hashes, in slices, so that other work goes between.

use ringkv_common::key::Key;
use ringkv_common::message::peer::{Message, Purpose, Record, Stretch};
use ringkv_common::message::reply::{self, Envelope};
use ringkv_common::message::request::cursor;
use ringkv_common::message::{Code, Failure, Page, Scope, Terms};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

use super::effect::{Client, Effect, Token};
use super::task::{Attempts, Task};
use super::{FETCH_AGAIN_MS, Node};
use crate::store::{LOOKED_BYTES_MAX, Slice};

/// One slice of a listing.
const SLICE: Slice = Slice { bytes_max: 256 << 10, records_max: 2048, looked_bytes_max: LOOKED_BYTES_MAX };
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
    partition: u32,
    after: Option<Key>,
    /// Whom the present slice was asked of, if not the own store, and under which ring.
    asked: Option<NodeName>,
    epoch: u64,
    deadline_us: u64,
    attempts: Attempts,
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
            let leader = ring.node(ring.readers(partition)[0]).name;
            let mine = leader == self.id.name;
            let here = self.membership.has_data(partition);
            let skip = match what {
                What::Values(Scope::Led) => !mine || !here,
                What::Values(Scope::Node) => {
                    !here || self.me.is_none_or(|me| !ring.readers(partition).contains(&me))
                }
                What::Values(Scope::Cluster) => mine && !here,
                What::Everything => !here,
            };
            if mine
                && matches!(what, What::Values(_))
                && let Some(why) = self.not_serving(partition)
            {
                return self.listing_failed(token, Failure::new(Code::NotReady, why));
            }
            if skip {
                if let Some(Task::Listing(listing)) = self.tasks.get(token) {
                    listing.partition += 1;
                    listing.after = None;
                }
                continue;
            }
            let elsewhere = what == What::Values(Scope::Cluster) && !mine;
            return self.ask_slice(token, elsewhere.then_some(leader));
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
    pub(super) fn on_listed(&mut self, token: Token, records: Vec<Record>, next: Option<Key>) {
        let Some(ring) = self.ring.clone() else { return };
        let max = self.id.limits.message_bytes_max;
        let Some(Task::Listing(listing)) = self.tasks.get(token) else { return };
        if listing.asked.is_none() && listing.epoch != ring.epoch {
            // The own store was read under a later ring, which may have taken the partition from it.
            return self.list_on(token, &ring);
        }
        listing.asked = None;
        listing.attempts.anew();
        for (key, siblings) in records {
            if listing.text.records() >= listing.limit {
                let last = listing.after.clone();
                return self.end_listing(token, last);
            }
            match listing.what {
                What::Values(_) => listing.text.push(&key, &siblings),
                What::Everything => listing.text.push_all(&key, &siblings),
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

    /// A slice was refused by an owner that is behind: it is asked again at once, and then with the alarm.
    pub(super) fn slice_refused(&mut self, token: Token) {
        if let Some(Task::Listing(listing)) = self.tasks.get(token)
            && !std::mem::replace(&mut listing.attempts.hurried, true)
        {
            self.list_again(token);
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
