//! How much a client's write may leave of a key. Joins know no such bound: a replica that refused a state would never
//! be equal to the others again (basho/riak_kv#1156), so what is too much is refused before it is written.

use thiserror::Error;

use super::{CONTEXT_ENTRIES_MAX, Context, Siblings};

/// Siblings that a write with a context may leave of a key.
pub const SIBLINGS_MAX: usize = 100;

/// What a write would leave too much of.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum NoRoom {
    /// More than [`SIBLINGS_MAX`] versions.
    #[error(
        "the key would have {0} siblings, {SIBLINGS_MAX} are allowed: GET_ONE it, then PUT one value with the context of that reply"
    )]
    Siblings(usize),
    /// Several versions with more bytes than fit into a message beside others.
    #[error(
        "the key's {siblings} siblings would have {bytes} bytes, {bytes_max} are allowed: GET_ONE it, then PUT one value with the context of that reply"
    )]
    Bytes {
        /// Versions.
        siblings: usize,
        /// Their values' bytes.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A context that brings more names than a client could send back.
    #[error(
        "the key's context would have {0} entries before the write adds its own, {max} are allowed: write with fewer, or without a context, which overwrites", max = CONTEXT_ENTRIES_MAX - 1
    )]
    Entries(usize),
}

impl Siblings {
    /// Whether a write of `bytes` with this context leaves no more of the key than its clients can be shown and settle:
    /// in all `bytes_max` where there are siblings.
    pub fn room(&self, context: &Context, bytes: usize, bytes_max: usize) -> Result<(), NoRoom> {
        let kept = self.versions.iter().filter(|held| !context.clock.covers(held.dot));
        let (siblings, bytes) =
            kept.fold((1, bytes), |(n, sum), held| (n + 1, sum + held.content.bytes().len()));
        if siblings > SIBLINGS_MAX {
            return Err(NoRoom::Siblings(siblings));
        }
        if siblings > 1 && bytes > bytes_max {
            return Err(NoRoom::Bytes { siblings, bytes, bytes_max });
        }
        // One place is the write's own.
        if self.entries() + context.clock.entries().len() + context.foreign.entries().len()
            < CONTEXT_ENTRIES_MAX
        {
            return Ok(());
        }
        let mut joined =
            Siblings { clock: self.clock.clone(), foreign: self.foreign.clone(), ..Siblings::default() };
        joined.clock.join(&context.clock);
        joined.foreign.join(&context.foreign);
        let entries = joined.entries();
        // A context that brings nothing new is never what is too much.
        if entries >= CONTEXT_ENTRIES_MAX && entries > self.entries() {
            Err(NoRoom::Entries(entries))
        } else {
            Ok(())
        }
    }

    /// Entries of the key's context.
    fn entries(&self) -> usize {
        self.clock.entries().len() + self.foreign.entries().len()
    }
}
