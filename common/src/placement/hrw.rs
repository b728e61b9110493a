//! Rendezvous hashing: every node has a score for every partition, the highest comes first (Thaler & Ravishankar
//! 1998). Weighted as −w / ln u with u uniform in (0, 1) (Schindelhauer & Schomaker 2005): a node of weight *w* comes
//! first with probability *w* / Σ *w*, and a change of its weight moves partitions to or from it alone.

use std::cmp::Reverse;

use twox_hash::XxHash3_64;

use super::roster::{Roster, SeatIndex};

/// A partition's order with the scores.
pub(super) fn ranked(roster: &Roster, partition: u32) -> impl Iterator<Item = (f64, SeatIndex)> {
    let mut scores = Vec::with_capacity(roster.seats.len());
    rank(roster, partition, &mut scores);
    scores.into_iter().map(|(Reverse(bits), seat)| (f64::from_bits(bits), seat))
}

/// The orders of all partitions, row by row.
pub(super) fn orders(roster: &Roster, partitions: u32) -> Vec<SeatIndex> {
    let mut orders = Vec::with_capacity(partitions as usize * roster.seats.len());
    let mut scores = Vec::with_capacity(roster.seats.len());
    for partition in 0..partitions {
        rank(roster, partition, &mut scores);
        orders.extend(scores.iter().map(|(_, seat)| *seat));
    }
    orders
}

/// Scores are positive, and the bits of positive floats sort as the floats do.
fn rank(roster: &Roster, partition: u32, scores: &mut Vec<(Reverse<u64>, SeatIndex)>) {
    scores.clear();
    let scored = (0..=SeatIndex::MAX).zip(&roster.seats);
    scores.extend(
        scored.map(|(seat, node)| (Reverse(score(node.seed, node.weight, partition).to_bits()), seat)),
    );
    scores.sort_unstable();
}

fn score(seed: u64, weight: u32, partition: u32) -> f64 {
    let hash = XxHash3_64::oneshot_with_seed(seed, &partition.to_le_bytes());
    // 52 bits and a half, so that neither 0 nor 1 comes out.
    let u = ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    f64::from(weight) / -ln(u)
}

/// The natural logarithm of a normal positive number, the same bits on every platform, which the system's is not.
///
/// x = m · 2^e with m within √½ … √2, and ln m = 2 artanh s = 2 (s + s³/3 + s⁵/5 …) with s = (m − 1) / (m + 1), so
/// |s| ≤ 0.172 and ten terms leave an error below one part in 10^16.
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    const ONE: u64 = 1023 << 52;
    let mut exponent = (x.to_bits() >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits(x.to_bits() & MANTISSA | ONE);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..10).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::ln;

    #[test]
    fn the_portable_logarithm_agrees_with_the_systems() {
        let near_one = (0..2000).map(|i| 1.0 - f64::from(i + 1) * f64::EPSILON);
        let wide = (1..20_000).map(|i| f64::from(i) / 20_000.0);
        let small = (1..=53).map(|i| 0.5f64.powi(i));
        for x in near_one.chain(wide).chain(small) {
            let (ours, theirs) = (ln(x), x.ln());
            assert!((ours - theirs).abs() <= 4e-16 * theirs.abs(), "ln {x}: {ours} and {theirs}");
        }
    }
}
