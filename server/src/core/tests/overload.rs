//! Bounds: what does not fit is refused with the number, and nothing grows for ever.

use super::*;
use crate::core::keys::LINE_MAX;
use crate::core::task::TASKS_MAX;
use ringkv_common::message::KEYS_MAX;
use ringkv_common::message::peer::{Purpose, Stretch};

#[test]
fn a_keys_line_is_bounded() {
    let mut bench = Bench::founded(0, &founding(1));
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
    let mut bench = Bench::founded(0, &ring);
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
