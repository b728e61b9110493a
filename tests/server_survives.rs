//! Launchers and nodes die; what is left goes on, and is found again.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::json;
use support::{World, ask, kill, node_pid, pids_of, until};

#[test]
fn nodes_outlive_a_killed_launcher_and_the_next_one_adopts_them() {
    let world = World::of_size(3);
    let mut first = world.launch_ready(&[], 3);
    let put = json!({"op": "PUT", "key": "k", "value": "v"});
    assert_eq!(ask(world.port(0), &put), Some(json!({"status": "OK"})));
    let pids = || (0..3).map(|n| node_pid(&world.consul.url, n).unwrap()).collect::<Vec<_>>();
    let before = pids();
    first.kill();
    let mut second = world.launch_ready(&[], 3);
    assert_eq!(pids(), before, "the very same processes");
    let get = json!({"op": "GET_ONE", "key": "k"});
    assert_eq!(ask(world.port(2), &get), Some(json!({"key": "k", "value": "v"})));
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    second.terminate();
    assert!(pids_of(&world.consul.url).is_empty(), "adopted ones end, too");
    assert!(world.consul.instances("ringkv").is_empty());
}

#[test]
fn a_killed_node_is_started_again_and_says_what_it_lost() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let before = node_pid(&world.consul.url, 1).unwrap();
    kill(before, Signal::KILL);
    let after = until("new process", || node_pid(&world.consul.url, 1).filter(|pid| *pid != before));
    let status = until("its status with a ring", || world.status(1).filter(|s| s["epoch"] == 1));
    assert_eq!(
        (status["pid"].as_i64(), status["lost_partitions"].as_u64()),
        (Some(i64::from(after)), Some(2048))
    );
    // The pause grows with each death.
    kill(after, Signal::KILL);
    launcher.logged("starts it again in 200ms");
    launcher.logged("starts it again in 400ms");
    until("third process", || world.status(1));
    launcher.terminate();
}

#[test]
fn a_second_launcher_of_the_same_nodes_is_refused_while_the_first_lives() {
    let world = World::of_size(2);
    let mut first = world.launch_ready(&[], 2);
    for args in [&[][..], &["--nodes", "1"]] {
        let mut second = world.launch(args);
        assert_eq!(second.end().code(), Some(2));
        let said = second.stderr();
        assert!(said.contains(&format!("another launcher, pid {}", first.pid())), "{said}");
    }
    assert_eq!(pids_of(&world.consul.url).len(), 2);
    first.terminate();
}

#[test]
fn a_port_in_use_names_its_holder_and_nothing_is_started() {
    let world = World::of_size(2);
    let _stranger = std::net::TcpListener::bind(("127.0.0.1", world.port(1) + 5_000)).unwrap();
    let said = world.refused(&[]);
    let expected = format!(
        "port {}, which node-1 needs, is in use by pid {}",
        world.port(1) + 5_000,
        std::process::id()
    );
    assert!(said.contains(&expected), "{said}");
    assert!(world.consul.instances("ringkv").is_empty());
}

#[test]
fn while_consul_is_away_nodes_serve_and_later_changes_go_on() {
    let mut world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    world.consul.stop();
    launcher.logged("changes of the ring wait for Consul");
    let put = json!({"op": "PUT", "key": "k", "value": 1});
    for n in 0..2 {
        assert_eq!(ask(world.port(n), &put), Some(json!({"status": "OK"})));
    }
    world.consul.start();
    launcher.logged("Consul answers again");
    world.consul.put("ringkv/signals/node-2", "add");
    launcher.ready(3);
    launcher.terminate();
}

#[test]
fn a_wiped_consul_gets_the_ring_back_and_no_new_cluster_is_founded() {
    let mut world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    world.consul.put("ringkv/signals/node-2", "add");
    until("end of the add", || (world.consul.epoch("ringkv/ring") == 5).then_some(()));
    let before = world.consul.get("ringkv/ring");
    world.consul.wipe();
    // The trap: the size that would found a cluster is there at once.
    world.consul.put("cluster_size", "2");
    until("the ring", || (world.consul.get("ringkv/ring") == before).then_some(()));
    until("all nodes in the catalog", || (world.consul.healthy("ringkv").len() == 3).then_some(()));

    // And where the launcher died with Consul's memory, the next one finds the nodes by the catalog.
    launcher.kill();
    world.consul.wipe();
    until("nodes in the catalog", || (world.consul.healthy("ringkv").len() == 3).then_some(()));
    let mut next = world.launch_ready(&[], 3);
    until("the ring", || (world.consul.get("ringkv/ring") == before).then_some(()));
    assert_eq!(world.consul.get("cluster_size"), None, "nobody asked for it");
    next.terminate();
}

#[test]
fn the_embedded_agent_of_dev_ends_with_its_launcher_and_outlives_a_killed_one() {
    let world = World::of_size(1);
    let url = format!("http://127.0.0.1:{}", world.port(15));
    let args = ["--dev", "2", "--consul", &url];
    let launch = || {
        let launcher = world.launch(&args);
        launcher.ready(2);
        launcher
    };
    let agents = || pids_of(&format!("127.0.0.1:{}", world.port(15))).len();
    let mut first = launch();
    assert_eq!(agents(), 3, "an agent and two nodes");
    first.kill();
    let mut second = launch();
    assert_eq!(agents(), 3);
    second.terminate();
    assert_eq!(agents(), 0);
    // Its state is kept: the ring that was founded is the ring.
    let mut third = launch();
    assert!(!third.stderr().contains("wrote the ring"), "{}", third.stderr());
    third.terminate();
}
