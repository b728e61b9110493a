//! Scenarios as scripts: what happens to a small cluster, told in lines that anybody can read.
//!
//! A random history finds what nobody thought of; a script shows what somebody did think of. One line is one step, `#`
//! begins a comment. First comes what the cluster is made of:
//!
//! ```text
//! nodes 3        replicas 3     quorum strict  seed 7         launchers 1    store slow
//! ```
//!
//! Then what is done, one thing after the other. Words in brackets may be left out.
//!
//! ```text
//! put KEY VALUE [TERMS] at NODE [expect ANSWER]       insert, update likewise; delete and get without a value
//! put KEY VALUE at NODE as NAME                       goes on without the answer
//! answer NAME expect ANSWER                           takes it
//! consent add NODE at NODE expect yes | no            what an orchestrator asks before a change
//! cut NODE NODE [TIME]       cut-one-way NODE NODE [TIME]       split NODE… [TIME]       heal
//! pause NODE TIME     kill NODE     start NODE     clock NODE +TIME     consul-away TIME     wait TIME
//! add NODE            remove NODE            migrate consistent | hrw
//! ```
//!
//! TERMS are `level ONE|QUORUM|ALL`, `r N`, `w N`, `quorum sloppy|strict`, and of a write `request ID` and `context empty`
//! or `context returned`: what the last `get` of that key was answered with. TIME is `200ms`, `3s`, `5m` or `1h`. An ANSWER is `ok`,
//! `hinted`, `none`, `silence`, `error CODE`, or the values shown, in any order; `|` stands between several that are right.
//!
//! Last, what must be so. These steps look and ask nobody, and each may be awaited: `await CHECK within TIME`.
//!
//! ```text
//! siblings KEY [at NODE] expect VALUE… | deleted | unknown      what its owners hold, or one node
//! hints [at NODE] expect N          view NODE [at NODE] expect alive | suspect | down | unknown
//! owners KEY expect NODE…           members expect NODE…        phase expect none | copy | both | switch
//! result NODE|mode expect done | aborted | refused              all equal
//! ```
//!
//! When the last step is done all faults end, who was killed starts, and the cluster must come to rest as after every
//! random history.

mod ask;
mod check;
mod fault;
mod parse;
mod play;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

pub use self::play::Played;

use crate::settings::Settings;

/// A script that was read.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where it comes from, for whoever reads its errors.
    pub name: String,
    settings: Settings,
    steps: Vec<Line>,
}

/// A step and where it stands.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    text: String,
    step: Step,
}

/// What a line says.
#[derive(Clone, Debug)]
enum Step {
    Ask(ask::Ask),
    Answer(ask::Awaited),
    Consent(ask::Consent),
    Fault(fault::Disturbance),
    Check { check: check::Check, within_ms: u64 },
}

/// A script that cannot be read, or a step that did not go as it must: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The script.
    pub script: String,
    /// Counted from 1; 0 where it is about the whole.
    pub line: usize,
    /// What is wrong, and what is allowed or was expected.
    pub what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.script, self.what),
            line => write!(f, "{}:{line}: {}", self.script, self.what),
        }
    }
}
