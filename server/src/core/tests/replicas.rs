//! Several owners of a key: quorums, repair by reads, hints, and what a restart with an empty memory costs.

use super::*;
use ringkv_common::key::bucket_of;
use ringkv_common::message::peer::Beat;
use ringkv_common::message::{Condition, KeyOp, Terms, Write};
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Content, Context, Dot, Siblings, Version};

use super::requests::Requests;
use super::twins::{join_without, take_late};

/// Whole nodes that hear each other at once, but for those that are cut off or have gone.
struct Group {
    ring: Ring,
    benches: Vec<Bench>,
    cut: Vec<u16>,
}

impl Group {
    fn founded(nodes: u16) -> Group {
        let ring = founding_of(nodes, 3);
        let mut group = Group { benches: Vec::new(), cut: Vec::new(), ring: ring.clone() };
        for n in 0..nodes {
            let mut bench = Bench::founded(n, &ring);
            bench.gossips = true;
            group.benches.push(bench);
        }
        group.pass_ms(1_000);
        group
    }

    fn node(&mut self, n: u16) -> &mut Bench {
        self.benches.iter_mut().find(|b| b.node.id.name == name(n)).unwrap()
    }

    /// Hands around what is said until all are silent. What a node says or hears that is cut off is lost.
    fn settle(&mut self) {
        loop {
            let mut said = Vec::new();
            for bench in &mut self.benches {
                let from = bench.node.id.name;
                said.extend(bench.sent().into_iter().map(|(to, message)| (from, to, message)));
            }
            if said.is_empty() {
                return;
            }
            let cut = self.cut.clone();
            for (from, to, message) in said {
                if cut.contains(&from.0) || cut.contains(&to.0) {
                    continue;
                }
                if let Some(bench) = self.benches.iter_mut().find(|b| b.node.id.name == to) {
                    bench.hear(from.0, message);
                }
            }
        }
    }

    fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.benches.iter_mut().for_each(|bench| bench.pass_ms(10));
            self.settle();
        }
    }

    /// Cuts nodes off, and waits until gossip calls them down.
    fn down(&mut self, nodes: &[u16]) {
        self.cut.extend(nodes);
        self.pass_ms(3_000);
    }

    fn up(&mut self) {
        self.cut.clear();
        self.pass_ms(3_000);
    }

    /// What a client is told that asks a node; two seconds are enough for any answer.
    fn ask(&mut self, n: u16, body: &str) -> Value {
        let client = self.node(n).ask(body);
        for _ in 0..300 {
            self.settle();
            if let Some(reply) = self.node(n).reply(client) {
                return reply;
            }
            self.pass_ms(10);
        }
        panic!("node-{n} does not answer {body}")
    }

    /// Its owners, and the others.
    fn owners(&self, key: &Key) -> (Vec<u16>, Vec<u16>) {
        let row = self.ring.owners.owners(key.partition(PARTITIONS));
        let owners: Vec<u16> = self.ring.names(row).map(|name| name.0).collect();
        let others = self.benches.iter().map(|b| b.node.id.name.0).filter(|n| !owners.contains(n)).collect();
        (owners, others)
    }

    /// The values that a node stores.
    fn stored(&mut self, n: u16, key: &Key) -> Vec<String> {
        let text = |content: &Content| String::from_utf8_lossy(content.bytes()).into_owned();
        self.node(n).store.read(key).values().iter().map(|v| text(&v.content)).collect()
    }

    /// Restarts a node with an empty memory.
    fn restart(&mut self, n: u16) {
        let now = self.node(n).now;
        let mut bench = Bench::without_ring(n);
        bench.node = Node::new(Identity { actor: 0xB000 + u128::from(n), ..identity(n) });
        (bench.now, bench.gossips) = (now, true);
        self.benches.retain(|b| b.node.id.name != name(n));
        bench.adopt(&self.ring.clone());
        self.benches.push(bench);
    }
}

fn key() -> Key {
    Key::new("k").unwrap()
}

fn put_at(value: u32, more: &str) -> String {
    format!(r#"{{"op":"PUT","key":"k","value":{value}{more}}}"#)
}

fn get_at(more: &str) -> String {
    format!(r#"{{"op":"GET_ONE","key":"k"{more}}}"#)
}

#[test]
fn a_write_reaches_all_owners_and_nobody_else() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    let reply = group.ask(others[0], &put_at(1, r#","want":["receipt"]"#));
    assert_eq!(reply["status"], "OK");
    assert_eq!(reply["receipt"]["hinted"], false);
    assert!(reply["receipt"]["nodes"].as_array().unwrap().len() >= 2, "{reply}");
    for owner in owners {
        assert_eq!(group.stored(owner, &key()), ["1"]);
    }
    for other in others {
        assert_eq!(group.stored(other, &key()), Vec::<String>::new());
    }
    let tasks: usize = group.benches.iter().map(|b| b.status().tasks + b.status().waiting_bytes).sum();
    assert_eq!(tasks, 0, "and nothing is left to do");
}

#[test]
fn level_one_may_be_stale_and_level_all_repairs() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.ask(owners[0], &put_at(1, ""));
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    // It is back before anybody noticed, and the coordinator has not told it again.
    group.cut.clear();
    assert_eq!(group.ask(owners[2], &get_at(r#","level":"ONE""#))["value"], 1);
    assert_eq!(group.ask(owners[2], &get_at(r#","level":"ALL""#))["value"], 2);
    assert_eq!(group.stored(owners[2], &key()), ["2"]);
    assert_eq!(group.ask(owners[2], &get_at(r#","level":"ONE""#))["value"], 2);
}

#[test]
fn a_quorum_of_reads_meets_a_quorum_of_writes_whoever_is_away() {
    let mut group = Group::founded(3);
    for away in 0..3 {
        let write = u32::from(away) + 10;
        group.down(&[away]);
        let coordinator = (away + 1) % 3;
        assert_eq!(group.ask(coordinator, &put_at(write, ""))["status"], "OK");
        group.cut.clear();
        group.down(&[coordinator]);
        let reply = group.ask(away, &get_at(""));
        assert_eq!(reply["value"], write, "it missed the write, and asks who did not");
        group.up();
    }
}

#[test]
fn too_few_owners_are_an_error_with_the_numbers_and_nothing_is_done() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.ask(owners[0], &put_at(1, ""));
    group.down(&[owners[1], owners[2]]);
    let reply = group.ask(owners[0], &put_at(2, ""));
    assert_eq!((code(&reply), &reply["indeterminate"]), ("QUORUM_FAILED", &Value::Null));
    let text = reply["message"].as_str().unwrap();
    assert!(text.contains("needed 2 replicas, 1 can be reached") && text.contains("is down"), "{text}");
    let reply = group.ask(owners[0], &get_at(""));
    assert_eq!(code(&reply), "QUORUM_FAILED");
    assert!(reply["message"].as_str().unwrap().contains("needed 2 replicas, got 1"), "{reply}");
    assert_eq!(group.ask(owners[0], &get_at(r#","level":"ONE""#))["value"], 1);
    assert_eq!(group.ask(owners[0], &put_at(3, r#","w":1"#))["status"], "OK");
    for (field, more) in [("r", r#","r":4"#), ("w", r#","w":4"#)] {
        let body = if field == "r" { get_at(more) } else { put_at(4, more) };
        let reply = group.ask(owners[0], &body);
        assert_eq!(code(&reply), "BAD_REQUEST");
        assert!(reply["message"].as_str().unwrap().contains("is 4, a key has 3 replicas"), "{reply}");
    }
}

#[test]
fn an_owner_that_falls_silent_makes_a_write_indeterminate() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    // Cut off, and nobody has noticed.
    group.cut = vec![owners[1], owners[2]];
    let client = group.node(owners[0]).ask(&put_at(1, r#","timeout_ms":200"#));
    group.pass_ms(300);
    let reply = group.node(owners[0]).reply(client).unwrap();
    assert_eq!((code(&reply), &reply["indeterminate"]), ("QUORUM_FAILED", &Value::Bool(true)));
    assert!(reply["message"].as_str().unwrap().contains("timed out after 200 ms"), "{reply}");
}

#[test]
fn who_refuses_or_does_not_answer_is_named_with_what_it_said() {
    let mut group = Group::founded(4);
    let (owners, others) = group.owners(&key());
    let client = group.node(owners[0]).ask(&put_at(1, r#","level":"ALL","timeout_ms":200"#));
    let Some((_, Message::Replicate { id, .. })) = group.node(owners[0]).sent().pop() else { panic!("told") };
    let failure = Failure::new(Code::Overloaded, "it has enough to do");
    group.node(owners[0]).hear(owners[1], Message::Failed { id, failure });
    group.cut = owners.clone();
    group.pass_ms(300);
    let reply = group.node(owners[0]).reply(client).unwrap();
    let (refuses, silent) = (name(owners[1]), name(owners[2]));
    let text = format!(
        "needed 3 replicas, got 1: {refuses} says: it has enough to do, {silent} timed out after 200 ms"
    );
    assert_eq!(reply["message"], text, "{reply}");
    let client = group.node(others[0]).ask(&put_at(1, r#","timeout_ms":2000"#));
    group.pass_ms(300);
    let short = group.node(others[0]).ask(&put_at(1, r#","timeout_ms":100"#));
    group.pass_ms(2_000);
    let [all, one] = [client, short].map(|client| group.node(others[0]).reply(client).unwrap());
    for owner in owners {
        assert!(all["message"].as_str().unwrap().contains(&name(owner).to_string()), "{all}");
    }
    assert_eq!(code(&all), "QUORUM_FAILED");
    assert!(one["message"].as_str().unwrap().contains("owns the key, did not answer within 100 ms"), "{one}");
}

#[test]
fn a_hint_stands_in_for_an_owner_that_is_away_and_is_handed_over_when_it_returns() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    group.down(&[owners[1], owners[2]]);
    let strict = group.ask(owners[0], &put_at(1, r#","quorum":"strict""#));
    assert_eq!(code(&strict), "QUORUM_FAILED");
    let reply = group.ask(others[0], &put_at(2, r#","want":["receipt"]"#));
    assert_eq!(
        (&reply["status"], &reply["receipt"]["hinted"]),
        (&json("\"OK\""), &Value::Bool(true)),
        "{reply}"
    );
    let hinted: usize = others.iter().map(|n| group.stored(*n, &key()).len()).sum();
    assert_eq!(hinted, 2, "one for each");
    // One of them comes back: the hints wait for the other one too.
    group.cut.retain(|n| *n != owners[1]);
    group.pass_ms(3_000);
    assert_eq!(group.ask(owners[1], &get_at(""))["value"], 2);
    group.up();
    assert_eq!(group.stored(owners[2], &key()), ["2"]);
    for other in others {
        assert_eq!(group.stored(other, &key()), Vec::<String>::new(), "the hint is gone");
    }
}

#[test]
fn of_all_that_a_node_stores_hints_are_marked_and_nothing_else() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    group.down(&[owners[1]]);
    assert_eq!(group.ask(owners[0], &put_at(1, ""))["status"], "OK");
    let mut marks = |nodes: &[u16]| -> Vec<Value> {
        let shown = nodes.iter().map(|n| group.ask(*n, r#"{"op":"SHOW_ALL"}"#)["collection"].take());
        shown.flat_map(|records| records.as_array().cloned().unwrap()).map(|r| r["hint"].clone()).collect()
    };
    assert_eq!(marks(&others), [true], "one stands in");
    assert_eq!(marks(&[owners[0], owners[2]]), [Value::Null, Value::Null], "an owner's own are not marked");
}

#[test]
fn hints_are_merged_into_reads_and_count_for_nobody() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    group.ask(owners[0], &put_at(1, ""));
    group.down(&[owners[1], owners[2]]);
    assert_eq!(group.ask(owners[0], &put_at(2, ""))["status"], "OK");
    group.cut = vec![owners[0], owners[2]];
    group.pass_ms(3_000);
    let reply = group.ask(owners[1], &get_at(""));
    assert_eq!(code(&reply), "QUORUM_FAILED", "one owner answers, and who stands in is none");
    group.cut = vec![owners[0]];
    group.pass_ms(3_000);
    // Neither of the two has it; who stood in does.
    assert!(!others.is_empty());
    assert_eq!(group.ask(owners[1], &get_at(""))["value"], 2);
}

#[test]
fn an_overwrite_is_above_all_that_was_acknowledged_whatever_the_clocks_say() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    group.cut = vec![owners[0]];
    // Its clock is behind, and it never heard of the first.
    assert_eq!(group.ask(owners[2], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    group.cut.clear();
    for owner in &owners {
        assert_eq!(group.ask(*owner, &get_at(""))["value"], 2);
    }
    let reply = group.ask(owners[0], &get_at(r#","level":"ALL""#));
    assert_eq!((&reply["value"], &reply["values"]), (&json("2"), &Value::Null));
}

#[test]
fn a_repeated_write_that_was_hidden_and_never_acknowledged_is_done_above() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    // Its stamp is lower. It comes through, the answers to it do not, and its client asks another node.
    let client = group.node(owners[2]).ask(&put_at(2, r#","quorum":"strict","request":"r""#));
    for (to, message) in group.node(owners[2]).sent() {
        if matches!(message, Message::Replicate { .. }) {
            group.node(to.0).hear(owners[2], message);
        }
    }
    group.settle();
    assert_eq!(group.node(owners[2]).reply(client), None);
    group.cut.clear();
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict","request":"r""#))["status"], "OK");
    for owner in owners {
        let reply = group.ask(owner, &get_at(""));
        assert_eq!((&reply["value"], &reply["values"]), (&json("2"), &Value::Null));
    }
}

#[test]
fn a_write_that_was_given_up_and_came_too_late_is_done_when_it_is_repeated() {
    for at in 0..3 {
        let mut group = Group::founded(3);
        let (owners, _) = group.owners(&key());
        group.node(owners[0]).now.wall_ms += 4_000;
        // Cut off, and nobody has noticed.
        group.cut = vec![owners[2]];
        let write = put_at(1, r#","quorum":"strict","request":"r","timeout_ms":200"#);
        assert_eq!(code(&group.ask(owners[2], &write)), "QUORUM_FAILED");
        assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
        // It goes on, and all learn that it is below the other one.
        group.cut.clear();
        group.pass_ms(2_000);
        for owner in &owners {
            let held = group.node(*owner).store.read(&key());
            assert_eq!((held.versions.len(), held.visible().len()), (2, 1), "node-{owner}");
        }
        assert_eq!(group.ask(owners[at], &write)["status"], "OK");
        for owner in owners {
            assert_eq!(group.ask(owner, &get_at(""))["value"], 1, "repeated at owner {at}");
        }
    }
}

#[test]
fn a_given_up_write_that_a_read_has_shown_to_the_others_is_done_when_it_is_repeated() {
    for at in 0..3 {
        let mut group = Group::founded(3);
        let (owners, _) = group.owners(&key());
        group.node(owners[0]).now.wall_ms += 4_000;
        group.cut = vec![owners[2]];
        assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
        let write = put_at(1, r#","quorum":"strict","request":"r","timeout_ms":200"#);
        assert_eq!(code(&group.ask(owners[2], &write)), "QUORUM_FAILED");
        group.cut.clear();
        assert_eq!(group.ask(owners[2], &get_at(""))["value"], 2);
        group.pass_ms(3_000);
        assert_eq!(group.ask(owners[at], &write)["status"], "OK");
        for owner in owners {
            assert_eq!(group.ask(owner, &get_at(""))["value"], 1, "repeated at owner {at}");
        }
    }
}

#[test]
fn a_write_that_is_repeated_while_it_goes_on_for_nobody_is_done() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    let write = |ms: u32| put_at(1, &format!(r#","quorum":"strict","request":"r","timeout_ms":{ms}"#));
    assert_eq!(code(&group.ask(owners[2], &write(200))), "QUORUM_FAILED");
    let client = group.node(owners[2]).ask(&write(20_000));
    group.settle();
    group.cut.clear();
    group.pass_ms(3_000);
    assert_eq!(group.node(owners[2]).reply(client), Some(ok()));
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 1);
    }
}

#[test]
fn a_late_twin_takes_nothing_with_it_that_was_written_above_the_write_it_is_of() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    let write = put_at(1, r#","quorum":"strict","request":"r""#);
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    let request = group.node(owners[0]).store.read(&key()).versions[0].request;
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    group.pass_ms(1_000);
    // An owner does it once more over what it holds, and knows nothing of the first time.
    let mut twin = group.node(owners[2]).store.read(&key());
    let (base, stamp) = (twin.digest(), Stamp(twin.stamp_max().0 + 1));
    let dot = Dot { actor: Actor { id: 0xC, node: name(owners[2]) }, counter: 1 };
    let content = Content::Json((*b"1").into());
    twin.write(None, Version { dot, stamp, request, contextual: false, content });
    for owner in &owners[..2] {
        let (key, siblings) = (key(), twin.clone());
        let told = Message::Replicate { id: 1, epoch: 1, key, siblings, base, request, round: 1 };
        group.node(*owner).hear(owners[2], told);
    }
    group.settle();
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2, "node-{owner}");
    }
}

#[test]
fn a_write_that_learns_of_an_earlier_one_before_any_owner_heard_it_is_above_that() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    let siblings = group.node(owners[0]).store.read(&key());
    let client = group.node(owners[2]).ask(&put_at(2, r#","quorum":"strict""#));
    group.settle();
    let told = Message::Replicate { id: 1, epoch: 1, key: key(), siblings, base: 0, request: 0, round: 1 };
    // What it has joined is not durable for a while, and so it knows it by heart.
    group.node(owners[2]).withholds = true;
    group.node(owners[2]).hear(owners[0], told);
    group.node(owners[2]).release_one();
    group.cut.clear();
    group.pass_ms(1_000);
    group.node(owners[2]).release();
    group.pass_ms(1_000);
    assert_eq!(group.node(owners[2]).reply(client), Some(ok()));
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2);
    }
}

#[test]
fn a_repeated_write_that_was_acknowledged_and_overwritten_unseen_stays_overwritten() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    let write = put_at(1, r#","quorum":"strict","request":"r""#);
    group.cut = vec![owners[0]];
    assert_eq!(group.ask(owners[2], &write)["status"], "OK");
    // The other one that has it was not heard by who overwrites it.
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    group.cut.clear();
    for owner in &owners {
        assert_eq!(group.ask(*owner, &write)["status"], "OK");
    }
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2);
    }
}

/// A write that the third owner missed and that was overwritten since, and the owners.
fn overwritten_and_missed(group: &mut Group) -> (Write, Vec<u16>) {
    let (owners, _) = group.owners(&key());
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict","request":"r""#))["status"], "OK");
    let held = group.node(owners[0]).store.read(&key());
    let request = Some(held.versions[0].request);
    assert_eq!(group.ask(owners[1], &put_at(2, r#","quorum":"strict""#))["status"], "OK");
    group.cut.clear();
    let content = Content::Json((*b"1").into());
    (Write { key: key(), content, condition: Condition::Always, context: None, request }, owners)
}

fn forward(group: &Group, write: Write, heard: Beat) -> Message {
    let (epoch, op) = (group.ring.epoch, KeyOp::Write(write));
    Message::Forward { id: 7, epoch, left_ms: 2_000, op, terms: Terms::default(), heard }
}

#[test]
fn a_forwarded_write_that_comes_late_asks_whether_it_was_done() {
    let mut group = Group::founded(3);
    let (write, owners) = overwritten_and_missed(&mut group);
    let forward = forward(&group, write, 0);
    group.node(owners[2]).hear(owners[1], forward);
    assert!(group.stored(owners[2], &key()).is_empty());
    group.settle();
    assert_eq!(group.stored(owners[2], &key()), ["2"]);
}

#[test]
fn a_write_that_was_done_elsewhere_and_does_not_look_late_is_not_shown() {
    let mut group = Group::founded(3);
    let (write, owners) = overwritten_and_missed(&mut group);
    let beat = group.node(owners[2]).node.beat();
    let forward = forward(&group, write, beat);
    // Reads ask it before the others have answered to it.
    group.node(owners[2]).hear(owners[1], forward);
    drop(group.node(owners[2]).sent());
    assert_eq!(group.stored(owners[2], &key()), ["1"]);
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2, "read at node-{owner}");
    }
}

#[test]
fn an_owner_that_missed_a_write_does_not_do_it_once_more_over_a_later_one() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    let write = put_at(1, r#","quorum":"strict","request":"r""#);
    assert_eq!(group.ask(owners[0], &put_at(0, ""))["status"], "OK");
    group.settle();
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    let writer = &mut group.node(owners[0]).node;
    writer.tasks.tokens().into_iter().for_each(|token| writer.end_spread(token));
    group.cut.clear();
    assert_eq!(group.ask(owners[0], &put_at(2, ""))["status"], "OK");
    group.settle();
    assert_eq!(group.stored(owners[2], &key()), ["2"]);
    // Its client had not heard, and asks the one that knows of the later one alone.
    assert_eq!(group.ask(owners[2], &write)["status"], "OK");
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2);
    }
}

#[test]
fn twins_of_a_write_with_a_context_supersede_nothing_beside_them() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    assert_eq!(group.ask(owners[0], &put_at(1, ""))["status"], "OK");
    let write = put_at(2, r#","context":{},"request":"r","quorum":"strict","w":1"#);
    // Both do it before either has heard of the other.
    let clients = [owners[0], owners[1]].map(|owner| (owner, group.node(owner).ask(&write)));
    group.settle();
    for (owner, client) in clients {
        assert_eq!(group.node(owner).reply(client), Some(ok()));
    }
    assert_eq!(group.ask(owners[2], &write)["status"], "OK");
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["values"], json("[2,1]"));
    }
}

#[test]
fn a_write_that_waited_at_a_stopped_node_and_was_done_elsewhere_is_not_done_over_a_later_one() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    let write = put_at(1, r#","quorum":"strict","request":"r""#);
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    // Nobody tells it of that, for all stand still.
    let first = &mut group.node(owners[0]).node;
    first.tasks.tokens().into_iter().for_each(|token| first.end_spread(token));
    group.benches.iter_mut().for_each(|bench| bench.now.mono_us += 2_000_000);
    group.cut.clear();
    let later = group.node(owners[2]).ask(&put_at(2, r#","quorum":"strict""#));
    let earlier = group.node(owners[2]).ask(&write);
    group.pass_ms(1_000);
    for client in [later, earlier] {
        assert_eq!(group.node(owners[2]).reply(client), Some(ok()));
    }
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2, "node-{owner}");
    }
}

#[test]
fn what_a_context_has_seen_goes_though_its_twin_is_what_the_coordinator_holds() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.cut = vec![owners[2]];
    let write = put_at(1, r#","context":{},"quorum":"strict","request":"r","timeout_ms":200"#);
    assert_eq!(code(&group.ask(owners[2], &write)), "QUORUM_FAILED");
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    let context = group.ask(owners[0], &get_at(r#","want":["context"]"#))["context"].to_string();
    group.cut.clear();
    // It has its own version of the write, and nothing of the one that was shown.
    let over = put_at(2, &format!(r#","context":{context},"quorum":"strict""#));
    assert_eq!(group.ask(owners[2], &over)["status"], "OK");
    group.pass_ms(2_000);
    for owner in owners {
        let reply = group.ask(owner, &get_at(""));
        assert_eq!((&reply["value"], reply.get("values")), (&json("2"), None), "{reply}");
    }
}

#[test]
fn what_an_owner_knows_of_a_request_is_as_old_as_what_it_shows() {
    let ring = founding_of(3, 3);
    let mut bench = Bench::founded(0, &ring);
    bench.withholds = true;
    let version = |counter, request| {
        let dot = Dot { actor: Actor { id: 0xB, node: name(1) }, counter };
        let content = Content::Json((*b"1").into());
        Version { dot, stamp: Stamp(counter), request, contextual: false, content }
    };
    let tell = |bench: &mut Bench, id, counter, request| {
        let (key, mut siblings) = (key(), Siblings::default());
        siblings.write(None, version(counter, request));
        bench.hear(1, Message::Replicate { id, epoch: 1, key, siblings, base: 0, request, round: 1 });
    };
    tell(&mut bench, 1, 1, 5);
    // It is joined, and not durable; and so it is shown later.
    bench.release_one();
    bench.hear(2, Message::Query { id: 9, epoch: 1, key: key(), digest: 0, request: 7, round: 1 });
    tell(&mut bench, 2, 2, 7);
    bench.release();
    let held = bench.sent().into_iter().find_map(|(_, message)| match message {
        Message::Held { siblings, knows, .. } => Some((siblings.unwrap(), knows)),
        _ => None,
    });
    let (shown, knows) = held.unwrap();
    assert_eq!((shown.of_request(7).is_some(), knows), (false, false));
}

#[test]
fn a_read_that_found_a_late_twin_beside_what_superseded_it_is_told_so() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.cut = vec![owners[2]];
    let write = put_at(1, r#","context":{},"quorum":"strict","request":"r","timeout_ms":200"#);
    assert_eq!(code(&group.ask(owners[2], &write)), "QUORUM_FAILED");
    let twin = group.node(owners[2]).store.read(&key());
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    let context = group.ask(owners[0], &get_at(r#","want":["context"]"#))["context"].to_string();
    let delete = format!(r#"{{"op":"DELETE","key":"k","context":{context}}}"#);
    assert_eq!(group.ask(owners[0], &delete)["status"], "OK");
    group.settle();
    // Who was cut off asked before its own write came, and joined what it heard.
    let mut found = group.node(owners[0]).store.read(&key());
    found.join(&twin);
    let request = twin.versions[0].request;
    for (siblings, request) in [(twin, request), (found, 0)] {
        let base = u64::from(request != 0);
        let told = Message::Replicate { id: 1, epoch: 1, key: key(), siblings, base, request, round: 1 };
        group.node(owners[0]).hear(owners[2], told);
        let sent = group.node(owners[0]).sent();
        let late = |taken: &Taken| matches!(taken, Taken::Late(held) if held.values().is_empty());
        assert!(
            sent.iter().any(|(_, m)| matches!(m, Message::Replicated { taken, .. } if late(taken))),
            "{sent:?}"
        );
    }
}

#[test]
fn a_write_that_is_done_once_more_is_durable_when_the_last_of_it_is() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    group.cut.clear();
    let late = group.node(owners[2]);
    late.withholds = true;
    let client = late.ask(&put_at(2, r#","quorum":"strict""#));
    late.release_one();
    group.settle();
    // It has heard by now what it had not seen, and has two writes in the store's line.
    let late = group.node(owners[2]);
    assert_eq!(late.withheld.len(), 2);
    late.release_one();
    group.settle();
    assert_eq!(group.node(owners[2]).reply(client), None, "only what the second supersedes is durable");
    group.node(owners[2]).release();
    group.settle();
    assert_eq!(group.node(owners[2]).reply(client), Some(ok()));
}

#[test]
fn what_an_insert_saw_elsewhere_and_did_not_keep_is_news_when_it_is_told() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    assert_eq!(group.ask(owners[0], &put_at(1, ""))["status"], "OK");
    group.settle();
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(2, r#","quorum":"strict","request":"r""#))["status"], "OK");
    let writer = &mut group.node(owners[0]).node;
    writer.tasks.tokens().into_iter().for_each(|token| writer.end_spread(token));
    group.cut.clear();
    let insert = put_at(3, "").replace("PUT", "INSERT");
    assert_eq!(code(&group.ask(owners[2], &insert)), "KEY_EXISTS");
    assert_eq!(group.stored(owners[2], &key()), ["1"], "an INSERT that fails keeps nothing");
    let siblings = group.node(owners[0]).store.read(&key());
    let (request, epoch) = (siblings.versions[0].request, group.ring.epoch);
    let told = Message::Replicate { id: 8, epoch, key: key(), siblings, base: 0, request, round: 0 };
    group.node(owners[2]).hear(owners[0], told);
    assert_eq!(group.stored(owners[2], &key()), ["2"]);
}

#[test]
fn concurrent_writes_with_contexts_are_siblings_at_every_owner_until_they_are_settled() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    for (at, owner) in owners.iter().enumerate() {
        // Each is written while no other owner is heard of.
        group.cut = owners.iter().copied().filter(|n| n != owner).collect();
        let reply = group.ask(*owner, &put_at(at as u32, r#","context":{},"w":1"#));
        assert_eq!(reply["status"], "OK");
    }
    group.cut.clear();
    let reply = group.ask(owners[1], &get_at(r#","level":"ALL""#));
    let mut values: Vec<u64> = reply["values"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    values.sort_unstable();
    assert_eq!(values, [0, 1, 2]);
    let context = reply["context"].to_string();
    assert_eq!(group.ask(owners[2], &put_at(9, &format!(r#","context":{context}"#)))["status"], "OK");
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at("")), json(r#"{"key":"k","value":9}"#));
    }
}

#[test]
fn an_insert_goes_by_what_a_quorum_holds() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    let insert = r#"{"op":"INSERT","key":"k","value":7}"#;
    let update = r#"{"op":"UPDATE","key":"k","value":8}"#;
    assert_eq!(code(&group.ask(owners[0], update)), "KEY_NOT_FOUND");
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], insert)["status"], "OK");
    group.cut.clear();
    assert_eq!(code(&group.ask(owners[2], insert)), "KEY_EXISTS", "though this one missed it");
    group.cut = vec![owners[1]];
    assert_eq!(group.ask(owners[2], update)["status"], "OK");
}

#[test]
fn a_node_without_memory_counts_for_nothing_until_the_others_have_filled_it() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    group.cut.clear();
    // Two owners have it, of which one forgets it; and the other one is not heard.
    group.cut = vec![owners[1]];
    group.restart(owners[0]);
    assert!(group.node(owners[0]).status().report.filling > 0);
    let reply = group.ask(owners[2], &get_at(r#","timeout_ms":400"#));
    assert_eq!(code(&reply), "QUORUM_FAILED", "nothing would have been a wrong answer: {reply}");
    group.cut.clear();
    group.pass_ms(5_000);
    assert_eq!(group.node(owners[0]).status().report.filling, 0);
    assert_eq!(group.stored(owners[0], &key()), ["1"]);
    group.down(&[owners[1]]);
    assert_eq!(group.ask(owners[2], &get_at(""))["value"], 1);
}

#[test]
fn when_all_owners_lost_their_memory_that_is_said() {
    let mut group = Group::founded(3);
    group.ask(0, &put_at(1, ""));
    for n in 0..3 {
        group.restart(n);
    }
    group.pass_ms(8_000);
    let reply = group.ask(1, &get_at(""));
    assert_eq!((code(&reply), &reply["lost"]), ("KEY_NOT_FOUND", &Value::Bool(true)), "{reply}");
    for n in 0..3 {
        assert_eq!(group.node(n).status().lost_partitions, PARTITIONS as usize);
        group.ask(n, r#"{"op":"ACCEPT_LOSS"}"#);
    }
    assert_eq!(group.ask(1, &get_at(""))["lost"], Value::Null);
    assert_eq!(group.ask(1, &put_at(2, ""))["status"], "OK");
}

#[test]
fn what_owners_lack_they_take_from_each_other_without_any_client() {
    let mut group = Group::founded(3);
    for n in 0..200 {
        // Each is known to one owner only, and nobody has noticed that the others are away.
        let owner = n % 3;
        group.cut = (0..3).filter(|other| *other != owner).collect();
        let body = format!(r#"{{"op":"PUT","key":"k{n}","value":{n},"w":1,"quorum":"strict"}}"#);
        let client = group.node(owner).ask(&body);
        group.settle();
        assert_eq!(group.node(owner).reply(client), Some(ok()));
    }
    group.cut.clear();
    // No task goes on telling.
    for bench in &mut group.benches {
        bench.node.tasks.tokens().into_iter().for_each(|token| bench.node.end_spread(token));
    }
    group.pass_ms(40_000);
    let roots: Vec<_> = group.benches.iter().map(|bench| bench.store.roots()).collect();
    assert!(roots[0] == roots[1] && roots[1] == roots[2]);
    assert_eq!(group.benches[0].store.measures().iter().map(|(_, m)| m.live).sum::<u64>(), 200);
    let counts: Vec<_> = group.benches.iter().map(|bench| bench.node.anti_entropy.counts).collect();
    assert!(counts.iter().all(|counts| counts.differed > 0 && counts.repaired > 0), "{counts:?}");
    // Where nothing differs roots alone are told.
    group.pass_ms(20_000);
    let later: Vec<_> = group.benches.iter().map(|bench| bench.node.anti_entropy.counts).collect();
    for (then, now) in counts.iter().zip(&later) {
        assert!(now.rounds > then.rounds && now.repaired == then.repaired, "{then:?}, {now:?}");
    }
}

#[test]
fn a_repair_of_some_buckets_brings_no_word_of_writes_to_others() {
    let mut group = Group::founded(3);
    let key = |n: usize| Key::new(&format!("k{n}")).unwrap();
    let bucket = |key: &Key| bucket_of(key.hash(), PARTITIONS);
    let beside = |n: &usize| key(*n).partition(PARTITIONS) == key(0).partition(PARTITIONS);
    let other = (1..).filter(beside).find(|n| bucket(&key(*n)) != bucket(&key(0))).unwrap();
    let body = |n: usize, request| {
        format!(r#"{{"op":"PUT","key":"k{n}","value":{n},"quorum":"strict","request":"{request}"}}"#)
    };
    let (owners, _) = group.owners(&key(0));
    let (late, writer) = (owners[2], owners[0]);
    assert_eq!(group.ask(writer, &body(other, "first"))["status"], "OK");
    group.settle();
    // One owner misses a write to a bucket, and is told late of one to another.
    group.cut = vec![late];
    assert_eq!(group.ask(writer, &body(0, "a"))["status"], "OK");
    for bench in &mut group.benches {
        bench.node.tasks.tokens().into_iter().for_each(|token| bench.node.end_spread(token));
    }
    let client = group.node(writer).ask(&body(other, "b"));
    group.settle();
    assert_eq!(group.node(writer).reply(client), Some(ok()));
    let told = group.node(writer).store.read(&key(other));
    group.cut.clear();
    let (partition, epoch) = (key(0).partition(PARTITIONS), group.ring.epoch);
    let mut sums = group.node(late).store.buckets(partition).map(|sum| sum as u64);
    sums[usize::from(bucket(&key(0)))] = 1;
    let sums = sums.iter().flat_map(|sum| sum.to_le_bytes().into_iter().take(6)).collect();
    group.node(late).hear(writer, Message::Buckets { id: 7, epoch, partition, sums });
    group.settle();
    assert_eq!(group.stored(late, &key(0)), ["0"], "the bucket was taken");
    let request = told.versions[0].request;
    let (key, siblings) = (key(other), told.clone());
    let message = Message::Replicate { id: 8, epoch, key: key.clone(), siblings, base: 0, request, round: 0 };
    group.node(late).hear(writer, message);
    group.settle();
    assert_eq!(group.node(late).store.read(&key), told, "no twin, though its request is known elsewhere");
}

#[test]
fn a_listing_of_the_cluster_shows_what_its_first_owner_missed() {
    let mut group = Group::founded(4);
    let mut wanted = Vec::new();
    for n in 0..60 {
        // One owner misses each write, the first as often as others; overwrites too.
        let key = Key::new(&format!("k{n}")).unwrap();
        let (owners, _) = group.owners(&key);
        let body = |value: u32| format!(r#"{{"op":"PUT","key":"k{n}","value":{value},"quorum":"strict"}}"#);
        assert_eq!(group.ask(owners[0], &body(0))["status"], "OK");
        let missing = owners[n % 3];
        group.cut = vec![missing];
        assert_eq!(group.ask(owners[(n + 1) % 3], &body(1))["status"], "OK");
        group.cut.clear();
        wanted.push(key.text().to_owned());
    }
    for bench in &mut group.benches {
        bench.node.tasks.tokens().into_iter().for_each(|token| bench.node.end_spread(token));
    }
    wanted.sort_unstable();
    for n in 0..4 {
        let (mut shown, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = format!(r#"{{"op":"GET_ALL","scope":"cluster","limit":7{cursor}}}"#);
            let reply = group.ask(n, &page);
            for record in reply["collection"].as_array().unwrap_or_else(|| panic!("{reply}")) {
                assert_eq!(record["value"], 1, "{record}");
                shown.push(record["key"].as_str().unwrap().to_owned());
            }
            match reply["cursor"].as_str() {
                Some(next) => cursor = format!(r#","cursor":"{next}""#),
                None => break,
            }
        }
        shown.sort_unstable();
        assert_eq!(shown, wanted, "asked of node-{n}");
    }
    group.down(&[3]);
    let reply = group.ask(0, r#"{"op":"GET_ALL","scope":"cluster"}"#);
    assert_eq!(reply["collection"].as_array().map(Vec::len), Some(60), "one owner of three may be away");
    group.down(&[2]);
    assert_eq!(code(&group.ask(0, r#"{"op":"GET_ALL","scope":"cluster"}"#)), "QUORUM_FAILED");
}

#[test]
fn a_late_twin_takes_nothing_with_it_that_its_actor_wrote_before() {
    let version = |id, counter, request| Version {
        dot: Dot { actor: Actor { id, node: name(1) }, counter },
        stamp: Stamp(counter),
        request,
        contextual: true,
        content: Content::Json((*b"1").into()),
    };
    let (mut state, mut news) = (Siblings::default(), Siblings::default());
    state.write(Some(&Context::default()), version(7, 1, 0));
    // The second one's request was done by another owner, and superseded since.
    news.write(Some(&Context::default()), version(8, 84, 0));
    news.write(Some(&Context::default()), version(8, 85, 99));
    let mut requests = Requests::default();
    requests.begun(Now::default(), &key(), 99);
    let late = take_late(&key(), &state, &mut news, &requests, None);
    assert_eq!(late.len(), 1);
    let actor = Actor { id: 0xA, node: name(0) };
    join_without(&late, &mut state, &news, &mut Author { actor, dots: 0 });
    let dots: Vec<u64> = state.versions.iter().map(|version| version.dot.counter).collect();
    assert_eq!(dots, [1, 84], "the write before it is news");
    assert!(state.clock.covers(version(8, 85, 99).dot), "and the twin does not come back");
}

#[test]
fn a_node_whose_clock_is_far_from_the_others_leaves_overwrites_to_them_and_says_so() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 3_600_000;
    group.pass_ms(3_000);
    let receipt = r#","want":["receipt"]"#;
    let written = group.ask(owners[0], &put_at(1, receipt));
    assert_eq!(written["status"], "OK");
    assert_ne!(written["receipt"]["nodes"][0], format!("node-{}", owners[0]), "{written}");
    let stamp = group.node(owners[0]).store.read(&key()).stamp_max();
    assert!(stamp.wall_ms() < 1_000_000 + 3_600_000, "the others' clock: {stamp:?}");
    let status = group.ask(owners[0], r#"{"op":"STATUS"}"#);
    assert_eq!(status["leaves_overwrites"], true);
    assert!((3_599_000..3_601_000).contains(&status["clock_ahead_ms"].as_i64().unwrap()), "{status}");
    assert_eq!(group.ask(owners[1], r#"{"op":"STATUS"}"#)["leaves_overwrites"], false);
    // With a context nothing depends on clocks; and where nobody else is there, it does them all the same.
    let beside = group.ask(owners[0], &put_at(2, &format!(r#","context":{{}}{receipt}"#)));
    assert_eq!(beside["receipt"]["nodes"][0], format!("node-{}", owners[0]), "{beside}");
    group.down(&owners[1..]);
    assert_eq!(group.ask(owners[0], &put_at(3, r#","w":1"#))["status"], "OK");
}

#[test]
fn a_stamp_that_no_clock_can_show_is_refused_and_counted() {
    let mut group = Group::founded(3);
    let mut siblings = Siblings::default();
    let dot = Dot { actor: Actor { id: 7, node: name(1) }, counter: 1 };
    let content = Content::Json((*b"1").into());
    let version = Version { dot, stamp: Stamp(u64::MAX), request: 0, contextual: false, content };
    siblings.write(None, version);
    let epoch = group.ring.epoch;
    let told = Message::Replicate { id: 9, epoch, key: key(), siblings, base: 0, request: 0, round: 0 };
    let bench = group.node(0);
    bench.hear(1, told);
    assert!(matches!(&bench.sent()[..], [(_, Message::Failed { id: 9, .. })]));
    assert!(bench.store.read(&key()).is_empty());
    assert_eq!(group.ask(0, r#"{"op":"STATUS"}"#)["refused"]["stamps"], 1);
}

#[test]
fn a_repeated_write_that_an_owner_missed_is_not_done_while_nobody_can_say_that_it_was() {
    let mut group = Group::founded(5);
    let (owners, _) = group.owners(&key());
    let write = put_at(1, r#","request":"r""#);
    assert_eq!(group.ask(owners[0], &put_at(0, ""))["status"], "OK");
    group.settle();
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &write)["status"], "OK");
    let writer = &mut group.node(owners[0]).node;
    writer.tasks.tokens().into_iter().for_each(|token| writer.end_spread(token));
    group.cut = vec![owners[1]];
    assert_eq!(group.ask(owners[0], &put_at(2, ""))["status"], "OK");
    group.settle();
    group.cut.clear();
    group.down(&owners[..2]);
    assert_eq!(code(&group.ask(owners[2], &write)), "QUORUM_FAILED");
    group.up();
    group.pass_ms(30_000);
    for owner in owners {
        assert_eq!(group.ask(owner, &get_at(""))["value"], 2);
    }
}

#[test]
fn a_mark_of_missed_writes_is_renewed_and_what_is_learned_again_stays_its_ten_minutes() {
    let at = |s: u64| Now { mono_us: s * 1_000_000, wall_ms: 0 };
    let mut requests = Requests::default();
    requests.missed(at(0), &key());
    requests.missed(at(590), &key());
    requests.told(at(601), &key(), 7);
    assert!(requests.misses(&key()), "the second one was missed at 590 s");
    requests.told(at(700), &key(), 8);
    requests.forget(key().partition(PARTITIONS), PARTITIONS);
    requests.told(at(900), &key(), 8);
    requests.told(at(1_310), &key(), 9);
    assert!(requests.knows(&key(), 8), "it was learned at 900 s");
    requests.told(at(1_600), &key(), 10);
    assert!(!requests.knows(&key(), 8) && !requests.misses(&key()));
}

#[test]
fn a_tombstone_stays_while_somebody_still_tells_what_it_superseded() {
    let mut group = Group::founded(3);
    let client = group.node(0).ask(&put_at(1, r#","level":"ALL","timeout_ms":500"#));
    // One owner never hears of it, though it hears and is heard otherwise.
    let lost = |message: &Message| matches!(message, Message::Replicate { .. });
    let run = |group: &mut Group, ms: u64, lossy: bool| {
        for _ in 0..ms / 10 {
            group.benches.iter_mut().for_each(|bench| bench.pass_ms(10));
            for n in 0..3 {
                for (to, message) in group.node(n).sent() {
                    if !(lossy && n == 0 && to == name(2) && lost(&message)) {
                        group.node(to.0).hear(n, message);
                    }
                }
            }
        }
    };
    run(&mut group, 1_000, true);
    assert_eq!(group.node(0).reply(client).unwrap()["indeterminate"], true);
    let delete = group.node(1).ask(DELETE);
    run(&mut group, 1_000, true);
    assert_eq!(group.node(1).reply(delete), Some(ok()));
    run(&mut group, 1_500_000, true);
    assert!(holders(&mut group) >= 2, "node-0 tells node-2 yet");
    run(&mut group, 60_000, false);
    for n in 0..3 {
        assert_eq!(code(&group.ask(n, &get_at(""))), "KEY_NOT_FOUND");
    }
}

#[test]
fn a_counter_that_a_client_invented_at_another_owner_drops_no_later_write() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    let written = group.ask(owners[1], &put_at(1, r#","want":["context"]"#));
    let (actor, counter) = written["context"].as_object().unwrap().iter().next().unwrap();
    let ahead = counter.as_u64().unwrap() + 1_000;
    let invented = format!(r#","quorum":"strict","context":{{"{actor}":{ahead}}}"#);
    group.settle();
    group.cut = vec![owners[1]];
    assert_eq!(group.ask(owners[0], &put_at(2, &invented))["status"], "OK");
    for bench in &mut group.benches {
        bench.node.tasks.tokens().into_iter().for_each(|token| bench.node.end_spread(token));
    }
    group.cut.clear();
    for (value, context) in [(3, ""), (4, r#","context":{}"#)] {
        let more = format!(r#","level":"ALL"{context}"#);
        assert_eq!(group.ask(owners[1], &put_at(value, &more))["status"], "OK");
        for owner in &owners {
            assert_eq!(group.ask(*owner, &get_at(""))["value"], value, "at node-{owner}");
        }
    }
}

#[test]
fn a_write_that_nobody_waits_for_does_not_come_above_another() {
    let mut group = Group::founded(3);
    let (owners, _) = group.owners(&key());
    group.node(owners[0]).now.wall_ms += 4_000;
    group.cut = vec![owners[2]];
    assert_eq!(group.ask(owners[0], &put_at(1, r#","quorum":"strict""#))["status"], "OK");
    group.cut = vec![owners[0], owners[1]];
    let given_up = group.ask(owners[2], &put_at(2, r#","quorum":"strict","timeout_ms":300"#));
    assert_eq!(given_up["indeterminate"], true, "{given_up}");
    group.up();
    group.pass_ms(10_000);
    for owner in &owners {
        assert_eq!(group.ask(*owner, &get_at(""))["value"], 1);
        let node = &mut group.node(*owner).node;
        assert!(node.unsettled == 0 && node.waiting_bytes == 0);
    }
}

/// How many nodes still hold anything of the key.
fn holders(group: &mut Group) -> usize {
    group.benches.iter().filter(|bench| !bench.store.read(&key()).is_empty()).count()
}

const DELETE: &str = r#"{"op":"DELETE","key":"k"}"#;

#[test]
fn a_tombstone_goes_when_all_nodes_have_confirmed_it_and_a_while_has_passed() {
    let mut group = Group::founded(5);
    assert_eq!(group.ask(0, &put_at(1, ""))["status"], "OK");
    assert_eq!(group.ask(1, DELETE)["status"], "OK");
    group.pass_ms(300_000);
    assert_eq!(holders(&mut group), 3, "before ten minutes it stays");
    group.pass_ms(600_000);
    assert_eq!(holders(&mut group), 0);
    let stored: u64 = group.benches.iter().flat_map(|b| b.store.measures()).map(|(_, m)| m.stored).sum();
    assert_eq!(stored, 0);
    assert_eq!(group.ask(2, &put_at(2, ""))["status"], "OK");
    group.pass_ms(900_000);
    for n in 0..5 {
        assert_eq!(group.ask(n, &get_at(""))["value"], 2, "what is written later lives");
    }
}

#[test]
fn a_node_that_is_away_keeps_all_tombstones_for_what_it_may_bring_back() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    assert_eq!(group.ask(0, &put_at(1, ""))["status"], "OK");
    group.settle();
    group.down(&[owners[2]]);
    assert_eq!(group.ask(owners[0], DELETE)["status"], "OK");
    group.pass_ms(1_500_000);
    assert!(holders(&mut group) >= 3, "the one that is away holds the value");
    group.up();
    group.pass_ms(60_000);
    assert_eq!(code(&group.ask(owners[2], &get_at(r#","level":"ONE""#))), "KEY_NOT_FOUND");
    // And so does one that owns nothing of it, for it may keep a hint.
    group.down(&[others[0]]);
    group.pass_ms(1_500_000);
    assert_eq!(holders(&mut group), 3);
    group.up();
    group.pass_ms(900_000);
    assert_eq!(holders(&mut group), 0);
}

#[test]
fn who_keeps_a_hint_of_a_partition_does_not_confirm_that_it_holds_nothing_of_it() {
    let mut group = Group::founded(5);
    let (owners, others) = group.owners(&key());
    assert_eq!(group.ask(owners[0], &put_at(1, ""))["status"], "OK");
    let (siblings, epoch) = (group.node(owners[0]).store.read(&key()), group.ring.epoch);
    let partition = key().partition(PARTITIONS);
    let confirms = |group: &mut Group, id| {
        let bench = group.node(others[0]);
        bench.hear(owners[0], Message::Confirm { id, epoch, partition, dead: Vec::new() });
        bench.sent().into_iter().find_map(|(_, message)| match message {
            Message::Confirmed { clean, .. } => Some(clean),
            _ => None,
        })
    };
    assert_eq!(confirms(&mut group, 1), Some(true));
    let hint = Message::Replicate { id: 2, epoch, key: key(), siblings, base: 0, request: 0, round: 0 };
    group.node(others[0]).hear(owners[0], hint);
    assert_eq!(confirms(&mut group, 3), Some(false));
}

#[test]
fn what_is_written_while_a_tombstone_waits_is_not_collected() {
    let mut group = Group::founded(3);
    assert_eq!(group.ask(0, &put_at(1, ""))["status"], "OK");
    assert_eq!(group.ask(0, DELETE)["status"], "OK");
    group.pass_ms(500_000);
    assert_eq!(group.ask(1, &put_at(2, ""))["status"], "OK");
    group.pass_ms(60_000);
    assert_eq!(group.ask(2, DELETE)["status"], "OK");
    group.pass_ms(400_000);
    assert_eq!(holders(&mut group), 3, "ten minutes begin anew with the second one");
    // An order to collect that comes late, for what was held before, takes nothing.
    let digest = group.benches[0].store.read(&key()).digest();
    assert_eq!(group.ask(0, &put_at(3, ""))["status"], "OK");
    let (epoch, partition) = (group.ring.epoch, key().partition(PARTITIONS));
    for n in 0..3 {
        let dead = vec![(key().hash(), digest)];
        group.node(n).hear((n + 1) % 3, Message::Collect { epoch, partition, dead });
    }
    group.settle();
    for n in 0..3 {
        assert_eq!(group.ask(n, &get_at(r#","level":"ONE""#))["value"], 3);
    }
}
