//! The plain copy: what moving the same records costs at least, between two processes that do nothing else.
//!
//! ```text
//!   HashMap ─► batches of 64 KiB ─► DEALER ═ loopback ═ ROUTER ─► one allocation a record ─► HashMap
//! ```
//!
//! No versions, no comparing, no clients, nothing asked for twice and nothing confirmed but the end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Server, free_ports};
use crate::traffic::{Traffic, key};

/// Bytes of a batch; as much as a node gives at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long the whole copy may take.
const COPY_MAX_MS: i32 = 60_000;

type Records = HashMap<Box<[u8]>, Box<[u8]>>;

/// Receives batches into a map, and answers an empty one with the number of records; then it begins anew.
pub fn serve(port: u16) -> Result<()> {
    crate::serve::end_with_parent();
    let context = zmq::Context::new();
    let socket = context.socket(zmq::ROUTER)?;
    socket.bind(&format!("tcp://127.0.0.1:{port}"))?;
    let mut records = Records::new();
    loop {
        let from = socket.recv_msg(0)?;
        let batch = socket.recv_msg(0)?;
        if batch.is_empty() {
            socket.send(from, zmq::SNDMORE)?;
            socket.send(&records.len().to_le_bytes()[..], 0)?;
            records.clear();
        }
        let mut rest: &[u8] = &batch;
        while !rest.is_empty() {
            let key = Box::from(field(&mut rest)?);
            records.insert(key, Box::from(field(&mut rest)?));
        }
    }
}

/// A length of four bytes, and as many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk::<4>().context("a broken batch")?;
    let (field, behind) =
        behind.split_at_checked(u32::from_le_bytes(*length) as usize).context("a broken batch")?;
    *rest = behind;
    Ok(field)
}

/// Two processes, one of them this one.
pub struct Copier {
    _server: Server,
    socket: zmq::Socket,
    records: Records,
}

impl Copier {
    /// Starts the receiver and fills the giver's map with so many of the traffic's records.
    pub fn start(count: u64) -> Result<Copier> {
        let [port] = free_ports()?;
        let server = Server::own(&["serve-copy"], &[port], port)?;
        let socket = zmq::Context::new().socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(COPY_MAX_MS)?;
        socket.set_sndtimeo(COPY_MAX_MS)?;
        socket.connect(&format!("tcp://127.0.0.1:{}", server.port))?;
        let traffic = Traffic::single(0..count);
        let mut text = Vec::new();
        let mut record = |n: u64| {
            text.clear();
            key(n, &mut text);
            (Box::from(text.as_slice()), Box::from(traffic.value(n)))
        };
        let records = (0..count).map(&mut record).collect();
        let copier = Copier { _server: server, socket, records };
        // The connection stands before anything is measured.
        copier.end(0)?;
        Ok(copier)
    }

    /// Copies all records, and says how long it took until the receiver had them.
    pub fn copy(&self) -> Result<Duration> {
        let began = Instant::now();
        let mut batch = Vec::with_capacity(BATCH_BYTES + 1024);
        for (key, value) in &self.records {
            for field in [key, value] {
                batch.extend_from_slice(&(field.len() as u32).to_le_bytes());
                batch.extend_from_slice(field);
            }
            if batch.len() >= BATCH_BYTES {
                self.socket.send(batch.as_slice(), 0)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.socket.send(batch.as_slice(), 0)?;
        }
        self.end(self.records.len())?;
        Ok(began.elapsed())
    }

    fn end(&self, records: usize) -> Result<()> {
        self.socket.send("", 0)?;
        let reply = self.socket.recv_msg(0).context("the receiver of the plain copy is silent")?;
        let Ok(count) = <[u8; 8]>::try_from(&reply[..]) else { bail!("a reply of {} bytes", reply.len()) };
        let count = usize::from_le_bytes(count);
        ensure!(count == records, "{records} records were sent, {count} came");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_are_read_and_broken_ones_refused() {
        let mut bytes: &[u8] = b"\x02\0\0\0ab\0\0\0\0\x09\0\0\0c";
        assert_eq!(field(&mut bytes).unwrap(), b"ab");
        assert_eq!(field(&mut bytes).unwrap(), b"");
        assert!(field(&mut bytes).is_err());
    }
}
