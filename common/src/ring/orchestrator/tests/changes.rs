//! Nodes come and go, and the placement changes.

use super::world::{World, kind, name, orchestrator};
use crate::placement::Strategy;
use crate::ring::orchestrator::{Config, Orchestrator, parties};
use crate::ring::{Phase, Verdict};

fn after(signals: &[(&str, &str)]) -> World {
    let (mut world, mut machine) = World::founded(4);
    for (key, value) in signals {
        world.signal(key, value);
        world.settle(&mut machine);
    }
    world.assert_epochs_rise_by_one();
    world
}

#[test]
fn an_added_node_gets_its_share_in_four_epochs() {
    let world = after(&[("node-4", "add")]);
    assert_eq!((world.names(), world.epoch()), (vec![0, 1, 2, 3, 4], 5));
    let result = world.result("node-4");
    assert_eq!((result.outcome, result.epoch), (Verdict::Done, 5));
    assert!((12..=13).contains(&result.moved), "a fifth of 64: {result:?}");
    assert_eq!(world.launches, [name(4)]);
    let node = world.ring.as_ref().and_then(|r| r.node_named(name(4))).expect("added");
    assert_eq!(node.incarnation, 2, "the epoch in which it joined");
    let phases: Vec<_> = world.written[1..].iter().map(|r| r.change.as_ref().map(|c| c.phase)).collect();
    assert_eq!(phases, [Some(Phase::Copy), Some(Phase::Both), Some(Phase::Switch), None]);
}

#[test]
fn a_removed_node_owns_nothing_and_its_name_may_come_again_as_another() {
    let mut world = after(&[("node-0", "remove")]);
    assert_eq!(world.names(), [1, 2, 3]);
    assert_eq!(world.result("node-0").moved, 16);
    let mut machine = orchestrator(2);
    world.node(0).ring = None;
    world.node(0).report = Default::default();
    world.signal("node-0", "add");
    world.settle(&mut machine);
    assert_eq!(world.names(), [1, 2, 3, 0]);
    let node = world.ring.as_ref().and_then(|r| r.node_named(name(0))).expect("added");
    assert_eq!(node.incarnation, 6);
}

#[test]
fn a_migration_changes_the_strategy_and_says_that_it_was_chosen() {
    let world = after(&[("mode", "hrw")]);
    let ring = world.ring.as_ref().expect("founded");
    assert_eq!((ring.strategy, ring.chosen), (Strategy::Hrw, true));
    assert_eq!(world.result("mode").outcome, Verdict::Done);
    let moved = world.result("mode").moved;
    let world = after(&[("mode", "hrw"), ("mode", "hrw")]);
    assert_eq!((world.epoch(), world.result("mode").moved), (5, 0), "the second one moved nothing");
    assert!(moved > 0);
}

#[test]
fn a_mode_that_is_there_but_was_not_chosen_is_chosen() {
    let world = after(&[("mode", "consistent")]);
    assert!(world.ring.as_ref().is_some_and(|r| r.chosen));
    assert_eq!(world.result("mode").outcome, Verdict::Done);
}

#[test]
fn signals_run_one_at_a_time_in_the_order_they_were_given() {
    let (mut world, mut machine) = World::founded(3);
    for (key, value) in [("node-7", "add"), ("node-1", "remove"), ("mode", "hrw")] {
        world.signal(key, value);
    }
    world.settle(&mut machine);
    world.assert_epochs_rise_by_one();
    assert_eq!(world.names(), [0, 2, 7]);
    let epochs = ["node-7", "node-1", "mode"].map(|key| world.result(key).epoch);
    assert_eq!(epochs, [5, 9, 13]);
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason_and_the_signal_is_gone() {
    for (key, value, reason) in [
        ("foo", "add", "names no node"),
        ("node-04", "add", "without leading zeros"),
        ("node-9", "destroy", "write add or remove"),
        ("node-9", "remove", "node-9 is not in the ring: it has node-0, node-1"),
        ("node-1", "add", "node-1 is in the ring already"),
        ("mode", "md5", "consistent or hrw"),
    ] {
        let (mut world, mut machine) = World::founded(2);
        world.signal(key, value);
        world.settle(&mut machine);
        assert!(world.refused(key).contains(reason), "{key} {value}: {}", world.refused(key));
        assert_eq!((world.epoch(), world.questions, world.launches.len()), (1, 0, 0), "{key} {value}");
    }
}

#[test]
fn the_last_node_cannot_be_removed() {
    let (mut world, mut machine) = World::founded(1);
    world.signal("node-0", "remove");
    world.settle(&mut machine);
    assert!(world.refused("node-0").contains("the last node"));
}

#[test]
fn a_newcomer_is_not_removed_while_it_is_being_added() {
    let (mut world, mut machine) = World::founded(3);
    world.signal("node-3", "add");
    world.run(&mut machine, 60_000, None, |w| w.phase().is_some());
    world.signal("node-3", "remove");
    world.run(&mut machine, 1_000, None, |w| w.results.contains_key("node-3"));
    assert!(world.refused("node-3").contains("just being added"));
    assert!(world.phase().is_some(), "it was told at once, not after the change");
    world.settle(&mut machine);
    assert_eq!(world.names(), [0, 1, 2, 3]);
}

#[test]
fn an_add_that_another_launcher_serves_is_left_alone() {
    let (mut world, _) = World::founded(2);
    let config =
        Config { founding: super::world::founding(), launches: Some(vec![name(0), name(1)]), seed: 1 };
    let mut machine = Orchestrator::new(config);
    world.signal("node-2", "add");
    world.run(&mut machine, 5_000, None, |_| false);
    assert!(world.signals.contains_key("node-2") && world.launches.is_empty());
    world.start(2);
    world.settle(&mut machine);
    assert_eq!((world.names(), world.launches.len()), (vec![0, 1, 2], 0), "once it runs, anybody adds it");
}

#[test]
fn a_signal_that_says_where_the_node_is_launches_nothing_and_holds_it_to_its_word() {
    let (mut world, mut machine) = World::founded(2);
    let signal = r#"{"op":"add","host":"h","port":2002,"zone":"east","weight":50}"#;
    assert_eq!(kind("node-2", signal).joins(), Some(name(2)));
    world.signal("node-2", signal);
    world.run(&mut machine, 3_000, None, |_| false);
    assert!(world.launches.is_empty() && world.epoch() == 1);
    world.start(2);
    world.settle(&mut machine);
    let node = world.ring.as_ref().and_then(|r| r.node_named(name(2))).expect("added").clone();
    assert_eq!((node.zone.as_str(), node.weight), ("east", 50));

    world.start(3);
    world.signal("node-3", r#"{"op":"add","host":"elsewhere"}"#);
    world.settle(&mut machine);
    assert!(world.refused("node-3").contains("registered at h:2003"), "{}", world.refused("node-3"));
}

#[test]
fn a_change_whose_source_lost_its_data_is_taken_back() {
    let (mut world, mut machine) = World::founded(3);
    world.node(0).pulls = false;
    world.signal("node-2", "remove");
    world.run(&mut machine, 60_000, None, |w| w.phase() == Some(Phase::Copy));
    let before = world.written[0].clone();
    world.node(2).report.lost_partitions = (0..64).collect();
    world.settle(&mut machine);
    let result = world.result("node-2");
    assert_eq!(result.outcome, Verdict::Aborted, "{result:?}");
    assert!(result.message.contains("node-2 lost the data of"), "{result:?}");
    let ring = world.ring.as_ref().expect("there is one");
    assert_eq!((&ring.nodes, &ring.owners), (&before.nodes, &before.owners));
}

#[test]
fn a_change_without_progress_for_a_minute_is_taken_back_and_says_why() {
    let (mut world, mut machine) = World::founded(3);
    world.start(3);
    world.node(3).pulls = false;
    world.signal("node-3", "add");
    world.settle(&mut machine);
    let result = world.result("node-3");
    assert_eq!(result.outcome, Verdict::Aborted);
    assert!(result.message.contains("node-3 has received 0 of 16 partitions"), "{result:?}");
    assert_eq!((world.names(), world.epoch()), (vec![0, 1, 2], 3));
    // The clock of the next change starts anew.
    world.node(3).pulls = true;
    world.node(3).ring = None;
    world.signal("node-3", "add");
    world.settle(&mut machine);
    assert_eq!(world.result("node-3").outcome, Verdict::Done);
}

#[test]
fn a_party_that_is_silent_in_a_change_is_waited_for() {
    let (mut world, mut machine) = World::founded(3);
    world.signal("node-2", "remove");
    world.run(&mut machine, 60_000, None, |w| w.phase() == Some(Phase::Both));
    world.node(2).running = false;
    world.run(&mut machine, 30_000, None, |w| w.phase() != Some(Phase::Both));
    assert_eq!(world.phase(), Some(Phase::Both));
    assert!(parties(world.ring.as_ref().expect("there is one")).givers().contains(&name(2)));
    world.node(2).running = true;
    world.settle(&mut machine);
    assert_eq!(world.names(), [0, 1]);
}

#[test]
fn an_add_that_cannot_be_launched_is_refused_at_once_with_the_reason() {
    let (mut world, mut machine) = World::founded(2);
    world.signal("node-100", "add");
    world.cannot_launch = Some("no port can be derived for node-100".to_owned());
    world.run(&mut machine, 2_000, None, |w| w.results.contains_key("node-100"));
    assert!(world.refused("node-100").contains("no port can be derived"), "{}", world.refused("node-100"));
}
