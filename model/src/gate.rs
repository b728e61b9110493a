//! When may the next phase come? Asked of the real `standing` for every combination of reports, once for each ring.

use std::collections::BTreeMap;

use ringkv_common::name::NodeName;
use ringkv_common::ring::orchestrator::{Report, Standing, standing};
use ringkv_common::ring::{Phase, Ring};

use crate::config::{Bug, Config, Gate};
use crate::rings::{Nodes, names};

/// A node's report: 0 is silence, then confirmed or not × nothing, copied, compared.
pub type Code = u8;

/// Codes that there are.
pub const CODES: usize = 7;

/// Whether the next phase may come, for every combination of codes.
pub(crate) fn ready(config: &Config, ring: &Ring, old: Nodes, compares: Nodes) -> Vec<bool> {
    let codes = |at: usize| (0..4).map(move |n| ((at / CODES.pow(n)) % CODES) as Code);
    let of = |at| {
        if config.has(Bug::AsksNobody) {
            return true;
        }
        let reports = codes(at).enumerate().filter_map(|(n, code)| {
            report(code, ring, compares & (1 << n) != 0).map(|report| (NodeName(n as u16), report))
        });
        let reports: BTreeMap<NodeName, Report> = reports.collect();
        match config.gate {
            Gate::Standing => standing(ring, &reports) == Standing::Ready,
            Gate::Quorums => quorums_moved(config, ring, old, compares, &reports),
        }
    };
    (0..CODES.pow(4)).map(of).collect()
}

/// The least that is safe: the new owners have the data, and of the old ones neither R nor W may lag behind.
fn quorums_moved(
    config: &Config,
    ring: &Ring,
    old: Nodes,
    compares: Nodes,
    reports: &BTreeMap<NodeName, Report>,
) -> bool {
    let phase = ring.change.as_ref().map(|c| c.phase);
    let here = |n: &NodeName| reports.get(n).filter(|r| r.epoch == ring.epoch && r.confirmed == ring.epoch);
    let lagging = names(old).filter(|n| here(n).is_none()).count();
    let has = |n: NodeName| {
        here(&n).is_some_and(|r| match phase {
            Some(Phase::Copy) => r.copied == r.incoming,
            _ => r.verified == r.incoming,
        })
    };
    let (_, r, w) = config.quorum;
    let few_lag = lagging < r.min(w) || config.has(Bug::IgnoresLaggards);
    few_lag && (phase == Some(Phase::Switch) || names(compares).all(has))
}

/// For each node the least code with the same effect, whatever the others say.
pub(crate) fn classes(ready: &[bool]) -> Vec<[Code; CODES]> {
    let class = |n: u32| {
        let step = CODES.pow(n);
        let same = |a: usize, b: usize| {
            let base = (0..ready.len()).filter(|at| (at / step).is_multiple_of(CODES));
            base.into_iter().all(|at| ready[at + a * step] == ready[at + b * step])
        };
        let least = |code: usize| (0..=code).find(|c| same(*c, code)).expect("a code is like itself");
        std::array::from_fn(|code| least(code) as Code)
    };
    if ready.is_empty() { Vec::new() } else { (0..4).map(class).collect() }
}

/// A report of a node that has this ring, by its code.
fn report(code: Code, ring: &Ring, compares: bool) -> Option<Report> {
    let (confirmed, done) = (code.checked_sub(1)? / 3, (code - 1) % 3);
    Some(Report {
        epoch: ring.epoch,
        confirmed: ring.epoch - 1 + u64::from(confirmed),
        incoming: u32::from(compares),
        copied: u32::from(compares && done >= 1),
        verified: u32::from(compares && done >= 2),
        ..Report::default()
    })
}
