//! Keys that clients delete and create again, each with the context of what it was shown: what was observed goes, and
//! nothing else does. They are the observed-remove sets of Shapiro et al. (2011, section 3.3.5), a sibling an element.
//!
//! A value that was acknowledged stays until somebody begins a write with a context that covers it; once such a write was
//! acknowledged it is gone and does not rise again.

use std::collections::BTreeMap;

use ringkv_common::key::Key;

use crate::sets::Elements;

#[derive(Debug, Default)]
struct State {
    /// Values that somebody began to write.
    begun: Elements,
    /// Those that were acknowledged.
    acknowledged: Elements,
    /// Those that some write may have taken away.
    covered: Elements,
    /// Those that some acknowledged write took away.
    gone: Elements,
    /// How often the key's only holder was killed.
    losses: u64,
}

/// All such keys.
#[derive(Debug, Default)]
pub struct Observed {
    keys: BTreeMap<String, State>,
    next: u64,
}

/// What a client puts in the place of what it is shown.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The key.
    pub key: String,
    /// Whether it deletes what is there.
    delete: bool,
    /// The value, which nobody else writes; `None` until it has looked, and for a delete.
    value: Option<u64>,
    /// What it was shown.
    covers: Elements,
    /// What had been acknowledged when it began, and what had gone.
    before: (Elements, Elements),
    losses: u64,
}

impl Observed {
    /// The keys that were ever used.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        self.keys.keys().cloned()
    }

    /// Somebody begins to look, and then to delete what is there or to write something new.
    pub fn begin(&mut self, key: String, delete: bool) -> Replacement {
        let state = self.keys.entry(key.clone()).or_default();
        let before = (state.acknowledged.clone(), state.gone.clone());
        Replacement { key, delete, value: None, covers: Elements::new(), before, losses: state.losses }
    }

    /// It was shown this, and is about to write with the context of it; `None`: a delete. Where nothing is there, there is
    /// nothing to delete.
    pub fn replaced(&mut self, replacement: &mut Replacement, shown: Elements) -> Option<u64> {
        let state = self.keys.get_mut(&replacement.key)?;
        state.covered.extend(&shown);
        if shown.is_empty() || !replacement.delete {
            self.next += 1;
            state.begun.insert(self.next);
            replacement.value = Some(self.next);
        }
        replacement.covers = shown;
        replacement.value
    }

    /// That was acknowledged.
    pub fn acknowledged(&mut self, replacement: &Replacement) {
        let Some(state) = self.keys.get_mut(&replacement.key) else { return };
        if state.losses == replacement.losses {
            state.acknowledged.extend(replacement.value);
            state.gone.extend(&replacement.covers);
        }
    }

    /// What is wrong with what was shown to whoever looks; `fresh`: it must show all that was done before it began.
    pub fn wrong_in_look(&self, replacement: &Replacement, shown: &Elements, fresh: bool) -> Option<String> {
        let state = self.keys.get(&replacement.key)?;
        let nothing = (Elements::new(), Elements::new());
        let (acknowledged, gone) =
            if fresh && state.losses == replacement.losses { &replacement.before } else { &nothing };
        wrong(&replacement.key, state, shown, acknowledged, gone)
    }

    /// What is wrong with what was shown when all had come to rest.
    pub fn wrong_at_rest(&self, key: &str, shown: &Elements) -> Option<String> {
        let state = self.keys.get(key)?;
        wrong(key, state, shown, &state.acknowledged, &state.gone)
    }

    /// The only holder of these keys was killed: anything may be gone, and what was gone may rise with a late repetition.
    pub fn killed_holder_of(&mut self, held: impl Fn(&Key) -> bool) {
        for (text, state) in &mut self.keys {
            if Key::new(text).is_ok_and(|key| held(&key)) {
                state.acknowledged.clear();
                state.gone.clear();
                state.losses += 1;
            }
        }
    }
}

fn wrong(
    key: &str,
    state: &State,
    shown: &Elements,
    acknowledged: &Elements,
    gone: &Elements,
) -> Option<String> {
    let kept = |value: &&u64| !state.covered.contains(value);
    let missing: Vec<&u64> = acknowledged.difference(shown).filter(kept).collect();
    let risen: Vec<&u64> = gone.intersection(shown).collect();
    let invented: Vec<&u64> = shown.difference(&state.begun).collect();
    let well = missing.is_empty() && risen.is_empty() && invented.is_empty();
    (!well).then(|| {
        format!("{key} shows {shown:?}: {missing:?} nobody took away, {risen:?} was gone, {invented:?} is of nobody")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(observed: &mut Observed, delete: bool, shown: &[u64]) -> (Replacement, Option<u64>) {
        let mut replacement = observed.begin("o".into(), delete);
        let value = observed.replaced(&mut replacement, shown.iter().copied().collect());
        (replacement, value)
    }

    fn is_wrong(observed: &Observed, shown: &[u64]) -> bool {
        observed.wrong_at_rest("o", &shown.iter().copied().collect()).is_some()
    }

    #[test]
    fn what_a_delete_has_seen_goes_and_what_it_has_not_seen_stays() {
        let mut observed = Observed::default();
        for _ in 0..2 {
            let (create, _) = write(&mut observed, false, &[]);
            observed.acknowledged(&create);
        }
        assert!(
            !is_wrong(&observed, &[1, 2]) && is_wrong(&observed, &[1]) && is_wrong(&observed, &[1, 2, 3])
        );
        let (delete, value) = write(&mut observed, true, &[1]);
        assert_eq!(value, None);
        assert!(
            !is_wrong(&observed, &[1, 2]) && !is_wrong(&observed, &[2]),
            "nobody knows whether it was done"
        );
        observed.acknowledged(&delete);
        assert!(is_wrong(&observed, &[1, 2]) && !is_wrong(&observed, &[2]) && is_wrong(&observed, &[]));
    }

    #[test]
    fn what_is_gone_does_not_rise() {
        let mut observed = Observed::default();
        write(&mut observed, false, &[]);
        let (delete, _) = write(&mut observed, true, &[1]);
        observed.acknowledged(&delete);
        assert!(is_wrong(&observed, &[1]));
    }

    #[test]
    fn a_look_that_may_be_stale_shows_anything_that_was_written_and_a_fresh_one_what_is_there() {
        let mut observed = Observed::default();
        let (create, _) = write(&mut observed, false, &[]);
        observed.acknowledged(&create);
        let look = observed.begin("o".into(), true);
        assert!(observed.wrong_in_look(&look, &Elements::new(), true).is_some());
        assert_eq!(observed.wrong_in_look(&look, &Elements::new(), false), None);
        assert!(observed.wrong_in_look(&look, &Elements::from([7]), false).is_some());
        observed.killed_holder_of(|_| true);
        assert_eq!(observed.wrong_in_look(&look, &Elements::new(), true), None);
    }
}
