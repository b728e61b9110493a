//! Properties of rings over random histories, and what a reader refuses.

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::plan::{self, Founding, Refusal};
use super::*;
use crate::name::NodeName;
use crate::placement::Strategy;

/// One step of a history. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    Add { n: u16, weight: u32, zone: u8 },
    Remove { at: usize },
    Migrate,
}

fn ops() -> impl proptest::strategy::Strategy<Value = Op> {
    prop_oneof![
        4 => (0u16..12, 1u32..300, 0u8..3).prop_map(|(n, weight, zone)| Op::Add { n, weight, zone }),
        3 => (0usize..12).prop_map(|at| Op::Remove { at }),
        1 => Just(Op::Migrate),
    ]
}

fn node(n: u16, weight: u32, zone: u8) -> Node {
    let ports = NodeName(n).ports(None).expect("numbers below 100");
    Node { name: NodeName(n), incarnation: 0, host: "h".into(), ports, zone: format!("z{zone}"), weight }
}

fn founded(nodes: u16, replicas: usize) -> Ring {
    let founding = Founding {
        cluster_id: ClusterId(7),
        strategy: Strategy::Consistent,
        chosen: false,
        partitions: 64,
        replicas,
        balance: Some(5.0),
    };
    plan::found(&founding, (0..nodes).map(|n| node(n, 100, 0)).collect()).expect("a ring")
}

fn signal(name: &str) -> SignalId {
    SignalId { name: name.into(), index: 42 }
}

fn begun(ring: &Ring, op: Op) -> Result<Ring, Refusal> {
    match op {
        Op::Add { n, weight, zone } => plan::add(ring, node(n, weight, zone), signal("add")),
        Op::Remove { at } => plan::remove(ring, ring.nodes[at % ring.nodes.len()].name, signal("remove")),
        Op::Migrate => {
            let other = match ring.strategy {
                Strategy::Consistent => Strategy::Hrw,
                Strategy::Hrw => Strategy::Consistent,
            };
            plan::migrate(ring, other, signal("mode"))
        }
    }
}

/// What holds of every ring of every history.
fn assert_sound(ring: &Ring) {
    let json = ring.to_json().expect("within bounds");
    assert_eq!(Ring::from_json(json.as_bytes()).as_ref(), Ok(ring), "it comes back as it was");
    for p in 0..ring.partitions {
        let route = ring.route(p);
        let distinct = |row: &[NodeIndex]| row.iter().enumerate().all(|(i, n)| !row[..i].contains(n));
        assert!(!route.writers.is_empty() && distinct(route.writers) && distinct(ring.readers(p)));
        assert_eq!(route.also.is_some(), ring.moves(p));
        assert!(ring.readers(p).iter().all(|i| ring.holds(*i, p)), "readers hold what they are asked for");
    }
    // Whoever gains a partition, and where its owners become fewer whoever stays.
    let gains = |p: u32| {
        let Some(change) = &ring.change else { return 0 };
        let (old, new) = (ring.owners.owners(p), change.target.owners(p));
        new.iter().filter(|i| !old.contains(i) || new.len() < old.len()).count()
    };
    let incoming: usize = (0..ring.nodes.len()).map(|i| ring.incoming(i as NodeIndex).len()).sum();
    assert_eq!(incoming, (0..ring.partitions).map(gains).sum::<usize>());
}

/// Neighbouring phases differ in one quorum, and every read of one meets every write of the other.
fn assert_neighbours_overlap(one: &Ring, next: &Ring) {
    let names = |ring: &Ring, row: &[NodeIndex]| -> Vec<NodeName> {
        row.iter().map(|i| ring.node(*i).name).collect()
    };
    for p in 0..one.partitions {
        for (reading, writing) in [(one, next), (next, one), (one, one), (next, next)] {
            let readers = names(reading, reading.readers(p));
            let route = writing.route(p);
            let writers = names(writing, route.writers);
            let must = route.also.filter(|(_, needed)| *needed).map(|(row, _)| names(writing, row));
            let same =
                |row: &[NodeName]| row.len() == readers.len() && row.iter().all(|n| readers.contains(n));
            assert!(
                same(&writers) || must.as_deref().is_some_and(same),
                "partition {p}: epoch {} reads {readers:?}, epoch {} writes {writers:?} and {must:?}",
                reading.epoch,
                writing.epoch
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_history_of_changes_keeps_its_promises(
        nodes in 1u16..6,
        replicas in 1usize..4,
        history in proptest::collection::vec((ops(), 0u8..4), 1..8),
    ) {
        let mut ring = founded(nodes, replicas);
        assert_sound(&ring);
        for (op, taken_back_after) in history {
            let Ok(mut changing) = begun(&ring, op) else { continue };
            let change = changing.change.clone().expect("a plan has a change");
            prop_assert_eq!(changing.epoch, ring.epoch + 1);
            prop_assert!(changing.last.is_none(), "the answer of the last change is no longer needed");
            assert_sound(&changing);
            if taken_back_after < 2 {
                for _ in 0..taken_back_after {
                    changing = changing.advanced();
                }
                let back = changing.aborted("tested").expect("before switch");
                assert_sound(&back);
                prop_assert_eq!((&back.nodes, &back.owners), (&ring.nodes, &ring.owners));
                prop_assert_eq!(back.epoch, changing.epoch + 1);
                prop_assert_eq!(back.last.as_ref().map(|l| l.outcome), Some(Verdict::Aborted));
                ring = back;
                continue;
            }
            for phase in [Phase::Both, Phase::Switch] {
                let next = changing.advanced();
                assert_sound(&next);
                assert_neighbours_overlap(&changing, &next);
                prop_assert_eq!(next.change.as_ref().map(|c| c.phase), Some(phase));
                changing = next;
            }
            prop_assert!(changing.aborted("too late").is_none(), "from switch on only forward");
            let done = changing.advanced();
            assert_sound(&done);
            assert_neighbours_overlap(&changing, &done);
            prop_assert_eq!(done.epoch, ring.epoch + 4);
            prop_assert_eq!(done.last.as_ref().map(|l| (&l.signal, l.outcome)), Some((&change.signal, Verdict::Done)));
            match change.kind {
                Kind::Add { node } => {
                    prop_assert_eq!(done.node_named(node).map(|n| n.incarnation), Some(ring.epoch + 1));
                }
                Kind::Remove { node } => prop_assert!(done.node_named(node).is_none()),
                Kind::Migrate { mode } => prop_assert!(done.strategy == mode && done.chosen),
            }
            ring = done;
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic_and_no_cut_ring_is_taken(cut in 0usize..2000, junk in any::<Vec<u8>>()) {
        let json = founded(3, 2).to_json().expect("within bounds");
        let cut = cut.min(json.len() - 1);
        prop_assert!(Ring::from_json(&json.as_bytes()[..cut]).is_err());
        let mut bent = json.into_bytes();
        bent.splice(cut..cut, junk.iter().copied());
        // It may still be a ring, where the junk was a space; it must not be a broken one.
        if let Ok(ring) = Ring::from_json(&bent) {
            assert_sound(&ring);
        }
    }
}

#[test]
fn a_newer_format_is_called_newer_and_not_broken() {
    let error = Ring::from_json(br#"{"format":2,"something":"else"}"#).expect_err("format 2");
    assert_eq!(error, RingError::Format(2));
    assert!(error.to_string().contains("newer release"), "{error}");
}

#[test]
fn what_is_no_ring_is_refused_with_the_reason() {
    let good = founded(2, 1).to_json().expect("within bounds");
    let twice = good.replace("node-1", "node-0");
    let fewer = good.replace("\"partitions\":64", "\"partitions\":128");
    let last = good.replace("\"epoch\":1,", "\"epoch\":18446744073709551615,");
    let zoned = good.replace("\"zone\":\"", &format!("\"zone\":\"{}", "z".repeat(300)));
    for (text, reason) in [
        ("", "cannot be read"),
        ("not json", "cannot be read"),
        ("{}", "missing field `format`"),
        (twice.as_str(), "node-0 is in it twice"),
        (fewer.as_str(), "128 partitions, but a table of 64"),
        (last.as_str(), "its epoch is 18446744073709551615, at most 9007199254740991"),
        (zoned.as_str(), "node-0's zone, of 30"),
    ] {
        let error = Ring::from_json(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn an_owner_outside_the_list_is_refused() {
    let mut ring = founded(2, 1);
    ring.nodes.pop();
    let json = ring.to_json().expect("it is written as it is");
    let error = Ring::from_json(json.as_bytes()).expect_err("an owner is missing").to_string();
    assert!(error.contains("an owner with index 1 among 1 nodes"), "{error}");
}

#[test]
fn a_ring_that_could_never_be_changed_is_not_founded() {
    let mut founding = Founding {
        cluster_id: ClusterId(7),
        strategy: Strategy::Hrw,
        chosen: true,
        partitions: 65_536,
        replicas: 1,
        balance: None,
    };
    let nodes = || (0..4).map(|n| node(n, 100, 0)).collect();
    plan::found(&founding, nodes()).expect("one replica fits");
    founding.replicas = 3;
    let error = plan::found(&founding, nodes()).expect_err("two tables of three replicas do not fit");
    assert!(error.to_string().contains("fewer --partitions or --replicas"), "{error}");
}

#[test]
fn a_zone_that_is_no_short_text_gets_into_no_ring() {
    let ring = founded(2, 1);
    for zone in ["z".repeat(150_000), "a\nb".to_owned(), "\u{1b}[31m".to_owned()] {
        let newcomer = Node { zone: zone.clone(), ..node(2, 100, 0) };
        let error = plan::add(&ring, newcomer, signal("add")).expect_err("no zone").to_string();
        let bytes = zone.len();
        assert!(error.contains(&format!("node-2 has {bytes} bytes: a zone is up to 255")), "{error}");
    }
    let newcomer = Node { zone: "München 3".into(), ..node(2, 100, 0) };
    plan::add(&ring, newcomer, signal("add")).expect("a zone");
}

#[test]
fn a_ring_that_nobody_could_read_is_not_founded() {
    let founding = Founding {
        cluster_id: ClusterId(7),
        strategy: Strategy::Hrw,
        chosen: true,
        partitions: 64,
        replicas: 1,
        balance: None,
    };
    let nowhere = Node { host: "h".repeat(256), ..node(0, 100, 0) };
    let error = plan::found(&founding, vec![nowhere]).expect_err("no host").to_string();
    assert!(error.contains("which is no host"), "{error}");
    let zoned = Node { zone: "z".repeat(300), ..node(0, 100, 0) };
    let error = plan::found(&founding, vec![zoned]).expect_err("no zone").to_string();
    assert!(error.contains("node-0 has 300 bytes: a zone is up to 255"), "{error}");
}

#[test]
fn adding_one_of_n_moves_one_of_n() {
    for n in 1..10 {
        let ring = founded(n, 1);
        let plan = plan::add(&ring, node(n, 100, 0), signal("add")).expect("room for one more");
        let moved = (0..64).filter(|p| plan.moves(*p)).count() as u16;
        assert!(moved <= 64_u16.div_ceil(n + 1), "{moved} of 64 to the {}th node", n + 1);
    }
}
