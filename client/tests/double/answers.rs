//! What a node of the double answers.

use ringkv_common::key::Key;
use ringkv_common::message::reply::{self, Envelope, Listing};
use ringkv_common::message::{
    Code, Condition, Failure, Found, Frames, KeyOp, Operation, Outcome, Page, Request, Scope, Write, request,
};
use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use ringkv_common::ring::orchestrator::Report;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Content, Dot, Siblings, Version};
use serde_json::json;
use serde_json::value::RawValue;

use super::{NodeState, Shared, Trick};

/// The reply, or none where the node keeps silent.
pub(super) fn answer(
    request: &Request,
    trick: Option<Trick>,
    state: &NodeState,
    shared: &mut Shared,
) -> Option<Frames> {
    let ring = state.ring.lock().unwrap().clone().or(shared.ring.clone());
    let epoch = ring.as_ref().map_or(0, |r| r.epoch);
    let newer_epoch = request.terms.epoch.filter(|theirs| *theirs < epoch).map(|_| epoch);
    let envelope =
        Envelope { id: request.id.as_deref(), want: request.terms.want, newer_epoch, receipt: None };
    if let Some(Trick::Refuse(_, code)) = trick {
        return Some(reply::failure(
            &Failure::new(code, format!("{} was told to say so", state.name)),
            &envelope,
        ));
    }
    let frames = match &request.operation {
        Operation::One(op) => reply::one(op.key(), &one(op, shared), &envelope),
        Operation::Many(ops) => {
            let outcome = |op: &Result<KeyOp, Failure>| match op {
                Ok(op) => one(op, shared),
                Err(failure) => Outcome::Failed(failure.clone()),
            };
            let outcomes: Vec<Outcome> = ops.iter().map(outcome).collect();
            reply::many(&reply::keys_of(ops), &outcomes, &envelope)
        }
        Operation::GetAll(scope, page) => list(*scope, page, state, shared, ring.as_deref(), &envelope),
        Operation::ShowAll(_) => {
            let mut listing = Listing::default();
            shared.data.iter().for_each(|(key, content)| {
                listing.push_all(key, &siblings(content), key.text().starts_with("hint"))
            });
            listing.reply(None, &envelope)
        }
        Operation::Search(key) => {
            let held = shared.data.get(key).map(siblings).unwrap_or_default();
            reply::search(key, &[(state.name, Ok(held))], &envelope)
        }
        Operation::Explain(key) => {
            reply::plain(&json!({"key": key.text(), "hash": format!("{:016x}", key.hash())}), &envelope)
        }
        Operation::Status { ring: wanted, .. } => status(*wanted, state, shared, ring.as_deref(), &envelope),
        _ => reply::ok(&envelope),
    };
    match trick {
        Some(Trick::Silent(_)) => None,
        Some(Trick::Doubt(_)) => {
            Some(reply::failure(&Failure::indeterminate(Code::Timeout, "it may have happened"), &envelope))
        }
        _ => Some(frames),
    }
}

fn one(op: &KeyOp, shared: &mut Shared) -> Outcome {
    match op {
        KeyOp::Read(key) => match shared.data.get(key) {
            Some(content) => {
                Outcome::Found(Found { values: std::iter::once(content.clone()).collect(), context: None })
            }
            None => {
                let lost = shared.lost.iter().any(|k| k == key.text());
                let failure = Failure::new(Code::KeyNotFound, format!("there is no {:?}", key.text()));
                Outcome::Failed(Failure { lost, ..failure })
            }
        },
        KeyOp::Write(write) => written(write, shared),
    }
}

fn written(write: &Write, shared: &mut Shared) -> Outcome {
    let request = write.request.expect("the client never writes without a request id");
    let times = shared.requests.entry(request).or_default();
    *times += 1;
    if *times > 1 {
        return Outcome::Stored { context: None };
    }
    let there = shared.data.contains_key(&write.key);
    let refused = match write.condition {
        Condition::Absent if there => Some(Code::KeyExists),
        Condition::Present if !there => Some(Code::KeyNotFound),
        _ => None,
    };
    if let Some(code) = refused {
        shared.requests.remove(&request);
        return Outcome::Failed(Failure::new(code, format!("{:?} was looked up", write.key.text())));
    }
    shared.writes += 1;
    match &write.content {
        Content::Tombstone => drop(shared.data.remove(&write.key)),
        content => drop(shared.data.insert(write.key.clone(), content.clone())),
    }
    Outcome::Stored { context: None }
}

fn siblings(content: &Content) -> Siblings {
    let dot = Dot { actor: Actor { id: 1, node: NodeName(0) }, counter: 1 };
    let version =
        Version { dot, stamp: Stamp::of_wall_ms(1), request: 0, contextual: false, content: content.clone() };
    let mut siblings = Siblings::default();
    siblings.write(None, version);
    siblings
}

fn list(
    scope: Scope,
    page: &Page,
    state: &NodeState,
    shared: &Shared,
    ring: Option<&Ring>,
    envelope: &Envelope,
) -> Frames {
    let leads = |key: &Key| {
        let ring = ring.expect("a node that lists has a ring");
        ring.node(ring.readers(key.partition(ring.partitions))[0]).name == state.name
    };
    let mut listing = Listing::default();
    let mut cursor = None;
    for (key, content) in &shared.data {
        if page.after.as_ref().is_some_and(|after| key <= after) || (scope != Scope::Cluster && !leads(key)) {
            continue;
        }
        listing.push(key, &siblings(content));
        if Some(listing.records()) == page.limit {
            cursor = Some(request::cursor(key));
            break;
        }
    }
    listing.reply(cursor.as_deref(), envelope)
}

fn status(
    wanted: bool,
    state: &NodeState,
    shared: &Shared,
    ring: Option<&Ring>,
    envelope: &Envelope,
) -> Frames {
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value: serde_json::Value| drop(fields.insert(name.to_owned(), value));
    let leads = |ring: &Ring, key: &Key| {
        ring.node(ring.readers(key.partition(ring.partitions))[0]).name == state.name
    };
    let keys = ring.map_or(0, |ring| shared.data.keys().filter(|k| leads(ring, k)).count());
    put("status", json!("OK"));
    put("node", json!(state.name));
    put("keys", json!(keys));
    put("stored", json!(keys));
    put("bytes", json!(keys * 10));
    if let Some(ring) = ring {
        put("cluster_id", json!(ring.cluster_id));
        put("epoch", json!(ring.epoch));
        let incoming = ring.index_of(state.name).map_or(0, |i| ring.incoming(i).len() as u32);
        let report = Report {
            epoch: ring.epoch,
            confirmed: ring.epoch,
            incoming,
            copied: incoming,
            verified: incoming,
            ..Report::default()
        };
        put("report", json!(report));
        if wanted {
            let text = ring.to_json().unwrap();
            let raw: &RawValue = serde_json::from_str(&text).unwrap();
            put("ring", json!(raw));
        }
    }
    reply::plain(&fields, envelope)
}
