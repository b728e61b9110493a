//! Everybody is asked first; whoever is told no tries again later.

use super::world::{World, name, orchestrator};
use crate::ring::Verdict;
use crate::ring::orchestrator::{Action, Event};

#[test]
fn after_a_no_it_backs_off_and_asks_again_until_it_hears_yes() {
    let (mut world, mut machine) = World::founded(3);
    for why in ["full", "full", "still full"] {
        world.node(1).noes.push_back(why.into());
    }
    let began = world.now.mono_us;
    world.signal("node-3", "add");
    world.run(&mut machine, 60_000, None, |w| w.phase().is_some());
    assert_eq!(world.questions, 4 * 4, "four nodes, asked four times");
    let took_ms = (world.now.mono_us - began) / 1000;
    assert!((350..2_000).contains(&took_ms), "pauses of 50…100, 100…200, 200…400 ms: {took_ms}");
    world.settle(&mut machine);
    assert_eq!(world.result("node-3").outcome, Verdict::Done);
}

#[test]
fn a_no_that_lasts_is_the_answer_and_the_newcomer_is_stopped() {
    let (mut world, mut machine) = World::founded(3);
    world.node(1).noes = std::iter::repeat_n("disk is full".to_owned(), 1000).collect();
    world.signal("node-3", "add");
    world.settle(&mut machine);
    assert!(world.refused("node-3").contains("node-1: disk is full"), "{}", world.refused("node-3"));
    assert_eq!((world.epoch(), world.stops.as_slice()), (1, &[name(3)][..]));
    assert!(world.questions < 150, "pauses grow: {}", world.questions);
}

#[test]
fn a_newcomer_that_cannot_reach_everybody_says_whom() {
    let (mut world, mut machine) = World::founded(2);
    world.start(2);
    world.node(2).noes = std::iter::repeat_n("cannot reach node-1 at h:2001".to_owned(), 1000).collect();
    world.signal("node-2", "add");
    world.settle(&mut machine);
    assert!(world.refused("node-2").contains("node-2: cannot reach node-1"));
}

#[test]
fn a_newcomer_that_never_becomes_healthy_is_refused_and_stopped() {
    let (mut world, mut machine) = World::founded(2);
    world.start(2);
    world.node(2).healthy = false;
    world.signal("node-2", "add");
    world.settle(&mut machine);
    assert!(world.refused("node-2").contains("node-2 did not become healthy within 30 s"));
    assert_eq!((world.launches.as_slice(), world.stops.as_slice()), (&[name(2)][..], &[name(2)][..]));
}

#[test]
fn a_change_that_needs_a_suspect_node_is_refused_by_name() {
    let (mut world, mut machine) = World::founded(3);
    world.node(0).healthy = false;
    world.signal("node-1", "remove");
    world.settle(&mut machine);
    let why = world.refused("node-1");
    assert!(why.contains("node-0 would give or take data and cannot be reached: start it again"), "{why}");
}

#[test]
fn silence_counts_as_no() {
    let (mut world, mut machine) = World::founded(2);
    let index = world.ring_index;
    world.signal("node-1", "remove");
    // The questions are not delivered at all.
    let signals = || {
        Event::Signals(vec![super::super::Signal {
            id: crate::ring::SignalId { name: "node-1".into(), index: index + 9 },
            value: "remove".into(),
        }])
    };
    machine.step(world.now, signals());
    machine.step(world.now, Event::Lock(true));
    let mut said = Vec::new();
    for _ in 0..2000 {
        world.now.mono_us += 25_000;
        said.extend(machine.step(world.now, Event::Tick));
    }
    let refusal =
        said.iter().find_map(|a| if let Action::Answer(o) = a { Some(o.message.clone()) } else { None });
    assert!(
        refusal.as_deref().is_some_and(|r| {
            r.contains("node-0 gave no answer within 5 s") && r.contains("end the process of node-0")
        }),
        "{refusal:?}"
    );
}

#[test]
fn consent_leaves_no_state_a_lost_lock_starts_over() {
    let (mut world, mut machine) = World::founded(3);
    world.node(1).noes.push_back("later".into());
    world.signal("node-3", "add");
    world.run(&mut machine, 60_000, None, |w| w.questions > 0);
    machine.step(world.now, Event::Lock(false));
    world.locked = false;
    // Another one gets the lock first and ends it; the first has nothing left to do.
    let mut other = orchestrator(7);
    world.settle(&mut other);
    world.settle(&mut machine);
    assert_eq!((world.names(), world.epoch()), (vec![0, 1, 2, 3], 5));
    world.assert_epochs_rise_by_one();
}

#[test]
fn a_lost_lock_stops_a_change_and_the_regained_lock_goes_on() {
    let (mut world, mut machine) = World::founded(3);
    world.signal("node-3", "add");
    world.run(&mut machine, 60_000, None, |w| w.phase().is_some());
    let epoch = world.epoch();
    machine.step(world.now, Event::Lock(false));
    world.locked = false;
    world.lock_free_at = world.now.after_ms(70_000);
    world.run(&mut machine, 69_000, None, |_| false);
    assert_eq!(world.epoch(), epoch, "nothing is written without the lock");
    world.settle(&mut machine);
    assert_eq!(world.result("node-3").outcome, Verdict::Done, "time without the lock is no stall");
}

#[test]
fn a_change_that_moves_nothing_needs_the_consent_of_most_nodes_all_the_same() {
    let (mut world, mut machine) = World::founded(4);
    // Already consistent, but nobody chose it: no partition moves, so nobody gives or takes.
    for n in 0..2 {
        world.node(n).healthy = false;
    }
    world.signal("mode", "consistent");
    world.settle(&mut machine);
    let why = world.refused("mode");
    assert!(why.contains("2 of the ring's 4 nodes are healthy, a change needs most of them"), "{why}");
    assert_eq!(world.epoch(), 1);
    world.node(0).healthy = true;
    world.signal("mode", "consistent");
    world.settle(&mut machine);
    assert_eq!(world.result("mode").outcome, Verdict::Done);
}
