//! Random writes against a twin that is a map and nothing else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use consul::{Client, Entry, NewSession};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::server::Server;

#[derive(Debug, Clone)]
enum Op {
    Put {
        key: usize,
        value: u8,
    },
    /// Compare-and-set against the index that the key had so many changes ago.
    PutIf {
        key: usize,
        value: u8,
        back: usize,
    },
    Create {
        key: usize,
        value: u8,
    },
    Delete {
        key: usize,
    },
    DeleteIf {
        key: usize,
        back: usize,
    },
    DeletePrefix {
        prefix: usize,
    },
    Acquire {
        key: usize,
        value: u8,
        session: usize,
    },
    Release {
        key: usize,
        value: u8,
        session: usize,
    },
    EndSession {
        session: usize,
    },
}

const KEYS: [&str; 5] = ["a", "a/b", "a/b/c", "a/c", "b"];
const PREFIXES: [&str; 4] = ["a", "a/", "a/b", "c"];
const SESSIONS: usize = 2;

fn op() -> impl Strategy<Value = Op> {
    let (key, value, back, session) = (0..KEYS.len(), 0..3_u8, 0..2_usize, 0..SESSIONS);
    prop_oneof![
        4 => (key.clone(), value.clone()).prop_map(|(key, value)| Op::Put { key, value }),
        3 => (key.clone(), value.clone(), back.clone()).prop_map(|(key, value, back)| Op::PutIf { key, value, back }),
        2 => (key.clone(), value.clone()).prop_map(|(key, value)| Op::Create { key, value }),
        1 => key.clone().prop_map(|key| Op::Delete { key }),
        2 => (key.clone(), back).prop_map(|(key, back)| Op::DeleteIf { key, back }),
        1 => (0..PREFIXES.len()).prop_map(|prefix| Op::DeletePrefix { prefix }),
        4 => (key.clone(), value.clone(), session.clone())
            .prop_map(|(key, value, session)| Op::Acquire { key, value, session }),
        2 => (key, value, session.clone()).prop_map(|(key, value, session)| Op::Release { key, value, session }),
        1 => session.prop_map(|session| Op::EndSession { session }),
    ]
}

/// What a key should be. The twin knows no indexes: it counts the changes of the key.
#[derive(Debug, Clone, PartialEq)]
struct Twin {
    value: u8,
    session: Option<usize>,
    locks: u64,
    changes: usize,
}

/// A key's indexes as the server gave them, one per change.
type Seen = BTreeMap<&'static str, Vec<u64>>;

struct Run<'a> {
    client: &'a Client,
    prefix: String,
    sessions: Vec<String>,
    twin: BTreeMap<&'static str, Twin>,
    /// Changes of keys also across deletions.
    changes: BTreeMap<&'static str, usize>,
    seen: Seen,
}

impl<'a> Run<'a> {
    fn new(client: &'a Client, case: &str) -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("{case}-{}/", RUNS.fetch_add(1, Ordering::Relaxed));
        let sessions = (0..SESSIONS).map(|_| session(client)).collect();
        Run { client, prefix, sessions, twin: BTreeMap::new(), changes: BTreeMap::new(), seen: Seen::new() }
    }

    fn set(&mut self, key: &'static str, value: u8, session: Option<usize>, locks: u64) {
        let old = self.twin.get(key);
        if old.is_some_and(|old| (old.value, old.session, old.locks) == (value, session, locks)) {
            return;
        }
        let changes = self.changes.entry(key).or_default();
        *changes += 1;
        self.twin.insert(key, Twin { value, session, locks, changes: *changes });
    }

    /// The index that the key had so many changes ago: 0 ago is the right one.
    fn index(&self, key: &str, back: usize) -> u64 {
        let seen = self.seen.get(key).map_or(&[][..], Vec::as_slice);
        seen.len().checked_sub(back + 1).map_or(7, |at| seen[at])
    }

    fn apply(&mut self, op: &Op) {
        let path = |key: &str| format!("{}{key}", self.prefix);
        let client = self.client;
        match *op {
            Op::Put { key, value } => {
                let key = KEYS[key];
                client.put(&path(key), [value]).unwrap();
                let session = self.twin.get(key).and_then(|old| old.session);
                self.set(key, value, session, 0);
            }
            Op::PutIf { key, value, back } => {
                let key = KEYS[key];
                let right = back == 0 && self.twin.contains_key(key);
                assert_eq!(client.put_if(&path(key), [value], self.index(key, back)).unwrap(), right);
                if right {
                    let session = self.twin[key].session;
                    self.set(key, value, session, 0);
                }
            }
            Op::Create { key, value } => {
                let key = KEYS[key];
                let right = !self.twin.contains_key(key);
                assert_eq!(client.put_if(&path(key), [value], 0).unwrap(), right);
                if right {
                    self.set(key, value, None, 0);
                }
            }
            Op::Delete { key } => {
                client.delete(&path(KEYS[key])).unwrap();
                self.twin.remove(KEYS[key]);
            }
            Op::DeleteIf { key, back } => {
                let key = KEYS[key];
                let right = back == 0 || !self.twin.contains_key(key);
                assert_eq!(client.delete_if(&path(key), self.index(key, back)).unwrap(), right);
                if right {
                    self.twin.remove(key);
                }
            }
            Op::DeletePrefix { prefix } => {
                client.delete_prefix(&path(PREFIXES[prefix])).unwrap();
                self.twin.retain(|key, _| !key.starts_with(PREFIXES[prefix]));
            }
            Op::Acquire { key, value, session } => {
                let key = KEYS[key];
                let old = self.twin.get(key);
                let holder = old.and_then(|old| old.session);
                let right = holder.is_none_or(|holder| holder == session);
                let locks = old.map_or(0, |old| old.locks) + u64::from(holder.is_none());
                assert_eq!(client.acquire(&path(key), [value], &self.sessions[session]).unwrap(), right);
                if right {
                    self.set(key, value, Some(session), locks);
                }
            }
            Op::Release { key, value, session } => {
                let key = KEYS[key];
                let old = self.twin.get(key);
                let right = old.is_some_and(|old| old.session == Some(session));
                let locks = old.map_or(0, |old| old.locks);
                assert_eq!(client.release(&path(key), [value], &self.sessions[session]).unwrap(), right);
                if right {
                    self.set(key, value, None, locks);
                }
            }
            Op::EndSession { session: number } => {
                client.destroy_session(&self.sessions[number]).unwrap();
                self.sessions[number] = session(client);
                let held: Vec<_> =
                    self.twin.iter().filter(|(_, twin)| twin.session == Some(number)).collect();
                let held: Vec<_> = held.into_iter().map(|(key, twin)| (*key, twin.clone())).collect();
                for (key, twin) in held {
                    self.set(key, twin.value, None, twin.locks);
                }
            }
        }
        self.compare(op);
    }

    fn compare(&mut self, op: &Op) {
        let list = self.client.list(&self.prefix).unwrap();
        let keys: Vec<&str> = list.iter().map(|entry| &entry.key[self.prefix.len()..]).collect();
        assert_eq!(keys, self.twin.keys().copied().collect::<Vec<_>>(), "after {op:?}");
        for (entry, (key, twin)) in list.iter().zip(&self.twin) {
            let session = twin.session.map(|session| self.sessions[session].as_str());
            let got = (entry.value.as_slice(), entry.session.as_deref(), entry.lock_index);
            assert_eq!(got, (&[twin.value][..], session, twin.locks), "{key} after {op:?}");
            self.seen.entry(key).or_default().push_new(entry, twin.changes, op);
        }
        if let Some((entry, (key, _))) = list.first().zip(self.twin.first_key_value()) {
            let single = self.client.get(&format!("{}{key}", self.prefix)).unwrap();
            assert_eq!(single.as_ref(), Some(entry));
        }
    }
}

trait Indexes {
    fn push_new(&mut self, entry: &Entry, changes: usize, op: &Op);
}

impl Indexes for Vec<u64> {
    /// The index changes exactly when the key does, and only upwards.
    fn push_new(&mut self, entry: &Entry, changes: usize, op: &Op) {
        if self.len() < changes {
            assert!(self.last().is_none_or(|last| *last < entry.modify_index), "{entry:?} after {op:?}");
            assert_eq!(self.len() + 1, changes);
            self.push(entry.modify_index);
        }
        assert_eq!(self.last(), Some(&entry.modify_index), "{} after {op:?}", entry.key);
        assert!(entry.create_index <= entry.modify_index);
    }
}

fn session(client: &Client) -> String {
    client.create_session(&NewSession { lock_delay: Duration::ZERO, ..NewSession::default() }).unwrap()
}

fn agree(server: &Server, cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let strategy = prop::collection::vec(op(), 1..60);
    let run = |ops: Vec<Op>| {
        let mut run = Run::new(&server.client, &server.name("twin"));
        ops.iter().for_each(|op| run.apply(op));
        Ok(())
    };
    TestRunner::new(config).run(&strategy, run).unwrap();
}

mod random_writes_agree_with_a_map {
    use crate::server::Server;

    #[test]
    fn embedded() {
        super::agree(&Server::embedded("random"), 100);
    }

    #[test]
    fn real() {
        if let Some(server) = Server::real("random") {
            super::agree(&server, 20);
        }
    }
}
