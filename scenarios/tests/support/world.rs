//! Two servers of one kind, a mover between them, and a writer that never gives up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Address, Connector};
use converge_vdiff::{Options, Request, TablePair, Verdict, compare};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mover::{Mover, converge};
use crate::sql::{checksum, connect, execute};

/// How soon movers of these tests take a silent connection for dead.
pub const DEAD_AFTER: &str = "4s";

/// Source and target.
pub struct World {
    pub source: LocalServer,
    pub target: LocalServer,
}

impl World {
    /// Both servers, with more arguments for each.
    pub async fn with(binary: &ServerBinary, source: &[&str], target: &[&str]) -> Self {
        Self::between([binary, binary], source, target).await
    }

    /// Servers of which each may be of its own kind.
    pub async fn between(binaries: [&ServerBinary; 2], source: &[&str], target: &[&str]) -> Self {
        let start = |side: usize, name: &'static str, extra: &[&str]| {
            let extra = extra.iter().map(ToString::to_string).collect();
            LocalServer::start(binaries[side], ServerOptions { extra, ..ServerOptions::named(name) })
        };
        let (source, target) =
            tokio::try_join!(start(0, "source", source), start(1, "target", target)).unwrap();
        connect(&source).await;
        connect(&target).await;
        Self { source, target }
    }

    /// Both servers.
    pub async fn new(binary: &ServerBinary) -> Self {
        Self::with(binary, &[], &[]).await
    }

    /// A connection to each.
    pub async fn connections(&self) -> (Conn, Conn) {
        (connect(&self.source).await, connect(&self.target).await)
    }

    /// A mover that takes silence for death soon.
    pub fn mover(&self, tables: &str) -> Mover {
        Mover::new(&self.source, &self.target, tables).with(&["--dead-after", DEAD_AFTER])
    }

    /// Makes and fills a table on the source: a key, a unique value, a counter.
    pub async fn fill(&self, table: &str, rows: u32) {
        let mut conn = connect(&self.source).await;
        let create = format!(
            "CREATE TABLE {table} (id INT AUTO_INCREMENT PRIMARY KEY, u INT UNIQUE, x INT NOT NULL DEFAULT 0)"
        );
        execute(&mut conn, &[&create, &format!("INSERT INTO {table} (u) VALUES (1)")]).await;
        let double = format!("INSERT INTO {table} (u) SELECT u + (SELECT MAX(u) FROM {table}) FROM {table}");
        let mut there = 1;
        while there < rows {
            execute(&mut conn, &[&double]).await;
            there *= 2;
        }
    }

    /// Waits until `converge vdiff` finds two tables equal.
    pub fn wait_equal(&self, tables: &str) {
        let give_up = Instant::now() + Duration::from_secs(20);
        while let Err(text) = self.compare(tables) {
            assert!(Instant::now() < give_up, "{tables} did not become equal: {text}");
        }
    }

    /// VDiff's word that fenced tables and what was moved are equal, row by row; how many rows that were.
    pub async fn judge_fenced(&self, tables: &[&str]) -> u64 {
        let pair = |t: &&str| TablePair { source: format!("_{t}_fenced"), target: (*t).into() };
        let request = Request {
            source: vec![self.source.address("shop")],
            target: vec![self.target.address("shop")],
            tables: tables.iter().map(pair).collect(),
            options: Options { quiet_window: Duration::from_millis(200), ..Options::default() },
        };
        let report = compare(&request, &|_| {}).await.unwrap();
        assert_eq!(
            report.verdict,
            Verdict::Equal,
            "{}",
            serde_json::to_string_pretty(&report.tables).unwrap()
        );
        report.tables.iter().map(|t| t.matching_rows).sum()
    }

    fn compare(&self, tables: &str) -> Result<(), String> {
        let (source, target) = (self.source.address("shop").to_url(), self.target.address("shop").to_url());
        let arguments = ["vdiff", "--source", &source, "--target", &target, "--tables", tables];
        let output = converge().args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&text).into_owned()) }
    }
}

/// Waits until a stream has brought a table to the same rows, and shows the mover's log if that does not come.
pub async fn caught_up(mover: &Mover, s: &mut Conn, t: &mut Conn, table: &str) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        let (there, here) = (checksum(s, table).await, checksum(t, table).await);
        if there == here {
            return;
        }
        assert!(Instant::now() < give_up, "{table}: {there:?} became {here:?}\n{}", mover.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends a signal to a server.
pub fn signal(server: &LocalServer, signal: Signal) {
    let pid = server.pid().expect("a running server");
    nix::sys::signal::kill(Pid::from_raw(pid as i32), signal).unwrap();
}

/// Waits until a condition holds.
pub async fn wait<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < give_up, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes to a table of [`World::fill`] until it is stopped, over every outage.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    /// Starts writing; what is written is drawn from the seed.
    pub fn start(address: Address, table: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(write(address, table.to_owned(), seed, stop.clone(), acknowledged.clone()));
        Self { stop, acknowledged, task }
    }

    /// Transactions that were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more were acknowledged.
    pub async fn wait_for(&self, more: u64) {
        let least = self.acknowledged() + more;
        wait("acknowledged writes", || async { self.acknowledged() >= least }).await;
    }

    /// Stops; how many transactions were acknowledged.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

async fn write(address: Address, table: String, seed: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let connector = Connector::new(address);
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut conn) = connector.connect().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let id = random.random_range(1..20_000);
            let statements = match random.random_range(0..5) {
                0 => vec![format!("INSERT INTO {table} (u) VALUES (-{})", random.random_range(1..1 << 30))],
                1 => vec![format!("DELETE FROM {table} WHERE id = {id}")],
                2 => vec![format!("UPDATE {table} SET id = id + 100000 WHERE id = {id}")],
                3 => vec![
                    "BEGIN".into(),
                    format!("UPDATE {table} SET x = x + 1 WHERE id BETWEEN {id} AND {id} + 20"),
                    format!("UPDATE {table} SET u = NULL WHERE id = {id}"),
                    "COMMIT".into(),
                ],
                _ => vec![format!("UPDATE {table} SET x = x + 1 WHERE id = {id}")],
            };
            let bound = Duration::from_secs(5);
            let all = async {
                for statement in &statements {
                    conn.query_drop(statement.as_str()).await?;
                }
                Ok::<_, mysql_async::Error>(())
            };
            match tokio::time::timeout(bound, all).await {
                Ok(Ok(())) => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                // A duplicate is an answer; after everything else the session begins anew.
                Ok(Err(mysql_async::Error::Server(e))) if e.code == 1062 => {}
                _ => break,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
