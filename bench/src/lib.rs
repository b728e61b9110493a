//! Measures ringkv beside its peers in one run.
//!
//! Three systems get the same traffic on the same machine in the same minutes: a raw libzmq ROUTER that sends back
//! what it gets (the ceiling of anything that speaks ZeroMQ), a ringkv node, and Redis. They take turns, A B C A B C,
//! so that what disturbs the machine disturbs them alike; what counts is the ratio of neighbours.
//!
//! ```text
//!   load ── C DEALERs × F in flight ──► echo     a process
//!        ── the same bodies         ──► ringkv   a process
//!   redis-benchmark -c C -P F       ──► redis    a process
//! ```
//!
//! One row is about moving data: a whole cluster is started, gets a steady load, and a node is added and removed
//! meanwhile; beside it the same records are copied plainly. See [`moving`]. And what replicas cost is measured with
//! clusters of five nodes, see [`replicated`].

pub mod asking;
pub mod cluster;
pub mod copy;
pub mod cores;
pub mod counting;
pub mod load;
pub mod memory;
pub mod moving;
pub mod process;
pub mod redis;
pub mod replicated;
pub mod report;
pub mod rows;
pub mod serve;
pub mod stats;
pub mod steady;
pub mod traffic;
pub mod upkeep;
