//! Options that every socket has. Public for the test that holds the simulator's network against libzmq.

use std::net::{SocketAddr, ToSocketAddrs as _};

use ringkv_common::message::Limits;
use ringkv_common::name::host_with_port;

use super::ShellError;

/// Milliseconds of silence in a handshake after which a connection is given up: half a greeting holds nothing up.
const HANDSHAKE_MS: i32 = 3_000;
/// Milliseconds between heartbeats, and of silence after which a connection is dead.
const HEARTBEAT_MS: i32 = 1_000;
const HEARTBEAT_TIMEOUT_MS: i32 = 3_000;

/// Seconds of silence after which the system asks whether the other side is there, and between its questions; and how many
/// of them are not answered when the connection has ended.
const KEEPALIVE_S: i32 = 10;
const KEEPALIVE_PROBES: i32 = 3;

/// Milliseconds between attempts to connect again.
const RECONNECT_MS: i32 = 50;
const RECONNECT_MS_MAX: i32 = 500;

/// How long a node that ends waits for its last answers to be sent, in milliseconds.
pub const LINGER_MS: i32 = 500;
/// Messages at most that wait to be read on one connection. libzmq knows no bound by bytes there: 1 GiB where values
/// have 1 MiB, and of a hostile connection so many times the largest message (MAXMSGSIZE), which only the speed at which
/// the loop reads keeps from coming together. With 256, a client that has 512 requests under way cost a tenth more.
const RECEIVED_MAX: i32 = 1_000;
/// Messages at most that wait to be sent on one connection.
pub const SENT_MAX: i32 = 1_000;

/// A socket with the options that all of ours have.
pub fn open(
    context: &zmq::Context,
    kind: zmq::SocketType,
    limits: &Limits,
) -> Result<zmq::Socket, ShellError> {
    let socket = context.socket(kind)?;
    socket.set_linger(0)?;
    socket.set_handshake_ivl(HANDSHAKE_MS)?;
    // Beyond it libzmq cuts the connection without a word, so it is well above what is answered TOO_LARGE.
    socket.set_maxmsgsize(2 * limits.message_bytes_max as i64 + (1 << 20))?;
    socket.set_rcvhwm(RECEIVED_MAX)?;
    Ok(socket)
}

/// Connects to a peer, to speak to it; so many messages at most wait to be sent.
pub fn connect(
    context: &zmq::Context,
    host: &str,
    endpoint: &str,
    limits: &Limits,
    queue_max: i32,
) -> Result<zmq::Socket, ShellError> {
    // The binding panics at a NUL.
    if endpoint.contains('\0') {
        return Err(zmq::Error::EINVAL.into());
    }
    let socket = open(context, zmq::DEALER, limits)?;
    // Only who connects sends heartbeats, and has the other side hang up without them. libzmq 4.3 aborts the process where
    // a socket's own heartbeat is due on a connection that was reset while more waited to be read than may
    // (stream_engine_base.cpp, out_event); and what is read here is next to nothing.
    socket.set_heartbeat_ivl(HEARTBEAT_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_heartbeat_ttl(HEARTBEAT_TIMEOUT_MS)?;
    // Without a connection nothing is queued: what libzmq would lose at a reconnect stays with us.
    socket.set_immediate(true)?;
    socket.set_sndhwm(queue_max)?;
    socket.set_reconnect_ivl(RECONNECT_MS)?;
    socket.set_reconnect_ivl_max(RECONNECT_MS_MAX)?;
    socket.set_ipv6(only_ipv6(host))?;
    socket.connect(endpoint)?;
    Ok(socket)
}

/// Has the system end connections whose other side takes nothing for so long, though something waits for it. libzmq
/// has no such option of its own; its heartbeats wait behind the message that is not taken.
pub fn cut_off_after(socket: &mut zmq::Socket, ms: i32) -> Result<(), ShellError> {
    // SAFETY: libzmq reads an int behind the pointer, of the size that it is told.
    let set = unsafe {
        let value = (&raw const ms).cast();
        zmq_sys::zmq_setsockopt(socket.as_mut_ptr(), zmq_sys::ZMQ_TCP_MAXRT as i32, value, size_of_val(&ms))
    };
    if set == 0 { Ok(()) } else { Err(zmq::Error::EINVAL.into()) }
}

/// Listens.
pub fn bind(socket: &zmq::Socket, address: &str, port: u16) -> Result<(), ShellError> {
    let endpoint = format!("tcp://{}", host_with_port(address, port));
    socket.set_ipv6(only_ipv6(address))?;
    // Who is gone without a word is noticed by the system, see `connect`.
    socket.set_tcp_keepalive(1)?;
    socket.set_tcp_keepalive_idle(KEEPALIVE_S)?;
    socket.set_tcp_keepalive_intvl(KEEPALIVE_S)?;
    socket.set_tcp_keepalive_cnt(KEEPALIVE_PROBES)?;
    socket.bind(&endpoint).map_err(|source| ShellError::Bind { endpoint, source })
}

/// Whether a host is reached by IPv6 alone: by its address, or because its name has no other. libzmq has to be told, and
/// not without need: it takes a name's IPv6 address first then, and "localhost" may be ::1, where no node listens.
/// A name is looked up here once; libzmq does so at each attempt to connect.
pub fn only_ipv6(host: &str) -> bool {
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
