//! Real input: the records of all of Debian's packages, of 500 bytes to 75 kB each, through every kind of change.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::value::RawValue;
use support::{Consul, World};
use support_more::{producer, run, script, skipped};

/// With fewer, apt has no lists and knows only what is installed.
const RECORDS_MIN: usize = 10_000;

#[derive(Deserialize)]
struct Record<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// A file's records: values as the text that they are, byte for byte.
fn records(file: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for line in BufReader::new(File::open(file).unwrap()).lines() {
        let line = line.unwrap();
        let record: Record = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let before = all.insert(record.key, record.value.get().to_owned());
        assert!(before.is_none(), "a key comes twice: {line}");
    }
    all
}

/// That both have the same; tells the first few that differ, not fifty megabytes.
fn same(input: &BTreeMap<String, String>, output: &BTreeMap<String, String>) {
    let missing: Vec<_> = input.keys().filter(|key| !output.contains_key(*key)).collect();
    let strange: Vec<_> = output.keys().filter(|key| !input.contains_key(*key)).collect();
    let changed: Vec<_> = input.iter().filter(|(key, v)| output.get(*key).is_some_and(|o| o != *v)).collect();
    let first = |keys: &[&String]| keys.iter().take(5).map(ToString::to_string).collect::<Vec<_>>();
    assert!(
        missing.is_empty() && strange.is_empty() && changed.is_empty(),
        "{} missing as {:?}, {} that were never loaded as {:?}, {} changed as {:?}",
        missing.len(),
        first(&missing),
        strange.len(),
        first(&strange),
        changed.len(),
        changed.first()
    );
}

/// Debian's package records; `None` after saying that there are none.
fn dataset(test: &str, file: &Path) -> Option<usize> {
    let mut make = Command::new("python3");
    make.arg(script("bench/datasets/packages.py")).stdin(Stdio::null()).stdout(File::create(file).unwrap());
    match make.status() {
        Ok(status) if status.success() => {}
        other => {
            skipped(test, &format!("no package records: {other:?}"));
            return None;
        }
    }
    let count = BufReader::new(File::open(file).unwrap()).lines().count();
    if count < RECORDS_MIN {
        skipped(test, &format!("apt knows {count} packages: its lists are missing, see apt-get update"));
        return None;
    }
    Some(count)
}

#[test]
fn all_of_debians_package_records_survive_every_kind_of_change() {
    let test = "all_of_debians_package_records_survive_every_kind_of_change";
    let Some(consul) = Consul::real(test) else { return };
    consul.put("cluster_size", "4");
    let world = World::with(consul);
    let (input, output) = (world.folder.path().join("in.jsonl"), world.folder.path().join("out.jsonl"));
    let Some(count) = dataset(test, &input) else { return };
    let mut launcher = world.launch_ready(&[], 4);
    let client = |args: &[&str]| run(&mut producer(&world, args)).ok();

    let loaded: serde_json::Value =
        serde_json::from_str(&client(&["load", "in.jsonl", "--json"])).expect("JSON");
    assert_eq!(loaded["loaded"], count);
    client(&["add-node", "node-4"]);
    client(&["remove-node", "node-0"]);
    client(&["migrate", "--mode", "hrw"]);
    client(&["dump", "out.jsonl"]);

    let input = records(&input);
    assert_eq!(input.len(), count);
    same(&input, &records(&output));
    let stored: u64 = (1..=4).map(|n| world.status(n).unwrap()["keys"].as_u64().unwrap()).sum();
    assert_eq!(stored, count as u64);
    launcher.terminate();
}
