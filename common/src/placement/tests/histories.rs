//! Random histories of joins, leaves and new weights; everything that a table promises is checked at every step.

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;

use super::super::Strategy;
use super::super::*;
use super::flow::fewest_moves;
use super::{nodes, wish};

#[derive(Clone, Debug)]
enum Step {
    Join { zone: usize, weight: u32 },
    Leave { pick: prop::sample::Index },
    Weigh { pick: prop::sample::Index, weight: u32 },
}

fn steps(zones: usize, weights: std::ops::Range<u32>) -> impl Generator<Value = Step> {
    let pick = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0..zones, weights.clone()).prop_map(|(zone, weight)| Step::Join { zone, weight }),
        3 => pick().prop_map(|pick| Step::Leave { pick }),
        1 => (pick(), weights).prop_map(|(pick, weight)| Step::Weigh { pick, weight }),
    ]
}

/// A cluster's life: how it is set up and what happens to it.
#[derive(Clone, Debug)]
struct History {
    strategy: Strategy,
    partitions: u32,
    replicas: usize,
    balance: f64,
    steps: Vec<Step>,
}

fn histories(length: usize) -> impl Generator<Value = History> {
    let zones_and_weights = (1usize..7, prop_oneof![Just(100..101), Just(1..400)]);
    zones_and_weights.prop_flat_map(move |(zones, weights)| {
        (
            prop_oneof![Just(Strategy::Consistent), Just(Strategy::Hrw)],
            prop_oneof![Just(64u32), Just(512)],
            1usize..5,
            prop_oneof![Just(0.0), Just(5.0), Just(30.0)],
            prop::collection::vec(steps(zones, weights), length),
        )
            .prop_map(|(strategy, partitions, replicas, balance, steps)| History {
                strategy,
                partitions,
                replicas,
                balance,
                steps,
            })
    })
}

/// Lives through a history, which starts with one node. `check` sees the wish, the last table and the new one.
fn live(
    history: &History,
    mut check: impl FnMut(&Wish, &Table, &Table) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut members = nodes(1);
    let mut last: Option<Table> = None;
    for step in &history.steps {
        let present: Vec<usize> = (0..members.len()).filter(|m| members[*m].weight > 0).collect();
        match step {
            Step::Join { zone, weight } => {
                let name = format!("node-{}", members.len());
                members.push(Member { name, zone: format!("z{zone}"), weight: *weight });
            }
            Step::Leave { pick } if present.len() > 1 => members[*pick.get(&present)].weight = 0,
            Step::Leave { .. } => continue,
            Step::Weigh { pick, weight } => members[*pick.get(&present)].weight = *weight,
        }
        let History { strategy, partitions, replicas, balance, .. } = *history;
        let wish = Wish { strategy, members: &members, partitions, replicas, balance: Some(balance) };
        let next = table(&wish, last.as_ref()).unwrap();
        check(&wish, last.as_ref().unwrap_or(&next), &next)?;
        last = Some(next);
    }
    Ok(())
}

fn owners_are_distinct_in_nodes_and_zones(wish: &Wish, table: &Table) -> Result<(), TestCaseError> {
    let count = |mut names: Vec<&str>| {
        names.sort();
        names.dedup();
        names.len()
    };
    let takers: Vec<&Member> = wish.members.iter().filter(|m| m.weight > 0).collect();
    let zones = count(takers.iter().map(|m| m.zone.as_str()).collect());
    prop_assert_eq!(table.width(), wish.replicas.min(takers.len()));
    for row in table.rows() {
        let owners: Vec<&Member> = row.iter().map(|owner| &wish.members[usize::from(*owner)]).collect();
        prop_assert!(owners.iter().all(|m| m.weight > 0));
        prop_assert_eq!(count(owners.iter().map(|m| m.name.as_str()).collect()), table.width());
        prop_assert_eq!(count(owners.iter().map(|m| m.zone.as_str()).collect()), zones.min(table.width()));
    }
    Ok(())
}

fn loads_are_within_the_balance(wish: &Wish, table: &Table) -> Result<(), TestCaseError> {
    let factor = 1.0 + wish.balance.unwrap() / 100.0;
    let Balance { shares, loads, .. } = assess(wish.members, None, table);
    for (share, load) in shares.iter().zip(loads.iter().map(|load| f64::from(*load))) {
        prop_assert!(load <= share.ceil().max(share * factor), "{load} cells, fair are {share}");
        prop_assert!(load >= share.floor().min(share / factor), "{load} cells, fair are {share}");
    }
    Ok(())
}

/// Members in another order, the last table counted by that order: the same owners come out.
fn members_may_come_in_any_order(wish: &Wish, last: &Table, next: &Table) -> Result<(), TestCaseError> {
    let count = wish.members.len();
    let turned = |node: NodeIndex| ((usize::from(node) * (count - 1) + count / 2) % count) as NodeIndex;
    let mut members = wish.members.to_vec();
    for (m, member) in wish.members.iter().enumerate() {
        members[usize::from(turned(m as NodeIndex))] = member.clone();
    }
    let wish = Wish { members: &members, ..wish.clone() };
    prop_assert_eq!(table(&wish, Some(&last.remapped(turned))).unwrap(), next.remapped(turned));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_promise_holds_through_50_joins_and_leaves(history in histories(50)) {
        live(&history, |wish, last, next| {
            owners_are_distinct_in_nodes_and_zones(wish, next)?;
            loads_are_within_the_balance(wish, next)?;
            prop_assert_eq!(&table(wish, Some(next)).unwrap(), next, "a second run moved something");
            members_may_come_in_any_order(wish, last, next)
        })?;
    }

    /// Against minimum-cost flow: the fewest moves that lead to the same loads under the same rules.
    #[test]
    fn hardly_more_moves_than_a_flow_finds(history in histories(8)) {
        live(&History { partitions: 64, ..history }, |wish, last, next| {
            let Balance { moved, loads, .. } = assess(wish.members, Some(last), next);
            let fewest = fewest_moves(wish.members, last, next.width(), &loads).unwrap();
            prop_assert!((fewest..=fewest + fewest / 20 + 3).contains(&moved), "{moved} moves for {fewest}");
            Ok(())
        })?;
    }

    #[test]
    fn alike_nodes_reach_both_optima(history in histories(50)) {
        live_alike(&history, |wish, last, next| {
            let balance = assess(wish.members, Some(last), next);
            prop_assert!(balance.within(0.0), "{} fullest, {} moved", balance.fullest(), balance.movement());
            let due = |load: u32| (f64::from(load) / next.width() as f64).ceil() as u32;
            let mut leads = balance.firsts.iter().zip(&balance.loads);
            prop_assert!(leads.all(|(firsts, load)| *firsts <= due(*load) + 1));
            Ok(())
        })?;
    }

    #[test]
    fn whoever_stays_keeps_what_it_has_when_one_leaves(
        count in 2usize..40, replicas in 1usize..4, pick in any::<prop::sample::Index>()
    ) {
        let mut members = nodes(count);
        let last = table(&wish(&members, replicas), None).unwrap();
        let leaver = pick.index(count);
        members[leaver].weight = 0;
        let next = table(&wish(&members, replicas), Some(&last)).unwrap();
        for (last, next) in last.rows().zip(next.rows()) {
            prop_assert!(last.iter().filter(|owner| usize::from(**owner) != leaver).all(|owner| next.contains(owner)));
        }
    }
}

/// The same history with nodes of one weight, each in a zone of its own.
fn live_alike(
    history: &History,
    check: impl FnMut(&Wish, &Table, &Table) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut history = history.clone();
    for (zone, step) in history.steps.iter_mut().enumerate() {
        if let Step::Join { .. } | Step::Weigh { .. } = step {
            *step = Step::Join { zone, weight: WEIGHT_DEFAULT };
        }
    }
    live(&history, check)
}

#[test]
fn replicas_grow_with_the_nodes_and_owners_stay() {
    let mut last = table(&wish(&nodes(1), 3), None).unwrap();
    for count in 2..=3 {
        let members = nodes(count);
        let next = table(&wish(&members, 3), Some(&last)).unwrap();
        assert_eq!(next.width(), count);
        assert!(
            last.rows().zip(next.rows()).all(|(last, next)| last.iter().all(|owner| next.contains(owner)))
        );
        last = next;
    }
    let members = nodes(3);
    let fewer = table(&wish(&members, 1), Some(&last)).unwrap();
    assert_eq!(assess(&members, Some(&last), &fewer).moved, 0);
    assert!(assess(&members, None, &fewer).within(0.0));
}

#[test]
fn what_is_near_enough_stays() {
    let mut members = nodes(10);
    let last = table(&wish(&members, 3), None).unwrap();
    members[4].weight = 104;
    assert_eq!(table(&wish(&members, 3), Some(&last)).unwrap(), last);
    let exact = Wish { balance: Some(0.0), ..wish(&members, 3) };
    assert_ne!(table(&exact, Some(&last)).unwrap(), last);
}

#[test]
fn a_zone_that_appears_takes_a_replica_of_everything() {
    let mut members = nodes(4);
    members.iter_mut().for_each(|m| m.zone = "a".to_owned());
    let last = table(&wish(&members[..3], 2), None).unwrap();
    members[3].zone = "b".to_owned();
    let next = table(&wish(&members, 2), Some(&last)).unwrap();
    assert!(next.rows().all(|row| row.contains(&3)));
    assert_eq!(assess(&members, Some(&last), &next).moved, 256);
}
