//! A cluster comes up, serves, and goes down in order.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};

use rustix::process::Signal;
use serde_json::json;
use support::{Consul, World, ask, pids_of, until};

/// The whole life of a cluster, against whichever Consul.
fn lives(consul: Consul) {
    let world = World::with(consul);
    world.consul.put("cluster_size", "3");
    let mut launcher = world.launch_ready(&[], 3);
    assert_eq!(world.consul.healthy("ringkv"), ["ringkv-node-0", "ringkv-node-1", "ringkv-node-2"]);
    let ring = world.consul.json("ringkv/ring").unwrap();
    assert_eq!((ring["epoch"].as_u64(), ring["chosen"].as_bool()), (Some(1), Some(false)));
    let instance = &world.consul.instances("ringkv")[1].service;
    assert_eq!(instance.tags, ["node-1", "zone-127.0.0.1"]);
    assert_eq!(instance.meta["peer_port"], (world.port(1) + 10_000).to_string());

    for n in 0..30_u16 {
        let put = json!({"op": "PUT", "key": format!("k{n}"), "value": n});
        assert_eq!(ask(world.port(n % 3), &put), Some(json!({"status": "OK"})));
    }
    let keep = |world: &World, nodes: &[u16]| {
        for n in 0..30_u16 {
            let get = json!({"op": "GET_ONE", "key": format!("k{n}")});
            let found = json!({"key": format!("k{n}"), "value": n});
            assert_eq!(ask(world.port(nodes[usize::from(n) % nodes.len()]), &get), Some(found));
        }
    };
    keep(&world, &[0, 1, 2]);

    world.consul.put("ringkv/signals/node-3", "add");
    launcher.ready(4);
    let result = until("result", || world.consul.json("ringkv/results/node-3"));
    assert_eq!(
        (result["outcome"].as_str(), result["moved"].as_u64()),
        (Some("done"), Some(1024)),
        "{result}"
    );
    assert_eq!(world.consul.get("ringkv/signals/node-3"), None);
    keep(&world, &[0, 1, 2, 3]);

    world.consul.put("ringkv/signals/node-0", "remove\n");
    let result = until("result", || world.consul.json("ringkv/results/node-0"));
    assert_eq!(result["outcome"], "done", "{result}");
    keep(&world, &[1, 2, 3]);
    until("end of node-0", || (pids_of(&world.consul.url).len() == 3).then_some(()));
    until("its deregistration", || (world.consul.healthy("ringkv").len() == 3).then_some(()));

    for (name, value, why) in [("foo", "add", "names no node"), ("node-1", "add", "in the ring already")] {
        world.consul.put(&format!("ringkv/signals/{name}"), value);
        let result = until("refusal", || world.consul.json(&format!("ringkv/results/{name}")));
        assert_eq!(result["outcome"], "refused");
        assert!(result["message"].as_str().unwrap().contains(why), "{result}");
    }

    launcher.terminate();
    assert!(pids_of(&world.consul.url).is_empty());
    assert!(world.consul.instances("ringkv").is_empty(), "every node has deregistered");
    assert_eq!(world.consul.epoch("ringkv/ring"), 9, "the ring stays");
}

#[test]
fn a_cluster_lives_beside_the_embedded_consul() {
    lives(Consul::embedded());
}

#[test]
fn a_cluster_lives_beside_the_real_consul() {
    if let Some(consul) = Consul::real("a_cluster_lives") {
        lives(consul);
    }
}

#[test]
fn a_status_lists_the_other_nodes_but_for_who_wants_the_report_alone() {
    let world = World::of_size(3);
    let mut launcher = world.launch_ready(&[], 3);
    let peers = |want: serde_json::Value| {
        let status = ask(world.port(0), &json!({"op": "STATUS", "want": want})).unwrap();
        assert_eq!(status["report"]["epoch"], 1, "{status}");
        status["peers"].as_array().unwrap().len()
    };
    assert_eq!((peers(json!([])), peers(json!(["ring"])), peers(json!(["report"]))), (2, 2, 0));
    launcher.terminate();
}

#[test]
fn ctrl_c_ends_all_in_order_and_pressing_it_again_does_no_harm() {
    let world = World::of_size(3);
    let mut launcher = world.launch_ready(&[], 3);
    launcher.signal(Signal::INT);
    launcher.signal(Signal::INT);
    launcher.signal(Signal::TERM);
    let status = launcher.end();
    assert!(status.success(), "{status}");
    assert!(world.consul.instances("ringkv").is_empty());
    assert!(pids_of(&world.consul.url).is_empty());
}

#[test]
fn two_launchers_share_a_cluster_and_found_it_once() {
    let world = World::of_size(4);
    let one = world.launch(&["--nodes", "0,1"]);
    let mut two = world.launch(&["--nodes", "2,3"]);
    one.ready(4);
    two.ready(4);
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    two.terminate();
    assert_eq!(world.consul.healthy("ringkv"), ["ringkv-node-0", "ringkv-node-1"], "it ended its own alone");
}

#[test]
fn another_cluster_lives_beside_the_default_one() {
    let world = World::of_size(1);
    let mut default = world.launch_ready(&[], 1);
    world.consul.put("blue/cluster_size", "2");
    let base = (world.ports.base + 4).to_string();
    let mut blue = world.launch_ready(&["--cluster", "blue", "--port", &base], 2);
    assert_eq!(world.consul.healthy("blue"), ["blue-node-0", "blue-node-1"]);
    assert_eq!(world.consul.epoch("blue/ring"), 1);
    blue.terminate();
    assert_eq!(world.consul.healthy("ringkv").len(), 1);
    default.terminate();
}

#[test]
fn a_node_joins_by_any_node_and_two_at_once_become_two() {
    let world = World::of_size(2);
    let launcher = world.launch_ready(&[], 2);
    let at = format!("127.0.0.1:{}", world.port(1));
    let base = world.ports.base.to_string();
    // Neither knows of Consul.
    let joins: Vec<_> = (0..2).map(|_| world.run(&["--join", &at, "--port", &base])).collect();
    launcher.ready(4);
    for join in &joins {
        join.ready(4);
        join.logged("has joined");
    }
    assert_eq!(world.consul.epoch("ringkv/ring"), 9);
    assert_eq!(world.consul.healthy("ringkv").len(), 4);
}

#[test]
fn a_file_says_all_that_options_say() {
    let world = World::with(Consul::embedded());
    let addresses = [world.port(3), world.port(5)].map(|port| format!("127.0.0.1:{port}"));
    let file = world.folder.path().join("ringkv.json");
    let config = json!({"addresses": addresses, "consul": world.consul.url, "mode": "hrw", "partitions": 64});
    std::fs::write(&file, config.to_string()).unwrap();
    let mut launcher = world.run(&["--config", file.to_str().unwrap()]);
    launcher.ready(2);
    assert_eq!(world.consul.get("cluster_size").as_deref(), Some("2"));
    let ring = world.consul.json("ringkv/ring").unwrap();
    assert_eq!((ring["strategy"].as_str(), ring["chosen"].as_bool()), (Some("hrw"), Some(true)));
    assert_eq!(ring["nodes"][1]["client"], world.port(5));
    launcher.terminate();
}

#[test]
fn a_node_shows_its_health_and_state_over_http() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", world.port(0) + 5_000)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse::<u16>().unwrap(), body.to_owned())
    };
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    let (code, ready) = get("/readyz");
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!((code, &ready["ready"], &ready["lost_partitions"]), (200, &json!(true), &json!([])));
    let (_, state) = get("/state");
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert_eq!(Some(&state), world.status(0).as_ref(), "the very same as STATUS says");
    let (code, metrics) = get("/metrics");
    assert!(code == 200 && metrics.contains("\nringkv_epoch 1\n"), "{metrics}");
    assert_eq!(get("/nothing").0, 404);
    launcher.terminate();
}
