//! Launchers: the orchestrator's machine, and the hands that carry out its actions against Consul and the nodes.

use std::sync::Arc;

use ringkv_common::message::request::consent_json;
use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;
use ringkv_common::ring::orchestrator::{Action, Config, Event, Orchestrator};
use ringkv_common::ring::plan::Founding;
use ringkv_common::ring::{ClusterId, Ring};
use ringkv_common::time::Now;
use ringkv_server::core::Status;

use crate::cluster::Cluster;
use crate::happening::{Asker, Happening};

/// Milliseconds between two ticks of a launcher.
const TICK_MS: u64 = 50;
/// Milliseconds between two reads of all that Consul has.
const POLL_MS: u64 = 500;
/// How long a launcher waits for a node's answer to a survey, in milliseconds.
const SURVEY_MS: u64 = 1_000;
/// How long it waits for a node's consent: the node itself takes two seconds at most.
const CONSENT_MS: u64 = 4_000;
/// Partitions of a simulated cluster.
const PARTITIONS: u32 = 64;

/// A launcher's process.
#[derive(Debug)]
pub struct Launcher {
    /// Which life of it; 0 while it does not run. Names its session too.
    pub life: u64,
    machine: Orchestrator,
    /// Whether its machine was told that it holds the lock.
    holds: bool,
    /// It does nothing before.
    pub paused_until_us: u64,
}

impl Cluster {
    pub(crate) fn add_launcher(&mut self, launcher: usize) {
        let machine = self.machine();
        self.launchers.push(Launcher { life: 0, machine, holds: false, paused_until_us: 0 });
        let after_us = self.random.below(100_000);
        self.after(after_us, Happening::Launcher { launcher });
    }

    fn machine(&mut self) -> Orchestrator {
        let founding = Founding {
            cluster_id: ClusterId(u128::from(self.random.bits()) << 64 | 1),
            strategy: Strategy::Consistent,
            chosen: false,
            partitions: PARTITIONS,
            replicas: self.settings.replicas,
            balance: Some(5.0),
        };
        Orchestrator::new(Config { founding, launches: None, seed: self.random.bits() })
    }

    pub(crate) fn start_launcher(&mut self, launcher: usize) {
        if self.launchers[launcher].life > 0 {
            return;
        }
        self.lives += 1;
        let (life, machine) = (self.lives, self.machine());
        self.trace.say(self.now_us, || format!("launcher {launcher} starts, life {life}"));
        self.launchers[launcher] = Launcher { life, machine, holds: false, paused_until_us: 0 };
        self.after(1_000, Happening::Tick { launcher, life });
        self.after(2_000, Happening::Poll { launcher, life, again: true });
    }

    /// Ends a launcher's process at once.
    pub fn kill_launcher(&mut self, launcher: usize) {
        self.trace.add(self.now_us, "kill launcher", &[launcher as u8]);
        self.trace.say(self.now_us, || format!("launcher {launcher} is killed"));
        self.launchers[launcher].life = 0;
    }

    fn alive(&self, launcher: usize, life: u64) -> bool {
        self.launchers[launcher].life == life
    }

    pub(crate) fn on_launcher_tick(&mut self, launcher: usize, life: u64) {
        if !self.alive(launcher, life) {
            return;
        }
        self.after(TICK_MS * 1000, Happening::Tick { launcher, life });
        if !self.consul.away {
            self.consul.renew(life, self.now_us);
            if self.launchers[launcher].holds && !self.consul.holds(life) {
                self.tell_launcher(launcher, life, Event::Lock(false));
            }
        }
        self.tell_launcher(launcher, life, Event::Tick);
    }

    /// Reads all keys and the catalog, as watches that woke do.
    pub(crate) fn on_poll(&mut self, launcher: usize, life: u64, again: bool) {
        if !self.alive(launcher, life) {
            return;
        }
        if again {
            self.after(POLL_MS * 1000, Happening::Poll { launcher, life, again });
        }
        if self.consul.away {
            return;
        }
        let (ring, index) = self.consul.ring();
        let candidates = self.consul.candidates(self.now_us);
        let views = [
            Event::Ring(ring, index),
            Event::Signals(self.consul.signals()),
            Event::Size(self.consul.size),
            Event::Candidates(candidates),
        ];
        for event in views {
            // Each watch is a thread of its own: they overtake each other.
            let after_us = self.random.between(200, 8_000);
            self.after(after_us, Happening::Told { launcher, life, event: Box::new(event) });
        }
    }

    /// Wakes every watch of Consul's keys.
    pub(crate) fn consul_changed(&mut self) {
        for launcher in 0..self.launchers.len() {
            let life = self.launchers[launcher].life;
            let after_us = self.random.between(500, 10_000);
            self.after(after_us, Happening::Poll { launcher, life, again: false });
        }
        let nodes: Vec<(NodeName, u64)> = self.processes.iter().map(|(n, p)| (*n, p.life)).collect();
        for (node, life) in nodes {
            let after_us = self.random.between(500, 60_000);
            self.after(after_us, Happening::Watch { node, life });
        }
    }

    pub(crate) fn tell_launcher(&mut self, launcher: usize, life: u64, event: Event) {
        if !self.alive(launcher, life) {
            return;
        }
        if let Event::Lock(held) = event {
            self.launchers[launcher].holds = held;
        }
        let now = Now { mono_us: self.now_us, wall_ms: self.now_us / 1000 };
        for action in self.launchers[launcher].machine.step(now, event) {
            if !self.alive(launcher, life) {
                return;
            }
            self.perform(launcher, life, action);
        }
    }

    fn perform(&mut self, launcher: usize, life: u64, action: Action) {
        let here = self.trap.filter(|t| action.step() == Some(t.step));
        if !matches!(action, Action::Survey(..)) {
            self.trace.add(self.now_us, "action", &[launcher as u8]);
            self.trace.say(self.now_us, || {
                let text: String = format!("{action:?}");
                format!("launcher {launcher}: {text}")
            });
        }
        if here.is_some_and(|t| !t.after) {
            self.spring(launcher);
            if !self.alive(launcher, life) {
                return;
            }
        }
        let sprung = here.is_some_and(|t| t.after);
        match action {
            Action::Survey(node, ring) => {
                let want = if ring { r#","want":["ring"]"# } else { "" };
                let asker = Asker::Survey { launcher, life, node };
                self.ask(node, format!(r#"{{"op":"STATUS"{want}}}"#), asker, SURVEY_MS);
            }
            Action::Ask(node, token, question) => {
                let asker = Asker::Consent { launcher, life, node, token };
                self.ask(node, consent_json(&question), asker, CONSENT_MS);
                if sprung {
                    self.spring(launcher);
                }
            }
            Action::Launch(node) => {
                self.start(node);
                if sprung {
                    self.spring(launcher);
                }
            }
            Action::Stop(node) => self.end(node),
            _ => {
                let after_us = self.random.between(200, 5_000);
                let action = Box::new(action);
                self.after(after_us, Happening::Hand { launcher, life, action, sprung });
            }
        }
    }

    /// A trap is sprung: kills whom it is for.
    fn spring(&mut self, launcher: usize) {
        let Some(trap) = self.trap.take() else { return };
        self.faults += 1;
        let back_us = trap.back_ms * 1000;
        match trap.node {
            None => {
                self.kill_launcher(launcher);
                self.after(back_us, Happening::Launcher { launcher });
            }
            Some(node) if self.processes.contains_key(&node) => {
                self.kill(node);
                self.after(back_us, Happening::Start { node });
            }
            Some(_) => {}
        }
    }

    /// An action reaches Consul. One that was sent takes effect though its launcher may have died since.
    pub(crate) fn on_hand(&mut self, launcher: usize, life: u64, action: Action, sprung: bool) {
        if self.consul.away {
            // The hands try again for as long as they live.
            if self.alive(launcher, life) {
                self.after(300_000, Happening::Hand { launcher, life, action: Box::new(action), sprung });
            }
            return;
        }
        match action {
            Action::Lock => {
                let held = self.alive(launcher, life) && self.consul.lock(life, self.now_us);
                self.tell_later(launcher, life, vec![Event::Lock(held)]);
            }
            Action::Unlock => {
                self.consul.unlock(life);
                self.tell_later(launcher, life, vec![Event::Lock(false)]);
            }
            Action::Write(ring, index) => self.write_ring(launcher, life, ring, index),
            Action::Forget(id) => {
                self.consul.forget(&id);
                self.consul_changed();
            }
            Action::Answer(outcome) => {
                self.trace.add(self.now_us, "outcome", outcome.message.as_bytes());
                self.outcomes.push(outcome.clone());
                self.consul.answer(outcome);
                self.consul_changed();
            }
            other => unreachable!("{other:?} does not go to Consul"),
        }
        if sprung {
            self.spring(launcher);
        }
    }

    fn write_ring(&mut self, launcher: usize, life: u64, ring: Arc<Ring>, index: u64) {
        let text = ring.to_json().expect("a ring that was planned fits");
        let read = Ring::from_json(text.as_bytes()).expect("a ring that was written can be read");
        assert_eq!(read, *ring, "seed {}: a ring is read as it was written", self.settings.seed);
        let won = self.consul.write_ring(ring.clone(), index);
        self.trace.add(self.now_us, "write", &[u8::from(won), ring.epoch as u8]);
        if won {
            if self.newest.as_ref().is_none_or(|n| n.epoch < ring.epoch) {
                self.note_new_ring(&ring);
                if ring.change.is_none() {
                    self.wounded.clear();
                }
                self.newest = Some(ring);
            }
            self.consul_changed();
        }
        let (ring, index) = self.consul.ring();
        self.tell_later(launcher, life, vec![Event::Ring(ring, index), Event::Written(won)]);
    }

    /// Tells a launcher several things in this order.
    fn tell_later(&mut self, launcher: usize, life: u64, events: Vec<Event>) {
        let after_us = self.random.between(200, 5_000);
        for event in events {
            self.after(after_us, Happening::Told { launcher, life, event: Box::new(event) });
        }
    }

    pub(crate) fn launcher_answered(&mut self, asker: Asker, body: Option<&[u8]>) {
        match asker {
            Asker::Survey { launcher, life, node } => {
                let answer = body.and_then(|b| serde_json::from_slice::<Status>(b).ok()).map(|status| {
                    let ring = status.ring.and_then(|r| Ring::from_json(r.get().as_bytes()).ok());
                    (status.report, ring.map(Arc::new))
                });
                self.tell_launcher(launcher, life, Event::Report(node, answer));
            }
            Asker::Consent { launcher, life, node, token } => {
                let answer = consent(body);
                self.tell_launcher(launcher, life, Event::Consent(node, token, answer));
            }
            Asker::Worker { .. } | Asker::Scenario => {}
        }
    }
}

fn consent(body: Option<&[u8]>) -> Result<(), String> {
    let body = body.ok_or("it gave no answer")?;
    let answer: serde_json::Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    match answer["consent"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(answer["reason"].as_str().or(answer["message"].as_str()).unwrap_or("no").to_owned()),
    }
}
