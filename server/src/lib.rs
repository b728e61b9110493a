//! The node: a pure core, stores, and the shell that owns the sockets.
//!
//! `core` is a state machine: it is told what happened and answers with what to do. `store` keeps the data. `shell`
//! (feature of the same name) is the one loop that connects both to ZeroMQ; the simulator is the other driver.

pub mod core;
#[cfg(feature = "shell")]
pub mod shell;
pub mod store;
