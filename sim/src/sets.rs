//! Sets that clients add to, each reading and writing with the context of what it read: what they must show.
//!
//! Whoever adds writes the union of all siblings and its own element, so an acknowledged element is in some sibling for
//! ever after, whatever clocks say; unless the only holder of the key was killed.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_common::key::Key;

/// Elements of a set.
pub type Elements = BTreeSet<u64>;

#[derive(Debug, Default)]
struct Set {
    /// Elements that somebody began to add.
    begun: Elements,
    /// Those that are there for sure.
    acknowledged: Elements,
    /// How often its only holder was killed.
    losses: u64,
}

/// All sets.
#[derive(Debug, Default)]
pub struct Sets {
    keys: BTreeMap<String, Set>,
    next: u64,
}

/// An element that is being added.
#[derive(Clone, Debug)]
pub struct Adding {
    /// The set.
    pub key: String,
    /// The element, which nobody else adds.
    pub element: u64,
    /// What the set must show whoever looks now.
    pub must: Elements,
    losses: u64,
}

impl Sets {
    /// The sets that were ever added to.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.keys().cloned()
    }

    /// Somebody begins to add a new element.
    pub fn begin(&mut self, key: String) -> Adding {
        self.next += 1;
        let set = self.keys.entry(key.clone()).or_default();
        set.begun.insert(self.next);
        Adding { key, element: self.next, must: set.acknowledged.clone(), losses: set.losses }
    }

    /// It was acknowledged.
    pub fn acknowledged(&mut self, adding: &Adding) {
        if let Some(set) = self.keys.get_mut(&adding.key).filter(|set| set.losses == adding.losses) {
            set.acknowledged.insert(adding.element);
        }
    }

    /// What is wrong with what was shown to whoever adds; `fresh`: it must show what was acknowledged before.
    pub fn wrong_in_look(&self, adding: &Adding, shown: &Elements, fresh: bool) -> Option<String> {
        let set = self.keys.get(&adding.key)?;
        let must = if fresh && set.losses == adding.losses { &adding.must } else { &Elements::new() };
        wrong(&adding.key, set, shown, must)
    }

    /// What is wrong with what was shown when all had come to rest.
    pub fn wrong_at_rest(&self, key: &str, shown: &Elements) -> Option<String> {
        let set = self.keys.get(key)?;
        wrong(key, set, shown, &set.acknowledged)
    }

    /// The only holder of these keys was killed.
    pub fn killed_holder_of(&mut self, held: impl Fn(&Key) -> bool) {
        for (text, set) in &mut self.keys {
            if Key::new(text).is_ok_and(|key| held(&key)) {
                set.acknowledged.clear();
                set.losses += 1;
            }
        }
    }
}

fn wrong(key: &str, set: &Set, shown: &Elements, must: &Elements) -> Option<String> {
    let missing: Vec<&u64> = must.difference(shown).collect();
    let invented: Vec<&u64> = shown.difference(&set.begun).collect();
    let well = missing.is_empty() && invented.is_empty();
    (!well).then(|| {
        let of = shown.len();
        format!("set {key} shows {of} elements, not the acknowledged {missing:?}, and {invented:?} of nobody")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_element_must_be_there_and_none_that_nobody_added() {
        let mut sets = Sets::default();
        let (one, two) = (sets.begin("s".into()), sets.begin("s".into()));
        sets.acknowledged(&one);
        let wrong =
            |sets: &Sets, shown: &[u64]| sets.wrong_at_rest("s", &shown.iter().copied().collect()).is_some();
        assert!(!wrong(&sets, &[one.element]) && !wrong(&sets, &[one.element, two.element]));
        assert!(wrong(&sets, &[two.element]) && wrong(&sets, &[one.element, 99]));
        sets.killed_holder_of(|_| true);
        sets.acknowledged(&two);
        assert!(!wrong(&sets, &[]), "it may have been acknowledged before the kill");
    }
}
