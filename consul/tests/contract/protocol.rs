//! What goes over the wire: blocking queries, refusals and their words.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use consul::{Entry, Indexed, Query};

use crate::server::{PATIENCE, Server, cases};

cases!(
    a_waiting_read_returns_when_its_key_changes,
    a_waiting_read_of_an_absent_key_returns_when_it_is_made,
    a_waiting_read_returns_when_its_key_is_deleted,
    a_waiting_list_returns_for_its_prefix_only,
    a_deletion_raises_the_index_of_its_prefix,
    a_read_with_an_old_index_returns_at_once,
    a_wait_ends_with_its_time,
    refusals_have_consuls_status_and_words,
    paths_are_cleaned_by_a_redirect,
    unknown_paths_are_no_success,
);

fn reading(server: &Server, key: &str, index: u64) -> JoinHandle<(Indexed<Option<Entry>>, Duration)> {
    let (client, key) = (server.client.clone(), key.to_owned());
    std::thread::spawn(move || {
        let start = Instant::now();
        let query = Query { index, wait: PATIENCE, ..Query::default() };
        (client.get_with(&key, &query).unwrap(), start.elapsed())
    })
}

fn a_waiting_read_returns_when_its_key_changes(server: &Server) {
    let key = server.name("key");
    server.client.put(&key, "a").unwrap();
    let index = server.client.get(&key).unwrap().unwrap().modify_index;
    let reader = reading(server, &key, index);
    server.client.put(&key, "b").unwrap();
    let (seen, waited) = reader.join().unwrap();
    assert_eq!(seen.value.unwrap().value, b"b");
    assert!(seen.index > index && waited < PATIENCE / 2, "{} after {waited:?}", seen.index);
}

fn a_waiting_read_of_an_absent_key_returns_when_it_is_made(server: &Server) {
    let key = server.name("key");
    let mut index = server.client.get_with(&key, &Query::default()).unwrap().index;
    let client = server.client.clone();
    let maker = {
        let key = key.clone();
        std::thread::spawn(move || client.put(&key, "a").unwrap())
    };
    // Another case's writes may wake the wait: a return is not a change.
    let end = Instant::now() + PATIENCE / 2;
    loop {
        let query = Query { index, wait: PATIENCE, ..Query::default() };
        let seen = server.client.get_with(&key, &query).unwrap();
        if seen.value.is_some() {
            break;
        }
        assert!(Instant::now() < end, "never seen");
        index = seen.index;
    }
    maker.join().unwrap();
}

fn a_waiting_read_returns_when_its_key_is_deleted(server: &Server) {
    let key = server.name("key");
    server.client.put(&key, "a").unwrap();
    let index = server.client.get(&key).unwrap().unwrap().modify_index;
    let reader = reading(server, &key, index);
    server.client.delete(&key).unwrap();
    let (seen, waited) = reader.join().unwrap();
    assert_eq!(seen.value, None);
    assert!(seen.index > index && waited < PATIENCE / 2, "{} after {waited:?}", seen.index);
}

fn a_waiting_list_returns_for_its_prefix_only(server: &Server) {
    let client = &server.client;
    client.put(&server.name("in/a"), "1").unwrap();
    let index = client.list_with(&server.name("in/"), &Query::default()).unwrap().index;
    let wait = Duration::from_millis(500);
    let outside = {
        let (client, key) = (client.clone(), server.name("out/a"));
        std::thread::spawn(move || (0..20).for_each(|round| client.put(&key, round.to_string()).unwrap()))
    };
    let start = Instant::now();
    let seen = client.list_with(&server.name("in/"), &Query { index, wait, ..Query::default() }).unwrap();
    outside.join().unwrap();
    assert_eq!(seen.index, index);
    assert!(start.elapsed() >= wait, "woken by a key outside");

    let inside = {
        let (client, key) = (client.clone(), server.name("in/b"));
        std::thread::spawn(move || client.put(&key, "2").unwrap())
    };
    let seen =
        client.list_with(&server.name("in/"), &Query { index, wait: PATIENCE, ..Query::default() }).unwrap();
    inside.join().unwrap();
    assert!(seen.index > index);
    assert_eq!(seen.value.len(), 2);
}

fn a_deletion_raises_the_index_of_its_prefix(server: &Server) {
    let client = &server.client;
    client.put(&server.name("d/a"), "").unwrap();
    client.put(&server.name("d/b"), "").unwrap();
    let index = || client.list_with(&server.name("d/"), &Query::default()).unwrap().index;
    let first = index();
    client.delete(&server.name("d/b")).unwrap();
    let second = index();
    assert!(second > first);
    client.delete(&server.name("d/absent")).unwrap();
    assert_eq!(index(), second);
    client.delete_prefix(&server.name("d/")).unwrap();
    assert!(index() > second);
}

fn a_read_with_an_old_index_returns_at_once(server: &Server) {
    let key = server.name("key");
    server.client.put(&key, "a").unwrap();
    let start = Instant::now();
    let query = Query { index: 1, wait: PATIENCE, ..Query::default() };
    assert!(server.client.get_with(&key, &query).unwrap().index > 1);
    assert!(server.client.list_with(&key, &query).unwrap().index > 1);
    assert!(start.elapsed() < PATIENCE / 2);
}

fn a_wait_ends_with_its_time(server: &Server) {
    let key = server.name("key");
    server.client.put(&key, "a").unwrap();
    let index = server.client.get(&key).unwrap().unwrap().modify_index;
    let wait = Duration::from_millis(320);
    let start = Instant::now();
    // An index from the future waits as well.
    for index in [index, index + 1_000_000] {
        let seen = server.client.get_with(&key, &Query { index, wait, ..Query::default() }).unwrap();
        assert_eq!(seen.value.unwrap().value, b"a");
    }
    assert!(start.elapsed() >= 2 * wait && start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

fn refusals_have_consuls_status_and_words(server: &Server) {
    let nobody = "00000000-0000-0000-0000-000000000000";
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("GET", "/v1/kv/", "", 400, "Missing key name"),
        ("PUT", "/v1/kv/", "x", 400, "Missing key name"),
        ("DELETE", "/v1/kv/", "", 400, "Missing key name"),
        ("POST", "/v1/kv/K", "x", 405, "method POST not allowed"),
        ("PUT", "/v1/kv/K?cas=abc", "x", 500, "strconv.ParseUint: parsing \"abc\": invalid syntax"),
        ("PUT", "/v1/kv/K?flags=-1", "x", 500, "strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ("DELETE", "/v1/kv/K?cas=abc", "", 500, "strconv.ParseUint: parsing \"abc\": invalid syntax"),
        ("PUT", "/v1/kv/K?cas=0&acquire=3", "x", 400, "Conflicting flags: acquire=3&cas=0"),
        ("DELETE", "/v1/kv/K?cas=0&recurse", "", 400, "Conflicting flags: cas=0&recurse="),
        ("GET", "/v1/kv/K?index=abc", "", 400, "Invalid index"),
        ("GET", "/v1/kv/K?index=-1", "", 400, "Invalid index"),
        ("GET", "/v1/kv/K?index=9&wait=abc", "", 400, "Invalid wait time"),
        (
            "GET",
            "/v1/kv/K?consistent&stale",
            "",
            400,
            "Cannot specify ?stale with ?consistent, conflicting semantics.",
        ),
        ("GET", "/v1/kv/K?dc=elsewhere", "", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/K?acquire=zzz", "x", 500, "UUID must be 36 characters"),
        ("PUT", "/v1/kv/K?acquire=NOBODY", "x", 500, "invalid session \"NOBODY\""),
        ("GET", "/v1/session/create", "", 405, "method GET not allowed"),
        ("PUT", "/v1/session/create", "garbage", 400, "Request decode failed"),
        (
            "PUT",
            "/v1/session/create",
            r#"{"TTL":"9s"}"#,
            500,
            "Invalid Session TTL '9000000000', must be between [10s=24h0m0s]",
        ),
        ("PUT", "/v1/session/create", r#"{"TTL":"25h"}"#, 500, "Invalid Session TTL '90000000000000'"),
        ("PUT", "/v1/session/create", r#"{"TTL":"abc"}"#, 500, "Session TTL 'abc' invalid"),
        ("PUT", "/v1/session/create", r#"{"Behavior":"x"}"#, 500, "Invalid Behavior setting 'x'"),
        ("PUT", "/v1/session/create", r#"{"LockDelay":"abc"}"#, 400, "Request decode failed"),
        ("PUT", "/v1/session/create", r#"{"Node":"elsewhere"}"#, 500, "Missing node registration"),
        ("PUT", "/v1/session/create", r#"{"Checks":["none"]}"#, 500, "Missing check 'none' registration"),
        ("PUT", "/v1/session/renew/zzz", "", 500, "UUID must be 36 characters"),
        ("PUT", "/v1/session/renew/NOBODY", "", 404, "Session id 'NOBODY' not found"),
        ("GET", "/v1/session/info/zzz", "", 500, "UUID must be 36 characters"),
        ("PUT", "/v1/session/destroy/zzz", "", 500, "UUID must be 36 characters"),
        ("PUT", "/v1/agent/service/register", "x", 400, "Request decode failed"),
        ("PUT", "/v1/agent/service/register", "{}", 400, "Missing service name"),
        ("PUT", "/v1/agent/service/register", r#"{"Name":"x","Bogus":3}"#, 400, "Request decode failed"),
        (
            "PUT",
            "/v1/agent/service/register",
            r#"{"Name":"x","Check":{"Name":"y"}}"#,
            400,
            "Invalid check: TTL must be > 0",
        ),
        (
            "PUT",
            "/v1/agent/service/register",
            r#"{"Name":"x","Check":{"TTL":"y"}}"#,
            400,
            "Request decode failed",
        ),
        (
            "PUT",
            "/v1/agent/service/register",
            r#"{"Name":"x","Meta":{"a b":"c"}}"#,
            400,
            "Key contains invalid characters",
        ),
        (
            "PUT",
            "/v1/agent/service/register",
            r#"{"Name":"x","Check":{"TTL":"1s","Status":"y"}}"#,
            400,
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        ("PUT", "/v1/agent/check/pass/absent", "", 500, "CheckID \"absent\" does not have associated TTL"),
        ("PUT", "/v1/agent/check/update/absent", r#"{"Status":"x"}"#, 400, "Invalid check status: 'x'"),
        ("GET", "/v1/agent/check/pass/absent", "", 405, "method GET not allowed"),
        ("DELETE", "/v1/catalog/services", "", 405, "method DELETE not allowed"),
        ("GET", "/v1/health/service/", "", 400, "Missing service name"),
        ("GET", "/v1/health/service/x?passing=y", "", 400, "Invalid value for ?passing"),
    ];
    for (method, path, body, status, words) in cases {
        let path = path.replace('K', &server.name("key")).replace("NOBODY", nobody);
        let (got, _, text) = server.raw(method, &path, body.as_bytes());
        assert_eq!(got, *status, "{method} {path}: {text}");
        assert!(text.contains(&words.replace("NOBODY", nobody)), "{method} {path}: {text}");
    }
}

fn paths_are_cleaned_by_a_redirect(server: &Server) {
    for path in ["/v1/kv/a//b", "/v1/kv//a", "/v1/kv/%2Fa", "/v1/kv/a%2F%2Fb", "/v1/kv/a/%2E%2E/b"] {
        let (status, _, _) = server.raw("PUT", path, b"x");
        assert_eq!(status, 301, "{path}");
    }
}

fn unknown_paths_are_no_success(server: &Server) {
    for path in
        ["/v1/nonsense/x", "/v1/agent/nonsense", "/v1/session/nonsense", "/v2/kv/a", "/v1/catalog/nonsense/x"]
    {
        let (status, _, _) = server.raw("GET", path, b"");
        assert!(matches!(status, 404 | 501), "{path}: {status}");
    }
}
