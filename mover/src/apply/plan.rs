//! Which statements a run of changes becomes. Pure: changes in, steps out that give the same rows.
//!
//! Changes of one row are merged into their net effect. Then all rows that were there and changed are removed, and all
//! rows that are there in the end are added, a table at a time. Between the two no touched row is left that could hold
//! a unique value which another one needs: swaps and chains of unique values come out right in any order. What was not
//! touched agrees with the source before and after, so that an added row meets a duplicate only if the target does not
//! hold what it must. Where a table has no unique value but its key, rows that are there before and after are written
//! over instead, which leaves alone every index whose columns did not change.
//!
//! A transaction may come in several parts. Servers check unique values row by row, so that each part ends with rows
//! that could stand side by side, and the next one begins there.

use std::cmp::Ordering;
use std::collections::HashMap;

use super::bag::Bag;
use crate::change::Change;
use crate::planted::{Bug, ENABLED, is_planted};
use crate::value::{Row, Value, key_of, row_weight};

/// Rows that go into one step at the most.
const MOST_ROWS: usize = 1000;
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
    /// They are written over the rows with the same keys, in a table where nothing else is unique.
    Update {
        /// Whether all of them must be there; otherwise those that are not are added.
        must_exist: bool,
    },
    /// They are removed.
    Delete {
        /// Whether all of them must be there.
        must_exist: bool,
    },
    /// They are all the same, and as many rows that equal them in every column are removed, which must be there.
    DeleteEqual,
}

/// The same operation on several rows of one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The table's index in the workflow.
    pub table: usize,
    /// What to do.
    pub operation: Operation,
    /// The rows, whole.
    pub rows: Vec<Row>,
}

/// A table as the plan needs it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Indexes of the key's columns in a row; none: the table has no key.
    pub key: &'a [usize],
    /// Whether the table's copy is complete, so that every row that changes must be there.
    pub finished: bool,
    /// Whether rows can be written over where they stand: nothing but the key is unique.
    pub in_place: bool,
}

/// Plans `changes`; `facts` tells of each table by its index.
pub fn plan<'a>(changes: Vec<Change>, mode: Mode, facts: impl Fn(usize) -> Facts<'a>) -> Vec<Step> {
    let mut tables: Vec<(usize, Effects)> = Vec::new();
    for change in changes {
        let table = change.table();
        let key = facts(table).key;
        let at = tables.iter().position(|(t, _)| *t == table).unwrap_or_else(|| {
            tables.push((table, Effects::new(key)));
            tables.len() - 1
        });
        match &mut tables[at].1 {
            Effects::Keyed(net) => net.add(change, key),
            Effects::Equal(bag) => bag.add(change),
        }
    }
    let mut steps = Vec::new();
    for (table, effects) in tables {
        match effects {
            Effects::Keyed(net) => {
                let Facts { key, finished, in_place } = facts(table);
                let must_exist = mode == Mode::Exact && finished;
                let add = if mode == Mode::Exact { Operation::Insert } else { Operation::Replace };
                let Parts { removed, changed, added } = net.finish(key, mode, in_place);
                let first = steps.len();
                batches(&mut steps, table, Operation::Delete { must_exist }, removed);
                batches(&mut steps, table, Operation::Update { must_exist }, changed);
                batches(&mut steps, table, add, added);
                if steps.len() > first + 1 && is_planted(Bug::AddedBeforeRemoved) {
                    steps[first..].reverse();
                }
            }
            Effects::Equal(bag) => {
                let (removed, added) = bag.finish();
                let operation = Operation::DeleteEqual;
                steps.extend(removed.into_iter().map(|rows| Step { table, operation, rows }));
                batches(&mut steps, table, Operation::Insert, added);
            }
        }
    }
    steps
}

/// What the changes of one table come to.
enum Effects {
    /// Rows are told apart by a key.
    Keyed(Net),
    /// Rows are told apart by all their values.
    Equal(Bag),
}

impl Effects {
    fn new(key: &[usize]) -> Self {
        if key.is_empty() { Self::Equal(Bag::default()) } else { Self::Keyed(Net::default()) }
    }
}

/// What the changes of one table with a key come to.
#[derive(Default)]
struct Net {
    by_key: HashMap<Vec<u8>, usize>,
    rows: Vec<Effect>,
}

/// What the changes of one row come to.
#[derive(Default)]
struct Effect {
    /// The row before the first of them, if there was one.
    before: Option<Row>,
    /// The row after the last of them, if there is one.
    after: Option<Row>,
    /// The row as it was removed last, if it was not there before the first of them.
    gone: Option<Row>,
}

impl Net {
    fn add(&mut self, change: Change, key: &[usize]) {
        let (before, after) = match change {
            Change::Insert { after, .. } => (None, Some(after)),
            Change::Delete { before, .. } => (Some(before), None),
            Change::Update { before, after, .. } => (Some(before), Some(after)),
        };
        if ENABLED && let (Some(before), Some(after)) = (&before, &after) {
            let at = self.by_key.get(&key_of(before, key));
            let known = at.is_some_and(|at| self.rows[*at].after.is_some());
            let same = key_of(before, key) == key_of(after, key);
            if known && same && is_planted(Bug::FirstImageWins) {
                return;
            }
            if !same && is_planted(Bug::OldKeyStays) {
                return self.add(Change::Insert { table: 0, after: after.clone() }, key);
            }
        }
        if let Some(before) = before {
            self.remove(before, key);
        }
        if let Some(after) = after {
            let at = self.effect(&after, key);
            self.rows[at].after = Some(after);
        }
    }

    /// Where the effect on the row of this key is; a new one knows nothing of the row yet.
    fn effect(&mut self, row: &[Value], key: &[usize]) -> usize {
        let rows = &mut self.rows;
        *self.by_key.entry(key_of(row, key)).or_insert_with(|| {
            rows.push(Effect::default());
            rows.len() - 1
        })
    }

    fn remove(&mut self, row: Row, key: &[usize]) {
        let known = self.rows.len();
        let at = self.effect(&row, key);
        let effect = &mut self.rows[at];
        effect.after = None;
        if at == known {
            effect.before = Some(row);
        } else if effect.before.is_none() {
            effect.gone = Some(row);
        }
    }

    /// What becomes of the rows, in the order of their keys: neighbours share the pages of an index.
    fn finish(self, key: &[usize], mode: Mode, in_place: bool) -> Parts {
        let mut parts = Parts::default();
        let exact = mode == Mode::Exact;
        for effect in self.rows {
            match effect {
                Effect { before: Some(_), after: Some(after), .. } if in_place && exact => {
                    parts.changed.push(after);
                }
                // It came and went. A target that may be ahead can have it all the same, from a chunk that was read in
                // between.
                Effect { before: None, after: None, gone } if !exact => parts.removed.extend(gone),
                Effect { before, after, .. } => {
                    parts.removed.extend(before);
                    parts.added.extend(after);
                }
            }
        }
        for rows in [&mut parts.removed, &mut parts.changed, &mut parts.added] {
            rows.sort_unstable_by(|a, b| order(a, b, key));
        }
        parts
    }
}

/// Rows of one table by what becomes of them.
#[derive(Default)]
struct Parts {
    removed: Vec<Row>,
    changed: Vec<Row>,
    added: Vec<Row>,
}

/// An order of keys that mostly is the server's; nothing depends on it but speed.
fn order(a: &[Value], b: &[Value], key: &[usize]) -> Ordering {
    let one = |a: &Value, b: &Value| match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::UInt(a), Value::UInt(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    key.iter().map(|&k| one(&a[k], &b[k])).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// Cuts rows into steps of a bounded size.
fn batches(steps: &mut Vec<Step>, table: usize, operation: Operation, rows: Vec<Row>) {
    let mut bytes = usize::MAX;
    for (n, row) in rows.into_iter().enumerate() {
        let is_lost = n % 8 == 7 && matches!(operation, Operation::Delete { must_exist: true });
        if is_lost && is_planted(Bug::BatchLimit) {
            continue;
        }
        bytes = bytes.saturating_add(row_weight(&row));
        match steps.last_mut() {
            Some(step) if bytes <= MOST_BYTES && step.rows.len() < MOST_ROWS => step.rows.push(row),
            _ => {
                bytes = row_weight(&row);
                steps.push(Step { table, operation, rows: vec![row] });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Unique values by table and key.
    type Rows = BTreeMap<(usize, i64), i64>;

    fn row(key: i64, value: i64) -> Row {
        vec![Value::Int(key), Value::Int(value)]
    }

    fn int(value: &Value) -> i64 {
        match value {
            Value::Int(v) => *v,
            other => panic!("not an integer: {other:?}"),
        }
    }

    /// A source whose tables have a primary and a unique key, and the changes that it logged.
    #[derive(Default)]
    struct Source {
        rows: Rows,
        changes: Vec<Change>,
    }

    impl Source {
        fn free(&self, table: usize, value: i64) -> bool {
            !self.rows.iter().any(|((t, _), v)| (*t, *v) == (table, value))
        }

        fn insert(&mut self, table: usize, key: i64, value: i64) {
            if self.free(table, value) {
                self.rows.insert((table, key), value);
                self.changes.push(Change::Insert { table, after: row(key, value) });
            }
        }

        fn delete(&mut self, table: usize, key: i64) {
            if let Some(old) = self.rows.remove(&(table, key)) {
                self.changes.push(Change::Delete { table, before: row(key, old) });
            }
        }

        fn update(&mut self, table: usize, from: i64, to: i64, value: i64) {
            let Some(old) = self.rows.remove(&(table, from)) else { return };
            let (to, value) = match self.rows.contains_key(&(table, to)) || !self.free(table, value) {
                true => (from, old),
                false => (to, value),
            };
            self.rows.insert((table, to), value);
            self.changes.push(Change::Update { table, before: row(from, old), after: row(to, value) });
        }

        /// Swaps two unique values over a third one, as a client would.
        fn swap(&mut self, table: usize, a: i64, b: i64) {
            if let (Some(&x), Some(&y)) = (self.rows.get(&(table, a)), self.rows.get(&(table, b))) {
                self.update(table, a, a, -1);
                self.update(table, b, b, x);
                self.update(table, a, a, y);
            }
        }
    }

    fn history(choices: &[(u8, i64, i64, i64)]) -> Source {
        let mut source = Source::default();
        for &(choice, a, b, value) in choices {
            let table = usize::from(choice & 1);
            match (source.rows.contains_key(&(table, a)), choice >> 1 & 3) {
                (false, _) => source.insert(table, a, value),
                (true, 0) => source.delete(table, a),
                (true, 1) => source.update(table, a, a, value),
                (true, 2) => source.update(table, a, b, value),
                (true, _) => source.swap(table, a, b),
            }
        }
        source
    }

    /// What a server does with the steps; panics where a real one would raise the alarm. `unique`: not only keys are.
    fn carry_out(rows: &mut Rows, steps: Vec<Step>, unique: bool) {
        for Step { table, operation, rows: batch } in steps {
            for row in batch {
                let (key, value) = ((table, int(&row[0])), int(&row[1]));
                match operation {
                    Operation::Delete { must_exist } => {
                        assert!(rows.remove(&key).is_some() || !must_exist, "delete of a missing row");
                        continue;
                    }
                    Operation::DeleteEqual => panic!("the table has a key"),
                    Operation::Update { must_exist } => {
                        assert!(!unique, "written over, where a unique value may belong to another row");
                        assert!(rows.contains_key(&key) || !must_exist, "update of a missing row");
                    }
                    Operation::Replace => rows.retain(|k, v| k.0 != table || *v != value),
                    Operation::Insert => {
                        assert!(!rows.contains_key(&key), "duplicate key");
                        assert!(
                            !unique || !rows.iter().any(|(k, v)| k.0 == table && *v == value),
                            "duplicate unique value"
                        );
                    }
                }
                rows.insert(key, value);
            }
        }
    }

    fn planned(changes: &[Change], mode: Mode, finished: bool) -> Vec<Step> {
        plan(changes.to_vec(), mode, |_| Facts { key: &[0], finished, in_place: false })
    }

    fn planned_in_place(changes: &[Change], finished: bool) -> Vec<Step> {
        plan(changes.to_vec(), Mode::Exact, |_| Facts { key: &[0], finished, in_place: true })
    }

    fn choices() -> impl Strategy<Value = Vec<(u8, i64, i64, i64)>> {
        prop::collection::vec((any::<u8>(), 0i64..6, 0i64..6, 0i64..12), 0..80)
    }

    #[test]
    fn rows_share_a_step_up_to_its_limit() {
        let inserts =
            |n: i64| (0..n).map(|i| Change::Insert { table: 0, after: row(i, i) }).collect::<Vec<_>>();
        let steps = |n: usize| planned(&inserts(n as i64), Mode::Exact, true).len();
        assert_eq!((steps(MOST_ROWS), steps(MOST_ROWS + 1)), (1, 2));
    }

    #[test]
    fn a_row_that_came_and_went_leaves_nothing_to_do() {
        let changes =
            [Change::Insert { table: 0, after: row(1, 1) }, Change::Delete { table: 0, before: row(1, 1) }];
        assert_eq!(planned(&changes, Mode::Exact, true), []);
    }

    #[test]
    fn a_row_that_came_and_went_is_removed_from_a_target_that_may_be_ahead() {
        let insert = |key| Change::Insert { table: 0, after: row(key, key) };
        let moved = Change::Update { table: 0, before: row(1, 1), after: row(2, 1) };
        let delete = Change::Delete { table: 0, before: row(2, 1) };
        let operation = Operation::Delete { must_exist: false };
        let removal = Step { table: 0, operation, rows: vec![row(1, 1), row(2, 1)] };
        assert_eq!(planned(&[insert(1), moved, delete], Mode::Overwrite, false), [removal]);
    }

    #[test]
    fn a_row_that_stays_is_written_over() {
        let change = |from, to| Change::Update { table: 0, before: row(1, from), after: row(1, to) };
        let steps = planned_in_place(&[change(1, 2), change(2, 3)], true);
        assert_eq!(
            steps,
            [Step { table: 0, operation: Operation::Update { must_exist: true }, rows: vec![row(1, 3)] }]
        );
    }

    #[test]
    fn rows_come_in_the_order_of_their_keys() {
        let insert = |k| Change::Insert { table: 0, after: row(k, k) };
        let steps = planned(&[insert(3), insert(-1), insert(2)], Mode::Exact, true);
        assert_eq!(steps[0].rows, [row(-1, -1), row(2, 2), row(3, 3)]);
    }

    proptest! {
        #[test]
        fn rows_written_over_give_the_sources_rows(choices in choices(), size in 1usize..20, finished in any::<bool>()) {
            let source = history(&choices);
            let mut rows = Rows::new();
            for part in source.changes.chunks(size) {
                carry_out(&mut rows, planned_in_place(part, finished), false);
            }
            prop_assert_eq!(rows, source.rows);
        }

        #[test]
        fn steps_give_the_sources_rows(choices in choices(), size in 1usize..20, finished in any::<bool>()) {
            let source = history(&choices);
            let mut rows = Rows::new();
            for part in source.changes.chunks(size) {
                carry_out(&mut rows, planned(part, Mode::Exact, finished), true);
            }
            prop_assert_eq!(rows, source.rows);
        }

        #[test]
        fn overwriting_may_repeat_any_suffix(choices in choices(), from in any::<prop::sample::Index>()) {
            let source = history(&choices);
            let suffix = &source.changes[from.index(source.changes.len() + 1).min(source.changes.len())..];
            let mut rows = Rows::new();
            carry_out(&mut rows, planned(&source.changes, Mode::Overwrite, true), true);
            carry_out(&mut rows, planned(suffix, Mode::Overwrite, true), true);
            prop_assert_eq!(rows, source.rows);
        }
    }
}
