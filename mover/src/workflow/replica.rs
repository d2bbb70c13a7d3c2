//! A replica of the source that rows are read from while they are copied: is it one, and can its place be taken by the
//! source later?
//!
//! Nothing is written to it. Marks are written to the source and come by replication, so that the replica is proven to
//! follow the source with everything that the copy needs.

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, Flavor, Position, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::setup::Setup;
use crate::change::{ChunkId, Mark};
use crate::error::{Error, OnSide, Result, Side};
use crate::preflight;
use crate::schema::Table;
use crate::source::{Replicated, ServerSource, TIMEOUT, marks};

/// How long a mark may take from the source to the replica.
const MARK_WAIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A connection to the replica.
pub struct Replica {
    connector: Connector,
    info: ServerInfo,
    conn: Conn,
    replicated: Replicated,
}

impl Replica {
    /// Connects to it.
    pub async fn connect(address: &Address) -> Result<Self> {
        let connector = crate::session::connector(address);
        let mut conn = connector.connect().await.on_source()?;
        let info = ServerInfo::read(&mut conn).await.on_source()?;
        let replicated = Replicated::read(connector.clone(), &mut conn, info).await?;
        Ok(Self { connector, info, conn, replicated })
    }

    /// Refuses a server that does not log what it replicates from `source` by GTID, or has transactions of its own.
    pub async fn check(&mut self, source: &mut Conn, source_info: &ServerInfo) -> Result<()> {
        let help = "name a replica of --source in --copy-from, or copy with --copy-strategy locking";
        if self.info.flavor != source_info.flavor {
            let what = format!("--copy-from is {}, the source is {source_info}", self.info);
            return Err(Error::refused(what, help));
        }
        preflight::log_only(&mut self.conn).await?;
        self.replicated.check(&mut self.conn).await?;
        let position = Position::current(&mut self.conn, &self.info).await.on_source()?;
        // Read later than the replica's, it has all of that.
        let ahead = Position::current(source, source_info).await.on_source()?;
        if matches!(position, Position::File(_)) || matches!(ahead, Position::File(_)) {
            return Err(Error::refused(
                "the replica has no GTIDs: a place in its binary log means nothing on the source",
                "SET GLOBAL gtid_mode = ON, in steps, on both servers; or copy with --copy-strategy locking",
            ));
        }
        if ahead.covers(&position) != Some(true) || self.replicated.is_own_last(&position) {
            return Err(Error::refused(
                format!(
                    "the replica in --copy-from has transactions of its own: it stands at {position}, the source at {ahead}"
                ),
                help,
            ));
        }
        self.check_log().await
    }

    /// Waits until it has all that the source has now, statements that made the tables included, and says where it
    /// stands then: the copy's first position.
    pub async fn catch_up(&mut self, source: &mut Conn, source_info: &ServerInfo) -> Result<Position> {
        let wanted = Position::current(source, source_info).await.on_source()?;
        let give_up = Instant::now() + MARK_WAIT;
        while Instant::now() < give_up {
            let position = Position::current(&mut self.conn, &self.info).await.on_source()?;
            if position.covers(&wanted) == Some(true) {
                self.replicated.check_at(&mut self.conn, &position).await?;
                return Ok(position);
            }
            tokio::time::sleep(POLL).await;
        }
        Err(Error::refused(
            format!("the replica in --copy-from did not come to {wanted} within {} s", MARK_WAIT.as_secs()),
            "wait until it has caught up and run again; is it a replica of --source, and does it run?",
        ))
    }

    /// What a MariaDB replica replicated before it began to log is not in its log.
    async fn check_log(&mut self) -> Result<()> {
        if self.info.flavor == Flavor::MySql {
            return Ok(());
        }
        let query = "SELECT @@gtid_binlog_pos, @@gtid_slave_pos";
        let both: Option<(String, String)> =
            within(TIMEOUT, query, self.conn.query_first(query)).await.on_source()?;
        let (logged, applied) = both.unwrap_or_default();
        let parse = |text: &str| text.parse::<converge_mysql::MariaDbGtidPosition>().on_source();
        if parse(&logged)?.covers(&parse(&applied)?) {
            return Ok(());
        }
        Err(Error::refused(
            format!("the replica's binary log ends at {logged}, but it applied {applied}"),
            "start it with --log-slave-updates=ON, and wait until each domain has replicated a transaction",
        ))
    }

    /// Waits until a mark on the source is seen on the replica, and holds the tables of both against each other. From
    /// then on `setup`'s tables may be read here; marks still go to the source.
    pub async fn prove(mut self, setup: &mut Setup, run: u64) -> Result<ServerSource> {
        let name = setup.workflow.name.clone();
        let mark = Mark::Low(ChunkId { run, table: 0, number: 0 });
        marks::write(&mut setup.source, &name, &mark).await?;
        self.wait_for(&name, &mark).await?;
        for table in setup.tables.iter() {
            let here = Table::read(&mut self.conn, Side::Source, &table.schema, &table.name).await?;
            if !here.is_some_and(|here| here.same_form(table)) {
                return Err(Error::refused(
                    format!(
                        "{} is another table on the replica in --copy-from than on the source",
                        table.qualified()
                    ),
                    "make them the same, or copy with --copy-strategy locking",
                ));
            }
        }
        let tables: Arc<[Table]> = setup.tables.clone();
        Ok(ServerSource::new(self.connector, self.info, &name, tables, run)
            .standing_for(setup.source_connector.clone(), self.replicated))
    }

    async fn wait_for(&mut self, workflow: &str, mark: &Mark) -> Result<()> {
        let query = format!(
            "SELECT CAST(mark AS CHAR) FROM {} WHERE workflow = {}",
            quote::qualified(marks::SCHEMA, marks::TABLE),
            quote::text(workflow)
        );
        let give_up = Instant::now() + MARK_WAIT;
        while Instant::now() < give_up {
            // The table may be as new as the mark.
            let found: Option<String> =
                within(TIMEOUT, "looking for a mark on the replica", self.conn.query_first(query.as_str()))
                    .await
                    .or_else(|e| if e.server_code().is_some() { Ok(None) } else { Err(e) })
                    .on_source()?;
            if found == Some(mark.to_text()) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        let what = "waiting for a mark of the source on the replica in --copy-from (does it lag? does it replicate \
                    the database _converge of this source?)";
        Err(ServerError::TimedOut { what: what.into(), after: MARK_WAIT }).on_source()
    }
}
