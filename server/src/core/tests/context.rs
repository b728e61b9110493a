//! Contexts, end to end: what supersedes what.

use super::*;

fn alone() -> Bench {
    Bench::founded(0, &founding(1))
}

fn put_with(context: &str, value: u32) -> String {
    format!(r#"{{"op":"PUT","key":"k","value":{value},"context":{context},"want":["context"]}}"#)
}

fn values(bench: &mut Bench) -> Value {
    let reply = bench.asked(r#"{"op":"GET_ONE","key":"k"}"#);
    if reply["values"].is_array() { reply["values"].clone() } else { json(&format!("[{}]", reply["value"])) }
}

#[test]
fn an_empty_context_covers_nothing_and_a_full_one_settles() {
    let mut bench = alone();
    bench.asked(&put_with("{}", 1));
    bench.asked(&put_with("{}", 2));
    let reply = bench.asked(r#"{"op":"GET_ONE","key":"k"}"#);
    assert_eq!(reply["values"], json("[2,1]"), "newest first");
    assert_eq!(reply["value"], 2);
    bench.asked(&put_with(&reply["context"].to_string(), 3));
    assert_eq!(bench.asked(r#"{"op":"GET_ONE","key":"k"}"#), json(r#"{"key":"k","value":3}"#));
}

#[test]
fn a_stale_context_leaves_what_it_did_not_see() {
    let mut bench = alone();
    let first = bench.asked(&put_with("{}", 1))["context"].clone();
    let second = bench.asked(&put_with(&first.to_string(), 2))["context"].clone();
    assert_ne!(first, second);
    bench.asked(&put_with(&first.to_string(), 3));
    assert_eq!(values(&mut bench), json("[3,2]"), "both wrote after the first");
    bench.asked(r#"{"op":"PUT","key":"k","value":4}"#);
    assert_eq!(values(&mut bench), json("[4]"), "an overwrite supersedes all that is held");
}

#[test]
fn foreign_names_are_kept_and_cover_nothing() {
    let mut bench = alone();
    bench.asked(&put_with("{}", 1));
    let reply = bench.asked(&put_with(r#"{"192.168.1.69":2}"#, 2));
    assert_eq!(reply["context"]["192.168.1.69"], 2);
    assert_eq!(values(&mut bench), json("[2,1]"));
    let context = bench.asked(r#"{"op":"GET_ONE","key":"k"}"#)["context"].to_string();
    let settled = bench.asked(&put_with(&context, 3));
    assert_eq!(settled["context"]["192.168.1.69"], 2, "kept with the key");
    assert_eq!(values(&mut bench), json("[3]"));
    assert_eq!(code(&bench.asked(&put_with("[]", 1))), "BAD_REQUEST");
}

#[test]
fn a_delete_with_a_context_deletes_what_it_saw() {
    let mut bench = alone();
    let first = bench.asked(&put_with("{}", 1))["context"].clone();
    bench.asked(&put_with("{}", 2));
    let delete = |context: &Value| format!(r#"{{"op":"DELETE","key":"k","context":{context}}}"#);
    assert_eq!(bench.asked(&delete(&first)), ok());
    assert_eq!(values(&mut bench), json("[2]"), "the sibling that it did not see stays");
    let context = bench.asked(r#"{"op":"GET_ONE","key":"k","want":["context"]}"#)["context"].clone();
    assert_eq!(bench.asked(&delete(&context)), ok());
    assert_eq!(code(&bench.asked(r#"{"op":"GET_ONE","key":"k"}"#)), "KEY_NOT_FOUND");
    // What was seen before the delete does not bring the key back beside anything.
    bench.asked(&put_with(&context.to_string(), 5));
    assert_eq!(values(&mut bench), json("[5]"));
}

fn refusal(reply: &Value) -> (&str, &str) {
    (code(reply), reply["message"].as_str().unwrap())
}

#[test]
fn a_key_takes_no_more_siblings_than_a_client_can_settle() {
    let mut bench = alone();
    for n in 0..100 {
        assert_eq!(bench.asked(&put_with("{}", n))["status"], "OK");
    }
    let refused = bench.asked(&put_with("{}", 100));
    let (code, message) = refusal(&refused);
    assert_eq!(code, "TOO_LARGE");
    assert!(message.contains("101 siblings, 100 are allowed: GET_ONE it, then PUT"), "{message}");
    // As the message says.
    let context = bench.asked(r#"{"op":"GET_ONE","key":"k"}"#)["context"].to_string();
    assert_eq!(bench.asked(&put_with(&context, 7))["status"], "OK");
    assert_eq!(values(&mut bench), json("[7]"));
}

#[test]
fn siblings_together_stay_well_below_a_message() {
    let mut bench = alone();
    let long = "v".repeat(900);
    let put = format!(r#"{{"op":"PUT","key":"k","value":"{long}","context":{{}}}}"#);
    // A quarter of 20,000 bytes takes five values of 902.
    for _ in 0..5 {
        assert_eq!(bench.asked(&put), ok());
    }
    let refused = bench.asked(&put);
    let (code, message) = refusal(&refused);
    assert_eq!(code, "TOO_LARGE");
    assert!(message.contains("6 siblings would have 5412 bytes, 5000 are allowed"), "{message}");
    assert_eq!(bench.asked(r#"{"op":"PUT","key":"k","value":1}"#), ok(), "an overwrite always finds room");
}

#[test]
fn a_keys_context_can_always_be_sent_back() {
    let mut bench = alone();
    bench.node.id.limits.message_bytes_max = 1 << 20;
    let names = |from: usize, n: usize| -> String {
        let names: Vec<String> = (from..from + n).map(|n| format!(r#""10.0.0.{n}":1"#)).collect();
        format!("{{{}}}", names.join(","))
    };
    assert_eq!(bench.asked(&put_with(&names(0, 1023), 1))["status"], "OK");
    let refused = bench.asked(&put_with(&names(1023, 1), 2));
    let (code, message) = refusal(&refused);
    assert_eq!(code, "TOO_LARGE");
    assert!(message.contains("1025 entries before the write adds its own, 1023 are allowed"), "{message}");
    let context = bench.asked(r#"{"op":"GET_ONE","key":"k","want":["context"]}"#)["context"].clone();
    assert_eq!(context.as_object().unwrap().len(), 1024);
    assert_eq!(bench.asked(&put_with(&context.to_string(), 3))["status"], "OK");
    // Invented names of our own form are names, too.
    let invented: Vec<String> = (0..1000).map(|n| format!(r#""node-9.{n:032x}":1"#)).collect();
    assert_eq!(refusal(&bench.asked(&put_with(&format!("{{{}}}", invented.join(",")), 4))).0, "TOO_LARGE");
    assert_eq!(values(&mut bench), json("[3]"));
    assert_eq!(bench.asked(r#"{"op":"PUT","key":"k","value":5}"#), ok());
}

#[test]
fn a_counter_that_a_client_invented_hides_no_later_write() {
    let mut bench = alone();
    let key = Key::new("k").unwrap();
    let context = bench.asked(&put_with("{}", 1))["context"].clone();
    let own = context.as_object().unwrap().keys().next().unwrap().clone();
    let invented = format!(r#"{{"{own}":9007199254740991}}"#);
    assert_eq!(bench.asked(&put_with(&invented, 2))["status"], "OK");
    // What another owner got before the next write, and what it is told after it.
    let mut elsewhere = bench.store.read(&key);
    assert_eq!(bench.asked(r#"{"op":"PUT","key":"k","value":3}"#), ok());
    elsewhere.join(&bench.store.read(&key));
    assert_eq!(elsewhere, bench.store.read(&key), "the other owner has the write too");
    assert_eq!(elsewhere.values().len(), 1);
    assert_eq!(elsewhere.values()[0].content.bytes(), b"3");
}
