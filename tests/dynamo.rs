//! What the forerunners showed, each by its name: puts and gets, failures with hints, gossip, replication with delays.
//! Nodes fail and are slow on purpose, as `client_producer fault` has them.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use serde_json::{Value, json};
use support::{Launcher, World, ask, until};
use support_more::{producer, run};

/// Five nodes with three replicas that take faults.
fn cluster() -> (World, Launcher) {
    let world = World::of_size(5);
    let launcher = world.launch_ready(&["--replicas", "3", "--allow-faults"], 5);
    (world, launcher)
}

/// `client_producer fault …`
fn fault(world: &World, words: &[&str]) {
    run(&mut producer(world, &[&["fault"], words].concat())).ok();
}

/// A key's owners, first the one that clients ask, and the others.
fn owners(world: &World, key: &str) -> (Vec<u16>, Vec<u16>) {
    let explained = ask(world.port(0), &json!({"op": "EXPLAIN", "key": key})).unwrap();
    let number = |name: &Value| name.as_str().unwrap().strip_prefix("node-").unwrap().parse::<u16>().unwrap();
    let owners: Vec<u16> = explained["owners"].as_array().unwrap().iter().map(number).collect();
    let others = (0..5).filter(|n| !owners.contains(n)).collect();
    (owners, others)
}

fn name(n: u16) -> String {
    format!("node-{n}")
}

fn put(world: &World, at: u16, value: &str, more: Value) -> Value {
    let mut request = json!({"op": "PUT", "key": "k", "value": value});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    ask(world.port(at), &request).unwrap()
}

fn get(world: &World, at: u16, level: &str) -> Value {
    ask(world.port(at), &json!({"op": "GET_ONE", "key": "k", "level": level})).unwrap()
}

/// How a node sees another one.
fn view(world: &World, of: u16, at: u16) -> Option<String> {
    let status = world.status(at)?;
    let peer = status["peers"].as_array()?.iter().find(|p| p["node"] == name(of))?.clone();
    peer["view"].as_str().map(str::to_owned)
}

#[test]
fn get_put() {
    let (world, mut launcher) = cluster();
    let quorums = [json!({"r": 1, "w": 1}), json!({"r": 3, "w": 3}), json!({})];
    for (n, more) in (0u16..).zip(quorums) {
        assert_eq!(put(&world, n, &format!("v{n}"), more)["status"], "OK");
        // Whoever is asked: with one replica of each, only those that were told already must know.
        assert_eq!(get(&world, 4, "ALL")["value"], format!("v{n}"));
    }
    for (n, value) in [(0, "a"), (1, "b")] {
        assert_eq!(put(&world, n, value, json!({"context": {}}))["status"], "OK");
    }
    let read = get(&world, 2, "ALL");
    assert_eq!(read["values"], json!(["b", "a", "v2"]), "{read}");
    assert_eq!(put(&world, 3, "c", json!({"context": read["context"]}))["status"], "OK");
    assert_eq!(get(&world, 4, "ALL"), json!({"key": "k", "value": "c"}));
    launcher.terminate();
}

#[test]
fn failure() {
    let (world, mut launcher) = cluster();
    let (owners, others) = owners(&world, "k");
    assert_eq!(put(&world, owners[0], "before", json!({"w": 3}))["status"], "OK");
    for n in &owners[1..] {
        fault(&world, &["fail", &name(*n)]);
    }
    for n in [owners[0], others[0], others[1]] {
        for failed in &owners[1..] {
            until("failed node seen down", || (view(&world, *failed, n)? == "down").then_some(()));
        }
    }
    let refused = put(&world, owners[0], "no", json!({"quorum": "strict"}));
    assert_eq!(refused["code"], "QUORUM_FAILED", "{refused}");
    let written = put(&world, others[0], "meanwhile", json!({"want": ["receipt"]}));
    assert_eq!(
        (&written["status"], &written["receipt"]["hinted"]),
        (&json!("OK"), &json!(true)),
        "{written}"
    );
    let hints = || others.iter().map(|n| world.status(*n).unwrap()["stored"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(hints(), 2, "one for each that failed");
    for n in &owners[1..] {
        fault(&world, &["recover", &name(*n)]);
    }
    until("hints gone", || (hints() == 0).then_some(()));
    for n in &owners {
        assert_eq!(get(&world, *n, "ONE")["value"], "meanwhile", "at node-{n}");
    }
    launcher.terminate();
}

#[test]
fn gossip() {
    let (world, mut launcher) = cluster();
    let seen = |of: u16, wanted: &str| {
        for at in (0..5).filter(|at| *at != of) {
            until("view", || (view(&world, of, at)? == wanted).then_some(()));
        }
    };
    fault(&world, &["fail", "node-2"]);
    seen(2, "down");
    fault(&world, &["recover", "node-2"]);
    seen(2, "alive");
    // Whose gossip is off is taken for dead, though it serves.
    fault(&world, &["gossip", "node-4", "off"]);
    seen(4, "down");
    assert_eq!(ask(world.port(4), &json!({"op": "PING"})).unwrap()["status"], "OK");
    fault(&world, &["gossip", "node-4", "on"]);
    seen(4, "alive");
    launcher.terminate();
}

#[test]
fn replication() {
    let (world, mut launcher) = cluster();
    let (owners, _) = owners(&world, "k");
    let (first, last) = (owners[0], owners[2]);
    assert_eq!(put(&world, first, "old", json!({"w": 3}))["status"], "OK");
    // What the first owner says takes long, so the last one has the old value when the write is done.
    fault(&world, &["delay", &name(first), "400", "--to", &name(last)]);
    assert_eq!(put(&world, first, "new", json!({"w": 2}))["status"], "OK");
    assert_eq!(get(&world, last, "ONE")["value"], "old", "a read of one replica may be stale");
    assert_eq!(get(&world, last, "QUORUM")["value"], "new", "one of most is not");
    fault(&world, &["cut", &name(first), &name(last)]);
    assert_eq!(put(&world, first, "newer", json!({"w": 2}))["status"], "OK");
    assert_eq!(get(&world, owners[1], "ALL")["value"], "newer", "it repairs what it finds stale");
    until("repair", || (get(&world, last, "ONE")["value"] == "newer").then_some(()));
    fault(&world, &["clear"]);
    assert_eq!(ask(world.port(first), &json!({"op": "DELETE", "key": "k", "w": 3})).unwrap()["status"], "OK");
    for n in &owners {
        assert_eq!(get(&world, *n, "ONE")["code"], "KEY_NOT_FOUND", "at node-{n}");
    }
    launcher.terminate();
}

#[test]
fn owners_that_differ_are_alike_after_a_repair_that_was_asked_for() {
    let (world, mut launcher) = cluster();
    let (owners, _) = owners(&world, "k");
    for n in &owners[1..] {
        fault(&world, &["cut", &name(owners[0]), &name(*n), "--one-way"]);
    }
    let written = put(&world, owners[0], "alone", json!({"w": 1, "quorum": "strict"}));
    assert_eq!(written["status"], "OK", "{written}");
    fault(&world, &["clear"]);
    let said = run(&mut producer(&world, &["repair"])).ok();
    for n in 0..5 {
        let with = said.lines().find_map(|line| line.strip_prefix(&format!("node-{n} compares with ")));
        assert_eq!(with.unwrap_or_else(|| panic!("{said}")).split(", ").count(), 4, "{said}");
    }
    for n in &owners {
        until("repair", || (get(&world, *n, "ONE")["value"] == "alone").then_some(()));
    }
    launcher.terminate();
}

#[test]
fn the_faults_of_the_readme_are_taken_as_shown() {
    let (world, mut launcher) = cluster();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let shown = readme.lines().filter_map(|line| line.strip_prefix("client_producer fault "));
    let shown: Vec<Vec<&str>> =
        shown.map(|line| line.split('#').next().unwrap().split_whitespace().collect()).collect();
    assert!(shown.len() >= 7 && shown.iter().any(|words| words[0] == "clear"));
    shown.iter().for_each(|words| fault(&world, words));
    assert_eq!(put(&world, 2, "all clear", json!({"w": 3}))["status"], "OK");
    launcher.terminate();
}

#[test]
fn a_node_that_was_not_started_for_faults_takes_none() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    for (fault, code) in [
        (json!({"do": "fail"}), "FORBIDDEN"),
        (json!({"do": "explode"}), "BAD_REQUEST"),
        (json!({"do": "drop", "percent": 101}), "FORBIDDEN"),
        (json!({"do": "drop"}), "BAD_REQUEST"),
        (json!("fail"), "BAD_REQUEST"),
        (json!(["fail"]), "BAD_REQUEST"),
        (json!({"do": "fail", "x": 1}), "BAD_REQUEST"),
        (json!({"do": "clear", "to": "node-0"}), "BAD_REQUEST"),
    ] {
        let reply = ask(world.port(0), &json!({"op": "FAULT", "fault": fault})).unwrap();
        assert_eq!(reply["code"], code, "{fault}: {reply}");
    }
    assert_eq!(ask(world.port(0), &json!({"op": "FAULT"})).unwrap()["code"], "BAD_REQUEST");
    assert_eq!(ask(world.port(0), &json!({"op": "PING", "fault": {}})).unwrap()["code"], "BAD_REQUEST");
    launcher.terminate();
    let mut launcher = world.launch_ready(&["--allow-faults"], 1);
    for fault in [
        json!({"do": "drop", "percent": 101}),
        json!({"do": "delay", "ms": 60_001}),
        json!({"do": "cut", "to": "node-0"}),
        json!({"do": "cut", "to": "node-7"}),
    ] {
        let reply = ask(world.port(0), &json!({"op": "FAULT", "fault": fault})).unwrap();
        assert_eq!(reply["code"], "BAD_REQUEST", "{fault}: {reply}");
    }
    assert_eq!(
        ask(world.port(0), &json!({"op": "FAULT", "fault": {"do": "clear"}})).unwrap()["status"],
        "OK"
    );
    launcher.terminate();
}
