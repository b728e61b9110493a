use std::sync::mpsc;
use std::time::{Duration, Instant};

use consul::{LockOptions, Lost};

use crate::server::{PATIENCE, Server, cases, until};

cases!(
    one_holds_the_lock_and_the_next_gets_it_at_release,
    a_dropped_lock_is_given_back,
    a_waiter_gets_the_lock_when_it_is_free,
    a_waiter_gives_up_in_time,
    the_holder_is_told_when_its_session_is_destroyed,
    the_holder_is_told_when_the_key_is_deleted,
);

pub fn options(server: &Server) -> LockOptions {
    LockOptions {
        name: server.name("lock"),
        ttl: Duration::from_secs(10),
        lock_delay: Duration::from_millis(1),
    }
}

fn never(lost: Lost) {
    panic!("the lock was lost: {lost:?}");
}

fn one_holds_the_lock_and_the_next_gets_it_at_release(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    let first = client.try_lock(&key, "first", &options(server), never).unwrap().unwrap();
    let entry = client.get(&key).unwrap().unwrap();
    assert_eq!((entry.modify_index, entry.lock_index), (first.modify_index(), first.lock_index()));
    assert_eq!(entry.session.as_deref(), Some(first.session()));
    assert!(first.is_held() && first.lost().is_none());
    assert!(client.try_lock(&key, "second", &options(server), never).unwrap().is_none());

    assert!(first.release().unwrap());
    let second = client.try_lock(&key, "second", &options(server), never).unwrap().unwrap();
    assert!(second.modify_index() > entry.modify_index);
    assert_eq!(second.lock_index(), 2);
    assert!(second.release().unwrap());
}

fn a_dropped_lock_is_given_back(server: &Server) {
    let key = server.name("key");
    let lock = server.client.try_lock(&key, "v", &options(server), never).unwrap().unwrap();
    let session = lock.session().to_owned();
    let start = Instant::now();
    drop(lock);
    assert!(start.elapsed() < Duration::from_secs(1), "a drop must not wait");
    until("end of the lock", || server.client.get(&key).unwrap().unwrap().session.is_none().then_some(()));
    until("end of the session", || server.client.session(&session).unwrap().is_none().then_some(()));
}

fn a_waiter_gets_the_lock_when_it_is_free(server: &Server) {
    let key = server.name("key");
    let first = server.client.try_lock(&key, "first", &options(server), never).unwrap().unwrap();
    let waiter = {
        let (client, key, options) = (server.client.clone(), key.clone(), options(server));
        std::thread::spawn(move || client.lock_within(PATIENCE, &key, "second", &options, never).unwrap())
    };
    assert!(first.release().unwrap());
    let second = waiter.join().unwrap().expect("the lock");
    assert!(second.is_held());
    assert_eq!(server.client.get(&key).unwrap().unwrap().value, b"second");
    second.release().unwrap();
}

fn a_waiter_gives_up_in_time(server: &Server) {
    let key = server.name("key");
    let first = server.client.try_lock(&key, "first", &options(server), never).unwrap().unwrap();
    let start = Instant::now();
    let patience = Duration::from_millis(300);
    let second = server.client.lock_within(patience, &key, "second", &options(server), never).unwrap();
    assert!(second.is_none());
    assert!(start.elapsed() >= patience && start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    first.release().unwrap();
}

fn the_holder_is_told_when_its_session_is_destroyed(server: &Server) {
    let key = server.name("key");
    let (sender, receiver) = mpsc::channel();
    let tell = move |lost| sender.send(lost).unwrap();
    let lock = server.client.try_lock(&key, "v", &options(server), tell).unwrap().unwrap();
    server.client.destroy_session(lock.session()).unwrap();
    // Seen at the key, or at a renewal, whichever comes first.
    let lost = receiver.recv_timeout(PATIENCE).expect("told");
    assert!(matches!(lost, Lost::KeyTaken | Lost::SessionGone), "{lost:?}");
    assert_eq!((lock.is_held(), lock.lost()), (false, Some(lost)));
    assert!(!lock.release().unwrap());
}

fn the_holder_is_told_when_the_key_is_deleted(server: &Server) {
    let key = server.name("key");
    let (sender, receiver) = mpsc::channel();
    let tell = move |lost| sender.send(lost).unwrap();
    let lock = server.client.try_lock(&key, "v", &options(server), tell).unwrap().unwrap();
    server.client.delete(&key).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(Lost::KeyTaken));
    assert!(!lock.is_held());
}
