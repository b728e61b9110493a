//! What the options mean together, checked.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use ringkv_common::message::Limits;
use ringkv_common::message::fault::DELAY_MS_MAX;
use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Strategy, WEIGHT_DEFAULT, WEIGHT_MAX};
use ringkv_common::ring::orchestrator::Step;
use ringkv_common::ring::plan::{self, Founding};
use ringkv_common::ring::{ClusterId, Node};
use ringkv_server::core::Defaults;

use super::cli::{Balance, Options, Sloppiness};
use super::keys::{DEFAULT_CLUSTER, Keys};
use super::logs::Format;
use super::refused;

/// The most nodes a cluster is founded with: node-99 is the last one whose port can be derived.
pub const SIZE_MAX: u16 = 100;
/// The highest `--port` that leaves room for node-0's ports.
const BASE_MAX: u16 = u16::MAX - 10_000;
/// Replicas of each record, and the most that there can be.
const REPLICAS_DEFAULT: usize = 3;
const REPLICAS_MAX: usize = 16;
/// Percent above the fair share that a node may hold.
const BALANCE_DEFAULT: f64 = 5.0;

/// Where one node listens and is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What others are told.
    pub host: String,
    /// What it listens on.
    pub bind: String,
    /// Its ports.
    pub ports: Ports,
}

/// All that the launcher goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to reach Consul.
    pub consul: consul::Config,
    /// Whether the operator said where it is.
    pub consul_named: bool,
    /// What the cluster is called there.
    pub keys: Keys,
    /// The embedded agent is wanted, and this size where there is none.
    pub dev: Option<u16>,
    /// The size that the operator named.
    pub size: Option<u16>,
    /// A node of the cluster to join.
    pub join: Option<String>,
    /// The nodes to look after; `None`: all that are ours by their address.
    pub nodes: Option<BTreeSet<NodeName>>,
    /// The zone of nodes that are started here.
    pub zone: String,
    /// Their weight.
    pub weight: u32,
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// Nodes keep nothing on disk, not even the ring.
    pub memory: bool,
    /// What a cluster is founded with.
    pub founding: Founding,
    /// How many replicas answer where a request does not say.
    pub quorums: Defaults,
    /// Whether nodes take faults on purpose, and then the delays that they begin with: a row for each node.
    pub faults: Option<Vec<Vec<u32>>>,
    /// Whether the cluster is to be forgotten.
    pub reset: bool,
    /// What messages are held to.
    pub limits: Limits,
    /// How logs look.
    pub logs: Format,
    /// Where the orchestrator is to stop.
    pub hold_at: Option<Step>,
    /// What others are told of nodes started here.
    pub host: String,
    bind: String,
    base: Option<u16>,
    addresses: Vec<(String, u16)>,
}

impl Settings {
    /// Checks the options. `cluster_id` is the identity of a cluster that may be founded.
    pub fn new(options: Options, cluster_id: ClusterId) -> anyhow::Result<Settings> {
        later_releases(&options)?;
        let keys = Keys::new(options.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER)).map_err(refused)?;
        let bind = options.bind.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
        check_bind(&bind, options.insecure_network)?;
        let host = advertised(&options, &bind)?;
        let addresses = addresses(&options)?;
        let size = options.size.or_else(|| u16::try_from(addresses.len()).ok().filter(|n| *n > 0));
        if let Some(size) = size.or(options.dev) {
            check_size(u64::from(size)).map_err(refused)?;
        }
        let env = consul::Config::from_env()?;
        let settings = Settings {
            consul: match &options.consul {
                Some(url) => env.with_address(url).map_err(|e| refused(format!("--consul: {e}")))?,
                None => env,
            },
            consul_named: options.consul.is_some(),
            dev: options.dev,
            size,
            join: options.join.clone(),
            nodes: options.nodes.as_ref().map(|nodes| nodes.iter().map(|n| NodeName(*n)).collect()),
            zone: options.zone.clone().unwrap_or_else(|| host.clone()),
            weight: options.weight.unwrap_or(WEIGHT_DEFAULT),
            data_dir: options
                .data_dir
                .clone()
                .unwrap_or_else(|| PathBuf::from("ringkv-data").join(keys.cluster())),
            memory: options.memory,
            founding: founding(&options, cluster_id),
            quorums: quorums(&options)?,
            faults: faults(&options)?,
            reset: options.reset,
            limits: limits(&options)?,
            logs: options.log_format.unwrap_or_default(),
            hold_at: options.hold_at,
            host,
            bind,
            base: options.port,
            addresses,
            keys,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Where a node listens that is started here.
    pub fn place(&self, node: NodeName) -> anyhow::Result<Place> {
        let (host, bind) = (self.host.clone(), self.bind.clone());
        if let Some((host, port)) = self.addresses.get(usize::from(node.0)) {
            let ports = Ports::of_client_port(*port)
                .ok_or_else(|| refused(format!("{node}: port {port} leaves no room for {port} + 10000")))?;
            return Ok(Place { host: host.clone(), bind, ports });
        }
        let ports = node.ports(self.base).map_err(|e| refused(e.to_string()))?;
        Ok(Place { host, bind, ports })
    }

    /// Whether a node of the ring is one that this machine's launcher looks after.
    pub fn is_ours(&self, node: &Node) -> bool {
        let here = self.place(node.name).is_ok_and(|place| {
            place.host == node.host
                && place.ports == node.ports
                && (self.addresses.is_empty() || local(&place.host, &self.host))
        });
        here && self.nodes.as_ref().is_none_or(|nodes| nodes.contains(&node.name))
    }

    /// The nodes to found a cluster of this size with that are ours.
    pub fn founders(&self, size: u16) -> Vec<NodeName> {
        let ours = |n: &NodeName| {
            let here = self.place(*n).is_ok_and(|place| local(&place.host, &self.host));
            here && self.nodes.as_ref().is_none_or(|nodes| nodes.contains(n))
        };
        (0..size).map(NodeName).filter(ours).collect()
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.weight > WEIGHT_MAX {
            return Err(refused(format!("--weight is {}: it may be 0 to {WEIGHT_MAX}", self.weight)));
        }
        if self.nodes.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(refused("--nodes names no node: give numbers, as in --nodes 0,3"));
        }
        if let Some(base) = self.base.filter(|base| !(1..=BASE_MAX).contains(base)) {
            return Err(refused(format!(
                "--port is {base}: node n needs the ports P + n, P + n + 5000 and P + n + 10000, so P is 1 to {BASE_MAX}"
            )));
        }
        for node in self.nodes.iter().flatten() {
            self.place(*node)?;
        }
        // A trial, so that what could never be founded is refused here and not over and over later.
        let sample = Node {
            name: NodeName(0),
            incarnation: 1,
            host: self.host.clone(),
            ports: Ports::of_client_port(2000).expect("2000 leaves room"),
            zone: self.zone.clone(),
            weight: WEIGHT_DEFAULT,
        };
        plan::found(&self.founding, vec![sample]).map_err(|e| refused(e.to_string()))?;
        Ok(())
    }
}

/// Whether a size can be founded.
pub fn check_size(size: u64) -> Result<u16, String> {
    u16::try_from(size).ok().filter(|size| (1..=SIZE_MAX).contains(size)).ok_or_else(|| wrong_size(size))
}

/// What is said of a size that no cluster has.
pub fn wrong_size(size: impl Display) -> String {
    format!("a cluster is founded with 1 to {SIZE_MAX} nodes, not {size}")
}

fn founding(options: &Options, cluster_id: ClusterId) -> Founding {
    Founding {
        cluster_id,
        strategy: options.mode.unwrap_or(Strategy::Consistent),
        chosen: options.mode.is_some(),
        partitions: options.partitions.unwrap_or(4096),
        replicas: options.replicas.unwrap_or(REPLICAS_DEFAULT),
        balance: options.balance.unwrap_or(Balance(Some(BALANCE_DEFAULT))).0,
    }
}

/// How many replicas answer where a request does not say.
fn quorums(options: &Options) -> anyhow::Result<Defaults> {
    let replicas = options.replicas.unwrap_or(REPLICAS_DEFAULT);
    if !(1..=REPLICAS_MAX).contains(&replicas) {
        return Err(refused(format!("--replicas is {replicas}: it may be 1 to {REPLICAS_MAX}")));
    }
    let checked = |option: &str, wanted: Option<usize>| match wanted {
        Some(n) if !(1..=replicas).contains(&n) => Err(refused(format!(
            "{option} is {n}: of {replicas} replicas 1 to {replicas} can answer; --replicas sets their number"
        ))),
        wanted => Ok(wanted.and_then(|n| u32::try_from(n).ok())),
    };
    Ok(Defaults {
        read: checked("--read-quorum", options.read_quorum)?,
        write: checked("--write-quorum", options.write_quorum)?,
        sloppy: options.quorum.is_none_or(|quorum| quorum == Sloppiness::Sloppy),
    })
}

/// What can be said but not honoured yet is refused, not ignored.
fn later_releases(options: &Options) -> anyhow::Result<()> {
    match &options.durability {
        None => Ok(()),
        Some(wanted) => Err(refused(format!(
            "--durability is {wanted}: it comes with the disk, in a later release; leave it out"
        ))),
    }
}

/// The faults on purpose that each node begins with; `None` where nodes take none.
fn faults(options: &Options) -> anyhow::Result<Option<Vec<Vec<u32>>>> {
    let rows = options.delays.clone().unwrap_or_default();
    if !rows.is_empty() && !options.allow_faults {
        return Err(refused("\"delays\" in the file slow nodes down on purpose: add --allow-faults"));
    }
    for (n, row) in rows.iter().enumerate() {
        if row.len() != rows.len() {
            return Err(refused(format!(
                "\"delays\": the row of node-{n} has {} numbers, there are {} rows: it takes one for each node",
                row.len(),
                rows.len()
            )));
        }
        if let Some(ms) = row.iter().find(|ms| **ms > DELAY_MS_MAX) {
            return Err(refused(format!(
                "\"delays\": node-{n} has one of {ms} ms: 0 to {DELAY_MS_MAX} are allowed"
            )));
        }
    }
    Ok(options.allow_faults.then_some(rows))
}

fn check_bind(bind: &str, insecure: bool) -> anyhow::Result<()> {
    let ip: IpAddr = bind.parse().map_err(|_| {
        refused(format!("--bind is {bind:?}: it takes an IP address of this machine, as 127.0.0.1"))
    })?;
    if !ip.is_loopback() && !insecure {
        return Err(refused(format!(
            "--bind {bind} would let everybody on the network read and write: messages are neither encrypted nor \
             authenticated. Where that is meant, add --insecure-network"
        )));
    }
    Ok(())
}

fn advertised(options: &Options, bind: &str) -> anyhow::Result<String> {
    match &options.advertise {
        Some(host)
            if host.is_empty() || host.contains([':', '/', ' ']) && host.parse::<IpAddr>().is_err() =>
        {
            Err(refused(format!(
                "--advertise is {host:?}: it takes a host name or an address, without a port"
            )))
        }
        Some(host) => Ok(host.clone()),
        None if bind.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) => Err(refused(format!(
            "--bind {bind} is every address of this machine: say by --advertise HOST at which one others reach it"
        ))),
        None => Ok(bind.to_owned()),
    }
}

/// A host name or address, and a port; else, what does not fit.
pub fn host_and_port(text: &str) -> Result<(String, u16), String> {
    const FORM: &str =
        "it takes HOST:PORT, as in 127.0.0.1:2000, and an IPv6 address in brackets: [::1]:2000";
    let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
    let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) if is_ipv6(inner) => inner,
        // Without brackets nobody can tell the port from the address' last group.
        None if !host.is_empty() && !host.contains([':', '[', ']', '/']) => host,
        _ => return Err(FORM.into()),
    };
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse().ok().filter(|port| digits && *port > 0) {
        Some(port) => Ok((host.to_owned(), port)),
        None if port.is_empty() => Err("no port follows the colon; a port is 1 to 65535".into()),
        None => Err(format!("its port is {port}; a port is 1 to 65535")),
    }
}

/// Whether this is an IPv6 address, with or without the zone that a link-local one has.
fn is_ipv6(text: &str) -> bool {
    let ip = text.split_once('%').map_or(text, |(ip, _)| ip);
    ip.parse::<Ipv6Addr>().is_ok()
}

fn addresses(options: &Options) -> anyhow::Result<Vec<(String, u16)>> {
    let one = |(n, text): (usize, &String)| {
        let text = text.trim_start_matches("tcp://");
        host_and_port(text)
            .map_err(|why| refused(format!("\"addresses\": that of node-{n} is {text:?}: {why}")))
    };
    options.addresses.iter().flatten().enumerate().map(one).collect()
}

/// Whether nodes at a host are started by the launcher that advertises the other one.
fn local(host: &str, own: &str) -> bool {
    let loopback =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    host == own || loopback(host)
}

fn limits(options: &Options) -> anyhow::Result<Limits> {
    let usual = Limits::default();
    let limits = Limits {
        value_bytes_max: options.max_value.unwrap_or(usual.value_bytes_max),
        message_bytes_max: options.max_message.unwrap_or(usual.message_bytes_max),
    };
    if limits.value_bytes_max == 0 || limits.message_bytes_max < limits.value_bytes_max.saturating_mul(2) {
        return Err(refused(format!(
            "--max-value {} and --max-message {} do not fit: a message must hold a value twice over",
            limits.value_bytes_max, limits.message_bytes_max
        )));
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> anyhow::Result<Settings> {
        Settings::new(serde_json::from_str(json).expect("options"), ClusterId(1))
    }

    #[test]
    fn without_options_nodes_listen_where_the_original_did() {
        let settings = settings("{}").expect("defaults");
        let place = settings.place(NodeName(12)).expect("below 100");
        assert_eq!((place.host.as_str(), place.ports.client), ("127.0.0.1", 20_012));
        assert!(!settings.founding.chosen && settings.founding.partitions == 4096);
        assert_eq!(settings.founders(3).len(), 3);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_what_to_do() {
        for (json, hint) in [
            (r#"{"bind":"0.0.0.0"}"#, "--insecure-network"),
            (r#"{"bind":"0.0.0.0","insecure-network":true}"#, "--advertise"),
            (r#"{"bind":"localhost"}"#, "127.0.0.1"),
            (r#"{"replicas":0}"#, "--replicas is 0: it may be 1 to"),
            (r#"{"replicas":17}"#, "1 to 16"),
            (r#"{"read-quorum":0}"#, "--read-quorum is 0"),
            (r#"{"replicas":2,"write-quorum":3}"#, "of 2 replicas 1 to 2 can answer"),
            (r#"{"size":0}"#, "1 to 100 nodes"),
            (r#"{"dev":101}"#, "1 to 100 nodes"),
            (r#"{"nodes":[100]}"#, "--port"),
            (r#"{"nodes":[]}"#, "--nodes 0,3"),
            (r#"{"port":0}"#, "P is 1 to 55535"),
            (r#"{"port":55536}"#, "--port is 55536"),
            (r#"{"partitions":100}"#, "a power of two from 64"),
            (r#"{"weight":10001}"#, "0 to 10000"),
            (r#"{"cluster":"a/b"}"#, "letters, digits"),
            (r#"{"delays":[[0]]}"#, "add --allow-faults"),
            (
                r#"{"allow-faults":true,"delays":[[0,1],[1]]}"#,
                "the row of node-1 has 1 numbers, there are 2 rows",
            ),
            (r#"{"allow-faults":true,"delays":[[60001]]}"#, "node-0 has one of 60001 ms: 0 to 60000"),
            (
                r#"{"durability":"fsync"}"#,
                "--durability is fsync: it comes with the disk, in a later release",
            ),
            (r#"{"addresses":["x"]}"#, "HOST:PORT"),
            (r#"{"max-value":67108864}"#, "twice over"),
            (r#"{"consul":"unix:///x"}"#, "--consul"),
            (r#"{"advertise":"h:1"}"#, "without a port"),
        ] {
            let error = settings(json).expect_err(json).to_string();
            assert!(error.contains(hint), "{json}: {error}");
        }
    }

    #[test]
    fn addresses_say_where_nodes_are_and_how_many() {
        let settings = settings(r#"{"addresses":["127.0.0.1:3000","tcp://10.0.0.2:3000","localhost:3005"]}"#)
            .expect("addresses");
        assert_eq!(settings.size, Some(3));
        assert_eq!(settings.founders(3), [NodeName(0), NodeName(2)], "the other is on another machine");
        assert_eq!(settings.place(NodeName(2)).expect("a place").ports.peer, 13_005);
    }

    #[test]
    fn nodes_elsewhere_are_not_ours() {
        let settings = settings(r#"{"port":5000}"#).expect("a base");
        let at = |host: &str, client| Node {
            name: NodeName(1),
            incarnation: 1,
            host: host.into(),
            ports: Ports::of_client_port(client).expect("room"),
            zone: String::new(),
            weight: 100,
        };
        assert!(settings.is_ours(&at("127.0.0.1", 5001)));
        assert!(!settings.is_ours(&at("10.0.0.2", 5001)) && !settings.is_ours(&at("127.0.0.1", 2001)));
    }
}
