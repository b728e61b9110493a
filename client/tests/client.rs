//! The client against a small cluster that misbehaves on demand.
#![allow(clippy::unwrap_used)]

mod double;

use std::sync::Arc;
use std::time::{Duration, Instant};

use double::{FakeCluster, Trick};
use ringkv_client::{Client, Error, Op, Options, PageOf, Reply, Scope, Value};
use ringkv_common::message::{Code, KEYS_MAX};
use ringkv_common::ring::{ClusterId, Ring};
use ringkv_common::version::Content;

fn quick() -> Options {
    Options { timeout: Duration::from_secs(5), attempt: Duration::from_millis(150), ..Options::default() }
}

fn client(cluster: &FakeCluster) -> Client {
    Client::with_ring_and(cluster.ring(), quick())
}

fn text(value: &str) -> Content {
    Content::Json(Arc::from(format!("{value:?}").as_bytes()))
}

#[test]
fn every_operation_does_what_its_name_says() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    client.put("a", "1").unwrap();
    client.put("bytes", Value::Binary(vec![0, 255, 10])).unwrap();
    client.put("number", Value::json("1.50").unwrap()).unwrap();
    assert_eq!(client.get("a").unwrap().unwrap().value.string().as_deref(), Some("1"));
    assert_eq!(client.get("bytes").unwrap().unwrap().value, Value::Binary(vec![0, 255, 10]));
    assert_eq!(client.get("number").unwrap().unwrap().value.json_text(), Some("1.50"));
    assert_eq!(client.get("none").unwrap(), None);
    assert_eq!(client.insert("a", "2").unwrap_err().code(), Some(Code::KeyExists));
    assert_eq!(client.update("none", "2").unwrap_err().code(), Some(Code::KeyNotFound));
    client.insert("b", "2").unwrap();
    client.update("b", "3").unwrap();
    client.delete("a").unwrap();
    client.delete("a").unwrap();
    assert_eq!(client.get("a").unwrap(), None);
    assert!(client.search("b").unwrap().field("replicas").unwrap().contains("\"3\""));
    assert_eq!(client.explain("b").unwrap().field("key"), Some("\"b\""));
    let name = cluster.nodes[1].name;
    assert_eq!(client.status(Some(name)).unwrap().node, Some(name));
    client.ping(None).unwrap();
    client.accept_loss(name).unwrap();
    assert!(client.show_all(name, PageOf::default()).unwrap().field("collection").unwrap().contains("bytes"));
    cluster.lose("b");
    assert!(client.get("b").unwrap_err().lost());
}

#[test]
fn a_request_goes_to_the_coordinator_of_its_key() {
    let cluster = FakeCluster::new(4);
    let mut client = client(&cluster);
    for n in 0..4 {
        client.put(&cluster.key_of(n), "v").unwrap();
        assert_eq!(cluster.heard(n).len(), 1, "node {n} coordinates {:?}", cluster.key_of(n));
    }
}

#[test]
fn any_node_gives_the_ring_and_dead_seeds_are_passed_over() {
    let mut cluster = FakeCluster::new(3);
    cluster.stop(0);
    let client = Client::connect_with(&[cluster.address(0), cluster.address(2)], quick()).unwrap();
    assert_eq!(client.ring().unwrap().nodes.len(), 3);
    cluster.stop(2);
    let brief = Options { timeout: Duration::from_millis(300), ..quick() };
    let error = Client::connect_with(&[cluster.address(2)], brief).err().unwrap();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&cluster.address(2)), "{error}");
}

#[test]
fn many_requests_are_under_way_and_replies_may_change_places() {
    let cluster = FakeCluster::new(2);
    let mut client = Client::with_ring_and(cluster.ring(), Options { in_flight_max: 50, ..quick() });
    cluster.play(0, Trick::Late(100));
    cluster.play(1, Trick::Late(100));
    let (mut sent, mut ended, mut most) = (Vec::new(), Vec::new(), 0);
    while ended.len() < 500 {
        while sent.len() < 500 && client.has_room() {
            sent.push(client.submit(Op::put(&format!("k{}", sent.len()), "v").unwrap()).unwrap());
        }
        most = most.max(client.in_flight());
        for completion in client.poll(Duration::from_secs(5)).unwrap() {
            assert!(matches!(completion.outcome, Ok(Reply::Done(_))));
            ended.push(completion.ticket);
        }
    }
    assert_eq!(most, 50);
    assert!(ended != sent, "the nodes were told to change the order of replies");
    ended.sort();
    assert_eq!(ended, sent);
    assert_eq!(cluster.len(), 500);
}

#[test]
fn what_is_too_much_at_once_is_refused_and_nothing_is_sent() {
    let cluster = FakeCluster::new(1);
    let mut client = Client::with_ring_and(cluster.ring(), Options { in_flight_max: 2, ..quick() });
    for n in 0..2 {
        client.submit(Op::get(&format!("k{n}")).unwrap()).unwrap();
    }
    let full = client.submit(Op::get("k").unwrap()).unwrap_err();
    assert!(matches!(full, Error::Full { in_flight: 2, .. }), "{full}");
    let mut small = Client::with_ring_and(cluster.ring(), Options { bytes_in_flight_max: 1000, ..quick() });
    small.submit(Op::put("k", Value::Binary(vec![0; 2000])).unwrap()).unwrap();
    assert!(matches!(small.submit(Op::ping()), Err(Error::Full { bytes: 2000.., .. })));
}

#[test]
fn more_keys_than_a_message_may_have_go_as_several() {
    let cluster = FakeCluster::new(1);
    let mut client = client(&cluster);
    let keys: Vec<String> = (0..2 * KEYS_MAX + 7).map(|n| format!("k{n}")).collect();
    let outcomes = client.mput(keys.iter().map(|k| (k.as_str(), Value::from("v")))).unwrap();
    assert_eq!((outcomes.len(), outcomes.iter().filter(|o| o.is_ok()).count()), (keys.len(), keys.len()));
    let found = client.mget(keys.iter().map(String::as_str)).unwrap();
    assert!(found.len() == keys.len() && found.iter().all(|f| matches!(f, Ok(Some(_)))));
    for message in cluster.heard(0) {
        let count = ["items", "keys"].iter().find_map(|field| Some(message[*field].as_array()?.len()));
        assert!(count.is_some_and(|n| n <= KEYS_MAX), "{count:?} in one message");
    }
}

#[test]
fn mput_and_mget_are_split_by_owner_and_put_together_in_order() {
    let cluster = FakeCluster::new(4);
    let mut client = client(&cluster);
    let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let items = keys.iter().map(|k| (k.as_str(), Value::from(k.as_str())));
    let outcomes = client.mput(items).unwrap();
    assert_eq!(outcomes.len(), 200);
    assert!(outcomes.iter().all(Result::is_ok));
    assert!((0..4).all(|n| cluster.heard(n).len() == 1), "one part for each coordinator");
    cluster.lose("k7");
    cluster.forget("k9");
    let found = client.mget(keys.iter().map(String::as_str)).unwrap();
    for (key, outcome) in keys.iter().zip(found) {
        match key.as_str() {
            "k7" => assert!(outcome.unwrap_err().lost()),
            "k9" => assert_eq!(outcome.unwrap(), None),
            _ => assert_eq!(outcome.unwrap().unwrap().value.string().as_ref(), Some(key)),
        }
    }
    assert!(client.mget([]).unwrap().is_empty());
}

#[test]
fn listings_come_page_by_page() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    for n in 0..25 {
        client.put(&format!("k{n}"), "v").unwrap();
    }
    let all: Vec<String> = client.get_all(Scope::Cluster, None, 4).map(|r| r.unwrap().key).collect();
    assert_eq!(all.len(), 25);
    let mut led = Vec::new();
    for node in cluster.nodes.iter().map(|n| n.name) {
        led.extend(client.get_all(Scope::Led, Some(node), 4).map(|r| r.unwrap().key));
    }
    let sorted = |mut keys: Vec<String>| {
        keys.sort();
        keys
    };
    assert_eq!(sorted(led), sorted(all), "all nodes' listings together hold each key once");
}

#[test]
fn a_stale_client_learns_the_newer_ring_from_a_reply() {
    let mut cluster = FakeCluster::new(2);
    let mut client = client(&cluster);
    client.put("a", "1").unwrap();
    let newcomer = cluster.start_another();
    cluster.set_ring(cluster.with_added(newcomer));
    let key = cluster.key_of(2);
    client.put(&key, "2").unwrap();
    let end = Instant::now() + Duration::from_secs(5);
    while client.ring().unwrap().epoch < cluster.ring().epoch {
        assert!(Instant::now() < end, "the newer ring was not fetched");
        client.get(&key).unwrap();
    }
    let before = cluster.heard(2).len();
    client.get(&key).unwrap();
    assert_eq!(cluster.heard(2).len(), before + 1, "the newcomer coordinates {key:?} now");
}

#[test]
fn a_ring_of_another_cluster_is_refused_and_a_lower_epoch_ignored() {
    let cluster = FakeCluster::new(2);
    let mut client = client(&cluster);
    let ring = cluster.ring();
    let foreign = Ring { cluster_id: ClusterId(0xBAD), epoch: 99, ..(*ring).clone() };
    let error = client.adopt(Arc::new(foreign.clone()), "somewhere").unwrap_err();
    assert!(matches!(error, Error::OtherCluster { .. }), "{error}");
    assert!(!client.adopt(ring.clone(), "somewhere").unwrap());
    // A node that was taken over by another cluster tells of its epoch, and its ring is not taken.
    cluster.set_ring_of(0, foreign);
    let key = cluster.key_of(0);
    for _ in 0..5 {
        client.put(&key, "v").unwrap();
    }
    assert_eq!((client.ring().unwrap().epoch, client.ring().unwrap().cluster_id), (1, ring.cluster_id));
}

#[test]
fn silence_is_answered_by_the_next_node_and_the_write_happens_once() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    let key = cluster.key_of(0);
    cluster.play(0, Trick::Silent(1));
    client.put(&key, "once").unwrap();
    assert_eq!((cluster.writes(), cluster.value(&key)), (1, Some(text("once"))));
    let asked: Vec<_> = (0..3).flat_map(|n| cluster.heard(n)).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0]["request"], asked[1]["request"]);
    assert!(asked[0]["request"].as_str().unwrap().len() >= 18, "64 random bits and a counter: {asked:?}");
}

#[test]
fn an_insert_that_was_done_in_silence_succeeds_when_it_is_repeated() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    let key = cluster.key_of(1);
    cluster.play(1, Trick::Silent(1));
    client.insert(&key, "v").unwrap();
    cluster.play(1, Trick::Doubt(1));
    client.delete(&key).unwrap();
    assert_eq!(cluster.writes(), 2);
}

#[test]
fn refusals_that_may_pass_are_waited_out() {
    let cluster = FakeCluster::new(1);
    let mut client = client(&cluster);
    for code in [Code::Overloaded, Code::NotReady, Code::QuorumFailed, Code::Timeout] {
        cluster.play(0, Trick::Refuse(2, code));
        client.put("k", "v").unwrap();
        cluster.play(0, Trick::Refuse(2, code));
        assert!(client.get("k").unwrap().is_some(), "{code:?}");
    }
    assert_eq!(cluster.writes(), 4);
}

#[test]
fn errors_that_last_are_told_with_all_that_is_known() {
    let cluster = FakeCluster::new(2);
    let brief = Options { timeout: Duration::from_millis(400), ..quick() };
    let mut client = Client::with_ring_and(cluster.ring(), brief);
    for n in 0..2 {
        cluster.play(n, Trick::Refuse(1000, Code::Overloaded));
    }
    let error = client.put("k", "v").unwrap_err();
    assert_eq!((error.code(), error.indeterminate()), (Some(Code::Overloaded), false), "{error}");

    let cluster = FakeCluster::new(1);
    let mut client =
        Client::pinned_with(&cluster.address(0), Options { timeout: Duration::from_millis(800), ..quick() })
            .unwrap();
    cluster.play(0, Trick::Silent(1));
    cluster.play(0, Trick::Refuse(1000, Code::Overloaded));
    let error = client.put("k", "v").unwrap_err();
    assert_eq!(error.code(), Some(Code::Overloaded));
    assert!(error.indeterminate(), "the first attempt was not answered, so it may have happened: {error}");
    cluster.play(0, Trick::Refuse(1000, Code::Overloaded));
    assert!(!client.get("k").unwrap_err().indeterminate());
}

#[test]
fn nobody_there_means_that_nothing_was_sent() {
    let mut cluster = FakeCluster::new(2);
    let ring = cluster.ring();
    cluster.stop(0);
    cluster.stop(1);
    let mut client = Client::with_ring_and(ring, Options { timeout: Duration::from_millis(400), ..quick() });
    let error = client.put("k", "v").unwrap_err();
    assert!(matches!(&error, Error::Unreachable { tried, .. } if tried.len() == 2), "{error}");
    assert!(!error.indeterminate());
}

#[test]
fn a_node_that_left_is_no_loss_and_one_that_is_back_is_used_again() {
    let mut cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    let key = cluster.key_of(0);
    client.put(&key, "1").unwrap();
    cluster.stop(0);
    let began = Instant::now();
    for n in 0..20 {
        client.put(&key, format!("{n}").as_str()).unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    cluster.restart(0);
    let end = Instant::now() + Duration::from_secs(5);
    while cluster.heard(0).is_empty() {
        assert!(Instant::now() < end, "the node that is back was not asked again");
        client.get(&key).unwrap();
    }
}

#[test]
fn requests_under_way_at_a_node_that_dies_go_elsewhere_at_once() {
    let mut cluster = FakeCluster::new(3);
    let patient = Options { attempt: Duration::from_secs(20), timeout: Duration::from_secs(30), ..quick() };
    let mut client = Client::with_ring_and(cluster.ring(), patient);
    let key = cluster.key_of(0);
    cluster.play(0, Trick::Silent(10));
    for n in 0..10 {
        client.submit(Op::put(&format!("{key}-{n}"), "v").unwrap()).unwrap();
    }
    client.submit(Op::put(&key, "v").unwrap()).unwrap();
    let began = Instant::now();
    let mut ended = 0;
    let mut stopped = false;
    while ended < 11 {
        for completion in client.poll(Duration::from_millis(50)).unwrap() {
            completion.outcome.unwrap();
            ended += 1;
        }
        if !stopped && !cluster.heard(0).is_empty() {
            cluster.stop(0);
            stopped = true;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "the broken connection was not noticed");
    }
    assert_eq!(cluster.writes(), 11);
}

#[test]
fn a_part_with_keys_that_may_yet_succeed_is_repeated_as_a_whole() {
    let cluster = FakeCluster::new(2);
    let mut client = client(&cluster);
    cluster.play(0, Trick::Doubt(1));
    cluster.play(1, Trick::Silent(1));
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let outcomes = client.mput(keys.iter().map(|k| (k.as_str(), Value::from("v")))).unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(cluster.writes(), 40, "each key was written once");
}

#[test]
fn a_pinned_client_asks_its_node_for_everything_but_what_names_another() {
    let cluster = FakeCluster::new(3);
    let mut client = Client::pinned_with(&cluster.address(1), quick()).unwrap();
    for n in 0..3 {
        client.put(&cluster.key_of(n), "v").unwrap();
    }
    assert_eq!(cluster.heard(1).len(), 3);
    assert!(matches!(client.ping(Some(cluster.nodes[2].name)), Err(Error::NoRing)));
    client.fetch_ring().unwrap();
    client.ping(Some(cluster.nodes[2].name)).unwrap();
    assert_eq!((cluster.heard(0).len(), cluster.heard(2).len()), (0, 1));
    let error = client.ping(Some(ringkv_common::name::NodeName(9))).unwrap_err();
    assert!(
        error.to_string().contains("node-9 is not in the ring: it has node-0, node-1, node-2"),
        "{error}"
    );
}

#[test]
fn asking_all_nodes_takes_no_longer_than_asking_one() {
    let mut cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    let names: Vec<_> = cluster.nodes.iter().map(|n| n.name).collect();
    cluster.stop(1);
    let began = Instant::now();
    let answers = client.status_of(&names, Duration::from_millis(300));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let there: Vec<bool> = answers.iter().map(|(_, answer)| answer.is_ok()).collect();
    assert_eq!(there, [true, false, true]);
}
