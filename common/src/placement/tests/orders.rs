//! The strategies' orders against dumb twins that share no code with them.

use proptest::prelude::*;
use proptest::strategy::Strategy as Generator;
use twox_hash::XxHash3_64;

use super::super::Strategy;
use super::super::*;
use super::nodes;

fn order(strategy: Strategy, members: &[Member], partition: u32, partitions: u32) -> Vec<NodeIndex> {
    preference(strategy, members, partition, partitions).iter().map(|preferred| preferred.node).collect()
}

/// Every virtual node of every member, sorted by its distance clockwise.
fn walked(members: &[Member], partition: u32, partitions: u32) -> Vec<NodeIndex> {
    let from = (u128::from(partition) << 64) / u128::from(partitions);
    let mut points = Vec::new();
    for (node, member) in members.iter().enumerate() {
        for nth in 0..(u64::from(member.weight) * 160).div_ceil(100) {
            let seed = XxHash3_64::oneshot(member.name.as_bytes());
            let place = XxHash3_64::oneshot_with_seed(seed, &nth.to_le_bytes());
            points.push((place.wrapping_sub(from as u64), node as NodeIndex));
        }
    }
    points.sort();
    let mut order = Vec::new();
    for (_, node) in points {
        if !order.contains(&node) {
            order.push(node);
        }
    }
    order
}

/// Members sorted by −w / ln u with the system's logarithm.
fn scored(members: &[Member], partition: u32) -> Vec<NodeIndex> {
    let score = |member: &Member| {
        let seed = XxHash3_64::oneshot(member.name.as_bytes());
        let hash = XxHash3_64::oneshot_with_seed(seed, &partition.to_le_bytes());
        -f64::from(member.weight) / (((hash >> 12) as f64 + 0.5) / 2f64.powi(52)).ln()
    };
    let mut order: Vec<usize> = (0..members.len()).filter(|m| members[*m].weight > 0).collect();
    order.sort_by(|a, b| score(&members[*b]).total_cmp(&score(&members[*a])));
    order.into_iter().map(|m| m as NodeIndex).collect()
}

fn weighted() -> impl Generator<Value = Vec<Member>> {
    prop::collection::vec((0u32..400, 0usize..4), 1..12).prop_map(|drawn| {
        let zoned = nodes(drawn.len()).into_iter().zip(drawn);
        zoned.map(|(m, (weight, zone))| Member { zone: format!("z{zone}"), weight, ..m }).collect()
    })
}

proptest! {
    #[test]
    fn consistent_is_a_clockwise_walk(members in weighted(), partition in 0u32..256) {
        prop_assert_eq!(
            order(Strategy::Consistent, &members, partition, 256),
            walked(&members, partition, 256)
        );
    }

    #[test]
    fn hrw_is_a_sort_by_score(members in weighted(), partition in 0u32..65_536) {
        prop_assert_eq!(order(Strategy::Hrw, &members, partition, 65_536), scored(&members, partition));
    }

    #[test]
    fn without_balance_a_table_is_the_order_spread_over_zones(members in weighted(), replicas in 1usize..5) {
        prop_assume!(members.iter().any(|m| m.weight > 0));
        for strategy in [Strategy::Consistent, Strategy::Hrw] {
            let wish = Wish { strategy, members: &members, partitions: 64, replicas, balance: None };
            let table = table(&wish, None).unwrap();
            for partition in 0..64 {
                let order = order(strategy, &members, partition, 64);
                prop_assert_eq!(table.owners(partition), spread(&order, &members, replicas));
            }
        }
    }
}

#[test]
fn a_preferred_node_shows_why_it_stands_there() {
    let members = nodes(20);
    for partition in 0..64 {
        let scores = preference(Strategy::Hrw, &members, partition, 64);
        assert!(scores.is_sorted_by(|a, b| match (a.standing, b.standing) {
            (Standing::Score(a), Standing::Score(b)) => a > b && b > 0.0,
            _ => false,
        }));
        let clockwise = |position: u64| position.wrapping_sub(u64::from(partition) << 58);
        let positions = preference(Strategy::Consistent, &members, partition, 64);
        assert!(positions.is_sorted_by(|a, b| match (a.standing, b.standing) {
            (Standing::Position(a), Standing::Position(b)) => clockwise(a) < clockwise(b),
            _ => false,
        }));
    }
}

#[test]
fn zones_come_first_then_whoever_was_skipped() {
    let mut members = nodes(5);
    for (member, zone) in members.iter_mut().zip(["a", "a", "b", "a", "b"]) {
        member.zone = zone.to_owned();
    }
    assert_eq!(spread(&[1, 0, 3, 4, 2], &members, 1), [1]);
    assert_eq!(spread(&[1, 0, 3, 4, 2], &members, 2), [1, 4]);
    assert_eq!(spread(&[1, 0, 3, 4, 2], &members, 4), [1, 4, 0, 3]);
    assert_eq!(spread(&[1, 0, 3, 4, 2], &members, 9), [1, 4, 0, 3, 2]);
}

#[test]
fn weights_are_chances_to_come_first() {
    let mut members = nodes(3);
    (members[0].weight, members[1].weight, members[2].weight) = (50, 150, 300);
    for (strategy, tolerance) in [(Strategy::Hrw, 0.05), (Strategy::Consistent, 0.25)] {
        let wish = Wish { strategy, members: &members, partitions: 65_536, replicas: 1, balance: None };
        let firsts = assess(&members, None, &table(&wish, None).unwrap()).firsts;
        for (first, weight) in firsts.iter().zip([0.1, 0.3, 0.6]) {
            let off = f64::from(*first) / 65_536.0 / weight - 1.0;
            assert!(off.abs() < tolerance, "{strategy}: {first} firsts for weight {weight}");
        }
    }
}

/// Computed once; the same on every platform, or EXPLAIN would tell two stories.
#[test]
fn the_orders_never_change() {
    let members = nodes(6);
    assert_eq!(order(Strategy::Consistent, &members, 7, 64), [1, 0, 2, 4, 5, 3]);
    assert_eq!(order(Strategy::Hrw, &members, 7, 64), [5, 3, 2, 1, 4, 0]);
    let standing = |strategy| preference(strategy, &members, 7, 64)[0].standing;
    assert_eq!(standing(Strategy::Hrw), Standing::Score(358.7087518840522));
    assert_eq!(standing(Strategy::Consistent), Standing::Position(2_054_960_289_138_263_041));
}
