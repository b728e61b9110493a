//! What a coordinator holds for a put that waits is counted, by an allocator of this test's own.

use std::alloc::System;

use ringkv_bench::counting::{Counting, growth};
use ringkv_bench::replicated::waiting;

#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

/// One test, for the count is the whole program's.
#[test]
fn what_is_held_is_counted_and_a_waiting_put_holds_no_more_than_is_wanted() {
    let (kept, held) = growth(|| {
        drop(vec![0u8; 500]);
        let mut kept = vec![7u8; 100];
        kept.reserve_exact(200);
        kept
    });
    assert_eq!(held, kept.capacity() as isize);
    let (_, held) = growth(|| drop(kept));
    assert_eq!(held, -300);

    let bytes = waiting::measure(1_000).expect("puts wait");
    assert_eq!(bytes, waiting::measure(1_000).expect("puts wait"), "the same each time");
    assert!((200.0..4_096.0).contains(&bytes), "{bytes} bytes");
}
