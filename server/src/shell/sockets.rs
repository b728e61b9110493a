//! Options that every socket has.

use ringkv_common::message::Limits;

use super::ShellError;

/// Milliseconds of silence in a handshake after which a connection is given up: half a greeting holds nothing up.
const HANDSHAKE_MS: i32 = 3_000;
/// Milliseconds between heartbeats, and of silence after which a connection is dead.
const HEARTBEAT_MS: i32 = 1_000;
const HEARTBEAT_TIMEOUT_MS: i32 = 3_000;

/// How long a node that ends waits for its last answers to be sent, in milliseconds.
pub const LINGER_MS: i32 = 500;
/// Messages at most that wait to be read on one connection. libzmq knows no bound by bytes there: 256 MiB where values
/// have 1 MiB, and of a hostile connection so many times the largest message (MAXMSGSIZE), which only the speed at which
/// the loop reads keeps from coming together.
const RECEIVED_MAX: i32 = 256;

/// A socket with the options that all of ours have.
pub fn open(
    context: &zmq::Context,
    kind: zmq::SocketType,
    limits: &Limits,
) -> Result<zmq::Socket, ShellError> {
    let socket = context.socket(kind)?;
    socket.set_linger(0)?;
    socket.set_handshake_ivl(HANDSHAKE_MS)?;
    socket.set_heartbeat_ivl(HEARTBEAT_MS)?;
    socket.set_heartbeat_timeout(HEARTBEAT_TIMEOUT_MS)?;
    socket.set_heartbeat_ttl(HEARTBEAT_TIMEOUT_MS)?;
    // Beyond it libzmq cuts the connection without a word, so it is well above what is answered TOO_LARGE.
    socket.set_maxmsgsize(2 * limits.message_bytes_max as i64 + (1 << 20))?;
    socket.set_rcvhwm(RECEIVED_MAX)?;
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
    let endpoint = format!("tcp://{}:{port}", bracketed(address));
    socket.set_ipv6(address.contains(':'))?;
    socket.bind(&endpoint).map_err(|source| ShellError::Bind { endpoint, source })
}

/// An IPv6 address stands in brackets before a port.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
