//! A consistent snapshot and the position that it belongs to.
//!
//! MariaDB opens both as one. On MySQL nothing ties them together but that the tables stand still: a read lock waits
//! for every transaction that wrote to them, until it is visible, and keeps others from beginning. It is let go as
//! soon as the snapshot is open, and not waited for longer than others may wait for it.
//!
//! Of an XA transaction the changes stand in the log where it is prepared, and can be seen once it is committed: a snapshot
//! between the two has neither. MySQL's lock waits for one that is prepared; where not all tables are locked, and on MariaDB,
//! the snapshot is opened while none is.

use std::time::Duration;

use converge_mysql::{Error as ServerError, Flavor, Position, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{TIMEOUT, xa};
use crate::error::{Error, OnSide, Result, Side};
use crate::schema::Table;

/// Seconds that the lock is waited for; writers wait as long.
const LOCK_WAIT: u32 = 3;
/// Seconds after which the source lets the lock of a mover go that vanished from the network.
const LOCKED_FOR: u32 = 30;
/// Times that the lock is tried.
const TRIES: u32 = 10;
/// How long writers go on before the next try.
const PAUSE: Duration = Duration::from_secs(1);

const REPEATABLE: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ";
/// A result that waits for the target must not be given up by the source.
const PATIENT: &str = "SET SESSION net_write_timeout = 3600";
const WHAT: &str = "opening a consistent snapshot";

async fn execute(conn: &mut Conn, statement: &str) -> Result<()> {
    within(TIMEOUT, WHAT, conn.query_drop(statement)).await.on_source()
}

/// Opens a snapshot on `conn`. On MySQL `other` keeps the tables of `lock` from changing meanwhile; `between`: at a moment that
/// no XA transaction spans, as `other` sees it.
pub async fn open(
    conn: &mut Conn,
    other: &mut Conn,
    info: &ServerInfo,
    lock: &[&Table],
    between: bool,
) -> Result<Position> {
    if !between {
        return open_now(conn, other, info, lock).await;
    }
    let mut tries = 1;
    loop {
        // One that spans the snapshot was prepared before the first look and is listed by it or was committed since; or it
        // is listed by the second look, or was committed between the two, and counted.
        let (commits, before) = (xa::commits(other).await?, xa::prepared(other).await?);
        let position = open_now(conn, other, info, lock).await?;
        let (after, since) = (xa::prepared(other).await?, xa::commits(other).await?);
        let listed = before.max(after).unwrap_or_default();
        if listed == 0 && commits == since {
            return Ok(position);
        }
        if tries == TRIES {
            return Err(xa::left_out(listed));
        }
        tracing::warn!("XA transactions are under way; trying again to open a snapshot between them");
        tokio::time::sleep(PAUSE).await;
        tries += 1;
    }
}

async fn open_now(conn: &mut Conn, other: &mut Conn, info: &ServerInfo, lock: &[&Table]) -> Result<Position> {
    match info.flavor {
        Flavor::MariaDb => open_here(conn).await,
        Flavor::MySql => open_locked(conn, other, info, lock).await,
    }
}

/// Opens a snapshot on a MariaDB server; one that this connection had is given up.
async fn open_here(conn: &mut Conn) -> Result<Position> {
    for statement in [PATIENT, REPEATABLE, "START TRANSACTION WITH CONSISTENT SNAPSHOT"] {
        execute(conn, statement).await?;
    }
    let status: Vec<(String, String)> =
        within(TIMEOUT, WHAT, conn.query("SHOW STATUS LIKE 'binlog_snapshot_%'")).await.on_source()?;
    let value =
        |name: &str| status.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    let (Some(file), Some(offset)) = (value("binlog_snapshot_file"), value("binlog_snapshot_position"))
    else {
        return Err(ServerError::NoBinaryLog("the source".into())).on_source();
    };
    let query = format!("SELECT BINLOG_GTID_POS({}, {})", quote::text(file), quote::text(offset));
    let text: Option<Option<String>> = within(TIMEOUT, WHAT, conn.query_first(query)).await.on_source()?;
    let text = text.flatten().ok_or_else(|| {
        let why = format!("the server does not say which GTIDs stand before {file}:{offset}");
        Error::refused(why, "run the workflow again; the binary log may have been purged just now")
    })?;
    Ok(Position::MariaDbGtid(text.parse().on_source()?))
}

/// Opens a snapshot on a MySQL server, while `locker` keeps `tables` from changing.
async fn open_locked(
    conn: &mut Conn,
    locker: &mut Conn,
    info: &ServerInfo,
    tables: &[&Table],
) -> Result<Position> {
    execute(conn, PATIENT).await?;
    execute(conn, REPEATABLE).await?;
    lock(locker, tables).await?;
    execute(conn, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    let position = Position::current(conn, info).await.on_source()?;
    // If this connection was lost meanwhile, so was the lock, and this fails.
    execute(locker, "UNLOCK TABLES").await?;
    Ok(position)
}

/// What to do when a table was altered in a copy that cannot go on.
const ANEW: &str = "cancel the workflow, drop the tables that it made on the target, and start it again";

/// Refuses tables whose definition is not the recorded one when a snapshot was opened: the statement that changed them
/// may stand before it, where the stream does not come by.
pub async fn check_form(conn: &mut Conn, tables: &[&Table]) -> Result<()> {
    for table in tables {
        let now = Table::read(conn, Side::Source, &table.schema, &table.name).await?;
        if !now.is_some_and(|now| now.same_form(table)) {
            let what = format!("{} was altered before its rows were read from a snapshot", table.qualified());
            return Err(Error::refused(what, ANEW));
        }
    }
    Ok(())
}

/// A snapshot does not outlive a change of the table's definition.
pub fn altered(error: Error) -> Error {
    match &error {
        Error::Server { side: Side::Source, error: e } if e.server_code() == Some(1412) => {
            Error::refused(format!("a table was altered while its rows were read from a snapshot: {e}"), ANEW)
        }
        _ => error,
    }
}

async fn lock(conn: &mut Conn, tables: &[&Table]) -> Result<()> {
    let bounds = format!("SET SESSION lock_wait_timeout = {LOCK_WAIT}, wait_timeout = {LOCKED_FOR}");
    execute(conn, &bounds).await?;
    let names: Vec<String> = tables.iter().map(|t| format!("{} READ", t.qualified())).collect();
    let statement = format!("LOCK TABLES {}", names.join(", "));
    let mut tries = 1;
    loop {
        match execute(conn, &statement).await {
            Err(error) if error.is_lock_conflict() && tries < TRIES => {
                tracing::warn!("a transaction that writes to the tables is open; trying again to lock them");
                tokio::time::sleep(PAUSE).await;
                tries += 1;
            }
            other => return other,
        }
    }
}
