//! Building the secondary keys that a table was made without, once its rows are copied, while changes go on.
//!
//! What is to be built is remembered in the target before the table is made, and compared with what the table has
//! before anything is done, so that a run that is killed at any point is taken up by the next one. Nothing here touches
//! a table that the workflow did not make.

use std::convert::Infallible;
use std::time::Duration;

use converge_mysql::{Connector, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::watch;

use super::switch::POLL;
use crate::apply::Followed;
use crate::error::{Error, OnSide, Result};
use crate::schema::{Table, secondary};
use crate::session::COMPUTED_WITH;
use crate::source::TIMEOUT;
use crate::state::{State, Store};

/// How long the keys of one table may take.
const BUILD_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// Times that a table is looked at: a build of a former run may still go on in the server.
const LOOKS: usize = 5;
/// The server's answer to a key whose name is taken.
const DUPLICATE_KEY_NAME: u16 = 1061;
/// Memory in which a server sorts a key's entries; the smaller it is, the more often they go to disk and back, and the
/// larger, the longer it takes to be had.
const SORT_BUFFER: u32 = 16 << 20;

/// Builds what is to be built.
pub struct Builder<'a> {
    /// Makes connections to the target.
    pub connector: &'a Connector,
    /// The workflow's state.
    pub store: &'a Store,
    /// The tables under their names on the target.
    pub tables: &'a [Table],
    /// How far the copy is.
    pub followed: watch::Receiver<Followed>,
}

impl Builder<'_> {
    /// Builds each table's keys as soon as it is copied, and lets the workflow go on. Ends with an error only.
    pub async fn run(mut self) -> Result<Infallible> {
        let connector = self.connector.clone().with_setup(format!(
            "SET SESSION foreign_key_checks = 0, sql_mode = 'ALLOW_INVALID_DATES', {COMPUTED_WITH}"
        ));
        let mut conn = connector.connect().await.on_target()?;
        // Only some versions have it.
        let _ = conn.query_drop(format!("SET SESSION innodb_ddl_buffer_size = {SORT_BUFFER}")).await;
        for (i, table) in self.tables.iter().enumerate() {
            let wanted = self.store.deferred_keys(&mut conn, &table.name).await?;
            if wanted.is_empty() {
                continue;
            }
            let copied = self.followed.wait_for(|f| f.copied.get(i).is_some_and(|c| c.done)).await.is_ok();
            if !copied {
                // The session ends, and says why.
                return std::future::pending().await;
            }
            build(&mut conn, table, &wanted).await?;
            self.store.keys_built(&mut conn, &table.name).await?;
        }
        // The last commit of the copy may have seen keys that were missing then.
        loop {
            self.store.enter(&mut conn, State::Indexing, State::Replicating).await?;
            let state = self.store.load(&mut conn).await?.map(|w| w.state);
            if !matches!(state, Some(State::Copying | State::Indexing)) {
                return std::future::pending().await;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Adds what is missing of `wanted`, all at once.
async fn build(conn: &mut Conn, table: &Table, wanted: &[String]) -> Result<()> {
    let name = table.qualified();
    for _ in 0..LOOKS {
        let missing = missing(conn, table, wanted).await?;
        if missing.is_empty() {
            return Ok(());
        }
        tracing::info!("{name}: building {}", missing.join(", "));
        let add: Vec<String> = missing.iter().map(|key| format!("ADD {key}")).collect();
        let statement = format!("ALTER TABLE {name} {}", add.join(", "));
        let what = format!("building the secondary keys of {name}");
        match within(BUILD_TIMEOUT, &what, conn.query_drop(statement)).await {
            Err(e) if e.server_code() == Some(DUPLICATE_KEY_NAME) => {}
            other => other.on_target()?,
        }
    }
    Err(Error::refused(
        format!("the secondary keys of {name} come and go while they are built"),
        "see to it that nobody else alters the table, and run the workflow again",
    ))
}

async fn missing(conn: &mut Conn, table: &Table, wanted: &[String]) -> Result<Vec<String>> {
    let query = format!("SHOW CREATE TABLE {}", table.qualified());
    let row: Option<(String, String)> =
        within(TIMEOUT, "reading a table's definition", conn.query_first(query)).await.on_target()?;
    secondary::missing(wanted, &row.map(|r| r.1).unwrap_or_default()).map_err(|why| {
        let name = quote::ident(&table.name);
        Error::refused(
            format!("the secondary keys of {name} cannot be built on the target: {why}"),
            format!("drop that key on the target, or add these: {}; and run again", wanted.join(", ")),
        )
    })
}
