//! The statement of the stream engine: columns as they are wherever their own bytes tell all values apart, so that the
//! server builds nothing. Pure.
//!
//! Never a form that gives two values the same bytes. Two forms of one value would only cost time: what differs here is
//! read again in the canonical form before it counts.

use converge_mysql::quote;

use super::sql::{Scope, wherever};
use super::{Plan, PlannedColumn};
use crate::digest::Framing;

impl Plan {
    /// Rows as their key columns' pieces, the other columns, and last, if [`Plan::marks_torn`], whether the server could
    /// not build one of them. `None` where the client has to compute on values.
    pub fn raw_rows(&self, scope: &Scope, side: usize) -> Option<String> {
        if !self.is_served_by_key() {
            return None;
        }
        let key = self.key_positions();
        let others = (0..self.columns.len()).filter(|i| !key.contains(i));
        let mut cells: Vec<String> = key.iter().map(|i| raw(&self.columns[*i], side)).collect();
        cells.extend(others.map(|i| raw(&self.columns[i], side)));
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

    /// Cells of [`Plan::raw_rows`] that are empty only where the server could not send the value.
    pub fn never_empty(&self) -> Vec<usize> {
        let key = self.key_positions();
        let others = (0..self.columns.len()).filter(|i| !key.contains(i));
        let (mut cell, mut found) = (0, Vec::new());
        for column in key.iter().copied().chain(others).map(|i| &self.columns[i]) {
            // Of two cells the second is the value.
            cell += usize::from(column.form.streamed.is_some());
            found.extend(column.form.streamed.is_some().then_some(cell));
            cell += 1;
        }
        found
    }

    /// Whether rows end with a mark of whether a value could not be built.
    pub fn marks_torn(&self) -> bool {
        self.built().next().is_some()
    }

    /// Columns whose long values a server has to build, on either side.
    fn built(&self) -> impl Iterator<Item = &PlannedColumn> {
        self.columns.iter().filter(|column| {
            let as_it_is = |side: usize| {
                column.form.streamed.is_some() || raw(column, side) == quote::ident(&column.names[side])
            };
            column.form.framing != Framing::Plain && !(as_it_is(0) && as_it_is(1))
        })
    }
}

/// A column of a streamed row, or several. In a key it has the very bytes of its piece.
fn raw(column: &PlannedColumn, side: usize) -> String {
    let (name, piece) = (quote::ident(&column.names[side]), &column.form.pieces[side]);
    if let Some(streamed) = &column.form.streamed {
        return streamed[side].clone();
    }
    let same_bytes = [format!("CAST({name} AS CHAR)"), format!("CAST({name} AS BINARY)")];
    if same_bytes.contains(piece) {
        return name;
    }
    if *piece == format!("CAST(CAST({name} AS UNSIGNED) AS CHAR)") {
        return format!("CAST({name} AS UNSIGNED)");
    }
    // A FLOAT's own text has six digits, and the text of a DOUBLE costs more than its bits.
    piece.clone()
}
