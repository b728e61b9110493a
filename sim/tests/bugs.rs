//! Bugs put in on purpose are caught: here those that few seeds find; all by `-- --bugs`, see docs/bugs.md.

use ringkv_sim::bugs::{Bug, hunt};

/// Seeds at most: each was caught by one of the first ten when this was written.
const SEEDS_MAX: u64 = 40;

#[test]
fn bugs_are_caught() {
    let bugs = [
        Bug::OwnerAcksBeforeDurable,
        Bug::WritesToOneTooFew,
        Bug::DropsHints,
        Bug::KeepsHints,
        Bug::RepairsNobody,
        Bug::ReusesActor,
        Bug::DropsContext,
        Bug::CollectsTombstones,
        Bug::LearnsRequestsFirst,
        Bug::ForgetsForwarded,
        Bug::HidesLoss,
        Bug::LeaksBytes,
    ];
    let escaped: Vec<Bug> = bugs.into_iter().filter(|bug| hunt(*bug, SEEDS_MAX).is_none()).collect();
    assert!(escaped.is_empty(), "not caught by {SEEDS_MAX} seeds: {escaped:?}");
}
