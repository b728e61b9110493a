//! What was seen of one direction between two nodes, and whether the simulated network could have done it.
//!
//! The model is only worth its seeds if the real thing does nothing that it does not: a test has libzmq make records of
//! this form, and the network's own tests have the model make them. [`admits`] holds both against the same rules:
//!
//! 1. Nothing arrives that was not taken, and nothing twice.
//! 2. One connection carries a stretch of what was taken, in order and without a gap; what is lost is its tail.
//! 3. The stretches of two connections do not overlap, and there are no more of them than connections were made. In
//!    which order two connections' messages arrive is open: the receiver may read what is left of
//!    the old one later, or in turn with the new one.
//! 4. What is taken on a connection that lasts arrives.
//! 5. A message is refused only where there is no connection, or where so many were taken by the present one that its
//!    queue may be full. In the first case none is taken before the next connection. What was refused never arrives.
//! 6. While nothing passes nothing arrives.

use std::collections::{BTreeMap, BTreeSet};

/// So many messages fill a connection's queue at the sender: libzmq's own bound, which the shell leaves as it is. They
/// may all have been sent: libzmq hears of it up to a millisecond later.
pub const QUEUE_MAX: u64 = 1_000;

/// Something that was seen. Messages have numbers, and are given in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The sender has a connection.
    Connected,
    /// The sender knows that it has none any more.
    Disconnected,
    /// A message was taken.
    Taken(u64),
    /// A message was refused, and stays with the sender.
    Refused(u64),
    /// A message came out at the receiver, on one of its connections. These have numbers of the receiver's own.
    Arrived {
        /// Which.
        connection: u64,
        /// Of the message.
        number: u64,
    },
    /// From here on nothing passes, and what had passed before has arrived.
    Stalled,
    /// It does again, or a new connection may be made that is not held up.
    Resumed,
    /// All that still comes has come.
    Rest,
}

/// Whether the network could have done this; else, what it never does.
///
/// # Errors
/// The first rule that is broken, in words.
pub fn admits(record: &[Seen]) -> Result<(), String> {
    let mut line = Line::default();
    record.iter().try_for_each(|seen| line.see(*seen))?;
    line.stretches()
}

#[derive(Default)]
struct Line {
    connected: bool,
    connections: usize,
    /// A message was refused for want of a connection, and none was made since.
    refused: bool,
    stalled: bool,
    taken: BTreeSet<u64>,
    /// How many were taken by the present connection.
    queued: u64,
    /// Those of them that have not arrived.
    owed: BTreeSet<u64>,
    last: Option<u64>,
    arrived: BTreeSet<u64>,
    /// What arrived on each connection.
    stretches: BTreeMap<u64, Vec<u64>>,
}

impl Line {
    fn see(&mut self, seen: Seen) -> Result<(), String> {
        match seen {
            Seen::Connected => {
                (self.connected, self.refused) = (true, false);
                self.connections += 1;
                self.queued = 0;
                self.owed.clear();
            }
            Seen::Disconnected => {
                self.connected = false;
                self.owed.clear();
            }
            Seen::Taken(number) => self.take(number)?,
            Seen::Refused(number) => {
                self.give(number)?;
                if self.connected && self.queued < QUEUE_MAX {
                    let queued = self.queued;
                    return Err(format!(
                        "{number} was refused by a connection that had taken {queued} messages"
                    ));
                }
                self.refused |= !self.connected;
            }
            Seen::Arrived { connection, number } => self.arrive(connection, number)?,
            Seen::Stalled => self.stalled = true,
            Seen::Resumed => self.stalled = false,
            Seen::Rest => {
                if let Some(number) = self.owed.first().filter(|_| !self.stalled) {
                    return Err(format!("{number} was lost, and its connection was not"));
                }
            }
        }
        Ok(())
    }

    fn give(&mut self, number: u64) -> Result<(), String> {
        if self.last.is_some_and(|last| last >= number) {
            return Err(format!("{number} was given after {}: that is no record", self.last.unwrap_or(0)));
        }
        self.last = Some(number);
        Ok(())
    }

    fn take(&mut self, number: u64) -> Result<(), String> {
        self.give(number)?;
        if self.connections == 0 {
            return Err(format!("{number} was taken before there was a connection"));
        }
        if self.refused {
            return Err(format!(
                "{number} was taken after one was refused, and no connection was made between"
            ));
        }
        self.taken.insert(number);
        // Where the connection is gone already its end takes this one along.
        if self.connected {
            self.queued += 1;
            self.owed.insert(number);
        }
        Ok(())
    }

    fn arrive(&mut self, connection: u64, number: u64) -> Result<(), String> {
        if self.stalled {
            return Err(format!("{number} arrived while nothing passed"));
        }
        if !self.taken.contains(&number) {
            return Err(format!("{number} arrived and was never taken"));
        }
        if !self.arrived.insert(number) {
            return Err(format!("{number} arrived twice"));
        }
        self.owed.remove(&number);
        let stretch = self.stretches.entry(connection).or_default();
        if let Some(before) = stretch.last().filter(|before| **before > number) {
            return Err(format!("{number} arrived after {before} on one connection"));
        }
        stretch.push(number);
        Ok(())
    }

    /// Whether each connection carried a stretch of its own, without a gap.
    fn stretches(&self) -> Result<(), String> {
        if self.stretches.len() > self.connections {
            let (seen, made) = (self.stretches.len(), self.connections);
            return Err(format!("messages came on {seen} connections, and {made} were made"));
        }
        for stretch in self.stretches.values() {
            let [Some(first), Some(last)] = [stretch.first(), stretch.last()] else { continue };
            let here: BTreeSet<&u64> = stretch.iter().collect();
            if let Some(gap) = self.taken.range(first..=last).find(|number| !here.contains(number)) {
                let how = if self.arrived.contains(gap) { "came on another connection" } else { "is lost" };
                return Err(format!("of the stretch from {first} to {last} on one connection {gap} {how}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Seen::{Connected, Disconnected, Refused, Rest, Resumed, Stalled, Taken};
    use super::*;

    fn on(connection: u64, number: u64) -> Seen {
        Seen::Arrived { connection, number }
    }

    #[test]
    fn what_libzmq_does_is_admitted() {
        let records: [&[Seen]; 6] = [
            &[],
            &[Refused(1), Connected, Taken(2), Taken(3), on(0, 2), on(0, 3), Rest],
            // The tail is lost: what was under way, and what was taken before anybody noticed.
            &[
                Connected,
                Taken(1),
                Taken(2),
                on(0, 1),
                Disconnected,
                Taken(3),
                Refused(4),
                Connected,
                Taken(5),
                on(1, 5),
                Rest,
            ],
            // A whole connection's messages, or none of them.
            &[
                Connected,
                Disconnected,
                Connected,
                Taken(1),
                Disconnected,
                Connected,
                Taken(2),
                on(7, 2),
                Rest,
            ],
            // The old connection's messages among those of the new one.
            &[
                Connected,
                Taken(1),
                Taken(2),
                Disconnected,
                Connected,
                Taken(3),
                Taken(4),
                on(0, 1),
                on(1, 3),
                on(0, 2),
                on(1, 4),
            ],
            // Held up.
            &[Connected, Taken(1), on(0, 1), Stalled, Taken(2), Resumed, on(0, 2), Rest],
        ];
        for record in records {
            assert_eq!(admits(record), Ok(()), "{record:?}");
        }
    }

    #[test]
    fn a_full_line_refuses_and_goes_on() {
        let mut record = vec![Connected];
        record.extend((1..=QUEUE_MAX).map(Taken));
        record.extend([Refused(QUEUE_MAX + 1), Taken(QUEUE_MAX + 2)]);
        record.extend((1..=QUEUE_MAX).map(|number| on(0, number)));
        record.extend([on(0, QUEUE_MAX + 2), Rest]);
        assert_eq!(admits(&record), Ok(()));
        record.retain(|seen| *seen != Taken(7) && *seen != on(0, 7));
        assert!(admits(&record).expect_err("one less").contains("had taken 999"));
    }

    #[test]
    fn what_breaks_a_rule_is_refused_by_its_name() {
        let records: [(&[Seen], &str); 15] = [
            (&[Connected, Taken(1), on(0, 2)], "2 arrived and was never taken"),
            (&[Refused(1), Connected, on(0, 1)], "1 arrived and was never taken"),
            (&[Connected, Taken(1), on(0, 1), on(0, 1)], "1 arrived twice"),
            (&[Connected, Taken(1), on(0, 1), Disconnected, Connected, on(1, 1)], "1 arrived twice"),
            (&[Connected, Taken(1), Taken(2), on(0, 2), on(0, 1)], "1 arrived after 2 on one connection"),
            (
                &[Connected, Taken(1), Taken(2), Taken(3), on(0, 1), on(0, 3), Disconnected],
                "of the stretch from 1 to 3 on one connection 2 is lost",
            ),
            (
                &[
                    Connected,
                    Taken(1),
                    Taken(2),
                    Taken(3),
                    Disconnected,
                    Connected,
                    on(0, 1),
                    on(0, 3),
                    on(1, 2),
                ],
                "2 came on another connection",
            ),
            (&[Connected, Taken(1), Taken(2), on(0, 1), on(1, 2)], "on 2 connections, and 1 were made"),
            (&[Connected, Taken(1), Taken(2), on(0, 1), Rest], "2 was lost, and its connection was not"),
            (&[Connected, Refused(1)], "1 was refused by a connection that had taken 0"),
            (&[Taken(1)], "1 was taken before there was a connection"),
            (&[Connected, Disconnected, Refused(1), Taken(2)], "2 was taken after one was refused"),
            (&[Connected, Taken(1), Stalled, Refused(2)], "2 was refused by a connection that had taken 1"),
            (&[Connected, Taken(1), Stalled, on(0, 1)], "1 arrived while nothing passed"),
            (&[Connected, Taken(2), Taken(1)], "that is no record"),
        ];
        for (record, why) in records {
            let said = admits(record).expect_err(why);
            assert!(said.contains(why), "{record:?}: {said}");
        }
    }
}
