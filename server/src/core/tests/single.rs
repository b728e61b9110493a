//! One node that owns everything: operations, lines, the overlay.

use super::*;

fn alone() -> Bench {
    Bench::founded(0, &founding(1))
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[test]
fn every_request_is_answered_exactly_once() {
    let mut bench = alone();
    let requests = [
        r#"{"op":"PUT","key":"k","value":1}"#,
        r#"{"op":"GET_ONE","key":"k"}"#,
        r#"{"op":"GET_ONE","key":"nothing"}"#,
        r#"{"op":"GET_ALL"}"#,
        r#"{"op":"GET_ALL","scope":"cluster","limit":1}"#,
        r#"{"op":"GET_ALL",}"#,
        r#"{"op":"SHOW_ALL"}"#,
        r#"{"op":"SEARCH","key":"k"}"#,
        r#"{"op":"EXPLAIN","key":"k"}"#,
        r#"{"op":"STATUS"}"#,
        r#"{"op":"STATUS","want":["ring"]}"#,
        r#"{"op":"PING"}"#,
        r#"{"op":"MPUT","items":[]}"#,
        r#"{"op":"MGET","keys":["k","k","x"]}"#,
        r#"{"op":"CONSENT","change":{"op":"remove","node":"node-0"},"base":1}"#,
        r#"{"op":"ACCEPT_LOSS"}"#,
        r#"{"op":"DELETE","key":"k"}"#,
        r#"{"op":"NOTHING"}"#,
        r#"{"op":"PUT"}"#,
        "{",
        "",
    ];
    for request in requests {
        let reply = bench.asked(request);
        assert!(reply.is_object(), "{request}: {reply}");
    }
    bench.step(Event::TooManyFrames { client: Client(1000), frames: 5 });
    assert!(bench.reply(1000).unwrap()["message"].as_str().unwrap().contains("5 frames"));
    assert_eq!(bench.status().tasks, 0, "nothing is left behind");
}

#[test]
fn values_come_back_as_they_were_sent() {
    let mut bench = alone();
    assert_eq!(bench.put(&key("k"), r#"{ "a" : 1.0 }"#), ok());
    assert_eq!(bench.get(&key("k")), json(r#"{"key":"k","value":{"a":1.0}}"#));
    bench.step(Event::Request {
        client: Client(77),
        body: br#"{"op":"PUT","key":"b"}"#,
        value: Some(&[0, 159, 146]),
    });
    assert_eq!(bench.reply(77), Some(ok()));
    assert_eq!(bench.get(&key("b")), json(r#"{"key":"b","value_b64":"AJ+S"}"#));
}

#[test]
fn operations_on_a_key_wait_in_line_behind_its_read() {
    let mut bench = alone();
    bench.put(&key("k"), "1");
    bench.withholds = true;
    let read = bench.ask(&get(&key("k")));
    let write = bench.ask(&put(&key("k"), "2"));
    let second = bench.ask(&get(&key("k")));
    assert_eq!(bench.withheld.len(), 1, "the key is read once");
    bench.release_one();
    assert_eq!(bench.reply(read).unwrap()["value"], 1, "it came before the write");
    assert_eq!((bench.reply(write), bench.reply(second)), (None, None), "2 is not durable yet");
    assert!(matches!(bench.withheld.front(), Some(Effect::Persist { .. })));
    bench.release_one();
    assert_eq!(bench.reply(write), Some(ok()));
    assert_eq!(bench.reply(second).unwrap()["value"], 2);
}

#[test]
fn a_second_write_sees_the_first_though_that_is_not_durable() {
    let mut bench = alone();
    bench.withholds = true;
    bench.ask(&put(&key("k"), "1"));
    bench.release_one();
    let insert = bench.ask(r#"{"op":"INSERT","key":"k","value":2}"#);
    let second = bench.ask(&put(&key("k"), "3"));
    assert_eq!(bench.reply(insert), None, "it will be refused for a write that is not durable yet");
    bench.release();
    assert_eq!(code(&bench.reply(insert).unwrap()), "KEY_EXISTS");
    assert_eq!(bench.reply(second), Some(ok()));
    let stored = bench.store.read(&key("k"));
    assert_eq!(stored.versions.len(), 1, "the second superseded the first: {stored:?}");
    assert_eq!(bench.get(&key("k"))["value"], 3);
    assert_eq!(bench.node.keys.len(), 0, "nothing is kept for a key without work");
}

#[test]
fn insert_update_and_delete_look_at_what_is_there() {
    let mut bench = alone();
    let k = |op: &str| format!(r#"{{"op":"{op}","key":"k","value":1}}"#);
    assert_eq!(code(&bench.asked(&k("UPDATE"))), "KEY_NOT_FOUND");
    assert_eq!(bench.asked(&k("INSERT")), ok());
    assert_eq!(code(&bench.asked(&k("INSERT"))), "KEY_EXISTS");
    assert_eq!(bench.asked(&k("UPDATE")), ok());
    for _ in 0..2 {
        assert_eq!(bench.asked(r#"{"op":"DELETE","key":"k"}"#), ok(), "also where there was nothing");
    }
    assert_eq!(code(&bench.get(&key("k"))), "KEY_NOT_FOUND");
    assert_eq!(bench.asked(&k("INSERT")), ok(), "a deleted key is absent");
}

#[test]
fn a_request_id_makes_a_repeated_write_one() {
    let mut bench = alone();
    let first = r#"{"op":"PUT","key":"k","value":1,"request":"a"}"#;
    assert_eq!(bench.asked(first), ok());
    bench.put(&key("k"), "2");
    assert_eq!(bench.asked(first), ok(), "it was superseded and is not done again");
    assert_eq!(bench.get(&key("k"))["value"], 2);
    let insert = r#"{"op":"INSERT","key":"new","value":1,"request":"b"}"#;
    assert_eq!((bench.asked(insert), bench.asked(insert)), (ok(), ok()), "it meets its own");
    // Ten minutes later it is another request.
    bench.pass_ms(601_000);
    bench.put(&key("other"), "0");
    bench.asked(r#"{"op":"PUT","key":"other","value":1,"request":"c"}"#);
    assert_eq!(bench.asked(first), ok());
    assert_eq!(bench.get(&key("k"))["value"], 1);
}

#[test]
fn many_keys_have_many_outcomes_in_order() {
    let mut bench = alone();
    let long = "x".repeat(1025);
    let big = "9".repeat(1001);
    let reply = bench.asked(&format!(
        r#"{{"op":"MPUT","items":[{{"key":"a","value":1}},{{"key":"","value":2}},{{"key":"b","value":{big}}},{{"key":"a","value":3}}]}}"#
    ));
    let results = reply["results"].as_array().unwrap();
    assert_eq!((&results[0], &results[3]), (&ok(), &ok()));
    assert_eq!((code(&results[1]), code(&results[2])), ("BAD_REQUEST", "TOO_LARGE"));
    let reply = bench.asked(&format!(r#"{{"op":"MGET","keys":["a","b","{long}"]}}"#));
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results[0], json(r#"{"key":"a","value":3}"#));
    assert_eq!((code(&results[1]), code(&results[2])), ("KEY_NOT_FOUND", "TOO_LARGE"));
    assert_eq!(results[1]["key"], "b");
}

#[test]
fn ids_are_echoed_and_receipts_say_who_answered() {
    let mut bench = alone();
    let reply = bench.asked(r#"{"op":"PUT","key":"k","value":1,"id":[1,"x"],"want":["receipt","context"]}"#);
    assert_eq!(reply["id"], json(r#"[1,"x"]"#));
    assert_eq!(reply["receipt"], json(r#"{"nodes":["node-0"],"epoch":1,"hinted":false}"#));
    assert_eq!(reply["context"].as_object().unwrap().len(), 1);
    let stale = bench.asked(r#"{"op":"GET_ONE","key":"k","epoch":0}"#);
    assert_eq!(stale["epoch"], 1, "a client that routes by an older ring is told");
}

#[test]
fn without_a_ring_nothing_is_served_and_it_says_so() {
    let mut bench = Bench::without_ring(0);
    for request in [
        put(&key("k"), "1").as_str(),
        get(&key("k")).as_str(),
        r#"{"op":"GET_ALL"}"#,
        r#"{"op":"SEARCH","key":"k"}"#,
        r#"{"op":"EXPLAIN","key":"k"}"#,
    ] {
        assert_eq!(code(&bench.asked(request)), "NOT_READY", "{request}");
    }
    assert_eq!(bench.asked(r#"{"op":"PING"}"#), ok());
    assert_eq!(bench.asked(r#"{"op":"STATUS"}"#)["epoch"], 0);
}

#[test]
fn more_replicas_than_there_are_is_refused_with_the_numbers() {
    let mut bench = alone();
    let reply = bench.asked(r#"{"op":"PUT","key":"k","value":1,"w":2}"#);
    assert_eq!(code(&reply), "BAD_REQUEST");
    assert_eq!(reply["message"], "w is 2, a key has 1 replicas here");
}

#[test]
fn a_write_that_is_given_up_before_it_is_durable_leaves_the_key_usable() {
    // Two nodes, so that the write has a timer: it waits for the new owner as well as for the store.
    let [_, both, ..] = phases(adding(&founding(1), 1));
    let mut bench = Bench::founded(0, &founding(1));
    bench.adopt(&both);
    let moving = moving_key(&both, 0, 1);
    bench.withholds = true;
    let write = bench.ask(&put(&moving, "1"));
    bench.release_one();
    bench.pass_ms(2_001);
    assert_eq!(bench.reply(write).unwrap()["indeterminate"], true);
    let read = bench.ask(&get(&moving));
    assert_eq!(bench.reply(read), None, "what it would show is not durable yet");
    bench.release();
    assert_eq!(bench.reply(read), None, "nor has the new owner said that it has it");
    let told = bench.sent().into_iter().find_map(|(_, message)| match message {
        Message::Replicate { id, round, .. } => Some((id, round)),
        _ => None,
    });
    let (id, round) = told.unwrap();
    bench.hear(1, Message::Replicated { id, round, taken: Taken::All });
    assert_eq!(bench.reply(read).unwrap()["value"], 1, "an unknown write may have happened");
    assert_eq!((bench.node.keys.len(), bench.status().tasks), (0, 0));
}

#[test]
fn an_operation_that_is_given_up_while_its_key_is_read_does_not_block_the_key() {
    let mut bench = Bench::founded(0, &founding(2));
    let key = key_of(&founding(2), 1);
    // Asked of the other node first; then this one becomes the owner, and the store is slow.
    let given_up = bench.ask(&get(&key));
    let [.., done] = phases(removing(&founding(2), 1));
    bench.withholds = true;
    bench.adopt(&done);
    let reads = bench.withheld.iter().filter(|e| matches!(e, Effect::Read { .. })).count();
    assert_eq!((reads, bench.reply(given_up)), (1, None));
    let next = bench.ask(&get(&key));
    bench.pass_ms(2_001);
    assert_eq!(code(&bench.reply(given_up).unwrap()), "TIMEOUT");
    bench.release();
    assert!(bench.reply(next).is_some(), "the next in line had its turn");
    assert_eq!(bench.node.keys.len(), 0);
}
