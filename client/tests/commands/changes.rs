//! Changes of the ring, and their audit.

use std::time::Duration;

use ringkv_client::commands::change::{Change, Wish, change, ensure_mode};
use ringkv_client::commands::plan::Newcomer;
use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;
use serde_json::Value as Json;

use crate::double::membership::FakeMembership;
use crate::double::{FakeCluster, Trick};
use crate::{client, json, printed, why_not};

fn wished(wish: Wish, sample: u64) -> Change {
    Change { wish, patience: Duration::from_secs(5), sample }
}

fn lowest() -> Wish {
    Wish::Add { node: None, newcomer: Newcomer::default() }
}

#[test]
fn a_node_is_added_and_every_record_read_back() {
    let mut cluster = FakeCluster::new(3);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..300).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 1000)));
    outcome.unwrap();
    assert_eq!((report["op"].as_str(), report["outcome"].as_str()), (Some("add node-3"), Some("done")));
    for field in ["records_before", "records_after", "checked"] {
        assert_eq!(report[field], 300, "{field}: {report}");
    }
    assert_eq!(report["all_checked"], true);
    assert_eq!(c.ring().unwrap().nodes.len(), 4);
}

#[test]
fn a_node_is_added_while_another_one_is_silent() {
    let mut cluster = FakeCluster::new(3);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..300).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    // Its word in the change is not asked for: it is down, and its launcher knows.
    cluster.play(2, Trick::Silent(1000));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 40)));
    outcome.unwrap();
    assert_eq!((report["outcome"].as_str(), &report["records_before"]), (Some("done"), &Json::Null));
    assert!(report["checked"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_lost_record_is_named_and_the_exit_code_says_so() {
    let mut cluster = FakeCluster::new(2);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..50).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let thief = cluster.thief();
    membership.at_begin(move || thief.forget("k17"));
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 1000)));
    assert_eq!(why_not(outcome), (1, "1 record lost: k17".to_owned()));
    assert_eq!((report["records_after"].as_u64(), &report["lost"][0]), (Some(49), &"k17".into()));
}

#[test]
fn whoever_is_refused_backs_off_and_tries_again() {
    let mut cluster = FakeCluster::new(2);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    membership.overtake(2);
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 0)));
    outcome.unwrap();
    assert_eq!(report["outcome"], "done");

    let idle = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    idle.signal("node-7", "add");
    let brief = Change { patience: Duration::from_millis(400), ..wished(lowest(), 0) };
    let (exit, why) = why_not(json(|console| change(&mut c, &idle, console, &brief)).0);
    assert!(exit == 1 && why.contains("another signal for node-7 stands"), "{why}");
    assert_eq!(idle.signals_now(), 1, "somebody else's signal is left alone");
}

#[test]
fn a_signal_that_nobody_takes_up_is_taken_back() {
    let cluster = FakeCluster::new(2);
    let idle = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    let brief = Change { patience: Duration::from_millis(300), ..wished(Wish::Remove(NodeName(1)), 0) };
    let (exit, why) = why_not(json(|console| change(&mut client(&cluster), &idle, console, &brief)).0);
    assert!(exit == 1 && why.contains("no launcher took up remove node-1"), "{why}");
    assert_eq!(idle.signals_now(), 0);
}

#[test]
fn what_cannot_be_is_refused_at_once_or_by_the_launcher() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let membership = FakeMembership::new(&cluster);
    let mut why = |wish| why_not(json(|console| change(&mut c, &membership, console, &wished(wish, 0))).0);
    assert!(why(Wish::Remove(NodeName(9))).1.contains("node-9 is not in the ring: it has node-0, node-1"));
    let there = Wish::Add { node: Some(NodeName(1)), newcomer: Newcomer::default() };
    assert!(why(there).1.contains("in the ring already"));
    assert_eq!(why(lowest()), (1, "add was refused: nobody joins".to_owned()));
}

#[test]
fn a_mode_is_chosen_where_that_harms_nobody() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let membership = FakeMembership::new(&cluster);
    let mut choose = |mode| {
        printed(false, |console| ensure_mode(&mut c, &membership, console, mode, Duration::from_secs(5))).0
    };
    choose(Strategy::Consistent).unwrap();
    assert!(cluster.ring().chosen);
    // Chosen otherwise, and empty.
    choose(Strategy::Hrw).unwrap();
    assert_eq!((cluster.ring().strategy, cluster.ring().chosen), (Strategy::Hrw, true));
    let epoch = cluster.ring().epoch;
    choose(Strategy::Hrw).unwrap();
    assert_eq!(cluster.ring().epoch, epoch, "chosen already: nothing happens");
    client(&cluster).put("k", "v").unwrap();
    let (exit, why) = why_not(choose(Strategy::Consistent));
    assert_eq!(exit, 2);
    assert!(why.contains("`client_producer migrate --mode consistent`") && why.contains("1 record"), "{why}");
    assert_eq!(cluster.ring().epoch, epoch);
}
