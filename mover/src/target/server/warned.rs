//! What a warning of a statement means.
//!
//! The session is not strict: a value that does not fit its column is a warning, which stops the move. But expressions of
//! generated columns, indexes and CHECKs draw warnings too, which say nothing of the row and do not name what they are
//! about. Where a table has such, the rows themselves are looked at: a row that is there as it was sent fitted.

use std::sync::atomic::Ordering;

use converge_mysql::within;
use mysql_async::prelude::Queryable;

use super::opening::Known;
use super::{Answer, DUPLICATE, SCAN_TIMEOUT, ServerTarget, answers, chunk};
use crate::error::{Error, OnSide, Result};
use crate::schema::Table;
use crate::target::TIMEOUT;
use crate::target::render::{self, Expect, Fate, Kept, Statement};
use crate::value::Row;

/// Rows that are looked for in one query, and the most that are looked for in a table that has no key.
const LOOKED_FOR: usize = 100;
/// Where a packet begins whose statements may have to be sent again.
const MARK: &str = "SAVEPOINT `_converge_packet`";

/// What came of statements that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// They did what they must.
    Done,
    /// One drew a warning that can only be judged if it is sent by itself, or row by row.
    Unclear,
}

/// Level, code and message.
type Warning = (String, u16, String);

impl Known {
    /// Has a statement keep its rows, if it may draw warnings that do not tell what they are about.
    pub(super) fn keeping(
        &self,
        mut statement: Statement,
        table: usize,
        fate: Fate,
        rows: impl FnOnce() -> Vec<Row>,
    ) -> Statement {
        if self.computes[table] {
            // Rows that are counted as they are removed need not be looked for.
            let counted = fate == Fate::Removed && statement.expect != Expect::Any;
            statement.kept = Some(Kept { table, rows: if counted { Vec::new() } else { rows() }, fate });
            statement.alone |= self.warns[table].load(Ordering::Relaxed);
        }
        statement
    }
}

impl ServerTarget {
    /// Sets a mark before a packet that may have to be sent again: how many statements that puts into it.
    pub(super) async fn mark(&mut self, packet: &mut Vec<u8>, statements: &[Statement]) -> Result<usize> {
        let kept = statements.iter().filter_map(|s| s.kept.as_ref());
        match statements {
            // A large row is not copied for it.
            [_] if kept.clone().any(|kept| kept.fate == Fate::Missing) => {
                within(TIMEOUT, "setting a savepoint", self.conn.query_drop(MARK)).await.on_target()?;
                Ok(0)
            }
            [_] => Ok(0),
            _ if kept.count() > 0 => {
                packet.splice(0..0, format!("{MARK};").into_bytes());
                Ok(1)
            }
            _ => Ok(0),
        }
    }

    /// Takes back a packet and sends its statements one by one, so that each can be judged before the next one.
    pub(super) async fn send_singly(&mut self, statements: &[Statement]) -> Result<()> {
        let back = format!("ROLLBACK TO {MARK}");
        within(TIMEOUT, "going back to a savepoint", self.conn.query_drop(back)).await.on_target()?;
        for statement in statements {
            match &statement.kept {
                Some(kept) if kept.fate == Fate::Missing => self.add_missing(kept).await?,
                _ => {
                    let one = std::slice::from_ref(statement);
                    self.send_packet(statement.sql.clone(), one, 0).await?;
                }
            }
        }
        Ok(())
    }

    /// Row by row: of each it is known whether it was added.
    async fn add_missing(&mut self, kept: &Kept) -> Result<()> {
        let known = self.known.clone();
        for row in &kept.rows {
            let rows = std::slice::from_ref(row);
            let statement = render::insert(&known.tables[kept.table], "INSERT", rows, Expect::Rows(1));
            let statement = known.keeping(statement, kept.table, Fate::Stored, || rows.to_vec());
            self.check_size(&statement.sql)?;
            let answered = answers(&mut self.conn, statement.sql.clone(), 1);
            match within(TIMEOUT, "writing rows", answered).await.on_target()?.pop() {
                Some(Ok(answer)) if answer.warnings > 0 => {
                    self.check_warnings(&statement, &answer, true).await?;
                }
                Some(Ok(_)) => {}
                Some(Err(e)) if e.server_code().is_some_and(|code| DUPLICATE.contains(&code)) => {}
                Some(Err(e)) => return Err(self.refused(&statement, e)),
                None => return Err(self.alarm(&statement, "the server did not answer it")),
            }
        }
        Ok(())
    }

    /// Only a statement that was sent alone can be asked what its warnings were.
    pub(super) async fn check_warnings(
        &mut self,
        statement: &Statement,
        answer: &Answer,
        single: bool,
    ) -> Result<Sent> {
        let Some(kept) = &statement.kept else {
            if !statement.alone {
                return Err(self.alarm(statement, "a value did not fit its column"));
            }
            let warnings = self.warnings().await?;
            return match harmful(statement, &warnings) {
                Some(warning) => Err(self.alarm(statement, &shown(warning))),
                None => Ok(Sent::Done),
            };
        };
        self.known.warns[kept.table].store(true, Ordering::Relaxed);
        if kept.fate == Fate::Removed && statement.expect != Expect::Any {
            return Ok(Sent::Done);
        }
        if !single {
            return Ok(Sent::Unclear);
        }
        let warnings = self.warnings().await?;
        let all_told = warnings.len() == usize::from(answer.warnings);
        let warning = match harmful(statement, &warnings).or_else(|| warnings.first().filter(|_| !all_told)) {
            Some(warning) => shown(warning),
            None if all_told => return Ok(Sent::Done),
            None => "warnings that the server does not show".to_owned(),
        };
        match kept.fate {
            Fate::Missing if answer.duplicates != Some(0) => return Ok(Sent::Unclear),
            Fate::Missing | Fate::Stored => {
                self.prove_stored(statement, kept.table, &kept.rows, &warning).await?
            }
            Fate::Removed => self.prove_gone(statement, kept, &warning).await?,
        }
        Ok(Sent::Done)
    }

    /// After a file that drew warnings, though all of its rows were taken.
    pub(super) async fn prove_loaded(
        &mut self,
        statement: &Statement,
        table: usize,
        rows: &[Row],
    ) -> Result<()> {
        self.known.warns[table].store(true, Ordering::Relaxed);
        let warnings = self.warnings().await?;
        let warning = warnings.first().map_or_else(|| "warnings that the server does not show".into(), shown);
        self.prove_stored(statement, table, rows, &warning).await
    }

    /// Whether these rows are there as they were sent. A row that was there before proves as much: what a column can hold
    /// it holds again.
    async fn prove_stored(
        &mut self,
        statement: &Statement,
        table: usize,
        rows: &[Row],
        warning: &str,
    ) -> Result<()> {
        let known = self.known.clone();
        let table = &known.tables[table];
        if table.key.is_empty() && rows.len() > LOOKED_FOR {
            return Err(unproven(table, warning));
        }
        for part in chunk::parts(rows).flat_map(|part| part.chunks(LOOKED_FOR)) {
            let query = render::count_same(table, part);
            self.check_size(&query)?;
            let found: Option<u64> =
                within(SCAN_TIMEOUT, "reading back rows", self.conn.query_first(query)).await.on_target()?;
            if found != Some(part.len() as u64) {
                return Err(self.alarm(statement, &format!("a value did not fit its column: {warning}")));
            }
        }
        Ok(())
    }

    /// Whether the rows are gone, and looking for them by the same condition draws no warning.
    async fn prove_gone(&mut self, statement: &Statement, kept: &Kept, warning: &str) -> Result<()> {
        let query = render::count(&self.known.tables[kept.table], &kept.rows);
        let found: Option<u64> =
            within(TIMEOUT, "looking for removed rows", self.conn.query_first(query)).await.on_target()?;
        match found == Some(0) && self.conn.get_warnings() == 0 {
            true => Ok(()),
            false => Err(self.alarm(statement, warning)),
        }
    }

    async fn warnings(&mut self) -> Result<Vec<Warning>> {
        within(TIMEOUT, "reading warnings", self.conn.query("SHOW WARNINGS")).await.on_target()
    }
}

/// The first warning that is not in order.
fn harmful<'a>(statement: &Statement, warnings: &'a [Warning]) -> Option<&'a Warning> {
    const TRUNCATED: u16 = 1265;
    /// Character sets that are about to go: 1287, 3719 and 3778 say no more than that.
    const DEPRECATED: [u16; 3] = [1287, 3719, 3778];
    let harmless = |code: u16| DEPRECATED.contains(&code) || statement.enum_zero && code == TRUNCATED;
    warnings.iter().find(|(_, code, _)| !harmless(*code))
}

fn shown((_, code, message): &Warning) -> String {
    format!("warning {code}: {message}")
}

fn unproven(table: &Table, warning: &str) -> Error {
    let name = table.qualified();
    Error::refused(
        format!(
            "rows of {name} draw a warning on the target ({warning}), of one of their own values or of what the table \
             computes of them; it has no key by which they could be read back to tell"
        ),
        "give the table a key; or set the rows right on the source, so that generated columns, indexes over expressions \
         and CHECKs draw no warning of them",
    )
}
