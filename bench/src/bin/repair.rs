//! What anti-entropy tells to find and mend a few differences among many records: two owners of all of them, two cores
//! and two stores in one thread. What is counted is not timed, so it is the same on every machine.
//!
//! `cargo run --release -p ringkv-bench --bin repair`

use anyhow::{Result, ensure};
use ringkv_bench::cores::{Half, converse, founded, written};
use ringkv_common::key::Key;
use ringkv_server::core::{Client, Event};
use ringkv_server::store::Storage;

/// As nodes have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: u64 = 1_000_000;
const DIVERGENT: u64 = 100;

fn main() -> Result<()> {
    let (messages, bytes) = measure(RECORDS, DIVERGENT)?;
    println!(
        "{RECORDS} records, {DIVERGENT} divergent: {messages} messages, {bytes} bytes ({:.0} KiB) until both owners are alike",
        bytes as f64 / 1024.0
    );
    Ok(())
}

/// Messages and bytes that two owners tell each other until they are alike.
fn measure(records: u64, divergent: u64) -> Result<(u64, u64)> {
    let ring = founded(2, 2)?;
    let [mut a, mut b] = [0, 1].map(|n| Half::new(n, ring.partitions));
    for n in 0..records {
        let key = Key::new(&format!("key:{n:012}"))?;
        a.store.write(&key, &written(n + 1));
        // Far apart, as lost writes are.
        let missed = n % (records / divergent) == 0;
        b.store.write(&key, &written(if missed { records + n + 1 } else { n + 1 }));
    }
    for half in [&mut a, &mut b] {
        half.step(Event::RingAbsent);
        half.step(Event::Ring(ring.clone().into()));
    }
    converse(&mut a, &mut b)?;
    ensure!(a.store.roots() != b.store.roots(), "nothing differs");
    (a.told, b.told) = ((0, 0), (0, 0));
    let mut asked = 0;
    while a.store.roots() != b.store.roots() {
        ensure!(asked < 10, "they differ after {asked} comparisons");
        asked += 1;
        a.step(Event::Request { client: Client(asked), body: br#"{"op":"REPAIR"}"#, value: None });
        converse(&mut a, &mut b)?;
    }
    Ok((a.told.0 + b.told.0, a.told.1 + b.told.1))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_few_differences_among_many_records_are_found_for_few_bytes() {
        let (_, bytes) = super::measure(20_000, 20).expect("they become alike");
        assert!((32_768..200_000).contains(&bytes), "the roots, and some for each difference: {bytes}");
    }
}
