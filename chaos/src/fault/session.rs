//! Faults made with SQL: sessions killed, tables locked, logs rotated and purged, a server read-only or full.
//!
//! Each takes the address of an administrator, who is never the account that suffers.

use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, Flavor, quote, within};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Row};
use tokio::time::Instant;

use super::Record;
use super::probe::OBSERVE_TIMEOUT;
use crate::error::Error;
use crate::server::read_only_variable;

/// The least that `max_connections` can be set to on every supported server.
const FEWEST_CONNECTIONS: usize = 10;
const TOO_MANY_CONNECTIONS: u16 = 1040;
const READ_ONLY: u16 = 1290;

/// Whose sessions suffer, and who breaks them.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// An administrator's address, with a database.
    pub admin: &'a Address,
    /// The address of the account that suffers, on the same server.
    pub victim: &'a Address,
}

/// Which sessions of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victims {
    /// Each.
    All,
    /// Only those that read the binary log.
    LogReaders,
}

/// When enough of a log is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purge {
    /// Once a file is: those that are still in use may stay.
    Some,
    /// Once all are but the last.
    All,
}

/// Sessions that hold something until they are given back.
#[derive(Debug)]
pub struct Hog {
    admin: Conn,
    held: Vec<Conn>,
    connections: Option<u64>,
}

/// What waits for a lock that somebody holds gives up on the server before it is given up here: nothing happens later.
async fn connect(address: &Address) -> Result<Conn, Error> {
    let patience = OBSERVE_TIMEOUT.as_secs() - 2;
    let setup = format!("SET SESSION lock_wait_timeout = {patience}");
    Ok(Connector::new(address.clone()).with_setup(&setup).connect().await?)
}

async fn run(conn: &mut Conn, statement: &str) -> Result<(), Error> {
    Ok(within(OBSERVE_TIMEOUT, statement, conn.query_drop(statement)).await?)
}

async fn ask<T: FromRow + Send + 'static>(conn: &mut Conn, query: &str) -> Result<Vec<T>, Error> {
    Ok(within(OBSERVE_TIMEOUT, query, conn.query(query)).await?)
}

/// A row of `SHOW PROCESSLIST`.
struct Session {
    id: u64,
    user: String,
    command: String,
    state: String,
}

async fn sessions(admin: &mut Conn) -> Result<Vec<Session>, Error> {
    let text = |row: &Row, i: usize| row.get::<Option<String>, _>(i).flatten().unwrap_or_default();
    let rows: Vec<Row> = ask(admin, "SHOW PROCESSLIST").await?;
    let session = |row: Row| Session {
        id: row.get(0).unwrap_or_default(),
        user: text(&row, 1),
        command: text(&row, 4),
        state: text(&row, 6),
    };
    Ok(rows.into_iter().map(session).collect())
}

/// Asks for the sessions until some fit; none within the bound: the fault did not bite.
async fn until_some(
    record: Record<'_>,
    admin: &mut Conn,
    what: &str,
    fits: impl Fn(&Session) -> bool,
) -> Result<Vec<Session>, Error> {
    let give_up = Instant::now() + OBSERVE_TIMEOUT;
    loop {
        let found: Vec<Session> = sessions(admin).await?.into_iter().filter(|s| fits(s)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        if Instant::now() >= give_up {
            return Err(record.did_not_bite(format!("there is no session {what}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until an account is connected. Returns the evidence: its sessions' ids.
pub async fn see_connections(record: Record<'_>, account: Account<'_>) -> Result<String, Error> {
    let mut admin = connect(account.admin).await?;
    let user = &account.victim.user;
    let found = until_some(record, &mut admin, &format!("of {user} to suffer"), |s| s.user == *user).await?;
    let ids: Vec<u64> = found.iter().map(|s| s.id).collect();
    converge_mysql::connect::close(admin).await;
    Ok(format!("{user} has the sessions {ids:?}"))
}

/// Kills sessions of an account. Returns the evidence: their ids, gone from the server's list. There is nothing to heal.
pub async fn kill_connections(
    record: Record<'_>,
    account: Account<'_>,
    victims: Victims,
) -> Result<String, Error> {
    let mut admin = connect(account.admin).await?;
    let user = &account.victim.user;
    let fits =
        |s: &Session| s.user == *user && (victims == Victims::All || s.command.starts_with("Binlog Dump"));
    let found = until_some(record, &mut admin, &format!("of {user} to kill"), fits).await?;
    let ids: Vec<u64> = found.iter().map(|s| s.id).collect();
    record.inject(format!("KILL of the sessions {ids:?} of {user}"));
    kill(record, &mut admin, &ids).await?;
    record.healed("the server is as it was");
    Ok(record.observed(format!("the sessions {ids:?} of {user} are gone")))
}

async fn kill(record: Record<'_>, admin: &mut Conn, ids: &[u64]) -> Result<(), Error> {
    const NO_SUCH_SESSION: u16 = 1094;
    for id in ids {
        let killed: Result<(), ServerError> =
            within(OBSERVE_TIMEOUT, "killing a session", admin.query_drop(format!("KILL {id}"))).await;
        match killed {
            Err(e) if e.server_code() != Some(NO_SUCH_SESSION) => return Err(e.into()),
            _ => {}
        }
    }
    let give_up = Instant::now() + OBSERVE_TIMEOUT;
    while sessions(admin).await?.iter().any(|s| ids.contains(&s.id)) {
        if Instant::now() >= give_up {
            return Err(record.did_not_bite(format!("some of the sessions {ids:?} are still there")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Locks a table against everybody else. Returns the evidence: a session of the account that waits for it.
pub async fn lock_table(
    record: Record<'_>,
    account: Account<'_>,
    table: &str,
) -> Result<(Hog, String), Error> {
    let mut admin = connect(account.admin).await?;
    let mut holder = connect(account.admin).await?;
    record.inject(format!("LOCK TABLES {table} WRITE"));
    run(&mut holder, &format!("LOCK TABLES {} WRITE", quote::ident(table))).await?;
    let user = &account.victim.user;
    let waits = |s: &Session| s.user == *user && s.state.contains("metadata lock");
    let found = until_some(record, &mut admin, &format!("of {user} that waits for {table}"), waits).await?;
    let evidence = record.observed(format!("session {} of {user}: {}", found[0].id, found[0].state));
    Ok((Hog { admin, held: vec![holder], connections: None }, evidence))
}

/// Gives a locked table back.
pub async fn unlock_table(record: Record<'_>, mut hog: Hog) -> Result<(), Error> {
    for holder in &mut hog.held {
        run(holder, "UNLOCK TABLES").await?;
    }
    record.healed("the table is unlocked");
    hog.close().await;
    Ok(())
}

/// Makes a server read-only for everybody (MySQL) or for all but administrators (MariaDB). Returns the evidence: what a
/// write of the account to `table` is told.
pub async fn read_only_on(
    record: Record<'_>,
    account: Account<'_>,
    flavor: Flavor,
    table: &str,
) -> Result<String, Error> {
    let mut admin = connect(account.admin).await?;
    let statement = format!("SET GLOBAL {} = ON", read_only_variable(flavor));
    record.inject(statement.clone());
    run(&mut admin, &statement).await?;
    let mut victim = connect(account.victim).await?;
    // It changes nothing even where it is allowed.
    let write = format!("DELETE FROM {} WHERE 1 = 0", quote::ident(table));
    let answer: Result<(), ServerError> =
        within(OBSERVE_TIMEOUT, "trying to write", victim.query_drop(write)).await;
    match answer {
        Err(e) if e.server_code() == Some(READ_ONLY) => Ok(record.observed(format!("a write is told: {e}"))),
        Err(e) => Err(record.did_not_bite(format!("a write fails for another reason: {e}"))),
        Ok(()) => Err(record.did_not_bite("a write still goes through")),
    }
}

/// Lets a server be written to again.
pub async fn read_only_off(record: Record<'_>, admin: &Address, flavor: Flavor) -> Result<(), Error> {
    let mut admin = connect(admin).await?;
    if flavor == Flavor::MySql {
        run(&mut admin, "SET GLOBAL super_read_only = OFF").await?;
    }
    run(&mut admin, "SET GLOBAL read_only = OFF").await?;
    record.healed("the server takes writes again");
    Ok(())
}

/// Takes every connection that the account could get, and kills those it has. Returns the evidence: what a new one is
/// told.
pub async fn exhaust_connections(record: Record<'_>, account: Account<'_>) -> Result<(Hog, String), Error> {
    let mut admin = connect(account.admin).await?;
    let before: Vec<u64> = ask(&mut admin, "SELECT @@GLOBAL.max_connections").await?;
    let mut hog = Hog { admin, held: Vec::new(), connections: before.first().copied() };
    for _ in 0..FEWEST_CONNECTIONS {
        hog.held.push(connect(account.admin).await?);
    }
    record.inject(format!("max_connections = {FEWEST_CONNECTIONS}, all of them taken"));
    run(&mut hog.admin, &format!("SET GLOBAL max_connections = {FEWEST_CONNECTIONS}")).await?;
    match shut_out(record, &mut hog.admin, account.victim).await {
        Ok(evidence) => Ok((hog, record.observed(evidence))),
        Err(error) => {
            give_back_connections(record, hog).await?;
            Err(error)
        }
    }
}

/// Kills the sessions of the account and sees it refused.
async fn shut_out(record: Record<'_>, admin: &mut Conn, victim: &Address) -> Result<String, Error> {
    let user = &victim.user;
    let ids: Vec<u64> = sessions(admin).await?.iter().filter(|s| s.user == *user).map(|s| s.id).collect();
    kill(record, admin, &ids).await?;
    match Connector::new(victim.clone()).connect().await {
        Err(e) if e.server_code() == Some(TOO_MANY_CONNECTIONS) => {
            Ok(format!("{} sessions of {user} killed; a new one is told: {e}", ids.len()))
        }
        Err(e) => Err(record.did_not_bite(format!("{user}: {e}"))),
        Ok(_) => Err(record.did_not_bite(format!("{user}: still gets a connection"))),
    }
}

/// Gives connections back.
pub async fn give_back_connections(record: Record<'_>, mut hog: Hog) -> Result<(), Error> {
    if let Some(connections) = hog.connections {
        run(&mut hog.admin, &format!("SET GLOBAL max_connections = {connections}")).await?;
    }
    record.healed("connections are free again");
    hog.close().await;
    Ok(())
}

impl Hog {
    async fn close(self) {
        for conn in self.held {
            converge_mysql::connect::close(conn).await;
        }
        converge_mysql::connect::close(self.admin).await;
    }
}

/// Begins a new binary log file. Returns the evidence: its name. There is nothing to heal.
pub async fn rotate_log(record: Record<'_>, admin: &Address) -> Result<String, Error> {
    let mut admin = connect(admin).await?;
    let before = logs(&mut admin).await?;
    record.inject("FLUSH BINARY LOGS");
    run(&mut admin, "FLUSH BINARY LOGS").await?;
    let after = logs(&mut admin).await?;
    if after.last() == before.last() {
        return Err(record.did_not_bite("no new log file was begun"));
    }
    record.healed("the server is as it was");
    Ok(record.observed(format!("{} follows {}", shown(after.last()), shown(before.last()))))
}

/// Removes all binary log files but the last. Returns the evidence: the files that are gone. What is gone cannot be
/// healed; whether a mover survives it depends on where it is.
pub async fn purge_logs(record: Record<'_>, admin: &Address, purge: Purge) -> Result<String, Error> {
    let mut admin = connect(admin).await?;
    let before = logs(&mut admin).await?;
    let last = shown(before.last());
    record.inject(format!("PURGE BINARY LOGS TO '{last}'"));
    // MariaDB keeps a file that was just closed until its engines have flushed what is in it.
    let give_up = Instant::now() + OBSERVE_TIMEOUT;
    loop {
        run(&mut admin, &format!("PURGE BINARY LOGS TO {}", quote::text(last))).await?;
        let after = logs(&mut admin).await?;
        let gone: Vec<&str> = before.iter().filter(|l| !after.contains(l)).map(String::as_str).collect();
        let enough = !gone.is_empty() && (purge == Purge::Some || gone.len() + 1 == before.len());
        if enough {
            record.healed("what is gone stays gone; the log goes on");
            return Ok(record.observed(format!("{} gone", gone.join(", "))));
        }
        if before.len() < 2 || Instant::now() >= give_up {
            return Err(record.did_not_bite(format!(
                "{} log files were removed: the others are in use, or there is only one",
                gone.len()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn logs(admin: &mut Conn) -> Result<Vec<String>, Error> {
    let rows: Vec<Row> = ask(admin, "SHOW BINARY LOGS").await?;
    Ok(rows.iter().filter_map(|row| row.get::<Option<String>, _>(0).flatten()).collect())
}

fn shown(name: Option<&String>) -> &str {
    name.map_or("", String::as_str)
}
