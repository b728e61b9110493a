//! Completion: commands at the line's beginning, keys that were used before behind them.

use std::collections::BTreeSet;

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

/// Keys that are offered, at most.
const KEYS_MAX: usize = 1000;

/// What completion knows.
pub(super) struct Completion {
    commands: Vec<String>,
    keys: Vec<String>,
}

impl Completion {
    pub fn new(commands: &[&str]) -> Completion {
        let all = commands.iter().copied().chain(["help", "exit"]);
        Completion { commands: all.map(str::to_owned).collect(), keys: Vec::new() }
    }

    /// Keys that were used.
    pub fn know(&mut self, keys: &BTreeSet<String>) {
        if self.keys.len() != keys.len().min(KEYS_MAX) {
            self.keys = keys.iter().take(KEYS_MAX).cloned().collect();
        }
    }

    /// What the word at the line's end may become, and where it begins.
    fn offers(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let first = line[..start].trim().is_empty();
        let pool = if first { &self.commands } else { &self.keys };
        let word = &line[start..];
        (start, pool.iter().filter(|offer| offer.starts_with(word)).cloned().collect())
    }
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, offers) = self.offers(&line[..pos]);
        let pair = |offer: String| Pair { display: offer.clone(), replacement: offer + " " };
        Ok((start, offers.into_iter().map(pair).collect()))
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_first_and_keys_behind_them() {
        let mut completion = Completion::new(&["put", "plan", "get"]);
        completion.know(&BTreeSet::from(["user-1".to_owned(), "user-2".to_owned(), "x".to_owned()]));
        assert_eq!(completion.offers("p"), (0, vec!["put".to_owned(), "plan".to_owned()]));
        assert_eq!(completion.offers("get us"), (4, vec!["user-1".to_owned(), "user-2".to_owned()]));
        assert_eq!(completion.offers("get zz").1.len(), 0);
    }
}
