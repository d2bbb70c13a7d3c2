//! The statement of the stream engine: columns as they are wherever their own bytes tell all values apart, so that the
//! server builds nothing. Pure.
//!
//! Never a form that gives two values the same bytes. Two forms of one value would only cost time: what differs here is
//! read again in the canonical form before it counts.

use converge_mysql::quote;

use super::sql::{Scope, wherever};
use super::{Plan, PlannedColumn};
use crate::digest::Framing;
use crate::form::ShownAs;

impl Plan {
    /// Rows as their key columns' pieces, the other columns, and last, if [`Plan::marks_torn`], whether the server could
    /// not build one of them. `None` where the client has to compute on values.
    pub fn raw_rows(&self, scope: &Scope, side: usize) -> Option<String> {
        if self.is_multiset() || !self.client_columns().is_empty() {
            return None;
        }
        let key = self.key_positions();
        let others = (0..self.columns.len()).filter(|i| !key.contains(i));
        let mut cells: Vec<String> = key.iter().map(|i| raw(&self.columns[*i], side, true)).collect();
        cells.extend(others.map(|i| raw(&self.columns[i], side, false)));
        if self.marks_torn() {
            let torn = self.built().map(|column| {
                let (piece, name) = (&column.form.pieces[side], quote::ident(&column.names[side]));
                format!("({piece} IS NULL AND {name} IS NOT NULL)")
            });
            cells.push(format!("({})", torn.collect::<Vec<_>>().join(" OR ")));
        }
        Some(format!(
            "SELECT {} {}{}",
            cells.join(", "),
            self.from(side),
            wherever(self.conditions(scope, side))
        ))
    }

    /// Whether rows end with a mark of whether a value could not be built.
    pub fn marks_torn(&self) -> bool {
        self.built().next().is_some()
    }

    /// Columns whose long values a server has to build, on either side.
    fn built(&self) -> impl Iterator<Item = &PlannedColumn> {
        self.columns.iter().filter(|column| {
            let is_raw = |side: usize| raw(column, side, true) == quote::ident(&column.names[side]);
            column.form.framing != Framing::Plain && !(is_raw(0) && is_raw(1))
        })
    }
}

/// A column of a streamed row. In a key it has the very bytes of its piece.
fn raw(column: &PlannedColumn, side: usize, in_key: bool) -> String {
    let (name, piece) = (quote::ident(&column.names[side]), &column.form.pieces[side]);
    let same_bytes = [format!("CAST({name} AS CHAR)"), format!("CAST({name} AS BINARY)")];
    if same_bytes.contains(piece) {
        return name;
    }
    if *piece == format!("CAST(CAST({name} AS UNSIGNED) AS CHAR)") {
        return format!("CAST({name} AS UNSIGNED)");
    }
    if column.form.shown == ShownAs::Real && !in_key {
        // As a DOUBLE, whose text has all digits: a FLOAT's own has six, one with a declared scale even fewer.
        return format!("{name} * 1e0");
    }
    piece.clone()
}
