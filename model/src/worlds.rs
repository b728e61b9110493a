//! The worlds that are explored.

use crate::config::{Adoption, Answers, Comparing, Config, Gate, Signal};

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
        comparing: Comparing::Gainers,
        answers: Answers::OfAnyEpoch,
        bug: None,
    }
}

/// One replica, requests that end under their own epoch.
pub fn finishing() -> Config {
    Config { name: "finishing", adoption: Adoption::Finishes, ..there_and_back() }
}

/// Two replicas.
pub fn pairs() -> Config {
    Config {
        name: "pairs",
        quorum: (2, 2, 1),
        signals: vec![Signal::Add(2), Signal::Remove(0)],
        reads: 1,
        crashes: 1,
        launchers: 1,
        ..there_and_back()
    }
}

/// Three replicas of four nodes.
pub fn triples() -> Config {
    Config {
        name: "triples",
        founders: 3,
        quorum: (3, 2, 2),
        signals: vec![Signal::Add(3), Signal::Remove(3)],
        reads: 0,
        crashes: 0,
        launchers: 1,
        ..there_and_back()
    }
}

/// Three replicas, and owners become fewer.
pub fn shrinking() -> Config {
    Config {
        name: "shrinking",
        founders: 3,
        signals: vec![Signal::Remove(1), Signal::Remove(2)],
        ..triples()
    }
}
