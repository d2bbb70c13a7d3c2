//! Holding a few keys still on the source until the target has applied all that was done to them: see [`crate::proof`].
//!
//! Never holds anything for longer than [`HOLD`] and the time of one look at the rows, and asks a server to end the
//! connection if this process should vanish in between.

use std::collections::HashMap;
use std::time::Duration;

use converge_mysql::{Flavor, Position};
use tokio::time::Instant;

use super::detail::{Fields, fields_by_key};
use super::rows::{Fetched, matched, parse};
use crate::error::Error;
use crate::plan::Plan;
use crate::plan::sql::{Pick, Scope};
use crate::proof::{Ends, Witness};
use crate::request::Request;
use crate::session::Session;

/// The longest that keys are held while the target is waited for.
const HOLD: Duration = Duration::from_secs(1);
/// A server that does not hear of this process for so long while keys are held gives them free.
const FORSAKEN: Duration = Duration::from_secs(3);
/// How long a server waits for other sessions otherwise.
const PATIENT: Duration = Duration::from_secs(86_400);

/// What statements here are for.
const WHAT: &str = "holding differing rows still";

/// Row locks, and those of gaps.
const LOCKED: [u16; 4] = [
    1205, // lock wait timeout, also of NOWAIT on MariaDB
    1213, // deadlock
    3572, // NOWAIT on MySQL
    4025, // aborted by a transaction of higher priority
];
/// A statement took longer than it may.
const LATE: [u16; 3] = [1317, 1969, 3024];

/// Whether a locking read waits for other transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It fails at once.
    Never,
    /// It waits for a second; for a single key only.
    Second,
}

/// What both sides had under the keys while they were held.
#[derive(Debug)]
pub struct Seen {
    /// The rows of the source and of the target.
    pub rows: [Fetched; 2],
    /// Columns of those that differ.
    pub fields: [HashMap<Vec<u8>, Fields>; 2],
    /// The source's position by which they had got what they had.
    pub position: Position,
}

/// What came of an attempt to hold keys.
#[derive(Debug)]
pub enum Held {
    /// Both sides were read.
    Seen(Box<Seen>),
    /// Another transaction holds one of them.
    Locked,
    /// The target did not come to the source's position in time, or the position proves nothing, for this reason.
    Late(Option<String>),
}

/// The connections that hold and look.
pub struct Holder<'a> {
    witness: &'a Witness,
    source: Session,
    target: Session,
}

impl<'a> Holder<'a> {
    /// Connects to both servers.
    pub async fn open(witness: &'a Witness, request: &Request) -> Result<Self, Error> {
        let Ends { source, target } = Ends::open(request).await?;
        let mut holder = Self { witness, source, target };
        for session in [&mut holder.source, &mut holder.target] {
            // A little more than a wait for a position.
            let limit = HOLD * 2;
            let bound = match session.info.flavor {
                Flavor::MySql => format!("max_execution_time = {}", limit.as_millis()),
                Flavor::MariaDb => format!("max_statement_time = {}", limit.as_secs()),
            };
            let sql = format!("SET SESSION innodb_lock_wait_timeout = 1, {bound}");
            session.query("setting up the session", &sql).await?;
        }
        Ok(holder)
    }

    /// See [`Witness::catch_up`].
    pub async fn catch_up(&mut self, bound: Duration) -> Result<Option<String>, Error> {
        self.witness.catch_up(&mut self.source, &mut self.target, bound).await
    }

    /// Why the target does not catch up, as far as it says.
    pub async fn trouble(&mut self) -> Result<String, Error> {
        self.witness.trouble(&mut self.source, &mut self.target).await
    }

    /// See [`Witness::is_stopped`].
    pub async fn is_stopped(&mut self) -> Result<bool, Error> {
        self.witness.is_stopped(&mut self.target).await
    }

    /// Holds keys still and reads both sides, with all columns of at most `most` rows that differ. All is released when
    /// this returns.
    pub async fn hold(
        &mut self,
        plan: &Plan,
        keys: &[Vec<String>],
        wait: Wait,
        most: usize,
    ) -> Result<Held, Error> {
        let seen = self.see(plan, keys, wait, most).await;
        let released = self.release().await;
        match seen {
            // Locks that could not be given back may have been lost before: what was seen under them is worth nothing.
            Ok(seen) => released.map(|()| match seen {
                Ok(seen) => Held::Seen(Box::new(seen)),
                Err(why) => Held::Late(why),
            }),
            Err(error) => match code(&error) {
                Some(code) if LOCKED.contains(&code) => released.map(|()| Held::Locked),
                Some(code) if LATE.contains(&code) => released.map(|()| Held::Late(None)),
                _ => Err(error),
            },
        }
    }

    /// No rows: the target did not come in time, or its position proves nothing, for this reason.
    async fn see(
        &mut self,
        plan: &Plan,
        keys: &[Vec<String>],
        wait: Wait,
        most: usize,
    ) -> Result<Result<Seen, Option<String>>, Error> {
        let (scope, pick) = (Scope::default(), Pick::Keys(keys));
        let locked = plan.locked_rows(&scope, pick, 0, wait == Wait::Second);
        self.source.query(WHAT, &idle_bound(FORSAKEN)).await?;
        self.source.query(WHAT, "START TRANSACTION").await?;
        let begun = Instant::now();
        let mut source = self.source.query(WHAT, &locked).await?;
        let position = self.witness.frontier(&mut self.source).await?;
        let left = HOLD.saturating_sub(begun.elapsed());
        if !self.witness.snapshot_at(&mut self.target, &position, left).await? {
            return Ok(Err(None));
        }
        let target = self.target.query(WHAT, &plan.rows(&scope, pick, 1)).await?;
        let strange = |session: &Session| session.unexpected(WHAT, "a row is not in the form asked for");
        let rows = [
            parse(plan, &source).ok_or_else(|| strange(&self.source))?,
            parse(plan, &target).ok_or_else(|| strange(&self.target))?,
        ];
        let differing = matched(rows[0].rows.clone(), rows[1].rows.clone()).1;
        let shown: Vec<Vec<String>> =
            differing.iter().take(most).filter_map(|row| plan.address(&row.key)).collect();
        let mut fields = [HashMap::new(), HashMap::new()];
        if !shown.is_empty() {
            let sql = [0, 1].map(|side| plan.details(&scope, Pick::Keys(&shown), side));
            let cells = [self.source.query(WHAT, &sql[0]).await?, self.target.query(WHAT, &sql[1]).await?];
            fields = [
                fields_by_key(plan, &cells[0]).ok_or_else(|| strange(&self.source))?,
                fields_by_key(plan, &cells[1]).ok_or_else(|| strange(&self.target))?,
            ];
        }
        let left = HOLD.saturating_sub(begun.elapsed());
        if let Some(why) = self.witness.doubt(&mut self.source, &mut self.target, left).await? {
            return Ok(Err(Some(why)));
        }
        // The last word: the locks are there, and the rows are what they were.
        let mut again = self.source.query(WHAT, &locked).await?;
        source.sort_unstable();
        again.sort_unstable();
        if source != again {
            return Err(self.source.unexpected(WHAT, "rows that were locked have changed"));
        }
        Ok(Ok(Seen { rows, fields, position }))
    }

    async fn release(&mut self) -> Result<(), Error> {
        let (source, target) =
            tokio::join!(self.source.query(WHAT, "ROLLBACK"), self.target.query(WHAT, "ROLLBACK"));
        source.and(target)?;
        self.source.query(WHAT, &idle_bound(PATIENT)).await.map(drop)
    }

    /// Ends the connections politely.
    pub async fn close(self) {
        tokio::join!(self.source.close(), self.target.close());
    }
}

fn idle_bound(bound: Duration) -> String {
    format!("SET SESSION wait_timeout = {}", bound.as_secs())
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server { inner, .. } => inner.server_code(),
        _ => None,
    }
}
