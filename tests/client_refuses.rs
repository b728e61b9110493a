//! What `client_producer` cannot do is said at once and in one line, and needs no cluster for that.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Gives the shell these lines, on a node that is not there, and returns what it said on standard error.
fn in_the_shell(lines: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client_producer"));
    command.args(["--node", "127.0.0.1:1", "--timeout", "60", "shell"]).env_remove("RINGKV_LOG");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = pipes.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    String::from_utf8(shell.wait_with_output().unwrap().stderr).unwrap()
}

#[test]
fn what_a_line_of_the_shell_cannot_have_is_refused_and_its_patience_counts() {
    let said = in_the_shell("get k --mode hrw\n--count 5 get k\nget k --node 127.0.0.1:2000\n");
    for why in ["--mode is agreed on in Consul", "--count, --prefix", "given when the shell is started"] {
        assert!(said.contains(why), "{said}");
    }
    let start = Instant::now();
    let said = in_the_shell("get k --timeout 1\n");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(30), "the shell's own patience is a minute");
}

#[test]
fn a_line_of_the_shell_that_is_no_utf8_is_told_and_the_next_one_is_read() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_client_producer"));
    command.args(["--node", "127.0.0.1:1", "shell"]).env_remove("RINGKV_LOG");
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = pipes.spawn().unwrap();
    // An é as Latin-1 writes it, in the middle and at the very end.
    shell.stdin.take().unwrap().write_all(b"get caf\xe9\nfrobnicate\nget caf\xe9").unwrap();
    let ended = shell.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("this line is no UTF-8, and was not run\n").count(), 2, "{said}");
    assert!(said.contains("frobnicate"), "the line behind it was read: {said}");
}
