use super::super::*;
use super::{nodes, wish};

fn refusal(wish: &Wish, previous: Option<&Table>) -> PlacementError {
    table(wish, previous).unwrap_err()
}

#[test]
fn somebody_must_take_partitions() {
    let mut members = nodes(2);
    assert_eq!(refusal(&wish(&[], 1), None), PlacementError::NoTakers { members: 0 });
    members.iter_mut().for_each(|m| m.weight = 0);
    assert_eq!(refusal(&wish(&members, 1), None), PlacementError::NoTakers { members: 2 });
}

#[test]
fn a_byte_counts_256_nodes() {
    assert_eq!(refusal(&wish(&nodes(257), 1), None), PlacementError::TooManyMembers { members: 257 });
    let members = nodes(256);
    let full = table(&wish(&members, 3), None).unwrap();
    assert!(assess(&members, None, &full).loads.iter().all(|load| *load == 3));
}

#[test]
fn a_name_is_one_nodes() {
    let mut members = nodes(3);
    members[2].name = "node-0".to_owned();
    assert_eq!(
        refusal(&wish(&members, 1), None),
        PlacementError::DuplicateName { name: "node-0".to_owned() }
    );
}

#[test]
fn numbers_out_of_range_are_named() {
    let mut members = nodes(3);
    for partitions in [0, 32, 96, 131_072] {
        let wish = Wish { partitions, ..wish(&members, 1) };
        assert_eq!(refusal(&wish, None), PlacementError::Partitions { partitions });
    }
    for replicas in [0, 256] {
        assert_eq!(refusal(&wish(&members, replicas), None), PlacementError::Replicas { replicas });
    }
    for percent in [-1.0, f64::INFINITY] {
        let wish = Wish { balance: Some(percent), ..wish(&members, 1) };
        assert_eq!(refusal(&wish, None), PlacementError::Balance { percent });
    }
    members[1].weight = WEIGHT_MAX + 1;
    assert_eq!(
        refusal(&wish(&members, 1), None).to_string(),
        "node \"node-1\" has weight 10001: weights are 0 to 10000, only their relation matters"
    );
}

#[test]
fn a_last_table_must_fit() {
    let members = nodes(3);
    let other = Table::new(1, vec![0; 64]).unwrap();
    assert_eq!(
        refusal(&wish(&members, 1), Some(&other)),
        PlacementError::PreviousPartitions { previous: 64, wished: 256 }
    );
    let mut cells = vec![0; 256];
    cells[9] = 3;
    assert_eq!(
        refusal(&wish(&members, 1), Some(&Table::new(1, cells).unwrap())),
        PlacementError::UnknownNode { partition: 9, node: 3, members: 3 }
    );
}

#[test]
fn strategies_have_two_names() {
    for strategy in [Strategy::Consistent, Strategy::Hrw] {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
        assert_eq!(serde_json::to_string(&strategy).unwrap(), format!("\"{strategy}\""));
    }
    let error = "HRW".parse::<Strategy>().unwrap_err();
    assert_eq!(error.to_string(), "unknown strategy \"HRW\": it is consistent or hrw");
}
