//! A typed, blocking client of the parts of Consul that a small cluster needs.
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
