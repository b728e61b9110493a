//! Bytes that libzmq holds for a receiver, counted until it has written them to the connection.
//!
//! libzmq bounds its queues by messages alone, and a message may have 64 MiB. It does tell when it is done with a
//! message that it was lent: by calling a function of ours. So large messages are lent, not copied, and counted until
//! then. Small ones are copied as ever: there the bound by number is one by bytes.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Messages of fewer bytes are not counted.
pub const COUNTED_FROM: usize = crate::core::LARGE_BYTES;

/// What libzmq holds for one receiver.
#[derive(Debug, Default)]
pub struct Account {
    bytes: AtomicUsize,
    /// What it holds for all receivers of the kind.
    all: Arc<AtomicUsize>,
}

impl Account {
    /// Nothing is held; `all` counts for all receivers together.
    pub fn new(all: &Arc<AtomicUsize>) -> Arc<Account> {
        Arc::new(Account { bytes: AtomicUsize::new(0), all: all.clone() })
    }

    /// Bytes held for this receiver.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn enter(self: &Arc<Account>, bytes: usize) -> Entry {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
        Entry { account: self.clone(), bytes }
    }
}

/// A message in an account, until it is dropped.
struct Entry {
    account: Arc<Account>,
    bytes: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.account.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.account.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What libzmq is lent: the bytes, and their entry. Dropped on libzmq's thread.
struct Parcel<B> {
    /// Taken out where libzmq refuses them.
    bytes: Option<B>,
    _entry: Entry,
}

/// Sends one frame that libzmq holds without copying, and counts it while it does. What it refuses is returned.
pub fn send<B>(socket: &mut zmq::Socket, bytes: B, flags: i32, account: &Arc<Account>) -> Result<(), B>
where
    B: AsRef<[u8]> + Send + 'static,
{
    let mut parcel = Box::new(Parcel { _entry: account.enter(bytes.as_ref().len()), bytes: Some(bytes) });
    let slice = parcel.bytes.as_mut().map_or(&[][..], |bytes| (*bytes).as_ref());
    let (data, length) = (slice.as_ptr(), slice.len());
    let hint = Box::into_raw(parcel);
    let mut message = zmq_sys::zmq_msg_t { __: [0; 64] };
    // SAFETY: the bytes are on the heap behind the box and stay there, unchanged, until `release` has the box back.
    // libzmq calls it once, when the message is closed; where it makes no message it never does, and we take it back.
    let made = unsafe {
        let data = data.cast_mut().cast::<c_void>();
        zmq_sys::zmq_msg_init_data(&mut message, data, length, Some(release::<B>), hint.cast())
    };
    // SAFETY: the socket lives as long as its borrow.
    let taken = made == 0 && unsafe { zmq_sys::zmq_msg_send(&mut message, socket.as_mut_ptr(), flags) } >= 0;
    if taken {
        return Ok(());
    }
    // SAFETY: what was not taken nobody reads: neither the bytes nor, until the message is closed, the box.
    let refused = unsafe { (*hint).bytes.take() };
    if made == 0 {
        // SAFETY: the message was made and is still ours; closing it calls `release`.
        unsafe { zmq_sys::zmq_msg_close(&mut message) };
    } else {
        // SAFETY: there is no message that would give the box back.
        drop(unsafe { Box::from_raw(hint) });
    }
    Err(refused.expect("nobody else takes it"))
}

/// libzmq is done with a message.
unsafe extern "C" fn release<B>(_data: *mut c_void, hint: *mut c_void) {
    // SAFETY: `hint` is the box that `send` lent with this very type, and libzmq calls this once for it.
    drop(unsafe { Box::from_raw(hint.cast::<Parcel<B>>()) });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(context: &zmq::Context, endpoint: &str) -> [zmq::Socket; 2] {
        let [a, b] = [zmq::PAIR, zmq::PAIR].map(|kind| context.socket(kind).unwrap());
        a.set_sndhwm(1).unwrap();
        b.set_rcvhwm(1).unwrap();
        b.bind(endpoint).unwrap();
        a.connect(endpoint).unwrap();
        [a, b]
    }

    #[test]
    fn bytes_count_until_they_were_taken_or_refused() {
        let all = Arc::new(AtomicUsize::new(0));
        let [one, other] = [Account::new(&all), Account::new(&all)];
        let context = zmq::Context::new();
        let [mut a, b] = pair(&context, "inproc://counted");
        let frame: Arc<[u8]> = vec![7u8; 5000].into();
        assert!(send(&mut a, frame.clone(), zmq::DONTWAIT, &one).is_ok());
        assert!(send(&mut a, vec![8u8; 3000], zmq::DONTWAIT, &other).is_ok());
        assert_eq!((one.bytes(), other.bytes(), all.load(Ordering::Relaxed)), (5000, 3000, 8000));
        let refused = send(&mut a, frame.clone(), zmq::DONTWAIT, &one);
        assert_eq!(refused, Err(frame.clone()), "two wait: one here, one there");
        drop(refused);
        assert_eq!(one.bytes(), 5000, "what is refused does not count");
        assert_eq!(b.recv_bytes(0).unwrap(), frame.to_vec());
        assert_eq!(b.recv_bytes(0).unwrap(), vec![8u8; 3000]);
        drop((a, b, context));
        assert_eq!((one.bytes(), all.load(Ordering::Relaxed), Arc::strong_count(&frame)), (0, 0, 1));
    }
}
