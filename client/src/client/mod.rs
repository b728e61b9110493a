//! The client: what it knows of the cluster, and its connections.

mod answers;
mod calls;
mod flight;
mod pipeline;
mod split;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringkv_common::message::TIMEOUT_MS_DEFAULT;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;

pub use self::calls::Records;
use self::flight::{Flight, LinkId, Target};
use self::split::Join;
use crate::address::{address, with_port};
use crate::error::Error;
use crate::link::{Link, State};
use crate::op::{Op, Quorum};
use crate::reply::Reply;
use crate::retry::Chance;
use crate::routing::Routing;

/// How a client works. The defaults suit most.
#[derive(Clone)]
pub struct Options {
    /// How long an operation may take with all its attempts. Longer rides out more trouble, shorter tells sooner.
    /// Default: 10 s.
    pub timeout: Duration,
    /// How long one node may take, 1 ms to 30 s: it answers `TIMEOUT` then. Default: 2 s.
    pub attempt: Duration,
    /// Requests under way, completions not yet polled included. More makes better use of the network, and more is
    /// lost sight of when the program dies. Default: 1,024.
    pub in_flight_max: usize,
    /// Bytes of these requests. One request alone may be larger. Default: 64 MiB.
    pub bytes_in_flight_max: usize,
    /// How many replicas must answer, where an operation does not say. Default: as the cluster is set.
    pub quorum: Quorum,
    /// Shared by several clients, it spares I/O threads. Default: one of its own.
    pub context: Option<zmq::Context>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(10),
            attempt: Duration::from_millis(u64::from(TIMEOUT_MS_DEFAULT)),
            in_flight_max: 1024,
            bytes_in_flight_max: 64 << 20,
            quorum: Quorum::Default,
            context: None,
        }
    }
}

/// Names a submitted operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A submitted operation that has ended.
#[derive(Debug)]
pub struct Completion {
    /// Which.
    pub ticket: Ticket,
    /// What it brought.
    pub outcome: Result<Reply, Error>,
}

/// A client of one cluster.
pub struct Client {
    options: Options,
    routing: Option<Routing>,
    /// Per node of the ring, its link where there is one already.
    by_node: Vec<Option<LinkId>>,
    /// Everything that needs no particular node goes here, where the coordinator is pinned.
    pin: Option<LinkId>,
    /// Asked for the ring while there is none.
    seeds: Vec<Arc<str>>,
    links: Vec<Option<Link>>,
    flights: HashMap<u64, Flight>,
    joins: HashMap<u64, Join>,
    done: VecDeque<Completion>,
    bytes: usize,
    next_id: u64,
    /// Our random name, the first half of every request id.
    name: String,
    chance: Chance,
    /// The newest epoch that a reply told of, and the request that fetches its ring.
    epoch_heard: u64,
    ring_fetch: Option<u64>,
    ticked: Instant,
    buffer: Vec<u8>,
    /// Last, so that it ends after its sockets.
    context: zmq::Context,
}

impl Client {
    /// A client that asks these nodes, each `host:port`, for the ring, and goes on from there.
    ///
    /// # Errors
    /// [`Error::Address`]; where none of them gives a ring within [`Options::timeout`].
    pub fn connect<A: AsRef<str>>(addresses: &[A]) -> Result<Client, Error> {
        Client::connect_with(addresses, Options::default())
    }

    /// [`Client::connect`] with other options.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with<A: AsRef<str>>(addresses: &[A], options: Options) -> Result<Client, Error> {
        let mut client = Client::empty(options);
        let address = |a: &A| with_port(a.as_ref()).map(Arc::from);
        client.seeds = addresses.iter().map(address).collect::<Result<_, _>>()?;
        client.fetch_first_ring()?;
        Ok(client)
    }

    /// A client of this ring.
    pub fn with_ring(ring: Arc<Ring>) -> Client {
        Client::with_ring_and(ring, Options::default())
    }

    /// [`Client::with_ring`] with other options.
    pub fn with_ring_and(ring: Arc<Ring>, options: Options) -> Client {
        let mut client = Client::empty(options);
        client.by_node = vec![None; ring.nodes.len()];
        client.routing = Some(Routing::new(ring));
        client
    }

    /// A client that sends everything to one coordinator, `host:port`, but what names a node.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn pinned(address: &str) -> Result<Client, Error> {
        Client::pinned_with(address, Options::default())
    }

    /// [`Client::pinned`] with other options.
    ///
    /// # Errors
    /// As [`Client::pinned`].
    pub fn pinned_with(address: &str, options: Options) -> Result<Client, Error> {
        let mut client = Client::empty(options);
        client.pin = Some(client.link_to(&with_port(address)?)?);
        Ok(client)
    }

    fn empty(options: Options) -> Client {
        let mut chance = Chance::new();
        Client {
            context: options.context.clone().unwrap_or_default(),
            options,
            routing: None,
            by_node: Vec::new(),
            pin: None,
            seeds: Vec::new(),
            links: Vec::new(),
            flights: HashMap::new(),
            joins: HashMap::new(),
            done: VecDeque::new(),
            bytes: 0,
            next_id: 0,
            name: format!("{:016x}", chance.draw()),
            chance,
            epoch_heard: 0,
            ring_fetch: None,
            ticked: Instant::now(),
            buffer: Vec::with_capacity(512),
        }
    }

    /// The ring that requests are routed by.
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        self.routing.as_ref().map(Routing::ring)
    }

    /// How the client works.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Sets how many replicas must answer from now on, where an operation does not say.
    pub fn set_quorum(&mut self, quorum: Quorum) {
        self.options.quorum = quorum;
    }

    /// From now on operations may take so long, with all their attempts.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.options.timeout = timeout;
    }

    /// Takes a ring, as read from Consul or from a node: one of a lower or the same epoch is ignored.
    /// Returns whether it is in force now.
    ///
    /// # Errors
    /// [`Error::OtherCluster`].
    pub fn adopt(&mut self, ring: Arc<Ring>, from: &str) -> Result<bool, Error> {
        if let Some(ours) = self.ring() {
            if ours.cluster_id != ring.cluster_id {
                let (ours, theirs) = (ours.cluster_id, ring.cluster_id);
                return Err(Error::OtherCluster { from: from.to_owned(), ours, theirs });
            }
            if ring.epoch <= ours.epoch {
                return Ok(false);
            }
        }
        tracing::debug!(epoch = ring.epoch, from, "a newer ring");
        let addresses: Vec<String> = ring.nodes.iter().map(address).collect();
        self.by_node = addresses.iter().map(|a| self.link_at(a)).collect();
        self.routing = Some(Routing::new(ring));
        self.drop_idle_links();
        Ok(true)
    }

    /// Connections to nodes that left are closed when nothing is awaited from them.
    fn drop_idle_links(&mut self) {
        for id in 0..self.links.len() {
            let idle = self.links[id].as_ref().is_some_and(|l| l.flights == 0);
            if idle && self.pin != Some(id) && !self.by_node.contains(&Some(id)) {
                self.links[id] = None;
            }
        }
    }

    fn link_at(&self, address: &str) -> Option<LinkId> {
        self.links.iter().position(|l| l.as_ref().is_some_and(|l| *l.address == *address))
    }

    /// The link to this address, which is made where there is none.
    fn link_to(&mut self, address: &str) -> Result<LinkId, Error> {
        if let Some(id) = self.link_at(address) {
            return Ok(id);
        }
        // Every request may be sent twice to the same node, and the ring's own requests come on top.
        let link = Link::new(&self.context, address, self.options.in_flight_max * 2 + 16)?;
        let id = self.links.iter().position(Option::is_none).unwrap_or(self.links.len());
        if id == self.links.len() {
            self.links.push(None);
        }
        self.links[id] = Some(link);
        Ok(id)
    }

    fn link_of_node(&mut self, index: usize) -> Result<LinkId, Error> {
        if let Some(id) = self.by_node[index] {
            return Ok(id);
        }
        let routing = self.routing.as_ref().ok_or(Error::NoRing)?;
        let address = address(&routing.ring().nodes[index]);
        let id = self.link_to(&address)?;
        self.by_node[index] = Some(id);
        Ok(id)
    }

    /// What an operation is aimed at.
    fn target(&self, op: &Op) -> Result<Target, Error> {
        if let Some(name) = op.node {
            return Ok(Target::Node(name));
        }
        match (self.pin, &self.routing) {
            (Some(link), _) => Ok(Target::Link(link)),
            (None, Some(_)) => Ok(match op.key() {
                Some(key) => Target::Partition(key.hash()),
                None => Target::Any,
            }),
            (None, None) => Err(Error::NoRing),
        }
    }

    /// The link for this attempt at a target. Links that are down are passed over while another one is not.
    fn choose(&mut self, target: &Target, attempt: usize) -> Result<LinkId, Error> {
        let order: Vec<usize> = match (target, &self.routing) {
            (Target::Link(link), _) if self.links[*link].is_some() => return Ok(*link),
            (Target::Link(_), _) => return Err(Error::NoRing),
            (Target::Node(name), Some(routing)) => vec![index_of(routing.ring(), *name)?],
            (Target::Partition(hash), Some(routing)) => {
                let partition = ringkv_common::key::partition_of(*hash, routing.ring().partitions);
                // Almost every request goes to its coordinator at once.
                let first = usize::from(routing.coordinator(partition));
                if let Some(link) = self.by_node[first].filter(|l| attempt == 0 && self.is_usable(*l)) {
                    return Ok(link);
                }
                routing.order(partition).into_iter().map(usize::from).collect()
            }
            (Target::Any, Some(routing)) => (0..routing.ring().nodes.len()).collect(),
            (_, None) => return Err(Error::NoRing),
        };
        let count = order.len();
        let mut fallback = None;
        for n in 0..count {
            let link = self.link_of_node(order[(attempt + n) % count])?;
            if self.is_usable(link) {
                return Ok(link);
            }
            fallback = fallback.or(Some(link));
        }
        fallback.ok_or(Error::NoRing)
    }

    fn is_usable(&self, link: LinkId) -> bool {
        self.links[link].as_ref().is_some_and(|l| l.state != State::Down)
    }
}

fn index_of(ring: &Ring, name: NodeName) -> Result<usize, Error> {
    ring.index_of(name).map(usize::from).ok_or_else(|| {
        let names: Vec<String> = ring.nodes.iter().map(|n| n.name.to_string()).collect();
        Error::NoSuchNode(format!("{name} is not in the ring: it has {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_given_no_address_that_is_none() {
        let refused = |given: Result<Client, Error>| matches!(given, Err(Error::Address { .. }));
        assert!(refused(Client::pinned("127.0.0.1:99999")));
        assert!(refused(Client::connect(&["127.0.0.1:99999"])));
        assert!(Client::pinned("127.0.0.1").is_ok(), "a port is added where there is none");
    }
}
