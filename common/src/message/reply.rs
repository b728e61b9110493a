//! Replies as JSON text. Values are copied as the text that was sent, so nothing about them changes on the way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::{Failure, Found, Frames, KeyOp, Outcome, Receipt, Wants};
use crate::key::Key;
use crate::version::{Content, Siblings};

/// What every reply to one request has in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct Envelope<'a> {
    /// The request's `id`, as JSON text.
    pub id: Option<&'a str>,
    /// What the client wanted beside the value.
    pub want: Wants,
    /// The ring's epoch, where the client routes by an older one.
    pub newer_epoch: Option<u64>,
    /// Where it was wanted.
    pub receipt: Option<&'a Receipt>,
}

/// A JSON object in the making.
struct Object {
    text: Vec<u8>,
    value: Option<std::sync::Arc<[u8]>>,
}

impl Object {
    fn new(bytes: usize) -> Object {
        let mut text = Vec::with_capacity(bytes);
        text.push(b'{');
        Object { text, value: None }
    }

    /// Begins a field; names are ours and need no escapes.
    fn name(&mut self, name: &str) {
        if self.text.last() != Some(&b'{') {
            self.text.push(b',');
        }
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
    }

    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.text.extend_from_slice(json);
    }

    fn any(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        self.name(name);
        json(&mut self.text, value);
    }

    fn close(mut self, envelope: &Envelope) -> Frames {
        if let Some(epoch) = envelope.newer_epoch {
            self.any("epoch", &epoch);
        }
        if let Some(receipt) = envelope.receipt {
            self.any("receipt", receipt);
        }
        if let Some(id) = envelope.id {
            self.raw("id", id.as_bytes());
        }
        self.text.push(b'}');
        Frames { body: self.text, value: self.value, instead: None }
    }
}

fn json(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(text, value).expect("writing plain data to memory cannot fail");
}

/// The reply to a request that was refused or failed.
pub fn failure(failure: &Failure, envelope: &Envelope) -> Frames {
    let mut object = Object::new(96 + failure.message.len());
    failure_fields(&mut object, failure);
    object.close(envelope)
}

fn failure_fields(object: &mut Object, failure: &Failure) {
    object.raw("status", b"\"ERROR\"");
    object.any("code", failure.code.text());
    object.any("message", &failure.message);
    if failure.indeterminate {
        object.raw("indeterminate", b"true");
    }
    if failure.lost {
        object.raw("lost", b"true");
    }
}

/// `{"status":"OK"}`.
pub fn ok(envelope: &Envelope) -> Frames {
    let mut object = Object::new(32);
    object.raw("status", b"\"OK\"");
    object.close(envelope)
}

/// The reply to an operation on one key.
pub fn one(key: &Key, outcome: &Outcome, envelope: &Envelope) -> Frames {
    let size = match outcome {
        Outcome::Found(found) => found.values.iter().map(|v| v.bytes().len() + 32).sum::<usize>(),
        _ => 32,
    };
    let mut object = Object::new(size + key.text().len() + 64);
    outcome_fields(&mut object, key, outcome, envelope.want.raw);
    object.close(envelope)
}

fn outcome_fields(object: &mut Object, key: &Key, outcome: &Outcome, raw: bool) {
    match outcome {
        Outcome::Failed(failure) => failure_fields(object, failure),
        Outcome::Stored { context } => {
            object.raw("status", b"\"OK\"");
            if let Some(context) = context {
                object.any("context", context);
            }
        }
        Outcome::Found(found) => found_fields(object, key, found, raw),
    }
}

fn found_fields(object: &mut Object, key: &Key, found: &Found, raw: bool) {
    object.any("key", key.text());
    let newest = found.values.first().expect("what was found has a value");
    match newest {
        Content::Binary(bytes) if raw => object.value = Some(bytes.clone()),
        content => content_field(object, content),
    }
    if found.values.len() > 1 {
        object.name("values");
        let mut open = b'[';
        for content in &found.values {
            object.text.push(std::mem::replace(&mut open, b','));
            match content {
                // Among siblings a binary value needs a name to be told from a string.
                Content::Binary(_) => {
                    object.text.push(b'{');
                    content_field(object, content);
                    object.text.push(b'}');
                }
                content => object.text.extend_from_slice(content.bytes()),
            }
        }
        object.text.push(b']');
    }
    if let Some(context) = &found.context {
        object.any("context", context);
    }
}

fn content_field(object: &mut Object, content: &Content) {
    match content {
        Content::Json(text) => object.raw("value", text),
        Content::Binary(bytes) => {
            object.name("value_b64");
            object.text.push(b'"');
            let start = object.text.len();
            object.text.resize(start + bytes.len().div_ceil(3) * 4, 0);
            STANDARD
                .encode_slice(bytes, &mut object.text[start..])
                .expect("base64 takes four bytes for every three begun");
            object.text.push(b'"');
        }
        Content::Tombstone => object.raw("deleted", b"true"),
    }
}

/// The reply to MPUT or MGET: an outcome a key, in order.
pub fn many(ops: &[Option<Key>], outcomes: &[Outcome], envelope: &Envelope) -> Frames {
    let mut object = Object::new(64 + outcomes.len() * 64);
    object.raw("status", b"\"OK\"");
    object.name("results");
    let mut open = b'[';
    for (key, outcome) in ops.iter().zip(outcomes) {
        object.text.extend_from_slice(&[std::mem::replace(&mut open, b','), b'{']);
        match (key, outcome) {
            (Some(key), Outcome::Failed(failure)) => {
                object.any("key", key.text());
                failure_fields(&mut object, failure);
            }
            (Some(key), outcome) => outcome_fields(&mut object, key, outcome, false),
            (None, Outcome::Failed(failure)) => failure_fields(&mut object, failure),
            (None, _) => unreachable!("only a refused key has no key"),
        }
        object.text.push(b'}');
    }
    object.text.extend_from_slice(if outcomes.is_empty() { b"[]" } else { b"]" });
    object.close(envelope)
}

/// The keys of a request's operations, kept for its reply.
pub fn keys_of(ops: &[Result<KeyOp, Failure>]) -> Vec<Option<Key>> {
    ops.iter().map(|op| op.as_ref().ok().map(|op| op.key().clone())).collect()
}

/// A listing in the making: records are added one by one, and the bytes counted.
#[derive(Debug)]
pub struct Listing {
    text: Vec<u8>,
    records: usize,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing { text: b"{\"collection\":[".to_vec(), records: 0 }
    }
}

impl Listing {
    /// Records so far.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Adds a key as readers see it; one without visible values is left out.
    pub fn push(&mut self, key: &Key, siblings: &Siblings) {
        let values = siblings.values();
        if values.is_empty() {
            return;
        }
        let found = Found {
            context: (values.len() > 1).then(|| Box::new(siblings.context())),
            values: values.into_iter().map(|v| v.content.clone()).collect(),
        };
        self.add(|object| found_fields(object, key, &found, false));
    }

    /// Adds all that is stored under a key: every version with its dot, stamp and kind, and the clock. A hint, kept for an
    /// owner that was away, says so; what is the node's own has no such field.
    pub fn push_all(&mut self, key: &Key, siblings: &Siblings, hint: bool) {
        self.add(|object| {
            stored_fields(object, key, siblings);
            if hint {
                object.raw("hint", b"true");
            }
        });
    }

    fn add(&mut self, fields: impl FnOnce(&mut Object)) {
        if self.records > 0 {
            self.text.push(b',');
        }
        self.text.push(b'{');
        let mut object = Object { text: std::mem::take(&mut self.text), value: None };
        fields(&mut object);
        self.text = object.text;
        self.text.push(b'}');
        self.records += 1;
    }

    /// The reply, with a cursor where more is left.
    pub fn reply(self, cursor: Option<&str>, envelope: &Envelope) -> Frames {
        let mut object = Object { text: self.text, value: None };
        object.text.push(b']');
        if let Some(cursor) = cursor {
            object.any("cursor", cursor);
        }
        object.close(envelope)
    }
}

fn stored_fields(object: &mut Object, key: &Key, siblings: &Siblings) {
    object.any("key", key.text());
    object.name("versions");
    let mut open = b'[';
    for version in &siblings.versions {
        object.text.extend_from_slice(&[std::mem::replace(&mut open, b','), b'{']);
        content_field(object, &version.content);
        object.any("actor", &version.dot.actor.to_string());
        object.any("counter", &version.dot.counter);
        object.any("stamp", &version.stamp);
        object.any("written_ms", &version.stamp.wall_ms());
        object.any("contextual", &version.contextual);
        object.text.push(b'}');
    }
    object.text.extend_from_slice(if siblings.versions.is_empty() { b"[]" } else { b"]" });
    object.any("clock", &siblings.context());
}

/// The reply to SEARCH: what each replica holds, or why it gave no answer.
pub fn search(
    key: &Key,
    replicas: &[(crate::name::NodeName, Result<Siblings, String>)],
    envelope: &Envelope,
) -> Frames {
    let mut object = Object::new(256);
    object.any("key", key.text());
    object.name("replicas");
    let mut open = b'[';
    for (node, held) in replicas {
        object.text.extend_from_slice(&[std::mem::replace(&mut open, b','), b'{']);
        object.any("node", node);
        match held {
            Ok(siblings) => stored_fields(&mut object, key, siblings),
            Err(why) => object.any("error", why),
        }
        object.text.push(b'}');
    }
    object.text.extend_from_slice(if replicas.is_empty() { b"[]" } else { b"]" });
    object.close(envelope)
}

/// A reply whose fields are those of a plain structure.
pub fn plain(fields: &impl Serialize, envelope: &Envelope) -> Frames {
    let mut text = Vec::with_capacity(512);
    json(&mut text, fields);
    debug_assert_eq!(text.last(), Some(&b'}'));
    text.pop();
    Object { text, value: None }.close(envelope)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::Code;

    fn text(frames: Frames) -> String {
        String::from_utf8(frames.body).expect("replies are UTF-8")
    }

    fn key(text: &str) -> Key {
        Key::new(text).expect("a key")
    }

    fn found(values: &[Content]) -> Outcome {
        Outcome::Found(Found { values: values.iter().cloned().collect(), context: None })
    }

    #[test]
    fn replies_have_exactly_the_fields_that_were_promised() {
        let plain = Envelope::default();
        let with_id = Envelope { id: Some("[1,\"x\"]"), ..plain };
        let value = Content::Json(Arc::from(&b"{ \"a\" : 1.0 }"[..]));
        assert_eq!(text(ok(&plain)), r#"{"status":"OK"}"#);
        assert_eq!(text(ok(&with_id)), r#"{"status":"OK","id":[1,"x"]}"#);
        assert_eq!(
            text(one(&key("k\""), &found(std::slice::from_ref(&value)), &plain)),
            r#"{"key":"k\"","value":{ "a" : 1.0 }}"#
        );
        let lost = Failure { lost: true, ..Failure::new(Code::KeyNotFound, "no k") };
        assert_eq!(
            text(failure(&lost, &plain)),
            r#"{"status":"ERROR","code":"KEY_NOT_FOUND","message":"no k","lost":true}"#
        );
        assert_eq!(text(Listing::default().reply(None, &plain)), r#"{"collection":[]}"#);
        let mut stored = Listing::default();
        stored.push_all(&key("a"), &Siblings::default(), false);
        stored.push_all(&key("b"), &Siblings::default(), true);
        assert_eq!(
            text(stored.reply(None, &plain)),
            r#"{"collection":[{"key":"a","versions":[],"clock":{}},{"key":"b","versions":[],"clock":{},"hint":true}]}"#
        );
        assert_eq!(text(many(&[], &[], &plain)), r#"{"status":"OK","results":[]}"#);
    }

    #[test]
    fn binary_values_come_as_base64_or_as_a_second_frame() {
        let binary = Content::Binary(Arc::from(&[0u8, 159, 146][..]));
        let plain = Envelope::default();
        let outcome = found(&[binary]);
        assert_eq!(text(one(&key("k"), &outcome, &plain)), r#"{"key":"k","value_b64":"AJ+S"}"#);
        let raw = Envelope { want: Wants { raw: true, ..Wants::default() }, ..plain };
        let frames = one(&key("k"), &outcome, &raw);
        assert_eq!(frames.value.as_deref(), Some(&[0u8, 159, 146][..]));
        assert_eq!(text(frames), r#"{"key":"k"}"#);
    }

    #[test]
    fn siblings_come_newest_first_beside_the_newest() {
        let values = [Content::Json(Arc::from(&b"2"[..])), Content::Binary(Arc::from(&b"a"[..]))];
        let Outcome::Found(mut siblings) = found(&values) else { unreachable!() };
        siblings.context = Some(Box::default());
        assert_eq!(
            text(one(&key("k"), &Outcome::Found(siblings), &Envelope::default())),
            r#"{"key":"k","value":2,"values":[2,{"value_b64":"YQ=="}],"context":{}}"#
        );
    }
}
