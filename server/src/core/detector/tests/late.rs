//! A node that is late itself blames nobody.

use super::*;

#[test]
fn who_was_stopped_for_two_seconds_calls_nobody_down() {
    for seed in 0..40 {
        let mut net = Net::settled(seed, 5);
        let since = net.now_us;
        net.paused.insert(name(3), since + 2 * SECOND);
        net.run(2 * SECOND);
        assert!((0..5).filter(|n| *n != 3).all(|n| net.view(3, n) == View::Down), "seed {seed}");
        assert!(net.run_until(5 * SECOND, Net::all_alive), "seed {seed}: {:?}", net.nodes);
        net.run(5 * SECOND);
        let blamed = |to| net.changes_to(to, since).into_iter().filter(|(_, _, of)| of.0 != 3).count();
        assert_eq!((blamed(View::Suspect), blamed(View::Down)), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_whole_machine_that_stops_wakes_up_in_peace() {
    for seed in 0..20 {
        let mut net = Net::settled(seed, 5);
        let since = net.now_us;
        net.paused = (0..5).map(|n| (name(n), since + 30 * SECOND + u64::from(n) * 10_000)).collect();
        net.run(60 * SECOND);
        assert_eq!(net.changes_to(View::Suspect, since), [], "seed {seed}");
    }
}

#[test]
fn nodes_that_are_always_busy_call_nobody_down() {
    let (mut suspected, mut down) = (0, 0);
    for seed in 0..20 {
        let mut net = Net::settled(seed, 5);
        let since = net.now_us;
        net.turn_us = 250_000;
        net.run(60 * SECOND);
        suspected += net.changes_to(View::Suspect, since).len();
        down += net.changes_to(View::Down, since).len();
    }
    println!("turns of up to 250 ms, 5 nodes, 20 minutes: {suspected} suspicions, {down} called down");
    assert_eq!(down, 0);
}

#[test]
fn a_dead_node_is_found_by_busy_ones_too() {
    for seed in 0..20 {
        let mut net = Net::settled(seed, 5);
        net.turn_us = 250_000;
        net.run(SECOND);
        net.kill(1);
        assert!(net.run_until(4 * SECOND, |n| n.all_think(1, View::Down)), "seed {seed}: {:?}", net.nodes);
    }
}
