//! One operation each: put, get, insert, update, delete, get-all, accept-loss.

use std::path::Path;

use ringkv_common::name::NodeName;
use serde_json::json;
use serde_json::value::RawValue;

use super::table::count;
use super::{Console, Failure, Outcome};
use crate::{Client, Done, Error, Op, Record, Reply, Scope, Value};

/// Characters that are shown of a concurrent value.
const SHOWN_CHARS: usize = 200;
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
        return match &record.value {
            Value::Json(raw) => console.bytes(raw.get().as_bytes()),
            Value::Binary(bytes) => console.bytes(bytes),
        };
    }
    console.line(&bare(&record.value))?;
    if !record.siblings.is_empty() {
        console.say(&concurrent(&record));
    }
    Ok(())
}

/// What is told of concurrent values: the command that settles them, and each on a line of its own.
fn concurrent(record: &Record) -> String {
    let key = quoted(&record.key);
    let context = quoted(record.context.as_deref().unwrap_or("{}"));
    let operands = if key.starts_with('-') { format!("-- {key} VALUE") } else { format!("{key} VALUE") };
    let mut text = format!(
        "{} concurrent values, newest first. What settles them:\n  client_producer put --context {context} {operands}",
        record.siblings.len()
    );
    let mut cut = false;
    for (n, value) in record.siblings.iter().enumerate() {
        let line = one_line(value);
        let shown = line.char_indices().nth(SHOWN_CHARS).map(|(at, _)| &line[..at]);
        cut |= shown.is_some();
        text +=
            &format!("\n  {}. {}{}", n + 1, shown.unwrap_or(&line), if shown.is_some() { "…" } else { "" });
    }
    if cut { text + "\nget --json shows them whole" } else { text }
}

/// A value for people, on one line: a string that has several, or that begins or ends with what is not seen, as JSON.
fn one_line(value: &Value) -> String {
    let text = bare(value);
    match value {
        Value::Json(raw) if text.contains(char::is_control) || text.trim() != text || text.is_empty() => {
            // In JSON text these stand between values only.
            raw.get().replace(char::is_control, " ")
        }
        _ => text,
    }
}

/// A word as a shell takes it, and ours.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
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
    fn concurrent_values_stand_each_on_a_line_below_the_command_that_settles_them() {
        let record = |key: &str, context: &str| Record {
            key: key.into(),
            value: Value::from("it's"),
            siblings: vec![
                Value::from("it's"),
                Value::from("two\nlines"),
                Value::json("{\n  \"a\": [1, 2]\n}").expect("JSON"),
                Value::from(" "),
                Value::from("x".repeat(300).as_str()),
                Value::Binary(vec![0]),
            ],
            context: Some(context.into()),
        };
        let told = concurrent(&record("o'clock", r#"{"it's":1}"#));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "6 concurrent values, newest first. What settles them:");
        let command = lines[1].trim_start();
        assert_eq!(command, r#"client_producer put --context '{"it'\''s":1}' 'o'\''clock' VALUE"#);
        let words = crate::commands::shell::words::split(command).expect("our own shell takes it");
        assert_eq!(words, ["client_producer", "put", "--context", r#"{"it's":1}"#, "o'clock", "VALUE"]);
        assert_eq!(
            lines[2..6],
            ["  1. it's", r#"  2. "two\nlines""#, r#"  3. {   "a": [1, 2] }"#, r#"  4. " ""#]
        );
        assert!(lines[6].ends_with("xx…") && lines[7] == "  6. base64:AA==", "{told}");
        assert_eq!(lines[8], "get --json shows them whole");
        assert!(concurrent(&record("-k", "{}")).contains("put --context '{}' -- -k VALUE\n"));
    }

    #[test]
    fn values_are_shown_bare() {
        assert_eq!(bare(&Value::from("a \"b\"")), "a \"b\"");
        assert_eq!(bare(&Value::json("[1, 2]").expect("JSON")), "[1, 2]");
        assert_eq!(bare(&Value::Binary(vec![0, 159, 146])), "base64:AJ+S");
    }
}
