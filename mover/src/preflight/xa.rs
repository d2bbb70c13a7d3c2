//! Transactions that are prepared but neither committed nor rolled back. Their rows stand in the log before the point
//! where the stream begins, and they become visible after it: the copy and the stream would both miss them.

use std::time::Duration;

use converge_mysql::{Position, ServerInfo};
use mysql_async::Conn;
use tokio::time::{Instant, sleep};

use super::{Finding, Server};
use crate::error::{OnSide, Result, Side};
use crate::source::xa::{END_THEM, left_out, preparations, prepared, some_prepared};

const NAME: &str = "xa_prepared";
/// From when it is logged to when it is listed, a preparation waits for the disk.
const LISTED: Duration = Duration::from_secs(2);
/// How long to look for a moment at which none is prepared.
const REST: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);

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

/// Refuses to begin behind a prepared transaction. Asked after the stream's first `position` was taken, and before a row is
/// read: whatever was prepared before the position and is not listed later on is visible to the copy, or will never be.
///
/// A position by MySQL's GTIDs has nothing that is not listed yet. Others have what is still being prepared; should that take
/// longer than it is waited for here, its commit ends the stream: it comes after the position that this gives back.
pub async fn none_before(conn: &mut Conn, info: &ServerInfo, position: &Position) -> Result<Position> {
    let listed_at_once = matches!(position, Position::Gtid(_));
    if !listed_at_once && preparations(conn).await? > 0 {
        sleep(LISTED).await;
    }
    let begun = Instant::now();
    loop {
        match prepared(conn).await? {
            Some(n) if n > 0 && begun.elapsed() > REST => return Err(left_out(n)),
            Some(n) if n > 0 => sleep(AGAIN).await,
            _ => return Position::current(conn, info).await.on_source(),
        }
    }
}
