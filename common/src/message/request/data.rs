//! What an operation is about: keys, values, contexts, pages.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::{Fields, Item};
use super::{REQUEST_BYTES_MAX, bad, shorten};
use crate::key::{self, Key};
use crate::message::fault::Fault;
use crate::message::{Code, Condition, Failure, KeyOp, Limits, Page, Scope, Write, text};
use crate::name::is_host;
use crate::ring::orchestrator::Question;
use crate::ring::{Kind, Node};
use crate::version::{Content, Context};

pub(super) fn fault(f: &Fields) -> Result<Fault, Failure> {
    let raw = f.fault.ok_or_else(|| bad("FAULT needs the field \"fault\", as {\"do\":\"fail\"}"))?;
    if !raw.get().starts_with('{') {
        return Err(bad("in fault: it is an object, as {\"do\":\"fail\"}"));
    }
    serde_json::from_str(raw.get()).map_err(|e| bad(format!("in fault: {e}")))
}

pub(super) fn key(f: &Fields) -> Result<Key, Failure> {
    let text = f.key.as_ref().ok_or_else(|| bad(format!("{} needs the field \"key\"", f.op.0)))?;
    let key = Key::new(&text.0).map_err(key_failure)?;
    if let Some(hash) = &f.hash {
        let right = format!("{:016x}", key.hash());
        if *hash.0 != right {
            return Err(bad(format!("hash is \"{}\", the key's is \"{right}\"", shorten(&hash.0))));
        }
    }
    Ok(key)
}

fn key_failure(error: key::KeyError) -> Failure {
    let code = if matches!(error, key::KeyError::TooLong(_)) { Code::TooLarge } else { Code::BadRequest };
    Failure::new(code, error.to_string())
}

pub(super) fn write(f: &Fields, condition: Condition, content: Content) -> Result<Write, Failure> {
    let context = f.context.map(|raw| {
        serde_json::from_str::<Context>(raw.get()).map(Box::new).map_err(|e| bad(format!("in context: {e}")))
    });
    Ok(Write { key: key(f)?, content, condition, context: context.transpose()?, request: request_hash(f)? })
}

/// The 64-bit name that a request id has inside the cluster; 0 is kept for "none".
pub fn request_hash_of(request: &str) -> u64 {
    key::hash(request.as_bytes()).max(1)
}

fn request_hash(f: &Fields) -> Result<Option<u64>, Failure> {
    match &f.request {
        None => Ok(None),
        Some(text) if (1..=REQUEST_BYTES_MAX).contains(&text.0.len()) => Ok(Some(request_hash_of(&text.0))),
        Some(text) => {
            Err(bad(format!("request has {} bytes, 1 to {REQUEST_BYTES_MAX} are allowed", text.0.len())))
        }
    }
}

pub(super) fn content(f: &Fields, second: Option<&[u8]>, limits: &Limits) -> Result<Content, Failure> {
    match (f.value, second) {
        (Some(_), Some(_)) => Err(bad("the value came twice: in the field \"value\" and as a second frame")),
        (None, None) => Err(bad(format!("{} needs the field \"value\", or a second frame", f.op.0))),
        (Some(raw), None) => json(raw, limits),
        (None, Some(bytes)) => {
            within("the value", bytes.len(), limits)?;
            Ok(Content::Binary(Arc::from(bytes)))
        }
    }
}

fn json(raw: &RawValue, limits: &Limits) -> Result<Content, Failure> {
    within("the value", raw.get().len(), limits)?;
    text::check(raw.get()).map_err(|e| bad(e.to_string()))?;
    Ok(Content::Json(Arc::from(raw.get().as_bytes())))
}

pub(super) fn within(what: &str, bytes: usize, limits: &Limits) -> Result<(), Failure> {
    if bytes <= limits.value_bytes_max {
        return Ok(());
    }
    let text = format!("{what} has {bytes} bytes, {} are allowed (--max-value)", limits.value_bytes_max);
    Err(Failure::new(Code::TooLarge, text))
}

pub(super) fn many_writes(f: &Fields, limits: &Limits) -> Result<Vec<Result<KeyOp, Failure>>, Failure> {
    let items = f.items.as_ref().ok_or_else(|| bad("MPUT needs the field \"items\""))?;
    let request = request_hash(f)?;
    let one = |(n, item): (usize, &Item)| {
        let key = Key::new(&item.key.0).map_err(key_failure)?;
        let content = json(item.value, limits)?;
        // Each key of a request is a request of its own: the same key twice in one message is two writes.
        let request = request.map(|r| (r ^ (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)).max(1));
        Ok(KeyOp::Write(Write { key, content, condition: Condition::Always, context: None, request }))
    };
    Ok(items.iter().enumerate().map(one).collect())
}

pub(super) fn many_reads(f: &Fields) -> Result<Vec<Result<KeyOp, Failure>>, Failure> {
    let keys = f.keys.as_ref().ok_or_else(|| bad("MGET needs the field \"keys\""))?;
    Ok(keys.iter().map(|k| Key::new(&k.0).map(KeyOp::Read).map_err(key_failure)).collect())
}

pub(super) fn scope(f: &Fields) -> Result<Scope, Failure> {
    match f.scope.as_ref().map(|s| &*s.0) {
        None => Ok(Scope::Led),
        Some("node") => Ok(Scope::Node),
        Some("cluster") => Ok(Scope::Cluster),
        Some(other) => {
            Err(bad(format!("scope is \"{}\": it may be node or cluster, or absent", shorten(other))))
        }
    }
}

pub(super) fn page(f: &Fields) -> Result<Page, Failure> {
    let limit = match f.limit {
        Some(0) => return Err(bad("limit is 0: a page has at least 1 record")),
        limit => limit.map(|l| usize::try_from(l).unwrap_or(usize::MAX)),
    };
    let after = f.cursor.as_ref().map(|c| {
        let key = URL_SAFE_NO_PAD.decode(&*c.0).ok().and_then(|b| String::from_utf8(b).ok());
        let key = key.and_then(|k| Key::new(&k).ok());
        key.ok_or_else(|| {
            bad("cursor is none that a reply gave: send back what the last page had, unchanged")
        })
    });
    Ok(Page { limit, after: after.transpose()? })
}

/// The cursor of the page that ends with this key.
pub fn cursor(key: &Key) -> String {
    URL_SAFE_NO_PAD.encode(key.text())
}

pub(super) fn question(f: Fields) -> Result<Question, Failure> {
    let kind = f.change.ok_or_else(|| bad("CONSENT needs the field \"change\""))?;
    let base = f.base.ok_or_else(|| bad("CONSENT needs the field \"base\""))?;
    let reach = f.reach.unwrap_or_default();
    if let Some(node) = reach.iter().find(|n| !is_host(&n.host)) {
        return Err(bad(format!("reach has {} at {:?}, which is no host", node.name, shorten(&node.host))));
    }
    Ok(Question { kind, base, reach })
}

/// The JSON of a [`Consent`](crate::message::Operation::Consent).
pub fn consent_json(question: &Question) -> String {
    #[derive(Serialize)]
    struct Consent<'a> {
        op: &'a str,
        change: Kind,
        base: u64,
        reach: &'a [Node],
    }
    let consent =
        Consent { op: "CONSENT", change: question.kind, base: question.base, reach: &question.reach };
    serde_json::to_string(&consent).expect("names and numbers always serialize")
}
