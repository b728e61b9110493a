use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use consul::{CheckStatus, Instance, Query, Registration, TtlCheck, TtlUpdate};

use crate::server::{PATIENCE, Server, cases, until};

cases!(
    a_registered_service_is_found,
    a_check_says_whether_a_service_passes,
    a_check_without_updates_turns_critical,
    an_unknown_check_is_told_apart,
    registering_again_keeps_the_checks_status,
    registering_again_replaces_checks_and_address,
    a_heartbeat_wakes_nobody_and_a_change_does,
    two_instances_are_two,
    tags_select_instances,
    a_long_note_is_cut,
    the_agent_tells_who_it_is,
);

pub fn registration(server: &Server, ttl: Duration) -> Registration {
    Registration {
        id: server.name("1"),
        name: server.name("web"),
        address: "127.0.0.9".to_owned(),
        port: 2001,
        tags: vec!["node-1".to_owned(), "zone-a".to_owned()],
        meta: BTreeMap::from([("http_port".to_owned(), "7001".to_owned())]),
        check: Some(TtlCheck {
            id: server.name("check"),
            name: "alive".to_owned(),
            ttl,
            status: CheckStatus::Critical,
            deregister_critical_service_after: Some(Duration::from_secs(60)),
        }),
    }
}

pub const LONG: Duration = Duration::from_secs(600);

/// The catalog follows the agent, in Consul a moment later.
fn instance(server: &Server, wanted: CheckStatus) -> Instance {
    until("instance with the status", || {
        let found = server.client.instances(&server.name("web"), false).unwrap();
        found.into_iter().find(|instance| instance.status() == wanted)
    })
}

fn a_registered_service_is_found(server: &Server) {
    let client = &server.client;
    let new = registration(server, LONG);
    assert!(client.instances(&new.name, false).unwrap().is_empty());
    client.register(&new).unwrap();

    let known = client.agent_services().unwrap().remove(&new.id).unwrap();
    assert_eq!((&known.name, &known.address, known.port), (&new.name, &new.address, new.port));
    assert_eq!((&known.tags, &known.meta), (&new.tags, &new.meta));

    let found = instance(server, CheckStatus::Critical);
    assert_eq!(found.service, known);
    assert_eq!((found.address(), found.node.address.as_str()), ("127.0.0.9", "127.0.0.1"));
    let ids: Vec<&str> = found.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["serfHealth", &server.name("check")]);
    assert_eq!(found.checks[1].service_id, new.id);
    let tags: Vec<&str> = client.catalog_services().unwrap()[&new.name].iter().map(|_| "tag").collect();
    assert_eq!(tags.len(), 2);

    client.deregister(&new.id).unwrap();
    until("end of the service", || client.instances(&new.name, false).unwrap().is_empty().then_some(()));
    assert!(!client.agent_services().unwrap().contains_key(&new.id));
    until("end of the name", || (!client.catalog_services().unwrap().contains_key(&new.name)).then_some(()));
    client.deregister(&new.id).unwrap();
}

fn a_check_says_whether_a_service_passes(server: &Server) {
    let client = &server.client;
    let new = registration(server, LONG);
    client.register(&new).unwrap();
    instance(server, CheckStatus::Critical);
    assert!(client.instances(&new.name, true).unwrap().is_empty());
    for (status, note) in [
        (CheckStatus::Passing, "all well"),
        (CheckStatus::Warning, "slow & hot"),
        (CheckStatus::Critical, "é?"),
    ] {
        assert_eq!(client.update_check(&server.name("check"), status, note).unwrap(), TtlUpdate::Taken);
        let found = instance(server, status);
        assert_eq!((found.checks[1].status, found.checks[1].output.as_str()), (status, note));
        let passing = client.instances(&new.name, true).unwrap();
        assert_eq!(passing.len(), usize::from(status == CheckStatus::Passing));
    }
    client.deregister(&new.id).unwrap();
}

fn a_check_without_updates_turns_critical(server: &Server) {
    let client = &server.client;
    let ttl = Duration::from_millis(700);
    let new = registration(server, ttl);
    client.register(&new).unwrap();
    let start = Instant::now();
    client.update_check(&server.name("check"), CheckStatus::Passing, "hello").unwrap();
    let found = until("end of the TTL", || {
        let found = client.instances(&new.name, false).unwrap();
        let late = |instance: &Instance| instance.checks[1].output.contains("TTL expired");
        found.into_iter().find(late)
    });
    assert!(start.elapsed() >= ttl, "{:?}", start.elapsed());
    assert_eq!(found.status(), CheckStatus::Critical);
    assert_eq!(found.checks[1].output, "TTL expired (last output before timeout follows): hello");
    assert_eq!(
        client.update_check(&server.name("check"), CheckStatus::Passing, "").unwrap(),
        TtlUpdate::Taken
    );
    client.deregister(&new.id).unwrap();
}

fn an_unknown_check_is_told_apart(server: &Server) {
    let client = &server.client;
    let new = registration(server, LONG);
    let check = server.name("check");
    assert_eq!(client.update_check(&check, CheckStatus::Passing, "").unwrap(), TtlUpdate::Forgotten);
    client.register(&new).unwrap();
    assert_eq!(client.update_check(&check, CheckStatus::Passing, "").unwrap(), TtlUpdate::Taken);
    client.deregister(&new.id).unwrap();
    assert_eq!(client.update_check(&check, CheckStatus::Passing, "").unwrap(), TtlUpdate::Forgotten);
}

fn registering_again_keeps_the_checks_status(server: &Server) {
    let client = &server.client;
    let new = registration(server, LONG);
    client.register(&new).unwrap();
    client.update_check(&server.name("check"), CheckStatus::Passing, "here").unwrap();
    let before = instance(server, CheckStatus::Passing);
    client.register(&new).unwrap();
    let found = client.instances(&new.name, true).unwrap();
    assert_eq!(found, [before]);
    client.deregister(&new.id).unwrap();
}

fn registering_again_replaces_checks_and_address(server: &Server) {
    let client = &server.client;
    let mut new = registration(server, LONG);
    client.register(&new).unwrap();
    instance(server, CheckStatus::Critical);
    new.port = 2002;
    new.check =
        new.check.map(|check| TtlCheck { id: server.name("other"), status: CheckStatus::Passing, ..check });
    client.register(&new).unwrap();
    let found = instance(server, CheckStatus::Passing);
    assert_eq!(found.service.port, 2002);
    let ids: Vec<&str> = found.checks.iter().map(|check| check.id.as_str()).collect();
    assert_eq!(ids, ["serfHealth", &server.name("other")]);
    let old = client.update_check(&server.name("check"), CheckStatus::Passing, "").unwrap();
    assert_eq!(old, TtlUpdate::Forgotten);
    client.deregister(&new.id).unwrap();
}

fn a_heartbeat_wakes_nobody_and_a_change_does(server: &Server) {
    let client = &server.client;
    let new = registration(server, LONG);
    let check = server.name("check");
    client.register(&new).unwrap();
    client.update_check(&check, CheckStatus::Passing, "0").unwrap();
    instance(server, CheckStatus::Passing);
    let index = client.instances_with(&new.name, false, &Query::default()).unwrap().index;

    let wait = Duration::from_millis(400);
    let beats = {
        let (client, check) = (client.clone(), check.clone());
        std::thread::spawn(move || {
            for beat in 1..=20 {
                client.update_check(&check, CheckStatus::Passing, &beat.to_string()).unwrap();
            }
        })
    };
    let start = Instant::now();
    let seen = client.instances_with(&new.name, false, &Query { index, wait, ..Query::default() }).unwrap();
    beats.join().unwrap();
    assert!(start.elapsed() >= wait, "woken after {:?}", start.elapsed());
    assert_eq!((seen.index, seen.value[0].checks[1].output.as_str()), (index, "0"));

    let change = {
        let client = client.clone();
        std::thread::spawn(move || client.update_check(&check, CheckStatus::Critical, "down").unwrap())
    };
    let query = Query { index, wait: PATIENCE, ..Query::default() };
    let seen = client.instances_with(&new.name, false, &query).unwrap();
    change.join().unwrap();
    assert_eq!((seen.value[0].status(), start.elapsed() < PATIENCE), (CheckStatus::Critical, true));

    let removal = {
        let (client, id) = (client.clone(), new.id.clone());
        std::thread::spawn(move || client.deregister(&id).unwrap())
    };
    let query = Query { index: seen.index, wait: PATIENCE, ..Query::default() };
    let seen = client.instances_with(&new.name, false, &query).unwrap();
    removal.join().unwrap();
    assert!(seen.value.is_empty(), "{seen:?}");
}

fn two_instances_are_two(server: &Server) {
    let client = &server.client;
    let first = Registration { check: None, ..registration(server, LONG) };
    let second = Registration { id: server.name("2"), port: 2002, ..first.clone() };
    client.register(&second).unwrap();
    client.register(&first).unwrap();
    let found = until("two instances", || {
        let found = client.instances(&first.name, true).unwrap();
        (found.len() == 2).then_some(found)
    });
    let ports: Vec<u16> = found.iter().map(|instance| instance.service.port).collect();
    assert_eq!(ports, [2001, 2002]);
    client.deregister(&first.id).unwrap();
    until("one instance", || (client.instances(&first.name, true).unwrap().len() == 1).then_some(()));
    client.deregister(&second.id).unwrap();
}

fn tags_select_instances(server: &Server) {
    let client = &server.client;
    let new = Registration { check: None, ..registration(server, LONG) };
    client.register(&new).unwrap();
    until("instance", || (client.instances(&new.name, true).unwrap().len() == 1).then_some(()));
    for (tags, found) in
        [("tag=node-1", true), ("tag=node-1&tag=zone-a", true), ("tag=node-1&tag=none", false)]
    {
        for endpoint in ["health", "catalog"] {
            let (status, _, body) =
                server.raw("GET", &format!("/v1/{endpoint}/service/{}?{tags}", new.name), b"");
            assert_eq!((status, body.contains("127.0.0.9")), (200, found), "{endpoint} {tags}");
        }
    }
    client.deregister(&new.id).unwrap();
}

fn a_long_note_is_cut(server: &Server) {
    let client = &server.client;
    client.register(&registration(server, LONG)).unwrap();
    client.update_check(&server.name("check"), CheckStatus::Passing, &"n".repeat(5000)).unwrap();
    let output = instance(server, CheckStatus::Passing).checks[1].output.clone();
    assert_eq!(output, format!("{} ... (captured 4096 of 5000 bytes)", "n".repeat(4096)));
    client.deregister(&server.name("1")).unwrap();
}

fn the_agent_tells_who_it_is(server: &Server) {
    let info = server.client.agent_info().unwrap();
    assert_eq!(info.datacenter, "dc1");
    assert!(info.version.starts_with("1."), "{info:?}");
    let leader = server.client.leader().unwrap().unwrap();
    assert!(leader.starts_with("127.0.0.1:"), "{leader}");
    let consul = server.client.instances("consul", true).unwrap();
    assert_eq!((consul.len(), consul[0].node.name.as_str()), (1, info.node_name.as_str()));
    let (_, _, nodes) = server.raw("GET", "/v1/catalog/nodes", b"");
    assert!(nodes.contains(&info.node_name), "{nodes}");
}
