//! All that a replica can hold of the key, as numbers: every value is a real [`Siblings`], and writing and joining are
//! the real ones, done once for every pair.

use std::sync::Arc;

use ringkv_common::name::NodeName;
use ringkv_common::time::Stamp;
use ringkv_common::version::{Actor, Content, Dot, Siblings, Version};

/// A value's place in [`Values`]; 0 is "never heard of the key".
pub type Value = u8;

/// Every value that some order of the writes and joins can make.
#[derive(Debug)]
pub struct Values {
    /// `[value][value]`
    joined: Vec<Vec<Value>>,
    /// `[value][write]`: that write, done by a node that holds the value.
    written: Vec<Vec<Value>>,
    /// `[value]`: the writes that it shows or supersedes, as bits.
    covered: Vec<u8>,
}

impl Values {
    /// All values of so many writes without a context.
    pub fn new(writes: usize) -> Values {
        let mut all = vec![Siblings::default()];
        loop {
            let known = all.len();
            let (mut joined, mut written) = (Vec::new(), Vec::new());
            for base in all.clone() {
                written.push((0..writes).map(|k| number(&mut all, write(&base, k))).collect());
                let others: Vec<Siblings> = all[..known].to_vec();
                joined.push(others.iter().map(|other| number(&mut all, joined_with(&base, other))).collect());
            }
            if all.len() == known {
                let covered = all.iter().map(|s| covered(s, writes)).collect();
                return Values { joined, written, covered };
            }
        }
    }

    /// What a replica holds after it joined another's value into its own.
    pub fn join(&self, own: Value, news: Value) -> Value {
        self.joined[usize::from(own)][usize::from(news)]
    }

    /// What a coordinator holds after it did a write.
    pub fn write(&self, held: Value, write: usize) -> Value {
        self.written[usize::from(held)][write]
    }

    /// The writes that a reader of this value sees, or sees superseded.
    pub fn covered(&self, value: Value) -> u8 {
        self.covered[usize::from(value)]
    }
}

/// The dot of a write. Each has an actor of its own: that no dot is used twice is not this model's matter.
fn dot(write: usize) -> Dot {
    Dot { actor: Actor { id: write as u128 + 1, node: NodeName(0) }, counter: 1 }
}

fn write(base: &Siblings, write: usize) -> Siblings {
    if base.clock.covers(dot(write)) {
        return base.clone();
    }
    let stamp = base.stamp_max().max(Stamp(write as u64)).next();
    let content = Content::Json(Arc::from(&b"1"[..]));
    let mut after = base.clone();
    after.write(None, Version { dot: dot(write), stamp, request: 0, contextual: false, content });
    after
}

fn joined_with(own: &Siblings, news: &Siblings) -> Siblings {
    let mut sum = own.clone();
    sum.join(news);
    sum
}

fn covered(value: &Siblings, writes: usize) -> u8 {
    (0..writes).filter(|k| value.clock.covers(dot(*k))).fold(0, |mask, k| mask | 1 << k)
}

fn number(all: &mut Vec<Siblings>, value: Siblings) -> Value {
    // Stamps differ with the order of writes; who covers whom does not.
    let same = |s: &Siblings| s.digest() == value.digest() && s.clock == value.clock;
    let at = all.iter().position(same).unwrap_or_else(|| {
        all.push(value);
        all.len() - 1
    });
    Value::try_from(at).expect("two writes make a handful of values")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_covers_what_its_coordinator_held_and_a_join_what_either_did() {
        let values = Values::new(2);
        let (first, second) = (values.write(0, 0), values.write(0, 1));
        let later = values.write(first, 1);
        let covered = |v| values.covered(v);
        assert_eq!([covered(0), covered(first), covered(second), covered(later)], [0, 0b01, 0b10, 0b11]);
        assert_eq!(values.join(first, later), later, "the later one supersedes the first");
        let both = values.join(first, second);
        assert_eq!(covered(both), 0b11);
        assert_eq!(both, values.join(second, first));
        assert_ne!(both, later, "siblings are not the later one alone");
    }
}
