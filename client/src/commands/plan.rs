//! Plan: what a change would move, computed from the present ring, and nothing is changed.
//!
//! Partitions and balance are exact: the launcher plans by the same code. Keys and bytes are estimates, from what
//! each owner of a partition stores now, spread evenly over its partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use ringkv_common::name::{NodeName, Ports};
use ringkv_common::placement::{Balance, Member, WEIGHT_DEFAULT, assess};
use ringkv_common::ring::{Kind, Node, Ring, SignalId, plan};
use serde::Serialize;

use super::table::{bytes, count, number, table};
use super::{Console, Failure, Outcome};
use crate::{Client, Status};

/// A newcomer, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Newcomer {
    /// Its zone; that of the ring's first node where none is given.
    pub zone: Option<String>,
    /// Its weight.
    pub weight: Option<u32>,
}

#[derive(Serialize)]
struct Plan {
    change: String,
    epoch: u64,
    partitions: u32,
    /// Partitions that change owners.
    moving: u32,
    /// Copies of partitions that cross the network.
    copies: u32,
    /// The fewest that give every node its fair share; says nothing where the mode changes.
    minimum_copies: Option<f64>,
    keys_estimated: u64,
    bytes_estimated: u64,
    /// The fullest node's load over its share.
    fullest_before: f64,
    fullest_after: f64,
    nodes: Vec<NodePlan>,
}

#[derive(Serialize)]
struct NodePlan {
    node: NodeName,
    partitions_before: u32,
    partitions_after: u32,
    share_after: f64,
    gains: u32,
    gives: u32,
}

/// The ring with which a change would begin.
///
/// # Errors
/// Why it would be refused.
pub(super) fn begun(ring: &Ring, kind: Kind, newcomer: &Newcomer) -> Result<Ring, Failure> {
    let signal = SignalId { name: kind.to_string(), index: 0 };
    let plan = match kind {
        Kind::Add { node } => plan::add(ring, stranger(ring, node, newcomer), signal),
        Kind::Remove { node } => plan::remove(ring, node, signal),
        Kind::Migrate { mode } => plan::migrate(ring, mode, signal),
    };
    plan.map_err(|refusal| Failure::failed(refusal.to_string()))
}

/// A node that does not run yet: where it will be matters to no table.
fn stranger(ring: &Ring, name: NodeName, newcomer: &Newcomer) -> Node {
    let ports = name.ports(None).unwrap_or(Ports { client: 0, peer: 0, http: 0 });
    let zone = newcomer.zone.clone().unwrap_or_else(|| ring.nodes[0].zone.clone());
    let weight = newcomer.weight.unwrap_or(WEIGHT_DEFAULT);
    Node { name, incarnation: 0, host: "127.0.0.1".to_owned(), ports, zone, weight }
}

/// Prints what a change would move.
///
/// # Errors
/// Why it would be refused.
pub fn plan(
    client: &mut Client,
    console: &mut Console,
    ring: &Ring,
    kind: Kind,
    newcomer: &Newcomer,
) -> Outcome {
    let next = begun(ring, kind, newcomer)?;
    let stored = stored(client, ring);
    let silent: Vec<String> = ring
        .nodes
        .iter()
        .map(|n| n.name)
        .filter(|n| !stored.contains_key(n))
        .map(|n| n.to_string())
        .collect();
    if !silent.is_empty() {
        console.say(&format!("{} did not answer: keys and bytes leave them out", silent.join(", ")));
    }
    let plan = Plan::of(ring, &next, kind, &stored);
    console.either(&plan, || plan.text())
}

/// Records and bytes that each node stores.
fn stored(client: &mut Client, ring: &Ring) -> BTreeMap<NodeName, (u64, u64)> {
    let names: Vec<NodeName> = ring.nodes.iter().map(|n| n.name).collect();
    let answers = client.status_of(&names, Duration::from_secs(2)).into_iter();
    answers
        .filter_map(|(name, answer)| {
            let status: Status = answer.ok()?.read().ok()?;
            Some((name, (status.stored, status.bytes)))
        })
        .collect()
}

impl Plan {
    fn of(ring: &Ring, next: &Ring, kind: Kind, stored: &BTreeMap<NodeName, (u64, u64)>) -> Plan {
        let target = &next.change.as_ref().expect("a plan has a change").target;
        let before = assess(&members(next, kind.joins()), None, &next.owners);
        let after = assess(&members(next, kind.leaves()), Some(&next.owners), target);
        let (keys, bytes) = estimate(next, &before, stored);
        let strategy_then = if let Kind::Migrate { mode } = kind { mode } else { ring.strategy };
        let count = |node: usize, gains: bool| {
            let gained = |p: &u32| {
                let has = |t: &ringkv_common::placement::Table| {
                    t.owners(*p).iter().any(|o| usize::from(*o) == node)
                };
                has(target) != has(&next.owners) && has(target) == gains
            };
            (0..next.partitions).filter(gained).count() as u32
        };
        let node = |(n, node): (usize, &Node)| NodePlan {
            node: node.name,
            partitions_before: before.loads[n],
            partitions_after: after.loads[n],
            share_after: after.shares[n],
            gains: count(n, true),
            gives: count(n, false),
        };
        Plan {
            change: kind.to_string(),
            epoch: ring.epoch,
            partitions: next.partitions,
            moving: (0..next.partitions).filter(|p| next.moves(*p)).count() as u32,
            copies: after.moved,
            minimum_copies: (next.strategy == strategy_then).then_some(after.minimum),
            keys_estimated: keys,
            bytes_estimated: bytes,
            fullest_before: before.fullest(),
            fullest_after: after.fullest(),
            nodes: {
                let mut nodes: Vec<NodePlan> = next.nodes.iter().enumerate().map(node).collect();
                nodes.sort_by_key(|n| n.node);
                nodes
            },
        }
    }

    fn text(&self) -> String {
        let row = |n: &NodePlan| {
            vec![
                n.node.to_string(),
                number(u64::from(n.partitions_before)),
                number(u64::from(n.partitions_after)),
                format!("{:.1}", n.share_after),
                format!("+{}", n.gains),
                format!("-{}", n.gives),
            ]
        };
        let rows: Vec<Vec<String>> = self.nodes.iter().map(row).collect();
        format!(
            "{} on the ring of epoch {} would change the owners of {} of {} partitions: {} cross the network\
             {}.\nThat is about {} with {}, an estimate from what each node stores now.\n\
             The fullest node has {:.3} of its fair share now and {:.3} then. Nothing was changed.\n\n{}",
            self.change,
            self.epoch,
            number(u64::from(self.moving)),
            number(u64::from(self.partitions)),
            count(u64::from(self.copies), "copy").replace("copys", "copies"),
            self.minimum_copies.map_or(String::new(), |m| format!(" (fair shares need {m:.1})")),
            count(self.keys_estimated, "record"),
            bytes(self.bytes_estimated),
            self.fullest_before,
            self.fullest_after,
            table(&["node", "partitions", "then", "fair share", "gains", "gives"], &[1, 2, 3, 4, 5], &rows)
        )
    }
}

/// The ring's nodes as placement sees them; `without` takes no partitions.
fn members(ring: &Ring, without: Option<NodeName>) -> Vec<Member> {
    let weight = |n: &Node| if Some(n.name) == without { 0 } else { n.weight };
    let member = |n: &Node| Member { name: n.name.to_string(), zone: n.zone.clone(), weight: weight(n) };
    ring.nodes.iter().map(member).collect()
}

/// Records and bytes that cross the network, each copy as large as an average partition of its present owners.
fn estimate(next: &Ring, before: &Balance, stored: &BTreeMap<NodeName, (u64, u64)>) -> (u64, u64) {
    let target = &next.change.as_ref().expect("a plan has a change").target;
    let (mut keys, mut bytes) = (0.0, 0.0);
    for partition in 0..next.partitions {
        let owners = next.owners.owners(partition);
        let copies = target.owners(partition).iter().filter(|n| !owners.contains(n)).count() as f64;
        let known: Vec<(f64, f64)> = owners
            .iter()
            .filter_map(|n| {
                let (records, size) = stored.get(&next.node(*n).name)?;
                let load = f64::from(before.loads[usize::from(*n)].max(1));
                Some((*records as f64 / load, *size as f64 / load))
            })
            .collect();
        let owners = known.len().max(1) as f64;
        keys += copies * known.iter().map(|k| k.0).sum::<f64>() / owners;
        bytes += copies * known.iter().map(|k| k.1).sum::<f64>() / owners;
    }
    (keys.round() as u64, bytes.round() as u64)
}

#[cfg(test)]
mod tests {
    use ringkv_common::placement::Strategy;
    use ringkv_common::ring::ClusterId;
    use ringkv_common::ring::plan::{Founding, found};

    use super::*;

    fn ring(nodes: u16, replicas: usize) -> Ring {
        let founding = Founding {
            cluster_id: ClusterId(1),
            strategy: Strategy::Consistent,
            chosen: false,
            partitions: 4096,
            replicas,
            balance: Some(5.0),
        };
        let node = |n: u16| Node {
            name: NodeName(n),
            incarnation: 1,
            host: "127.0.0.1".into(),
            ports: NodeName(n).ports(None).expect("below 100"),
            zone: "z".into(),
            weight: 100,
        };
        found(&founding, (0..nodes).map(node).collect()).expect("a ring")
    }

    fn plan_of(ring: &Ring, kind: Kind) -> Plan {
        let stored = ring.nodes.iter().map(|n| (n.name, (1000, 64_000))).collect();
        Plan::of(ring, &begun(ring, kind, &Newcomer::default()).expect("possible"), kind, &stored)
    }

    #[test]
    fn adding_one_of_n_moves_one_nth() {
        let ring = ring(4, 1);
        let plan = plan_of(&ring, Kind::Add { node: NodeName(4) });
        assert!((815..=825).contains(&plan.copies), "{} of 4096 go to the fifth node", plan.copies);
        assert_eq!(plan.moving, plan.copies);
        assert!((795..=805).contains(&plan.keys_estimated), "{} of 4000 keys", plan.keys_estimated);
        assert_eq!(plan.nodes[4].gains, plan.copies);
        assert_eq!(plan.nodes[..4].iter().map(|n| n.gives).sum::<u32>(), plan.copies);
        assert!(plan.fullest_after < 1.01, "{}", plan.fullest_after);
    }

    #[test]
    fn removing_one_moves_what_it_had_and_nothing_else() {
        let ring = ring(4, 1);
        let plan = plan_of(&ring, Kind::Remove { node: NodeName(2) });
        assert_eq!((plan.nodes[2].gives, plan.nodes[2].partitions_after), (1024, 0));
        assert!((1024..=1030).contains(&plan.copies), "{}", plan.copies);
        assert!(plan.text().contains("remove node-2"), "{}", plan.text());
    }

    #[test]
    fn what_would_be_refused_says_why() {
        let ring = ring(2, 1);
        let why = |kind| begun(&ring, kind, &Newcomer::default()).expect_err("impossible").error.to_string();
        assert!(why(Kind::Add { node: NodeName(1) }).contains("in the ring already"));
        assert!(why(Kind::Remove { node: NodeName(7) }).contains("node-0, node-1"));
    }

    #[test]
    fn a_migration_is_planned_like_any_change() {
        let plan = plan_of(&ring(3, 2), Kind::Migrate { mode: Strategy::Hrw });
        assert_eq!(plan.change, "migrate to hrw");
        assert!(plan.copies > 0 && plan.nodes.iter().all(|n| n.partitions_after > 0));
    }
}
