//! A table in the making: rows of owners that lose and gain until every seat has its target.

use super::NODES_MAX;
use super::lead;
use super::order::Orders;
use super::roster::{Roster, SeatIndex};
use super::share::{Rule, fair_shares, targets};

pub(super) struct Draft<'a> {
    roster: &'a Roster,
    orders: &'a Orders,
    rule: Rule,
    /// The rows to start from.
    old: &'a [Vec<SeatIndex>],
    /// Each partition's owners, all within [`Draft::allows`]. A row shorter than the rule's width has vacancies.
    pub(super) rows: Vec<Vec<SeatIndex>>,
    /// How many cells each seat has in `rows`.
    pub(super) load: Vec<u32>,
    /// How many it is to have: in sum as many as there are cells.
    pub(super) target: Vec<u32>,
    share: Vec<f64>,
    /// By what part of its share a seat may miss it.
    slack: f64,
}

impl<'a> Draft<'a> {
    /// Rows that differ from `old` as little as brings every seat to its fair share. Within `percent` of it is near
    /// enough: where all seats are, nothing moves, and nothing moves beyond the minimum to come nearer.
    pub fn balance(
        roster: &'a Roster,
        orders: &'a Orders,
        width: usize,
        percent: f64,
        old: &'a [Vec<SeatIndex>],
    ) -> Vec<Vec<SeatIndex>> {
        let mut draft = Draft::new(roster, orders, width, percent, old);
        draft.keep();
        if !draft.is_settled() {
            // What moves in these two is part of the minimum: it goes to a seat that lacks, from one that is leaving
            // or has too much.
            draft.fill(Draft::lacks);
            draft.level();
            // What the rules then leave vacant overfills somebody, who passes it on: first for nothing, then for more.
            draft.fill(|_, _| true);
            draft.chain_fresh();
            draft.chain();
        }
        lead::spread_firsts(&mut draft.rows, &draft.load);
        draft.rows
    }

    fn new(
        roster: &'a Roster,
        orders: &'a Orders,
        width: usize,
        percent: f64,
        old: &'a [Vec<SeatIndex>],
    ) -> Draft<'a> {
        let mut load = vec![0; roster.seats.len()];
        for seat in old.iter().flatten() {
            load[usize::from(*seat)] += 1;
        }
        let partitions = old.len() as u32;
        let share = fair_shares(roster, partitions, width);
        let target = targets(roster, &share, &load, partitions, width);
        let (rule, slack) = (Rule::new(roster, width), percent / 100.0);
        Draft { roster, orders, rule, old, rows: old.to_vec(), load, target, share, slack }
    }

    fn is_settled(&self) -> bool {
        let full = self.rows.iter().all(|row| row.len() == self.rule.width);
        full && (0..self.load.len()).all(|seat| !self.strays(seat as SeatIndex))
    }

    /// Whether a seat misses its share by more than the slack and by more than the one cell that rounding takes.
    pub(super) fn strays(&self, seat: SeatIndex) -> bool {
        let (share, load) = (self.share[usize::from(seat)], f64::from(self.load[usize::from(seat)]));
        let factor = 1.0 + self.slack;
        load > share.ceil().max(share * factor) || load < share.floor().min(share / factor)
    }

    /// Whether a row may hold these owners, given that all are distinct: at most so many in zones that others of
    /// them stand in that a full row still has as many zones as it can.
    fn allows(&self, owners: impl Iterator<Item = SeatIndex>) -> bool {
        // A bit a zone, for this is asked more often than anything else.
        let mut zones = [0u64; NODES_MAX / 64];
        let doubles = owners.filter(|owner| {
            let zone = usize::from(self.roster.zone(*owner));
            let (word, bit) = (&mut zones[zone / 64], 1 << (zone % 64));
            let double = *word & bit != 0;
            *word |= bit;
            double
        });
        doubles.count() <= self.rule.doubles
    }

    /// Whether `taker` may have the row's cell `at` instead of its owner; at the row's end: a vacancy.
    pub(super) fn may_take(&self, taker: SeatIndex, row: usize, at: usize) -> bool {
        let row = &self.rows[row];
        let others = row.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, owner)| *owner);
        !row.contains(&taker) && self.allows(others.chain([taker]))
    }

    /// Whether an owner is new in its row: if it hands the cell on, nothing more moves than did already.
    pub(super) fn is_fresh(&self, row: usize, owner: SeatIndex) -> bool {
        !self.old[row].contains(&owner)
    }

    pub(super) fn lacks(&self, seat: SeatIndex) -> bool {
        self.load[usize::from(seat)] < self.target[usize::from(seat)]
    }

    pub(super) fn exceeds(&self, seat: SeatIndex) -> bool {
        self.load[usize::from(seat)] > self.target[usize::from(seat)]
    }

    fn fullness(&self, seat: SeatIndex) -> f64 {
        f64::from(self.load[usize::from(seat)]) / self.share[usize::from(seat)]
    }

    /// Hands the row's cell `at` to `taker`.
    pub(super) fn hand(&mut self, row: usize, at: usize, taker: SeatIndex) {
        let giver = std::mem::replace(&mut self.rows[row][at], taker);
        self.load[usize::from(giver)] -= 1;
        self.load[usize::from(taker)] += 1;
    }

    /// Makes rows fit the rule by giving up owners: those that exceed their targets most, of equals the later one.
    /// Needed where the width shrinks, or where zones suffice now or count now that did not before.
    fn keep(&mut self) {
        for row in 0..self.rows.len() {
            loop {
                let owners = &self.rows[row];
                let crowded = !self.allows(owners.iter().copied());
                if !crowded && owners.len() <= self.rule.width {
                    break;
                }
                let zone = |at: usize| self.roster.zone(owners[at]);
                let shares_zone = |at: usize| (0..owners.len()).any(|i| i != at && zone(i) == zone(at));
                let excess = |at: usize| {
                    let seat = usize::from(owners[at]);
                    i64::from(self.load[seat]) - i64::from(self.target[seat])
                };
                let leaver = (0..owners.len())
                    .filter(|at| !crowded || shares_zone(*at))
                    .max_by_key(|at| excess(*at))
                    .expect("a row too long or too crowded has somebody to give up");
                let seat = self.rows[row].remove(leaver);
                self.load[usize::from(seat)] -= 1;
            }
        }
    }

    /// Fills vacancies with wanted seats as the rules let them in, best ranks first.
    fn fill(&mut self, wanted: impl Fn(&Self, SeatIndex) -> bool) {
        for rank in 0..self.orders.seats() {
            for row in 0..self.rows.len() {
                let (taker, end) = (self.orders.of(row)[rank], self.rows[row].len());
                if end < self.rule.width && wanted(self, taker) && self.may_take(taker, row, end) {
                    self.rows[row].push(taker);
                    self.load[usize::from(taker)] += 1;
                }
            }
        }
    }

    /// Hands cells of seats that exceed their targets to seats that lack, best ranks first, until no hand-over is left
    /// that helps both.
    fn level(&mut self) {
        let mut handed = true;
        while handed && (0..self.load.len()).any(|seat| self.lacks(seat as SeatIndex)) {
            handed = false;
            for rank in 0..self.orders.seats() {
                for row in 0..self.rows.len() {
                    let taker = self.orders.of(row)[rank];
                    if !self.lacks(taker) {
                        continue;
                    }
                    if let Some(at) = self.giver(row, taker) {
                        self.hand(row, at, taker);
                        handed = true;
                    }
                }
            }
        }
    }

    /// Where in a row an owner exceeds its target and may give its cell to `taker`: the one that is fullest, of
    /// equals the one that the strategy likes least there. Were the fullest left for last, `taker` might by then
    /// have a cell in all of its rows.
    fn giver(&self, row: usize, taker: SeatIndex) -> Option<usize> {
        let rank = |owner: SeatIndex| self.orders.of(row).iter().position(|seat| *seat == owner);
        let owners = self.rows[row].iter().copied().enumerate();
        owners
            .filter(|(at, owner)| self.exceeds(*owner) && self.may_take(taker, row, *at))
            .max_by(|(_, a), (_, b)| {
                self.fullness(*a).total_cmp(&self.fullness(*b)).then_with(|| rank(*a).cmp(&rank(*b)))
            })
            .map(|(at, _)| at)
    }
}
