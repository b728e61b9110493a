//! No input stops a node.

use proptest::prelude::*;
use ringkv_common::message::peer::{Buckets, Purpose, Stretch};
use ringkv_common::message::{Condition, KeyOp, Level, Outcome, Terms, Write};
use ringkv_common::time::Stamp;
use ringkv_common::version::{Content, Context, Dot, Version};

use super::*;

fn key() -> impl Strategy<Value = Key> {
    (0..40u32).prop_map(|n| Key::new(&format!("k{n}")).unwrap())
}

fn siblings() -> impl Strategy<Value = Siblings> {
    let dot = || {
        (0..3u128, 0..6u64).prop_map(|(id, counter)| Dot { actor: Actor { id, node: NodeName(1) }, counter })
    };
    let content = prop_oneof![
        Just(Content::Tombstone),
        prop::collection::vec(any::<u8>(), 0..4).prop_map(|b| Content::Binary(b.into())),
    ];
    let version = (dot(), any::<u64>(), 0..3u64, any::<bool>(), content).prop_map(
        |(dot, stamp, request, contextual, content)| Version {
            dot,
            stamp: Stamp(stamp),
            request,
            contextual,
            content,
        },
    );
    (prop::collection::vec(dot(), 0..4), prop::collection::vec(version, 0..4)).prop_map(
        |(clock, versions)| Siblings {
            clock: clock.into(),
            versions: versions.into(),
            ..Siblings::default()
        },
    )
}

/// Numbers that the node may have given out itself are the interesting ones: `known` is put in their place.
fn message() -> impl Strategy<Value = Message> {
    let id = || prop_oneof![Just(KNOWN), any::<u64>()];
    let epoch = || 0..5u64;
    let buckets = any::<(u8, u8)>().prop_map(|(first, last)| Buckets { first, last });
    let stretch = (0..70u32, prop::option::of(key()), prop::option::of(key()), prop::option::of(buckets))
        .prop_map(|(partition, after, until, buckets)| Stretch { partition, after, until, buckets });
    let purpose = prop_oneof![Just(Purpose::Move), Just(Purpose::Handover { held: 1 }), Just(Purpose::List)];
    let records = prop::collection::vec((key(), siblings()), 0..4);
    let failure = || Failure::new(Code::Overloaded, "no");
    let op = prop_oneof![
        key().prop_map(KeyOp::Read),
        (key(), any::<bool>(), any::<bool>()).prop_map(|(key, context, absent)| KeyOp::Write(Write {
            key,
            content: Content::Tombstone,
            condition: if absent { Condition::Absent } else { Condition::Present },
            context: context.then(|| Box::new(Context::default())),
            request: Some(5),
        })),
    ];
    let outcome = prop_oneof![
        Just(Outcome::Stored { context: None }),
        Just(Outcome::Failed(Failure::new(Code::Timeout, "late"))),
    ];
    let level = prop_oneof![Just(None), any::<u32>().prop_map(|n| Some(Level::Count(n)))];
    prop_oneof![
        Just(Message::Hello { host: "x".into(), port: 0 }),
        Just(Message::Welcome),
        Just(Message::RingWanted),
        Just(Message::Ring("{}".into())),
        (id(), epoch(), any::<u32>(), op, level).prop_map(|(id, epoch, left_ms, op, level)| {
            let terms = Terms { read: level, write: level, ..Terms::default() };
            Message::Forward { id, epoch, left_ms, op, terms, heard: 1 }
        }),
        (id(), outcome, any::<bool>()).prop_map(|(id, outcome, hinted)| {
            Message::Forwarded { id, outcome, nodes: Vec::new(), hinted, beat: 1 }
        }),
        (id(), epoch(), key(), siblings(), any::<u64>()).prop_map(|(id, epoch, key, siblings, request)| {
            Message::Replicate { id, epoch, key, siblings, base: 1, request, round: 0 }
        }),
        (id(), siblings(), 0..3).prop_map(|(id, siblings, which)| {
            let siblings = Box::new(siblings);
            let taken = match which {
                0 => Taken::All,
                1 => Taken::Beside(siblings),
                _ => Taken::Late(siblings),
            };
            Message::Replicated { id, round: 1, taken }
        }),
        (id(), epoch(), key(), any::<u64>()).prop_map(|(id, epoch, key, digest)| {
            Message::Query { id, epoch, key, digest, request: digest, round: 1 }
        }),
        (id(), prop::option::of(siblings()), any::<bool>()).prop_map(|(id, siblings, counts)| {
            Message::Held { id, siblings, counts, knows: counts, round: 0 }
        }),
        (id(), epoch(), purpose, stretch, any::<u32>()).prop_map(
            |(id, epoch, purpose, stretch, bytes_max)| {
                Message::Fetch { id, epoch, purpose, stretch, known: vec![(5, 5), (1, 1)], bytes_max }
            }
        ),
        (id(), records, prop::option::of(key())).prop_map(|(id, records, next)| Message::Fetched {
            id,
            records,
            next,
            requests: vec![(3, 3)],
            whole: true,
        }),
        (epoch(), 0..70u32, 0..3u64).prop_map(|(epoch, partition, held)| Message::Surrender {
            epoch,
            partition,
            held
        }),
        (epoch(), 0..70u32, 0..3u64).prop_map(|(epoch, partition, held)| Message::Released {
            epoch,
            partition,
            held
        }),
        (id(), epoch(), 0..70u32).prop_map(|(id, epoch, partition)| Message::Confirm {
            id,
            epoch,
            partition,
            dead: vec![(partition.into(), epoch)]
        }),
        (id(), any::<bool>()).prop_map(|(id, clean)| Message::Confirmed { id, dead: vec![(1, 2)], clean }),
        (epoch(), 0..70u32).prop_map(|(epoch, partition)| Message::Collect {
            epoch,
            partition,
            dead: vec![(1, 2)]
        }),
        (id(), key()).prop_map(|(id, key)| Message::Inspect { id, key }),
        (id(), siblings()).prop_map(|(id, siblings)| Message::Inspected { id, siblings }),
        (id(), epoch()).prop_map(|(id, epoch)| Message::Refused { id, epoch }),
        id().prop_map(move |id| Message::Failed { id, failure: failure() }),
    ]
}

/// Stands for a number that the node has given out.
const KNOWN: u64 = u64::MAX - 1;

fn with_known(message: Message, known: u64) -> Message {
    match message {
        Message::Forwarded { id: KNOWN, outcome, nodes, hinted, beat } => {
            Message::Forwarded { id: known, outcome, nodes, hinted, beat }
        }
        Message::Replicated { id: KNOWN, round, taken } => Message::Replicated { id: known, round, taken },
        Message::Held { id: KNOWN, siblings, counts, knows, round } => {
            Message::Held { id: known, siblings, counts, knows, round }
        }
        Message::Fetched { id: KNOWN, records, next, requests, whole } => {
            Message::Fetched { id: known, records, next, requests, whole }
        }
        Message::Inspected { id: KNOWN, siblings } => Message::Inspected { id: known, siblings },
        Message::Refused { id: KNOWN, epoch } => Message::Refused { id: known, epoch },
        Message::Failed { id: KNOWN, failure } => Message::Failed { id: known, failure },
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_answered_and_stop_nothing(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20),
        second in prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
    ) {
        let mut bench = Bench::founded(0, &founding(1));
        for (n, body) in bodies.iter().enumerate() {
            let client = Client(1000 + n as u64);
            bench.step(Event::Request { client, body, value: second.as_deref() });
            prop_assert!(bench.reply(client.0).is_some());
        }
        prop_assert_eq!(bench.asked(r#"{"op":"PING"}"#), ok());
    }

    #[test]
    fn broken_requests_are_answered_and_stop_nothing(
        op in 0..13usize, cut in 0..90usize, flip in any::<u8>(), field in 0..6usize,
    ) {
        let ops = ["PUT", "GET_ONE", "GET_ALL", "INSERT", "UPDATE", "DELETE", "MPUT", "MGET", "SEARCH",
            "SHOW_ALL", "EXPLAIN", "CONSENT", "ACCEPT_LOSS"];
        let fields = ["", r#","value":1"#, r#","cursor":"AAAA""#, r#","items":[{"key":"a","value":1}]"#,
            r#","keys":["a","b"]"#, r#","change":{"op":"add","node":"node-7"},"base":1,"reach":[]"#];
        let mut body = format!(r#"{{"op":"{}","key":"k"{}}}"#, ops[op], fields[field]).into_bytes();
        if cut < body.len() {
            body[cut] ^= flip;
        }
        let mut bench = Bench::founded(0, &founding(1));
        bench.step(Event::Request { client: Client(1), body: &body, value: None });
        bench.pass_ms(3_000);
        prop_assert!(bench.reply(1).is_some(), "{}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn random_frames_between_nodes_stop_nothing(
        messages in prop::collection::vec((0..4u16, message(), 0..40u64), 1..60),
        phase in 0..4usize,
    ) {
        let rings = phases(adding(&founding(2), 2));
        for n in 0..3u16 {
            let mut bench = Bench::without_ring(n);
            bench.adopt(&founding(2));
            bench.adopt(&rings[phase]);
            let puts = (0..6).map(|k| put(&Key::new(&format!("k{k}")).unwrap(), "1"));
            let listing = r#"{"op":"GET_ALL","scope":"cluster"}"#.to_owned();
            let search = r#"{"op":"SEARCH","key":"k1"}"#.to_owned();
            let clients: Vec<u64> = puts.chain([listing, search]).map(|json| bench.ask(&json)).collect();
            for (from, message, pick) in &messages {
                let tokens = bench.node.tasks.tokens();
                let known = tokens.get(*pick as usize % tokens.len().max(1)).copied().unwrap_or(0);
                // Over the codec, as it would come.
                let message = with_known(message.clone(), known);
                let frame = Frame { cluster: ClusterId(0xC1), from: name(*from), message };
                let frame = Frame::decode_all(&frame.encode()).unwrap().remove(0);
                bench.step(Event::Peer(frame));
                bench.pass_ms(40);
            }
            bench.pass_ms(3_000);
            for client in clients {
                prop_assert!(bench.reply(client).is_some(), "node-{n}: client {client}");
            }
            prop_assert_eq!(bench.asked(r#"{"op":"PING"}"#), ok());
        }
    }
}
