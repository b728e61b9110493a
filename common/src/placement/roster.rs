//! The members as the algorithms see them: those that take partitions, in order of their names.
//!
//! A *seat* is a place in that order. All work is done on seats, so the caller's order of members changes nothing.

use twox_hash::XxHash3_64;

use super::{Member, NODES_MAX, NodeIndex, Table};

/// An index into [`Roster::seats`].
pub(super) type SeatIndex = u8;

pub(super) struct Seat {
    pub member: NodeIndex,
    /// The hash of the name: what the strategies know of a node's identity.
    pub seed: u64,
    /// Above 0.
    pub weight: u32,
    /// Below [`Roster::zones`].
    pub zone: u8,
}

pub(super) struct Roster {
    pub seats: Vec<Seat>,
    /// How many different zones the seats have.
    pub zones: usize,
    /// Per member, its seat, where it has one.
    seat_of: Vec<Option<SeatIndex>>,
}

impl Roster {
    pub fn new(members: &[Member]) -> Roster {
        assert!(members.len() <= NODES_MAX, "{} members: a ring has at most {NODES_MAX}", members.len());
        let mut takers: Vec<usize> = (0..members.len()).filter(|m| members[*m].weight > 0).collect();
        takers.sort_by_key(|m| &members[*m].name);
        let mut zones: Vec<&str> = takers.iter().map(|m| members[*m].zone.as_str()).collect();
        zones.sort_unstable();
        zones.dedup();

        let mut seat_of = vec![None; members.len()];
        let mut seats = Vec::with_capacity(takers.len());
        for m in takers {
            let Member { name, zone, weight } = &members[m];
            seat_of[m] = Some(seats.len() as SeatIndex);
            seats.push(Seat {
                member: m as NodeIndex,
                seed: XxHash3_64::oneshot(name.as_bytes()),
                weight: *weight,
                zone: zones.partition_point(|z| *z < zone.as_str()) as u8,
            });
        }
        Roster { seats, zones: zones.len(), seat_of }
    }

    pub fn zone(&self, seat: SeatIndex) -> u8 {
        self.seats[usize::from(seat)].zone
    }

    /// A member's seat: none where it takes no partitions.
    pub fn seat(&self, member: NodeIndex) -> Option<SeatIndex> {
        self.seat_of[usize::from(member)]
    }

    /// A table's rows as seats; owners without a seat are left out.
    pub fn seated(&self, table: &Table) -> Vec<Vec<SeatIndex>> {
        table.rows().map(|row| row.iter().filter_map(|member| self.seat(*member)).collect()).collect()
    }

    /// Full rows of seats as a table of members.
    pub fn table(&self, width: usize, rows: &[Vec<SeatIndex>]) -> Table {
        let cells = rows.iter().flatten().map(|seat| self.seats[usize::from(*seat)].member).collect();
        Table::new(width, cells).expect("rows are full, their owners distinct, their number was checked")
    }
}
