//! Finding the cluster: by Consul, or by one node.

use std::sync::Arc;
use std::time::Duration;

use ringkv_client::commands::{Console, Failure, change, wait};
use ringkv_client::membership::Membership;
use ringkv_client::{Client, Options, Quorum, with_port};
use ringkv_common::ring::Ring;

use super::cli::{Common, Level};
use super::membership::InConsul;
use crate::server::keys::{DEFAULT_CLUSTER, Keys};

/// A client of a cluster, and where its membership is, unless one node was named.
pub struct Access {
    pub client: Client,
    pub membership: Option<InConsul>,
    pub options: Options,
    /// The pinned node's address.
    pub pinned: Option<String>,
}

/// How many nodes a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// One is enough: replicas answer for others.
    Any,
    /// All are waited for, and then it goes on with those that are there.
    All,
}

impl Access {
    /// Finds the cluster and chooses its mode, where that is wanted.
    pub fn open(common: &Common, needs: Needs, console: &mut Console) -> Result<Access, Failure> {
        let options = Options { timeout: common.timeout(), quorum: quorum(common), ..Options::default() };
        if let Some(node) = &common.node {
            let address = with_port(node).map_err(|e| Failure::usage(format!("--node: {e}")))?;
            return Access::pinned(common, &address, options);
        }
        let membership = in_consul(common)?;
        let ring = wait::for_ring(&membership, console, common.wait())?;
        let client = Client::with_ring_and(ring, options.clone());
        let mut access = Access { client, membership: Some(membership), options, pinned: None };
        access.meet(needs, common, console)?;
        Ok(access)
    }

    /// Waits for the nodes that a command needs.
    pub fn meet(&mut self, needs: Needs, common: &Common, console: &mut Console) -> Result<(), Failure> {
        if let (Needs::All, Some(membership), Some(ring)) = (needs, &self.membership, self.client.ring()) {
            wait::for_nodes(membership, console, ring, common.wait())?;
        }
        Ok(())
    }

    /// From now on operations may take so long.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = timeout;
        self.client.set_timeout(timeout);
    }

    fn pinned(common: &Common, address: &str, options: Options) -> Result<Access, Failure> {
        if common.mode.is_some() {
            return Err(mode_needs_consul());
        }
        let client =
            Client::pinned_with(address, options.clone()).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Access { client, membership: None, options, pinned: Some(address.to_owned()) })
    }

    /// Sees to it that the ring has the mode that was named.
    pub fn choose_mode(&mut self, common: &Common, console: &mut Console) -> Result<(), Failure> {
        let Some(mode) = common.mode else { return Ok(()) };
        let Some(membership) = &self.membership else { return Err(mode_needs_consul()) };
        let patience = common.wait().max(Duration::from_secs(1));
        change::ensure_mode(&mut self.client, membership, console, mode, patience)
    }

    /// The membership, for a command that cannot do without.
    pub fn membership(&mut self) -> Result<(&mut Client, &dyn Membership), Failure> {
        match &self.membership {
            Some(membership) => Ok((&mut self.client, membership)),
            None => Err(Failure::usage("this command needs Consul: leave out --node")),
        }
    }

    /// The ring, from the pinned node where there is one.
    pub fn ring(&mut self) -> Result<Arc<Ring>, Failure> {
        match self.client.ring() {
            Some(ring) => Ok(ring.clone()),
            None => Ok(self.client.fetch_ring()?),
        }
    }
}

fn mode_needs_consul() -> Failure {
    Failure::usage("--mode is agreed on in Consul: leave out --node")
}

/// How many replicas must answer.
pub fn quorum(common: &Common) -> Quorum {
    match (common.level, common.r, common.w) {
        (Some(Level::One), ..) => Quorum::One,
        (Some(Level::Quorum), ..) => Quorum::Majority,
        (Some(Level::All), ..) => Quorum::All,
        (None, None, None) => Quorum::Default,
        (None, r, w) => Quorum::Counts { r: r.unwrap_or(0), w: w.unwrap_or(0) },
    }
}

fn in_consul(common: &Common) -> Result<InConsul, Failure> {
    let keys = Keys::new(common.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER)).map_err(Failure::usage)?;
    let wrong = |e: consul::Error| Failure::usage(e.to_string());
    let mut config = consul::Config::from_env().map_err(wrong)?;
    if let Some(address) = &common.consul {
        config = config.with_address(address).map_err(wrong)?;
    }
    let client = consul::Client::new(config).map_err(wrong)?;
    Ok(InConsul::new(client, keys))
}
