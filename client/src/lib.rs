//! The client of ringkv: routing, connections, operations.
//!
//! A [`Client`] knows the ring and sends each request to the node that coordinates its key, over one connection per
//! node. It learns of a newer ring from any reply, goes to the next node where one is silent or gone, and repeats a
//! write only under the request id that it had at first, so that no write happens twice.
//!
//! ```no_run
//! use ringkv_client::Client;
//!
//! # fn main() -> Result<(), ringkv_client::Error> {
//! let mut client = Client::connect(&["127.0.0.1:2000"])?;
//! client.put("greeting", "hello")?;
//! let found = client.get("greeting")?.expect("it was just stored");
//! assert_eq!(found.value.string().as_deref(), Some("hello"));
//! # Ok(())
//! # }
//! ```
//!
//! For throughput many requests go at once: [`Client::submit`] returns a [`Ticket`], [`Client::poll`] gives back
//! [`Completion`]s, in whatever order the replies come.
//!
//! ```no_run
//! use std::time::Duration;
//! use ringkv_client::{Client, Op};
//!
//! # fn main() -> Result<(), ringkv_client::Error> {
//! let mut client = Client::connect(&["127.0.0.1:2000"])?;
//! let mut keys = (0..100_000).map(|n| format!("key-{n}"));
//! let mut next = keys.next();
//! while next.is_some() || client.in_flight() > 0 {
//!     while let Some(key) = next.take_if(|_| client.has_room()) {
//!         client.submit(Op::put(&key, "value")?)?;
//!         next = keys.next();
//!     }
//!     for completion in client.poll(Duration::from_millis(100))? {
//!         completion.outcome?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A client belongs to one thread at a time: libzmq's sockets stay with whoever calls it. More threads take a client
//! each. The commands of `client_producer` live here too, behind the feature `commands`.

mod address;
mod client;
#[cfg(feature = "commands")]
pub mod commands;
mod error;
mod link;
pub mod membership;
mod op;
mod reply;
pub mod retry;
pub mod routing;
mod status;
mod value;

pub use address::with_port;
pub use client::{Client, Completion, Options, Records, Ticket};
pub use error::{Error, Refusal};
pub use op::{Op, PageOf, Quorum, Scope};
pub use reply::{Done, Page, Reply};
pub use status::{Peer, Status};
pub use value::{Document, Record, Value};
