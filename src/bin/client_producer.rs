//! Stores, reads and moves the data of a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringkv::client::main(std::env::args_os())
}
