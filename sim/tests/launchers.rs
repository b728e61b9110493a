//! Two launchers, and people who ask for more than one thing at a time.

use ringkv_common::ring::Verdict;
use ringkv_sim::{Cluster, Fault, Settings};

fn two_launchers(seed: u64) -> Cluster {
    Cluster::founded(Settings { launchers: 2, nodes: 3, ..Settings::quiet(seed) })
}

fn names(cluster: &Cluster) -> Vec<u16> {
    cluster.newest.iter().flat_map(|r| r.nodes.iter().map(|n| n.name.0)).collect()
}

fn settle(cluster: &mut Cluster, results: &[&str]) {
    let seed = cluster.settings.seed;
    let done = |c: &mut Cluster| results.iter().all(|r| c.consul.result(r).is_some()) && c.at_rest();
    assert!(cluster.run_until(200_000, done), "seed {seed}: no results for {results:?}");
}

fn verdict_of(cluster: &Cluster, name: &str) -> (Verdict, String) {
    let result = cluster.consul.result(name).unwrap_or_else(|| panic!("no result for {name}"));
    (result.outcome, result.message.clone())
}

fn assert_well(cluster: &mut Cluster) {
    let seed = cluster.settings.seed;
    let wrong = cluster.verdict();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
}

#[test]
fn two_adds_signalled_at_the_same_moment_are_both_done_one_after_the_other() {
    for seed in 1..=8 {
        let mut cluster = two_launchers(seed);
        cluster.signal("node-3", "add");
        cluster.signal("node-4", "add");
        settle(&mut cluster, &["node-3", "node-4"]);
        for name in ["node-3", "node-4"] {
            assert_eq!(verdict_of(&cluster, name).0, Verdict::Done, "seed {seed}: {name}");
        }
        let mut nodes = names(&cluster);
        nodes.sort_unstable();
        assert_eq!(nodes, [0, 1, 2, 3, 4], "seed {seed}");
        assert_eq!(
            cluster.newest.as_ref().map(|r| r.epoch),
            Some(9),
            "seed {seed}: each change was done once"
        );
        assert_well(&mut cluster);
        assert!(cluster.failures.is_empty(), "seed {seed}: {:?}", cluster.failures);
    }
}

#[test]
fn a_node_that_is_being_added_is_not_removed_and_the_refusal_comes_at_once() {
    for seed in 10..=14 {
        let mut cluster = two_launchers(seed);
        cluster.signal("node-3", "add");
        let began = |c: &mut Cluster| c.newest.as_ref().is_some_and(|r| r.change.is_some());
        assert!(cluster.run_until(60_000, began), "seed {seed}");
        cluster.signal("node-3", "remove");
        let refused =
            |c: &mut Cluster| c.consul.result("node-3").is_some_and(|r| r.outcome == Verdict::Refused);
        // The add may end first: then the removal is an ordinary one.
        let told = cluster.run_until(30_000, |c| refused(c) || c.at_rest());
        assert!(told, "seed {seed}");
        if refused(&mut cluster) {
            assert!(verdict_of(&cluster, "node-3").1.contains("just being added"), "seed {seed}");
        }
        settle(&mut cluster, &["node-3"]);
        assert_well(&mut cluster);
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let mut cluster = two_launchers(20);
    for (name, value, reason) in [
        ("node-9", "remove", "is not in the ring"),
        ("node-1", "add", "is in the ring already"),
        ("foo", "add", "names no node"),
        ("node-2", "destroy", "write add or remove"),
        ("mode", "md5", "consistent or hrw"),
    ] {
        cluster.signal(name, value);
        settle(&mut cluster, &[name]);
        let (outcome, message) = verdict_of(&cluster, name);
        assert_eq!(outcome, Verdict::Refused, "{name} {value}");
        assert!(message.contains(reason), "{name} {value}: {message}");
    }
    assert_eq!(cluster.newest.as_ref().map(|r| r.epoch), Some(1));
    assert_well(&mut cluster);
}

#[test]
fn a_launcher_that_wakes_from_a_long_pause_in_a_change_spoils_nothing() {
    for seed in 30..=37 {
        let mut cluster = two_launchers(seed);
        cluster.signal("node-3", "add");
        let began = |c: &mut Cluster| c.newest.as_ref().is_some_and(|r| r.change.is_some());
        assert!(cluster.run_until(60_000, began), "seed {seed}");
        // Long enough for its session to end, so that the other one takes over; then both are awake.
        for launcher in 0..2 {
            cluster.fault(launcher * 14_000, Fault::PauseLauncher(launcher as usize, 15_000));
        }
        cluster.signal("mode", "hrw");
        cluster.run_ms(40_000);
        settle(&mut cluster, &["node-3", "mode"]);
        assert_eq!(
            cluster.newest.as_ref().map(|r| r.epoch),
            Some(9),
            "seed {seed}: each change was done once"
        );
        assert_well(&mut cluster);
    }
}

#[test]
fn a_cluster_of_two_launchers_is_founded_once() {
    for seed in 40..=60 {
        let mut cluster = two_launchers(seed);
        cluster.run_ms(5_000);
        assert_eq!(cluster.newest.as_ref().map(|r| r.epoch), Some(1), "seed {seed}");
        assert!(cluster.said_lost().is_empty(), "seed {seed}");
        assert_well(&mut cluster);
    }
}
