//! Rows of somebody's table: each ordinal has a key of its own; foreign keys point at rows that are likely to be there;
//! columns under a CHECK take values together that a row was seen to have.

use std::collections::BTreeMap;

use converge_mysql::quote;

use super::model::{Model, Table};
use crate::load::values::Dice;

/// How deep foreign keys are followed to find a parent's key.
const DEPTH: u32 = 8;
/// The least number of values that a leading column of a key is spread over.
const NARROW: u64 = 6;

/// A database and how many rows its tables begin with.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    pub model: &'a Model,
    /// Rows that each table is filled with if it is empty.
    pub filled: u64,
}

/// Literals by column.
pub type Cells = BTreeMap<usize, String>;

impl Rows<'_> {
    fn table(&self, table: usize) -> &Table {
        &self.model.tables[table]
    }

    /// How many rows are likely to be there.
    pub fn existing(&self, table: usize) -> u64 {
        match self.table(table).sample.len() as u64 {
            0 => self.filled.max(1),
            seen => seen,
        }
    }

    /// The ordinal of a row that is likely not to be there.
    pub fn spare(&self, table: usize, dice: &mut Dice) -> u64 {
        let from = self.existing(table).max(self.filled);
        from + dice.below(from / 4 + 200)
    }

    /// The key columns' literals of the row with this ordinal: one that was seen, or one that is made up.
    pub fn key(&self, table: usize, ordinal: u64) -> Cells {
        let columns = self.table(table).key.clone();
        columns.iter().map(|c| (*c, self.cell(table, *c, ordinal, DEPTH))).collect()
    }

    /// A column of a key, in the row with this ordinal.
    pub fn cell(&self, table: usize, column: usize, ordinal: u64, depth: u32) -> String {
        let t = self.table(table);
        if ordinal < self.existing(table)
            && let Some(seen) = t.seen(column, ordinal)
        {
            return seen.to_owned();
        }
        let keys = std::iter::once(&t.key).chain(&t.uniques);
        match keys.into_iter().find(|key| key.contains(&column)) {
            Some(key) => self.laid_out(table, key, ordinal, depth).remove(&column).unwrap_or_default(),
            None => t.columns[column].domain.nth(ordinal),
        }
    }

    /// A key's columns for an ordinal, as digits of a number: each ordinal another tuple, for as long as the columns'
    /// values last.
    fn laid_out(&self, table: usize, key: &[usize], ordinal: u64, depth: u32) -> Cells {
        let t = self.table(table);
        let mut cells = Cells::new();
        let mut rest = ordinal;
        for (n, column) in key.iter().enumerate() {
            if cells.contains_key(column) {
                continue;
            }
            let foreign = t.foreign.iter().find(|f| f.columns.contains(column) && depth > 0);
            let capacity = match foreign {
                Some(foreign) => self.existing(foreign.parent),
                None => t.columns[*column].domain.capacity(),
            };
            let last = n + 1 == key.len();
            let radix = match (last, foreign) {
                (true, _) => capacity,
                (false, Some(_)) => capacity,
                (false, None) => {
                    // As many as a square has sides, so that both parts of a key take part in collisions.
                    let side = NARROW.max(self.filled.isqrt());
                    capacity.min(side.max(self.needed(t, &key[n + 1..])))
                }
            }
            .max(1);
            let digit = rest % radix;
            rest /= radix;
            match foreign {
                Some(foreign) => {
                    for (child, parent) in foreign.columns.iter().zip(&foreign.parent_columns) {
                        cells.insert(*child, self.cell(foreign.parent, *parent, digit, depth - 1));
                    }
                }
                None => drop(cells.insert(*column, t.columns[*column].domain.nth(digit))),
            }
        }
        cells
    }

    /// How many values the columns before these must have, so that there is a key for each row.
    fn needed(&self, table: &Table, rest: &[usize]) -> u64 {
        let after = rest.iter().fold(1u64, |n, c| n.saturating_mul(table.columns[*c].domain.capacity()));
        (self.filled * 2).div_ceil(after.max(1))
    }

    /// All columns of a row with this ordinal. `unique` gives the ordinal that its other unique values are made from.
    pub fn row(&self, table: usize, ordinal: u64, unique: u64, dice: &mut Dice) -> Cells {
        let t = self.table(table);
        let mut cells = self.key(table, ordinal);
        for key in &t.uniques {
            // With a part of the primary key in it the rest is free: any value of as many as there are rows.
            let (bound, alone): (Vec<usize>, Vec<usize>) = key.iter().partition(|c| t.key.contains(c));
            let free = |c: &usize| !t.foreign.iter().any(|f| f.columns.contains(c));
            if !bound.is_empty() {
                for column in alone.into_iter().filter(free) {
                    let drawn = t.columns[column].domain.nth(dice.below(self.filled));
                    cells.entry(column).or_insert(drawn);
                }
                continue;
            }
            for (column, literal) in self.laid_out(table, key, unique, DEPTH) {
                cells.entry(column).or_insert(literal);
            }
        }
        for foreign in 0..t.foreign.len() {
            for (column, literal) in self.parent(table, foreign, dice) {
                cells.entry(column).or_insert(literal);
            }
        }
        for (column, literal) in self.checked(table, dice) {
            cells.entry(column).or_insert(literal);
        }
        for (n, column) in t.columns.iter().enumerate() {
            if column.counts_updates() {
                cells.insert(n, "0".into());
            }
            cells.entry(n).or_insert_with(|| {
                let guess = t.sample.is_empty() && !column.hints.is_empty() && dice.chance(0.7);
                match column.nullable && dice.chance(0.1) {
                    true => "NULL".into(),
                    false if guess => column.guess(dice),
                    false => column.domain.draw(dice),
                }
            });
        }
        cells
    }

    /// A foreign key's columns, pointing at a row that is likely to be there, or at none where that may be.
    pub fn parent(&self, table: usize, foreign: usize, dice: &mut Dice) -> Cells {
        let t = self.table(table);
        let foreign = &t.foreign[foreign];
        if foreign.columns.iter().any(|c| t.columns[*c].nullable) && dice.chance(0.2) {
            let nullable = foreign.columns.iter().filter(|c| t.columns[**c].nullable);
            return nullable.map(|c| (*c, "NULL".to_owned())).collect();
        }
        let ordinal = dice.below(self.existing(foreign.parent));
        let pairs = foreign.columns.iter().zip(&foreign.parent_columns);
        pairs.map(|(child, parent)| (*child, self.cell(foreign.parent, *parent, ordinal, DEPTH))).collect()
    }

    /// The columns under a CHECK, as a row was seen to have them; nothing if none was seen.
    pub fn checked(&self, table: usize, dice: &mut Dice) -> Cells {
        let t = self.table(table);
        if t.sample.is_empty() {
            return Cells::new();
        }
        let row = dice.below(t.sample.len() as u64);
        let seen = t.checked.iter().filter_map(|c| Some((*c, t.seen(*c, row)?.to_owned())));
        seen.collect()
    }

    /// `a = 1 AND b = 2` for a key.
    pub fn condition(&self, table: usize, key: &Cells) -> String {
        let parts = key.iter().map(|(c, literal)| format!("{} = {literal}", self.name(table, *c)));
        parts.collect::<Vec<_>>().join(" AND ")
    }

    /// A column's quoted name.
    pub fn name(&self, table: usize, column: usize) -> String {
        quote::ident(&self.table(table).columns[column].name)
    }

    /// The key as the history writes it.
    pub fn key_text(&self, table: usize, key: &Cells) -> String {
        let values = self.table(table).key.iter().filter_map(|c| key.get(c));
        crate::load::literal::key_of(values.map(String::as_str))
    }
}
