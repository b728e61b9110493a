//! The embedded Consul agent as a process of its own, for `--dev`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::mpsc::channel;

use clap::Parser;
use consul::agent::Agent;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::logs::{self, Format};
use super::refused;

#[derive(Parser)]
#[command(name = "server_consumer agent", about = "The embedded Consul agent", version)]
struct Args {
    /// HOST:PORT to listen on
    #[arg(long)]
    listen: String,
    /// Where its state is kept
    #[arg(long)]
    folder: PathBuf,
    #[arg(long, default_value = "text")]
    log_format: Format,
}

/// The arguments of an agent's process, behind the program's name.
pub fn arguments(listen: &str, folder: &std::path::Path, format: Format) -> Vec<OsString> {
    let texts = [super::AGENT, "--listen", listen, "--log-format", format.text(), "--folder"];
    texts.into_iter().map(OsString::from).chain([folder.into()]).collect()
}

/// Runs the agent until it is told to end. The first argument names the part.
pub fn run(args: &[OsString]) -> anyhow::Result<()> {
    let args = Args::parse_from(args);
    logs::start(args.log_format)?;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::fs::create_dir_all(&args.folder)
        .map_err(|e| refused(format!("cannot make the folder {}: {e}", args.folder.display())))?;
    let agent = Agent::bind(&args.listen, Some(args.folder.clone())).map_err(|e| refused(e.to_string()))?;
    let running = agent.spawn_thread()?;
    tracing::info!("the embedded Consul agent serves at {} from {}", running.url(), args.folder.display());
    let (ended, end) = channel();
    std::thread::spawn(move || {
        let _ = signals.forever().next();
        let _ = ended.send(());
    });
    // A broken disk ends it too, so look now and then.
    while end.recv_timeout(std::time::Duration::from_millis(500)).is_err() && running.is_running() {}
    running.stop()?;
    Ok(())
}
