//! Gossip between whole simulated nodes: who answers, as each node's STATUS shows it.
#![allow(clippy::unwrap_used)]

use ringkv_common::name::NodeName;
use ringkv_server::core::View;
use ringkv_sim::{Cluster, Fault, Settings};

/// What each node that runs thinks of this one.
fn views_of(cluster: &Cluster, of: NodeName) -> Vec<View> {
    let others = cluster.running().into_iter().filter(|n| *n != of);
    let statuses = others.filter_map(|n| cluster.status(n));
    statuses.flat_map(|s| s.peers).filter(|p| p.node == of).map(|p| p.view).collect()
}

fn all_think(cluster: &Cluster, of: NodeName, view: View) -> bool {
    let views = views_of(cluster, of);
    !views.is_empty() && views.iter().all(|v| *v == view)
}

fn all_alive(cluster: &mut Cluster) -> bool {
    cluster.running().iter().all(|n| all_think(cluster, *n, View::Alive))
}

#[test]
fn a_node_that_stops_is_down_elsewhere_and_alive_when_it_goes_on_and_blames_nobody() {
    for seed in 0..10 {
        let mut cluster = Cluster::founded(Settings::quiet(seed));
        assert!(cluster.run_until(5_000, all_alive), "seed {seed}");
        let stopped = NodeName((seed % 4) as u16);
        cluster.fault(0, Fault::Pause(stopped, 3_000));
        assert!(cluster.run_until(2_500, |c| all_think(c, stopped, View::Down)), "seed {seed}");
        assert!(cluster.run_until(5_000, all_alive), "seed {seed}");
        let gossip = cluster.status(stopped).unwrap().gossip;
        assert_eq!((gossip.suspicions, gossip.downs), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_storm_that_is_over_leaves_everybody_alive_to_everybody() {
    for seed in 0..5 {
        let mut cluster = Cluster::founded(Settings::quiet(seed));
        for n in 0..4 {
            cluster.fault(n * 700, Fault::Cut(NodeName(n as u16), NodeName((n as u16 + 1) % 4), 2_000));
            cluster.fault(n * 900, Fault::Reset(NodeName(n as u16), NodeName((n as u16 + 2) % 4)));
            cluster.fault(n * 1_100, Fault::Pause(NodeName(n as u16), 1_500));
        }
        cluster.run_ms(7_000);
        assert!(cluster.run_until(10_000, all_alive), "seed {seed}");
    }
}
