//! What the end-to-end tests share beyond `support`: the client's program, Python, namespaces, and traffic.
#![allow(dead_code, unused_imports, clippy::unwrap_used)]

mod load;
mod programs;
mod python;

use std::io::Write as _;

use serde_json::Value;

pub use self::load::{Load, listed};
pub use self::programs::{
    Ran, consul_binary, in_a_network_of_its_own, producer, programs_folder, programs_on_path, run,
};
pub use self::python::{Python, script};

use crate::support::{Consul, until};

/// Says by name that a test is skipped, and why; where `RINGKV_REQUIRE_CONSUL=1` that is a failure instead.
pub fn skipped(test: &str, why: &str) {
    let required = std::env::var("RINGKV_REQUIRE_CONSUL").is_ok_and(|value| value == "1");
    assert!(!required, "{test}: {why}, and RINGKV_REQUIRE_CONSUL asks for everything");
    // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test} ({why})");
}

/// Writes a signal as an operator does, and returns its result.
pub fn signal(consul: &Consul, name: &str, value: &str) -> Value {
    let key = format!("ringkv/results/{name}");
    // So that no earlier answer is taken for this one.
    consul.client.delete(&key).unwrap();
    consul.put(&format!("ringkv/signals/{name}"), value);
    until(&format!("answer to {value} {name}"), || consul.json(&key))
}

/// [`signal`] for a change that must be done.
pub fn change(consul: &Consul, name: &str, value: &str) -> Value {
    let result = signal(consul, name, value);
    assert_eq!(result["outcome"], "done", "{value} {name}: {result}");
    result
}

/// [`signal`] for what must be refused; returns the reason.
pub fn refused(consul: &Consul, name: &str, value: &str) -> String {
    let result = signal(consul, name, value);
    assert_eq!(result["outcome"], "refused", "{value} {name}: {result}");
    result["message"].as_str().unwrap().to_owned()
}
