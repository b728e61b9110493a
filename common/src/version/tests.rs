#![allow(clippy::unwrap_used)]
//! The join against a dumb twin that keeps whole causal histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::name::NodeName;

fn actor(n: u16) -> Actor {
    Actor { id: u128::from(n) << 64, node: NodeName(n) }
}

fn version(dot: Dot, stamp: u64, contextual: bool) -> Version {
    let content = Content::Json(Arc::from(format!("\"{dot:?}\"").as_bytes()));
    Version { dot, stamp: Stamp(stamp), request: 0, contextual, content }
}

/// A replica that remembers, for every write it heard of, everything that write superseded.
#[derive(Clone, Default, PartialEq, Debug)]
struct Twin {
    histories: BTreeMap<Dot, BTreeSet<Dot>>,
}

impl Twin {
    fn live(&self) -> BTreeSet<Dot> {
        let superseded: BTreeSet<Dot> = self.histories.values().flatten().copied().collect();
        self.histories.keys().filter(|d| !superseded.contains(d)).copied().collect()
    }

    fn join(&mut self, other: &Twin) {
        self.histories.extend(other.histories.clone());
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Replica `at` coordinates a write without a context.
    Overwrite { at: usize },
    /// Replica `at` coordinates a write with what replica `seen` shows, or with `{}`.
    Settle { at: usize, seen: Option<usize> },
    /// Replica `to` hears the state of replica `from`.
    Hear { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3usize).prop_map(|at| Step::Overwrite { at }),
        (0..3usize, prop::option::of(0..3usize)).prop_map(|(at, seen)| Step::Settle { at, seen }),
        (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Hear { from, to }),
    ];
    prop::collection::vec(step, 0..40)
}

/// Runs the steps on three replicas and on their twins.
fn run(steps: &[Step]) -> (Vec<Siblings>, Vec<Twin>) {
    let mut replicas = vec![Siblings::default(); 3];
    let mut twins = vec![Twin::default(); 3];
    let mut counters = [0u64; 3];
    for (n, step) in steps.iter().enumerate() {
        let mut dot_of = |at: usize| {
            counters[at] += 7; // counters run over the node: a key sees gaps
            Dot { actor: actor(at as u16), counter: counters[at] }
        };
        match *step {
            Step::Overwrite { at } => {
                let dot = dot_of(at);
                let known = twins[at].histories.keys().copied().collect();
                twins[at].histories.insert(dot, known);
                replicas[at].write(None, version(dot, n as u64, false));
            }
            Step::Settle { at, seen } => {
                let dot = dot_of(at);
                let context = seen.map_or_else(Context::default, |s| replicas[s].context());
                let known = seen.map_or_else(BTreeSet::new, |s| twins[s].histories.keys().copied().collect());
                // A context is proof that its writes happened: the twin hears of them, as superseded.
                let heard = seen.map_or_else(Twin::default, |s| twins[s].clone());
                twins[at].join(&heard);
                twins[at].histories.insert(dot, known);
                replicas[at].write(Some(&context), version(dot, n as u64, true));
            }
            Step::Hear { from, to } => {
                let (state, twin) = (replicas[from].clone(), twins[from].clone());
                replicas[to].join(&state);
                twins[to].join(&twin);
            }
        }
    }
    (replicas, twins)
}

proptest! {
    #[test]
    fn siblings_are_what_full_causal_histories_say(steps in steps()) {
        let (replicas, twins) = run(&steps);
        for (replica, twin) in replicas.iter().zip(&twins) {
            let held: BTreeSet<Dot> = replica.versions.iter().map(|v| v.dot).collect();
            prop_assert_eq!(held, twin.live());
        }
    }

    #[test]
    fn the_join_is_commutative_associative_and_idempotent(steps in steps()) {
        let (r, _) = run(&steps);
        let join = |a: &Siblings, b: &Siblings| { let mut c = a.clone(); c.join(b); c };
        prop_assert_eq!(join(&r[0], &r[1]), join(&r[1], &r[0]));
        prop_assert_eq!(join(&join(&r[0], &r[1]), &r[2]), join(&r[0], &join(&r[1], &r[2])));
        prop_assert_eq!(join(&r[0], &r[0]), r[0].clone());
        let mut again = join(&r[0], &r[1]);
        prop_assert!(!again.join(&r[1]), "a second join of the same state changes nothing");
    }

    #[test]
    fn of_versions_without_a_context_one_is_visible_and_it_is_the_highest(steps in steps()) {
        let (replicas, _) = run(&steps);
        for replica in &replicas {
            let plain = |vs: Vec<&Version>| vs.into_iter().filter(|v| !v.contextual).map(|v| (v.stamp, v.dot)).collect::<Vec<_>>();
            let all = plain(replica.versions.iter().collect());
            let seen = plain(replica.visible().into_iter().collect());
            prop_assert_eq!(seen, all.iter().max().copied().into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn a_context_supersedes_what_it_covers_and_nothing_else() {
    let mut siblings = Siblings::default();
    let dot = |n, counter| Dot { actor: actor(n), counter };
    siblings.write(Some(&Context::default()), version(dot(0, 1), 1, true));
    let first = siblings.context();
    siblings.write(Some(&Context::default()), version(dot(0, 2), 2, true));
    assert_eq!(siblings.values().len(), 2);
    siblings.write(Some(&first), version(dot(0, 3), 3, true));
    let left: Vec<u64> = siblings.values().iter().map(|v| v.dot.counter).collect();
    assert_eq!(left, [3, 2], "newest first");
    let all = siblings.context();
    siblings.write(Some(&all), version(dot(1, 1), 4, true));
    assert_eq!(siblings.values().len(), 1);
}

#[test]
fn two_siblings_of_one_request_are_one() {
    let mut a = Siblings::default();
    let mut one = version(Dot { actor: actor(0), counter: 1 }, 1, true);
    one.request = 99;
    let mut two = version(Dot { actor: actor(1), counter: 1 }, 2, true);
    two.request = 99;
    a.write(Some(&Context::default()), one);
    a.write(Some(&Context::default()), two);
    assert_eq!(a.visible().len(), 1);
    assert!(a.of_request(99).is_some());
    assert!(a.of_request(0).is_none());
}

#[test]
fn a_mark_depends_on_the_hash_and_on_the_digest() {
    // Reference value: what the xxHash project's own library makes of these 16 bytes.
    assert_eq!(mark(1, 2), 0x556c_70b5_fae5_b2a4_4967_2959_65e4_d325);
    assert_ne!(mark(1, 2), mark(2, 1));
    assert_ne!(mark(1, 2), mark(1, 3));
}

#[test]
fn contexts_keep_foreign_names_and_refuse_impossible_counters() {
    let ours = actor(3).to_string();
    let text = format!("{{\"{ours}\":7,\"192.168.1.69\":2}}");
    let context: Context = serde_json::from_str(&text).unwrap();
    assert_eq!(context.clock.counter(actor(3)), 7);
    assert_eq!(context.foreign.entries(), [("192.168.1.69".into(), 2)]);
    assert_eq!(serde_json::to_string(&context).unwrap(), text);
    for bad in ["[]", "7", "{\"a\":-1}", "{\"a\":9007199254740992}", "{\"a\":1.5}", "{\"a\":\"1\"}"] {
        assert!(serde_json::from_str::<Context>(bad).is_err(), "{bad}");
    }
    let many: BTreeMap<String, u64> = (0..1025).map(|n| (format!("x{n}"), 1)).collect();
    let error = serde_json::from_str::<Context>(&serde_json::to_string(&many).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
}

#[test]
fn actors_are_read_back_as_written_and_others_are_foreign() {
    let a = Actor { id: 0xABCDEF, node: NodeName(12) };
    assert_eq!(a.to_string().parse(), Ok(a));
    for foreign in [
        "node-0",
        "node-0.12",
        "x.00000000000000000000000000abcdef",
        "node-0.0000000000000000000000000ABCDEF0",
    ] {
        assert!(foreign.parse::<Actor>().is_err(), "{foreign}");
    }
}

#[test]
fn a_context_that_covers_a_version_covers_its_twins() {
    let version = |id, request| Version {
        dot: Dot { actor: actor(id), counter: 1 },
        stamp: Stamp(id as u64),
        request,
        contextual: true,
        content: Content::Json((*b"1").into()),
    };
    let mut siblings = Siblings::default();
    // One write that two owners did, and another one beside it.
    for (id, request) in [(1, 7), (2, 7), (3, 0), (4, 0)] {
        siblings.write(Some(&Context::default()), version(id, request));
    }
    let seen = |id| Context {
        clock: [Dot { actor: actor(id), counter: 1 }].into_iter().collect(),
        ..Context::default()
    };
    siblings.write(Some(&seen(1)), version(5, 0));
    assert_eq!(
        siblings.versions.iter().map(|v| v.dot.actor).collect::<Vec<_>>(),
        [actor(3), actor(4), actor(5)]
    );
    siblings.write(Some(&seen(3)), version(6, 0));
    assert!(siblings.versions.iter().any(|v| v.dot.actor == actor(4)), "without a request each is its own");
}
