//! What operators do by hand, with the stock `consul kv put` or two at once, and what they are told when it cannot be.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;
use support::{Consul, World, ask, kill, node_pid, until};
use support_more::{change, consul_binary, producer, refused, run};

/// A world beside a real Consul, of so many nodes, none started yet.
fn real_world(test: &str, size: u16) -> Option<World> {
    let consul = Consul::real(test)?;
    consul.put("cluster_size", &size.to_string());
    Some(World::with(consul))
}

/// The stock command.
fn kv_put(world: &World, key: &str, value: &str) -> Command {
    let mut command = Command::new(consul_binary().expect("a real Consul runs"));
    command.args(["kv", "put", key, value]).env("CONSUL_HTTP_ADDR", &world.consul.url);
    command
}

/// Writes a signal with the stock command and returns the reason of its refusal.
fn refused_by_hand(world: &World, name: &str, value: &str) -> String {
    run(&mut kv_put(world, &format!("ringkv/signals/{name}"), value)).ok();
    let key = format!("ringkv/results/{name}");
    let result = until(&format!("answer for {name}"), || world.consul.json(&key));
    assert_eq!(result["outcome"], "refused", "{result}");
    world.consul.client.delete(&key).unwrap();
    until("signal's end", || world.consul.get(&format!("ringkv/signals/{name}")).is_none().then_some(()));
    result["message"].as_str().unwrap().to_owned()
}

#[test]
fn signals_that_cannot_be_followed_are_refused_with_the_reason() {
    let Some(world) = real_world("signals_that_cannot_be_followed_are_refused_with_the_reason", 1) else {
        return;
    };
    let mut launcher = world.launch_ready(&[], 1);
    for (name, value, why) in [
        ("foo", "add", "\"foo\" names no node"),
        ("node-04", "add", "without leading zeros"),
        ("node-0", "remove", "the last node"),
        ("node-9", "remove", "node-9 is not in the ring: it has node-0"),
        ("node-0", "add", "in the ring already"),
        ("node-1", "dance", "add"),
        ("node-1", r#"{"op":"add","host":"#, "add"),
        ("mode", "random", "hrw"),
    ] {
        let said = refused_by_hand(&world, name, value);
        assert!(said.contains(why), "{name} {value}: {said}");
    }
    assert_eq!(world.consul.epoch("ringkv/ring"), 1, "nothing was begun");
    assert!(launcher.runs());
    launcher.terminate();
}

#[test]
fn a_signal_without_a_name_is_answered_and_a_folder_is_none() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    // What Consul's web page writes where one makes a folder.
    world.consul.put("ringkv/signals/", "");
    refused(&world.consul, "foo", "add");
    assert_eq!(
        world.consul.get("ringkv/signals/").as_deref(),
        Some(""),
        "it stays until its maker removes it"
    );
    let said = refused(&world.consul, "", "add");
    assert!(said.contains("signals/node-<n>") && said.contains("signals/mode"), "{said}");
    until("signal's end", || world.consul.get("ringkv/signals/").is_none().then_some(()));
    launcher.logged(&said);
    assert_eq!(world.consul.epoch("ringkv/ring"), 1, "nothing was begun");
    launcher.terminate();
}

#[test]
fn a_node_that_is_being_added_is_not_removed() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    run(&mut producer(&world, &["--mode", "consistent", "--count", "20000"])).ok();
    // A small cluster's add may be over before the removal is seen: then it is tried again.
    let said = until("removal while the add runs", || {
        world.consul.client.delete("ringkv/results/node-2").unwrap();
        world.consul.put("ringkv/signals/node-2", "add");
        until("add's begin", || {
            let ring = world.consul.json("ringkv/ring")?;
            (ring["change"]["op"] == "add" || world.consul.get("ringkv/results/node-2").is_some())
                .then_some(())
        });
        world.consul.put("ringkv/signals/node-2", "remove");
        let result = until("answer to the removal", || {
            world.consul.json("ringkv/results/node-2").filter(|r| r["op"] == "remove node-2")
        });
        (result["outcome"] == "refused").then(|| result["message"].as_str().unwrap().to_owned())
    });
    assert!(said.contains("node-2 is just being added"), "{said}");
    launcher.ready(3);
    run(&mut producer(&world, &["remove-node", "node-2"])).ok();
    launcher.terminate();
}

#[test]
fn of_two_clients_at_the_same_moment_one_is_refused_backs_off_and_both_succeed() {
    let test = "of_two_clients_at_the_same_moment_one_is_refused_backs_off_and_both_succeed";
    let Some(world) = real_world(test, 2) else { return };
    // The first change is held until the second client was refused: so they meet however busy the machine is.
    let mut launcher = world.launch_ready(&["--hold-at", "both"], 2);
    let folder = world.folder.path();
    let mut clients = ["a.err", "b.err"].map(|err| {
        let mut command = producer(&world, &["add-node"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join(err)).unwrap());
        command.spawn().unwrap()
    });
    let refusals = || {
        let said = ["a.err", "b.err"].map(|err| fs::read_to_string(folder.join(err)).unwrap());
        said.map(|said| said.contains("refused: ") && said.contains("trying again in"))
    };
    until("refusal of one", || refusals().contains(&true).then_some(()));
    launcher.said("holding at both");
    launcher.signal(Signal::USR1);
    for client in &mut clients {
        let status = until("end of a client", || client.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
    assert_ne!(refusals()[0], refusals()[1], "one was refused, the other was not");
    launcher.ready(4);
    assert_eq!(world.consul.healthy("ringkv").len(), 4);
    assert_eq!(world.consul.epoch("ringkv/ring"), 9, "two changes, four rings each");
    launcher.terminate();
}

#[test]
fn two_programs_that_write_the_same_signal_do_no_harm() {
    let Some(world) = real_world("two_programs_that_write_the_same_signal_do_no_harm", 2) else { return };
    let mut launcher = world.launch_ready(&[], 2);
    let put = || kv_put(&world, "ringkv/signals/node-2", "add").stdout(Stdio::null()).spawn().unwrap();
    for mut child in [put(), put()] {
        assert!(child.wait().unwrap().success());
    }
    launcher.ready(3);
    // A third one comes when it is done, and all are answered.
    let said = refused_by_hand_when_done(&world);
    assert!(said.contains("node-2 is in the ring already"), "{said}");
    assert_eq!(world.consul.epoch("ringkv/ring"), 5, "one change");
    assert_eq!(world.consul.healthy("ringkv").len(), 3);
    launcher.terminate();
}

fn refused_by_hand_when_done(world: &World) -> String {
    until("end of the add", || (world.consul.epoch("ringkv/ring") == 5).then_some(()));
    until("all answered", || world.consul.get("ringkv/signals/node-2").is_none().then_some(()));
    until("its result", || world.consul.get("ringkv/results/node-2"));
    refused(&world.consul, "node-2", "add")
}

#[test]
fn a_load_names_its_broken_lines_and_loads_the_rest() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let lines = [
        r#"{"key":"a","value":1}"#,
        r#"{"key":"b","value":"#,
        r#"{"key":"c","value":{"x":[2.50]}}"#,
        "not json",
        r#"{"key":"","value":1}"#,
        r#"{"key":"d","value":"é"}"#,
    ];
    fs::write(world.folder.path().join("in.jsonl"), lines.join("\n")).unwrap();
    let ran = run(&mut producer(&world, &["load", "in.jsonl", "--json"]));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    for line in 1..=6 {
        let told = ran.stderr.lines().any(|said| said.starts_with(&format!("line {line}: ")));
        assert_eq!(told, [2, 4, 5].contains(&line), "line {line}: {}", ran.stderr);
    }
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one result");
    assert_eq!((&summary["loaded"], &summary["broken"]), (&json!(3), &json!(3)), "{summary}");
    let found = run(&mut producer(&world, &["get", "c", "--raw"])).ok();
    assert_eq!(found, r#"{"x":[2.50]}"#);
    assert_eq!(run(&mut producer(&world, &["get", "d"])).ok(), "é\n");
    launcher.terminate();
}

#[test]
fn what_a_killed_node_lost_is_told_and_nothing_moves_before_that_is_accepted() {
    let world = World::of_size(3);
    let mut launcher = world.launch_ready(&[], 3);
    run(&mut producer(&world, &["--mode", "consistent", "--count", "300"])).ok();
    let get = |n: u16| json!({"op": "GET_ONE", "key": format!("key-{n}")});
    let held: u64 = world.status(1).unwrap()["keys"].as_u64().unwrap();
    assert!(held > 0);
    let before = world.consul.epoch("ringkv/ring");
    kill(node_pid(&world.consul.url, 1).unwrap(), Signal::KILL);
    let lost = until("loss in its status", || {
        world.status(1).and_then(|s| s["lost_partitions"].as_u64()).filter(|n| *n > 0)
    });
    assert!(lost > 1_000, "a third of 4,096, about: {lost}");

    // Every key is there or said to be lost, whoever is asked.
    until("every node to reach it again", || {
        let replies: Vec<_> = (0..300).map(|n| ask(world.port(0), &get(n))).collect::<Option<_>>()?;
        let known = replies.iter().all(|r| r.get("value").is_some() || r["code"] == "KEY_NOT_FOUND");
        known.then_some(())
    });
    let replies: Vec<_> = (0..300).map(|n| ask(world.port(2), &get(n)).unwrap()).collect();
    let gone = replies.iter().filter(|r| r["code"] == "KEY_NOT_FOUND" && r["lost"] == true).count() as u64;
    let there = replies.iter().filter(|r| r.get("value").is_some()).count() as u64;
    assert_eq!((gone, there), (held, 300 - held));

    let said = refused(&world.consul, "node-3", "add");
    assert!(said.contains("node-1") && said.contains(&format!("lost {lost} partitions")), "{said}");
    assert!(said.contains("client_producer accept-loss"), "{said}");
    assert_eq!(world.consul.epoch("ringkv/ring"), before, "nothing was begun");

    run(&mut producer(&world, &["accept-loss"])).ok();
    assert_eq!(world.status(1).unwrap()["lost_partitions"], 0);
    change(&world.consul, "node-3", "add");
    let replies: Vec<_> = (0..300).map(|n| ask(world.port(2), &get(n)).unwrap()).collect();
    assert_eq!(replies.iter().filter(|r| r.get("value").is_some()).count() as u64, there);
    assert!(replies.iter().all(|r| r.get("lost").is_none()), "the loss was accepted");
    launcher.terminate();
}

#[test]
fn a_load_of_all_there_was_ends_what_a_killed_node_calls_lost() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    run(&mut producer(&world, &["--mode", "consistent", "--count", "100"])).ok();
    run(&mut producer(&world, &["dump", "all.jsonl"])).ok();
    kill(node_pid(&world.consul.url, 1).unwrap(), Signal::KILL);
    let lost = || world.status(1).and_then(|s| s["lost_partitions"].as_u64());
    let count = until("loss in its status", || lost().filter(|n| *n > 0));
    until("its connection", || {
        (0..100)
            .all(|n| {
                ask(world.port(0), &json!({"op": "GET_ONE", "key": format!("key-{n}")}))
                    .is_some_and(|r| r["code"] != "TIMEOUT")
            })
            .then_some(())
    });

    // Some file or other ends nothing: that is for whoever knows what was there to say.
    let ran = run(&mut producer(&world, &["load", "all.jsonl"]));
    assert!(ran.stderr.contains("client_producer accept-loss node-1"), "{}", ran.stderr);
    assert_eq!((ran.code, lost()), (Some(0), Some(count)));
    let ran = run(&mut producer(&world, &["load", "all.jsonl", "--accept-loss", "--json"])).ok();
    let summary: serde_json::Value = serde_json::from_str(&ran).unwrap();
    assert_eq!((&summary["accepted_partitions"], &summary["lost_partitions"]), (&json!(count), &json!(0)));
    assert_eq!(lost(), Some(0));
    change(&world.consul, "node-2", "add");
    run(&mut producer(&world, &["--count", "100"])).ok();
    launcher.terminate();
}

#[test]
fn a_number_without_a_port_of_its_own_is_refused_with_the_option_that_gives_one() {
    let world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let far = (u32::from(u16::MAX) - u32::from(world.ports.base)).to_string();
    let said = refused(&world.consul, &format!("node-{far}"), "add");
    assert!(said.contains("port"), "{said}");
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    launcher.terminate();
}

#[test]
fn a_launcher_that_starts_again_does_not_repeat_an_answer_over_a_later_one() {
    let world = World::of_size(2);
    let mut first = world.launch_ready(&[], 2);
    change(&world.consul, "node-2", "add");
    let key = "ringkv/results/node-2";
    let done = world.consul.client.get(key).unwrap().unwrap();
    let next = |mut old: support::Launcher| {
        old.kill();
        let new = world.launch_ready(&[], 3);
        // Answers are given in order: what the new one had to say of the last change it has said now.
        refused(&world.consul, "foo", "add");
        new
    };
    first = next(first);
    assert_eq!(world.consul.client.get(key).unwrap().unwrap(), done, "the same answer is written once");
    let said = refused(&world.consul, "node-2", "add");
    assert!(said.contains("in the ring already"), "{said}");
    first = next(first);
    assert_eq!(world.consul.json(key).unwrap()["message"], said, "the later answer stands");
    first.terminate();
}
