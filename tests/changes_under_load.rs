//! Nodes come and go, and the mode changes, while traffic runs: no request fails, nothing is lost or stale.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use ringkv_client::Client;
use support::{Consul, Launcher, World, until};
use support_more::{Load, Python, change, listed, producer, run};

/// Operations that must end well while each change runs, or right after it.
const PER_CHANGE: u64 = 2_000;
/// The node that is never removed, for the client that knows only one.
const STAYS: u16 = 1;

/// A stock client at one node, which never tries again.
struct Steady {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Steady {
    fn start(test: &str, port: u16) -> Option<Steady> {
        let python = Python::of(test)?;
        let mut command = python.script("steady_client.py");
        command.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        Some(Steady { child, out })
    }

    /// Ends it: nothing may have been wrong. Returns what it wrote, and how many operations there were.
    fn finish(mut self) -> (HashMap<String, u64>, u64) {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        let said: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(said["wrong"], serde_json::json!([]), "a client at one node that stays");
        (serde_json::from_value(said["written"].clone()).unwrap(), said["operations"].as_u64().unwrap())
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Four nodes in one mode, and changes under two kinds of traffic.
fn under_load(test: &str, consul: Consul, mode: &str, replicas: u64, changes: &[(&str, &str)]) {
    consul.put("cluster_size", "4");
    let world = World::with(consul);
    let mut launcher = world.launch_ready(&["--replicas", &replicas.to_string()], 4);
    run(&mut producer(&world, &["--mode", mode, "--count", "3000"])).ok();
    let steady = Steady::start(test, world.port(STAYS));
    let nodes: Vec<String> = (0..4).map(|n| format!("127.0.0.1:{}", world.port(n))).collect();
    let load = Load::start(2, &nodes);
    load.reaches(PER_CHANGE);

    for (name, value) in changes {
        let before = load.done();
        let epoch = world.consul.epoch("ringkv/ring");
        let result = change(&world.consul, name, value);
        assert!(
            result["epoch"].as_u64().unwrap() > epoch && result["moved"].as_u64().unwrap() > 0,
            "{result}"
        );
        load.reaches(before + PER_CHANGE);
    }

    let (mut acknowledged, done) = load.finish();
    assert!(done >= PER_CHANGE * (changes.len() as u64 + 1));
    let (steadily, operations) = steady.map(Steady::finish).unwrap_or_default();
    println!(
        "{test}: {} changes, {done} operations through the ring, {operations} at one node",
        changes.len()
    );
    assert!(steadily.is_empty() || operations > 1_000, "only {operations} operations at one node");
    acknowledged.extend(steadily);
    holds_all(&world, &acknowledged, replicas);
    ends(&world, &mut launcher);
}

/// Every acknowledged key is there with its value, beside the producer's 3,000, and the nodes' own counts say the same.
fn holds_all(world: &World, acknowledged: &HashMap<String, u64>, replicas: u64) {
    let mut client = Client::connect(&[format!("127.0.0.1:{}", world.port(STAYS))]).unwrap();
    // A first owner may have missed a write; it has it as soon as it has compared with the others.
    let listed = until("listing in which no first owner lacks anything", || {
        let listed = listed(&mut client);
        let stale = acknowledged.iter().find(|(key, value)| listed.get(*key) != Some(&value.to_string()));
        assert!(replicas > 1 || stale.is_none(), "{stale:?}");
        stale.is_none().then_some(listed)
    });
    assert_eq!(listed.keys().filter(|key| key.starts_with("key-")).count(), 3_000);
    assert_eq!(listed.len(), acknowledged.len() + 3_000);
    let ring = client.fetch_ring().unwrap();
    // What moved away is erased a moment after the change.
    until("sum of the nodes' counts", || {
        let status: Vec<_> = ring.nodes.iter().map(|n| client.status(Some(n.name)).unwrap()).collect();
        let sums = (status.iter().map(|s| s.keys).sum::<u64>(), status.iter().map(|s| s.stored).sum::<u64>());
        (sums == (listed.len() as u64, replicas * listed.len() as u64)).then_some(())
    });
}

fn ends(world: &World, launcher: &mut Launcher) {
    launcher.terminate();
    assert!(world.consul.instances("ringkv").is_empty());
}

/// Ten adds and ten removes, of which two take node-0.
fn twenty() -> Vec<(&'static str, &'static str)> {
    let adds =
        ["node-4", "node-5", "node-0", "node-6", "node-2", "node-3", "node-4", "node-5", "node-0", "node-6"];
    let removes =
        ["node-0", "node-2", "node-3", "node-4", "node-5", "node-0", "node-6", "node-2", "node-3", "node-4"];
    adds.into_iter().zip(removes).flat_map(|(add, remove)| [(add, "add"), (remove, "remove")]).collect()
}

#[test]
fn twenty_adds_and_removes_under_load_with_consistent() {
    under_load("twenty changes, consistent", Consul::embedded(), "consistent", 1, &twenty());
}

#[test]
fn twenty_adds_and_removes_under_load_with_hrw() {
    under_load("twenty changes, hrw", Consul::embedded(), "hrw", 1, &twenty());
}

#[test]
fn migrations_to_and_fro_under_load() {
    let changes = [("mode", "hrw"), ("mode", "consistent"), ("mode", "hrw"), ("mode", "consistent")];
    under_load("migrations", Consul::embedded(), "consistent", 1, &changes);
}

#[test]
fn changes_under_load_with_three_replicas() {
    let changes = [&twenty()[..], &[("mode", "hrw"), ("mode", "consistent")]].concat();
    under_load("three replicas", Consul::embedded(), "consistent", 3, &changes);
}

#[test]
fn the_same_with_a_real_consul() {
    let Some(consul) = Consul::real("the_same_with_a_real_consul") else { return };
    let mut changes = twenty();
    changes.extend([("mode", "hrw"), ("mode", "consistent")]);
    under_load("a real Consul", consul, "consistent", 1, &changes);
}
