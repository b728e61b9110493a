//! What a coordinator holds for a put that waits for its quorum: a core is told puts whose other owners never answer.
//!
//! What the store takes up is left out, and so is what leaves the node at once: the messages to the owners. Nothing is
//! timed, so the count is the same on every machine.

use std::sync::Arc;

use anyhow::{Result, ensure};
use ringkv_client::routing::Routing;
use ringkv_common::key::Key;
use ringkv_server::core::{Client, Event};
use ringkv_server::store::{Memory, Storage};

use super::REPLICAS;
use super::members::{NODES, key_of};
use crate::cores::{Half, founded};
use crate::counting::growth;
use crate::traffic::{Ask, Mix, Traffic};

/// Bytes that each of so many puts holds, of keys of 16 bytes and values of 64. Needs the allocator that counts.
pub fn measure(puts: usize) -> Result<f64> {
    let ring = Arc::new(founded(NODES, REPLICAS)?);
    let mut node = Half::new(0, ring.partitions);
    node.step(Event::RingAbsent);
    node.step(Event::Ring(ring.clone()));
    drop(node.tell());
    node.told = (0, 0);

    let (numbers, keys) = led(&Routing::new(ring.clone()), puts + 1)?;
    let traffic = Traffic::chosen(numbers.into(), Mix::Puts);
    let mut body = Vec::new();
    let mut put = |(client, ask): (u64, Ask)| {
        traffic.request(ask, &mut body);
        node.step(Event::Request { client: Client(client), body: &body, value: None });
        drop(node.tell());
    };
    let mut asks = (0..).zip(traffic.writes());
    // What every put uses again is there behind the first.
    asks.by_ref().take(1).for_each(&mut put);
    let ((), held) = growth(|| asks.for_each(&mut put));
    let told = node.told.0;
    ensure!(told == 2 * (puts as u64 + 1), "{told} messages were sent for {puts} puts and one");

    let mut store = Memory::new(ring.partitions);
    let mut keep = |key: &Key| store.write(key, &node.store.read(key));
    keep(&keys[0]);
    let ((), stored) = growth(|| keys[1..].iter().for_each(keep));
    ensure!(stored > 0, "this program's allocator does not count");
    Ok((held - stored) as f64 / puts as f64)
}

/// The first so many keys that node 0 leads.
fn led(routing: &Routing, count: usize) -> Result<(Vec<u64>, Vec<Key>)> {
    let (mut numbers, mut keys) = (Vec::new(), Vec::new());
    for n in 0.. {
        if keys.len() == count {
            break;
        }
        let key = key_of(n)?;
        if routing.coordinator(routing.partition(&key)) == 0 {
            numbers.push(n);
            keys.push(key);
        }
    }
    Ok((numbers, keys))
}
