//! The launcher: starts and watches nodes, stops what was removed, and lends the orchestrator its hands.
//!
//! ```text
//!   watches of Consul ──►  orchestrator (thread)  ── launch, stop ──►  main loop  ◄── signals of the system
//!          └────────────────── ring, health ──────────────────────────►    │
//!                                                                    nodes (processes)
//! ```

mod dev;
mod join;
mod nodes;
mod ready;
mod reset;
mod start;
mod watches;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use consul::Client;
use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Config, Event};
use ringkv_common::ring::{ClusterId, Ring};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use self::dev::Agent;
use self::nodes::Nodes;
use self::ready::Ready;
use self::watches::{Seen, Watches};
use super::cli::Options;
use super::complaint::Complaint;
use super::hands::{Hands, Wish};
use super::refused;
use super::settings::Settings;
use super::{descriptors, logs};

/// How often the main loop looks after its nodes.
const LOOK: Duration = Duration::from_millis(100);
/// How often it looks for nodes whose launcher died.
const STRAYS: Duration = Duration::from_secs(5);
/// How long Consul may take to answer.
const CONSUL_PATIENCE: Duration = Duration::from_secs(5);
/// How long nodes may take to end before they are killed.
const END: Duration = Duration::from_secs(20);
/// How long a node that was launched for a signal may be outside the ring.
const LAUNCHED: Duration = Duration::from_secs(90);

/// What the main loop waits for.
enum Word {
    Signal(i32),
    Ring(Arc<Ring>),
    Seen(Vec<Seen>),
    Wish(Wish),
    Joined(NodeName, anyhow::Result<()>),
}

/// Runs the launcher until it is told to end.
pub fn run(args: &[OsString]) -> anyhow::Result<()> {
    let random = random()?;
    let mut settings = Settings::new(Options::read(args)?, ClusterId(random))?;
    logs::start(settings.logs)?;
    // A launcher of many nodes has a connection to each.
    descriptors::raise();
    // From here on none is lost, and none ends us half-way.
    let signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])?;
    let introduced = match settings.join.clone() {
        Some(at) => Some(join::meet(&mut settings, &at)?),
        None => None,
    };
    // Ends last: it is dropped after all that needs it.
    let mut agent = match settings.dev {
        Some(_) => Agent::ensure(&settings)?,
        None => None,
    };
    let client = Client::new(consul::Config { timeout: CONSUL_PATIENCE, ..settings.consul.clone() })?;
    if settings.reset {
        return reset::run(&client, &settings);
    }
    let found = start::look(&client, &settings).map_err(|error| match introduced {
        Some(by) if error.is::<consul::Error>() => error.context(by),
        _ => error,
    })?;
    let mut nodes = Nodes::new(settings.clone(), found.ring.as_ref().map(|r| r.cluster_id))?;
    check_folder(&settings)?;
    // All are claimed before any is started: what is refused leaves nothing behind.
    for node in &found.ours {
        nodes.claim(*node)?;
    }
    let places = match (&settings.join, &found.ring) {
        (Some(_), Some(ring)) => join::take_places(&client, &settings, ring, &mut nodes)?,
        (Some(_), None) => return Err(refused("--join: the cluster has no ring any more")),
        (None, _) => Vec::new(),
    };
    let joining: BTreeSet<NodeName> = places.iter().map(|p| p.node).collect();
    if settings.join.is_some() && settings.nodes.is_none() {
        settings.nodes = Some(joining.clone());
    }

    let (words, word) = channel();
    listen_for(signals, words.clone())?;
    let launches = settings.nodes.as_ref().map(|named| named.iter().copied().collect());
    let config = Config { founding: settings.founding.clone(), launches, seed: random as u64 };
    let wishes = words.clone();
    let wish = move |wish| drop(wishes.send(Word::Wish(wish)));
    let cluster_id = nodes.cluster_id();
    let complaint = Complaint::default();
    let hands = Hands::start(
        config,
        client.clone(),
        settings.keys.clone(),
        cluster_id,
        settings.hold_at,
        complaint.clone(),
        wish,
    )?;
    let watches =
        Watches::start(&client, &settings.keys, cluster_id, &hands.events(), &words, complaint.clone())?;

    let stop = Arc::new(AtomicBool::new(false));
    for place in places {
        place.follow(client.clone(), settings.keys.clone(), stop.clone(), words.clone())?;
    }
    let mut launcher = Launcher {
        founders: if found.ring.is_none() { found.ours.iter().copied().collect() } else { BTreeSet::new() },
        ring: found.ring,
        seen: Vec::new(),
        launched: BTreeMap::new(),
        joining,
        ready: Ready::default(),
        strays_due: Instant::now() + STRAYS,
        failed: None,
        complaint,
        settings,
        nodes,
        hands,
    };
    let ended = launcher.run(&word, agent.as_mut());
    stop.store(true, Ordering::Relaxed);
    let stopped = launcher.end(&word, &client);
    drop(watches);
    ended.and(stopped)
}

/// Nodes keep their ring here: that it cannot be is better known before they start.
fn check_folder(settings: &Settings) -> anyhow::Result<()> {
    if settings.memory {
        return Ok(());
    }
    let folder = &settings.data_dir;
    let trial = folder.join(format!(".trial-{}", std::process::id()));
    std::fs::create_dir_all(folder)
        .and_then(|()| File::create(&trial))
        .and_then(|_| std::fs::read_dir(folder).map(drop))
        .and_then(|()| std::fs::remove_file(&trial))
        .map_err(|e| {
            refused(format!(
                "--data-dir {} cannot be used: {e}. Choose another, or --memory to write nothing to disk",
                folder.display()
            ))
        })
}

/// 128 random bits: the identity of a cluster that may be founded, and the seed of pauses.
fn random() -> anyhow::Result<u128> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("no random numbers")?;
    Ok(u128::from_le_bytes(bytes))
}

fn listen_for(mut signals: Signals, words: Sender<Word>) -> anyhow::Result<()> {
    let listen = move || {
        for signal in signals.forever() {
            let _ = words.send(Word::Signal(signal));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).context("no thread")?;
    Ok(())
}

struct Launcher {
    settings: Settings,
    nodes: Nodes,
    hands: Hands,
    /// The last ring that was read; a wiped Consul does not change it.
    ring: Option<Arc<Ring>>,
    seen: Vec<Seen>,
    /// Who is to run while there is no ring.
    founders: BTreeSet<NodeName>,
    /// Who was launched for a signal and is not in the ring yet, and since when.
    launched: BTreeMap<NodeName, Instant>,
    /// Who joins by our own signal.
    joining: BTreeSet<NodeName>,
    ready: Ready,
    strays_due: Instant,
    /// Why it ends, where it was not told to.
    failed: Option<anyhow::Error>,
    /// Of what stands in Consul for the ring.
    complaint: Complaint,
}

impl Launcher {
    /// Until a signal tells it to end.
    fn run(&mut self, word: &Receiver<Word>, mut agent: Option<&mut Agent>) -> anyhow::Result<()> {
        for node in self.wanted() {
            self.nodes.start(node)?;
        }
        loop {
            match word.recv_timeout(LOOK) {
                Ok(Word::Signal(SIGUSR1)) => self.hands.go_on(),
                Ok(Word::Signal(signal)) => {
                    tracing::info!("{}: ends its nodes, then itself", name_of(signal));
                    return Ok(());
                }
                Ok(word) => self.take(word),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    anyhow::bail!("all that the launcher listens to is gone")
                }
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.look_after();
            if let Some(agent) = &mut agent {
                agent.tick();
            }
        }
    }

    fn take(&mut self, word: Word) {
        match word {
            Word::Signal(_) => {}
            Word::Ring(ring) => {
                self.launched.retain(|name, _| ring.node_named(*name).is_none());
                self.ring = Some(ring);
            }
            Word::Seen(seen) => self.seen = seen,
            Word::Wish(Wish::Launch(node)) => self.launch(node),
            Word::Wish(Wish::Stop(node)) => {
                // What others started for a signal is theirs to stop.
                if self.launched.remove(&node).is_some() {
                    self.nodes.stop(node);
                }
            }
            Word::Joined(node, Ok(())) => {
                tracing::info!("{node} has joined");
                self.joining.remove(&node);
            }
            Word::Joined(node, Err(error)) => {
                self.joining.remove(&node);
                self.failed = Some(error);
            }
        }
    }

    /// A signal asks for a node that may be started here.
    fn launch(&mut self, node: NodeName) {
        let here = |seen: &&Seen| {
            let at = &seen.candidate.node;
            self.settings.place(node).is_ok_and(|place| place.host == at.host && place.ports == at.ports)
        };
        let known = self.seen.iter().find(|seen| seen.candidate.node.name == node);
        if let Some(elsewhere) = known.filter(|seen| !here(seen)) {
            let at = &elsewhere.candidate.node;
            let why = format!("it is registered at {}:{} and not healthy there", at.host, at.ports.client);
            return self.not_launched(node, why);
        }
        let done = self.nodes.claim(node).and_then(|()| self.nodes.start(node));
        match done {
            Ok(()) => drop(self.launched.insert(node, Instant::now())),
            Err(error) => self.not_launched(node, format!("{error:#}")),
        }
    }

    /// The signal is answered with the reason, by whoever holds the lock: the orchestrator of this launcher.
    fn not_launched(&self, node: NodeName, why: String) {
        tracing::error!("{node} cannot be launched: {why}");
        // Its queue is full only while Consul is away; then the signal is refused when patience ends.
        let _ = self.hands.events().try_send(Event::NotLaunched(node, why));
    }

    /// The nodes that are to run here.
    fn wanted(&self) -> BTreeSet<NodeName> {
        let mut wanted = match &self.ring {
            Some(ring) => ring.nodes.iter().map(|n| n.name).filter(|n| self.nodes.contains(*n)).collect(),
            None => self.founders.clone(),
        };
        wanted.extend(self.launched.keys().chain(&self.joining));
        wanted
    }

    fn look_after(&mut self) {
        let now = Instant::now();
        let late = |since: &Instant| now.duration_since(*since) >= LAUNCHED;
        for node in self.launched.iter().filter(|(_, since)| late(since)).map(|(n, _)| *n).collect::<Vec<_>>()
        {
            tracing::warn!("{node} was launched and did not get into the ring within {LAUNCHED:?}: stops it");
            self.launched.remove(&node);
            self.nodes.stop(node);
        }
        if now >= self.strays_due {
            self.strays_due = now + STRAYS;
            let ours = self.ring.iter().flat_map(|r| &r.nodes).filter(|n| self.settings.is_ours(n));
            for node in ours.map(|n| n.name).collect::<Vec<_>>() {
                self.nodes.adopt_stray(node);
            }
        }
        self.complaint.remind();
        self.nodes.tick(&self.wanted());
        self.ready.look(self.ring.as_deref(), &self.founders, &self.seen);
    }

    /// Ends all nodes in order, and by force where that takes too long.
    fn end(mut self, word: &Receiver<Word>, client: &Client) -> anyhow::Result<()> {
        self.hands.stop();
        self.nodes.end();
        let all: Vec<NodeName> = self.nodes.running_now().into_iter().map(|(name, _)| name).collect();
        let began = Instant::now();
        let mut killed = false;
        loop {
            self.nodes.tick(&BTreeSet::new());
            let left = self.nodes.running_now();
            if left.is_empty() {
                break;
            }
            if !killed && began.elapsed() >= END {
                killed = true;
                self.nodes.kill();
            }
            if let Ok(Word::Signal(signal @ (SIGINT | SIGTERM))) =
                word.recv_timeout(Duration::from_millis(20))
            {
                let left: Vec<String> =
                    left.iter().map(|(name, pid)| format!("{name} (pid {pid})")).collect();
                tracing::info!("{}: is ending already, waits for {}", name_of(signal), left.join(", "));
            }
        }
        let unclean = self.nodes.unclean();
        for node in &unclean {
            // It could not do so itself.
            if let Err(error) = client.deregister(&self.settings.keys.service_id(*node)) {
                tracing::warn!("{node} could not be deregistered: {error}");
            }
        }
        while !self.hands.is_finished() && began.elapsed() < END {
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::ensure!(unclean.is_empty(), "of {} nodes these did not end in order: {unclean:?}", all.len());
        tracing::info!("all {} nodes have ended", all.len());
        Ok(())
    }
}

fn name_of(signal: i32) -> &'static str {
    if signal == SIGINT { "SIGINT" } else { "SIGTERM" }
}
