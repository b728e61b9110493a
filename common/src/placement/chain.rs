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
    price: Price,
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

/// Where chains may start and where they may end.
type Ends = (Vec<SeatIndex>, Vec<SeatIndex>);

impl Draft<'_> {
    /// Walks all chains that hand on only cells that are new to their owners.
    pub(super) fn chain_fresh(&mut self) {
        let fresh_rows_of = self.rows_by_owner(|row, owner| self.is_fresh(row, owner));
        let ends = |draft: &Self| Some((draft.seats(Draft::exceeds), draft.seats(Draft::lacks)));
        self.walk_all(fresh_rows_of, &[Price::Fresh], ends);
    }

    /// Walks chains until no seat strays from its share.
    pub(super) fn chain(&mut self) {
        let rows_of = self.rows_by_owner(|_, _| true);
        self.walk_all(rows_of, &[Price::Free, Price::Any], Draft::straying_ends);
        assert!(
            self.straying_ends().is_none(),
            "a table that meets all targets exists, so a path leads towards it"
        );
    }

    /// Walks shortest paths until there are no ends or no path between them.
    fn walk_all(
        &mut self,
        mut rows_of: Vec<Vec<usize>>,
        prices: &[Price],
        ends: impl Fn(&Self) -> Option<Ends>,
    ) {
        while let Some((from, to)) = ends(self) {
            let Some(mut path) = self.shortest(&from, &to, &rows_of, prices) else { return };
            let (first, last) = (path[path.len() - 1].giver, path[0].taker);
            loop {
                self.walk(&path, &mut rows_of);
                let again = ends(self).is_some_and(|(from, to)| from.contains(&first) && to.contains(&last));
                match self.elsewhere(&path, &rows_of) {
                    Some(next) if again => path = next,
                    _ => break,
                }
            }
        }
    }

    fn straying_ends(&self) -> Option<Ends> {
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
        from: &[SeatIndex],
        to: &[SeatIndex],
        rows_of: &[Vec<usize>],
        prices: &[Price],
    ) -> Option<Vec<Arrow>> {
        let mut unseen = self.seats(|_, seat| !from.contains(&seat));
        let mut arrow_to: Vec<Option<Arrow>> = vec![None; self.load.len()];
        let mut queue = VecDeque::from(from.to_vec());
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
            unseen.retain(|&taker| {
                let arrow = Arrow { giver, taker, row, price };
                let points = self.points(&arrow);
                if points {
                    arrows.push(arrow);
                }
                !points
            });
            if unseen.is_empty() {
                break;
            }
        }
        arrows
    }

    /// Whether there is such an arrow.
    fn points(&self, arrow: &Arrow) -> bool {
        let Arrow { giver, taker, row, price } = *arrow;
        let affordable = match price {
            Price::Fresh => self.is_fresh(row, giver),
            Price::Free => self.is_fresh(row, giver) || !self.is_fresh(row, taker),
            Price::Any => true,
        };
        affordable && self.may_take(taker, row, self.place(row, giver))
    }

    /// The same path through other rows, all different: such arrows do not touch each other. Finding a path anew for
    /// each of the many cells that often go the same way would take long.
    fn elsewhere(&self, path: &[Arrow], rows_of: &[Vec<usize>]) -> Option<Vec<Arrow>> {
        let mut elsewhere: Vec<Arrow> = Vec::with_capacity(path.len());
        for arrow in path {
            let rows = rows_of[usize::from(arrow.giver)].iter();
            let mut arrows = rows.map(|row| Arrow { row: *row, ..*arrow });
            elsewhere
                .push(arrows.find(|new| elsewhere.iter().all(|a| a.row != new.row) && self.points(new))?);
        }
        Some(elsewhere)
    }

    fn walk(&mut self, path: &[Arrow], rows_of: &mut [Vec<usize>]) {
        for Arrow { giver, taker, row, .. } in path {
            self.hand(*row, self.place(*row, *giver), *taker);
            rows_of[usize::from(*giver)].retain(|other| other != row);
            rows_of[usize::from(*taker)].push(*row);
        }
    }

    fn place(&self, row: usize, owner: SeatIndex) -> usize {
        self.rows[row].iter().position(|other| *other == owner).expect("the row was found by this owner")
    }
}
