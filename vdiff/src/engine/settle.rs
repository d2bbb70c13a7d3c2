//! When a difference is proven: both servers stood still while it was there.
//!
//! A server stood still when its binary log position did not move and it counted no row written. Neither alone
//! suffices: some sessions write past the binary log, and counters see statements, not commits. They stand still for a
//! while before anything is concluded, so that what is on its way from one to the other may arrive; where the server says
//! that the table was not touched for that while, it has passed already.

use std::time::Duration;

use converge_mysql::{Flavor, Position, within};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::held::Holder;
use super::rows::Counts;
use super::shards::{Sessions, Shards};
use super::table::TableRun;
use crate::error::Error;
use crate::request::Progress;
use crate::session::{Session, number, text};

/// What the servers of both sides had written at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    sides: [Vec<Written>; 2],
}

/// What one server had written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    /// Its binary log position, where it can be read.
    position: Option<String>,
    counters: String,
}

impl Evidence {
    /// Asks all servers.
    pub async fn read(sessions: &mut Sessions) -> Result<Self, Error> {
        let (source, target) = tokio::join!(of_side(&mut sessions.source), of_side(&mut sessions.target));
        Ok(Self { sides: [source?, target?] })
    }

    /// The binary log position of a side (0: source), or those of its shards in their order.
    pub fn position(&self, side: usize) -> Option<String> {
        let positions: Option<Vec<&str>> = self.sides[side].iter().map(|w| w.position.as_deref()).collect();
        positions.map(|positions| positions.join("; "))
    }

    /// Whether nothing was written to a side (0: source) between this and a later reading.
    pub fn stood_still(&self, later: &Self, side: usize) -> bool {
        let (before, after) = (&self.sides[side], &later.sides[side]);
        // Without a position or a counter nothing is known.
        before == after && before.iter().all(|w| w.position.is_some() || !w.counters.is_empty())
    }

    /// Whether nothing was written to either side.
    pub fn both_stood_still(&self, later: &Self) -> bool {
        self.stood_still(later, 0) && self.stood_still(later, 1)
    }
}

async fn of_side(shards: &mut Shards) -> Result<Vec<Written>, Error> {
    try_join_all(shards.each_mut().map(of_one)).await
}

async fn of_one(session: &mut Session) -> Result<Written, Error> {
    let info = session.info;
    let bound = session.timeout();
    let position = match within(bound, "reading the position", Position::current(session.conn(), &info)).await
    {
        Ok(position) => Some(position.to_string()),
        // Without a binary log, or without the right to ask: the counters have to do.
        Err(
            converge_mysql::Error::NoBinaryLog(_)
            | converge_mysql::Error::Denied { .. }
            | converge_mysql::Error::Server { .. },
        ) => None,
        Err(inner) => return Err(session.failed(inner)),
    };
    let rows = session.query("reading the server's counters", rows_written(info.flavor)).await?;
    let mut counters: Vec<String> =
        rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("=")).collect();
    if info.flavor == Flavor::MariaDb {
        // What a replica applied without logging it itself.
        let applied = session.query("reading the replica position", "SELECT @@gtid_slave_pos").await?;
        counters.extend(applied.iter().flatten().map(text));
    }
    Ok(Written { position, counters: counters.join(" ") })
}

/// Asks how many rows were ever written, by whatever session, logged or not.
fn rows_written(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => {
            "SHOW GLOBAL STATUS WHERE Variable_name IN \
             ('Innodb_rows_inserted', 'Innodb_rows_updated', 'Innodb_rows_deleted')"
        }
        // It has not had those since 10.11. Its handlers count rows of temporary tables apart.
        Flavor::MariaDb => {
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Handler_write', 'Handler_update', 'Handler_delete')"
        }
    }
}

/// What is proven about a table.
#[derive(Debug, Default)]
pub struct Proof {
    /// Whether the differences left are proven, also those that are not by themselves.
    pub differences: bool,
    /// Why the table is not proven equal although no difference may be.
    pub reasons: Vec<String>,
}

impl TableRun<'_> {
    /// Waits for suspects to become equal or to be proven, within the request's bounds.
    pub async fn settle(&mut self, start: Evidence, started: Instant) -> Result<Proof, Error> {
        if self.counts().differing() == 0 {
            return Ok(Proof::default());
        }
        let Some((witness, request)) = self.witness.filter(|(witness, _)| witness.follows()) else {
            return self.settle_at_rest(start, started, None).await;
        };
        let mut holder = Holder::open(witness, request).await?;
        let reason = self.settle_held(&mut holder).await?;
        let mut proof = Proof::default();
        if self.proven() != self.counts() {
            proof = self.settle_at_rest(start, started, Some(&mut holder)).await?;
            if !proof.differences && self.proven() != self.counts() {
                proof.reasons.extend(reason);
            }
        }
        holder.close().await;
        Ok(proof)
    }

    /// By both servers standing still; with a witness, while the target had all that the source has.
    async fn settle_at_rest(
        &mut self,
        start: Evidence,
        started: Instant,
        mut holder: Option<&mut Holder<'_>>,
    ) -> Result<Proof, Error> {
        let mut proof = Proof::default();
        let deadline = Instant::now() + self.options.confirm_within;
        let (mut since, mut since_when) = self.stillness(&start, started).await?;
        // Of the first reading it is not known what the target had then.
        let mut complete = holder.is_none();
        loop {
            tokio::time::sleep_until(since_when + self.options.quiet_window).await;
            let suspects = self.counts().differing();
            (self.progress)(Progress::Confirming { table: self.name.to_owned(), suspects });
            self.read_again().await?;
            let now = Evidence::read(self.sessions).await?;
            if self.proven() == self.counts() {
                return Ok(proof);
            }
            // Those that are counted only cannot be read again: they need stillness since they were first read.
            let uncounted_proven = self.found.uncounted == Counts::default() || start.both_stood_still(&now);
            if complete && since.both_stood_still(&now) && uncounted_proven {
                proof.differences = true;
                return Ok(proof);
            }
            if Instant::now() >= deadline {
                proof.reasons.push(self.unsettled());
                return Ok(proof);
            }
            (since, since_when) = (now, Instant::now());
            if let Some(holder) = &mut holder {
                complete = holder.catch_up(Duration::ZERO).await?;
            }
        }
    }

    /// The first moment from which on the servers may have stood still, with what they had written then.
    async fn stillness(&mut self, start: &Evidence, started: Instant) -> Result<(Evidence, Instant), Error> {
        let (began, when) = self.began;
        let (since, when) = if began.both_stood_still(start) { (began, *when) } else { (start, started) };
        // What was not touched for longer before need not be waited for again.
        let untouched = self.untouched_for(self.options.quiet_window).await?;
        let earlier = when.checked_sub(self.options.quiet_window).filter(|_| untouched);
        Ok((since.clone(), earlier.unwrap_or(when)))
    }

    /// Whether all servers say that the table was last written to longer ago than `window`. Not all know it, of all tables.
    async fn untouched_for(&mut self, window: Duration) -> Result<bool, Error> {
        // Both times are cut to whole seconds: that much later may be a second less.
        let least = window.as_secs_f64().ceil() as u64 + 1;
        let sql = [0, 1].map(|side| self.plan.last_written(side));
        let mut untouched = true;
        for (shards, sql) in [&mut self.sessions.source, &mut self.sessions.target].into_iter().zip(&sql) {
            for session in shards.each_mut() {
                let rows = session.query("asking when the table was written to", sql).await?;
                let seconds: Option<u64> = rows.first().and_then(|row| number(row.first()?));
                untouched &= seconds.is_some_and(|seconds| seconds >= least);
            }
        }
        Ok(untouched)
    }

    fn unsettled(&self) -> String {
        let left = self.counts().differing() - self.proven().differing();
        format!(
            "{left} rows differed each time they were read, but the servers were written to all the while, so that the \
             difference may be one of timing: stop the writes (or wait until they are applied) and run again"
        )
    }
}
