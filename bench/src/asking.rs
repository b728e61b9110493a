//! How a node stands, asked as anybody may: `STATUS`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ringkv_common::name::NodeName;
use ringkv_server::core::Status;

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);
/// How long a node may take to answer, in milliseconds.
const ANSWER_MS: i32 = 2_000;

/// A connection over which a node is asked.
pub struct Asker {
    node: NodeName,
    socket: zmq::Socket,
}

impl Asker {
    /// Connects to a node of this machine, whether or not it is there.
    pub fn connect(context: &zmq::Context, node: NodeName, port: u16) -> Result<Asker> {
        let socket = context.socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(ANSWER_MS)?;
        socket.connect(&format!("tcp://127.0.0.1:{port}"))?;
        Ok(Asker { node, socket })
    }

    /// How it stands.
    pub fn status(&self) -> Result<Status> {
        self.socket.send(r#"{"op":"STATUS"}"#, 0)?;
        let reply = self.socket.recv_bytes(0).with_context(|| format!("{} is silent", self.node))?;
        Ok(serde_json::from_slice(&reply)?)
    }
}

/// Looks again and again until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(found) = look()? {
            return Ok(found);
        }
        std::thread::sleep(LOOK);
    }
    bail!("waited {PATIENCE:?} for {what}")
}
