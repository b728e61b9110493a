//! Launchers and their nodes, as processes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;

use super::{Consul, Ports, kill, until};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_server_consumer");

/// A Consul, ports, and a scratch folder: where a test's launchers live.
pub struct World {
    pub consul: Consul,
    pub ports: Ports,
    pub folder: tempfile::TempDir,
    started: std::cell::Cell<usize>,
}

impl World {
    /// With an embedded Consul in which `cluster_size` is set.
    pub fn of_size(size: u16) -> World {
        let world = World::with(Consul::embedded());
        world.consul.put("cluster_size", &size.to_string());
        world
    }

    pub fn with(consul: Consul) -> World {
        let folder = tempfile::tempdir().unwrap();
        World { consul, ports: Ports::reserve(), folder, started: std::cell::Cell::new(0) }
    }

    /// The client port of a node of this world.
    pub fn port(&self, n: u16) -> u16 {
        self.ports.base + n
    }

    /// A node's STATUS.
    pub fn status(&self, n: u16) -> Option<serde_json::Value> {
        super::ask(self.port(n), &serde_json::json!({"op": "STATUS"}))
    }

    /// Starts `server_consumer` with `--consul` and `--port` of this world, and these arguments. Without `--replicas` it is
    /// one: what a lost memory costs, and what of a change is seen then, only a single owner shows.
    pub fn launch(&self, args: &[&str]) -> Launcher {
        let port = self.ports.base.to_string();
        let one: &[&str] = if args.contains(&"--replicas") { &[] } else { &["--replicas", "1"] };
        self.run(&[&["--consul", &self.consul.url, "--port", &port], one, args].concat())
    }

    /// Starts a launcher and waits until it says that so many nodes are ready.
    pub fn launch_ready(&self, args: &[&str], nodes: usize) -> Launcher {
        let launcher = self.launch(args);
        launcher.ready(nodes);
        launcher
    }

    /// Starts `server_consumer` with these arguments alone.
    pub fn run(&self, args: &[&str]) -> Launcher {
        self.run_with(args, None)
    }

    /// [`World::run`] with a standard error of the test's own.
    pub fn run_with(&self, args: &[&str], stderr: Option<Stdio>) -> Launcher {
        let n = self.started.replace(self.started.get() + 1);
        let (out, err) =
            (self.folder.path().join(format!("{n}.out")), self.folder.path().join(format!("{n}.err")));
        let mut command = Command::new(PROGRAM);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE", "CONSUL_HTTP_SSL"] {
            command.env_remove(name);
        }
        // Files, because nodes that outlive their launcher would keep a pipe open.
        let file = File::create(&err).unwrap();
        let stderr = stderr.unwrap_or_else(|| file.into());
        let child = command.stdout(File::create(&out).unwrap()).stderr(stderr).spawn().unwrap();
        Launcher { child, out, err }
    }

    /// Runs `server_consumer` to its end, which must be a refusal, and returns what it said.
    pub fn refused(&self, args: &[&str]) -> String {
        let mut launcher = self.launch(args);
        let status = launcher.end();
        let said = launcher.stderr();
        assert_eq!(status.code(), Some(2), "{args:?}: {said}");
        assert!(pids_of(&self.consul.url).is_empty(), "{args:?} left a node behind");
        said
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for n in 0..self.started.get() {
                let text = |end: &str| fs::read_to_string(self.folder.path().join(format!("{n}.{end}")));
                let (out, err) = (text("out").unwrap_or_default(), text("err").unwrap_or_default());
                eprintln!("--- launcher {n} said:\n{out}--- and on standard error:\n{err}");
            }
        }
        // Launchers are children of the test and ended by now; what is left are nodes whose launcher was killed.
        for pid in pids_of(&self.consul.url).into_iter().chain(pids_of(&self.folder.path().to_string_lossy()))
        {
            kill(pid, Signal::KILL);
        }
    }
}

/// A launcher's process. It is killed at the end of the test, and with it what it started.
pub struct Launcher {
    child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Launcher {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    /// Waits until it says that so many nodes are ready; it may have said so of fewer before.
    pub fn ready(&self, nodes: usize) {
        self.said(&format!("ready: {nodes} of {nodes} nodes"));
    }

    /// Waits for a line on its standard output, and returns how often it is there.
    pub fn said(&self, line: &str) -> usize {
        let count = || self.stdout().lines().filter(|l| *l == line).count();
        until(line, || Some(count()).filter(|n| *n > 0))
    }

    /// Waits for some text on its standard error.
    pub fn logged(&self, text: &str) {
        until(text, || self.stderr().contains(text).then_some(()));
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let child = &mut self.child;
        until("end of the launcher", || child.try_wait().unwrap())
    }

    /// Ends it in order, which must succeed.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let status = self.end();
        assert!(status.success(), "{status}: {}", self.stderr());
    }

    /// Kills it; its nodes live on.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.end();
    }

    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes whose command lines say this, but for launchers: nodes and agents.
pub fn pids_of(text: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let part = line.split('\0').nth(1).unwrap_or_default().to_owned();
        (part == "node" || part == "agent") && line.contains(text)
    })
    .collect()
}

/// The process of one node of a Consul's cluster.
pub fn node_pid(consul: &str, n: u16) -> Option<i32> {
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').nth(2) == Some(&format!("node-{n}"))
    };
    pids_of(consul).into_iter().find(is_it)
}
