//! What is thought of a peer, and why a packet says nothing of it.

use ringkv_common::name::NodeName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a node thinks of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Nothing was heard of it yet, or gossip is off.
    #[default]
    Unknown,
    /// It answers, or somebody says so.
    Alive,
    /// It did not answer and may still object.
    Suspect,
    /// It did not object, or was never heard of.
    Down,
}

/// Another node of the ring, as this one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What is thought of it.
    pub view: View,
    /// Since when, in monotonic microseconds.
    pub since_us: u64,
    /// The epoch of its ring when it was last heard itself; 0: it was not.
    pub epoch: u64,
}

/// A view that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of whom.
    pub peer: NodeName,
    /// What it was.
    pub from: View,
    /// What it is.
    pub to: View,
}

/// Why a packet was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The sender is no other node of the ring.
    #[error("it is from a node that is not in the ring")]
    Stranger,
    /// It is none, or larger than any.
    #[error("it is no packet of gossip")]
    Malformed,
    /// It says to be of another than its frame, or to another than this node.
    #[error("it names another sender or receiver than its frame")]
    Forged,
}
