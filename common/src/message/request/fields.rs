//! A request's fields, and which operation has which.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::bad;
use crate::message::Failure;
use crate::ring::{Kind, Node};

/// A string that borrows from the message unless it has escapes; serde does that for no `Option<Cow>`.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

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
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    pub op: Text<'a>,
    #[serde(borrow)]
    pub key: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub value: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub request: Option<Text<'a>>,
    #[serde(borrow)]
    pub hash: Option<Text<'a>>,
    pub r: Option<u32>,
    pub w: Option<u32>,
    #[serde(borrow)]
    pub level: Option<Text<'a>>,
    #[serde(borrow)]
    pub quorum: Option<Text<'a>>,
    pub timeout_ms: Option<u64>,
    pub epoch: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub context: Option<&'a RawValue>,
    #[serde(borrow)]
    pub want: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub items: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    pub keys: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    pub scope: Option<Text<'a>>,
    pub limit: Option<u64>,
    #[serde(borrow)]
    pub cursor: Option<Text<'a>>,
    pub change: Option<Kind>,
    pub base: Option<u64>,
    pub reach: Option<Vec<Node>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub fault: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item<'a> {
    #[serde(borrow)]
    pub key: Text<'a>,
    #[serde(borrow)]
    pub value: &'a RawValue,
}

/// A raw value that is there, be it `null`: serde alone would take that for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

const WRITE_ONE: &[&str] = &["PUT", "INSERT", "UPDATE", "DELETE"];

/// A field that an operation would ignore is a mistake of its sender. `id`, `timeout_ms` and `epoch` mean something to all.
pub(super) fn check_fields(f: &Fields) -> Result<(), Failure> {
    let has: [(bool, &str, &[&[&str]]); 19] = [
        (f.key.is_some(), "key", &[WRITE_ONE, &["GET_ONE", "SEARCH", "EXPLAIN"]]),
        (f.hash.is_some(), "hash", &[WRITE_ONE, &["GET_ONE", "SEARCH", "EXPLAIN"]]),
        (f.value.is_some(), "value", &[&["PUT", "INSERT", "UPDATE"]]),
        (f.context.is_some(), "context", &[WRITE_ONE]),
        (f.request.is_some(), "request", &[WRITE_ONE, &["MPUT"]]),
        (f.items.is_some(), "items", &[&["MPUT"]]),
        (f.keys.is_some(), "keys", &[&["MGET"]]),
        // Of a write, too: so many owners are asked before one that depends on what there is.
        (f.r.is_some(), "r", &[&["GET_ONE", "MGET", "GET_ALL"], WRITE_ONE, &["MPUT"]]),
        (f.w.is_some(), "w", &[WRITE_ONE, &["MPUT"]]),
        (f.level.is_some(), "level", &[&["GET_ONE", "MGET", "GET_ALL"], WRITE_ONE, &["MPUT"]]),
        (f.quorum.is_some(), "quorum", &[&["GET_ONE", "MGET"], WRITE_ONE, &["MPUT"]]),
        (f.want.is_some(), "want", &[&["GET_ONE", "MGET"], WRITE_ONE, &["MPUT", "STATUS"]]),
        (f.scope.is_some(), "scope", &[&["GET_ALL"]]),
        (f.limit.is_some(), "limit", &[&["GET_ALL", "SHOW_ALL"]]),
        (f.cursor.is_some(), "cursor", &[&["GET_ALL", "SHOW_ALL"]]),
        (f.change.is_some(), "change", &[&["CONSENT"]]),
        (f.base.is_some(), "base", &[&["CONSENT"]]),
        (f.reach.is_some(), "reach", &[&["CONSENT"]]),
        (f.fault.is_some(), "fault", &[&["FAULT"]]),
    ];
    let op = &*f.op.0;
    for (_, field, ops) in has.iter().filter(|(given, ..)| *given) {
        if !ops.iter().any(|ops| ops.contains(&op)) {
            let ops = ops.concat();
            let verb = if ops.len() == 1 { "has" } else { "have" };
            return Err(bad(format!("{op} has no field \"{field}\": {} {verb} it", ops.join(", "))));
        }
    }
    if op == "GET_ALL" && f.scope.as_ref().is_none_or(|scope| scope.0 != "cluster") {
        for (given, field) in [(f.r.is_some(), "r"), (f.level.is_some(), "level")] {
            if given {
                return Err(bad(format!(
                    "GET_ALL has the field \"{field}\" only with \"scope\":\"cluster\": else the node asks no other"
                )));
            }
        }
    }
    Ok(())
}
