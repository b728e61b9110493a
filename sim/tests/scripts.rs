//! The scripts in `sim/scripts`: all go well, and each of their expectations can be missed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use ringkv_sim::script::Script;

/// All scripts of a folder: name and text.
fn scripts(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap()).filter(|f| f.path().is_file());
    let read = |f: fs::DirEntry| {
        (f.file_name().to_string_lossy().into_owned(), fs::read_to_string(f.path()).unwrap())
    };
    let mut scripts: Vec<(String, String)> = files.map(read).collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_goes_well_and_goes_the_same_way_again() {
    let scripts = scripts("scripts");
    assert!(scripts.len() >= 11, "{}", scripts.len());
    for (name, text) in scripts {
        assert!(name.ends_with(".txt"), "{name}");
        let script = Script::parse(&name, &text).unwrap_or_else(|wrong| panic!("{wrong}"));
        let (one, two) = (script.play(None), script.play(None));
        assert!(one.wrong.is_empty(), "{}: {:#?}", one.line(), one.wrong);
        assert_eq!(one.line(), two.line());
    }
}

/// A line that expects something else than is so; `None`: it expects nothing in words.
fn turned(line: &str) -> Option<String> {
    let (before, expected) = line.split('#').next()?.split_once(" expect ")?;
    let (expected, within) = match expected.split_once(" within ") {
        Some((expected, within)) => (expected, format!(" within {within}")),
        None => (expected, String::new()),
    };
    let mut words = before.split_whitespace().filter(|word| *word != "await");
    let other = match (words.next()?, expected.trim()) {
        ("hints", _) => "999999",
        ("view", "unknown") => "alive",
        ("view", _) => "unknown",
        ("owners" | "members", _) => "node-8",
        // Any phase may come, but not at once.
        ("phase", _) => return Some(format!("{} expect switch", before.replace("await ", ""))),
        ("result", "refused") => "aborted",
        ("result", _) => "refused",
        ("consent", "no") => "yes",
        ("consent", _) => "no",
        _ => "what-nobody-wrote",
    };
    Some(format!("{before} expect {other}{within}"))
}

#[test]
fn every_expectation_of_every_script_can_be_missed_and_is_named_with_its_line() {
    for (name, text) in scripts("scripts") {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(turned) = turned(line) else { continue };
            let mut lines = lines.clone();
            lines[at] = &turned;
            let script = Script::parse(&name, &lines.join("\n")).unwrap_or_else(|wrong| panic!("{wrong}"));
            let place = format!("{name}:{}: {}", at + 1, turned.trim());
            let wrong = script.play(None).wrong;
            assert!(wrong.len() == 1 && wrong[0].starts_with(&place), "{place} went well, or: {wrong:#?}");
        }
    }
}
