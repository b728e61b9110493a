//! The network between nodes: for each direction of each pair a line, in order, that may be slow, held up, cut or lost.
//!
//! It is what libzmq and the shell's queues give together: what is under way when a connection breaks is gone in
//! silence, but for the part that the receiver's side has already; what is said while there is no connection waits for
//! a second and then comes back as unsent, and if the receiver restarts meanwhile, its new life hears what was said to
//! the old one. Gossip goes beside it, and waits for nothing. That libzmq does nothing else is held against it by `tests/zeromq`, by the rules of [`record`].

pub mod record;

use std::collections::{BTreeMap, VecDeque};

use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;

/// How long a message waits for a connection, in microseconds.
pub const WAITING_US: u64 = 1_000_000;

/// A direction between two nodes.
pub type Pair = (NodeName, NodeName);

/// A message that waits for a connection.
#[derive(Debug)]
pub struct Waiting {
    /// Since when.
    pub since_us: u64,
    /// As bytes.
    pub bytes: Vec<u8>,
    /// As it goes back.
    pub message: Message,
}

/// How long a sender takes to notice that nothing comes back, in microseconds: the heartbeat's time-out, and up to one
/// heartbeat more.
pub const NOTICED_US: (u64, u64) = (3_000_000, 4_000_000);

/// What becomes of a message whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It was lost with its connection.
    Lost,
    /// It is held up, at least until then.
    Later(u64),
}

/// A message's place: the connection that it went by, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 0.
    pub connection: u64,
    /// Counted from 0.
    pub number: u64,
}

/// A connection, and what becomes of what went by it.
#[derive(Debug)]
struct Connection {
    /// Messages that went by it.
    sent: u64,
    /// Those of them that arrived.
    arrived: u64,
    /// Where it broke, those of them that arrive before it is forgotten.
    arrive: u64,
    /// When the last one arrives: the next one comes no earlier.
    last_us: u64,
    /// Nothing arrives before.
    from_us: u64,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection { sent: 0, arrived: 0, arrive: u64::MAX, last_us: 0, from_us: 0 }
    }
}

/// One direction.
///
/// Each connection is in order. Two are not, between them: the receiver may not have read all of a broken one when the
/// next one's messages come, and libzmq's ROUTER then takes from both in turn.
#[derive(Debug, Default)]
pub struct Link {
    /// Which connection is used now.
    pub present: u64,
    connections: BTreeMap<u64, Connection>,
    /// No connection before.
    pub cut_until_us: u64,
    /// What waits for a connection.
    pub waiting: VecDeque<Waiting>,
}

impl Link {
    /// Messages under way on the present connection.
    pub fn under_way(&self) -> u64 {
        self.connections.get(&self.present).map_or(0, |c| c.sent - c.arrived)
    }

    /// Takes a message that would arrive at this time if it were alone. Returns its place, and when to look at it.
    pub fn take(&mut self, at_us: u64) -> (Place, u64) {
        let connection = self.present();
        let number = connection.sent;
        connection.sent += 1;
        connection.last_us = connection.last_us.max(at_us);
        let at_us = connection.last_us;
        (Place { connection: self.present, number }, at_us)
    }

    /// What becomes of a message whose time has come.
    pub fn fate(&mut self, place: Place, now_us: u64) -> Fate {
        let Some(connection) = self.connections.get_mut(&place.connection) else { return Fate::Lost };
        if place.number >= connection.arrive {
            return Fate::Lost;
        }
        if connection.from_us > now_us {
            return Fate::Later(connection.from_us);
        }
        // Those before it were held up to this moment.
        if place.number > connection.arrived {
            return Fate::Later(now_us + 50);
        }
        connection.arrived += 1;
        if connection.arrived == connection.arrive {
            self.connections.remove(&place.connection);
        }
        Fate::Arrives
    }

    /// Nothing arrives before then.
    pub fn hold_up(&mut self, until_us: u64) {
        let connection = self.present();
        connection.from_us = connection.from_us.max(until_us);
    }

    /// Until when nothing arrives.
    pub fn held_up_until_us(&self) -> u64 {
        self.connections.get(&self.present).map_or(0, |c| c.from_us)
    }

    /// The connection breaks: of what is under way so many messages still arrive, not before then, and the rest is lost.
    pub fn break_off(&mut self, arrive: u64, from_us: u64) {
        let connection = self.present();
        connection.arrive = connection.arrived + arrive;
        connection.from_us = connection.from_us.max(from_us);
        if arrive == 0 {
            self.connections.remove(&self.present);
        }
        self.present += 1;
    }

    /// The receiver ends: nothing that was under way arrives.
    pub fn lose_all(&mut self) {
        self.connections.clear();
        self.present += 1;
    }

    fn present(&mut self) -> &mut Connection {
        self.connections.entry(self.present).or_default()
    }
}

/// All directions that were ever used.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<Pair, Link>,
}

impl Network {
    /// One direction.
    pub fn link(&mut self, pair: Pair) -> &mut Link {
        self.links.entry(pair).or_default()
    }

    /// Ends all cuts, and says of which directions.
    pub fn heal(&mut self, now_us: u64) -> Vec<Pair> {
        let cut = self.links.iter_mut().filter(|(_, link)| link.cut_until_us > now_us);
        cut.map(|(pair, link)| {
            link.cut_until_us = now_us;
            *pair
        })
        .collect()
    }

    /// The directions that lead to a node, and have something waiting.
    pub fn waiting_for(&self, name: NodeName) -> Vec<Pair> {
        let waits = |(pair, link): &(&Pair, &Link)| pair.1 == name && !link.waiting.is_empty();
        self.links.iter().filter(waits).map(|(pair, _)| *pair).collect()
    }

    /// All directions from or to a node.
    pub fn of(&self, name: NodeName) -> Vec<Pair> {
        self.links.keys().filter(|(from, to)| *from == name || *to == name).copied().collect()
    }

    /// The most messages under way in one direction.
    pub fn fullest(&self) -> usize {
        self.links.values().map(|l| l.under_way() as usize + l.waiting.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::record::{Seen, admits};
    use super::*;
    use crate::random::Random;

    /// A line under random traffic and faults, as its two ends see it.
    fn life(seed: u64) -> Vec<Seen> {
        let mut random = Random::new(seed);
        let (mut link, mut record) = (Link::default(), vec![Seen::Connected]);
        let mut under_way: BTreeMap<(u64, u64), (Place, u64)> = BTreeMap::new();
        let (mut now_us, mut serial) = (0, 0);
        for number in 0..200 {
            let until_us = now_us + random.between(1, 50);
            while let Some(((at_us, _), (place, message))) = under_way.pop_first() {
                if at_us > until_us {
                    under_way.insert((at_us, serial), (place, message));
                    serial += 1;
                    break;
                }
                match link.fate(place, at_us) {
                    Fate::Arrives => {
                        record.push(Seen::Arrived { connection: place.connection, number: message });
                    }
                    Fate::Lost => {}
                    Fate::Later(at_us) => drop(under_way.insert((at_us, serial), (place, message))),
                }
                serial += 1;
            }
            now_us = until_us;
            match random.below(20) {
                0 => {
                    let arrive = random.between(0, link.under_way());
                    link.break_off(arrive, now_us + random.below(300));
                    record.extend([Seen::Disconnected, Seen::Refused(2 * number), Seen::Connected]);
                }
                1 => link.hold_up(now_us + random.below(300)),
                _ => {}
            }
            let (place, at_us) = link.take(now_us + random.between(1, 100));
            under_way.insert((at_us, serial), (place, 2 * number + 1));
            serial += 1;
            record.push(Seen::Taken(2 * number + 1));
        }
        record
    }

    #[test]
    fn the_model_keeps_its_own_rules_and_shows_all_that_they_leave_open() {
        let (mut lost, mut late) = (0, 0);
        for seed in 0..200 {
            let record = life(seed);
            assert_eq!(admits(&record), Ok(()), "seed {seed}");
            let taken = record.iter().filter(|seen| matches!(seen, Seen::Taken(_))).count();
            let arrived: Vec<u64> = record
                .iter()
                .filter_map(|seen| match seen {
                    Seen::Arrived { connection, .. } => Some(*connection),
                    _ => None,
                })
                .collect();
            lost += taken - arrived.len();
            late += arrived.windows(2).filter(|two| two[0] > two[1]).count();
        }
        assert!(lost > 0 && late > 0, "{lost} lost, {late} of an old connection after the next one's");
    }

    #[test]
    fn who_ends_hears_nothing_of_what_was_under_way() {
        let mut link = Link::default();
        let (first, _) = link.take(10);
        link.break_off(1, 0);
        let (second, _) = link.take(20);
        link.lose_all();
        assert_eq!([link.fate(first, 30), link.fate(second, 30)], [Fate::Lost; 2]);
        let (third, at_us) = link.take(40);
        assert_eq!((link.fate(third, at_us), link.under_way()), (Fate::Arrives, 0));
    }
}
