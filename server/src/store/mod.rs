//! Where a node's records are: a trait, its engines, and one contract that all engines keep.
//!
//! Keys are ordered by hash, then by bytes, so a partition is one stretch of the order and a scan can go on behind
//! any key, whatever was written meanwhile.

pub mod contract;
mod memory;
mod record;
mod sums;

use ringkv_common::key::{BUCKETS, Key};
use ringkv_common::message::peer::{Record, Stretch};
use ringkv_common::version::Siblings;

pub use memory::Memory;
pub use sums::Sums;

/// How much a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Keys with a value to show.
    pub live: u64,
    /// All keys, deleted ones too.
    pub stored: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Measure {
    /// What one record adds.
    pub fn of(key: &Key, siblings: &Siblings) -> Measure {
        let values: usize = siblings.versions.iter().map(|v| v.content.bytes().len()).sum();
        let live = siblings.versions.iter().any(|v| !v.content.is_tombstone());
        Measure { live: u64::from(live), stored: 1, bytes: (key.text().len() + values) as u64 }
    }

    fn add(&mut self, other: Measure) {
        self.live += other.live;
        self.stored += other.stored;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Measure) {
        self.live -= other.live;
        self.stored -= other.stored;
        self.bytes -= other.bytes;
    }
}

/// How much a scan may return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Bytes of keys and values returned; one record is always returned.
    pub bytes_max: usize,
    /// Records looked at, returned or not; one is always looked at.
    pub records_max: usize,
    /// Their bytes.
    pub looked_bytes_max: usize,
}

/// What a scan or a digest may look at before others have their turn: some 4 MiB are copied in a millisecond.
pub const LOOKED_BYTES_MAX: usize = 4 << 20;

/// An engine. It knows partitions but not who owns them; what it is given it keeps as it is.
pub trait Storage {
    /// What it is called in STATUS.
    fn kind(&self) -> &'static str;

    /// All that is held of a key; the default where it never was heard of.
    fn read(&self, key: &Key) -> Siblings;

    /// Says that these keys will be read presently, one after the other: an engine may fetch them all at once.
    fn warm<'k>(&self, _keys: impl Iterator<Item = &'k Key> + Clone) {}

    /// Replaces all that is held of a key; by the default it is forgotten.
    fn write(&mut self, key: &Key, siblings: &Siblings);

    /// The records of a stretch in key order, without those that `known` (sorted by hash) lists with their digest.
    /// Returns where to go on, `None` at the stretch's end.
    fn scan(&self, stretch: &Stretch, known: &[(u64, u64)], slice: Slice) -> (Vec<Record>, Option<Key>);

    /// (hash, digest) of the stretch's records, sorted by hash, and the last key looked at, `None` at its end. Nothing of
    /// a record is returned, so `bytes_max` does not count.
    fn digests(&self, stretch: &Stretch, slice: Slice) -> (Vec<(u64, u64)>, Option<Key>);

    /// The deleted keys of a partition with their digests, in key order, so many at most.
    fn dead(&self, partition: u32, dead_max: usize) -> Vec<(Key, u64)>;

    /// The deleted keys of these partitions; of so many partitions at most that have some.
    fn dead_in(
        &self,
        partitions: &[u32],
        partitions_max: usize,
        dead_max: usize,
    ) -> Vec<(u32, Vec<(Key, u64)>)> {
        let with_keys = partitions.iter().map(|partition| (*partition, self.dead(*partition, dead_max)));
        with_keys.filter(|(_, dead)| !dead.is_empty()).take(partitions_max).collect()
    }

    /// Forgets a whole partition.
    fn drop_partition(&mut self, partition: u32);

    /// How much each partition holds; those that hold nothing are left out.
    fn measures(&self) -> Vec<(u32, Measure)>;

    /// The sum of a partition's records, modulo 2^128: each adds its [`mark`](ringkv_common::version::mark). Kept up by
    /// every write, so that asking reads no record. 0 where there is none.
    fn root(&self, partition: u32) -> u128;

    /// The same sum bucket by bucket; together they are the root.
    fn buckets(&self, partition: u32) -> Box<[u128; BUCKETS]>;

    /// The roots of the partitions that hold something.
    fn roots(&self) -> Vec<(u32, u128)> {
        let held = self.measures().into_iter();
        held.map(|(partition, _)| (partition, self.root(partition))).collect()
    }

    /// The lower halves of the sums of all partitions that hold something, or of one partition's buckets, by number.
    fn sums(&self, partition: Option<u32>) -> Vec<(u32, u64)> {
        match partition {
            None => self.roots().into_iter().map(|(partition, root)| (partition, root as u64)).collect(),
            Some(partition) => {
                let buckets = self.buckets(partition);
                (0..).zip(buckets.iter()).map(|(bucket, sum)| (bucket, *sum as u64)).collect()
            }
        }
    }
}
