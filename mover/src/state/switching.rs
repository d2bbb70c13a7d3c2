//! The switch in the workflow's state: what was asked for, how it ended, and how long each part took.

use std::time::Duration;

use converge_mysql::quote;
use mysql_async::Conn;
use serde::{Deserialize, Serialize};

use super::{State, Store, table};
use crate::error::Result;

/// How long the parts of a switch took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SwitchTimes {
    /// From the first attempt to fence until the tables were fenced, pauses between attempts included.
    pub fencing_ms: f64,
    /// Attempts to fence; each but the last gave up to let writers through.
    pub attempts: u32,
    /// Within that, the time in which an attempt was waiting for its locks and new statements waited behind it.
    pub blocked_ms: f64,
    /// From the tables being fenced until the target was proven complete.
    pub drained_ms: f64,
}

/// What the answer to a switch begins with when it worked; the proven position follows.
pub const SWITCHED: &str = "switched at ";

impl Store {
    /// Asks the runner to switch traffic within `timeout`.
    pub async fn request_switch(&self, conn: &mut Conn, token: &str, timeout: Duration) -> Result<()> {
        let sql = format!(
            "UPDATE {} SET switch_token = {}, switch_outcome = NULL, switch_times = NULL, \
             switch_deadline = UTC_TIMESTAMP(3) + INTERVAL {} MICROSECOND WHERE name = {}",
            table("workflow"),
            quote::text(token),
            timeout.as_micros(),
            self.me()
        );
        self.execute(conn, "asking for the switch", sql).await.map(drop)
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
            "UPDATE {} SET {to}switch_outcome = IF(switch_token = {token}, {}, switch_outcome), switch_times = {} \
             WHERE name = {}{from}",
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
