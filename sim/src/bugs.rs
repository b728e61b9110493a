//! Bugs put in on purpose, and the seeds that catch them: a check that never failed proves nothing.

use std::panic::catch_unwind;

pub use ringkv_common::bug::{Bug, put_in};

use crate::seeds;

/// How a bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// By this seed, which ends well without it.
    pub seed: u64,
    /// After so many seeds, this one included.
    pub seeds: u64,
    /// What was broken, each once.
    pub invariants: Vec<&'static str>,
}

/// What a line of a report says was broken, by a part of it.
const INVARIANTS: &[(&str, &str)] = &[
    ("nodes show it", "acknowledged means durable at W"),
    ("owners show it", "acknowledged means durable at W"),
    ("owners have it", "who drops leaves most owners with it"),
    ("have seen that", "what is shown enough owners hold"),
    (" showed ", "reads show what was acknowledged"),
    (" went back", "what was shown is not taken back"),
    (" nobody took away, ", "what was observed goes, and nothing else does"),
    ("counter ", "a counter shows each count once"),
    ("not the acknowledged", "an added element stays"),
    ("refused as if present", "a refusal is true"),
    ("a listing", "a listing shows each key once"),
    (" names a version of ", "a dot names one version"),
    ("by another ring of epoch", "an epoch has one ring"),
    ("tells itself", "nobody tells itself"),
    ("left with", "who leaves holds nothing"),
    ("left without", "every request is answered once"),
    ("twice", "every request is answered once"),
    ("never answered", "every request is answered once"),
    ("did not end", "every request is answered once"),
    ("is lost, and another node had it", "what is lost is said, and nothing else"),
    ("after ACCEPT_LOSS", "what is lost is said, and nothing else"),
    ("differs among its owners", "owners are equal at rest"),
    ("of others", "hand-overs end"),
    ("still fills", "fills end"),
    (" takes ", "all know of each other at rest"),
    ("no rest", "changes end"),
    ("at rest has", "nothing waits at rest"),
    ("wait in one direction", "nothing waits at rest"),
    ("collection", "collections hold each key once"),
    ("at rest ", "every key can be read at rest"),
    ("panicked", "assertions"),
];

/// The bug of a name.
pub fn named(name: &str) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| bug.name() == name)
}

/// Runs seeds with a bug until one catches it, at most so many. A seed that fails without it too catches nothing.
pub fn hunt(bug: Bug, seeds_max: u64) -> Option<Caught> {
    (0..seeds_max).find_map(|seed| {
        let wrong = wrong_with(Some(bug), seed);
        let caught = !wrong.is_empty() && wrong_with(None, seed).is_empty();
        caught.then(|| Caught { seed, seeds: seed + 1, invariants: broken(&wrong) })
    })
}

/// What is wrong with a seed; a founding that does not end is that, too.
fn wrong_with(bug: Option<Bug>, seed: u64) -> Vec<String> {
    put_in(bug);
    let report = catch_unwind(|| seeds::run(seed));
    put_in(None);
    report.map_or(vec!["panicked while it was founded".to_owned()], |report| report.wrong)
}

fn broken(wrong: &[String]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for line in wrong {
        let known = INVARIANTS.iter().find(|(part, _)| line.contains(part));
        let invariant = known.map_or("another", |(_, invariant)| *invariant);
        if !all.contains(&invariant) {
            all.push(invariant);
        }
    }
    all
}
