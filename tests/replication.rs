//! Three replicas, as processes: nodes are killed under load, and nothing is lost, stale or told twice.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use ringkv_client::Client;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{World, ask, kill, node_pid, until};
use support_more::{Load, listed, producer, run};

/// Five nodes, three replicas.
fn replicated(quorum: &str) -> (World, support::Launcher) {
    let world = World::of_size(5);
    let launcher = world.launch_ready(&["--replicas", "3", "--quorum", quorum], 5);
    (world, launcher)
}

/// What each replica of a key holds, by name.
fn replicas(world: &World, key: &str) -> Vec<(String, usize)> {
    let found = ask(world.port(0), &json!({"op": "SEARCH", "key": key})).unwrap();
    let of =
        |r: &Value| (r["node"].as_str().unwrap().to_owned(), r["versions"].as_array().map_or(0, Vec::len));
    found["replicas"].as_array().unwrap_or_else(|| panic!("{found}")).iter().map(of).collect()
}

#[test]
fn nodes_killed_under_load_cost_nothing() {
    let (world, mut launcher) = replicated("sloppy");
    run(&mut producer(&world, &["--mode", "consistent", "--count", "1000"])).ok();
    let nodes: Vec<String> = (0..5).map(|n| format!("127.0.0.1:{}", world.port(n))).collect();
    let load = Load::start(2, &nodes);
    load.reaches(1_000);
    for n in [1, 3, 1] {
        let (done, before) = (load.done(), node_pid(&world.consul.url, n).unwrap());
        kill(before, Signal::KILL);
        load.reaches(done + 1_000);
        until("next life, filled by the others", || {
            let status = world.status(n).filter(|s| s["pid"].as_i64() != Some(i64::from(before)))?;
            (status["epoch"].as_u64() > Some(0) && status["report"]["filling"] == 0).then_some(())
        });
    }
    let (acknowledged, _) = load.finish();
    let mut client = Client::connect(&nodes).unwrap();
    // A first owner may have missed a write; it has it as soon as it has compared with the others.
    let listed = until("listing in which no first owner lacks anything", || {
        let listed = listed(&mut client);
        acknowledged.iter().all(|(key, value)| listed.get(key) == Some(&value.to_string())).then_some(listed)
    });
    assert_eq!(listed.len(), acknowledged.len() + 1_000);
    for n in 0..5 {
        assert_eq!(world.status(n).unwrap()["lost_partitions"], 0);
    }
    launcher.terminate();
}

#[test]
fn data_is_on_exactly_the_right_replicas_and_deletes_reach_them_all() {
    let (world, mut launcher) = replicated("sloppy");
    assert_eq!(ask(world.port(0), &json!({"op": "PUT", "key": "k", "value": 1})).unwrap()["status"], "OK");
    let explained = ask(world.port(3), &json!({"op": "EXPLAIN", "key": "k"})).unwrap();
    let mut owners: Vec<&str> =
        explained["owners"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
    owners.sort_unstable();
    let holders = |wanted: usize| {
        until("replicas alike", || {
            let replicas = replicas(&world, "k");
            replicas.iter().all(|(_, versions)| *versions == wanted).then_some(replicas)
        })
    };
    let names: Vec<String> = holders(1).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, owners);
    for n in 0..5 {
        let shown = ask(world.port(n), &json!({"op": "SHOW_ALL"})).unwrap();
        let there = !shown["collection"].as_array().unwrap().is_empty();
        assert_eq!(there, owners.contains(&format!("node-{n}").as_str()), "node-{n}: {shown}");
    }
    assert_eq!(ask(world.port(4), &json!({"op": "DELETE", "key": "k"})).unwrap()["status"], "OK");
    for n in 0..5 {
        let read = ask(world.port(n), &json!({"op": "GET_ONE", "key": "k", "level": "ALL"})).unwrap();
        assert_eq!(read["code"], "KEY_NOT_FOUND");
    }
    launcher.terminate();
}

#[test]
fn a_put_with_an_empty_and_one_with_a_returned_context() {
    let (world, mut launcher) = replicated("sloppy");
    for (n, value) in [(0, "a"), (1, "b")] {
        let put = json!({"op": "PUT", "key": "k", "value": value, "context": {}});
        assert_eq!(ask(world.port(n), &put).unwrap()["status"], "OK");
    }
    let read = ask(world.port(2), &json!({"op": "GET_ONE", "key": "k", "level": "ALL"})).unwrap();
    assert_eq!(read["values"], json!(["b", "a"]), "{read}");
    let put = json!({"op": "PUT", "key": "k", "value": "c", "context": read["context"], "w": 3});
    assert_eq!(ask(world.port(3), &put).unwrap()["status"], "OK");
    for n in 0..5 {
        let read = ask(world.port(n), &json!({"op": "GET_ONE", "key": "k", "r": 1})).unwrap();
        assert_eq!(read, json!({"key": "k", "value": "c"}));
    }
    launcher.terminate();
}

#[test]
fn a_node_that_is_away_has_a_hint_kept_for_it_and_gets_it_when_it_returns() {
    let (world, mut launcher) = replicated("sloppy");
    let explained = ask(world.port(0), &json!({"op": "EXPLAIN", "key": "k"})).unwrap();
    let number = |name: &Value| name.as_str().unwrap().strip_prefix("node-").unwrap().parse::<u16>().unwrap();
    let owners: Vec<u16> = explained["owners"].as_array().unwrap().iter().map(number).collect();
    let others: Vec<u16> = (0..5).filter(|n| !owners.contains(n)).collect();
    // Stopped, so that its launcher does not start it again.
    let pids: Vec<i32> = owners[1..].iter().map(|n| node_pid(&world.consul.url, *n).unwrap()).collect();
    pids.iter().for_each(|pid| kill(*pid, Signal::STOP));
    let sees_down = |n: u16| {
        let status = world.status(n)?;
        let down = status["peers"].as_array()?.iter().filter(|p| p["view"] == "down").count();
        (down == 2).then_some(())
    };
    for n in [owners[0], others[0], others[1]] {
        until("two nodes seen down", || sees_down(n));
    }
    let put = json!({"op": "PUT", "key": "k", "value": 1, "want": ["receipt"]});
    let strict = json!({"op": "PUT", "key": "k", "value": 0, "quorum": "strict"});
    assert_eq!(ask(world.port(others[0]), &strict).unwrap()["code"], "QUORUM_FAILED");
    let reply = ask(world.port(others[0]), &put).unwrap();
    assert_eq!((&reply["status"], &reply["receipt"]["hinted"]), (&json!("OK"), &json!(true)), "{reply}");
    let stored = |n: u16| world.status(n).unwrap()["stored"].as_u64().unwrap();
    assert_eq!(others.iter().map(|n| stored(*n)).sum::<u64>(), 2, "a hint for each");
    pids.iter().for_each(|pid| kill(*pid, Signal::CONT));
    until("hints handed over", || others.iter().all(|n| stored(*n) == 0).then_some(()));
    for owner in &owners {
        let read = ask(world.port(*owner), &json!({"op": "GET_ONE", "key": "k", "level": "ONE"})).unwrap();
        assert_eq!(read["value"], 1, "node-{owner}");
    }
    launcher.terminate();
}
