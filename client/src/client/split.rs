//! MPUT and MGET: split by coordinator, put together again in order.

use std::collections::BTreeMap;
use std::time::Instant;

use ringkv_common::key::Key;
use ringkv_common::message::KEYS_MAX;

use super::{Client, Ticket};
use crate::client::flight::Purpose;
use crate::op::{Kind, Op};
use crate::reply::{Done, Reply};
use crate::{Error, Value};

/// The most bytes of one part, well below what nodes take as one message.
const PART_BYTES_MAX: usize = 4 << 20;
/// The most keys of one part: an eighth of what nodes take, so that the parts of one request do not crowd a node.
const PART_KEYS_MAX: usize = KEYS_MAX / 8;

/// Which places of a larger request a part fills.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub whole: u64,
    pub places: Vec<usize>,
}

/// A larger request whose parts are under way.
#[derive(Debug)]
pub(super) struct Join {
    results: Vec<Option<Result<Reply, Error>>>,
    parts: usize,
}

/// The items of one coordinator: their places in the whole, and what makes them an operation.
struct Group<T> {
    places: Vec<usize>,
    items: Vec<T>,
    bytes: usize,
}

impl Client {
    /// Submits the parts of an MPUT or MGET under one ticket.
    pub(super) fn submit_parts(&mut self, op: Op, now: Instant) -> Result<Ticket, Error> {
        self.next_id += 1;
        let whole = self.next_id;
        let (count, parts) = match &op.kind {
            Kind::Mput(items) => {
                let size = |(key, value): &(Key, Value)| key.text().len() + value.len() + 24;
                let parts = self.groups(items, |(key, _)| key, size);
                (items.len(), parts.into_iter().map(|g| (g.places, Kind::Mput(g.items))).collect::<Vec<_>>())
            }
            Kind::Mget(keys) => {
                let parts = self.groups(keys, |key| key, |key| key.text().len() + 4);
                (keys.len(), parts.into_iter().map(|g| (g.places, Kind::Mget(g.items))).collect())
            }
            other => unreachable!("{other:?} has no parts"),
        };
        self.joins.insert(whole, Join { results: vec![None; count], parts: parts.len() });
        for (places, kind) in parts {
            let part = op.with_kind(kind);
            let target = self.target(&part)?;
            self.launch(part, target, Purpose::Part(Part { whole, places }), now);
        }
        self.finish_if_whole(whole);
        Ok(Ticket(whole))
    }

    fn groups<T: Clone>(
        &self,
        items: &[T],
        key: impl Fn(&T) -> &Key,
        size: impl Fn(&T) -> usize,
    ) -> Vec<Group<T>> {
        let coordinator = |item: &T| match (&self.routing, self.pin) {
            (Some(routing), None) => routing.coordinator(routing.partition(key(item))),
            _ => 0,
        };
        let mut full = Vec::new();
        let mut open: BTreeMap<u8, Group<T>> = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            let node = coordinator(item);
            let bytes = size(item);
            let full_now = |g: &Group<T>| g.bytes + bytes > PART_BYTES_MAX || g.items.len() >= PART_KEYS_MAX;
            if open.get(&node).is_some_and(full_now) {
                full.extend(open.remove(&node));
            }
            let group =
                open.entry(node).or_insert_with(|| Group { places: Vec::new(), items: Vec::new(), bytes: 0 });
            group.places.push(place);
            group.items.push(item.clone());
            group.bytes += bytes;
        }
        full.extend(open.into_values());
        full
    }

    /// Takes a part's outcome; the last one completes the whole.
    pub(super) fn part_ended(&mut self, part: Part, outcome: Result<Reply, Error>) {
        let Some(join) = self.joins.get_mut(&part.whole) else { return };
        join.parts -= 1;
        match outcome {
            Ok(Reply::Many(results)) if results.len() == part.places.len() => {
                for (place, result) in part.places.iter().zip(results) {
                    join.results[*place] = Some(result);
                }
            }
            Ok(_) => {
                let why = format!("{} results were asked for, another number came", part.places.len());
                let error = Error::Unreadable { from: "a node".to_owned(), op: "MPUT or MGET", why };
                part.places.iter().for_each(|place| join.results[*place] = Some(Err(error.clone())));
            }
            Err(error) => {
                part.places.iter().for_each(|place| join.results[*place] = Some(Err(error.clone())));
            }
        }
        self.finish_if_whole(part.whole);
    }

    fn finish_if_whole(&mut self, whole: u64) {
        if self.joins.get(&whole).is_none_or(|join| join.parts > 0) {
            return;
        }
        let Some(join) = self.joins.remove(&whole) else { return };
        let results = join.results.into_iter().map(|r| r.unwrap_or_else(|| Ok(Reply::Done(Done::default()))));
        self.complete(Ticket(whole), Ok(Reply::Many(results.collect())));
    }
}
