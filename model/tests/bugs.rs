//! No empty victory: each bug that is put in breaks the property that it should.
#![allow(missing_docs)]

use ringkv_model::explore::{REACHES_AN_END, explore};
use ringkv_model::{Bug, Config, worlds};

/// What each bug breaks. A new bug without a case does not compile.
fn breaks(bug: Bug) -> &'static str {
    let readable = "an acknowledged write stays readable";
    match bug {
        Bug::DropsUnconfirmed => "nothing is deleted that owners lack",
        Bug::AbortsAfterSwitch | Bug::IgnoresLaggards => "no read goes back behind an acknowledged write",
        Bug::WritesBlindly => "one ring an epoch",
        Bug::NeverPullsAgain => REACHES_AN_END,
        Bug::CountsOldOnly
        | Bug::IgnoresEpoch
        | Bug::ConfirmsEarly
        | Bug::GivesUnconfirmed
        | Bug::AsksNobody
        | Bug::SkipsComparison
        | Bug::ComparesWithOne
        | Bug::StayersDoNotCompare
        | Bug::CountsLateAnswers
        | Bug::ReadsNewInBoth
        | Bug::ForgetsRing => readable,
    }
}

#[test]
fn every_bug_is_caught_by_the_property_that_it_breaks() {
    for bug in Bug::ALL {
        let found = explore(&worlds::world_of(bug));
        println!("{found}");
        let broken = found.broken.as_ref().unwrap_or_else(|| panic!("{bug:?} was not caught: {found}"));
        assert_eq!(broken.property, breaks(bug), "{found}");
    }
}

#[test]
fn without_its_bug_each_of_these_worlds_is_sound() {
    let mut explored: Vec<Config> = Vec::new();
    for bug in Bug::ALL {
        let world = Config { bug: None, ..worlds::world_of(bug) };
        if explored.contains(&world) {
            continue;
        }
        let found = explore(&world);
        assert!(found.broken.is_none(), "{found}");
        explored.push(world);
    }
}
