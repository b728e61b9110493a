//! A record as bytes in memory: a key and its siblings, as short as the usual case allows.
//!
//! ```text
//!   usual:    [flags][clock entries]([actor u16][counter])*[dot's place][stamp][request?][key length][key][value length][value]
//!   any other: [flags][length][postcard of (key, siblings)]
//! ```
//!
//! Usual is one version whose dot its clock ends with. Actors are 18 bytes and few, so they are kept once and named
//! by number. Numbers are LEB128.

use std::collections::HashMap;
use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::peer::Record;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Clock, Content, Dot, Siblings, Version};
use smallvec::SmallVec;

use super::Measure;

const JSON: u8 = 0;
const BINARY: u8 = 1;
const TOMBSTONE: u8 = 2;
const KIND: u8 = 3;
const CONTEXTUAL: u8 = 4;
const REQUEST: u8 = 8;
const GENERAL: u8 = 16;

/// The actors that records name by number.
#[derive(Debug, Default)]
pub struct Actors {
    list: Vec<Actor>,
    numbers: HashMap<Actor, u16>,
    /// The last one asked for: writes are most often this node's own.
    last: u16,
}

impl Actors {
    /// How many have a number.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// An actor's number, where it has one.
    fn known(&mut self, actor: Actor) -> Option<u16> {
        if self.list.get(usize::from(self.last)) == Some(&actor) {
            return Some(self.last);
        }
        self.numbers.get(&actor).copied()
    }

    /// The number of an actor that wrote; `None` once there are more than 65,536, whose records are then written in
    /// full. Names that merely stand in a clock get none: clients can invent as many as they like.
    fn number(&mut self, actor: Actor) -> Option<u16> {
        if self.list.get(usize::from(self.last)) == Some(&actor) {
            return Some(self.last);
        }
        if let Some(number) = self.numbers.get(&actor) {
            self.last = *number;
            return Some(*number);
        }
        let number = u16::try_from(self.list.len()).ok()?;
        self.list.push(actor);
        self.numbers.insert(actor, number);
        Some(number)
    }
}

fn put_number(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Reads records that this module wrote; a cut one is a defect of ours.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(n);
        self.bytes = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u64 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            n |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return n;
            }
            shift += 7;
        }
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("take returns what was asked for")
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number() as usize;
        self.take(length)
    }
}

/// Appends a record.
pub fn encode(out: &mut Vec<u8>, actors: &mut Actors, key: &Key, siblings: &Siblings) {
    let start = out.len();
    if encode_usual(out, actors, key, siblings).is_none() {
        out.truncate(start);
        out.push(GENERAL);
        let body = postcard::to_stdvec(&(key, siblings)).expect("plain data in memory always encodes");
        put_number(out, body.len() as u64);
        out.extend_from_slice(&body);
    }
}

fn encode_usual(out: &mut Vec<u8>, actors: &mut Actors, key: &Key, siblings: &Siblings) -> Option<()> {
    let [version] = siblings.versions.as_slice() else { return None };
    let clock = siblings.clock.entries();
    let place = clock.iter().position(|dot| *dot == version.dot)?;
    if !siblings.foreign.entries().is_empty() || clock.len() > 255 {
        return None;
    }
    let kind = match &version.content {
        Content::Json(_) => JSON,
        Content::Binary(_) => BINARY,
        Content::Tombstone => TOMBSTONE,
    };
    let contextual = if version.contextual { CONTEXTUAL } else { 0 };
    let request = if version.request != 0 { REQUEST } else { 0 };
    out.extend_from_slice(&[kind | contextual | request, clock.len() as u8]);
    actors.number(version.dot.actor)?;
    for dot in clock {
        out.extend_from_slice(&actors.known(dot.actor)?.to_le_bytes());
        put_number(out, dot.counter);
    }
    out.push(place as u8);
    out.extend_from_slice(&version.stamp.0.to_le_bytes());
    if version.request != 0 {
        out.extend_from_slice(&version.request.to_le_bytes());
    }
    put_number(out, key.text().len() as u64);
    out.extend_from_slice(key.text().as_bytes());
    put_number(out, version.content.bytes().len() as u64);
    out.extend_from_slice(version.content.bytes());
    Some(())
}

/// A record that was found and not yet built.
pub struct Raw<'a> {
    /// Its bytes.
    pub span: &'a [u8],
    body: Body<'a>,
}

enum Body<'a> {
    Usual {
        flags: u8,
        clock: Reader<'a>,
        entries: u8,
        place: u8,
        stamp: u64,
        request: u64,
        key: &'a [u8],
        value: &'a [u8],
    },
    General(Box<Record>),
}

/// The records of one entry: more than one only where two keys have one hash.
pub fn raws(bytes: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut reader = Reader { bytes };
    std::iter::from_fn(move || (!reader.bytes.is_empty()).then(|| Raw::read(&mut reader)))
}

/// The siblings of one key in an entry.
pub fn find(bytes: &[u8], actors: &Actors, key: &Key) -> Option<Siblings> {
    raws(bytes).find(|raw| raw.key() == key.text().as_bytes()).map(|raw| raw.siblings(actors))
}

impl<'a> Raw<'a> {
    fn read(reader: &mut Reader<'a>) -> Raw<'a> {
        let whole = reader.bytes;
        let flags = reader.byte();
        let body = if flags & GENERAL != 0 {
            let length = reader.number() as usize;
            let record =
                postcard::from_bytes(reader.take(length)).expect("a record is read as it was written");
            Body::General(Box::new(record))
        } else {
            Body::usual(reader, flags)
        };
        Raw { span: &whole[..whole.len() - reader.bytes.len()], body }
    }

    /// The key's text. Bytes are enough to compare it, and cost no look at each of them.
    pub fn key(&self) -> &[u8] {
        match &self.body {
            Body::Usual { key, .. } => key,
            Body::General(record) => record.0.text().as_bytes(),
        }
    }

    /// What it adds to its partition's measure.
    pub fn measure(&self) -> Measure {
        match &self.body {
            Body::Usual { flags, key, value, .. } => Measure {
                live: u64::from(flags & KIND != TOMBSTONE),
                stored: 1,
                bytes: (key.len() + value.len()) as u64,
            },
            Body::General(record) => Measure::of(&record.0, &record.1),
        }
    }

    /// The key and its siblings.
    pub fn record(self, actors: &Actors) -> Record {
        match self.body {
            Body::General(record) => *record,
            Body::Usual { key, .. } => {
                let key = std::str::from_utf8(key).ok().and_then(|key| Key::new(key).ok());
                (key.expect("a key was valid when it was written"), self.siblings(actors))
            }
        }
    }

    fn siblings(self, actors: &Actors) -> Siblings {
        let Body::Usual { flags, mut clock, entries, place, stamp, request, value, .. } = self.body else {
            let Body::General(record) = self.body else { unreachable!("there are two kinds") };
            return record.1;
        };
        let clock = Clock::of_entries((0..entries).map(|_| {
            let actor = actors.list[usize::from(u16::from_le_bytes(clock.fixed()))];
            Dot { actor, counter: clock.number() }
        }));
        let content = match flags & KIND {
            JSON => Content::Json(Arc::from(value)),
            BINARY => Content::Binary(Arc::from(value)),
            _ => Content::Tombstone,
        };
        let contextual = flags & CONTEXTUAL != 0;
        let dot = clock.entries()[usize::from(place)];
        let version = Version { dot, stamp: Stamp(stamp), request, contextual, content };
        Siblings { clock, versions: SmallVec::from_iter([version]), ..Siblings::default() }
    }
}

impl<'a> Body<'a> {
    fn usual(reader: &mut Reader<'a>, flags: u8) -> Body<'a> {
        let entries = reader.byte();
        let clock = Reader { bytes: reader.bytes };
        for _ in 0..entries {
            reader.take(2);
            reader.number();
        }
        let place = reader.byte();
        let stamp = u64::from_le_bytes(reader.fixed());
        let request = if flags & REQUEST != 0 { u64::from_le_bytes(reader.fixed()) } else { 0 };
        let (key, value) = (reader.bytes(), reader.bytes());
        Body::Usual { flags, clock, entries, place, stamp, request, key, value }
    }
}
