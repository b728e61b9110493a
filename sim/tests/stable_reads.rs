//! Few keys, many readers, and connections that break as the readers' node changes: what was shown stays shown.

use ringkv_common::name::NodeName;
use ringkv_common::ring::Phase;
use ringkv_sim::{Cluster, Fault, Settings};

const OLD: [NodeName; 2] = [NodeName(0), NodeName(1)];
const NEWCOMER: NodeName = NodeName(2);

/// Adds a node, and breaks its connections about when it has compared everything: just before reads go to it.
fn an_add_with_broken_connections(seed: u64) {
    let settings = Settings {
        nodes: 2,
        workers: 2,
        readers: 8,
        keys: 7,
        listers: 0,
        delay_us: 500 + 500 * (seed % 20),
        think_ms: 4,
        ..Settings::quiet(seed)
    };
    let mut cluster = Cluster::founded(settings);
    if !cluster.said_lost().is_empty() {
        // A node that first looked when the ring was there takes that for a restart: nothing moves then.
        return;
    }
    cluster.fault(0, Fault::Signal(NEWCOMER, true));
    let phase = |c: &Cluster| c.newest.as_ref().and_then(|r| r.change.as_ref()).map(|change| change.phase);
    assert!(cluster.run_until(60_000, |c| phase(c) > Some(Phase::Copy)), "seed {seed}: it copies for ever");
    for old in OLD {
        cluster.fault(seed / 3, Fault::Cut(old, NEWCOMER, 1_000 + 500 * (seed % 5)));
    }
    assert!(cluster.run_until(120_000, |c| c.at_rest()), "seed {seed}: the change does not end");
    let wrong = cluster.verdict();
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
}

#[test]
fn a_state_that_was_shown_is_shown_from_then_on() {
    (0..90).for_each(an_add_with_broken_connections);
}
