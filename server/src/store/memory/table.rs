//! A table ordered by hash: linear probing in which no entry stands before one of a smaller hash (Amble & Knuth,
//! *Ordered Hash Tables*, 1974).
//!
//! A hash table finds a key in one place of memory, a sorted map scans from any key on. Because a partition's keys
//! *are* hashes, spread evenly over a known range, one array does both: an entry stands at the place that is to the
//! array what its hash is to the range, or a few places behind it.
//!
//! ```text
//!   hash / range   0.02  0.11 0.13 0.14       0.40            0.77 0.78
//!   place of 16    [0]   [1]  [2]  [3]  [ ] … [6] [ ] … [ ]   [12] [13] [ ] …
//! ```
//!
//! Entries are never taken out one by one: a delete is a record of its own, and partitions go as a whole.

/// An entry's bytes.
pub type Entry = Box<[u8]>;

/// The fewest places.
const PLACES_MIN: usize = 4;

/// Slots whose entries are fetched together by a scan.
const FETCHED: usize = 32;

#[derive(Debug, Default)]
struct Slot {
    hash: u64,
    entry: Option<Entry>,
}

/// Entries by hash, of hashes that share their upper bits.
#[derive(Debug, Default)]
pub struct Table {
    /// `places`, and behind them room for what is pushed past the last.
    slots: Vec<Slot>,
    places: usize,
    len: usize,
    /// Upper bits that all hashes share.
    shared_bits: u32,
}

impl Table {
    /// An empty table for hashes that share so many upper bits.
    pub fn new(shared_bits: u32) -> Table {
        Table { shared_bits, ..Table::default() }
    }

    /// Where a hash belongs.
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash << self.shared_bits) * self.places as u128) >> 64) as usize
    }

    /// The entry of a hash.
    pub fn get(&self, hash: u64) -> Option<&Entry> {
        for slot in self.slots.get(self.home(hash)..)? {
            let entry = slot.entry.as_ref()?;
            if slot.hash >= hash {
                return (slot.hash == hash).then_some(entry);
            }
        }
        None
    }

    /// The hash at the place where this one belongs: a load of that place, whatever stands there.
    pub fn hash_at_home(&self, hash: u64) -> u64 {
        self.slots.get(self.home(hash)).map_or(0, |slot| slot.hash)
    }

    /// Puts an entry, in place of the one of the same hash.
    pub fn insert(&mut self, hash: u64, entry: Entry) {
        if (self.len + 1) * 8 > self.places * 7 {
            self.grow();
        }
        let mut entry = entry;
        while let Err(back) = self.try_insert(hash, entry) {
            entry = back;
            self.grow();
        }
    }

    /// Takes an entry out. Those behind it that stand there only because it stood before them move up.
    pub fn remove(&mut self, hash: u64) {
        let run = self.slots.iter().skip(self.home(hash));
        let Some(at) = run.take_while(|s| s.entry.is_some()).position(|s| s.hash == hash) else { return };
        let at = self.home(hash) + at;
        self.slots[at].entry = None;
        self.len -= 1;
        let behind = self.slots.iter().enumerate().skip(at + 1);
        let stays = |(place, slot): &(usize, &Slot)| slot.entry.is_none() || self.home(slot.hash) == *place;
        let end = behind.into_iter().find(stays).map_or(self.slots.len(), |(place, _)| place);
        self.slots[at..end].rotate_left(1);
    }

    /// Fails where the run of entries reaches the end of the room.
    fn try_insert(&mut self, hash: u64, entry: Entry) -> Result<(), Entry> {
        let mut at = self.home(hash);
        while let Some(slot) = self.slots.get_mut(at) {
            if slot.entry.is_none() {
                *slot = Slot { hash, entry: Some(entry) };
                self.len += 1;
                return Ok(());
            }
            if slot.hash == hash {
                slot.entry = Some(entry);
                return Ok(());
            }
            if slot.hash > hash {
                break;
            }
            at += 1;
        }
        let Some(free) = self.slots.iter().skip(at).position(|s| s.entry.is_none()) else {
            return Err(entry);
        };
        self.slots[at..=at + free].rotate_right(1);
        self.slots[at] = Slot { hash, entry: Some(entry) };
        self.len += 1;
        Ok(())
    }

    /// An eighth more places: memory is never more than a quarter empty, and an entry moves some eight times in all.
    fn grow(&mut self) {
        self.places = (self.places + self.places / 8 + 1).max(PLACES_MIN);
        let room = self.places + self.places / 16 + 4;
        let old = std::mem::take(&mut self.slots);
        self.slots.reserve_exact(room);
        self.slots.resize_with(room, Slot::default);
        // They come in order, so each one's place is its own or the one behind the last.
        let mut free = 0;
        for slot in old.into_iter().filter(|slot| slot.entry.is_some()) {
            let at = self.home(slot.hash).max(free);
            if at >= self.slots.len() {
                self.slots.resize_with(at + 1, Slot::default);
            }
            self.slots[at] = slot;
            free = at + 1;
        }
    }

    /// The entries of the hashes from `first` to `last`, in order, each with its hash; none where `first` is larger.
    pub fn range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, &Entry)> {
        let from = if first <= last { self.slots.get(self.home(first)..) } else { None };
        from.unwrap_or_default()
            .chunks(FETCHED)
            .inspect(|slots| fetch(slots))
            .flatten()
            .filter_map(|slot| slot.entry.as_ref().map(|entry| (slot.hash, entry)))
            .skip_while(move |(hash, _)| *hash < first)
            .take_while(move |(hash, _)| *hash <= last)
    }
}

/// Loads the entries of some slots into the processor's caches: loads that do not wait for each other, as those of
/// a scan would, record by record.
fn fetch(slots: &[Slot]) {
    let ends = |entry: &Entry| entry.first().copied().unwrap_or(0) ^ entry.last().copied().unwrap_or(0);
    let entries = slots.iter().filter_map(|slot| slot.entry.as_ref());
    std::hint::black_box(entries.map(ends).fold(0, |sum, ends| sum ^ ends));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_and_orders_what_a_sorted_map_does(
            hashes in prop::collection::vec(prop_oneof![any::<u64>(), 0..40u64, (u64::MAX - 40)..=u64::MAX], 0..400),
            bits in 0..13u32,
            ends in (any::<u64>(), any::<u64>()),
        ) {
            let upper = if bits == 0 { 0 } else { 0xA5A5_A5A5_A5A5_A5A5 << (64 - bits) };
            let shared = |h: u64| upper | (h >> bits);
            let mut table = Table::new(bits);
            let mut twin = BTreeMap::new();
            for (n, hash) in hashes.iter().map(|h| shared(*h)).enumerate() {
                let entry: Entry = Box::from(n.to_le_bytes());
                table.insert(hash, entry.clone());
                twin.insert(hash, entry);
            }
            for hash in hashes.iter().map(|h| shared(*h)) {
                prop_assert_eq!(table.get(hash), twin.get(&hash));
                prop_assert_eq!(table.get(hash ^ 1), twin.get(&(hash ^ 1)));
            }
            let (a, b) = (shared(ends.0).min(shared(ends.1)), shared(ends.0).max(shared(ends.1)));
            let expected: Vec<(u64, &Entry)> = twin.range(a..=b).map(|(hash, entry)| (*hash, entry)).collect();
            prop_assert_eq!(table.range(a, b).collect::<Vec<_>>(), expected);
            prop_assert!(a == b || table.range(b, a).next().is_none());
            let all: Vec<(u64, &Entry)> = twin.iter().map(|(hash, entry)| (*hash, entry)).collect();
            prop_assert_eq!(table.range(shared(0), shared(u64::MAX)).collect::<Vec<_>>(), all);
        }
    }
}
