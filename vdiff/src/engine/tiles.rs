//! Whether the ranges that were compared cover a table: from below the smallest key to above the largest, with nothing
//! left out between two and nothing twice.
//!
//! Of what an earlier run compared nothing is known here: then rows are counted instead.

use std::collections::BTreeMap;

use super::cut::Cut;
use crate::plan::sql::Scope;

/// Ranges that were compared.
#[derive(Debug, Default)]
pub struct Tiles {
    /// Their bounds, by their number in the table's order.
    bounds: BTreeMap<u64, [Option<Cut>; 2]>,
    /// Whether rows of one were lost sight of.
    torn: bool,
}

impl Tiles {
    /// Adds a range; `whole`: all of its rows were compared.
    pub fn add(&mut self, number: u64, scope: &Scope, whole: bool) {
        self.bounds.insert(number, [scope.lower.clone(), scope.upper.clone()]);
        self.torn |= !whole;
    }

    /// Whether they cover all keys, and all rows.
    pub fn cover_all(&self) -> bool {
        // What the next range must begin with; the outer `None` follows the last one.
        let mut next = Some(None);
        for [lower, upper] in self.bounds.values() {
            if next.as_ref() != Some(lower) {
                return false;
            }
            next = upper.clone().map(Some);
        }
        next.is_none() && !self.torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges of one number, in this order; 0 for no bound.
    fn covers(ranges: &[(u64, u64, u64)]) -> bool {
        let cut = |n: u64| (n > 0).then(|| vec![n.to_string()]);
        let mut tiles = Tiles::default();
        for (number, lower, upper) in ranges {
            tiles.add(*number, &Scope { lower: cut(*lower), upper: cut(*upper), buckets: None }, true);
        }
        tiles.cover_all()
    }

    #[test]
    fn a_range_of_which_rows_were_lost_covers_nothing() {
        let mut tiles = Tiles::default();
        tiles.add(0, &Scope::default(), true);
        assert!(tiles.cover_all());
        tiles.add(0, &Scope::default(), false);
        assert!(!tiles.cover_all());
    }

    #[test]
    fn ranges_cover_a_table_only_without_gaps_and_with_both_ends() {
        assert!(covers(&[(0, 0, 0)]) && covers(&[(2, 5, 0), (0, 0, 3), (1, 3, 5)]));
        assert!(!covers(&[]) && !covers(&[(0, 0, 3)]) && !covers(&[(0, 3, 0)]));
        assert!(!covers(&[(0, 0, 3), (1, 4, 0)]) && !covers(&[(0, 0, 3), (1, 2, 0)]));
        assert!(!covers(&[(0, 0, 0), (1, 3, 0)]) && !covers(&[(0, 0, 0), (1, 0, 0)]));
    }
}
