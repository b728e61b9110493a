//! Starts the nodes of a cluster and looks after them.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringkv::server::main(std::env::args_os())
}
