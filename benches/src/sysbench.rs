//! Tables and transactions of the shape that sysbench's `oltp_write_only` has, the same for the same seed.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use converge_chaos::server::LocalServer;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::lab;

/// Sessions that write at the same time, each to rows of its own, so that none waits for another.
const SESSIONS: u64 = 4;

/// Which rows transactions write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mix {
    /// All rows, each as often as any other.
    Uniform,
    /// A hundred rows of each table.
    Hot,
}

/// Some tables of one size.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// How many.
    pub count: u64,
    /// Rows of each.
    pub rows: u64,
    /// Of all random choices.
    pub seed: u64,
}

/// Sessions that write.
pub struct Writing {
    sessions: JoinSet<Result<()>>,
    committed: Arc<AtomicU64>,
}

impl Writing {
    /// Transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until all have met the fence; transactions committed in all.
    pub async fn fenced(mut self) -> Result<u64> {
        while let Some(session) = self.sessions.join_next().await {
            session??;
        }
        Ok(self.committed())
    }
}

impl Tables {
    /// Their names.
    pub fn names(&self) -> Vec<String> {
        (1..=self.count).map(|t| format!("sbtest{t}")).collect()
    }

    fn random(&self, what: u64) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed.wrapping_mul(1000).wrapping_add(what))
    }

    /// Creates and fills them.
    pub async fn fill(&self, server: &LocalServer) -> Result<()> {
        const ROWS: u64 = 1000;
        let mut conn = lab::connect(server).await?;
        for (number, name) in (0..).zip(self.names()) {
            conn.query_drop(format!(
                "CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, \
                 c CHAR(120) NOT NULL DEFAULT '', pad CHAR(60) NOT NULL DEFAULT '', KEY k_{number} (k))"
            ))
            .await?;
            let mut random = self.random(number);
            let mut id = 1;
            while id <= self.rows {
                let mut sql = format!("INSERT INTO {name} VALUES ");
                for i in id..(id + ROWS).min(self.rows + 1) {
                    sql.push_str(if i > id { "," } else { "" });
                    push_row(&mut sql, i, self.rows, &mut random);
                }
                conn.query_drop(sql).await?;
                id += ROWS;
            }
        }
        Ok(())
    }

    /// Runs so many transactions of four row changes each, over several sessions.
    pub async fn write(&self, server: &LocalServer, transactions: u64, mix: Mix) -> Result<()> {
        let mut sessions = JoinSet::new();
        for session in 0..SESSIONS {
            let (tables, conn) = (*self, lab::connect(server).await?);
            let share = transactions / SESSIONS + u64::from(session < transactions % SESSIONS);
            sessions.spawn(async move { tables.session(conn, session, share, mix).await });
        }
        while let Some(ended) = sessions.join_next().await {
            ended.context("a writing session")??;
        }
        Ok(())
    }

    async fn session(&self, mut conn: Conn, session: u64, transactions: u64, mix: Mix) -> Result<()> {
        let mut random = self.random(self.count + session);
        for _ in 0..transactions {
            let sql = self.transaction((session, SESSIONS), mix, &mut random);
            conn.query_drop(sql).await?;
        }
        Ok(())
    }

    /// Runs transactions over so many sessions until the tables are fenced or this is dropped: all as fast as they go,
    /// or `per_second` of them together.
    pub async fn write_until_fenced(
        &self,
        server: &LocalServer,
        sessions: u64,
        per_second: Option<u64>,
    ) -> Result<Writing> {
        const NO_SUCH_TABLE: u16 = 1146;
        const DEADLOCK: u16 = 1213;
        let (mut set, committed) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for session in 0..sessions {
            let (tables, mut conn) = (*self, lab::connect(server).await?);
            let (mut random, committed) = (self.random(self.count + session), committed.clone());
            let mut pace = per_second.map(|rate| {
                let mut pace = tokio::time::interval(Duration::from_secs(sessions) / rate.max(1) as u32);
                pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
                pace
            });
            set.spawn(async move {
                loop {
                    if let Some(pace) = &mut pace {
                        pace.tick().await;
                    }
                    let sql = tables.transaction((session, sessions), Mix::Uniform, &mut random);
                    match run_all(&mut conn, sql).await {
                        Ok(()) => drop(committed.fetch_add(1, Ordering::Relaxed)),
                        Err(mysql_async::Error::Server(e)) if e.code == NO_SUCH_TABLE => return Ok(()),
                        Err(mysql_async::Error::Server(e)) if e.code == DEADLOCK => {}
                        Err(e) => return Err(e.into()),
                    }
                }
            });
        }
        Ok(Writing { sessions: set, committed })
    }

    fn transaction(&self, (session, sessions): (u64, u64), mix: Mix, random: &mut ChaCha8Rng) -> String {
        let range = if mix == Mix::Hot { self.rows.min(100) } else { self.rows };
        let mut table = || random.random_range(1..=self.count);
        let tables = [table(), table(), table()];
        let mut id = || random.random_range(0..range / sessions) * sessions + session + 1;
        let [a, b, c] = [id(), id(), id()];
        let mut sql = format!(
            "BEGIN; UPDATE sbtest{} SET k = k + 1 WHERE id = {a}; UPDATE sbtest{} SET c = '{}' WHERE id = {b}; \
             DELETE FROM sbtest{} WHERE id = {c}; INSERT INTO sbtest{} VALUES ",
            tables[0],
            tables[1],
            digits(random, 10),
            tables[2],
            tables[2]
        );
        push_row(&mut sql, c, self.rows, random);
        sql.push_str("; COMMIT");
        sql
    }

    /// Rows and checksum of each table.
    pub async fn checksums(&self, conn: &mut Conn) -> Result<Vec<(u64, u64)>> {
        let mut sums = Vec::new();
        for name in self.names() {
            let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {name}")).await?;
            let sum: Option<(String, u64)> =
                conn.query_first(format!("CHECKSUM TABLE {name} EXTENDED")).await?;
            sums.push((rows.context("no count")?, sum.context("no checksum")?.1));
        }
        Ok(sums)
    }
}

/// Runs a packet of statements to its end: an error of a later statement shows only there.
async fn run_all(conn: &mut Conn, sql: String) -> std::result::Result<(), mysql_async::Error> {
    let mut result = conn.query_iter(sql).await?;
    while !result.is_empty() {
        result.collect::<mysql_async::Row>().await?;
    }
    result.drop_result().await
}

fn push_row(sql: &mut String, id: u64, rows: u64, random: &mut ChaCha8Rng) {
    let k = random.random_range(1..=rows);
    let (c, pad) = (digits(random, 10), digits(random, 5));
    // Writing to a String cannot fail.
    let _ = write!(sql, "({id},{k},'{c}','{pad}')");
}

/// Groups of eleven digits with dashes between them.
fn digits(random: &mut ChaCha8Rng, groups: usize) -> String {
    let group = |_| format!("{:011}", random.random_range(0..100_000_000_000u64));
    (0..groups).map(group).collect::<Vec<_>>().join("-")
}
