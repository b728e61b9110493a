//! A speaker and a listener with a proxy between them, and the record of what they saw.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringkv_common::message::Limits;
use ringkv_server::shell::sockets;
use ringkv_sim::record::{Seen, admits};

use crate::proxy::{Door, Proxy, Way};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shell's heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long sockets are listened to at one time, in milliseconds.
const LOOK_MS: i64 = 10;

pub struct Line {
    pub proxy: Proxy,
    /// Bytes of each message beside its number.
    pub padding: usize,
    /// Whether the listener takes what comes.
    pub reads: bool,
    dealer: zmq::Socket,
    router: zmq::Socket,
    /// What libzmq tells of the speaker's connections.
    ear: zmq::Socket,
    record: Vec<Seen>,
    connections: HashMap<Vec<u8>, u64>,
    number: u64,
    taken: usize,
    connected: bool,
    /// A message was refused since there was no connection.
    refused: bool,
}

impl Line {
    /// A line with a connection.
    pub fn connected() -> Line {
        let mut line = Line::before(Door::Open);
        line.until_connected();
        line
    }

    /// A line before such a door.
    pub fn before(door: Door) -> Line {
        let context = zmq::Context::new();
        let limits = Limits::default();
        let router = sockets::open(&context, zmq::ROUTER, &limits).unwrap();
        // Nobody is let in before the monitor hears of it.
        let proxy = Proxy::before(bound(&router), Door::Silent);
        let endpoint = format!("tcp://127.0.0.1:{}", proxy.port);
        let dealer = sockets::connect(&context, "127.0.0.1", &endpoint, &limits, sockets::SENT_MAX).unwrap();
        let events = zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | zmq::SocketEvent::DISCONNECTED.to_raw();
        dealer.monitor("inproc://ear", i32::from(events)).unwrap();
        let ear = context.socket(zmq::PAIR).unwrap();
        ear.set_linger(0).unwrap();
        ear.connect("inproc://ear").unwrap();
        proxy.set(door);
        Line {
            proxy,
            padding: 0,
            reads: true,
            dealer,
            router,
            ear,
            record: Vec::new(),
            connections: HashMap::new(),
            number: 0,
            taken: 0,
            connected: false,
            refused: false,
        }
    }

    /// Has libzmq take so many messages; where there is no connection, those that it does.
    pub fn say(&mut self, count: usize) {
        let (deadline, enough) = (deadline(), self.taken() + count);
        while self.taken() < enough && (self.give() || self.connected) {
            before(deadline, "room in the queue");
        }
    }

    /// Speaks until libzmq takes nothing for want of a connection.
    pub fn say_until_alone(&mut self) {
        let deadline = deadline();
        while self.give() || self.connected {
            before(deadline, "a refusal");
        }
    }

    /// Speaks until libzmq takes nothing, though there is a connection.
    pub fn say_until_full(&mut self) {
        let deadline = deadline();
        while self.give() {
            before(deadline, "a refusal");
        }
        assert!(self.connected);
    }

    /// Gives so many, all of which are refused.
    pub fn refuses(&mut self, count: usize) {
        (0..count).for_each(|_| assert!(!self.give(), "{} was taken", self.number));
    }

    fn give(&mut self) -> bool {
        self.hear();
        self.number += 1;
        let mut message = self.number.to_le_bytes().to_vec();
        message.resize(message.len() + self.padding, 0);
        let taken = self.dealer.send(message, zmq::DONTWAIT).is_ok();
        // What libzmq tells of a connection's end comes before the refusal.
        self.hear();
        if taken {
            // After a refusal only a new connection takes something, and libzmq tells of it a moment later.
            if self.refused {
                let number = self.number;
                self.until(&format!("the connection that took {number}"), |line| line.connected);
            }
            self.taken += 1;
            self.record.push(Seen::Taken(self.number));
        } else {
            self.refused |= !self.connected;
            self.record.push(Seen::Refused(self.number));
        }
        self.take();
        taken
    }

    /// What libzmq has told of connections.
    fn hear(&mut self) {
        while let Ok(event) = self.ear.recv_multipart(zmq::DONTWAIT) {
            let event = u16::from_ne_bytes([event[0][0], event[0][1]]);
            self.connected = event == zmq::SocketEvent::HANDSHAKE_SUCCEEDED.to_raw();
            self.refused &= !self.connected;
            self.record.push(if self.connected { Seen::Connected } else { Seen::Disconnected });
        }
    }

    /// What has arrived.
    fn take(&mut self) {
        while self.reads
            && let Ok(frames) = self.router.recv_multipart(zmq::DONTWAIT)
        {
            let [id, message] = <[Vec<u8>; 2]>::try_from(frames).expect("a routing id and one frame");
            let next = self.connections.len() as u64;
            let connection = *self.connections.entry(id).or_insert(next);
            let number = u64::from_le_bytes(*message.first_chunk().expect("a number"));
            self.record.push(Seen::Arrived { connection, number });
        }
    }

    /// Listens to both ends until something holds.
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&mut Line) -> bool) {
        let deadline = deadline();
        loop {
            self.hear();
            self.take();
            if holds(self) {
                return;
            }
            before(deadline, what);
            self.look();
        }
    }

    fn look(&self) {
        let mut items = vec![self.ear.as_poll_item(zmq::POLLIN)];
        if self.reads {
            items.push(self.router.as_poll_item(zmq::POLLIN));
        }
        zmq::poll(&mut items, LOOK_MS).unwrap();
    }

    pub fn until_connected(&mut self) {
        self.until("a connection", |line| line.connected);
    }

    pub fn until_disconnected(&mut self) {
        self.until("the connection's end", |line| !line.connected);
    }

    /// Waits for all that the present connection has taken.
    pub fn all_arrive(&mut self) {
        let from = self.record.iter().rposition(|seen| *seen == Seen::Connected).unwrap();
        let last = self.record[from..].iter().rev().find_map(|seen| match seen {
            Seen::Taken(number) => Some(*number),
            _ => None,
        });
        self.until("the last message", |line| last.is_none_or(|last| line.arrived().contains(&last)));
    }

    /// Waits until the proxy has passed something on, and libzmq's thread has nothing more to write.
    pub fn until_through(&mut self) {
        let connection = self.proxy.last();
        let mut passed = 0;
        self.until("all to be passed on", |_| {
            let before = std::mem::replace(&mut passed, connection.passed(Way::There));
            before == passed && passed > 0
        });
    }

    /// From here on nothing is to arrive.
    pub fn stall(&mut self) {
        self.record.push(Seen::Stalled);
    }

    pub fn resume(&mut self) {
        self.take();
        self.record.push(Seen::Resumed);
    }

    /// Listens for as long as a heartbeat, which the connection outlives.
    pub fn nothing_arrives_for_a_heartbeat(&mut self) {
        let before = self.arrived().len();
        self.wait_a_heartbeat();
        assert!(self.connected && self.arrived().len() == before, "{:?}", self.counts());
    }

    pub fn wait_a_heartbeat(&mut self) {
        let end = Instant::now() + HEARTBEAT;
        self.until("a heartbeat", |_| Instant::now() >= end);
    }

    /// The numbers of what arrived, in the order in which it did.
    pub fn arrived(&self) -> Vec<u64> {
        let number = |seen: &Seen| match seen {
            Seen::Arrived { number, .. } => Some(*number),
            _ => None,
        };
        self.record.iter().filter_map(number).collect()
    }

    pub fn taken(&self) -> usize {
        self.taken
    }

    pub fn refused(&self) -> usize {
        self.record.iter().filter(|seen| matches!(seen, Seen::Refused(_))).count()
    }

    /// Messages that came after ones that were given later.
    pub fn late(&self) -> usize {
        let mut newest = 0;
        let is_late = |number: &u64| {
            newest = newest.max(*number);
            *number < newest
        };
        self.arrived().into_iter().filter(is_late).count()
    }

    /// What became of how many.
    pub fn counts(&self) -> String {
        format!("{} taken, {} refused, {} arrived", self.taken(), self.refused(), self.arrived().len())
    }

    /// Nothing was seen that the simulated network never does.
    pub fn admitted(&mut self) {
        self.hear();
        self.take();
        let mut record = self.record.clone();
        record.push(Seen::Rest);
        if let Err(why) = admits(&record) {
            panic!("the simulated network never does this: {why}. {}: {record:?}", self.counts());
        }
    }
}

/// Has a socket listen, and returns the port that the system chose.
pub fn bound(socket: &zmq::Socket) -> u16 {
    sockets::bind(socket, "127.0.0.1", 0).unwrap();
    let endpoint = socket.get_last_endpoint().unwrap().unwrap();
    endpoint.rsplit(':').next().unwrap().parse().unwrap()
}

pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

pub fn before(deadline: Instant, what: &str) {
    assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
}
