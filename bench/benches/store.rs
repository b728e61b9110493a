//! What a put costs in the store alone, and how much of that is the upkeep of the sums of buckets. Which part of a whole
//! put that is, with messages, parsing and replicas, says `cargo run --release -p ringkv-bench -- --replicated`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_bench::upkeep::{Overwrites, PARTITIONS};
use ringkv_server::store::{Memory, Storage, Sums};

/// Writes an iteration.
const WRITES: usize = 1024;

fn puts(c: &mut Criterion) {
    let overwrites = Overwrites::new().expect("short keys");
    let mut memory = overwrites.fill(Memory::new(PARTITIONS));
    let mut sums = vec![Sums::default(); PARTITIONS as usize];
    for (key, held) in overwrites.held() {
        let sums = &mut sums[key.partition(PARTITIONS) as usize];
        sums.replace(key.hash(), PARTITIONS, None, held.digest());
    }

    let mut group = c.benchmark_group("overwrite 1024 keys of 16 bytes, values of 64");
    group.throughput(Throughput::Elements(WRITES as u64));
    let mut at = 0;
    group.bench_function("read, then write", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, _) = overwrites.next(&mut at);
                black_box(memory.read(key));
                memory.write(black_box(key), black_box(new));
            }
        });
    });
    group.bench_function("write alone", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, _) = overwrites.next(&mut at);
                memory.write(black_box(key), black_box(new));
            }
        });
    });
    let mut at = 0;
    group.bench_function("of it the sums: two digests, two marks", |b| {
        b.iter(|| {
            for _ in 0..WRITES {
                let (key, new, held) = overwrites.next(&mut at);
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
