//! Faults on purpose: what a node that was started for it is told to do wrong, so that the rest can be seen to hold.

use serde::{Deserialize, Serialize};

use crate::name::NodeName;

/// The longest average delay, in milliseconds.
pub const DELAY_MS_MAX: u32 = 60_000;

/// A fault, or the end of one, as in `{"op":"FAULT","fault":{"do":"delay","ms":200,"to":"node-2"}}`. Those between nodes
/// are of one direction: of what this node sends. Without `to` they concern all other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// Says and hears nothing any more, but for the messages of faults.
    Fail {},
    /// Does again.
    Recover {},
    /// Loses so many of a hundred messages.
    Drop {
        /// Of those to this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeName>,
        /// 0 to 100; 0: none any more.
        percent: u8,
    },
    /// Sends messages later, in their order: each by between half and one and a half of the average.
    Delay {
        /// Those to this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeName>,
        /// The average in milliseconds, at most [`DELAY_MS_MAX`]; 0: none any more.
        ms: u32,
    },
    /// Sends nothing.
    Cut {
        /// To this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeName>,
    },
    /// Loses, delays and cuts nothing any more.
    Heal {
        /// To this node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeName>,
    },
    /// Switches gossip off or on: off, the node says and hears nothing of who answers.
    Gossip {
        /// Whether it is on.
        on: bool,
    },
    /// Offers hints to their owners now.
    Handoff {},
    /// Ends all faults.
    Clear {},
}

impl Fault {
    /// The node it concerns beside the one that is told.
    pub fn to(&self) -> Option<NodeName> {
        match self {
            Fault::Drop { to, .. } | Fault::Delay { to, .. } | Fault::Cut { to } | Fault::Heal { to } => *to,
            Fault::Fail {}
            | Fault::Recover {}
            | Fault::Gossip { .. }
            | Fault::Handoff {}
            | Fault::Clear {} => None,
        }
    }

    /// What is out of range, if anything.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Fault::Drop { percent, .. } if *percent > 100 => {
                Err(format!("percent is {percent}: it may be 0 to 100"))
            }
            Fault::Delay { ms, .. } if *ms > DELAY_MS_MAX => {
                Err(format!("ms is {ms}: it may be 0 to {DELAY_MS_MAX}"))
            }
            _ => Ok(()),
        }
    }
}
