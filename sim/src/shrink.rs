//! Fewer faults that fail still: what a failing seed's storm can do without is left out, first by halves, then by ever
//! smaller parts (Zeller, Hildebrandt, *Simplifying and isolating failure-inducing input*, 2002).

use crate::seeds::{self, Report};
use crate::storm::Gust;

/// A failing seed with as few faults as were found to fail it; `None` where it does not fail when they are replayed.
pub fn shrink(failed: &Report) -> Option<Report> {
    least(&failed.storm, |storm: &[Gust]| {
        let report = seeds::run_with(failed.seed, Some(storm), None);
        (!report.wrong.is_empty()).then_some(report)
    })
}

/// How it fails with the least of these that still fail: of what is left no single one can be left out.
fn least<T: Clone, R>(all: &[T], fails: impl Fn(&[T]) -> Option<R>) -> Option<R> {
    let mut how = fails(all)?;
    let mut left = all.to_vec();
    let mut part = left.len().div_ceil(2);
    while part > 0 {
        let without = |at: usize| [&left[..at], &left[(at + part).min(left.len())..]].concat();
        let parts = (0..left.len()).step_by(part);
        match parts.map(without).find_map(|rest| fails(&rest).map(|how| (rest, how))) {
            Some((rest, now)) => {
                (left, how) = (rest, now);
                part = part.min(left.len());
            }
            None if part == 1 => break,
            None => part = part.div_ceil(2),
        }
    }
    Some(how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_does_not_need_is_left_out() {
        let all: Vec<u32> = (0..30).collect();
        let fails_with = |needed: &[u32]| {
            let needed = needed.to_vec();
            least(&all, move |some| needed.iter().all(|n| some.contains(n)).then(|| some.to_vec()))
        };
        assert_eq!(fails_with(&[3, 17, 18]), Some(vec![3, 17, 18]));
        assert_eq!(fails_with(&[29]), Some(vec![29]));
        assert_eq!(fails_with(&[]), Some(vec![]));
        assert_eq!(fails_with(&[99]), None, "it did not fail at all");
    }
}
