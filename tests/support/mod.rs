//! Real processes for tests: a Consul, launchers with their nodes, and the patience to wait for what must become true.
//!
//! Everything lives in a scratch folder on ports of its own, so tests run side by side, and everything that was started
//! is ended when the test ends, also by a panic.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod consul;
mod nodes;
mod ports;

use std::time::{Duration, Instant};

pub use self::consul::Consul;
pub use self::nodes::{Launcher, World, node_pid, pids_of};
pub use self::ports::Ports;

/// How long anything that must happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what must become true.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "within {PATIENCE:?} there was no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a process a signal, as `kill -<name>` does.
pub fn kill(pid: i32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid).expect("no process has the id 0");
    // One that is gone already is fine.
    let _ = rustix::process::kill_process(pid, signal);
}

/// Asks the node at a client port by a stock REQ; `None` where it does not answer within two seconds.
pub fn ask(port: u16, request: &serde_json::Value) -> Option<serde_json::Value> {
    let context = zmq::Context::new();
    let socket = context.socket(zmq::REQ).unwrap();
    socket.set_linger(0).unwrap();
    socket.set_rcvtimeo(2_000).unwrap();
    socket.connect(&format!("tcp://127.0.0.1:{port}")).unwrap();
    socket.send(request.to_string().as_str(), 0).unwrap();
    let reply = socket.recv_bytes(0).ok()?;
    Some(serde_json::from_slice(&reply).expect("replies are JSON"))
}
