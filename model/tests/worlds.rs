//! The worlds that are small enough are explored to their ends; each prints how many states it has.
#![allow(missing_docs)]

use std::io::Write;

use ringkv_model::explore::explore;
use ringkv_model::{Bug, Config, worlds};

fn assert_sound(config: &Config) {
    let found = explore(config);
    // Not by println!: how much was explored is to be seen in every run.
    writeln!(std::io::stderr(), "{found}").expect("standard error takes text");
    assert!(found.is_sound(), "{found}");
    assert!(found.states > 10_000 && found.ends > 0, "an empty victory: {found}");
}

/// One test a world, so that they run side by side.
macro_rules! holds {
    ($($world:ident),*) => {
        $(#[test] fn $world() { assert_sound(&worlds::$world()); })*

        #[test]
        fn every_small_world_has_its_test() {
            let tested = [$(worlds::$world()),*];
            assert_eq!(tested.len(), worlds::small().len());
            assert!(worlds::small().iter().all(|world| tested.contains(world)));
        }
    };
}

holds!(
    there_and_back,
    finishing,
    unasked,
    two_writes,
    pairs,
    pairs_read,
    shrinking,
    growing,
    triples_by_quorums,
    triples
);

#[test]
fn late_answers_do_no_harm_where_one_replica_is_kept() {
    assert_sound(&worlds::there_and_back().with(Bug::CountsLateAnswers));
}
