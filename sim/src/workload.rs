//! Clients at work. Each does one thing at a time, has a deadline, and repeats what was refused or met by silence, a
//! write under the same request id.

use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::durable::About;
use crate::happening::{Asker, Happening};
use crate::listers::Listing;
use crate::registers::Registers;
use crate::rounds::Round;
use crate::settings::Settings;

/// How long one attempt takes at most, in milliseconds: what the request says, and what the client adds.
const TIMEOUT_MS: (u64, u64) = (2_000, 300);
/// How long an operation is tried.
const PATIENCE_US: u64 = 20_000_000;

/// A client.
#[derive(Debug)]
pub struct Worker {
    /// Counts its moves: what belongs to an earlier one is late.
    turn: u64,
    role: Role,
    /// Whether a write of its own that nobody keeps a history of may still happen.
    loose: bool,
    job: Option<Job>,
}

/// What a client is there for.
#[derive(Clone, Copy, Debug)]
enum Role {
    Writer,
    Lister,
    Reader,
    Hostile,
    Adder,
    Incrementer,
    Remover,
}

/// What it is doing.
#[derive(Debug)]
struct Job {
    what: What,
    /// The name of its writes.
    request: u64,
    until_us: u64,
    /// Some attempt may have taken effect.
    unknown: bool,
}

#[derive(Debug)]
enum What {
    Registers(Registers),
    Listing(Listing),
    Hostile { body: String },
    Round(Round),
}

/// The clients, in the order in which they are numbered.
fn roles(settings: &Settings) -> impl Iterator<Item = Role> {
    let of = [
        (Role::Writer, settings.workers),
        (Role::Lister, settings.listers),
        (Role::Reader, settings.readers),
        (Role::Hostile, settings.hostile),
        (Role::Adder, settings.adders),
        (Role::Incrementer, settings.incrementers),
        (Role::Remover, settings.removers),
    ];
    of.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count))
}

impl Cluster {
    /// Lets the clients begin.
    pub fn begin_work(&mut self) {
        self.working = true;
        if self.workers.is_empty() {
            self.workers =
                roles(&self.settings).map(|role| Worker { turn: 0, role, loose: false, job: None }).collect();
        }
        for worker in 0..self.workers.len() {
            self.next_move(worker, 10);
        }
    }

    /// Lets the clients end what they are doing and begin nothing new; whether all have ended within a minute.
    pub fn end_work(&mut self) -> bool {
        self.working = false;
        self.run_until(60_000, |c| c.workers.iter().all(|w| w.job.is_none()))
    }

    fn next_move(&mut self, worker: usize, ms: u64) {
        self.workers[worker].turn += 1;
        let turn = self.workers[worker].turn;
        let after_us = self.random.below(2 * ms * 1000);
        self.after(after_us, Happening::Move { worker, turn });
    }

    pub(crate) fn on_move(&mut self, worker: usize, turn: u64) {
        if self.workers[worker].turn != turn {
            return;
        }
        if self.workers[worker].job.is_none() {
            if !self.working {
                return;
            }
            let what = self.something_to_do(worker);
            let request = self.random.bits();
            let until_us = self.now_us + PATIENCE_US;
            self.workers[worker].job = Some(Job { what, request, until_us, unknown: false });
        }
        self.attempt(worker);
    }

    fn something_to_do(&mut self, worker: usize) -> What {
        let role = self.workers[worker].role;
        if matches!(role, Role::Lister) {
            return What::Listing(self.something_to_list());
        }
        let any = self.random.below(self.settings.keys as u64);
        match role {
            Role::Writer => What::Registers(self.something_to_write_or_read(worker, any)),
            Role::Reader | Role::Lister => What::Registers(self.something_to_read(worker, any)),
            Role::Hostile => What::Hostile { body: self.something_hostile() },
            Role::Adder => What::Round(self.something_to_add()),
            Role::Incrementer => What::Round(self.something_to_count(worker)),
            Role::Remover => What::Round(self.something_to_remove()),
        }
    }

    fn attempt(&mut self, worker: usize) {
        let Some(job) = &self.workers[worker].job else { return };
        let strict = self.settings.strict_writers && writes_strictly(worker);
        let body = job.body(if strict { r#","quorum":"strict""# } else { "" });
        let first = match &job.what {
            What::Registers(registers) => registers.key(),
            What::Round(round) => Some(round.key().to_owned()),
            What::Listing(_) | What::Hostile { .. } => None,
        };
        let Some(node) = self.some_node(first.as_deref()) else { return self.next_move(worker, 100) };
        let turn = self.workers[worker].turn;
        self.ask(node, body, Asker::Worker { worker, turn }, TIMEOUT_MS.0 + TIMEOUT_MS.1);
    }

    /// The owner of a key as the newest ring says, or any node of that ring, or one that is not in it.
    fn some_node(&mut self, key: Option<&str>) -> Option<NodeName> {
        let ring = self.newest.clone()?;
        if self.settings.strays && self.random.chance(1, 8) {
            let running = self.running();
            return self.random.pick(&running);
        }
        let key = key.and_then(|k| Key::new(k).ok());
        if let Some(key) = key.filter(|_| self.random.chance(1, 2)) {
            return Some(ring.node(ring.readers(key.partition(ring.partitions))[0]).name);
        }
        let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
        self.random.pick(&names)
    }

    /// What a client is about with this move, and since when, where it is one key.
    pub(crate) fn about(&self, worker: usize, turn: u64) -> Option<(About, u64)> {
        let worker = self.workers.get(worker).filter(|worker| worker.turn == turn)?;
        let job = worker.job.as_ref()?;
        let put = |key: &str, text: String| Some(About::Put(Key::new(key).ok()?, text));
        let about = match &job.what {
            What::Registers(registers) => match registers.about()? {
                // An earlier one that may happen at any moment may happen now, and be above it.
                (key, _) if registers.writes() && self.history.any_unknown(key) => None,
                (key, Some(value)) => put(key, value.to_string()),
                (key, None) => Key::new(key).ok().map(About::Look),
            },
            What::Round(round) => round.looks().and_then(|key| Key::new(key).ok()).map(About::Look),
            // Nobody else writes to its keys.
            What::Hostile { .. } if worker.loose => None,
            What::Hostile { body } => {
                let body: Json = serde_json::from_str(body).ok()?;
                body["key"]
                    .as_str()
                    .filter(|_| body["op"] == "PUT")
                    .and_then(|key| put(key, body["value"].to_string()))
            }
            What::Listing { .. } => None,
        };
        Some((about?, job.until_us - PATIENCE_US))
    }

    pub(crate) fn worker_answered(&mut self, worker: usize, turn: u64, body: Option<&[u8]>) {
        if self.workers[worker].turn != turn {
            return;
        }
        let Some(mut job) = self.workers[worker].job.take() else { return };
        let reply: Option<Json> = body.map(|b| serde_json::from_slice(b).expect("replies are JSON"));
        self.note_failure(reply.as_ref());
        let done = match &mut job.what {
            What::Registers(registers) => {
                self.registers_answered(worker, registers, &mut job.unknown, reply.as_ref())
            }
            What::Round(round) => self.round_answered(round, reply.as_ref()),
            What::Hostile { .. } => {
                self.workers[worker].loose |=
                    reply.as_ref().is_none_or(|reply| reply["indeterminate"] == true);
                self.learn_actors(reply.as_ref());
                true
            }
            What::Listing(listing) => {
                let last = self.page_answered(listing, reply.as_ref());
                if !last && reply.is_some_and(|r| r["collection"].is_array()) {
                    // Changes shall happen between two pages.
                    job.until_us = self.now_us + PATIENCE_US;
                }
                last
            }
        };
        if done {
            self.operations += 1;
            self.acknowledged += u64::from(!matches!(job.what, What::Hostile { .. }));
        } else if self.now_us >= job.until_us {
            self.operations += 1;
            self.give_up(job);
        } else {
            self.workers[worker].job = Some(job);
            return self.next_move(worker, 100);
        }
        let think_ms = self.settings.think_ms;
        self.next_move(worker, think_ms);
    }

    fn note_failure(&mut self, reply: Option<&Json>) {
        let code = |r: &Json| {
            r["code"].as_str().filter(|c| !matches!(*c, "KEY_NOT_FOUND" | "KEY_EXISTS")).map(str::to_owned)
        };
        let all = |r: &Json| -> Vec<String> {
            let many = r["results"].as_array().into_iter().flatten();
            code(r).into_iter().chain(many.filter_map(code)).collect()
        };
        let codes = reply.map_or(vec!["silence".to_owned()], all);
        for code in codes {
            *self.failures.entry(code).or_default() += 1;
        }
    }

    fn give_up(&mut self, job: Job) {
        match job.what {
            What::Registers(registers) => self.give_registers_up(registers, job.unknown),
            What::Listing(listing) => self.history.abandon_listing(listing.id),
            What::Hostile { .. } | What::Round(_) => {}
        }
    }
}

/// Whether a client has its writes wait for owners alone, where clients differ in that.
pub fn writes_strictly(worker: usize) -> bool {
    worker % 2 == 1
}

/// The client that writes to a key, and nobody else does.
pub fn writer_of(key: &str) -> Option<usize> {
    key.strip_prefix('c')?.split('-').next()?.parse().ok()
}

impl Job {
    /// The request of an attempt; `quorum`: what writes of registers say of it.
    fn body(&self, quorum: &str) -> String {
        let (timeout, request) = (TIMEOUT_MS.0, self.request);
        match &self.what {
            What::Registers(registers) => registers.body(request, quorum, timeout),
            What::Hostile { body } => body.clone(),
            What::Round(round) => round.body(request, timeout),
            What::Listing(listing) => listing.body(timeout),
        }
    }
}
