use super::*;

fn shown(history: &mut History, value: Value, lost: bool) -> usize {
    let read = history.begin_read("k", true);
    history.end_read(read, value, lost);
    history.violations.len()
}

fn with_one_acknowledged() -> History {
    let mut history = History::default();
    let write = history.begin_write("k", Some(1));
    history.acknowledged(write);
    history
}

#[test]
fn an_acknowledged_write_must_be_shown_and_a_lost_one_said() {
    assert_eq!(shown(&mut with_one_acknowledged(), Some(1), false), 0);
    assert_eq!(shown(&mut with_one_acknowledged(), None, false), 1);
    assert_eq!(shown(&mut with_one_acknowledged(), None, true), 1, "nobody was killed");
    let mut history = with_one_acknowledged();
    history.killed_holder_of(|_| true);
    assert_eq!(shown(&mut history, None, true), 0);
    assert_eq!(shown(&mut history, None, false), 1, "it was not said");
}

#[test]
fn an_unknown_write_may_show_or_not_but_does_not_vanish_again() {
    let mut history = with_one_acknowledged();
    let write = history.begin_write("k", Some(2));
    history.unknown(write);
    assert_eq!(shown(&mut history, Some(1), false), 0);
    assert_eq!(shown(&mut history, Some(2), false), 0);
    assert_eq!(shown(&mut history, Some(1), false), 1);
}

#[test]
fn a_deleted_value_does_not_rise_again() {
    let mut history = with_one_acknowledged();
    let delete = history.begin_write("k", None);
    history.acknowledged(delete);
    assert_eq!(shown(&mut history, None, false), 0);
    assert_eq!(shown(&mut history, Some(1), false), 1);
}

#[test]
fn a_listing_shows_each_present_key_once() {
    let mut history = with_one_acknowledged();
    for (keys, wrong) in [(vec!["k"], 0), (vec!["k", "k"], 1), (vec![], 2)] {
        let listing = history.begin_listing();
        history.end_listing(listing, &keys.iter().map(|k| k.to_string()).collect::<Vec<_>>());
        assert_eq!(history.violations.len(), wrong, "{keys:?}");
    }
}

#[test]
fn what_a_reader_is_shown_never_goes_back_unless_it_was_lost() {
    let saw = |history: &mut History, n| {
        let read = history.begin_read("k", false);
        history.saw(0, read, Shown::from([("a".to_owned(), n)]));
        history.violations.len()
    };
    let mut history = with_one_acknowledged();
    assert_eq!((saw(&mut history, 2), saw(&mut history, 2), saw(&mut history, 3)), (0, 0, 0));
    assert_eq!(saw(&mut history, 2), 1);
    history.killed_holder_of(|_| true);
    assert_eq!(saw(&mut history, 1), 1);
    history.collected(&Key::new("k").expect("a key"), Shown::from([("a".to_owned(), 1)]));
    assert_eq!((saw(&mut history, 0), saw(&mut history, 2), saw(&mut history, 1)), (1, 1, 2));
}

#[test]
fn a_weak_history_takes_what_is_old_and_not_what_was_never_written_until_it_ends() {
    let mut history = with_one_acknowledged();
    history.weak = true;
    let write = history.begin_write("k", Some(2));
    history.acknowledged(write);
    for (value, wrong) in [(None, 0), (Some(1), 0), (Some(2), 0), (Some(3), 1)] {
        assert_eq!(shown(&mut history, value, false), wrong, "{value:?}");
    }
    history.weak = false;
    assert_eq!(shown(&mut history, Some(2), false), 1);
    assert_eq!(shown(&mut history, Some(1), false), 2);
}

#[test]
fn one_dot_names_one_version() {
    use ringkv_common::version::Actor;
    let mut history = History::default();
    let dot = Dot { actor: Actor { id: 1, node: ringkv_common::name::NodeName(0) }, counter: 1 };
    let key = Key::new("k").expect("a key");
    history.kept(&key, dot, &Content::Tombstone);
    history.kept(&key, dot, &Content::Tombstone);
    assert!(history.violations.is_empty());
    history.kept(&Key::new("other").expect("a key"), dot, &Content::Tombstone);
    assert_eq!(history.violations.len(), 1);
}
