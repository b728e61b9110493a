//! What was acknowledged, key by key: a read must show the last acknowledged write, or one of unknown fate after it.
//!
//! Per key one request is under way at a time, so "last" is beyond doubt. A write of unknown fate may take effect at
//! any later moment: what it wrote is a right answer for the rest of the run, and nothing else is forgiven.

use std::collections::HashMap;

/// The account of one worker's keys.
pub(super) struct Ledger {
    keys: HashMap<u64, Account>,
    busy: Vec<bool>,
    next: u64,
}

#[derive(Default)]
struct Account {
    acknowledged: Option<u64>,
    doubtful: Vec<u64>,
}

impl Ledger {
    /// An account of so many keys.
    pub fn new(keys: u64) -> Ledger {
        Ledger { keys: HashMap::new(), busy: vec![false; usize::try_from(keys).unwrap_or(0)], next: 0 }
    }

    /// Takes a key for a request; false where one is under way.
    pub fn take(&mut self, key: u64) -> bool {
        !std::mem::replace(&mut self.busy[key as usize], true)
    }

    /// The request has ended.
    pub fn give_back(&mut self, key: u64) {
        self.busy[key as usize] = false;
    }

    /// A put begins; the number of its value, which no other has.
    pub fn begin_put(&mut self, _key: u64) -> u64 {
        self.next += 1;
        self.next
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, key: u64, n: u64) {
        self.keys.entry(key).or_default().acknowledged = Some(n);
    }

    /// It may have happened.
    pub fn doubtful(&mut self, key: u64, n: u64) {
        self.keys.entry(key).or_default().doubtful.push(n);
    }

    /// Holds what was read against the account: `None` is "no such key", `Some(None)` a value that no put of ours
    /// wrote.
    pub fn read(&self, key: u64, found: Option<Option<u64>>) -> Result<(), String> {
        let Some(account) = self.keys.get(&key) else {
            // Before the first write of a run, what an earlier run left is no concern.
            return Ok(());
        };
        let Some(last) = account.acknowledged else { return Ok(()) };
        match found {
            None => Err(format!("write {last} was acknowledged and nothing is there")),
            Some(None) => Err(format!("write {last} was acknowledged and something else is there")),
            Some(Some(n)) if n == last || account.doubtful.contains(&n) => Ok(()),
            Some(Some(n)) => Err(format!("write {last} was acknowledged and write {n} is there")),
        }
    }

    /// The keys with an acknowledged write.
    pub fn written(&self) -> Vec<u64> {
        self.keys.iter().filter(|(_, a)| a.acknowledged.is_some()).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_shows_the_last_acknowledged_write_and_nothing_older() {
        let mut ledger = Ledger::new(4);
        assert!(ledger.read(1, None).is_ok());
        let first = ledger.begin_put(1);
        ledger.acknowledged(1, first);
        let second = ledger.begin_put(1);
        ledger.acknowledged(1, second);
        assert!(ledger.read(1, Some(Some(second))).is_ok());
        for wrong in [None, Some(None), Some(Some(first)), Some(Some(99))] {
            assert!(ledger.read(1, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_write_of_unknown_fate_may_show_itself_at_any_time() {
        let mut ledger = Ledger::new(4);
        let (a, b) = (ledger.begin_put(1), ledger.begin_put(1));
        ledger.acknowledged(1, a);
        ledger.doubtful(1, b);
        assert!(ledger.read(1, Some(Some(a))).is_ok() && ledger.read(1, Some(Some(b))).is_ok());
        let c = ledger.begin_put(1);
        ledger.acknowledged(1, c);
        assert!(ledger.read(1, Some(Some(c))).is_ok() && ledger.read(1, Some(Some(b))).is_ok());
        assert!(ledger.read(1, Some(Some(a))).is_err() && ledger.read(1, None).is_err());
    }

    #[test]
    fn one_request_a_key_is_under_way() {
        let mut ledger = Ledger::new(2);
        assert!(ledger.take(1) && !ledger.take(1));
        ledger.give_back(1);
        assert!(ledger.take(1));
    }
}
