//! Time is an argument here, so hours pass at once.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn put(state: &mut State, key: &str, value: &str) -> bool {
    let write = Write::Put { value: value.as_bytes(), flags: 0, cas: None };
    state.write_key(Instant::now(), key, write).expect("room")
}

fn session(state: &mut State, now: Instant, id: u8, ttl: Option<Duration>, delay: Duration) -> String {
    let id = format!("00000000-0000-0000-0000-{id:012}");
    let row = SessionRow {
        id: id.clone(),
        name: String::new(),
        lock_delay_ms: u64::try_from(delay.as_millis()).expect("short"),
        behavior: Behavior::Release,
        ttl_text: String::new(),
        ttl_ms: ttl.map(|ttl| u64::try_from(ttl.as_millis()).expect("short")),
        index: 0,
    };
    state.create_session(now, row).expect("room");
    id
}

fn acquire(state: &mut State, now: Instant, key: &str, session: &str) -> bool {
    state.write_key(now, key, Write::Acquire { value: b"v", flags: 0, session }).expect("a session")
}

fn service(status: CheckStatus, remove_after: Option<Duration>) -> NewService {
    let check = NewCheck {
        id: "check".into(),
        name: "alive".into(),
        notes: String::new(),
        status,
        ttl: 10 * SECOND,
        deregister_after: remove_after,
    };
    NewService { id: "web-1".into(), name: "web".into(), checks: vec![check], ..NewService::default() }
}

fn status(state: &State) -> Option<(CheckStatus, &str)> {
    state.catalog.checks().next().map(|check| (check.status, check.output.as_str()))
}

/// Lets time pass as the agent does: tick by tick, each at its time.
fn pass(state: &mut State, until: Instant) {
    while let Some(next) = state.next_tick().filter(|next| *next <= until) {
        state.tick(next);
    }
}

#[test]
fn the_first_change_is_above_the_index_of_what_never_was() {
    let mut state = State::default();
    assert!(put(&mut state, "a", "1"));
    assert!(state.kv.get("a").0 > 1);
}

#[test]
fn a_session_ends_after_twice_its_ttl_and_a_renewal_starts_it_anew() {
    let mut state = State::default();
    let start = Instant::now();
    let id = session(&mut state, start, 1, Some(10 * SECOND), Duration::ZERO);
    assert!(acquire(&mut state, start, "key", &id));
    assert_eq!(state.next_tick(), Some(start + 20 * SECOND));
    state.sessions.renew(start + 15 * SECOND, &id).expect("an id").expect("a session");
    pass(&mut state, start + 34 * SECOND);
    assert!(state.sessions.find(&id).expect("an id").is_some());
    pass(&mut state, start + 35 * SECOND);
    assert_eq!(state.sessions.find(&id), Ok(None));
    let entry = state.kv.get("key").1.expect("released, not deleted");
    assert_eq!((entry.session.as_deref(), entry.lock_index), (None, 1));
    assert_eq!(state.next_tick(), None);
}

#[test]
fn a_session_without_a_ttl_never_ends() {
    let mut state = State::default();
    let id = session(&mut state, Instant::now(), 1, None, Duration::ZERO);
    assert_eq!(state.next_tick(), None);
    state.tick(Instant::now() + 100_000 * SECOND);
    assert!(state.sessions.find(&id).expect("an id").is_some());
}

#[test]
fn a_lock_delay_counts_from_the_end_of_the_session_and_is_at_most_a_minute() {
    for (delay, counted) in [(5 * SECOND, 5 * SECOND), (3600 * SECOND, 60 * SECOND)] {
        let mut state = State::default();
        let start = Instant::now();
        let first = session(&mut state, start, 1, None, delay);
        let second = session(&mut state, start, 2, None, Duration::ZERO);
        assert!(acquire(&mut state, start, "key", &first));
        state.destroy_session(start, &first);
        assert!(!acquire(&mut state, start + counted - SECOND, "key", &second));
        assert!(acquire(&mut state, start + counted, "key", &second));
    }
}

#[test]
fn a_check_turns_critical_when_its_ttl_ends() {
    let mut state = State::default();
    let start = Instant::now();
    state.register(start, service(CheckStatus::Passing, None)).expect("room");
    assert!(state.update_check(start + 4 * SECOND, "check", CheckStatus::Passing, "hi"));
    pass(&mut state, start + 13 * SECOND);
    assert_eq!(status(&state).map(|(status, _)| status), Some(CheckStatus::Passing));
    let before = state.catalog.name_index("web");
    pass(&mut state, start + 14 * SECOND);
    let note = "TTL expired (last output before timeout follows): hi";
    assert_eq!(status(&state), Some((CheckStatus::Critical, note)));
    assert!(state.catalog.name_index("web") > before);
    assert!(!state.update_check(start, "other", CheckStatus::Passing, ""));
}

#[test]
fn a_note_under_the_same_status_comes_late_into_the_catalog() {
    let mut state = State::default();
    let start = Instant::now();
    state.register(start, service(CheckStatus::Critical, None)).expect("room");
    state.update_check(start, "check", CheckStatus::Passing, "first");
    let index = state.catalog.name_index("web");
    for beat in 1..=59_u32 {
        state.update_check(start + beat * 5 * SECOND, "check", CheckStatus::Passing, &beat.to_string());
        pass(&mut state, start + beat * 5 * SECOND);
    }
    assert_eq!(
        (status(&state), state.catalog.name_index("web")),
        (Some((CheckStatus::Passing, "first")), index)
    );
    assert_eq!(state.catalog.agent_checks().next().expect("a check").output, "59");
    // The first note that was held back is 300 s old at 305 s.
    for beat in 60..=61_u32 {
        state.update_check(start + beat * 5 * SECOND, "check", CheckStatus::Passing, "59");
        pass(&mut state, start + beat * 5 * SECOND);
    }
    assert_eq!(status(&state), Some((CheckStatus::Passing, "59")));
    assert!(state.catalog.name_index("web") > index);
}

#[test]
fn a_service_critical_for_too_long_goes_but_never_before_a_minute() {
    for (asked, counted) in [(SECOND, 60 * SECOND), (90 * SECOND, 90 * SECOND)] {
        let mut state = State::default();
        let start = Instant::now();
        state.register(start, service(CheckStatus::Passing, Some(asked))).expect("room");
        // Critical from 10 s on.
        pass(&mut state, start + 10 * SECOND + counted - SECOND);
        assert_eq!(state.catalog.services().count(), 1);
        let before = state.catalog.name_index("web");
        pass(&mut state, start + 10 * SECOND + counted);
        assert_eq!((state.catalog.services().count(), state.catalog.checks().count()), (0, 0));
        assert!(state.catalog.name_index("web") > before);
    }
}

#[test]
fn critical_from_the_start_counts_from_the_first_update_or_the_ttls_end() {
    let mut state = State::default();
    let start = Instant::now();
    state.register(start, service(CheckStatus::Critical, Some(60 * SECOND))).expect("room");
    pass(&mut state, start + 69 * SECOND);
    assert_eq!(state.catalog.services().count(), 1);
    pass(&mut state, start + 70 * SECOND);
    assert_eq!(state.catalog.services().count(), 0);

    state.register(start, service(CheckStatus::Critical, Some(60 * SECOND))).expect("room");
    state.update_check(start + SECOND, "check", CheckStatus::Critical, "");
    pass(&mut state, start + 60 * SECOND);
    assert_eq!(state.catalog.services().count(), 1);
    pass(&mut state, start + 61 * SECOND);
    assert_eq!(state.catalog.services().count(), 0);
}

#[test]
fn a_service_that_passes_in_between_stays() {
    let mut state = State::default();
    let start = Instant::now();
    state.register(start, service(CheckStatus::Critical, Some(60 * SECOND))).expect("room");
    state.update_check(start + 59 * SECOND, "check", CheckStatus::Passing, "");
    pass(&mut state, start + 100 * SECOND);
    assert_eq!(status(&state).map(|(status, _)| status), Some(CheckStatus::Critical));
    assert_eq!(state.catalog.services().count(), 1);
}

#[test]
fn rows_give_the_same_state_again() {
    let mut state = State::default();
    let now = Instant::now();
    let mut rows = Vec::new();
    for round in 0..50_u8 {
        let id = session(&mut state, now, round, Some(10 * SECOND), Duration::ZERO);
        put(&mut state, &format!("dir/{}", round % 7), &round.to_string());
        acquire(&mut state, now, &format!("lock/{}", round % 3), &id);
        state.register(now, service(CheckStatus::Passing, None)).expect("room");
        match round % 5 {
            0 => state.delete_tree("dir/1"),
            1 => state.destroy_session(now, &id),
            2 => drop(state.update_check(now, "check", CheckStatus::Critical, &round.to_string())),
            3 => state.deregister("web-1"),
            _ => state.tick(now + 15 * SECOND),
        }
        rows.append(&mut state.take_rows());
        for restored in [State::restore(rows.clone(), now), State::restore(state.rows(), now)] {
            assert_eq!(restored.rows(), state.rows(), "round {round}");
            assert_eq!(restored.kv.list_index("dir/"), state.kv.list_index("dir/"));
            assert_eq!(restored.index, state.index);
        }
    }
}

#[test]
fn memory_is_bounded() {
    let mut state = State::default();
    let value = "x".repeat(512 << 10);
    let refused = (0..200).find_map(|key| {
        let write = Write::Put { value: value.as_bytes(), flags: 0, cas: None };
        state.write_key(Instant::now(), &key.to_string(), write).err().map(|refusal| (key, refusal))
    });
    let (key, refusal) = refused.expect("64 MiB are full after 127 values of half a MiB");
    assert_eq!((key, refusal.status), (127, 500));
    assert!(refusal.message.contains("67108864"), "{}", refusal.message);
    assert!(put(&mut state, "0", "small"), "a smaller value in place of a big one");
    state.delete_tree("1");
    assert!(put(&mut state, "1", &value));
    for key in 0..10_000 {
        put(&mut state, "k", &key.to_string());
        state.write_key(Instant::now(), "k", Write::Delete { cas: None }).expect("deleted");
        state.take_rows();
    }
    assert!(state.rows().len() < 5_000, "{} rows", state.rows().len());
}
