//! GET_ALL and SHOW_ALL: pages, bounds, other nodes' slices.

use super::*;
use ringkv_common::message::peer::Purpose;

fn filled(count: usize) -> (Bench, Vec<String>) {
    let mut bench = Bench::founded(0, &founding(1));
    let keys: Vec<Key> = keys(|_| true).take(count).collect();
    for key in &keys {
        bench.put(key, "1");
    }
    let mut keys = keys;
    keys.sort();
    (bench, keys.iter().map(|k| k.text().to_owned()).collect())
}

fn shown(reply: &Value) -> Vec<String> {
    let records = reply["collection"].as_array().unwrap_or_else(|| panic!("no collection: {reply}"));
    records.iter().map(|r| r["key"].as_str().unwrap().to_owned()).collect()
}

/// All pages of a listing, of so many records each.
fn pages(bench: &mut Bench, op: &str, limit: usize) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = bench.asked(&format!(r#"{{{op},"limit":{limit}{cursor}}}"#));
        all.push(shown(&reply));
        match reply["cursor"].as_str() {
            Some(next) => cursor = format!(r#","cursor":"{next}""#),
            None => return all,
        }
        assert!(all.len() < 1000, "pages come to an end");
    }
}

#[test]
fn pages_together_hold_each_key_once_whatever_their_size() {
    let (mut bench, keys) = filled(100);
    bench.asked(&format!(r#"{{"op":"DELETE","key":"{}"}}"#, keys[17]));
    let mut alive = keys.clone();
    alive.remove(17);
    for op in [r#""op":"GET_ALL""#, r#""op":"GET_ALL","scope":"node""#, r#""op":"GET_ALL","scope":"cluster""#]
    {
        for limit in [1, 7, 99, 1000] {
            let pages = pages(&mut bench, op, limit);
            assert!(pages.iter().all(|p| p.len() <= limit), "{op} {limit}");
            assert_eq!(pages.concat(), alive, "{op} {limit}");
        }
    }
    let everything = pages(&mut bench, r#""op":"SHOW_ALL""#, 30).concat();
    assert_eq!(everything, keys, "the deleted one too");
}

#[test]
fn what_does_not_fit_into_a_message_is_refused_and_names_limit() {
    let (mut bench, _) = filled(1500);
    let reply = bench.asked(r#"{"op":"GET_ALL"}"#);
    assert_eq!(code(&reply), "TOO_LARGE");
    assert!(reply["message"].as_str().unwrap().contains("limit"), "{reply}");
    let keys: Vec<String> = (0..1500).map(|n| format!("\"k{n}\"")).collect();
    let reply = bench.asked(&format!(r#"{{"op":"MGET","keys":[{}]}}"#, keys.join(",")));
    assert_eq!(code(&reply), "TOO_LARGE", "the reply, not the request");
    assert_eq!(pages(&mut bench, r#""op":"GET_ALL""#, 100).concat().len(), 1500);
}

#[test]
fn a_bad_cursor_is_refused() {
    let (mut bench, _) = filled(1);
    assert_eq!(code(&bench.asked(r#"{"op":"GET_ALL","cursor":"!"}"#)), "BAD_REQUEST");
    assert_eq!(code(&bench.asked(r#"{"op":"GET_ALL","limit":0}"#)), "BAD_REQUEST");
}

#[test]
fn more_replicas_than_there_are_are_asked_of_no_operation() {
    let (mut bench, keys) = filled(1);
    for (op, field) in [
        (r#""op":"GET_ALL","scope":"cluster""#.to_owned(), "r"),
        (format!(r#""op":"GET_ONE","key":"{}""#, keys[0]), "r"),
        (format!(r#""op":"UPDATE","key":"{}","value":2"#, keys[0]), "r"),
        (format!(r#""op":"UPDATE","key":"{}","value":2"#, keys[0]), "w"),
    ] {
        let reply = bench.asked(&format!(r#"{{{op},"{field}":2}}"#));
        assert_eq!(code(&reply), "BAD_REQUEST", "{op}: {reply}");
        let why = format!("{field} is 2, a key has 1 replicas here");
        assert_eq!(reply["message"], why, "{op}");
    }
    assert_eq!(shown(&bench.asked(r#"{"op":"GET_ALL","scope":"cluster","r":1}"#)), keys);
}

/// The fetches among what was sent: id and partition.
fn fetches(bench: &mut Bench) -> Vec<(u64, u32)> {
    let fetch = |(_, message): (NodeName, Message)| match message {
        Message::Fetch { id, purpose: Purpose::List, stretch, .. } => Some((id, stretch.partition)),
        _ => None,
    };
    bench.sent().into_iter().filter_map(fetch).collect()
}

#[test]
fn a_late_answer_to_an_earlier_question_is_not_taken_for_the_next_slice() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    let client = bench.ask(r#"{"op":"GET_ALL","scope":"cluster"}"#);
    let asked = fetches(&mut bench);
    // Silence: it asks again, and then both answers come.
    bench.pass_ms(501);
    let again = fetches(&mut bench);
    assert_eq!((asked.len(), again.len()), (1, 1));
    let record = |partition: u32| {
        let key = keys(|p| p == partition).next().unwrap();
        let mut other = Bench::founded(1, &ring);
        other.put(&key, "1");
        (key.clone(), other.store.read(&key))
    };
    let records = vec![record(asked[0].1)];
    for (id, _) in [again[0], asked[0]] {
        bench.hear(
            1,
            Message::Fetched { id, records: records.clone(), next: None, requests: Vec::new(), whole: true },
        );
    }
    // The rest of the other node's partitions is empty.
    for _ in 0..PARTITIONS {
        for (id, _) in fetches(&mut bench) {
            bench.hear(
                1,
                Message::Fetched { id, records: Vec::new(), next: None, requests: Vec::new(), whole: true },
            );
        }
    }
    assert_eq!(shown(&bench.reply(client).unwrap()), [records[0].0.text()], "once");
}

#[test]
fn a_slice_that_was_read_under_an_older_ring_is_read_again() {
    let ring = founding(1);
    let mut bench = Bench::founded(0, &ring);
    let [copy, both, switch, done] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    bench.put(&key, "1");
    bench.withholds = true;
    let client = bench.ask(r#"{"op":"GET_ALL","scope":"cluster"}"#);
    let scan = bench.withheld.pop_front().unwrap();
    assert!(matches!(scan, Effect::Scan { .. }));
    // While the scan waits, the partition moves away and is dropped here.
    for ring in [&copy, &both, &switch, &done] {
        bench.adopt(ring);
    }
    bench.withholds = false;
    bench.hear(1, Message::Released { epoch: done.epoch, partition: key.partition(PARTITIONS), held: 1 });
    bench.withheld.clear();
    let event = bench.store_does(scan);
    bench.step(event);
    assert_eq!(bench.reply(client), None, "it asks the new owner");
    assert_eq!(fetches(&mut bench).len(), 1);
}

#[test]
fn a_listing_under_way_at_a_peer_that_is_silent_ends_in_time() {
    let mut bench = Bench::founded(0, &founding(2));
    let client = bench.ask(r#"{"op":"GET_ALL","scope":"cluster","timeout_ms":1200}"#);
    bench.pass_ms(1_300);
    assert_eq!(code(&bench.reply(client).unwrap()), "TIMEOUT");
    assert_eq!(bench.status().tasks, 0);
}

#[test]
fn more_listings_than_allowed_are_refused_and_room_comes_back() {
    let mut bench = Bench::founded(0, &founding(2));
    for _ in 0..16 {
        let client = bench.ask(r#"{"op":"GET_ALL","scope":"cluster"}"#);
        assert_eq!(bench.reply(client), None);
    }
    assert_eq!(code(&bench.asked(r#"{"op":"GET_ALL","scope":"cluster"}"#)), "OVERLOADED");
    bench.pass_ms(2_100);
    let client = bench.ask(r#"{"op":"GET_ALL","scope":"cluster"}"#);
    assert_eq!(bench.reply(client), None, "the others have ended");
}
