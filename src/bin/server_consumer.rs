//! Starts the nodes of a cluster and looks after them.

use std::process::ExitCode;

/// A node allocates and frees a record a write, on one thread: glibc's allocator took a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringkv::server::main(std::env::args_os())
}
