//! Marks: rows that the mover writes to the source so that it finds a moment again in the binary log.
//!
//! One row per workflow, whose text changes with every mark. That a mark's commit returned proves that all that
//! stands before it in the log is visible to a later SELECT (where commits are ordered as in the log).

use converge_mysql::{Error as ServerError, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::TIMEOUT;
use crate::change::Mark;
use crate::error::{OnSide, Result};
use crate::schema::{Column, Kind, Table};

/// The mover's own database, on the source and on the target.
pub const SCHEMA: &str = "_converge";
/// The table of marks on the source.
pub const TABLE: &str = "watermark";

/// The marks' table as the row decoder needs it.
pub fn definition() -> Table {
    let column =
        |name: &str| Column { name: name.into(), kind: Kind::Binary, sql_type: "varbinary(255)".into() };
    Table {
        schema: SCHEMA.into(),
        name: TABLE.into(),
        columns: vec![column("workflow"), column("mark")],
        ordinals: vec![Some(0), Some(1)],
        key: vec![0],
        key_name: "PRIMARY".into(),
        rows_estimated: 1,
        row_bytes_estimated: 64,
        row_hashes: 0,
    }
}

/// Creates the table of marks unless it is there.
pub async fn create(conn: &mut Conn) -> Result<()> {
    let table = quote::qualified(SCHEMA, TABLE);
    let statements = [
        format!("CREATE DATABASE IF NOT EXISTS {}", quote::ident(SCHEMA)),
        format!(
            "CREATE TABLE IF NOT EXISTS {table} (workflow VARBINARY(255) NOT NULL PRIMARY KEY, \
             mark VARBINARY(255) NOT NULL) ENGINE=InnoDB"
        ),
    ];
    let exists: Option<u8> = within(
        TIMEOUT,
        "looking for the watermark table",
        conn.query_first(format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = '{SCHEMA}' AND table_name = '{TABLE}'"
        )),
    )
    .await
    .on_source()?;
    if exists.is_none() {
        for statement in statements {
            within(TIMEOUT, "creating the watermark table on the source", conn.query_drop(statement))
                .await
                .on_source()?;
        }
    }
    Ok(())
}

/// Writes and commits one mark.
pub async fn write(conn: &mut Conn, workflow: &str, mark: &Mark) -> Result<()> {
    let (workflow, text) = (quote::text(workflow), quote::text(&mark.to_text()));
    let statement = format!(
        "INSERT INTO {} (workflow, mark) VALUES ({workflow}, {text}) ON DUPLICATE KEY UPDATE mark = {text}",
        quote::qualified(SCHEMA, TABLE)
    );
    within(TIMEOUT, "writing a watermark to the source", conn.query_drop(statement)).await.on_source()
}

/// Removes the workflow's mark.
pub async fn remove(conn: &mut Conn, workflow: &str) -> std::result::Result<(), ServerError> {
    let statement =
        format!("DELETE FROM {} WHERE workflow = {}", quote::qualified(SCHEMA, TABLE), quote::text(workflow));
    within(TIMEOUT, "removing the watermark", conn.query_drop(statement)).await
}
