//! Reading the tables with invariants on the target while the move goes on, each time in one snapshot together with the
//! position that was applied there: what holds at one position must hold at every one.
//!
//! A reading that cannot be made (the target is down, or a table is not there yet) is left out, never guessed. Nothing
//! here writes.

use std::time::Duration;

use converge_chaos::history::{Event, History, Reading};
use converge_chaos::load::{Invariant, Names};
use converge_mysql::{Address, Connector, Position, ServerInfo, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::mover::WORKFLOW;

/// From the end of one reading to the next.
const EVERY: Duration = Duration::from_millis(400);
/// How long one may take.
const BOUND: Duration = Duration::from_secs(3);
/// How often the last one is tried.
const LAST_TRIES: u32 = 5;
/// Sessions with gaps that are named.
const MOST_GAPS: u64 = 5;

/// Reads until it is told to stop. Dropping it stops it as well.
pub struct Readings {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Readings {
    /// Begins to read those of the tables with invariants that are among `moved`.
    /// `source` says where the source is by now.
    pub fn start(
        source: watch::Receiver<Address>,
        target: Address,
        names: Names,
        moved: &[String],
        history: History,
    ) -> Self {
        let is_moved = |invariant: &Invariant| moved.contains(&names.of(*invariant));
        let tables = Tables {
            account: is_moved(&Invariant::Account).then(|| names.of(Invariant::Account)),
            counter: is_moved(&Invariant::Counter).then(|| names.of(Invariant::Counter)),
            journal: is_moved(&Invariant::Journal).then(|| names.of(Invariant::Journal)),
        };
        let (stop, told) = oneshot::channel();
        let reader = Reader { source, target, tables, history, conn: None, asked: None };
        Self { stop, task: tokio::spawn(reader.run(told)) }
    }

    /// Takes a last reading and ends.
    pub async fn finish(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

struct Tables {
    account: Option<String>,
    counter: Option<String>,
    journal: Option<String>,
}

struct Reader {
    source: watch::Receiver<Address>,
    target: Address,
    tables: Tables,
    history: History,
    conn: Option<Conn>,
    /// A connection to the source.
    asked: Option<Conn>,
}

impl Reader {
    async fn run(mut self, mut told: oneshot::Receiver<()>) {
        loop {
            let reading = tokio::select! {
                reading = self.both() => reading,
                asked = &mut told => match asked {
                    Ok(()) => break,
                    // Dropped: nobody wants a last one.
                    Err(_) => return,
                },
            };
            self.record(reading);
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                asked = &mut told => match asked {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
        // One that was begun before the end is not the last; its connection may be in the middle of it.
        self.conn = None;
        for _ in 0..LAST_TRIES {
            if let Some(reading) = self.target().await {
                self.record(Some(reading));
                break;
            }
            tokio::time::sleep(EVERY).await;
        }
        if let Some(conn) = self.conn {
            converge_mysql::connect::close(conn).await;
        }
    }

    fn record(&self, reading: Option<Reading>) {
        if let Some(reading) = reading {
            self.history.record(Event::Reading(reading));
        }
    }

    /// A reading, with the source's position if that can be had.
    async fn both(&mut self) -> Option<Reading> {
        let source = tokio::time::timeout(BOUND, self.source_position()).await.ok().flatten();
        Some(Reading { source, ..self.target().await? })
    }

    async fn source_position(&mut self) -> Option<String> {
        let former = self.asked.take();
        let mut conn = match former {
            Some(conn) if !self.source.has_changed().unwrap_or(false) => conn,
            _ => {
                let source = self.source.borrow_and_update().clone();
                Connector::new(source).connect().await.ok()?
            }
        };
        let server = ServerInfo::read(&mut conn).await.ok()?;
        let position = Position::current(&mut conn, &server).await.ok()?;
        self.asked = Some(conn);
        Some(position.to_string())
    }

    /// A reading, or nothing if that does not work; a connection in which it did not is given up.
    async fn target(&mut self) -> Option<Reading> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        match tokio::time::timeout(BOUND, self.tables.read(&mut conn)).await {
            Ok(Ok(reading)) => {
                self.conn = Some(conn);
                Some(reading)
            }
            Ok(Err(e)) => {
                tracing::debug!("no reading: {e}");
                None
            }
            Err(_) => None,
        }
    }

    async fn connect(&self) -> Option<Conn> {
        let connector = Connector::new(self.target.clone())
            .with_setup("SET SESSION lock_wait_timeout = 1, autocommit = 1");
        tokio::time::timeout(BOUND, connector.connect()).await.ok()?.ok()
    }
}

impl Tables {
    async fn read(&self, conn: &mut Conn) -> Result<Reading, mysql_async::Error> {
        conn.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        let position =
            format!("SELECT position FROM _converge.applied WHERE workflow = {}", quote::text(WORKFLOW));
        let mut reading = Reading { position: conn.query_first(position).await?, ..Reading::default() };
        if let Some(table) = &self.account {
            let sum = format!("SELECT COUNT(*), CAST(COALESCE(SUM(balance), 0) AS SIGNED) FROM {table}");
            reading.accounts = conn.query_first(sum).await?;
        }
        if let Some(table) = &self.counter {
            let rows: Vec<(u64, u64)> = conn.query(format!("SELECT id, c FROM {table} ORDER BY id")).await?;
            reading.counters = Some(rows);
        }
        if let Some(table) = &self.journal {
            let count: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {table}")).await?;
            let gaps = format!(
                "SELECT CONCAT('session ', session, ' has ', COUNT(*), ' entries from ', MIN(n), ' to ', MAX(n)) FROM \
                 {table} GROUP BY session HAVING MIN(n) <> 1 OR MAX(n) <> COUNT(*) LIMIT {MOST_GAPS}"
            );
            reading.journal = Some((count.unwrap_or(0), conn.query(gaps).await?));
        }
        conn.query_drop("COMMIT").await?;
        Ok(reading)
    }
}
