//! Status: the cluster at a glance.

use std::time::Duration;

use ringkv_common::name::NodeName;
use ringkv_common::ring::Ring;
use serde::Serialize;

use super::table::{bar, bytes, count, number, table};
use super::{Console, Outcome};
use crate::address::address;
use crate::membership::{Health, Membership};
use crate::{Client, Error, Status};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A node as its status and its health check show it.
#[derive(Serialize)]
struct NodeLine {
    node: NodeName,
    address: String,
    zone: String,
    weight: u32,
    /// `None` where there is no Consul to ask.
    healthy: Option<bool>,
    answers: bool,
    message: String,
    epoch: u64,
    keys: u64,
    stored: u64,
    bytes: u64,
    lost_partitions: u64,
    pid: u32,
}

#[derive(Serialize)]
struct Glance<'a> {
    cluster_id: String,
    epoch: u64,
    strategy: String,
    chosen: bool,
    partitions: u32,
    replicas: usize,
    balance: Option<f64>,
    change: Option<String>,
    last: Option<&'a ringkv_common::ring::Outcome>,
    keys: u64,
    nodes: Vec<NodeLine>,
}

/// Prints the cluster's state.
///
/// # Errors
/// Where no ring can be had; a node that does not answer is shown as that.
pub fn status(client: &mut Client, console: &mut Console, membership: Option<&dyn Membership>) -> Outcome {
    let ring = match client.ring() {
        Some(ring) => ring.clone(),
        None => client.fetch_ring()?,
    };
    let health = membership.map(|m| m.health()).transpose()?;
    let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
    let answers = client.status_of(&names, PATIENCE);
    let read = |(name, answer): (NodeName, Result<crate::Document, Error>)| {
        (name, answer.and_then(|document| document.read::<Status>()))
    };
    let nodes = answers.into_iter().map(read).map(|(name, s)| line(&ring, name, s, health.as_deref()));
    let mut nodes: Vec<NodeLine> = nodes.collect();
    nodes.sort_by_key(|n| n.node);
    let glance = Glance {
        cluster_id: ring.cluster_id.to_string(),
        epoch: ring.epoch,
        strategy: ring.strategy.to_string(),
        chosen: ring.chosen,
        partitions: ring.partitions,
        replicas: ring.replicas,
        balance: ring.balance,
        change: ring.change.as_ref().map(|c| format!("{}, phase {}", c.kind, c.phase)),
        last: ring.last.as_ref(),
        keys: nodes.iter().map(|n| n.keys).sum(),
        nodes,
    };
    console.either(&glance, || text(&glance))
}

fn line(ring: &Ring, name: NodeName, status: Result<Status, Error>, health: Option<&[Health]>) -> NodeLine {
    let node = ring.node_named(name).expect("names come from the ring");
    let checked = health.map(|all| all.iter().find(|h| h.node == name).is_some_and(|h| h.healthy));
    let (answers, message, s) = match status {
        Ok(status) => (true, String::new(), status),
        Err(error) => (false, error.to_string(), Status::default()),
    };
    NodeLine {
        node: name,
        address: address(node),
        zone: node.zone.clone(),
        weight: node.weight,
        healthy: checked,
        answers,
        message,
        epoch: s.epoch,
        keys: s.keys,
        stored: s.stored,
        bytes: s.bytes,
        lost_partitions: s.lost_partitions,
        pid: s.pid,
    }
}

/// A result for people; most messages name the change themselves.
fn told(last: &ringkv_common::ring::Outcome) -> String {
    if last.message.starts_with(&last.op) {
        last.message.clone()
    } else {
        format!("{}: {}", last.op, last.message)
    }
}

fn text(g: &Glance) -> String {
    let chosen = if g.chosen { "chosen" } else { "not chosen yet" };
    let balance = g.balance.map_or_else(|| "off".to_owned(), |b| format!("{b} %"));
    let mut text = format!(
        "cluster {}  epoch {}\nstrategy {} ({chosen}), {} partitions, {}, balance {balance}\n",
        g.cluster_id,
        g.epoch,
        g.strategy,
        number(u64::from(g.partitions)),
        count(g.replicas as u64, "replica"),
    );
    match (&g.change, &g.last) {
        (Some(change), _) => {
            text += &format!("change in progress: {change} (`client_producer why` says what it waits for)\n")
        }
        (None, Some(last)) => text += &format!("last change: {}\n", told(last)),
        (None, None) => {}
    }
    let most = g.nodes.iter().map(|n| n.keys).max().unwrap_or(0).max(1) as f64;
    let row = |n: &NodeLine| {
        let state = match (n.answers, n.healthy) {
            (true, Some(false)) => "answers, check fails",
            (true, _) => "up",
            (false, _) => "no answer",
        };
        let lost = if n.lost_partitions > 0 {
            format!(" {} lost", count(n.lost_partitions, "partition"))
        } else {
            String::new()
        };
        vec![
            n.node.to_string(),
            n.address.clone(),
            n.zone.clone(),
            state.to_owned(),
            n.epoch.to_string(),
            number(n.keys),
            number(n.stored),
            bytes(n.bytes),
            bar(n.keys as f64 / most, 20) + &lost,
        ]
    };
    let rows: Vec<Vec<String>> = g.nodes.iter().map(row).collect();
    let headings = ["node", "address", "zone", "state", "epoch", "records", "stored", "bytes", ""];
    text += "\n";
    text += &table(&headings, &[4, 5, 6, 7], &rows);
    let down: Vec<String> = g.nodes.iter().filter(|n| !n.answers).map(|n| n.message.clone()).collect();
    text += &format!("\n{} in the cluster", count(g.keys, "record"));
    if !down.is_empty() {
        text += &format!(
            ", not counting those that {} would tell of:\n{}",
            count(down.len() as u64, "silent node"),
            down.join("\n")
        );
    }
    text
}
