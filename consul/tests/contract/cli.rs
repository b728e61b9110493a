//! The stock command line, against both.

use std::process::{Command, Output};

use consul::Registration;

use crate::server::{Server, binary, cases, until};

cases!(
    the_command_line_reads_and_writes_keys,
    the_command_line_shows_services,
    the_command_line_locks,
    what_the_client_puts_the_command_line_prints_bare,
);

/// The command, or `None` where there is none: then the real half of the suite has said so.
fn consul(server: &Server, args: &[&str]) -> Option<Output> {
    let output = Command::new(binary()?)
        .args(args)
        .env("CONSUL_HTTP_ADDR", server.client.url())
        .env("CHECKPOINT_DISABLE", "1")
        .output()
        .expect("the command runs");
    Some(output)
}

fn told(server: &Server, args: &[&str]) -> Option<(bool, String)> {
    let output = consul(server, args)?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(text).expect("a text")))
}

fn the_command_line_reads_and_writes_keys(server: &Server) {
    let key = &server.name("cluster_size");
    let Some(first) = told(server, &["kv", "put", key, "4"]) else { return };
    assert_eq!(first, (true, format!("Success! Data written to: {key}\n")));
    let run = |args: &[&str]| told(server, args).expect("there is a command");
    assert_eq!(run(&["kv", "get", key]), (true, "4\n".to_owned()));
    assert!(!run(&["kv", "get", &server.name("absent")]).0);

    let index = server.client.get(key).unwrap().unwrap().modify_index;
    assert!(!run(&["kv", "put", "-cas", &format!("-modify-index={}", index + 1), key, "5"]).0);
    assert!(run(&["kv", "put", "-cas", &format!("-modify-index={index}"), key, "5"]).0);
    let (done, detailed) = run(&["kv", "get", "-detailed", key]);
    assert!(done && detailed.lines().any(|line| line.split_whitespace().eq(["Value", "5"])), "{detailed}");

    assert!(run(&["kv", "put", &format!("{key}/a"), "1"]).0);
    assert_eq!(run(&["kv", "get", "-recurse", key]), (true, format!("{key}:5\n{key}/a:1\n")));
    assert_eq!(run(&["kv", "get", "-keys", &format!("{key}/")]), (true, format!("{key}/a\n")));
    assert!(run(&["kv", "delete", key]).0);
    assert!(!run(&["kv", "get", key]).0);
    assert!(run(&["kv", "delete", "-recurse", key]).0);
    assert!(server.client.list(key).unwrap().is_empty());
}

fn the_command_line_shows_services(server: &Server) {
    let name = server.name("web");
    let Some((done, _)) = told(server, &["services", "register", "-name", &name, "-port", "2001"]) else {
        return;
    };
    assert!(done);
    let run = |args: &[&str]| told(server, args).expect("there is a command");
    until("the service on the command line", || {
        run(&["catalog", "services"]).1.lines().any(|line| line == name).then_some(())
    });
    let info = server.client.agent_info().unwrap();
    let (done, nodes) = run(&["catalog", "nodes", "-service", &name]);
    assert!(done && nodes.contains(&info.node_name) && nodes.contains("127.0.0.1"), "{nodes}");
    assert!(run(&["catalog", "nodes"]).1.contains(&info.node_name));
    assert!(run(&["members"]).1.contains("alive"));
    // And what a user would ask with curl.
    let (status, _, body) = server.raw("GET", &format!("/v1/health/service/{name}?passing"), b"");
    assert!(status == 200 && body.contains("2001"), "{body}");
    assert!(run(&["services", "deregister", "-id", &name]).0);

    let tagged =
        Registration { tags: vec!["node-0".to_owned()], id: name.clone(), name, ..Registration::default() };
    server.client.register(&tagged).unwrap();
    until("the tag on the command line", || {
        run(&["catalog", "services", "-tags"]).1.contains("node-0").then_some(())
    });
    server.client.deregister(&tagged.id).unwrap();
}

fn the_command_line_locks(server: &Server) {
    let Some((done, text)) = told(server, &["lock", &server.name("lock"), "echo", "inside"]) else { return };
    assert!(done && text.contains("inside"), "{text}");
}

fn what_the_client_puts_the_command_line_prints_bare(server: &Server) {
    let key = server.name("key");
    for value in ["4", "\"4\"", "two words", "{\"a\": [1]}"] {
        server.client.put(&key, value).unwrap();
        let Some(output) = told(server, &["kv", "get", &key]) else { return };
        assert_eq!(output, (true, format!("{value}\n")));
    }
}
