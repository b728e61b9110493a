//! The data set of Debian's packages, made from a dump with everything odd in it.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const DUMP: &[u8] =
    b"Package: zlib\nVersion: 1.2\nDescription: a library\n\tthat packs\n .\n and unpacks\n\n\
    Package: apt\nVersion: 2.6\nTag: a::b, \n c::d\n\n\n\
    Package: zlib\nVersion: 1.3\nMaintainer: J\xf6rg \xc3\x9f \x01\n\n\
    Package: zlib\nVersion: 1.3\nArchitecture: i386\n\n\
    no field\nPackage: last\nVersion: 1:0\xe2\x80\xa8x";

fn run(dump: &[u8]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/packages.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(dump).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_record_gets_a_line_and_a_key_of_its_own() {
    let output = run(DUMP);
    let lines: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter_map(|l| serde_json::from_slice(l).ok()).collect();
    let expected = [
        json!({"key": "apt", "value": {"Package": "apt", "Version": "2.6", "Tag": "a::b,\nc::d"}}),
        json!({"key": "last", "value": {"Package": "last", "Version": "1:0\u{2028}x"}}),
        json!({"key": "zlib", "value":
            {"Package": "zlib", "Version": "1.2", "Description": "a library\nthat packs\n.\nand unpacks"}}),
        json!({"key": "zlib=1.3", "value":
            {"Package": "zlib", "Version": "1.3", "Maintainer": "J\u{fffd}rg ß \u{1}"}}),
    ];
    assert_eq!(lines, expected);
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(summary.starts_with("4 records, 1 left out, sha256 "), "{summary}");
    assert!(output.status.success());
}

#[test]
fn the_same_records_in_another_order_give_the_same_bytes() {
    let (first, second) = (b"Package: a\nVersion: 1".as_slice(), b"Package: b\nVersion: 2".as_slice());
    let output = |order: [&[u8]; 2]| run(&order.join(b"\n\n".as_slice())).stdout;
    assert_eq!(output([first, second]), output([second, first]));
}

#[test]
fn no_records_are_an_error() {
    let output = run(b"\n\nnothing here\n");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("0 records"));
}
