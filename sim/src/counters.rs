//! Counters that clients count up together, by siblings: what they must show.
//!
//! The value is a map of each client to how often *it* counted, and of siblings the highest number of each client is
//! taken: a grow-only counter (Shapiro, Preguiça, Baquero, Zawirski, *A comprehensive study of convergent and commutative
//! replicated data types*, 2011, section 3.1.1). Merging so forgets nothing and counts nothing twice, be siblings settled
//! by whomever and as often as they may.
//!
//! A client counts on only when it knows that its last step was done: what it gave up it tries again, under the same number.
//! So at most one of its numbers is open, and without one the sum *equals* what was acknowledged.

use std::collections::BTreeMap;

use ringkv_common::key::Key;
use serde_json::Value as Json;

/// How often each client counted.
pub type Counts = BTreeMap<usize, u64>;

#[derive(Debug, Default)]
struct Counter {
    /// The highest number that each client began to write.
    begun: Counts,
    /// How far each client knows that it is, which it does not forget with the loss of the key.
    done: Counts,
    /// What must be there.
    acknowledged: Counts,
    /// How often its only holder was killed.
    losses: u64,
}

/// All counters.
#[derive(Debug, Default)]
pub struct Counters {
    keys: BTreeMap<String, Counter>,
}

/// A step that a client takes.
#[derive(Clone, Debug)]
pub struct Increment {
    /// The counter.
    pub key: String,
    client: usize,
    /// How often the client will have counted then.
    count: u64,
    /// What the counter must show whoever looks now.
    must: Counts,
    losses: u64,
}

impl Counters {
    /// The counters that were ever used.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.keys().cloned()
    }

    /// A client begins to count one up.
    pub fn begin(&mut self, key: String, client: usize) -> Increment {
        let counter = self.keys.entry(key.clone()).or_default();
        let count = 1 + counter.done.get(&client).copied().unwrap_or_default();
        Increment { key, client, count, must: counter.acknowledged.clone(), losses: counter.losses }
    }

    /// It has looked, and is about to write what it was shown with its own number in it.
    pub fn counted(&mut self, increment: &Increment, counts: &mut Counts) {
        counts.insert(increment.client, increment.count);
        if let Some(counter) = self.keys.get_mut(&increment.key) {
            counter.begun.insert(increment.client, increment.count);
        }
    }

    /// That was acknowledged.
    pub fn acknowledged(&mut self, increment: &Increment) {
        let Some(counter) = self.keys.get_mut(&increment.key) else { return };
        counter.done.insert(increment.client, increment.count);
        if counter.losses == increment.losses {
            counter.acknowledged.insert(increment.client, increment.count);
        }
    }

    /// What is wrong with what was shown to whoever counts; `fresh`: it must show what was acknowledged before.
    pub fn wrong_in_look(&self, increment: &Increment, shown: &Counts, fresh: bool) -> Option<String> {
        let counter = self.keys.get(&increment.key)?;
        let must = if fresh && counter.losses == increment.losses { &increment.must } else { &Counts::new() };
        wrong(&increment.key, counter, shown, must)
    }

    /// What is wrong with what was shown when all had come to rest.
    pub fn wrong_at_rest(&self, key: &str, shown: &Counts) -> Option<String> {
        let counter = self.keys.get(key)?;
        wrong(key, counter, shown, &counter.acknowledged)
    }

    /// The only holder of these keys was killed.
    pub fn killed_holder_of(&mut self, held: impl Fn(&Key) -> bool) {
        for (text, counter) in &mut self.keys {
            if Key::new(text).is_ok_and(|key| held(&key)) {
                counter.acknowledged.clear();
                counter.losses += 1;
            }
        }
    }
}

/// Of all siblings the highest number of each client.
pub fn merged<'a>(siblings: impl Iterator<Item = &'a Json>) -> Counts {
    let mut counts = Counts::new();
    for (client, count) in siblings.flat_map(|one| one.as_object().into_iter().flatten()) {
        if let (Ok(client), Some(count)) = (client.parse(), count.as_u64()) {
            let most: &mut u64 = counts.entry(client).or_default();
            *most = count.max(*most);
        }
    }
    counts
}

/// As it is written.
pub fn to_json(counts: &Counts) -> Json {
    Json::Object(counts.iter().map(|(client, count)| (client.to_string(), (*count).into())).collect())
}

fn wrong(key: &str, counter: &Counter, shown: &Counts, must: &Counts) -> Option<String> {
    let of = |counts: &Counts, client: &usize| counts.get(client).copied().unwrap_or_default();
    let few = must.iter().any(|(client, count)| of(shown, client) < *count);
    let many = shown.iter().any(|(client, count)| *count > of(&counter.begun, client));
    (few || many).then(|| {
        let sum = |counts: &Counts| counts.values().sum::<u64>();
        let (is, least, most) = (sum(shown), sum(must), sum(&counter.begun));
        format!("counter {key} shows {is} by {shown:?}, not from {least} by {must:?} to {most}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(counters: &mut Counters, client: usize, seen: &Counts) -> (Increment, Counts) {
        let increment = counters.begin("n".into(), client);
        let mut counts = seen.clone();
        counters.counted(&increment, &mut counts);
        (increment, counts)
    }

    #[test]
    fn siblings_of_two_clients_add_up_and_what_was_given_up_is_counted_once() {
        let mut counters = Counters::default();
        let (first, one) = step(&mut counters, 1, &Counts::new());
        let (_, two) = step(&mut counters, 2, &Counts::new());
        counters.acknowledged(&first);
        let both = merged([to_json(&one), to_json(&two)].iter());
        assert_eq!(both.values().sum::<u64>(), 2);
        // The second client does not know whether it was done, and does it again.
        let (again, three) = step(&mut counters, 2, &both);
        counters.acknowledged(&again);
        assert_eq!(three, both);
        assert_eq!(counters.wrong_at_rest("n", &three), None);
    }

    #[test]
    fn a_count_that_is_missing_and_one_too_many_are_wrong() {
        let mut counters = Counters::default();
        let (first, one) = step(&mut counters, 1, &Counts::new());
        assert_eq!(counters.wrong_at_rest("n", &Counts::new()), None, "nothing was acknowledged");
        counters.acknowledged(&first);
        assert!(counters.wrong_at_rest("n", &Counts::new()).is_some());
        assert!(counters.wrong_at_rest("n", &Counts::from([(1, 2)])).is_some());
        assert_eq!(counters.wrong_at_rest("n", &one), None);
        let (late, _) = step(&mut counters, 1, &one);
        assert!(counters.wrong_in_look(&late, &Counts::new(), true).is_some());
        assert_eq!(counters.wrong_in_look(&late, &Counts::new(), false), None, "it may be stale");
        counters.killed_holder_of(|_| true);
        assert_eq!(counters.wrong_at_rest("n", &Counts::new()), None);
    }
}
