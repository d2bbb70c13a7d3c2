//! Transactions that are prepared but neither committed nor rolled back. Their rows stand in the log before the point
//! where the stream begins, and they become visible after it: the copy and the stream would both miss them.

use super::{Finding, Server};
use crate::error::{Error, OnSide, Result, Side};
use converge_mysql::within;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use crate::source::TIMEOUT;

const NAME: &str = "xa_prepared";
const FIX: &str =
    "end each of them first: XA RECOVER CONVERT XID shows them, XA COMMIT or XA ROLLBACK ends them";

/// Looks for prepared transactions.
pub async fn check(server: &mut Server<'_>) -> Result<Option<Finding>> {
    let account = server.account.clone();
    let finding = match prepared(server.conn()).await? {
        Some(0) => Finding::pass(NAME, "no transaction is prepared"),
        Some(n) => Finding::refuse(NAME, some_prepared(n), FIX),
        None => Finding::warn(
            NAME,
            "whether XA transactions are prepared now cannot be seen: the changes of one that is committed during the \
             move would be lost",
            format!("GRANT XA_RECOVER_ADMIN ON *.* TO {account}, or make sure that nobody uses XA"),
        ),
    };
    Ok(Some(finding.on(Side::Source)))
}

/// Refuses to begin behind a prepared transaction. Asked after the stream's first position was taken: whatever was
/// prepared before it and is not listed here is visible to the copy, or will never be.
pub async fn none_before(conn: &mut Conn) -> Result<()> {
    match prepared(conn).await? {
        Some(n) if n > 0 => Err(Error::refused(some_prepared(n), FIX)),
        _ => Ok(()),
    }
}

fn some_prepared(n: usize) -> String {
    format!(
        "{n} XA transactions are prepared on the source, whose changes would be lost when they are committed"
    )
}

/// How many there are; `None`: the account may not ask (MySQL answers that with a fatal XA error).
async fn prepared(conn: &mut Conn) -> Result<Option<usize>> {
    let rows = within(TIMEOUT, "looking for prepared transactions", conn.query::<Row, _>("XA RECOVER")).await;
    match rows {
        Err(e) if e.is_refusal() => Ok(None),
        other => other.map(|rows| Some(rows.len())).on_source(),
    }
}
