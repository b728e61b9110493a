//! The ring as JSON, and what a reader refuses.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::{Change, ClusterId, Kind, NODES_MAX, Node, Outcome, Phase, Ring, SignalId};
use crate::name::{is_host, is_zone};
use crate::placement::{Strategy, Table};

/// The format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The longest ring, in bytes of JSON: half of what Consul takes as one value.
pub const RING_BYTES_MAX: usize = 256 * 1024;

/// The highest epoch: what every reader of JSON counts exactly (RFC 8259, section 6). Changes never get there, but a
/// ring edited by hand may, and whoever followed it could not count on.
pub const EPOCH_MAX: u64 = (1 << 53) - 1;

/// Why a ring was refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RingError {
    /// Not JSON, or not a ring's.
    #[error("the ring cannot be read: {0}")]
    Unreadable(String),
    /// Written by a newer program.
    #[error(
        "the ring has format {0}, this program reads format {FORMAT}: use the newer release that wrote it"
    )]
    Format(u64),
    /// Its parts do not fit together.
    #[error("the ring contradicts itself: {0}")]
    Inconsistent(String),
    /// Longer than [`RING_BYTES_MAX`].
    #[error(
        "the ring would take {0} bytes, {RING_BYTES_MAX} are allowed: fewer --partitions or --replicas make it shorter"
    )]
    TooLong(usize),
}

/// The document, field by field.
#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    cluster_id: ClusterId,
    epoch: u64,
    strategy: Strategy,
    chosen: bool,
    partitions: u32,
    replicas: usize,
    balance: Option<f64>,
    nodes: Vec<Node>,
    owners: Table,
    change: Option<ChangeDocument>,
    last: Option<Outcome>,
}

#[derive(Serialize, Deserialize)]
struct ChangeDocument {
    #[serde(flatten)]
    kind: Kind,
    phase: Phase,
    target: Table,
    signal: SignalId,
}

impl Ring {
    /// The ring as JSON.
    pub fn to_json(&self) -> Result<String, RingError> {
        let ring = self.clone();
        let document = Document {
            format: FORMAT,
            cluster_id: ring.cluster_id,
            epoch: ring.epoch,
            strategy: ring.strategy,
            chosen: ring.chosen,
            partitions: ring.partitions,
            replicas: ring.replicas,
            balance: ring.balance,
            nodes: ring.nodes,
            owners: ring.owners,
            change: ring.change.map(|c| ChangeDocument {
                kind: c.kind,
                phase: c.phase,
                target: c.target,
                signal: c.signal,
            }),
            last: ring.last,
        };
        let text = serde_json::to_string(&document).map_err(|e| RingError::Unreadable(e.to_string()))?;
        if text.len() > RING_BYTES_MAX { Err(RingError::TooLong(text.len())) } else { Ok(text) }
    }

    /// Reads a ring, and refuses one of another format or one that contradicts itself.
    pub fn from_json(text: &[u8]) -> Result<Ring, RingError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        let unreadable = |e: serde_json::Error| RingError::Unreadable(e.to_string());
        // The format is read first, so that a newer ring is called newer and not broken.
        let head: Head = serde_json::from_slice(text).map_err(unreadable)?;
        if head.format != u64::from(FORMAT) {
            return Err(RingError::Format(head.format));
        }
        let d: Document = serde_json::from_slice(text).map_err(unreadable)?;
        let change =
            d.change.map(|c| Change { kind: c.kind, phase: c.phase, target: c.target, signal: c.signal });
        let ring = Ring {
            cluster_id: d.cluster_id,
            epoch: d.epoch,
            strategy: d.strategy,
            chosen: d.chosen,
            partitions: d.partitions,
            replicas: d.replicas,
            balance: d.balance,
            nodes: d.nodes,
            owners: d.owners,
            change,
            last: d.last,
        };
        ring.check().map_err(RingError::Inconsistent)?;
        Ok(ring)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.epoch > EPOCH_MAX {
            return Err(format!("its epoch is {}, at most {EPOCH_MAX} is possible", self.epoch));
        }
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            return Err(format!("it has {} nodes, 1 to {NODES_MAX} are possible", self.nodes.len()));
        }
        if let Some(node) = self.nodes.iter().find(|n| !is_host(&n.host)) {
            return Err(format!("{} is at {:?}, which is no host", node.name, node.host));
        }
        if let Some(node) = self.nodes.iter().find(|n| !is_zone(&n.zone)) {
            return Err(format!("{}'s zone, of {} bytes, is none", node.name, node.zone.len()));
        }
        let mut names: Vec<_> = self.nodes.iter().map(|n| n.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("{} is in it twice", pair[0]));
        }
        let targets = self.change.iter().map(|c| &c.target);
        for table in targets.chain([&self.owners]) {
            if table.partitions() != self.partitions {
                return Err(format!("{} partitions, but a table of {}", self.partitions, table.partitions()));
            }
            let outside = (0..self.partitions)
                .flat_map(|p| table.owners(p))
                .find(|i| usize::from(**i) >= self.nodes.len());
            if let Some(index) = outside {
                return Err(format!("an owner with index {index} among {} nodes", self.nodes.len()));
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ClusterId {
    type Err = String;

    fn from_str(text: &str) -> Result<ClusterId, String> {
        let id = (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(ClusterId).ok_or_else(|| format!("\"{text}\" is no cluster id: 32 hex digits"))
    }
}

impl Serialize for ClusterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClusterId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
