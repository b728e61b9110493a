//! What can be said about a change's records, honestly.
//!
//! Before the change the nodes are asked how many records they lead, and records are picked from all over the
//! cluster: all of them where there are few. Afterwards both are looked at again. Nobody else writing, the counts
//! must be equal. While others write, counts say little, and the picked records say this: each is there, or SEARCH
//! shows that somebody deleted it, or it is lost. A node that does not answer is passed over: whether a change
//! may begin without it is for the launchers to say.

use std::time::{Duration, Instant};

use ringkv_common::key::Key;
use ringkv_common::message::request::cursor;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Outcome as Answer;
use serde::Serialize;

use crate::commands::drive::drive;
use crate::commands::dump::cluster_records;
use crate::commands::table::{count, number};
use crate::commands::{Console, Failure};
use crate::retry::Chance;
use crate::{Client, Document, Error, Op, PageOf, Scope, Status};

/// Places in a node's keys where a sample is begun.
const PLACES: u64 = 8;
/// How long a node may take to answer before it is passed over.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the nodes may take to go by the ring that ends the change.
const SETTLING: Duration = Duration::from_secs(10);

/// What was there before.
pub(super) struct Sample {
    records: Option<u64>,
    keys: Vec<String>,
    /// Whether `keys` are all that there were.
    whole: bool,
    /// Nodes that did not answer.
    silent: Vec<NodeName>,
}

/// What is there after.
#[derive(Serialize)]
pub(super) struct Audit {
    records_before: Option<u64>,
    records_after: Option<u64>,
    /// Records that were read back.
    checked: u64,
    /// Whether these were all.
    all_checked: bool,
    /// Of these: deleted by somebody meanwhile.
    deleted: u64,
    /// Of these: gone, and nobody deleted them.
    pub lost: Vec<String>,
    /// Of these: not readable now.
    unreadable: u64,
}

impl Sample {
    /// Counts, and picks up to `wanted` records.
    pub fn take(client: &mut Client, console: &Console, wanted: u64) -> Result<Sample, Failure> {
        if wanted == 0 {
            return Ok(Sample { records: None, keys: Vec::new(), whole: false, silent: Vec::new() });
        }
        let ring = client.ring().cloned().ok_or(Error::NoRing)?;
        let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
        let (answering, silent) = heard(client, &names);
        if !silent.is_empty() {
            console.say(&format!("no answer from {}: records are picked from the others", list(&silent)));
        }
        let records = if silent.is_empty() { cluster_records(client) } else { None };
        let few = records.is_some_and(|n| n <= wanted);
        let mut keys = Vec::new();
        if few {
            for record in client.get_all(Scope::Cluster, None, 1000) {
                keys.push(record?.key);
            }
        } else {
            let each = wanted.div_ceil(PLACES * answering.len().max(1) as u64).min(1000);
            for node in answering {
                pick(client, node, each as usize, &mut keys)?;
            }
            keys.sort();
            keys.dedup();
        }
        let whole = records == Some(keys.len() as u64);
        Ok(Sample { records, keys, whole, silent })
    }

    /// Counts again, and reads back what was picked.
    pub fn check(self, client: &mut Client, answer: &Answer) -> Result<Audit, Failure> {
        let mut audit = Audit {
            records_before: self.records,
            records_after: None,
            checked: self.keys.len() as u64,
            all_checked: self.whole,
            deleted: 0,
            lost: Vec::new(),
            unreadable: 0,
        };
        if self.records.is_none() && self.keys.is_empty() {
            return Ok(audit);
        }
        settle(client, answer.epoch, &self.silent);
        audit.records_after = cluster_records(client);
        let mut keys = self.keys.into_iter();
        let mut absent = Vec::new();
        drive(
            client,
            || keys.next().map(|key| Op::get(&key).map(|op| (key, op))).transpose(),
            |key, outcome| {
                match outcome {
                    Ok(_) => {}
                    Err(error) if error.is_absent() || error.lost() => absent.push(key),
                    Err(_) => audit.unreadable += 1,
                }
                Ok::<(), Error>(())
            },
        )?;
        for key in absent {
            match client.search(&key) {
                Ok(found) if was_deleted(&found) => audit.deleted += 1,
                Ok(_) => audit.lost.push(key),
                Err(_) => audit.unreadable += 1,
            }
        }
        Ok(audit)
    }
}

/// Picks keys that a node leads, from several places.
fn pick(client: &mut Client, node: NodeName, each: usize, keys: &mut Vec<String>) -> Result<(), Failure> {
    let mut chance = Chance::new();
    for place in 0..PLACES {
        // A cursor is the key after which a page begins, and pages are in the order of hashes: any text will do.
        let after = (place > 0).then(|| Key::new(&format!("{:016x}", chance.draw())).map(|key| cursor(&key)));
        let page = PageOf { limit: Some(each), cursor: after.transpose()? };
        let page = client.page(Scope::Led, Some(node), page)?;
        keys.extend(page.records.into_iter().map(|r| r.key));
    }
    Ok(())
}

/// Nodes that answer now, and those that do not.
pub(super) fn heard(client: &mut Client, nodes: &[NodeName]) -> (Vec<NodeName>, Vec<NodeName>) {
    let (answering, silent): (Vec<_>, Vec<_>) =
        client.status_of(nodes, PATIENCE).into_iter().partition(|(_, answer)| answer.is_ok());
    let names = |of: Vec<(NodeName, _)>| of.into_iter().map(|(name, _)| name).collect();
    (names(answering), names(silent))
}

/// Names for a sentence.
pub(super) fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(NodeName::to_string).collect::<Vec<_>>().join(", ")
}

/// Waits until all nodes but those that are silent go by the ring of this epoch: before that they count by another.
fn settle(client: &mut Client, epoch: u64, silent: &[NodeName]) {
    let end = Instant::now() + SETTLING;
    let Some(ring) = client.ring().cloned() else { return };
    let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).filter(|n| !silent.contains(n)).collect();
    let there = |answer: Result<Document, Error>| {
        answer.and_then(|d| d.read::<Status>()).is_ok_and(|status| status.epoch >= epoch)
    };
    loop {
        let answers = client.status_of(&names, Duration::from_secs(1));
        if answers.into_iter().all(|(_, answer)| there(answer)) || Instant::now() >= end {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a replica still holds the mark that a delete left.
fn was_deleted(found: &Document) -> bool {
    #[derive(serde::Deserialize)]
    struct Found {
        replicas: Vec<Replica>,
    }
    #[derive(serde::Deserialize)]
    struct Replica {
        #[serde(default)]
        versions: Vec<serde::de::IgnoredAny>,
    }
    found.read::<Found>().is_ok_and(|f| f.replicas.iter().any(|r| !r.versions.is_empty()))
}

impl Audit {
    pub fn text(&self) -> String {
        if self.records_before.is_none() && self.checked == 0 {
            return "records were neither counted nor read back".to_owned();
        }
        let counts = match (self.records_before, self.records_after) {
            (Some(before), Some(after)) if before == after => {
                format!("{} before and after", count(before, "record"))
            }
            (Some(before), Some(after)) if after > before => format!(
                "{} before, {} after: others were writing meanwhile",
                count(before, "record"),
                number(after)
            ),
            (Some(before), Some(after)) => format!(
                "{} before, {} after: {} fewer, deleted by others meanwhile or lost",
                count(before, "record"),
                number(after),
                number(before - after)
            ),
            _ => "not all nodes said how many records they hold".to_owned(),
        };
        if self.checked == 0 {
            return counts;
        }
        let which = if self.all_checked { "all" } else { "a sample" };
        let mut text = format!("{counts}; {} of them, {which}, read back:", number(self.checked));
        let there = self.checked - self.deleted - self.lost.len() as u64 - self.unreadable;
        text += &format!(" {} there", number(there));
        for (n, what) in [
            (self.deleted, "deleted by others"),
            (self.lost.len() as u64, "lost"),
            (self.unreadable, "could not be read now"),
        ] {
            if n > 0 || what == "lost" {
                text += &format!(", {} {what}", number(n));
            }
        }
        text
    }
}
