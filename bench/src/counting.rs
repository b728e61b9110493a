//! An allocator that counts what is held, while somebody wants to know.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

/// Whether it is counted. Else an allocation costs one look at this more.
static COUNTS: AtomicBool = AtomicBool::new(false);
/// Bytes taken less bytes given back, since it is counted.
static HELD: AtomicIsize = AtomicIsize::new(0);

/// Another allocator, and the count of what was asked of it: its own rounding up is left out.
pub struct Counting<A>(pub A);

/// By how many bytes all threads together hold more behind some work than before it. For one caller at a time, and 0
/// where [`Counting`] is not this program's allocator.
pub fn growth<T>(work: impl FnOnce() -> T) -> (T, isize) {
    HELD.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let result = work();
    COUNTS.store(false, Ordering::Relaxed);
    (result, HELD.load(Ordering::Relaxed))
}

fn count(bytes: usize, sign: isize) {
    if COUNTS.load(Ordering::Relaxed) {
        HELD.fetch_add(sign * bytes.cast_signed(), Ordering::Relaxed);
    }
}

// SAFETY: every call goes on to an allocator that keeps the contract, with what the caller gave.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as above.
        unsafe { self.0.dealloc(place, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as above.
        unsafe { self.0.realloc(place, layout, size) }
    }
}
