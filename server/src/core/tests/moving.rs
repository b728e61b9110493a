//! Changes of the ring: which quorum a write needs, who serves, what is handed over.

use super::*;
use ringkv_common::message::peer::{Purpose, Stretch};
use ringkv_common::time::Stamp;
use ringkv_common::version::{Content, Dot, Version};

/// The numbers under which the other owners were told of a write.
fn replicates(bench: &mut Bench) -> Vec<(NodeName, (u64, u32))> {
    let told = |(to, message): (NodeName, Message)| match message {
        Message::Replicate { id, round, .. } => Some((to, (id, round))),
        _ => None,
    };
    bench.sent().into_iter().filter_map(told).collect()
}

/// The answer to one of them.
fn replicated((id, round): (u64, u32)) -> Message {
    Message::Replicated { id, round, taken: Taken::All }
}

#[test]
fn new_owners_are_told_in_copy_and_awaited_from_both_on() {
    let ring = founding(1);
    let [copy, both, switch, _] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    let mut source = Bench::founded(0, &ring);
    source.adopt(&copy);
    let write = source.ask(&put(&key, "1"));
    assert_eq!(source.reply(write), Some(ok()), "the new owner's silence costs nothing");
    assert_eq!(replicates(&mut source).len(), 1);

    source.adopt(&both);
    source.sent();
    let write = source.ask(&put(&key, "2"));
    let told = replicates(&mut source);
    assert_eq!((source.reply(write), told.len()), (None, 1));
    source.hear(1, replicated(told[0].1));
    assert_eq!(source.reply(write), Some(ok()));

    // In switch the new owner coordinates, and needs the old one.
    let mut target = Bench::without_ring(1);
    target.adopt(&ring);
    target.adopt(&both);
    converse((0, &mut source), (1, &mut target));
    assert_eq!(target.status().report.verified, target.status().report.incoming);
    target.adopt(&switch);
    target.sent();
    let write = target.ask(&put(&key, "3"));
    let told = replicates(&mut target);
    assert_eq!((target.reply(write), told.len()), (None, 1));
    target.hear(0, replicated(told[0].1));
    assert_eq!(target.reply(write), Some(ok()));
}

#[test]
fn a_write_under_way_counts_anew_when_the_ring_changes() {
    let ring = founding(1);
    let [copy, both, ..] = phases(adding(&ring, 1));
    let key = moving_key(&copy, 0, 1);
    let mut source = Bench::founded(0, &ring);
    source.adopt(&copy);
    source.withholds = true;
    let write = source.ask(&put(&key, "1"));
    source.release_one();
    source.sent();
    source.adopt(&both);
    let told = replicates(&mut source);
    source.release();
    assert_eq!((source.reply(write), told.len()), (None, 1), "durable here is not enough any more");
    source.hear(1, replicated(told[0].1));
    assert_eq!(source.reply(write), Some(ok()));
}

#[test]
fn what_a_new_owner_has_not_acknowledged_is_shown_to_nobody() {
    let [_, both, ..] = phases(adding(&founding(1), 1));
    let key = moving_key(&both, 0, 1);
    let mut bench = Bench::founded(0, &founding(1));
    assert_eq!(bench.put(&key, "1"), ok());
    bench.adopt(&both);
    let write = bench.ask(&put(&key, "2"));
    let insert = bench.ask(&format!(r#"{{"op":"INSERT","key":"{}","value":3}}"#, key.text()));
    let early = bench.ask(&get(&key));
    let told = replicates(&mut bench)[0];
    // The write's client hears that time is up; the new owner goes on being told.
    bench.pass_ms(2_100);
    assert_eq!(code(&bench.reply(write).unwrap()), "TIMEOUT");
    assert_eq!(bench.reply(write).unwrap()["indeterminate"], true);
    for client in [insert, early] {
        let reply = bench.reply(client).unwrap();
        assert_eq!((code(&reply), reply.get("indeterminate")), ("TIMEOUT", None), "{reply}");
    }
    let late = bench.ask(&get(&key));
    bench.sent();
    bench.pass_ms(1_900);
    assert!(!replicates(&mut bench).is_empty(), "it is told still");
    assert_eq!(bench.reply(late), None);
    bench.hear(1, replicated(told.1));
    assert_eq!(bench.reply(late).unwrap()["value"], 2);
    assert_eq!((bench.node.keys.len(), bench.status().tasks, bench.status().waiting_bytes), (0, 0, 0));
}

#[test]
fn a_removed_node_leaves_when_it_has_answered() {
    let ring = founding(2);
    let mut leaving = Bench::founded(0, &ring);
    phases(removing(&ring, 0)).iter().for_each(|ring| leaving.adopt(ring));
    let key = key_of(&ring, 1);
    leaving.pass_ms(4_900);
    let body = format!(r#"{{"op":"PUT","key":"{}","value":1,"timeout_ms":30000}}"#, key.text());
    let write = leaving.ask(&body);
    leaving.pass_ms(1_000);
    assert_eq!((leaving.reply(write), leaving.left), (None, false), "it was asked before it was to leave");
    let late = leaving.asked(&get(&key));
    assert_eq!(code(&late), "NOT_READY", "nothing new is begun");
    let (op, terms) = (ringkv_common::message::KeyOp::Read(key.clone()), Default::default());
    leaving.sent();
    leaving.hear(
        1,
        Message::Forward { id: 9, epoch: leaving.node.epoch(), left_ms: 30_000, op, terms, heard: 0 },
    );
    assert_eq!((leaving.sent(), leaving.status().tasks), (vec![], 1), "nor for a peer, which tells it again");
    leaving.pass_ms(2_000);
    let reply = leaving.reply(write).unwrap();
    assert_eq!((code(&reply), &reply["indeterminate"]), ("TIMEOUT", &Value::Bool(true)));
    assert!(leaving.left);
}

#[test]
fn a_silent_owner_is_told_again_once_in_a_while() {
    let [_, both, ..] = phases(adding(&founding(1), 1));
    let key = moving_key(&both, 0, 1);
    let mut bench = Bench::founded(0, &founding(1));
    bench.adopt(&both);
    let write = bench.ask(&put(&key, "1"));
    let first = replicates(&mut bench);
    let mut times = Vec::new();
    for ms in (0..2_000).step_by(50) {
        let again = replicates(&mut bench);
        assert!(again.iter().all(|told| *told == first[0]), "under the same number");
        times.extend(again.iter().map(|_| ms));
        bench.pass_ms(50);
    }
    assert_eq!(times, [300, 900], "after 300 ms, and then twice as long each time");
    bench.pass_ms(100);
    let reply = bench.reply(write).unwrap();
    assert_eq!((code(&reply), &reply["indeterminate"]), ("TIMEOUT", &Value::Bool(true)));
    assert!(
        reply["message"].as_str().unwrap().contains("needed 1 replicas, got 0: node-1 timed out"),
        "{reply}"
    );
}

#[test]
fn refusals_do_not_multiply_what_is_told_again() {
    let ring = founding(2);
    let mut bench = Bench::founded(0, &ring);
    bench.adopt(&adding(&ring, 2));
    let key = key_of(&ring, 1);
    bench.sent();
    bench.ask(&get(&key));
    let mut forwards = 0;
    let mut rings = 0;
    for _ in 0..100 {
        for (_, message) in bench.sent() {
            match message {
                // A peer that cannot catch up: it refuses, whatever it is sent.
                Message::Forward { id, .. } => {
                    forwards += 1;
                    bench.hear(1, Message::Refused { id, epoch: 1 });
                }
                Message::Ring(_) => rings += 1,
                _ => {}
            }
        }
        bench.pass_ms(10);
    }
    assert!(forwards <= 6, "{forwards} in a second: at once after the first refusal, then ever more slowly");
    assert!(rings <= 11, "{rings} rings in a second");
}

#[test]
fn a_request_of_another_epoch_is_refused_unapplied_and_whoever_is_behind_catches_up() {
    let ring = founding(2);
    let later = adding(&ring, 2);
    let mut bench = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    let siblings = {
        let mut twin = Bench::founded(1, &founding(2));
        phases(removing(&founding(2), 0)).iter().for_each(|ring| twin.adopt(ring));
        twin.put(&key, "1");
        twin.store.read(&key)
    };
    let replicate = |epoch| Message::Replicate {
        id: 5,
        epoch,
        key: key.clone(),
        siblings: siblings.clone(),
        base: 0,
        request: 0,
        round: 0,
    };
    bench.hear(1, replicate(2));
    assert_eq!(
        bench.sent(),
        [(name(1), Message::Refused { id: 5, epoch: 1 }), (name(1), Message::RingWanted)],
        "it is behind and asks for the ring"
    );
    assert!(bench.store.read(&key).is_empty(), "unapplied");
    bench.hear(1, Message::Ring(later.to_json().unwrap().into()));
    assert_eq!(bench.status().epoch, 2);
    bench.hear(1, replicate(1));
    assert_eq!(
        bench.sent(),
        [(name(1), Message::Refused { id: 5, epoch: 2 })],
        "now the other one is behind"
    );
    bench.hear(1, Message::RingWanted);
    assert!(matches!(bench.sent().as_slice(), [(_, Message::Ring(_))]));
    bench.hear(1, replicate(2));
    assert_eq!(bench.sent(), [(name(1), Message::Replicated { id: 5, round: 0, taken: Taken::All })]);
}

#[test]
fn a_refused_request_is_told_again_with_the_ring_before_it() {
    let ring = founding(2);
    let later = adding(&ring, 2);
    let (mut ahead, mut behind) = (Bench::founded(0, &ring), Bench::founded(1, &ring));
    let key = key_of(&ring, 1);
    ahead.adopt(&later);
    let write = ahead.ask(&put(&key, "1"));
    converse((0, &mut ahead), (1, &mut behind));
    assert_eq!((ahead.reply(write), behind.status().epoch), (Some(ok()), 2));
    let read = behind.ask(&get(&key_of(&ring, 0)));
    converse((0, &mut ahead), (1, &mut behind));
    assert_eq!(code(&behind.reply(read).unwrap()), "KEY_NOT_FOUND");
}

#[test]
fn operations_go_to_the_owner_and_are_told_again_under_one_request_id() {
    let ring = founding(2);
    let (mut gate, mut owner) = (Bench::founded(0, &ring), Bench::founded(1, &ring));
    let key = key_of(&ring, 1);
    let write = gate.ask(&put(&key, "1"));
    let first = gate.sent();
    gate.pass_ms(301);
    let second = gate.sent();
    assert_eq!((first.len(), second.len()), (1, 1));
    for (_, message) in first.into_iter().chain(second) {
        owner.hear(0, message);
    }
    assert_eq!(owner.node.author.dots, 1, "told twice, done once");
    converse((0, &mut gate), (1, &mut owner));
    assert_eq!(gate.reply(write), Some(ok()));
    let read = gate.ask(&get(&key));
    converse((0, &mut gate), (1, &mut owner));
    assert_eq!(gate.reply(read).unwrap()["value"], 1);
}

#[test]
fn an_owner_that_stays_silent_leaves_a_write_unknown_and_a_read_without_harm() {
    let ring = founding(2);
    let mut gate = Bench::founded(0, &ring);
    let key = key_of(&ring, 1);
    let (write, read) = (gate.ask(&put(&key, "1")), gate.ask(&get(&key)));
    gate.pass_ms(2_001);
    assert_eq!(gate.reply(write).unwrap()["indeterminate"], true);
    let read = gate.reply(read).unwrap();
    assert_eq!((code(&read), read["indeterminate"].as_bool()), ("TIMEOUT", None));
    assert_eq!((gate.status().tasks, gate.status().waiting_bytes), (0, 0));
}

#[test]
fn a_message_that_comes_back_unsent_late_does_not_deny_what_was_told_since() {
    let ring = founding(2);
    let mut gate = Bench::founded(0, &ring);
    let key = key_of(&ring, 1);
    let write = gate.ask(&put(&key, "1"));
    let (to, message) = gate.sent().remove(0);
    let [.., done] = phases(removing(&ring, 1));
    gate.adopt(&done);
    assert_eq!(gate.reply(write), Some(ok()), "this node owns the key now");
    let rings = phases(adding(&done, 3));
    rings.iter().for_each(|ring| gate.adopt(ring));
    let key = moving_key(&rings[0], 0, 3);
    let write = gate.ask(&put(&key, "2"));
    gate.step(Event::Unsent { to, message });
    assert_eq!(gate.reply(write), None);
    let (_, message) = gate.sent().into_iter().find(|(_, m)| matches!(m, Message::Forward { .. })).unwrap();
    gate.step(Event::Unsent { to: name(1), message });
    assert_eq!(gate.reply(write), None, "it may have been done by the owner that it went to since");
}

#[test]
fn a_partition_moves_whole_and_the_former_owner_drops_it_only_when_told() {
    let ring = founding(1);
    let rings = phases(adding(&ring, 1));
    let (mut source, mut target) = (Bench::founded(0, &ring), Bench::without_ring(1));
    target.adopt(&ring);
    let keys: Vec<Key> = keys(|_| true).take(300).collect();
    for key in &keys {
        source.put(key, "1");
    }
    for (n, ring) in rings.iter().enumerate() {
        source.adopt(ring);
        target.adopt(ring);
        let key = keys.iter().find(|k| rings[0].moves(k.partition(PARTITIONS))).unwrap();
        let (write, read) = (source.ask(&put(key, &n.to_string())), target.ask(&get(key)));
        converse((0, &mut source), (1, &mut target));
        assert_eq!(source.reply(write), Some(ok()), "epoch {}", ring.epoch);
        assert!(target.reply(read).is_some(), "epoch {}", ring.epoch);
        let report = target.status().report;
        if ring.change.is_some() {
            let done = if n == 0 { report.copied } else { report.verified };
            assert_eq!((report.incoming, done), (32, 32), "epoch {}", ring.epoch);
        }
    }
    let (left, came) = (source.status(), target.status());
    assert_eq!(
        left.stored + came.stored,
        300,
        "each key is at one node: {} and {}",
        left.stored,
        came.stored
    );
    assert_eq!(left.keys, left.stored);
    assert!(left.report.lost_partitions.is_empty() && came.report.lost_partitions.is_empty());
}

#[test]
fn a_removed_node_leaves_only_when_all_is_handed_over() {
    let ring = founding(2);
    let mut leaving = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    leaving.put(&key, "1");
    let rings = phases(removing(&ring, 0));
    rings.iter().for_each(|ring| leaving.adopt(ring));
    leaving.pass_ms(20_000);
    assert!(!leaving.left, "the owner never answered");
    let partition = key.partition(PARTITIONS);
    let offers = |bench: &mut Bench| {
        bench.sent().iter().filter(|(_, m)| matches!(m, Message::Surrender { .. })).count()
    };
    assert!(offers(&mut leaving) >= 20, "it keeps offering");
    // Released by somebody who is no owner, of another epoch, or of a partition out of range: nothing happens.
    let epoch = rings[3].epoch;
    leaving.hear(7, Message::Released { epoch, partition, held: 1 });
    leaving.hear(1, Message::Released { epoch: epoch - 1, partition, held: 1 });
    leaving.hear(1, Message::Released { epoch, partition: 1_000_000, held: 1 });
    assert!(!leaving.store.read(&key).is_empty());
    leaving.hear(1, Message::Released { epoch, partition, held: 1 });
    assert!(leaving.store.read(&key).is_empty());
    leaving.pass_ms(100);
    assert!(leaving.left);
}

#[test]
fn what_was_dropped_is_not_handed_over_as_if_it_had_been_empty() {
    let ring = founding(2);
    let mut leaving = Bench::founded(0, &ring);
    let key = key_of(&ring, 0);
    leaving.put(&key, "1");
    let rings = phases(removing(&ring, 0));
    rings.iter().for_each(|ring| leaving.adopt(ring));
    let (epoch, partition) = (rings[3].epoch, key.partition(PARTITIONS));
    let stretch = Stretch { partition, after: None, until: None, buckets: None };
    let fetch = |id| {
        let purpose = Purpose::Handover { held: 1 };
        Message::Fetch { id, epoch, purpose, stretch: stretch.clone(), known: Vec::new(), bytes_max: 1_000 }
    };
    let fetched = |bench: &mut Bench| {
        let said = bench.sent();
        said.into_iter().filter(|(_, m)| matches!(m, Message::Fetched { .. })).count()
    };
    leaving.hear(1, fetch(1));
    assert_eq!(fetched(&mut leaving), 1);
    leaving.hear(1, Message::Released { epoch, partition, held: 1 });
    assert!(leaving.store.read(&key).is_empty());
    // The requests that it knew of went with the records: whoever heard of them alone would take the writes for done.
    leaving.hear(1, fetch(2));
    assert_eq!(fetched(&mut leaving), 0);
}

#[test]
fn a_removed_node_forwards_for_a_while_before_it_leaves() {
    let ring = founding(2);
    let mut leaving = Bench::founded(0, &ring);
    phases(removing(&ring, 0)).iter().for_each(|ring| leaving.adopt(ring));
    leaving.pass_ms(4_000);
    leaving.sent();
    leaving.ask(&get(&Key::new("any").unwrap()));
    assert!(matches!(leaving.sent().as_slice(), [(_, Message::Forward { .. })]));
    assert!(!leaving.left);
    leaving.pass_ms(3_200);
    assert!(leaving.left);
}

#[test]
fn a_removed_node_makes_itself_known_to_owners_that_joined_later() {
    let ring = founding(2);
    let mut leaving = Bench::founded(0, &ring);
    leaving.put(&key_of(&ring, 0), "1");
    phases(removing(&ring, 0)).iter().for_each(|ring| leaving.adopt(ring));
    let sent = leaving.sent();
    let hello = sent.iter().position(|(_, m)| matches!(m, Message::Hello { .. })).unwrap();
    let offer = sent.iter().position(|(_, m)| matches!(m, Message::Surrender { .. })).unwrap();
    assert!(hello < offer);
}

#[test]
fn a_giver_that_falls_silent_does_not_keep_others_from_handing_over() {
    let ring = founding(3);
    let mut owner = Bench::founded(0, &ring);
    let partition = key_of(&ring, 0).partition(PARTITIONS);
    owner.hear(1, Message::Surrender { epoch: 1, partition, held: 1 });
    let asked = |bench: &mut Bench| -> Vec<NodeName> {
        let fetches = bench.sent().into_iter();
        fetches.filter(|(_, m)| matches!(m, Message::Fetch { .. })).map(|(to, _)| to).collect()
    };
    assert_eq!(asked(&mut owner), [name(1)]);
    owner.hear(2, Message::Surrender { epoch: 1, partition, held: 1 });
    assert_eq!(asked(&mut owner), [], "one after the other");
    owner.pass_ms(600);
    owner.hear(2, Message::Surrender { epoch: 1, partition, held: 1 });
    assert_eq!(asked(&mut owner), [name(2)]);
}

#[test]
fn a_former_owner_gives_only_what_was_asked_under_its_own_ring() {
    let ring = founding(1);
    let rings = phases(adding(&ring, 1));
    let key = moving_key(&rings[0], 0, 1);
    let mut source = Bench::founded(0, &ring);
    source.put(&key, "1");
    source.adopt(&rings[0]);
    source.withholds = true;
    let stretch = Stretch { partition: key.partition(PARTITIONS), after: None, until: None, buckets: None };
    let fetch = Message::Fetch {
        id: 3,
        epoch: 2,
        purpose: Purpose::List,
        stretch,
        known: Vec::new(),
        bytes_max: 1000,
    };
    source.sent();
    source.hear(1, fetch);
    source.adopt(&rings[1]);
    source.release();
    let refused = source.sent().contains(&(name(1), Message::Refused { id: 3, epoch: 3 }));
    assert!(refused, "the store was read under a later ring than was asked for");
}

#[test]
fn a_giver_that_stays_behind_is_not_asked_without_pause() {
    let [copy, ..] = phases(adding(&founding(1), 1));
    let mut target = Bench::without_ring(1);
    target.adopt(&copy);
    let mut fetches = 0;
    for _ in 0..100 {
        for (_, message) in target.sent() {
            if let Message::Fetch { id, .. } = message {
                fetches += 1;
                target.hear(0, Message::Refused { id, epoch: 1 });
            }
        }
        target.pass_ms(10);
    }
    // Four pulls at one time: each asks, asks again at once, and then with its alarm.
    assert!((8..=12).contains(&fetches), "{fetches} in a second");
}

#[test]
fn what_a_pull_brings_does_not_undo_what_was_written_meanwhile() {
    let [copy, ..] = phases(adding(&founding(1), 1));
    let state = |counter, value: &str| {
        let actor = Actor { id: 9, node: name(0) };
        let content = Content::Json(Arc::from(value.as_bytes()));
        let dot = Dot { actor, counter };
        let mut siblings = Siblings::default();
        let stamp = Stamp(counter);
        siblings.write(None, Version { dot, stamp, request: 0, contextual: false, content });
        siblings
    };
    let mut target = Bench::without_ring(1);
    target.adopt(&copy);
    let fetch = |(_, message): (NodeName, Message)| match message {
        Message::Fetch { id, stretch, .. } => Some((id, stretch.partition)),
        _ => None,
    };
    let (asked, partition) = target.sent().into_iter().find_map(fetch).unwrap();
    let mut of_partition = keys(|p| p == partition);
    let (a, b) = (of_partition.next().unwrap(), of_partition.next().unwrap());
    let replicate = |id, key: &Key, siblings| Message::Replicate {
        round: 0,
        id,
        epoch: copy.epoch,
        key: key.clone(),
        siblings,
        base: 0,
        request: 0,
    };
    target.withholds = true;
    // The second key is being read for somebody else, so its turn comes late; the first one's does not.
    target.hear(0, replicate(70, &b, state(5, "5")));
    let records = vec![(a.clone(), state(1, "1")), (b.clone(), state(2, "2"))];
    target.hear(0, Message::Fetched { id: asked, records, next: None, requests: vec![], whole: true });
    target.withheld.rotate_left(1);
    assert!(matches!(target.withheld.front(), Some(Effect::ReadMany { keys }) if keys[..] == [a.clone()]));
    target.release_one();
    target.hear(0, replicate(71, &a, state(6, "6")));
    target.withheld.rotate_left(1);
    assert!(matches!(target.withheld.front(), Some(Effect::Persist { key, .. }) if *key == a));
    target.release_one();
    target.release();
    assert_eq!(target.store.read(&a), state(6, "6"));
    assert_eq!(target.store.read(&b), state(5, "5"));
    let told = |(_, message): &(NodeName, Message)| {
        matches!(message, Message::Replicated { id: 70 | 71, round: 0, taken: Taken::All })
    };
    assert_eq!(target.sent().iter().filter(|sent| told(sent)).count(), 2);
}
