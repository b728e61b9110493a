//! What only time shows: Consul's shortest TTL is 10 s, and it may take twice that.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use consul::{CheckStatus, NewSession, Registration, Renewal, TtlCheck};

use crate::lock::options;
use crate::server::{Case, Server, together};
use crate::service::{LONG, registration};

const CASES: &[Case] = &[
    ("a_session_that_is_not_renewed_ends", a_session_that_is_not_renewed_ends),
    ("a_lock_is_kept_beyond_its_ttl", a_lock_is_kept_beyond_its_ttl),
];

mod leases_end_in_time_and_no_sooner {
    use super::{CASES, Server, together};

    #[test]
    fn embedded() {
        together(CASES, |case| Some(Server::embedded(case)));
    }

    #[test]
    fn real() {
        together(CASES, Server::real);
    }
}

/// Consul removes nothing before a minute has passed, and looks every 30 s.
mod a_service_critical_for_too_long_is_removed {
    use super::Server;

    #[test]
    #[ignore = "takes up to two minutes"]
    fn embedded() {
        super::a_service_critical_for_too_long_is_removed(&Server::embedded("removed"));
    }

    #[test]
    #[ignore = "takes up to two minutes"]
    fn real() {
        if let Some(server) = Server::real("removed") {
            super::a_service_critical_for_too_long_is_removed(&server);
        }
    }
}

fn a_session_that_is_not_renewed_ends(server: &Server) {
    let client = &server.client;
    let ttl = Duration::from_secs(10);
    let new = NewSession { ttl: Some(ttl), lock_delay: Duration::ZERO, ..NewSession::default() };
    let id = client.create_session(&new).unwrap();
    let key = server.name("key");
    assert!(client.acquire(&key, "v", &id).unwrap());
    let start = Instant::now();
    let end = start + 3 * ttl;
    while client.get(&key).unwrap().unwrap().session.is_some() {
        assert!(Instant::now() < end, "it never ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() >= ttl - Duration::from_secs(1), "it ended after {:?}", start.elapsed());
    assert_eq!(client.renew_session(&id).unwrap(), Renewal::Gone);
}

fn a_lock_is_kept_beyond_its_ttl(server: &Server) {
    let key = server.name("key");
    let (sender, receiver) = mpsc::channel();
    let tell = move |lost| sender.send(lost).unwrap();
    let lock = server.client.try_lock(&key, "v", &options(server), tell).unwrap().unwrap();
    // Consul takes up to twice the TTL to end a session that is not renewed.
    let told = receiver.recv_timeout(Duration::from_secs(22));
    assert_eq!(told, Err(mpsc::RecvTimeoutError::Timeout));
    assert!(lock.is_held());
    assert_eq!(server.client.get(&key).unwrap().unwrap().session.as_deref(), Some(lock.session()));
    assert!(lock.release().unwrap());
}

fn a_service_critical_for_too_long_is_removed(server: &Server) {
    let client = &server.client;
    let told = registration(server, LONG);
    client.register(&told).unwrap();
    client.update_check(&server.name("check"), CheckStatus::Critical, "").unwrap();
    // Critical as well, but nobody ever said so.
    let check = told.check.clone().map(|check| TtlCheck { id: server.name("untold"), ..check });
    let untold = Registration { id: server.name("2"), check, ..told.clone() };
    client.register(&untold).unwrap();

    let start = Instant::now();
    let known = |id: &str| client.agent_services().unwrap().contains_key(id);
    while known(&told.id) {
        assert!(start.elapsed() < Duration::from_secs(120), "still there");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(start.elapsed() >= Duration::from_secs(55), "gone after {:?}", start.elapsed());
    assert!(known(&untold.id));
    client.deregister(&untold.id).unwrap();
}
