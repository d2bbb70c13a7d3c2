//! Whether a source's binary log is still the one that the checkpoint speaks of.
//!
//! A position alone cannot tell: a server that was restored from a backup, or whose logs were reset, goes on to number
//! its transactions and files as before, and soon stands behind the checkpoint again with another history. What does
//! not come again is the moment at which a log file was begun: it stands in the file's first event. A session
//! remembers server, file and moment; the next one holds what it finds against that. Nothing is written here.

use std::time::Duration;

use converge_mysql::{Connector, Flavor, Position, ServerInfo, quote, within};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStreamRequest, Conn, Row};
use serde::{Deserialize, Serialize};

use super::event::kind;
use super::{TIMEOUT, errant, refused};
use crate::error::{Error, OnSide, Result, Side};
use crate::preflight;

/// A server and the beginning of one of its log files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogIdentity {
    /// What tells this server from others.
    pub server: String,
    /// The file.
    pub file: String,
    /// When it was begun, in seconds since 1970.
    pub begun: u32,
    /// A place in this or a later file up to which all is on the target. A machine that crashes can take the end of a log
    /// back that was not on its disk yet; the file stays, and what is written after it gets the numbers of what was lost.
    #[serde(default)]
    pub reached: Option<Position>,
    /// MariaDB's id among the servers that replicate from each other.
    #[serde(default)]
    pub server_id: Option<u32>,
    /// What a MariaDB had of each server's transactions when a session began.
    #[serde(default)]
    pub known: Option<String>,
    /// When the file of that place was begun: a backup has the session's first file as well, but not a later one.
    #[serde(default)]
    pub reached_begun: Option<u32>,
    /// Why the workflow cannot go on, now or later, and what to do about it.
    #[serde(default)]
    pub spoiled: Option<(String, String)>,
}

impl LogIdentity {
    /// Whether this is the server of `before`, or may be one made of its files: MariaDB has no identity of its own but
    /// where it runs, and servers that replicate from each other differ in their ids. A copy that was put in its place
    /// has the id, and numbers its transactions on from where it was made.
    pub fn may_continue(&self, before: &Self) -> bool {
        self.server == before.server || self.server_id.is_some() && self.server_id == before.server_id
    }
}

/// Reads log files of one source.
pub struct Historian<'a> {
    /// A connection to it.
    pub conn: &'a mut Conn,
    /// Makes more of them.
    pub connector: &'a Connector,
    /// Its product and version.
    pub info: &'a ServerInfo,
    /// A replica's id that nobody else uses.
    pub server_id: u32,
}

impl Historian<'_> {
    /// The log that is being written now.
    pub async fn current(&mut self) -> Result<LogIdentity> {
        let server = preflight::identity(self.conn, Side::Source, self.info).await?;
        let file = Position::current_file(self.conn, self.info).await.on_source()?.file;
        let (server_id, known) = match self.info.flavor {
            Flavor::MySql => (None, None),
            Flavor::MariaDb => {
                let id = self.conn.query_first("SELECT @@GLOBAL.server_id");
                let id = within(TIMEOUT, "reading the server's id", id).await.on_source()?;
                (id, Some(errant::known(self.conn).await?))
            }
        };
        match self.begun(&file).await? {
            Some(begun) => Ok(LogIdentity {
                server,
                file,
                begun,
                server_id,
                known,
                reached: None,
                reached_begun: None,
                spoiled: None,
            }),
            None => Err(refused::lost(&format!("the source's log {file} is gone already"))),
        }
    }

    /// Refuses a source whose log is not the one of `before`, where the checkpoint is `position`.
    pub async fn check(
        &mut self,
        before: &LogIdentity,
        now: &LogIdentity,
        position: &Position,
    ) -> Result<()> {
        if !now.may_continue(before) {
            return match position {
                Position::File(_) => Err(Error::refused(
                    format!(
                        "the checkpoint {position} is a place in the files of another server ({})",
                        before.server
                    ),
                    "a file and an offset mean nothing on another server: point --source at the former one, or cancel \
                     and start again; with gtid_mode=ON a workflow can follow a failover",
                )),
                // What the other server has is compared by GTID.
                _ => Ok(()),
            };
        }
        match self.check_begun(&before.file, before.begun).await? {
            true => self.check_end(before).await,
            false => self.check_purged(&before.file).await,
        }
    }

    /// Refuses a MySQL that wrote transactions without GTIDs in this file or a later one. Who asks for its log by GTID
    /// afterwards gets it from behind them, and no word of them. Each change of `gtid_mode` begins a new file, so that a
    /// file's first transaction tells of all.
    pub async fn check_gtids(&mut self, since: &str) -> Result<()> {
        for (file, _) in self.files().await? {
            if sequence(&file) >= sequence(since) && self.begins_without_gtid(&file).await? {
                return Err(refused::without_gtids(&format!("the first of them stands in its log {file}")));
            }
        }
        Ok(())
    }

    async fn begins_without_gtid(&mut self, file: &str) -> Result<bool> {
        // The first two events are the file's own, the third begins a transaction.
        let query = format!("SHOW BINLOG EVENTS IN {} LIMIT 3", quote::text(file));
        let is_anonymous =
            |event: &Row| event.get::<String, _>(2).is_some_and(|kind| kind == "Anonymous_Gtid");
        let what = "looking at the beginning of a binary log";
        match within(TIMEOUT, what, self.conn.query::<Row, _>(query)).await {
            Ok(events) => Ok(events.iter().any(is_anonymous)),
            // It was purged meanwhile.
            Err(e) if e.to_string().contains("Could not find target log") => Ok(false),
            Err(e) => Err(e).on_source(),
        }
    }

    /// Refuses a file that was begun at another moment. Returns whether it is there.
    async fn check_begun(&mut self, file: &str, before: u32) -> Result<bool> {
        match self.begun(file).await? {
            Some(begun) if begun != before => Err(replaced(format!(
                "{file} was begun at {before} when the workflow last ran, and now at {begun} (seconds since 1970)"
            ))),
            begun => Ok(begun.is_some()),
        }
    }

    /// A file that ends before what was applied lost its end; one that is gone or was begun at another moment is another
    /// history's.
    async fn check_end(&mut self, before: &LogIdentity) -> Result<()> {
        let Some(Position::File(reached)) = &before.reached else { return Ok(()) };
        if let Some(begun) = before.reached_begun
            && reached.file != before.file
            && !self.check_begun(&reached.file, begun).await?
        {
            return self.check_purged(&reached.file).await;
        }
        let ends = self.files().await?.into_iter().find(|(file, _)| *file == reached.file);
        match ends.filter(|(_, end)| *end < reached.offset) {
            None => Ok(()),
            Some((file, end)) => Err(replaced(format!(
                "{file} was applied up to {}, and ends at {end} now: the source lost transactions when it crashed",
                reached.offset
            ))),
        }
    }

    /// The log files with their sizes.
    pub(super) async fn files(&mut self) -> Result<Vec<(String, u64)>> {
        let rows: Vec<Row> =
            within(TIMEOUT, "listing the source's binary logs", self.conn.query("SHOW BINARY LOGS"))
                .await
                .on_source()?;
        Ok(rows.iter().filter_map(|row| Some((row.get(0)?, row.get(1)?))).collect())
    }

    /// A file that is gone was purged if only later ones are left. Whether it was needed is asked elsewhere.
    async fn check_purged(&mut self, gone: &str) -> Result<()> {
        match self.files().await?.iter().find(|(file, _)| sequence(file) <= sequence(gone)) {
            None => Ok(()),
            Some((file, _)) => Err(replaced(format!("{gone} is gone, and {file} is there"))),
        }
    }

    /// When a file was begun; `None` if there is no such file.
    pub async fn begun(&mut self, file: &str) -> Result<Option<u32>> {
        let conn = self.connector.connect().await.on_source()?;
        let request = BinlogStreamRequest::new(self.server_id).with_filename(file.as_bytes()).with_pos(4u64);
        let first = async {
            let mut stream = conn.get_binlog_stream(request).await?;
            while let Some(event) = stream.next().await {
                let event = event?;
                let header = event.header();
                if header.event_type_raw() == kind::FORMAT_DESCRIPTION {
                    return Ok(header.timestamp());
                }
            }
            Err(mysql_async::Error::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
        };
        // Not every answer that is late means a dead source, but each is worth a new session only.
        let read = tokio::time::timeout(converge_mysql::connect::patient(WAIT), first).await;
        match read {
            Ok(Ok(begun)) => Ok(Some(begun)),
            Ok(Err(e)) => match refused::reason(e, file) {
                Error::BinlogPurged { .. } => Ok(None),
                other => Err(other),
            },
            Err(_) => Err(refused::lost(&format!("no answer to the request for {file}"))),
        }
    }
}

/// How long the first events of a log may take.
const WAIT: Duration = Duration::from_secs(20);

fn replaced(what: String) -> Error {
    Error::HistoryReplaced { what }
}

fn sequence(file: &str) -> u64 {
    converge_mysql::FilePosition { file: file.into(), offset: 0 }.sequence()
}
