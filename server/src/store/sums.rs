//! Sums over a partition's records, by which two owners find where they differ without telling each other what they have.
//!
//! Dynamo (§4.7) keeps a Merkle tree a partition. A sum does what its inner hashes do, and is kept up without a look
//! at any other record; two levels are enough, because a bucket of a usual partition has but a few records:
//!
//! ```text
//!   root      = bucket 0 + bucket 1 + … + bucket 255          differs? compare the buckets
//!   bucket n  = the sum of mark(key hash, digest) over its records    differs? compare its digests
//! ```

use ringkv_common::key::{BUCKETS, bucket_of};
use ringkv_common::version::mark;

/// The sums of one partition, modulo 2^128.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Always the sum of the buckets.
    root: u128,
    /// Made with the first record: 4 KiB that an empty partition does not need.
    buckets: Option<Box<[u128; BUCKETS]>>,
}

impl Sums {
    /// Puts a record of this digest in place of what was held of the same key, `None` where nothing was.
    pub fn replace(&mut self, key_hash: u64, partitions: u32, held: Option<u64>, digest: u64) {
        if held == Some(digest) {
            return;
        }
        let lost = held.map_or(0, |held| mark(key_hash, held));
        let gained = mark(key_hash, digest).wrapping_sub(lost);
        let buckets = self.buckets.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let bucket = &mut buckets[usize::from(bucket_of(key_hash, partitions))];
        *bucket = bucket.wrapping_add(gained);
        self.root = self.root.wrapping_add(gained);
    }

    /// Takes a record of this digest out.
    pub fn remove(&mut self, key_hash: u64, partitions: u32, digest: u64) {
        let lost = mark(key_hash, digest);
        if let Some(buckets) = &mut self.buckets {
            let bucket = &mut buckets[usize::from(bucket_of(key_hash, partitions))];
            *bucket = bucket.wrapping_sub(lost);
            self.root = self.root.wrapping_sub(lost);
        }
    }

    /// Over all records.
    pub fn root(&self) -> u128 {
        self.root
    }

    /// Bucket by bucket.
    pub fn buckets(&self) -> Box<[u128; BUCKETS]> {
        self.buckets.clone().unwrap_or_else(|| Box::new([0; BUCKETS]))
    }
}
