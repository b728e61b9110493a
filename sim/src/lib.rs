//! A seeded cluster of the very machines that users run.
//!
//! Nodes are the cores of `ringkv-server` with stores in memory, launchers are the orchestrator of `ringkv-common`;
//! only what lies between them is simulated: network, clocks, processes and Consul. Everything is decided by one
//! seed, so a history that went wrong can be run again, step by step.
//!
//! ```text
//!   workload ─► cluster (queue of happenings) ─► nodes, launcher      consul, network: what they act upon
//!       └────► history: what clients were told, and whether it can be true
//! ```

mod asking;
#[cfg(feature = "bugs")]
pub mod bugs;
mod cluster;
mod consul;
mod counters;
mod durable;
mod faults;
mod happening;
mod history;
mod hostile;
mod launcher;
mod listers;
mod network;
mod nodes;
mod observed;
mod process;
mod random;
mod registers;
mod rest;
mod rounds;
pub mod script;
pub mod seeds;
mod sets;
mod settings;
mod shrink;
mod storm;
mod trace;
mod verdict;
mod workload;

pub use cluster::Cluster;
pub use consul::Consul;
pub use faults::Fault;
pub use happening::Trap;
pub use history::History;
pub use network::record;
pub use random::Random;
pub use settings::Settings;
pub use shrink::shrink;
pub use storm::Gust;
pub use trace::Trace;
