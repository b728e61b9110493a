//! The worlds that are explored, and the one in which each bug shows soonest.

use crate::config::{Adoption, Bug, Config, Gate, Signal};

/// One replica: a node joins and leaves again, so that the key goes there and back.
pub fn there_and_back() -> Config {
    Config {
        name: "there and back",
        founders: 2,
        quorum: (1, 1, 1),
        signals: vec![Signal::Add(2), Signal::Remove(2)],
        writes: 1,
        reads: 0,
        crashes: 1,
        launchers: 2,
        adoption: Adoption::Restamps,
        gate: Gate::Standing,
        consent: true,
        bug: None,
    }
}

/// The same, where requests end under their own epoch.
pub fn finishing() -> Config {
    Config { name: "finishing", adoption: Adoption::Finishes, ..there_and_back() }
}

/// The same, where changes begin unasked: consent spares quarrels, and safety does not rest on it.
pub fn unasked() -> Config {
    Config { name: "unasked", consent: false, ..there_and_back() }
}

/// Two writes, one of which may supersede the other, there and back, and no crash.
pub fn two_writes() -> Config {
    Config { name: "two writes", writes: 2, crashes: 0, ..there_and_back() }
}

/// Two replicas, of which one may acknowledge; the second change moves the key on, or makes its owners fewer.
pub fn pairs() -> Config {
    Config {
        name: "pairs",
        quorum: (2, 2, 1),
        signals: vec![Signal::Add(2), Signal::Remove(0)],
        launchers: 1,
        ..there_and_back()
    }
}

/// The same with a read that takes its time, and the least gate.
pub fn pairs_read() -> Config {
    Config { name: "pairs, read slowly", reads: 1, crashes: 0, gate: Gate::Quorums, ..pairs() }
}

/// Three replicas become two, and one.
pub fn shrinking() -> Config {
    Config {
        name: "shrinking",
        founders: 3,
        quorum: (3, 2, 2),
        signals: vec![Signal::Remove(1), Signal::Remove(2)],
        gate: Gate::Quorums,
        ..pairs()
    }
}

/// One replica becomes two, and three.
pub fn growing() -> Config {
    Config { name: "growing", founders: 1, signals: vec![Signal::Add(1), Signal::Add(2)], ..shrinking() }
}

/// Three replicas on four nodes, there and back.
pub fn triples() -> Config {
    Config {
        name: "triples",
        signals: vec![Signal::Add(3), Signal::Remove(3)],
        gate: Gate::Standing,
        ..shrinking()
    }
}

/// The same with the least gate, and no crash.
pub fn triples_by_quorums() -> Config {
    Config { name: "triples by quorums", crashes: 0, gate: Gate::Quorums, ..triples() }
}

/// Those that a test explores: a minute on two cores.
pub fn small() -> Vec<Config> {
    vec![
        there_and_back(),
        finishing(),
        unasked(),
        two_writes(),
        pairs(),
        pairs_read(),
        shrinking(),
        growing(),
        triples_by_quorums(),
        triples(),
    ]
}

/// Those that take minutes and a gigabyte.
pub fn large() -> Vec<Config> {
    vec![
        Config { name: "two writes, a crash", crashes: 1, ..two_writes() },
        Config { name: "two finishing writes, a crash", writes: 2, ..finishing() },
        Config { name: "pairs, read slowly, a crash", crashes: 1, ..pairs_read() },
        Config { name: "pairs, two orchestrators", launchers: 2, ..pairs() },
        Config { name: "shrinking, two orchestrators", launchers: 2, ..shrinking() },
        Config { name: "triples, two orchestrators", launchers: 2, ..triples() },
        Config { name: "finishing triples", adoption: Adoption::Finishes, ..triples_by_quorums() },
        Config { name: "triples, read slowly", reads: 1, ..triples_by_quorums() },
        Config { name: "triples by quorums, a crash", crashes: 1, ..triples_by_quorums() },
    ]
}

/// The world in which a bug is looked for.
pub fn world_of(bug: Bug) -> Config {
    let calm = |config| Config { crashes: 0, launchers: 1, ..config };
    let world = match bug {
        Bug::DropsUnconfirmed
        | Bug::CountsOldOnly
        | Bug::IgnoresEpoch
        | Bug::AbortsAfterSwitch
        | Bug::AsksNobody
        | Bug::SkipsComparison
        | Bug::ReadsNewInBoth => calm(there_and_back()),
        Bug::IgnoresLaggards => Config { gate: Gate::Quorums, ..calm(there_and_back()) },
        Bug::WritesBlindly => Config { crashes: 0, ..there_and_back() },
        Bug::ForgetsRing | Bug::NeverPullsAgain => Config { launchers: 1, ..there_and_back() },
        Bug::ConfirmsEarly | Bug::GivesUnconfirmed => calm(finishing()),
        Bug::StayersDoNotCompare => calm(shrinking()),
        Bug::CountsLateAnswers | Bug::ComparesWithOne => calm(triples()),
    };
    world.with(bug)
}
