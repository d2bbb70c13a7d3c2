//! Native replication between two servers of the harness.

use std::time::Duration;

use converge_mysql::{Address, Connector, Error as ServerError, Flavor, Position, ServerInfo, within};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use tokio::time::Instant;

use super::LocalServer;
use crate::error::Error;

/// How long one statement may take.
const STATEMENT: Duration = Duration::from_secs(20);

/// The option with which a server can become a source after having been a replica.
pub fn replica_option(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "--log-replica-updates=ON",
        Flavor::MariaDb => "--log-slave-updates=ON",
    }
}

/// The variable that keeps everybody but administrators from writing (MySQL: them as well).
pub(crate) fn read_only_variable(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "super_read_only",
        Flavor::MariaDb => "read_only",
    }
}

/// Where the binary log of any server ends.
pub async fn position_of(admin: &Address) -> Result<Position, Error> {
    let mut conn = Connector::new(admin.clone()).connect().await?;
    let info = ServerInfo::read(&mut conn).await?;
    Ok(within(STATEMENT, "asking for the position", Position::current(&mut conn, &info)).await?)
}

impl LocalServer {
    /// Replicates `source` from its first transaction on, and finds it again when it was away. Neither may have been
    /// written to differently.
    pub async fn replicate(&self, source: &Self) -> Result<(), Error> {
        let port = source.port();
        let mut from = source.root().await?;
        let (change, start) = match source.binary().info.flavor {
            Flavor::MySql => {
                let mode: Option<String> = ask(&mut from, "SELECT @@gtid_mode").await?;
                let auto = u8::from(mode.as_deref() == Some("ON"));
                let change = format!(
                    "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
                     SOURCE_AUTO_POSITION={auto}, GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1"
                );
                (change, "START REPLICA")
            }
            Flavor::MariaDb => {
                let change = format!(
                    "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
                     MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
                );
                (change, "START SLAVE")
            }
        };
        let mut conn = self.root().await?;
        run(&mut conn, &change).await?;
        run(&mut conn, start).await
    }

    /// Where its binary log ends.
    pub async fn position(&self) -> Result<Position, Error> {
        position_of(&self.address("")).await
    }

    /// Keeps everybody but administrators from writing to it from now on (MySQL: them as well).
    pub async fn take_no_writes(&self) -> Result<(), Error> {
        let variable = read_only_variable(self.binary().info.flavor);
        run(&mut self.root().await?, &format!("SET GLOBAL {variable} = ON")).await
    }

    /// Lets it be written to again.
    pub async fn take_writes(&self) -> Result<(), Error> {
        let mut conn = self.root().await?;
        if self.binary().info.flavor == Flavor::MySql {
            run(&mut conn, "SET GLOBAL super_read_only = OFF").await?;
        }
        run(&mut conn, "SET GLOBAL read_only = OFF").await
    }

    /// Why a replica stopped to replicate, if it did.
    pub async fn replication_error(&self) -> Result<Option<String>, Error> {
        let mut conn = self.root().await?;
        let status = match self.binary().info.flavor {
            Flavor::MySql => {
                // The status names the worker that failed, and only the worker the reason.
                let worker = "SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker \
                              WHERE last_error_number <> 0 LIMIT 1";
                if let Some(error) = ask(&mut conn, worker).await? {
                    return Ok(Some(error));
                }
                "SHOW REPLICA STATUS"
            }
            Flavor::MariaDb => "SHOW SLAVE STATUS",
        };
        let row: Result<Option<Row>, ServerError> = within(STATEMENT, status, conn.query_first(status)).await;
        let error = |row: &Row, name: &str| row.get::<Option<String>, _>(name).flatten();
        let found = row?.and_then(|row| {
            let errors = ["Last_SQL_Error", "Last_IO_Error"].iter().filter_map(|name| error(&row, name));
            errors.into_iter().find(|error| !error.is_empty())
        });
        Ok(found)
    }

    /// Waits until a replica has logged exactly what `source` has, which must not be written to meanwhile. `None`: not
    /// within the bound.
    pub async fn wait_for_all_of(&self, source: &Self, bound: Duration) -> Result<Option<Position>, Error> {
        let wanted = source.position().await?;
        let give_up = Instant::now() + bound;
        loop {
            let now = self.position().await?;
            if now.covers(&wanted) == Some(true) && wanted.covers(&now) == Some(true) {
                return Ok(Some(now));
            }
            if Instant::now() >= give_up {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a replica a server of its own, which takes writes.
    pub async fn promote(&self) -> Result<(), Error> {
        let mut conn = self.root().await?;
        let word = match self.binary().info.flavor {
            Flavor::MySql => "REPLICA",
            Flavor::MariaDb => "SLAVE",
        };
        run(&mut conn, &format!("STOP {word}")).await?;
        run(&mut conn, &format!("RESET {word} ALL")).await
    }

    async fn root(&self) -> Result<Conn, Error> {
        Ok(Connector::new(self.address("")).connect().await?)
    }
}

async fn run(conn: &mut Conn, statement: &str) -> Result<(), Error> {
    Ok(within(STATEMENT, statement, conn.query_drop(statement)).await?)
}

async fn ask(conn: &mut Conn, query: &str) -> Result<Option<String>, Error> {
    let answer: Result<_, ServerError> = within(STATEMENT, query, conn.query_first(query)).await;
    Ok(answer?)
}
