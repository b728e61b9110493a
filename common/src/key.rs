//! Keys, their hash and their partition.
//!
//! A key is 1 to 1,024 bytes of UTF-8. Its hash, XXH3-64 with seed 0, orders keys inside a store and its upper
//! bits are the partition (Dynamo §6.2, third strategy): a partition is a contiguous range of hashes. The eight bits
//! behind those are the *bucket*: a partition's parts, by which two owners narrow down where they differ.
//!
//! ```text
//!   hash  [partition: log2(partitions) bits, at most 16][bucket: 8 bits][the rest: at least 40 bits]
//! ```

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use thiserror::Error;
use twox_hash::XxHash3_64;

/// The longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;

/// The hash of a key: XXH3-64, seed 0.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    XxHash3_64::oneshot(key)
}

/// The partition of a hash among `partitions`, a power of two of at least 2.
#[inline]
pub fn partition_of(hash: u64, partitions: u32) -> u32 {
    debug_assert!(partitions.is_power_of_two() && partitions > 1);
    (hash >> (64 - partitions.trailing_zeros())) as u32
}

/// The smallest hash of a partition; the largest is one below the next partition's smallest.
pub fn first_hash(partition: u32, partitions: u32) -> u64 {
    u64::from(partition) << (64 - partitions.trailing_zeros())
}

/// The largest hash of a partition.
pub fn last_hash(partition: u32, partitions: u32) -> u64 {
    first_hash(partition, partitions) | (u64::MAX >> partitions.trailing_zeros())
}

/// How many buckets a partition has.
pub const BUCKETS: usize = 256;

/// The bits of a bucket.
const BUCKET_BITS: u32 = BUCKETS.trailing_zeros();

/// The bucket of a hash within its partition.
#[inline]
pub fn bucket_of(hash: u64, partitions: u32) -> u8 {
    debug_assert!(partitions.is_power_of_two() && partitions > 1);
    ((hash << partitions.trailing_zeros()) >> (64 - BUCKET_BITS)) as u8
}

/// The smallest hash of a partition's bucket.
pub fn first_hash_of_bucket(partition: u32, bucket: u8, partitions: u32) -> u64 {
    let shift = 64 - BUCKET_BITS - partitions.trailing_zeros();
    first_hash(partition, partitions) | (u64::from(bucket) << shift)
}

/// The largest hash of a partition's bucket.
pub fn last_hash_of_bucket(partition: u32, bucket: u8, partitions: u32) -> u64 {
    let rest = u64::MAX >> (BUCKET_BITS + partitions.trailing_zeros());
    first_hash_of_bucket(partition, bucket, partitions) | rest
}

/// A key with its hash. Ordered by hash, then by bytes: the order in which every store scans. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    // First, so that the derived order is (hash, text).
    hash: u64,
    text: SmolStr,
}

/// Why some text is no key.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// The empty string.
    #[error("the key is empty: a key is 1 to {KEY_BYTES_MAX} bytes of UTF-8")]
    Empty,
    /// More than [`KEY_BYTES_MAX`] bytes.
    #[error("the key has {0} bytes: a key is 1 to {KEY_BYTES_MAX} bytes of UTF-8")]
    TooLong(usize),
}

impl Key {
    /// A key of `text`, hashed.
    pub fn new(text: &str) -> Result<Key, KeyError> {
        match text.len() {
            0 => Err(KeyError::Empty),
            n if n > KEY_BYTES_MAX => Err(KeyError::TooLong(n)),
            _ => Ok(Key { hash: hash(text.as_bytes()), text: SmolStr::new(text) }),
        }
    }

    /// The key's hash.
    #[inline]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The key's text.
    #[inline]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The key's partition among `partitions`.
    #[inline]
    pub fn partition(&self, partitions: u32) -> u32 {
        partition_of(self.hash, partitions)
    }
}

/// The hash is all that a table needs.
impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Passes a key's hash on as it is: for tables keyed by [`Key`].
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl std::hash::Hasher for KeyHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only keys are hashed with it, and they write one u64");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// As its text: the hash follows from it.
impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Key;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Key, E> {
                Key::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh3_with_seed_zero() {
        // Reference values of the xxHash project's own test program.
        assert_eq!(hash(b""), 0x2D06_8005_38D3_94C2);
        assert_eq!(hash(b"a"), 0xE6C6_32B6_1E96_4E1F);
    }

    #[test]
    fn a_partition_is_the_range_of_hashes_between_its_ends() {
        for partitions in [64u32, 4096, 65_536] {
            for p in [0, 1, partitions / 2, partitions - 1] {
                assert_eq!(partition_of(first_hash(p, partitions), partitions), p);
                assert_eq!(partition_of(last_hash(p, partitions), partitions), p);
            }
            assert_eq!(first_hash(1, partitions), last_hash(0, partitions) + 1);
            assert_eq!(last_hash(partitions - 1, partitions), u64::MAX);
        }
    }

    #[test]
    fn the_buckets_of_a_partition_are_its_hashes_in_256_equal_ranges() {
        for partitions in [2u32, 64, 4096, 65_536] {
            for p in [0, 1, partitions / 2, partitions - 1] {
                let mut next = Some(first_hash(p, partitions));
                for bucket in 0..=u8::MAX {
                    let first = first_hash_of_bucket(p, bucket, partitions);
                    let last = last_hash_of_bucket(p, bucket, partitions);
                    assert_eq!(Some(first), next, "bucket {bucket} begins behind the one before");
                    for hash in [first, first + (last - first) / 2, last] {
                        assert_eq!(
                            (partition_of(hash, partitions), bucket_of(hash, partitions)),
                            (p, bucket)
                        );
                    }
                    next = last.checked_add(1);
                }
                assert_eq!(last_hash_of_bucket(p, u8::MAX, partitions), last_hash(p, partitions));
            }
        }
    }

    #[test]
    fn the_test_vectors_of_the_documentation_hold() {
        let rows = include_str!("../../docs/ring.md").lines().skip_while(|l| !l.starts_with("|---")).skip(1);
        let mut checked = 0;
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, expected, of_64, of_4096, of_65536] = cells[..] else { panic!("{row}") };
            let key = match name.split_once(" × ") {
                Some((letter, times)) => letter.repeat(times.parse().expect("a number")),
                None => serde_json::from_str(name.trim_matches('`')).expect("a JSON string"),
            };
            let hash = hash(key.as_bytes());
            assert_eq!(format!("{hash:016x}"), expected, "{name}");
            for (partitions, partition) in [(64, of_64), (4096, of_4096), (65_536, of_65536)] {
                assert_eq!(partition_of(hash, partitions).to_string(), partition, "{name}");
            }
            checked += 1;
        }
        assert_eq!(checked, 20);
    }

    #[test]
    fn an_empty_or_overlong_key_is_refused_with_its_length() {
        assert_eq!(Key::new(""), Err(KeyError::Empty));
        assert!(Key::new(&"k".repeat(1024)).is_ok());
        assert_eq!(Key::new(&"é".repeat(513)), Err(KeyError::TooLong(1026)));
    }
}
