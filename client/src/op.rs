//! Operations.

mod encode;

use ringkv_common::key::Key;
pub use ringkv_common::message::Scope;
use ringkv_common::message::TIMEOUT_MS_MAX;
use ringkv_common::message::fault::Fault;
use ringkv_common::name::NodeName;
use serde_json::value::RawValue;

pub(crate) use self::encode::{Terms, encode, second_frame};
use crate::{Error, Value};

/// How many replicas must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Quorum {
    /// As the cluster is set.
    #[default]
    Default,
    /// Any.
    One,
    /// More than half.
    Majority,
    /// Every.
    All,
    /// So many for reads, so many for writes; 0 stands for the cluster's setting.
    Counts {
        /// Replicas that a read needs.
        r: u32,
        /// Replicas that a write needs.
        w: u32,
    },
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PageOf {
    /// Records at most; `None`: as many as fit into a message.
    pub limit: Option<usize>,
    /// The cursor of the page before; `None` for the first.
    pub cursor: Option<String>,
}

/// An operation, with the terms on which it is asked.
///
/// Made by its constructors and refined by [`Op::quorum`], [`Op::at`], [`Op::context`] and their like.
#[derive(Clone, Debug)]
pub struct Op {
    pub(crate) kind: Kind,
    pub(crate) context: Option<Box<RawValue>>,
    pub(crate) quorum: Option<Quorum>,
    pub(crate) node: Option<NodeName>,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) want_context: bool,
    pub(crate) want_receipt: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Put(Key, Value),
    Insert(Key, Value),
    Update(Key, Value),
    Delete(Key),
    Get(Key),
    Mput(Vec<(Key, Value)>),
    Mget(Vec<Key>),
    GetAll(Scope, PageOf),
    ShowAll(PageOf),
    Search(Key),
    Explain(Key),
    Status { ring: bool },
    Ping,
    AcceptLoss,
    Fault(Fault),
    Repair,
}

impl Op {
    fn of(kind: Kind) -> Op {
        Op {
            kind,
            context: None,
            quorum: None,
            node: None,
            timeout_ms: None,
            want_context: false,
            want_receipt: false,
        }
    }

    /// Stores a value; without a context it overwrites.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn put(key: &str, value: impl Into<Value>) -> Result<Op, Error> {
        Ok(Op::of(Kind::Put(Key::new(key)?, value.into())))
    }

    /// Stores a value where there is none.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn insert(key: &str, value: impl Into<Value>) -> Result<Op, Error> {
        Ok(Op::of(Kind::Insert(Key::new(key)?, value.into())))
    }

    /// Stores a value where there is one.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn update(key: &str, value: impl Into<Value>) -> Result<Op, Error> {
        Ok(Op::of(Kind::Update(Key::new(key)?, value.into())))
    }

    /// Deletes a key, which need not exist.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn delete(key: &str) -> Result<Op, Error> {
        Ok(Op::of(Kind::Delete(Key::new(key)?)))
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn get(key: &str) -> Result<Op, Error> {
        Ok(Op::of(Kind::Get(Key::new(key)?)))
    }

    /// Stores many values, each with its own outcome. Binary values go by [`Op::put`] alone.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Value`] for a binary value.
    pub fn mput<'a>(items: impl IntoIterator<Item = (&'a str, Value)>) -> Result<Op, Error> {
        let item = |(key, value): (&str, Value)| match value {
            Value::Json(_) => Ok((Key::new(key)?, value)),
            Value::Binary(_) => Err(Error::Value(format!("{key:?} is binary, and MPUT takes JSON values"))),
        };
        Ok(Op::of(Kind::Mput(items.into_iter().map(item).collect::<Result<_, _>>()?)))
    }

    /// Reads many keys, each with its own outcome.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn mget<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Op, Error> {
        Ok(Op::of(Kind::Mget(keys.into_iter().map(Key::new).collect::<Result<_, _>>()?)))
    }

    /// Lists records, a page at a time.
    pub fn get_all(scope: Scope, page: PageOf) -> Op {
        Op::of(Kind::GetAll(scope, page))
    }

    /// Lists all that a node stores, tombstones and hints too.
    pub fn show_all(node: NodeName, page: PageOf) -> Op {
        Op::of(Kind::ShowAll(page)).at(node)
    }

    /// Every replica's versions of a key.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn search(key: &str) -> Result<Op, Error> {
        Ok(Op::of(Kind::Search(Key::new(key)?)))
    }

    /// Where a key lives, and why.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn explain(key: &str) -> Result<Op, Error> {
        Ok(Op::of(Kind::Explain(Key::new(key)?)))
    }

    /// How a node is, and its ring where that is wanted.
    pub fn status(ring: bool) -> Op {
        Op::of(Kind::Status { ring })
    }

    /// Whether a node answers.
    pub fn ping() -> Op {
        Op::of(Kind::Ping)
    }

    /// Tells a node that the data it lost is known to be lost.
    pub fn accept_loss(node: NodeName) -> Op {
        Op::of(Kind::AcceptLoss).at(node)
    }

    /// Has a node do wrong on purpose, or do so no more.
    pub fn fault(node: NodeName, fault: Fault) -> Op {
        Op::of(Kind::Fault(fault)).at(node)
    }

    /// Has a node compare with the other owners now.
    pub fn repair(node: NodeName) -> Op {
        Op::of(Kind::Repair).at(node)
    }

    /// With a context, as JSON text: the write then supersedes only what the context covers.
    ///
    /// # Errors
    /// [`Error::Value`] where the text is no JSON.
    pub fn context(mut self, text: &str) -> Result<Op, Error> {
        let raw = RawValue::from_string(text.to_owned());
        self.context = Some(raw.map_err(|e| Error::Value(format!("in the context: {e}")))?);
        Ok(self)
    }

    /// With another quorum than the client's usual one.
    pub fn quorum(mut self, quorum: Quorum) -> Op {
        self.quorum = Some(quorum);
        self
    }

    /// Asked of this node and no other.
    pub fn at(mut self, node: NodeName) -> Op {
        self.node = Some(node);
        self
    }

    /// With other patience than the client's usual one, for each attempt: 1 to 30,000 milliseconds.
    pub fn timeout_ms(mut self, ms: u32) -> Op {
        self.timeout_ms = Some(ms.clamp(1, TIMEOUT_MS_MAX));
        self
    }

    /// The reply shall carry the key's context.
    pub fn want_context(mut self) -> Op {
        self.want_context = true;
        self
    }

    /// The reply shall say who answered, under which epoch, and whether a hint stood in.
    pub fn want_receipt(mut self) -> Op {
        self.want_receipt = true;
        self
    }

    /// Another operation on the same terms.
    pub(crate) fn with_kind(&self, kind: Kind) -> Op {
        Op {
            kind,
            context: None,
            quorum: self.quorum,
            node: self.node,
            timeout_ms: self.timeout_ms,
            want_context: self.want_context,
            want_receipt: self.want_receipt,
        }
    }

    /// The operation's name on the wire.
    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Put(..) => "PUT",
            Kind::Insert(..) => "INSERT",
            Kind::Update(..) => "UPDATE",
            Kind::Delete(_) => "DELETE",
            Kind::Get(_) => "GET_ONE",
            Kind::Mput(_) => "MPUT",
            Kind::Mget(_) => "MGET",
            Kind::GetAll(..) => "GET_ALL",
            Kind::ShowAll(_) => "SHOW_ALL",
            Kind::Search(_) => "SEARCH",
            Kind::Explain(_) => "EXPLAIN",
            Kind::Status { .. } => "STATUS",
            Kind::Ping => "PING",
            Kind::AcceptLoss => "ACCEPT_LOSS",
            Kind::Fault(_) => "FAULT",
            Kind::Repair => "REPAIR",
        }
    }

    /// Whether it changes data.
    pub fn is_write(&self) -> bool {
        matches!(
            self.kind,
            Kind::Put(..) | Kind::Insert(..) | Kind::Update(..) | Kind::Delete(_) | Kind::Mput(_)
        )
    }

    /// The key it is about, where it is one key.
    pub(crate) fn key(&self) -> Option<&Key> {
        match &self.kind {
            Kind::Put(key, _) | Kind::Insert(key, _) | Kind::Update(key, _) => Some(key),
            Kind::Delete(key) | Kind::Get(key) | Kind::Search(key) | Kind::Explain(key) => Some(key),
            // A part of an MPUT or MGET has keys of one coordinator only.
            Kind::Mput(items) => items.first().map(|(key, _)| key),
            Kind::Mget(keys) => keys.first(),
            _ => None,
        }
    }

    /// About how many bytes it takes on the wire.
    pub(crate) fn bytes(&self) -> usize {
        const REST: usize = 160;
        REST + match &self.kind {
            Kind::Put(key, value) | Kind::Insert(key, value) | Kind::Update(key, value) => {
                key.text().len() + value.len()
            }
            Kind::Mput(items) => items.iter().map(|(key, value)| key.text().len() + value.len() + 24).sum(),
            Kind::Mget(keys) => keys.iter().map(|key| key.text().len() + 4).sum(),
            _ => self.key().map_or(0, |key| key.text().len()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_and_contexts_are_checked_before_anything_is_sent() {
        assert!(matches!(Op::get(""), Err(Error::Key(_))));
        assert!(matches!(Op::delete("k").unwrap().context("{"), Err(Error::Value(_))));
        assert!(matches!(Op::mput([("k", Value::Binary(vec![1]))]), Err(Error::Value(_))));
    }
}
