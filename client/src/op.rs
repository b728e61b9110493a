//! Operations, and their text on the wire.

use ringkv_common::key::Key;
pub use ringkv_common::message::Scope;
use ringkv_common::message::TIMEOUT_MS_MAX;
use ringkv_common::message::fault::Fault;
use ringkv_common::name::NodeName;
use serde::Serialize;
use serde_json::value::RawValue;

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

/// What the client adds to an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// Comes back with the reply.
    pub id: u64,
    /// The client's random name; with the id it makes the request id of a write.
    pub client: &'a str,
    /// The epoch that the client routes by.
    pub epoch: Option<u64>,
    /// The client's usual quorum.
    pub quorum: Quorum,
    /// How long the node may take.
    pub timeout_ms: u32,
}

/// Writes an operation as JSON. The second frame, where there is one, is the value of [`second_frame`].
pub(crate) fn encode(op: &Op, terms: &Terms, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(b"{\"op\":\"");
    out.extend_from_slice(op.name().as_bytes());
    out.push(b'"');
    match &op.kind {
        Kind::Put(key, value) | Kind::Insert(key, value) | Kind::Update(key, value) => {
            field(out, "key", key.text());
            if let Some(json) = value.json_text() {
                raw(out, "value", json);
            }
        }
        Kind::Delete(key) | Kind::Get(key) | Kind::Search(key) | Kind::Explain(key) => {
            field(out, "key", key.text());
        }
        Kind::Mput(items) => mput_items(out, items),
        Kind::Mget(keys) => field(out, "keys", &keys.iter().map(Key::text).collect::<Vec<_>>()),
        Kind::GetAll(scope, page) => {
            match scope {
                Scope::Led => {}
                Scope::Node => field(out, "scope", "node"),
                Scope::Cluster => field(out, "scope", "cluster"),
            }
            page_fields(out, page);
        }
        Kind::ShowAll(page) => page_fields(out, page),
        Kind::Fault(fault) => field(out, "fault", fault),
        Kind::Status { .. } | Kind::Ping | Kind::AcceptLoss | Kind::Repair => {}
    }
    if let Some(context) = &op.context {
        raw(out, "context", context.get());
    }
    wants(out, op);
    quorum(out, op.quorum.unwrap_or(terms.quorum));
    field(out, "timeout_ms", &terms.timeout_ms);
    // These replies show the node's epoch by themselves.
    let epoch = terms.epoch.filter(|_| !matches!(op.kind, Kind::Status { .. } | Kind::Explain(_)));
    if let Some(epoch) = epoch {
        field(out, "epoch", &epoch);
    }
    if op.is_write() {
        raw(out, "request", &format!("\"{}-{:x}\"", terms.client, terms.id));
    }
    field(out, "id", &terms.id);
    out.push(b'}');
}

/// The value that goes as a frame of its own.
pub(crate) fn second_frame(op: &Op) -> Option<&[u8]> {
    match &op.kind {
        Kind::Put(_, value) | Kind::Insert(_, value) | Kind::Update(_, value) => match value {
            Value::Binary(bytes) => Some(bytes),
            Value::Json(_) => None,
        },
        _ => None,
    }
}

fn mput_items(out: &mut Vec<u8>, items: &[(Key, Value)]) {
    out.extend_from_slice(b",\"items\":[");
    for (n, (key, value)) in items.iter().enumerate() {
        out.extend_from_slice(if n == 0 { b"{\"key\":" } else { b",{\"key\":" });
        json(out, key.text());
        raw(out, "value", value.json_text().unwrap_or("null"));
        out.push(b'}');
    }
    out.push(b']');
}

fn page_fields(out: &mut Vec<u8>, page: &PageOf) {
    if let Some(limit) = page.limit {
        field(out, "limit", &limit);
    }
    if let Some(cursor) = &page.cursor {
        field(out, "cursor", cursor);
    }
}

fn wants(out: &mut Vec<u8>, op: &Op) {
    let ring = matches!(op.kind, Kind::Status { ring: true });
    let wants: Vec<&str> = [("context", op.want_context), ("receipt", op.want_receipt), ("ring", ring)]
        .iter()
        .filter_map(|(name, wanted)| wanted.then_some(*name))
        .collect();
    if !wants.is_empty() {
        field(out, "want", &wants);
    }
}

fn quorum(out: &mut Vec<u8>, quorum: Quorum) {
    match quorum {
        Quorum::Default => {}
        Quorum::One => field(out, "level", "ONE"),
        Quorum::Majority => field(out, "level", "QUORUM"),
        Quorum::All => field(out, "level", "ALL"),
        Quorum::Counts { r, w } => {
            if r > 0 {
                field(out, "r", &r);
            }
            if w > 0 {
                field(out, "w", &w);
            }
        }
    }
}

/// A field whose name is ours and needs no escapes.
fn field(out: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    raw(out, name, "");
    json(out, value);
}

fn raw(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(text.as_bytes());
}

fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("writing plain data to memory cannot fail");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ringkv_common::message::{Limits, Operation, request};

    use super::*;

    fn text(op: &Op) -> String {
        let quorum = Quorum::Default;
        let terms = Terms { id: 26, client: "c0ffee", epoch: Some(3), quorum, timeout_ms: 2000 };
        let mut out = Vec::new();
        encode(op, &terms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_operation_is_understood_by_the_nodes_own_reader() {
        let node = NodeName(1);
        let page = || PageOf { limit: Some(10), cursor: Some(request::cursor(&Key::new("a\"b").unwrap())) };
        let ops = [
            Op::put("k\n\"é", "v").unwrap().context("{\"x\":1}").unwrap().want_context().want_receipt(),
            Op::put("k", Value::Binary(vec![0, 255])).unwrap().quorum(Quorum::Counts { r: 0, w: 3 }),
            Op::insert("k", Value::json("[1, 2.0]").unwrap()).unwrap().quorum(Quorum::All),
            Op::update("k", Value::json("null").unwrap()).unwrap(),
            Op::delete("k").unwrap().quorum(Quorum::Majority),
            Op::get("k").unwrap().quorum(Quorum::Counts { r: 1, w: 0 }),
            Op::mput([("a", Value::from("1")), ("b", Value::from("2"))]).unwrap(),
            Op::mget(["a", "b"]).unwrap(),
            Op::get_all(Scope::Cluster, page()),
            Op::get_all(Scope::Node, PageOf::default()),
            Op::show_all(node, page()),
            Op::search("k").unwrap(),
            Op::explain("k").unwrap(),
            Op::status(true),
            Op::ping(),
            Op::accept_loss(node),
            Op::fault(node, Fault::Delay { to: Some(node), ms: 7 }),
            Op::repair(node),
        ];
        for op in ops {
            let text = text(&op);
            let request = request::parse(text.as_bytes(), second_frame(&op), &Limits::default())
                .unwrap_or_else(|(_, failure)| panic!("{text}: {}", failure.message));
            assert_eq!(request.id.as_deref(), Some("26"), "{text}");
            let writes = match &request.operation {
                Operation::One(ringkv_common::message::KeyOp::Write(write)) => write.request.is_some(),
                Operation::Many(ops) => matches!(
                    &ops[0], Ok(ringkv_common::message::KeyOp::Write(write)) if write.request.is_some()
                ),
                _ => false,
            };
            assert_eq!(writes, op.is_write(), "every write has a request id, and nothing else: {text}");
        }
    }

    #[test]
    fn a_put_reads_as_promised() {
        assert_eq!(
            text(&Op::put("k", "v").unwrap()),
            r#"{"op":"PUT","key":"k","value":"v","timeout_ms":2000,"epoch":3,"request":"c0ffee-1a","id":26}"#
        );
    }

    #[test]
    fn keys_and_contexts_are_checked_before_anything_is_sent() {
        assert!(matches!(Op::get(""), Err(Error::Key(_))));
        assert!(matches!(Op::delete("k").unwrap().context("{"), Err(Error::Value(_))));
        assert!(matches!(Op::mput([("k", Value::Binary(vec![1]))]), Err(Error::Value(_))));
    }
}
