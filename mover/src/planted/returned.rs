//! Rows that a copy without a history of deletes brings back, and whether they are still there when it ends.

use std::collections::HashMap;

use super::{Bug, is_active, is_planted};
use crate::change::Change;
use crate::schema::Table;
use crate::value::{Row, Value, key_of};

/// Columns that are unique beside the key in the tables that the load makes.
const UNIQUE: [&str; 3] = ["email", "order_no", "sku"];

/// What only one row of a table can have: its key, or the value of a unique column.
type Claim = (usize, usize, Vec<u8>);

/// Who has what, as far as the stream has told, and the rows that were brought back.
#[derive(Default)]
pub(crate) struct Returned {
    /// The key of the row that has a claim; none: nobody since it was let go.
    owners: HashMap<Claim, Option<Vec<u8>>>,
    back: Vec<Vec<Claim>>,
    ended: bool,
}

impl Returned {
    /// Takes note of a change: what it adds takes the place of a row that was brought back.
    pub(crate) fn change(&mut self, change: &Change, table: &Table) {
        if !is_active(Bug::RemovedForgotten) {
            return;
        }
        if let Some(before) = change.before() {
            let key = key_of(before, &table.key);
            for claim in claims(change.table(), table, before) {
                let owner = self.owners.entry(claim).or_default();
                owner.take_if(|owner| *owner == key);
            }
        }
        if let Some(after) = change.after() {
            for claim in claims(change.table(), table, after) {
                self.back.retain(|back| !back.contains(&claim));
                self.owners.insert(claim, Some(key_of(after, &table.key)));
            }
        }
    }

    /// Whether the rows that a chunk leaves out are left in by the bug, which is asked with all that was read.
    pub(crate) fn brings_back(&mut self, number: usize, table: &Table, read: &[Row], left: &[Row]) -> bool {
        if !is_active(Bug::RemovedForgotten) {
            return false;
        }
        let left: Vec<_> = left.iter().map(|row| key_of(row, &table.key)).collect();
        for row in read.iter().filter(|row| !left.contains(&key_of(row, &table.key))) {
            let claims = claims(number, table, row);
            // Where another row has one of its values by now, the server leaves it out.
            if claims.iter().all(|claim| self.owners.get(claim).is_none_or(Option::is_none)) {
                self.back.push(claims);
            }
        }
        true
    }

    /// The copy has ended, but for chunks that were handed over.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Counts harm where a row is still there once the copy has ended: from then on every change must fit.
    pub(crate) fn count(&mut self) {
        if self.ended {
            for _ in self.back.drain(..) {
                let _counted = is_planted(Bug::RemovedForgotten);
            }
        }
    }
}

fn claims(number: usize, table: &Table, row: &Row) -> Vec<Claim> {
    let unique = |name: &str| UNIQUE.contains(&name);
    let columns = table.columns.iter().enumerate();
    let beside = columns.filter(|(i, c)| unique(&c.name) && row[*i] != Value::Null);
    let key = (number, usize::MAX, key_of(row, &table.key));
    std::iter::once(key).chain(beside.map(|(i, _)| (number, i, key_of(row, &[i])))).collect()
}
