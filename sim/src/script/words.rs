//! The words of a line, taken one by one; what is missing or wrong is said together with what is allowed.

use std::str::FromStr;

use ringkv_common::name::NodeName;

/// The words of one line that are left.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    left: Vec<&'a str>,
    /// The first one, for errors.
    verb: &'a str,
}

impl<'a> Words<'a> {
    /// Those of a line without its comment; `None`: there are none.
    pub fn of(line: &'a str) -> Option<Words<'a>> {
        let mut left: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let verb = *left.first()?;
        left.reverse();
        Some(Words { left, verb })
    }

    /// The next word, which must be there.
    pub fn next(&mut self, what: &str) -> Result<&'a str, String> {
        let verb = self.verb;
        self.left.pop().ok_or_else(|| format!("{verb} needs {what}"))
    }

    /// The next word, without taking it.
    pub fn peek(&self) -> Option<&'a str> {
        self.left.last().copied()
    }

    /// Takes the next word if it is this one.
    pub fn take_if(&mut self, word: &str) -> bool {
        let is = self.peek() == Some(word);
        if is {
            self.left.pop();
        }
        is
    }

    /// Takes this word, which must come next.
    pub fn keyword(&mut self, word: &str) -> Result<(), String> {
        match self.peek() {
            _ if self.take_if(word) => Ok(()),
            Some(other) => Err(format!("{} has \"{other}\" where \"{word}\" is needed", self.verb)),
            None => Err(format!("{} ends where \"{word}\" is needed", self.verb)),
        }
    }

    /// One of several words, and what it stands for.
    pub fn one_of<T: Clone>(&mut self, of: &[(&str, T)]) -> Result<T, String> {
        let allowed = list(of.iter().map(|(word, _)| *word));
        let word = self.next(&allowed)?;
        let found = of.iter().find(|(name, _)| *name == word).map(|(_, meaning)| meaning.clone());
        found.ok_or_else(|| format!("\"{word}\" is none of {allowed}"))
    }

    /// A node's name.
    pub fn node(&mut self) -> Result<NodeName, String> {
        NodeName::from_str(self.next("a node, as in node-1")?).map_err(|error| error.to_string())
    }

    /// A node that must be named after `at`.
    pub fn at_node(&mut self) -> Result<NodeName, String> {
        self.keyword("at")?;
        self.node()
    }

    /// A node after `at`, where that stands here.
    pub fn maybe_at_node(&mut self) -> Result<Option<NodeName>, String> {
        if self.take_if("at") { self.node().map(Some) } else { Ok(None) }
    }

    /// All nodes up to the end, or up to a word that names none; at least one.
    pub fn nodes(&mut self) -> Result<Vec<NodeName>, String> {
        let mut nodes = vec![self.node()?];
        while self.peek().is_some_and(|word| word.starts_with("node-")) {
            nodes.push(self.node()?);
        }
        Ok(nodes)
    }

    /// A number of this range.
    pub fn number(&mut self, what: &str, low: u64, high: u64) -> Result<u64, String> {
        let allowed = format!("{what}, a number from {low} to {high}");
        let word = self.next(&allowed)?;
        let number = word.parse().ok().filter(|n| (low..=high).contains(n));
        number.ok_or_else(|| format!("\"{word}\" is not {allowed}"))
    }

    /// A time, in milliseconds.
    pub fn ms(&mut self) -> Result<u64, String> {
        let word = self.next("a time, as in 200ms, 3s, 5m or 1h")?;
        ms(word).ok_or_else(|| format!("\"{word}\" is no time: write one as 200ms, 3s, 5m or 1h"))
    }

    /// A time, where one stands here.
    pub fn maybe_ms(&mut self) -> Result<Option<u64>, String> {
        if self.left.is_empty() { Ok(None) } else { self.ms().map(Some) }
    }

    /// A time with its sign, in milliseconds.
    pub fn signed_ms(&mut self) -> Result<i64, String> {
        let word = self.next("a time with its sign, as in +1h or -200ms")?;
        let sign = if word.starts_with('-') { -1 } else { 1 };
        let time = word.strip_prefix(['+', '-']).and_then(ms);
        let time = time.ok_or_else(|| format!("\"{word}\" is no time with its sign, as in +1h or -200ms"))?;
        Ok(sign * time as i64)
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), String> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(format!("{} ends before \"{word}\"", self.verb)),
        }
    }
}

/// Words as people list them.
pub fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn ms(word: &str) -> Option<u64> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &word[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // A day is longer than any script, and keeps all sums far from their bounds.
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|ms| *ms <= 24 * 3_600_000)
}
