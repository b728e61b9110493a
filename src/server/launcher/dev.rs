//! `--dev`: the embedded Consul agent, started where none answers.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use consul::{Client, Config, Error};

use crate::server::logs::Format;
use crate::server::process::{self, Guard, Process};
use crate::server::settings::{Settings, host_and_port};
use crate::server::{AGENT, agent, refused};

/// How long an agent may take to answer.
const START: Duration = Duration::from_secs(10);
/// The pause before an agent that died is started again, doubled with each death, and its bound.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// An agent that lived for this long may die as if for the first time.
const SETTLED: Duration = Duration::from_secs(30);

/// An agent that ends with this launcher, if the launcher ends in order, and is started again when it dies.
pub struct Agent {
    how: How,
    process: Process,
    started: Instant,
    pause: Duration,
    /// When a dead one is started again.
    due: Option<Instant>,
    _guard: Guard,
}

/// How it is started.
struct How {
    /// HOST:PORT.
    address: String,
    port: u16,
    /// In full, because it also tells whose agent it is.
    folder: PathBuf,
    logs: Format,
}

impl How {
    fn start(&self) -> anyhow::Result<Process> {
        use std::os::unix::process::CommandExt as _;
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut command = Command::new(program);
        command.args(agent::arguments(&self.address, &self.folder, self.logs));
        // It outlives a launcher that is killed, and Ctrl-C is the launcher's.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        Process::start(&mut command).context("cannot start the embedded Consul agent")
    }
}

impl Agent {
    /// Starts an agent where none answers. One that a killed launcher left is adopted; any other is left to whoever
    /// started it.
    pub fn ensure(settings: &Settings) -> anyhow::Result<Option<Agent>> {
        let url = &settings.consul.url;
        let address = url.strip_prefix("http://").filter(|a| host_and_port(a).is_ok());
        let client = Client::new(Config { timeout: Duration::from_secs(2), ..settings.consul.clone() })?;
        match client.leader() {
            Ok(_) => {
                return Ok(address.and_then(|address| Agent::adopt(how(address, settings))));
            }
            Err(Error::Unreachable { maybe_done: false, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(address) = address else {
            return Err(refused(format!(
                "--dev starts an agent at http://HOST:PORT only, Consul is to be at {url}"
            )));
        };
        Agent::start(how(address, settings), &client).map(Some)
    }

    fn new(how: How, process: Process, guard: Guard) -> Agent {
        Agent { how, process, started: Instant::now(), pause: PAUSE.0, due: None, _guard: guard }
    }

    fn start(how: How, client: &Client) -> anyhow::Result<Agent> {
        let guard = Guard::take(how.port).map_err(|pid| {
            refused(format!("another launcher, pid {pid}, is starting an agent at {}", how.address))
        })?;
        let process = how.start()?;
        let mut agent = Agent::new(how, process, guard);
        let end = Instant::now() + START;
        while client.leader().ok().flatten().is_none() {
            if let Some(exit) = agent.process.exit() {
                return Err(refused(format!("the embedded Consul agent did not start ({exit})")));
            }
            if Instant::now() >= end {
                return Err(refused(format!(
                    "the embedded Consul agent did not answer at {} within {START:?}",
                    agent.how.address
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    fn adopt(how: How) -> Option<Agent> {
        let ours = |args: &[String]| {
            let folder = how.folder.to_string_lossy();
            args.get(1).is_some_and(|part| part == AGENT) && args.iter().any(|arg| *arg == folder)
        };
        let (pid, args) = process::listener(how.port)?;
        if !ours(&args) {
            return None;
        }
        let guard = Guard::take(how.port).ok()?;
        let process = Process::adopt(pid, ours)?;
        tracing::info!("adopts the embedded Consul agent, pid {pid}");
        Some(Agent::new(how, process, guard))
    }

    /// Sees that it died, and starts it again when its pause is over: nodes serve on meanwhile, by the last ring. Where
    /// somebody else listens at its port by then, it waits for that one's end. Call it a few times a second.
    pub fn tick(&mut self) {
        let now = Instant::now();
        match self.due {
            None => {
                let Some(exit) = self.process.exit() else { return };
                if now.duration_since(self.started) >= SETTLED {
                    self.pause = PAUSE.0;
                }
                tracing::error!(
                    "the embedded Consul agent has ended ({exit}), starts it again in {:?}",
                    self.pause
                );
                self.wait(now);
            }
            Some(due) if due > now => {}
            Some(_) if process::is_listened_on(self.how.port) => self.due = Some(now + PAUSE.1),
            Some(_) => match self.how.start() {
                Ok(process) => (self.process, self.started, self.due) = (process, now, None),
                Err(error) => {
                    tracing::error!("{error:#}; tries again in {:?}", self.pause);
                    self.wait(now);
                }
            },
        }
    }

    fn wait(&mut self, now: Instant) {
        self.due = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.terminate();
        let end = Instant::now() + START;
        while self.process.exit().is_none() {
            if Instant::now() >= end {
                tracing::error!("the embedded Consul agent, pid {}, does not end", self.process.pid());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn how(address: &str, settings: &Settings) -> How {
    let folder = settings.data_dir.join("agent");
    How {
        address: address.to_owned(),
        port: host_and_port(address).map_or(0, |(_, port)| port),
        folder: std::path::absolute(&folder).unwrap_or(folder),
        logs: settings.logs,
    }
}
