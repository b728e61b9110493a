//! Faults between nodes, on purpose: what becomes of a message to another node. Without any nothing is asked.

use std::collections::BTreeMap;

use ringkv_common::message::fault::Fault;
use ringkv_common::message::peer::Message;
use ringkv_common::name::NodeName;

/// Messages that are late at one time; beyond it they are lost, as in a network that is full.
const LATE_MAX: usize = 10_000;

/// What is wrong on the way to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    percent: u8,
    ms: u32,
    cut: bool,
}

impl Way {
    fn take(&mut self, fault: &Fault) {
        match fault {
            Fault::Drop { percent, .. } => self.percent = *percent,
            Fault::Delay { ms, .. } => self.ms = *ms,
            Fault::Cut { .. } => self.cut = true,
            Fault::Heal { .. } | Fault::Clear {} => *self = Way::default(),
            Fault::Fail {} | Fault::Recover {} | Fault::Gossip { .. } | Fault::Handoff {} => {}
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent now.
    Sent,
    /// It is lost.
    Lost,
    /// It is sent when [`Faults::due`] gives it back.
    Late,
}

/// The faults of a node, and the messages that are late.
#[derive(Debug, Default)]
pub struct Faults {
    /// To nodes that are not named below.
    all: Way,
    ways: BTreeMap<NodeName, Way>,
    /// By when they are due, and in which order they came.
    late: BTreeMap<(u64, u64), (NodeName, Message)>,
    /// When the last one to a node is due: none overtakes another.
    last_us: BTreeMap<NodeName, u64>,
    serial: u64,
    random: u64,
}

impl Faults {
    /// None yet; `seed` decides what is lost.
    pub fn new(seed: u64) -> Faults {
        Faults { random: seed, ..Faults::default() }
    }

    /// Takes a fault, or the end of one.
    pub fn take(&mut self, fault: &Fault) {
        match fault {
            Fault::Fail {} | Fault::Cut { to: None } => self.late.clear(),
            Fault::Cut { to: Some(to) } => self.late.retain(|_, (of, _)| of != to),
            _ => {}
        }
        match fault.to() {
            Some(to) => self.ways.entry(to).or_insert(self.all).take(fault),
            None => {
                self.all.take(fault);
                self.ways.values_mut().for_each(|way| way.take(fault));
            }
        }
        let all = self.all;
        self.ways.retain(|_, way| *way != all);
    }

    /// Whether there is nothing to ask.
    pub fn none(&self) -> bool {
        self.all == Way::default() && self.ways.is_empty() && self.late.is_empty()
    }

    /// What becomes of a message; one that is late stays here.
    pub fn fate(&mut self, now_us: u64, to: NodeName, message: &Message) -> Fate {
        let way = self.ways.get(&to).copied().unwrap_or(self.all);
        let before = self.last_us.get(&to).copied().unwrap_or_default();
        if way.cut || self.below(100) < u64::from(way.percent) {
            return Fate::Lost;
        }
        if way.ms == 0 && before <= now_us {
            return Fate::Sent;
        }
        if self.late.len() >= LATE_MAX {
            return Fate::Lost;
        }
        let mean_us = u64::from(way.ms) * 1000;
        let due_us = (now_us + mean_us / 2 + self.below(mean_us + 1)).max(before);
        self.last_us.insert(to, due_us);
        self.serial += 1;
        self.late.insert((due_us, self.serial), (to, message.clone()));
        Fate::Late
    }

    /// A message that was late and is to be sent now.
    pub fn due(&mut self, now_us: u64) -> Option<(NodeName, Message)> {
        let first = *self.late.first_key_value().filter(|((at, _), _)| *at <= now_us)?.0;
        self.late.remove(&first)
    }

    /// When the next one is due.
    pub fn wake_at(&self) -> Option<u64> {
        self.late.first_key_value().map(|((at, _), _)| *at)
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: NodeName = NodeName(1);
    const B: NodeName = NodeName(2);

    fn fates(faults: &mut Faults, to: NodeName, count: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..count {
            counts[faults.fate(1_000_000, to, &Message::Welcome) as usize] += 1;
        }
        counts
    }

    #[test]
    fn a_part_is_lost_and_a_cut_loses_all_of_one_direction() {
        let mut faults = Faults::new(7);
        assert!(faults.none());
        faults.take(&Fault::Drop { to: Some(A), percent: 30 });
        let [sent, lost, _] = fates(&mut faults, A, 10_000);
        assert!((2_700..3_300).contains(&lost) && sent + lost == 10_000, "{lost}");
        assert_eq!(fates(&mut faults, B, 100), [100, 0, 0]);
        faults.take(&Fault::Cut { to: None });
        assert_eq!(fates(&mut faults, B, 100), [0, 100, 0]);
        faults.take(&Fault::Heal { to: Some(B) });
        assert_eq!((fates(&mut faults, A, 100)[1], fates(&mut faults, B, 100)[1]), (100, 0));
        faults.take(&Fault::Clear {});
        assert!(faults.none());
    }

    #[test]
    fn what_is_late_comes_in_order_around_the_average() {
        let mut faults = Faults::new(3);
        faults.take(&Fault::Delay { to: Some(A), ms: 200 });
        for id in 0..500 {
            let message = Message::Refused { id, epoch: 0 };
            assert_eq!(faults.fate(id * 1_000, A, &message), Fate::Late);
        }
        assert!(faults.wake_at().unwrap() >= 100_000);
        assert_eq!(faults.due(99_999), None);
        // Those that came before the end of the delay are not overtaken.
        faults.take(&Fault::Clear {});
        assert_eq!(faults.fate(500_000, A, &Message::Refused { id: 500, epoch: 0 }), Fate::Late);
        let mut ids = Vec::new();
        while let Some((to, Message::Refused { id, .. })) = faults.due(800_000) {
            assert_eq!(to, A);
            ids.push(id);
        }
        assert_eq!(ids, (0..=500).collect::<Vec<_>>());
        assert!(faults.none());
    }
}
