//! The clients' socket: a ROUTER that any stock client speaks to.
//!
//! A request comes behind an empty frame (REQ, or a DEALER that imitates one), without one (DEALER), or behind the
//! envelope of a proxy; the reply goes back the same way. A client that is gone or never reads loses its replies and
//! holds up nobody.
//!
//! What waits for clients that do not read is bounded: for one of them by [`UNREAD_MAX`] replies, of which those of
//! 1 KiB and more have together no more bytes than the largest message may have, for all of them by
//! [`UNREAD_SHARES`] times that. A reply that finds no room becomes a short one that says so. What waits to be *read* libzmq bounds by number alone, see `sockets`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use ringkv_common::message::Frames;
use slab::Slab;
use smallvec::SmallVec;

use super::monitor::Monitor;
use super::outgoing::{self, Account, COUNTED_FROM};
use super::sockets;
use super::{Config, ShellError};
use crate::core::Client;

/// Frames kept of one message; more are counted and dropped.
const FRAMES_MAX: usize = 8;
/// Replies that may wait for one client that does not read.
const UNREAD_MAX: i32 = 4_096;
/// How long a client may take nothing of what waits for it, in milliseconds: then its connection ends, and what
/// waited is freed.
const UNREAD_MS: i32 = 30_000;
/// Accounts of clients below which none is looked at.
const ACCOUNTS_MIN: usize = 64;
/// Bytes of replies that are kept before they are sent: enough to wake libzmq's thread seldom, and little enough that a
/// client has something to do while the rest is worked on.
const HELD_BYTES: usize = 8 << 10;
/// How many clients' largest replies may wait at one time.
const UNREAD_SHARES: usize = 4;

/// The way back to a client: the routing id, and the frames up to the empty one.
type Envelope = SmallVec<[zmq::Message; 2]>;

/// A message as it came.
pub struct Incoming {
    /// Whom to answer.
    pub client: Client,
    /// Its frames without the envelope.
    pub frames: SmallVec<[zmq::Message; 2]>,
    /// How many there were.
    pub count: usize,
    /// Whether all of them were kept.
    pub complete: bool,
}

/// The socket, and the ways back to those who wait for a reply.
pub struct Clients {
    socket: zmq::Socket,
    waiting: Slab<Envelope>,
    /// Replies to be sent together: sent one by one they would wake libzmq's thread one by one.
    held: Vec<(Client, Frames)>,
    /// Bytes of their bodies.
    held_bytes: usize,
    /// Bytes that wait for one client at most.
    unread_bytes_max: usize,
    /// Bytes of large replies that wait, for all clients, and for each that has some, by routing id.
    unread_bytes: Arc<AtomicUsize>,
    accounts: HashMap<Box<[u8]>, Weak<Account>>,
    /// At how many accounts those of clients that have read all are looked for.
    accounts_max: usize,
    /// Replies that nobody took.
    unread: u64,
}

impl Clients {
    pub fn bind(context: &zmq::Context, config: &Config) -> Result<(Clients, Monitor), ShellError> {
        let mut socket = sockets::open(context, zmq::ROUTER, &config.limits)?;
        let monitor = Monitor::of(context, &socket, "client")?;
        socket.set_router_mandatory(true)?;
        socket.set_sndhwm(UNREAD_MAX)?;
        sockets::cut_off_after(&mut socket, UNREAD_MS)?;
        sockets::bind(&socket, &config.bind, config.ports.client)?;
        let clients = Clients {
            socket,
            waiting: Slab::new(),
            held: Vec::new(),
            held_bytes: 0,
            unread_bytes_max: config.limits.message_bytes_max,
            unread_bytes: Arc::default(),
            accounts: HashMap::new(),
            accounts_max: ACCOUNTS_MIN,
            unread: 0,
        };
        Ok((clients, monitor))
    }

    pub fn socket(&self) -> &zmq::Socket {
        &self.socket
    }

    /// The next message, if one is here.
    pub fn receive(&mut self) -> Result<Option<Incoming>, ShellError> {
        let mut frames: SmallVec<[zmq::Message; FRAMES_MAX]> = SmallVec::new();
        let mut count = 0;
        loop {
            let frame = match self.socket.recv_msg(if count == 0 { zmq::DONTWAIT } else { 0 }) {
                Ok(frame) => frame,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if count == 0 => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let more = frame.get_more();
            count += 1;
            if frames.len() < FRAMES_MAX {
                frames.push(frame);
            }
            if !more {
                break;
            }
        }
        let complete = count == frames.len();
        let body = body_at(&frames);
        let envelope: Envelope = frames.drain(..body).collect();
        let client = Client(self.waiting.insert(envelope) as u64);
        Ok(Some(Incoming { client, frames: frames.into_iter().collect(), count: count - body, complete }))
    }

    /// Whoever asked gets no reply.
    pub fn forget(&mut self, client: Client) {
        self.waiting.try_remove(client.0 as usize);
    }

    /// Keeps a reply for [`Clients::flush`], or for the next ones.
    pub fn reply(&mut self, client: Client, frames: Frames) {
        self.held_bytes += frames.body.len();
        self.held.push((client, frames));
        if self.held_bytes >= HELD_BYTES {
            self.flush();
        }
    }

    /// Sends the replies that are kept.
    pub fn flush(&mut self) {
        self.held_bytes = 0;
        let mut held = std::mem::take(&mut self.held);
        for (client, frames) in held.drain(..) {
            self.send(client, frames);
        }
        self.held = held;
    }

    /// Has what was sent reach the clients though the socket is closed presently.
    pub fn linger(&self) -> Result<(), ShellError> {
        Ok(self.socket.set_linger(sockets::LINGER_MS)?)
    }

    /// Replies that nobody took, and the bytes of large ones that wait to be read.
    pub fn unread(&self) -> (u64, usize) {
        (self.unread, self.unread_bytes.load(Ordering::Relaxed))
    }

    fn send(&mut self, client: Client, frames: Frames) {
        let Some(envelope) = self.waiting.try_remove(client.0 as usize) else { return };
        let bytes = frames.bytes();
        let account = if bytes < COUNTED_FROM { None } else { Some(self.account(&envelope[0])) };
        if account.as_ref().is_some_and(|account| !self.has_room(account, bytes)) {
            self.unread += 1;
            if let Some(body) = frames.instead {
                self.pass(envelope, Frames { body, ..Frames::default() }, None);
            }
            return;
        }
        self.pass(envelope, frames, account);
    }

    /// Gives a reply to libzmq.
    fn pass(&mut self, envelope: Envelope, frames: Frames, account: Option<Arc<Account>>) {
        for frame in envelope {
            // Refused at the first frame where the client is gone or reads nothing: then the rest is not sent.
            if self.socket.send(frame, zmq::SNDMORE | zmq::DONTWAIT).is_err() {
                self.unread += 1;
                return;
            }
        }
        let more = if frames.value.is_some() { zmq::SNDMORE } else { 0 };
        let mut sent = match &account {
            None => self.socket.send(frames.body.as_slice(), more | zmq::DONTWAIT).is_ok(),
            Some(account) => {
                outgoing::send(&mut self.socket, frames.body, more | zmq::DONTWAIT, account).is_ok()
            }
        };
        if let Some(value) = frames.value {
            sent = sent
                && match &account {
                    None => self.socket.send(&value[..], zmq::DONTWAIT).is_ok(),
                    Some(account) => outgoing::send(&mut self.socket, value, zmq::DONTWAIT, account).is_ok(),
                };
        }
        self.unread += u64::from(!sent);
    }

    /// Whether a reply may wait for this client: its first always, unless very many wait for others.
    fn has_room(&self, account: &Account, bytes: usize) -> bool {
        let (own, all) = (account.bytes(), self.unread_bytes.load(Ordering::Relaxed));
        (own == 0 || own + bytes <= self.unread_bytes_max)
            && all + bytes <= UNREAD_SHARES * self.unread_bytes_max.max(bytes)
    }

    /// The account of a client; one that has read everything has none.
    fn account(&mut self, routing_id: &[u8]) -> Arc<Account> {
        if let Some(account) = self.accounts.get(routing_id).and_then(Weak::upgrade) {
            return account;
        }
        if self.accounts.len() >= self.accounts_max {
            self.accounts.retain(|_, account| account.strong_count() > 0);
            self.accounts_max = ACCOUNTS_MIN.max(2 * self.accounts.len());
        }
        let account = Account::new(&self.unread_bytes);
        self.accounts.insert(routing_id.into(), Arc::downgrade(&account));
        account
    }
}

/// Where the body is among the frames behind the routing id.
fn body_at(frames: &[zmq::Message]) -> usize {
    let behind = &frames[1..];
    match behind {
        [first, ..] if first.is_empty() => 2,
        // One or two frames: JSON and perhaps a value. More: a proxy's envelope ends with an empty frame.
        [_] | [_, _] => 1,
        more => more.iter().position(|f| f.is_empty()).map_or(1, |at| at + 2),
    }
}
