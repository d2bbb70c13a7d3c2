//! Fills somebody's empty tables, parents and children alike, and learns from what the server refuses: a row that breaks
//! a CHECK is drawn again, and later load only takes values that a row was seen to have.

use std::collections::BTreeSet;

use converge_mysql::{Connector, Error as ServerError};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::model::{Model, is_empty};
use super::rows::Rows;
use crate::error::Error;
use crate::load::values::Dice;

/// Separates the dice of filling from all others.
const FILLING: u64 = 3;
const ROWS_PER_STATEMENT: u64 = 200;
/// How often a row that breaks a constraint is drawn again.
const REDRAWN: u64 = 40;
/// Rows of one table in a row that could not be made, before the rest is given up.
const HOPELESS: u64 = 10;

/// Fills every table that is empty with `filled` rows; returns what could not be done.
pub async fn fill(
    connector: &Connector,
    model: &Model,
    seed: u64,
    filled: u64,
) -> Result<Vec<String>, Error> {
    let mut conn = connector.connect().await?;
    // Parents may come after their children, and rows may refer to later ones.
    run(&mut conn, "SET SESSION foreign_key_checks = 0").await?;
    let rows = Rows { model, filled };
    let mut notes = Vec::new();
    for (n, table) in model.tables.iter().enumerate() {
        if !table.takes_load() || !is_empty(&mut conn, &table.quoted()).await? {
            continue;
        }
        let mut filling =
            Filling { conn: &mut conn, rows, table: n, seed, made: 0, refused: BTreeSet::new() };
        filling.all().await?;
        if filling.made < filled {
            let why = filling.refused.iter().next().cloned().unwrap_or_default();
            notes.push(format!(
                "table {} was filled with {} of {filled} rows: {why}",
                table.name, filling.made
            ));
        }
    }
    converge_mysql::connect::close(conn).await;
    Ok(notes)
}

struct Filling<'a> {
    conn: &'a mut Conn,
    rows: Rows<'a>,
    table: usize,
    seed: u64,
    made: u64,
    refused: BTreeSet<String>,
}

impl Filling<'_> {
    async fn all(&mut self) -> Result<(), Error> {
        let filled = self.rows.filled;
        let checked = !self.rows.model.tables[self.table].checked.is_empty();
        let mut failed = 0;
        for from in (0..filled).step_by(ROWS_PER_STATEMENT as usize) {
            let ordinals: Vec<u64> = (from..(from + ROWS_PER_STATEMENT).min(filled)).collect();
            if !checked && self.insert(&ordinals, 0).await? {
                continue;
            }
            // One by one: the others of the statement may well be good.
            for ordinal in ordinals {
                let mut tries = 0..REDRAWN;
                let made = loop {
                    let Some(redrawn) = tries.next() else { break false };
                    if self.insert(&[ordinal], redrawn).await? {
                        break true;
                    }
                };
                failed = if made { 0 } else { failed + 1 };
                if failed == HOPELESS {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Inserts rows with these ordinals; false if the server refuses one.
    async fn insert(&mut self, ordinals: &[u64], redrawn: u64) -> Result<bool, Error> {
        let table = &self.rows.model.tables[self.table];
        let (mut names, mut tuples) = (Vec::new(), Vec::new());
        for ordinal in ordinals {
            let mut dice = Dice::new(self.seed, FILLING + (redrawn << 8), self.table as u64, *ordinal);
            let row = self.rows.row(self.table, *ordinal, *ordinal, &mut dice);
            names = row.keys().map(|c| self.rows.name(self.table, *c)).collect();
            tuples.push(format!("({})", row.into_values().collect::<Vec<_>>().join(",")));
        }
        let sql = format!("INSERT INTO {} ({}) VALUES {}", table.quoted(), names.join(","), tuples.join(","));
        match self.conn.query_drop(sql).await {
            Ok(()) => {
                self.made += ordinals.len() as u64;
                Ok(true)
            }
            Err(mysql_async::Error::Server(e)) => {
                self.refused.insert(e.message.to_string());
                Ok(false)
            }
            Err(e) => Err(ServerError::driver("filling a table", e).into()),
        }
    }
}

async fn run(conn: &mut Conn, statement: &str) -> Result<(), Error> {
    conn.query_drop(statement).await.map_err(|e| ServerError::driver(statement, e).into())
}
