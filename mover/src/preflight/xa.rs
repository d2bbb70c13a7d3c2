//! Transactions that are prepared but neither committed nor rolled back. Their rows stand in the log before the point
//! where the stream begins, and they become visible after it: the copy and the stream would both miss them.

use super::{Finding, Server};
use crate::error::{Result, Side};
use crate::source::xa::{END_THEM, left_out, prepared, some_prepared};
use mysql_async::Conn;

const NAME: &str = "xa_prepared";

/// Looks for prepared transactions.
pub async fn check(server: &mut Server<'_>) -> Result<Option<Finding>> {
    let account = server.account.clone();
    let finding = match prepared(server.conn()).await? {
        Some(0) => Finding::pass(NAME, "no transaction is prepared"),
        Some(n) => Finding::refuse(NAME, some_prepared(n), END_THEM),
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
        Some(n) if n > 0 => Err(left_out(n)),
        _ => Ok(()),
    }
}
