//! The fence: the moved tables get other names on the source, so that no statement of an application can write to
//! them any more. The renaming waits for open transactions, is atomic over all tables, survives a restart, and stands
//! in the binary log behind the last write that got through.

use std::time::Duration;

use converge_mysql::quote;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::statement::FENCE_MARKER;
use crate::error::{OnSide, Result};
use crate::schema::Table;

/// The longest table name that a server takes, in characters.
const LONGEST_NAME: usize = 64;
const SUFFIX: &str = "_fenced";

/// The name of a fenced table: `customer` becomes `_customer_fenced`; long names are cut and keep a checksum.
pub fn fenced_name(table: &str) -> String {
    let whole = format!("_{table}{SUFFIX}");
    if whole.chars().count() <= LONGEST_NAME {
        return whole;
    }
    // FNV-1a, 32 bits: two long names that begin alike must not meet.
    let hash = table.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let kept: String = table.chars().take(LONGEST_NAME - 1 - SUFFIX.len() - 9).collect();
    format!("_{kept}_{hash:08x}{SUFFIX}")
}

/// Which of the tables are fenced now.
pub async fn fenced(conn: &mut Conn, tables: &[Table]) -> Result<Vec<bool>> {
    let Some(first) = tables.first() else { return Ok(Vec::new()) };
    let names: Vec<String> = conn
        .query(format!(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = {}",
            quote::text(&first.schema)
        ))
        .await
        .map_err(|e| converge_mysql::Error::driver("looking for fenced tables", e))
        .on_source()?;
    Ok(tables.iter().map(|t| !names.contains(&t.name) && names.contains(&fenced_name(&t.name))).collect())
}

/// Whether another connection of this account is renaming, or waits to.
pub async fn is_waiting(conn: &mut Conn) -> Result<bool> {
    let query = format!(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE id <> CONNECTION_ID() AND info LIKE 'RENAME TABLE {FENCE_MARKER}%'"
    );
    let found: Option<u64> =
        converge_mysql::within(super::TIMEOUT, "looking for a renaming", conn.query_first(query))
            .await
            .on_source()?;
    Ok(found.unwrap_or(0) > 0)
}

/// Renames the tables away (`up`) or back. Waits for open transactions for at most `wait`.
pub async fn rename(conn: &mut Conn, tables: &[Table], up: bool, wait: Duration) -> Result<()> {
    let pairs: Vec<String> = tables
        .iter()
        .map(|t| {
            let (name, fenced) = (t.qualified(), quote::qualified(&t.schema, &fenced_name(&t.name)));
            if up { format!("{name} TO {fenced}") } else { format!("{fenced} TO {name}") }
        })
        .collect();
    let what = if up { "fencing the source's tables" } else { "taking the fence away" };
    let bound = format!("SET SESSION lock_wait_timeout = {}", wait.as_secs().max(1));
    let statement = format!("RENAME TABLE {FENCE_MARKER} {}", pairs.join(", "));
    converge_mysql::within(wait + Duration::from_secs(5), what, async {
        conn.query_drop(bound).await?;
        conn.query_drop(statement).await
    })
    .await
    .on_source()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_within_the_servers_limit_and_apart() {
        assert_eq!(fenced_name("customer"), "_customer_fenced");
        let (a, b) =
            (fenced_name(&format!("{}a", "x".repeat(63))), fenced_name(&format!("{}b", "x".repeat(63))));
        assert!(a.chars().count() <= 64 && a != b);
    }
}
