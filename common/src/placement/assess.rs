//! How good a table is, and what it costs to come there.

use super::roster::Roster;
use super::share::fair_shares;
use super::{Member, Table};

/// A table against its members, and against the table before it. Vectors run over the members, in their order.
/// Loads and shares are counted in cells: one partition's place for one replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// What each member should own: its weight's share, at most one cell a partition, zones as the rules have them.
    /// A fraction; a table that meets it has the number below or above.
    pub shares: Vec<f64>,
    /// What each member owns.
    pub loads: Vec<u32>,
    /// Of how many partitions each member is the first owner.
    pub firsts: Vec<u32>,
    /// Cells whose node did not own the partition before. 0 where there is no old table.
    pub moved: u32,
    /// The fewest cells that must move to give every member its share: Σ (share − old load), where positive.
    pub minimum: f64,
}

/// Holds `new` against `members`' fair shares, and counts what changed since `old`, whose width may differ.
///
/// Both tables count nodes by `members`; it panics where they name others, or where their partitions differ in
/// number.
pub fn assess(members: &[Member], old: Option<&Table>, new: &Table) -> Balance {
    let roster = Roster::new(members);
    let mut shares = vec![0.0; members.len()];
    for (seat, share) in roster.seats.iter().zip(fair_shares(&roster, new.partitions(), new.width())) {
        shares[usize::from(seat.member)] = share;
    }
    let (loads, firsts) = (loads(members, new, new.width()), loads(members, new, 1));
    let Some(old) = old else {
        return Balance { shares, loads, firsts, moved: 0, minimum: 0.0 };
    };
    assert_eq!(old.partitions(), new.partitions(), "the number of partitions never changes");
    let moved = old.rows().zip(new.rows()).map(|(old, new)| new.iter().filter(|n| !old.contains(n)).count());
    let lacking =
        shares.iter().zip(self::loads(members, old, old.width())).map(|(s, load)| s - f64::from(load));
    Balance {
        moved: moved.sum::<usize>() as u32,
        minimum: lacking.filter(|cells| *cells > 0.0).sum(),
        shares,
        loads,
        firsts,
    }
}

/// How often each member is among the first `width` owners.
fn loads(members: &[Member], table: &Table, width: usize) -> Vec<u32> {
    let mut loads = vec![0; members.len()];
    for node in table.rows().flat_map(|row| &row[..width]) {
        loads[usize::from(*node)] += 1;
    }
    loads
}

impl Balance {
    /// The fullest member's load as a multiple of its share: 1 is perfect. Infinite where one without a share,
    /// because it is leaving, still owns something.
    pub fn fullest(&self) -> f64 {
        let owning = self.shares.iter().zip(&self.loads).filter(|(_, load)| **load > 0);
        owning.map(|(share, load)| f64::from(*load) / share).fold(0.0, f64::max)
    }

    /// The most cells that a member owns beyond its share. Below 1 no whole cell could be given away.
    pub fn surplus(&self) -> f64 {
        let beyond = self.shares.iter().zip(&self.loads).map(|(share, load)| f64::from(*load) - share);
        beyond.fold(0.0, f64::max)
    }

    /// What moved as a multiple of the minimum: 1 is perfect, less means that balance was left behind. 1 where
    /// nothing moved.
    pub fn movement(&self) -> f64 {
        if self.moved == 0 { 1.0 } else { f64::from(self.moved) / self.minimum }
    }

    /// Whether every member is at most `percent` fuller than its share, and at most `percent` more moved than the
    /// minimum; missing either by less than one cell, which cannot be split, does not count.
    pub fn within(&self, percent: f64) -> bool {
        self.is_level(percent)
            && less_than_a_cell_beyond(self.minimum * (1.0 + percent / 100.0), self.minimum, self.moved)
    }

    /// The first half of [`Balance::within`].
    pub fn is_level(&self, percent: f64) -> bool {
        let factor = 1.0 + percent / 100.0;
        let mut members = self.shares.iter().zip(&self.loads);
        members.all(|(share, load)| less_than_a_cell_beyond(share * factor, *share, *load))
    }
}

fn less_than_a_cell_beyond(limit: f64, exact: f64, cells: u32) -> bool {
    f64::from(cells) <= limit || f64::from(cells) - exact < 1.0
}
