//! One contract, two agents: every case runs against the embedded agent and against a real `consul agent -dev`.
//!
//! The real one is `$CONSUL_BIN`, or `consul` on the PATH. Without one its half is skipped, and says so; with
//! `RINGKV_REQUIRE_CONSUL=1` that is a failure. Where the two differ, the real one is right.
#![allow(clippy::unwrap_used, missing_docs)]

mod cli;
mod kv;
mod lock;
mod protocol;
mod server;
mod service;
mod session;
mod slow;
mod twin;
mod watch;
