//! Which statements a run of changes becomes. Pure: changes in, steps out, in an order that gives the same rows.
//!
//! Neighbouring inserts, and neighbouring deletes, of one table become one step. Nothing is reordered, so that two
//! changes that share a primary or unique key value keep their order.

use crate::change::Change;
use crate::value::{Row, row_weight};

/// Rows that go into one step at the most.
const MOST_ROWS: usize = 500;
/// Bytes that go into one step at the most, unless one row alone is larger.
const MOST_BYTES: usize = 1 << 20;

/// How far the target can be trusted to hold what the source held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At every commit each row of the target equals the source's: whatever does not fit is an alarm.
    Exact,
    /// Rows may be missing or newer: write after-images over whatever is there.
    Overwrite,
}

/// What happens to the rows of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// They are not there, and are added.
    Insert,
    /// They are written over whatever has one of their keys.
    Replace,
    /// They are removed.
    Delete {
        /// Whether all of them must be there.
        must_exist: bool,
    },
}

/// One thing to do to one table, by its index in the workflow.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The same operation on several rows.
    Batch {
        /// Which table.
        table: usize,
        /// What to do.
        operation: Operation,
        /// The rows, whole.
        rows: Vec<Row>,
    },
    /// Change a row that is there.
    Update {
        /// Which table.
        table: usize,
        /// The row as it is.
        before: Row,
        /// The row as it will be.
        after: Row,
    },
}

/// Plans `changes`. `finished(table)`: whether the table's copy is complete, so that every row must be there.
pub fn plan(changes: Vec<Change>, mode: Mode, finished: impl Fn(usize) -> bool) -> Vec<Step> {
    use Operation::{Delete, Insert, Replace};
    let mut steps = Steps::default();
    for change in changes {
        match (mode, change) {
            (Mode::Exact, Change::Insert { table, after }) => steps.add(table, Insert, after),
            (Mode::Exact, Change::Delete { table, before }) => {
                steps.add(table, Delete { must_exist: finished(table) }, before);
            }
            (Mode::Exact, Change::Update { table, before, after }) if finished(table) => {
                steps.done.push(Step::Update { table, before, after });
            }
            (Mode::Exact, Change::Update { table, before, after }) => {
                steps.add(table, Delete { must_exist: false }, before);
                steps.add(table, Insert, after);
            }
            (Mode::Overwrite, Change::Insert { table, after }) => steps.add(table, Replace, after),
            (Mode::Overwrite, Change::Delete { table, before }) => {
                steps.add(table, Delete { must_exist: false }, before);
            }
            (Mode::Overwrite, Change::Update { table, before, after }) => {
                steps.add(table, Delete { must_exist: false }, before);
                steps.add(table, Replace, after);
            }
        }
    }
    steps.done
}

#[derive(Default)]
struct Steps {
    done: Vec<Step>,
    /// Bytes in the last batch.
    bytes: usize,
}

impl Steps {
    /// Adds a row to the last batch if it is of the same table and operation and not full, else to a new one.
    fn add(&mut self, to: usize, what: Operation, row: Row) {
        let weight = row_weight(&row);
        if let Some(Step::Batch { table, operation, rows }) = self.done.last_mut()
            && (*table, *operation) == (to, what)
            && rows.len() < MOST_ROWS
            && self.bytes + weight <= MOST_BYTES
        {
            rows.push(row);
            self.bytes += weight;
            return;
        }
        self.done.push(Step::Batch { table: to, operation: what, rows: vec![row] });
        self.bytes = weight;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::value::Value;

    fn row(key: i64, value: i64) -> Row {
        vec![Value::Int(key), Value::Int(value)]
    }

    fn int(value: &Value) -> i64 {
        match value {
            Value::Int(v) => *v,
            other => panic!("not an integer: {other:?}"),
        }
    }

    type Rows = BTreeMap<(usize, i64), i64>;

    /// What a server does with the steps; panics where a real one would raise the alarm.
    fn carry_out(rows: &mut Rows, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Update { table, before, after } => {
                    assert!(rows.remove(&(table, int(&before[0]))).is_some(), "update of a missing row");
                    rows.insert((table, int(&after[0])), int(&after[1]));
                }
                Step::Batch { table, operation, rows: batch } => {
                    for row in batch {
                        let key = (table, int(&row[0]));
                        match operation {
                            Operation::Insert => {
                                assert!(rows.insert(key, int(&row[1])).is_none(), "duplicate key");
                            }
                            Operation::Replace => drop(rows.insert(key, int(&row[1]))),
                            Operation::Delete { must_exist } => {
                                assert!(
                                    rows.remove(&key).is_some() || !must_exist,
                                    "delete of a missing row"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    /// A history of changes that a server could have had, beginning with no rows, and the rows it leaves.
    fn history(choices: &[(u8, i64, i64)]) -> (Vec<Change>, Rows) {
        let mut rows = Rows::new();
        let mut changes = Vec::new();
        for &(choice, key, value) in choices {
            let table = usize::from(choice & 1);
            match rows.get(&(table, key)).copied() {
                None => {
                    rows.insert((table, key), value);
                    changes.push(Change::Insert { table, after: row(key, value) });
                }
                Some(old) if choice & 2 == 0 => {
                    rows.remove(&(table, key));
                    changes.push(Change::Delete { table, before: row(key, old) });
                }
                Some(old) => {
                    let to = if rows.contains_key(&(table, key + 1)) { key } else { key + 1 };
                    rows.remove(&(table, key));
                    rows.insert((table, to), value);
                    changes.push(Change::Update { table, before: row(key, old), after: row(to, value) });
                }
            }
        }
        (changes, rows)
    }

    #[test]
    fn neighbours_share_a_step_up_to_its_limit() {
        let inserts = |n: i64| (0..n).map(|i| Change::Insert { table: 0, after: row(i, 0) }).collect();
        assert_eq!(plan(inserts(MOST_ROWS as i64), Mode::Exact, |_| true).len(), 1);
        assert_eq!(plan(inserts(MOST_ROWS as i64 + 1), Mode::Exact, |_| true).len(), 2);
    }

    proptest! {
        #[test]
        fn steps_give_the_rows_of_the_history(
            choices in prop::collection::vec((any::<u8>(), 0i64..6, any::<i64>()), 0..60),
            finished in any::<bool>(),
        ) {
            let (changes, expected) = history(&choices);
            let mut rows = Rows::new();
            carry_out(&mut rows, plan(changes, Mode::Exact, |_| finished));
            prop_assert_eq!(rows, expected);
        }

        #[test]
        fn overwriting_may_repeat_any_suffix(
            choices in prop::collection::vec((any::<u8>(), 0i64..6, any::<i64>()), 0..60),
            from in any::<prop::sample::Index>(),
        ) {
            let (changes, expected) = history(&choices);
            let suffix = changes[from.index(changes.len() + 1).min(changes.len())..].to_vec();
            let mut rows = Rows::new();
            carry_out(&mut rows, plan(changes, Mode::Overwrite, |_| true));
            carry_out(&mut rows, plan(suffix, Mode::Overwrite, |_| true));
            prop_assert_eq!(rows, expected);
        }
    }
}
