//! Options that every socket has.

use ringkv_common::message::Limits;

use super::ShellError;

/// Milliseconds of silence in a handshake after which a connection is given up: half a greeting holds nothing up.
const HANDSHAKE_MS: i32 = 3_000;
/// Milliseconds between heartbeats, and of silence after which a connection is dead.
const HEARTBEAT_MS: i32 = 1_000;
const HEARTBEAT_TIMEOUT_MS: i32 = 3_000;

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
    Ok(socket)
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
