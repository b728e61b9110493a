//! One DEALER to one node, and what its monitor says about the connection.
//!
//! libzmq hides connections: it dials again by itself and loses what was queued. The monitor tells what happened, so
//! that requests to a node that died go elsewhere at once and not after their time is out.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;
use crate::error::socket;

/// Well above every limit that a node answers: beyond it libzmq ends the connection.
const MESSAGE_BYTES_MAX: i64 = 256 << 20;
/// A connection attempt, and the greeting after it, in milliseconds.
const HANDSHAKE_MS: i32 = 3_000;
/// A silent peer is probed so often, given up after that, and told the same, in milliseconds.
const HEARTBEAT_MS: (i32, i32) = (1_000, 3_000);
/// The pause between connection attempts, in milliseconds, and what it doubles up to.
const REDIAL_MS: (i32, i32) = (50, 1_000);

/// How the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The first attempt is under way.
    Dialing,
    /// Messages go through.
    Up,
    /// It was refused or lost; libzmq dials again.
    Down,
}

/// What happened to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Messages go through from now on.
    Connected,
    /// An attempt failed: what was held was never sent.
    Refused,
    /// It broke: what was sent may have arrived or not.
    Lost,
}

/// Whether a message left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is libzmq's now.
    Yes,
    /// The connection takes nothing at the moment.
    NotNow,
}

pub(crate) struct Link {
    pub address: Arc<str>,
    pub state: State,
    /// Requests that wait for the connection, oldest first. Bounded by the client's bound on requests in flight.
    pub held: VecDeque<u64>,
    /// Requests whose reply is awaited from here, or that are held.
    pub flights: usize,
    pub socket: zmq::Socket,
    pub monitor: zmq::Socket,
}

impl Link {
    /// Begins to connect to `host:port`.
    pub fn new(context: &zmq::Context, address: &str, queue_max: usize) -> Result<Link, Error> {
        static MONITORS: AtomicU64 = AtomicU64::new(0);
        let dealer = context.socket(zmq::DEALER).map_err(socket("a DEALER socket"))?;
        let queue_max = i32::try_from(queue_max).unwrap_or(i32::MAX);
        let set = |what: &'static str, done: zmq::Result<()>| done.map_err(socket(what));
        set("LINGER", dealer.set_linger(0))?;
        set("IMMEDIATE", dealer.set_immediate(true))?;
        set("HANDSHAKE_IVL", dealer.set_handshake_ivl(HANDSHAKE_MS))?;
        set("CONNECT_TIMEOUT", dealer.set_connect_timeout(HANDSHAKE_MS))?;
        set("HEARTBEAT_IVL", dealer.set_heartbeat_ivl(HEARTBEAT_MS.0))?;
        set("HEARTBEAT_TIMEOUT", dealer.set_heartbeat_timeout(HEARTBEAT_MS.1))?;
        set("HEARTBEAT_TTL", dealer.set_heartbeat_ttl(HEARTBEAT_MS.1))?;
        set("RECONNECT_IVL", dealer.set_reconnect_ivl(REDIAL_MS.0))?;
        set("RECONNECT_IVL_MAX", dealer.set_reconnect_ivl_max(REDIAL_MS.1))?;
        set("MAXMSGSIZE", dealer.set_maxmsgsize(MESSAGE_BYTES_MAX))?;
        set("SNDHWM", dealer.set_sndhwm(queue_max))?;
        set("RCVHWM", dealer.set_rcvhwm(queue_max))?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        set("IPV6", dealer.set_ipv6(only_ipv6(host)))?;

        let endpoint = format!("inproc://monitor-{}", MONITORS.fetch_add(1, Ordering::Relaxed));
        let events = [
            zmq::SocketEvent::HANDSHAKE_SUCCEEDED,
            zmq::SocketEvent::CONNECT_RETRIED,
            zmq::SocketEvent::DISCONNECTED,
            zmq::SocketEvent::HANDSHAKE_FAILED_NO_DETAIL,
            zmq::SocketEvent::HANDSHAKE_FAILED_PROTOCOL,
            zmq::SocketEvent::HANDSHAKE_FAILED_AUTH,
        ];
        let mask = events.iter().fold(0, |mask, event| mask | i32::from(event.to_raw()));
        set("a monitor", dealer.monitor(&endpoint, mask))?;
        let monitor = context.socket(zmq::PAIR).map_err(socket("a PAIR socket"))?;
        set("LINGER", monitor.set_linger(0))?;
        set("a monitor", monitor.connect(&endpoint))?;
        set("an address", dealer.connect(&format!("tcp://{address}")))?;
        Ok(Link {
            address: address.into(),
            state: State::Dialing,
            held: VecDeque::new(),
            flights: 0,
            socket: dealer,
            monitor,
        })
    }

    /// Sends a request, without an empty frame before it: one frame, or two with a value.
    pub fn send(&self, body: &[u8], value: Option<&[u8]>) -> Result<Sent, Error> {
        let flags = zmq::DONTWAIT | if value.is_some() { zmq::SNDMORE } else { 0 };
        match self.socket.send(body, flags) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN) => return Ok(Sent::NotNow),
            Err(error) => return Err(socket("a request")(error)),
        }
        if let Some(value) = value {
            // The first frame chose the connection, so the second cannot be told to wait.
            self.socket.send(value, zmq::DONTWAIT).map_err(socket("a value"))?;
        }
        Ok(Sent::Yes)
    }

    /// The next reply, if there is one.
    pub fn receive(&self) -> Result<Option<(zmq::Message, Option<zmq::Message>)>, Error> {
        let next = || match self.socket.recv_msg(zmq::DONTWAIT) {
            Ok(frame) => Ok(Some(frame)),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(None),
            Err(error) => Err(socket("a reply")(error)),
        };
        let Some(mut body) = next()? else { return Ok(None) };
        let mut value = None;
        let mut more = body.get_more();
        while more {
            let Some(frame) = next()? else { break };
            more = frame.get_more();
            // A node that puts the frame of REQ before its reply is understood too.
            if body.is_empty() { body = frame } else { value = value.or(Some(frame)) }
        }
        Ok(Some((body, value)))
    }

    /// What happened since it was asked last.
    pub fn news(&mut self) -> Option<Happened> {
        const SUCCEEDED: u16 = zmq::SocketEvent::HANDSHAKE_SUCCEEDED as u16;
        const DISCONNECTED: u16 = zmq::SocketEvent::DISCONNECTED as u16;
        let frame = self.monitor.recv_msg(zmq::DONTWAIT).ok()?;
        if frame.get_more() {
            // The address: it is ours.
            self.monitor.recv_msg(zmq::DONTWAIT).ok()?;
        }
        let event = u16::from_le_bytes([*frame.first()?, *frame.get(1)?]);
        let happened = match event {
            SUCCEEDED => Happened::Connected,
            DISCONNECTED if self.state == State::Up => Happened::Lost,
            _ => Happened::Refused,
        };
        self.state = if happened == Happened::Connected { State::Up } else { State::Down };
        Some(happened)
    }

    /// Lets libzmq attend to the connection, after which a message may be sent that was refused a moment ago.
    pub fn attend(&self) -> bool {
        self.socket.get_events().is_ok_and(|events| events.contains(zmq::POLLOUT))
    }
}

/// Whether a host is reached by IPv6 alone: by its address, or because its name has no other. libzmq has to be told, and
/// not without need: it takes a name's IPv6 address first then, and "localhost" may be ::1, where no node listens.
/// A name is looked up here once; libzmq does so at each attempt to connect.
pub(crate) fn only_ipv6(host: &str) -> bool {
    if host.contains(':') {
        return true;
    }
    let Ok(all) = (host, 0).to_socket_addrs() else { return false };
    let all: Vec<SocketAddr> = all.collect();
    !all.is_empty() && all.iter().all(SocketAddr::is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_asked_for_where_nothing_else_leads_there() {
        assert!(only_ipv6("::1") && only_ipv6("fe80::1%lo"));
        for host in ["127.0.0.1", "localhost", "no such host"] {
            assert!(!only_ipv6(host), "{host}");
        }
    }
}
