//! Search and show-all: what replicas hold, version by version.

use ringkv_common::name::NodeName;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::records::usage;
use super::table::{count, table};
use super::{Console, Failure, Outcome};
use crate::value::decoded;
use crate::{Client, Op, PageOf, Reply};

/// Keys of a page.
const PAGE: usize = 1000;

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
    /// Kept for an owner that was away.
    hint: bool,
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

/// Prints all that a node stores, page by page; all nodes' where none is named.
///
/// # Errors
/// The operation's own.
pub fn show_all(client: &mut Client, console: &mut Console, node: Option<NodeName>) -> Outcome {
    let ring = match client.ring() {
        Some(ring) => ring.clone(),
        None => client.fetch_ring()?,
    };
    let mut nodes: Vec<NodeName> = node.into_iter().collect();
    if nodes.is_empty() {
        nodes = ring.nodes.iter().map(|n| n.name).collect();
        nodes.sort();
    }
    for node in nodes {
        let keys = show_node(client, console, node)?;
        console.say(&format!("{node} stores {}", count(keys, "key")));
    }
    Ok(())
}

fn show_node(client: &mut Client, console: &mut Console, node: NodeName) -> Result<u64, Failure> {
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
                let mut row = version.row(&stored.key);
                row.extend(stored.hint.then(|| "(hint)".to_owned()));
                console.line(&row.join("\t"))?;
            }
        }
        cursor = listing.cursor;
        if cursor.is_none() {
            return Ok(keys);
        }
    }
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
}
