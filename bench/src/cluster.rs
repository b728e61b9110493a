//! A whole cluster as users run it, for the row about moves: an agent, a launcher with its orchestrator, nodes.
//!
//! The launcher is `server_consumer` itself, started as this program with another first argument, and nodes are
//! added and removed by the same signals that `consul kv put` writes.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use consul::agent::{Agent, Handle};
use consul::{Client, Query};
use ringkv_common::name::NodeName;
use ringkv_common::ring::{Outcome, Phase, Ring, Verdict};
use ringkv_server::core::Status;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::asking::{Asker, until};
use crate::process::{family_cpu, free_base};

/// The first argument that makes this program a launcher.
pub const LAUNCHER: &str = "server_consumer";
/// The first argument with which a launcher starts a node.
pub const NODE: &str = "node";
/// How long a move may take.
const MOVE_MAX: Duration = Duration::from_secs(600);

/// A running cluster of one node or two.
pub struct Cluster {
    launcher: Child,
    consul: Client,
    agent: Option<Handle>,
    context: zmq::Context,
    port: u16,
    folder: TempDir,
}

/// When a change went through which epoch of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// New owners began to copy.
    pub copy: Instant,
    /// They had all, and began to compare.
    pub both: Instant,
    /// They had compared all, and reads began to follow them.
    pub switch: Instant,
    /// They alone own what they gained.
    pub done: Instant,
    /// The former owner had it taken over and has dropped it.
    pub handed_over: Instant,
    /// Records that changed their owner.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Cluster {
    /// Founds a cluster of one node.
    pub fn start() -> Result<Cluster> {
        let agent = Agent::bind("127.0.0.1:0", None)?.spawn_thread()?;
        let consul = Client::new(consul::Config::parse(&agent.url())?)?;
        consul.put("cluster_size", "1")?;
        let folder = tempfile::tempdir()?;
        let port = free_base(2)?;
        let log = File::create(folder.path().join("log"))?;
        let launcher = Command::new(std::env::current_exe()?)
            .args([LAUNCHER, "--consul", &agent.url(), "--port", &port.to_string(), "--replicas", "1"])
            .arg("--data-dir")
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let context = zmq::Context::new();
        let cluster = Cluster { launcher, consul, agent: Some(agent), context, port, folder };
        let ready = |status: &Status| status.epoch > 0;
        cluster.until("node-0 to serve", || Ok(cluster.status(0).ok().filter(ready)))?;
        Ok(cluster)
    }

    /// Where a node serves clients.
    pub fn port(&self, node: u16) -> u16 {
        self.port + node
    }

    /// Adds node-1, or removes it, and follows the change to its end. `check` is asked again and again meanwhile.
    pub fn change(&self, op: &str, keys: u64, check: impl Fn() -> Result<()>) -> Result<Move> {
        let before = self.ring(0)?.0;
        let index = self.ring(0)?.1;
        let removed = if op == "remove" { Some(self.status(1)?) } else { None };
        self.consul.put("ringkv/signals/node-1", op)?;
        let [copy, both, switch, done] = self.follow(index, before.epoch, &check)?;
        let result = self.until("the result", || Ok(self.consul.get("ringkv/results/node-1")?))?;
        let result: Outcome = serde_json::from_slice(&result.value)?;
        ensure!(result.outcome == Verdict::Done, "{op} node-1: {}", result.message);
        // Of what moved the giver still holds its copy; all is handed over when nothing is held twice.
        let added = self.until("all to be handed over", || {
            check()?;
            let [zero, one] = [self.status(0)?, self.status(1)?];
            Ok((zero.stored + one.stored == keys).then_some(one))
        })?;
        let moved = removed.unwrap_or(added);
        let handed_over = Instant::now();
        Ok(Move { copy, both, switch, done, handed_over, records: moved.stored, bytes: moved.bytes })
    }

    /// When which epoch was seen in Consul.
    fn follow(
        &self,
        mut index: u64,
        mut epoch: u64,
        check: &impl Fn() -> Result<()>,
    ) -> Result<[Instant; 4]> {
        let began = Instant::now();
        let mut seen = Vec::new();
        while seen.len() < 4 {
            check()?;
            ensure!(began.elapsed() < MOVE_MAX, "the move is not through after {MOVE_MAX:?}{}", self.said());
            let (ring, at) = self.ring(index)?;
            index = at;
            if ring.epoch == epoch {
                continue;
            }
            let phase = ring.change.as_ref().map(|change| change.phase);
            let expected = [Some(Phase::Copy), Some(Phase::Both), Some(Phase::Switch), None][seen.len()];
            ensure!(
                ring.epoch == epoch + 1 && phase == expected,
                "{phase:?} in epoch {} behind {epoch}, expected {expected:?}{}",
                ring.epoch,
                self.said()
            );
            epoch = ring.epoch;
            seen.push(Instant::now());
        }
        Ok([seen[0], seen[1], seen[2], seen[3]])
    }

    /// The ring and its index; waits up to a second for one after `index`.
    fn ring(&self, index: u64) -> Result<(Ring, u64)> {
        let query = Query { consistent: true, index, wait: Duration::from_secs(1) };
        let read = self.consul.get_with("ringkv/ring", &query)?;
        let entry = read.value.context("there is no ring")?;
        Ok((Ring::from_json(&entry.value)?, read.index))
    }

    /// Waits until the process of node-1 has ended after its removal: only then it may be added again.
    pub fn await_exit(&self) -> Result<()> {
        self.until("the removed node to end", || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", self.port(1))).is_err().then_some(()))
        })
    }

    /// The CPU time of launcher and nodes, those that have ended included.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = family_cpu(self.launcher.id())?;
        // A node that is not there has none.
        for node in [0, 1].iter().filter_map(|node| self.status(*node).ok()) {
            total += family_cpu(node.pid)?;
        }
        Ok(total)
    }

    /// How a node stands.
    pub fn status(&self, node: u16) -> Result<Status> {
        std::net::TcpStream::connect(("127.0.0.1", self.port(node)))?;
        Asker::connect(&self.context, NodeName(node), self.port(node))?.status()
    }

    fn until<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        until(what, look).with_context(|| format!("a cluster under measurement{}", self.said()))
    }

    /// The end of what launcher and nodes logged.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("; the log ends with\n{}", lines[lines.len().saturating_sub(12)..].join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A launcher that is asked to end has its nodes end first; killed, it would leave them.
        if let Ok(pid) = i32::try_from(self.launcher.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let status = self.launcher.wait();
        if status.is_ok_and(|s| s.signal().is_none() && !s.success()) {
            eprintln!("the launcher failed{}", self.said());
        }
        if let Some(agent) = self.agent.take() {
            let _ = agent.stop();
        }
    }
}

/// Has this process asked to end, as by Ctrl-C, when whoever started it is gone.
pub fn terminate_with_parent() {
    crate::serve::with_parent_gone(|| {
        let _ = kill_process(rustix::process::getpid(), Signal::TERM);
    });
}
