//! Values as they are stored: JSON text that stays as it was sent, or bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::Error;

/// What is stored under a key.
#[derive(Clone)]
pub enum Value {
    /// A JSON text, kept byte for byte.
    Json(Box<RawValue>),
    /// Bytes.
    Binary(Vec<u8>),
}

impl Value {
    /// A value of this JSON text, which stays as it is.
    ///
    /// # Errors
    /// [`Error::Value`] where the text is no JSON.
    pub fn json(text: &str) -> Result<Value, Error> {
        RawValue::from_string(text.to_owned()).map(Value::Json).map_err(|e| Error::Value(e.to_string()))
    }

    /// The text of a JSON value.
    pub fn json_text(&self) -> Option<&str> {
        if let Value::Json(raw) = self { Some(raw.get()) } else { None }
    }

    /// The string, where the value is a JSON string.
    pub fn string(&self) -> Option<String> {
        serde_json::from_str(self.json_text()?).ok()
    }

    /// How many bytes it takes in a message.
    pub fn len(&self) -> usize {
        match self {
            Value::Json(raw) => raw.get().len(),
            Value::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it holds no byte, as only a binary value may.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A string value.
impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Json(to_raw_value(text).expect("a string is always JSON"))
    }
}

/// Any JSON value.
impl From<&serde_json::Value> for Value {
    fn from(value: &serde_json::Value) -> Value {
        Value::Json(to_raw_value(value).expect("a JSON value is always JSON"))
    }
}

/// Two values are equal where they are stored alike: JSON texts are compared as texts.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Json(a), Value::Json(b)) => a.get() == b.get(),
            (Value::Binary(a), Value::Binary(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Json(raw) => f.write_str(raw.get()),
            Value::Binary(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// The bytes of base64 text.
pub(crate) fn decoded(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|e| format!("value_b64 is not base64: {e}"))
}

/// A key with what is stored under it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The key.
    pub key: String,
    /// Its value; the newest where there are siblings.
    pub value: Value,
    /// All siblings, newest first; empty where there is one value only.
    pub siblings: Vec<Value>,
    /// What settles the siblings, as JSON text. There where siblings are, or where it was wanted.
    pub context: Option<Box<str>>,
}

/// A record as it stands in replies and in dumps.
#[derive(Deserialize)]
struct RecordFields {
    key: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    value_b64: Option<String>,
    #[serde(default)]
    values: Vec<Box<RawValue>>,
    context: Option<Box<RawValue>>,
}

/// A raw value that is there, be it `null`: serde alone would take that for absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Record, D::Error> {
        let fields = RecordFields::deserialize(deserializer)?;
        let value = match (fields.value, fields.value_b64) {
            (Some(raw), None) => Value::Json(raw),
            (None, Some(text)) => Value::Binary(decoded(&text).map_err(D::Error::custom)?),
            (None, None) => return Err(D::Error::custom("a record without value or value_b64")),
            (Some(_), Some(_)) => return Err(D::Error::custom("a record with both value and value_b64")),
        };
        let siblings = fields.values.into_iter().map(sibling).collect();
        let context = fields.context.map(|raw| raw.get().into());
        Ok(Record { key: fields.key, value, siblings, context })
    }
}

/// Among siblings a binary value is an object with `value_b64` alone.
fn sibling(raw: Box<RawValue>) -> Value {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Binary {
        value_b64: String,
    }
    let binary = raw.get().starts_with('{').then(|| serde_json::from_str::<Binary>(raw.get()).ok()).flatten();
    match binary.and_then(|b| decoded(&b.value_b64).ok()) {
        Some(bytes) => Value::Binary(bytes),
        None => Value::Json(raw),
    }
}

/// As replies write it: `{"key","value"}` or `{"key","value_b64"}`, with `values` and `context` where there are any.
impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.key)?;
        value_entry(&mut map, &self.value)?;
        if !self.siblings.is_empty() {
            let values: Vec<Sibling> = self.siblings.iter().map(Sibling).collect();
            map.serialize_entry("values", &values)?;
        }
        if let Some(context) = &self.context {
            let raw: &RawValue = serde_json::from_str(context).map_err(serde::ser::Error::custom)?;
            map.serialize_entry("context", raw)?;
        }
        map.end()
    }
}

fn value_entry<M: SerializeMap>(map: &mut M, value: &Value) -> Result<(), M::Error> {
    match value {
        Value::Json(raw) => map.serialize_entry("value", raw),
        Value::Binary(bytes) => map.serialize_entry("value_b64", &STANDARD.encode(bytes)),
    }
}

struct Sibling<'a>(&'a Value);

impl Serialize for Sibling<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Json(raw) => raw.serialize(serializer),
            binary => {
                let mut map = serializer.serialize_map(Some(1))?;
                value_entry(&mut map, binary)?;
                map.end()
            }
        }
    }
}

/// A reply that is a document: its fields in order, their texts as they came, our `id` left out.
#[derive(Clone, Debug, Default)]
pub struct Document {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Document {
    /// The fields, in order, with their JSON texts.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, raw)| (name.as_str(), raw.get()))
    }

    /// The JSON text of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(held, _)| *held == name).map(|(_, text)| text)
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// [`Error::Value`] where it has another shape.
    pub fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.to_string()).map_err(|e| Error::Value(e.to_string()))
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Document, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
                    // The epoch of the envelope may follow one of the document's own.
                    let repeated = fields.iter().any(|(held, _)| *held == name);
                    if name != "id" && !repeated {
                        fields.push((name, raw));
                    }
                }
                Ok(Document { fields })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.fields.iter().map(|(name, raw)| (name, raw)))
    }
}

/// Its JSON text.
impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_as_it_was_read() {
        for text in [
            r#"{"key":"k","value":{ "a" : 1.0 }}"#,
            r#"{"key":"k","value":null}"#,
            r#"{"key":"k\n","value":1e400}"#,
            r#"{"key":"k","value_b64":"AJ+S"}"#,
            r#"{"key":"k","value":2,"values":[2,{"value_b64":"YQ=="},{"value_b64":"not it"}],"context":{"a":1}}"#,
        ] {
            let record: Record = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&record).expect("a record is JSON"), text);
        }
    }

    #[test]
    fn a_record_without_a_value_or_with_two_is_refused() {
        for text in [r#"{"key":"k"}"#, r#"{"key":"k","value":1,"value_b64":""}"#, r#"{"value":1}"#] {
            serde_json::from_str::<Record>(text).expect_err(text);
        }
    }

    #[test]
    fn siblings_tell_bytes_from_objects() {
        let text = r#"{"key":"k","value":1,"values":[1,{"value_b64":"YQ=="},{"value_b64":"YQ==","x":1}]}"#;
        let record: Record = serde_json::from_str(text).expect("a record");
        assert_eq!(record.siblings[1], Value::Binary(b"a".to_vec()));
        assert_eq!(record.siblings[2].json_text(), Some(r#"{"value_b64":"YQ==","x":1}"#));
    }

    #[test]
    fn a_document_keeps_order_and_texts_and_loses_our_id() {
        let text = r#"{"b":1.50,"a":[1 ,2],"epoch":3,"epoch":4,"id":7}"#;
        let document: Document = serde_json::from_str(text).expect("a document");
        assert_eq!(document.to_string(), r#"{"b":1.50,"a":[1 ,2],"epoch":3}"#);
        assert_eq!(document.field("b"), Some("1.50"));
    }
}
