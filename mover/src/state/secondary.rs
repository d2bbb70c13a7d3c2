//! Secondary keys that are still to be built, remembered from before the table is made without them until it has them.

use converge_mysql::{quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Store, TIMEOUT, table};
use crate::error::{OnSide, Result};

const COLUMN: &str = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// The statement that makes the table.
pub(super) fn creation() -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} (workflow {COLUMN}, target_table {COLUMN}, number INT, \
         definition LONGTEXT NOT NULL, PRIMARY KEY (workflow, target_table, number)) ENGINE=InnoDB",
        table("deferred_key")
    )
}

impl Store {
    /// An expression that is true while keys are to be built.
    pub(super) fn keys_are_missing(&self) -> String {
        format!("EXISTS (SELECT 1 FROM {} WHERE workflow = {})", table("deferred_key"), self.me())
    }

    /// Remembers the keys that a table is about to be made without.
    pub async fn defer_keys(&self, conn: &mut Conn, target: &str, keys: &[String]) -> Result<()> {
        self.keys_built(conn, target).await?;
        if keys.is_empty() {
            return Ok(());
        }
        let row = |(number, key): (usize, &String)| {
            format!("({}, {}, {number}, {})", self.me(), quote::text(target), quote::text(key))
        };
        let rows: Vec<String> = keys.iter().enumerate().map(row).collect();
        let sql = format!("INSERT INTO {} VALUES {}", table("deferred_key"), rows.join(", "));
        self.execute(conn, "remembering keys to build", sql).await.map(drop)
    }

    /// The keys of a table that are to be built.
    pub async fn deferred_keys(&self, conn: &mut Conn, target: &str) -> Result<Vec<String>> {
        let query = format!(
            "SELECT definition FROM {} WHERE workflow = {} AND target_table = {} ORDER BY number",
            table("deferred_key"),
            self.me(),
            quote::text(target)
        );
        within(TIMEOUT, "reading keys to build", conn.query(query)).await.on_target()
    }

    /// Forgets a table's keys: it has them.
    pub async fn keys_built(&self, conn: &mut Conn, target: &str) -> Result<()> {
        let sql = format!(
            "DELETE FROM {} WHERE workflow = {} AND target_table = {}",
            table("deferred_key"),
            self.me(),
            quote::text(target)
        );
        self.execute(conn, "forgetting keys that were built", sql).await.map(drop)
    }
}
