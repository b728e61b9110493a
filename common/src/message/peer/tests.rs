#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::{Code, Condition, Found, Write};
use crate::time::Stamp;
use crate::version::{Actor, Content, Context, Dot, Version};

fn siblings() -> Siblings {
    let mut siblings = Siblings::default();
    for n in 1..4u16 {
        let dot =
            Dot { actor: Actor { id: u128::MAX - u128::from(n), node: NodeName(n) }, counter: u64::MAX >> n };
        let content = match n {
            1 => Content::Json(Arc::from(&b"{\"a\":1}"[..])),
            2 => Content::Binary(Arc::from(vec![0u8; 3000])),
            _ => Content::Tombstone,
        };
        let version = Version { dot, stamp: Stamp(u64::from(n)), request: 9, contextual: true, content };
        siblings.write(Some(&Context::default()), version);
    }
    siblings.foreign.see("192.168.1.69", 2);
    siblings
}

fn messages() -> Vec<Message> {
    let key = Key::new("k/é").unwrap();
    let write = Write {
        key: key.clone(),
        content: Content::Tombstone,
        condition: Condition::Present,
        context: Some(Box::new(siblings().context())),
        request: Some(7),
    };
    let failure = Failure::indeterminate(Code::Timeout, "no answer from node-2");
    let found =
        Found { values: siblings().values().into_iter().map(|v| v.content.clone()).collect(), context: None };
    let buckets = Some(Buckets { first: 7, last: 255 });
    let stretch = Stretch { partition: 4095, after: None, until: Some(key.clone()), buckets };
    vec![
        Message::Hello { host: "127.0.0.1".into(), port: 12_004 },
        Message::Welcome,
        Message::RingWanted,
        Message::Ring("{}".into()),
        Message::Forward {
            id: 1,
            epoch: 2,
            left_ms: 3,
            op: KeyOp::Write(write),
            terms: Terms::default(),
            heard: 0,
        },
        Message::Forwarded {
            id: 1,
            outcome: Outcome::Found(found),
            nodes: vec![NodeName(3)],
            hinted: true,
            beat: 5,
        },
        Message::Forwarded {
            id: 1,
            outcome: Outcome::Failed(failure.clone()),
            nodes: vec![],
            hinted: false,
            beat: 5,
        },
        Message::Replicate {
            id: 1,
            epoch: 2,
            key: key.clone(),
            siblings: siblings(),
            base: 0,
            request: 0,
            round: 0,
        },
        Message::Replicated { id: u64::MAX, round: 0, taken: Taken::All },
        Message::Replicated { id: 1, round: 0, taken: Taken::Beside(Box::new(siblings())) },
        Message::Replicated { id: 1, round: 0, taken: Taken::Late(Box::new(siblings())) },
        Message::Confirm { id: 1, epoch: 2, partition: 3, dead: vec![(4, 5)] },
        Message::Confirmed { id: 1, dead: vec![(4, 5)], clean: true },
        Message::Collect { epoch: 2, partition: 3, dead: vec![(4, 5)] },
        Message::Query { id: 1, epoch: 2, key: key.clone(), digest: 3, request: 4, round: 1 },
        Message::Held { id: 1, siblings: Some(siblings()), counts: true, knows: false, round: 0 },
        Message::Held { id: 1, siblings: None, counts: false, knows: true, round: 2 },
        Message::Fetch {
            id: 1,
            epoch: 2,
            purpose: Purpose::Handover { held: u64::MAX },
            stretch,
            known: vec![(1, 2), (u64::MAX, 0)],
            bytes_max: 65_536,
        },
        Message::Fetched {
            id: 1,
            records: vec![(key.clone(), siblings())],
            next: Some(key.clone()),
            requests: vec![(1, 2)],
            whole: false,
        },
        Message::Surrender { epoch: 1, partition: 2, held: 3 },
        Message::Released { epoch: 1, partition: 2, held: 3 },
        Message::Roots { id: 1, epoch: 2, sums: Box::from([1, 2, 3]) },
        Message::Differ { id: 1, partitions: vec![0, 4095] },
        Message::Buckets { id: 1, epoch: 2, partition: 3, sums: Box::from([]) },
        Message::Stale { id: 1, partition: 3, buckets: Some(Buckets { first: 0, last: 255 }) },
        Message::Inspect { id: 1, key },
        Message::Inspected { id: 1, siblings: siblings() },
        Message::Refused { id: 1, epoch: 2 },
        Message::Failed { id: 1, failure },
        Message::Gossip { epoch: 3, packet: Box::from([0, 255, 7]), wall_ms: 1 << 40 },
    ]
}

fn frame(message: Message) -> Frame {
    Frame { cluster: ClusterId(7), from: NodeName(65_535), message }
}

#[test]
fn every_message_is_read_back_as_written() {
    for message in messages() {
        let frame = frame(message);
        assert_eq!(Frame::decode_all(&frame.encode()), Ok(vec![frame]));
    }
}

#[test]
fn a_stretch_whose_bounds_exclude_each_other_has_no_hashes() {
    let keys = |partition| {
        let all = (0..).map(|n| Key::new(&format!("k{n}")).unwrap());
        all.filter(move |key| key.partition(64) == partition)
    };
    let whole = Stretch { partition: 5, after: None, until: None, buckets: None };
    let lower = keys(4).next();
    let upper = keys(6).next();
    let is_empty = |stretch: Stretch| {
        let (first, last) = stretch.hashes(64);
        first > last
    };
    let reversed = Some(Buckets { first: 9, last: 8 });
    assert!(is_empty(Stretch { buckets: reversed, ..whole.clone() }));
    assert!(is_empty(Stretch { after: upper.clone(), ..whole.clone() }));
    assert!(is_empty(Stretch { until: lower.clone(), ..whole.clone() }));
    let (first, last) = (first_hash(5, 64), last_hash(5, 64));
    assert_eq!(whole.hashes(64), (first, last));
    assert_eq!(Stretch { after: lower, until: upper, ..whole.clone() }.hashes(64), (first, last));
    let all = Some(Buckets { first: 0, last: 255 });
    assert_eq!(Stretch { buckets: all, ..whole }.hashes(64), (first, last));
}

#[test]
fn cut_frames_and_other_versions_are_refused() {
    assert_eq!(Frame::decode_all(&[]), Err(FrameError::Empty));
    assert_eq!(Frame::decode_all(&[VERSION]), Err(FrameError::Empty));
    for message in messages() {
        let mut bytes = frame(message).encode();
        for end in 1..bytes.len().min(200) {
            assert!(Frame::decode_all(&bytes[..end]).is_err());
        }
        bytes[0] = 1;
        assert_eq!(Frame::decode_all(&bytes), Err(FrameError::Version(1)));
    }
}

#[test]
fn frames_of_one_message_come_back_in_order_or_not_at_all() {
    let frames: Vec<Frame> = messages().into_iter().map(frame).collect();
    let size = frames.iter().map(Frame::size).sum();
    let bytes = Frame::encode_all(frames.iter(), size);
    assert_eq!(bytes.len(), 1 + size);
    assert!(Frame::decode_all(&bytes[..bytes.len() - 1]).is_err());
    assert_eq!(Frame::decode_all(&bytes), Ok(frames));
}

#[test]
fn a_put_costs_a_few_dozen_bytes_beside_key_and_value() {
    let dot = Dot { actor: Actor { id: u128::MAX, node: NodeName(1) }, counter: 1_000_000 };
    let content = Content::Json(Arc::from(vec![b'7'; 64]));
    let mut siblings = Siblings::default();
    siblings.write(None, Version { dot, stamp: Stamp(1 << 56), request: 0, contextual: false, content });
    let key = Key::new("0123456789abcdef").unwrap();
    let bytes =
        frame(Message::Replicate { id: 1000, epoch: 9, key, siblings, base: 0, request: 0, round: 0 })
            .encode();
    assert!(bytes.len() <= 64 + 16 + 112, "{} bytes", bytes.len());
}

proptest! {
    #[test]
    fn flipped_bits_never_panic(at in any::<prop::sample::Index>(), bit in 0..8u8, which in any::<prop::sample::Index>()) {
        let all = messages();
        let mut bytes = frame(all[which.index(all.len())].clone()).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = Frame::decode_all(&bytes);
    }
}
