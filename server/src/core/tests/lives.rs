//! Restarts with an empty memory: what was lost is said, and an earlier life's answers are nobody's.

use super::*;

/// A node that starts empty and finds itself in this ring.
fn restarted(n: u16, ring: &Ring) -> Bench {
    let mut bench = Bench::without_ring(n);
    bench.adopt(ring);
    bench
}

#[test]
fn lost_partitions_are_said_until_the_operator_accepts_them() {
    let ring = founding(2);
    let mut bench = restarted(0, &ring);
    let key = key_of(&ring, 0);
    assert_eq!(bench.status().report.lost_partitions.len(), 32);
    let reply = bench.get(&key);
    assert_eq!((code(&reply), &reply["lost"]), ("KEY_NOT_FOUND", &Value::Bool(true)));
    assert_eq!(bench.put(&key, "1"), ok(), "it can be written");
    assert_eq!(bench.get(&key)["value"], 1);
    let accepted = bench.asked(r#"{"op":"ACCEPT_LOSS"}"#);
    assert_eq!(accepted["accepted_partitions"], 32);
    let other = keys(|p| ring.owners.owners(p) == [0]).nth(1).unwrap();
    assert_eq!(bench.get(&other)["lost"], Value::Null);
    assert_eq!(bench.status().lost_partitions, 0);
}

#[test]
fn a_founding_member_and_a_newcomer_have_lost_nothing() {
    let ring = founding(2);
    assert_eq!(Bench::founded(0, &ring).status().lost_partitions, 0);
    let mut newcomer = Bench::without_ring(2);
    newcomer.adopt(&ring);
    newcomer.adopt(&adding(&ring, 2));
    assert_eq!(newcomer.status().lost_partitions, 0);
}

#[test]
fn an_empty_consul_does_not_hide_what_a_later_ring_says_was_lost() {
    let ring = founding(2);
    let [.., later] = phases(adding(&ring, 2));
    let mut bench = Bench::without_ring(0);
    bench.step(Event::RingAbsent);
    bench.adopt(&later);
    assert!(bench.status().lost_partitions > 0, "the ring is no founding ring: this node was in it before");
    // An old snapshot first, then the ring as it is: what it owns by now is lost too.
    let [.., removed] = phases(removing(&ring, 1));
    let mut bench = restarted(0, &ring);
    assert_eq!(bench.status().lost_partitions, 32);
    bench.adopt(&removed);
    assert_eq!(bench.status().lost_partitions, 64);
}

#[test]
fn a_receiver_that_restarts_in_switch_serves_when_it_has_all_again() {
    let ring = founding(1);
    let [copy, both, switch, done] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    let mut source = Bench::founded(0, &ring);
    source.put(&key, "1");
    for ring in [&copy, &both, &switch] {
        source.adopt(ring);
    }
    let mut target = restarted(1, &switch);
    assert_eq!(target.status().lost_partitions, 0, "the former owner has it all");
    assert_eq!(code(&target.get(&key)), "NOT_READY");
    assert_eq!(code(&target.put(&key, "2")), "NOT_READY");
    for scope in ["", r#","scope":"node""#] {
        let reply = target.asked(&format!(r#"{{"op":"GET_ALL"{scope}}}"#));
        assert_eq!(code(&reply), "NOT_READY", "half a listing would pass for a whole one");
    }
    source.sent();
    converse((0, &mut source), (1, &mut target));
    assert_eq!(target.get(&key)["value"], 1);
    target.adopt(&done);
    assert_eq!(target.status().lost_partitions, 0);
}

#[test]
fn a_giver_that_restarts_never_gives_emptiness_for_data() {
    let ring = founding(1);
    let [copy, both, switch, done] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    let mut source = restarted(0, &both);
    let mut target = Bench::without_ring(1);
    target.adopt(&ring);
    target.adopt(&both);
    converse((0, &mut source), (1, &mut target));
    let report = target.status().report;
    assert_eq!(report.verified, 0);
    assert!(report.stuck.unwrap().contains("lost the data of partition"));
    assert_eq!(code(&source.put(&key, "1")), "NOT_READY", "undecided whose data counts");
    // Had the receiver had all before, the change goes on, and nothing is lost when it is done.
    source.adopt(&switch);
    source.adopt(&done);
    let owned = |p: &u32| done.owners.owners(*p) == [0];
    assert!(source.status().report.lost_partitions.iter().all(owned), "others own the rest");
}

#[test]
fn what_a_former_owner_still_has_comes_back_only_when_the_loss_is_accepted() {
    let ring = founding(1);
    let rings = phases(adding(&ring, 1));
    let key = moving_key(&rings[0], 0, 1);
    let mut source = Bench::founded(0, &ring);
    source.put(&key, "1");
    rings.iter().for_each(|ring| source.adopt(ring));
    let mut target = restarted(1, &rings[3]);
    converse((0, &mut source), (1, &mut target));
    assert_eq!(target.get(&key)["lost"], true, "the dead one may have taken writes since: 1 may be wrong");
    assert_eq!(source.status().stored, 1, "and it is not thrown away");
    target.asked(r#"{"op":"ACCEPT_LOSS"}"#);
    source.pass_ms(600);
    converse((0, &mut source), (1, &mut target));
    assert_eq!(target.get(&key)["value"], 1);
    assert_eq!(source.status().stored, 0);
}

#[test]
fn a_write_since_the_loss_outlives_what_comes_back() {
    let ring = founding(1);
    let rings = phases(adding(&ring, 1));
    let key = moving_key(&rings[0], 0, 1);
    let mut source = Bench::founded(0, &ring);
    // Its clock is ahead by seconds.
    source.now.wall_ms += 4_000;
    source.put(&key, "1");
    rings.iter().for_each(|ring| source.adopt(ring));
    let mut target = restarted(1, &rings[3]);
    converse((0, &mut source), (1, &mut target));
    target.asked(r#"{"op":"ACCEPT_LOSS"}"#);
    assert_eq!(target.put(&key, "2"), ok());
    source.pass_ms(600);
    converse((0, &mut source), (1, &mut target));
    assert_eq!(source.status().stored, 0, "handed over");
    assert_eq!(target.get(&key)["value"], 2, "it was acknowledged after the loss");
}

#[test]
fn an_answer_to_an_earlier_life_is_nobodys() {
    let ring = founding(2);
    let key = key_of(&ring, 1);
    let forward = |bench: &mut Bench| {
        let client = bench.ask(&get(&key));
        let id = bench.sent().into_iter().find_map(|(_, message)| match message {
            Message::Forward { id, .. } => Some(id),
            _ => None,
        });
        (client, id.unwrap())
    };
    let (_, old) = forward(&mut Bench::founded(0, &ring));
    let mut next = Bench::without_ring(0);
    next.node = Node::new(Identity { actor: 0xB000 << 64 | 77, ..identity(0) });
    next.adopt(&ring);
    let (client, new) = forward(&mut next);
    assert_ne!(old, new, "each life numbers its questions from elsewhere");
    let failure = Failure::new(Code::KeyNotFound, "of another question");
    let outcome = ringkv_common::message::Outcome::Failed(failure);
    next.hear(1, Message::Forwarded { id: old, outcome, nodes: Vec::new(), hinted: false, beat: 1 });
    assert_eq!(next.reply(client), None);
}

#[test]
fn a_write_that_was_done_elsewhere_under_its_request_id_does_not_come_back_late() {
    // The old owner begins a write; the client, met by silence, has it done by the new owner and goes on.
    let ring = founding(1);
    let [copy, both, switch, _] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    let (mut source, mut target) = (Bench::founded(0, &ring), Bench::without_ring(1));
    source.now.wall_ms += 4_000;
    target.adopt(&ring);
    for ring in [&copy, &both] {
        source.adopt(ring);
        target.adopt(ring);
        converse((0, &mut source), (1, &mut target));
    }
    let first = format!(r#"{{"op":"PUT","key":"{}","value":1,"request":"a"}}"#, key.text());
    source.ask(&first);
    source.adopt(&switch);
    target.adopt(&switch);
    let late = source.sent();
    for request in [&first, &put(&key, "2")] {
        let write = target.ask(request);
        // The old owner's clock is ahead: what it wrote hides what it is told, until it hears of both.
        while target.reply(write).is_none() {
            let told = target.sent();
            assert!(!told.is_empty(), "the new owner goes on until its write is above all others");
            for (_, message) in told {
                source.hear(1, message);
            }
            let answers = source.sent().into_iter().filter(|(_, m)| matches!(m, Message::Replicated { .. }));
            for (_, message) in answers {
                target.hear(0, message);
            }
        }
        assert_eq!(target.reply(write), Some(ok()));
    }
    for (_, message) in late {
        target.hear(0, message);
    }
    assert_eq!(target.get(&key)["value"], 2, "the first write was done once, and before the second");
}

#[test]
fn a_new_owner_knows_which_requests_were_done_though_their_versions_are_superseded() {
    let ring = founding(1);
    let rings = phases(adding(&ring, 1));
    let key = moving_key(&rings[0], 0, 1);
    let (mut source, mut target) = (Bench::founded(0, &ring), Bench::without_ring(1));
    target.adopt(&ring);
    let delete = format!(r#"{{"op":"DELETE","key":"{}","request":"a"}}"#, key.text());
    source.asked(&delete);
    source.put(&key, "1");
    for ring in &rings {
        source.adopt(ring);
        target.adopt(ring);
        converse((0, &mut source), (1, &mut target));
    }
    assert_eq!(target.asked(&delete), ok(), "repeated");
    assert_eq!(target.get(&key)["value"], 1, "and not done again");
}
