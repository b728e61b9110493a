use std::time::{Duration, Instant};

use consul::{CheckStatus, Event, Events, Registration, TtlCheck, WatchOptions};

use crate::server::{PATIENCE, Server, cases, until};

cases!(
    a_watch_tells_absence_then_each_new_content,
    a_watch_of_a_prefix_tells_its_entries,
    a_watch_of_a_service_tells_its_health,
    a_watch_that_is_dropped_ends_at_once,
);

fn changed<T: std::fmt::Debug>(events: &Events<T>) -> T {
    match events.next_within(PATIENCE) {
        Some(Event::Changed { value, .. }) => value,
        other => panic!("{other:?} instead of a change"),
    }
}

fn nothing<T: std::fmt::Debug>(events: &Events<T>, within: Duration) {
    let event = events.next_within(within);
    assert!(event.is_none(), "{event:?}");
}

fn a_watch_tells_absence_then_each_new_content(server: &Server) {
    let client = &server.client;
    let key = server.name("key");
    // A short wait, so that the query comes back with nothing new several times.
    let options = WatchOptions { wait: Duration::from_millis(100), ..WatchOptions::default() };
    let events = client.watch_key(&key).options(options).events().unwrap();
    assert_eq!(changed(&events), None);
    client.put(&key, "1").unwrap();
    assert_eq!(changed(&events).unwrap().value, b"1");
    client.put(&key, "1").unwrap();
    nothing(&events, Duration::from_millis(500));
    client.put(&key, "2").unwrap();
    assert_eq!(changed(&events).unwrap().value, b"2");
    client.delete(&key).unwrap();
    assert_eq!(changed(&events), None);
    nothing(&events, Duration::from_millis(300));
}

fn a_watch_of_a_prefix_tells_its_entries(server: &Server) {
    let client = &server.client;
    let prefix = server.name("d/");
    let events = client.watch_prefix(&prefix).events().unwrap();
    assert!(changed(&events).is_empty());
    client.put(&format!("{prefix}a"), "1").unwrap();
    assert_eq!(changed(&events).len(), 1);
    client.put(&server.name("outside"), "1").unwrap();
    client.put(&format!("{prefix}b"), "2").unwrap();
    let values: Vec<Vec<u8>> = changed(&events).into_iter().map(|entry| entry.value).collect();
    assert_eq!(values, [b"1", b"2"]);
    client.delete_prefix(&prefix).unwrap();
    assert!(changed(&events).is_empty());
}

fn a_watch_of_a_service_tells_its_health(server: &Server) {
    let client = &server.client;
    let name = server.name("web");
    let passing = client.watch_instances(&name, true).events().unwrap();
    assert!(changed(&passing).is_empty());
    let check = TtlCheck {
        id: server.name("check"),
        name: "alive".to_owned(),
        ttl: Duration::from_secs(600),
        status: CheckStatus::Critical,
        deregister_critical_service_after: None,
    };
    let new =
        Registration { id: name.clone(), name: name.clone(), check: Some(check), ..Registration::default() };
    client.register(&new).unwrap();
    client.update_check(&server.name("check"), CheckStatus::Passing, "").unwrap();
    assert_eq!(changed(&passing).len(), 1);
    client.update_check(&server.name("check"), CheckStatus::Critical, "").unwrap();
    assert!(changed(&passing).is_empty());
    client.deregister(&name).unwrap();
    nothing(&passing, Duration::from_millis(200));
}

fn a_watch_that_is_dropped_ends_at_once(server: &Server) {
    let key = server.name("key");
    let (sender, receiver) = std::sync::mpsc::channel();
    let watch = server.client.watch_key(&key).each(move |event| sender.send(event).unwrap()).unwrap();
    assert!(matches!(receiver.recv_timeout(PATIENCE), Ok(Event::Changed { value: None, .. })));
    let start = Instant::now();
    drop(watch);
    // Its thread is in the middle of a query of a minute, and drops the callback when it ends.
    until("end of the watch", || {
        (receiver.try_recv().err()? == std::sync::mpsc::TryRecvError::Disconnected).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.client.put(&key, "1").unwrap();
}
