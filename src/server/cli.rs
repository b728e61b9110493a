//! The options of `server_consumer`, from the command line and from a file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use ringkv_common::placement::Strategy;
use ringkv_common::ring::orchestrator::Step;
use serde::{Deserialize, Deserializer};

use super::logs::Format;
use super::refused;

/// Nodes of a development cluster whose size nobody said.
const DEV_SIZE: u16 = 4;

/// Starts the nodes of a ringkv cluster, watches over them, and carries out changes of the ring.
#[derive(Clone, Debug, Default, Parser, Deserialize)]
#[command(name = "server_consumer", version, max_term_width = 110, args_override_self = true, after_help = EXAMPLES)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Number of nodes to found the cluster with: sets `cluster_size` where it is unset, refuses where it differs
    pub size: Option<u16>,
    /// A JSON file with any of these options, as in {"nodes": [0, 3], "port": 5000}, and "addresses": a HOST:PORT for each node and with --allow-faults "delays": for each node the average milliseconds that its messages to each node take
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Where Consul is [default: CONSUL_HTTP_ADDR, or http://127.0.0.1:8500]
    #[arg(long, value_name = "URL")]
    pub consul: Option<String>,
    /// The cluster's name: several may live in one Consul [default: ringkv]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// For development: start the embedded Consul agent where none answers, and set `cluster_size` to N where it is unset
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "4")]
    #[serde(deserialize_with = "dev")]
    pub dev: Option<u16>,
    /// Ask any node of a running cluster for its Consul and join it with one more node
    #[arg(long, value_name = "HOST:PORT", visible_alias = "leader")]
    #[serde(alias = "leader")]
    pub join: Option<String>,
    /// Look after these nodes only, as in 0,3
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub nodes: Option<Vec<u16>>,
    /// The address to listen on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,
    /// The address that others reach these nodes at [default: that of --bind]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Listen beyond this machine although nothing is encrypted or authenticated
    #[arg(long)]
    pub insecure_network: bool,
    /// Node n listens on P + n [default: 200 followed by the digits of n]
    #[arg(long, value_name = "P")]
    pub port: Option<u16>,
    /// Replicas of a partition keep to distinct zones [default: the advertised address]
    #[arg(long)]
    pub zone: Option<String>,
    /// The share of the data that these nodes take, relative to others [default: 100]
    #[arg(long)]
    pub weight: Option<u32>,
    /// Where files are kept: the last ring, for nodes started while Consul is away, and the state of --dev's agent [default: ./ringkv-data/<cluster>]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep the data in memory, the only store of this release, and keep no ring on disk either
    #[arg(long)]
    pub memory: bool,
    /// Founds the cluster with this placement, and says that it was chosen
    #[arg(long, value_name = "consistent|hrw", visible_alias = "strategy")]
    #[serde(alias = "strategy")]
    pub mode: Option<Strategy>,
    /// Founds the cluster with so many partitions: a power of two, 64 to 65536 [default: 4096]
    #[arg(long, value_name = "N")]
    pub partitions: Option<u32>,
    /// Founds the cluster with nodes at most so far from their fair share, in percent, or off [default: 5]
    #[arg(long, value_name = "PERCENT|off")]
    pub balance: Option<Balance>,
    /// Founds the cluster with so many replicas of each record; of fewer nodes each has one [default: 3]
    #[arg(long, value_name = "N", visible_alias = "qsize")]
    #[serde(alias = "qsize")]
    pub replicas: Option<usize>,
    /// Replicas that a read needs, where it does not say [default: more than half]
    #[arg(long, value_name = "R", alias = "sq_read_n")]
    #[serde(alias = "sq_read_n")]
    pub read_quorum: Option<usize>,
    /// Replicas that a write needs, where it does not say [default: more than half]
    #[arg(long, value_name = "W", alias = "sq_write_n")]
    #[serde(alias = "sq_write_n")]
    pub write_quorum: Option<usize>,
    /// Whether others stand in for replicas that are away, or a write that has too few of them fails [default: sloppy]
    #[arg(long, value_name = "sloppy|strict")]
    pub quorum: Option<Sloppiness>,
    /// For tests and lessons: nodes take faults on purpose, see client_producer fault
    #[arg(long)]
    pub allow_faults: bool,
    /// Of a later release, which brings the disk: when a write counts as kept
    #[arg(long, value_name = "LEVEL")]
    pub durability: Option<String>,
    /// Forget the ring, signals and results of a cluster none of whose nodes runs; then end
    #[arg(long)]
    pub reset: bool,
    /// The largest value in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES")]
    pub max_value: Option<usize>,
    /// The largest message in bytes, request or reply [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    pub max_message: Option<usize>,
    /// How logs look on standard error [default: text]
    #[arg(long, value_name = "text|json")]
    pub log_format: Option<Format>,
    /// Stops before the action of this step of a change, until it is killed or gets SIGUSR1
    #[arg(long, value_name = "STEP", hide = true, value_parser = step)]
    #[serde(skip)]
    pub hold_at: Option<Step>,
    /// Where each node is reached by clients, from node-0 on. In a file only.
    #[arg(skip)]
    pub addresses: Option<Vec<String>>,
    /// The average milliseconds from each node to each, from node-0 on. In a file only.
    #[arg(skip)]
    pub delays: Option<Vec<Vec<u32>>>,
}

const EXAMPLES: &str = "Examples:
  consul kv put cluster_size 4 && server_consumer
  server_consumer --dev            # without a Consul: starts its own
  server_consumer --join 127.0.0.1:2000";

/// Whether others stand in for replicas that are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sloppiness {
    /// They do.
    Sloppy,
    /// They do not.
    Strict,
}

impl std::str::FromStr for Sloppiness {
    type Err = String;

    fn from_str(text: &str) -> Result<Sloppiness, String> {
        match text.to_ascii_lowercase().as_str() {
            "sloppy" => Ok(Sloppiness::Sloppy),
            "strict" => Ok(Sloppiness::Strict),
            _ => Err("it may be sloppy or strict".into()),
        }
    }
}

/// How far a node may be above its fair share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Balance(pub Option<f64>);

impl std::str::FromStr for Balance {
    type Err = String;

    fn from_str(text: &str) -> Result<Balance, String> {
        match text.parse::<f64>() {
            _ if text == "off" => Ok(Balance(None)),
            Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Balance(Some(percent))),
            _ => Err("it is a number of percent, 0 or more, or off".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Balance, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.parse().map_err(|why| serde::de::Error::custom(format!("balance is {text}: {why}")))
    }
}

/// `true` as well as a number.
fn dev<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Dev {
        Wanted(bool),
        Size(u16),
    }
    Ok(match Dev::deserialize(deserializer)? {
        Dev::Wanted(wanted) => wanted.then_some(DEV_SIZE),
        Dev::Size(size) => Some(size),
    })
}

fn step(text: &str) -> Result<Step, String> {
    let name = |step: &Step| format!("{step:?}").to_lowercase();
    let found = Step::ALL.into_iter().find(|step| name(step) == text.to_lowercase());
    found.ok_or_else(|| format!("steps are {}", Step::ALL.map(|s| name(&s)).join(", ")))
}

impl Options {
    /// The options of a command line, the program's name first, and of the file it names. `--help` and the like end
    /// the process, and so does what clap refuses, with exit code 2.
    pub fn read(args: &[OsString]) -> anyhow::Result<Options> {
        let given = Options::parse_from(args);
        let Some(path) = &given.config else { return Ok(given) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| refused(format!("--config {} cannot be read: {e}", path.display())))?;
        let file: Options = serde_json::from_str(&text)
            .map_err(|e| refused(format!("--config {} does not fit: {e}", path.display())))?;
        Ok(given.over(file))
    }

    /// These options, and those of a file where these say nothing.
    fn over(self, file: Options) -> Options {
        Options {
            size: self.size.or(file.size),
            config: self.config,
            consul: self.consul.or(file.consul),
            cluster: self.cluster.or(file.cluster),
            dev: self.dev.or(file.dev),
            join: self.join.or(file.join),
            nodes: self.nodes.or(file.nodes),
            bind: self.bind.or(file.bind),
            advertise: self.advertise.or(file.advertise),
            insecure_network: self.insecure_network || file.insecure_network,
            port: self.port.or(file.port),
            zone: self.zone.or(file.zone),
            weight: self.weight.or(file.weight),
            data_dir: self.data_dir.or(file.data_dir),
            memory: self.memory || file.memory,
            mode: self.mode.or(file.mode),
            partitions: self.partitions.or(file.partitions),
            balance: self.balance.or(file.balance),
            replicas: self.replicas.or(file.replicas),
            read_quorum: self.read_quorum.or(file.read_quorum),
            write_quorum: self.write_quorum.or(file.write_quorum),
            quorum: self.quorum.or(file.quorum),
            allow_faults: self.allow_faults || file.allow_faults,
            durability: self.durability.or(file.durability),
            reset: self.reset || file.reset,
            max_value: self.max_value.or(file.max_value),
            max_message: self.max_message.or(file.max_message),
            log_format: self.log_format.or(file.log_format),
            hold_at: self.hold_at,
            addresses: self.addresses.or(file.addresses),
            delays: self.delays.or(file.delays),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["server_consumer"], args].concat())
    }

    #[test]
    fn the_names_of_the_forerunners_are_taken() {
        let options = parsed(&["--leader", "h:2000", "--qsize", "1", "--strategy", "hrw"]).expect("aliases");
        assert_eq!(options.join.as_deref(), Some("h:2000"));
        assert_eq!((options.replicas, options.mode), (Some(1), Some(Strategy::Hrw)));
        assert_eq!(parsed(&["--sq_read_n", "1"]).expect("an alias").read_quorum, Some(1));
        assert_eq!(parsed(&["4"]).expect("a size").size, Some(4));
    }

    #[test]
    fn dev_takes_a_size_or_its_own() {
        assert_eq!(parsed(&["--dev"]).expect("dev").dev, Some(DEV_SIZE));
        assert_eq!(parsed(&["--dev", "2", "--port", "9"]).expect("dev").dev, Some(2));
        assert_eq!(parsed(&[]).expect("nothing").dev, None);
    }

    #[test]
    fn a_file_says_what_the_command_line_does_not() {
        let file: Options = serde_json::from_str(
            r#"{"nodes":[1,2],"port":5000,"leader":"h:1","balance":"off","dev":true,"insecure-network":true}"#,
        )
        .expect("a file");
        let options = parsed(&["--port", "6000"]).expect("a port").over(file);
        assert_eq!((options.port, options.nodes), (Some(6000), Some(vec![1, 2])));
        assert_eq!((options.dev, options.balance), (Some(DEV_SIZE), Some(Balance(None))));
        assert!(options.insecure_network && options.join.as_deref() == Some("h:1"));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for args in [&["--balance", "-1"][..], &["--mode", "md5"], &["--hold-at", "x"], &["--nope"], &["-4"]]
        {
            assert!(parsed(args).is_err(), "{args:?}");
        }
        for file in [r#"{"prot":1}"#, r#"{"balance":-1}"#, "4", r#"{"hold-at":"both"}"#] {
            assert!(serde_json::from_str::<Options>(file).is_err(), "{file}");
        }
    }
}
