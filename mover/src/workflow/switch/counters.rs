//! AUTO_INCREMENT counters across a switch. Rows that came and went on the source between two commits of the stream
//! never reach the target, so its counters may stay behind, and numbers that applications saw on the source would be
//! given out again.
//!
//! What is done here is done over connections of its own, and never undoes a switch: what it could not do, it says.

use std::time::Duration;

use converge_mysql::{Connector, Error as ServerError, Flavor, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::error::{OnSide, Result};
use crate::schema::Table;
use crate::source::{ServerSource, fenced_name};

const TIMEOUT: Duration = Duration::from_secs(4);
/// Seconds that raising one counter waits for whoever uses the target's table.
const LOCK_WAIT: u32 = 1;

/// The next numbers of the source's tables, which are fenced.
pub async fn of_source(source: &ServerSource) -> Result<Vec<Option<u64>>> {
    let tables = source.tables();
    let names: Vec<String> = tables.iter().map(|t| fenced_name(&t.name)).collect();
    let schema = tables.first().map(|t| t.schema.as_str()).unwrap_or_default();
    let mut conn = source.control().await?;
    next_numbers(&mut conn, schema, &names).await.on_source()
}

/// Raises the counters of the target's tables to those of the source. What could not be done.
pub async fn raise(connector: &Connector, tables: &[Table], source: &[Option<u64>]) -> Result<Vec<String>> {
    let names: Vec<String> = tables.iter().map(|t| t.name.clone()).collect();
    let schema = tables.first().map(|t| t.schema.as_str()).unwrap_or_default();
    let mut conn = connector.connect().await.on_target()?;
    let here = next_numbers(&mut conn, schema, &names).await.on_target()?;
    let bound = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}");
    within(TIMEOUT, "setting up a session", conn.query_drop(bound)).await.on_target()?;
    let mut failed = Vec::new();
    for ((table, there), here) in tables.iter().zip(source).zip(here) {
        let Some(number) = there.filter(|there| *there > here.unwrap_or(1)) else { continue };
        let name = table.qualified();
        // In place, so that no table is ever copied for it.
        let statement = format!("ALTER TABLE {name} AUTO_INCREMENT = {number}, ALGORITHM = INPLACE");
        let done = within(TIMEOUT, "raising a counter", conn.query_drop(statement)).await;
        if let Err(error) = done {
            failed.push(format!(
                "the AUTO_INCREMENT counter of the target's {name} is behind, and numbers that the source has used may be \
                 given out again: ALTER TABLE {name} AUTO_INCREMENT = {number} ({error})"
            ));
        }
    }
    Ok(failed)
}

/// The next number of each table, in order; `None` where there is none yet, or no such column.
async fn next_numbers(
    conn: &mut Conn,
    schema: &str,
    names: &[String],
) -> std::result::Result<Vec<Option<u64>>, ServerError> {
    let what = "reading AUTO_INCREMENT counters";
    if ServerInfo::read(conn).await?.flavor == Flavor::MySql {
        // What it remembers of a table may be a day old.
        let fresh = "SET SESSION information_schema_stats_expiry = 0";
        within(TIMEOUT, what, conn.query_drop(fresh)).await?;
    }
    let wanted: Vec<String> = names.iter().map(|name| quote::text(name)).collect();
    let query = format!(
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = {} AND table_name IN ({})",
        quote::text(schema),
        wanted.join(", ")
    );
    let found: Vec<(String, Option<u64>)> = within(TIMEOUT, what, conn.query(query)).await?;
    let number =
        |name: &String| found.iter().find(|(found, _)| found == name).and_then(|(_, number)| *number);
    Ok(names.iter().map(number).collect())
}
