//! A replica that stands for the source while rows are copied from it: does it have all of the source, and nothing else?
//!
//! Asked when a session begins, when a snapshot is opened, and once more when the mark behind the last chunk has come
//! through its log, before that counts as the copy's end. A filter can be set only while replication rests, so that one
//! which is not there then was not there before either, unless somebody set it and took it away in between: that is not
//! noticed. What the replica wrote by itself stands in its log, where the stream stops at it; what somebody wrote with
//! `sql_log_bin = 0` stands nowhere.

use converge_mysql::position::replica_status_statement;
use converge_mysql::{Connector, Flavor, Position, ServerInfo, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::{TIMEOUT, upstream};
use crate::change::{Advance, Mark, StreamEvent};
use crate::error::{Error, OnSide, Result};

/// What to do about rows that were copied from a replica that was not the source's image.
const BEGIN_AGAIN: &str = "rows that the source does not have may be on the target, or changes be missing there: cancel \
    the workflow, empty the target tables, and start another one, from a replica that replicates everything and that \
    nobody writes to (read_only = ON, MySQL: super_read_only = ON)";

/// A server, and how its own transactions are named.
#[derive(Clone)]
pub struct Replicated {
    connector: Connector,
    info: ServerInfo,
    /// MySQL's `server_uuid`, MariaDB's `server_id`.
    own: String,
}

impl Replicated {
    /// Asks a server for its name.
    pub async fn read(connector: Connector, conn: &mut Conn, info: ServerInfo) -> Result<Self> {
        let query = match info.flavor {
            Flavor::MySql => "SELECT @@server_uuid",
            Flavor::MariaDb => "SELECT CAST(@@GLOBAL.server_id AS CHAR)",
        };
        let own: Option<String> = within(TIMEOUT, query, conn.query_first(query)).await.on_source()?;
        Ok(Self { connector, info, own: own.unwrap_or_default() })
    }

    /// Refuses a replica by its status.
    pub async fn check(&self, conn: &mut Conn) -> Result<()> {
        let statement = replica_status_statement(&self.info);
        let rows: Vec<Row> = within(TIMEOUT, statement, conn.query(statement)).await.on_source()?;
        if rows.is_empty() {
            return Err(refused("the server in --copy-from is no replica"));
        }
        let named = rows.iter().filter(|row| !upstream::is_of_group(row)).count();
        if named > 1 {
            return Err(refused(format!(
                "the replica in --copy-from replicates over {named} channels or connections, so that others than --source \
                 may write to it"
            )));
        }
        match rows.iter().find_map(filter) {
            None => Ok(()),
            Some((name, value)) => Err(Error::refused(
                format!(
                    "the replica in --copy-from leaves something out, or puts it elsewhere: {name} = {value}"
                ),
                format!(
                    "name a replica of --source without {name} in --copy-from, or copy with --copy-strategy locking; taking \
                     the filter away does not bring back what was left out: if rows were copied already, cancel and \
                     start again"
                ),
            )),
        }
    }

    /// The same at a moment whose position in its log is known.
    pub async fn check_at(&self, conn: &mut Conn, position: &Position) -> Result<()> {
        match self.is_own_last(position) {
            true => {
                Err(refused(format!("somebody wrote to the replica in --copy-from: it stands at {position}")))
            }
            false => self.check(conn).await,
        }
    }

    /// Whether the last transaction of one of MariaDB's domains is its own. (MySQL's have another name than the source's,
    /// which does not know them.)
    pub fn is_own_last(&self, position: &Position) -> bool {
        let Position::MariaDbGtid(at) = position else { return false };
        at.numbers().any(|((_, server), _)| server.to_string() == self.own)
    }

    /// What is wrong with a transaction of its log, if it is not one of the source's.
    pub fn errant(&self, transaction: &Advance) -> Option<Error> {
        let name = match transaction {
            Advance::Gtid { uuid, number, .. } if *uuid == self.own => format!("{uuid}:{number}"),
            Advance::MariaDb { domain, server, number } if server.to_string() == self.own => {
                format!("{domain}-{server}-{number}")
            }
            _ => return None,
        };
        let what = format!(
            "somebody wrote to the replica in --copy-from while rows were copied: its transaction {name} is its own"
        );
        Some(Error::spoiled(what, BEGIN_AGAIN))
    }

    /// Asks once more, if these events of its log have the mark behind the last chunk among them.
    pub async fn check_end(&self, events: &[StreamEvent]) -> Result<()> {
        if !events.iter().any(|event| matches!(event, StreamEvent::Mark(Mark::Copied(_)))) {
            return Ok(());
        }
        let mut conn = self.connector.connect().await.on_source()?;
        self.check(&mut conn).await.map_err(|error| match error {
            Error::Refused { what, .. } => Error::spoiled(what, BEGIN_AGAIN),
            other => other,
        })
    }
}

fn refused(what: impl Into<String>) -> Error {
    Error::refused(what, "name a replica of --source in --copy-from, or copy with --copy-strategy locking")
}

/// A filter with its value: of databases, tables, servers or domains, or a database that becomes another.
fn filter(row: &Row) -> Option<(String, String)> {
    row.columns_ref().iter().enumerate().find_map(|(i, column)| {
        let name = column.name_str();
        let value = || row.get_opt::<Option<String>, _>(i)?.ok()?.filter(|value| !value.is_empty());
        name.starts_with("Replicate_").then(value)?.map(|value| (name.into_owned(), value))
    })
}
