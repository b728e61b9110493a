//! The network between nodes: for each direction of each pair a queue, in order, that may be slow, cut or lost.
//!
//! It is what libzmq and the shell's queues give together: what is under way when a connection breaks is gone in
//! silence; what is said while there is no connection waits for a second and then comes back as unsent, and if the
//! receiver restarts meanwhile, its new life hears what was said to the old one.

use std::collections::{BTreeMap, VecDeque};

use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;

/// How long a message waits for a connection, in microseconds.
pub const WAITING_US: u64 = 1_000_000;

/// A direction between two nodes.
pub type Pair = (NodeName, NodeName);

/// A message that waits for a connection.
#[derive(Debug)]
pub struct Waiting {
    /// Since when.
    pub since_us: u64,
    /// As bytes.
    pub bytes: Vec<u8>,
    /// As it goes back.
    pub message: Message,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Link {
    /// Counts the connections: what was sent on an earlier one never arrives.
    pub generation: u64,
    /// When the last message arrives: the next one comes no earlier.
    pub last_us: u64,
    /// No connection before.
    pub cut_until_us: u64,
    /// What waits for a connection.
    pub waiting: VecDeque<Waiting>,
    /// Messages under way.
    pub under_way: usize,
}

/// All directions that were ever used.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<Pair, Link>,
}

impl Network {
    /// One direction.
    pub fn link(&mut self, pair: Pair) -> &mut Link {
        self.links.entry(pair).or_default()
    }

    /// The connection breaks: what is under way is lost.
    pub fn reset(&mut self, pair: Pair) {
        let link = self.link(pair);
        link.generation += 1;
        link.under_way = 0;
    }

    /// The directions that lead to a node, and have something waiting.
    pub fn waiting_for(&self, name: NodeName) -> Vec<Pair> {
        let waits = |(pair, link): &(&Pair, &Link)| pair.1 == name && !link.waiting.is_empty();
        self.links.iter().filter(waits).map(|(pair, _)| *pair).collect()
    }

    /// All directions from or to a node.
    pub fn of(&self, name: NodeName) -> Vec<Pair> {
        self.links.keys().filter(|(from, to)| *from == name || *to == name).copied().collect()
    }

    /// The most messages under way in one direction.
    pub fn fullest(&self) -> usize {
        self.links.values().map(|l| l.under_way + l.waiting.len()).max().unwrap_or(0)
    }
}
