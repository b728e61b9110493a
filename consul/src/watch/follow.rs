//! What a watch decides, without sockets, threads or clocks.
//!
//! Consul's blocking queries are easy to follow wrongly. Its index may go backwards (a restore, a new leader, a tombstone
//! collected), it may be 0 by a bug, a query may return although nothing changed, and after an agent's restart an old
//! index may mean nothing or, worse, wait for ever. So: an index that goes backwards, and any error, start again from
//! 0; the index is never below 1 otherwise; contents are compared; and a bucket of tokens bounds the rate of calls
//! whatever the server does. (Consul's own advice: "Implementation Details" of its documentation on blocking queries.)

use std::time::{Duration, Instant};

use super::{Event, Pace};
use crate::{Error, Indexed};

/// The index to ask with next, after an answer with `got` to a query with `last`.
pub(crate) fn next_index(last: u64, got: u64) -> u64 {
    let got = got.max(1);
    if got < last { 0 } else { got }
}

/// Tokens that come back with time; each call takes one.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    tokens_max: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    pub fn new(now: Instant, tokens_max: u32, per_second: f64) -> Self {
        let tokens_max = f64::from(tokens_max.max(1));
        Bucket { tokens: tokens_max, tokens_max, per_second: per_second.max(0.01), filled: now }
    }

    /// Takes a token, and says how long to wait until it is really there.
    pub fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * self.per_second).min(self.tokens_max) - 1.0;
        self.filled = now;
        Duration::from_secs_f64((-self.tokens / self.per_second).max(0.0))
    }
}

/// Follows one query.
#[derive(Debug)]
pub(crate) struct Follow<T> {
    pace: Pace,
    /// 0: the next call is answered at once.
    index: u64,
    /// What the consumer holds.
    delivered: Option<T>,
    failing: Option<Failing>,
    bucket: Bucket,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    attempts: u32,
}

/// What to do after a call.
#[derive(Debug)]
pub(crate) struct Step<T> {
    /// To be delivered in this order; at most two.
    pub events: Vec<Event<T>>,
    /// How long to wait before the next call.
    pub pause: Duration,
}

impl<T: PartialEq + Clone> Follow<T> {
    pub fn new(now: Instant, pace: Pace) -> Self {
        let mut bucket = Bucket::new(now, pace.burst, pace.per_second);
        // The first call is made at once and counts as well.
        bucket.take(now);
        Follow { pace, index: 0, delivered: None, failing: None, bucket }
    }

    /// The index to ask with.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Takes the outcome of the call that was made with [`Follow::index`]. `jitter` is a random number from 0 to 1.
    pub fn step(&mut self, now: Instant, outcome: Result<Indexed<T>, Error>, jitter: f64) -> Step<T> {
        match outcome {
            Ok(answer) => self.answered(now, answer),
            Err(error) => self.failed(now, error, jitter),
        }
    }

    fn answered(&mut self, now: Instant, answer: Indexed<T>) -> Step<T> {
        let mut events = Vec::new();
        if let Some(failing) = self.failing.take() {
            events.push(Event::Reachable { after: now.saturating_duration_since(failing.since) });
        }
        self.index = next_index(self.index, answer.index);
        if self.delivered.as_ref() != Some(&answer.value) {
            self.delivered = Some(answer.value.clone());
            events.push(Event::Changed { index: answer.index, value: answer.value });
        }
        Step { events, pause: self.bucket.take(now) }
    }

    fn failed(&mut self, now: Instant, error: Error, jitter: f64) -> Step<T> {
        let failing = self.failing.get_or_insert(Failing { since: now, attempts: 0 });
        failing.attempts = failing.attempts.saturating_add(1);
        let event = Event::Unreachable {
            error,
            lasting: now.saturating_duration_since(failing.since),
            attempts: failing.attempts,
        };
        let doublings = (failing.attempts - 1).min(20);
        let longest = self.pace.pause_first.saturating_mul(1 << doublings).min(self.pace.pause_max);
        // The answer after a failure must come at once, so that what was missed is seen.
        self.index = 0;
        let backoff = longest.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        Step { events: vec![event], pause: backoff.max(self.bucket.take(now)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Value = Option<&'static str>;

    fn pace() -> Pace {
        Pace { burst: 3, per_second: 2.0, ..Pace::default() }
    }

    fn answer(index: u64, value: Value) -> Result<Indexed<Value>, Error> {
        Ok(Indexed { index, value })
    }

    fn gone() -> Result<Indexed<Value>, Error> {
        Err(Error::Invalid("no answer".into()))
    }

    fn changed(step: &Step<Value>) -> Option<Value> {
        step.events.iter().find_map(|event| match event {
            Event::Changed { value, .. } => Some(*value),
            _ => None,
        })
    }

    #[test]
    fn the_first_content_is_delivered_even_where_it_is_absence() {
        let now = Instant::now();
        let mut follow = Follow::new(now, pace());
        assert_eq!(follow.index(), 0);
        assert_eq!(changed(&follow.step(now, answer(7, None), 0.0)), Some(None));
        assert_eq!(follow.index(), 7);
    }

    #[test]
    fn a_return_is_not_a_change() {
        let now = Instant::now();
        let mut follow = Follow::new(now, pace());
        follow.step(now, answer(7, Some("a")), 0.0);
        assert!(follow.step(now, answer(7, Some("a")), 0.0).events.is_empty());
        assert!(follow.step(now, answer(9, Some("a")), 0.0).events.is_empty());
        assert_eq!(follow.index(), 9);
        assert_eq!(changed(&follow.step(now, answer(10, Some("b")), 0.0)), Some(Some("b")));
        assert_eq!(changed(&follow.step(now, answer(11, None), 0.0)), Some(None));
    }

    #[test]
    fn an_index_that_goes_backwards_starts_again_from_nothing() {
        let now = Instant::now();
        let mut follow = Follow::new(now, pace());
        follow.step(now, answer(70, Some("a")), 0.0);
        assert_eq!(changed(&follow.step(now, answer(5, Some("b")), 0.0)), Some(Some("b")));
        assert_eq!(follow.index(), 0);
        follow.step(now, answer(5, Some("b")), 0.0);
        assert_eq!(follow.index(), 5);
    }

    #[test]
    fn an_index_of_zero_counts_as_one() {
        let now = Instant::now();
        let mut follow = Follow::new(now, pace());
        follow.step(now, answer(0, None), 0.0);
        assert_eq!(follow.index(), 1);
        follow.step(now, answer(0, None), 0.0);
        assert_eq!(follow.index(), 1);
    }

    #[test]
    fn a_server_that_returns_at_once_is_asked_no_faster_than_the_bucket_allows() {
        let start = Instant::now();
        let mut now = start;
        let mut follow = Follow::new(now, pace());
        let mut calls = 1;
        while now < start + Duration::from_secs(100) {
            now += follow.step(now, answer(7, Some("a")), 0.0).pause;
            calls += 1;
        }
        assert!((200..=204).contains(&calls), "{calls} calls in 100 s at 2 a second and a burst of 3");
    }

    #[test]
    fn failures_are_told_with_growing_capped_pauses_and_then_the_return() {
        let start = Instant::now();
        let mut now = start;
        let mut follow = Follow::new(now, Pace { burst: 100, ..pace() });
        follow.step(now, answer(7, Some("a")), 0.0);
        let mut pauses = Vec::new();
        for attempt in 1..=12 {
            let step = follow.step(now, gone(), 1.0);
            let [Event::Unreachable { lasting, attempts, .. }] = &step.events[..] else {
                panic!("{step:?}");
            };
            assert_eq!((*attempts, *lasting), (attempt, now - start));
            assert_eq!(follow.index(), 0, "after a failure the answer must come at once");
            pauses.push(step.pause);
            now += step.pause;
        }
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert_eq!(pauses[0], Pace::default().pause_first);
        assert_eq!(pauses.last(), Some(&Pace::default().pause_max));

        // The content is the old one: the consumer hears of the return and nothing else.
        let step = follow.step(now, answer(7, Some("a")), 0.0);
        assert!(
            matches!(&step.events[..], [Event::Reachable { after }] if *after == now - start),
            "{step:?}"
        );
        // The next failure counts from one again.
        let step = follow.step(now, gone(), 0.0);
        assert!(matches!(&step.events[..], [Event::Unreachable { attempts: 1, .. }]), "{step:?}");
        assert_eq!(step.pause, Pace::default().pause_first / 2);
    }

    #[test]
    fn what_changed_during_an_outage_is_delivered_after_the_return() {
        let now = Instant::now();
        let mut follow = Follow::new(now, pace());
        follow.step(now, answer(7, Some("a")), 0.0);
        follow.step(now, gone(), 0.5);
        let step = follow.step(now, answer(3, Some("b")), 0.0);
        assert!(
            matches!(&step.events[..], [Event::Reachable { .. }, Event::Changed { index: 3, .. }]),
            "{step:?}"
        );
        assert_eq!(follow.index(), 3, "no older index is left that this one could be behind");
    }
}
