//! What the contract says of sums, and of stretches of single buckets.

use std::collections::BTreeMap;

use ringkv_common::key::{BUCKETS, Key, bucket_of};
use ringkv_common::message::peer::{Buckets, Record, Stretch};
use ringkv_common::version::{Siblings, mark};

use super::{EVERYTHING, PARTITIONS, Random, of_partition, write};
use crate::store::Storage;

/// Enough for some records in most buckets of one partition.
const KEYS: u64 = 40_000;
/// The one that they are looked at in.
const CROWDED: u32 = 5;

/// A partition's sums are those that a look at all its records finds.
pub fn compare<S: Storage>(engine: &S, twin: &BTreeMap<Key, Siblings>, partition: u32) {
    let mut expected = [0u128; BUCKETS];
    for (key, siblings) in of_partition(twin, partition) {
        let bucket = &mut expected[usize::from(bucket_of(key.hash(), PARTITIONS))];
        *bucket = bucket.wrapping_add(mark(key.hash(), siblings.digest()));
    }
    assert_eq!(*engine.buckets(partition), expected, "partition {partition}");
    assert_eq!(engine.root(partition), expected.into_iter().fold(0, u128::wrapping_add));
}

/// Sums tell what is held, and nothing of how it came there: `other` is given what `engine` holds in the order of
/// texts, each record once. Then one record is made another, and back.
pub fn compare_histories<S: Storage>(mut other: S, engine: &S, twin: &BTreeMap<Key, Siblings>) {
    let mut records: Vec<(&Key, &Siblings)> = twin.iter().collect();
    records.sort_unstable_by_key(|(key, _)| key.text());
    records.iter().for_each(|(key, siblings)| other.write(key, siblings));
    let differing = |other: &S| -> Vec<(u32, usize)> {
        let partitions = (0..PARTITIONS).map(|p| (p, engine.buckets(p), other.buckets(p)));
        let differing = partitions.flat_map(|(partition, ours, theirs)| {
            (0..BUCKETS).filter(move |at| ours[*at] != theirs[*at]).map(move |at| (partition, at))
        });
        differing.collect()
    };
    assert_eq!(other.roots(), engine.roots());
    assert_eq!(differing(&other), []);
    let held: Vec<u32> = engine.measures().into_iter().map(|(partition, _)| partition).collect();
    assert!(engine.roots().into_iter().map(|(partition, _)| partition).eq(held));

    let (key, siblings) = records[0];
    let mut another = siblings.clone();
    write(&mut another, &mut Random(1), 1 << 20);
    other.write(key, &another);
    let partition = key.partition(PARTITIONS);
    assert_eq!(differing(&other), [(partition, usize::from(bucket_of(key.hash(), PARTITIONS)))]);
    let roots = other.roots().into_iter().zip(engine.roots()).filter(|(theirs, ours)| theirs != ours);
    assert_eq!(roots.map(|((partition, _), _)| partition).collect::<Vec<_>>(), [partition]);

    other.write(key, siblings);
    other.write(key, siblings);
    assert_eq!(other.roots(), engine.roots(), "the same record again changes nothing");
    other.drop_partition(partition);
    assert_eq!((other.root(partition), *other.buckets(partition)), (0, [0; BUCKETS]));
}

/// Bucket by bucket, stretches show each record of a crowded partition where it belongs.
pub fn compare_single_buckets<S: Storage>(mut engine: S) {
    let mut twin: BTreeMap<Key, Siblings> = BTreeMap::new();
    let mut random = Random(7);
    let keys = (0..KEYS).map(|n| (n + 1, Key::new(&format!("key-{n}")).expect("a short key")));
    for (n, key) in keys.filter(|(_, key)| key.partition(PARTITIONS) == CROWDED) {
        let mut siblings = Siblings::default();
        write(&mut siblings, &mut random, n);
        engine.write(&key, &siblings);
        twin.insert(key, siblings);
    }
    compare(&engine, &twin, CROWDED);
    let sums = engine.buckets(CROWDED);
    let mut all: Vec<Record> = Vec::new();
    for bucket in 0..=u8::MAX {
        let buckets = Some(Buckets { first: bucket, last: bucket });
        let stretch = Stretch { partition: CROWDED, after: None, until: None, buckets };
        let (records, next) = engine.scan(&stretch, &[], EVERYTHING);
        assert_eq!(next, None);
        assert!(records.iter().all(|(key, _)| bucket_of(key.hash(), PARTITIONS) == bucket));
        let (digests, next) = engine.digests(&stretch, EVERYTHING);
        assert_eq!(next, None);
        let sum = digests.iter().map(|(hash, digest)| mark(*hash, *digest)).fold(0, u128::wrapping_add);
        assert_eq!(sum, sums[usize::from(bucket)], "the digests of bucket {bucket} are what was summed");
        all.extend(records);
    }
    assert_eq!(all, of_partition(&twin, CROWDED));
}
