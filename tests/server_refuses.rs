//! What cannot work is refused with exit code 2 and a word on what to do, and nothing is changed or left behind.
#![allow(clippy::unwrap_used)]

mod support;

use ringkv_common::ring::{ClusterId, Outcome, Ring, SignalId, Verdict};
use rustix::process::Signal;
use support::{Consul, World, until};

#[test]
fn a_size_that_is_none_is_refused_with_the_command_that_sets_it() {
    let world = World::with(Consul::embedded());
    let said = world.refused(&[]);
    assert!(said.contains("consul kv put cluster_size 4"), "{said}");
    for wrong in ["four", "", "0", "101", "-4", "\"4\"", "4.0"] {
        world.consul.put("cluster_size", wrong);
        let said = world.refused(&[]);
        assert!(
            said.contains("consul kv put cluster_size 4") && said.contains("1 to 100"),
            "{wrong:?}: {said}"
        );
        assert_eq!(world.consul.get("cluster_size").as_deref(), Some(wrong));
    }
    let huge = "9".repeat(20);
    world.consul.put("cluster_size", &huge);
    let said = world.refused(&[]);
    assert_eq!(said.matches(&huge).count(), 2, "what stands there, and what it is not: {said}");
    world.consul.put("cluster_size", &"z".repeat(300_000));
    let said = world.refused(&[]);
    assert!(said.contains("zzz…") && said.len() < 2_000, "{}", said.len());
    world.consul.put("blue/cluster_size", "x");
    let said = world.refused(&["--cluster", "blue"]);
    assert!(said.contains("consul kv put blue/cluster_size 4"), "{said}");
}

#[test]
fn the_size_on_the_command_line_sets_it_once_and_never_overwrites() {
    let world = World::with(Consul::embedded());
    let mut launcher = world.launch_ready(&["2"], 2);
    assert_eq!(world.consul.get("cluster_size").as_deref(), Some("2"));
    launcher.terminate();
    let said = world.refused(&["4"]);
    assert!(said.contains("consul kv put cluster_size 4"), "{said}");
    assert_eq!(world.consul.get("cluster_size").as_deref(), Some("2"));
}

#[test]
fn a_ring_that_cannot_be_used_is_left_as_it_is() {
    let world = World::of_size(2);
    for (ring, why) in [
        ("not json", "cannot be read"),
        (r#"{"format":99,"whatever":1}"#, "newer release"),
        (r#"{"format":1}"#, "cannot be read"),
    ] {
        world.consul.put("ringkv/ring", ring);
        let said = world.refused(&[]);
        assert!(said.contains(why) && said.contains("ringkv/ring"), "{said}");
        assert_eq!(world.consul.get("ringkv/ring").as_deref(), Some(ring));
    }
}

#[test]
fn a_ring_of_another_cluster_is_neither_obeyed_nor_overwritten() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let own = world.consul.json("ringkv/ring").unwrap()["cluster_id"].as_str().unwrap().to_owned();
    let foreign = world
        .consul
        .get("ringkv/ring")
        .unwrap()
        .replace(&own, &"f".repeat(32))
        .replace("\"epoch\":1", "\"epoch\":7");
    world.consul.put("ringkv/ring", &foreign);
    launcher.logged(&format!("of the cluster {}, ours is {own}", "f".repeat(32)));
    world.consul.put("ringkv/signals/node-2", "add");
    // The launcher that starts beside the nodes of the first says the same, and touches nothing.
    launcher.kill();
    let mut next = world.launch(&[]);
    assert_eq!(next.end().code(), Some(2));
    let said = next.stderr();
    assert!(said.contains(&own) && said.contains(&"f".repeat(32)), "{said}");
    assert_eq!(world.consul.get("ringkv/ring").as_deref(), Some(foreign.as_str()));
    for n in 0..2 {
        let status = world.status(n).unwrap();
        assert_eq!((status["epoch"].as_u64(), status["cluster_id"].as_str()), (Some(1), Some(own.as_str())));
    }
}

#[test]
fn a_ring_of_another_cluster_that_is_met_while_writing_is_not_obeyed_either() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&["--hold-at", "copy"], 2);
    let own = world.consul.get("ringkv/ring").unwrap();
    world.consul.put("ringkv/signals/node-2", "add");
    launcher.said("holding at copy");
    let mut foreign = Ring::from_json(own.as_bytes()).unwrap();
    let signal = SignalId { name: "node-9".into(), index: 1 };
    let (op, message) = ("remove node-9".to_owned(), "done by another cluster".to_owned());
    foreign.last = Some(Outcome { op, outcome: Verdict::Done, message, epoch: 7, moved: 0, signal });
    (foreign.cluster_id, foreign.epoch) = (ClusterId(7), 7);
    let foreign = foreign.to_json().unwrap();
    world.consul.put("ringkv/ring", &foreign);
    launcher.signal(Signal::USR1);
    launcher.logged("another program wrote a ring of the cluster 00000000000000000000000000000007");
    assert_eq!(world.consul.get("ringkv/ring").as_deref(), Some(foreign.as_str()), "it is left as it is");

    // Somebody repairs it, and the change goes on.
    world.consul.put("ringkv/ring", &own);
    let result = until("result", || world.consul.json("ringkv/results/node-2"));
    assert_eq!(result["outcome"], "done", "{result}");
    assert_eq!(world.consul.get("ringkv/results/node-9"), None, "that was not ours to answer");
    launcher.terminate();
}

#[test]
fn without_consul_nothing_starts() {
    let mut world = World::of_size(2);
    world.consul.stop();
    let said = world.refused(&[]);
    assert!(said.contains(&format!("no answer from Consul at {}", world.consul.url)), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_refused_and_memory_needs_none() {
    let world = World::of_size(1);
    let file = world.folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    for folder in [file.to_str().unwrap(), "/proc/ringkv"] {
        let said = world.refused(&["--data-dir", folder]);
        assert!(
            said.contains(&format!("--data-dir {folder} cannot be used")) && said.contains("--memory"),
            "{said}"
        );
        // What --dev keeps there it cannot keep either.
        let at = format!("http://127.0.0.1:{}", world.port(15));
        let mut dev = world.run(&["--dev", "--data-dir", folder, "--consul", &at]);
        assert_eq!(dev.end().code(), Some(2), "{}", dev.stderr());
        assert!(dev.stderr().contains(folder), "{}", dev.stderr());
    }
    let mut launcher = world.launch_ready(&["--memory", "--data-dir", file.to_str().unwrap()], 1);
    launcher.terminate();
    assert!(!world.folder.path().join("ringkv-data").exists(), "nothing is written");
}

#[test]
fn who_joins_a_cluster_whose_consul_does_not_answer_is_told_which_and_by_whom() {
    let mut world = World::of_size(1);
    let mut launcher = world.launch_ready(&[], 1);
    let at = format!("127.0.0.1:{}", world.port(0));
    let base = world.ports.base.to_string();
    world.consul.stop();
    let mut join = world.run(&["--join", &at, "--port", &base]);
    assert_eq!(join.end().code(), Some(2));
    let said = join.stderr();
    let named = format!("node-0 at {at} goes by the Consul at {}", world.consul.url);
    assert!(
        said.contains(&named) && said.contains("--consul") && said.contains("no answer from Consul"),
        "{said}"
    );
    launcher.terminate();
}

#[test]
fn wrong_options_are_refused_by_name() {
    let world = World::of_size(2);
    for (args, hint) in [
        (&["--nope"][..], "--nope"),
        (&["--replicas", "17"], "--replicas is 17: it may be 1 to 16"),
        (&["--replicas", "3", "--read-quorum", "4"], "--read-quorum is 4: of 3 replicas 1 to 3 can answer"),
        (&["--write-quorum", "0"], "--write-quorum is 0"),
        (&["--quorum", "some"], "sloppy or strict"),
        (&["--durability=disk"], "later release"),
        (&["--bind", "0.0.0.0"], "--insecure-network"),
        (&["--nodes", "100", "--port", "65000"], "--port"),
        (&["--config", "/nonexistent.json"], "/nonexistent.json"),
        (&["--partitions", "100"], "power of two"),
        (&["--join", "nobody"], "HOST:PORT"),
        (&["--join", "::1"], "--join is \"::1\": it takes HOST:PORT"),
        (&["--join", "::1:2000"], "an IPv6 address in brackets: [::1]:2000"),
        (&["--join", "127.0.0.1:99999"], "its port is 99999; a port is 1 to 65535"),
        (&["--join", "127.0.0.1:"], "no port follows the colon"),
        (&["--join", "127.0.0.1:1"], "no node answers"),
        (&["--cluster", "a/b"], "--cluster"),
        (&["--hold-at", "x"], "steps are"),
    ] {
        let said = world.refused(args);
        assert!(said.contains(hint), "{args:?}: {said}");
    }
}

#[test]
fn a_node_that_is_healthy_elsewhere_is_not_started_a_second_time() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    let other = (world.ports.base + 8).to_string();
    let mut second = world.launch(&["--port", &other]);
    assert_eq!(second.end().code(), Some(2));
    let said = second.stderr();
    assert!(
        said.contains("--join") && said.contains(&format!("node-0 at 127.0.0.1:{}", world.port(0))),
        "{said}"
    );
    launcher.terminate();
}

#[test]
fn reset_forgets_a_cluster_only_while_none_of_its_nodes_runs() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&[], 2);
    world.consul.put("ringkv/results/node-9", "{}");
    let mut reset = world.launch(&["--reset"]);
    assert_eq!(reset.end().code(), Some(2));
    assert!(reset.stderr().contains("nodes run: node-0 at"), "{}", reset.stderr());
    assert_eq!(world.consul.epoch("ringkv/ring"), 1);
    launcher.terminate();

    let mut reset = world.launch(&["--reset"]);
    assert!(reset.end().success(), "{}", reset.stderr());
    reset.said("forgot ringkv/ring, ringkv/results/node-9");
    assert_eq!(
        (world.consul.get("ringkv/ring"), world.consul.get("cluster_size").as_deref()),
        (None, Some("2"))
    );
    let mut again = world.launch_ready(&[], 2);
    again.terminate();
}
