//! Writing chunks to a real server: as a file where the server takes one, else by INSERT.
//!
//! Never takes the server's word that a file was stored: rows and warnings are counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use converge_mysql::{Error as ServerError, within};
use futures_util::StreamExt;
use mysql_async::InfileData;
use mysql_async::prelude::Queryable;
use tokio::sync::mpsc;

use super::{MOST_BYTES, ServerTarget};
use crate::error::{Error, OnSide, Result, Side, VIOLATED_CHECK};
use crate::planted::{Bug, is_planted};
use crate::schema::Table;
use crate::source::chunk::{self, range_query};
use crate::target::render::{self, Expect, Fate, Statement};
use crate::target::{ChunkRows, Onto, TIMEOUT, load};
use crate::value::{Row, key_of, row_weight};

/// How long a chunk may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Rows of one statement of a chunk.
const CHUNK_STATEMENT_ROWS: usize = 1000;

impl ServerTarget {
    /// A chunk by INSERT: where rows may be there that are newer, and where the server takes no file.
    pub(super) async fn insert_chunk(&mut self, table: usize, rows: &[Row], onto: Onto) -> Result<()> {
        let known = self.known.clone();
        let (index, table) = (table, &known.tables[table]);
        let fate = if onto == Onto::Newer { Fate::Missing } else { Fate::Stored };
        // Statement by statement: the text of a whole chunk would be as large again as its rows.
        for part in parts(rows) {
            let statement = match onto {
                Onto::Newer => render::insert_missing(table, part),
                _ => render::insert(table, "INSERT", part, Expect::Rows(part.len() as u64)),
            };
            let statement = known.keeping(statement, index, fate, || part.to_vec());
            self.send(vec![statement]).await?;
        }
        Ok(())
    }

    /// A chunk as a file.
    pub(super) async fn load_chunk(&mut self, table: usize, rows: Vec<Row>) -> Result<()> {
        let known = self.known.clone();
        let (index, table) = (table, &known.tables[table]);
        let n = rows.len() as u64;
        let zeros = load::zero_members(table, &rows);
        let sql = load::statement(table, |column| known.counts_from_zero && load::has_zero(&rows, column));
        let statement = Statement::new(table, sql, Expect::Rows(n));
        let mut kept = None;
        if known.computes[index] {
            let rows = Arc::new(rows);
            kept = Some(rows.clone());
            self.conn.set_infile_handler(pieces(table.clone(), move |table, send| {
                load::encode(table, rows.iter(), send);
            }));
        } else {
            self.conn.set_infile_handler(pieces(table.clone(), move |table, send| {
                load::encode(table, rows, send)
            }));
        }
        let sent = within(LOAD_TIMEOUT, "writing rows", async {
            let result = self.conn.query_iter(statement.sql.as_slice()).await?;
            let answer = (result.affected_rows(), result.warnings());
            result.drop_result().await?;
            Ok::<_, mysql_async::Error>(answer)
        });
        let (taken, warned) = match sent.await {
            Ok(answer) => answer,
            Err(error) => return Err(self.refused(&statement, error)),
        };
        // The count of warnings ends at the largest number that the protocol has.
        if warned != zeros.min(usize::from(u16::MAX)) as u16 {
            match kept.filter(|_| taken == n) {
                Some(rows) => self.prove_loaded(&statement, index, &rows).await?,
                None => return Err(self.load_alarm(&statement).await?),
            }
        }
        match taken == n {
            true => Ok(()),
            false => Err(self.alarm(&statement, &format!("{} of {n} rows were taken", taken))),
        }
    }

    async fn load_alarm(&mut self, statement: &Statement) -> Result<Error> {
        let warnings: Vec<(String, u16, String)> =
            within(TIMEOUT, "reading warnings", self.conn.query("SHOW WARNINGS LIMIT 5"))
                .await
                .on_target()?;
        // A file's row that violates a CHECK is passed over with a warning.
        if let Some((_, code, message)) = warnings.iter().find(|(_, code, _)| VIOLATED_CHECK.contains(code)) {
            let error =
                ServerError::Server { what: "writing rows".into(), code: *code, message: message.clone() };
            return Ok(Error::Unchecked { side: Side::Target, error });
        }
        let shown: Vec<String> =
            warnings.iter().map(|(_, code, message)| format!("warning {code}: {message}")).collect();
        Ok(self.alarm(statement, &shown.join("; ")))
    }

    /// Removes those of a chunk's rows that the stream wrote already: they are equal to the chunk's.
    pub(super) async fn remove_present(&mut self, chunk: &ChunkRows) -> Result<()> {
        let known = self.known.clone();
        let table = &known.tables[chunk.table];
        let keys = table.keys_only();
        let query = range_query(&keys, chunk.after.as_deref(), chunk.through.as_deref());
        let found: Vec<mysql_async::Row> =
            within(LOAD_TIMEOUT, "looking at a chunk's range", self.conn.exec(query, ()))
                .await
                .on_target()?;
        if found.is_empty() || is_planted(Bug::ChunkOverPresent) {
            return Ok(());
        }
        if !known.alike[chunk.table] {
            // The target's own form of a key need not be the source's.
            let delete = |part: &[Row]| {
                let statement = render::delete(table, part, Expect::Any);
                known.keeping(statement, chunk.table, Fate::Removed, || part.to_vec())
            };
            return self.send(parts(&chunk.rows).map(delete).collect()).await;
        }
        let found = found
            .into_iter()
            .map(|row| chunk::row(&keys, &[], row).map(|(row, _)| row))
            .collect::<std::result::Result<Vec<Row>, _>>()
            .map_err(|why| Error::Unreadable { position: table.qualified(), why })?;
        let ours: HashSet<Vec<u8>> = chunk.rows.iter().map(|row| key_of(row, &table.key)).collect();
        let present: Vec<Row> =
            found.into_iter().filter(|key| ours.contains(&key_of(key, &keys.key))).collect();
        let delete = |part: &[Row]| {
            let statement = render::delete(&keys, part, Expect::Rows(part.len() as u64));
            known.keeping(statement, chunk.table, Fate::Removed, Vec::new)
        };
        self.send(parts(&present).map(delete).collect()).await
    }
}

/// The file that the server asks for, made by `encode` in a thread of its own while it is sent.
async fn pieces(
    table: Table,
    encode: impl FnOnce(&Table, &mut dyn FnMut(Vec<u8>) -> bool) + Send + 'static,
) -> mysql_async::Result<InfileData> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>(4);
    tokio::task::spawn_blocking(move || {
        encode(&table, &mut |piece| sender.blocking_send(piece).is_ok());
    });
    let next = async |mut receiver: mpsc::Receiver<Vec<u8>>| {
        receiver.recv().await.map(|piece| (Ok(piece.into()), receiver))
    };
    Ok(futures_util::stream::unfold(receiver, next).boxed())
}

/// Rows in runs that make statements of a bounded size.
pub(super) fn parts(rows: &[Row]) -> impl Iterator<Item = &[Row]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let n = rest
            .iter()
            .take(CHUNK_STATEMENT_ROWS)
            .take_while(|row| {
                bytes += row_weight(row);
                bytes <= MOST_BYTES
            })
            .count()
            .max(1)
            .min(rest.len());
        let (part, later) = rest.split_at(n);
        rest = later;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn parts_hold_every_row_once() {
        let rows: Vec<Row> = (0..2500).map(|i| vec![Value::Int(i), Value::Bytes(vec![0; 2000])]).collect();
        let sizes: Vec<usize> = parts(&rows).map(<[Row]>::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 2500);
        assert!(sizes.iter().all(|n| *n > 0 && *n * 2000 <= MOST_BYTES));
        assert_eq!(parts(&[vec![Value::Bytes(vec![0; 5 << 20])]]).count(), 1);
        assert_eq!(parts(&[]).count(), 0);
    }
}
