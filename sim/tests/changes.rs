//! Membership changes under load, with nothing else going wrong: nothing fails and nothing is lost.

use ringkv_common::ring::Verdict;
use ringkv_sim::{Cluster, Settings};

fn change(cluster: &mut Cluster, name: &str, value: &str) {
    let seed = cluster.settings.seed;
    cluster.signal(name, value);
    let ended = cluster.run_until(120_000, |c| c.consul.result(name).is_some());
    assert!(ended, "seed {seed}: {name} {value} did not end");
    let result = cluster.consul.result(name).cloned().expect("just seen");
    assert_eq!(result.outcome, Verdict::Done, "seed {seed}: {name} {value}: {result:?}");
    assert!(cluster.run_until(60_000, Cluster::at_rest), "seed {seed}: no rest after {name} {value}");
}

fn twenty_changes(seed: u64, mode: &str) {
    let mut cluster = Cluster::founded(Settings::quiet(seed));
    change(&mut cluster, "mode", mode);
    for n in 0..10 {
        change(&mut cluster, &format!("node-{}", 4 + n), "add");
        change(&mut cluster, &format!("node-{n}"), "remove");
    }
    let wrong = cluster.verdict();
    assert!(wrong.is_empty(), "seed {seed}, {mode}: {wrong:#?}");
    assert!(cluster.failures.is_empty(), "seed {seed}, {mode}: {:?}", cluster.failures);
    assert!(cluster.operations > 1_000, "{}", cluster.operations);
}

#[test]
fn twenty_adds_and_removes_under_load_fail_nothing_and_lose_nothing_with_consistent_hashing() {
    (1..=2).for_each(|seed| twenty_changes(seed, "consistent"));
}

#[test]
fn twenty_adds_and_removes_under_load_fail_nothing_and_lose_nothing_with_rendezvous_hashing() {
    (3..=4).for_each(|seed| twenty_changes(seed, "hrw"));
}

#[test]
fn migrations_to_and_fro_under_load_fail_nothing_and_lose_nothing() {
    for seed in 5..=6 {
        let mut cluster = Cluster::founded(Settings::quiet(seed));
        for mode in ["hrw", "consistent", "hrw"] {
            change(&mut cluster, "mode", mode);
        }
        let wrong = cluster.verdict();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        assert!(cluster.failures.is_empty(), "seed {seed}: {:?}", cluster.failures);
    }
}
