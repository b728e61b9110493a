use proptest::prelude::*;

use super::super::*;
use super::nodes;

/// The shares that `assess` reports for members of these (zone, weight).
fn shares(drawn: &[(&str, u32)], width: usize) -> Vec<f64> {
    let members: Vec<Member> = nodes(drawn.len())
        .into_iter()
        .zip(drawn)
        .map(|(m, (zone, weight))| Member { zone: (*zone).to_owned(), weight: *weight, ..m })
        .collect();
    let row: Vec<NodeIndex> = (0..width as NodeIndex).collect();
    assess(&members, None, &Table::new(width, row.repeat(64)).unwrap()).shares
}

#[test]
fn shares_follow_weights() {
    assert_eq!(shares(&[("a", 100), ("b", 300)], 1), [16.0, 48.0]);
    assert_eq!(shares(&[("a", 1), ("a", 2), ("a", 0), ("a", 1)], 1), [16.0, 32.0, 0.0, 16.0]);
}

#[test]
fn a_node_has_one_replica_of_a_partition_and_the_rest_goes_to_others() {
    assert_eq!(shares(&[("a", 800), ("b", 100), ("c", 100)], 2), [64.0, 32.0, 32.0]);
    assert_eq!(shares(&[("a", 7), ("a", 5), ("a", 1)], 3), [64.0; 3]);
}

#[test]
fn a_zone_has_one_replica_of_a_partition_while_zones_suffice() {
    assert_eq!(shares(&[("a", 100), ("a", 100), ("a", 200), ("b", 100)], 2), [16.0, 16.0, 32.0, 64.0]);
}

#[test]
fn every_zone_has_a_replica_where_they_do_not_suffice() {
    let drawn = [("a", 100), ("a", 100), ("a", 100), ("a", 100), ("b", 10)];
    assert_eq!(shares(&drawn, 3), [32.0, 32.0, 32.0, 32.0, 64.0]);
}

proptest! {
    /// What makes shares fair: all is given out, nobody has more than it can hold, and whoever has less for its
    /// weight than another is full, or its zone is, or the other's zone has only what it must.
    #[test]
    fn shares_are_fair(drawn in prop::collection::vec((0usize..5, 1u32..500), 1..12), replicas in 1usize..5) {
        let names = ["a", "b", "c", "d", "e"];
        let members: Vec<(&str, u32)> = drawn.iter().map(|(zone, weight)| (names[*zone], *weight)).collect();
        let width = replicas.min(members.len());
        let shares = shares(&members, width);
        let zone_sum = |zone: &str| -> f64 {
            members.iter().zip(&shares).filter(|((z, _), _)| *z == zone).map(|(_, share)| share).sum()
        };
        let zones = names.iter().filter(|zone| zone_sum(zone) > 0.0).count();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-4;

        prop_assert!(near(shares.iter().sum(), (64 * width) as f64));
        prop_assert!(shares.iter().all(|share| *share <= 64.0));
        for zone in names.iter().filter(|zone| zone_sum(zone) > 0.0) {
            let sum = zone_sum(zone);
            prop_assert!(near(sum, 64.0) || (sum < 64.0) == (zones >= width), "{sum} cells in zone {zone}");
        }
        for ((zone, weight), share) in members.iter().zip(&shares) {
            for ((other_zone, other_weight), other) in members.iter().zip(&shares) {
                if share / f64::from(*weight) < other / f64::from(*other_weight) - 1e-4 {
                    let at_bound = *zone != *other_zone
                        && (near(zone_sum(zone), 64.0) || near(zone_sum(other_zone), 64.0));
                    prop_assert!(near(*share, 64.0) || at_bound, "{share} of {weight}, {other} of {other_weight}");
                }
            }
        }
    }
}
