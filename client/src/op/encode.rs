//! An operation's text on the wire.

use ringkv_common::key::Key;
use serde::Serialize;

use super::{Kind, Op, PageOf, Quorum, Scope};
use crate::Value;

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
    quorum(out, op, op.quorum.unwrap_or(terms.quorum));
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

/// Only where it means something: nodes refuse it elsewhere, and a client's usual quorum is that of all its operations.
fn quorum(out: &mut Vec<u8>, op: &Op, quorum: Quorum) {
    let reads = matches!(op.kind, Kind::Get(_) | Kind::Mget(_) | Kind::GetAll(Scope::Cluster, _));
    if !reads && !op.is_write() {
        return;
    }
    match quorum {
        Quorum::Default => {}
        Quorum::One => field(out, "level", "ONE"),
        Quorum::Majority => field(out, "level", "QUORUM"),
        Quorum::All => field(out, "level", "ALL"),
        Quorum::Counts { r, w } => {
            if r > 0 {
                field(out, "r", &r);
            }
            if w > 0 && op.is_write() {
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
    use ringkv_common::message::fault::Fault;
    use ringkv_common::message::{Limits, Operation, request};
    use ringkv_common::name::NodeName;

    use super::*;

    fn text(op: &Op) -> String {
        text_with(op, Quorum::Default)
    }

    fn text_with(op: &Op, quorum: Quorum) -> String {
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
        let quorums = [Quorum::Default, Quorum::All, Quorum::Counts { r: 2, w: 2 }];
        for (op, quorum) in ops.iter().flat_map(|op| quorums.map(|quorum| (op, quorum))) {
            let text = text_with(op, quorum);
            let request = request::parse(text.as_bytes(), second_frame(op), &Limits::default())
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
}
