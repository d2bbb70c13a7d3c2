//! Reading a workflow's state. An answer that is not what was asked for is an error like any other.

use std::time::Duration;

use mysql_async::prelude::{FromRow, FromValue, Queryable};
use mysql_async::{Conn, FromRowError, Row};

use super::{Store, SwitchRequest, TIMEOUT, TableState, Workflow, is_not_there, key_values, table};
use crate::error::{OnSide, Result};
use crate::source::marks::SCHEMA;
use crate::target::CopyProgress;
use converge_mysql::within;

const WHAT: &str = "reading the workflow's state";

/// A column's value; `None`: it is NULL, not there, or of another kind.
fn field<T: FromValue>(row: &Row, name: &str) -> Option<T> {
    row.get_opt::<Option<T>, _>(name)?.ok()?
}

impl Store {
    /// Reads the workflow; `None` if there is none of this name.
    pub async fn load(&self, conn: &mut Conn) -> Result<Option<Workflow>> {
        let exists: Option<Row> = within(
            TIMEOUT,
            WHAT,
            conn.query_first(format!(
                "SELECT 1 FROM information_schema.tables WHERE table_schema = '{SCHEMA}' AND table_name = 'copy_table'"
            )),
        )
        .await
        .on_target()?;
        if exists.is_none() {
            return Ok(None);
        }
        self.read(conn).await
    }

    /// The same where the state was seen to be there, with fewer questions: a runner asks many times a second.
    pub(super) async fn read(&self, conn: &mut Conn) -> Result<Option<Workflow>> {
        let query = format!(
            "SELECT w.state, w.source, w.source_schema, w.target_schema, w.strategy, a.position, w.source_position, \
             w.lag_seconds, w.error, w.what_to_do, w.stopped, TIMESTAMPDIFF(MICROSECOND, w.alive_at, UTC_TIMESTAMP(3)) / 1e6 AS silent, \
             w.switch_token, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), w.switch_deadline) AS left_us, w.switch_outcome, w.switch_times \
             FROM {} w JOIN {} a ON a.workflow = w.name WHERE w.name = {}",
            table("workflow"),
            table("applied"),
            self.me()
        );
        let row: Option<Row> = match within(TIMEOUT, WHAT, conn.query_first(query)).await {
            Err(e) if is_not_there(&e) => None,
            other => other.on_target()?,
        };
        let Some(row) = row else { return Ok(None) };
        let tables = self.load_tables(conn).await?;
        self.workflow(&row, tables).map(Some)
    }

    fn workflow(&self, row: &Row, tables: Vec<TableState>) -> Result<Workflow> {
        let text = |name: &str| field::<String>(row, name);
        let state = text("state").unwrap_or_default();
        let token = text("switch_token");
        let outcome = text("switch_outcome");
        let left = field::<i64>(row, "left_us").unwrap_or(0).max(0) as u64;
        Ok(Workflow {
            name: self.workflow.clone(),
            state: state.parse().map_err(|()| self.unreadable(&format!("unknown state {state}")))?,
            source: text("source").unwrap_or_default(),
            source_schema: text("source_schema").unwrap_or_default(),
            target_schema: text("target_schema").unwrap_or_default(),
            strategy: text("strategy").unwrap_or_default(),
            tables,
            position: text("position").unwrap_or_default().parse().on_target()?,
            source_position: text("source_position"),
            lag_seconds: field(row, "lag_seconds"),
            error: text("error"),
            what_to_do: text("what_to_do"),
            stopped: field(row, "stopped").unwrap_or(false),
            silent_seconds: text("silent").and_then(|s| s.parse().ok()),
            switch: match (&token, &outcome) {
                (Some(token), None) => {
                    Some(SwitchRequest { token: token.clone(), left: Duration::from_micros(left) })
                }
                _ => None,
            },
            switch_outcome: token.zip(outcome),
            switch_times: text("switch_times").and_then(|t| serde_json::from_str(&t).ok()),
        })
    }

    async fn load_tables(&self, conn: &mut Conn) -> Result<Vec<TableState>> {
        let query = format!(
            "SELECT source_table, target_table, last_key, rows_copied, rows_estimated, done, created, position FROM {} \
             LEFT JOIN {} USING (workflow, number) WHERE workflow = {} ORDER BY number",
            table("copy_table"),
            table("copy_seen"),
            self.me()
        );
        let rows: Vec<Row> = within(TIMEOUT, WHAT, conn.query(query)).await.on_target()?;
        rows.into_iter().map(|row| self.table_state(row)).collect()
    }

    fn table_state(&self, row: Row) -> Result<TableState> {
        type Fields = (String, String, Option<String>, u64, u64, bool, bool, Option<String>);
        let (source, target, last_key, rows_copied, rows_estimated, done, created, seen) =
            Fields::from_row_opt(row).map_err(|FromRowError(row)| self.unreadable(&format!("{row:?}")))?;
        let key = |text: String| {
            key_values(&text).ok_or_else(|| self.unreadable(&format!("bad key {text} of {source}")))
        };
        let seen = seen.map(|text| text.parse()).transpose().on_target()?;
        let progress = CopyProgress { last_key: last_key.map(key).transpose()?, rows_copied, done, seen };
        Ok(TableState { source, target, rows_estimated, created, progress })
    }
}
