use std::time::{Duration, Instant};

use consul::{Behavior, Error, NewSession, Renewal};

use crate::server::{Server, cases, until};

cases!(
    a_session_lives_until_it_is_destroyed,
    one_session_holds_a_key_at_a_time,
    a_lock_survives_plain_writes,
    a_destroyed_session_frees_its_keys,
    a_destroyed_session_may_delete_its_keys,
    a_lock_delay_keeps_others_out,
    a_release_leaves_no_delay,
    sessions_that_never_were_cannot_lock,
);

fn session(server: &Server, lock_delay: Duration) -> String {
    let new = NewSession { name: server.name("s"), lock_delay, ..NewSession::default() };
    server.client.create_session(&new).unwrap()
}

fn a_session_lives_until_it_is_destroyed(server: &Server) {
    let client = &server.client;
    let new = NewSession {
        name: server.name("s"),
        ttl: Some(Duration::from_secs(10)),
        lock_delay: Duration::from_millis(1500),
        behavior: Behavior::Delete,
    };
    let id = client.create_session(&new).unwrap();
    let info = client.session(&id).unwrap().unwrap();
    assert_eq!((&info.id, &info.name, info.behavior), (&id, &new.name, Behavior::Delete));
    assert_eq!(info.lock_delay, new.lock_delay);
    assert_eq!(client.renew_session(&id).unwrap(), Renewal::Renewed(info));
    client.destroy_session(&id).unwrap();
    assert_eq!(client.session(&id).unwrap(), None);
    assert_eq!(client.renew_session(&id).unwrap(), Renewal::Gone);
    client.destroy_session(&id).unwrap();

    let short = NewSession { ttl: Some(Duration::from_secs(9)), ..new };
    let error = client.create_session(&short).expect_err("too short");
    assert!(matches!(&error, Error::Invalid(why) if why.contains("10 s")), "{error}");
}

fn one_session_holds_a_key_at_a_time(server: &Server) {
    let client = &server.client;
    let (first, second) = (session(server, Duration::ZERO), session(server, Duration::ZERO));
    let key = server.name("key");
    assert!(client.acquire(&key, "1", &first).unwrap());
    let locked = client.get(&key).unwrap().unwrap();
    assert_eq!((locked.session.as_deref(), locked.lock_index), (Some(first.as_str()), 1));
    assert!(client.acquire(&key, "1", &first).unwrap(), "its own lock");
    assert_eq!(client.get(&key).unwrap().unwrap(), locked, "nothing changed");
    assert!(!client.acquire(&key, "2", &second).unwrap());
    assert!(!client.release(&key, "2", &second).unwrap());
    assert!(!client.release(&server.name("absent"), "2", &first).unwrap());
    assert_eq!(client.get(&key).unwrap().unwrap(), locked);

    assert!(client.release(&key, "3", &first).unwrap());
    let free = client.get(&key).unwrap().unwrap();
    assert_eq!((free.session.as_deref(), free.lock_index, free.value.as_slice()), (None, 1, &b"3"[..]));
    assert!(client.acquire(&key, "4", &second).unwrap());
    let again = client.get(&key).unwrap().unwrap();
    assert_eq!((again.session.as_deref(), again.lock_index), (Some(second.as_str()), 2));
    assert!(again.modify_index > free.modify_index && free.modify_index > locked.modify_index);
}

fn a_lock_survives_plain_writes(server: &Server) {
    let client = &server.client;
    let id = session(server, Duration::ZERO);
    let key = server.name("key");
    assert!(client.acquire(&key, "1", &id).unwrap());
    client.put(&key, "2").unwrap();
    let entry = client.get(&key).unwrap().unwrap();
    assert_eq!((entry.session.as_deref(), entry.lock_index), (Some(id.as_str()), 0));
    assert!(client.put_if(&key, "3", entry.modify_index).unwrap());
    assert_eq!(client.get(&key).unwrap().unwrap().session, Some(id));
    client.delete(&key).unwrap();
    assert_eq!(client.get(&key).unwrap(), None);
}

fn a_destroyed_session_frees_its_keys(server: &Server) {
    let client = &server.client;
    let id = session(server, Duration::ZERO);
    let keys = [server.name("a"), server.name("b")];
    for key in &keys {
        assert!(client.acquire(key, "v", &id).unwrap());
    }
    let before = client.get(&keys[0]).unwrap().unwrap();
    client.destroy_session(&id).unwrap();
    for key in &keys {
        let entry = client.get(key).unwrap().unwrap();
        assert_eq!((entry.session, entry.lock_index, entry.value.as_slice()), (None, 1, &b"v"[..]));
        assert!(entry.modify_index > before.modify_index);
    }
    let next = session(server, Duration::ZERO);
    assert!(client.acquire(&keys[0], "w", &next).unwrap(), "without a lock delay");
}

fn a_destroyed_session_may_delete_its_keys(server: &Server) {
    let client = &server.client;
    let new = NewSession { behavior: Behavior::Delete, lock_delay: Duration::ZERO, ..NewSession::default() };
    let id = client.create_session(&new).unwrap();
    let (held, other) = (server.name("held"), server.name("other"));
    assert!(client.acquire(&held, "v", &id).unwrap());
    client.put(&other, "v").unwrap();
    client.destroy_session(&id).unwrap();
    assert_eq!(client.get(&held).unwrap(), None);
    assert!(client.get(&other).unwrap().is_some());
}

fn a_lock_delay_keeps_others_out(server: &Server) {
    let client = &server.client;
    let delay = Duration::from_secs(1);
    let (first, second) = (session(server, delay), session(server, delay));
    let key = server.name("key");
    assert!(client.acquire(&key, "1", &first).unwrap());
    let start = Instant::now();
    client.destroy_session(&first).unwrap();
    assert!(!client.acquire(&key, "2", &second).unwrap());
    client.put(&key, "3").unwrap();
    until("end of the lock delay", || client.acquire(&key, "2", &second).unwrap().then_some(()));
    assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
}

fn a_release_leaves_no_delay(server: &Server) {
    let client = &server.client;
    let delay = Duration::from_secs(60);
    let (first, second) = (session(server, delay), session(server, delay));
    let key = server.name("key");
    assert!(client.acquire(&key, "1", &first).unwrap());
    assert!(client.release(&key, "1", &first).unwrap());
    client.destroy_session(&first).unwrap();
    assert!(client.acquire(&key, "2", &second).unwrap());
}

fn sessions_that_never_were_cannot_lock(server: &Server) {
    let key = server.name("key");
    for id in ["zzz", "00000000-0000-0000-0000-000000000000"] {
        let error = server.client.acquire(&key, "v", id).expect_err("no such session");
        assert!(matches!(error, Error::Status { code: 500, .. }), "{error}");
    }
    assert!(!server.client.release(&key, "v", "zzz").unwrap());
    assert_eq!(server.client.get(&key).unwrap(), None);
}
