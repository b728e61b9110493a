//! How soon all know of a node that was killed: by SIGKILL, without load, seen in what STATUS of the others says.

use std::time::{Duration, Instant};

use anyhow::Result;
use ringkv_common::name::NodeName;
use ringkv_server::core::{Status, View};

use super::REPLICAS;
use super::members::{Members, NODES};
use crate::asking::until;
use crate::traffic::splitmix;

/// Kills are not in step with the nodes' probes: up to so many milliseconds pass before each.
const PAUSE_MAX_MS: u64 = 1_000;

/// Kills one node after the other, and says after how many seconds all others called each down.
pub fn measure(kills: usize) -> Result<Vec<f64>> {
    let mut members = Members::start(REPLICAS)?;
    (0..kills as u64).map(|n| notice(&mut members, n)).collect()
}

fn notice(members: &mut Members, n: u64) -> Result<f64> {
    let victim = (n % u64::from(NODES)) as u16;
    std::thread::sleep(Duration::from_millis(splitmix(n) % PAUSE_MAX_MS));
    let mut others = members.askers()?;
    others.remove(usize::from(victim));
    let began = Instant::now();
    members.kill(victim);
    // One after the other: whoever calls it down goes on doing so, so the last one counts.
    for other in &others {
        until("a killed node to be called down", || {
            Ok(calls_down(&other.status()?, NodeName(victim)).then_some(()))
        })?;
    }
    let took = began.elapsed();
    members.revive(victim)?;
    members.await_all()?;
    Ok(took.as_secs_f64())
}

fn calls_down(status: &Status, node: NodeName) -> bool {
    status.peers.iter().any(|peer| peer.node == node && peer.view == View::Down)
}
