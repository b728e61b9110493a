//! What only the embedded agent promises: it survives kill -9, refuses damage, and stands whatever comes over the wire.
#![cfg(feature = "agent")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use consul::agent::{Agent, AgentError, Handle, Limits};
use consul::{CheckStatus, Client, Config, Event, NewSession, Query, Registration, Renewal, TtlCheck};

const PATIENCE: Duration = Duration::from_secs(20);

fn client(url: &str) -> Client {
    Client::new(Config::parse(url).unwrap()).unwrap()
}

fn agent() -> (Handle, Client) {
    let handle = Agent::bind("127.0.0.1:0", None).unwrap().spawn_thread().unwrap();
    let client = client(&handle.url());
    (handle, client)
}

fn until(what: &str, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < end, "within {PATIENCE:?} there was no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Not a test: the process that `Process` starts, an agent until it is killed.
#[test]
#[ignore = "run by other tests, as a process of its own"]
fn the_agent_process() {
    let Some(folder) = std::env::var_os("CONSUL_TEST_FOLDER") else { return };
    let addr = std::env::var("CONSUL_TEST_ADDR").unwrap();
    let agent = Agent::bind(addr, Some(Path::new(&folder).join("state"))).unwrap();
    std::fs::write(Path::new(&folder).join("addr.new"), agent.addr().to_string()).unwrap();
    std::fs::rename(Path::new(&folder).join("addr.new"), Path::new(&folder).join("addr")).unwrap();
    let handle = agent.spawn_thread().unwrap();
    // The parent's end of the input closes when the parent is gone.
    let _ = std::io::stdin().read(&mut [0]);
    drop(handle);
}

struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn start(folder: &Path, addr: &str) -> Self {
        let told = folder.join("addr");
        let _ = std::fs::remove_file(&told);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_agent_process", "--ignored"])
            .env("CONSUL_TEST_FOLDER", folder)
            .env("CONSUL_TEST_ADDR", addr)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("agent process", || told.exists());
        let addr = std::fs::read_to_string(&told).unwrap().parse().unwrap();
        Process { child, addr }
    }

    fn kill(mut self) -> SocketAddr {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.addr
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut addr = "127.0.0.1:0".to_owned();
    let mut acknowledged = 0_u32;
    for round in 0..4 {
        let process = Process::start(folder.path(), &addr);
        addr = process.addr.to_string();
        let client = client(&format!("http://{addr}"));
        let kept = client.list("n/").unwrap();
        assert!(kept.len() as u32 >= acknowledged, "round {round}: {} of {acknowledged}", kept.len());
        assert!(kept.iter().all(|entry| entry.value == entry.key.as_bytes()));
        let mut last = kept.iter().map(|entry| entry.modify_index).max().unwrap_or(0);
        assert!(client.list_with("", &Query::default()).unwrap().index >= last);

        let writer = std::thread::spawn({
            let start = kept.len() as u32;
            move || {
                let mut done = start;
                loop {
                    let key = format!("n/{done:06}");
                    if client.put(&key, &key).is_err() {
                        return done;
                    }
                    done += 1;
                    let index = client.get(&key).map(|entry| entry.unwrap().modify_index);
                    let Ok(index) = index else { return done };
                    assert!(index > last, "an index was given twice");
                    last = index;
                }
            }
        });
        // Killed in the middle of writes.
        let seen = consul_of(&addr);
        let goal = acknowledged as usize + 100;
        until("100 more keys", || seen.list("n/").is_ok_and(|list| list.len() >= goal));
        process.kill();
        acknowledged = writer.join().unwrap();
    }
}

fn consul_of(addr: &str) -> Client {
    client(&format!("http://{addr}"))
}

#[test]
fn sessions_locks_services_and_indexes_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start(folder.path(), "127.0.0.1:0");
    let client = consul_of(&first.addr.to_string());
    let session =
        client.create_session(&NewSession { ttl: Some(PATIENCE), ..NewSession::default() }).unwrap();
    assert!(client.acquire("lock", "me", &session).unwrap());
    client.put("flag", "1").unwrap();
    client.delete("flag").unwrap();
    let check = TtlCheck {
        id: "check".into(),
        name: "alive".into(),
        ttl: Duration::from_secs(600),
        status: CheckStatus::Critical,
        deregister_critical_service_after: None,
    };
    let service = Registration {
        id: "web-1".into(),
        name: "web".into(),
        port: 2001,
        check: Some(check),
        ..Registration::default()
    };
    client.register(&service).unwrap();
    client.update_check("check", CheckStatus::Passing, "here").unwrap();
    let view = || {
        (
            client.list_with("", &Query::default()).unwrap(),
            client.list_with("flag", &Query::default()).unwrap(),
            client.instances_with("web", true, &Query::default()).unwrap(),
            client.session(&session).unwrap(),
        )
    };
    let before = view();
    assert_eq!((before.0.value.len(), before.2.value.len()), (1, 1));
    let addr = first.kill();

    let second = Process::start(folder.path(), &addr.to_string());
    assert_eq!(view().0, before.0);
    assert_eq!(view().1, before.1);
    assert_eq!(view().2.index, before.2.index);
    assert_eq!(view().2.value[0].checks, before.2.value[0].checks);
    assert_eq!(view().3, before.3);
    assert!(matches!(client.renew_session(&session).unwrap(), Renewal::Renewed(_)));
    second.kill();
}

#[test]
fn a_watch_lives_through_the_agents_death_and_tells_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = Process::start(folder.path(), "127.0.0.1:0");
    let client = consul_of(&first.addr.to_string());
    client.put("key", "1").unwrap();
    let events = client.watch_key("key").events().unwrap();
    let value = |event: Option<Event<_>>| match event {
        Some(Event::Changed { value: Some(consul::Entry { value, .. }), .. }) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(events.next_within(PATIENCE)), b"1");
    let addr = first.kill();
    let Some(Event::Unreachable { error, attempts: 1, .. }) = events.next_within(PATIENCE) else {
        panic!("nothing was told");
    };
    assert!(error.to_string().contains("CONSUL_HTTP_ADDR"), "{error}");
    let second = Process::start(folder.path(), &addr.to_string());
    client.put("key", "2").unwrap();
    loop {
        match events.next_within(PATIENCE) {
            Some(Event::Unreachable { attempts, .. }) => assert!(attempts > 1),
            Some(Event::Reachable { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(value(events.next_within(PATIENCE)), b"2");
    second.kill();
}

#[test]
fn a_damaged_state_is_refused_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).unwrap().spawn_thread().unwrap();
    client(&handle.url()).put("unmistakable", "value").unwrap();
    handle.stop().unwrap();
    let path = folder.path().join("state.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("unmistakable", "unmistakeable")).unwrap();
    let error = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).expect_err("damaged");
    assert!(matches!(&error, AgentError::Corrupt { line: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("state.jsonl"), "{error}");
    // Nothing was changed: the original is good again.
    std::fs::write(&path, text).unwrap();
    let handle = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).unwrap().spawn_thread().unwrap();
    assert_eq!(client(&handle.url()).get("unmistakable").unwrap().unwrap().value, b"value");
}

#[test]
fn a_folder_and_a_port_belong_to_one_agent() {
    let folder = tempfile::tempdir().unwrap();
    let first = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).unwrap();
    let error = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).expect_err("in use");
    assert!(matches!(error, AgentError::Locked { .. }), "{error}");
    let error = Agent::bind(first.addr(), None).expect_err("in use");
    assert!(error.to_string().contains(&first.addr().to_string()), "{error}");
}

#[test]
fn what_it_does_not_know_it_names() {
    let (handle, _client) = agent();
    for path in ["/v1/txn", "/v1/acl/tokens", "/v1/agent/maintenance", "/ui/"] {
        let answer =
            exchange(handle.addr(), format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains(path), "{path}: {answer}");
    }
}

fn exchange(addr: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_ref()).unwrap();
    let mut answer = Vec::new();
    // A reset is an answer too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    let (handle, client) = agent();
    let long = format!("GET /v1/kv/{} HTTP/1.1\r\nhost: x\r\n\r\n", "k".repeat(200_000));
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    let cases: Vec<Vec<u8>> = vec![
        b"\r\n\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET".to_vec(),
        b"GARBAGE / NONSENSE\r\n\r\n".to_vec(),
        b"GET /v1/kv/%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /v1/kv/%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /v1/kv/a?index=%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n".to_vec(),
        b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n".to_vec(),
        b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"PUT /v1/session/create HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n[]"
            .to_vec(),
        long.into_bytes(),
        headers.into_bytes(),
        vec![0; 100_000],
    ];
    for case in cases {
        let mut stream = TcpStream::connect(handle.addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(&case);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let text = String::from_utf8_lossy(&case[..case.len().min(60)]);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{text:?}: {answer}");
        client.put("still", "here").unwrap();
    }
    assert!(handle.is_running());
}

#[test]
fn a_body_beyond_the_limit_is_refused_also_where_it_comes_in_pieces() {
    let (handle, client) = agent();
    let mut request = b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..9 {
        request.extend_from_slice(b"10000\r\n");
        request.resize(request.len() + 0x10000, b'x');
        request.extend_from_slice(b"\r\n");
    }
    let answer = exchange(handle.addr(), request);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("524288"), "{answer}");
    assert_eq!(client.get("a").unwrap(), None);
}

#[test]
fn slow_senders_do_not_hinder_others() {
    let (handle, client) = agent();
    let slow: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(handle.addr()).unwrap();
            let start: &[u8] = if number % 2 == 0 {
                b"GET /v1/k"
            } else {
                b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc"
            };
            stream.write_all(start).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    (0..100).for_each(|round| client.put("b", round.to_string()).unwrap());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(client.get("a").unwrap(), None);
    drop(slow);
}

#[test]
fn waiting_queries_are_limited_and_those_who_leave_make_room() {
    let limits = Limits { connections: 100, waiting: 20 };
    let handle = Agent::bind("127.0.0.1:0", None).unwrap().with_limits(limits).spawn_thread().unwrap();
    let client = client(&handle.url());
    client.put("key", "1").unwrap();
    let ask = b"GET /v1/kv/key?index=1000000&wait=10m HTTP/1.1\r\nhost: x\r\n\r\n";
    let wait = || {
        let mut stream = TcpStream::connect(handle.addr()).unwrap();
        stream.write_all(ask).unwrap();
        stream
    };
    // More than the limit, because the question below takes a place itself for a moment.
    let mut waiting: Vec<TcpStream> = (0..40).map(|_| wait()).collect();
    let refused = || {
        let query = Query { index: 1_000_000, wait: Duration::from_millis(1), ..Query::default() };
        match client.get_with("key", &query) {
            Ok(_) => false,
            Err(consul::Error::Status { code: 429, body, .. }) => body.starts_with("20 "),
            Err(other) => panic!("{other}"),
        }
    };
    until("refusal", refused);
    assert_eq!(client.get("key").unwrap().unwrap().value, b"1", "others are served");
    waiting.truncate(10);
    until("room again", || !refused());
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let limits = Limits { connections: 3, waiting: 3 };
    let handle = Agent::bind("127.0.0.1:0", None).unwrap().with_limits(limits).spawn_thread().unwrap();
    let silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(handle.addr()).unwrap()).collect();
    let (url, client) = (handle.url(), client(&handle.url()));
    let patient = std::thread::spawn(move || client.put("key", "1"));
    // Somebody with less patience, at the same door, hears nothing.
    let config = Config { timeout: Duration::from_millis(200), ..Config::parse(&url).unwrap() };
    Client::new(config).unwrap().leader().expect_err("no place");
    assert!(!patient.is_finished());
    drop(silent);
    patient.join().unwrap().unwrap();
}

#[test]
fn a_stop_does_not_wait_for_those_who_wait() {
    let (handle, client) = agent();
    client.put("key", "1").unwrap();
    let watch = client.watch_key("key").events().unwrap();
    assert!(matches!(watch.next_within(PATIENCE), Some(Event::Changed { .. })));
    let start = Instant::now();
    handle.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(matches!(watch.next_within(PATIENCE), Some(Event::Unreachable { .. })));
}

#[test]
fn a_disk_that_fails_ends_it_and_nothing_false_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let handle = Agent::bind("127.0.0.1:0", Some(folder.path().to_owned())).unwrap().spawn_thread().unwrap();
    let client = client(&handle.url());
    client.put("key", "1").unwrap();
    // A rewrite is due after 8 MiB; without its folder it fails, as on a full disk.
    std::fs::remove_dir_all(folder.path()).unwrap();
    let value = vec![b'x'; 500 << 10];
    let failed = (0..100).any(|_| {
        client.put("big", [&value[..], format!("{:?}", Instant::now()).as_bytes()].concat()).is_err()
    });
    assert!(failed, "it went on without a disk");
    until("end of the agent", || !handle.is_running());
    assert!(matches!(handle.stop(), Err(AgentError::Disk { .. })));
}
