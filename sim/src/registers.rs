//! Clients that write and read registers: each key has one writer, and anybody reads it. What they are told is judged by
//! the history of the key.

use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::history::{Id, Value};

/// A key that is being written.
#[derive(Debug)]
pub struct Item {
    verb: Verb,
    key: String,
    value: Value,
    write: Id,
    /// Open while an INSERT or UPDATE may be refused for what is there.
    check: Option<Id>,
    done: bool,
}

/// A key that is being read.
#[derive(Debug)]
pub struct Look {
    key: String,
    read: Id,
    by_writer: bool,
    done: bool,
}

/// What a client does to its registers, and to those of others.
#[derive(Debug)]
pub enum Registers {
    Writes(Vec<Item>),
    Reads(Vec<Look>),
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

impl Registers {
    /// The key by which a node is chosen.
    pub fn key(&self) -> Option<String> {
        match self {
            Registers::Writes(items) => items.first().map(|i| i.key.clone()),
            Registers::Reads(looks) => looks.first().map(|l| l.key.clone()),
        }
    }

    /// The key that is written, with the value that it is to have, or read, where it is one; no deletes.
    pub fn about(&self) -> Option<(&str, Value)> {
        match self {
            Registers::Writes(items) => match items.as_slice() {
                [Item { key, value: Some(value), .. }] => Some((key, Some(*value))),
                _ => None,
            },
            Registers::Reads(looks) => match looks.as_slice() {
                [Look { key, .. }] => Some((key, None)),
                _ => None,
            },
        }
    }

    /// Whether it writes.
    pub fn writes(&self) -> bool {
        matches!(self, Registers::Writes(_))
    }

    /// The request of an attempt; `quorum`: what writes say of it.
    pub fn body(&self, request: u64, quorum: &str, timeout: u64) -> String {
        match self {
            Registers::Writes(items) => body_of_writes(items, request, quorum, timeout),
            Registers::Reads(looks) => match looks.as_slice() {
                [Look { key, .. }] => {
                    format!(r#"{{"op":"GET_ONE","key":"{key}","want":["context"],"timeout_ms":{timeout}}}"#)
                }
                looks => {
                    let keys: Vec<String> = looks.iter().map(|l| format!("\"{}\"", l.key)).collect();
                    format!(r#"{{"op":"MGET","keys":[{}],"timeout_ms":{timeout}}}"#, keys.join(","))
                }
            },
        }
    }
}

impl Cluster {
    /// What a writer does next, beginning with this of its keys.
    pub(crate) fn something_to_write_or_read(&mut self, worker: usize, any: u64) -> Registers {
        let own = |n: u64| format!("c{worker}-{n}");
        let keys = self.settings.keys as u64;
        match self.random.below(100) {
            0..40 => Registers::Writes(vec![self.item(own(any), Verb::Put)]),
            40..48 => Registers::Writes(vec![self.item(own(any), Verb::Delete)]),
            48..54 => Registers::Writes(vec![self.item(own(any), Verb::Insert)]),
            54..60 => Registers::Writes(vec![self.item(own(any), Verb::Update)]),
            60..65 => {
                let items = (0..4).map(|n| self.item(own((any + n * 5) % keys.max(1)), Verb::Put));
                let mut items: Vec<Item> = items.collect();
                items.dedup_by(|a, b| a.key == b.key);
                Registers::Writes(items)
            }
            65..70 => {
                let others = self.settings.workers as u64;
                let keys = (0..5).map(|n| format!("c{}-{}", (n + any) % others, (any + n) % keys)).collect();
                Registers::Reads(self.looks(worker, keys))
            }
            70..88 => Registers::Reads(self.looks(worker, vec![own(any)])),
            _ => self.something_to_read(worker, any),
        }
    }

    /// A read of somebody's key.
    pub(crate) fn something_to_read(&mut self, worker: usize, any: u64) -> Registers {
        let writer = self.random.below(self.settings.workers as u64);
        Registers::Reads(self.looks(worker, vec![format!("c{writer}-{any}")]))
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

    /// Takes a reply, or silence; `unknown`: some attempt may have taken effect. Whether all is done.
    pub(crate) fn registers_answered(
        &mut self,
        worker: usize,
        registers: &mut Registers,
        unknown: &mut bool,
        reply: Option<&Json>,
    ) -> bool {
        match registers {
            Registers::Writes(items) => self.writes_answered(items, unknown, reply),
            Registers::Reads(looks) => self.reads_answered(worker, looks, reply),
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

    pub(crate) fn give_registers_up(&mut self, registers: Registers, unknown: bool) {
        match registers {
            Registers::Writes(items) => {
                for item in items.into_iter().filter(|i| !i.done) {
                    item.check.into_iter().for_each(|c| self.history.abandon_read(c));
                    if unknown {
                        self.history.unknown(item.write);
                    } else {
                        self.history.refused(item.write);
                    }
                }
            }
            Registers::Reads(looks) => looks.iter().for_each(|l| self.history.abandon_read(l.read)),
        }
    }
}

fn body_of_writes(items: &[Item], request: u64, quorum: &str, timeout: u64) -> String {
    match items {
        [Item { verb: Verb::Delete, key, .. }] => {
            format!(r#"{{"op":"DELETE","key":"{key}","request":"{request}"{quorum},"timeout_ms":{timeout}}}"#)
        }
        [Item { verb, key, value: Some(value), .. }] => {
            let op = match verb {
                Verb::Insert => "INSERT",
                Verb::Update => "UPDATE",
                Verb::Put | Verb::Delete => "PUT",
            };
            format!(
                r#"{{"op":"{op}","key":"{key}","value":{value},"request":"{request}"{quorum},"timeout_ms":{timeout}}}"#
            )
        }
        items => {
            let item = |i: &Item| format!(r#"{{"key":"{}","value":{}}}"#, i.key, i.value.unwrap_or_default());
            let items: Vec<String> = items.iter().map(item).collect();
            let items = items.join(",");
            format!(
                r#"{{"op":"MPUT","items":[{items}],"request":"{request}"{quorum},"timeout_ms":{timeout}}}"#
            )
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
