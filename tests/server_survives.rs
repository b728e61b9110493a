//! Launchers and nodes die; what is left goes on, and is found again.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use support::{World, ask, kill, node_pid, pids_of, until};
use support_more::change;

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

#[test]
fn an_embedded_agent_that_is_killed_is_started_again_by_its_launcher() {
    let world = World::of_size(1);
    let at = format!("127.0.0.1:{}", world.port(15));
    let mut launcher = world.launch(&["--dev", "2", "--consul", &format!("http://{at}")]);
    launcher.ready(2);
    let agent = || {
        let is_it = |pid: &i32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split('\0').nth(1) == Some("agent")
        };
        pids_of(&at).into_iter().find(is_it)
    };
    let before = agent().unwrap();
    kill(before, Signal::KILL);
    launcher.logged("starts it again in 200ms");
    until("another agent", || agent().filter(|pid| *pid != before));
    until("an agent that answers", || TcpStream::connect(&at).ok());
    launcher.terminate();
    assert!(pids_of(&at).is_empty(), "it ends with its launcher");
}

/// A cluster of two with forty keys, whose Consul has just ended.
fn without_consul() -> (World, support::Launcher) {
    let mut world = World::of_size(2);
    let launcher = world.launch_ready(&[], 2);
    for n in 0..40 {
        let put = json!({"op": "PUT", "key": format!("k{n}"), "value": n});
        assert_eq!(ask(world.port(0), &put), Some(json!({"status": "OK"})));
    }
    world.consul.stop();
    launcher.logged("changes of the ring wait for Consul");
    (world, launcher)
}

/// Every key is there, or was only in node-1's memory and is said to be lost; returns how many are gone.
fn lost(world: &World, through: u16) -> usize {
    let get = |n: i32| {
        until("an answer", || {
            let reply = ask(world.port(through), &json!({"op": "GET_ONE", "key": format!("k{n}")}))?;
            (reply["value"] == n || reply["lost"] == true).then_some(reply)
        })
    };
    (0..40).filter(|n| get(*n)["lost"] == true).count()
}

#[test]
fn a_node_that_is_started_again_while_consul_is_away_serves_by_the_last_ring() {
    let (mut world, mut launcher) = without_consul();
    let before = node_pid(&world.consul.url, 1).unwrap();
    kill(before, Signal::KILL);
    launcher.logged("starts with the ring of epoch 1 that was kept");
    let status = until("its status", || world.status(1).filter(|s| s["epoch"] == 1));
    assert_eq!((status["pid"] != before, &status["lost_partitions"]), (true, &json!(2048)));
    let gone = lost(&world, 1);
    assert!((1..40).contains(&gone), "{gone} of 40");
    assert_eq!(lost(&world, 0), gone);
    for n in 0..40 {
        let put = json!({"op": "PUT", "key": format!("k{n}"), "value": n});
        assert_eq!(ask(world.port(1), &put), Some(json!({"status": "OK"})));
    }
    assert_eq!(lost(&world, 0), 0, "what was written again is there");

    // When Consul is back the node is there again, and the ring is the one that was.
    world.consul.start();
    launcher.logged("Consul answers again");
    until("its service", || (world.consul.healthy("ringkv").len() == 2).then_some(()));
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    assert_eq!(ask(world.port(1), &json!({"op": "ACCEPT_LOSS"})).unwrap()["status"], "OK");
    world.consul.put("ringkv/signals/node-2", "add");
    launcher.ready(3);
    assert_eq!(lost(&world, 2), 0);
    launcher.terminate();
}

#[test]
fn a_launcher_that_is_started_while_consul_is_away_adopts_and_starts_the_nodes_of_the_last_ring() {
    let (mut world, mut first) = without_consul();
    first.kill();
    let adopted = node_pid(&world.consul.url, 0).unwrap();
    kill(node_pid(&world.consul.url, 1).unwrap(), Signal::KILL);
    let mut second = world.launch(&[]);
    second.logged("goes by the ring of epoch 1 that was kept in ringkv-data/ringkv");
    second.logged("adopts node-0");
    until("node-1", || world.status(1).filter(|s| s["epoch"] == 1));
    assert_eq!(node_pid(&world.consul.url, 0), Some(adopted));
    lost(&world, 0);
    world.consul.start();
    second.ready(2);
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    second.terminate();
}

#[test]
fn a_removed_node_and_a_reset_cluster_leave_no_ring_behind() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let kept = |n: u16| world.folder.path().join(format!("ringkv-data/ringkv/node-{n}/ring.json"));
    until("both rings", || (kept(0).exists() && kept(1).exists()).then_some(()));
    world.consul.put("ringkv/signals/node-1", "remove");
    until("the end of node-1", || node_pid(&world.consul.url, 1).is_none().then_some(()));
    assert!(kept(0).exists() && !kept(1).exists());
    let text = std::fs::read_to_string(kept(0)).unwrap();
    assert_eq!(Some(text), world.consul.get("ringkv/ring"), "as it stands in Consul");
    launcher.terminate();
    let mut reset = world.launch(&["--reset"]);
    assert!(reset.end().success(), "{}", reset.stderr());
    reset.said("forgot the ring in the folders of nodes in ringkv-data/ringkv: 1");
    assert!(!kept(0).exists());
}

#[test]
fn the_end_of_a_node_that_was_meant_is_no_death() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let old = node_pid(&world.consul.url, 1).unwrap();
    kill(old, Signal::TERM);
    launcher.logged("node-1 has ended (exit status: 0): starts it again");
    until("a new process", || world.status(1).filter(|s| s["epoch"] == 1 && s["pid"] != old));
    let accepted = ask(world.port(1), &json!({"op": "ACCEPT_LOSS"})).unwrap();
    assert_eq!(accepted["status"], "OK", "what it held went with its memory: {accepted}");
    change(&world.consul, "node-1", "remove");
    // It goes on forwarding for a few seconds: so it mostly ends when its name is wanted again.
    change(&world.consul, "node-1", "add");
    until("node-1 in the ring", || world.status(1).filter(|s| s["epoch"] == 9));
    let said = launcher.stderr();
    assert!(!said.contains("ERROR") && !said.contains("died"), "{said}");
    launcher.terminate();
}

#[test]
fn rubbish_in_the_rings_place_is_complained_of_once_however_often_it_is_met() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let ring = world.consul.get("ringkv/ring").unwrap();
    world.consul.put("ringkv/ring", "rubbish");
    // The orchestrator would write a ring now, and meets the rubbish with every attempt.
    world.consul.put("ringkv/signals/mode", "hrw");
    let complaints = || {
        let said = launcher.stderr();
        let lines = said.lines().filter(|line| line.contains("the ring in Consul is of no use"));
        // Without the time in front.
        let mut lines: Vec<String> = lines.filter_map(|l| Some(l.split_once(' ')?.1.to_owned())).collect();
        lines.sort();
        lines
    };
    until("complaints of the launcher and of all nodes", || (complaints().len() >= 3).then_some(()));
    // Its attempts are half a second apart. That nothing is said can only be waited for.
    std::thread::sleep(Duration::from_secs(3));
    let mut once = complaints();
    once.dedup();
    assert_eq!(complaints(), once);
    world.consul.put("ringkv/ring", &ring);
    let done = || world.consul.json("ringkv/results/mode").filter(|r| r["outcome"] == "done");
    until("the migration's end", done);
    launcher.terminate();
}

/// A client of ZeroMQ's protocol by hand, that has said hello and sends without waiting for anything.
fn raw_client(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut hello = [0; 64];
    hello[0] = 0xFF;
    hello[9] = 0x7F;
    hello[10] = 3;
    hello[12..16].copy_from_slice(b"NULL");
    stream.write_all(&hello).unwrap();
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0";
    stream.write_all(&[4, ready.len() as u8]).unwrap();
    stream.write_all(ready).unwrap();
    stream.read_exact(&mut [0; 64 + 2]).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn a_crowd_that_asks_for_much_and_hangs_up_ends_no_node() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let before = node_pid(&world.consul.url, 0).unwrap();
    let body = br#"{"op":"PUT","key":"k","value":1}"#;
    let one = [&[0, body.len() as u8][..], body].concat();
    let all = one.repeat(1_300);
    let mut crowd: Vec<(TcpStream, usize)> = (0..900).map(|_| (raw_client(world.port(0)), 0)).collect();
    // As much as each can send now: the node reads for more than a heartbeat's time.
    for (stream, sent) in &mut crowd {
        while *sent < all.len() {
            match stream.write(&all[*sent..]) {
                Ok(bytes) => *sent += bytes,
                Err(_) => break,
            }
        }
    }
    let many = crowd.len() as u64;
    drop(crowd);
    // It has come to the end of each.
    let ended = |status: &serde_json::Value| {
        status["pid"].as_i64() != Some(i64::from(before))
            || status["connections_ended"].as_u64() >= Some(many)
    };
    let status = until("the end of all connections", || world.status(0).filter(ended));
    assert_eq!(status["pid"].as_i64(), Some(i64::from(before)), "the very same process");
    launcher.terminate();
    assert!(!launcher.stderr().contains("died"), "{}", launcher.stderr());
}
