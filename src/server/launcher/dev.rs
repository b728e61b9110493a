//! `--dev`: the embedded Consul agent, started where none answers.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use consul::{Client, Config, Error};

use crate::server::process::{self, Guard, Process};
use crate::server::settings::{Settings, host_and_port};
use crate::server::{AGENT, agent, refused};

/// How long an agent may take to answer.
const START: Duration = Duration::from_secs(10);

/// An agent that ends with this launcher, if the launcher ends in order.
pub struct Agent {
    process: Process,
    _guard: Guard,
}

impl Agent {
    /// Starts an agent where none answers. One that a killed launcher left is adopted; any other is left to whoever
    /// started it.
    pub fn ensure(settings: &Settings) -> anyhow::Result<Option<Agent>> {
        let url = &settings.consul.url;
        let address = url.strip_prefix("http://").filter(|a| host_and_port(a).is_some());
        let client = Client::new(Config { timeout: Duration::from_secs(2), ..settings.consul.clone() })?;
        match client.leader() {
            Ok(_) => {
                let port = address.and_then(host_and_port).map(|(_, port)| port);
                return Ok(port.and_then(|port| Agent::adopt(port, settings)));
            }
            Err(Error::Unreachable { maybe_done: false, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(address) = address else {
            return Err(refused(format!(
                "--dev starts an agent at http://HOST:PORT only, Consul is to be at {url}"
            )));
        };
        Agent::start(address, settings, &client).map(Some)
    }

    fn start(address: &str, settings: &Settings, client: &Client) -> anyhow::Result<Agent> {
        use std::os::unix::process::CommandExt as _;
        let (_, port) = host_and_port(address).expect("checked by the caller");
        let guard = Guard::take(port).map_err(|pid| {
            refused(format!("another launcher, pid {pid}, is starting an agent at {address}"))
        })?;
        let folder = folder(settings);
        let program = std::env::current_exe().context("cannot tell which program this is")?;
        let mut command = Command::new(program);
        command.args(agent::arguments(address, &folder, settings.logs));
        // It outlives a launcher that is killed, and Ctrl-C is the launcher's.
        command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        let process = Process::start(&mut command).context("cannot start the embedded Consul agent")?;
        let mut agent = Agent { process, _guard: guard };
        let end = Instant::now() + START;
        while client.leader().ok().flatten().is_none() {
            if let Some(exit) = agent.process.exit() {
                return Err(refused(format!("the embedded Consul agent did not start ({exit})")));
            }
            if Instant::now() >= end {
                return Err(refused(format!(
                    "the embedded Consul agent did not answer at {address} within {START:?}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(agent)
    }

    fn adopt(port: u16, settings: &Settings) -> Option<Agent> {
        let folder = folder(settings);
        let ours = |args: &[String]| {
            let folder = folder.to_string_lossy();
            args.get(1).is_some_and(|part| part == AGENT) && args.iter().any(|arg| *arg == folder)
        };
        let (pid, args) = process::listener(port)?;
        if !ours(&args) {
            return None;
        }
        let guard = Guard::take(port).ok()?;
        let process = Process::adopt(pid, ours)?;
        tracing::info!("adopts the embedded Consul agent, pid {pid}");
        Some(Agent { process, _guard: guard })
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

/// Where the agent keeps its state: in full, because it also tells whose agent it is.
fn folder(settings: &Settings) -> PathBuf {
    let folder = settings.data_dir.join("agent");
    std::path::absolute(&folder).unwrap_or(folder)
}
