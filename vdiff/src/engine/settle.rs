//! When a difference is proven: both servers stood still while it was there.
//!
//! A server stood still when its binary log position did not move and it counted no row written. Neither alone
//! suffices: some sessions write past the binary log, and counters see statements, not commits. They stand still for a
//! while before anything is concluded, so that what is on its way from one to the other may arrive; where the server says
//! that the table was not touched for that while, it has passed already.
//!
//! MySQL counts rows written by InnoDB apart, those of temporary tables that it moves from memory to disk among them, as those
//! of digests may be: where these moved, the server stood still all the same if no handler wrote for other connections.
//! What is written to tables of other engines shows only among all that handlers
//! write, temporary tables of any session included: those have to stand still too where there is such a table.

use std::collections::BTreeMap;
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
    handlers: Handlers,
}

/// What one server had written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    /// Which server it is, among [`Handlers`].
    server: Option<String>,
    /// Its binary log position, where it can be read.
    position: Option<String>,
    counters: String,
}

/// By server, how many rows handlers of any engine wrote for other connections than those of the comparison that digest,
/// read or confirm. Of MySQL only: MariaDB counts temporary tables apart.
type Handlers = BTreeMap<String, i64>;

impl Written {
    /// Whether nothing was written to tables of the engine that counts apart; `handlers`: whether those of others wrote nothing.
    fn is_still(&self, later: &Self, handlers: bool) -> bool {
        // Without a position or a counter nothing is known.
        let known = self.position.is_some() || !self.counters.is_empty();
        known && self.position == later.position && (self.counters == later.counters || handlers)
    }
}

impl Evidence {
    /// Asks all servers; `workers`: the connections that digest chunks, none of which may be at work.
    pub async fn read(sessions: &mut Sessions, workers: &mut [Sessions]) -> Result<Self, Error> {
        let (source, target) = tokio::join!(of_side(&mut sessions.source), of_side(&mut sessions.target));
        let ((source, here), (target, there)) = (source?, target?);
        let digesting = (workers.iter_mut())
            .flat_map(|Sessions { source, target }| source.each_mut().chain(target.each_mut()))
            .filter(|session| session.info.flavor == Flavor::MySql)
            .map(|session| handled(session, Counting::Own));
        let digesting = try_join_all(digesting).await?;
        let handlers = of_others(here.into_iter().chain(there).chain(digesting));
        Ok(Self { sides: [source, target], handlers })
    }

    /// The binary log position of a side (0: source), or those of its shards in their order.
    pub fn position(&self, side: usize) -> Option<String> {
        let positions: Option<Vec<&str>> = self.sides[side].iter().map(|w| w.position.as_deref()).collect();
        positions.map(|positions| positions.join("; "))
    }

    /// Whether nothing was written to a side (0: source) between this and a later reading.
    pub fn stood_still(&self, later: &Self, side: usize) -> bool {
        let (before, after) = (&self.sides[side], &later.sides[side]);
        let mut pairs = before.iter().zip(after);
        before.len() == after.len()
            && pairs.all(|(was, is)| was.is_still(is, self.others_were_idle(later, was)))
    }

    /// Whether it is known that handlers of one server wrote nothing for other connections.
    fn others_were_idle(&self, later: &Self, on: &Written) -> bool {
        let count = |evidence: &Self| evidence.handlers.get(on.server.as_ref()?).copied();
        count(self).is_some_and(|before| count(later) == Some(before))
    }

    /// Whether handlers wrote nothing either: nothing was written to a table of any engine, if both sides stood still.
    fn handlers_stood_still(&self, later: &Self) -> bool {
        self.handlers == later.handlers
    }

    /// Whether nothing was written to either side.
    pub fn both_stood_still(&self, later: &Self) -> bool {
        self.stood_still(later, 0) && self.stood_still(later, 1)
    }
}

async fn of_side(shards: &mut Shards) -> Result<(Vec<Written>, Vec<Handled>), Error> {
    let read = try_join_all(shards.each_mut().map(of_one)).await?;
    let (written, handled): (Vec<_>, Vec<_>) = read.into_iter().unzip();
    Ok((written, handled.into_iter().flatten().collect()))
}

async fn of_one(session: &mut Session) -> Result<(Written, Option<Handled>), Error> {
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
    let handled = match info.flavor {
        Flavor::MySql => Some(handled(session, Counting::All).await?),
        Flavor::MariaDb => None,
    };
    let server = handled.as_ref().map(|handled| handled.server.clone());
    Ok((Written { server, position, counters: counters.join(" ") }, handled))
}

/// How many rows one server's handlers wrote for everybody, and for one connection to it.
struct Handled {
    server: String,
    all: i64,
    own: i64,
}

/// What is left when the own connections' share is taken off; two of them may lead to one server.
fn of_others(handled: impl Iterator<Item = Handled>) -> Handlers {
    let mut servers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for Handled { server, all, own } in handled {
        let known = servers.entry(server).or_default();
        *known = (all.max(known.0), own + known.1);
    }
    servers.into_iter().map(|(server, (all, own))| (server, all - own)).collect()
}

/// What is asked of a connection.
#[derive(Clone, Copy)]
enum Counting {
    /// What handlers wrote for everybody, and for itself.
    All,
    /// The latter only, which is known at once.
    Own,
}

/// Asked in a way that writes no row of a temporary table, as SHOW does, whose rows count for everybody, but for no connection.
async fn handled(session: &mut Session, counting: Counting) -> Result<Handled, Error> {
    const WHAT: &str = "reading the server's counters";
    let sum = |table: &str| {
        format!(
            "(SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM performance_schema.{table} WHERE VARIABLE_NAME IN \
             ('Handler_write', 'Handler_update', 'Handler_delete'))"
        )
    };
    let all = match counting {
        Counting::All => sum("global_status"),
        Counting::Own => "0".into(),
    };
    let own = sum("session_status");
    let row = session.one(WHAT, &format!("SELECT @@server_uuid, {all}, {own}")).await?;
    match (row.first(), row.get(1).and_then(number), row.get(2).and_then(number)) {
        (Some(server), Some(all), Some(own)) => Ok(Handled { server: text(server), all, own }),
        _ => Err(session.unexpected(WHAT, "they are no numbers")),
    }
}

/// Asks how many rows were ever written, by whatever session, logged or not.
fn rows_written(flavor: Flavor) -> &'static str {
    match flavor {
        // Not by SHOW, whose own temporary table counts among what handlers write.
        Flavor::MySql => {
            "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME IN \
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

/// What keeps rows from being proven most often.
const WRITTEN: &str = "the servers were written to all the while";

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
        // Where nothing is applied any more, time brings no row.
        let hopeless = match &mut holder {
            Some(holder) => holder.is_stopped().await? && holder.catch_up(Duration::ZERO).await?.is_some(),
            None => false,
        };
        loop {
            tokio::time::sleep_until(since_when + self.options.quiet_window).await;
            let suspects = self.counts().differing();
            (self.progress)(Progress::Confirming { table: self.name.to_owned(), suspects });
            self.read_again().await?;
            let now = Evidence::read(self.sessions, self.workers).await?;
            if self.proven() == self.counts() {
                return Ok(proof);
            }
            // Those that are counted only cannot be read again: they need stillness since they were first read.
            let uncounted_proven =
                self.found.uncounted == Counts::default() || self.unrest(&start, &now).is_none();
            let unrest = self.unrest(&since, &now);
            if complete && unrest.is_none() && uncounted_proven {
                proof.differences = true;
                return Ok(proof);
            }
            if Instant::now() >= deadline || hopeless {
                let late = "one server had not applied all that the other had";
                let why = unrest.unwrap_or(if complete { WRITTEN } else { late });
                proof.reasons.push(self.unsettled(why));
                if unrest.is_some() {
                    proof.reasons.extend(self.logging().await?);
                }
                return Ok(proof);
            }
            (since, since_when) = (now, Instant::now());
            if let Some(holder) = &mut holder {
                complete = holder.catch_up(Duration::ZERO).await?.is_none();
            }
        }
    }

    /// The first moment from which on the servers may have stood still, with what they had written then.
    async fn stillness(&mut self, start: &Evidence, started: Instant) -> Result<(Evidence, Instant), Error> {
        let (began, when) = self.began;
        let (since, when) =
            if self.unrest(began, start).is_none() { (began, *when) } else { (start, started) };
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

    /// Why this table may have been written to between two readings, in words for [`TableRun::unsettled`].
    fn unrest(&self, before: &Evidence, after: &Evidence) -> Option<&'static str> {
        if !before.both_stood_still(after) {
            return Some(WRITTEN);
        }
        let seen = self.is_innodb || before.handlers_stood_still(after);
        (!seen).then_some(
            "the counters Handler_write, Handler_update and Handler_delete, in which alone unlogged writes to a table of \
             another engine than InnoDB show, went on all the while",
        )
    }

    /// What may keep servers from standing still although nobody writes.
    async fn logging(&mut self) -> Result<Vec<String>, Error> {
        let mut reasons = Vec::new();
        for side in [0, 1] {
            for session in self.sessions.side(side).each_mut() {
                let logs = session.table_logs().await?;
                reasons.extend(logs.iter().map(|log| {
                    format!(
                        "on the {}, {}, {log} is written to a table, where each statement counts as a row written: SET GLOBAL \
                         log_output = 'FILE' until the tables are compared, or compare as an account with SUPER, whose \
                         statements are kept out of it, while no other statements run",
                        session.side, session.address
                    )
                }));
            }
        }
        Ok(reasons)
    }

    fn unsettled(&self, why: &str) -> String {
        let left = self.counts().differing() - self.proven().differing();
        format!(
            "{left} rows differed each time they were read, but {why}, so that the difference may be one of timing: stop \
             the writes (or wait until they are applied) and run again"
        )
    }
}
