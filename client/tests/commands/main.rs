//! The commands against the small cluster.
#![allow(clippy::unwrap_used)]

mod changes;
#[path = "../double/mod.rs"]
mod double;
mod files;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ringkv_client::commands::bench::{self, Bench, bench};
use ringkv_client::commands::plan::{Newcomer, plan};
use ringkv_client::commands::producer::{Producer, produce};
use ringkv_client::commands::records::{self, Verb, Write};
use ringkv_client::commands::{Console, Failure, Outcome, explain, status, versions, wait, why};
use ringkv_client::{Client, Options, Scope, Value};
use ringkv_common::message::Code;
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Kind, Ring};

use double::membership::FakeMembership;
use double::{FakeCluster, Trick};

fn options() -> Options {
    Options { timeout: Duration::from_secs(5), attempt: Duration::from_millis(300), ..Options::default() }
}

fn client(cluster: &FakeCluster) -> Client {
    Client::with_ring_and(cluster.ring(), options())
}

/// Runs a command and returns how it ended and what it printed.
fn printed(json: bool, run: impl FnOnce(&mut Console) -> Outcome) -> (Outcome, String) {
    let mut out = Vec::new();
    let outcome = run(&mut Console::new(&mut out, json));
    (outcome, String::from_utf8(out).unwrap())
}

fn json(run: impl FnOnce(&mut Console) -> Outcome) -> (Outcome, serde_json::Value) {
    let (outcome, text) = printed(true, run);
    (outcome, serde_json::from_str(&text).unwrap_or_default())
}

fn why_not(outcome: Outcome) -> (u8, String) {
    let Failure { exit, error, .. } = outcome.expect_err("it must fail");
    (exit, format!("{error:#}"))
}

fn producer(count: u64) -> Producer {
    Producer { count, prefix: "p-".into(), value_size: 12 }
}

#[test]
fn the_producer_finds_every_record_where_it_belongs() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    client.put("p-007", "not one of the producer's").unwrap();
    let (outcome, verdict) = json(|console| produce(&mut client, console, &producer(500)));
    outcome.unwrap();
    for field in ["written", "read_back", "listed"] {
        assert_eq!(verdict[field], 500, "{field}");
    }
    let spread = verdict["spread"].as_array().unwrap();
    assert_eq!(spread.iter().map(|s| s["records"].as_u64().unwrap()).sum::<u64>(), 500);
    let (outcome, text) = printed(false, |console| produce(&mut client, console, &producer(500)));
    outcome.unwrap();
    assert!(text.contains("node-2") && text.contains("all is there"), "{text}");
}

#[test]
fn the_producer_fails_where_a_node_lies() {
    let cluster = FakeCluster::new(1);
    let mut client = client(&cluster);
    // Every node's ring says that somebody else leads half of the keys, so nobody lists these.
    let mut liar = FakeCluster::new(1);
    let newcomer = liar.start_another();
    let mut ring: Ring = liar.with_added(newcomer);
    (ring.cluster_id, ring.epoch) = (cluster.ring().cluster_id, 1);
    ring.nodes[0].ports = cluster.ring().nodes[0].ports;
    cluster.set_ring_of(0, ring);
    let (outcome, verdict) = json(|console| produce(&mut client, console, &producer(100)));
    let missing = verdict["missing"].as_array().unwrap().len();
    assert!((1..100).contains(&missing), "{verdict}");
    let (exit, why) = why_not(outcome);
    assert_eq!(exit, 1);
    assert!(why.contains("missing: p-"), "{why}");
}

#[test]
fn a_producer_whose_writes_fail_says_which() {
    let cluster = FakeCluster::new(1);
    cluster.play(0, Trick::Refuse(3, Code::Forbidden));
    let (outcome, _) = json(|console| produce(&mut client(&cluster), console, &producer(10)));
    let (exit, why) = why_not(outcome);
    assert!(exit == 1 && why.contains("3 failed: p-") && why.contains("missing"), "{why}");
}

#[test]
fn a_key_is_explained_in_words() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    let (outcome, text) = printed(false, |console| explain::explain(&mut c, console, "k"));
    outcome.unwrap();
    assert!(text.contains("hash: "), "fields that are not known are shown as they came: {text}");
    let (_, told) = json(|console| explain::explain(&mut c, console, "k"));
    assert_eq!(told["key"], "k");
}

#[test]
fn single_operations_print_for_people_and_for_programs() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let put = |key: &str, value: Value| Write { verb: Verb::Put, key: key.into(), value, context: None };
    let (outcome, text) = printed(false, |console| records::write(&mut c, console, put("k", "a b".into())));
    outcome.unwrap();
    assert_eq!(text, "OK\n");
    let mut get = |key: &str, json: bool, exact: bool| {
        printed(json, |console| records::get(&mut c, console, key, exact))
    };
    assert_eq!(get("k", false, false).1, "a b\n");
    assert_eq!(get("k", false, true).1, "\"a b\"");
    assert_eq!(get("k", true, false).1, "{\"key\":\"k\",\"value\":\"a b\"}\n");
    assert_eq!(why_not(get("none", false, false).0).0, 1);
    assert_eq!(why_not(get("", false, false).0).0, 2, "what is no key is for the user to change");
    let (_, text) = printed(false, |console| versions::search(&mut c, console, "k"));
    assert!(text.contains("node-0:1") && text.contains("\"a b\""), "{text}");
    let (outcome, text) = printed(false, |console| versions::show_all(&mut c, console, Some(NodeName(1))));
    outcome.unwrap();
    assert_eq!(text, "k\tnode-0:1\t1970-01-01 00:00:00.001Z\t\"a b\"\n");
    printed(false, |console| records::write(&mut c, console, put("hint of k", "v".into()))).0.unwrap();
    let (_, text) = printed(false, |console| versions::show_all(&mut c, console, Some(NodeName(1))));
    assert!(text.lines().any(|line| line.starts_with("hint of k\t") && line.ends_with("\t(hint)")), "{text}");
    assert_eq!(text.matches("(hint)").count(), 1, "what is no hint is not marked: {text}");
    printed(false, |console| records::delete(&mut c, console, "hint of k", None)).0.unwrap();
    let (_, text) = printed(true, |console| versions::show_all(&mut c, console, None));
    assert_eq!(text.matches("\"versions\":[{").count(), 2, "both nodes show it: {text}");
    let (_, text) = printed(true, |console| records::get_all(&mut c, console, Scope::Cluster, None, Some(5)));
    assert_eq!(text, "{\"key\":\"k\",\"value\":\"a b\"}\n");
    let (outcome, text) = printed(false, |console| records::accept_loss(&mut c, console, None));
    outcome.unwrap();
    assert_eq!(text, "node-0: accepted\nnode-1: accepted\n");
    let both = records::value(Some("v"), false, Some(Path::new("f")));
    assert_eq!(both.expect_err("two values").exit, 2);
    assert_eq!(records::value(Some("{"), true, None).expect_err("no JSON").exit, 2);
}

#[test]
fn what_is_missing_is_named() {
    let cluster = FakeCluster::new(2);
    let console = |run: &dyn Fn(&Console) -> Result<(), Failure>| {
        let mut out = Vec::new();
        run(&Console::new(&mut out, false))
    };
    let unfounded =
        FakeMembership { founded: false, size: Some("3".into()), ..FakeMembership::new(&cluster) };
    let no_ring = |c: &Console| wait::for_ring(&unfounded, c, Duration::ZERO).map(drop);
    let (exit, why) = why_not(console(&no_ring));
    assert!(exit == 1 && why.contains("node-2 is not registered"), "{why}");
    let unset = FakeMembership { founded: false, ..FakeMembership::new(&cluster) };
    let no_size = |c: &Console| wait::for_ring(&unset, c, Duration::ZERO).map(drop);
    assert!(why_not(console(&no_size)).1.contains("consul kv put cluster_size"));
    let membership = FakeMembership::new(&cluster);
    membership.ill.borrow_mut().push(NodeName(1));
    let ring = cluster.ring();
    let waited = |c: &Console| {
        assert_eq!(wait::for_nodes(&membership, c, &ring, Duration::ZERO)?, [NodeName(1)]);
        Ok(())
    };
    console(&waited).unwrap();
}

#[test]
fn a_plan_changes_nothing() {
    let cluster = FakeCluster::new(3);
    let mut c = client(&cluster);
    (0..64).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let ring = cluster.ring();
    let kind = Kind::Remove { node: NodeName(1) };
    let (outcome, planned) = json(|console| plan(&mut c, console, &ring, kind, &Newcomer::default()));
    outcome.unwrap();
    assert_eq!(
        (planned["change"].as_str(), planned["partitions"].as_u64()),
        (Some("remove node-1"), Some(64))
    );
    assert!(planned["copies"].as_u64().unwrap() > 0);
    assert_eq!(cluster.ring(), ring);
}

#[test]
fn status_and_why_tell_how_it_stands() {
    let mut cluster = FakeCluster::new(3);
    let mut c = client(&cluster);
    c.put("k", "v").unwrap();
    cluster.stop(2);
    let membership = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    membership.ill.borrow_mut().push(NodeName(2));
    let (outcome, text) = printed(false, |console| status::status(&mut c, console, Some(&membership)));
    outcome.unwrap();
    assert!(text.contains("no answer") && text.contains("1 silent node"), "{text}");
    let (_, text) = printed(false, |console| why::why(&mut c, &membership, console));
    assert!(text.contains("at rest") && text.contains("node-2 is not healthy"), "{text}");
    membership.signal("node-0", "remove");
    membership.signal("node-x", "dance");
    let (_, text) = printed(false, |console| why::why(&mut c, &membership, console));
    assert!(text.contains("remove node-0 stands") && text.contains("Nobody holds the lock"), "{text}");
    assert!(text.contains("node-x cannot be read"), "{text}");
    let signal = ringkv_common::ring::SignalId { name: "node-0".into(), index: 1 };
    cluster.set_ring(ringkv_common::ring::plan::remove(&cluster.ring(), NodeName(0), signal).unwrap());
    let (_, told) = json(|console| why::why(&mut c, &membership, console));
    assert_eq!(told["change"], "remove node-0, phase copy");
    assert!(told["waits"][0].as_str().unwrap().contains("node-2 does not answer"), "{told}");
}

#[test]
fn the_bench_measures_and_checks() {
    let cluster = FakeCluster::new(2);
    let wanted = Bench {
        connections: 2,
        in_flight: 4,
        seconds: 1,
        puts: 0.5,
        value_size: 16,
        keys: 100,
        prefix: "b-".into(),
        check: true,
    };
    let access = bench::Access::Ring(cluster.ring());
    let stop = Arc::new(AtomicBool::new(false));
    let (outcome, summary) = json(|console| bench(console, &access, &options(), &wanted, &stop));
    outcome.unwrap();
    assert!(summary["put"]["count"].as_u64().unwrap() > 0 && summary["checked"].as_u64().unwrap() > 0);
    assert_eq!((summary["failed"].as_u64(), summary["wrong"].as_u64()), (Some(0), Some(0)));

    cluster.play(0, Trick::Refuse(1, Code::Forbidden));
    let (outcome, summary) = json(|console| bench(console, &access, &options(), &wanted, &stop));
    assert_eq!(summary["failed"], 1);
    assert!(why_not(outcome).1.contains("FORBIDDEN"));
}
