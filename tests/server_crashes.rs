//! Launcher, source or target is killed with -9 at each step of a change. Nobody helps: what is left, and the launcher
//! that comes next, end the change by themselves, and no acknowledged write is lost but those that only the killed
//! node had in its memory. Those are said to be lost.
//!
//! The launcher stops before the action of a step (`--hold-at`), so that the moment of death is no matter of luck.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::Step;
use ringkv_common::ring::{Phase, Ring};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Launcher, World, ask, kill, node_pid, until};

/// Keys written before the change, and as many again at the moment of death.
const KEYS: usize = 60;
/// Cases of one test that run at a time: they wait more than they work.
const AT_A_TIME: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Launcher,
    Source,
    Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Add,
    Remove,
    Migrate,
}

/// The step that comes after another one. No wildcard: a new step does not compile before it has its place here.
fn next(step: Step) -> Option<Step> {
    Some(match step {
        Step::Launch => Step::Ask,
        Step::Ask => Step::Copy,
        Step::Copy => Step::Forget,
        Step::Forget => Step::Both,
        Step::Both => Step::Switch,
        Step::Switch => Step::Done,
        Step::Done => Step::Answer,
        Step::Answer => return None,
    })
}

/// Each step of the enum.
fn steps() -> Vec<Step> {
    let steps: Vec<Step> = std::iter::successors(Some(Step::Launch), |step| next(*step)).collect();
    assert_eq!(steps, Step::ALL);
    steps
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

    fn takes(self, step: Step) -> bool {
        self == Change::Add || step != Step::Launch
    }
}

/// A cluster of three with some data, whose change is held at a step.
struct Held {
    case: String,
    world: World,
    launcher: Launcher,
    change: Change,
    /// The ring before the change, and at the moment.
    before: Ring,
    ring: Ring,
    /// What was acknowledged.
    written: BTreeMap<String, usize>,
}

impl Held {
    fn at(change: Change, step: Step, case: String) -> Held {
        let world = World::of_size(3);
        let name = format!("{step:?}").to_lowercase();
        let launcher = world.launch_ready(&["--partitions", "64", "--hold-at", &name], 3);
        let before = ring(&world);
        let mut held =
            Held { case, world, launcher, change, ring: before.clone(), before, written: BTreeMap::new() };
        held.write(0..KEYS);
        let (signal, value) = change.signal();
        held.world.consul.put(&format!("ringkv/signals/{signal}"), value);
        held.launcher.said(&format!("holding at {name}"));
        // Acknowledged under the ring of this very moment.
        held.write(KEYS..2 * KEYS);
        held.ring = ring(&held.world);
        held
    }

    fn write(&mut self, keys: std::ops::Range<usize>) {
        for n in keys {
            let key = format!("k{n}");
            let put = json!({"op": "PUT", "key": key, "value": n});
            // Node-1 is there before and after each of these changes.
            let reply = ask(self.world.port(1), &put);
            assert_eq!(reply, Some(json!({"status": "OK"})), "{}", self.case);
            self.written.insert(key, n);
        }
    }

    /// Kills the victim, and lets the change go on.
    fn kill(&mut self, victim: Victim) {
        let (source, target) = self.change.parties();
        let node = match victim {
            Victim::Launcher => {
                self.launcher.kill();
                self.launcher = self.world.launch(&[]);
                return;
            }
            Victim::Source => source,
            Victim::Target => target,
        };
        let pid = node_pid(&self.world.consul.url, node);
        if let Some(pid) = pid {
            kill(pid, Signal::KILL);
        }
        self.launcher.signal(Signal::USR1);
        if pid.is_none() {
            // The newcomer is just being launched: then it dies as soon as it lives.
            kill(until("its process", || node_pid(&self.world.consul.url, node)), Signal::KILL);
        }
    }

    /// The answer to the signal, when the change has ended and all nodes know it.
    fn ended(&mut self) -> Value {
        let name = self.change.signal().0;
        let result = until(&format!("result: {}", self.case), || {
            self.world.consul.json(&format!("ringkv/results/{name}"))
        });
        until(&format!("end of the signal: {}", self.case), || {
            self.world.consul.get(&format!("ringkv/signals/{name}")).is_none().then_some(())
        });
        self.ring = ring(&self.world);
        assert!(self.ring.change.is_none(), "{}: {result}", self.case);
        for node in &self.ring.nodes {
            until(&format!("{} with the ring: {}", node.name, self.case), || {
                self.world.status(node.name.0).filter(|s| s["epoch"] == self.ring.epoch)
            });
        }
        result
    }

    /// Reads every key. What is not there is said to be lost; the keys that are gone are returned.
    fn lost(&self) -> Vec<&str> {
        let mut lost = Vec::new();
        for (key, n) in &self.written {
            let reply = until(&format!("word on {key}: {}", self.case), || {
                let reply = ask(self.world.port(1), &json!({"op": "GET_ONE", "key": key}))?;
                // While a node that died is connected to again there is no answer yet.
                (reply.get("value").is_some() || reply["code"] == "KEY_NOT_FOUND").then_some(reply)
            });
            match reply.get("value") {
                Some(value) => assert_eq!(value, n, "{}: {key}", self.case),
                None => {
                    assert_eq!(
                        reply["lost"], true,
                        "{}: {key} is gone and nobody says so: {reply}",
                        self.case
                    );
                    lost.push(key.as_str());
                }
            }
        }
        lost
    }

    /// Partitions that nodes say they lost.
    fn said_lost(&self) -> u64 {
        let lost = |n: NodeName| self.world.status(n.0).unwrap()["lost_partitions"].as_u64().unwrap();
        self.ring.nodes.iter().map(|n| lost(n.name)).sum()
    }
}

fn ring(world: &World) -> Ring {
    Ring::from_json(world.consul.get("ringkv/ring").unwrap().as_bytes()).unwrap()
}

/// Whether only this node held a key's record under a ring.
fn held_alone(ring: &Ring, key: &str, node: NodeName) -> bool {
    let Some(node) = ring.index_of(node) else { return false };
    let partition = Key::new(key).unwrap().partition(ring.partitions);
    // After `both` both rows have all that was acknowledged.
    let moved = ring.moves(partition) && ring.change.as_ref().is_some_and(|c| c.phase == Phase::Switch);
    ring.owners.owners(partition).contains(&node) && !moved
}

fn kill_and_look(change: Change, step: Step, victim: Victim) {
    let case = format!("{change:?}, {victim:?} killed at {step:?}");
    let mut held = Held::at(change, step, case.clone());
    let at_death = held.ring.clone();
    held.kill(victim);
    let result = held.ended();
    let lost = held.lost();
    match victim {
        Victim::Launcher => {
            assert_eq!((result["outcome"].as_str(), lost.len()), (Some("done"), 0), "{case}: {result}");
            assert_eq!((held.ring.epoch, held.said_lost()), (5, 0), "{case}: done once, not twice");
        }
        Victim::Source | Victim::Target => {
            let (source, target) = change.parties();
            let victim = NodeName(if victim == Victim::Source { source } else { target });
            // The ring of `done` was decided on before the death, and written after it: the new owners are alone then.
            let alone = |key: &str| {
                held_alone(&at_death, key, victim)
                    || step == Step::Done && held_alone(&held.ring, key, victim)
            };
            for key in &lost {
                assert!(alone(key), "{case}: {key} is lost, {victim} was not its only holder");
            }
            let certain = |key: &&String| {
                held_alone(&held.before, key, victim)
                    && held_alone(&at_death, key, victim)
                    && held_alone(&held.ring, key, victim)
            };
            for key in held.written.keys().filter(certain) {
                assert!(lost.contains(&key.as_str()), "{case}: where does {key} come from?");
            }
            assert!(lost.is_empty() || held.said_lost() > 0, "{case}: no node says what it lost");
        }
    }
    println!("{case}: {} lost, {}", lost.len(), result["message"]);
    leaves_nothing_in_the_way(held);
}

/// The next change works, once what is lost was accepted.
fn leaves_nothing_in_the_way(mut held: Held) {
    for node in &held.ring.nodes {
        let accepted = ask(held.world.port(node.name.0), &json!({"op": "ACCEPT_LOSS"})).unwrap();
        assert_eq!(accepted["status"], "OK", "{accepted}");
    }
    held.world.consul.put("ringkv/signals/node-5", "add");
    let result = until("answer to the next change", || held.world.consul.json("ringkv/results/node-5"));
    assert_eq!(result["outcome"], "done", "{}, then {result}", held.case);
    held.launcher.terminate();
}

/// Runs cases side by side.
fn all(cases: impl IntoIterator<Item = (Change, Step, Victim)>) {
    let cases =
        Mutex::new(cases.into_iter().filter(|(change, step, _)| change.takes(*step)).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some((change, step, victim)) = cases.lock().unwrap().pop() else { return };
                    kill_and_look(change, step, victim);
                }
            });
        }
    });
}

/// Each step, and with it another victim each time.
fn in_turn(change: Change) {
    let victims = [Victim::Source, Victim::Target, Victim::Launcher].into_iter().cycle();
    all(steps().into_iter().zip(victims).map(|(step, victim)| (change, step, victim)));
}

#[test]
fn an_add_survives_the_death_of_its_launcher_at_each_step() {
    all(steps().into_iter().map(|step| (Change::Add, step, Victim::Launcher)));
}

#[test]
fn an_add_survives_the_death_of_a_source_at_each_step() {
    all(steps().into_iter().map(|step| (Change::Add, step, Victim::Source)));
}

#[test]
fn an_add_survives_the_death_of_its_target_at_each_step() {
    all(steps().into_iter().map(|step| (Change::Add, step, Victim::Target)));
}

#[test]
fn a_removal_survives_a_death_at_each_step() {
    in_turn(Change::Remove);
}

#[test]
fn a_migration_survives_a_death_at_each_step() {
    in_turn(Change::Migrate);
}

#[test]
fn a_launcher_that_holds_goes_on_when_it_is_told() {
    let world = World::of_size(2);
    let mut launcher = world.launch_ready(&["--hold-at", "switch"], 2);
    world.consul.put("ringkv/signals/mode", "hrw");
    launcher.said("holding at switch");
    assert_eq!(world.consul.json("ringkv/ring").unwrap()["change"]["phase"], "both");
    launcher.signal(Signal::USR1);
    until("result", || world.consul.json("ringkv/results/mode"));
    assert_eq!(world.consul.json("ringkv/ring").unwrap()["strategy"], "hrw");
    launcher.terminate();
}
