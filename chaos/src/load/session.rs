//! One load session: sends its units one after another and records what came of each statement.

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::Connector;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::counters::Counters;
use super::generate::{Statement, Unit, unit_for};
use super::plan::LoadPlan;
use super::rest::{Admitted, Gate};
use super::user::Model;
use crate::history::{Event, History, Invoke, Kind};

/// How long an answer is waited for before it counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Waits between attempts to connect, and between units that fail for reasons which do not go away at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Lock wait timeout, deadlock: after a rollback a client sends the same again.
const TRY_AGAIN: [u16; 2] = [1205, 1213];
/// How often it does.
const RETRIES: u32 = 2;
/// Duplicate key, lock wait timeout, deadlock: part of the game.
const EXPECTED: [u16; 3] = [1062, 1205, 1213];
/// Errors after which a write may have been applied all the same: shutdown, interruption, a commit that failed
/// halfway, a log that could not be written.
const AMBIGUOUS: [u16; 9] = [1026, 1053, 1152, 1180, 1317, 1598, 1927, 3024, 3169];

/// What the sessions are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Go on.
    No,
    /// Stop after the unit at hand.
    Soon,
    /// Drop everything; answers that have not come are lost.
    Now,
}

#[derive(Debug)]
enum Answer {
    Ok(u64),
    Fail(u16, String),
    Lost(String),
}

/// How a unit ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Well,
    Refused(u16),
    Disconnected,
}

/// A session and all that it needs.
pub struct Session {
    pub number: u32,
    pub plan: Arc<LoadPlan>,
    /// The tables, if they are not those of the commerce schema.
    pub model: Option<Arc<Model>>,
    pub gate: Gate,
    pub connecting: Arc<Semaphore>,
    pub history: History,
    pub counters: Arc<Counters>,
    pub stop: watch::Receiver<Stop>,
    /// Transactions begun; each has this number in the history.
    pub begun: u64,
}

impl Session {
    /// Sends units until it is told to stop.
    pub async fn run(mut self) {
        let mut conn = None;
        let mut pace = self.pace();
        let mut pause = FIRST_PAUSE;
        let mut n = 0;
        while *self.stop.borrow() == Stop::No {
            let Some((connector, mut open)) = conn.take() else {
                conn = self.connect().await;
                continue;
            };
            let Some(admitted) = self.admitted().await else { break };
            if !Arc::ptr_eq(&admitted, &connector) {
                // The load goes on elsewhere.
                continue;
            }
            let ended = self.unit(&mut open, n, &mut pace).await;
            drop(admitted);
            n += 1;
            if ended != Ended::Disconnected {
                conn = Some((connector, open));
            }
            match ended {
                Ended::Refused(code) if !EXPECTED.contains(&code) => {
                    self.rest(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                _ => pause = FIRST_PAUSE,
            }
        }
        if let Some((_, conn)) = conn {
            converge_mysql::connect::close(conn).await;
        }
    }

    fn pace(&self) -> Option<Interval> {
        let rate = self.plan.statements_per_second.filter(|rate| *rate > 0.0)?;
        let period = Duration::try_from_secs_f64(f64::from(self.plan.sessions) / rate).ok()?;
        let mut interval = interval(period.max(Duration::from_micros(1)));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(interval)
    }

    /// A connection, unless the session is told to stop first.
    async fn connect(&mut self) -> Option<(Arc<Connector>, Conn)> {
        let mut pause = FIRST_PAUSE;
        while *self.stop.borrow() == Stop::No {
            // Not held while connecting: a server that is gone must not keep the load from coming to rest.
            let connector = Arc::clone(&*self.admitted().await?);
            let attempt = async {
                let _turn = self.connecting.acquire().await;
                connector.connect().await
            };
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                () = told(self.stop.clone(), Stop::Soon) => return None,
            };
            match attempt {
                Ok(conn) => return Some((connector, conn)),
                Err(e) => tracing::debug!("session {}: {e}", self.number),
            }
            self.rest(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        None
    }

    /// Waits until the load does not rest, unless told to stop first.
    async fn admitted(&self) -> Option<Admitted> {
        tokio::select! {
            admitted = self.gate.pass() => Some(admitted),
            () = told(self.stop.clone(), Stop::Soon) => None,
        }
    }

    /// Waits, or until told to stop.
    async fn rest(&self, pause: Duration) {
        tokio::select! {
            () = sleep(pause) => {}
            () = told(self.stop.clone(), Stop::Soon) => {}
        }
    }

    /// Sends a unit, and again what the server gave up for the sake of others.
    async fn unit(&mut self, conn: &mut Conn, n: u64, pace: &mut Option<Interval>) -> Ended {
        let unit = unit_for(&self.plan, self.model.as_deref(), self.number, n);
        let mut ended = self.attempt(conn, &unit, pace).await;
        for _ in 0..RETRIES {
            match ended {
                Ended::Refused(code) if TRY_AGAIN.contains(&code) && *self.stop.borrow() == Stop::No => {
                    ended = self.attempt(conn, &unit, pace).await;
                }
                _ => break,
            }
        }
        ended
    }

    async fn attempt(&mut self, conn: &mut Conn, unit: &Unit, pace: &mut Option<Interval>) -> Ended {
        self.begun += u64::from(unit.transaction);
        let tx = unit.transaction.then_some(self.begun);
        // Executed writes of the transaction that changed something, and how many there were at the savepoint.
        let (mut executed, mut savepoint) = (Vec::new(), 0);
        for statement in &unit.statements {
            if let Some(pace) = pace {
                tokio::select! {
                    _ = pace.tick() => {}
                    () = told(self.stop.clone(), Stop::Soon) => {}
                }
            }
            let kind = statement.kind;
            match self.send(conn, statement, tx).await {
                Answer::Ok(affected) => match kind {
                    Kind::Savepoint => savepoint = executed.len(),
                    Kind::RollbackTo => executed.truncate(savepoint),
                    Kind::Commit => {
                        executed.drain(..).for_each(|(kind, table)| self.counters.written_to(table, kind));
                    }
                    Kind::Begin | Kind::Rollback => {}
                    _ if affected == 0 => {}
                    _ if tx.is_some() => executed.push((kind, &*statement.table)),
                    _ => self.counters.written_to(&statement.table, kind),
                },
                Answer::Lost(_) => return Ended::Disconnected,
                Answer::Fail(code, _) => {
                    let rollback = Statement::control(Kind::Rollback, "ROLLBACK");
                    if tx.is_some() && matches!(self.send(conn, &rollback, tx).await, Answer::Lost(_)) {
                        return Ended::Disconnected;
                    }
                    return Ended::Refused(code);
                }
            }
        }
        Ended::Well
    }

    /// Sends one statement and records its outcome.
    async fn send(&self, conn: &mut Conn, statement: &Statement, tx: Option<u64>) -> Answer {
        let Statement { kind, table, sql, keys, ledger } = statement;
        let (kind, table) = (*kind, table.clone().into_owned());
        let (sql, keys, ledger) = (sql.clone(), keys.clone(), ledger.clone());
        let id =
            self.history.invoke(Invoke { id: 0, session: self.number, tx, kind, table, sql, keys, ledger });
        let sql = &statement.sql;
        let answer = tokio::select! {
            answer = tokio::time::timeout(ANSWER_TIMEOUT, execute(conn, sql)) => match answer {
                Ok(answer) => judge(kind, tx.is_some(), answer),
                Err(_) => Answer::Lost(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
            },
            () = told(self.stop.clone(), Stop::Now) => Answer::Lost("the load was stopped before the answer came".into()),
        };
        match &answer {
            Answer::Ok(affected) => {
                self.counters.ok(kind);
                if !Kind::WRITES.contains(&kind) {
                    self.counters.acknowledged(kind);
                }
                self.history.record(Event::Ok { id, affected: *affected });
            }
            Answer::Fail(code, message) => {
                self.counters.fail(kind);
                self.history.record(Event::Fail { id, code: *code, message: message.clone() });
            }
            Answer::Lost(message) => {
                self.counters.info(kind);
                self.history.record(Event::Info { id, message: message.clone() });
            }
        }
        answer
    }
}

/// Waits until the sessions are told at least `how`.
async fn told(mut stop: watch::Receiver<Stop>, how: Stop) {
    let enough = |now: &Stop| *now == Stop::Now || *now == how;
    if stop.wait_for(enough).await.is_err() {
        // The handle is gone and aborts this task.
        std::future::pending::<()>().await;
    }
}

async fn execute(conn: &mut Conn, sql: &str) -> Result<u64, mysql_async::Error> {
    let result = conn.query_iter(sql).await?;
    let affected = result.affected_rows();
    result.drop_result().await?;
    Ok(affected)
}

/// Whether an error means that the statement surely changed nothing.
fn judge(kind: Kind, in_transaction: bool, answer: Result<u64, mysql_async::Error>) -> Answer {
    match answer {
        Ok(affected) => Answer::Ok(affected),
        Err(mysql_async::Error::Server(e)) => {
            let certain = match kind {
                Kind::Commit => [1205, 1213].contains(&e.code),
                // The transaction is rolled back or dies with its connection.
                _ if in_transaction => true,
                _ => !AMBIGUOUS.contains(&e.code),
            };
            match certain {
                true => Answer::Fail(e.code, e.message.to_string()),
                false => Answer::Lost(format!("server error {}: {}", e.code, e.message)),
            }
        }
        Err(e) => Answer::Lost(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> Result<u64, mysql_async::Error> {
        Err(mysql_async::ServerError { code, message: "m".into(), state: "HY000".into() }.into())
    }

    #[test]
    fn only_a_certain_no_is_a_failure() {
        assert!(matches!(judge(Kind::Insert, false, server(1062)), Answer::Fail(1062, _)));
        assert!(matches!(judge(Kind::Insert, false, server(1053)), Answer::Lost(_)));
        assert!(matches!(judge(Kind::Insert, true, server(1053)), Answer::Fail(1053, _)));
        assert!(matches!(judge(Kind::Commit, true, server(1180)), Answer::Lost(_)));
        assert!(matches!(judge(Kind::Commit, true, server(1213)), Answer::Fail(1213, _)));
        let lost = mysql_async::DriverError::ConnectionClosed.into();
        assert!(matches!(judge(Kind::Commit, true, Err(lost)), Answer::Lost(_)));
    }
}
