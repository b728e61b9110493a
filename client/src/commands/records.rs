//! One operation each: put, get, insert, update, delete, get-all, accept-loss.

use std::path::Path;

use ringkv_common::name::NodeName;
use serde_json::json;
use serde_json::value::RawValue;

use super::table::count;
use super::{Console, Failure, Outcome};
use crate::{Client, Done, Error, Op, Record, Reply, Scope, Value};

/// Records of a listing's page.
const PAGE: usize = 1000;

/// Which write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Overwrites.
    Put,
    /// Where there is nothing.
    Insert,
    /// Where there is something.
    Update,
}

/// A write of one key.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which.
    pub verb: Verb,
    /// Where.
    pub key: String,
    /// What.
    pub value: Value,
    /// What it supersedes, as JSON text; `None`: all.
    pub context: Option<String>,
}

/// The value that a user gave: a string, a JSON text, or a file's bytes.
///
/// # Errors
/// Usage, where not exactly one of the ways was taken; failure, where a file cannot be read.
pub fn value(text: Option<&str>, is_json: bool, file: Option<&Path>) -> Result<Value, Failure> {
    match (text, file) {
        (Some(text), None) if is_json => Value::json(text).map_err(|e| Failure::usage(e.to_string())),
        (Some(text), None) => Ok(Value::from(text)),
        (None, Some(path)) => {
            let read = std::fs::read(path);
            let bytes = read.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
            if is_json {
                let text = String::from_utf8(bytes).map_err(|e| Failure::usage(e.to_string()))?;
                return Value::json(text.trim()).map_err(|e| Failure::usage(e.to_string()));
            }
            Ok(Value::Binary(bytes))
        }
        _ => Err(Failure::usage("give either VALUE or --file PATH")),
    }
}

/// Writes one key.
///
/// # Errors
/// The operation's own.
pub fn write(client: &mut Client, console: &mut Console, write: Write) -> Outcome {
    let value = write.value;
    let op = match write.verb {
        Verb::Put => Op::put(&write.key, value),
        Verb::Insert => Op::insert(&write.key, value),
        Verb::Update => Op::update(&write.key, value),
    };
    done(client, console, with_context(op.map_err(usage)?, write.context)?)
}

/// Deletes one key.
///
/// # Errors
/// The operation's own.
pub fn delete(client: &mut Client, console: &mut Console, key: &str, context: Option<String>) -> Outcome {
    done(client, console, with_context(Op::delete(key).map_err(usage)?, context)?)
}

fn with_context(op: Op, context: Option<String>) -> Result<Op, Failure> {
    match context {
        None => Ok(op),
        // Whoever sends a context wants the one that follows it.
        Some(text) => Ok(op.context(&text).map_err(usage)?.want_context()),
    }
}

/// What is wrong with an argument is for the user to change.
pub(super) fn usage(error: Error) -> Failure {
    Failure::usage(error.to_string())
}

fn done(client: &mut Client, console: &mut Console, op: Op) -> Outcome {
    let Reply::Done(Done { context, .. }) = client.call(op)? else {
        return Err(Failure::failed("the node answered something else than OK"));
    };
    let context = context.as_deref().map(raw).transpose()?;
    let mut fields = serde_json::Map::new();
    fields.insert("status".into(), "OK".into());
    if let Some(context) = context {
        fields.insert("context".into(), serde_json::from_str(context.get())?);
        return console.either(&fields, || format!("OK\ncontext: {}", context.get()));
    }
    console.either(&fields, || "OK".into())
}

fn raw(text: &str) -> Result<&RawValue, serde_json::Error> {
    serde_json::from_str(text)
}

/// Prints a key's value: a string bare, other JSON as its text, bytes as base64. With `exact` the value as it is
/// stored and nothing else: JSON text with its quotes, or the bytes.
///
/// # Errors
/// `KEY_NOT_FOUND`, and the operation's own.
pub fn get(client: &mut Client, console: &mut Console, key: &str, exact: bool) -> Outcome {
    let Reply::Found(record, _) = client.call(Op::get(key).map_err(usage)?)? else {
        return Err(Failure::failed("the node answered something else than a value"));
    };
    if console.json() {
        return console.object(&record);
    }
    if exact {
        return Ok(match &record.value {
            Value::Json(raw) => console.bytes(raw.get().as_bytes()),
            Value::Binary(bytes) => console.bytes(bytes),
        }?);
    }
    console.line(&bare(&record.value))?;
    if !record.siblings.is_empty() {
        let context = record.context.as_deref().unwrap_or("{}");
        console.say(&format!(
            "{} concurrent values, newest first; a put with --context '{context}' settles them:",
            record.siblings.len()
        ));
        for value in &record.siblings {
            console.say(&format!("  {}", bare(value)));
        }
    }
    Ok(())
}

/// A value for people.
pub(super) fn bare(value: &Value) -> String {
    match value {
        Value::Json(raw) => value.string().unwrap_or_else(|| raw.get().to_owned()),
        Value::Binary(_) => {
            let text = serde_json::to_value(Record {
                key: String::new(),
                value: value.clone(),
                siblings: Vec::new(),
                context: None,
            });
            let text = text.ok().and_then(|v| v["value_b64"].as_str().map(str::to_owned));
            format!("base64:{}", text.unwrap_or_default())
        }
    }
}

/// Lists records: of the whole cluster, or of one node. One JSON object a line with `--json`, else key, tab, value.
///
/// # Errors
/// The operation's own, after what was listed before it.
pub fn get_all(
    client: &mut Client,
    console: &mut Console,
    scope: Scope,
    node: Option<NodeName>,
    limit: Option<u64>,
) -> Outcome {
    let page = limit.map_or(PAGE, |l| usize::try_from(l).unwrap_or(PAGE).clamp(1, PAGE));
    let mut listed = 0;
    let mut records = client.get_all(scope, node, page);
    while limit.is_none_or(|l| listed < l) {
        let Some(record) = records.next() else { break };
        let record = record?;
        if console.json() {
            console.object(&record)?;
        } else {
            console.line(&format!("{}\t{}", record.key, bare(&record.value)))?;
        }
        listed += 1;
    }
    console.say(&count(listed, "record"));
    Ok(())
}

/// Tells the nodes that the data they lost is known to be lost: this one, or all.
///
/// # Errors
/// Where a node refuses or does not answer; the others were told all the same.
pub fn accept_loss(client: &mut Client, console: &mut Console, node: Option<NodeName>) -> Outcome {
    let ring = match client.ring() {
        Some(ring) => ring.clone(),
        None => client.fetch_ring()?,
    };
    let nodes: Vec<NodeName> = match node {
        Some(node) => vec![node],
        None => ring.nodes.iter().map(|n| n.name).collect(),
    };
    let mut failed = 0;
    for node in nodes {
        let outcome = client.accept_loss(node);
        failed += u32::from(outcome.is_err());
        let said = outcome.as_ref().map_or_else(ToString::to_string, |()| "accepted".to_owned());
        console.either(&json!({"node": node, "ok": outcome.is_ok(), "message": said}), || {
            format!("{node}: {said}")
        })?;
    }
    if failed > 0 { Err(Failure::told(format!("{failed} nodes were not told"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_bare() {
        assert_eq!(bare(&Value::from("a \"b\"")), "a \"b\"");
        assert_eq!(bare(&Value::json("[1, 2]").expect("JSON")), "[1, 2]");
        assert_eq!(bare(&Value::Binary(vec![0, 159, 146])), "base64:AJ+S");
    }
}
