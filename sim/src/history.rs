//! What clients were told, and whether it can be true.
//!
//! Each key has one writer, which does one thing at a time, so a key's history is a line of writes. A write ends
//! *acknowledged*, *refused* (it never happens) or *unknown*: then it may happen at any later moment, once. At each
//! moment a key has a set of values that may be there; a read must show one that was possible between its beginning
//! and its end. And a state that a client was shown is never older than the one it was shown before, be the writes
//! between them acknowledged or not. Where the only holder of a key was killed, the key may be lost, but then the reply must say so.
//!
//! That is so where quorums are strict. Where others stand in for owners, the history is *weak* until everything has
//! come to rest: a read shows something that was written or the initial nothing, however old, and may go back.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_common::key::Key;
use ringkv_common::version::{Content, Dot};

use crate::rounds::Shared;
use crate::workload;

/// What a key holds: nothing, or the value of a number.
pub type Value = Option<u64>;

/// Number of a write or of a read.
pub type Id = u64;

#[derive(Debug, Default)]
struct State {
    /// What may be there, leaving aside writes that are unknown or under way.
    possible: BTreeSet<Value>,
    /// Writes that may happen at any moment.
    unknown: BTreeMap<Id, Value>,
    /// The writer's write, and whether the key was lost since it began.
    under_way: Option<(Id, Value, bool)>,
    /// Its only holder was killed and nothing was acknowledged since.
    lost: bool,
    /// How often that happened.
    losses: u64,
    /// It was lost, and the operator accepted that: anything older may come back.
    accepted: bool,
    /// All values that were ever written.
    ever: BTreeSet<Value>,
    /// Acknowledged writes and when: their repetitions may still be on the way.
    recent: Vec<(u64, Id, Value)>,
}

/// For how long a repetition of a write that was acknowledged may still arrive somewhere, in microseconds: a
/// client's or a gate's deadline, and a pause of whoever keeps it.
const LATE_US: u64 = 10_000_000;

impl State {
    fn may_show(&self) -> BTreeSet<Value> {
        let open = self.unknown.values().copied().chain(self.under_way.iter().map(|w| w.1));
        let mut all: BTreeSet<Value> = self.possible.iter().copied().chain(open).collect();
        if self.lost && self.accepted {
            all.extend(self.ever.iter().copied().chain([None]));
        }
        all
    }
}

#[derive(Debug)]
struct Read {
    key: String,
    allowed: BTreeSet<Value>,
    may_be_lost: bool,
    /// How often the key had been lost when it began.
    losses: u64,
    /// Read by the writer, between its writes.
    by_writer: bool,
}

/// A context that a client was shown: which writes of whom the state had seen.
pub type Shown = BTreeMap<String, u64>;

/// A key's presence that a listing must show.
pub type Listing = BTreeSet<String>;

/// All keys.
#[derive(Debug, Default)]
pub struct History {
    keys: BTreeMap<String, State>,
    writes: BTreeMap<Id, String>,
    reads: BTreeMap<Id, Read>,
    /// Listings under way: what each must show. Deletes and losses take keys out.
    listings: BTreeMap<Id, Listing>,
    dots: BTreeMap<Dot, (Key, Content)>,
    /// What each reader was last shown of each key, and how often the key had been lost when it asked.
    seen: BTreeMap<(usize, String), (u64, Shown)>,
    /// What of a key's writes went with tombstones that were collected: no context shows it again.
    collected: BTreeMap<String, Shown>,
    next: Id,
    /// Keys that clients share.
    pub shared: Shared,
    /// Whether reads may be stale.
    pub weak: bool,
    /// Though not those of what every other client writes.
    pub strict_writers: bool,
    /// Virtual time, in microseconds.
    pub now_us: u64,
    /// What cannot be true.
    pub violations: Vec<String>,
}

impl History {
    /// Nothing was written yet; `weak`: reads may be stale, and with `strict_writers` not those of every other client's keys.
    pub fn new(weak: bool, strict_writers: bool) -> History {
        History { weak, strict_writers, ..History::default() }
    }

    fn number(&mut self) -> Id {
        self.next += 1;
        self.next
    }

    /// Whether reads of a key may be stale.
    fn is_weak(&self, key: &str) -> bool {
        self.weak && !(self.strict_writers && workload::writer_of(key).is_some_and(workload::writes_strictly))
    }

    fn state(&mut self, key: &str) -> &mut State {
        self.keys.entry(key.to_owned()).or_insert_with(|| State {
            possible: BTreeSet::from([None]),
            ever: BTreeSet::from([None]),
            ..State::default()
        })
    }

    /// The keys that were ever written.
    pub fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// A key's writer begins a write.
    pub fn begin_write(&mut self, key: &str, value: Value) -> Id {
        let id = self.number();
        self.writes.insert(id, key.to_owned());
        let state = self.state(key);
        assert!(state.under_way.is_none(), "a writer does one thing at a time");
        state.under_way = Some((id, value, false));
        state.ever.insert(value);
        for read in self.reads.values_mut().filter(|r| r.key == key) {
            read.allowed.insert(value);
        }
        if value.is_none() {
            self.listings.values_mut().for_each(|l| l.retain(|k| k != key));
        }
        id
    }

    fn end_write(&mut self, id: Id) -> Option<(&mut State, Value, bool)> {
        let key = self.writes.remove(&id)?;
        let state = self.keys.get_mut(&key)?;
        let (_, value, lost) = state.under_way.take()?;
        Some((state, value, lost))
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, id: Id) {
        let now_us = self.now_us;
        if let Some((state, value, lost)) = self.end_write(id) {
            state.recent.retain(|(at, ..)| at + LATE_US > now_us);
            state.recent.push((now_us, id, value));
            state.possible = BTreeSet::from([value]);
            state.lost &= lost;
            state.accepted &= lost;
        }
    }

    /// Whether some write of a key may still happen though it ended.
    pub fn any_unknown(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|state| !state.unknown.is_empty())
    }

    /// It was refused, and never happens.
    pub fn refused(&mut self, id: Id) {
        self.end_write(id);
    }

    /// Nobody knows.
    pub fn unknown(&mut self, id: Id) {
        if let Some((state, value, _)) = self.end_write(id) {
            state.unknown.insert(id, value);
        }
    }

    /// A read begins.
    pub fn begin_read(&mut self, key: &str, by_writer: bool) -> Id {
        let (id, weak) = (self.number(), self.is_weak(key));
        let state = self.state(key);
        let allowed = if weak { state.ever.clone() } else { state.may_show() };
        let (may_be_lost, losses) = (state.lost, state.losses);
        let read = Read { key: key.to_owned(), allowed, may_be_lost, losses, by_writer };
        self.reads.insert(id, read);
        id
    }

    /// It ended without an answer.
    pub fn abandon_read(&mut self, id: Id) {
        self.reads.remove(&id);
    }

    /// It showed this; `lost`: with the remark that the key may have been lost.
    pub fn end_read(&mut self, id: Id, shown: Value, lost: bool) {
        let Some(read) = self.reads.remove(&id) else { return };
        let weak = self.is_weak(&read.key);
        let Some(state) = self.keys.get_mut(&read.key) else { return };
        let said = shown.is_none() && lost && read.may_be_lost;
        if !read.allowed.contains(&shown) && !said {
            let key = &read.key;
            let allowed = &read.allowed;
            let loss = if read.may_be_lost { ", lost must be said" } else { "" };
            let said = if lost { " and said lost" } else { "" };
            self.violations.push(format!("{key} showed {shown:?}{said}, possible was {allowed:?}{loss}"));
        } else if read.by_writer && !weak && state.under_way.is_none() && !state.lost {
            if !state.possible.contains(&shown) {
                let happened = state.unknown.iter().find(|(_, value)| **value == shown).map(|(id, _)| *id);
                happened.and_then(|id| state.unknown.remove(&id));
            }
            state.possible = BTreeSet::from([shown]);
        }
    }

    /// All of a key that some owner had seen went with a tombstone, and what went before.
    pub fn collected(&mut self, key: &Key, all: Shown) {
        self.collected.insert(key.text().to_owned(), all);
    }

    /// A read is about to end with this context.
    pub fn saw(&mut self, reader: usize, read: Id, shown: Shown) {
        let Some(Read { key, losses, .. }) = self.reads.get(&read) else { return };
        let key = key.clone();
        let before = self.seen.insert((reader, key.clone()), (*losses, shown.clone()));
        let now = self.keys.get(&key).map_or(0, |state| state.losses);
        let Some((_, before)) = before.filter(|(then, _)| *then == now) else { return };
        let collected = self.collected.get(&key);
        let went = |actor: &String, n: &u64| collected.and_then(|c| c.get(actor)).is_some_and(|all| n <= all);
        let older =
            before.iter().any(|(actor, n)| shown.get(actor).is_none_or(|now| now < n) && !went(actor, n));
        if older && !self.is_weak(&key) {
            self.violations.push(format!("{key} went back: reader {reader} saw {before:?}, then {shown:?}"));
        }
    }

    /// An INSERT or UPDATE was refused because the key is there, or is not.
    pub fn end_check(&mut self, id: Id, present: bool, lost: bool) {
        let Some(read) = self.reads.remove(&id) else { return };
        let said = !present && lost && read.may_be_lost;
        if !said && !read.allowed.iter().any(|v| v.is_some() == present) {
            let allowed = &read.allowed;
            self.violations.push(format!(
                "{}: refused as if present were {present}, possible was {allowed:?}",
                read.key
            ));
        }
    }

    /// The only holder of these keys was killed.
    pub fn killed_holder_of(&mut self, held: impl Fn(&Key) -> bool) {
        self.shared.killed_holder_of(&held);
        for (text, state) in &mut self.keys {
            if !Key::new(text).is_ok_and(|key| held(&key)) {
                continue;
            }
            state.lost = true;
            state.losses += 1;
            // With the memory went what it remembered of requests: a repetition that is still on the way is done again.
            let late = state.recent.drain(..).filter(|(at, ..)| at + LATE_US > self.now_us);
            state.unknown.extend(late.map(|(_, id, value)| (id, value)));
            if let Some((_, _, lost)) = &mut state.under_way {
                *lost = true;
            }
            for read in self.reads.values_mut().filter(|r| r.key == *text) {
                read.may_be_lost = true;
            }
            self.listings.values_mut().for_each(|l| l.retain(|k| k != text));
        }
    }

    /// Another node turned out to have these keys whole.
    pub fn saved(&mut self, held: impl Fn(&Key) -> bool) {
        for (text, state) in self.keys.iter_mut().filter(|(_, s)| s.lost && !s.accepted) {
            if Key::new(text).is_ok_and(|key| held(&key)) {
                state.lost = false;
            }
        }
    }

    /// The operator accepted what was lost.
    pub fn accept_loss(&mut self) {
        for (text, state) in self.keys.iter_mut().filter(|(_, s)| s.lost) {
            state.accepted = true;
            for read in self.reads.values_mut().filter(|r| r.key == *text) {
                read.allowed.extend(state.may_show());
            }
        }
    }

    /// A listing begins.
    pub fn begin_listing(&mut self) -> Id {
        let surely = |s: &State| !s.lost && s.may_show().iter().all(Option::is_some);
        let present = self.keys.iter().filter(|(_, s)| surely(s)).map(|(key, _)| key.clone()).collect();
        let id = self.number();
        self.listings.insert(id, present);
        id
    }

    /// It ended without an answer.
    pub fn abandon_listing(&mut self, id: Id) {
        self.listings.remove(&id);
    }

    /// It showed these keys, in this order.
    pub fn end_listing(&mut self, id: Id, shown: &[String]) {
        let Some(must) = self.listings.remove(&id) else { return };
        let mut seen = BTreeSet::new();
        for key in shown {
            if !seen.insert(key) {
                self.violations.push(format!("a listing showed {key} twice"));
            }
        }
        for key in must.iter().filter(|k| !seen.contains(k)) {
            self.violations.push(format!("a listing of {} keys did not show {key}", shown.len()));
        }
    }

    /// A version is kept somewhere: its dot names it and nothing else.
    pub fn kept(&mut self, key: &Key, dot: Dot, content: &Content) {
        match self.dots.get(&dot) {
            None => {
                self.dots.insert(dot, (key.clone(), content.clone()));
            }
            Some((k, c)) if k == key && c == content => {}
            Some((k, _)) => {
                self.violations.push(format!("{dot:?} names a version of {k:?} and one of {key:?}"))
            }
        }
    }

    /// The keys that must be there now, and those that may.
    pub fn present(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let of = |f: fn(&State) -> bool| -> BTreeSet<String> {
            self.keys.iter().filter(|(_, s)| f(s)).map(|(k, _)| k.clone()).collect()
        };
        (
            of(|s| !s.lost && s.may_show().iter().all(Option::is_some)),
            of(|s| s.may_show().iter().any(Option::is_some)),
        )
    }

    /// Whether some key may be lost.
    pub fn any_lost(&self) -> bool {
        self.keys.values().any(|s| s.lost)
    }
}

#[cfg(test)]
mod tests;
