//! The five steps of the original with the stock `consul`, on the default ports.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use support_more::{consul_binary, in_a_network_of_its_own, programs_on_path, run, script, skipped};

#[test]
fn the_five_steps_hold() {
    let test = "the_five_steps_hold";
    let Some(consul) = consul_binary() else { return skipped(test, "no consul") };
    let Some(mut command) = in_a_network_of_its_own(&script("tests/scripts/five_steps.sh")) else {
        return skipped(test, "no network namespaces here");
    };
    let said = run(command.env("CONSUL_BIN", consul).env("PATH", programs_on_path())).ok();
    assert_eq!(said.lines().last(), Some("the five steps hold"), "{said}");
}
