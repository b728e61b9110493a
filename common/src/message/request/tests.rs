#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::key::Key;
use crate::message::{Page, Scope, Write};

fn read(body: &str) -> Result<Request, Refused> {
    parse(body.as_bytes(), None, &Limits::default())
}

fn refused(body: &str) -> (Code, String) {
    let (_, failure) = read(body).expect_err(body);
    (failure.code, failure.message)
}

fn written(body: &str) -> Write {
    match read(body).unwrap().operation {
        Operation::One(KeyOp::Write(write)) => write,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_value_is_kept_as_the_text_that_was_sent() {
    for value in ["\"v\"", "1.0", "1e400", "null", "[ 1 ,2]", r#"{"b":1,"a":{"b":1}}"#, r#""é😀""#] {
        let write = written(&format!(r#"{{"value": {value} ,"op":"PUT","key":"k"}}"#));
        assert_eq!(write.content, Content::Json(Arc::from(value.as_bytes())));
    }
}

#[test]
fn keys_with_escapes_are_unescaped() {
    assert_eq!(written(r#"{"op":"PUT","key":"a\n\u00e9","value":1}"#).key.text(), "a\né");
}

#[test]
fn the_originals_get_all_with_its_comma_is_accepted() {
    for body in [r#"{"op":"GET_ALL",}"#, "{ \"op\" : \"GET_ALL\" ,\n}", r#"{"op":"GET_ALL"}"#] {
        assert_eq!(read(body).unwrap().operation, Operation::GetAll(Scope::Led, Page::default()), "{body}");
    }
    assert_eq!(refused(r#"{"op":"PING",}"#).0, Code::BadJson);
}

#[test]
fn every_bad_request_is_told_what_is_wrong_with_it() {
    use Code::*;
    let long = format!(r#"{{"op":"GET_ONE","key":"{}"}}"#, "k".repeat(1025));
    let long_id = format!(r#"{{"op":"PING","id":"{}"}}"#, "i".repeat((1 << 20) + 1));
    let large = format!(r#"{{"op":"PUT","key":"k","value":"{}"}}"#, "v".repeat(1 << 20));
    let deep = format!(r#"{{"op":"PUT","key":"k","value":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let cases: &[(&str, Code, &str)] = &[
        ("", BadJson, "empty"),
        ("PUT k v", BadJson, "no JSON"),
        (r#"{"op":"PUT""#, BadJson, "no JSON"),
        (r#"{"op":"PING"} x"#, BadJson, "no JSON"),
        ("[1]", BadRequest, "a list: send one JSON object"),
        ("7", BadRequest, "wrong shape"),
        ("null", BadRequest, "wrong shape"),
        (r#"{"key":"k"}"#, BadRequest, "missing field `op`"),
        (r#"{"op":7}"#, BadRequest, "a string"),
        (r#"{"op":"put","key":"k","value":1}"#, UnknownOp, "\"put\""),
        (r#"{"op":"PUT","key":"k"}"#, BadRequest, "needs the field \"value\""),
        (r#"{"op":"PUT","value":1}"#, BadRequest, "needs the field \"key\""),
        (r#"{"op":"GET_ONE","key":7}"#, BadRequest, "a string"),
        (r#"{"op":"GET_ONE","key":""}"#, BadRequest, "empty"),
        (&long, TooLarge, "1025 bytes"),
        (&long_id, TooLarge, "id has 1048579 bytes"),
        (&large, TooLarge, "1048578 bytes, 1048576"),
        (&deep, BadRequest, "128 deep"),
        (r#"{"op":"PUT","key":"k","value":"\ud800"}"#, BadRequest, "lone surrogate"),
        (r#"{"op":"GET_ONE","key":"\ud800"}"#, BadJson, "hex escape"),
        (r#"{"op":"GET_ONE","key":"a","key":"b"}"#, BadRequest, "duplicate field `key`"),
        (r#"{"op":"GET_ONE","key":"a","levle":"ALL"}"#, BadRequest, "unknown field `levle`"),
        (r#"{"op":"GET_ONE","key":"a","value":1}"#, BadRequest, "no field \"value\""),
        (r#"{"op":"GET_ONE","key":"a","timeout_ms":0}"#, BadRequest, "1 to 30000"),
        (r#"{"op":"GET_ONE","key":"a","timeout_ms":1e99}"#, BadRequest, "wrong shape"),
        (r#"{"op":"GET_ONE","key":"a","timeout_ms":99999999999999999999999}"#, BadRequest, "wrong shape"),
        (r#"{"op":"GET_ONE","key":"a","r":-1}"#, BadRequest, "wrong shape"),
        (r#"{"op":"GET_ONE","key":"a","r":0}"#, BadRequest, "r is 0"),
        (r#"{"op":"GET_ONE","key":"a","r":1,"level":"ONE"}"#, BadRequest, "either level or"),
        (r#"{"op":"GET_ONE","key":"a","level":"MOST"}"#, BadRequest, "ONE, QUORUM or ALL"),
        (r#"{"op":"GET_ONE","key":"a","hash":"0000000000000000"}"#, BadRequest, "the key's is"),
        (r#"{"op":"GET_ONE","key":"a","want":["all"]}"#, BadRequest, "context, receipt, raw"),
        (r#"{"op":"PUT","key":"a","value":1,"context":7}"#, BadRequest, "in context"),
        (r#"{"op":"PUT","key":"a","value":1,"context":{"a":-1}}"#, BadRequest, "whole numbers"),
        (r#"{"op":"PUT","key":"a","value":1,"request":""}"#, BadRequest, "request has 0 bytes"),
        (r#"{"op":"GET_ALL","limit":0}"#, BadRequest, "limit is 0"),
        (r#"{"op":"GET_ALL","scope":"all"}"#, BadRequest, "node or cluster"),
        (r#"{"op":"GET_ALL","cursor":"!"}"#, BadRequest, "unchanged"),
        (
            r#"{"op":"GET_ALL","r":1}"#,
            BadRequest,
            "GET_ALL has the field \"r\" only with \"scope\":\"cluster\"",
        ),
        (r#"{"op":"GET_ALL","scope":"node","level":"ALL"}"#, BadRequest, "the field \"level\" only with"),
        (
            r#"{"op":"GET_ONE","key":"a","want":["ring"]}"#,
            BadRequest,
            "of GET_ONE it may have context, receipt, raw",
        ),
        (r#"{"op":"MGET","keys":["a"],"want":["receipt"]}"#, BadRequest, "of MGET it may have context"),
        (r#"{"op":"STATUS","want":["raw"]}"#, BadRequest, "of STATUS it may have ring, report"),
        (r#"{"op":"MPUT"}"#, BadRequest, "needs the field \"items\""),
        (r#"{"op":"MGET","keys":[1]}"#, BadRequest, "a string"),
        (r#"{"op":"MPUT","items":[{"key":"a"}]}"#, BadRequest, "missing field `value`"),
    ];
    for (body, code, part) in cases {
        let (got, message) = refused(body);
        let shown = body.chars().take(80).collect::<String>();
        assert_eq!(got, *code, "{shown}: {message}");
        assert!(message.contains(part), "{shown}: {message}");
    }
}

/// Every field beside `op`, with a value that it may have.
const FIELDS: [(&str, &str); 22] = [
    ("key", r#""k""#),
    ("hash", r#""a921e3704fda881d""#),
    ("value", "1"),
    ("context", "{}"),
    ("request", r#""q""#),
    ("items", r#"[{"key":"a","value":1}]"#),
    ("keys", r#"["a"]"#),
    ("r", "1"),
    ("w", "1"),
    ("level", r#""ONE""#),
    ("quorum", r#""strict""#),
    ("want", "[]"),
    ("scope", r#""cluster""#),
    ("limit", "1"),
    ("cursor", r#""YQ""#),
    ("change", r#"{"op":"remove","node":"node-1"}"#),
    ("base", "1"),
    ("reach", "[]"),
    ("fault", r#"{"do":"fail"}"#),
    ("timeout_ms", "7"),
    ("epoch", "1"),
    ("id", "1"),
];

#[test]
fn a_field_of_other_operations_is_refused_and_the_error_names_those() {
    let put = "key hash value context request r w level quorum want timeout_ms epoch id";
    // What each operation needs, and all that it may have.
    let ops: [(&str, &[&str], &str); 17] = [
        ("PUT", &["key", "value"], put),
        ("INSERT", &["key", "value"], put),
        ("UPDATE", &["key", "value"], put),
        ("DELETE", &["key"], "key hash context request r w level quorum want timeout_ms epoch id"),
        ("GET_ONE", &["key"], "key hash r level quorum want timeout_ms epoch id"),
        ("MPUT", &["items"], "items request r w level quorum want timeout_ms epoch id"),
        ("MGET", &["keys"], "keys r level quorum want timeout_ms epoch id"),
        ("GET_ALL", &["scope"], "scope limit cursor r level timeout_ms epoch id"),
        ("SHOW_ALL", &[], "limit cursor timeout_ms epoch id"),
        ("SEARCH", &["key"], "key hash timeout_ms epoch id"),
        ("EXPLAIN", &["key"], "key hash timeout_ms epoch id"),
        ("STATUS", &[], "want timeout_ms epoch id"),
        ("PING", &[], "timeout_ms epoch id"),
        ("CONSENT", &["change", "base"], "change base reach timeout_ms epoch id"),
        ("ACCEPT_LOSS", &[], "timeout_ms epoch id"),
        ("FAULT", &["fault"], "fault timeout_ms epoch id"),
        ("REPAIR", &[], "timeout_ms epoch id"),
    ];
    let may = |all: &str, field: &str| all.split(' ').any(|one| one == field);
    for (op, needs, all) in ops {
        for (field, value) in FIELDS {
            let needed = FIELDS.iter().filter(|(f, _)| needs.contains(f) && *f != field);
            let rest: String = needed.map(|(f, v)| format!(r#","{f}":{v}"#)).collect();
            let body = format!(r#"{{"op":"{op}","{field}":{value}{rest}}}"#);
            if may(all, field) {
                assert!(read(&body).is_ok(), "{body}: {:?}", read(&body));
                continue;
            }
            let (code, message) = refused(&body);
            assert_eq!(code, Code::BadRequest, "{body}: {message}");
            assert!(message.contains(&format!("{op} has no field \"{field}\"")), "{body}: {message}");
            let have = ops.iter().filter(|(_, _, all)| may(all, field));
            have.for_each(|(other, ..)| assert!(message.contains(other), "{body}: {message}"));
        }
    }
}

#[test]
fn what_is_null_is_not_given() {
    assert!(read(r#"{"op":"PING","w":null,"key":null}"#).is_ok());
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let (_, failure) = parse(b"{\"op\":\"\xff\"}", None, &Limits::default()).unwrap_err();
    assert_eq!(failure.code, Code::BadJson);
    assert!(failure.message.contains("byte 7"), "{}", failure.message);
}

#[test]
fn the_id_is_echoed_even_where_the_request_is_refused() {
    assert_eq!(read(r#"{"op":"PING","id":{"a":[1.0]}}"#).unwrap().id.as_deref(), Some(r#"{"a":[1.0]}"#));
    assert_eq!(read(r#"{"op":"PING","id":null}"#).unwrap().id.as_deref(), Some("null"));
    assert_eq!(read(r#"{"op":"NONE","id":7}"#).unwrap_err().0.as_deref(), Some("7"));
    assert_eq!(read(r#"{"op":7,"id":"x"}"#).unwrap_err().0.as_deref(), Some("\"x\""));
    assert_eq!(read("{").unwrap_err().0, None);
    let long = format!(r#"{{"op":"PING","id":"{}"}}"#, "i".repeat(1 << 20));
    assert_eq!(read(&long).unwrap_err().0, None, "one that is too long is not sent back");
}

#[test]
fn a_second_frame_is_the_value_of_a_write_and_of_nothing_else() {
    let with = |body: &str| parse(body.as_bytes(), Some(&[0, 255]), &Limits::default());
    let Operation::One(KeyOp::Write(write)) = with(r#"{"op":"PUT","key":"k"}"#).unwrap().operation else {
        panic!("a write was sent");
    };
    assert_eq!(write.content, Content::Binary(Arc::from(&[0u8, 255][..])));
    assert!(with(r#"{"op":"PUT","key":"k","value":1}"#).unwrap_err().1.message.contains("twice"));
    assert!(with(r#"{"op":"GET_ONE","key":"k"}"#).unwrap_err().1.message.contains("second frame"));
}

#[test]
fn in_many_writes_each_key_has_its_own_outcome() {
    let body = r#"{"op":"MPUT","items":[{"key":"a","value":1},{"key":"","value":2},{"key":"a","value":3}],"request":"q"}"#;
    let Operation::Many(ops) = read(body).unwrap().operation else { panic!("MPUT was sent") };
    let request = |n: usize| match &ops[n] {
        Ok(KeyOp::Write(write)) => write.request.unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(ops[1].is_err());
    assert_ne!(request(0), request(2), "the same key twice is two writes");
}

#[test]
fn cursors_are_read_back_as_given() {
    let key = Key::new("a/é b").unwrap();
    let body = format!(r#"{{"op":"GET_ALL","limit":3,"cursor":"{}"}}"#, cursor(&key));
    let page = Page { limit: Some(3), after: Some(key) };
    assert_eq!(read(&body).unwrap().operation, Operation::GetAll(Scope::Led, page));
}

#[test]
fn a_message_over_the_maximum_is_refused_before_it_is_read() {
    let limits = Limits { message_bytes_max: 20, ..Limits::default() };
    let (_, failure) = parse(&[b' '; 21], None, &limits).unwrap_err();
    assert_eq!(failure.code, Code::TooLarge);
    assert!(failure.message.contains("21 bytes, 20"), "{}", failure.message);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&body, None, &Limits::default());
    }

    #[test]
    fn no_object_of_known_names_makes_the_reader_panic(
        fields in prop::collection::vec(("(op|key|value|id|r|level|timeout_ms|context|items|keys|limit|cursor|hash)",
            "(\"PUT\"|\"MGET\"|\"k\"|\"\\\\\\\\ud800\"|-1|1e9|null|\\[\\]|\\{\\}|\\[\\[\\[|true)"), 0..8)
    ) {
        let body = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(",");
        let _ = read(&format!("{{{body}}}"));
    }
}

#[test]
fn a_newcomer_is_not_sent_to_a_place_that_is_no_host() {
    let reach = |host: &str| {
        format!(
            r#"{{"op":"CONSENT","change":{{"op":"add","node":"node-1"}},"base":1,"reach":[{{"name":"node-0","incarnation":1,"host":"{host}","client":1,"peer":2,"http":3,"zone":"z","weight":100}}]}}"#
        )
    };
    assert!(read(&reach("10.0.0.1")).is_ok());
    for host in ["", "a b", r"a\u0000b", r"\n"] {
        assert!(refused(&reach(host)).1.contains("no host"), "{host}");
    }
}
