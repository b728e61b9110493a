//! Options, by what they are about.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ringkv_common::placement::Strategy;

/// Options of the producer.
#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Options of the producer")]
pub struct ProducerOptions {
    /// Records to produce [default: 1000]
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Keys are this and a number [default: key-]
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Values have at least so many characters [default: as many as they need]
    #[arg(long, value_name = "N")]
    pub value_size: Option<usize>,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Common {
    /// Chooses how keys are placed; refused where the ring was chosen otherwise and holds data
    #[arg(long, global = true, value_name = "consistent|hrw")]
    pub mode: Option<Strategy>,
    /// Where Consul is [default: CONSUL_HTTP_ADDR, or http://127.0.0.1:8500]
    #[arg(long, global = true, value_name = "URL")]
    pub consul: Option<String>,
    /// The cluster's name [default: ringkv]
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Send everything to this node, and need no Consul
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub node: Option<String>,
    /// Seconds to wait for the ring, and for its nodes to be healthy [default: 30]
    #[arg(long, global = true, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Seconds that one operation may take with all its attempts [default: 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: Option<u64>,
    /// Replicas that a read needs
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub r: Option<u32>,
    /// Replicas that a write needs
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub w: Option<u32>,
    /// Replicas that must answer, in a word
    #[arg(long, global = true, value_name = "ONE|QUORUM|ALL", ignore_case = true, hide_possible_values = true, conflicts_with_all = ["r", "w"])]
    pub level: Option<Level>,
    /// Results as JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

impl Common {
    /// How long the ring and its nodes are waited for.
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait.unwrap_or(30))
    }

    /// How long one operation may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(10))
    }
}

/// A level, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Any replica.
    One,
    /// More than half.
    Quorum,
    /// Every.
    All,
}

/// A value, in one of three ways.
#[derive(Debug, Args)]
pub struct ValueOptions {
    /// The value: a string, or with --json-value any JSON
    #[arg(allow_negative_numbers = true)]
    pub value: Option<String>,
    /// The value is JSON text, and stays as it is typed
    #[arg(long)]
    pub json_value: bool,
    /// The value is this file's bytes
    #[arg(long, value_name = "PATH", conflicts_with = "value")]
    pub file: Option<PathBuf>,
    /// Supersede only what this context covers, as a get showed it
    #[arg(long, value_name = "JSON")]
    pub context: Option<String>,
}

/// How patient a change is.
#[derive(Clone, Debug, Args)]
pub struct ChangeOptions {
    /// Seconds to try while others are first, and to wait without any progress
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub wait_change: u64,
    /// Records to pick before and read back after; where there are fewer, all are; 0: none
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub check: u64,
}

/// Options of the bench.
#[derive(Debug, Args)]
pub struct BenchOptions {
    /// Connections to each node, a thread for each
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub connections: u16,
    /// Requests under way on each connection
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// How long; 0: until Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub seconds: u64,
    /// Part of the requests that are puts, 0 to 1
    #[arg(long, value_name = "RATIO", default_value_t = 0.5, value_parser = ratio)]
    pub puts: f64,
    /// Characters of a value
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub size: usize,
    /// Keys, shared out among the connections
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub keys: u64,
    /// What keys begin with
    #[arg(long, value_name = "TEXT", default_value = "bench-")]
    pub key_prefix: String,
    /// Hold every read against the last acknowledged write; exit 1 where one is wrong or anything failed
    #[arg(long)]
    pub check: bool,
}

fn ratio(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|n| (0.0..=1.0).contains(n));
    number.ok_or_else(|| "it is a number from 0 to 1".to_owned())
}
