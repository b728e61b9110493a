//! Questions before a change, and greetings.

use super::*;
use ringkv_common::message::request::consent_json;
use ringkv_common::ring::Kind;
use ringkv_common::ring::orchestrator::Question;

fn question(kind: Kind, base: u64, reach: Vec<ring::Node>) -> String {
    consent_json(&Question { kind, base, reach })
}

fn removal(base: u64) -> String {
    question(Kind::Remove { node: name(1) }, base, Vec::new())
}

fn no(reply: &Value) -> &str {
    assert_eq!(reply["consent"], false, "{reply}");
    reply["reason"].as_str().unwrap()
}

#[test]
fn yes_where_the_ring_is_the_plans_base_and_quiet() {
    let mut bench = Bench::founded(0, &founding(2));
    assert_eq!(bench.asked(&removal(1)), json(r#"{"status":"OK","consent":true}"#));
}

#[test]
fn no_comes_with_its_reason() {
    let ring = founding(2);
    assert_eq!(no(&Bench::without_ring(0).asked(&removal(1))), "it has no ring yet");
    let mut bench = Bench::founded(0, &ring);
    assert_eq!(no(&bench.asked(&removal(7))), "its ring has epoch 1, the plan starts from 7");
    bench.adopt(&adding(&ring, 2));
    assert_eq!(no(&bench.asked(&removal(2))), "another change runs: add node-2, phase copy");
    let mut restarted = Bench::without_ring(0);
    restarted.adopt(&ring);
    assert!(no(&restarted.asked(&removal(1))).contains("it lost 32 partitions with its memory"));
}

#[test]
fn no_while_the_last_change_is_still_handed_over() {
    let ring = founding(1);
    let mut bench = Bench::founded(0, &ring);
    let rings = phases(adding(&ring, 1));
    bench.put(&moving_key(&rings[0], 0, 1), "1");
    rings.iter().for_each(|ring| bench.adopt(ring));
    assert!(no(&bench.asked(&removal(5))).contains("it still hands over 1 partitions"));
}

#[test]
fn a_newcomer_says_yes_when_everybody_heard_it() {
    let mut bench = Bench::without_ring(2);
    let ask = question(Kind::Add { node: name(2) }, 1, vec![member(0), member(1)]);
    let client = bench.ask(&ask);
    assert_eq!(bench.connected, [name(0), name(1)]);
    let hellos =
        |bench: &mut Bench| bench.sent().iter().filter(|(_, m)| matches!(m, Message::Hello { .. })).count();
    assert_eq!(hellos(&mut bench), 2);
    bench.hear(0, Message::Welcome);
    assert_eq!(bench.reply(client), None);
    bench.pass_ms(200);
    assert_eq!(hellos(&mut bench), 1, "whoever is silent is greeted again");
    bench.hear(1, Message::Welcome);
    assert_eq!(bench.reply(client).unwrap()["consent"], true);

    let client = bench.ask(&ask);
    bench.hear(1, Message::Welcome);
    bench.pass_ms(2_001);
    assert_eq!(no(&bench.reply(client).unwrap()), "it cannot reach node-0");
}

#[test]
fn a_member_answers_a_stranger_over_a_connection_of_its_own() {
    let mut bench = Bench::founded(0, &founding(1));
    bench.step(Event::Peer(Frame {
        cluster: ClusterId::default(),
        from: name(5),
        message: Message::Hello { host: "h".into(), port: 12005 },
    }));
    assert_eq!(bench.connected, [name(5)]);
    assert_eq!(bench.sent(), [(name(5), Message::Welcome)]);
}

#[test]
fn a_node_that_was_just_removed_does_not_join_again_before_it_has_left() {
    let mut bench = Bench::founded(0, &founding(2));
    let [.., done] = phases(removing(&founding(2), 0));
    bench.adopt(&done);
    let ask = question(Kind::Add { node: name(0) }, done.epoch, vec![member(1)]);
    assert!(no(&bench.asked(&ask)).contains("leaving"), "its process ends soon, and its data with it");
}

#[test]
fn frames_of_another_cluster_are_counted_and_change_nothing() {
    let ring = founding(1);
    let mut bench = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    let mut other = founding(1);
    other.cluster_id = ClusterId(0xBAD);
    other.epoch = 9;
    let siblings = {
        let mut twin = Bench::founded(0, &ring);
        twin.put(&key, "666");
        twin.store.read(&key)
    };
    let message =
        Message::Replicate { id: 1, epoch: 1, key: key.clone(), siblings, base: 0, request: 0, round: 0 };
    bench.step(Event::Peer(Frame { cluster: ClusterId(0xBAD), from: name(1), message }));
    bench.adopt(&other);
    assert_eq!(code(&bench.get(&key)), "KEY_NOT_FOUND");
    let refused = bench.status().refused;
    assert_eq!((refused.foreign_frames, refused.rings, bench.status().epoch), (1, 1, 1));
    assert!(bench.sent().is_empty());
}

#[test]
fn a_ring_with_another_number_of_partitions_is_refused_for_it_would_empty_the_store() {
    let mut bench = Bench::founded(0, &founding(1));
    let founding = Founding {
        cluster_id: ClusterId(0xC1),
        strategy: placement::Strategy::Consistent,
        chosen: false,
        partitions: 128,
        replicas: 1,
        balance: None,
    };
    let mut ring = plan::found(&founding, vec![member(0)]).unwrap();
    ring.epoch = 5;
    bench.adopt(&ring);
    assert_eq!((bench.status().epoch, bench.status().refused.rings), (1, 1));
}
