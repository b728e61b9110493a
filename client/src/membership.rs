//! Where membership is agreed on, as a client needs it: the ring, signals and their results, health.
//!
//! The library names no Consul; whoever wires it up implements [`Membership`].

use std::sync::Arc;
use std::time::Duration;

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Signal;
use ringkv_common::ring::{Outcome, Ring, SignalId};
use thiserror::Error;

/// Why membership could not be read or written.
#[derive(Debug, Error)]
pub enum MembershipError {
    /// No answer, or access denied.
    #[error("{0}")]
    Unreachable(String),
    /// What stands there cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// A content with the index under which it was read.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// Grows with every change; a watch goes on from here.
    pub index: u64,
    /// The content.
    pub value: T,
}

/// A node as its health check shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its name.
    pub node: NodeName,
    /// Where it says it is.
    pub host: String,
    /// Its port for clients.
    pub port: u16,
    /// Whether all its checks pass.
    pub healthy: bool,
    /// What its check says, for people.
    pub note: String,
}

/// Access to one cluster's membership.
pub trait Membership {
    /// The ring, read consistently. With an index above 0 it waits up to `wait` for a change since then.
    ///
    /// # Errors
    /// See [`MembershipError`]; a ring that contradicts itself is unusable.
    fn ring(&self, after: u64, wait: Duration) -> Result<Seen<Option<Arc<Ring>>>, MembershipError>;

    /// All signals that stand, read consistently.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn signals(&self) -> Result<Seen<Vec<Signal>>, MembershipError>;

    /// Writes a signal where none of this name stands. Returns whether it did.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn create_signal(&self, name: &str, value: &str) -> Result<bool, MembershipError>;

    /// Takes a signal back, if it still stands. Returns whether it is gone.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn withdraw_signal(&self, signal: &SignalId) -> Result<bool, MembershipError>;

    /// The results of past signals.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn outcomes(&self) -> Result<Vec<Outcome>, MembershipError>;

    /// All registered nodes.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn health(&self) -> Result<Vec<Health>, MembershipError>;

    /// The text of `cluster_size`, where it is set.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn cluster_size(&self) -> Result<Option<String>, MembershipError>;

    /// The key of `cluster_size`, for the command that sets it.
    fn size_key(&self) -> String;

    /// Who holds the orchestrators' lock, as it named itself.
    ///
    /// # Errors
    /// See [`MembershipError`].
    fn lock_holder(&self) -> Result<Option<String>, MembershipError>;

    /// Where all this is, for messages, as in `Consul at http://127.0.0.1:8500, cluster ringkv`.
    fn place(&self) -> String;
}
