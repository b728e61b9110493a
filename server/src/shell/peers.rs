//! The sockets between nodes: a ROUTER that only listens, and to each peer two DEALERs that only speak.
//!
//! Messages are told to a peer on its DEALER, answers too, so every socket has one direction and none can drop in
//! silence: a send that libzmq refuses waits here for a moment, bounded, and then goes back to the core as unsent.
//! Gossip has a DEALER of its own, for what waits behind values says nothing of who answers; what that one does not take
//! is silence, as gossip knows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringkv_common::message::Limits;
use ringkv_common::message::peer::{Frame, Message};
use ringkv_common::name::{NodeName, host_with_port};
use ringkv_common::ring::{ClusterId, Ring};
use ringkv_common::time::Now;

use super::monitor::Monitor;
use super::outgoing::{self, Account, COUNTED_FROM};
use super::sockets;
use super::{Config, ShellError};

/// Bytes of large messages that libzmq may hold for a peer: what a fast network has under way, with room to spare.
const SENT_BYTES_MAX: usize = 8 << 20;
/// Bytes that may wait here for a peer that takes no more.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Bytes that go in one message, where they come from several frames: so many have the price of few.
const TOGETHER_MAX: usize = 32 << 10;
/// How long a message waits, in milliseconds.
const WAITING_MS: u64 = 1_000;
/// Messages at most that wait to be read on one connection of a peer. A value may have 1 MiB, and libzmq counts no bytes;
/// what is not read yet waits at the sender, who does.
const RECEIVED_MAX: i32 = 64;
/// Gossip at most that libzmq holds for a peer: what is older than a few rounds is no news.
const GOSSIP_MAX: i32 = 16;
/// Messages that are read and dropped at one time, where a peer speaks on a socket that only it shall hear.
const SETTLED_MAX: usize = 16;
/// Peers that are in no ring and may be connected.
const STRANGERS_MAX: usize = 32;

struct Waiting {
    since_us: u64,
    /// Of the frame. It is encoded when it is sent: until then its values are those that the core holds.
    size: usize,
    frame: Frame,
}

struct Peer {
    endpoint: String,
    socket: zmq::Socket,
    gossip: zmq::Socket,
    /// What libzmq holds.
    account: Arc<Account>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    in_ring: bool,
    /// When it was last connected, in the order of connections.
    turn: u64,
}

impl Peer {
    /// Gives libzmq what waits, as far as it takes it.
    fn give(&mut self) {
        // To encode what a peer that is gone does not take would cost its sender as much as what it takes.
        while !self.waiting.is_empty() && self.takes_some() {
            let (mut frames, mut size) = (0, 0);
            for next in &self.waiting {
                if frames > 0 && size + next.size > TOGETHER_MAX {
                    break;
                }
                (frames, size) = (frames + 1, size + next.size);
            }
            if !self.give_first(frames, size) {
                return;
            }
            self.waiting.drain(..frames);
            self.waiting_bytes -= size;
        }
    }

    fn takes_some(&self) -> bool {
        self.socket.get_events().is_ok_and(|events| events.contains(zmq::POLLOUT))
    }

    /// Gives so many frames of so many bytes to libzmq as one message. Whether it could be sent.
    fn give_first(&mut self, frames: usize, size: usize) -> bool {
        let held = self.account.bytes();
        if size >= COUNTED_FROM && held > 0 && held + size > SENT_BYTES_MAX {
            return false;
        }
        let bytes = Frame::encode_all(self.waiting.iter().take(frames).map(|w| &w.frame), size);
        if size < COUNTED_FROM {
            return self.socket.send(bytes, zmq::DONTWAIT).is_ok();
        }
        outgoing::send(&mut self.socket, bytes, zmq::DONTWAIT, &self.account).is_ok()
    }
}

/// The sockets between nodes.
pub struct Peers {
    context: zmq::Context,
    limits: Limits,
    name: NodeName,
    socket: zmq::Socket,
    peers: BTreeMap<NodeName, Peer>,
    /// Connections made.
    turns: u64,
    /// What waited for strangers that were forgotten.
    forgotten: Vec<(NodeName, Message)>,
    /// Frames that came together and have yet to be taken.
    received: VecDeque<Frame>,
    /// Messages that could not be read.
    pub malformed: u64,
}

impl Peers {
    pub fn bind(context: zmq::Context, config: &Config) -> Result<(Peers, Monitor), ShellError> {
        let socket = sockets::open(&context, zmq::ROUTER, &config.limits)?;
        socket.set_rcvhwm(RECEIVED_MAX)?;
        let monitor = Monitor::of(&context, &socket, "peer")?;
        sockets::bind(&socket, &config.bind, config.ports.peer)?;
        let (limits, name) = (config.limits, config.name);
        let peers = Peers {
            context,
            limits,
            name,
            socket,
            peers: BTreeMap::new(),
            turns: 0,
            forgotten: Vec::new(),
            received: VecDeque::new(),
            malformed: 0,
        };
        Ok((peers, monitor))
    }

    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// The next frame that can be read, if one is here.
    pub fn receive(&mut self) -> Result<Option<Frame>, ShellError> {
        loop {
            if let Some(frame) = self.received.pop_front() {
                return Ok(Some(frame));
            }
            let mut first = true;
            let last = loop {
                let frame = match self.socket.recv_msg(if first { zmq::DONTWAIT } else { 0 }) {
                    Ok(frame) => frame,
                    Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if first => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                first = false;
                if !frame.get_more() {
                    break frame;
                }
            };
            match Frame::decode_all(&last) {
                Ok(frames) => self.received.extend(frames),
                Err(error) => {
                    self.malformed += 1;
                    // Whoever sends them may send many: a line each time their number has doubled.
                    if self.malformed.is_power_of_two() {
                        let total = self.malformed;
                        tracing::warn!(total, "a frame on the peer port was dropped: {error}");
                    }
                }
            }
        }
    }

    /// Tells a peer, with the next flush. Returns the message where it cannot be kept until then.
    pub fn send(&mut self, now: Now, to: NodeName, cluster: ClusterId, message: Message) -> Option<Message> {
        let Some(peer) = self.peers.get_mut(&to) else { return Some(message) };
        let frame = Frame { cluster, from: self.name, message };
        if let Message::Gossip { .. } = frame.message {
            return peer.gossip.send(frame.encode(), zmq::DONTWAIT).is_err().then_some(frame.message);
        }
        let size = frame.size();
        if peer.waiting_bytes + size > WAITING_BYTES_MAX {
            return Some(frame.message);
        }
        peer.waiting_bytes += size;
        peer.waiting.push_back(Waiting { since_us: now.mono_us, size, frame });
        if size >= TOGETHER_MAX {
            peer.give();
        }
        None
    }

    /// Has what was sent reach the peers though the sockets are closed presently.
    pub fn linger(&self) -> Result<(), ShellError> {
        self.peers.values().try_for_each(|peer| Ok(peer.socket.set_linger(sockets::LINGER_MS)?))
    }

    /// Whether messages wait to be sent, for which the loop shall look soon.
    pub fn waiting(&self) -> bool {
        self.peers.values().any(|p| !p.waiting.is_empty())
    }

    /// Sends what waits, and returns what has waited too long.
    pub fn flush(&mut self, now: Now) -> Vec<(NodeName, Message)> {
        let mut unsent = std::mem::take(&mut self.forgotten);
        for (name, peer) in self.peers.iter_mut().filter(|(_, p)| !p.waiting.is_empty()) {
            peer.give();
            let late = |waiting: &Waiting| waiting.since_us + WAITING_MS * 1000 <= now.mono_us;
            while peer.waiting.front().is_some_and(late)
                && let Some(first) = peer.waiting.pop_front()
            {
                peer.waiting_bytes -= first.size;
                unsent.push((*name, first.frame.message));
            }
        }
        unsent
    }

    /// Has libzmq free what it held for connections that broke: it does so when the socket is read to their end, and
    /// nobody else reads these. What a peer says on one is dropped.
    pub fn settle(&mut self) {
        for socket in self.peers.values().flat_map(|peer| [&peer.socket, &peer.gossip]) {
            // A few at a time, for one that speaks without end must not hold up the others.
            for _ in 0..SETTLED_MAX {
                if socket.recv_msg(zmq::DONTWAIT).is_err() {
                    break;
                }
            }
        }
    }

    /// Connects to the ring's nodes, and forgets those who left.
    pub fn connect_ring(&mut self, ring: &Ring) {
        let me = self.name;
        for node in ring.nodes.iter().filter(|n| n.name != me) {
            self.connect(node.name, &node.host, node.ports.peer, true);
        }
        // One that has just left may still be owed answers, and hands over what it held: it stays as a stranger.
        for (name, peer) in &mut self.peers {
            peer.in_ring = ring.node_named(*name).is_some();
        }
        self.forget_strangers();
    }

    /// Connects to a node that is in no ring.
    pub fn connect_stranger(&mut self, name: NodeName, host: &str, port: u16) {
        if name != self.name {
            self.connect(name, host, port, false);
            self.forget_strangers();
        }
    }

    fn connect(&mut self, name: NodeName, host: &str, port: u16, in_ring: bool) {
        let endpoint = format!("tcp://{}", host_with_port(host, port));
        if self.peers.get(&name).is_some_and(|p| p.endpoint == endpoint) {
            return;
        }
        let dealer = |queue_max| sockets::connect(&self.context, host, &endpoint, &self.limits, queue_max);
        match dealer(sockets::SENT_MAX).and_then(|socket| Ok((socket, dealer(GOSSIP_MAX)?))) {
            Ok((socket, gossip)) => {
                self.turns += 1;
                // What waited for the node at its former address it is told at this one.
                let former = self.peers.remove(&name).map(|p| (p.waiting, p.waiting_bytes));
                let (waiting, waiting_bytes) = former.unwrap_or_default();
                let (account, turn) = (Account::new(&Arc::default()), self.turns);
                let peer = Peer { endpoint, socket, gossip, account, waiting, waiting_bytes, in_ring, turn };
                self.peers.insert(name, peer);
            }
            Err(error) => tracing::warn!(%name, endpoint, "cannot connect: {error}"),
        }
    }

    fn forget_strangers(&mut self) {
        let strangers = self.peers.iter().filter(|(_, p)| !p.in_ring);
        let mut strangers: Vec<(u64, NodeName)> = strangers.map(|(name, p)| (p.turn, *name)).collect();
        strangers.sort_unstable();
        // Those that were connected first: whoever speaks now is here to stay for a moment.
        for (_, name) in strangers.iter().take(strangers.len().saturating_sub(STRANGERS_MAX)) {
            let waiting = self.peers.remove(name).map(|p| p.waiting).unwrap_or_default();
            self.forgotten.extend(waiting.into_iter().map(|w| (*name, w.frame.message)));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ringkv_common::name::Ports;

    use super::*;

    fn peers() -> Peers {
        let config = Config {
            name: NodeName(99),
            host: "127.0.0.1".into(),
            bind: "127.0.0.1".into(),
            ports: Ports { client: 0, peer: 0, http: 0 },
            limits: Limits::default(),
            cluster: "ringkv".into(),
            consul: "http://127.0.0.1:8500".into(),
            quorums: Default::default(),
            faults: None,
        };
        Peers::bind(zmq::Context::new(), &config).unwrap().0
    }

    /// A peer that hears what is said to it, and its port.
    fn listener() -> (zmq::Socket, u16) {
        let listener = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        listener.set_rcvtimeo(5_000).unwrap();
        listener.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = listener.get_last_endpoint().unwrap().unwrap();
        (listener, endpoint.rsplit(':').next().unwrap().parse().unwrap())
    }

    #[test]
    fn the_stranger_that_came_first_is_forgotten_first_and_what_waited_for_it_comes_back() {
        let mut peers = peers();
        // Nobody listens at port 9: what is said waits. The first has the highest name.
        for n in (0..=STRANGERS_MAX as u16).rev() {
            peers.connect_stranger(NodeName(n), "127.0.0.1", 9);
            assert_eq!(peers.send(Now::default(), NodeName(n), ClusterId(1), Message::Welcome), None);
        }
        assert!(!peers.peers.contains_key(&NodeName(STRANGERS_MAX as u16)));
        assert!(peers.peers.contains_key(&NodeName(0)));
        let unsent = peers.flush(Now::default());
        assert_eq!(unsent, [(NodeName(STRANGERS_MAX as u16), Message::Welcome)]);
    }

    #[test]
    fn what_waits_for_a_node_waits_for_it_at_its_new_address_too() {
        let mut peers = peers();
        peers.connect_stranger(NodeName(1), "127.0.0.1", 9);
        assert_eq!(peers.send(Now::default(), NodeName(1), ClusterId(1), Message::Welcome), None);
        let (listener, port) = listener();
        peers.connect_stranger(NodeName(1), "127.0.0.1", port);
        while peers.waiting() {
            assert!(peers.flush(Now::default()).is_empty());
        }
        let frames = listener.recv_multipart(0).unwrap();
        let received = Frame::decode_all(frames.last().unwrap()).unwrap();
        assert_eq!(received[0].message, Message::Welcome);
    }

    #[test]
    fn what_is_said_in_a_turn_goes_together_and_in_order() {
        let mut peers = peers();
        let (listener, port) = listener();
        peers.connect_stranger(NodeName(1), "127.0.0.1", port);
        let said: Vec<Message> = [1, 2, 3, TOGETHER_MAX / 2, TOGETHER_MAX / 2, 2 * TOGETHER_MAX, 4, 5]
            .map(|bytes| Message::Ring(" ".repeat(bytes).into()))
            .into();
        for message in &said {
            assert_eq!(peers.send(Now::default(), NodeName(1), ClusterId(1), message.clone()), None);
        }
        while peers.waiting() {
            assert!(peers.flush(Now::default()).is_empty());
        }
        assert_eq!(peers.peers[&NodeName(1)].waiting_bytes, 0);
        let (mut heard, mut together) = (Vec::new(), Vec::new());
        while heard.len() < said.len() {
            let parts = listener.recv_multipart(0).unwrap();
            let frames = Frame::decode_all(parts.last().unwrap()).unwrap();
            together.push(frames.len());
            heard.extend(frames.into_iter().map(|frame| frame.message));
        }
        assert_eq!(heard, said);
        assert_eq!(together, [4, 1, 1, 2]);
    }

    #[test]
    fn what_a_broken_connection_held_counts_no_more() {
        let mut peers = peers();
        let context = zmq::Context::new();
        let listener = || {
            let socket = context.socket(zmq::ROUTER).unwrap();
            socket.set_linger(0).unwrap();
            socket.set_rcvhwm(1).unwrap();
            socket
        };
        let (first, second) = (listener(), listener());
        first.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = first.get_last_endpoint().unwrap().unwrap();
        peers.connect_stranger(
            NodeName(1),
            "127.0.0.1",
            endpoint.rsplit(':').next().unwrap().parse().unwrap(),
        );
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let before = |what: &str| assert!(std::time::Instant::now() < deadline, "{what}");
        // More than the system takes: the rest is held by libzmq, for one who reads nothing.
        let ring = Message::Ring(" ".repeat(1 << 20).into());
        while peers.peers[&NodeName(1)].waiting_bytes == 0 || peers.peers[&NodeName(1)].account.bytes() == 0 {
            peers.send(Now::default(), NodeName(1), ClusterId(1), ring.clone());
            before("the queue is not full");
        }
        let peer = peers.peers.get_mut(&NodeName(1)).unwrap();
        peer.waiting.clear();
        peer.waiting_bytes = 0;
        drop(first);
        while second.bind(&endpoint).is_err() {
            before("the port is not free again");
        }
        // Nothing is said meanwhile: the connection is made anew before anybody notices that it was gone.
        while peers.peers[&NodeName(1)].account.bytes() > 0 {
            peers.settle();
            before("what was lost with a connection counts as held");
        }
    }
}
