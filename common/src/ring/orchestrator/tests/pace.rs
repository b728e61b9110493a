//! How often nodes are asked how they stand.

use super::world::{World, name, orchestrator};
use crate::ring::orchestrator::{Action, Candidate, Event, Orchestrator};
use crate::ring::plan;
use crate::ring::{Phase, SignalId};

/// A machine that knows all of a change in phase `copy`, and nothing of the lock.
fn in_a_change() -> (World, Orchestrator) {
    let (mut world, _) = World::founded(3);
    let founded = world.ring.clone().expect("founded");
    let change = plan::remove(&founded, name(2), SignalId { name: "node-2".into(), index: 900 });
    world.ring = Some(change.expect("a plan").into());
    assert_eq!(world.phase(), Some(Phase::Copy));
    let mut machine = orchestrator(3);
    let candidates = world.nodes.values().map(|n| Candidate { node: n.node.clone(), healthy: true });
    for event in [
        Event::Ring(world.ring.clone(), 901),
        Event::Signals(Vec::new()),
        Event::Candidates(candidates.collect()),
    ] {
        machine.step(world.now, event);
    }
    (world, machine)
}

/// How often node-0 is asked within a second, by a machine that gets the lock or not.
fn surveys_in_a_second(world: &mut World, machine: &mut Orchestrator, gets_the_lock: bool) -> usize {
    let end = world.now.after_ms(1_000);
    let mut surveys = 0;
    while world.now.mono_us < end {
        world.now.mono_us += 5_000;
        let mut events = vec![Event::Tick];
        while let Some(event) = events.pop() {
            for action in machine.step(world.now, event) {
                match action {
                    Action::Lock => events.push(Event::Lock(gets_the_lock)),
                    Action::Survey(node, _) if node == name(0) => surveys += 1,
                    _ => {}
                }
            }
        }
    }
    surveys
}

#[test]
fn only_the_holder_of_the_lock_asks_often_while_a_change_runs() {
    let (mut world, mut machine) = in_a_change();
    let idle = surveys_in_a_second(&mut world, &mut machine, false);
    assert!((1..=2).contains(&idle), "{idle} by one that only looks on");
    let busy = surveys_in_a_second(&mut world, &mut machine, true);
    assert!((15..=21).contains(&busy), "{busy} by the one that drives the change");
}

#[test]
fn who_gets_the_lock_asks_at_once() {
    let (mut world, mut machine) = in_a_change();
    surveys_in_a_second(&mut world, &mut machine, false);
    let actions = machine.step(world.now, Event::Lock(true));
    assert!(actions.contains(&Action::Survey(name(0), false)), "{actions:?}");
}

#[test]
fn who_drives_asks_at_once_when_a_change_begins() {
    let (world, _) = in_a_change();
    let (founded, mut machine) = World::founded(3);
    machine.step(founded.now, Event::Lock(true));
    let later = founded.now.after_ms(5);
    let now = crate::time::Now { mono_us: later, ..founded.now };
    let asked = |actions: &[Action]| actions.contains(&Action::Survey(name(0), false));
    let actions = machine.step(now, Event::Tick);
    assert!(!asked(&actions), "nothing runs: {actions:?}");
    let actions = machine.step(now, Event::Ring(world.ring.clone(), 901));
    assert!(asked(&actions), "what was asked before says nothing of the change: {actions:?}");
}
