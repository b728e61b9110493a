//! Clients that add to sets: GET_ONE, the union of all siblings and one element more, PUT with the context of the reply.
//! Several add to one set at a time, so that siblings come to be.

use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::sets::{Adding, Elements};

/// How their keys begin; no history of values is kept of them.
pub const PREFIX: &str = "s-";
/// Sets that all of them share.
const SETS: u64 = 4;

/// How far an addition is.
#[derive(Debug)]
pub struct Addition {
    pub adding: Adding,
    /// The value to write and its context, when the set was read.
    put: Option<(String, String)>,
}

impl Addition {
    /// The request of the next attempt.
    pub fn body(&self, request: u64, timeout_ms: u64) -> String {
        let key = &self.adding.key;
        match &self.put {
            None => {
                format!(r#"{{"op":"GET_ONE","key":"{key}","want":["context"],"timeout_ms":{timeout_ms}}}"#)
            }
            Some((value, context)) => format!(
                r#"{{"op":"PUT","key":"{key}","value":{value},"context":{context},"request":"{request}","timeout_ms":{timeout_ms}}}"#
            ),
        }
    }
}

impl Cluster {
    pub(crate) fn something_to_add(&mut self) -> Addition {
        let key = format!("{PREFIX}{}", self.random.below(SETS));
        Addition { adding: self.history.sets.begin(key), put: None }
    }

    /// Takes a reply; whether the element was added.
    pub(crate) fn addition_answered(&mut self, addition: &mut Addition, reply: Option<&Json>) -> bool {
        let Some(reply) = reply else { return false };
        let adding = &addition.adding;
        if addition.put.is_some() {
            let stored = reply["status"] == "OK";
            if stored {
                self.history.sets.acknowledged(adding);
            }
            return stored;
        }
        let Some(mut elements) = elements(reply) else { return false };
        let fresh = !self.settings.weak();
        self.history.violations.extend(self.history.sets.wrong_in_look(adding, &elements, fresh));
        elements.insert(adding.element);
        let context = if reply["context"].is_object() { reply["context"].to_string() } else { "{}".into() };
        addition.put = Some((Json::from_iter(elements).to_string(), context));
        false
    }

    /// Looks whether a set that was read at rest has all that it must have.
    pub(crate) fn check_set(&mut self, key: &str, reply: &Json) {
        let wrong = match elements(reply) {
            Some(elements) => self.history.sets.wrong_at_rest(key, &elements),
            None => Some(format!("at rest set {key} is answered with {reply}")),
        };
        self.history.violations.extend(wrong);
    }
}

/// The union of the siblings that a reply shows; `None`: it shows nothing.
fn elements(reply: &Json) -> Option<Elements> {
    let all = match (&reply["values"], &reply["value"]) {
        (Json::Array(siblings), _) => siblings.clone(),
        (_, one @ Json::Array(_)) => vec![one.clone()],
        _ if reply["code"] == "KEY_NOT_FOUND" => Vec::new(),
        _ => return None,
    };
    Some(all.iter().flat_map(|one| one.as_array().into_iter().flatten()).filter_map(Json::as_u64).collect())
}
