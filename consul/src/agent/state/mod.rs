//! What the agent knows, as a pure machine: time comes in as an argument, and what must survive comes out as rows.
//!
//! Every change takes the next index and leaves [`Row`]s. Replaying the rows in order into an empty state gives the
//! same state again, all indexes included; only timers start anew.

mod catalog;
mod kv;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use catalog::{Catalog, CheckRow, NewCheck, NewService, ServiceRow};
pub use kv::{Kv, Write};
pub use sessions::{SessionRow, Sessions};

use crate::{Behavior, CheckStatus, Entry};

/// One fact as it is kept on disk; the last one about a thing holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "row", rename_all = "kebab-case")]
pub enum Row {
    /// A key.
    Entry(Entry),
    /// A key is gone, or a whole prefix.
    NoEntry { prefix: String, tree: bool, index: u64 },
    /// A session.
    Session(SessionRow),
    /// A session ended.
    NoSession { id: String, index: u64 },
    /// A registered service.
    Service(ServiceRow),
    /// A service is gone.
    NoService { id: String, index: u64 },
    /// A check.
    Check(CheckRow),
    /// A check is gone.
    NoCheck { id: String, index: u64 },
    /// The indexes that no other row holds any more; the last row of a compacted state.
    Indexes {
        state: u64,
        keys: u64,
        sessions: u64,
        services: u64,
        checks: u64,
        extinct: u64,
        names: BTreeMap<String, u64>,
    },
}

/// Why something was not done, as an HTTP status and the words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal { status, message: message.into() }
    }
}

/// Everything.
#[derive(Debug)]
pub struct State {
    /// That of the last change. It starts at 1, the index that readers get of what never was: the first change must be
    /// above it, or they would wait for ever.
    index: u64,
    pub kv: Kv,
    pub sessions: Sessions,
    pub catalog: Catalog,
    rows: Vec<Row>,
}

impl Default for State {
    fn default() -> Self {
        State {
            index: 1,
            kv: Kv::default(),
            sessions: Sessions::default(),
            catalog: Catalog::default(),
            rows: Vec::new(),
        }
    }
}

impl State {
    /// The state that these rows tell of. Timers start at `now`.
    pub fn restore(rows: impl IntoIterator<Item = Row>, now: Instant) -> Self {
        let mut state = State::default();
        for row in rows {
            state.apply(row, now);
        }
        state
    }

    fn apply(&mut self, row: Row, now: Instant) {
        let index = match row {
            Row::Entry(entry) => self.kv.apply(entry),
            Row::NoEntry { prefix, tree, index } => self.kv.apply_gone(&prefix, tree, index),
            Row::Session(session) => self.sessions.apply(session, now),
            Row::NoSession { id, index } => self.sessions.apply_gone(&id, index),
            Row::Service(service) => self.catalog.apply_service(service),
            Row::NoService { id, index } => self.catalog.apply_no_service(&id, index),
            Row::Check(check) => self.catalog.apply_check(check, now),
            Row::NoCheck { id, index } => self.catalog.apply_no_check(&id, index),
            Row::Indexes { state, keys, sessions, services, checks, extinct, names } => {
                self.kv.raise(keys);
                self.sessions.raise(sessions);
                self.catalog.raise(services, checks, extinct, names);
                state
            }
        };
        self.index = self.index.max(index);
    }

    /// All of it as the fewest rows.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.kv.rows(&mut rows);
        self.sessions.rows(&mut rows);
        self.catalog.rows(&mut rows);
        let (services, checks, extinct) = self.catalog.indexes();
        rows.push(Row::Indexes {
            state: self.index,
            keys: self.kv.index(),
            sessions: self.sessions.index(),
            services,
            checks,
            extinct,
            names: self.catalog.names().clone(),
        });
        rows
    }

    /// The rows since the last call, in order.
    pub fn take_rows(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }

    /// Runs a change under the next index; where it leaves no rows, nothing changed and the index stays.
    fn change<T>(&mut self, change: impl FnOnce(&mut Self, u64, &mut Vec<Row>) -> T) -> T {
        let mut rows = Vec::new();
        let done = change(self, self.index + 1, &mut rows);
        if !rows.is_empty() {
            self.index += 1;
            self.rows.append(&mut rows);
        }
        done
    }

    /// A write to a key. Returns whether its condition held.
    pub fn write_key(&mut self, now: Instant, key: &str, write: Write<'_>) -> Result<bool, Refusal> {
        if let Write::Acquire { session, .. } = &write {
            self.sessions.must_exist(session)?;
        }
        self.change(|state, index, rows| state.kv.write(now, index, key, write, rows))
    }

    /// Deletes everything under a prefix.
    pub fn delete_tree(&mut self, prefix: &str) {
        self.change(|state, index, rows| state.kv.delete_tree(index, prefix, rows));
    }

    /// Makes a session under this id.
    pub fn create_session(&mut self, now: Instant, session: SessionRow) -> Result<(), Refusal> {
        self.change(|state, index, rows| {
            let session = SessionRow { index, ..session };
            state.sessions.create(now, session, rows)
        })
    }

    /// Ends a session and frees what it held.
    pub fn destroy_session(&mut self, now: Instant, id: &str) {
        self.change(|state, index, rows| {
            let Some(session) = state.sessions.remove(index, id, rows) else { return };
            let delay = Duration::from_millis(session.lock_delay_ms);
            let delete = session.behavior == Behavior::Delete;
            state.kv.free(now, index, id, delete, delay, rows);
        });
    }

    /// Registers a service with its checks.
    pub fn register(&mut self, now: Instant, service: NewService) -> Result<(), Refusal> {
        self.change(|state, index, rows| state.catalog.register(now, index, service, rows))
    }

    /// Removes a service with its checks.
    pub fn deregister(&mut self, id: &str) {
        self.change(|state, index, rows| state.catalog.deregister(index, id, rows));
    }

    /// A TTL update. Returns whether there is such a check.
    pub fn update_check(&mut self, now: Instant, id: &str, status: CheckStatus, output: &str) -> bool {
        self.change(|state, index, rows| state.catalog.update(now, index, id, status, output, rows))
    }

    /// When [`State::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        [self.sessions.next_end(), self.catalog.next_due()].into_iter().flatten().min()
    }

    /// Ends what is over by now: sessions, TTLs, services critical for too long.
    pub fn tick(&mut self, now: Instant) {
        for id in self.sessions.ended(now) {
            self.destroy_session(now, &id);
        }
        self.kv.forget_delays(now);
        for id in self.catalog.due(now) {
            self.change(|state, index, rows| state.catalog.expire(now, index, &id, rows));
        }
    }
}
