//! Who stands first in its row.
//!
//! A partition's first owner coordinates and answers for it, so firsts are spread like cells: each seat should lead
//! load / width of its rows. Changing places within a row moves no data.

use super::roster::SeatIndex;

/// Lets owners change places with their row's first wherever that evens out the number of rows that they lead, until
/// no exchange helps. Every exchange lowers Σ (rows led − rows due)², so it ends; a table that is even stays as it is.
pub(super) fn spread_firsts(rows: &mut [Vec<SeatIndex>], load: &[u32]) {
    let width = rows[0].len() as i64;
    // In width-ths of a row, to stay with whole numbers: what a seat leads beyond its due.
    let mut ahead: Vec<i64> = load.iter().map(|load| -i64::from(*load)).collect();
    for row in rows.iter() {
        ahead[usize::from(row[0])] += width;
    }
    let mut exchanged = true;
    while exchanged {
        exchanged = false;
        for row in rows.iter_mut() {
            let least = (0..row.len()).min_by_key(|at| ahead[usize::from(row[*at])]).unwrap_or(0);
            let (first, other) = (usize::from(row[0]), usize::from(row[least]));
            if ahead[first] > ahead[other] + width {
                ahead[first] -= width;
                ahead[other] += width;
                row.swap(0, least);
                exchanged = true;
            }
        }
    }
}
