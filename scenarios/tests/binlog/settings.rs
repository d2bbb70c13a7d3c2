//! Checksums, compression, metadata and file sizes change while rows are copied and followed, in all kinds of
//! transactions, with and without GTIDs, and the mover is killed in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use converge_chaos::server::ServerBinary;
use converge_mysql::{Address, Connector, Flavor};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sql::execute;
use crate::support;
use crate::world::{World, wait};

/// Understood in any combination; new sessions have them.
const MYSQL: &[&[&str]] = &[
    &["SET GLOBAL binlog_checksum = NONE"],
    &["SET GLOBAL binlog_transaction_compression = ON", "SET GLOBAL binlog_row_metadata = FULL"],
    &["SET GLOBAL binlog_checksum = CRC32"],
    &["SET GLOBAL binlog_transaction_compression = OFF", "SET GLOBAL max_binlog_size = 4096"],
    &["SET GLOBAL binlog_row_metadata = MINIMAL", "SET GLOBAL binlog_rows_query_log_events = ON"],
];
const MARIADB: &[&[&str]] = &[
    &["SET GLOBAL binlog_checksum = NONE"],
    &[
        "SET GLOBAL log_bin_compress = ON, GLOBAL log_bin_compress_min_len = 10",
        "SET GLOBAL binlog_row_metadata = FULL",
    ],
    &["SET GLOBAL binlog_checksum = CRC32"],
    &["SET GLOBAL binlog_row_metadata = MINIMAL", "SET GLOBAL max_binlog_size = 4096"],
    &["SET GLOBAL log_bin_compress = OFF", "SET GLOBAL binlog_annotate_row_events = OFF"],
];

/// A session that ends and begins anew every few transactions.
struct Client {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Client {
    fn start(address: Address, seed: u64) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(write(address, seed, stop.clone(), done.clone()));
        Self { stop, done, task }
    }

    /// Waits until so many more sessions ran to their end.
    async fn wait_for(&self, more: u64) {
        let least = self.done.load(Ordering::Relaxed) + more;
        wait("written sessions", || async { self.done.load(Ordering::Relaxed) >= least }).await;
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

async fn write(address: Address, seed: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let connector = Connector::new(address);
    let mut n = seed * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let mut conn = connector.connect().await.unwrap();
        for _ in 0..4 {
            n += 1;
            for statement in transaction(&mut random, n) {
                match conn.query_drop(statement.as_str()).await {
                    // A unique value that is there already is an answer.
                    Err(mysql_async::Error::Server(e)) if e.code == 1062 => {}
                    answer => answer.unwrap_or_else(|e| panic!("{e}: {statement}")),
                }
            }
        }
        converge_mysql::connect::close(conn).await;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Statements of one transaction: plain, with savepoints, rolled back, as XA in one phase over the moved table, and as
/// prepared XA over the other one.
fn transaction(random: &mut ChaCha8Rng, n: u64) -> Vec<String> {
    let id = random.random_range(1..3_000);
    let update = format!("UPDATE n SET x = x + 1 WHERE id BETWEEN {id} AND {id} + 5");
    let delete = format!("DELETE FROM n WHERE id = {id} + 7");
    let insert = format!("INSERT INTO n (u) VALUES (-{n})");
    let other = format!("INSERT INTO other VALUES ({n}, {id})");
    match random.random_range(0..7) {
        0 => vec![update],
        1 => vec!["BEGIN".into(), update, insert, "SAVEPOINT a".into(), delete, other, "COMMIT".into()],
        2 => vec![
            "BEGIN".into(),
            "SAVEPOINT a".into(),
            insert,
            "SAVEPOINT b".into(),
            update,
            delete,
            "ROLLBACK TO SAVEPOINT b".into(),
            other,
            "RELEASE SAVEPOINT a".into(),
            "COMMIT".into(),
        ],
        3 => vec!["BEGIN".into(), update, insert, delete, "ROLLBACK".into()],
        4 => {
            let end = format!("XA COMMIT 'one{n}' ONE PHASE");
            vec![format!("XA START 'one{n}'"), update, insert, format!("XA END 'one{n}'"), end]
        }
        5 => vec![
            format!("XA START 'two{n}'"),
            other,
            format!("XA END 'two{n}'"),
            format!("XA PREPARE 'two{n}'"),
            format!("XA {} 'two{n}'", if n.is_multiple_of(2) { "COMMIT" } else { "ROLLBACK" }),
        ],
        _ => vec![format!("UPDATE n SET id = id + 100000 WHERE id = {id}"), delete],
    }
}

/// The kinds of events in all files of the log, and how many files there are.
async fn logged(conn: &mut Conn) -> (BTreeSet<String>, usize) {
    let files: Vec<Row> = conn.query("SHOW BINARY LOGS").await.unwrap();
    let mut kinds = BTreeSet::new();
    for file in &files {
        let events = format!("SHOW BINLOG EVENTS IN '{}'", file.get::<String, _>(0).unwrap());
        let events: Vec<Row> = conn.query(events).await.unwrap();
        kinds.extend(events.iter().map(|e| e.get::<String, _>(2).unwrap()));
    }
    (kinds, files.len())
}

async fn changed_under_way(binary: &ServerBinary, options: &[&str], seed: u64) {
    eprintln!("settings on {} with {options:?}, seed {seed}", binary.info);
    let world = World::with(binary, options, &[]).await;
    world.fill("n", 4096).await;
    let (mut s, _t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE other (id BIGINT PRIMARY KEY, x INT)"]).await;
    let mut mover = world.mover("n").with(&["--chunk-rows", "50", "--copy-rows-per-second", "1500"]);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(0));
    let client = Client::start(world.source.address("shop"), seed);
    let (settings, expected) = match binary.info.flavor {
        Flavor::MySql => (MYSQL, ["Transaction_payload", "Rows_query", "XA_prepare"]),
        Flavor::MariaDb => (MARIADB, ["Update_rows_compressed_v1", "Annotate_rows", "XA_prepare"]),
    };
    for (i, setting) in settings.iter().chain(settings).enumerate() {
        execute(&mut s, setting).await;
        client.wait_for(4).await;
        mover.kill();
        client.wait_for(2).await;
        mover.start();
        if i + 1 == settings.len() {
            mover.wait_for("replicating");
        }
    }
    client.stop().await;
    mover.wait_until("no error", |s| s["state"] == "replicating" && s["error"].is_null());
    mover.switch();
    assert!(world.judge_fenced(&["n"]).await > 2000);
    let (kinds, files) = logged(&mut s).await;
    assert!(files > 20, "only {files} files");
    for kind in expected {
        assert!(kinds.contains(kind), "{kind} was never logged: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_log_may_change_during_a_move() {
    for binary in support::servers() {
        changed_under_way(&binary, &[], 1).await;
        if binary.info.flavor == Flavor::MySql {
            changed_under_way(&binary, &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"], 2).await;
        }
    }
}
