//! `--join`: one more node for a running cluster, found by any of its nodes.
//!
//! The newcomer's place is taken by its signal, written only where no other stands: of two that want to be node-4
//! one becomes node-5. Where the cluster says no, it is asked again later.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use consul::Client;
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Outcome, Ring, Verdict};
use serde_json::json;

use super::Word;
use super::nodes::Nodes;
use crate::server::keys::Keys;
use crate::server::settings::{SIZE_MAX, Settings, host_and_port};
use crate::server::{ask, refused};

/// How long the node that is asked may take.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a first refusal, doubled with each, and its bound; then up to half of it less, at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// So often it is tried.
const ATTEMPTS: u32 = 8;
/// How often Consul is asked for the result.
const LOOK: Duration = Duration::from_millis(200);

/// Asks the node for what only the cluster knows: its name and its Consul.
pub fn meet(settings: &mut Settings, at: &str) -> anyhow::Result<()> {
    let address = host_and_port(at)
        .ok_or_else(|| refused(format!("--join is {at:?}: it takes HOST:PORT of any node of the cluster")))?;
    let Some((status, ring)) = ask::status(&address, STATUS_PATIENCE) else {
        return Err(refused(format!("--join: no node answers at {at}")));
    };
    if ring.is_none() {
        return Err(refused(format!(
            "--join: {} at {at} has no ring yet; try again when it has",
            status.node
        )));
    }
    settings.keys = Keys::new(&status.cluster).map_err(refused)?;
    if !settings.consul_named {
        settings.consul = settings.consul.clone().with_address(&status.consul)?;
    }
    Ok(())
}

/// Takes the places of the nodes that are to join: those that were named, or the lowest free one. They are claimed,
/// and their signals stand, when this returns.
pub fn take_places(
    client: &Client,
    settings: &Settings,
    ring: &Ring,
    nodes: &mut Nodes,
) -> anyhow::Result<Vec<Place>> {
    if let Some(named) = &settings.nodes {
        let new: Vec<NodeName> = named.iter().copied().filter(|n| ring.node_named(*n).is_none()).collect();
        return new
            .into_iter()
            .map(|n| place(client, settings, nodes, n)?.ok_or_else(|| taken(settings, n)))
            .collect();
    }
    let used: BTreeSet<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
    for node in (0..SIZE_MAX).map(NodeName).filter(|n| !used.contains(n)) {
        // Whose port is taken, or whose signal stands, is somebody else's.
        if let Ok(Some(place)) = place(client, settings, nodes, node) {
            return Ok(vec![place]);
        }
    }
    Err(refused(format!("--join: no place is free below node-{SIZE_MAX}; name one by --nodes and --port")))
}

fn taken(settings: &Settings, node: NodeName) -> anyhow::Error {
    let key = settings.keys.signal(&node.to_string());
    refused(format!("--join: {key} stands already: somebody else adds or removes {node}"))
}

/// A newcomer and its signal.
pub struct Place {
    /// Who.
    pub node: NodeName,
    key: String,
    value: String,
    /// The signal's index.
    index: u64,
}

fn place(
    client: &Client,
    settings: &Settings,
    nodes: &mut Nodes,
    node: NodeName,
) -> anyhow::Result<Option<Place>> {
    let at = settings.place(node)?;
    nodes.claim(node)?;
    let signal = json!({
        "op": "add", "host": at.host, "port": at.ports.client, "zone": settings.zone, "weight": settings.weight,
    });
    let mut place =
        Place { node, key: settings.keys.signal(&node.to_string()), value: signal.to_string(), index: 0 };
    let signalled = place.signal(client)?;
    if !signalled {
        nodes.release(node);
    }
    Ok(signalled.then_some(place))
}

impl Place {
    /// Writes the signal where none stands.
    fn signal(&mut self, client: &Client) -> anyhow::Result<bool> {
        if !client.put_if(&self.key, &self.value, 0)? {
            return Ok(false);
        }
        // The index that the result will name; gone already where somebody was very quick.
        self.index = client.get(&self.key)?.map_or(0, |entry| entry.modify_index);
        Ok(true)
    }

    /// Waits for the answer, tries again after a no, and tells the main loop how it ended.
    pub fn follow(
        mut self,
        client: Client,
        keys: Keys,
        stop: Arc<AtomicBool>,
        words: Sender<Word>,
    ) -> anyhow::Result<()> {
        let work = move || {
            let node = self.node;
            let outcome = self.until_answered(&client, &keys, &stop);
            let _ = words.send(Word::Joined(node, outcome));
        };
        thread::Builder::new().name("join".into()).spawn(work).context("no thread")?;
        Ok(())
    }

    fn until_answered(&mut self, client: &Client, keys: &Keys, stop: &AtomicBool) -> anyhow::Result<()> {
        let chance = RandomState::new();
        let mut pause = PAUSE.0;
        for attempt in 1.. {
            let outcome = self.answer(client, keys, stop)?;
            if outcome.outcome == Verdict::Done {
                return Ok(());
            }
            if attempt >= ATTEMPTS {
                bail!(
                    "{} could not join, asked {ATTEMPTS} times; the last answer: {}",
                    self.node,
                    outcome.message
                );
            }
            let less = chance.hash_one(attempt) as f64 / u64::MAX as f64 / 2.0;
            let wait = pause.mul_f64(1.0 - less);
            tracing::warn!("{} was told no, tries again in {wait:.1?}: {}", self.node, outcome.message);
            rest(wait, stop)?;
            pause = (pause * 2).min(PAUSE.1);
            while !self.signal(client)? {
                rest(LOOK, stop)?;
            }
        }
        unreachable!("attempts are counted")
    }

    /// The result of our signal. While Consul is away there is none.
    fn answer(&self, client: &Client, keys: &Keys, stop: &AtomicBool) -> anyhow::Result<Outcome> {
        loop {
            rest(LOOK, stop)?;
            let Ok(Some(entry)) = client.get(&keys.result(&self.node.to_string())) else { continue };
            match serde_json::from_slice::<Outcome>(&entry.value) {
                Ok(outcome) if outcome.signal.index >= self.index => return Ok(outcome),
                _ => {}
            }
        }
    }
}

fn rest(wait: Duration, stop: &AtomicBool) -> anyhow::Result<()> {
    let end = Instant::now() + wait;
    while Instant::now() < end {
        if stop.load(Ordering::Relaxed) {
            bail!("stopped while it was joining");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
