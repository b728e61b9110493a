//! The first ring, and rings that Consul lost.

use super::world::{World, founding, name, orchestrator};
use crate::ring::orchestrator::{Candidate, Config, Event, Orchestrator};
use crate::ring::{ClusterId, plan};

#[test]
fn a_cluster_is_founded_once_all_its_nodes_are_healthy_and_hold_no_ring() {
    let mut world = World::unfounded(4);
    world.node(3).healthy = false;
    let mut machine = orchestrator(1);
    world.run(&mut machine, 5_000, None, |w| w.ring.is_some());
    assert!(world.ring.is_none(), "node-3 is not there yet");
    world.node(3).healthy = true;
    world.settle(&mut machine);
    assert_eq!((world.names(), world.epoch()), (vec![0, 1, 2, 3], 1));
    assert!(world.results.is_empty(), "nobody asked for anything");
}

#[test]
fn without_cluster_size_nothing_is_founded() {
    let mut world = World::unfounded(2);
    world.size = None;
    world.run(&mut orchestrator(1), 5_000, None, |w| w.ring.is_some());
    assert!(world.ring.is_none());
}

#[test]
fn of_two_founders_one_wins_and_the_other_takes_its_ring() {
    let mut world = World::unfounded(3);
    let (mut one, mut two) = (orchestrator(1), orchestrator(2));
    let mut config = founding();
    config.cluster_id = ClusterId(0xC2);
    let mut other = Orchestrator::new(Config { founding: config, launches: None, seed: 3 });
    for _ in 0..200 {
        for machine in [&mut one, &mut two, &mut other] {
            world.run(machine, 25, None, |_| false);
        }
    }
    assert_eq!(world.written.len(), 1);
}

#[test]
fn a_wiped_consul_gets_the_ring_back_from_the_nodes_and_no_new_cluster_is_founded() {
    let (mut world, mut machine) = World::founded(4);
    world.signal("node-4", "add");
    world.settle(&mut machine);
    let before = world.ring.clone().expect("founded");
    // The launcher that saw it all, and one that starts after it.
    for mut machine in [machine, orchestrator(9)] {
        world.wipe_consul();
        world.settle(&mut machine);
        assert_eq!(world.ring.as_ref(), Some(&before));
    }
}

#[test]
fn a_wiped_consul_gets_a_change_in_progress_back_and_it_ends() {
    let (mut world, mut machine) = World::founded(3);
    world.signal("node-3", "add");
    world.run(&mut machine, 60_000, None, |w| w.phase().is_some_and(|p| p == crate::ring::Phase::Both));
    world.wipe_consul();
    world.settle(&mut machine);
    assert_eq!((world.names(), world.epoch()), (vec![0, 1, 2, 3], 5));
}

#[test]
fn a_consul_that_was_set_back_gets_the_newer_ring_again_in_quiet_times() {
    let (mut world, mut machine) = World::founded(3);
    let old = world.ring.clone();
    world.signal("node-3", "add");
    world.settle(&mut machine);
    let newest = world.ring.clone();
    (world.ring, world.ring_index) = (old, 7);
    world.run(&mut machine, 20_000, None, |w| w.ring == newest);
    assert_eq!(world.ring, newest);
}

#[test]
fn where_consul_was_set_back_with_its_signals_no_member_is_stopped_as_a_newcomer_that_was_refused() {
    let (mut world, mut machine) = World::founded(3);
    let old = world.ring.clone();
    for (node, op) in [("node-3", "add"), ("node-2", "remove")] {
        world.signal(node, op);
        world.settle(&mut machine);
    }
    world.run(&mut machine, 3_000, None, |_| false);
    world.nodes.remove(&name(2));
    let newest = world.ring.clone();
    // Under the old ring node-3 cannot be added: node-2 is gone.
    (world.ring, world.ring_index) = (old, 7);
    world.signal("node-3", "add");
    world.run(&mut machine, 20_000, None, |w| w.ring == newest && w.signals.is_empty());
    assert_eq!(world.ring, newest);
    assert_eq!(world.stops, [], "what it holds would be lost");
}

#[test]
fn a_newer_ring_that_only_a_straggler_holds_is_not_restored_while_others_are_silent() {
    let (mut world, mut machine) = World::founded(4);
    let old = world.ring.clone().expect("founded");
    world.nodes_see_consul = false;
    for n in 0..3 {
        world.node(n).running = false;
    }
    let mut newer = (*old).clone();
    newer.epoch += 5;
    world.node(3).ring = Some(newer.clone().into());
    world.node(3).report.epoch = newer.epoch;
    world.run(&mut machine, 20_000, None, |w| w.epoch() > 1);
    assert_eq!(world.epoch(), 1, "one of four is no majority");
    for n in 0..3 {
        world.node(n).running = true;
    }
    world.run(&mut machine, 20_000, None, |w| w.epoch() > 1);
    assert_eq!(world.epoch(), newer.epoch, "now all have answered, and nobody knows a newer one");
}

#[test]
fn nothing_is_decided_before_ring_signals_and_catalog_were_read() {
    let (world, _) = World::founded(2);
    let mut machine = orchestrator(5);
    let signal = world.ring.clone();
    assert!(machine.step(world.now, Event::Ring(signal, world.ring_index)).is_empty());
    assert!(machine.step(world.now, Event::Tick).is_empty());
    assert!(machine.step(world.now, Event::Candidates(Vec::<Candidate>::new())).is_empty());
    assert!(!machine.step(world.now, Event::Signals(Vec::new())).is_empty(), "now it looks around");
}

#[test]
fn a_founding_ring_names_the_nodes_by_incarnation_one() {
    let (world, _) = World::founded(2);
    let ring = world.ring.expect("founded");
    assert!(ring.nodes.iter().all(|n| n.incarnation == 1));
    assert_eq!(ring.index_of(name(1)), Some(1));
    assert!(plan::check_add(&ring, name(1)).is_err());
}
