//! The faults that can be typed.

use clap::Subcommand;
use ringkv_common::name::NodeName;

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
