//! Ports that no other test uses: a stretch of client ports, and with it those for peers and HTTP.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Ports a test gets.
const STRETCH: u16 = 16;
/// The client ports of all tests. With 5,000 and 10,000 added they neither meet nor reach the ephemeral ports.
const CLIENT: (u16, u16) = (10_240, 15_200);

/// A reserved stretch.
pub struct Ports {
    /// The first client port: for `--port`.
    pub base: u16,
    /// A name that only one process at a time can have, and that ends with it.
    _reservation: UnixListener,
}

impl Ports {
    /// Reserves a stretch whose ports are all free.
    pub fn reserve() -> Ports {
        let count = (CLIENT.1 - CLIENT.0) / STRETCH;
        let first = u16::try_from(std::process::id() % u32::from(count)).unwrap();
        for n in 0..count {
            let base = CLIENT.0 + (first + n) % count * STRETCH;
            let name = SocketAddr::from_abstract_name(format!("ringkv/test/{base}")).unwrap();
            let Ok(reservation) = UnixListener::bind_addr(&name) else { continue };
            if (base..base + STRETCH).all(|port| [0, 5_000, 10_000].iter().all(|add| free(port + add))) {
                return Ports { base, _reservation: reservation };
            }
        }
        panic!("all ports of tests are taken");
    }
}

fn free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// Ports that the system has free now.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let sockets: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}
