//! The embedded agent as a process of its own:
//! `cargo run -p consul --example agent -- --listen 127.0.0.1:8500 --data-dir ./consul-data`.

use std::path::PathBuf;
use std::process::ExitCode;

use consul::agent::Agent;

const USAGE: &str =
    "usage: agent [--listen HOST:PORT] [--data-dir DIR]   (default: 127.0.0.1:8500, nothing kept)";

fn main() -> ExitCode {
    let mut listen = "127.0.0.1:8500".to_owned();
    let mut folder = None;
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        match (option.as_str(), args.next()) {
            ("--listen", Some(value)) => listen = value,
            ("--data-dir", Some(value)) => folder = Some(PathBuf::from(value)),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(&listen, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(listen: &str, folder: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let agent = Agent::bind(listen, folder)?;
    println!("listening on {}", agent.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Ended by a signal at any moment: what was acknowledged is on disk.
    runtime.block_on(agent.serve(std::future::pending()))?;
    Ok(())
}
