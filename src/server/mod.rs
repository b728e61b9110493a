//! `server_consumer`: one program, three parts, told apart by its first argument.
//!
//! ```text
//!   server_consumer …            the launcher: starts and watches nodes, and orchestrates while it holds the lock
//!   server_consumer node NAME …  one node, started by a launcher and independent of it from then on
//!   server_consumer agent …      the embedded Consul agent, for `--dev`
//! ```
//!
//! The launcher and its nodes share nothing but Consul and the nodes' sockets, so that either may be killed.

mod agent;
mod ask;
mod cli;
mod complaint;
mod descriptors;
mod hands;
mod kept;
pub mod keys;
mod launcher;
mod logs;
mod node;
mod process;
mod settings;

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

/// The first argument of a node's process.
const NODE: &str = "node";
/// The first argument of the embedded agent's process.
const AGENT: &str = "agent";

/// What the user or the surroundings must change before it can work: exit code 2.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// An error that ends the program with exit code 2.
fn refused(message: impl Into<String>) -> anyhow::Error {
    Refused(message.into()).into()
}

/// Runs `server_consumer` with its arguments, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    die_of_any_panic();
    let args: Vec<OsString> = args.into_iter().collect();
    let part = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    let outcome = match part {
        NODE => node::run(&args[1..]),
        AGENT => agent::run(&args[1..]),
        _ => launcher::run(&args),
    };
    match outcome {
        Ok(()) => {
            logs::flush();
            ExitCode::SUCCESS
        }
        Err(error) => {
            logs::last_words(&format!("server_consumer: {error:#}"));
            ExitCode::from(if error.is::<Refused>() || error.is::<consul::Error>() { 2 } else { 1 })
        }
    }
}

/// A thread that panicked leaves a process that looks alive and does nothing. One that has ended is a crash like any
/// other: a launcher restarts a node, and nodes outlive their launcher.
fn die_of_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The report goes to standard error itself, which may be a pipe that nobody reads.
        let _ = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(std::time::Duration::from_secs(2));
            std::process::abort();
        });
        logs::flush();
        report(panic);
        std::process::abort();
    }));
}
