//! Keys with work under way: what waits for a read, and what was written but is not settled yet: not durable here, or
//! not at as many other owners as the write needs.
//!
//! The first operation on a key has it read; those that come meanwhile wait in line. Each then sees the state the
//! one before left, settled or not (the *overlay*), so that two writes of one key never read the same old state. An
//! answer that shows a version waits until that version is settled: while a partition moves, its next reader then has
//! it too, and what was shown once is never taken back. When nothing is under way the key is forgotten
//! here, and the store alone knows it.

use std::collections::VecDeque;
use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use ringkv_common::bug::{self, Bug};
use ringkv_common::key::{Key, KeyHasher};
use ringkv_common::version::Siblings;
use smallvec::SmallVec;

use super::effect::Token;

/// Operations at most that wait for one key.
pub const LINE_MAX: usize = 4096;

/// One key's work.
#[derive(Debug, Default)]
pub struct Busy {
    /// The state with all writes applied; `None` while it is being read.
    pub state: Option<Siblings>,
    /// Those that wait for it.
    pub line: VecDeque<Token>,
    /// Writes that are not settled yet, oldest first, each with the answers that show it.
    pub writes: SmallVec<[(Token, SmallVec<[Token; 2]>); 1]>,
}

impl Busy {
    /// Whether the state shown now is settled; if not, `reader` is told by [`Keys::settled`].
    pub fn shows_settled(&mut self, reader: Token) -> bool {
        let newest = self.writes.last_mut().filter(|_| !bug::on(Bug::ShowsUnsettled));
        newest.map(|(_, readers)| readers.push(reader)).is_none()
    }
}

/// All keys with work under way.
#[derive(Debug, Default)]
pub struct Keys {
    busy: HashMap<Key, Busy, BuildHasherDefault<KeyHasher>>,
}

/// What an operation that wants a key's state has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Have the store read it.
    Read,
    /// Go ahead: the state is known.
    Now,
    /// Wait.
    Later,
    /// Too many wait already.
    Full,
}

impl Keys {
    /// Puts an operation in line.
    pub fn enter(&mut self, key: &Key, token: Token) -> Turn {
        let busy = self.busy.entry(key.clone()).or_default();
        if busy.line.len() >= LINE_MAX {
            return Turn::Full;
        }
        if busy.state.is_some() && busy.line.is_empty() {
            return Turn::Now;
        }
        let first = busy.line.is_empty();
        busy.line.push_back(token);
        if first { Turn::Read } else { Turn::Later }
    }

    /// The store's answer is here, and the first in line has its turn. Writes that were made meanwhile cannot be:
    /// they would have waited.
    pub fn loaded(&mut self, key: &Key, siblings: Siblings) -> Option<Token> {
        let busy = self.busy.get_mut(key)?;
        busy.state = Some(siblings);
        busy.line.pop_front()
    }

    /// The next in line; where nobody is and nothing is under way the key is forgotten.
    pub fn next(&mut self, key: &Key) -> Option<Token> {
        let EntryRef::Occupied(mut entry) = self.busy.entry_ref(key) else { return None };
        let next = entry.get_mut().line.pop_front();
        if next.is_none() && entry.get().writes.is_empty() {
            entry.remove();
        }
        next
    }

    /// The work on a key.
    pub fn get(&mut self, key: &Key) -> Option<&mut Busy> {
        self.busy.get_mut(key)
    }

    /// A write is settled: returns the answers that waited for it. What also shows an older write waits for that one.
    /// Where nothing else is under way the key is forgotten.
    pub fn settled(&mut self, key: &Key, write: Token) -> SmallVec<[Token; 2]> {
        let EntryRef::Occupied(mut entry) = self.busy.entry_ref(key) else { return SmallVec::new() };
        let busy = entry.get_mut();
        let readers = match busy.writes.iter().position(|(token, _)| *token == write) {
            Some(0) => busy.writes.remove(0).1,
            Some(at) => {
                let readers = busy.writes.remove(at).1;
                busy.writes[at - 1].1.extend(readers);
                SmallVec::new()
            }
            None => SmallVec::new(),
        };
        if busy.writes.is_empty() && busy.line.is_empty() {
            entry.remove();
        }
        readers
    }

    /// Keys with work under way.
    pub fn len(&self) -> usize {
        self.busy.len()
    }
}
