//! Packets of gossip as bytes, and what is taken of those that come in.
//!
//! ```text
//!   header: who, to whom, what   │ number of news, 2 bytes │ news: a life, its incarnation, its state │ …
//! ```
//!
//! Greetings and objections end behind the header. foca believes whatever it reads, so a packet is read here first:
//! news of nodes that are not in the ring is left out, and what is no packet never gets there.

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message};
use ringkv_common::name::NodeName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::life::{GENERATION_MAX, Life};
use super::settings::PACKET_BYTES_MAX;

/// The compact form of frames between nodes, for foca.
#[derive(Debug)]
pub struct Compact;

impl Codec<Life> for Compact {
    type Error = postcard::Error;

    fn encode_header(&mut self, header: &Header<Life>, buffer: impl BufMut) -> postcard::Result<()> {
        encode(header, buffer)
    }

    fn decode_header(&mut self, buffer: impl Buf) -> postcard::Result<Header<Life>> {
        decode(buffer)
    }

    fn encode_member(&mut self, member: &Member<Life>, buffer: impl BufMut) -> postcard::Result<()> {
        encode(member, buffer)
    }

    fn decode_member(&mut self, buffer: impl Buf) -> postcard::Result<Member<Life>> {
        decode(buffer)
    }
}

/// The largest header: three lives of 3 + 9 bytes, an incarnation, a probe's number and a tag each.
const ITEM_BYTES_MAX: usize = 64;

fn encode(item: &impl Serialize, mut buffer: impl BufMut) -> postcard::Result<()> {
    let mut bytes = [0; ITEM_BYTES_MAX];
    let bytes = postcard::to_slice(item, &mut bytes)?;
    if buffer.remaining_mut() < bytes.len() {
        return Err(postcard::Error::SerializeBufferFull);
    }
    buffer.put_slice(bytes);
    Ok(())
}

fn decode<T: DeserializeOwned>(mut buffer: impl Buf) -> postcard::Result<T> {
    let (item, rest) = postcard::take_from_bytes(buffer.chunk())?;
    let taken = buffer.chunk().len() - rest.len();
    buffer.advance(taken);
    Ok(item)
}

/// A packet that was read.
#[derive(Debug)]
pub struct Packet {
    /// Who, to whom, what.
    pub header: Header<Life>,
    /// What its sender heard of nodes.
    pub news: Vec<Member<Life>>,
}

impl Packet {
    /// Reads a packet; `None`: it is none.
    pub fn read(mut bytes: &[u8]) -> Option<Packet> {
        if bytes.len() > PACKET_BYTES_MAX {
            return None;
        }
        let header: Header<Life> = decode(&mut bytes).ok()?;
        let mut packet = Packet { header, news: Vec::new() };
        match packet.header.message {
            Message::Announce | Message::TurnUndead => {}
            // Nobody sends them.
            Message::Broadcast => return None,
            _ => {
                for _ in 0..bytes.try_get_u16().ok()? {
                    packet.news.push(decode(&mut bytes).ok()?);
                }
            }
        }
        let sane = packet.lives().all(|life| life.generation < GENERATION_MAX);
        (bytes.is_empty() && sane).then_some(packet)
    }

    /// As bytes again.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = encode(&self.header, &mut bytes);
        if !matches!(self.header.message, Message::Announce | Message::TurnUndead) {
            bytes.put_u16(self.news.len() as u16);
        }
        let written = self.news.iter().fold(written, |w, member| w.and_then(|()| encode(member, &mut bytes)));
        written.expect("what was read within the bounds can be written");
        bytes
    }

    /// The node that it asks about, or answers for.
    pub fn subject(&self) -> Option<&Life> {
        match &self.header.message {
            Message::PingReq { target: life, .. }
            | Message::IndirectAck { target: life, .. }
            | Message::IndirectPing { origin: life, .. }
            | Message::ForwardedAck { origin: life, .. } => Some(life),
            _ => None,
        }
    }

    /// The highest generation in which it knows a node.
    pub fn generation_of(&self, name: NodeName) -> Option<u64> {
        self.lives().filter(|life| life.name == name).map(|life| life.generation).max()
    }

    fn lives(&self) -> impl Iterator<Item = &Life> {
        let both = [&self.header.src, &self.header.dst];
        both.into_iter().chain(self.subject()).chain(self.news.iter().map(Member::id))
    }
}
