//! Sessions that write to the compared tables all the time, and a few rows that they never touch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use converge_chaos::server::LocalServer;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;

use super::common::{connect, run};

/// Rows of `account` at the start; its keys are numbers.
pub const ACCOUNTS: u64 = 20_000;
/// Rows of `label` at the start; its keys are words under a collation that ignores letter case.
pub const LABELS: u64 = 4_000;
/// Keys that are multiples of this are left alone.
pub const LEFT_ALONE: u64 = 500;

/// Creates both tables and fills them.
pub async fn fill(server: &LocalServer, database: &str) {
    let mut conn = connect(server, "").await;
    run(&mut conn, &format!("CREATE DATABASE IF NOT EXISTS {database}")).await;
    run(&mut conn, &format!("USE {database}")).await;
    run(
        &mut conn,
        "CREATE TABLE account (id INT PRIMARY KEY, v VARCHAR(60), n INT NOT NULL, at TIMESTAMP(6) NULL, KEY (n))",
    )
    .await;
    run(
        &mut conn,
        "CREATE TABLE label (name VARCHAR(24) PRIMARY KEY, v VARCHAR(60)) COLLATE utf8mb4_general_ci",
    )
    .await;
    for from in (0..ACCOUNTS).step_by(1000) {
        let rows: Vec<String> =
            (from..from + 1000).map(|id| format!("({id}, 'v{id}', {id}, NULL)")).collect();
        run(&mut conn, &format!("INSERT INTO account VALUES {}", rows.join(","))).await;
    }
    let rows: Vec<String> = (0..LABELS).map(|id| format!("('key{id}', 'v{id}')")).collect();
    run(&mut conn, &format!("INSERT INTO label VALUES {}", rows.join(","))).await;
}

/// Writing sessions, until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
    tasks: JoinSet<()>,
    begun: Instant,
}

impl Load {
    /// Starts `sessions` that together write `rate` rows a second, if the server can.
    pub async fn start(server: &LocalServer, database: &str, sessions: u64, rate: u64) -> Self {
        let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for session in 0..sessions {
            let mut conn = connect(server, database).await;
            let (stop, rows) = (stop.clone(), rows.clone());
            tasks.spawn(async move {
                let (mut random, begun, mut mine) = (Random(session + 1), Instant::now(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let written = transaction(&mut conn, &mut random).await;
                    rows.fetch_add(written, Ordering::Relaxed);
                    mine += written;
                    let due = begun + Duration::from_secs_f64((mine * sessions) as f64 / rate as f64);
                    tokio::time::sleep_until(due.into()).await;
                }
            });
        }
        Self { stop, rows, tasks, begun: Instant::now() }
    }

    /// Rows written so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Ends all sessions. Rows written a second.
    pub async fn stop(mut self) -> f64 {
        let rate = self.rows() as f64 / self.begun.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        rate
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A key that is not left alone; one in two lies in a small hot range.
    fn key(&mut self, keys: u64) -> u64 {
        let bound = if self.below(2) == 0 { keys } else { keys / 20 };
        let key = self.below(bound);
        if key.is_multiple_of(LEFT_ALONE) { key + 1 } else { key }
    }
}

/// One to four statements; the rows they wrote. A deadlock among the sessions undoes all.
async fn transaction(conn: &mut Conn, random: &mut Random) -> u64 {
    let mut written = 0;
    run(conn, "START TRANSACTION").await;
    for _ in 0..=random.below(4) {
        let statement = statement(random);
        match conn.query_iter(statement.as_str()).await {
            Ok(result) => written += result.affected_rows(),
            // A deadlock, a lock that was waited for in vain, a duplicate of a moved key.
            Err(mysql_async::Error::Server(e)) if [1205, 1213, 1062].contains(&e.code) => {
                run(conn, "ROLLBACK").await;
                return 0;
            }
            Err(e) => panic!("{statement}: {e}"),
        }
    }
    run(conn, "COMMIT").await;
    written
}

fn statement(random: &mut Random) -> String {
    let (id, n) = (random.key(ACCOUNTS), random.below(1 << 30));
    match random.below(10) {
        0 => format!("DELETE FROM account WHERE id = {id}"),
        1 => format!("REPLACE INTO account VALUES ({id}, 'r{n}', {n}, NOW(6))"),
        // The key itself changes, between two halves of its range.
        2 => format!(
            "UPDATE IGNORE account SET id = IF(id < 1000000, id + 1000000, id - 1000000), n = {n} \
             WHERE id IN ({id}, {id} + 1000000)"
        ),
        3 | 4 => {
            let key = random.key(LABELS);
            format!("UPDATE label SET v = 'u{n}' WHERE name = 'key{key}'")
        }
        5 => {
            let key = random.key(LABELS);
            format!("REPLACE INTO label VALUES ('key{key}', 'r{n}')")
        }
        6 => {
            let key = random.key(LABELS);
            format!("DELETE FROM label WHERE name = 'key{key}'")
        }
        _ => format!(
            "UPDATE account SET v = 'u{n}', at = NOW(6) WHERE id BETWEEN {id} AND {id} + 7 AND id % {LEFT_ALONE} <> 0"
        ),
    }
}
