//! Clients that share keys: GET_ONE, something made of all siblings that it shows, and a write with the context of the
//! reply. Several do so with one key at a time, so that siblings come to be. What a context has not seen no write may
//! take away, whatever clocks say.
//!
//! Three kinds of keys, told by how they begin: sets ([`crate::sets`]), counters ([`crate::counters`]), and keys that are
//! deleted and created again ([`crate::observed`]).

use ringkv_common::key::Key;
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::counters::{self, Counters, Counts, Increment};
use crate::observed::{Observed, Replacement};
use crate::sets::{Adding, Elements, Sets};

/// How the keys of sets begin.
const SETS: &str = "s-";
/// How those of counters begin.
const COUNTERS: &str = "n-";
/// How those of keys that are deleted and created again begin.
const OBSERVED: &str = "o-";
/// How many there are of each kind.
const EACH: u64 = 4;

/// What must be so of all shared keys.
#[derive(Debug, Default)]
pub struct Shared {
    pub sets: Sets,
    pub counters: Counters,
    pub observed: Observed,
}

impl Shared {
    /// Whether a key is one of those that clients share; no history of values is kept of them.
    pub fn has(key: &str) -> bool {
        [SETS, COUNTERS, OBSERVED].iter().any(|prefix| key.starts_with(prefix))
    }

    /// All keys that were ever used.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.sets.keys().chain(self.counters.keys()).chain(self.observed.keys())
    }

    /// The only holder of these keys was killed.
    pub fn killed_holder_of(&mut self, held: impl Fn(&Key) -> bool) {
        self.sets.killed_holder_of(&held);
        self.counters.killed_holder_of(&held);
        self.observed.killed_holder_of(&held);
    }

    /// What is wrong with the siblings that were shown of a key when all had come to rest.
    fn wrong_at_rest(&self, key: &str, siblings: &[Json]) -> Option<String> {
        match key {
            _ if key.starts_with(SETS) => self.sets.wrong_at_rest(key, &elements(siblings)),
            _ if key.starts_with(COUNTERS) => self.counters.wrong_at_rest(key, &counts(siblings)),
            _ => self.observed.wrong_at_rest(key, &values(siblings)),
        }
    }
}

/// What a client means to do.
#[derive(Debug)]
enum Aim {
    Add(Adding),
    Count(Increment),
    Replace(Replacement),
}

/// How far it is.
#[derive(Debug)]
pub struct Round {
    aim: Aim,
    /// Whether one owner is read and all are written.
    from_one: bool,
    /// The write but for its name and its time, when the key was read.
    write: Option<String>,
}

impl Round {
    /// The key that it is about.
    pub fn key(&self) -> &str {
        match &self.aim {
            Aim::Add(adding) => &adding.key,
            Aim::Count(increment) => &increment.key,
            Aim::Replace(replacement) => &replacement.key,
        }
    }

    /// The key that is to be read, unless it was, and unless one owner alone is asked.
    pub fn looks(&self) -> Option<&str> {
        (self.write.is_none() && !self.from_one).then(|| self.key())
    }

    /// The request of the next attempt.
    pub fn body(&self, request: u64, timeout_ms: u64) -> String {
        let key = self.key();
        let (read, write) = if self.from_one { (r#","level":"ONE""#, r#","level":"ALL""#) } else { ("", "") };
        match &self.write {
            None => {
                format!(
                    r#"{{"op":"GET_ONE","key":"{key}","want":["context"]{read},"timeout_ms":{timeout_ms}}}"#
                )
            }
            Some(fields) => {
                format!(r#"{{{fields}{write},"request":"{request}","timeout_ms":{timeout_ms}}}"#)
            }
        }
    }
}

impl Cluster {
    pub(crate) fn something_to_add(&mut self) -> Round {
        let key = format!("{SETS}{}", self.random.below(EACH));
        let aim = Aim::Add(self.history.shared.sets.begin(key));
        Round { aim, from_one: false, write: None }
    }

    pub(crate) fn something_to_count(&mut self, client: usize) -> Round {
        let number = self.random.below(EACH);
        let aim = Aim::Count(self.history.shared.counters.begin(format!("{COUNTERS}{number}"), client));
        // Every other one is read from one owner and written to all.
        Round { aim, from_one: !number.is_multiple_of(2), write: None }
    }

    pub(crate) fn something_to_remove(&mut self) -> Round {
        let key = format!("{OBSERVED}{}", self.random.below(EACH));
        let delete = self.random.chance(1, 2);
        let aim = Aim::Replace(self.history.shared.observed.begin(key, delete));
        Round { aim, from_one: false, write: None }
    }

    /// Takes a reply; whether what the client means to do is done.
    pub(crate) fn round_answered(&mut self, round: &mut Round, reply: Option<&Json>) -> bool {
        let Some(reply) = reply else { return false };
        if round.write.is_some() {
            let stored = reply["status"] == "OK";
            if stored {
                let Shared { sets, counters, observed } = &mut self.history.shared;
                match &round.aim {
                    Aim::Add(adding) => sets.acknowledged(adding),
                    Aim::Count(increment) => counters.acknowledged(increment),
                    Aim::Replace(replacement) => observed.acknowledged(replacement),
                }
            }
            return stored;
        }
        let Some(siblings) = siblings(reply) else { return false };
        let context = if reply["context"].is_object() { reply["context"].to_string() } else { "{}".into() };
        // Who alone is asked may have slept while the ring changed and others took its place.
        let fresh = !self.settings.weak() && (!round.from_one || self.settings.replicas == 1);
        let value = self.looked(&mut round.aim, &siblings, fresh);
        let key = round.key();
        round.write = Some(match value {
            Some(value) => format!(r#""op":"PUT","key":"{key}","value":{value},"context":{context}"#),
            None => format!(r#""op":"DELETE","key":"{key}","context":{context}"#),
        });
        false
    }

    /// Judges what was shown, which is `fresh` where it must not be stale, and says what is written then; `None`: a delete.
    fn looked(&mut self, aim: &mut Aim, siblings: &[Json], fresh: bool) -> Option<Json> {
        let Shared { sets, counters, observed } = &mut self.history.shared;
        let (wrong, value) = match aim {
            Aim::Add(adding) => {
                let mut elements = elements(siblings);
                let wrong = sets.wrong_in_look(adding, &elements, fresh);
                elements.insert(adding.element);
                (wrong, Some(Json::from_iter(elements)))
            }
            Aim::Count(increment) => {
                let mut counts = counts(siblings);
                let wrong = counters.wrong_in_look(increment, &counts, fresh);
                counters.counted(increment, &mut counts);
                (wrong, Some(counters::to_json(&counts)))
            }
            Aim::Replace(replacement) => {
                let values = values(siblings);
                let wrong = observed.wrong_in_look(replacement, &values, fresh);
                (wrong, observed.replaced(replacement, values).map(Json::from))
            }
        };
        self.history.violations.extend(wrong);
        value
    }

    /// Looks whether a shared key that was read at rest shows what it must.
    pub(crate) fn check_shared(&mut self, key: &str, reply: &Json) {
        let wrong = match siblings(reply) {
            Some(siblings) => self.history.shared.wrong_at_rest(key, &siblings),
            None => Some(format!("at rest {key} is answered with {reply}")),
        };
        self.history.violations.extend(wrong);
    }
}

/// The siblings that a reply shows; `None`: it shows nothing.
fn siblings(reply: &Json) -> Option<Vec<Json>> {
    match (&reply["values"], reply.get("value")) {
        (Json::Array(siblings), _) => Some(siblings.clone()),
        (_, Some(one)) => Some(vec![one.clone()]),
        _ if reply["code"] == "KEY_NOT_FOUND" => Some(Vec::new()),
        _ => None,
    }
}

fn elements(siblings: &[Json]) -> Elements {
    siblings.iter().flat_map(|one| one.as_array().into_iter().flatten()).filter_map(Json::as_u64).collect()
}

fn values(siblings: &[Json]) -> Elements {
    siblings.iter().filter_map(Json::as_u64).collect()
}

fn counts(siblings: &[Json]) -> Counts {
    counters::merged(siblings.iter())
}
