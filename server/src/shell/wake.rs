//! Waking the loop from another thread: an eventfd beside the sockets, written only while the loop sleeps.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Wakes the loop.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

/// Sleeps until a socket has something or the loop is woken.
pub struct Sleeper {
    shared: Arc<Shared>,
}

struct Shared {
    fd: OwnedFd,
    asleep: AtomicBool,
    /// Woken while awake: then the next sleep is skipped.
    woken: AtomicBool,
}

/// A waker and its sleeper.
pub fn pair() -> std::io::Result<(Waker, Sleeper)> {
    let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let shared = Arc::new(Shared { fd, asleep: AtomicBool::new(false), woken: AtomicBool::new(false) });
    Ok((Waker { shared: shared.clone() }, Sleeper { shared }))
}

impl Waker {
    /// Ends the present sleep, or prevents the next one.
    pub fn wake(&self) {
        self.shared.woken.store(true, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            // Fails only where the counter is full, and then the loop is awake already.
            let _ = rustix::io::write(&self.shared.fd, &1u64.to_ne_bytes());
        }
    }
}

impl Sleeper {
    /// Sleeps at most `timeout_ms`.
    pub fn sleep(&mut self, sockets: &[&zmq::Socket], timeout_ms: i64) -> Result<(), zmq::Error> {
        self.shared.asleep.store(true, Ordering::SeqCst);
        let result = if self.shared.woken.swap(false, Ordering::SeqCst) {
            Ok(0)
        } else {
            self.poll(sockets, timeout_ms)
        };
        self.shared.asleep.store(false, Ordering::SeqCst);
        self.shared.woken.store(false, Ordering::SeqCst);
        let mut count = [0u8; 8];
        // Empty unless somebody woke the loop.
        let _ = rustix::io::read(&self.shared.fd, &mut count);
        match result {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn poll(&self, sockets: &[&zmq::Socket], timeout_ms: i64) -> Result<i32, zmq::Error> {
        let mut items: smallvec::SmallVec<[zmq::PollItem; 3]> =
            sockets.iter().map(|s| s.as_poll_item(zmq::POLLIN)).collect();
        items.push(zmq::PollItem::from_fd(self.shared.fd.as_raw_fd(), zmq::POLLIN));
        zmq::poll(&mut items, timeout_ms)
    }
}
