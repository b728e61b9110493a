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

/// A field that an operation would ignore is a mistake of its sender.
pub(super) fn check_fields(op: &str, f: &Fields) -> Result<(), Failure> {
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
