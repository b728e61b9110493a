//! What moving a record costs a processor, stage by stage: two cores and two stores in one thread, without sockets.
//!
//! ```text
//!   give: Fetch ─► Scan ─► Fetched ─► encode ═► decode ─► take: join, persist          compare: digests of both
//! ```
//!
//! `cargo run --release -p ringkv-bench --bin mover`

use std::time::Duration;

use anyhow::{Context, Result};
use ringkv_bench::cores::{Half, Took, converse, founded, member};
use ringkv_common::ring::plan::add;
use ringkv_common::ring::{Ring, SignalId};
use ringkv_server::core::{Client, Event};
use ringkv_server::store::Storage;

/// As nodes have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDS: u64 = 1_000_000;
fn main() -> Result<()> {
    measure(RECORDS)
}

/// Moves a share of so many records, and prints what that cost.
fn measure(records: u64) -> Result<()> {
    let founded = founded(1, 1)?;
    let [mut giver, mut taker] = [0, 1].map(|n| Half::new(n, founded.partitions));
    giver.step(Event::RingAbsent);
    taker.step(Event::Ring(founded.clone().into()));
    giver.step(Event::Ring(founded.clone().into()));
    let value = "0123456789abcdef".repeat(4);
    for n in 0..records {
        let body = format!(r#"{{"op":"PUT","key":"key:{n:012}","value":"{value}"}}"#);
        giver.step(Event::Request { client: Client(n), body: body.as_bytes(), value: None });
    }
    let signal = SignalId { name: "node-1".into(), index: 1 };
    let copy: Ring = add(&founded, member(1), signal)?;
    let both = copy.advanced();
    for (what, ring) in [("copy", copy), ("compare", both)] {
        for half in [&mut giver, &mut taker] {
            half.took = Took::default();
            half.step(Event::Ring(ring.clone().into()));
        }
        converse(&mut giver, &mut taker)?;
        let moved: u64 = taker.store.measures().iter().map(|(_, m)| m.stored).sum();
        (moved > 0).then_some(()).context("nothing moved")?;
        for (who, took) in [("giver", giver.took), ("taker", taker.took)] {
            let ns = |took: Duration| took.as_nanos() as f64 / moved as f64;
            println!(
                "{what} {who}: core {:.0} ns a record, scan {:.0}, digest {:.0}, read {:.0}, write {:.0}, encode {:.0}, \
                 decode {:.0}; {moved} records",
                ns(took.step),
                ns(took.scan),
                ns(took.digest),
                ns(took.read),
                ns(took.write),
                ns(took.encode),
                ns(took.decode),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_move_and_are_compared() {
        super::measure(1_000).expect("something moves");
    }
}
