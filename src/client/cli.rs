//! The command line of `client_producer`.

mod faulty;
mod options;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ringkv_client::commands::Format;
use ringkv_common::name::NodeName;

pub use self::faulty::Faulty;
pub use self::options::{BenchOptions, ChangeOptions, Common, Level, ProducerOptions, ValueOptions};

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

/// The commands' names, for completion.
pub fn names() -> Vec<String> {
    use clap::CommandFactory;
    Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).filter(|n| n != "shell").collect()
}

#[cfg(test)]
mod tests;
