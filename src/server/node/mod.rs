//! A node's process: the shell on a thread of its own, and around it what may be slow or fail without harm.
//!
//! ```text
//!   node      the shell: sockets, store, core       its end is the process's end
//!   ring      watches the ring in Consul            feeds the shell
//!   presence  the service in Consul, heartbeats     only says what is so
//!   http      health, state, metrics                only shows what is so
//! ```

mod args;
mod http;
mod presence;

use std::ffi::OsString;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use consul::{Entry, Event as Watched, Pace, Watch, WatchOptions};
use ringkv_common::ring::Ring;
use ringkv_server::shell::{End, Handle, Shell, ShellError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::Span;

pub use self::args::Args;
use self::presence::Presence;
use super::complaint::{Complaint, no_use};
use super::kept::{Keeper, Kept};
use super::keys::Keys;
use super::{descriptors, logs, refused};

/// How long Consul may take to answer.
const CONSUL_PATIENCE: Duration = Duration::from_secs(5);

/// What the process waits for.
enum Word {
    Told(&'static str),
    Ended(Result<End, ShellError>),
}

/// Runs a node until it is told to end or was removed from the ring. The first argument names the part.
pub fn run(args: &[OsString]) -> anyhow::Result<()> {
    let args = Args::parse_from(args);
    logs::start(args.log_format)?;
    let span = tracing::info_span!("node", name = %args.name);
    let _entered = span.clone().entered();
    let descriptors = descriptors::raise();
    // First of all, so that none is lost.
    let signals = Signals::new([SIGINT, SIGTERM])?;
    let keys = Keys::new(&args.cluster).map_err(refused)?;
    let config = consul::Config {
        timeout: CONSUL_PATIENCE,
        ..consul::Config::from_env()?.with_address(&args.consul)?
    };
    let client = consul::Client::new(config.clone())?;

    let shell = Shell::bind(args.shell()?).map_err(|e| refused(e.to_string()))?;
    let at = (args.bind.as_str(), args.ports()?.http);
    let listener = TcpListener::bind(at)
        .map_err(|e| refused(format!("cannot listen on {}:{} for HTTP: {e}", at.0, at.1)))?;
    tracing::info!(descriptors, "listens on port {}; each connection takes a file descriptor", args.port);
    let ports = args.ports()?;
    descriptors::guard(&[ports.client, ports.peer, ports.http], &span)?;
    let handle = shell.handle();
    let (words, word) = channel();
    listen_for(signals, words.clone())?;
    spawn("node", &span, move || drop(words.send(Word::Ended(shell.run()))))?;
    http::serve(listener, handle.clone(), &span)?;
    let presence = Presence::start(client.clone(), &keys, &args, handle.clone(), &span)?;
    let keeper = Keeper::new(args.name, args.data_dir.as_deref().map(|folder| Kept::of(folder, args.name)));
    let watch = watch_ring(&client, &keys, handle.clone(), keeper, presence.nudge(), &span)?;

    let end = loop {
        match word.recv().context("the node's thread is gone")? {
            Word::Told(signal) => {
                tracing::info!("{signal}: ends");
                handle.shut_down();
            }
            Word::Ended(end) => break end,
        }
    };
    drop(watch);
    // Whatever the reason: what does not run should not be listed.
    presence.end(config);
    match end? {
        End::ShutDown => {}
        End::Removed => tracing::info!("was removed from the ring, and all it held is handed over: ends"),
    }
    Ok(())
}

/// A thread whose log lines name the node.
pub(super) fn spawn(name: &str, span: &Span, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let span = span.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || span.in_scope(work)).context("no thread")?;
    Ok(())
}

fn listen_for(mut signals: Signals, words: Sender<Word>) -> anyhow::Result<()> {
    let listen = move || {
        for signal in signals.forever() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            if words.send(Word::Told(name)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(listen).context("no thread")?;
    Ok(())
}

/// Tells the node of every ring in Consul. While Consul is away the node goes on with the last one, and one that is
/// started then begins with the one that was kept.
fn watch_ring(
    client: &consul::Client,
    keys: &Keys,
    handle: Handle,
    mut keeper: Keeper,
    nudge: impl Fn() + Send + 'static,
    span: &Span,
) -> anyhow::Result<Watch> {
    let span = span.clone();
    let mut away = false;
    // Somebody may write the same again and again.
    let complaint = Complaint::default();
    let deliver = move |event: Watched<Option<Entry>>| match event {
        Watched::Changed { value, .. } => {
            let _in = span.enter();
            take(value, &handle, &mut keeper, &complaint);
            nudge();
        }
        Watched::Unreachable { error, .. } if !away => {
            away = true;
            let _in = span.enter();
            match keeper.last() {
                Some(ring) => {
                    tracing::warn!(
                        "Consul is away, starts with the ring of epoch {} that was kept: {error}",
                        ring.epoch
                    );
                    handle.ring(ring);
                }
                None => tracing::warn!("goes on with the last ring: {error}"),
            }
        }
        Watched::Unreachable { .. } => {}
        Watched::Reachable { after } => {
            away = false;
            span.in_scope(|| tracing::info!("Consul answers again after {after:.1?}"));
        }
    };
    let options = WatchOptions {
        pace: Pace { pause_max: Duration::from_secs(3), ..Pace::default() },
        ..WatchOptions::default()
    };
    Ok(client.watch_key(&keys.ring()).options(options).each(deliver)?)
}

/// What stands for the ring in Consul.
fn take(entry: Option<Entry>, handle: &Handle, keeper: &mut Keeper, complaint: &Complaint) {
    let Some(entry) = entry else {
        complaint.end();
        // Without a ring nothing can be wrong with this node.
        let _ = keeper.heard(None);
        return handle.ring_absent();
    };
    let ring = match Ring::from_json(&entry.value) {
        Ok(ring) => ring,
        Err(error) => return complaint.say(&entry.value, &no_use(&error)),
    };
    complaint.end();
    match keeper.heard(Some(&ring)) {
        Ok(()) => handle.ring(Arc::new(ring)),
        Err(why) => {
            tracing::warn!("ends, to be started anew: {why}");
            handle.shut_down();
        }
    }
}
