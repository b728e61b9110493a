//! What `client_producer` cannot do is said at once and in one line, and needs no cluster for that.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

/// Runs it to its end, and returns its exit code and what it said on standard error.
fn producer(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client_producer"));
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_node_at_an_address_that_is_none_is_refused_with_what_does_not_fit() {
    for (address, why) in [
        ("127.0.0.1:99999", "its port is 99999; a port is 1 to 65535"),
        ("127.0.0.1:0", "its port is 0; a port is 1 to 65535"),
        ("127.0.0.1:", "no port follows the colon; a port is 1 to 65535"),
        ("127.0.0.1:abc", "its port is abc; a port is 1 to 65535"),
        ("[::1]:70000", "its port is 70000; a port is 1 to 65535"),
        ("[::1", "[::1]:2000"),
    ] {
        // Nobody listens at what libzmq would make of them, so that one that is not refused ends by time, with 1.
        let (code, said) = producer(&["--node", address, "--timeout", "1", "get", "k"]);
        assert_eq!(code, Some(2), "{address}: {said}");
        assert!(said.contains("--node") && said.contains(address) && said.contains(why), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
