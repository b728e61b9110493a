//! `client_producer`: reads arguments, finds the cluster, runs a command.

mod access;
mod cli;
mod membership;
mod run;

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as Wrong;
use ringkv_client::commands::{Console, Failure};
use ringkv_client::{Error, Refusal};
use serde_json::json;

use self::cli::Cli;

/// Runs `client_producer` with its arguments, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&args, &error),
    };
    logs();
    let json = cli.common.json;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut console = Console::new(&mut out, json);
    let outcome = run::run(cli, &mut console);
    let flushed = console.flush();
    match outcome.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failed(&failure, json, &mut out),
    }
}

/// What clap did not understand; the original's form gets an answer of its own.
fn misunderstood(args: &[OsString], error: &clap::Error) -> ExitCode {
    let number = args.get(1).and_then(|arg| arg.to_str()).filter(|arg| arg.parse::<u64>().is_ok());
    if let (Some(number), Wrong::InvalidSubcommand | Wrong::UnknownArgument) = (number, error.kind()) {
        say(&format!(
            "client_producer takes no number of nodes: the ring says which there are. Type `client_producer`, or \
             to found a cluster of {number}: `consul kv put cluster_size {number}`, then `server_consumer`"
        ));
        return ExitCode::from(2);
    }
    // Help goes to standard output and is no error; clap knows.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn failed(failure: &Failure, json: bool, out: &mut impl Write) -> ExitCode {
    if failure.error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    if json && !failure.told {
        let _ = writeln!(out, "{}", in_json(failure)).and_then(|()| out.flush());
    }
    say(&format!("client_producer: {:#}", failure.error));
    ExitCode::from(failure.exit)
}

/// An error as nodes write theirs.
fn in_json(failure: &Failure) -> serde_json::Value {
    let text = format!("{:#}", failure.error);
    match failure.error.downcast_ref::<Error>() {
        Some(Error::Refused(Refusal { code, message, indeterminate, lost, .. })) => json!({
            "status": "ERROR", "code": code, "message": message, "indeterminate": indeterminate, "lost": lost,
        }),
        Some(error) => json!({"status": "ERROR", "message": text, "indeterminate": error.indeterminate()}),
        None => json!({"status": "ERROR", "message": text}),
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Warnings of the library go to standard error. `RINGKV_LOG` may be error, warn (the default), info, debug, trace.
fn logs() {
    use tracing_subscriber::filter::LevelFilter;
    let level = std::env::var("RINGKV_LOG").ok().and_then(|text| text.parse().ok());
    tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}
