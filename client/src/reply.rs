//! Replies, from JSON to what the caller asked for.

use std::sync::Arc;

use ringkv_common::message::Code;
use ringkv_common::ring::Ring;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::op::{Kind, Op};
use crate::{Document, Error, Record, Refusal, Value};

/// What an operation brought.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A write, a PING or an ACCEPT_LOSS was done.
    Done(Done),
    /// GET_ONE found the key.
    Found(Record, Option<Box<str>>),
    /// MPUT and MGET: an outcome per key, in order.
    Many(Vec<Result<Reply, Error>>),
    /// GET_ALL.
    Page(Page),
    /// SEARCH, SHOW_ALL, EXPLAIN and STATUS; the ring where STATUS was asked for it.
    Document(Document, Option<Arc<Ring>>),
}

/// A write that was done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// The key's context after it, as JSON text, where wanted.
    pub context: Option<Box<str>>,
    /// Who answered, as JSON text, where wanted.
    pub receipt: Option<Box<str>>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end.
    pub cursor: Option<String>,
}

/// The fields that replies and the entries of lists may have. Others are left alone.
#[derive(Deserialize)]
struct Fields<'a> {
    epoch: Option<u64>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    message: Option<String>,
    #[serde(default)]
    indeterminate: bool,
    #[serde(default)]
    lost: bool,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value_b64: Option<&'a RawValue>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default)]
    receipt: Option<&'a RawValue>,
    #[serde(borrow, default)]
    results: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    collection: Option<&'a RawValue>,
    cursor: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The parts of a reply that say whose it is.
#[derive(Deserialize)]
struct Envelope {
    id: Option<u64>,
}

/// A reply that was read: the outcome, and the epoch of the node's ring where it told.
pub(crate) struct Read {
    pub outcome: Result<Reply, Error>,
    pub epoch: Option<u64>,
}

/// The id in a reply, for finding out what it answers. Our nodes write it last, and then nothing need be parsed:
/// a comma and a bare quote are never inside a string, and the last brace closes the whole.
pub(crate) fn id(body: &[u8]) -> Option<u64> {
    let digits = body.strip_suffix(b"}").unwrap_or(body);
    let start = digits.iter().rposition(|b| !b.is_ascii_digit()).map_or(0, |at| at + 1);
    if digits[..start].ends_with(b",\"id\":") {
        return std::str::from_utf8(&digits[start..]).ok()?.parse().ok();
    }
    serde_json::from_slice::<Envelope>(body).ok()?.id
}

/// Reads the reply to an operation. `value` is its second frame.
pub(crate) fn read(op: &Op, body: &[u8], value: Option<&[u8]>, from: &str) -> Read {
    // EXPLAIN and STATUS may name fields as they like; STATUS has an epoch twice where ours is old.
    let document = matches!(
        op.kind,
        Kind::Status { .. } | Kind::Explain(_) | Kind::Search(_) | Kind::ShowAll(_) | Kind::Repair
    );
    if document {
        return read_document(op, body, from);
    }
    match serde_json::from_slice::<Fields>(body) {
        Ok(fields) => Read { epoch: fields.epoch, outcome: outcome(op, fields, body, value, from) },
        Err(error) => Read { epoch: None, outcome: Err(unreadable(op, from, error.to_string())) },
    }
}

fn unreadable(op: &Op, from: &str, why: String) -> Error {
    Error::Unreadable { from: from.to_owned(), op: op.name(), why }
}

fn read_document(op: &Op, body: &[u8], from: &str) -> Read {
    let document: Document = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(error) => return Read { epoch: None, outcome: Err(unreadable(op, from, error.to_string())) },
    };
    if document.field("status") == Some("\"ERROR\"") {
        let fields = serde_json::from_slice::<Fields>(body);
        let error = fields.map_or_else(|e| unreadable(op, from, e.to_string()), |f| refusal(&f, from));
        return Read { epoch: None, outcome: Err(error) };
    }
    let epoch = document.field("epoch").and_then(|text| text.parse().ok());
    let ring = match document.field("ring").filter(|text| *text != "null") {
        Some(text) => match Ring::from_json(text.as_bytes()) {
            Ok(ring) => Some(Arc::new(ring)),
            Err(error) => return Read { epoch, outcome: Err(error.into()) },
        },
        None => None,
    };
    Read { epoch, outcome: Ok(Reply::Document(document, ring)) }
}

fn refusal(fields: &Fields, from: &str) -> Error {
    // A code of a newer release is passed on in words.
    let code = fields.code.and_then(|raw| serde_json::from_str::<Code>(raw.get()).ok());
    let unknown = || format!("code {}: ", fields.code.map_or("missing", RawValue::get));
    let message = fields.message.clone().unwrap_or_default();
    let message = if code.is_some() { message } else { unknown() + &message };
    Error::Refused(Refusal {
        code: code.unwrap_or(Code::Internal),
        message,
        indeterminate: fields.indeterminate,
        lost: fields.lost,
        from: from.to_owned(),
    })
}

fn outcome(op: &Op, fields: Fields, body: &[u8], value: Option<&[u8]>, from: &str) -> Result<Reply, Error> {
    let failed = |why: String| unreadable(op, from, why);
    if fields.status.is_some_and(|raw| raw.get() == "\"ERROR\"") {
        return Err(refusal(&fields, from));
    }
    match &op.kind {
        Kind::Get(key) => match value {
            Some(bytes) => Ok(Reply::Found(
                Record {
                    key: key.text().to_owned(),
                    value: Value::Binary(bytes.to_vec()),
                    siblings: Vec::new(),
                    context: fields.context.map(|raw| raw.get().into()),
                },
                receipt(&fields),
            )),
            None => {
                let record = serde_json::from_slice(body).map_err(|e| failed(e.to_string()))?;
                Ok(Reply::Found(record, receipt(&fields)))
            }
        },
        Kind::Mput(_) | Kind::Mget(_) => {
            let results = fields.results.ok_or_else(|| failed("it has no results".to_owned()))?;
            results
                .into_iter()
                .map(|raw| entry(op, raw.get(), from))
                .collect::<Result<_, _>>()
                .map(Reply::Many)
        }
        Kind::GetAll(..) => {
            let list = fields.collection.ok_or_else(|| failed("it has no collection".to_owned()))?;
            let records = serde_json::from_str(list.get()).map_err(|e| failed(e.to_string()))?;
            Ok(Reply::Page(Page { records, cursor: fields.cursor }))
        }
        _ if fields.status.is_some_and(|raw| raw.get() == "\"OK\"") => Ok(Reply::Done(Done {
            context: fields.context.map(|raw| raw.get().into()),
            receipt: receipt(&fields),
        })),
        _ => Err(failed("its status is neither OK nor ERROR".to_owned())),
    }
}

fn receipt(fields: &Fields) -> Option<Box<str>> {
    fields.receipt.map(|raw| raw.get().into())
}

/// One of the results of MPUT and MGET. The outer error is a reply that cannot be read.
fn entry(op: &Op, text: &str, from: &str) -> Result<Result<Reply, Error>, Error> {
    let failed = |e: serde_json::Error| unreadable(op, from, e.to_string());
    let fields: Fields = serde_json::from_str(text).map_err(failed)?;
    if fields.status.is_some_and(|raw| raw.get() == "\"ERROR\"") {
        return Ok(Err(refusal(&fields, from)));
    }
    if fields.value.is_some() || fields.value_b64.is_some() {
        return Ok(Ok(Reply::Found(serde_json::from_str(text).map_err(failed)?, None)));
    }
    Ok(Ok(Reply::Done(Done { context: fields.context.map(|raw| raw.get().into()), receipt: None })))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reply(op: Op, body: &str) -> Read {
        read(&op, body.as_bytes(), None, "here:1")
    }

    #[test]
    fn a_value_is_given_as_the_text_that_was_stored() {
        for value in ["\"v\"", "1.0", "1e400", "null", r#"{ "b" : 1 }"#] {
            let body = format!(r#"{{"key":"k","value":{value},"epoch":9,"id":7}}"#);
            let read = reply(Op::get("k").unwrap(), &body);
            assert_eq!(read.epoch, Some(9));
            let Ok(Reply::Found(record, _)) = read.outcome else { panic!("{body}") };
            assert_eq!(record.value.json_text(), Some(value));
        }
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        assert_eq!(id(br#"{"status":"OK","id":7}"#), Some(7));
        assert_eq!(id(br#"{"id":7,"value":{"x":1,"id":8}}"#), Some(7));
        assert_eq!(id(br#"{"id":7,"a\",\"id":8}"#), Some(7));
        assert_eq!(id(br#"{"status":"OK", "id" : 7 }"#), Some(7));
        assert_eq!(id(br#"{"status":"OK","id":"7"}"#), None);
        assert_eq!(id(b"{\"id\":"), None);
        assert_eq!(id(b"}"), None);
    }

    #[test]
    fn a_refusal_carries_all_that_the_node_said() {
        let body = r#"{"status":"ERROR","code":"TIMEOUT","message":"m","indeterminate":true,"id":1}"#;
        let error = reply(Op::put("k", "v").unwrap(), body).outcome.unwrap_err();
        assert_eq!((error.code(), error.indeterminate(), error.lost()), (Some(Code::Timeout), true, false));
        assert_eq!(error.to_string(), "TIMEOUT: m");
        let body = r#"{"status":"ERROR","code":"KEY_NOT_FOUND","message":"m","lost":true}"#;
        let error = reply(Op::get("k").unwrap(), body).outcome.unwrap_err();
        assert!(error.lost() && !error.is_absent());
        let body = r#"{"status":"ERROR","code":"TEAPOT","message":"m"}"#;
        let error = reply(Op::status(false), body).outcome.unwrap_err();
        assert_eq!(error.to_string(), "INTERNAL: code \"TEAPOT\": m");
    }

    #[test]
    fn many_outcomes_stay_in_order() {
        let body = r#"{"status":"OK","results":[{"key":"a","value":null},
            {"key":"b","status":"ERROR","code":"KEY_NOT_FOUND","message":"no b"},{"key":"c","value_b64":"AA=="}]}"#;
        let Ok(Reply::Many(results)) = reply(Op::mget(["a", "b", "c"]).unwrap(), body).outcome else {
            panic!("three results were sent")
        };
        assert!(matches!(&results[0], Ok(Reply::Found(r, _)) if r.value.json_text() == Some("null")));
        assert!(results[1].as_ref().unwrap_err().is_absent());
        assert!(matches!(&results[2], Ok(Reply::Found(r, _)) if r.value == Value::Binary(vec![0])));
    }

    #[test]
    fn what_is_no_reply_is_called_unreadable() {
        let get = || Op::get("k").unwrap();
        for (op, body) in [
            (get(), "hello"),
            (get(), r#"{"key":"k"}"#),
            (Op::ping(), r#"{"id":1}"#),
            (Op::mget(["a"]).unwrap(), r#"{"status":"OK"}"#),
            (Op::status(true), r#"{"status":"OK","ring":{"format":1}}"#),
        ] {
            let error = reply(op, body).outcome.expect_err(body);
            assert!(matches!(error, Error::Unreadable { .. } | Error::Ring(_)), "{error}");
        }
    }
}
