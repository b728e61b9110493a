//! The owner table: rows of node indices, validated once, shared cheaply.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use super::{NODES_MAX, NodeIndex, PARTITIONS_MAX, PARTITIONS_MIN, REPLICAS_MAX};

/// Who owns which partition: partitions × width cells, row by row. Row *p* holds partition *p*'s owners in order of
/// preference, each at most once. Immutable; a clone shares the cells.
///
/// In JSON: `{"width":3,"cells":"<standard base64, a byte a cell>"}`.
#[derive(Clone, Eq, PartialEq)]
pub struct Table {
    width: u8,
    /// As many as `width` × a power of two.
    cells: Arc<[NodeIndex]>,
}

/// Why some cells are no table.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TableError {
    /// 0, or more than [`REPLICAS_MAX`].
    #[error("a table {width} owners wide: it takes 1 to {REPLICAS_MAX}")]
    Width {
        /// What was given.
        width: usize,
    },
    /// The last row is not whole.
    #[error("{cells} cells do not fill rows of {width}: the table was cut or its width is wrong")]
    Ragged {
        /// How many cells were given.
        cells: usize,
        /// How many a row takes.
        width: usize,
    },
    /// No power of two, or out of range.
    #[error(
        "{cells} cells in rows of {width} make {} partitions: it takes a power of two from {PARTITIONS_MIN} \
         to {PARTITIONS_MAX}", cells / width
    )]
    Partitions {
        /// How many cells were given.
        cells: usize,
        /// How many a row takes.
        width: usize,
    },
    /// Two replicas on one node are one.
    #[error("partition {partition} names node index {node} twice: its owners must be distinct")]
    Twice {
        /// The partition.
        partition: u32,
        /// The node.
        node: NodeIndex,
    },
}

impl Table {
    /// A table of `cells`, row by row, `width` owners a partition.
    pub fn new(width: usize, cells: Vec<NodeIndex>) -> Result<Table, TableError> {
        if width == 0 || width > REPLICAS_MAX {
            return Err(TableError::Width { width });
        }
        if !cells.len().is_multiple_of(width) {
            return Err(TableError::Ragged { cells: cells.len(), width });
        }
        if !partitions_are_valid(cells.len() / width) {
            return Err(TableError::Partitions { cells: cells.len(), width });
        }
        for (partition, row) in (0..).zip(cells.chunks(width)) {
            if let Some(node) = first_repeated(row) {
                return Err(TableError::Twice { partition, node });
            }
        }
        Ok(Table { width: width as u8, cells: cells.into() })
    }

    /// How many partitions there are.
    #[inline]
    pub fn partitions(&self) -> u32 {
        (self.cells.len() / self.width()) as u32
    }

    /// How many owners each partition has.
    #[inline]
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// A partition's owners, the preferred one first. Panics where there is no such partition.
    #[inline]
    pub fn owners(&self, partition: u32) -> &[NodeIndex] {
        let start = partition as usize * self.width();
        &self.cells[start..start + self.width()]
    }

    /// All rows, from partition 0 on.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[NodeIndex]> {
        self.cells.chunks_exact(self.width())
    }

    /// The same table for another list of nodes: `f` gives each node's index there, and no two nodes the same.
    pub fn remapped(&self, f: impl Fn(NodeIndex) -> NodeIndex) -> Table {
        let cells: Arc<[NodeIndex]> = self.cells.iter().map(|node| f(*node)).collect();
        debug_assert!(cells.chunks_exact(self.width()).all(|row| first_repeated(row).is_none()));
        Table { width: self.width, cells }
    }
}

pub(super) fn partitions_are_valid(partitions: usize) -> bool {
    partitions.is_power_of_two() && (PARTITIONS_MIN as usize..=PARTITIONS_MAX as usize).contains(&partitions)
}

fn first_repeated(row: &[NodeIndex]) -> Option<NodeIndex> {
    let mut seen = [false; NODES_MAX];
    row.iter().copied().find(|node| std::mem::replace(&mut seen[usize::from(*node)], true))
}

/// Tables are long: their shape, not their cells.
impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} partitions × {})", self.partitions(), self.width)
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    width: usize,
    cells: std::borrow::Cow<'a, str>,
}

impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire { width: self.width(), cells: STANDARD.encode(&self.cells).into() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Table, D::Error> {
        use serde::de::Error;

        let wire = Wire::deserialize(deserializer)?;
        let cells = STANDARD
            .decode(wire.cells.as_bytes())
            .map_err(|error| D::Error::custom(format_args!("the table's cells are not base64: {error}")))?;
        Table::new(wire.width, cells).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cells(partitions: usize, row: &[NodeIndex]) -> Vec<NodeIndex> {
        row.repeat(partitions)
    }

    #[test]
    fn a_table_comes_back_from_json_as_it_was() {
        let table = Table::new(3, cells(64, &[2, 255, 0])).unwrap();
        let json = serde_json::to_string(&table).unwrap();
        assert!(json.starts_with(r#"{"width":3,"cells":"Av8AAv8A"#), "{json}");
        let back: Table = serde_json::from_str(&json).unwrap();
        assert!(back == table);
        assert_eq!((back.partitions(), back.width(), back.owners(63)), (64, 3, &[2, 255, 0][..]));
    }

    #[test]
    fn what_is_no_table_is_refused_with_the_numbers() {
        let error = |width, cells| Table::new(width, cells).unwrap_err();
        assert_eq!(error(0, vec![]), TableError::Width { width: 0 });
        assert_eq!(error(256, cells(64, &[0; 256])), TableError::Width { width: 256 });
        assert_eq!(error(3, vec![0; 64]), TableError::Ragged { cells: 64, width: 3 });
        assert_eq!(
            error(1, vec![0; 96]).to_string(),
            "96 cells in rows of 1 make 96 partitions: it takes a power of two from 64 to 65536"
        );
        assert_eq!(error(1, vec![0; 32]), TableError::Partitions { cells: 32, width: 1 });
        assert_eq!(error(1, vec![0; 131_072]), TableError::Partitions { cells: 131_072, width: 1 });
        let mut twice = cells(64, &[0, 1]);
        twice[2 * 5] = 1;
        assert_eq!(error(2, twice), TableError::Twice { partition: 5, node: 1 });
    }

    #[test]
    fn decoding_validates() {
        let refused = |json: &str| serde_json::from_str::<Table>(json).unwrap_err().to_string();
        assert!(refused(r#"{"width":1,"cells":"?"}"#).contains("not base64"));
        assert!(refused(r#"{"width":0,"cells":""}"#).contains("0 owners wide"));
        assert!(refused(r#"{"width":1,"cells":"AAAA"}"#).contains("make 3 partitions"));
        assert!(refused(r#"{"width":-1,"cells":""}"#).contains("invalid value"));
    }

    #[test]
    fn remapping_renames_owners_and_leaves_rows_in_place() {
        let table = Table::new(2, cells(64, &[0, 1])).unwrap();
        assert_eq!(table.remapped(|node| 1 - node).owners(7), [1, 0]);
    }
}
