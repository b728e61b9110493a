#![allow(clippy::unwrap_used)]

use super::*;

fn parsed(text: &str) -> Result<Script, String> {
    Script::parse("some.txt", text).map_err(|wrong| wrong.to_string())
}

#[test]
fn what_is_wrong_with_a_line_is_said_with_its_number_and_what_is_allowed() {
    for (line, said) in [
        (
            "putt k v at node-0",
            &["no verb \"putt\"", "put, insert", "cut-one-way", "siblings", "replicas"][..],
        ),
        ("put k v", &["put ends", "\"at\""]),
        ("put k at node-0", &["needs a value"]),
        ("put k v at node-x", &["\"node-x\"", "node-4"]),
        ("put k v level MOST at node-0", &["\"MOST\"", "ONE, QUORUM, ALL"]),
        ("put k v r 2 at node-0", &["no term \"r\"", "level, w, quorum, request, context"]),
        ("put k v w 0 at node-0", &["\"0\"", "from 1 to 16"]),
        ("get k at node-0 expect", &["ok, hinted, none, silence, error CODE, or values"]),
        ("get k at node-0 expect a |", &["or values"]),
        ("put k v at node-0 please", &["ends before \"please\""]),
        ("put k v at node-0 as first", &["first", "answer first expect"]),
        ("answer first expect ok", &["first", "as first"]),
        ("pause node-1 soon", &["\"soon\"", "200ms, 3s"]),
        ("clock node-1 1h", &["\"1h\"", "+1h or -200ms"]),
        ("cut node-1 node-1", &["two nodes"]),
        ("await all equal", &["\"within\""]),
        ("await put k v at node-0", &["\"put\"", "siblings, hints"]),
        ("view node-1 expect dead", &["\"dead\"", "alive, suspect, down"]),
        ("result nobody expect done", &["\"nobody\"", "mode"]),
        ("migrate ring", &["\"ring\"", "consistent, hrw"]),
        ("nodes 3", &["before the first step"]),
    ] {
        let wrong = parsed(&format!("nodes 3\n\nall equal # a comment\n{line}\n")).unwrap_err();
        assert!(wrong.starts_with("some.txt:4: "), "{line}: {wrong}");
        for text in said {
            assert!(wrong.contains(text), "{line}: {wrong}");
        }
    }
}

#[test]
fn a_script_that_cannot_fail_and_a_cluster_that_cannot_be_are_refused() {
    assert!(parsed("nodes 3\nput k v at node-0").unwrap_err().contains("nothing is expected"));
    assert!(parsed("nodes 2\nreplicas 3\nall equal").unwrap_err().contains("3 replicas"));
    assert!(parsed("nodes 9\nall equal").unwrap_err().starts_with("some.txt:1: "));
    assert!(parsed("nodes 3 # and no more\n\nall equal").is_ok());
}

#[test]
fn what_cannot_be_done_fails_the_script_where_it_stands() {
    for (line, said) in [
        ("start node-0", "runs already"),
        ("kill node-4", "does not run"),
        ("pause node-44 1s", "node-0 to node-8"),
        ("put k v context returned at node-0", "no get of k"),
        ("siblings k at node-7 expect unknown", "node-7 does not run"),
    ] {
        let played = parsed(&format!("nodes 3\n{line}\nall equal")).unwrap().play(None);
        assert!(played.wrong.len() == 1 && played.wrong[0].starts_with("some.txt:2: "), "{:?}", played.wrong);
        assert!(played.wrong[0].contains(said), "{:?}", played.wrong);
        assert!(played.line().ends_with("FAILED"), "{}", played.line());
    }
}

#[test]
fn the_verdict_at_the_end_is_part_of_a_script() {
    let played = parsed("nodes 3\nreplicas 1\nput k v at node-0\nkill node-1\nall equal").unwrap().play(None);
    assert!(played.wrong.is_empty(), "killed nodes start at the end: {:?}", played.wrong);
    assert_eq!((played.operations, played.acknowledged, played.faults), (1, 1, 1));
}
