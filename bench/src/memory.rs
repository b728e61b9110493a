//! Bytes of memory a key, of ringkv and of Redis: both empty at first, filled with the same keys in the same order.

use anyhow::Result;

use crate::load::{Load, Peer};
use crate::process::Server;
use crate::redis;
use crate::rows::{FILLING, Goal, Quotient, node};
use crate::traffic::Traffic;

/// What this row is called.
pub const NAME: &str = "memory";
/// Keys of the usual run.
pub const KEYS: u64 = 1_000_000;
/// What is to be reached: what Redis needs.
pub const GOAL: Goal = Goal { quotient: Quotient::BytesOfRedis, reach: 1.0, aim: 0.8 };

/// Bytes a key.
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// How many keys there were.
    pub keys: u64,
    /// What ringkv's resident memory grew by.
    pub ringkv: f64,
    /// What that of Redis grew by, and its own `used_memory`; `None` where it is missing.
    pub redis: Option<(f64, f64)>,
}

/// Fills a fresh node and a fresh Redis.
pub fn measure(keys: u64) -> Result<Bytes> {
    let each = |before: u64, after: u64| after.saturating_sub(before) as f64 / keys as f64;
    let ringkv = node()?;
    // One exchange first: the buffers of a connection are no memory of a key.
    write(&ringkv, 0..1)?;
    let before = ringkv.resident_bytes()?;
    write(&ringkv, 0..keys)?;
    let ours = each(before, ringkv.resident_bytes()?);
    drop(ringkv);
    let Some(redis) = redis::start()? else { return Ok(Bytes { keys, ringkv: ours, redis: None }) };
    redis::fill(&redis, 1)?;
    let (resident, used) = (redis.resident_bytes()?, redis::used_memory(&redis)?);
    redis::fill(&redis, keys)?;
    let theirs = (each(resident, redis.resident_bytes()?), each(used, redis::used_memory(&redis)?));
    Ok(Bytes { keys, ringkv: ours, redis: Some(theirs) })
}

fn write(server: &Server, keys: std::ops::Range<u64>) -> Result<()> {
    Load::connect(server.port, FILLING, &Traffic::single(keys), Peer::Ringkv)?.fill()
}
