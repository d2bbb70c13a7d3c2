//! When a difference is proven: both servers stood still while it was there.
//!
//! A server stood still when its binary log position did not move and InnoDB counted no row written. Neither alone
//! suffices: some sessions write past the binary log, and counters see statements, not commits.

use std::time::Duration;

use converge_mysql::{Flavor, Position};
use tokio::time::Instant;

use super::Sessions;
use super::rows::{Counts, Differing, fetch, matched};
use super::table::{Suspect, TableRun};
use crate::error::Error;
use crate::plan::sql::{Pick, Scope};
use crate::request::Progress;
use crate::session::{Session, text};

/// Rows looked up by one statement.
const BATCH: usize = 200;

/// What both servers had written at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Binary log positions of source and target, where they can be read.
    pub positions: [Option<String>; 2],
    counters: [String; 2],
}

impl Evidence {
    /// Asks both servers.
    pub async fn read(sessions: &mut Sessions) -> Result<Self, Error> {
        let (source, target) = tokio::join!(of_one(&mut sessions.source), of_one(&mut sessions.target));
        let ((a, b), (c, d)) = (source?, target?);
        Ok(Self { positions: [a, c], counters: [b, d] })
    }

    /// Whether nothing was written to a side (0: source) between this and a later reading.
    pub fn stood_still(&self, later: &Self, side: usize) -> bool {
        // Without a position or a counter nothing is known.
        (self.positions[side].is_some() || !self.counters[side].is_empty())
            && self.positions[side] == later.positions[side]
            && self.counters[side] == later.counters[side]
    }

    /// Whether nothing was written to either side.
    pub fn both_stood_still(&self, later: &Self) -> bool {
        self.stood_still(later, 0) && self.stood_still(later, 1)
    }
}

async fn of_one(session: &mut Session) -> Result<(Option<String>, String), Error> {
    let info = session.info;
    let position = match Position::current(session.conn(), &info).await {
        Ok(position) => Some(position.to_string()),
        // Without a binary log, or without the right to ask: the counters have to do.
        Err(
            converge_mysql::Error::NoBinaryLog(_)
            | converge_mysql::Error::Denied { .. }
            | converge_mysql::Error::Server { .. },
        ) => None,
        Err(inner) => return Err(session.failed(inner)),
    };
    let rows = session
        .query(
            "reading the server's counters",
            "SHOW GLOBAL STATUS WHERE Variable_name IN \
             ('Innodb_rows_inserted', 'Innodb_rows_updated', 'Innodb_rows_deleted')",
        )
        .await?;
    let mut counters: Vec<String> =
        rows.iter().map(|row| row.iter().map(text).collect::<Vec<_>>().join("=")).collect();
    if info.flavor == Flavor::MariaDb {
        // What a replica applied without logging it itself.
        let applied = session.query("reading the replica position", "SELECT @@gtid_slave_pos").await?;
        counters.extend(applied.iter().flatten().map(text));
    }
    Ok((position, counters.join(" ")))
}

/// What is proven about a table.
#[derive(Debug, Default)]
pub struct Proof {
    /// Whether the differences left are proven.
    pub differences: bool,
    /// Why the table is not proven equal although no difference may be.
    pub reasons: Vec<String>,
}

impl TableRun<'_> {
    /// Waits for suspects to become equal or for both servers to stand still, within the request's bounds.
    pub async fn settle(&mut self, start: Evidence, started: Instant) -> Result<Proof, Error> {
        let mut proof = Proof::default();
        if self.counts().differing() == 0 {
            return Ok(proof);
        }
        let deadline = Instant::now() + self.options.confirm_within;
        let (mut since, mut since_when) = (start.clone(), started);
        loop {
            tokio::time::sleep_until(since_when + self.options.quiet_window).await;
            let suspects = self.counts().differing();
            (self.progress)(Progress::Confirming { table: self.name.to_owned(), suspects });
            self.read_again().await?;
            let now = Evidence::read(self.sessions).await?;
            if self.suspects.is_empty() && self.uncounted == Counts::default() {
                return Ok(proof);
            }
            // Those that are counted only cannot be read again: they need stillness since they were first read.
            let uncounted_proven = self.uncounted == Counts::default() || start.both_stood_still(&now);
            if since.both_stood_still(&now) && uncounted_proven {
                proof.differences = true;
                return Ok(proof);
            }
            if Instant::now() >= deadline {
                proof.reasons.push(format!(
                    "{} rows differed each time they were read, but the servers were written to all the while, so that the \
                     difference may be one of timing: stop the writes (or wait until they are applied) and run again",
                    self.counts().differing()
                ));
                return Ok(proof);
            }
            (since, since_when) = (now, Instant::now());
        }
    }

    /// Reads all suspects again and drops those whose rows now agree.
    async fn read_again(&mut self) -> Result<(), Error> {
        let suspects = std::mem::take(&mut self.suspects);
        let mut left = Vec::new();
        let addressable = self.plan.is_addressable();
        let mut rest = suspects.as_slice();
        while let Some(first) = rest.first() {
            // A batch shares one scope, as its statement does; with whole keys as literals none is needed.
            let same = |s: &&Suspect| addressable || s.scope == first.scope;
            let batch = &rest[..rest.iter().take(BATCH).take_while(same).count()];
            rest = &rest[batch.len()..];
            left.extend(self.read_batch(batch).await?);
        }
        self.suspects = left;
        Ok(())
    }

    async fn read_batch(&mut self, batch: &[Suspect]) -> Result<Vec<Suspect>, Error> {
        let lookup = Lookup::of(self, batch)?;
        let (source, target) = tokio::join!(
            fetch(&mut self.sessions.source, self.plan, &lookup.scope, lookup.pick()),
            fetch(&mut self.sessions.target, self.plan, &lookup.scope, lookup.pick())
        );
        let wanted: std::collections::HashSet<&[u8]> = batch.iter().map(|s| s.row.key.as_slice()).collect();
        // A collation may call other keys equal to those asked for.
        let only = |mut rows: Vec<super::rows::Row>| {
            rows.retain(|row| wanted.contains(row.key.as_slice()));
            rows
        };
        let (matching, differing) = matched(only(source?.rows), only(target?.rows));
        let before: u64 = batch.iter().map(|s| s.row.matching).sum();
        self.matching = (self.matching + matching).saturating_sub(before);
        let mut again: std::collections::HashMap<Vec<u8>, Differing> =
            differing.into_iter().map(|d| (d.key.clone(), d)).collect();
        Ok(batch
            .iter()
            .filter_map(|s| again.remove(&s.row.key).map(|row| Suspect { row, scope: s.scope.clone() }))
            .collect())
    }
}

/// How a batch of suspects is looked up.
pub struct Lookup {
    /// Where to look.
    pub scope: Scope,
    keys: Vec<Vec<String>>,
    hashes: Vec<String>,
}

impl Lookup {
    /// By whole keys where they can be written as literals, else by hash within the scope that the batch shares.
    pub fn of(run: &TableRun<'_>, batch: &[Suspect]) -> Result<Self, Error> {
        let mut lookup = Self { scope: Scope::default(), keys: Vec::new(), hashes: Vec::new() };
        if run.plan.is_addressable() {
            for suspect in batch {
                lookup.keys.push(run.literals(&suspect.row.key)?);
            }
        } else {
            lookup.scope = batch.first().map(|s| Scope::clone(&s.scope)).unwrap_or_default();
            lookup.hashes = batch.iter().map(|s| s.row.identity.clone()).collect();
        }
        Ok(lookup)
    }

    /// The condition.
    pub fn pick(&self) -> Pick<'_> {
        if self.hashes.is_empty() { Pick::Keys(&self.keys) } else { Pick::Hashes(&self.hashes) }
    }
}

/// The shortest time worth measuring, in seconds; keeps a chunk's growth finite.
pub const LEAST_CHUNK_TIME: Duration = Duration::from_millis(1);
