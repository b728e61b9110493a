//! Dumps and loads: whole, interrupted, from and into what cannot be read or written.

use std::path::Path;
use std::time::Duration;

use ringkv_client::commands::dump::{Dump, dump};
use ringkv_client::commands::load::{Load, load};
use ringkv_client::commands::records;
use ringkv_client::commands::{Console, Format, Outcome};
use ringkv_client::{Client, Options, Scope, Value};
use ringkv_common::message::Code;

use crate::double::{FakeCluster, Trick};
use crate::{client, json, options, printed, why_not};

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
