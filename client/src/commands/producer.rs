//! The producer: shards records over the nodes, shows how they spread, and proves that every one is there.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringkv_common::name::NodeName;
use serde::Serialize;

use super::drive::drive;
use super::table::{bar, count, number, table};
use super::{Console, Failure, Outcome};
use crate::{Client, Error, Op, Record, Reply, Scope, Value};

/// How often all nodes are listed again, where the ring changed while they were.
const LISTINGS_MAX: u32 = 5;
/// Keys that are named where something is missing or wrong.
const NAMED_MAX: usize = 5;

/// What is produced.
#[derive(Clone, Debug)]
pub struct Producer {
    /// How many records.
    pub count: u64,
    /// Keys are this and a number.
    pub prefix: String,
    /// Values have at least so many characters.
    pub value_size: usize,
}

impl Producer {
    fn key(&self, n: u64) -> String {
        format!("{}{n}", self.prefix)
    }

    fn value(&self, n: u64) -> Value {
        let text = format!("value-{n}");
        let pad = self.value_size.saturating_sub(text.len());
        Value::from((text + &".".repeat(pad)).as_str())
    }
}

#[derive(Serialize)]
struct Share {
    node: NodeName,
    records: u64,
    share: f64,
}

#[derive(Default, Serialize)]
struct Verdict {
    count: u64,
    written: u64,
    read_back: u64,
    listed: u64,
    spread: Vec<Share>,
    missing: Vec<String>,
    wrong: Vec<String>,
    failed: Vec<String>,
    seconds: f64,
    writes_per_second: f64,
}

/// Writes, reads back, lists; exit 1 where one record is missing or wrong.
///
/// # Errors
/// Where records could not be written, are missing or wrong.
pub fn produce(client: &mut Client, console: &mut Console, producer: &Producer) -> Outcome {
    if client.ring().is_none() {
        client.fetch_ring()?;
    }
    let mut verdict = Verdict { count: producer.count, ..Verdict::default() };
    let began = Instant::now();
    write(client, console, producer, &mut verdict)?;
    verdict.writes_per_second = verdict.written as f64 / began.elapsed().as_secs_f64().max(1e-9);
    read_back(client, console, producer, &mut verdict)?;
    list(client, console, producer, &mut verdict)?;
    verdict.seconds = began.elapsed().as_secs_f64();
    for list in [&mut verdict.missing, &mut verdict.wrong] {
        list.sort();
        list.dedup();
    }
    console.either(&verdict, || report(&verdict))?;
    if verdict.failed.is_empty() && verdict.missing.is_empty() && verdict.wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::told(complaint(&verdict)))
}

fn numbers(count: u64) -> impl FnMut() -> Option<u64> {
    let mut all = 0..count;
    move || all.next()
}

fn write(client: &mut Client, console: &Console, producer: &Producer, verdict: &mut Verdict) -> Outcome {
    let bar = console.bar(producer.count, "records");
    bar.set_message("writing");
    let mut next = numbers(producer.count);
    drive(
        client,
        || next().map(|n| Ok((n, Op::put(&producer.key(n), producer.value(n))?))).transpose(),
        |n, outcome| {
            bar.inc(1);
            match outcome {
                Ok(_) => verdict.written += 1,
                Err(error) => verdict.failed.push(format!("{}: {error}", producer.key(n))),
            }
            Ok::<(), Error>(())
        },
    )?;
    bar.finish_and_clear();
    Ok(())
}

fn read_back(client: &mut Client, console: &Console, producer: &Producer, verdict: &mut Verdict) -> Outcome {
    let bar = console.bar(producer.count, "records");
    bar.set_message("reading back");
    let mut next = numbers(producer.count);
    drive(
        client,
        || next().map(|n| Ok((n, Op::get(&producer.key(n))?))).transpose(),
        |n, outcome| {
            bar.inc(1);
            match outcome {
                Ok(Reply::Found(record, _)) if record.value == producer.value(n) => verdict.read_back += 1,
                Ok(_) => verdict.wrong.push(producer.key(n)),
                Err(error) if error.is_absent() => verdict.missing.push(producer.key(n)),
                Err(error) => verdict.failed.push(format!("{}: {error}", producer.key(n))),
            }
            Ok::<(), Error>(())
        },
    )?;
    bar.finish_and_clear();
    Ok(())
}

/// Merges every node's GET_ALL. Nodes are asked one after the other, so a partition that changes hands meanwhile may
/// be missed by both: where the ring changed, all are asked again.
fn list(client: &mut Client, console: &Console, producer: &Producer, verdict: &mut Verdict) -> Outcome {
    let bar = console.bar(producer.count, "records");
    bar.set_message("listing all nodes");
    let mut listing = Listing::default();
    for _ in 0..LISTINGS_MAX {
        bar.set_position(0);
        let before = client.ring().map(|ring| ring.epoch);
        listing = Listing::of(client, producer, &bar)?;
        // A newer ring that a reply told of arrives with the next answer.
        client.ping(None)?;
        let quiet = client.ring().is_some_and(|ring| Some(ring.epoch) == before && ring.change.is_none());
        if quiet || listing.is_whole(producer) {
            break;
        }
    }
    bar.finish_and_clear();
    verdict.listed = listing.found.len() as u64;
    verdict.missing.extend(listing.missing(producer));
    verdict.wrong.extend(listing.wrong);
    let total = verdict.listed.max(1) as f64;
    let share = |(node, records): (NodeName, u64)| Share { node, records, share: records as f64 / total };
    verdict.spread = listing.per_node.into_iter().map(share).collect();
    verdict.spread.sort_by_key(|s| s.node);
    for silent in &listing.silent {
        console.say(silent);
    }
    Ok(())
}

#[derive(Default)]
struct Listing {
    /// The producer's numbers that were listed.
    found: HashMap<u64, NodeName>,
    per_node: Vec<(NodeName, u64)>,
    wrong: Vec<String>,
    silent: Vec<String>,
}

impl Listing {
    fn of(client: &mut Client, producer: &Producer, bar: &indicatif::ProgressBar) -> Result<Listing, Error> {
        let ring = client.ring().cloned().ok_or(Error::NoRing)?;
        let mut listing = Listing::default();
        for node in ring.nodes.iter().map(|n| n.name) {
            let mut records = 0;
            for record in client.get_all(Scope::Led, Some(node), 1000) {
                match record {
                    Ok(record) => records += u64::from(listing.take(producer, node, &record)),
                    // Another node leads its keys while it is away.
                    Err(error @ (Error::Silent { .. } | Error::Unreachable { .. })) => {
                        listing.silent.push(format!("{node} is not listed: {error}"));
                        break;
                    }
                    Err(error) => return Err(error),
                }
                bar.set_position(listing.found.len() as u64);
            }
            listing.per_node.push((node, records));
        }
        Ok(listing)
    }

    /// Counts a record if it is one of ours, the first time that it is seen.
    fn take(&mut self, producer: &Producer, node: NodeName, record: &Record) -> bool {
        let Some(digits) = record.key.strip_prefix(&producer.prefix) else { return false };
        let number = digits.parse::<u64>().ok().filter(|n| *n < producer.count && n.to_string() == digits);
        let Some(n) = number else { return false };
        if record.value != producer.value(n) {
            self.wrong.push(record.key.clone());
        }
        self.found.insert(n, node).is_none()
    }

    fn is_whole(&self, producer: &Producer) -> bool {
        self.found.len() as u64 == producer.count
    }

    fn missing(&self, producer: &Producer) -> Vec<String> {
        (0..producer.count).filter(|n| !self.found.contains_key(n)).map(|n| producer.key(n)).collect()
    }
}

fn report(verdict: &Verdict) -> String {
    let most = verdict.spread.iter().map(|s| s.records).max().unwrap_or(0).max(1) as f64;
    let rows: Vec<Vec<String>> = verdict
        .spread
        .iter()
        .map(|s| {
            let share = format!("{:.1} %", s.share * 100.0);
            vec![s.node.to_string(), number(s.records), share, bar(s.records as f64 / most, 40)]
        })
        .collect();
    let seconds = Duration::from_secs_f64(verdict.seconds);
    table(&["node", "records", "share", ""], &[1, 2], &rows)
        + &format!(
            "{} written ({} a second), {} read back, {} listed by {} in {:.1} s: {}",
            count(verdict.written, "record"),
            number(verdict.writes_per_second as u64),
            number(verdict.read_back),
            number(verdict.listed),
            count(verdict.spread.len() as u64, "node"),
            seconds.as_secs_f64(),
            if verdict.missing.is_empty() && verdict.wrong.is_empty() && verdict.failed.is_empty() {
                "all is there"
            } else {
                "not all is there"
            }
        )
}

fn complaint(verdict: &Verdict) -> String {
    let part = |what: &str, keys: &[String]| {
        if keys.is_empty() {
            return None;
        }
        // An error's text is long: one stands for all.
        let most = if what == "failed" { 1 } else { NAMED_MAX };
        let named: Vec<&str> = keys.iter().take(most).map(String::as_str).collect();
        let more = if keys.len() > most { ", …" } else { "" };
        Some(format!("{} {what}: {}{more}", number(keys.len() as u64), named.join(", ")))
    };
    let parts =
        [part("failed", &verdict.failed), part("missing", &verdict.missing), part("wrong", &verdict.wrong)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
