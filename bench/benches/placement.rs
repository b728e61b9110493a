//! Routing a key and making a table. Routing beside `hashring`, the crate that one would take for it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hashring::HashRing;
use ringkv_common::key;
use ringkv_common::placement::{Member, Strategy, Table, WEIGHT_DEFAULT, Wish, table};

const NODES: usize = 100;
/// As many as `consistent` gives a node of the usual weight.
const VIRTUAL_NODES: usize = 160;
/// Enough that neither the branch predictor nor one cache line knows them all.
const KEYS: usize = 1024;

fn members(count: usize) -> Vec<Member> {
    let node = |n| Member { name: format!("node-{n}"), zone: format!("host-{n}"), weight: WEIGHT_DEFAULT };
    (0..count).map(node).collect()
}

fn made(strategy: Strategy, members: &[Member], partitions: u32, last: Option<&Table>) -> Table {
    let wish = Wish { strategy, members, partitions, replicas: 3, balance: Some(5.0) };
    table(&wish, last).expect("a valid wish")
}

/// Time per iteration is that of all keys; `thrpt` is routes per second.
fn routing(c: &mut Criterion) {
    // Slices, as they come in messages: the compiler must not know their length.
    let keys: Vec<Vec<u8>> = (0..KEYS).map(|n| format!("user:{n:011}").into_bytes()).collect();
    let table = made(Strategy::Hrw, &members(NODES), 4096, None);
    let mut ring = HashRing::new();
    ring.batch_add((0..NODES * VIRTUAL_NODES).map(|point| (point / VIRTUAL_NODES, point)).collect());

    let mut group = c.benchmark_group("route 1024 keys of 16 bytes, 100 nodes");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("ringkv: hash and table", |b| {
        b.iter(|| {
            for key in &keys {
                let partition = key::partition_of(key::hash(black_box(key.as_slice())), table.partitions());
                black_box(table.owners(partition)[0]);
            }
        });
    });
    group.bench_function("ringkv: hash alone", |b| {
        b.iter(|| {
            for key in &keys {
                black_box(key::hash(black_box(key.as_slice())));
            }
        });
    });
    group.bench_function("hashring: get", |b| {
        b.iter(|| {
            for key in &keys {
                black_box(ring.get(&black_box(key.as_slice())));
            }
        });
    });
    group.finish();
}

fn making(c: &mut Criterion) {
    let mut group = c.benchmark_group("make a table, 3 replicas");
    group.sample_size(10);
    for strategy in [Strategy::Consistent, Strategy::Hrw] {
        for (nodes, partitions) in [(5, 4096), (101, 4096), (256, 65_536)] {
            let members = members(nodes);
            let last = made(strategy, &members[..nodes - 1], partitions, None);
            let size = format!("{nodes} nodes, {partitions} partitions");
            group.bench_function(BenchmarkId::new(format!("{strategy}: found"), &size), |b| {
                b.iter(|| made(strategy, &members, partitions, None));
            });
            group.bench_function(BenchmarkId::new(format!("{strategy}: join"), &size), |b| {
                b.iter(|| made(strategy, &members, partitions, Some(&last)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, routing, making);
criterion_main!(benches);
