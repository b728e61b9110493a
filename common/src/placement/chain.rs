//! Chains of hand-overs, for where the rules let nobody who exceeds its target give to anybody who lacks.
//!
//! An arrow a → b stands for some row in which b may take a's cell. A shortest path of arrows from a node that
//! exceeds to one that lacks is an augmenting path: every node between gives one cell and takes one. Being the
//! shortest, it may be walked as a whole: if two of its arrows used one row so that each forbade the other, that row
//! would also allow the arrow that cuts both short.

use std::collections::VecDeque;

use super::draft::Draft;
use super::roster::SeatIndex;

/// In this row `taker` may have `giver`'s cell.
#[derive(Copy, Clone)]
struct Arrow {
    giver: SeatIndex,
    taker: SeatIndex,
    row: usize,
}

/// What an arrow may cost.
#[derive(Copy, Clone)]
enum Price {
    /// The cell is new to its giver: that it is handed on moves nothing more.
    Fresh,
    /// That, or the taker owned it before: nothing more moves either.
    Free,
    /// One more cell may move.
    Any,
}

impl Draft<'_> {
    /// Walks all chains that hand on only cells that are new to their owners.
    pub(super) fn chain_fresh(&mut self) {
        let mut rows_of = self.rows_by_owner(|row, owner| self.is_fresh(row, owner));
        let ends = |draft: &Self| (draft.seats(Draft::exceeds), draft.seats(Draft::lacks));
        while let Some(path) = self.shortest(ends(self), &rows_of, &[Price::Fresh]) {
            self.walk(&path, &mut rows_of);
        }
    }

    /// Walks chains until no seat strays from its share.
    pub(super) fn chain(&mut self) {
        let mut rows_of = self.rows_by_owner(|_, _| true);
        while let Some(ends) = self.ends() {
            let path = self
                .shortest(ends, &rows_of, &[Price::Free, Price::Any])
                .expect("a table that meets all targets exists, so a path leads towards it");
            self.walk(&path, &mut rows_of);
        }
    }

    /// Where the next chain may start and end.
    fn ends(&self) -> Option<(Vec<SeatIndex>, Vec<SeatIndex>)> {
        let too_full = self.seats(|draft, seat| draft.strays(seat) && draft.exceeds(seat));
        if !too_full.is_empty() {
            return Some((too_full, self.seats(Draft::lacks)));
        }
        let too_empty = self.seats(|draft, seat| draft.strays(seat) && draft.lacks(seat));
        (!too_empty.is_empty()).then(|| (self.seats(Draft::exceeds), too_empty))
    }

    /// For each seat, the rows that hold it, as far as they are picked.
    fn rows_by_owner(&self, pick: impl Fn(usize, SeatIndex) -> bool) -> Vec<Vec<usize>> {
        let mut rows_of = vec![Vec::new(); self.load.len()];
        for (row, owners) in self.rows.iter().enumerate() {
            for owner in owners.iter().filter(|owner| pick(row, **owner)) {
                rows_of[usize::from(*owner)].push(row);
            }
        }
        rows_of
    }

    fn seats(&self, pick: impl Fn(&Self, SeatIndex) -> bool) -> Vec<SeatIndex> {
        (0..self.load.len()).map(|seat| seat as SeatIndex).filter(|seat| pick(self, *seat)).collect()
    }

    /// The arrows of a shortest path from any of the first seats to any of the second, the last arrow first: breadth
    /// first. Of arrows between the same two seats it takes one of an earlier price.
    fn shortest(
        &self,
        (from, to): (Vec<SeatIndex>, Vec<SeatIndex>),
        rows_of: &[Vec<usize>],
        prices: &[Price],
    ) -> Option<Vec<Arrow>> {
        let mut unseen = self.seats(|_, seat| !from.contains(&seat));
        let mut arrow_to: Vec<Option<Arrow>> = vec![None; self.load.len()];
        let mut queue = VecDeque::from(from);
        while let Some(giver) = queue.pop_front() {
            let rows = &rows_of[usize::from(giver)];
            for arrow in prices.iter().flat_map(|price| self.arrows(giver, rows, *price, &mut unseen)) {
                arrow_to[usize::from(arrow.taker)] = Some(arrow);
                queue.push_back(arrow.taker);
            }
            if let Some(end) = to.iter().find(|seat| arrow_to[usize::from(**seat)].is_some()) {
                let before = |arrow: &Arrow| arrow_to[usize::from(arrow.giver)];
                return Some(std::iter::successors(arrow_to[usize::from(*end)], before).collect());
            }
        }
        None
    }

    /// One arrow to each unseen seat that `giver` has one to in its `rows`; those seats are seen then.
    fn arrows(
        &self,
        giver: SeatIndex,
        rows: &[usize],
        price: Price,
        unseen: &mut Vec<SeatIndex>,
    ) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for &row in rows {
            let (at, fresh) = (self.place(row, giver), self.is_fresh(row, giver));
            unseen.retain(|taker| {
                let affordable = match price {
                    Price::Fresh => fresh,
                    Price::Free => fresh || !self.is_fresh(row, *taker),
                    Price::Any => true,
                };
                let takes = affordable && self.may_take(*taker, row, at);
                if takes {
                    arrows.push(Arrow { giver, taker: *taker, row });
                }
                !takes
            });
            if unseen.is_empty() {
                break;
            }
        }
        arrows
    }

    fn walk(&mut self, path: &[Arrow], rows_of: &mut [Vec<usize>]) {
        for Arrow { giver, taker, row } in path {
            self.hand(*row, self.place(*row, *giver), *taker);
            rows_of[usize::from(*giver)].retain(|other| other != row);
            rows_of[usize::from(*taker)].push(*row);
        }
    }

    fn place(&self, row: usize, owner: SeatIndex) -> usize {
        self.rows[row].iter().position(|other| *other == owner).expect("the row was found by this owner")
    }
}
