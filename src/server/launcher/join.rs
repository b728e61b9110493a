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
use consul::{Client, Query};
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Outcome, Ring, Verdict};
use serde_json::json;

use super::Word;
use super::nodes::Nodes;
use crate::server::keys::Keys;
use crate::server::settings::{SIZE_MAX, Settings, host_and_port};
use crate::server::{Refused, ask, refused};

/// How long the node that is asked may take.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// The pause after a first refusal, doubled with each, and its bound; then up to half of it less, at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// So often it is tried.
const ATTEMPTS: u32 = 8;
/// How often Consul is asked for the result.
const LOOK: Duration = Duration::from_millis(200);

/// Asks the node for what only the cluster knows: its name and its Consul. Returns who named that Consul, for whom it
/// gives no answer.
pub fn meet(settings: &mut Settings, at: &str) -> anyhow::Result<String> {
    let address = host_and_port(at).map_err(|why| {
        refused(format!("--join is {at:?}: {why}. Any node of the cluster will do, at its port for clients"))
    })?;
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
    if settings.consul_named {
        return Ok(format!("--join: the Consul of --consul, for {} at {at}", status.node));
    }
    settings.consul = settings.consul.clone().with_address(&status.consul)?;
    Ok(format!(
        "--join: {} at {at} goes by the Consul at {}; name another way there by --consul",
        status.node, status.consul
    ))
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
        match place(client, settings, nodes, node) {
            Ok(Some(place)) => return Ok(vec![place]),
            // Whose port is taken, or whose signal stands, is somebody else's.
            Err(error) if !error.is::<Refused>() => return Err(error),
            Ok(None) | Err(_) => {}
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
    /// The signal's index is above this one.
    after: u64,
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
        Place { node, key: settings.keys.signal(&node.to_string()), value: signal.to_string(), after: 0 };
    let signalled = place.signal(client)?;
    if !signalled {
        nodes.release(node);
    }
    Ok(signalled.then_some(place))
}

impl Place {
    /// Writes the signal where none stands.
    fn signal(&mut self, client: &Client) -> anyhow::Result<bool> {
        // Read before: afterwards the signal may have been answered already, and be gone.
        self.after = client.get_with(&self.key, &Query::consistent())?.index;
        Ok(client.put_if(&self.key, &self.value, 0)?)
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
                Ok(outcome) if outcome.signal.index > self.after => return Ok(outcome),
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use consul::Config;
    use consul::agent::Agent;
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::plan::{Founding, found};
    use ringkv_common::ring::{ClusterId, Node, SignalId};

    use super::*;

    /// Settings whose node-1 has a port of its own, and a ring of node-0 alone.
    fn newcomer() -> (Settings, Ring) {
        let free = || TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        // Those of node-1 follow from it: they have to be free, too.
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let fits = |base: &u16| *base < 50_000 && [1, 5_001, 10_001].iter().all(|more| is_free(base + more));
        let base = std::iter::repeat_with(free).find(fits).expect("there is no end");
        let options = serde_json::from_value(json!({"port": base})).expect("options");
        let settings = Settings::new(options, ClusterId(1)).expect("settings");
        let ports = settings.place(NodeName(0)).expect("a place").ports;
        let (host, zone) = ("127.0.0.1".to_owned(), "z".to_owned());
        let node = Node { name: NodeName(0), incarnation: 1, host, ports, zone, weight: 100 };
        let founding = Founding {
            cluster_id: ClusterId(1),
            strategy: Strategy::Hrw,
            chosen: true,
            partitions: 64,
            replicas: 1,
            balance: None,
        };
        (settings, found(&founding, vec![node]).expect("a ring"))
    }

    #[test]
    fn a_consul_that_does_not_answer_is_no_taken_place() {
        let (settings, ring) = newcomer();
        let mut nodes = Nodes::new(settings.clone(), None).expect("none yet");
        let nobody = Client::new(Config::parse("127.0.0.1:1").expect("an address")).expect("a client");
        let error = take_places(&nobody, &settings, &ring, &mut nodes).map(drop).expect_err("nobody answers");
        assert!(error.is::<consul::Error>(), "{error:#}");
    }

    #[test]
    fn an_earlier_answer_is_not_taken_for_ours() {
        let agent = Agent::bind("127.0.0.1:0", None).expect("a port").spawn_thread().expect("a thread");
        let client = Client::new(Config::parse(&agent.url()).expect("an address")).expect("a client");
        let (settings, ring) = newcomer();
        let key = settings.keys.signal("node-1");
        // An earlier signal of the same name, which was answered.
        client.put(&key, "add").expect("a signal");
        let signal = SignalId {
            name: "node-1".into(),
            index: client.get(&key).expect("read").expect("there").modify_index,
        };
        let before = signal.index;
        client.delete(&key).expect("gone");
        let mut nodes = Nodes::new(settings.clone(), None).expect("none yet");
        let places = take_places(&client, &settings, &ring, &mut nodes).expect("node-1 is free");
        let index = client.get(&key).expect("read").expect("there").modify_index;
        assert!((before..index).contains(&places[0].after), "{before}, {}, {index}", places[0].after);
    }
}
