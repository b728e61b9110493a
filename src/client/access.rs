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
        let options = Options {
            timeout: Duration::from_secs(common.timeout),
            quorum: quorum(common),
            ..Options::default()
        };
        if let Some(node) = &common.node {
            let address = with_port(node).map_err(|e| Failure::usage(format!("--node: {e}")))?;
            return Access::pinned(common, &address, options);
        }
        let membership = in_consul(common)?;
        let patience = Duration::from_secs(common.wait);
        let ring = wait::for_ring(&membership, console, patience)?;
        if needs == Needs::All {
            wait::for_nodes(&membership, console, &ring, patience)?;
        }
        let client = Client::with_ring_and(ring, options.clone());
        Ok(Access { client, membership: Some(membership), options, pinned: None })
    }

    fn pinned(common: &Common, address: &str, options: Options) -> Result<Access, Failure> {
        if common.mode.is_some() {
            return Err(Failure::usage("--mode is agreed on in Consul: leave out --node"));
        }
        let client =
            Client::pinned_with(address, options.clone()).map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Access { client, membership: None, options, pinned: Some(address.to_owned()) })
    }

    /// Sees to it that the ring has the mode that was named.
    pub fn choose_mode(&mut self, common: &Common, console: &mut Console) -> Result<(), Failure> {
        let (Some(mode), Some(membership)) = (common.mode, &self.membership) else { return Ok(()) };
        change::ensure_mode(
            &mut self.client,
            membership,
            console,
            mode,
            Duration::from_secs(common.wait.max(1)),
        )
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
