//! A typed, blocking client of the parts of Consul that a small cluster needs, and an agent to develop against.
//!
//! - **Keys**: [`Client::get`], [`list`](Client::list), [`put`](Client::put) of bytes as they are,
//!   [`put_if`](Client::put_if) and [`delete_if`](Client::delete_if) by compare-and-set.
//! - **Locks**: [`Client::try_lock`] and [`lock_within`](Client::lock_within) keep a session alive on a thread and tell
//!   when the lock is lost; below them [`create_session`](Client::create_session), [`acquire`](Client::acquire),
//!   [`release`](Client::release).
//! - **Services**: [`Client::register`] with a TTL check, [`update_check`](Client::update_check), which tells apart an agent
//!   that forgot the check, [`instances`](Client::instances) by health.
//! - **Watches**: [`Client::watch_key`], [`watch_prefix`](Client::watch_prefix),
//!   [`watch_instances`](Client::watch_instances) tell each new content once, and of outages.
//! - **Where Consul is**: [`Config::from_env`] reads the variables of Consul's own command.
//! - **An agent inside the process**: [`agent`], for development and tests (feature `agent`, on by default).
//!
//! Every call blocks its thread; a [`Client`] is cheap to clone and may be used from many. Nothing is retried behind the
//! caller's back. Tested against Consul 1.8.7, by the same suite that the embedded agent passes.
//!
//! ```
//! # #[cfg(feature = "agent")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use consul::{Client, Config, Event, agent::Agent};
//! use std::time::Duration;
//!
//! // An agent of our own. Elsewhere: `Client::from_env()?`.
//! let agent = Agent::bind("127.0.0.1:0", None)?.spawn_thread()?;
//! let consul = Client::new(Config::parse(&agent.url())?)?;
//!
//! // As `consul kv put cluster_size 4` does it.
//! consul.put("cluster_size", "4")?;
//! let size = consul.get("cluster_size")?.expect("it was just put");
//! assert_eq!(size.value, b"4");
//!
//! // Compare-and-set: whoever read an older state is refused.
//! let events = consul.watch_key("ring").events()?;
//! assert!(consul.put_if("ring", "epoch 1", 0)?, "0: only where there is none");
//! assert!(!consul.put_if("ring", "epoch 1 of somebody else", 0)?);
//!
//! // The watch tells the state it found first, whichever that was, and then the new one.
//! while let Some(event) = events.next_within(Duration::from_secs(5)) {
//!     match event {
//!         Event::Changed { value: Some(ring), .. } => {
//!             assert_eq!(ring.value, b"epoch 1");
//!             break;
//!         }
//!         Event::Changed { value: None, .. } => println!("no ring yet"),
//!         Event::Unreachable { error, lasting, .. } => eprintln!("for {lasting:?}: {error}"),
//!         Event::Reachable { after } => eprintln!("back after {after:?}"),
//!     }
//! }
//! # Ok(()) }
//! # #[cfg(not(feature = "agent"))] fn main() {}
//! ```

#[cfg(feature = "agent")]
pub mod agent;
mod config;
mod error;
mod http;
mod kv;
mod lock;
mod service;
mod session;
mod watch;

pub use config::{Config, DEFAULT_URL};
pub use error::Error;
pub use http::{Client, Indexed, Query};
pub use kv::Entry;
pub use lock::{Lock, LockOptions, Lost};
pub use service::{
    AgentInfo, Check, CheckStatus, Instance, Node, Registration, Service, TtlCheck, TtlUpdate,
};
pub use session::{Behavior, NewSession, Renewal, SESSION_TTL_MIN, Session};
pub use watch::{Event, Events, Pace, Watch, WatchOptions, Watching};
