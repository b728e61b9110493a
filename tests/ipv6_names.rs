//! Nodes whose name has an IPv6 address alone.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::path::Path;

use support_more::{in_a_network_of_its_own, programs_on_path, run, script, skipped};

#[test]
fn a_cluster_lives_at_a_name_that_has_an_ipv6_address_alone() {
    let test = "a_cluster_lives_at_a_name_that_has_an_ipv6_address_alone";
    if !Path::new("/proc/net/if_inet6").exists() {
        return skipped(test, "the system has no IPv6");
    }
    // A chroot whose root is no mount has none, either.
    let mounts = in_a_network_of_its_own(Path::new("unshare"));
    if mounts.is_some_and(|mut unshare| run(unshare.args(["--mount", "true"])).code != Some(0)) {
        return skipped(test, "the system permits no mounts of its own");
    }
    let Some(mut command) = in_a_network_of_its_own(&script("tests/scripts/ipv6_names.sh")) else {
        return skipped(test, "the system permits no network namespace");
    };
    let said = run(command.env("PATH", programs_on_path())).ok();
    println!("{said}");
}
