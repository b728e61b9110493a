//! Random histories with everything that can go wrong; more of them by `cargo run -p ringkv-sim -- --seeds N`.

use ringkv_sim::seeds;

/// Seeds of each of the tests below, which run beside each other.
const EACH: u64 = 100;

fn all_end_well(from: u64) {
    let failed: Vec<String> = (from..from + EACH)
        .map(seeds::run)
        .filter(|report| !report.wrong.is_empty())
        .map(|report| format!("{}\n  {}\n  {}", report.line(), report.wrong.join("\n  "), report.replay()))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn random_histories_end_well() {
    all_end_well(0);
}

#[test]
fn other_random_histories_end_well() {
    all_end_well(1_000);
}

#[test]
fn a_storm_that_is_let_loose_again_does_the_same() {
    for seed in 0..8 {
        let one = seeds::run(seed);
        assert_eq!(one.trace, seeds::run_with(seed, Some(&one.storm), None).trace, "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in (0..8).chain([20, 61]) {
        let (one, two) = (seeds::run(seed), seeds::run(seed));
        assert_eq!((one.trace, one.operations), (two.trace, two.operations), "seed {seed}");
        assert_ne!(one.trace, seeds::run(seed + 1_000_000).trace, "another seed is another history");
        assert!(one.operations > 50 && one.faults > 5, "{}", one.line());
    }
}
