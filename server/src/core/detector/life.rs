//! A node in one of its lives: what gossip is about.

use foca::Identity;
use ringkv_common::name::NodeName;
use serde::{Deserialize, Serialize};

/// No life has this generation. No clock says half of it, in milliseconds: who seems to have lived so late did not,
/// and the other half is room for lives to come.
pub const GENERATION_MAX: u64 = 1 << 56;

/// A node between a start and its end, or between being called down and being so again.
///
/// Of two lives of a node the higher generation is the present one, and what is said of the other is about the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Which node.
    pub name: NodeName,
    /// Milliseconds of its wall clock when it began, or one more than the life before.
    pub generation: u64,
}

impl Identity for Life {
    type Addr = NodeName;

    /// The detector begins the next life itself, without the news of this one.
    fn renew(&self) -> Option<Life> {
        None
    }

    fn addr(&self) -> NodeName {
        self.name
    }

    fn win_addr_conflict(&self, adversary: &Life) -> bool {
        self.generation > adversary.generation
    }
}
