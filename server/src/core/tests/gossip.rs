//! Gossip between whole nodes: views in STATUS, and rings that gossip brings.

use super::*;

/// Some nodes that hear each other at once, those that run.
fn talk(benches: &mut [Bench], ms: u64) {
    for _ in 0..ms / 10 {
        for bench in benches.iter_mut() {
            bench.pass_ms(10);
        }
        loop {
            let mut said = Vec::new();
            for bench in benches.iter_mut() {
                let from = bench.node.id.name;
                said.extend(bench.sent().into_iter().map(|(to, message)| (from, to, message)));
            }
            if said.is_empty() {
                break;
            }
            for (from, to, message) in said {
                if let Some(bench) = benches.iter_mut().find(|b| b.node.id.name == to) {
                    bench.hear(from.0, message);
                }
            }
        }
    }
}

fn gossiping(ring: &Ring, nodes: u16) -> Vec<Bench> {
    let bench = |n| {
        let mut bench = Bench::without_ring(n);
        bench.gossips = true;
        bench.adopt(ring);
        bench
    };
    (0..nodes).map(bench).collect()
}

fn views(bench: &Bench) -> Vec<(u16, View)> {
    bench.status().peers.iter().map(|p| (p.node.0, p.view)).collect()
}

#[test]
fn status_shows_each_nodes_view_of_every_peer() {
    let mut benches = gossiping(&founding(4), 4);
    assert_eq!(views(&benches[0]), [1, 2, 3].map(|n| (n, View::Unknown)));
    talk(&mut benches, 1_000);
    assert_eq!(views(&benches[0]), [1, 2, 3].map(|n| (n, View::Alive)));
    benches.remove(3);
    talk(&mut benches, 2_000);
    assert_eq!(views(&benches[0]), [(1, View::Alive), (2, View::Alive), (3, View::Down)]);
    let status = serde_json::to_value(benches[0].status()).unwrap();
    assert_eq!(status["peers"][2]["view"], "down");
    assert!(status["peers"][2]["for_ms"].as_u64().unwrap() < 2_000);
    assert_eq!(status["peers"][0]["epoch"], 1);
    assert_eq!(status["gossip"], json(r#"{"on":true,"suspicions":1,"downs":1,"refused":0}"#));
}

#[test]
fn a_ring_that_one_node_has_reaches_all_by_gossip() {
    let ring = founding(5);
    let mut benches = gossiping(&ring, 5);
    talk(&mut benches, 1_000);
    benches[4].adopt(&adding(&ring, 5));
    talk(&mut benches, 2_000);
    assert!(benches.iter().all(|b| b.status().epoch == 2));
    // Each knows that the others have it.
    talk(&mut benches, 2_000);
    let epochs = |b: &Bench| b.status().peers.iter().filter(|p| p.node.0 != 5).all(|p| p.epoch == 2);
    assert!(benches.iter().all(epochs));
}

#[test]
fn a_node_that_missed_its_removal_hears_of_it_by_gossip() {
    let ring = founding(4);
    let mut benches = gossiping(&ring, 4);
    talk(&mut benches, 1_000);
    let done = phases(removing(&ring, 3))[3].clone();
    benches[..3].iter_mut().for_each(|b| b.adopt(&done));
    talk(&mut benches, 2_000);
    assert_eq!(benches[3].status().epoch, done.epoch);
}

#[test]
fn gossip_that_is_none_is_counted() {
    let mut bench = Bench::founded(0, &founding(2));
    bench.hear(1, Message::Gossip { epoch: 1, packet: Box::from([1, 2, 3]), wall_ms: 0 });
    bench.hear(7, Message::Gossip { epoch: 1, packet: Box::from([]), wall_ms: 0 });
    assert_eq!(bench.status().gossip.refused, 2);
}

#[test]
fn gossip_can_be_switched_off_and_on() {
    let mut benches = gossiping(&founding(3), 3);
    talk(&mut benches, 1_000);
    benches[0].step(Event::Gossip(false));
    assert!(!benches[0].status().gossip.on);
    talk(&mut benches, 3_000);
    assert_eq!(views(&benches[0]), [1, 2].map(|n| (n, View::Unknown)));
    assert_eq!(views(&benches[1]), [(0, View::Down), (2, View::Alive)]);
    benches[0].step(Event::Gossip(true));
    talk(&mut benches, 2_000);
    assert_eq!(views(&benches[0]), [1, 2].map(|n| (n, View::Alive)));
    assert_eq!(views(&benches[1]), [(0, View::Alive), (2, View::Alive)]);
}
