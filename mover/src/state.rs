//! A workflow's state in the target, in the database `_converge`: what is moved, how far the copy and the stream got,
//! and what its operator asked for.
//!
//! `applied` and `copy_table` change only in the transactions that write the rows they speak of; `workflow` is for
//! everything else, so that commands from other machines never wait for a transaction in progress.

mod reading;
pub mod resume;
mod secondary;
pub mod switching;
pub mod writers;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use converge_mysql::{Error as ServerError, Position, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::Serialize;

use crate::error::{Error, OnSide, Result};
use crate::source::marks::SCHEMA;
use crate::target::{Checkpoint, CopyProgress};
use crate::value::Value;

const TIMEOUT: Duration = Duration::from_secs(20);
/// A heartbeat may have to wait behind the commit of a huge transaction; who sends it looks after it meanwhile.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3600);

/// Where a workflow stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Tables are being copied; changes are applied at the same time.
    Copying,
    /// All rows are there; secondary keys are built, and changes are applied as they happen.
    Indexing,
    /// All rows are there; changes are applied as they happen.
    Replicating,
    /// Writes on the source are being fenced and the rest applied.
    Switching,
    /// Writes on the source are fenced and the target has everything.
    Switched,
    /// The operator declared the switched workflow done.
    Complete,
    /// The operator gave the workflow up.
    Cancelled,
}

impl State {
    const ALL: [Self; 7] = [
        Self::Copying,
        Self::Indexing,
        Self::Replicating,
        Self::Switching,
        Self::Switched,
        Self::Complete,
        Self::Cancelled,
    ];

    /// Whether nothing is left to run.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Complete | Self::Cancelled)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Copying => "copying",
            Self::Indexing => "indexing",
            Self::Replicating => "replicating",
            Self::Switching => "switching",
            Self::Switched => "switched",
            Self::Complete => "complete",
            Self::Cancelled => "cancelled",
        })
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|s| s.to_string() == text).ok_or(())
    }
}

/// One moved table of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct TableState {
    /// Name on the source.
    pub source: String,
    /// Name on the target.
    pub target: String,
    /// The source's estimate of its rows when the workflow began.
    pub rows_estimated: u64,
    /// Whether the workflow created the target's table.
    pub created: bool,
    /// How far the copy got.
    pub progress: CopyProgress,
}

/// A workflow as it stands in the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// The source, without password.
    pub source: String,
    /// Database on the source.
    pub source_schema: String,
    /// Database on the target.
    pub target_schema: String,
    /// The copy strategy's name.
    pub strategy: String,
    /// The tables, in the order of their numbers.
    pub tables: Vec<TableState>,
    /// All source transactions up to here are in the target.
    pub position: Position,
    /// The source's position when it was last asked.
    pub source_position: Option<String>,
    /// Seconds between the source's last change and the applied position.
    pub lag_seconds: Option<f64>,
    /// Why it does not go on, if so.
    pub error: Option<String>,
    /// What its operator can do about it.
    pub what_to_do: Option<String>,
    /// Whether `error` ended the run.
    pub stopped: bool,
    /// Seconds since a runner last said that it lives.
    pub silent_seconds: Option<f64>,
    /// The switch that was asked for and not yet answered.
    pub switch: Option<SwitchRequest>,
    /// Token and outcome of the last switch that was answered.
    pub switch_outcome: Option<(String, String)>,
    /// How long its parts took, if it worked.
    pub switch_times: Option<switching::SwitchTimes>,
}

/// What `switch-traffic` asks of the runner.
#[derive(Debug, Clone, PartialEq)]
pub struct SwitchRequest {
    /// Names this request.
    pub token: String,
    /// Time left until the request is void.
    pub left: Duration,
}

/// A statement of a checkpoint.
pub struct CheckpointStatement {
    /// Its text.
    pub sql: String,
    /// Whether it must find its row: if not, another runner has taken the workflow over.
    pub must_match: bool,
}

/// Reads and writes one workflow's state.
#[derive(Debug, Clone)]
pub struct Store {
    workflow: String,
    run: u64,
}

fn table(name: &str) -> String {
    quote::qualified(SCHEMA, name)
}

fn key_text(key: &[Value]) -> String {
    key.iter().map(Value::to_token).collect::<Vec<_>>().join(" ")
}

fn key_values(text: &str) -> Option<Vec<Value>> {
    text.split(' ').map(Value::from_token).collect()
}

/// Whether this is a server's answer where a database or a table is not there.
fn is_not_there(error: &ServerError) -> bool {
    matches!(error.server_code(), Some(1049 | 1146))
}

impl Store {
    /// `run` identifies the runner; a command that runs nothing passes zero.
    pub fn new(workflow: &str, run: u64) -> Self {
        Self { workflow: workflow.into(), run }
    }

    /// The workflow's name.
    pub fn name(&self) -> &str {
        &self.workflow
    }

    fn me(&self) -> String {
        quote::text(&self.workflow)
    }

    /// Creates the database and its tables unless they are there.
    pub async fn create(&self, conn: &mut Conn) -> Result<()> {
        let statements = [
            format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quote::ident(SCHEMA)),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, \
                 state VARCHAR(16) NOT NULL, source TEXT NOT NULL, source_schema VARCHAR(64) NOT NULL, \
                 target_schema VARCHAR(64) NOT NULL, strategy VARCHAR(32) NOT NULL, \
                 switch_token VARCHAR(64), switch_deadline DATETIME(3), switch_outcome TEXT, switch_times TEXT, \
                 error TEXT, what_to_do TEXT, stopped BOOLEAN NOT NULL DEFAULT FALSE, source_position LONGTEXT, lag_seconds DOUBLE, \
                 alive_at DATETIME(3), created_at DATETIME(3) NOT NULL) ENGINE=InnoDB",
                table("workflow")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (workflow VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, \
                 run BIGINT UNSIGNED NOT NULL, position LONGTEXT NOT NULL, source_timestamp BIGINT NOT NULL, \
                 commits BIGINT NOT NULL DEFAULT 0) ENGINE=InnoDB",
                table("applied")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (workflow VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, \
                 number INT, source_table VARCHAR(64) NOT NULL, target_table VARCHAR(64) NOT NULL, last_key LONGTEXT, \
                 rows_copied BIGINT NOT NULL, rows_estimated BIGINT NOT NULL, done BOOLEAN NOT NULL, \
                 created BOOLEAN NOT NULL, PRIMARY KEY (workflow, number)) ENGINE=InnoDB",
                table("copy_table")
            ),
            format!(
                "CREATE TABLE IF NOT EXISTS {} (workflow VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, \
                 number INT, position LONGTEXT NOT NULL, PRIMARY KEY (workflow, number)) ENGINE=InnoDB",
                table("copy_seen")
            ),
        ];
        for statement in statements.into_iter().chain(resume::creation()).chain([secondary::creation()]) {
            self.execute(conn, "creating the workflow's state on the target", statement).await?;
        }
        Ok(())
    }

    async fn execute(&self, conn: &mut Conn, what: &str, statement: String) -> Result<u64> {
        self.execute_within(TIMEOUT, conn, what, statement).await
    }

    async fn execute_within(&self, bound: Duration, conn: &mut Conn, what: &str, sql: String) -> Result<u64> {
        let executed = within(bound, what, async {
            Ok::<_, mysql_async::Error>(conn.query_iter(sql).await?.affected_rows())
        });
        match executed.await {
            Err(e) if is_not_there(&e) => Err(self.gone()),
            other => other.on_target(),
        }
    }

    /// Stores a new workflow.
    pub async fn insert(&self, conn: &mut Conn, workflow: &Workflow) -> Result<()> {
        let text = quote::text;
        let mut statements = vec![
            "START TRANSACTION".to_owned(),
            format!(
                "INSERT INTO {} (name, state, source, source_schema, target_schema, strategy, created_at) \
                 VALUES ({}, {}, {}, {}, {}, {}, UTC_TIMESTAMP(3))",
                table("workflow"),
                self.me(),
                text(&workflow.state.to_string()),
                text(&workflow.source),
                text(&workflow.source_schema),
                text(&workflow.target_schema),
                text(&workflow.strategy)
            ),
            format!(
                "INSERT INTO {} (workflow, run, position, source_timestamp) VALUES ({}, {}, {}, 0)",
                table("applied"),
                self.me(),
                self.run,
                text(&workflow.position.to_string())
            ),
        ];
        for (number, t) in workflow.tables.iter().enumerate() {
            statements.push(format!(
                "INSERT INTO {} (workflow, number, source_table, target_table, rows_copied, rows_estimated, done, created) \
                 VALUES ({}, {number}, {}, {}, 0, {}, FALSE, {})",
                table("copy_table"),
                self.me(),
                text(&t.source),
                text(&t.target),
                t.rows_estimated,
                t.created
            ));
        }
        statements.push("COMMIT".into());
        for statement in statements {
            self.execute(conn, "storing the workflow", statement).await?;
        }
        Ok(())
    }

    /// Somebody removed the state.
    fn gone(&self) -> Error {
        Error::Workflow {
            workflow: self.workflow.clone(),
            what: "its state was removed from the target while it ran".into(),
            help: "do not touch the database _converge; cancel a workflow with `converge move cancel`".into(),
        }
    }

    fn unreadable(&self, what: &str) -> Error {
        Error::Workflow {
            workflow: self.workflow.clone(),
            what: format!("its state on the target cannot be read: {what}"),
            help: format!(
                "it was changed by hand or by another version; remove its rows in {SCHEMA} and start again"
            ),
        }
    }

    /// Makes this runner the one whose checkpoints count.
    pub async fn take_over(&self, conn: &mut Conn) -> Result<()> {
        let sql =
            format!("UPDATE {} SET run = {} WHERE workflow = {}", table("applied"), self.run, self.me());
        self.execute(conn, "taking the workflow over", sql).await.map(drop)
    }

    /// The error of a runner whose workflow was taken over.
    pub fn taken_over(&self) -> Error {
        let holder = "it took the workflow over while this one was cut off".into();
        Error::AlreadyRunning { workflow: self.workflow.clone(), holder }
    }

    /// The statements that record a checkpoint in the transaction it belongs to.
    pub fn checkpoint_statements(&self, checkpoint: &Checkpoint) -> Vec<CheckpointStatement> {
        let position = match &checkpoint.position {
            Some(p) => {
                format!(
                    ", position = {}, source_timestamp = {}",
                    quote::text(&p.to_string()),
                    checkpoint.timestamp
                )
            }
            None => String::new(),
        };
        let mut statements = vec![CheckpointStatement {
            sql: format!(
                "UPDATE {} SET commits = commits + 1{position} WHERE workflow = {} AND run = {}",
                table("applied"),
                self.me(),
                self.run
            ),
            must_match: true,
        }];
        for (number, progress) in &checkpoint.copied {
            let key = progress.last_key.as_deref().map_or("last_key".into(), |k| quote::text(&key_text(k)));
            statements.push(CheckpointStatement {
                sql: format!(
                    "UPDATE {} SET last_key = {key}, rows_copied = {}, done = {} WHERE workflow = {} AND number = {number}",
                    table("copy_table"),
                    progress.rows_copied,
                    progress.done,
                    self.me()
                ),
                must_match: true,
            });
            if let Some(seen) = &progress.seen {
                statements.push(CheckpointStatement { sql: self.saw(*number, seen), must_match: false });
            }
        }
        if let Some((from, to)) = checkpoint.enter {
            statements.push(CheckpointStatement { sql: self.change_of_state(from, to), must_match: false });
        }
        statements
    }

    /// Records that the copied rows of a table show what stands in the source's log up to there.
    fn saw(&self, number: usize, seen: &Position) -> String {
        let (table, me, seen) = (table("copy_seen"), self.me(), quote::text(&seen.to_string()));
        format!(
            "INSERT INTO {table} (workflow, number, position) VALUES ({me}, {number}, {seen}) \
             ON DUPLICATE KEY UPDATE position = {seen}"
        )
    }

    fn change_of_state(&self, from: State, to: State) -> String {
        // The copy's end is not yet the end of the work while keys are missing.
        let state = match (from, to) {
            (State::Copying, State::Replicating) => {
                format!("IF({}, '{}', '{to}')", self.keys_are_missing(), State::Indexing)
            }
            _ => format!("'{to}'"),
        };
        format!(
            "UPDATE {} SET state = {state} WHERE name = {} AND state = '{from}'",
            table("workflow"),
            self.me()
        )
    }

    /// Changes the state if it is `from`; whether it was.
    pub async fn enter(&self, conn: &mut Conn, from: State, to: State) -> Result<bool> {
        let sql = self.change_of_state(from, to);
        Ok(self.execute(conn, "changing the workflow's state", sql).await? == 1)
    }

    /// Says that the runner lives and works, and how far the source is ahead, in seconds.
    pub async fn heartbeat(&self, conn: &mut Conn, source: &Position, lag: f64) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET alive_at = UTC_TIMESTAMP(3), source_position = {}, lag_seconds = {lag}, error = NULL, \
             what_to_do = NULL, stopped = FALSE WHERE name = {}",
            table("workflow"),
            quote::text(&source.to_string()),
            self.me()
        );
        self.execute_within(HEARTBEAT_TIMEOUT, conn, "recording progress", sql).await.map(drop)
    }

    /// Records why the workflow does not go on; `stopped`: it needs its operator, and a switch that nobody has begun on is
    /// declined. One that was begun on is looked after by the next runner.
    pub async fn record_error(&self, conn: &mut Conn, error: &str, help: &str, stopped: bool) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET error = {}, what_to_do = {}, stopped = {stopped}, switch_outcome = IF({stopped} AND \
             switch_token IS NOT NULL AND state <> '{}', COALESCE(switch_outcome, {}), switch_outcome) WHERE name = {}",
            table("workflow"),
            quote::text(error),
            quote::text(help),
            State::Switching,
            quote::text(&format!("the workflow stopped: {error}")),
            self.me()
        );
        self.execute(conn, "recording an error", sql).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        for state in State::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
    }

    #[test]
    fn keys_read_back() {
        let key = vec![Value::Int(-3), Value::Bytes(b"0x20 '".to_vec())];
        assert_eq!(key_values(&key_text(&key)), Some(key));
    }
}
