//! Signals: what operators and clients write under `signals/`, by hand or by program.

use serde::Deserialize;
use thiserror::Error;

use crate::name::{NameError, NodeName};
use crate::placement::Strategy;
use crate::ring::{Kind, SignalId};

/// The name of the one signal that is no node's: `signals/mode` asks for another strategy.
pub const MODE: &str = "mode";

/// A signal as it stands in Consul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Which.
    pub id: SignalId,
    /// Its value.
    pub value: Vec<u8>,
}

/// What a signal asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The change.
    pub kind: Kind,
    /// For an add: where the newcomer says it is.
    pub host: Option<String>,
    /// For an add: its client port.
    pub port: Option<u16>,
    /// For an add: its zone.
    pub zone: Option<String>,
    /// For an add: its weight.
    pub weight: Option<u32>,
}

/// Why a signal asks for nothing.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum SignalError {
    /// It stands under no name at all.
    #[error(
        "the signal stands under no name: its key is signals/node-<n>, as in signals/node-4, or signals/mode"
    )]
    Nameless,
    /// Its key is no node's name, nor `mode`.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its value is none of the words, and no JSON object of them.
    #[error("the signal for {0} reads {1:?}: write add or remove, or JSON with op, host, port, zone, weight")]
    Value(String, String),
    /// The mode is none.
    #[error("the signal for mode reads {0:?}: write consistent or hrw")]
    Mode(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    op: String,
    host: Option<String>,
    port: Option<u16>,
    zone: Option<String>,
    weight: Option<u32>,
    mode: Option<Strategy>,
}

impl Signal {
    /// The signal's text, shortened, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).trim().chars().take(80).collect()
    }

    /// Reads it.
    pub fn wanted(&self) -> Result<Wanted, SignalError> {
        let text = self.text();
        let object: Option<Object> = serde_json::from_slice(&self.value).ok();
        if self.id.name == MODE {
            let mode = object.and_then(|o| o.mode).or_else(|| text.parse().ok());
            let mode = mode.ok_or(SignalError::Mode(text))?;
            return Ok(Wanted::plain(Kind::Migrate { mode }));
        }
        if self.id.name.is_empty() {
            return Err(SignalError::Nameless);
        }
        let node: NodeName = self.id.name.parse()?;
        let op = object.as_ref().map_or(text.as_str(), |o| o.op.as_str());
        let kind = match op {
            "add" => Kind::Add { node },
            "remove" => Kind::Remove { node },
            _ => return Err(SignalError::Value(self.id.name.clone(), text)),
        };
        let Some(o) = object else { return Ok(Wanted::plain(kind)) };
        Ok(Wanted { kind, host: o.host, port: o.port, zone: o.zone, weight: o.weight })
    }
}

impl Wanted {
    fn plain(kind: Kind) -> Wanted {
        Wanted { kind, host: None, port: None, zone: None, weight: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(name: &str, value: &str) -> Signal {
        Signal { id: SignalId { name: name.into(), index: 7 }, value: value.into() }
    }

    #[test]
    fn words_and_objects_are_read() {
        let kind = |name, value| signal(name, value).wanted().map(|w| w.kind);
        let node = NodeName(4);
        assert_eq!(kind("node-4", "add"), Ok(Kind::Add { node }));
        assert_eq!(kind("node-4", "remove\n"), Ok(Kind::Remove { node }));
        assert_eq!(kind("node-4", r#"{"op":"add","host":"h","port":2004}"#), Ok(Kind::Add { node }));
        assert_eq!(kind("mode", "hrw"), Ok(Kind::Migrate { mode: Strategy::Hrw }));
        assert_eq!(
            kind("mode", r#"{"op":"migrate","mode":"consistent"}"#),
            Ok(Kind::Migrate { mode: Strategy::Consistent })
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        for (name, value, hint) in [
            ("", "add", "signals/node-<n>"),
            ("foo", "add", "node-<n>"),
            ("node-04", "add", "without leading zeros"),
            ("node-4", "destroy", "write add or remove"),
            ("node-4", r#"{"op":"add","wieght":3}"#, "write add or remove"),
            ("mode", "md5", "write consistent or hrw"),
        ] {
            let error = signal(name, value).wanted().expect_err(value).to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
