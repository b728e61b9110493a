//! Bounds: what does not fit is refused with the number, and nothing grows for ever.

use super::*;
use crate::core::keys::LINE_MAX;
use crate::core::task::TASKS_MAX;
use ringkv_common::message::peer::{Purpose, Stretch};
use ringkv_common::message::{KEYS_MAX, Outcome};

#[test]
fn a_keys_line_is_bounded() {
    let mut bench = with_window(&founding(1), TASKS_MAX);
    bench.withholds = true;
    let key = Key::new("hot").unwrap();
    for _ in 0..LINE_MAX {
        let client = bench.ask(&get(&key));
        assert_eq!(bench.reply(client), None);
    }
    let refused = bench.asked(&get(&key));
    assert_eq!(code(&refused), "OVERLOADED");
    assert!(refused["message"].as_str().unwrap().contains("4096"));
    bench.release();
    assert_eq!(bench.replies.len(), LINE_MAX + 1);
    assert_eq!((bench.status().tasks, bench.node.keys.len()), (0, 0));
}

#[test]
fn tasks_are_bounded_for_clients_and_for_peers() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    let key = key_of(&ring, 1);
    for _ in 0..TASKS_MAX {
        bench.ask(&get(&key));
    }
    assert_eq!(code(&bench.asked(&get(&key))), "OVERLOADED");
    assert_eq!(code(&bench.asked(r#"{"op":"STATUS"}"#)), "OVERLOADED");
    bench.sent();
    let mine = key_of(&ring, 0);
    let terms = ringkv_common::message::Terms::default();
    let op = ringkv_common::message::KeyOp::Read(mine.clone());
    let stretch = Stretch { partition: mine.partition(PARTITIONS), after: None, until: None, buckets: None };
    bench.withholds = true;
    bench.hear(1, Message::Forward { id: 1, epoch: 1, left_ms: 10, op, terms, heard: 0 });
    bench.hear(1, Message::Inspect { id: 2, key: mine.clone() });
    let siblings = Siblings::default();
    bench.hear(1, Message::Replicate { id: 3, epoch: 1, key: mine, siblings, base: 0, request: 0, round: 0 });
    let known = Vec::new();
    let purpose = Purpose::List;
    bench.hear(1, Message::Fetch { id: 4, epoch: 1, purpose, stretch, known, bytes_max: 10 });
    let refused: Vec<u64> = bench
        .sent()
        .into_iter()
        .filter_map(|(_, m)| match m {
            Message::Failed { id, failure } if failure.code == Code::Overloaded => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [1, 2, 3, 4]);
    assert!(bench.withheld.is_empty());
    bench.pass_ms(2_100);
    assert_eq!((bench.status().tasks, bench.status().waiting_bytes), (0, 0));
    assert_eq!(bench.replies.len(), TASKS_MAX + 2, "each was answered");
}

fn mget(key: &Key, n: usize) -> String {
    let keys = vec![format!("\"{}\"", key.text()); n].join(",");
    format!(r#"{{"op":"MGET","keys":[{keys}]}}"#)
}

#[test]
fn many_in_one_message_count_as_many() {
    let ring = founding(2);
    let mut bench = with_window(&ring, TASKS_MAX);
    bench.node.id.limits.message_bytes_max = 64 << 20;
    let key = key_of(&ring, 1);
    bench.ask(&mget(&key, KEYS_MAX));
    let client = bench.ask(&mget(&key, KEYS_MAX));
    bench.pass_ms(2_100);
    let reply = bench.reply(client).unwrap();
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results.len(), KEYS_MAX);
    assert_eq!(code(&results[KEYS_MAX - 1]), "OVERLOADED");
    assert_eq!(code(&results[0]), "TIMEOUT");
}

#[test]
fn more_keys_than_a_message_may_have_are_refused_at_once() {
    let mut bench = Bench::founded(0, &founding(1));
    bench.node.id.limits.message_bytes_max = 64 << 20;
    let reply = bench.asked(&mget(&Key::new("k").unwrap(), KEYS_MAX + 1));
    assert_eq!(code(&reply), "TOO_LARGE");
    assert!(reply["message"].as_str().unwrap().contains("32769 keys, 32768 are allowed"), "{reply}");
    assert_eq!(bench.status().tasks, 0);
}

#[test]
fn what_a_peer_tells_again_is_begun_once_and_answered_once() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    let op = ringkv_common::message::KeyOp::Read(key.clone());
    let terms = ringkv_common::message::Terms::default();
    bench.withholds = true;
    for _ in 0..5 {
        let (op, siblings) = (op.clone(), Siblings::default());
        bench.hear(1, Message::Forward { id: 7, epoch: 1, left_ms: 2_000, op, terms, heard: 0 });
        bench.hear(
            1,
            Message::Replicate { id: 8, epoch: 1, key: key.clone(), siblings, base: 0, request: 0, round: 0 },
        );
    }
    assert_eq!(bench.status().tasks, 2);
    bench.release();
    let ends = bench.sent();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(matches!(ends[0], (_, Message::Forwarded { id: 7, .. })));
    assert!(matches!(ends[1], (_, Message::Replicated { id: 8, round: 0, taken: Taken::All })));
    // The answer may be lost: then it is told again, and answered again.
    bench.hear(1, Message::Forward { id: 7, epoch: 1, left_ms: 2_000, op, terms, heard: 0 });
    assert_eq!((bench.sent().len(), bench.status().tasks, bench.status().waiting_bytes), (1, 0, 0));
}

#[test]
fn a_deadline_holds_while_the_store_is_silent() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    bench.withholds = true;
    let [write, read] = [put(&key, "1"), get(&key)].map(|body| bench.ask(&body));
    bench.pass_ms(1_900);
    assert_eq!((bench.reply(write), bench.reply(read)), (None, None));
    bench.pass_ms(250);
    for client in [write, read] {
        let reply = bench.reply(client).unwrap();
        assert_eq!(code(&reply), "TIMEOUT");
        assert_eq!(reply.get("indeterminate"), None, "nothing was done, and nothing will be: {reply}");
    }
    bench.release();
    assert_eq!((bench.status().stored, bench.status().tasks), (0, 0));
}

#[test]
fn a_write_that_another_node_may_have_done_stays_indeterminate() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    let rings = phases(removing(&ring, 1));
    let key = key_of(&ring, 1);
    bench.withholds = true;
    let write = bench.ask(&put(&key, "1"));
    rings.iter().for_each(|ring| bench.adopt(ring));
    let reply = bench.reply(write).unwrap();
    // It never received the partition, so it does nothing itself; the owner before it may have.
    assert_eq!((code(&reply), &reply["indeterminate"]), ("NOT_READY", &Value::Bool(true)), "{reply}");
}

/// A node of a cluster, so much of whose clients' requests is under way at once.
fn with_window(ring: &Ring, operations: usize) -> Bench {
    let mut bench = Bench::founded(0, ring);
    bench.node.id.window_bytes = operations * 1024;
    bench
}

/// What was forwarded since the last look, and to whom.
fn forwarded(bench: &mut Bench) -> Vec<(u16, u64)> {
    let forward = |(to, message): (NodeName, Message)| match message {
        Message::Forward { id, .. } => Some((to.0, id)),
        _ => None,
    };
    bench.sent().into_iter().filter_map(forward).collect()
}

fn answer_forwarded(bench: &mut Bench, (from, id): (u16, u64)) {
    let outcome = Outcome::Stored { context: None };
    bench.hear(from, Message::Forwarded { id, outcome, nodes: vec![name(from)], hinted: false, beat: 0 });
}

#[test]
fn what_finds_no_place_is_done_in_its_turn() {
    let ring = founding(2);
    let mut bench = with_window(&ring, 2);
    let key = key_of(&ring, 1);
    let clients = [1, 2, 3].map(|value| bench.ask(&put(&key, &value.to_string())));
    let first = forwarded(&mut bench);
    assert_eq!(first.len(), 2);
    let many = bench.ask(&mget(&key, 2));
    assert_eq!(forwarded(&mut bench), [], "each of many needs a place");
    answer_forwarded(&mut bench, first[0]);
    let third = forwarded(&mut bench);
    assert_eq!(third.len(), 1);
    assert_eq!(bench.reply(clients[0]), Some(ok()));
    for forward in [first[1], third[0]] {
        answer_forwarded(&mut bench, forward);
    }
    assert_eq!((bench.reply(clients[2]), forwarded(&mut bench).len()), (Some(ok()), 2));
    bench.pass_ms(10_000);
    assert!(bench.reply(many).is_some());
    assert_eq!((bench.status().tasks, bench.node.window.used()), (0, 0));
}

#[test]
fn one_that_is_larger_than_the_window_is_done_alone() {
    let ring = founding(2);
    let mut bench = with_window(&ring, 1);
    bench.node.id.limits.value_bytes_max = 5_000;
    let key = key_of(&ring, 1);
    let large = format!("\"{}\"", "x".repeat(4_000));
    for value in [&large, &large] {
        bench.ask(&put(&key, value));
    }
    let first = forwarded(&mut bench);
    assert_eq!(first.len(), 1);
    answer_forwarded(&mut bench, first[0]);
    assert_eq!(forwarded(&mut bench).len(), 1);
}

#[test]
fn what_has_waited_half_of_its_time_is_refused_and_was_not_done() {
    let ring = founding(2);
    let mut bench = with_window(&ring, 1);
    let key = key_of(&ring, 1);
    let clients: Vec<u64> = (0..20).map(|value| bench.ask(&put(&key, &value.to_string()))).collect();
    // One after the other, and slowly.
    let mut done = 0;
    for _ in 0..10 {
        bench.pass_ms(200);
        for forward in forwarded(&mut bench) {
            answer_forwarded(&mut bench, forward);
            done += 1;
        }
    }
    let replies: Vec<Value> = clients.iter().filter_map(|client| bench.reply(*client)).collect();
    let refused: Vec<&Value> = replies.iter().filter(|reply| **reply != ok()).collect();
    assert_eq!((replies.len(), refused.len()), (20, 20 - done));
    assert!(done >= 4, "{done}");
    for reply in refused {
        assert_eq!((code(reply), reply.get("indeterminate")), ("OVERLOADED", None));
        assert!(reply["message"].as_str().unwrap().contains("1000 ms in line are allowed"), "{reply}");
    }
}

#[test]
fn who_waits_for_a_silent_node_keeps_no_place() {
    let ring = founding(3);
    let mut bench = with_window(&ring, 2);
    let keys = [1, 1, 2].map(|n| key_of(&ring, n));
    for key in &keys {
        bench.ask(&put(key, "1"));
    }
    assert!(forwarded(&mut bench).iter().all(|(to, _)| *to == 1));
    bench.pass_ms(500);
    assert!(forwarded(&mut bench).iter().any(|(to, _)| *to == 2), "node-2 can do it");
}

#[test]
fn who_can_do_without_a_silent_owner_keeps_its_place() {
    let ring = founding_of(3, 3);
    let mut bench = with_window(&ring, 3);
    for key in keys(|_| true).take(4) {
        bench.ask(&put(&key, "1"));
    }
    let told = bench.sent().into_iter().find_map(|(_, message)| match message {
        Message::Replicate { id, .. } => Some(id),
        _ => None,
    });
    bench.pass_ms(200);
    bench.hear(1, Message::Replicated { id: told.unwrap(), round: 1, taken: Taken::All });
    bench.ask(&put(&keys(|_| true).nth(4).unwrap(), "1"));
    assert_eq!(bench.status().in_line, 1);
    bench.pass_ms(250);
    assert_eq!(bench.status().in_line, 1, "node-1 answers, and W is two of three");
}

#[test]
fn who_waits_to_show_what_is_not_settled_keeps_no_place() {
    let mut bench = with_window(&founding(1), 2);
    let keys: Vec<Key> = keys(|_| true).take(2).collect();
    bench.withholds = true;
    bench.ask(&put(&keys[0], "1"));
    bench.release_one();
    bench.ask(&get(&keys[0]));
    bench.ask(&put(&keys[1], "1"));
    assert_eq!(bench.status().in_line, 1);
    bench.pass_ms(500);
    assert_eq!(bench.status().in_line, 0);
}

#[test]
fn who_has_yet_to_come_to_something_is_not_told_it_again() {
    let ring = founding_of(3, 3);
    let mut bench = Bench::founded(0, &ring);
    let told = |bench: &mut Bench| -> Vec<(u16, u64)> {
        let told = |(to, message): (NodeName, Message)| match message {
            Message::Replicate { id, .. } => Some((to.0, id)),
            _ => None,
        };
        bench.sent().into_iter().filter_map(told).collect()
    };
    let keys: Vec<Key> = keys(|_| true).take(2).collect();
    bench.ask(&put(&keys[0], "1"));
    let first = told(&mut bench)[0].1;
    bench.ask(&put(&keys[1], "1"));
    let second = told(&mut bench)[0].1;
    bench.pass_ms(200);
    bench.hear(1, Message::Replicated { id: first, round: 1, taken: Taken::All });
    bench.pass_ms(150);
    let again = told(&mut bench);
    assert!(again.contains(&(2, second)), "node-2 is silent: {again:?}");
    assert!(!again.contains(&(1, second)), "node-1 is at work: {again:?}");
    bench.pass_ms(1_000);
    assert!(told(&mut bench).contains(&(1, second)), "now node-1 is silent too");
}
