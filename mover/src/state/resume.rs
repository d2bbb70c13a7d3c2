//! What a session must know of the one before besides the checkpoint: the tables' definitions as the stream knows
//! them, the source's log, and the statement on a moved table at which the workflow stopped.
//!
//! `definition` is what rows of the log are read by. It changes only when the operator says that a statement was
//! applied to the target, never because the source shows another one.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::de::DeserializeOwned;

use super::{HEARTBEAT_TIMEOUT, Store, TIMEOUT, Workflow, table};
use crate::error::{OnSide, Result};
use crate::schema::Table;
use crate::source::history::LogIdentity;
use converge_mysql::{FilePosition, Position, quote, within};

/// The statement at which the workflow stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedAt {
    /// Where it stands in the source's log.
    pub position: String,
    /// Whether the operator said that it was applied to the target: the stream may pass it.
    pub cleared: bool,
}

/// What the last session left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    /// The definitions, in the order of the workflow's tables. Empty before the first session.
    pub tables: Vec<Table>,
    /// The source's log when it was last looked at.
    pub log: Option<LogIdentity>,
    /// The statement at which the workflow stopped.
    pub statement: Option<StoppedAt>,
}

const COLUMN: &str = "VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

/// The statements that make the tables.
pub(super) fn creation() -> [String; 2] {
    [
        format!(
            "CREATE TABLE IF NOT EXISTS {} (workflow {COLUMN}, number INT, definition LONGTEXT NOT NULL, \
             PRIMARY KEY (workflow, number)) ENGINE=InnoDB",
            table("definition")
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {} (workflow {COLUMN} PRIMARY KEY, log_identity LONGTEXT, \
             ddl_position TEXT, ddl_cleared BOOLEAN NOT NULL DEFAULT FALSE) ENGINE=InnoDB",
            table("source_log")
        ),
    ]
}

impl Store {
    /// The workflow, which must be there.
    pub async fn reload(&self, conn: &mut Conn) -> Result<Workflow> {
        self.read(conn).await?.ok_or_else(|| self.gone())
    }

    fn json<T: DeserializeOwned>(&self, text: &str) -> Result<T> {
        serde_json::from_str(text).map_err(|e| self.unreadable(&e.to_string()))
    }

    fn text(&self, value: &impl serde::Serialize) -> Result<String> {
        serde_json::to_string(value).map(|t| quote::text(&t)).map_err(|e| self.unreadable(&e.to_string()))
    }

    /// What the last session left.
    pub async fn remembered(&self, conn: &mut Conn) -> Result<Remembered> {
        let what = "reading the workflow's definitions";
        let query = format!(
            "SELECT definition FROM {} WHERE workflow = {} ORDER BY number",
            table("definition"),
            self.me()
        );
        let definitions: Vec<String> = within(TIMEOUT, what, conn.query(query)).await.on_target()?;
        let query = format!(
            "SELECT log_identity, ddl_position, ddl_cleared FROM {} WHERE workflow = {}",
            table("source_log"),
            self.me()
        );
        type Row = (Option<String>, Option<String>, bool);
        let row: Option<Row> = within(TIMEOUT, what, conn.query_first(query)).await.on_target()?;
        let (log, position, cleared) = row.unwrap_or_default();
        Ok(Remembered {
            tables: definitions.iter().map(|text| self.json(text)).collect::<Result<_>>()?,
            log: log.map(|text| self.json(&text)).transpose()?,
            statement: position.map(|position| StoppedAt { position, cleared }),
        })
    }

    fn definitions(&self, tables: &[Table]) -> Result<Vec<String>> {
        let statement = |(number, definition): (usize, &Table)| {
            Ok(format!(
                "REPLACE INTO {} (workflow, number, definition) VALUES ({}, {number}, {})",
                table("definition"),
                self.me(),
                self.text(definition)?
            ))
        };
        tables.iter().enumerate().map(statement).collect()
    }

    async fn in_transaction(&self, conn: &mut Conn, statements: Vec<String>) -> Result<()> {
        let what = "recording the tables' definitions";
        self.execute(conn, what, "START TRANSACTION".into()).await?;
        for statement in statements {
            self.execute(conn, what, statement).await?;
        }
        self.execute(conn, what, "COMMIT".into()).await.map(drop)
    }

    /// Records the definitions that the stream begins with.
    pub async fn define(&self, conn: &mut Conn, tables: &[Table]) -> Result<()> {
        self.in_transaction(conn, self.definitions(tables)?).await
    }

    /// Records the definitions that hold after the statement at which the workflow stopped, and that the stream may
    /// pass it.
    pub async fn clear_statement(&self, conn: &mut Conn, tables: &[Table]) -> Result<()> {
        let mut statements = self.definitions(tables)?;
        statements.push(format!(
            "UPDATE {} SET ddl_cleared = TRUE WHERE workflow = {}",
            table("source_log"),
            self.me()
        ));
        self.in_transaction(conn, statements).await
    }

    /// Records the statement at which the workflow stops.
    pub async fn stopped_at(&self, conn: &mut Conn, position: &str) -> Result<()> {
        let (table, me, position) = (table("source_log"), self.me(), quote::text(position));
        // A statement that was cleared already stays so: the operator's word holds until the stream has passed it.
        let sql = format!(
            "INSERT INTO {table} (workflow, ddl_position, ddl_cleared) VALUES ({me}, {position}, FALSE) \
             ON DUPLICATE KEY UPDATE ddl_cleared = ddl_cleared AND ddl_position = {position}, ddl_position = {position}"
        );
        self.execute(conn, "recording a statement", sql).await.map(drop)
    }

    /// Records that the workflow cannot go on, now or later.
    pub async fn spoiled(&self, conn: &mut Conn, what: &str, help: &str) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET log_identity = JSON_SET(log_identity, '$.spoiled', JSON_ARRAY({}, {})) WHERE workflow = {}",
            table("source_log"),
            quote::text(what),
            quote::text(help),
            self.me()
        );
        self.execute(conn, "recording that the workflow cannot go on", sql).await.map(drop)
    }

    /// Records that all is on the target up to here, in a file that was begun at this moment, if that is known.
    pub async fn reached_in_log(
        &self,
        conn: &mut Conn,
        end: &FilePosition,
        begun: Option<u32>,
    ) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET log_identity = JSON_SET(log_identity, '$.reached', {}, '$.reached_begun', {}) WHERE workflow = {}",
            table("source_log"),
            quote::text(&Position::File(end.clone()).to_string()),
            begun.map_or_else(|| "NULL".to_owned(), |begun| begun.to_string()),
            self.me()
        );
        self.execute_within(HEARTBEAT_TIMEOUT, conn, "recording progress", sql).await.map(drop)
    }

    /// Records the source's log, and its address, which a failover changes.
    pub async fn record_log(&self, conn: &mut Conn, source: &str, log: &LogIdentity) -> Result<()> {
        let (table_name, me, log) = (table("source_log"), self.me(), self.text(log)?);
        let sql = format!(
            "INSERT INTO {table_name} (workflow, log_identity) VALUES ({me}, {log}) \
             ON DUPLICATE KEY UPDATE log_identity = {log}"
        );
        self.execute(conn, "recording the source's log", sql).await?;
        let sql =
            format!("UPDATE {} SET source = {} WHERE name = {me}", table("workflow"), quote::text(source));
        self.execute(conn, "recording the source's address", sql).await.map(drop)
    }
}
