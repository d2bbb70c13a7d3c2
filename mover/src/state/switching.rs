//! The switch in the workflow's state: what was asked for, how it ended, and how long each part took.

use std::time::Duration;

use converge_mysql::{quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};

use super::{State, Store, TIMEOUT, TableState, Workflow, table};
use crate::error::{OnSide, Result};
use crate::source::{fenced_name, renaming};

/// How long the parts of a switch took, in milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SwitchTimes {
    /// From the first attempt to fence until the tables were fenced, pauses between attempts included.
    pub fencing_ms: f64,
    /// Attempts to fence; each but the last gave up to let writers through.
    pub attempts: u32,
    /// Within that, the time in which an attempt was waiting for its locks and new statements waited behind it.
    pub blocked_ms: f64,
    /// From the tables being fenced until the target was proven complete.
    pub drained_ms: f64,
    /// What should have been done besides and could not be.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What the answer to a switch begins with when it worked; the proven position follows.
pub const SWITCHED: &str = "switched at ";

/// The answer to a request that its client took back before the runner began with it.
pub const WITHDRAWN: &str = "the request was taken back";

impl Workflow {
    /// The names that the source's tables have while they are fenced, for messages.
    pub fn fenced_tables(&self) -> String {
        let name = |t: &TableState| quote::qualified(&self.source_schema, &fenced_name(&t.source));
        self.tables.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The statement that lets writers in again, for people.
    pub fn way_back(&self) -> String {
        let tables = self.tables.iter().map(|t| t.source.as_str());
        format!("RENAME TABLE {}", renaming(&self.source_schema, tables, false))
    }
}

impl Store {
    /// A text that no other workflow has, on whichever target it is.
    pub async fn birth(&self, conn: &mut Conn) -> Result<String> {
        let query = format!(
            "SELECT CONCAT(name, ' ', created_at) FROM {} WHERE name = {}",
            table("workflow"),
            self.me()
        );
        let found: Option<String> =
            within(TIMEOUT, "reading when the workflow began", conn.query_first(query)).await.on_target()?;
        Ok(found.unwrap_or_default())
    }

    /// The connection that holds the workflow, if one does.
    async fn holder(&self, conn: &mut Conn) -> Result<Option<u32>> {
        let query = format!("SELECT IS_USED_LOCK({})", quote::text(&self.lock_name()));
        let holder: Option<Option<u32>> =
            within(TIMEOUT, "asking who runs the workflow", conn.query_first(query)).await.on_target()?;
        Ok(holder.flatten())
    }

    /// Whether a runner holds the workflow.
    pub async fn is_run(&self, conn: &mut Conn) -> Result<bool> {
        Ok(self.holder(conn).await?.is_some())
    }

    /// Whether nobody has run the workflow since a runner that held it by connection `own`, and was `run`, if it came to
    /// that.
    pub async fn is_left_to(&self, conn: &mut Conn, own: Option<u32>, run: Option<u64>) -> Result<bool> {
        if self.holder(conn).await?.is_some_and(|holder| Some(holder) != own) {
            return Ok(false);
        }
        let query = format!("SELECT run FROM {} WHERE workflow = {}", table("applied"), self.me());
        let last: Option<u64> =
            within(TIMEOUT, "asking who ran the workflow", conn.query_first(query)).await.on_target()?;
        Ok(run.is_none_or(|run| last == Some(run)))
    }

    /// The name of the lock that the runner holds on the target.
    pub fn lock_name(&self) -> String {
        format!("converge.{}", self.workflow)
    }

    /// Asks the runner to switch traffic within `timeout`, unless another request stands; whether it did.
    pub async fn request_switch(&self, conn: &mut Conn, token: &str, timeout: Duration) -> Result<bool> {
        let sql = format!(
            "UPDATE {} SET switch_token = {}, switch_outcome = NULL, switch_times = NULL, \
             switch_deadline = UTC_TIMESTAMP(3) + INTERVAL {} MICROSECOND WHERE name = {} AND (switch_token IS NULL \
             OR switch_outcome IS NOT NULL OR switch_deadline <= UTC_TIMESTAMP(3))",
            table("workflow"),
            quote::text(token),
            timeout.as_micros(),
            self.me()
        );
        Ok(self.execute(conn, "asking for the switch", sql).await? == 1)
    }

    /// The condition that the request of this token is neither answered nor over.
    fn stands(token: &str) -> String {
        format!(
            "switch_token = {} AND switch_outcome IS NULL AND switch_deadline > UTC_TIMESTAMP(3)",
            quote::text(token)
        )
    }

    /// Whether the request still stands.
    pub async fn switch_stands(&self, conn: &mut Conn, token: &str) -> Result<bool> {
        let (table, stands, me) = (table("workflow"), Self::stands(token), self.me());
        let query = format!("SELECT {stands} FROM {table} WHERE name = {me}");
        let found: Option<Option<bool>> =
            within(TIMEOUT, "looking whether the switch is still wanted", conn.query_first(query))
                .await
                .on_target()?;
        Ok(found.flatten() == Some(true))
    }

    /// Begins the switch if it is still wanted; whether it is.
    pub async fn begin_switch(&self, conn: &mut Conn, token: &str) -> Result<bool> {
        let sql = format!(
            "UPDATE {} SET state = '{}' WHERE name = {} AND state = '{}' AND {}",
            table("workflow"),
            State::Switching,
            self.me(),
            State::Replicating,
            Self::stands(token)
        );
        Ok(self.execute(conn, "beginning the switch", sql).await? == 1)
    }

    /// Takes a request back. One that was begun is answered by the runner, which finds that its time is over.
    pub async fn withdraw_switch(&self, conn: &mut Conn, token: &str) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET switch_deadline = UTC_TIMESTAMP(3), \
             switch_outcome = IF(state = '{}', NULL, '{WITHDRAWN}') \
             WHERE name = {} AND switch_token = {} AND switch_outcome IS NULL",
            table("workflow"),
            State::Switching,
            self.me(),
            quote::text(token)
        );
        self.execute(conn, "taking the switch back", sql).await.map(drop)
    }

    /// Answers the request of this token, in one step with the change of state that goes with it, if there is one.
    async fn answer(
        &self,
        conn: &mut Conn,
        token: &str,
        change: Option<(State, State)>,
        outcome: &str,
        times: Option<&SwitchTimes>,
    ) -> Result<()> {
        let (to, from) = match change {
            // What went wrong on the way here is over.
            Some((from, to)) => (
                format!("state = '{to}', error = NULL, what_to_do = NULL, "),
                format!(" AND state = '{from}'"),
            ),
            None => (String::new(), String::new()),
        };
        let times = times.and_then(|t| serde_json::to_string(t).ok());
        let sql = format!(
            "UPDATE {} SET {to}switch_outcome = IF(switch_token = {token}, COALESCE(switch_outcome, {}), switch_outcome), \
             switch_times = {} WHERE name = {}{from}",
            table("workflow"),
            quote::text(outcome),
            times.map_or("NULL".into(), |t| quote::text(&t)),
            self.me(),
            token = quote::text(token),
        );
        self.execute(conn, "answering the switch", sql).await.map(drop)
    }

    /// The request cannot be carried out in the state that the workflow is in.
    pub async fn decline_switch(&self, conn: &mut Conn, token: &str, why: &str) -> Result<()> {
        self.answer(conn, token, None, why, None).await
    }

    /// The switch was undone.
    pub async fn undo_switch(&self, conn: &mut Conn, token: &str, why: &str) -> Result<()> {
        self.answer(conn, token, Some((State::Switching, State::Replicating)), why, None).await
    }

    /// The switch is proven at `position`.
    pub async fn finish_switch(
        &self,
        conn: &mut Conn,
        token: &str,
        position: &str,
        times: &SwitchTimes,
    ) -> Result<()> {
        let outcome = format!("{SWITCHED}{position}");
        self.answer(conn, token, Some((State::Switching, State::Switched)), &outcome, Some(times)).await
    }
}
