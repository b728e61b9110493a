//! Requests: from JSON to [`Request`], or to the [`Failure`] that says what is wrong with it; and back, for clients.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::text;
use super::{
    Code, Condition, Failure, KeyOp, Level, Limits, Operation, Page, Request, Scope, TIMEOUT_MS_DEFAULT,
    TIMEOUT_MS_MAX, Terms, Wants, Write,
};
use crate::key::{self, Key};
use crate::name::is_host;
use crate::ring::Kind;
use crate::ring::Node;
use crate::ring::orchestrator::Question;
use crate::version::{Content, Context};

/// The longest `request`, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64;

/// The names of all operations, for the error that lists them.
const OPS: &str = "PUT, GET_ONE, GET_ALL, INSERT, UPDATE, DELETE, MPUT, MGET, SEARCH, SHOW_ALL, EXPLAIN, STATUS, PING, REPAIR, FAULT";

/// A refused request: the `id` that could still be read, and why.
pub type Refused = (Option<Box<str>>, Failure);

/// A string that borrows from the message unless it has escapes; serde does that for no `Option<Cow>`.
#[derive(Serialize)]
#[serde(transparent)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// A request's fields, as they may come in any order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Text<'a>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<Text<'a>>,
    #[serde(borrow)]
    hash: Option<Text<'a>>,
    r: Option<u32>,
    w: Option<u32>,
    #[serde(borrow)]
    level: Option<Text<'a>>,
    #[serde(borrow)]
    quorum: Option<Text<'a>>,
    timeout_ms: Option<u64>,
    epoch: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    want: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    items: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    keys: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    scope: Option<Text<'a>>,
    limit: Option<u64>,
    #[serde(borrow)]
    cursor: Option<Text<'a>>,
    change: Option<Kind>,
    base: Option<u64>,
    reach: Option<Vec<Node>>,
    #[serde(borrow, default, deserialize_with = "present")]
    fault: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A raw value that is there, be it `null`: serde alone would take that for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a request: the JSON frame, and a second frame where one came.
pub fn parse(body: &[u8], value: Option<&[u8]>, limits: &Limits) -> Result<Request, Refused> {
    let bytes = body.len() + value.map_or(0, <[u8]>::len);
    if bytes > limits.message_bytes_max {
        let text = format!("the message has {bytes} bytes, {} are allowed", limits.message_bytes_max);
        return Err((None, Failure::new(Code::TooLarge, text)));
    }
    let fields = fields(body).map_err(|failure| (id_of(body, limits), failure))?;
    // One that is too long is refused, and not sent back.
    let id = fields.id.filter(|id| id.get().len() <= limits.value_bytes_max).map(|id| Box::from(id.get()));
    match understand(fields, value, limits) {
        Ok((operation, terms)) => Ok(Request { id, operation, terms }),
        Err(failure) => Err((id, failure)),
    }
}

fn fields(body: &[u8]) -> Result<Fields<'_>, Failure> {
    if body.is_empty() {
        return Err(Failure::new(Code::BadJson, "the message is empty: send one JSON object"));
    }
    let body = std::str::from_utf8(body).map_err(|e| {
        Failure::new(Code::BadJson, format!("the message is no UTF-8 from byte {} on", e.valid_up_to()))
    })?;
    // The reader takes a list for an object whose names are left out.
    if body.trim_start().starts_with('[') {
        return Err(bad("the request is a list: send one JSON object"));
    }
    match serde_json::from_str(body) {
        Ok(fields) => Ok(fields),
        // The README of the original showed this text, with its comma.
        Err(_) if body.split_ascii_whitespace().collect::<String>() == r#"{"op":"GET_ALL",}"# => {
            serde_json::from_str(r#"{"op":"GET_ALL"}"#)
                .map_err(|e| Failure::new(Code::Internal, e.to_string()))
        }
        Err(error) => Err(shape_or_syntax(&error)),
    }
}

fn shape_or_syntax(error: &serde_json::Error) -> Failure {
    if error.is_data() {
        Failure::new(Code::BadRequest, format!("the request has the wrong shape: {error}"))
    } else {
        Failure::new(Code::BadJson, format!("the message is no JSON: {error}"))
    }
}

/// The `id` of a request that is otherwise of the wrong shape, so that the error still finds its sender.
fn id_of(body: &[u8], limits: &Limits) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let id = serde_json::from_slice::<Id>(body).ok()?.id;
    (id.get().len() <= limits.value_bytes_max && text::check(id.get()).is_ok()).then(|| Box::from(id.get()))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::new(Code::BadRequest, message)
}

fn understand(f: Fields, second: Option<&[u8]>, limits: &Limits) -> Result<(Operation, Terms), Failure> {
    let terms = terms(&f)?;
    if let Some(id) = f.id {
        within("id", id.get().len(), limits)?;
        text::check(id.get()).map_err(|e| bad(format!("in id: {e}")))?;
    }
    let op = &*f.op.0;
    let takes_value = matches!(op, "PUT" | "INSERT" | "UPDATE");
    if second.is_some() && !takes_value {
        return Err(bad(format!(
            "{op} takes no second frame: it carries the value of PUT, INSERT and UPDATE"
        )));
    }
    check_fields(op, &f)?;
    let operation = match op {
        "PUT" => Operation::One(KeyOp::Write(write(&f, Condition::Always, content(&f, second, limits)?)?)),
        "INSERT" => Operation::One(KeyOp::Write(write(&f, Condition::Absent, content(&f, second, limits)?)?)),
        "UPDATE" => {
            Operation::One(KeyOp::Write(write(&f, Condition::Present, content(&f, second, limits)?)?))
        }
        "DELETE" => Operation::One(KeyOp::Write(write(&f, Condition::Always, Content::Tombstone)?)),
        "GET_ONE" => Operation::One(KeyOp::Read(key(&f)?)),
        "MPUT" => Operation::Many(many_writes(&f, limits)?),
        "MGET" => Operation::Many(many_reads(&f)?),
        "GET_ALL" => Operation::GetAll(scope(&f)?, page(&f)?),
        "SHOW_ALL" => Operation::ShowAll(page(&f)?),
        "SEARCH" => Operation::Search(key(&f)?),
        "EXPLAIN" => Operation::Explain(key(&f)?),
        "STATUS" => Operation::Status { ring: wanted(&f, "ring"), peers: !wanted(&f, "report") },
        "PING" => Operation::Ping,
        "CONSENT" => Operation::Consent(question(f)?),
        "ACCEPT_LOSS" => Operation::AcceptLoss,
        "FAULT" => Operation::Fault(fault(&f)?),
        "REPAIR" => Operation::Repair,
        _ => {
            let name: String = op.chars().take(64).collect();
            return Err(Failure::new(Code::UnknownOp, format!("no operation \"{name}\": there are {OPS}")));
        }
    };
    Ok((operation, terms))
}

/// A field that an operation would ignore is a mistake of its sender.
fn check_fields(op: &str, f: &Fields) -> Result<(), Failure> {
    let allowed: &[(&str, &[&str])] = &[
        ("key", &["PUT", "INSERT", "UPDATE", "DELETE", "GET_ONE", "SEARCH", "EXPLAIN"]),
        ("value", &["PUT", "INSERT", "UPDATE"]),
        ("context", &["PUT", "INSERT", "UPDATE", "DELETE"]),
        ("items", &["MPUT"]),
        ("keys", &["MGET"]),
        ("scope", &["GET_ALL"]),
        ("limit", &["GET_ALL", "SHOW_ALL"]),
        ("cursor", &["GET_ALL", "SHOW_ALL"]),
        ("fault", &["FAULT"]),
    ];
    let given = [
        f.key.is_some(),
        f.value.is_some(),
        f.context.is_some(),
        f.items.is_some(),
        f.keys.is_some(),
        f.scope.is_some(),
        f.limit.is_some(),
        f.cursor.is_some(),
        f.fault.is_some(),
    ];
    let known =
        allowed.iter().any(|(_, ops)| ops.contains(&op)) || matches!(op, "STATUS" | "PING" | "REPAIR");
    for ((field, ops), given) in allowed.iter().zip(given) {
        if given && known && !ops.contains(&op) {
            return Err(bad(format!("{op} has no field \"{field}\"")));
        }
    }
    Ok(())
}

fn fault(f: &Fields) -> Result<Fault, Failure> {
    let raw = f.fault.ok_or_else(|| bad("FAULT needs the field \"fault\", as {\"do\":\"fail\"}"))?;
    if !raw.get().starts_with('{') {
        return Err(bad("in fault: it is an object, as {\"do\":\"fail\"}"));
    }
    serde_json::from_str(raw.get()).map_err(|e| bad(format!("in fault: {e}")))
}

fn key(f: &Fields) -> Result<Key, Failure> {
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

fn write(f: &Fields, condition: Condition, content: Content) -> Result<Write, Failure> {
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

fn content(f: &Fields, second: Option<&[u8]>, limits: &Limits) -> Result<Content, Failure> {
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

fn within(what: &str, bytes: usize, limits: &Limits) -> Result<(), Failure> {
    if bytes <= limits.value_bytes_max {
        return Ok(());
    }
    let text = format!("{what} has {bytes} bytes, {} are allowed (--max-value)", limits.value_bytes_max);
    Err(Failure::new(Code::TooLarge, text))
}

fn many_writes(f: &Fields, limits: &Limits) -> Result<Vec<Result<KeyOp, Failure>>, Failure> {
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

fn many_reads(f: &Fields) -> Result<Vec<Result<KeyOp, Failure>>, Failure> {
    let keys = f.keys.as_ref().ok_or_else(|| bad("MGET needs the field \"keys\""))?;
    Ok(keys.iter().map(|k| Key::new(&k.0).map(KeyOp::Read).map_err(key_failure)).collect())
}

fn scope(f: &Fields) -> Result<Scope, Failure> {
    match f.scope.as_ref().map(|s| &*s.0) {
        None => Ok(Scope::Led),
        Some("node") => Ok(Scope::Node),
        Some("cluster") => Ok(Scope::Cluster),
        Some(other) => {
            Err(bad(format!("scope is \"{}\": it may be node or cluster, or absent", shorten(other))))
        }
    }
}

fn page(f: &Fields) -> Result<Page, Failure> {
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

fn terms(f: &Fields) -> Result<Terms, Failure> {
    let level = f.level.as_ref().map(|text| level(&text.0)).transpose()?;
    if level.is_some() && (f.r.is_some() || f.w.is_some()) {
        return Err(bad("give either level or r and w"));
    }
    let count = |name: &str, n: Option<u32>| match n {
        Some(0) => Err(bad(format!("{name} is 0: at least 1 replica must answer"))),
        n => Ok(n.map(Level::Count)),
    };
    let timeout_ms = f.timeout_ms.unwrap_or(u64::from(TIMEOUT_MS_DEFAULT));
    let in_range = u32::try_from(timeout_ms).ok().filter(|t| (1..=TIMEOUT_MS_MAX).contains(t));
    let timeout_ms = in_range
        .ok_or_else(|| bad(format!("timeout_ms is {timeout_ms}: it may be 1 to {TIMEOUT_MS_MAX}")))?;
    Ok(Terms {
        read: level.map_or_else(|| count("r", f.r), |l| Ok(Some(l)))?,
        write: level.map_or_else(|| count("w", f.w), |l| Ok(Some(l)))?,
        sloppy: f.quorum.as_ref().map(|text| sloppy(&text.0)).transpose()?,
        timeout_ms,
        want: wants(f)?,
        epoch: f.epoch,
    })
}

fn level(text: &str) -> Result<Level, Failure> {
    match text.to_ascii_uppercase().as_str() {
        "ONE" => Ok(Level::One),
        "QUORUM" => Ok(Level::Quorum),
        "ALL" => Ok(Level::All),
        _ => Err(bad(format!("level is \"{}\": it may be ONE, QUORUM or ALL", shorten(text)))),
    }
}

fn sloppy(text: &str) -> Result<bool, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "sloppy" => Ok(true),
        "strict" => Ok(false),
        _ => Err(bad(format!("quorum is \"{}\": it may be sloppy or strict", shorten(text)))),
    }
}

fn wants(f: &Fields) -> Result<Wants, Failure> {
    let mut wants = Wants::default();
    for want in f.want.iter().flatten() {
        match &*want.0 {
            "context" => wants.context = true,
            "receipt" => wants.receipt = true,
            "raw" => wants.raw = true,
            "ring" | "report" if f.op.0 == "STATUS" => {}
            other => {
                return Err(bad(format!(
                    "want has \"{}\": it may have context, receipt, raw",
                    shorten(other)
                )));
            }
        }
    }
    Ok(wants)
}

fn wanted(f: &Fields, what: &str) -> bool {
    f.want.iter().flatten().any(|w| w.0 == what)
}

fn question(f: Fields) -> Result<Question, Failure> {
    let kind = f.change.ok_or_else(|| bad("CONSENT needs the field \"change\""))?;
    let base = f.base.ok_or_else(|| bad("CONSENT needs the field \"base\""))?;
    let reach = f.reach.unwrap_or_default();
    if let Some(node) = reach.iter().find(|n| !is_host(&n.host)) {
        return Err(bad(format!("reach has {} at {:?}, which is no host", node.name, shorten(&node.host))));
    }
    Ok(Question { kind, base, reach })
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The JSON of a [`Operation::Consent`].
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

#[cfg(test)]
mod tests;
