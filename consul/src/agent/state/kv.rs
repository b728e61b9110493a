//! Keys: values, indexes, locks, and the traces that deletions leave so that lists under a prefix see them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use super::{Refusal, Row};
use crate::Entry;

/// All keys and values together, in bytes.
const BYTES_MAX: usize = 64 << 20;
/// What a key costs beside its text and value.
const ENTRY_BYTES: usize = 256;
/// Deletions that are remembered. Consul forgets them after a quarter of an hour; beyond either, the index of a list may
/// go backwards, which its readers must expect anyway.
const GRAVES_MAX: usize = 4096;
/// Consul's longest lock delay.
const LOCK_DELAY_MAX: Duration = Duration::from_secs(60);

/// A write to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write<'a> {
    /// Unconditional, or only at this `modify_index`, where 0 stands for absence.
    Put { value: &'a [u8], flags: u64, cas: Option<u64> },
    /// Unconditional, or only at this `modify_index`.
    Delete { cas: Option<u64> },
    /// Lock and store.
    Acquire { value: &'a [u8], flags: u64, session: &'a str },
    /// Unlock and store.
    Release { value: &'a [u8], flags: u64, session: &'a str },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Kv {
    entries: BTreeMap<String, Entry>,
    /// Deleted keys and prefixes, by rising index.
    graves: VecDeque<(u64, String, bool)>,
    /// The index of the last change of any key.
    index: u64,
    bytes: usize,
    /// Keys that nobody may lock until then.
    delays: BTreeMap<String, Instant>,
}

impl Kv {
    /// The index of the last change of any key.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The key, under its own index, or under that of all keys where it is absent.
    pub fn get(&self, key: &str) -> (u64, Option<&Entry>) {
        let entry = self.entries.get(key);
        (entry.map_or(self.index, |entry| entry.modify_index), entry)
    }

    /// All entries under a prefix, by key.
    pub fn list<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Entry> {
        let from = self.entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(_, entry)| entry).take_while(move |entry| entry.key.starts_with(prefix))
    }

    /// The index of the last change under a prefix, or that of all keys where no trace of one is left.
    pub fn list_index(&self, prefix: &str) -> u64 {
        if prefix.is_empty() {
            return self.index;
        }
        let grave =
            self.graves.iter().rev().find(|(_, key, _)| key.starts_with(prefix)).map(|(index, ..)| *index);
        let entry = self.list(prefix).map(|entry| entry.modify_index).max();
        grave.max(entry).unwrap_or(self.index)
    }

    /// The keys under a prefix, each cut behind the first separator that follows the prefix.
    pub fn keys(&self, prefix: &str, separator: &str) -> Vec<String> {
        let cut = |key: &str| match key[prefix.len()..].find(separator) {
            Some(at) if !separator.is_empty() => key[..prefix.len() + at + separator.len()].to_owned(),
            _ => key.to_owned(),
        };
        let mut keys: Vec<String> = self.list(prefix).map(|entry| cut(&entry.key)).collect();
        keys.dedup();
        keys
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        index: u64,
        key: &str,
        write: Write<'_>,
        rows: &mut Vec<Row>,
    ) -> Result<bool, Refusal> {
        let old = self.entries.get(key);
        let (held, lock_index) = old.map_or((None, 0), |old| (old.session.as_deref(), old.lock_index));
        let new = match write {
            Write::Delete { cas } => {
                let Some(old) = old else { return Ok(true) };
                if cas.is_some_and(|cas| cas != old.modify_index) {
                    return Ok(false);
                }
                self.remove(index, key, false, rows);
                return Ok(true);
            }
            Write::Put { cas: Some(cas), .. } if cas != old.map_or(0, |old| old.modify_index) => {
                return Ok(false);
            }
            // As Consul has it: a plain put keeps the lock and forgets how often the key was locked.
            Write::Put { value, flags, .. } => (value, flags, held.map(str::to_owned), 0),
            Write::Acquire { value, flags, session } => {
                let again = held == Some(session);
                let delayed = self.delays.get(key).is_some_and(|until| *until > now);
                if delayed || (held.is_some() && !again) {
                    return Ok(false);
                }
                (value, flags, Some(session.to_owned()), lock_index + u64::from(!again))
            }
            Write::Release { session, .. } if held != Some(session) => return Ok(false),
            Write::Release { value, flags, .. } => (value, flags, None, lock_index),
        };
        self.store(index, key, new, rows)?;
        Ok(true)
    }

    /// Stores, unless nothing would change: then the index stays and nobody is woken.
    fn store(
        &mut self,
        index: u64,
        key: &str,
        (value, flags, session, lock_index): (&[u8], u64, Option<String>, u64),
        rows: &mut Vec<Row>,
    ) -> Result<(), Refusal> {
        let old = self.entries.get(key);
        let mut entry = Entry {
            key: key.to_owned(),
            value: value.to_vec(),
            flags,
            create_index: old.map_or(index, |old| old.create_index),
            modify_index: old.map_or(index, |old| old.modify_index),
            lock_index,
            session,
        };
        if old == Some(&entry) {
            return Ok(());
        }
        let bytes = self.bytes - old.map_or(0, size) + size(&entry);
        if bytes > BYTES_MAX {
            let message = format!(
                "the embedded agent holds at most {BYTES_MAX} bytes of keys and values; this put would make it {bytes}"
            );
            return Err(Refusal::new(500, message));
        }
        entry.modify_index = index;
        rows.push(Row::Entry(entry.clone()));
        self.apply(entry);
        Ok(())
    }

    pub(super) fn delete_tree(&mut self, index: u64, prefix: &str, rows: &mut Vec<Row>) {
        if self.list(prefix).next().is_some() {
            self.remove(index, prefix, true, rows);
        }
    }

    fn remove(&mut self, index: u64, key: &str, tree: bool, rows: &mut Vec<Row>) {
        rows.push(Row::NoEntry { prefix: key.to_owned(), tree, index });
        self.apply_gone(key, tree, index);
    }

    /// Frees all that a session held when it ended.
    pub(super) fn free(
        &mut self,
        now: Instant,
        index: u64,
        session: &str,
        delete: bool,
        delay: Duration,
        rows: &mut Vec<Row>,
    ) {
        let held = |entry: &&Entry| entry.session.as_deref() == Some(session);
        let held: Vec<Entry> = self.entries.values().filter(held).cloned().collect();
        for entry in held {
            if !delay.is_zero() {
                self.delays.insert(entry.key.clone(), now + delay.min(LOCK_DELAY_MAX));
            }
            if delete {
                self.remove(index, &entry.key, false, rows);
            } else {
                let entry = Entry { session: None, modify_index: index, ..entry };
                rows.push(Row::Entry(entry.clone()));
                self.apply(entry);
            }
        }
    }

    pub(super) fn forget_delays(&mut self, now: Instant) {
        self.delays.retain(|_, until| *until > now);
    }

    pub(super) fn apply(&mut self, entry: Entry) -> u64 {
        let index = entry.modify_index;
        self.bytes += size(&entry);
        if let Some(old) = self.entries.insert(entry.key.clone(), entry) {
            self.bytes -= size(&old);
        }
        self.raise(index)
    }

    pub(super) fn apply_gone(&mut self, key: &str, tree: bool, index: u64) -> u64 {
        let gone: Vec<String> = match tree {
            true => self.list(key).map(|entry| entry.key.clone()).collect(),
            false => vec![key.to_owned()],
        };
        for key in gone {
            if let Some(old) = self.entries.remove(&key) {
                self.bytes -= size(&old);
            }
        }
        if self.graves.len() == GRAVES_MAX {
            self.graves.pop_front();
        }
        self.graves.push_back((index, key.to_owned(), tree));
        self.raise(index)
    }

    pub(super) fn raise(&mut self, index: u64) -> u64 {
        self.index = self.index.max(index);
        index
    }

    pub(super) fn rows(&self, rows: &mut Vec<Row>) {
        // Graves first: a key may have been made again under a prefix that was deleted before.
        let graves = self.graves.iter();
        rows.extend(graves.map(|(index, key, tree)| Row::NoEntry {
            prefix: key.clone(),
            tree: *tree,
            index: *index,
        }));
        rows.extend(self.entries.values().cloned().map(Row::Entry));
    }
}

fn size(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len() + ENTRY_BYTES
}
