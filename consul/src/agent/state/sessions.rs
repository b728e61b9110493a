//! Sessions and when they end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Refusal, Row};
use crate::Behavior;

const SESSIONS_MAX: usize = 10_000;
/// Consul grants twice the TTL, so that a renewal may be late. It is the caller's to be punctual.
const TTL_MULTIPLIER: u32 = 2;

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    pub id: String,
    pub name: String,
    pub lock_delay_ms: u64,
    pub behavior: Behavior,
    /// As the caller wrote it.
    pub ttl_text: String,
    pub ttl_ms: Option<u64>,
    pub index: u64,
}

#[derive(Debug)]
struct Live {
    row: SessionRow,
    ends: Option<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sessions {
    live: BTreeMap<String, Live>,
    index: u64,
}

impl Sessions {
    /// The index of the last session that was made or ended.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// All, by id.
    pub fn all(&self) -> impl Iterator<Item = &SessionRow> {
        self.live.values().map(|live| &live.row)
    }

    /// Consul's words for ids that are none.
    pub fn check_id(id: &str) -> Result<(), Refusal> {
        let why = if id.len() != 36 {
            "UUID must be 36 characters"
        } else if !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            "UUID must be hexadecimal"
        } else {
            return Ok(());
        };
        Err(Refusal::new(500, format!("failed session lookup: index error: {why}")))
    }

    pub fn find(&self, id: &str) -> Result<Option<&SessionRow>, Refusal> {
        Self::check_id(id)?;
        Ok(self.live.get(id).map(|live| &live.row))
    }

    pub(super) fn must_exist(&self, id: &str) -> Result<(), Refusal> {
        match self.find(id)? {
            Some(_) => Ok(()),
            None => Err(Refusal::new(500, format!("invalid session {id:?}"))),
        }
    }

    /// Starts the TTL anew.
    pub fn renew(&mut self, now: Instant, id: &str) -> Result<Option<&SessionRow>, Refusal> {
        Self::check_id(id)?;
        Ok(self.live.get_mut(id).map(|live| {
            live.ends = end(&live.row, now);
            &live.row
        }))
    }

    pub(super) fn create(
        &mut self,
        now: Instant,
        session: SessionRow,
        rows: &mut Vec<Row>,
    ) -> Result<(), Refusal> {
        if self.live.len() >= SESSIONS_MAX {
            let message = format!("the embedded agent holds at most {SESSIONS_MAX} sessions");
            return Err(Refusal::new(500, message));
        }
        rows.push(Row::Session(session.clone()));
        self.apply(session, now);
        Ok(())
    }

    pub(super) fn remove(&mut self, index: u64, id: &str, rows: &mut Vec<Row>) -> Option<SessionRow> {
        let row = self.live.get(id)?.row.clone();
        rows.push(Row::NoSession { id: id.to_owned(), index });
        self.apply_gone(id, index);
        Some(row)
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.live.values().filter_map(|live| live.ends).min()
    }

    pub(super) fn ended(&self, now: Instant) -> Vec<String> {
        let over = |live: &&Live| live.ends.is_some_and(|ends| ends <= now);
        self.live.values().filter(over).map(|live| live.row.id.clone()).collect()
    }

    pub(super) fn apply(&mut self, row: SessionRow, now: Instant) -> u64 {
        let index = row.index;
        let ends = end(&row, now);
        self.live.insert(row.id.clone(), Live { row, ends });
        self.raise(index)
    }

    pub(super) fn apply_gone(&mut self, id: &str, index: u64) -> u64 {
        self.live.remove(id);
        self.raise(index)
    }

    pub(super) fn raise(&mut self, index: u64) -> u64 {
        self.index = self.index.max(index);
        index
    }

    pub(super) fn rows(&self, rows: &mut Vec<Row>) {
        rows.extend(self.all().cloned().map(Row::Session));
    }
}

fn end(row: &SessionRow, now: Instant) -> Option<Instant> {
    row.ttl_ms.map(|ttl| now + Duration::from_millis(ttl) * TTL_MULTIPLIER)
}
