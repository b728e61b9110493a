//! Five nodes, each a process, and who of them leads which keys.

use std::sync::Arc;

use anyhow::Result;
use ringkv_client::routing::Routing;
use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use ringkv_server::core::View;

use crate::asking::{Asker, until};
use crate::load::{Load, Peer, Shape};
use crate::process::{Server, free_base};
use crate::serve;
use crate::traffic::{self, Mix, Traffic};

/// How many nodes there are.
pub const NODES: u16 = 5;
/// How they are filled.
const FILLING: Shape = Shape { connections: NODES as usize, in_flight: 64 };

/// The key of a number.
pub fn key_of(n: u64) -> Result<Key> {
    let mut text = Vec::new();
    traffic::key(n, &mut text);
    Ok(Key::new(&String::from_utf8_lossy(&text))?)
}

/// The nodes of one cluster; they end with this.
pub struct Members {
    /// In the order of their names.
    pub servers: Vec<Server>,
    replicas: usize,
    /// Of each node the client port and the peer port.
    ports: Vec<u16>,
    context: zmq::Context,
}

impl Members {
    /// Founds a cluster, and waits until all of it hears all of it.
    pub fn start(replicas: usize) -> Result<Members> {
        let base = free_base(NODES)?;
        let ports = (base..base + NODES).flat_map(|port| [port, port + 10_000]).collect();
        let mut members = Members { servers: Vec::new(), replicas, ports, context: zmq::Context::new() };
        for node in 0..NODES {
            members.revive(node)?;
        }
        members.await_all()?;
        Ok(members)
    }

    /// Ends a node's process with SIGKILL.
    pub fn kill(&mut self, node: u16) {
        drop(self.servers.remove(usize::from(node)));
    }

    /// Starts a node that does not run.
    pub fn revive(&mut self, node: u16) -> Result<()> {
        let (n, replicas) = (node.to_string(), self.replicas.to_string());
        let server = Server::own(&["serve-node", &n, &replicas], &self.ports, self.port(node))?;
        self.servers.insert(usize::from(node), server);
        Ok(())
    }

    fn port(&self, node: u16) -> u16 {
        self.ports[2 * usize::from(node)]
    }

    /// A connection to each node, in order.
    pub fn askers(&self) -> Result<Vec<Asker>> {
        (0..NODES).map(|n| Asker::connect(&self.context, NodeName(n), self.port(n))).collect()
    }

    /// Waits until every node has heard every other.
    pub fn await_all(&self) -> Result<()> {
        for asker in self.askers()? {
            until("all nodes to hear each other", || {
                let peers = asker.status()?.peers;
                let heard = peers.iter().filter(|peer| peer.view == View::Alive).count();
                Ok((heard == usize::from(NODES) - 1).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Of each node the numbers of the keys that it leads, of so many.
    pub fn led(&self, keys: u64) -> Result<Vec<Arc<[u64]>>> {
        let routing = Routing::new(serve::ring(self.replicas, &self.ports)?.into());
        let mut led = vec![Vec::new(); usize::from(NODES)];
        for n in 0..keys {
            led[usize::from(routing.coordinator(routing.partition(&key_of(n)?)))].push(n);
        }
        Ok(led.into_iter().map(Arc::from).collect())
    }

    /// Writes every key once, at its leader.
    pub fn fill(&self, led: &[Arc<[u64]>]) -> Result<()> {
        self.with_load(led, Mix::Puts, FILLING, |load| load.fill())
    }

    /// Does something with a load whose connections ask each node for what it leads.
    pub fn with_load<T>(
        &self,
        led: &[Arc<[u64]>],
        mix: Mix,
        shape: Shape,
        work: impl FnOnce(&mut Load<'_>) -> Result<T>,
    ) -> Result<T> {
        let traffics: Vec<Traffic> = led.iter().map(|keys| Traffic::chosen(keys.clone(), mix)).collect();
        let ports = self.servers.iter().map(|server| server.port);
        let targets: Vec<(u16, &Traffic)> = ports.zip(&traffics).collect();
        work(&mut Load::spread(&targets, shape, Peer::Ringkv)?)
    }
}
