//! What a node says of itself.

use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;
use ringkv_common::ring::ClusterId;
use ringkv_common::ring::orchestrator::Report;
use serde::Deserialize;

/// A node's STATUS. What it left out is at its default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The cluster's identity.
    pub cluster_id: Option<ClusterId>,
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: Option<NodeName>,
    /// The epoch in which it joined.
    pub incarnation: u64,
    /// The epoch of its ring; 0 without one.
    pub epoch: u64,
    /// How partitions are placed.
    pub strategy: Option<Strategy>,
    /// Records whose first live owner it is.
    pub keys: u64,
    /// Records that it stores as an owner.
    pub stored: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its process id.
    pub pid: u32,
    /// The other nodes as it sees them.
    pub peers: Vec<Peer>,
    /// How far it is in a change.
    pub report: Report,
    /// Partitions whose data it lost.
    #[serde(deserialize_with = "count_or_list")]
    pub lost_partitions: u64,
}

/// Another node, as a node sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct Peer {
    /// Its name.
    pub node: NodeName,
    /// Its host.
    #[serde(default)]
    pub host: String,
    /// Its port for clients.
    #[serde(default)]
    pub port: u16,
    /// The epoch of its ring, where it told.
    #[serde(default)]
    pub epoch: Option<u64>,
}

/// A number, or a list whose length is the number.
fn count_or_list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Count(u64),
        List(Vec<u32>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Count(count) => count,
        Either::List(list) => list.len() as u64,
    })
}
