//! A launcher, a giver or a receiver is killed before or after each step of each change. Somebody always comes back,
//! and the change ends on its own: done, taken back or refused, and no acknowledged write is lost but those that only
//! the killed node had. Those are said to be lost.

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Step;
use ringkv_sim::{Cluster, Settings, Trap};

#[derive(Clone, Copy, Debug)]
enum Victim {
    Launcher,
    Source,
    Target,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Add,
    Remove,
    Migrate,
}

impl Change {
    fn signal(self) -> (&'static str, &'static str) {
        match self {
            Change::Add => ("node-3", "add"),
            Change::Remove => ("node-2", "remove"),
            Change::Migrate => ("mode", "hrw"),
        }
    }

    /// Who gives data, and who receives some, by number.
    fn parties(self) -> (u16, u16) {
        match self {
            Change::Add => (0, 3),
            Change::Remove => (2, 0),
            Change::Migrate => (1, 0),
        }
    }

    /// Whether it takes a step. No wildcard: a new step must be thought about here.
    fn takes(self, step: Step) -> bool {
        match step {
            Step::Launch => matches!(self, Change::Add),
            Step::Ask | Step::Copy | Step::Forget | Step::Both | Step::Switch | Step::Done | Step::Answer => {
                true
            }
        }
    }
}

fn kill_and_look(change: Change, step: Step, after: bool, victim: Victim, seed: u64) {
    let case = format!("{change:?}, {victim:?} killed at {step:?}, after: {after}, seed {seed}");
    let (source, target) = change.parties();
    let node = match victim {
        Victim::Launcher => None,
        Victim::Source => Some(NodeName(source)),
        Victim::Target => Some(NodeName(target)),
    };
    let settings = Settings { nodes: 3, workers: 3, keys: 16, ..Settings::quiet(seed) };
    let mut cluster = Cluster::founded(settings);
    // Some data first, then the change; some come back soon, some only after they were seen to be critical.
    cluster.run_ms(2_000);
    let back_ms = if seed.is_multiple_of(3) { 15_000 } else { 400 };
    cluster.trap = Some(Trap { step, after, node, back_ms });
    let (name, value) = change.signal();
    cluster.signal(name, value);
    let ended = cluster.run_until(400_000, |c| c.consul.result(name).is_some() && c.at_rest());
    assert!(ended, "{case}: no result, or no rest; signals {:?}", cluster.consul.signals());
    assert!(cluster.trap.is_none(), "{case}: the step was not taken");
    let lost = cluster.lost.len();
    let said = cluster.said_lost().len();
    assert_eq!(lost > 0, said > 0, "{case}: {lost} partitions lost, {said} said to be");
    let wrong = cluster.verdict();
    assert!(wrong.is_empty(), "{case}: {:?}: {wrong:#?}", cluster.outcomes);

    // Nothing is left in the way: the next change of the same cluster works.
    cluster.begin_work();
    cluster.signal("node-5", "add");
    let ended = cluster.run_until(120_000, |c| c.consul.result("node-5").is_some() && c.at_rest());
    assert!(ended, "{case}: the next change did not end");
    let outcome = cluster.consul.result("node-5").map(|r| (r.outcome, r.message.clone()));
    assert_eq!(
        outcome.as_ref().map(|o| o.0),
        Some(ringkv_common::ring::Verdict::Done),
        "{case}: {outcome:?}"
    );
    let wrong = cluster.verdict();
    assert!(wrong.is_empty(), "{case}, next change: {wrong:#?}");
}

fn at_every_step(change: Change, victim: Victim) {
    for (n, step) in Step::ALL.into_iter().enumerate().filter(|(_, step)| change.takes(*step)) {
        for after in [false, true] {
            kill_and_look(change, step, after, victim, 1 + 2 * n as u64 + u64::from(after));
        }
    }
}

#[test]
fn an_add_survives_its_launcher() {
    at_every_step(Change::Add, Victim::Launcher);
}

#[test]
fn an_add_survives_its_source() {
    at_every_step(Change::Add, Victim::Source);
}

#[test]
fn an_add_survives_its_target() {
    at_every_step(Change::Add, Victim::Target);
}

#[test]
fn a_remove_survives_its_launcher() {
    at_every_step(Change::Remove, Victim::Launcher);
}

#[test]
fn a_remove_survives_its_source() {
    at_every_step(Change::Remove, Victim::Source);
}

#[test]
fn a_remove_survives_its_target() {
    at_every_step(Change::Remove, Victim::Target);
}

#[test]
fn a_migration_survives_its_launcher() {
    at_every_step(Change::Migrate, Victim::Launcher);
}

#[test]
fn a_migration_survives_a_source() {
    at_every_step(Change::Migrate, Victim::Source);
}

#[test]
fn a_migration_survives_a_target() {
    at_every_step(Change::Migrate, Victim::Target);
}
