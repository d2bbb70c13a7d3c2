//! Whether a table still has the form that the stream reads its rows by.
//!
//! A strategy that writes chunks where the stream happens to stand would otherwise write rows in the form before a
//! statement that the stream has not come to yet, and what that form leaves out would be lost. (The watermark needs
//! none of this: a chunk that was read after such a statement is due behind it in the stream.)

use std::collections::HashMap;

use converge_mysql::{Error as ServerError, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::TIMEOUT;
use crate::error::{Error, OnSide, Result, Side};
use crate::schema::Table;

/// Watches the tables that one reader reads.
#[derive(Debug, Default)]
pub struct Guard {
    seen: HashMap<String, String>,
}

impl Guard {
    /// Asked after a chunk was read, so that a change before it is seen.
    pub async fn check(&mut self, conn: &mut Conn, table: &Table) -> Result<()> {
        let now = fingerprint(conn, table).await?;
        match self.seen.get(&table.name) {
            Some(before) if *before == now => return Ok(()),
            Some(_) => return Err(changed(table)),
            None => {}
        }
        let there = Table::read(conn, Side::Source, &table.schema, &table.name).await?;
        if !there.is_some_and(|there| there.same_form(table)) {
            return Err(changed(table));
        }
        self.seen.insert(table.name.clone(), now);
        Ok(())
    }
}

fn changed(table: &Table) -> Error {
    let what = format!("reading a chunk of {}", table.qualified());
    let message = "the table is not as the stream knows it".to_owned();
    Error::Redefined { side: Side::Source, error: ServerError::Server { what, code: 1412, message } }
}

async fn fingerprint(conn: &mut Conn, table: &Table) -> Result<String> {
    let query = format!(
        "SELECT CAST(CONCAT_WS(' ', COUNT(*), SUM(CRC32(CONCAT_WS('|', ordinal_position, column_name, column_type, \
         collation_name, extra)))) AS CHAR) FROM information_schema.columns \
         WHERE table_schema = {} AND table_name = {}",
        quote::text(&table.schema),
        quote::text(&table.name)
    );
    let found: Option<String> =
        within(TIMEOUT, "looking at a table's form", conn.query_first(query)).await.on_source()?;
    Ok(found.unwrap_or_default())
}
