//! The vocabulary of ringkv: keys and partitions, placement, versions, the ring and its changes, quorums, messages.
//!
//! Everything here is a function of its arguments. Clocks, sockets, threads and randomness live elsewhere and
//! come in as values, so that the node, the client, the orchestrator and the simulator share one truth.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod bug;
pub mod key;
pub mod message;
pub mod name;
pub mod placement;
pub mod quorum;
pub mod ring;
pub mod time;
pub mod version;
