//! Bounds: what does not fit is refused with the number, and nothing grows for ever.

use super::*;
use crate::core::keys::LINE_MAX;
use crate::core::task::TASKS_MAX;
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
    let stretch = Stretch { partition: mine.partition(PARTITIONS), after: None, until: None };
    bench.withholds = true;
    bench.hear(1, Message::Forward { id: 1, epoch: 1, left_ms: 10, op, terms });
    bench.hear(1, Message::Inspect { id: 2, key: mine.clone() });
    let siblings = Siblings::default();
    bench.hear(1, Message::Replicate { id: 3, epoch: 1, key: mine, siblings, request: 0 });
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

#[test]
fn many_in_one_message_count_as_many() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    bench.node.id.limits.message_bytes_max = 64 << 20;
    let key = key_of(&ring, 1);
    let keys = vec![format!("\"{}\"", key.text()); TASKS_MAX + 10].join(",");
    let client = bench.ask(&format!(r#"{{"op":"MGET","keys":[{keys}]}}"#));
    bench.pass_ms(2_100);
    let reply = bench.reply(client).unwrap();
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results.len(), TASKS_MAX + 10);
    assert_eq!(code(&results[TASKS_MAX + 9]), "OVERLOADED");
    assert_eq!(code(&results[0]), "TIMEOUT");
}
