//! The orchestrator dies before or after every step, and a fresh one that knows nothing goes on.

use super::world::{When, World, orchestrator};
use crate::ring::orchestrator::Step;
use crate::ring::{Kind, Verdict};

/// Which of the three changes take this step. No wildcard: a new step must be thought about here.
fn takes(step: Step, kind: Kind) -> bool {
    match step {
        Step::Launch => kind.joins().is_some(),
        Step::Ask | Step::Copy | Step::Forget | Step::Both | Step::Switch | Step::Done | Step::Answer => true,
    }
}

#[test]
fn a_fresh_orchestrator_ends_what_a_dead_one_began_whatever_the_step() {
    let changes = [("node-3", "add"), ("node-0", "remove"), ("mode", "hrw")];
    for step in Step::ALL {
        for when in [When::Before, When::After] {
            for (key, value) in changes {
                die_and_resume(key, value, step, when);
            }
        }
    }
}

fn die_and_resume(key: &str, value: &str, step: Step, when: When) {
    let case = format!("{key} {value}, dead {when:?} {step:?}");
    let (mut world, mut first) = World::founded(3);
    world.signal(key, value);
    let died = world.run(&mut first, 60_000, Some((step, when)), |w| w.signals.is_empty() && w.epoch() == 5);
    assert_eq!(died, takes(step, super::world::kind(key, value)), "{case}");

    let mut second = orchestrator(2);
    world.settle(&mut second);
    // The answer may be due though all else is done.
    world.run(&mut second, 60_000, None, |w| w.results.contains_key(key));
    world.settle(&mut second);

    assert_eq!(world.result(key).outcome, Verdict::Done, "{case}: {:?}", world.result(key));
    assert_eq!(world.epoch(), 5, "{case}: done once, not twice");
    world.assert_epochs_rise_by_one();
    let names: &[u16] = match key {
        "node-3" => &[0, 1, 2, 3],
        "node-0" => &[1, 2],
        _ => &[0, 1, 2],
    };
    assert_eq!(world.names(), names, "{case}");
}

#[test]
fn a_signal_that_is_seen_only_after_its_answer_is_not_served_again() {
    let (mut world, mut first) = World::founded(3);
    world.signal("node-0", "remove");
    let index = world.signals["node-0"].1;
    world.settle(&mut first);
    let done = world.result("node-0").clone();
    // The deletion was lost, as when Consul is restored from a moment before it.
    world.signals.insert("node-0".into(), ("remove".into(), index));
    let mut second = orchestrator(2);
    world.settle(&mut second);
    assert_eq!((world.result("node-0"), world.epoch()), (&done, 5));
}

#[test]
fn two_orchestrators_at_once_do_no_more_than_one() {
    let (mut world, mut one) = World::founded(3);
    let mut two = orchestrator(2);
    world.signal("node-3", "add");
    world.signal("node-1", "remove");
    for _ in 0..4000 {
        for machine in [&mut one, &mut two] {
            world.run(machine, 25, None, |_| false);
        }
    }
    world.assert_epochs_rise_by_one();
    assert_eq!((world.names(), world.epoch()), (vec![0, 2, 3], 9));
    assert!(world.signals.is_empty());
}
