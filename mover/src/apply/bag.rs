//! Changes of a table without a key. Its rows are a multiset: equal ones cannot be told apart and need not be, so what
//! counts is how many of them come and go.
//!
//! The net number of every row's comings and goings is carried out, goings first. That they are there is certain at
//! the applied position, whatever else the stream did: what is not there is an alarm.

use std::collections::HashMap;

use crate::change::Change;
use crate::value::{Row, key_of};

/// What the changes of one table come to.
#[derive(Default)]
pub struct Bag {
    by_row: HashMap<Vec<u8>, usize>,
    rows: Vec<(Row, i64)>,
}

impl Bag {
    /// Adds a change.
    pub fn add(&mut self, change: Change) {
        match change {
            Change::Insert { after, .. } => self.count(after, 1),
            Change::Delete { before, .. } => self.count(before, -1),
            Change::Update { before, after, .. } => {
                self.count(before, -1);
                self.count(after, 1);
            }
        }
    }

    fn count(&mut self, row: Row, by: i64) {
        let all: Vec<usize> = (0..row.len()).collect();
        let at = *self.by_row.entry(key_of(&row, &all)).or_insert(self.rows.len());
        match self.rows.get_mut(at) {
            Some((_, count)) => *count += by,
            None => self.rows.push((row, by)),
        }
    }

    /// The rows to remove, equal ones together, and the rows to add.
    pub fn finish(self) -> (Vec<Vec<Row>>, Vec<Row>) {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (row, count) in self.rows {
            let rows = std::iter::repeat_n(row, count.unsigned_abs() as usize);
            match count {
                0 => {}
                1.. => added.extend(rows),
                _ => removed.push(rows.collect()),
            }
        }
        (removed, added)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;

    proptest! {
        /// Random changes that a multiset allows, cut into runs: the same rows in the end, and never one removed that
        /// is not there.
        #[test]
        fn a_multiset_comes_out_the_same(draws in prop::collection::vec((0..3u8, 0..4i64, 0..4i64), 0..60), cut in 1..20usize) {
            let row = |v: i64| vec![Value::Int(v), Value::Null];
            let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
            let mut changes = Vec::new();
            for (kind, a, b) in draws {
                let there = wanted.get(&a).is_some_and(|n| *n > 0);
                let change = match kind {
                    0 => Change::Insert { table: 0, after: row(a) },
                    1 if there => Change::Delete { table: 0, before: row(a) },
                    2 if there => Change::Update { table: 0, before: row(a), after: row(b) },
                    _ => continue,
                };
                if kind > 0 { *wanted.entry(a).or_default() -= 1 }
                match kind { 0 => *wanted.entry(a).or_default() += 1, 2 => *wanted.entry(b).or_default() += 1, _ => {} }
                changes.push(change);
            }
            let mut found: BTreeMap<i64, i64> = BTreeMap::new();
            for run in changes.chunks(cut) {
                let mut bag = Bag::default();
                run.iter().cloned().for_each(|c| bag.add(c));
                let (removed, added) = bag.finish();
                let value = |r: &Row| match r[0] { Value::Int(v) => v, _ => unreachable!() };
                for r in removed.iter().flatten() {
                    let n = found.entry(value(r)).or_default();
                    prop_assert!(*n > 0);
                    *n -= 1;
                }
                added.iter().for_each(|r| *found.entry(value(r)).or_default() += 1);
            }
            wanted.retain(|_, n| *n > 0);
            found.retain(|_, n| *n > 0);
            prop_assert_eq!(found, wanted);
        }
    }
}
