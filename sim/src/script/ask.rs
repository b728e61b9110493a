//! Steps that ask a node something, as clients and orchestrators do, and what it must answer.

use std::collections::BTreeSet;

use ringkv_common::message::request::consent_json;
use ringkv_common::name::NodeName;
use ringkv_common::ring::Kind;
use ringkv_common::ring::orchestrator::Question;
use serde_json::{Value as Json, json};

use super::words::Words;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Put,
    Insert,
    Update,
    Delete,
    Get,
}

impl Verb {
    /// All of them, as scripts write them.
    pub const ALL: [(&'static str, Verb); 5] = [
        ("put", Verb::Put),
        ("insert", Verb::Insert),
        ("update", Verb::Update),
        ("delete", Verb::Delete),
        ("get", Verb::Get),
    ];

    fn op(self) -> &'static str {
        match self {
            Verb::Put => "PUT",
            Verb::Insert => "INSERT",
            Verb::Update => "UPDATE",
            Verb::Delete => "DELETE",
            Verb::Get => "GET_ONE",
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub key: String,
    pub node: NodeName,
    /// Whether it is sent with the context that the last `get` of the key was answered with.
    pub returned: bool,
    /// The script goes on, and takes the answer later under this name.
    pub later: Option<String>,
    /// `None`: a write must be done, of a read any answer will do.
    pub expected: Option<Expected>,
    fields: serde_json::Map<String, Json>,
}

impl Ask {
    /// Reads what follows the verb.
    pub fn parse(verb: Verb, words: &mut Words) -> Result<Ask, String> {
        let key = words.next("a key")?.to_owned();
        let want = if verb == Verb::Get { "context" } else { "receipt" };
        let mut fields = serde_json::Map::new();
        fields.insert("op".into(), verb.op().into());
        fields.insert("key".into(), key.clone().into());
        fields.insert("want".into(), json!([want]));
        if matches!(verb, Verb::Put | Verb::Insert | Verb::Update) {
            let value = words.next("a value")?;
            if value == "at" && words.peek().is_some_and(|word| word.starts_with("node-")) {
                return Err(format!("{} needs a value before \"at\"", verb.op()));
            }
            fields.insert("value".into(), value.into());
        }
        let returned = terms(verb, words, &mut fields)?;
        let node = words.at_node()?;
        let later = if words.take_if("as") { Some(words.next("a name")?.to_owned()) } else { None };
        let expected =
            if later.is_none() && words.take_if("expect") { Some(Expected::parse(words)?) } else { None };
        Ok(Ask { key, node, returned, later, expected, fields })
    }

    /// As it is sent.
    pub fn body(&self, returned: Option<&Json>) -> String {
        let mut fields = self.fields.clone();
        fields.extend(returned.map(|context| ("context".to_owned(), context.clone())));
        Json::Object(fields).to_string()
    }

    /// Whether a reply is what it must be; an error says what it was.
    pub fn judge(&self, reply: Option<&Json>) -> Result<(), String> {
        match &self.expected {
            Some(expected) => expected.judge(reply),
            None if self.fields["op"] == "GET_ONE" => Ok(()),
            None => Expected(vec![Answer::Ok]).judge(reply),
        }
    }
}

/// Reads the terms of a request; whether the returned context is one of them.
fn terms(verb: Verb, words: &mut Words, fields: &mut serde_json::Map<String, Json>) -> Result<bool, String> {
    let mut returned = false;
    while let Some(term) = words.peek().filter(|word| !matches!(*word, "at" | "as" | "expect")) {
        words.next("a term")?;
        let value: Json = match term {
            "level" => words.one_of(&[("ONE", "ONE"), ("QUORUM", "QUORUM"), ("ALL", "ALL")])?.into(),
            "quorum" => words.one_of(&[("sloppy", "sloppy"), ("strict", "strict")])?.into(),
            "r" if verb == Verb::Get => words.number("owners", 1, 16)?.into(),
            "w" if verb != Verb::Get => words.number("owners", 1, 16)?.into(),
            "request" if verb != Verb::Get => words.next("a request id")?.into(),
            "context" if verb != Verb::Get => {
                returned = words.one_of(&[("empty", false), ("returned", true)])?;
                json!({})
            }
            other => {
                let terms =
                    if verb == Verb::Get { "level, r, quorum" } else { "level, w, quorum, request, context" };
                return Err(format!(
                    "{} has no term \"{other}\": there are {terms}, then at NODE",
                    verb.op()
                ));
            }
        };
        fields.insert(term.into(), value);
    }
    Ok(returned)
}

/// The answer to a request that was sent before.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub name: String,
    pub expected: Expected,
}

impl Awaited {
    /// Reads what follows `answer`.
    pub fn parse(words: &mut Words) -> Result<Awaited, String> {
        let name = words.next("the name that a request was sent as")?.to_owned();
        words.keyword("expect")?;
        Ok(Awaited { name, expected: Expected::parse(words)? })
    }
}

/// What an orchestrator asks before a change.
#[derive(Clone, Debug)]
pub struct Consent {
    kind: Kind,
    pub node: NodeName,
    expected: bool,
}

impl Consent {
    /// Reads what follows `consent`.
    pub fn parse(words: &mut Words) -> Result<Consent, String> {
        let add = words.one_of(&[("add", true), ("remove", false)])?;
        let whom = words.node()?;
        let kind = if add { Kind::Add { node: whom } } else { Kind::Remove { node: whom } };
        let node = words.at_node()?;
        words.keyword("expect")?;
        Ok(Consent { kind, node, expected: words.one_of(&[("yes", true), ("no", false)])? })
    }

    /// As it is sent: a plan that starts from this epoch.
    pub fn body(&self, base: u64) -> String {
        consent_json(&Question { kind: self.kind, base, reach: Vec::new() })
    }

    /// Whether a reply is what it must be; an error says what it was.
    pub fn judge(&self, reply: Option<&Json>) -> Result<(), String> {
        let given = reply.is_some_and(|r| r["consent"] == self.expected);
        given.then_some(()).ok_or_else(|| said(reply))
    }
}

/// Answers, one of which must come.
#[derive(Clone, Debug)]
pub struct Expected(Vec<Answer>);

#[derive(Clone, Debug)]
enum Answer {
    Ok,
    Hinted,
    None,
    Silence,
    Error(String),
    Values(BTreeSet<String>),
}

impl Expected {
    /// Reads what follows `expect`, to the end of the line.
    pub fn parse(words: &mut Words) -> Result<Expected, String> {
        let mut answers = vec![Answer::parse(words)?];
        while words.take_if("|") {
            answers.push(Answer::parse(words)?);
        }
        Ok(Expected(answers))
    }

    /// Whether a reply is one of them; an error says what it was.
    pub fn judge(&self, reply: Option<&Json>) -> Result<(), String> {
        let fits = self.0.iter().any(|answer| answer.fits(reply));
        fits.then_some(()).ok_or_else(|| said(reply))
    }
}

impl Answer {
    fn parse(words: &mut Words) -> Result<Answer, String> {
        let word = words.next("an answer: ok, hinted, none, silence, error CODE, or values")?;
        Ok(match word {
            "ok" => Answer::Ok,
            "hinted" => Answer::Hinted,
            "none" => Answer::None,
            "silence" => Answer::Silence,
            "error" => Answer::Error(words.next("a code, as in QUORUM_FAILED")?.to_owned()),
            "|" => return Err("\"|\" stands between two answers".into()),
            value => {
                let mut values = BTreeSet::from([value.to_owned()]);
                while let Some(value) = words.peek().filter(|word| *word != "|") {
                    words.next("a value")?;
                    values.insert(value.to_owned());
                }
                Answer::Values(values)
            }
        })
    }

    fn fits(&self, reply: Option<&Json>) -> bool {
        let Some(reply) = reply else { return matches!(self, Answer::Silence) };
        match self {
            Answer::Ok => reply["status"] == "OK",
            Answer::Hinted => reply["status"] == "OK" && reply["receipt"]["hinted"] == true,
            Answer::None => reply["code"] == "KEY_NOT_FOUND",
            Answer::Silence => false,
            Answer::Error(code) => reply["code"].as_str() == Some(code),
            Answer::Values(values) => shown(reply).as_ref() == Some(values),
        }
    }
}

/// The values that a reply shows.
fn shown(reply: &Json) -> Option<BTreeSet<String>> {
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (&reply["values"], reply.get("value")) {
        (Json::Array(siblings), _) => Some(siblings.iter().map(text).collect()),
        (_, Some(value)) => Some(BTreeSet::from([text(value)])),
        _ => None,
    }
}

fn said(reply: Option<&Json>) -> String {
    reply.map_or("there was silence".into(), |reply| format!("the answer was {reply}"))
}
