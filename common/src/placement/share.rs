//! Fair shares, and the whole numbers that they become.

use super::roster::Roster;

/// Closer to a whole number than this is that number: the shares' own rounding errors are far smaller.
const WHOLE: f64 = 1e-6;

/// What a table demands of each row, and so of each zone's load.
#[derive(Copy, Clone)]
pub(super) struct Rule {
    pub width: usize,
    /// How many owners of a row may stand in a zone that the row has already: none while zones suffice.
    pub doubles: usize,
}

impl Rule {
    pub fn new(roster: &Roster, width: usize) -> Rule {
        Rule { width, doubles: width.saturating_sub(roster.zones) }
    }

    /// The least and the most cells of one zone. Where zones do not suffice each is in every row; that this leaves
    /// no zone too many follows.
    fn zone_bounds(&self, roster: &Roster, partitions: u32) -> (f64, f64) {
        let rows = f64::from(partitions);
        if roster.zones >= self.width { (0.0, rows) } else { (rows, rows * self.width as f64) }
    }
}

/// Each seat's fair share in cells: in proportion to its weight, but at most one cell a row, and zones within
/// [`Rule::zone_bounds`]. What one cannot take flows to the others (water-filling).
pub(super) fn fair_shares(roster: &Roster, partitions: u32, width: usize) -> Vec<f64> {
    let rows = f64::from(partitions);
    let (least, most) = Rule::new(roster, width).zone_bounds(roster, partitions);
    let zones: Vec<Vec<f64>> = (0..roster.zones)
        .map(|zone| {
            let seats = roster.seats.iter().filter(|s| usize::from(s.zone) == zone);
            seats.map(|s| f64::from(s.weight)).collect()
        })
        .collect();
    let poured = |zone: &[f64], level: f64| zone.iter().map(|w| (w * level).min(rows)).sum::<f64>();

    let level = level(rows * width as f64, rows, |level| {
        zones.iter().map(|zone| poured(zone, level).clamp(least, most)).sum()
    });
    let levels: Vec<f64> = zones
        .iter()
        .map(|zone| match poured(zone, level) {
            sum if sum < least => self::level(least, rows, |level| poured(zone, level)),
            sum if sum > most => self::level(most, rows, |level| poured(zone, level)),
            _ => level,
        })
        .collect();
    let share = |weight: u32, zone: u8| (f64::from(weight) * levels[usize::from(zone)]).min(rows);
    roster.seats.iter().map(|s| snapped(share(s.weight, s.zone))).collect()
}

/// The level at which `volume`, which grows with the level, reaches `wanted`. At `highest` a weight of 1 is full.
fn level(wanted: f64, highest: f64, volume: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, highest);
    // Until the two are neighbours, and 100 halvings tell any two levels apart that matter.
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if volume(middle) < wanted { low = middle } else { high = middle }
    }
    high
}

fn snapped(share: f64) -> f64 {
    if (share - share.round()).abs() < WHOLE { share.round() } else { share }
}

/// Each seat's target: its share rounded down or up so that the sum is partitions × width and zones stay within
/// bounds. Up go first those whose load (`held`) is above the lower number: that moves the least. A table that meets
/// its targets keeps them.
pub(super) fn targets(
    roster: &Roster,
    shares: &[f64],
    held: &[u32],
    partitions: u32,
    width: usize,
) -> Vec<u32> {
    let (least, most) = Rule::new(roster, width).zone_bounds(roster, partitions);
    let mut targets: Vec<u32> = shares.iter().map(|share| share.floor() as u32).collect();
    let mut zone_sums = vec![0u32; roster.zones];
    for (seat, target) in roster.seats.iter().zip(&targets) {
        zone_sums[usize::from(seat.zone)] += target;
    }

    let mut candidates: Vec<usize> = (0..shares.len()).filter(|s| shares[*s].fract() > 0.0).collect();
    candidates.sort_by(|a, b| {
        let keeps = |s: &usize| held[*s] > targets[*s];
        keeps(b).cmp(&keeps(a)).then(shares[*b].fract().total_cmp(&shares[*a].fract()))
    });
    // First the zones that must have more, then whoever is next in a zone that may.
    let mut missing = partitions * width as u32 - targets.iter().sum::<u32>();
    for bound in [least, most] {
        candidates.retain(|s| {
            let zone_sum = &mut zone_sums[usize::from(roster.seats[*s].zone)];
            let raise = missing > 0 && f64::from(*zone_sum) < bound;
            if raise {
                targets[*s] += 1;
                *zone_sum += 1;
                missing -= 1;
            }
            !raise
        });
    }
    debug_assert_eq!(missing, 0, "what fits as fractions fits as whole numbers");
    targets
}
