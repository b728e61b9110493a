//! The engine that keeps everything in memory: for each partition a table ordered by hash.

mod table;

use ringkv_common::key::{BUCKETS, Key};
use ringkv_common::message::peer::{Record, Stretch};
use ringkv_common::version::Siblings;

use self::table::{Entry, Table};
use super::record::{self, Actors, Raw};
use super::{Measure, Slice, Storage, Sums};

/// Bytes that a processor fetches at once.
const CACHE_LINE: usize = 64;
/// Bytes of a record that are worth fetching ahead: reading on through a longer one the processor does it unasked.
const WARM_BYTES: usize = 512;

/// Keys of one hash share an entry; there is more than one only by an adversary's or by one in 2^64 odds.
#[derive(Debug)]
struct Partition {
    entries: Table,
    measure: Measure,
    sums: Sums,
}

impl Partition {
    fn new(partitions: u32) -> Partition {
        let entries = Table::new(partitions.trailing_zeros());
        Partition { entries, measure: Measure::default(), sums: Sums::default() }
    }
}

/// Records in memory.
#[derive(Debug)]
pub struct Memory {
    partitions: Vec<Partition>,
    actors: Actors,
    /// Reused for encoding, so that a write allocates once.
    scratch: Vec<u8>,
    /// Whether sums are kept.
    sums: bool,
}

impl Memory {
    /// An empty store of so many partitions.
    pub fn new(partitions: u32) -> Memory {
        let partitions = (0..partitions).map(|_| Partition::new(partitions)).collect();
        Memory { partitions, actors: Actors::default(), scratch: Vec::new(), sums: true }
    }

    /// The same without sums, for who has nobody to compare with: they cost 4 KiB a partition and a part of each write.
    pub fn without_sums(self) -> Memory {
        Memory { sums: false, ..self }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        self.partitions.len() as u32
    }

    fn partition_of(&self, key: &Key) -> usize {
        key.partition(self.partitions.len() as u32) as usize
    }

    /// The records of a stretch in key order, each with its hash, none of them built.
    fn raws<'a>(&'a self, stretch: &'a Stretch) -> impl Iterator<Item = (u64, Raw<'a>)> {
        let (first, last) = stretch.hashes(self.partitions());
        let order = |key: &'a Key| (key.hash(), key.text().as_bytes());
        let (after, until) = (stretch.after.as_ref().map(order), stretch.until.as_ref().map(order));
        self.partitions[stretch.partition as usize]
            .entries
            .range(first, last)
            .flat_map(|(hash, entry)| sorted(record::raws(entry)).map(move |raw| (hash, raw)))
            .filter(move |(hash, raw)| {
                let key = (*hash, raw.key());
                after.is_none_or(|after| key > after) && until.is_none_or(|until| key <= until)
            })
    }
}

/// Records of one hash in key order.
fn sorted<'a>(raws: impl Iterator<Item = Raw<'a>>) -> impl Iterator<Item = Raw<'a>> {
    let mut raws: smallvec::SmallVec<[Raw<'a>; 1]> = raws.collect();
    raws.sort_unstable_by(|a, b| a.key().cmp(b.key()));
    raws.into_iter()
}

impl Storage for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn read(&self, key: &Key) -> Siblings {
        let entry = self.partitions[self.partition_of(key)].entries.get(key.hash());
        entry.and_then(|entry| record::find(entry, &self.actors, key)).unwrap_or_default()
    }

    fn warm<'k>(&self, keys: impl Iterator<Item = &'k Key> + Clone) {
        let table = |key: &Key| &self.partitions[self.partition_of(key)].entries;
        // Loads that do not wait for each other: the processor has several under way at once.
        let places =
            keys.clone().map(|key| table(key).hash_at_home(key.hash())).fold(0, |sum, hash| sum ^ hash);
        let lines = |entry: &Entry| {
            let firsts = entry.iter().take(WARM_BYTES).step_by(CACHE_LINE).fold(0, |sum, byte| sum ^ byte);
            firsts ^ entry.last().copied().unwrap_or(0)
        };
        let records =
            keys.filter_map(|key| table(key).get(key.hash()).map(lines)).fold(0, |sum, lines| sum ^ lines);
        std::hint::black_box((places, records));
    }

    fn write(&mut self, key: &Key, siblings: &Siblings) {
        let (at, count) = (self.partition_of(key), self.partitions());
        let Memory { partitions, actors, scratch, sums: summed } = self;
        let Partition { entries, measure, sums } = &mut partitions[at];
        let forgets = siblings.is_empty();
        if !forgets {
            measure.add(Measure::of(key, siblings));
        }
        let mut digest: Option<u64> = None;
        let mut twins: Vec<Record> = Vec::new();
        for held in entries.get(key.hash()).into_iter().flat_map(|entry| record::raws(entry)) {
            if held.key() == key.text().as_bytes() {
                measure.subtract(held.measure());
                digest = summed.then(|| held.digest(actors));
            } else {
                twins.push(held.record(actors));
            }
        }
        if forgets {
            if *summed && let Some(digest) = digest {
                sums.remove(key.hash(), count, digest);
            }
            if twins.is_empty() {
                return entries.remove(key.hash());
            }
            scratch.clear();
            twins.iter().for_each(|(key, siblings)| record::append(scratch, key, siblings));
            entries.insert(key.hash(), Box::from(scratch.as_slice()));
            return;
        }
        record::encode(scratch, actors, key, siblings);
        if !twins.is_empty() {
            scratch.clear();
            record::append(scratch, key, siblings);
            twins.iter().for_each(|(key, siblings)| record::append(scratch, key, siblings));
        }
        entries.insert(key.hash(), Box::from(scratch.as_slice()));
        if *summed {
            sums.replace(key.hash(), count, digest, siblings.digest());
        }
    }

    fn scan(&self, stretch: &Stretch, known: &[(u64, u64)], slice: Slice) -> (Vec<Record>, Option<Key>) {
        let (mut found, mut bytes, mut seen, mut looked_bytes) = (Vec::<Record>::new(), 0, 0, 0);
        // The last one looked at, where it was not returned.
        let mut skipped: Option<Raw<'_>> = None;
        for (hash, raw) in self.raws(stretch) {
            let full = seen >= slice.records_max
                || bytes >= slice.bytes_max
                || looked_bytes >= slice.looked_bytes_max;
            if full && seen > 0 {
                let last = skipped.map(|raw| raw.to_key()).or_else(|| Some(found.last()?.0.clone()));
                return (found, last);
            }
            seen += 1;
            let record_bytes = raw.measure().bytes as usize;
            looked_bytes += record_bytes;
            let there = known.binary_search_by_key(&hash, |(hash, _)| *hash);
            if there.is_ok_and(|at| known[at].1 == raw.digest(&self.actors)) {
                skipped = Some(raw);
                continue;
            }
            skipped = None;
            bytes += record_bytes;
            found.push(raw.record(&self.actors));
        }
        (found, None)
    }

    fn digests(&self, stretch: &Stretch, slice: Slice) -> (Vec<(u64, u64)>, Option<Key>) {
        let mut digests: Vec<(u64, u64)> = Vec::new();
        let mut looked_bytes = 0;
        let mut last: Option<Raw<'_>> = None;
        for (hash, raw) in self.raws(stretch) {
            // Two keys of one hash get no digest, so that both are always sent.
            let twin = digests.last_mut().filter(|(before, _)| *before == hash);
            if let Some((_, digest)) = twin {
                *digest = 0;
                last = Some(raw);
                continue;
            }
            let full = digests.len() >= slice.records_max || looked_bytes >= slice.looked_bytes_max;
            if full && !digests.is_empty() {
                return (digests, last.map(|raw| raw.to_key()));
            }
            looked_bytes += raw.measure().bytes as usize;
            digests.push((hash, raw.digest(&self.actors)));
            last = Some(raw);
        }
        (digests, None)
    }

    fn dead(&self, partition: u32, dead_max: usize) -> Vec<(Key, u64)> {
        let measure = self.partitions[partition as usize].measure;
        if measure.live == measure.stored {
            return Vec::new();
        }
        let stretch = Stretch { partition, after: None, until: None, buckets: None };
        let dead = self.raws(&stretch).filter(|(_, raw)| raw.measure().live == 0);
        dead.take(dead_max).map(|(_, raw)| (raw.to_key(), raw.digest(&self.actors))).collect()
    }

    fn drop_partition(&mut self, partition: u32) {
        self.partitions[partition as usize] = Partition::new(self.partitions());
    }

    fn measures(&self) -> Vec<(u32, Measure)> {
        let filled = self.partitions.iter().enumerate().filter(|(_, p)| p.measure.stored > 0);
        filled.map(|(at, p)| (at as u32, p.measure)).collect()
    }

    fn root(&self, partition: u32) -> u128 {
        self.partitions[partition as usize].sums.root()
    }

    fn buckets(&self, partition: u32) -> Box<[u128; BUCKETS]> {
        self.partitions[partition as usize].sums.buckets()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use ringkv_common::name::NodeName;
    use ringkv_common::time::Stamp;
    use ringkv_common::version::{Actor, Content, Context, Dot, Version, mark};

    use super::*;

    #[test]
    fn keys_of_one_hash_are_kept_apart() {
        let actor = Actor { id: 7, node: NodeName(1) };
        let siblings = |counter| {
            let content = Content::Json(Arc::from(b"1".as_slice()));
            let dot = Dot { actor, counter };
            let mut siblings = Siblings::default();
            siblings.write(None, Version { dot, stamp: Stamp(1), request: 0, contextual: false, content });
            siblings
        };
        // No two texts of one hash are known, so one is put where the other belongs.
        let (ours, theirs) = (Key::new("ours").unwrap(), Key::new("theirs").unwrap());
        let mut memory = Memory::new(64);
        let mut entry = Vec::new();
        record::encode(&mut entry, &mut memory.actors, &theirs, &siblings(1));
        let at = memory.partition_of(&ours);
        memory.partitions[at].entries.insert(ours.hash(), entry.into());
        let marked = |digest| mark(ours.hash(), digest);
        memory.partitions[at].sums.replace(ours.hash(), 64, None, siblings(1).digest());
        for counter in [2, 3] {
            memory.write(&ours, &siblings(counter));
            assert_eq!(memory.read(&ours), siblings(counter));
            let entry = memory.partitions[at].entries.get(ours.hash()).unwrap();
            let mut held: Vec<Record> = record::raws(entry).map(|raw| raw.record(&memory.actors)).collect();
            held.sort_by_key(|(key, _)| key.text().to_owned());
            assert_eq!(held, [(ours.clone(), siblings(counter)), (theirs.clone(), siblings(1))]);
            let sum = marked(siblings(counter).digest()).wrapping_add(marked(siblings(1).digest()));
            assert_eq!(memory.root(at as u32), sum);
        }
    }

    #[test]
    fn memory_keeps_the_contract() {
        super::super::contract::check(Memory::new);
    }

    #[test]
    fn a_slice_ends_with_the_bytes_looked_at_though_nothing_is_returned() {
        let mut memory = Memory::new(64);
        let mut known = Vec::new();
        let mut keys = (0..).map(|n| Key::new(&format!("k{n}")).unwrap()).filter(|k| k.partition(64) == 5);
        for n in 1..=8u64 {
            let (key, mut siblings) = (keys.next().unwrap(), Siblings::default());
            let version = Version {
                dot: Dot { actor: Actor { id: 7, node: NodeName(1) }, counter: n },
                stamp: Stamp(n),
                request: 0,
                contextual: false,
                content: Content::Binary(Arc::from(vec![0; 1000])),
            };
            siblings.write(None, version);
            memory.write(&key, &siblings);
            known.push((key.hash(), siblings.digest()));
        }
        known.sort_unstable();
        let stretch = Stretch { partition: 5, after: None, until: None, buckets: None };
        let slice = Slice { bytes_max: usize::MAX, records_max: 2048, looked_bytes_max: 3000 };
        let (records, next) = memory.scan(&stretch, &known, slice);
        assert_eq!((records.len(), next.map(|key| key.hash())), (0, Some(known[2].0)));
        assert_eq!(memory.digests(&stretch, slice).0, known[..3]);
    }

    #[test]
    fn names_that_clients_invent_get_no_numbers() {
        let mut memory = Memory::new(64);
        let actor = |id| Actor { id, node: NodeName(1) };
        for n in 1..=300u64 {
            let mut context = Context::default();
            context.clock.see(Dot { actor: actor(1000 + u128::from(n)), counter: n });
            let version = Version {
                dot: Dot { actor: actor(7), counter: n },
                stamp: Stamp(n),
                request: 0,
                contextual: true,
                content: Content::Json(Arc::from(*b"1")),
            };
            let (key, mut siblings) = (Key::new(&format!("k{n}")).unwrap(), Siblings::default());
            siblings.write(Some(&context), version);
            memory.write(&key, &siblings);
            assert_eq!(memory.read(&key), siblings);
        }
        assert_eq!(memory.actors.len(), 1);
    }
}
