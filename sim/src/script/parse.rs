//! From text to steps.

use std::collections::BTreeMap;

use super::ask::{Ask, Awaited, Consent, Verb};
use super::check::Check;
use super::fault::Disturbance;
use super::words::{Words, list};
use super::{Line, Script, Step, Wrong};
use crate::settings::Settings;

/// What a cluster may be made of.
const HEADER: [&str; 6] = ["nodes", "replicas", "quorum", "seed", "launchers", "store"];
/// Nodes that a script's cluster may begin with: later ones have room among those that splits know.
const NODES_MAX: u64 = 7;

impl Script {
    /// Reads a script; the name is for errors.
    pub fn parse(name: &str, text: &str) -> Result<Script, Wrong> {
        let wrong = |line: usize, what: String| Wrong { script: name.to_owned(), line, what };
        let mut settings = settings();
        let mut steps = Vec::new();
        let mut open: BTreeMap<String, usize> = BTreeMap::new();
        for (number, text) in (1..).zip(text.lines()) {
            let Some(mut words) = Words::of(text) else { continue };
            let verb = words.next("a verb").map_err(|what| wrong(number, what))?;
            let read = if HEADER.contains(&verb) {
                let early = steps.is_empty();
                let late =
                    || format!("{verb} belongs before the first step: it says what the cluster is made of");
                early.then_some(()).ok_or_else(late).and_then(|()| header(verb, &mut words, &mut settings))
            } else {
                step(verb, &mut words).and_then(|step| pair(&step, number, &mut open).map(|()| step)).map(
                    |step| {
                        let text = text.split('#').next().unwrap_or_default().trim().to_owned();
                        steps.push(Line { number, text, step });
                    },
                )
            };
            read.and_then(|()| words.end()).map_err(|what| wrong(number, what))?;
        }
        if let Some((name, line)) = open.into_iter().next() {
            let what =
                format!("nobody takes the answer to {name}: write \"answer {name} expect …\" after it");
            return Err(wrong(line, what));
        }
        let last = steps.last().map_or(0, |line| line.number);
        if settings.replicas as u64 > u64::from(settings.nodes) {
            let Settings { replicas, nodes, .. } = settings;
            return Err(wrong(0, format!("{replicas} replicas need as many nodes, there are {nodes}")));
        }
        if !steps.iter().any(|line| line.step.expects()) {
            let what = "nothing is expected, so nothing can fail: let some step end in \"expect …\", or write \"all equal\"";
            return Err(wrong(last, what.into()));
        }
        Ok(Script { name: name.to_owned(), settings, steps })
    }
}

impl Step {
    /// Whether it says what must be so.
    fn expects(&self) -> bool {
        match self {
            Step::Ask(ask) => ask.expected.is_some(),
            Step::Answer(_) | Step::Consent(_) | Step::Check { .. } => true,
            Step::Fault(_) => false,
        }
    }
}

/// A cluster with nobody at work but the script, and nothing wrong that the script does not say.
fn settings() -> Settings {
    let quiet = Settings::quiet(1);
    Settings { nodes: 3, replicas: 3, workers: 0, listers: 0, skew_ms: 0, slow_store: false, ..quiet }
}

fn header(verb: &str, words: &mut Words, settings: &mut Settings) -> Result<(), String> {
    match verb {
        "nodes" => settings.nodes = words.number("nodes", 1, NODES_MAX)? as u16,
        "replicas" => settings.replicas = words.number("replicas", 1, NODES_MAX)? as usize,
        "quorum" => settings.strict = words.one_of(&[("sloppy", false), ("strict", true)])?,
        "seed" => settings.seed = words.number("a seed", 0, u64::MAX)?,
        "launchers" => settings.launchers = words.number("launchers", 1, 3)? as usize,
        _ => settings.slow_store = words.one_of(&[("quick", false), ("slow", true)])?,
    }
    Ok(())
}

fn step(verb: &str, words: &mut Words) -> Result<Step, String> {
    if let Some((_, verb)) = Verb::ALL.into_iter().find(|(name, _)| *name == verb) {
        return Ask::parse(verb, words).map(Step::Ask);
    }
    match verb {
        "answer" => Awaited::parse(words).map(Step::Answer),
        "consent" => Consent::parse(words).map(Step::Consent),
        "await" => {
            let verb = words.next(&format!("a check: {}", list(Check::VERBS.into_iter())))?;
            let check = check(verb, words)?;
            words.keyword("within")?;
            Ok(Step::Check { check, within_ms: words.ms()? })
        }
        verb if Disturbance::VERBS.contains(&verb) => Disturbance::parse(verb, words).map(Step::Fault),
        verb if Check::VERBS.contains(&verb) => Ok(Step::Check { check: check(verb, words)?, within_ms: 0 }),
        _ => {
            let asks = Verb::ALL.into_iter().map(|(name, _)| name).chain(["answer", "consent", "await"]);
            let all = asks.chain(Disturbance::VERBS).chain(Check::VERBS).chain(HEADER);
            Err(format!("no verb \"{verb}\": there are {}", list(all)))
        }
    }
}

/// A request that is sent under a name is answered under it, once.
fn pair(step: &Step, number: usize, open: &mut BTreeMap<String, usize>) -> Result<(), String> {
    match step {
        Step::Ask(Ask { later: Some(name), .. }) => match open.insert(name.clone(), number) {
            None => Ok(()),
            Some(line) => Err(format!("{name} was sent in line {line} and is not answered yet")),
        },
        Step::Answer(Awaited { name, .. }) => {
            let sent = open.remove(name).map(|_| ());
            sent.ok_or_else(|| format!("nothing was sent as {name}: a request ends in \"as {name}\" then"))
        }
        _ => Ok(()),
    }
}

fn check(verb: &str, words: &mut Words) -> Result<Check, String> {
    if !Check::VERBS.contains(&verb) {
        let all = list(Check::VERBS.into_iter());
        return Err(format!("\"{verb}\" cannot be awaited, for it changes something: there are {all}"));
    }
    Check::parse(verb, words)
}
