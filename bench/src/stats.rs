//! What is said of a figure that was measured in several rounds.

use std::fmt;

/// The median, and how far the rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Of an even number of rounds: the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// `None` of no rounds.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
        Some(Spread { median, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { median, min, max } = *self;
        write!(f, "{} ({}–{})", short(median), short(min), short(max))
    }
}

/// Three digits that say something, as people write them: 1.07 M, 583 k, 12.4, 0.431.
pub fn short(figure: f64) -> String {
    let (scaled, unit) = match figure.abs() {
        f if f >= 999_500.0 => (figure / 1e6, " M"),
        // Four digits are still read at a glance, and latencies stay comparable.
        f if f >= 9_999.5 => (figure / 1e3, " k"),
        _ => (figure, ""),
    };
    let decimals = match scaled.abs() {
        f if f >= 99.95 => 0,
        f if f >= 9.995 => 1,
        f if f >= 0.9995 => 2,
        _ => 3,
    };
    format!("{scaled:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = Spread::of([3.0, 1.0, 2.0]).expect("rounds");
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).map(|s| s.median), Some(1.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn figures_are_short() {
        for (figure, text) in [
            (1_073_000.0, "1.07 M"),
            (999_600.0, "1.00 M"),
            (583_400.0, "583 k"),
            (10_512.0, "10.5 k"),
            (9_400.0, "9400"),
            (99.96, "100"),
            (12.42, "12.4"),
            (0.4311, "0.431"),
            (0.0, "0.000"),
        ] {
            assert_eq!(short(figure), text);
        }
    }
}
