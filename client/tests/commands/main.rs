//! The commands against the small cluster.
#![allow(clippy::unwrap_used)]

mod double;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use double::membership::FakeMembership;
use double::{FakeCluster, Trick};
use ringkv_client::commands::bench::{self, Bench, bench};
use ringkv_client::commands::change::{Change, Wish, change, ensure_mode};
use ringkv_client::commands::dump::{Dump, dump};
use ringkv_client::commands::load::{Load, load};
use ringkv_client::commands::plan::{Newcomer, plan};
use ringkv_client::commands::producer::{Producer, produce};
use ringkv_client::commands::records::{self, Verb, Write};
use ringkv_client::commands::{Console, Failure, Format, Outcome, explain, status, versions, wait, why};
use ringkv_client::{Client, Options, Scope, Value};
use ringkv_common::message::Code;
use ringkv_common::name::NodeName;
use ringkv_common::placement::Strategy;
use ringkv_common::ring::{Kind, Ring};
use serde_json::Value as Json;

fn options() -> Options {
    Options { timeout: Duration::from_secs(5), attempt: Duration::from_millis(300), ..Options::default() }
}

fn client(cluster: &FakeCluster) -> Client {
    Client::with_ring_and(cluster.ring(), options())
}

/// Runs a command and returns how it ended and what it printed.
fn printed(json: bool, run: impl FnOnce(&mut Console) -> Outcome) -> (Outcome, String) {
    let mut out = Vec::new();
    let outcome = run(&mut Console::new(&mut out, json));
    (outcome, String::from_utf8(out).unwrap())
}

fn json(run: impl FnOnce(&mut Console) -> Outcome) -> (Outcome, serde_json::Value) {
    let (outcome, text) = printed(true, run);
    (outcome, serde_json::from_str(&text).unwrap_or_default())
}

fn why_not(outcome: Outcome) -> (u8, String) {
    let Failure { exit, error, .. } = outcome.expect_err("it must fail");
    (exit, format!("{error:#}"))
}

fn producer(count: u64) -> Producer {
    Producer { count, prefix: "p-".into(), value_size: 12 }
}

#[test]
fn the_producer_finds_every_record_where_it_belongs() {
    let cluster = FakeCluster::new(3);
    let mut client = client(&cluster);
    client.put("p-007", "not one of the producer's").unwrap();
    let (outcome, verdict) = json(|console| produce(&mut client, console, &producer(500)));
    outcome.unwrap();
    for field in ["written", "read_back", "listed"] {
        assert_eq!(verdict[field], 500, "{field}");
    }
    let spread = verdict["spread"].as_array().unwrap();
    assert_eq!(spread.iter().map(|s| s["records"].as_u64().unwrap()).sum::<u64>(), 500);
    let (outcome, text) = printed(false, |console| produce(&mut client, console, &producer(500)));
    outcome.unwrap();
    assert!(text.contains("node-2") && text.contains("all is there"), "{text}");
}

#[test]
fn the_producer_fails_where_a_node_lies() {
    let cluster = FakeCluster::new(1);
    let mut client = client(&cluster);
    // Every node's ring says that somebody else leads half of the keys, so nobody lists these.
    let mut liar = FakeCluster::new(1);
    let newcomer = liar.start_another();
    let mut ring: Ring = liar.with_added(newcomer);
    (ring.cluster_id, ring.epoch) = (cluster.ring().cluster_id, 1);
    ring.nodes[0].ports = cluster.ring().nodes[0].ports;
    cluster.set_ring_of(0, ring);
    let (outcome, verdict) = json(|console| produce(&mut client, console, &producer(100)));
    let missing = verdict["missing"].as_array().unwrap().len();
    assert!((1..100).contains(&missing), "{verdict}");
    let (exit, why) = why_not(outcome);
    assert_eq!(exit, 1);
    assert!(why.contains("missing: p-"), "{why}");
}

#[test]
fn a_producer_whose_writes_fail_says_which() {
    let cluster = FakeCluster::new(1);
    cluster.play(0, Trick::Refuse(3, Code::Forbidden));
    let (outcome, _) = json(|console| produce(&mut client(&cluster), console, &producer(10)));
    let (exit, why) = why_not(outcome);
    assert!(exit == 1 && why.contains("3 failed: p-") && why.contains("missing"), "{why}");
}

fn written(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_is_dumped_is_restored_into_a_cluster_of_another_size() {
    let (three, one) = (FakeCluster::new(3), FakeCluster::new(1));
    let mut source = client(&three);
    for n in 0..2500 {
        source.put(&format!("k{n}"), "v").unwrap();
    }
    source.put("bytes", Value::Binary(vec![0, 255])).unwrap();
    source.put("number", Value::json("1.50").unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["all.jsonl", "all.csv", "all.tsv"] {
        let file = folder.path().join(name);
        let wanted = Dump { file: file.clone(), format: None, resume: false };
        let (outcome, summary) = json(|console| dump(&mut source, console, &wanted));
        outcome.unwrap();
        assert_eq!((summary["records"].as_u64(), summary["counted"].as_u64()), (Some(2502), Some(2502)));
        let mut target = client(&one);
        for key in ["bytes", "number", "k7"] {
            target.delete(key).unwrap();
        }
        let wanted = Load { file, format: None, resume: false, accept_loss: false };
        let (outcome, summary) = json(|console| load(&mut target, console, &wanted));
        outcome.unwrap();
        assert_eq!(summary["loaded"], 2502, "{name}");
        assert_eq!(one.len(), 2502);
        assert_eq!(one.value("bytes"), three.value("bytes"));
        assert_eq!(one.value("number"), three.value("number"));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing but the dumps is left: {left:?}");
}

#[test]
fn a_dump_that_cannot_be_written_names_the_file_and_what_to_do() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    (0..1500).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let mut why = |file: &Path, format| {
        let wanted = Dump { file: file.to_owned(), format, resume: false };
        why_not(printed(false, |console| dump(&mut c, console, &wanted)).0)
    };
    // A link, so that a dump that takes the device for a file puts itself in the link's place and not in the device's.
    let full = folder.path().join("full");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    for format in [Format::Jsonl, Format::Csv, Format::Tsv] {
        let (exit, said) = why(&full, Some(format));
        assert!(exit == 1 && said.contains("/full: No space left"), "{said}");
        assert!(said.contains("cannot write") && said.contains("make room there"), "{said}");
    }
    assert!(full.is_symlink() && std::fs::read_dir(folder.path()).unwrap().count() == 1);
    let (exit, said) = why(folder.path(), None);
    assert!(exit == 2 && said.contains("name a file, not a folder"), "{said}");
    let (exit, said) = why(&folder.path().join("none/x.jsonl"), None);
    assert!(exit == 2 && said.contains("none/x.jsonl.partial: No such file"), "{said}");
    assert!(said.contains("a folder that there is"), "{said}");
    // How far it came cannot be written, for a folder is in the way.
    std::fs::create_dir(folder.path().join("x.jsonl.partial.state")).unwrap();
    let (exit, said) = why(&folder.path().join("x.jsonl"), None);
    assert!(exit == 1 && said.contains("x.jsonl.partial.state: Is a directory"), "{said}");
    assert!(said.contains("--resume"), "{said}");

    let wanted = Dump { file: "-".into(), format: None, resume: false };
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (_, said) = why_not(dump(&mut c, &mut Console::new(&mut full, false), &wanted));
    assert!(said.contains("cannot write standard output: No space left"), "{said}");
}

#[test]
fn what_cannot_be_written_down_of_a_load_is_told_once_and_costs_no_record() {
    let cluster = FakeCluster::new(1);
    let folder = tempfile::tempdir().unwrap();
    let file = written(folder.path(), "x.jsonl", "{\"key\":\"a\",\"value\":1}\n");
    std::fs::create_dir(folder.path().join("x.jsonl.ringkv-load")).unwrap();
    let wanted = Load { file, format: None, resume: false, accept_loss: false };
    let (outcome, summary) = json(|console| load(&mut client(&cluster), console, &wanted));
    outcome.unwrap();
    assert_eq!(summary["loaded"], 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half written is left");
}

#[test]
fn an_interrupted_dump_goes_on_where_it_was() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    (0..2500).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let folder = tempfile::tempdir().unwrap();
    for name in ["x.jsonl", "x.csv"] {
        let file = folder.path().join(name);
        let wanted = Dump { file: file.clone(), format: None, resume: false };
        // The count and two pages pass; the third fails for good.
        cluster.play_after(0, 3, Trick::Refuse(1, Code::Forbidden));
        let (exit, _) = why_not(json(|console| dump(&mut c, console, &wanted)).0);
        assert_eq!((exit, file.exists()), (1, false), "half a dump is none");
        let before = cluster.heard(0).len();
        let wanted = Dump { resume: true, ..wanted };
        let (outcome, summary) = json(|console| dump(&mut c, console, &wanted));
        outcome.unwrap();
        assert_eq!(summary["records"], 2500);
        assert_eq!(cluster.heard(0).len() - before, 2, "the count and the last page");
        let text = std::fs::read_to_string(&file).unwrap();
        let keys: std::collections::BTreeSet<&str> = text.lines().filter(|l| l.contains("k")).collect();
        assert!(keys.len() >= 2500, "each record stands there once: {}", keys.len());
        assert_eq!(text.lines().count(), if name.ends_with("csv") { 2501 } else { 2500 });
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_dump_whose_beginning_is_gone_starts_anew() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    (0..2500).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.jsonl");
    let partial = folder.path().join("x.jsonl.partial");
    let state = folder.path().join("x.jsonl.partial.state");
    let begun = Dump { file: file.clone(), format: None, resume: false };
    let spoil: [&dyn Fn(); 3] = [
        &|| std::fs::OpenOptions::new().write(true).open(&partial).unwrap().set_len(100).unwrap(),
        &|| std::fs::remove_file(&partial).unwrap(),
        &|| std::fs::write(&state, "{").unwrap(),
    ];
    for spoil in spoil {
        cluster.play_after(0, 3, Trick::Refuse(1, Code::Forbidden));
        why_not(json(|console| dump(&mut c, console, &begun)).0);
        spoil();
        let wanted = Dump { resume: true, ..begun.clone() };
        let (outcome, summary) = json(|console| dump(&mut c, console, &wanted));
        outcome.unwrap();
        assert_eq!(summary["records"], 2500);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains('\0'), "bytes that nobody wrote");
        assert_eq!(text.lines().count(), 2500);
    }
}

#[test]
fn a_file_that_cannot_be_read_on_is_named() {
    let cluster = FakeCluster::new(1);
    // It opens, and reading it fails.
    let wanted = Load { file: "/proc/self/mem".into(), format: None, resume: false, accept_loss: false };
    for format in [Format::Jsonl, Format::Csv] {
        let wanted = Load { format: Some(format), ..wanted.clone() };
        let (exit, said) = why_not(json(|console| load(&mut client(&cluster), console, &wanted)).0);
        assert_eq!(exit, 1);
        assert!(said.starts_with("cannot read /proc/self/mem behind line 0: "), "{said}");
    }
}

#[test]
fn results_that_cannot_be_written_are_said_to_be_so() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    c.put("k", "v").unwrap();
    let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut said = |run: &mut dyn FnMut(&mut Client, &mut Console) -> Outcome| {
        let mut buffered = std::io::BufWriter::new(&mut full);
        let mut console = Console::new(&mut buffered, false);
        let outcome = run(&mut c, &mut console);
        why_not(outcome.and_then(|()| console.flush()))
    };
    for raw in [false, true] {
        let (exit, why) = said(&mut |c, console| records::get(c, console, "k", raw));
        assert!(exit == 1 && why.contains("cannot write standard output: No space left"), "{why}");
    }
    let (_, why) = said(&mut |c, console| records::get_all(c, console, Scope::Cluster, None, None));
    assert!(why.contains("cannot write standard output: No space left"), "{why}");
}

#[test]
fn a_key_is_explained_in_words() {
    let cluster = FakeCluster::new(1);
    let mut c = client(&cluster);
    let (outcome, text) = printed(false, |console| explain::explain(&mut c, console, "k"));
    outcome.unwrap();
    assert!(text.contains("hash: "), "fields that are not known are shown as they came: {text}");
    let (_, told) = json(|console| explain::explain(&mut c, console, "k"));
    assert_eq!(told["key"], "k");
}

#[test]
fn broken_lines_are_counted_and_the_rest_is_loaded() {
    let cluster = FakeCluster::new(2);
    let folder = tempfile::tempdir().unwrap();
    let text =
        "{\"key\":\"a\",\"value\":1}\nbroken\n{\"key\":\"\",\"value\":2}\n{\"key\":\"b\",\"value\":3}\n";
    let file = written(folder.path(), "x.jsonl", text);
    let wanted = Load { file, format: None, resume: false, accept_loss: false };
    let (outcome, summary) = json(|console| load(&mut client(&cluster), console, &wanted));
    assert_eq!(why_not(outcome), (1, "2 lines not loaded".to_owned()));
    assert_eq!((summary["loaded"].as_u64(), summary["broken"].as_u64()), (Some(2), Some(2)));
    assert_eq!(cluster.len(), 2);
}

#[test]
fn an_interrupted_load_goes_on_where_it_was() {
    let cluster = FakeCluster::new(1);
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (1..=200).map(|n| format!("{{\"key\":\"k{n}\",\"value\":{n}}}\n")).collect();
    let file = written(folder.path(), "x.jsonl", &lines);
    let mut narrow = Client::with_ring_and(cluster.ring(), Options { in_flight_max: 1, ..options() });
    for n in 1..=50 {
        narrow.put(&format!("warm-{n}"), "up").unwrap();
    }
    // The 101st line fails for good, those behind it do not.
    let wanted = Load { file: file.clone(), format: None, resume: false, accept_loss: false };
    let puts = || cluster.heard(0).iter().filter(|message| message["op"] == "PUT").count();
    let before = puts();
    cluster.play_after(0, 100, Trick::Refuse(1, Code::Forbidden));
    let (outcome, summary) = json(|console| load(&mut narrow, console, &wanted));
    why_not(outcome);
    assert_eq!((summary["loaded"].as_u64(), summary["failed"].as_u64()), (Some(199), Some(1)));
    assert_eq!(puts(), before + 200);
    let wanted = Load { resume: true, ..wanted };
    let (outcome, summary) = json(|console| load(&mut narrow, console, &wanted));
    outcome.unwrap();
    assert_eq!((summary["skipped"].as_u64(), summary["loaded"].as_u64()), (Some(100), Some(100)));
    assert_eq!(cluster.len(), 250);
    // Done, there is nothing to resume; and another file's progress is not taken for this one's.
    assert!(!folder.path().join("x.jsonl.ringkv-load").exists());
    written(folder.path(), "x.jsonl.ringkv-load", r#"{"line":7,"file_bytes":1}"#);
    let (exit, why) = why_not(json(|console| load(&mut narrow, console, &wanted)).0);
    assert!(exit == 2 && why.contains("without --resume"), "{why}");
}

#[test]
fn a_load_into_nothing_ends_soon() {
    let mut cluster = FakeCluster::new(1);
    let ring = cluster.ring();
    cluster.stop(0);
    let folder = tempfile::tempdir().unwrap();
    let lines: String = (0..5000).map(|n| format!("{{\"key\":\"k{n}\",\"value\":{n}}}\n")).collect();
    let file = written(folder.path(), "x.jsonl", &lines);
    let brief = Options { timeout: Duration::from_millis(300), ..options() };
    let wanted = Load { file, format: None, resume: false, accept_loss: false };
    let run = |console: &mut Console| load(&mut Client::with_ring_and(ring, brief), console, &wanted);
    let (exit, why) = why_not(json(run).0);
    assert!(exit == 1 && why.contains("cannot reach"), "{why}");
}

#[test]
fn single_operations_print_for_people_and_for_programs() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let put = |key: &str, value: Value| Write { verb: Verb::Put, key: key.into(), value, context: None };
    let (outcome, text) = printed(false, |console| records::write(&mut c, console, put("k", "a b".into())));
    outcome.unwrap();
    assert_eq!(text, "OK\n");
    let mut get = |key: &str, json: bool, exact: bool| {
        printed(json, |console| records::get(&mut c, console, key, exact))
    };
    assert_eq!(get("k", false, false).1, "a b\n");
    assert_eq!(get("k", false, true).1, "\"a b\"");
    assert_eq!(get("k", true, false).1, "{\"key\":\"k\",\"value\":\"a b\"}\n");
    assert_eq!(why_not(get("none", false, false).0).0, 1);
    assert_eq!(why_not(get("", false, false).0).0, 2, "what is no key is for the user to change");
    let (_, text) = printed(false, |console| versions::search(&mut c, console, "k"));
    assert!(text.contains("node-0:1") && text.contains("\"a b\""), "{text}");
    let (outcome, text) = printed(false, |console| versions::show_all(&mut c, console, Some(NodeName(1))));
    outcome.unwrap();
    assert_eq!(text, "k\tnode-0:1\t1970-01-01 00:00:00.001Z\t\"a b\"\n");
    printed(false, |console| records::write(&mut c, console, put("hint of k", "v".into()))).0.unwrap();
    let (_, text) = printed(false, |console| versions::show_all(&mut c, console, Some(NodeName(1))));
    assert!(text.lines().any(|line| line.starts_with("hint of k\t") && line.ends_with("\t(hint)")), "{text}");
    assert_eq!(text.matches("(hint)").count(), 1, "what is no hint is not marked: {text}");
    printed(false, |console| records::delete(&mut c, console, "hint of k", None)).0.unwrap();
    let (_, text) = printed(true, |console| versions::show_all(&mut c, console, None));
    assert_eq!(text.matches("\"versions\":[{").count(), 2, "both nodes show it: {text}");
    let (_, text) = printed(true, |console| records::get_all(&mut c, console, Scope::Cluster, None, Some(5)));
    assert_eq!(text, "{\"key\":\"k\",\"value\":\"a b\"}\n");
    let (outcome, text) = printed(false, |console| records::accept_loss(&mut c, console, None));
    outcome.unwrap();
    assert_eq!(text, "node-0: accepted\nnode-1: accepted\n");
    let both = records::value(Some("v"), false, Some(Path::new("f")));
    assert_eq!(both.expect_err("two values").exit, 2);
    assert_eq!(records::value(Some("{"), true, None).expect_err("no JSON").exit, 2);
}

fn wished(wish: Wish, sample: u64) -> Change {
    Change { wish, patience: Duration::from_secs(5), sample }
}

fn lowest() -> Wish {
    Wish::Add { node: None, newcomer: Newcomer::default() }
}

#[test]
fn a_node_is_added_and_every_record_read_back() {
    let mut cluster = FakeCluster::new(3);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..300).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 1000)));
    outcome.unwrap();
    assert_eq!((report["op"].as_str(), report["outcome"].as_str()), (Some("add node-3"), Some("done")));
    for field in ["records_before", "records_after", "checked"] {
        assert_eq!(report[field], 300, "{field}: {report}");
    }
    assert_eq!(report["all_checked"], true);
    assert_eq!(c.ring().unwrap().nodes.len(), 4);
}

#[test]
fn a_node_is_added_while_another_one_is_silent() {
    let mut cluster = FakeCluster::new(3);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..300).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    // Its word in the change is not asked for: it is down, and its launcher knows.
    cluster.play(2, Trick::Silent(1000));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 40)));
    outcome.unwrap();
    assert_eq!((report["outcome"].as_str(), &report["records_before"]), (Some("done"), &Json::Null));
    assert!(report["checked"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_lost_record_is_named_and_the_exit_code_says_so() {
    let mut cluster = FakeCluster::new(2);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    (0..50).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    let thief = cluster.thief();
    membership.at_begin(move || thief.forget("k17"));
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 1000)));
    assert_eq!(why_not(outcome), (1, "1 record lost: k17".to_owned()));
    assert_eq!((report["records_after"].as_u64(), &report["lost"][0]), (Some(49), &"k17".into()));
}

#[test]
fn whoever_is_refused_backs_off_and_tries_again() {
    let mut cluster = FakeCluster::new(2);
    let newcomer = cluster.start_another();
    let mut c = client(&cluster);
    let membership = FakeMembership { newcomer: Some(newcomer), ..FakeMembership::new(&cluster) };
    membership.overtake(2);
    let (outcome, report) = json(|console| change(&mut c, &membership, console, &wished(lowest(), 0)));
    outcome.unwrap();
    assert_eq!(report["outcome"], "done");

    let idle = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    idle.signal("node-7", "add");
    let brief = Change { patience: Duration::from_millis(400), ..wished(lowest(), 0) };
    let (exit, why) = why_not(json(|console| change(&mut c, &idle, console, &brief)).0);
    assert!(exit == 1 && why.contains("another signal for node-7 stands"), "{why}");
    assert_eq!(idle.signals_now(), 1, "somebody else's signal is left alone");
}

#[test]
fn a_signal_that_nobody_takes_up_is_taken_back() {
    let cluster = FakeCluster::new(2);
    let idle = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    let brief = Change { patience: Duration::from_millis(300), ..wished(Wish::Remove(NodeName(1)), 0) };
    let (exit, why) = why_not(json(|console| change(&mut client(&cluster), &idle, console, &brief)).0);
    assert!(exit == 1 && why.contains("no launcher took up remove node-1"), "{why}");
    assert_eq!(idle.signals_now(), 0);
}

#[test]
fn what_cannot_be_is_refused_at_once_or_by_the_launcher() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let membership = FakeMembership::new(&cluster);
    let mut why = |wish| why_not(json(|console| change(&mut c, &membership, console, &wished(wish, 0))).0);
    assert!(why(Wish::Remove(NodeName(9))).1.contains("node-9 is not in the ring: it has node-0, node-1"));
    let there = Wish::Add { node: Some(NodeName(1)), newcomer: Newcomer::default() };
    assert!(why(there).1.contains("in the ring already"));
    assert_eq!(why(lowest()), (1, "add was refused: nobody joins".to_owned()));
}

#[test]
fn a_mode_is_chosen_where_that_harms_nobody() {
    let cluster = FakeCluster::new(2);
    let mut c = client(&cluster);
    let membership = FakeMembership::new(&cluster);
    let mut choose = |mode| {
        printed(false, |console| ensure_mode(&mut c, &membership, console, mode, Duration::from_secs(5))).0
    };
    choose(Strategy::Consistent).unwrap();
    assert!(cluster.ring().chosen);
    // Chosen otherwise, and empty.
    choose(Strategy::Hrw).unwrap();
    assert_eq!((cluster.ring().strategy, cluster.ring().chosen), (Strategy::Hrw, true));
    let epoch = cluster.ring().epoch;
    choose(Strategy::Hrw).unwrap();
    assert_eq!(cluster.ring().epoch, epoch, "chosen already: nothing happens");
    client(&cluster).put("k", "v").unwrap();
    let (exit, why) = why_not(choose(Strategy::Consistent));
    assert_eq!(exit, 2);
    assert!(why.contains("`client_producer migrate --mode consistent`") && why.contains("1 record"), "{why}");
    assert_eq!(cluster.ring().epoch, epoch);
}

#[test]
fn what_is_missing_is_named() {
    let cluster = FakeCluster::new(2);
    let console = |run: &dyn Fn(&Console) -> Result<(), Failure>| {
        let mut out = Vec::new();
        run(&Console::new(&mut out, false))
    };
    let unfounded =
        FakeMembership { founded: false, size: Some("3".into()), ..FakeMembership::new(&cluster) };
    let no_ring = |c: &Console| wait::for_ring(&unfounded, c, Duration::ZERO).map(drop);
    let (exit, why) = why_not(console(&no_ring));
    assert!(exit == 1 && why.contains("node-2 is not registered"), "{why}");
    let unset = FakeMembership { founded: false, ..FakeMembership::new(&cluster) };
    let no_size = |c: &Console| wait::for_ring(&unset, c, Duration::ZERO).map(drop);
    assert!(why_not(console(&no_size)).1.contains("consul kv put cluster_size"));
    let membership = FakeMembership::new(&cluster);
    membership.ill.borrow_mut().push(NodeName(1));
    let ring = cluster.ring();
    let waited = |c: &Console| {
        assert_eq!(wait::for_nodes(&membership, c, &ring, Duration::ZERO)?, [NodeName(1)]);
        Ok(())
    };
    console(&waited).unwrap();
}

#[test]
fn a_plan_changes_nothing() {
    let cluster = FakeCluster::new(3);
    let mut c = client(&cluster);
    (0..64).for_each(|n| drop(c.put(&format!("k{n}"), "v").unwrap()));
    let ring = cluster.ring();
    let kind = Kind::Remove { node: NodeName(1) };
    let (outcome, planned) = json(|console| plan(&mut c, console, &ring, kind, &Newcomer::default()));
    outcome.unwrap();
    assert_eq!(
        (planned["change"].as_str(), planned["partitions"].as_u64()),
        (Some("remove node-1"), Some(64))
    );
    assert!(planned["copies"].as_u64().unwrap() > 0);
    assert_eq!(cluster.ring(), ring);
}

#[test]
fn status_and_why_tell_how_it_stands() {
    let mut cluster = FakeCluster::new(3);
    let mut c = client(&cluster);
    c.put("k", "v").unwrap();
    cluster.stop(2);
    let membership = FakeMembership { launcher: false, ..FakeMembership::new(&cluster) };
    membership.ill.borrow_mut().push(NodeName(2));
    let (outcome, text) = printed(false, |console| status::status(&mut c, console, Some(&membership)));
    outcome.unwrap();
    assert!(text.contains("no answer") && text.contains("1 silent node"), "{text}");
    let (_, text) = printed(false, |console| why::why(&mut c, &membership, console));
    assert!(text.contains("at rest") && text.contains("node-2 is not healthy"), "{text}");
    membership.signal("node-0", "remove");
    membership.signal("node-x", "dance");
    let (_, text) = printed(false, |console| why::why(&mut c, &membership, console));
    assert!(text.contains("remove node-0 stands") && text.contains("Nobody holds the lock"), "{text}");
    assert!(text.contains("node-x cannot be read"), "{text}");
    let signal = ringkv_common::ring::SignalId { name: "node-0".into(), index: 1 };
    cluster.set_ring(ringkv_common::ring::plan::remove(&cluster.ring(), NodeName(0), signal).unwrap());
    let (_, told) = json(|console| why::why(&mut c, &membership, console));
    assert_eq!(told["change"], "remove node-0, phase copy");
    assert!(told["waits"][0].as_str().unwrap().contains("node-2 does not answer"), "{told}");
}

#[test]
fn the_bench_measures_and_checks() {
    let cluster = FakeCluster::new(2);
    let wanted = Bench {
        connections: 2,
        in_flight: 4,
        seconds: 1,
        puts: 0.5,
        value_size: 16,
        keys: 100,
        prefix: "b-".into(),
        check: true,
    };
    let access = bench::Access::Ring(cluster.ring());
    let stop = Arc::new(AtomicBool::new(false));
    let (outcome, summary) = json(|console| bench(console, &access, &options(), &wanted, &stop));
    outcome.unwrap();
    assert!(summary["put"]["count"].as_u64().unwrap() > 0 && summary["checked"].as_u64().unwrap() > 0);
    assert_eq!((summary["failed"].as_u64(), summary["wrong"].as_u64()), (Some(0), Some(0)));

    cluster.play(0, Trick::Refuse(1, Code::Forbidden));
    let (outcome, summary) = json(|console| bench(console, &access, &options(), &wanted, &stop));
    assert_eq!(summary["failed"], 1);
    assert!(why_not(outcome).1.contains("FORBIDDEN"));
}
