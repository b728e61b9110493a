//! Changes of the ring while a node does not answer: the client says whom the change waits for.
#![allow(clippy::unwrap_used)]

mod support;
mod support_more;

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::json;
use support::{World, ask, until};
use support_more::{producer, run};

#[test]
fn an_add_waits_for_a_failed_node_says_so_and_goes_on_when_it_is_back() {
    let world = World::of_size(4);
    let mut launcher = world.launch_ready(&["--replicas", "3", "--allow-faults"], 4);
    for n in 0..100 {
        let put = json!({"op": "PUT", "key": format!("k{n}"), "value": n});
        assert_eq!(ask(world.port(0), &put).unwrap()["status"], "OK");
    }
    run(&mut producer(&world, &["fault", "fail", "node-2"])).ok();
    let [out, err] = ["add.out", "add.err"].map(|name| world.folder.path().join(name));
    let mut add = producer(&world, &["add-node"]);
    add.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut add = add.spawn().unwrap();
    let said = || fs::read_to_string(&err).unwrap();
    until("what it waits for, or its end", || {
        let ended = add.try_wait().unwrap();
        assert_eq!(ended, None, "{}", said());
        said().contains("waiting for an answer from node-2: a change begins when").then_some(())
    });
    assert!(said().contains("no answer from node-2: records are picked from the others"), "{}", said());
    run(&mut producer(&world, &["fault", "recover", "node-2"])).ok();
    let status = until("end of the add", || add.try_wait().unwrap());
    assert!(status.success(), "{}", said());
    let told = fs::read_to_string(&out).unwrap();
    assert!(told.contains("read back") && told.contains(" 0 lost"), "{told}");
    launcher.ready(5);
    launcher.terminate();
}
