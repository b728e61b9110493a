//! One operation each: put, get, insert, update, delete, get-all, search, show-all, explain, accept-loss.

use std::path::Path;

use ringkv_common::name::NodeName;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::table::{count, table};
use super::{Console, Failure, Outcome};
use crate::value::decoded;
use crate::{Client, Done, Error, Op, PageOf, Record, Reply, Scope, Value};

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
fn usage(error: Error) -> Failure {
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

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    replicas: Vec<Replica>,
}

// Flattening would lose the texts of values, so the versions are named again.
#[derive(Deserialize)]
struct Replica {
    node: NodeName,
    error: Option<String>,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stored {
    key: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    actor: String,
    #[serde(default)]
    counter: u64,
    #[serde(default)]
    written_ms: u64,
    #[serde(default)]
    deleted: bool,
    value: Option<Box<RawValue>>,
    value_b64: Option<String>,
}

impl Version {
    fn row(&self, first: &str) -> Vec<String> {
        let bytes = || self.value_b64.as_deref().map(|t| decoded(t).map_or(0, |b| b.len()));
        let value = match (&self.value, self.deleted) {
            (_, true) => "(deleted)".to_owned(),
            (Some(raw), _) => shortened(raw.get()),
            (None, _) => bytes().map_or_else(|| "null".to_owned(), |n| format!("({n} bytes)")),
        };
        let node = self.actor.split('.').next().unwrap_or_default();
        vec![first.to_owned(), format!("{node}:{}", self.counter), instant(self.written_ms), value]
    }
}

/// Milliseconds since 1970 as a date and time of UTC (days to civil date after Hinnant, *chrono-compatible
/// low-level date algorithms*).
fn instant(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (h, m, s, ms) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}.{ms:03}Z")
}

fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// Prints every replica's versions of a key.
///
/// # Errors
/// The operation's own.
pub fn search(client: &mut Client, console: &mut Console, key: &str) -> Outcome {
    let document = client.call(Op::search(key).map_err(usage)?)?;
    let Reply::Document(document, _) = document else {
        return Err(Failure::failed("the node answered no replicas"));
    };
    if console.json() {
        return console.object(&document);
    }
    let found: Found = document.read()?;
    let mut rows = Vec::new();
    for replica in &found.replicas {
        let name = replica.node.to_string();
        match &replica.error {
            Some(why) => rows.push(vec![name, String::new(), String::new(), format!("no answer: {why}")]),
            None if replica.versions.is_empty() => {
                rows.push(vec![name, String::new(), String::new(), "(nothing)".to_owned()]);
            }
            None => rows.extend(replica.versions.iter().map(|v| v.row(&name))),
        }
    }
    console.line(table(&["replica", "written by", "at", "value"], &[], &rows).trim_end())
}

/// Prints all that a node stores, page by page.
///
/// # Errors
/// The operation's own.
pub fn show_all(client: &mut Client, console: &mut Console, node: NodeName) -> Outcome {
    #[derive(Deserialize)]
    struct Listing {
        collection: Vec<Box<RawValue>>,
        cursor: Option<String>,
    }
    let mut cursor = None;
    let mut keys = 0;
    loop {
        let page = PageOf { limit: Some(PAGE), cursor };
        let listing: Listing = client.show_all(node, page)?.read()?;
        for entry in &listing.collection {
            keys += 1;
            if console.json() {
                console.line(entry.get())?;
                continue;
            }
            let stored: Stored = serde_json::from_str(entry.get())?;
            for version in &stored.versions {
                console.line(&version.row(&stored.key).join("\t"))?;
            }
        }
        cursor = listing.cursor;
        if cursor.is_none() {
            break;
        }
    }
    console.say(&format!("{node} stores {}", count(keys, "key")));
    Ok(())
}

#[derive(Deserialize)]
struct Explanation {
    hash: String,
    partition: u32,
    partitions: u32,
    strategy: String,
    #[serde(default)]
    order: Vec<Preferred>,
    #[serde(default)]
    owners: Vec<NodeName>,
    #[serde(default)]
    readers: Vec<NodeName>,
    #[serde(default)]
    moved_by_balance: bool,
    next_owners: Option<Vec<NodeName>>,
    change: Option<String>,
    #[serde(default)]
    hints: u64,
    epoch: u64,
}

#[derive(Deserialize)]
struct Preferred {
    node: NodeName,
    score: Option<f64>,
    position: Option<String>,
}

/// Says where a key lives, and why.
///
/// # Errors
/// The operation's own.
pub fn explain(client: &mut Client, console: &mut Console, key: &str) -> Outcome {
    let Reply::Document(document, _) = client.call(Op::explain(key).map_err(usage)?)? else {
        return Err(Failure::failed("the node answered no explanation"));
    };
    if console.json() {
        return console.object(&document);
    }
    let Ok(e) = document.read::<Explanation>() else {
        // A newer node may tell it in other fields.
        let lines: Vec<String> = document.fields().map(|(name, text)| format!("{name}: {text}")).collect();
        return console.line(&lines.join("\n"));
    };
    console.line(&explanation(key, &e))
}

fn explanation(key: &str, e: &Explanation) -> String {
    let names = |nodes: &[NodeName]| nodes.iter().map(NodeName::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!(
        "{key:?} has the hash {}, whose upper bits are partition {} of {}.\n",
        e.hash, e.partition, e.partitions
    );
    text +=
        &format!("It lives on {} (ring of epoch {}, strategy {}).\n", names(&e.owners), e.epoch, e.strategy);
    let measure = if e.order.iter().any(|p| p.score.is_some()) { "score" } else { "place on the ring" };
    let rows: Vec<Vec<String>> = e
        .order
        .iter()
        .map(|p| {
            let value = p.score.map(|s| format!("{s:.6}")).or(p.position.clone()).unwrap_or_default();
            let owner = if e.owners.contains(&p.node) { "owner" } else { "" };
            vec![p.node.to_string(), value, owner.to_owned()]
        })
        .collect();
    text += &format!("The strategy's own order:\n{}", table(&["node", measure, ""], &[], &rows));
    text += if e.moved_by_balance {
        "Balancing gave it to others than the strategy's first choice, so that no node is too full.\n"
    } else {
        "Balancing left it where the strategy wants it.\n"
    };
    if let Some(change) = &e.change {
        text += &format!("A change runs ({change}): reads ask {}", names(&e.readers));
        text += &match &e.next_owners {
            Some(next) if *next == e.owners => "; the key does not move.\n".to_owned(),
            Some(next) => format!("; it will live on {}.\n", names(next)),
            None => ".\n".to_owned(),
        };
    }
    if e.hints > 0 {
        text += &format!("{} wait for an owner that was away.\n", count(e.hints, "hint"));
    }
    text.trim_end().to_owned()
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
    if failed > 0 { Err(Failure::failed(format!("{failed} nodes were not told"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_as_a_date() {
        assert_eq!(instant(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(instant(951_782_400_123), "2000-02-29 00:00:00.123Z");
        assert_eq!(instant(1_767_225_599_999), "2025-12-31 23:59:59.999Z");
    }

    #[test]
    fn values_are_shown_bare() {
        assert_eq!(bare(&Value::from("a \"b\"")), "a \"b\"");
        assert_eq!(bare(&Value::json("[1, 2]").expect("JSON")), "[1, 2]");
        assert_eq!(bare(&Value::Binary(vec![0, 159, 146])), "base64:AJ+S");
    }
}
