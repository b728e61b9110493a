//! The clients' socket: a ROUTER that any stock client speaks to.
//!
//! A request comes behind an empty frame (REQ, or a DEALER that imitates one), without one (DEALER), or behind the
//! envelope of a proxy; the reply goes back the same way. A client that is gone or never reads loses its replies and
//! holds up nobody.

use ringkv_common::message::Frames;
use slab::Slab;
use smallvec::SmallVec;

use super::sockets;
use super::{Config, ShellError};
use crate::core::Client;

/// Frames kept of one message; more are counted and dropped.
const FRAMES_MAX: usize = 8;
/// Messages that may wait for one client that does not read.
const UNREAD_MAX: i32 = 4_096;

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
    /// Replies of this turn of the loop: sent one by one they would wake libzmq's thread one by one.
    held: Vec<(Client, Frames)>,
    /// Replies that nobody took.
    pub unread: u64,
}

impl Clients {
    pub fn bind(context: &zmq::Context, config: &Config) -> Result<Clients, ShellError> {
        let socket = sockets::open(context, zmq::ROUTER, &config.limits)?;
        socket.set_router_mandatory(true)?;
        socket.set_sndhwm(UNREAD_MAX)?;
        sockets::bind(&socket, &config.bind, config.ports.client)?;
        Ok(Clients { socket, waiting: Slab::new(), held: Vec::new(), unread: 0 })
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

    /// Keeps a reply for [`Clients::flush`].
    pub fn reply(&mut self, client: Client, frames: Frames) {
        self.held.push((client, frames));
    }

    /// Sends the replies that are kept.
    pub fn flush(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        for (client, frames) in held.drain(..) {
            self.send(client, frames);
        }
        self.held = held;
    }

    fn send(&mut self, client: Client, frames: Frames) {
        let Some(envelope) = self.waiting.try_remove(client.0 as usize) else { return };
        for frame in envelope {
            // Refused at the first frame where the client is gone or reads nothing: then the rest is not sent.
            if self.socket.send(frame, zmq::SNDMORE | zmq::DONTWAIT).is_err() {
                self.unread += 1;
                return;
            }
        }
        let more = if frames.value.is_some() { zmq::SNDMORE } else { 0 };
        let mut sent = self.socket.send(frames.body.as_slice(), more | zmq::DONTWAIT);
        if let Some(value) = frames.value {
            sent = sent.and_then(|()| self.socket.send(&value[..], zmq::DONTWAIT));
        }
        self.unread += u64::from(sent.is_err());
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
