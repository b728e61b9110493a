//! A Consul for one test: the embedded agent, or the real one where the test asks for it and there is one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use consul::agent::{Agent, Handle};
use consul::{CheckStatus, Client, Config, Instance};

use super::ports::free_ports;
use super::until;

/// A running Consul.
pub struct Consul {
    /// As `--consul` takes it.
    pub url: String,
    pub client: Client,
    kind: Kind,
    folder: tempfile::TempDir,
}

enum Kind {
    Embedded(Option<Handle>),
    Real { binary: PathBuf, ports: [u16; 4], agent: Option<Child> },
}

impl Consul {
    /// The embedded agent.
    pub fn embedded() -> Consul {
        let folder = tempfile::tempdir().unwrap();
        let handle =
            Agent::bind("127.0.0.1:0", Some(folder.path().join("0"))).unwrap().spawn_thread().unwrap();
        Consul::new(handle.url(), Kind::Embedded(Some(handle)), folder)
    }

    /// The real one, or `None` after saying so. `RINGKV_REQUIRE_CONSUL=1` makes its absence a failure.
    pub fn real(test: &str) -> Option<Consul> {
        let Some(binary) = binary() else {
            let required = std::env::var("RINGKV_REQUIRE_CONSUL").is_ok_and(|value| value == "1");
            let why = "no consul on the PATH or in $CONSUL_BIN";
            assert!(!required, "{test}: {why}, and RINGKV_REQUIRE_CONSUL asks for one");
            // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
            let _ = writeln!(std::io::stderr(), "skipped against a real Consul: {test} ({why})");
            return None;
        };
        // A free port may be taken before Consul takes it: then others are tried.
        for _ in 0..5 {
            let ports = free_ports();
            let kind = Kind::Real { binary: binary.clone(), ports, agent: None };
            let url = format!("http://127.0.0.1:{}", ports[0]);
            let mut consul = Consul::new(url, kind, tempfile::tempdir().unwrap());
            if consul.try_start() {
                return Some(consul);
            }
        }
        panic!("{} does not start", binary.display());
    }

    fn new(url: String, kind: Kind, folder: tempfile::TempDir) -> Consul {
        let client = Client::new(Config::parse(&url).unwrap()).unwrap();
        Consul { url, client, kind, folder }
    }

    /// Ends it. All requests to it are refused from now on.
    pub fn stop(&mut self) {
        match &mut self.kind {
            Kind::Embedded(handle) => drop(handle.take()),
            Kind::Real { agent, .. } => drop(agent.take().map(end)),
        }
    }

    /// Ends it and starts it again at the same address, with nothing in it.
    pub fn wipe(&mut self) {
        self.stop();
        until("an empty Consul", || self.try_start().then_some(()));
    }

    /// Starts it again after [`Consul::stop`], the embedded one with all it had.
    pub fn start(&mut self) {
        let Kind::Embedded(handle) = &mut self.kind else { panic!("the real one forgets all when it ends") };
        let address = self.url.trim_start_matches("http://");
        let folder = self.folder.path().join("0");
        let agent = until("free port", || Agent::bind(address, Some(folder.clone())).ok());
        *handle = Some(agent.spawn_thread().unwrap());
    }

    /// Starts it with nothing in it.
    fn try_start(&mut self) -> bool {
        match &mut self.kind {
            Kind::Embedded(handle) => {
                let _ = std::fs::remove_dir_all(self.folder.path().join("0"));
                let address = self.url.trim_start_matches("http://");
                *handle = Agent::bind(address, Some(self.folder.path().join("0")))
                    .ok()
                    .map(|agent| agent.spawn_thread().unwrap());
                handle.is_some()
            }
            Kind::Real { binary, ports, agent } => {
                let mut child = spawn(binary, ports);
                let up = until("answer of Consul, or its end", || match child.try_wait().unwrap() {
                    Some(_) => Some(false),
                    None => self.client.leader().ok().flatten().map(|_| true),
                });
                *agent = Some(child);
                up
            }
        }
    }

    /// A key's value as text.
    pub fn get(&self, key: &str) -> Option<String> {
        let entry = self.client.get(key).unwrap()?;
        Some(String::from_utf8(entry.value).expect("text"))
    }

    pub fn put(&self, key: &str, value: &str) {
        self.client.put(key, value).unwrap();
    }

    /// A key's value as JSON.
    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.get(key).map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    /// The epoch of the ring under this key; 0 without one.
    pub fn epoch(&self, key: &str) -> u64 {
        self.json(key).map_or(0, |ring| ring["epoch"].as_u64().expect("a number"))
    }

    /// Instances of a service.
    pub fn instances(&self, service: &str) -> Vec<Instance> {
        self.client.instances(service, false).unwrap()
    }

    /// The ids of the instances that are healthy.
    pub fn healthy(&self, service: &str) -> Vec<String> {
        let passing = |i: &Instance| i.status() == CheckStatus::Passing;
        self.instances(service).into_iter().filter(passing).map(|i| i.service.id).collect()
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The real binary, where there is one.
fn binary() -> Option<PathBuf> {
    if let Ok(path) = std::env::var("CONSUL_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "CONSUL_BIN names {}, which is no file", path.display());
        return Some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("consul")).find(|file| file.is_file())
}

/// The agent under a shell that ends it when our end of its input closes: so it ends with us, however we end.
fn spawn(binary: &std::path::Path, ports: &[u16; 4]) -> Child {
    let [http, lan, wan, server] = ports;
    let hcl = format!(
        r#"ports {{ http = {http}, dns = -1, grpc = -1, serf_lan = {lan}, serf_wan = {wan}, server = {server} }}"#
    );
    // The agent's own input is not the shell's, and the shell ends when the agent does.
    let script = r#"exec 3<&0
        "$0" agent -dev -bind 127.0.0.1 -client 127.0.0.1 -log-level err -hcl "$1" </dev/null &
        agent=$!
        (read -r _ <&3; kill -9 $agent) &
        wait $agent"#;
    Command::new("sh")
        .args(["-c", script])
        .arg(binary)
        .arg(hcl)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn end(mut agent: Child) {
    drop(agent.stdin.take());
    let _ = agent.wait();
}
