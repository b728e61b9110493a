//! The command line of `client_producer`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ringkv_client::commands::Format;
use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;

const EXAMPLES: &str = "Examples:
  client_producer                                # 1,000 records, and how they spread
  client_producer --mode hrw --count 100000
  client_producer put greeting hello && client_producer get greeting
  client_producer add-node && client_producer status";

/// Stores, reads and moves the data of a ringkv cluster. Without a command it is the producer: it shards records
/// over the nodes, shows how they spread, and checks that every one is there.
#[derive(Debug, Parser)]
#[command(name = "client_producer", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub producer: ProducerOptions,
    #[command(flatten)]
    pub common: Common,
}

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

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load a file of records: JSON Lines, CSV or TSV
    #[command(
        after_help = "Example:\n  client_producer load users.jsonl\n  zcat users.csv.gz | client_producer load - --format csv\n\n\
        JSON Lines: {\"key\":\"k\",\"value\":…}, or value_b64 for bytes. CSV and TSV: key, value, and where it is no string a kind: json or base64."
    )]
    Load {
        /// The file; - is standard input
        file: PathBuf,
        /// jsonl, csv or tsv [default: by the file's extension]
        #[arg(long)]
        format: Option<Format>,
        /// Go on where an earlier load was interrupted
        #[arg(long)]
        resume: bool,
        /// The file has all there was: what a killed node lost is called lost no more, once all lines are loaded
        #[arg(long)]
        accept_loss: bool,
    },
    /// Write every record of the cluster to a file that load restores
    #[command(
        after_help = "Example:\n  client_producer dump backup.jsonl\n  client_producer dump - | gzip > backup.jsonl.gz"
    )]
    Dump {
        /// The file; - is standard output
        file: PathBuf,
        /// jsonl, csv or tsv [default: by the file's extension]
        #[arg(long)]
        format: Option<Format>,
        /// Go on where an earlier dump was interrupted
        #[arg(long)]
        resume: bool,
    },
    /// Store a value
    #[command(
        after_help = "Example:\n  client_producer put greeting hello\n  client_producer put list '[1, 2.50]' --json-value"
    )]
    Put {
        /// The key
        key: String,
        #[command(flatten)]
        value: ValueOptions,
    },
    /// Read a value
    #[command(
        after_help = "Example:\n  client_producer get greeting\n  client_producer get picture --raw > picture.png"
    )]
    Get {
        /// The key
        key: String,
        /// The value exactly as it is stored: bytes, or JSON text with its quotes, and no line end
        #[arg(long)]
        raw: bool,
    },
    /// Store a value where there is none
    #[command(after_help = "Example:\n  client_producer insert greeting hello")]
    Insert {
        /// The key
        key: String,
        #[command(flatten)]
        value: ValueOptions,
    },
    /// Store a value where there is one
    #[command(after_help = "Example:\n  client_producer update greeting 'good day'")]
    Update {
        /// The key
        key: String,
        #[command(flatten)]
        value: ValueOptions,
    },
    /// Delete a key, which need not exist
    #[command(after_help = "Example:\n  client_producer delete greeting")]
    Delete {
        /// The key
        key: String,
        /// Delete only what this context covers
        #[arg(long, value_name = "JSON")]
        context: Option<String>,
    },
    /// List all records, or those of one node
    #[command(
        after_help = "Example:\n  client_producer get-all --json\n  client_producer get-all --of node-2 --limit 10"
    )]
    GetAll {
        /// Only the records that this node leads
        #[arg(long, value_name = "NODE")]
        of: Option<NodeName>,
        /// With --of: all records that the node owns
        #[arg(long, requires = "of")]
        owned: bool,
        /// So many at most
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Show every replica's versions of a key
    #[command(after_help = "Example:\n  client_producer search greeting")]
    Search {
        /// The key
        key: String,
    },
    /// Show all that a node stores, tombstones and hints too
    #[command(after_help = "Example:\n  client_producer show-all node-0")]
    ShowAll {
        /// Which, as in node-2 [default: all, one after the other]
        #[arg(value_name = "NODE")]
        of: Option<NodeName>,
    },
    /// Add a node, and move its share of the data to it
    #[command(
        after_help = "Example:\n  client_producer add-node\n  client_producer add-node node-7 --zone b\n  client_producer add-node 127.0.0.1:2007"
    )]
    AddNode {
        /// A name, or HOST:PORT of a node that runs already [default: the lowest number that is free]
        #[arg(value_name = "NAME|HOST:PORT")]
        name: Option<String>,
        /// The newcomer's zone
        #[arg(long)]
        zone: Option<String>,
        /// The newcomer's weight
        #[arg(long)]
        weight: Option<u32>,
        #[command(flatten)]
        change: ChangeOptions,
    },
    /// Remove a node, once others have its data
    #[command(after_help = "Example:\n  client_producer remove-node node-2")]
    RemoveNode {
        /// Which, as in node-2
        name: NodeName,
        #[command(flatten)]
        change: ChangeOptions,
    },
    /// Show what a change would move, and change nothing
    #[command(
        subcommand,
        after_help = "Example:\n  client_producer plan add\n  client_producer plan remove node-2\n  client_producer plan migrate --mode hrw"
    )]
    Plan(Planned),
    /// Move all data to where the other mode places it: migrate --mode hrw
    #[command(after_help = "Example:\n  client_producer migrate --mode hrw")]
    Migrate {
        #[command(flatten)]
        change: ChangeOptions,
    },
    /// Say where a key lives, and why
    #[command(after_help = "Example:\n  client_producer explain greeting")]
    Explain {
        /// The key
        key: String,
    },
    /// Show the cluster at a glance
    #[command(
        after_help = "Example:\n  client_producer status\n  client_producer status --node 127.0.0.1:2003"
    )]
    Status,
    /// Say what a change waits for
    #[command(after_help = "Example:\n  client_producer why")]
    Why,
    /// Type commands at a prompt
    #[command(
        after_help = "Example:\n  client_producer shell\n  echo 'get greeting' | client_producer shell\n\n\
        Also understood: put KEY CONTEXT VALUE, get KEY LEVEL, insert|update KEY VALUE LEVEL, levels as words or numbers."
    )]
    Shell,
    /// Measure throughput and latency; with --check prove that nothing acknowledged is lost
    #[command(
        after_help = "Example:\n  client_producer bench --seconds 30 --connections 8 --in-flight 32\n  client_producer bench --check --seconds 0    # until Ctrl-C, under whatever you do to the cluster"
    )]
    Bench(BenchOptions),
    /// Have nodes compare what they hold now, and take what they lack
    #[command(after_help = "Example:\n  client_producer repair\n  client_producer repair node-2")]
    Repair {
        /// Only this node [default: all]
        #[arg(value_name = "NODE")]
        of: Option<NodeName>,
    },
    /// Have nodes do wrong on purpose; they take it where the cluster runs with --allow-faults
    #[command(
        subcommand,
        after_help = "Example:\n  client_producer fault fail node-2\n  client_producer fault delay node-0 200 --to node-1\n  client_producer fault cut node-0 node-1 --one-way\n  client_producer fault clear"
    )]
    Fault(Faulty),
    /// Accept that data which nodes lost with their memory is gone
    #[command(after_help = "Example:\n  client_producer accept-loss\n  client_producer accept-loss node-2")]
    AcceptLoss {
        /// Only this node [default: all]
        #[arg(value_name = "NODE")]
        of: Option<NodeName>,
    },
}

/// What a node is to do wrong. Between nodes it is what the first one sends.
#[derive(Debug, Subcommand)]
pub enum Faulty {
    /// Say and hear nothing any more, as if it were gone
    Fail {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
    },
    /// Say and hear again
    Recover {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
    },
    /// Lose a part of what it sends
    Drop {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
        /// Of a hundred messages; 0: none any more
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        /// Only to this node
        #[arg(long, value_name = "NODE")]
        to: Option<NodeName>,
    },
    /// Send later, around an average
    Delay {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
        /// The average in milliseconds; 0: no more
        #[arg(value_parser = clap::value_parser!(u32).range(0..=60_000))]
        ms: u32,
        /// Only to this node
        #[arg(long, value_name = "NODE")]
        to: Option<NodeName>,
    },
    /// Cut two nodes off from each other
    Cut {
        /// One
        one: NodeName,
        /// The other
        other: NodeName,
        /// Only what the first sends to the other
        #[arg(long)]
        one_way: bool,
    },
    /// Lose, delay and cut nothing any more between two nodes, or of what one sends
    Heal {
        /// One
        one: NodeName,
        /// The other [default: all]
        other: Option<NodeName>,
    },
    /// Switch a node's gossip off or on
    Gossip {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
        /// on or off
        #[arg(value_name = "on|off", value_parser = ["on", "off"], hide_possible_values = true)]
        state: String,
    },
    /// Offer hints to their owners now
    Handoff {
        /// Which, as in node-2
        #[arg(value_name = "NODE")]
        of: NodeName,
    },
    /// End all faults
    Clear {
        /// Of this node [default: of all]
        #[arg(value_name = "NODE")]
        of: Option<NodeName>,
    },
}

/// What is planned.
#[derive(Debug, Subcommand)]
pub enum Planned {
    /// A node joins
    Add {
        /// [default: the lowest number that is free]
        name: Option<NodeName>,
        /// The newcomer's zone
        #[arg(long)]
        zone: Option<String>,
        /// The newcomer's weight
        #[arg(long)]
        weight: Option<u32>,
    },
    /// A node leaves
    Remove {
        /// Which, as in node-2
        name: NodeName,
    },
    /// Another mode, which --mode names
    Migrate,
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

/// The commands' names, for completion.
pub fn names() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).filter(|n| n != "shell").collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("client_producer {}", command.get_name());
            let piped = format!("client_producer {}\n", command.get_name());
            assert!(
                help.contains(&example) || help.contains(&piped),
                "{} shows no example",
                command.get_name()
            );
        }
    }

    #[test]
    fn what_every_command_has_hides_nothing_of_its_own() {
        let cli = Cli::command();
        let common: Vec<_> =
            cli.get_arguments().filter(|a| a.is_global_set()).map(|a| a.get_id().clone()).collect();
        assert!(common.len() > 5);
        for command in cli.get_subcommands() {
            let own = command.get_arguments().map(clap::Arg::get_id);
            assert_eq!(own.filter(|id| common.contains(id)).count(), 0, "{}", command.get_name());
        }
    }

    #[test]
    fn options_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["client_producer", "put", "k", "-5", "--json", "--level", "quorum"]);
        let cli = cli.expect("valid");
        assert!(cli.common.json && cli.common.level == Some(Level::Quorum));
        let Some(Command::Put { value, .. }) = cli.command else { panic!("a put was typed") };
        assert_eq!(value.value.as_deref(), Some("-5"));
    }

    #[test]
    fn level_and_counts_exclude_each_other() {
        assert!(Cli::try_parse_from(["client_producer", "get", "k", "--level", "one", "--r", "2"]).is_err());
        assert!(Cli::try_parse_from(["client_producer", "get", "k", "--r", "0"]).is_err());
    }
}
