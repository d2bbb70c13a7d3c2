//! What is put on a server before it is rehearsed on: a database, and the mover's account.

use converge_mover::planted;
use converge_mysql::{Address, Connector, Error as ServerError, Flavor, quote};
use mysql_async::prelude::Queryable;

use super::external::Made;
use super::{DATABASE, Host, OwnServer, Place, STATE};
use crate::rehearsal::RehearsalError;
use crate::scenario::Side;

/// Puts database and account on a server.
pub async fn prepare(place: &Place, side: Side) -> Result<(), RehearsalError> {
    let mut conn = Connector::new(place.admin.with_database("")).connect().await?;
    for (what, made, statement) in preparation(place, side) {
        let begun = place.footprint.as_ref().zip(made);
        if let Some((footprint, made)) = begun {
            footprint.begin(made);
        }
        let failed = |e| ServerError::driver(format!("preparing {}: {what}", place.admin), e);
        let done = conn.query_drop(&statement).await.map_err(failed);
        // What became of a statement whose answer was lost nobody knows.
        if let (Err(e), Some((footprint, _))) = (&done, begun)
            && e.is_refusal()
        {
            footprint.refused();
        }
        done?;
    }
    converge_mysql::connect::close(conn).await;
    Ok(())
}

/// The mover's account, as in SQL. On somebody's server it may come from anywhere, because the proxy may be anywhere; in a
/// container, because the engine forwards to it.
pub fn account(direct: &Address, host: &Host) -> String {
    let from = match host {
        Host::Own(OwnServer::Local(_)) => "127.0.0.1",
        _ => "%",
    };
    format!("{}@{}", quote::text(&direct.user), quote::text(from))
}

/// Rights on the database of its marks on the source.
const SOURCE_MARKS: &str = "SELECT, INSERT, UPDATE, DELETE, CREATE";

/// Statements, each with what it does in words that hold no password, and what is there behind it.
fn preparation(place: &Place, side: Side) -> Vec<(&'static str, Option<Made>, String)> {
    let (database, state) = (quote::ident(DATABASE), quote::ident(STATE));
    let account = account(&place.direct, &place.host);
    let watch = match place.flavor() {
        Flavor::MySql => "REPLICATION CLIENT",
        Flavor::MariaDb => "BINLOG MONITOR, SLAVE MONITOR",
    };
    let password = quote::text(&place.direct.password);
    let database_made = format!("CREATE DATABASE IF NOT EXISTS {database} CHARACTER SET utf8mb4");
    let account_made = format!("CREATE USER {account} IDENTIFIED BY {password}");
    let replication = format!("GRANT REPLICATION SLAVE, {watch} ON *.* TO {account}");
    // What is on the source is the load's alone to change: the mover reads it, and renames it for the fence.
    let (tables, marks) = match side {
        Side::Target => ("SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, REFERENCES, TRIGGER", "ALL"),
        // One with planted bugs removes rows there, as one may that was given every right.
        Side::Source if planted::ENABLED => {
            ("SELECT, INSERT, DELETE, CREATE, ALTER, DROP, LOCK TABLES", SOURCE_MARKS)
        }
        Side::Source => ("SELECT, INSERT, CREATE, ALTER, DROP, LOCK TABLES", SOURCE_MARKS),
    };
    vec![
        ("making its database", Some(Made::Database), database_made),
        ("making the mover's account", Some(Made::Account), account_made),
        ("granting the tables", None, format!("GRANT {tables} ON {database}.* TO {account}")),
        ("granting the mover's state", None, format!("GRANT {marks} ON {state}.* TO {account}")),
        ("granting replication", None, replication),
    ]
}
