//! XA transactions of the source: what they change stands in the log where they are prepared, and can be seen only once
//! they are committed.

use converge_mysql::within;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::TIMEOUT;
use crate::error::{Error, OnSide, Result};

/// What to do about prepared transactions.
pub const END_THEM: &str = "end each of them first: XA RECOVER CONVERT XID (MariaDB: XA RECOVER FORMAT='SQL') shows them, \
                            XA COMMIT or XA ROLLBACK ends them";

/// How many are prepared and not ended; `None`: the account may not ask (MySQL answers that with a fatal XA error).
pub async fn prepared(conn: &mut Conn) -> Result<Option<usize>> {
    let rows = within(TIMEOUT, "looking for prepared transactions", conn.query::<Row, _>("XA RECOVER")).await;
    match rows {
        Err(e) if e.is_refusal() => Ok(None),
        other => other.map(|rows| Some(rows.len())).on_source(),
    }
}

/// How many commits were begun since the server was, those in one phase included.
pub async fn commits(conn: &mut Conn) -> Result<u64> {
    count(conn, "SHOW GLOBAL STATUS LIKE 'Com_xa_commit'").await
}

/// How many preparations were begun since the server was.
pub async fn preparations(conn: &mut Conn) -> Result<u64> {
    count(conn, "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'").await
}

async fn count(conn: &mut Conn, query: &str) -> Result<u64> {
    let row: Option<(String, u64)> =
        within(TIMEOUT, "counting XA transactions", conn.query_first(query)).await.on_source()?;
    Ok(row.map_or(0, |row| row.1))
}

/// The error where some are prepared (or none just then, but again and again others).
pub fn left_out(n: usize) -> Error {
    match n {
        0 => Error::refused(
            "XA transactions are committed on the source all the time",
            "let them rest for a moment",
        ),
        n => Error::refused(some_prepared(n), END_THEM),
    }
}

/// That there are some, for people.
pub fn some_prepared(n: usize) -> String {
    format!(
        "{n} XA transactions are prepared on the source, whose changes would be lost when they are committed"
    )
}
