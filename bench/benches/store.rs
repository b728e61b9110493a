//! What a put costs in the store alone, and how much of that is the upkeep of the sums of buckets. Beside a whole put of a
//! node, with messages, parsing and replicas, the upkeep may be a tenth at most.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_common::key::Key;
use ringkv_common::name::NodeName;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Content, Dot, Siblings, Version};
use ringkv_server::store::{Memory, Storage, Sums};

const PARTITIONS: u32 = 4096;
/// More than a processor's caches hold.
const KEYS: u64 = 1 << 17;
/// Writes an iteration.
const WRITES: usize = 1024;

/// A key's state after its n-th write by one node.
fn siblings(counter: u64) -> Siblings {
    let content = Content::Json(Arc::from([b'7'; 64]));
    let dot = Dot { actor: Actor { id: 7, node: NodeName(1) }, counter };
    let mut siblings = Siblings::default();
    siblings.write(None, Version { dot, stamp: Stamp(counter), request: 0, contextual: false, content });
    siblings
}

/// Keys of 16 bytes in no order of the store's, each with two states that take turns: every write changes the sums.
fn puts(c: &mut Criterion) {
    let key = |n: u64| Key::new(&format!("user:{n:011}")).expect("a short key");
    let states: Vec<(Key, [Siblings; 2])> =
        (0..KEYS).map(|n| (key(n), [siblings(2 * n + 1), siblings(2 * n + 2)])).collect();
    let mut memory = Memory::new(PARTITIONS);
    let mut sums = vec![Sums::default(); PARTITIONS as usize];
    for (key, [_, last]) in &states {
        memory.write(key, last);
        let sums = &mut sums[key.partition(PARTITIONS) as usize];
        sums.replace(key.hash(), PARTITIONS, None, last.digest());
    }
    // The write of an iteration, and whether it is the first or the second state's turn.
    let next = |at: &mut usize| {
        let (key, both) = &states[*at % states.len()];
        let turn = *at / states.len() % 2;
        *at += 1;
        (key, &both[turn], &both[1 - turn])
    };

    let mut group = c.benchmark_group("overwrite 1024 keys of 16 bytes, values of 64");
    group.throughput(Throughput::Elements(WRITES as u64));
    let mut at = 0;
    group.bench_function("read, then write", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, _) = next(&mut at);
                black_box(memory.read(key));
                memory.write(black_box(key), black_box(new));
            }
        });
    });
    group.bench_function("write alone", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, _) = next(&mut at);
                memory.write(black_box(key), black_box(new));
            }
        });
    });
    let mut at = 0;
    group.bench_function("of it the sums: two digests, two marks", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, held) = next(&mut at);
                let sums = &mut sums[key.partition(PARTITIONS) as usize];
                let held = black_box(held).digest();
                sums.replace(key.hash(), PARTITIONS, Some(held), black_box(new).digest());
            }
        });
    });
    group.finish();
}

criterion_group!(benches, puts);
criterion_main!(benches);
