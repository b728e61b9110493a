//! The nodes that this launcher looks after: started or adopted, started again when they die, stopped at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ringkv_common::name::NodeName;
use ringkv_common::ring::ClusterId;

use crate::server::node::Args;
use crate::server::process::{self, Exit, Guard, Process};
use crate::server::settings::{Place, Settings};
use crate::server::{ask, refused};

/// The pause before a node that died is started again, doubled with each death, and its bound.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// A node that lived for this long may die as if for the first time.
const SETTLED: Duration = Duration::from_secs(30);
/// How long a node that the ring no longer lists may take to hand over and leave by itself.
const LEAVE: Duration = Duration::from_secs(60);
/// How long a node that does not leave may take to say what it still holds.
const HOLDS: Duration = Duration::from_secs(1);
/// How long a running node may take to say who it is.
const STATUS_PATIENCE: Duration = Duration::from_secs(3);

enum State {
    Running(Process),
    /// It is started when this time comes.
    Due(Instant),
}

struct Managed {
    place: Place,
    _guard: Guard,
    state: State,
    started: Instant,
    pause: Duration,
    /// Since when it is not wanted any more.
    unwanted: Option<Instant>,
}

/// The nodes of one launcher.
pub struct Nodes {
    settings: Settings,
    program: PathBuf,
    all: BTreeMap<NodeName, Managed>,
    /// The cluster that the nodes found running are of.
    cluster_id: Option<ClusterId>,
    ending: bool,
    /// Who did not end in order at the end.
    unclean: Vec<NodeName>,
}

impl Nodes {
    /// None yet. `cluster_id` is that of the ring in Consul, where there is one.
    pub fn new(settings: Settings, cluster_id: Option<ClusterId>) -> anyhow::Result<Nodes> {
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        Ok(Nodes { settings, program, all: BTreeMap::new(), cluster_id, ending: false, unclean: Vec::new() })
    }

    /// Whether the node is one of these.
    pub fn contains(&self, node: NodeName) -> bool {
        self.all.contains_key(&node)
    }

    /// The cluster's identity, by the ring or by the nodes that were found running.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// Who did not end in order after [`Nodes::end`].
    pub fn unclean(&self) -> Vec<NodeName> {
        self.unclean.clone()
    }

    /// Lets go of a node that is claimed and was not started.
    pub fn release(&mut self, node: NodeName) {
        self.all.remove(&node);
    }

    /// Takes a node into care: adopts its process where it runs, or leaves it due to be started. Refuses, and says
    /// who, where another launcher cares for it or somebody else holds one of its ports.
    pub fn claim(&mut self, node: NodeName) -> anyhow::Result<()> {
        if self.all.contains_key(&node) {
            return Ok(());
        }
        let place = self.settings.place(node)?;
        let guard = Guard::take(place.ports.client).map_err(|pid| {
            refused(format!(
                "{node} (port {}) is looked after by another launcher, pid {pid}; end that one first, or choose other \
                 nodes by --nodes",
                place.ports.client
            ))
        })?;
        let state = match self.running(node, &place)? {
            Some(process) => {
                tracing::info!("adopts {node}, pid {}", process.pid());
                State::Running(process)
            }
            None => State::Due(Instant::now()),
        };
        let managed =
            Managed { place, _guard: guard, state, started: Instant::now(), pause: PAUSE.0, unwanted: None };
        self.all.insert(node, managed);
        Ok(())
    }

    /// Adopts a node whose launcher is gone, where it runs; one that does not run is left alone.
    pub fn adopt_stray(&mut self, node: NodeName) {
        if self.contains(node) {
            return;
        }
        let Ok(place) = self.settings.place(node) else { return };
        // Most likely it is another launcher's, and that is as it should be. Looked at from outside: to listen there,
        // if only for a moment, could stop it from starting, and to connect would count as a failed connection.
        if process::is_listened_on(place.ports.client) && !Guard::is_held(place.ports.client) {
            let _ = self.claim(node);
        }
    }

    /// The node's process, where it runs already.
    fn running(&mut self, node: NodeName, place: &Place) -> anyhow::Result<Option<Process>> {
        let ports = [place.ports.client, place.ports.peer, place.ports.http];
        for port in ports {
            let Err(error) = TcpListener::bind((place.bind.as_str(), port)) else { continue };
            if error.kind() != std::io::ErrorKind::AddrInUse {
                return Err(refused(format!("{node} cannot listen on {}:{port}: {error}", place.bind)));
            }
            return self.adopt(node, place, port).map(Some);
        }
        Ok(None)
    }

    fn adopt(&mut self, node: NodeName, place: &Place, port: u16) -> anyhow::Result<Process> {
        let cluster = self.settings.keys.cluster().to_owned();
        let is_it = |args: &[String]| Args::is_node(args, node, &cluster);
        let holder = process::listener(port);
        let said = ask::status(&(place.bind.clone(), place.ports.client), STATUS_PATIENCE).map(|(s, _)| s);
        let pid = said.as_ref().and_then(|s| i32::try_from(s.pid).ok()).or(holder.as_ref().map(|h| h.0));
        let Some(process) = pid.and_then(|pid| Process::adopt(pid, is_it)) else {
            let holder =
                holder.map_or("a process that cannot be seen from here".to_owned(), |(pid, args)| {
                    let command: String = args.join(" ").chars().take(120).collect();
                    format!("pid {pid}, {command}")
                });
            return Err(refused(format!(
                "port {port}, which {node} needs, is in use by {holder}; end that, or choose other ports by --port"
            )));
        };
        if let Some(status) = said {
            self.check_cluster(node, process.pid(), &status)?;
        }
        Ok(process)
    }

    /// A node of another cluster, or of another Consul, is nobody to adopt.
    fn check_cluster(
        &mut self,
        node: NodeName,
        pid: i32,
        status: &ringkv_server::core::Status,
    ) -> anyhow::Result<()> {
        let url = &self.settings.consul.url;
        if status.consul != *url {
            return Err(refused(format!(
                "{node} runs (pid {pid}) and goes by the Consul at {}, this launcher by {url}; end it, or use --consul {}",
                status.consul, status.consul
            )));
        }
        let Some(id) = status.cluster_id else { return Ok(()) };
        let expected = *self.cluster_id.get_or_insert(id);
        if id != expected {
            return Err(refused(format!(
                "{node} runs (pid {pid}) in the cluster {id}, the ring is of the cluster {expected}; nothing was \
                 changed. End the node, or put its cluster's ring back into Consul"
            )));
        }
        Ok(())
    }

    /// Starts what is due, sees what died, and lets go of what is not wanted any more. Call it a few times a second.
    pub fn tick(&mut self, wanted: &BTreeSet<NodeName>) {
        let now = Instant::now();
        let (settings, program, ending) = (&self.settings, &self.program, self.ending);
        let unclean = &mut self.unclean;
        self.all.retain(|name, node| {
            let keep = wanted.contains(name) && !ending;
            if node.tick(*name, keep, now).is_some_and(|exit| !exit.is_clean()) && ending {
                unclean.push(*name);
            }
            match node.state {
                State::Due(_) if !keep => false,
                State::Due(when) if when <= now => {
                    node.start(*name, program, settings, now);
                    true
                }
                _ => true,
            }
        });
    }

    /// Starts a node that is due at once, and says why it could not.
    pub fn start(&mut self, name: NodeName) -> anyhow::Result<()> {
        let Some(node) = self.all.get_mut(&name) else { return Ok(()) };
        if matches!(node.state, State::Due(_)) {
            let process = launch(name, &node.place, &self.program, &self.settings)
                .with_context(|| format!("cannot start {name}"))?;
            tracing::info!("started {name}, pid {}, port {}", process.pid(), node.place.ports.client);
            (node.state, node.started) = (State::Running(process), Instant::now());
        }
        Ok(())
    }

    /// Asks a node to end.
    pub fn stop(&mut self, name: NodeName) {
        if let Some(State::Running(process)) = self.all.get(&name).map(|n| &n.state) {
            process.terminate();
        }
    }

    /// Asks all nodes to end; none is started any more.
    pub fn end(&mut self) {
        self.ending = true;
        for name in self.all.keys().copied().collect::<Vec<_>>() {
            self.stop(name);
        }
    }

    /// Ends those that did not listen.
    pub fn kill(&mut self) {
        for (name, node) in &self.all {
            if let State::Running(process) = &node.state {
                tracing::error!("{name}, pid {}, did not end when it was asked to: kills it", process.pid());
                process.kill();
            }
        }
    }

    /// The nodes that run, with their pids.
    pub fn running_now(&self) -> Vec<(NodeName, i32)> {
        let pid = |node: &Managed| if let State::Running(p) = &node.state { Some(p.pid()) } else { None };
        self.all.iter().filter_map(|(name, node)| Some((*name, pid(node)?))).collect()
    }
}

impl Managed {
    /// Looks at its process, and returns how that ended, where it did.
    fn tick(&mut self, name: NodeName, keep: bool, now: Instant) -> Option<Exit> {
        let State::Running(process) = &mut self.state else { return None };
        if let Some(exit) = process.exit() {
            if !keep {
                tracing::info!("{name} has ended: {exit}");
                self.state = State::Due(now);
                return Some(exit);
            }
            if now.duration_since(self.started) >= SETTLED {
                self.pause = PAUSE.0;
            }
            // One that ends by itself and in order is no loss: its name was removed, and added again before it had ended.
            if exit.was_meant() {
                tracing::info!("{name} has ended ({exit}): starts it again in {:?}", self.pause);
            } else {
                tracing::error!("{name} died ({exit}): starts it again in {:?}", self.pause);
            }
            self.state = State::Due(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSE.1);
            return Some(exit);
        }
        self.unwanted = if keep { None } else { Some(self.unwanted.unwrap_or(now)) };
        if self.unwanted.is_some_and(|since| now.duration_since(since) >= LEAVE) {
            self.unwanted = Some(now);
            // What a removed node still holds may be the only copy: its owners have not taken it yet.
            match ask::status(&(self.place.host.clone(), self.place.ports.client), HOLDS) {
                Some((status, _)) if status.stored > 0 => tracing::warn!(
                    "{name} is not in the ring and still holds {} records that their owners have not taken: it stays",
                    status.stored
                ),
                _ => {
                    tracing::warn!("{name} is not in the ring and did not leave within {LEAVE:?}: stops it");
                    process.terminate();
                }
            }
        }
        None
    }

    fn start(&mut self, name: NodeName, program: &PathBuf, settings: &Settings, now: Instant) {
        match launch(name, &self.place, program, settings) {
            Ok(process) => {
                tracing::info!("started {name}, pid {}, port {}", process.pid(), self.place.ports.client);
                (self.state, self.started) = (State::Running(process), now);
            }
            Err(error) => {
                tracing::error!("cannot start {name}: {error}; tries again in {:?}", self.pause);
                self.state = State::Due(now + self.pause);
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// A process group of its own: Ctrl-C at the launcher reaches the launcher, which then ends its nodes in order.
fn launch(name: NodeName, place: &Place, program: &PathBuf, settings: &Settings) -> std::io::Result<Process> {
    use std::os::unix::process::CommandExt as _;
    Process::start(
        Command::new(program)
            .args(Args::write(name, place, settings))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0),
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_node_that_another_launcher_cares_for_is_not_disturbed_however_often_it_is_looked_for() {
        let free = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = |l: &TcpListener| l.local_addr().expect("bound").port();
        // Two ports follow from it, 10,000 above at most.
        let node = std::iter::repeat_with(free).find(|l| port(l) < 50_000).expect("there is no end");
        let port = port(&node);
        node.set_nonblocking(true).expect("a flag");
        let options = serde_json::from_value(serde_json::json!({"port": port})).expect("options");
        let settings = Settings::new(options, ClusterId(1)).expect("settings");
        let mut nodes = Nodes::new(settings, None).expect("none yet");
        let _others = Guard::take(port).expect("nobody has it");
        for _ in 0..10 {
            nodes.adopt_stray(NodeName(0));
        }
        assert!(!nodes.contains(NodeName(0)));
        // Each connection that says nothing would be counted there as one that failed, and logged.
        assert_eq!(node.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
    }
}
