//! Contexts: a clock as clients carry it, an object of actor to counter.
//!
//! Clients of other stores bring contexts with names of their own, as in `{"192.168.1.69":2}`. Such entries are kept
//! with the key and shown again, and they cover nothing of ours.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Actor, Clock, Dot};

/// The most entries a context may have.
pub const CONTEXT_ENTRIES_MAX: usize = 1024;

/// The largest counter that every JSON reader holds exactly: 2^53 − 1.
const COUNTER_MAX: u64 = (1 << 53) - 1;

/// A name that is no actor of ours, and its counter.
type ForeignEntry = (Box<str>, u64);

/// Entries of other systems' clocks, sorted by name. Boxed, for almost no key has any.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[allow(clippy::box_collection)]
pub struct Foreign(Option<Box<Vec<ForeignEntry>>>);

impl Foreign {
    /// The entries, sorted by name.
    pub fn entries(&self) -> &[ForeignEntry] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    /// Keeps an entry, or the larger counter of two.
    pub fn see(&mut self, name: &str, counter: u64) {
        let entries = self.0.get_or_insert_default();
        match entries.binary_search_by(|(held, _)| (**held).cmp(name)) {
            Ok(at) => entries[at].1 = entries[at].1.max(counter),
            Err(at) => entries.insert(at, (name.into(), counter)),
        }
    }

    /// Keeps all that another one holds.
    pub fn join(&mut self, other: &Foreign) {
        for (name, counter) in other.entries() {
            self.see(name, *counter);
        }
    }
}

/// What a client has seen of a key.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Context {
    /// Entries of our own actors.
    pub clock: Clock,
    /// All others.
    pub foreign: Foreign,
}

/// Why a context was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ContextError {
    /// More than [`CONTEXT_ENTRIES_MAX`].
    #[error("the context has more than {CONTEXT_ENTRIES_MAX} entries")]
    TooManyEntries,
    /// A counter beyond 2^53 − 1.
    #[error(
        "the context's counter for \"{0}\" is {1}: counters are whole numbers from 0 to 9007199254740991"
    )]
    Counter(String, String),
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return (&self.clock, &self.foreign).serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        for dot in self.clock.entries() {
            map.serialize_entry(&dot.actor.to_string(), &dot.counter)?;
        }
        for (name, counter) in self.foreign.entries() {
            map.serialize_entry(name, counter)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Context, D::Error> {
        if !deserializer.is_human_readable() {
            let (clock, foreign) = <(Clock, Foreign)>::deserialize(deserializer)?;
            return Ok(Context { clock, foreign });
        }
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a context: an object of actor to counter")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Context, A::Error> {
                let mut context = Context::default();
                let mut entries = 0;
                while let Some((name, number)) = map.next_entry::<String, serde_json::Number>()? {
                    entries += 1;
                    if entries > CONTEXT_ENTRIES_MAX {
                        return Err(A::Error::custom(ContextError::TooManyEntries));
                    }
                    let counter = number.as_u64().filter(|c| *c <= COUNTER_MAX);
                    let counter = counter.ok_or_else(|| {
                        A::Error::custom(ContextError::Counter(name.clone(), number.to_string()))
                    })?;
                    match name.parse::<Actor>() {
                        Ok(actor) => context.clock.see(Dot { actor, counter }),
                        Err(_) => context.foreign.see(&name, counter),
                    }
                }
                Ok(context)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
