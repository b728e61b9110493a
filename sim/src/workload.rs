//! Clients at work: writers that also read, and listers. Each does one thing at a time, has a deadline, and repeats
//! what was refused or met by silence, a write under the same request id.

use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use serde_json::Value as Json;

use crate::adders::Addition;
use crate::cluster::Cluster;
use crate::happening::{Asker, Happening};
use crate::history::{Id, Value};

/// How long one attempt takes at most, in milliseconds: what the request says, and what the client adds.
const TIMEOUT_MS: (u64, u64) = (2_000, 300);
/// How long an operation is tried.
const PATIENCE_US: u64 = 20_000_000;
/// Records of a page of a listing.
const PAGE: usize = 7;

/// A client.
#[derive(Debug)]
pub struct Worker {
    /// Counts its moves: what belongs to an earlier one is late.
    turn: u64,
    lists: bool,
    job: Option<Job>,
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
    Writes(Vec<Item>),
    Reads(Vec<Look>),
    Listing { id: Id, shown: Vec<String>, cursor: Option<String> },
    Hostile { body: String },
    Adds(Addition),
}

#[derive(Debug)]
struct Item {
    verb: Verb,
    key: String,
    value: Value,
    write: Id,
    /// Open while an INSERT or UPDATE may be refused for what is there.
    check: Option<Id>,
    done: bool,
}

#[derive(Debug)]
struct Look {
    key: String,
    read: Id,
    by_writer: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Put,
    Insert,
    Update,
    Delete,
}

/// What a reply says of one key.
#[derive(Debug)]
enum Told {
    Stored,
    Shown(u64),
    Absent {
        lost: bool,
    },
    Taken,
    /// Nothing was done.
    Refused,
    /// It may have been done.
    Unknown,
}

impl Cluster {
    /// Lets the clients begin.
    pub fn begin_work(&mut self) {
        self.working = true;
        if self.workers.is_empty() {
            let (workers, listers) = (self.settings.workers, self.settings.listers);
            for n in
                0..workers + listers + self.settings.readers + self.settings.hostile + self.settings.adders
            {
                let lists = (workers..workers + listers).contains(&n);
                self.workers.push(Worker { turn: 0, lists, job: None });
            }
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
            let what = if self.workers[worker].lists {
                What::Listing { id: self.history.begin_listing(), shown: Vec::new(), cursor: None }
            } else {
                self.something_to_do(worker)
            };
            let request = self.random.bits();
            let until_us = self.now_us + PATIENCE_US;
            self.workers[worker].job = Some(Job { what, request, until_us, unknown: false });
        }
        self.attempt(worker);
    }

    fn something_to_do(&mut self, worker: usize) -> What {
        let own = |n: u64| format!("c{worker}-{n}");
        let keys = self.settings.keys as u64;
        let any = self.random.below(keys);
        let others = self.settings.workers + self.settings.listers + self.settings.readers;
        if worker >= others + self.settings.hostile {
            return What::Adds(self.something_to_add());
        }
        if worker >= others {
            return What::Hostile { body: self.something_hostile() };
        }
        if worker >= self.settings.workers {
            let writer = self.random.below(self.settings.workers as u64);
            return What::Reads(self.looks(worker, vec![format!("c{writer}-{any}")]));
        }
        match self.random.below(100) {
            0..40 => What::Writes(vec![self.item(own(any), Verb::Put)]),
            40..48 => What::Writes(vec![self.item(own(any), Verb::Delete)]),
            48..54 => What::Writes(vec![self.item(own(any), Verb::Insert)]),
            54..60 => What::Writes(vec![self.item(own(any), Verb::Update)]),
            60..65 => {
                let items = (0..4).map(|n| self.item(own((any + n * 5) % keys.max(1)), Verb::Put));
                let mut items: Vec<Item> = items.collect();
                items.dedup_by(|a, b| a.key == b.key);
                What::Writes(items)
            }
            65..70 => {
                let others = self.settings.workers as u64;
                let keys = (0..5).map(|n| format!("c{}-{}", (n + any) % others, (any + n) % keys)).collect();
                What::Reads(self.looks(worker, keys))
            }
            70..88 => What::Reads(self.looks(worker, vec![own(any)])),
            _ => {
                let other = self.random.below(self.settings.workers as u64);
                What::Reads(self.looks(worker, vec![format!("c{other}-{any}")]))
            }
        }
    }

    fn item(&mut self, key: String, verb: Verb) -> Item {
        let value = (verb != Verb::Delete).then(|| self.random.bits() >> 24);
        let check = matches!(verb, Verb::Insert | Verb::Update).then(|| self.history.begin_read(&key, true));
        let write = self.history.begin_write(&key, value);
        Item { verb, key, value, write, check, done: false }
    }

    fn looks(&mut self, worker: usize, keys: Vec<String>) -> Vec<Look> {
        let prefix = format!("c{worker}-");
        let look = |key: String| {
            let by_writer = key.starts_with(&prefix);
            Look { read: self.history.begin_read(&key, by_writer), by_writer, key, done: false }
        };
        keys.into_iter().map(look).collect()
    }

    fn attempt(&mut self, worker: usize) {
        let Some(job) = &self.workers[worker].job else { return };
        let body = body(job);
        let first = match &job.what {
            What::Writes(items) => items.first().map(|i| i.key.clone()),
            What::Reads(looks) => looks.first().map(|l| l.key.clone()),
            What::Adds(addition) => Some(addition.adding.key.clone()),
            What::Listing { .. } | What::Hostile { .. } => None,
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

    pub(crate) fn worker_answered(&mut self, worker: usize, turn: u64, body: Option<&[u8]>) {
        if self.workers[worker].turn != turn {
            return;
        }
        let Some(mut job) = self.workers[worker].job.take() else { return };
        let reply: Option<Json> = body.map(|b| serde_json::from_slice(b).expect("replies are JSON"));
        self.note_failure(reply.as_ref());
        let done = match &mut job.what {
            What::Writes(items) => self.writes_answered(items, &mut job.unknown, reply.as_ref()),
            What::Reads(looks) => self.reads_answered(worker, looks, reply.as_ref()),
            What::Adds(addition) => self.addition_answered(addition, reply.as_ref()),
            What::Hostile { .. } => {
                self.learn_actors(reply.as_ref());
                true
            }
            What::Listing { id, shown, cursor } => {
                if self.page_answered(*id, shown, cursor, reply.as_ref()) {
                    true
                } else if reply.is_some_and(|r| r["collection"].is_array()) {
                    // Changes shall happen between two pages.
                    job.until_us = self.now_us + PATIENCE_US;
                    false
                } else {
                    false
                }
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

    fn writes_answered(&mut self, items: &mut [Item], unknown: &mut bool, reply: Option<&Json>) -> bool {
        let told = told(items.len(), reply);
        *unknown |= told.iter().any(|t| matches!(t, Told::Unknown));
        let unknown = *unknown;
        for (item, told) in items.iter_mut().zip(told).filter(|(item, _)| !item.done) {
            let check = item.check;
            let lost = matches!(told, Told::Absent { lost: true });
            match told {
                Told::Stored => self.history.acknowledged(item.write),
                // Refused for what is there, which must be true; an earlier attempt may still come.
                Told::Absent { .. } | Told::Taken => {
                    if let Some(check) = item.check.take() {
                        self.history.end_check(check, matches!(told, Told::Taken), lost);
                    }
                    if unknown { self.history.unknown(item.write) } else { self.history.refused(item.write) }
                }
                _ => continue,
            }
            if let Some(check) = check {
                self.history.abandon_read(check);
            }
            item.done = true;
        }
        items.iter().all(|i| i.done)
    }

    fn reads_answered(&mut self, worker: usize, looks: &mut [Look], reply: Option<&Json>) -> bool {
        if let ([look], Some(context)) = (&*looks, reply.and_then(|r| r["context"].as_object())) {
            let context = context.iter().map(|(actor, n)| (actor.clone(), n.as_u64().unwrap_or_default()));
            self.history.saw(worker, look.read, context.collect());
        }
        for (look, told) in looks.iter_mut().zip(shown(reply)).filter(|(look, _)| !look.done) {
            match told {
                Told::Shown(value) => self.history.end_read(look.read, Some(value), false),
                Told::Absent { lost } => self.history.end_read(look.read, None, lost),
                _ => {
                    self.history.abandon_read(look.read);
                    look.read = self.history.begin_read(&look.key, look.by_writer);
                    continue;
                }
            }
            look.done = true;
        }
        looks.iter().all(|l| l.done)
    }

    /// Takes a page; whether it was the last.
    fn page_answered(
        &mut self,
        id: Id,
        shown: &mut Vec<String>,
        cursor: &mut Option<String>,
        reply: Option<&Json>,
    ) -> bool {
        let Some(records) = reply.and_then(|r| r["collection"].as_array()) else { return false };
        shown.extend(records.iter().filter_map(|r| r["key"].as_str()).map(str::to_owned));
        *cursor = reply.and_then(|r| r["cursor"].as_str()).map(str::to_owned);
        if cursor.is_none() {
            self.history.end_listing(id, shown);
        }
        cursor.is_none()
    }

    fn give_up(&mut self, job: Job) {
        match job.what {
            What::Writes(items) => {
                for item in items.into_iter().filter(|i| !i.done) {
                    item.check.into_iter().for_each(|c| self.history.abandon_read(c));
                    if job.unknown {
                        self.history.unknown(item.write);
                    } else {
                        self.history.refused(item.write);
                    }
                }
            }
            What::Reads(looks) => looks.iter().for_each(|l| self.history.abandon_read(l.read)),
            What::Listing { id, .. } => self.history.abandon_listing(id),
            What::Hostile { .. } | What::Adds(_) => {}
        }
    }
}

/// The request of an attempt.
fn body(job: &Job) -> String {
    let (timeout, request) = (TIMEOUT_MS.0, job.request);
    match &job.what {
        What::Writes(items) => match items.as_slice() {
            [Item { verb: Verb::Delete, key, .. }] => {
                format!(r#"{{"op":"DELETE","key":"{key}","request":"{request}","timeout_ms":{timeout}}}"#)
            }
            [Item { verb, key, value: Some(value), .. }] => {
                let op = match verb {
                    Verb::Insert => "INSERT",
                    Verb::Update => "UPDATE",
                    Verb::Put | Verb::Delete => "PUT",
                };
                format!(
                    r#"{{"op":"{op}","key":"{key}","value":{value},"request":"{request}","timeout_ms":{timeout}}}"#
                )
            }
            items => {
                let item =
                    |i: &Item| format!(r#"{{"key":"{}","value":{}}}"#, i.key, i.value.unwrap_or_default());
                let items: Vec<String> = items.iter().map(item).collect();
                let items = items.join(",");
                format!(r#"{{"op":"MPUT","items":[{items}],"request":"{request}","timeout_ms":{timeout}}}"#)
            }
        },
        What::Reads(looks) => match looks.as_slice() {
            [Look { key, .. }] => {
                format!(r#"{{"op":"GET_ONE","key":"{key}","want":["context"],"timeout_ms":{timeout}}}"#)
            }
            looks => {
                let keys: Vec<String> = looks.iter().map(|l| format!("\"{}\"", l.key)).collect();
                format!(r#"{{"op":"MGET","keys":[{}],"timeout_ms":{timeout}}}"#, keys.join(","))
            }
        },
        What::Hostile { body } => body.clone(),
        What::Adds(addition) => addition.body(request, timeout),
        What::Listing { cursor, .. } => {
            let cursor = cursor.as_ref().map(|c| format!(r#","cursor":"{c}""#)).unwrap_or_default();
            format!(r#"{{"op":"GET_ALL","scope":"cluster","limit":{PAGE}{cursor},"timeout_ms":{timeout}}}"#)
        }
    }
}

fn told(items: usize, reply: Option<&Json>) -> Vec<Told> {
    match reply {
        None => (0..items).map(|_| Told::Unknown).collect(),
        Some(reply) => match reply["results"].as_array() {
            Some(results) => results.iter().map(told_of_one).collect(),
            None => (0..items).map(|_| told_of_one(reply)).collect(),
        },
    }
}

/// Of reads: silence and errors tell nothing.
fn shown(reply: Option<&Json>) -> Vec<Told> {
    reply.map_or(Vec::new(), |r| told(1, Some(r)))
}

fn told_of_one(reply: &Json) -> Told {
    if let Some(value) = reply["value"].as_u64() {
        return Told::Shown(value);
    }
    match (reply["status"].as_str(), reply["code"].as_str()) {
        (Some("OK"), _) => Told::Stored,
        _ if reply["indeterminate"] == true => Told::Unknown,
        (_, Some("KEY_NOT_FOUND")) => Told::Absent { lost: reply["lost"] == true },
        (_, Some("KEY_EXISTS")) => Told::Taken,
        _ => Told::Refused,
    }
}
