//! Finding the dead, and nobody else.

use super::*;

/// How long it took until all others called a killed node down, in milliseconds.
fn detection_ms(seed: u64, nodes: u16, loss: u64) -> u64 {
    let mut net = Net::settled(seed, nodes);
    net.loss = loss;
    let quiet_us = net.below(SECOND);
    net.run(quiet_us);
    let victim = net.below(u64::from(nodes)) as u16;
    net.kill(victim);
    let since = net.now_us;
    let found = net.run_until(10 * SECOND, |n| n.all_think(victim, View::Down));
    assert!(found, "seed {seed}: {:?}", net.nodes);
    (net.now_us - since) / 1000
}

/// Prints the distribution: `cargo test -p ringkv-server detection -- --nocapture`.
#[test]
fn all_others_know_of_a_killed_node_within_a_second_half_of_the_time() {
    for (nodes, loss, seeds, median_max, worst_max) in [
        (5, 0, 400, 1_000, 2_000),
        (3, 0, 100, 1_000, 2_000),
        (20, 0, 40, 1_200, 3_000),
        (5, 5, 200, 1_000, 3_000),
    ] {
        let mut times: Vec<u64> = (0..seeds).map(|seed| detection_ms(seed, nodes, loss)).collect();
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "{nodes} nodes, {loss} % loss, {seeds} seeds: known to all after {} ms at best, median {}, p90 {}, p99 {}, worst {}",
            at(0),
            at(50),
            at(90),
            at(99),
            at(100)
        );
        assert!(at(50) <= median_max && at(100) <= worst_max, "{nodes} nodes, {loss} % loss");
    }
}

#[test]
fn a_quiet_ring_suspects_nobody() {
    for (seed, nodes) in [(1, 3), (2, 5), (3, 5), (4, 12), (5, 20)] {
        let mut net = Net::settled(seed, nodes);
        let (since, before) = (net.now_us, net.packets);
        net.run(120 * SECOND);
        assert_eq!(net.changes_to(View::Suspect, since), [], "seed {seed}");
        assert_eq!(net.changes_to(View::Down, since), [], "seed {seed}");
        // A probe and its answer, every 300 ms.
        let per_node_second = (net.packets - before) as f64 / 120.0 / f64::from(nodes);
        assert!((6.0..7.0).contains(&per_node_second), "{per_node_second} packets a second of each node");
    }
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let run = |seed| {
        let mut net = Net::settled(seed, 5);
        net.loss = 10;
        net.run(10 * SECOND);
        net.kill(2);
        net.run(5 * SECOND);
        net.start(2);
        net.run(5 * SECOND);
        (net.log, net.packets)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn a_link_cut_one_way_makes_nobody_down() {
    let mut net = Net::settled(11, 5);
    let since = net.now_us;
    net.cut.insert((name(0), name(1)));
    net.run(60 * SECOND);
    assert_eq!(net.changes_to(View::Down, since), []);
    assert_eq!(net.changes_to(View::Suspect, since), []);
}

#[test]
fn a_node_that_is_cut_off_is_down_elsewhere_and_back_when_the_cut_heals() {
    for seed in 0..10 {
        let mut net = Net::settled(seed, 5);
        for n in 0..4 {
            net.cut.extend([(name(n), name(4)), (name(4), name(n))]);
        }
        assert!(net.run_until(5 * SECOND, |n| (0..4).all(|at| n.view(4, at) == View::Down)));
        assert!(net.run_until(10 * SECOND, |n| (0..4).all(|of| n.view(of, 4) == View::Down)));
        let since = net.now_us;
        net.cut.clear();
        assert!(net.run_until(10 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
        let others =
            net.changes_to(View::Down, since).into_iter().filter(|(_, at, of)| at.0 != 4 && of.0 != 4);
        assert_eq!(others.count(), 0, "seed {seed}");
    }
}

#[test]
fn two_halves_find_each_other_again() {
    for seed in 0..10 {
        let mut net = Net::settled(seed, 6);
        for (a, b) in (0..3).flat_map(|a| (3..6).map(move |b| (name(a), name(b)))) {
            net.cut.extend([(a, b), (b, a)]);
        }
        let apart = |n: &Net| {
            (0..3).all(|a| (3..6).all(|b| n.view(a, b) == View::Down && n.view(b, a) == View::Down))
        };
        assert!(net.run_until(10 * SECOND, apart), "seed {seed}: {:?}", net.nodes);
        net.run(60 * SECOND);
        assert!((0..3).all(|a| (0..3).all(|b| a == b || net.view(a, b) == View::Alive)), "seed {seed}");
        net.cut.clear();
        assert!(net.run_until(10 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
    }
}

#[test]
fn who_is_lost_now_and_then_is_seldom_called_down_and_always_comes_back() {
    let (mut down, mut minutes) = (0, 0);
    for seed in 0..20 {
        let mut net = Net::settled(seed, 5);
        let since = net.now_us;
        net.loss = 5;
        net.run(60 * SECOND);
        minutes += 1;
        down += net.changes_to(View::Down, since).iter().map(|(_, _, of)| *of).collect::<BTreeSet<_>>().len();
        net.loss = 0;
        assert!(net.run_until(10 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
    }
    println!("5 % loss, 5 nodes: {down} nodes called down in {minutes} minutes");
    assert!(down <= 2, "{down} false alarms in {minutes} minutes");
}

#[test]
fn two_nodes_watch_each_other_too() {
    let mut net = Net::settled(3, 2);
    net.kill(1);
    assert!(net.run_until(3 * SECOND, |n| n.view(1, 0) == View::Down));
    net.start(1);
    assert!(net.run_until(3 * SECOND, Net::all_alive), "{:?}", net.nodes);
}
