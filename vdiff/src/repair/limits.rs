//! What keeps a row from being written, known before the first statement on it is: values that the target has no form for,
//! or no room. Pure.

use super::rows::Held;
use super::sink::Missed;
use super::target::{AROUND, Target, TargetColumn};
use super::value::Value;
use super::write::Direction;

/// What is done to the rows of one key.
pub enum Means {
    /// One row is changed in these columns.
    Update {
        /// What it becomes.
        new: Held,
        /// What it is.
        old: Held,
        /// Where they differ.
        changed: Vec<usize>,
    },
    /// Rows are taken out, then others are put in.
    Replace {
        /// The former.
        out: Vec<Held>,
        /// The latter.
        put: Vec<Held>,
    },
}

impl Means {
    /// The rows that are written, each with the columns that are.
    pub fn written(&self, target: &Target) -> Vec<(&Held, Vec<usize>)> {
        match self {
            Self::Update { new, changed, .. } => vec![(new, changed.clone())],
            Self::Replace { put, .. } => {
                put.iter().map(|row| (row, (0..target.columns.len()).collect())).collect()
            }
        }
    }
}

/// Why that cannot be done.
pub fn unwritable(target: &Target, means: &Means, direction: Direction) -> Option<Missed> {
    let all: Vec<usize> = (0..target.columns.len()).collect();
    let guard = |row: &Held, whole| target.guard(row, direction.present(), whole).len() as u64;
    match means {
        Means::Update { new, old, changed } => unfit(target, new, changed)
            .or_else(|| too_long(target, size(target, new, changed) + guard(old, false))),
        Means::Replace { out, put } => {
            let unfit = put.iter().find_map(|row| unfit(target, row, &all));
            let rows = put.iter().map(|row| size(target, row, &all));
            let longest = rows.chain(out.iter().map(|row| guard(row, true))).max().unwrap_or(0);
            unfit.or_else(|| too_long(target, longest))
        }
    }
}

/// Why a row's columns cannot be written.
fn unfit(target: &Target, row: &Held, columns: &[usize]) -> Option<Missed> {
    columns.iter().find_map(|i| {
        let column = &target.columns[*i];
        let name = &column.column.name;
        match row.values[*i].as_ref()? {
            // Some servers make the present moment of it, or the next number.
            Value::Null if !column.column.nullable => {
                Some(format!("column {name} takes no NULL on the target"))
            }
            Value::Long(long) if long.length > target.longest => Some(format!(
                "column {name} holds {} bytes, more than max_allowed_packet of the target ({})",
                long.length, target.longest
            )),
            value => sql(column, value).is_none().then(|| formless(name)),
        }
    })
}

/// SQL for a value: of a long one, that of its variable.
fn sql(column: &TargetColumn, value: &Value) -> Option<String> {
    let written = match value {
        Value::Null => return Some("NULL".into()),
        Value::Whole(piece) => column.writes.literal(piece),
        Value::Long(long) => column.writes.variable("@converge_value_00", long),
    }?;
    Some(written.sql + written.sure.as_deref().unwrap_or_default())
}

/// Bytes of the statement that writes a row's columns.
fn size(target: &Target, row: &Held, columns: &[usize]) -> u64 {
    let size = |i: &usize| {
        let column = &target.columns[*i];
        let value = row.values[*i].as_ref().and_then(|value| sql(column, value));
        column.name.len() + value.map_or(0, |sql| sql.len()) + 8
    };
    columns.iter().map(size).sum::<usize>() as u64
}

fn too_long(target: &Target, statement: u64) -> Option<Missed> {
    (statement + AROUND > target.longest).then(|| {
        let limit = target.longest;
        format!(
            "its statement would have {statement} bytes, more than max_allowed_packet of the target ({limit})"
        )
    })
}

/// That a column's value is not one that the target can have.
pub fn formless(column: &str) -> Missed {
    format!(
        "column {column} holds what its counterpart has no form for: make the target's column of the source's type and \
         character set, or change the value on the source"
    )
}
