//! A record as bytes in memory: a key and its siblings, as short as the usual case allows.
//!
//! ```text
//!   usual:     [flags](clock)[stamp's milliseconds, 6 bytes][its count][request?][key length][key][value …]
//!     clock:   [actor][counter], or more: [entries]([actor][counter])*[place of the version's dot]
//!   any other: [flags][length][postcard of (key, siblings)]
//! ```
//!
//! Usual is one version whose dot its clock has, alone in its entry: so the value's end is the entry's. Actors are 18
//! bytes and few, so they are kept once and named by number. Numbers are LEB128. Each byte counts: allocators give out
//! memory in steps, and a 16-byte key with a 64-byte value just fits one of 96.

use std::collections::HashMap;
use std::sync::Arc;

use ringkv_common::key::Key;
use ringkv_common::message::peer::Record;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Clock, Content, Dot, Siblings, Version, digest};
use smallvec::SmallVec;

use super::Measure;

const JSON: u8 = 0;
const BINARY: u8 = 1;
const TOMBSTONE: u8 = 2;
const KIND: u8 = 3;
const CONTEXTUAL: u8 = 4;
const REQUEST: u8 = 8;
const GENERAL: u8 = 16;
/// The clock has the version's dot alone.
const SINGLE: u8 = 32;
/// Bytes of a stamp's milliseconds.
const WALL: usize = 6;

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

/// Writes the entry of a record that is alone in it.
pub fn encode(out: &mut Vec<u8>, actors: &mut Actors, key: &Key, siblings: &Siblings) {
    out.clear();
    if encode_usual(out, actors, key, siblings).is_none() {
        out.clear();
        append(out, key, siblings);
    }
}

/// Appends a record to an entry that has several.
pub fn append(out: &mut Vec<u8>, key: &Key, siblings: &Siblings) {
    out.push(GENERAL);
    let body = postcard::to_stdvec(&(key, siblings)).expect("plain data in memory always encodes");
    put_number(out, body.len() as u64);
    out.extend_from_slice(&body);
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
    // Only who wrote gets a number: names in a clock may be a client's invention.
    actors.number(version.dot.actor)?;
    let single = if clock.len() == 1 { SINGLE } else { 0 };
    out.push(kind | contextual | request | single);
    if clock.len() > 1 {
        out.push(clock.len() as u8);
    }
    for dot in clock {
        put_number(out, u64::from(actors.known(dot.actor)?));
        put_number(out, dot.counter);
    }
    if clock.len() > 1 {
        out.push(place as u8);
    }
    out.extend_from_slice(&version.stamp.wall_ms().to_le_bytes()[..WALL]);
    put_number(out, u64::from(version.stamp.count()));
    if version.request != 0 {
        out.extend_from_slice(&version.request.to_le_bytes());
    }
    put_number(out, key.text().len() as u64);
    out.extend_from_slice(key.text().as_bytes());
    out.extend_from_slice(version.content.bytes());
    Some(())
}

/// A record that was found and not yet built.
pub struct Raw<'a> {
    body: Body<'a>,
}

enum Body<'a> {
    Usual {
        flags: u8,
        clock: Reader<'a>,
        entries: u8,
        place: u8,
        stamp: Stamp,
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
        let flags = reader.byte();
        let body = if flags & GENERAL != 0 {
            let length = reader.number() as usize;
            let record =
                postcard::from_bytes(reader.take(length)).expect("a record is read as it was written");
            Body::General(Box::new(record))
        } else {
            Body::usual(reader, flags)
        };
        Raw { body }
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
            Body::Usual { .. } => (self.to_key(), self.siblings(actors)),
        }
    }

    /// The key, built.
    pub fn to_key(&self) -> Key {
        let key = std::str::from_utf8(self.key()).ok().and_then(|key| Key::new(key).ok());
        key.expect("a key was valid when it was written")
    }

    /// [`Siblings::digest`], without building them.
    pub fn digest(&self, actors: &Actors) -> u64 {
        match &self.body {
            Body::General(record) => record.1.digest(),
            Body::Usual { clock, entries, place, .. } => {
                let version = dots(clock, *entries, actors).nth(usize::from(*place));
                digest(dots(clock, *entries, actors).chain(version), 1)
            }
        }
    }

    fn siblings(self, actors: &Actors) -> Siblings {
        let Body::Usual { flags, clock, entries, place, stamp, request, value, .. } = self.body else {
            let Body::General(record) = self.body else { unreachable!("there are two kinds") };
            return record.1;
        };
        let clock = Clock::of_entries(dots(&clock, entries, actors));
        let content = match flags & KIND {
            JSON => Content::Json(Arc::from(value)),
            BINARY => Content::Binary(Arc::from(value)),
            _ => Content::Tombstone,
        };
        let contextual = flags & CONTEXTUAL != 0;
        let dot = clock.entries()[usize::from(place)];
        let version = Version { dot, stamp, request, contextual, content };
        Siblings { clock, versions: SmallVec::from_iter([version]), ..Siblings::default() }
    }
}

/// The entries of a clock.
fn dots(clock: &Reader<'_>, entries: u8, actors: &Actors) -> impl Iterator<Item = Dot> {
    let mut clock = Reader { bytes: clock.bytes };
    (0..entries).map(move |_| {
        let actor = actors.list[clock.number() as usize];
        Dot { actor, counter: clock.number() }
    })
}

impl<'a> Body<'a> {
    fn usual(reader: &mut Reader<'a>, flags: u8) -> Body<'a> {
        let single = flags & SINGLE != 0;
        let entries = if single { 1 } else { reader.byte() };
        let clock = Reader { bytes: reader.bytes };
        for _ in 0..2 * usize::from(entries) {
            reader.number();
        }
        let place = if single { 0 } else { reader.byte() };
        let mut wall = [0; 8];
        wall[..WALL].copy_from_slice(reader.take(WALL));
        let stamp = Stamp::new(u64::from_le_bytes(wall), reader.number() as u16);
        let request = if flags & REQUEST != 0 { u64::from_le_bytes(reader.fixed()) } else { 0 };
        let key = reader.bytes();
        let value = reader.take(reader.bytes.len());
        Body::Usual { flags, clock, entries, place, stamp, request, key, value }
    }
}
