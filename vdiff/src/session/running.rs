//! Statements that run on servers, so that none is left there when nobody waits for its answer any more: a server goes on
//! with a statement whose client has gone for as long as its own limits let it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use converge_mysql::{Address, Connector};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::{cells, number, text};
use crate::error::Error;

/// The longest that ending them takes.
const BOUND: Duration = Duration::from_secs(3);
/// Between two looks at a server.
const EVERY: Duration = Duration::from_millis(50);
/// So many looks in a row must find nothing: what was sent last may not have begun by the first.
const CLEAR_LOOKS: u32 = 2;
/// So much of a statement tells that it is one of ours: connections have the same numbers on other servers, to which an
/// address may lead as well.
const TOLD_BY: usize = 60;

tokio::task_local! {
    static CURRENT: Running;
}

/// The statements of a comparison that have begun and, as far as known, not ended.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<Statements>>);

#[derive(Default)]
struct Statements {
    next: u64,
    known: BTreeMap<u64, Statement>,
}

struct Statement {
    address: Address,
    connection: u32,
    told_by: String,
}

/// A statement that has begun. Dropped before it is [`Begun::over`], it counts as running.
#[must_use]
pub struct Begun {
    running: Running,
    number: u64,
}

impl Running {
    /// Those of the comparison that this task is a part of.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// Takes down that a statement begins.
    pub fn begin(&self, address: &Address, connection: u32, sql: &str) -> Begun {
        let told_by = sql.trim_start().chars().take(TOLD_BY).collect();
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.known.insert(number, Statement { address: address.clone(), connection, told_by });
        Begun { running: self.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Statements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn watch<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }

    /// Ends, within [`BOUND`] and as far as servers let it, what still runs.
    async fn end_all(&self) {
        let mut addresses: Vec<Address> = Vec::new();
        for statement in self.lock().known.values() {
            if !addresses.contains(&statement.address) {
                addresses.push(statement.address.clone());
            }
        }
        let each: Vec<BoxFuture<'_, ()>> = addresses.iter().map(|a| self.end_on(a).boxed()).collect();
        if tokio::time::timeout(BOUND, join_all(each)).await.is_err() {
            tracing::debug!("statements may go on running on a server");
        }
    }

    async fn end_on(&self, address: &Address) {
        let Ok(mut conn) = Connector::new(address.clone()).connect().await else { return };
        let mut clear = 0;
        while clear < CLEAR_LOOKS {
            let Ok(left) = self.left_on(address, &mut conn).await else { return };
            clear = if left.is_empty() { clear + 1 } else { 0 };
            for connection in left {
                // It may have ended by itself.
                let _ = conn.query_drop(format!("KILL {connection}")).await;
            }
            tokio::time::sleep(EVERY).await;
        }
        converge_mysql::connect::close(conn).await;
    }

    /// The connections at an address that run what was begun.
    async fn left_on(&self, address: &Address, conn: &mut Conn) -> Result<BTreeSet<u32>, mysql_async::Error> {
        // Id, user, host, database, command, time, state, statement.
        let rows: Vec<Row> = conn.query("SHOW FULL PROCESSLIST").await?;
        let all = self.lock();
        let begun = |connection: u32, sql: &str| {
            all.known.values().any(|statement| {
                statement.connection == connection
                    && statement.address == *address
                    && sql.trim_start().starts_with(&statement.told_by)
            })
        };
        let runs = |row: Row| {
            let row = cells(row);
            let connection = number(row.first()?)?;
            begun(connection, &text(row.get(7)?)).then_some(connection)
        };
        Ok(rows.into_iter().filter_map(runs).collect())
    }
}

impl Begun {
    /// The server has answered: the statement has ended.
    pub fn over(self) {
        self.running.lock().known.remove(&self.number);
    }
}

/// Does a part of a comparison; where that fails, nothing of it runs on the servers when this returns, as far as they let
/// it be ended.
pub async fn tidily<T>(work: BoxFuture<'_, Result<T, Error>>) -> Result<T, Error> {
    let running = Running::current();
    let done = running.watch(work).await;
    if done.is_err() {
        running.end_all().await;
    }
    done
}

/// Compares, unless `interrupted` comes first: then the error is what that says. A comparison that is merely dropped may
/// leave statements running on the servers; this ends them, for which it takes three seconds at the most.
///
/// # Errors
/// What `interrupted` gave.
pub async fn unless<T, I>(
    interrupted: impl Future<Output = I>,
    comparison: impl Future<Output = T>,
) -> Result<T, I> {
    let running = Running::default();
    let done = {
        let work = std::pin::pin!(running.watch(comparison));
        tokio::select! {
            done = work => Ok(done),
            how = interrupted => Err(how),
        }
    };
    if done.is_err() {
        running.end_all().await;
    }
    done
}
