//! Requests: from JSON to [`Request`], or to the [`Failure`] that says what is wrong with it; and back, for clients.

mod data;
mod fields;
mod terms;

use serde::Deserialize;
use serde_json::value::RawValue;

pub use self::data::{consent_json, cursor, request_hash_of};
use self::data::{content, fault, key, many_reads, many_writes, page, question, scope, within, write};
use self::fields::{Fields, check_fields};
use self::terms::{terms, wanted};
use super::text;
use super::{Code, Condition, Failure, KeyOp, Limits, Operation, Request, Terms};
use crate::version::Content;

/// The longest `request`, in bytes.
pub const REQUEST_BYTES_MAX: usize = 64;

/// The names of all operations. The first two are not named by the error that lists them.
const OPS: [&str; 17] = [
    "CONSENT",
    "ACCEPT_LOSS",
    "PUT",
    "GET_ONE",
    "GET_ALL",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MPUT",
    "MGET",
    "SEARCH",
    "SHOW_ALL",
    "EXPLAIN",
    "STATUS",
    "PING",
    "REPAIR",
    "FAULT",
];

/// A refused request: the `id` that could still be read, and why.
pub type Refused = (Option<Box<str>>, Failure);

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
    let op = &*f.op.0;
    if !OPS.contains(&op) {
        return Err(unknown(op));
    }
    if let Some(id) = f.id {
        within("id", id.get().len(), limits)?;
        text::check(id.get()).map_err(|e| bad(format!("in id: {e}")))?;
    }
    let takes_value = matches!(op, "PUT" | "INSERT" | "UPDATE");
    if second.is_some() && !takes_value {
        return Err(bad(format!(
            "{op} takes no second frame: it carries the value of PUT, INSERT and UPDATE"
        )));
    }
    check_fields(&f)?;
    let terms = terms(&f)?;
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
        op => return Err(unknown(op)),
    };
    Ok((operation, terms))
}

fn unknown(op: &str) -> Failure {
    let text = format!("no operation \"{}\": there are {}", shorten(op), OPS[2..].join(", "));
    Failure::new(Code::UnknownOp, text)
}

fn shorten(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
