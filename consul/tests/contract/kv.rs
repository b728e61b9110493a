use std::time::{Duration, Instant};

use consul::{Error, Query};

use crate::server::{Server, cases};

cases!(
    an_absent_key_is_none,
    bytes_come_back_as_they_were_put,
    keys_may_hold_any_text,
    a_list_is_sorted_and_ends_with_its_prefix,
    keys_are_cut_at_a_separator,
    the_same_value_again_changes_nothing,
    a_plain_put_changes_flags_too,
    compare_and_set_at_zero_only_creates,
    compare_and_set_needs_the_right_index,
    a_deletion_may_be_conditional,
    a_prefix_is_deleted_and_no_more,
    a_key_made_again_has_a_new_create_index,
    a_value_may_have_512_kib_and_no_more,
    a_consistent_read_sees_what_was_just_written,
);

fn an_absent_key_is_none(server: &Server) {
    let key = server.name("key");
    assert_eq!(server.client.get(&key).unwrap(), None);
    let (status, index, body) = server.raw("GET", &format!("/v1/kv/{key}"), b"");
    assert_eq!((status, body.as_str()), (404, ""));
    assert!(index.unwrap() >= 1, "an index of 0 would make a watch spin");
    assert!(server.client.list(&key).unwrap().is_empty());
    assert!(server.client.keys(&key, None).unwrap().is_empty());
    server.client.delete(&key).unwrap();
    server.client.delete_prefix(&key).unwrap();
}

fn bytes_come_back_as_they_were_put(server: &Server) {
    let client = &server.client;
    let all: Vec<u8> = (0..=255).collect();
    for value in [&b""[..], b"4", b" \n", &all] {
        let key = server.name("key");
        client.put(&key, value).unwrap();
        assert_eq!(client.get(&key).unwrap().unwrap().value, value);
        assert_eq!(client.list(&key).unwrap()[0].value, value);
    }
    let key = server.name("raw");
    client.put(&key, "4").unwrap();
    let (status, index, body) = server.raw("GET", &format!("/v1/kv/{key}?raw"), b"");
    assert_eq!((status, body.as_str()), (200, "4"));
    assert_eq!(index, Some(client.get(&key).unwrap().unwrap().modify_index));
}

fn keys_may_hold_any_text(server: &Server) {
    let client = &server.client;
    for name in ["a/b/c", "sp ace", "pl+us", "q?m=1&n#f", "per%20cent", "é/日本", "dir/", "a=b;c:d@e"] {
        let key = server.name(name);
        client.put(&key, name).unwrap();
        let entry = client.get(&key).unwrap().unwrap();
        assert_eq!((entry.key.as_str(), entry.value.as_slice()), (key.as_str(), name.as_bytes()));
        assert_eq!(client.keys(&key, None).unwrap(), [key.as_str()]);
        client.delete(&key).unwrap();
        assert_eq!(client.get(&key).unwrap(), None);
    }
}

fn a_list_is_sorted_and_ends_with_its_prefix(server: &Server) {
    let client = &server.client;
    for name in ["dir/b", "dir/a", "dir/c/d", "dir-x", "di"] {
        client.put(&server.name(name), name).unwrap();
    }
    let list = client.list(&server.name("dir/")).unwrap();
    let values: Vec<&[u8]> = list.iter().map(|entry| entry.value.as_slice()).collect();
    assert_eq!(values, [&b"dir/a"[..], b"dir/b", b"dir/c/d"]);
    assert_eq!(client.list(&server.name("di")).unwrap().len(), 5);
    assert!(list.iter().all(|entry| entry.create_index == entry.modify_index && entry.lock_index == 0));
}

fn keys_are_cut_at_a_separator(server: &Server) {
    let client = &server.client;
    for name in ["d/b", "d/c/x", "d/c/y", "d/e/z"] {
        client.put(&server.name(name), "").unwrap();
    }
    let names = |names: &[&str]| names.iter().map(|name| server.name(name)).collect::<Vec<_>>();
    assert_eq!(client.keys(&server.name("d/"), None).unwrap(), names(&["d/b", "d/c/x", "d/c/y", "d/e/z"]));
    assert_eq!(client.keys(&server.name("d/"), Some("/")).unwrap(), names(&["d/b", "d/c/", "d/e/"]));
    assert_eq!(client.keys(&server.name("d"), Some("/")).unwrap(), names(&["d/"]));
    assert_eq!(client.keys(&server.name("d/c"), Some("/")).unwrap(), names(&["d/c/"]));
}

fn the_same_value_again_changes_nothing(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    client.put(&key, "4").unwrap();
    let before = client.get(&key).unwrap().unwrap();
    // A reader that waits for a change is not woken either.
    let waiting = client.clone();
    let query = Query { index: before.modify_index, wait: Duration::from_millis(700), ..Query::default() };
    let reader = std::thread::spawn({
        let key = key.clone();
        move || {
            let start = Instant::now();
            (waiting.get_with(&key, &query).unwrap(), start.elapsed())
        }
    });
    let end = Instant::now() + Duration::from_millis(400);
    while Instant::now() < end {
        client.put(&key, "4").unwrap();
        assert!(client.put_if(&key, "4", before.modify_index).unwrap());
    }
    assert_eq!(client.get(&key).unwrap().unwrap(), before);
    let (seen, waited) = reader.join().unwrap();
    assert_eq!(seen.value.unwrap(), before);
    assert!(waited >= query.wait, "woken after {waited:?}");
}

fn a_plain_put_changes_flags_too(server: &Server) {
    let key = server.name("key");
    let path = format!("/v1/kv/{key}");
    server.client.put(&key, "4").unwrap();
    let first = server.client.get(&key).unwrap().unwrap();
    assert_eq!(server.raw("PUT", &format!("{path}?flags=7"), b"4").0, 200);
    let second = server.client.get(&key).unwrap().unwrap();
    assert_eq!((second.flags, second.create_index), (7, first.create_index));
    assert!(second.modify_index > first.modify_index);
    server.client.put(&key, "4").unwrap();
    let third = server.client.get(&key).unwrap().unwrap();
    assert_eq!(third.flags, 0);
    assert!(third.modify_index > second.modify_index);
}

fn compare_and_set_at_zero_only_creates(server: &Server) {
    let key = server.name("key");
    assert!(server.client.put_if(&key, "a", 0).unwrap());
    assert!(!server.client.put_if(&key, "b", 0).unwrap());
    assert!(!server.client.put_if(&key, "a", 0).unwrap());
    assert_eq!(server.client.get(&key).unwrap().unwrap().value, b"a");
}

fn compare_and_set_needs_the_right_index(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    assert!(!client.put_if(&key, "a", 5).unwrap(), "there is no key");
    client.put(&key, "a").unwrap();
    let first = client.get(&key).unwrap().unwrap().modify_index;
    assert!(!client.put_if(&key, "b", first + 1).unwrap());
    assert!(client.put_if(&key, "b", first).unwrap());
    let second = client.get(&key).unwrap().unwrap();
    assert!(second.modify_index > first);
    assert!(!client.put_if(&key, "c", first).unwrap());
    assert_eq!(client.get(&key).unwrap().unwrap(), second);
}

fn a_deletion_may_be_conditional(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    assert!(client.delete_if(&key, 5).unwrap(), "what is not there is gone");
    client.put(&key, "a").unwrap();
    let index = client.get(&key).unwrap().unwrap().modify_index;
    assert!(!client.delete_if(&key, 0).unwrap());
    assert!(!client.delete_if(&key, index - 1).unwrap());
    assert!(client.get(&key).unwrap().is_some());
    assert!(client.delete_if(&key, index).unwrap());
    assert_eq!(client.get(&key).unwrap(), None);
}

fn a_prefix_is_deleted_and_no_more(server: &Server) {
    let client = &server.client;
    for name in ["d/a", "d/b/c", "d", "da"] {
        client.put(&server.name(name), "").unwrap();
    }
    client.delete_prefix(&server.name("d/")).unwrap();
    assert_eq!(client.keys(&server.name(""), None).unwrap(), [server.name("d"), server.name("da")]);
    client.delete_prefix("").expect_err("everything");
}

fn a_key_made_again_has_a_new_create_index(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    client.put(&key, "a").unwrap();
    let first = client.get(&key).unwrap().unwrap();
    client.put(&key, "b").unwrap();
    assert_eq!(client.get(&key).unwrap().unwrap().create_index, first.create_index);
    client.delete(&key).unwrap();
    client.put(&key, "a").unwrap();
    assert!(client.get(&key).unwrap().unwrap().create_index > first.modify_index);
}

fn a_value_may_have_512_kib_and_no_more(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    let value = vec![b'x'; 512 << 10];
    client.put(&key, &value).unwrap();
    assert_eq!(client.get(&key).unwrap().unwrap().value, value);
    for bytes in [(512 << 10) + 1, 5 << 20, 20 << 20] {
        match client.put(&key, vec![b'y'; bytes]) {
            Err(Error::TooLarge { bytes: told, .. }) => assert_eq!(told, bytes),
            other => panic!("{bytes} bytes: {other:?}"),
        }
    }
    assert_eq!(client.get(&key).unwrap().unwrap().value, value);
    client.delete(&key).unwrap();
}

fn a_consistent_read_sees_what_was_just_written(server: &Server) {
    let key = server.name("key");
    for round in 0..20 {
        server.client.put(&key, round.to_string()).unwrap();
        let seen = server.client.get_with(&key, &Query::consistent()).unwrap();
        assert_eq!(seen.value.unwrap().value, round.to_string().as_bytes());
    }
}
