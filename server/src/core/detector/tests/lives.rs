//! Starts, returns, rings that change, and gossip that is switched.

use super::*;

#[test]
fn who_restarts_is_alive_everywhere_whether_its_death_was_noticed_or_not() {
    for (seed, away_us) in (0..20).flat_map(|seed| [(seed, 1_000), (seed, 400_000), (seed, 5 * SECOND)]) {
        let mut net = Net::settled(seed, 5);
        net.kill(2);
        net.run(away_us);
        let since = net.now_us;
        net.start(2);
        assert!(net.run_until(5 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
        net.run(3 * SECOND);
        assert!(net.all_alive(), "seed {seed}: {:?}", net.nodes);
        let blamed = net.changes_to(View::Down, since).into_iter().filter(|(_, _, of)| of.0 != 2).count();
        assert_eq!(blamed, 0, "seed {seed}");
    }
}

#[test]
fn who_restarts_with_its_clock_set_back_is_alive_everywhere() {
    for (seed, away_us) in (0..20).flat_map(|seed| [(seed, 1_000), (seed, 5 * SECOND)]) {
        let mut net = Net::settled(seed, 5);
        net.kill(2);
        net.run(away_us);
        net.skew_ms.insert(name(2), -3_600_000);
        net.delay_us = 200;
        let before = net.packets;
        net.start(2);
        net.run(SECOND / 2);
        let packets = net.packets - before;
        assert!(packets < 1_000, "seed {seed}: {packets} packets in half a second");
        assert!(net.run_until(10 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
        net.run(10 * SECOND);
        assert!(net.all_alive(), "seed {seed}: {:?}", net.nodes);
    }
}

#[test]
fn who_starts_late_is_unknown_then_down_then_alive() {
    let mut net = Net::of(5, 4);
    (0..3).for_each(|n| net.start(n));
    net.run(SECOND);
    assert!(net.all_think(3, View::Unknown), "{:?}", net.nodes);
    net.run(4 * SECOND);
    assert!(net.all_think(3, View::Down), "{:?}", net.nodes);
    net.start(3);
    assert!(net.run_until(3 * SECOND, Net::all_alive), "{:?}", net.nodes);
}

#[test]
fn the_ring_says_who_is_a_member() {
    let mut net = Net::settled(9, 5);
    // Node 0 hears of the smaller ring first: what the others say of node 4 makes it no member again.
    net.ring = (0..4).map(name).collect();
    let ring = net.ring.clone();
    net.with(0, |d, now| d.ring(now, &ring));
    net.run(3 * SECOND);
    assert_eq!(net.nodes[&name(0)].peer(name(4)), None);
    for n in 1..5 {
        net.with(n, |d, now| d.ring(now, &ring));
    }
    assert_eq!(net.nodes[&name(4)].wake_at(), None, "who is in no ring is quiet");
    net.run(3 * SECOND);
    net.kill(4);
    assert!(net.all_alive(), "{:?}", net.nodes);
    // It comes back, told last, with a fifth and a sixth.
    net.ring = (0..6).map(name).collect();
    let ring = net.ring.clone();
    for n in 0..4 {
        net.with(n, |d, now| d.ring(now, &ring));
    }
    net.start(4);
    net.start(5);
    assert!(net.run_until(5 * SECOND, Net::all_alive), "{:?}", net.nodes);
}

#[test]
fn a_node_without_gossip_knows_nothing_and_seems_down_until_it_is_switched_on() {
    let mut net = Net::settled(13, 5);
    net.with(1, |d, now| d.switch(now, false));
    assert!(net.run_until(3 * SECOND, |n| n.all_think(1, View::Down)), "{:?}", net.nodes);
    assert!([0, 2, 3, 4].iter().all(|of| net.view(*of, 1) == View::Unknown));
    assert!(!net.nodes[&name(1)].is_on());
    assert_eq!(net.nodes[&name(1)].wake_at(), None);
    net.with(1, |d, now| d.switch(now, true));
    assert!(net.run_until(3 * SECOND, Net::all_alive), "{:?}", net.nodes);
}

#[test]
fn every_node_hears_of_the_epoch_of_every_other_again_and_again() {
    let mut net = Net::settled(17, 5);
    net.cut.extend((0..4).flat_map(|n| [(name(n), name(4)), (name(4), name(n))]));
    net.run(10 * SECOND);
    // It missed a ring while it was cut off. All others have it; and they hear of it that it has not.
    net.epochs.extend((0..4).map(|n| (name(n), 2)));
    net.run(10 * SECOND);
    net.cut.clear();
    let epoch = |net: &Net, of: u16, at: u16| net.nodes[&name(at)].peer(name(of)).unwrap().epoch;
    assert!(net.run_until(10 * SECOND, |n| (0..4).all(|of| epoch(n, of, 4) == 2)));
    assert!((0..4).any(|at| epoch(&net, 4, at) == 1));
    net.epochs.insert(name(4), 2);
    assert!(net.run_until(10 * SECOND, |n| (0..4).all(|at| epoch(n, 4, at) == 2)));
}
