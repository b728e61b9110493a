//! The contract that every engine keeps: the same operations on the engine and on a plain sorted map.

mod sums;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringkv_common::key::{Key, bucket_of};
use ringkv_common::message::peer::{Buckets, Record, Stretch};
use ringkv_common::name::NodeName;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Content, Context, Dot, Siblings, Version};

use super::{Measure, Slice, Storage};

const PARTITIONS: u32 = 64;

const EVERYTHING: Slice =
    Slice { bytes_max: usize::MAX, records_max: usize::MAX, looked_bytes_max: usize::MAX };

/// Runs thousands of seeded operations on an engine made by `new` and on a dumb twin.
///
/// # Panics
/// Where they differ.
pub fn check<S: Storage>(new: impl Fn(u32) -> S) {
    for seed in 1..=20 {
        let mut random = Random(seed);
        let mut engine = new(PARTITIONS);
        let mut twin: BTreeMap<Key, Siblings> = BTreeMap::new();
        for n in 0..600 {
            step(&mut engine, &mut twin, &mut random, n);
        }
        compare(&engine, &twin);
        sums::compare_histories(new(PARTITIONS), &engine, &twin);
    }
    sums::compare_single_buckets(new(PARTITIONS));
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn step<S: Storage>(engine: &mut S, twin: &mut BTreeMap<Key, Siblings>, random: &mut Random, n: u64) {
    let key = Key::new(&format!("key-{}", random.below(200))).expect("a short key");
    match random.below(20) {
        0 => {
            let partition = key.partition(PARTITIONS);
            engine.drop_partition(partition);
            twin.retain(|k, _| k.partition(PARTITIONS) != partition);
        }
        1 => scan(engine, twin, &stretch(key.partition(PARTITIONS), random), random),
        2..5 => {
            engine.write(&key, &Siblings::default());
            twin.remove(&key);
        }
        _ => {
            let mut siblings = engine.read(&key);
            assert_eq!(siblings, twin.get(&key).cloned().unwrap_or_default());
            write(&mut siblings, random, n + 1);
            engine.write(&key, &siblings);
            twin.insert(key, siblings);
        }
    }
}

fn write(siblings: &mut Siblings, random: &mut Random, n: u64) {
    let actor = Actor { id: u128::from(random.below(3)) << 100, node: NodeName(1) };
    let bytes: Arc<[u8]> = Arc::from(vec![b'7'; random.below(200) as usize + 1]);
    let content = match random.below(3) {
        0 => Content::Json(bytes),
        1 => Content::Binary(bytes),
        _ => Content::Tombstone,
    };
    let contextual = random.below(3) == 0;
    let mut context = Context::default();
    if random.below(8) == 0 {
        context.foreign.see("192.168.1.69", n);
    }
    let dot = Dot { actor, counter: n };
    let request = random.below(2) * n;
    let stamp = Stamp::new((1 << 40) + n, random.below(1 << 16) as u16);
    siblings.write(contextual.then_some(&context), Version { dot, stamp, request, contextual, content });
}

/// Some stretch of a partition, bounded as a peer may bound it: by keys of other partitions, by buckets in wrong order.
fn stretch(partition: u32, random: &mut Random) -> Stretch {
    let key = |random: &mut Random| {
        let key = Key::new(&format!("key-{}", random.below(200))).expect("a short key");
        (random.below(4) == 0).then_some(key)
    };
    let (after, until) = (key(random), key(random));
    let buckets = Buckets { first: random.below(256) as u8, last: random.below(256) as u8 };
    Stretch { partition, after, until, buckets: (random.below(2) == 0).then_some(buckets) }
}

fn of_stretch(twin: &BTreeMap<Key, Siblings>, stretch: &Stretch) -> Vec<Record> {
    let mut records = of_partition(twin, stretch.partition);
    records.retain(|(key, _)| {
        let bucket = bucket_of(key.hash(), PARTITIONS);
        stretch.after.as_ref().is_none_or(|after| key > after)
            && stretch.until.as_ref().is_none_or(|until| key <= until)
            && stretch.buckets.is_none_or(|buckets| buckets.first <= bucket && bucket <= buckets.last)
    });
    records
}

fn scan<S: Storage>(engine: &S, twin: &BTreeMap<Key, Siblings>, stretch: &Stretch, random: &mut Random) {
    sums::compare(engine, twin, stretch.partition);
    let expected: Vec<Record> = of_stretch(twin, stretch);
    let slice = Slice {
        bytes_max: random.below(400) as usize,
        records_max: random.below(6) as usize + 1,
        looked_bytes_max: random.below(800) as usize,
    };
    let all = through(stretch, |stretch| engine.scan(stretch, &[], slice));
    assert_eq!(all, expected, "a scan in slices shows each record once");
    let digests = through(stretch, |stretch| engine.digests(stretch, slice));
    let right: Vec<(u64, u64)> = expected.iter().map(|(k, s)| (k.hash(), s.digest())).collect();
    assert_eq!(digests, right);
    let known: Vec<(u64, u64)> = digests.into_iter().filter(|_| random.below(2) == 0).collect();
    let unknown: Vec<Record> =
        expected.into_iter().filter(|(k, _)| !known.iter().any(|(hash, _)| *hash == k.hash())).collect();
    assert_eq!(through(stretch, |stretch| engine.scan(stretch, &known, slice)), unknown);
}

/// Calls until there is no more, and gathers what came.
fn through<T>(stretch: &Stretch, mut next: impl FnMut(&Stretch) -> (Vec<T>, Option<Key>)) -> Vec<T> {
    let mut stretch = stretch.clone();
    let mut all = Vec::new();
    loop {
        let (found, last) = next(&stretch);
        all.extend(found);
        match last {
            Some(key) => {
                assert!(stretch.after.as_ref().is_none_or(|after| *after < key), "a scan goes forward");
                stretch.after = Some(key);
            }
            None => return all,
        }
    }
}

fn of_partition(twin: &BTreeMap<Key, Siblings>, partition: u32) -> Vec<Record> {
    let inside = twin.iter().filter(|(k, _)| k.partition(PARTITIONS) == partition);
    inside.map(|(k, s)| (k.clone(), s.clone())).collect()
}

fn compare<S: Storage>(engine: &S, twin: &BTreeMap<Key, Siblings>) {
    let mut expected: BTreeMap<u32, Measure> = BTreeMap::new();
    for (key, siblings) in twin {
        let measure = expected.entry(key.partition(PARTITIONS)).or_default();
        measure.stored += 1;
        measure.live += u64::from(siblings.versions.iter().any(|v| !v.content.is_tombstone()));
        let values: usize = siblings.versions.iter().map(|v| v.content.bytes().len()).sum();
        measure.bytes += (key.text().len() + values) as u64;
    }
    assert_eq!(engine.measures(), expected.into_iter().collect::<Vec<_>>());
    for partition in 0..PARTITIONS {
        let stretch = Stretch { partition, after: None, until: None, buckets: None };
        assert_eq!(engine.scan(&stretch, &[], EVERYTHING), (of_partition(twin, partition), None));
        sums::compare(engine, twin, partition);
        let mut dead = of_partition(twin, partition);
        dead.retain(|(_, siblings)| siblings.is_dead());
        let dead: Vec<(Key, u64)> =
            dead.into_iter().map(|(key, siblings)| (key, siblings.digest())).collect();
        assert_eq!(engine.dead(partition, usize::MAX), dead);
        assert_eq!(engine.dead(partition, 1), dead[..dead.len().min(1)]);
    }
}
