//! Every safe copy strategy on real servers: a move under hostile load with the mover killed in the copy, judged by
//! VDiff; and the races that a strategy is there for, forced where they can be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "strategies/ahead.rs"]
mod ahead;
#[path = "strategies/lanes.rs"]
mod lanes;
#[path = "support/mover.rs"]
mod mover;
#[path = "strategies/no_key.rs"]
mod no_key;
#[path = "strategies/privileges.rs"]
mod privileges;
#[path = "strategies/replica.rs"]
mod replica;
#[path = "support/replication.rs"]
mod replication;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;
#[path = "strategies/untrue_replica.rs"]
mod untrue_replica;
#[path = "strategies/vendors.rs"]
mod vendors;

use std::time::{Duration, Instant};

use converge_chaos::history::History;
use converge_chaos::load::{Load, LoadPlan, create_schema, seed_rows};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mover::copy::Strategy;
use converge_mysql::Connector;
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sql::until;

const SEED: u64 = 23;
const ROWS: u64 = 9000;
const TABLES: &str = "customer,corder,ledger";

async fn connect(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    conn.query_drop("CREATE DATABASE IF NOT EXISTS shop").await.unwrap();
    conn.query_drop("USE shop").await.unwrap();
    conn
}

async fn execute(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

async fn pair(binary: &ServerBinary) -> (LocalServer, LocalServer) {
    (support::start(binary, "source").await, support::start(binary, "target").await)
}

/// The judge: fenced tables on the source against the moved ones.
fn assert_equal(source: &LocalServer, target: &LocalServer, tables: &str) {
    let pairs: Vec<String> = tables.split(',').map(|t| format!("_{t}_fenced={t}")).collect();
    let output = mover::converge()
        .args(["vdiff", "--source", &source.address("shop").to_url()])
        .args(["--target", &target.address("shop").to_url()])
        .args(["--tables", &pairs.join(","), "--format", "json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!((output.status.code(), report["verdict"].as_str()), (Some(0), Some("equal")), "{report:#}");
}

fn copied(status: &serde_json::Value) -> u64 {
    let tables = status["tables"].as_array().unwrap();
    tables.iter().filter_map(|t| t["rows_copied"].as_u64()).sum()
}

/// A move while eight sessions write; the mover is killed in the copy; the load goes on until the fence.
async fn hostile(binary: &ServerBinary, strategy: Strategy, source: &LocalServer, more: &[&str]) {
    eprintln!("{strategy} on {}, seed {SEED}", binary.info);
    let target = support::start(binary, "target").await;
    connect(&target).await;
    let address = source.address("shop");
    create_schema(&address).await.unwrap();
    seed_rows(&address, SEED, ROWS).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let history = History::create(&directory.path().join("history.jsonl")).unwrap();
    let plan = LoadPlan { seed: SEED, rows: ROWS, statements_per_second: Some(600.0), ..LoadPlan::default() };
    let load = Load::start(address, plan, history).await.unwrap();
    let options =
        ["--copy-strategy", strategy.name(), "--chunk-rows", "150", "--copy-rows-per-second", "1500"];
    let mut mover = Mover::new(source, &target, TABLES).with(&options).with(more);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 1000);
    mover.kill();
    mover.start();
    mover.wait_for("replicating");
    let written = load.counters().totals().acknowledged_writes();
    assert!(written > 500, "only {written} writes during the copy");
    mover.switch();
    load.stop().await;
    assert_equal(source, &target, TABLES);
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0, "{}", mover.log());
}

async fn hostile_everywhere(strategy: Strategy) {
    for binary in support::servers() {
        let source = support::start(&binary, "source").await;
        hostile(&binary, strategy, &source, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watermark_moves_tables_under_load() {
    hostile_everywhere(Strategy::Watermark).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locking_moves_tables_under_load() {
    hostile_everywhere(Strategy::Locking).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_history_moves_tables_under_load() {
    hostile_everywhere(Strategy::DeleteHistory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_moves_tables_under_load() {
    hostile_everywhere(Strategy::Snapshot).await;
}

/// An interrupted copy from a snapshot begins again from empty tables, but removes no row that it did not write.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_is_not_gone_on_with() {
    for binary in support::servers() {
        eprintln!("lost snapshot on {}", binary.info);
        let (source, target) = pair(&binary).await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1), (2), (3), (4)"])
            .await;
        let slowly = ["--copy-strategy", "snapshot", "--chunk-rows", "1", "--copy-rows-per-second", "1"];
        let mut mover = Mover::new(&source, &target, "a").with(&slowly);
        mover.start();
        mover.wait_until("two rows", |s| copied(s) >= 2);
        mover.kill();
        // Gone on with in another snapshot, the copy would never see that these are gone and there.
        execute(&mut s, &["DELETE FROM a WHERE id = 1", "INSERT INTO a VALUES (0)"]).await;
        execute(&mut t, &["INSERT INTO a VALUES (1000)"]).await;
        mover.start();
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("somebody else writes there"), "{}", mover.log());
        execute(&mut t, &["DELETE FROM a WHERE id = 1000"]).await;
        mover.start();
        mover.wait_for("replicating");
        assert!(mover.log().contains("the snapshot of the interrupted copy is gone"), "{}", mover.log());
        mover.switch();
        assert_equal(&source, &target, "a");
    }
}

/// A statement that changes a table before its snapshot is not in the stream, and one behind it makes the snapshot
/// unreadable: either way no column is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_altered_around_its_snapshot_stops_the_copy() {
    for binary in support::servers() {
        eprintln!("altered around the snapshot on {}", binary.info);
        let (source, target) = pair(&binary).await;
        let (mut s, _t) = (connect(&source).await, connect(&target).await);
        for table in ["a", "b"] {
            let create = format!("CREATE TABLE {table} (id INT PRIMARY KEY)");
            execute(&mut s, &[&create, &format!("INSERT INTO {table} VALUES (1), (2), (3), (4)")]).await;
        }
        let slowly = ["--copy-strategy", "snapshot", "--chunk-rows", "1", "--copy-rows-per-second", "2"];
        let mut mover = Mover::new(&source, &target, "b,a").with(&slowly);
        mover.start();
        mover.wait_until("a row", |s| copied(s) >= 1);
        execute(&mut s, &["ALTER TABLE a ADD y INT NOT NULL DEFAULT 5, ALGORITHM=COPY"]).await;
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("was altered while its rows were read"), "{}", mover.log());
        mover.start();
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("`shop`.`a` was altered before"), "{}", mover.log());
    }
}

/// The copy goes around a row that a transaction holds until it can go no further, and takes the row as that
/// transaction leaves it; rows of a chunk cannot change until the target has them, and others can.
async fn locks(binary: &ServerBinary) {
    eprintln!("locks on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT UNIQUE)"]).await;
    execute(&mut s, &["INSERT INTO a VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8)"]).await;
    execute(&mut t, &["CREATE TABLE a (id INT PRIMARY KEY, x INT UNIQUE)"]).await;
    let mut open = connect(&source).await;
    execute(&mut open, &["BEGIN", "DELETE FROM a WHERE id = 6"]).await;
    let mut mover =
        Mover::new(&source, &target, "a").with(&["--copy-strategy", "locking", "--chunk-rows", "4"]);
    mover.start();
    mover.wait_until("rows before the locked one", |s| copied(s) == 5);
    // The copy waits at row 6. The target stops, so that what is locked next stays locked.
    execute(&mut t, &["LOCK TABLES a WRITE"]).await;
    execute(&mut open, &["COMMIT"]).await;
    execute(&mut s, &["SET SESSION innodb_lock_wait_timeout = 1"]).await;
    let give_up = Instant::now() + Duration::from_secs(30);
    while s.query_drop("UPDATE a SET x = x + 100 WHERE id = 7").await.is_ok() {
        assert!(Instant::now() < give_up, "row 7 was never locked");
    }
    execute(&mut s, &["UPDATE a SET x = x + 100 WHERE id = 1", "INSERT INTO a VALUES (20, 20)"]).await;
    execute(&mut t, &["UNLOCK TABLES"]).await;
    mover.wait_for("replicating");
    let rows: Vec<i32> = t.query("SELECT id FROM a ORDER BY id").await.unwrap();
    assert!(!rows.contains(&6), "{rows:?}");
    execute(&mut s, &["UPDATE a SET x = x + 100 WHERE id = 7"]).await;
    mover.switch();
    assert_equal(&source, &target, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_chunk_waits_for_transactions_and_makes_writers_wait() {
    for binary in support::servers() {
        locks(&binary).await;
    }
}

/// Rows that the source removes while their chunk waits to be written do not come back.
async fn removed_meanwhile(binary: &ServerBinary, strategy: Strategy) {
    eprintln!("{strategy}: rows removed meanwhile on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT UNIQUE)"]).await;
    execute(&mut s, &["INSERT INTO a VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8)"]).await;
    execute(&mut t, &["CREATE TABLE a (id INT PRIMARY KEY, x INT UNIQUE)", "LOCK TABLES a READ"]).await;
    let mut mover =
        Mover::new(&source, &target, "a").with(&["--copy-strategy", strategy.name(), "--chunk-rows", "4"]);
    mover.start();
    // The second low mark, and what comes behind it, is written while the first chunk waits for the target's lock. How many
    // chunks follow is a matter of the server's estimate of the rows.
    let read = "SELECT COUNT(*) > 0 FROM _converge.watermark \
                WHERE SUBSTRING_INDEX(mark, ':', -1) >= 2 OR mark LIKE 'copied:%'";
    until(&mut s, "the second chunk's mark", read).await;
    let changes = [
        "DELETE FROM a WHERE id = 2",
        "UPDATE a SET id = 30 WHERE id = 3",
        "DELETE FROM a WHERE id = 6",
        "UPDATE a SET x = 6 WHERE id = 1",
        "UPDATE a SET id = 2 WHERE id = 7",
        "INSERT INTO a VALUES (7, 2)",
    ];
    execute(&mut s, &changes).await;
    execute(&mut t, &["UNLOCK TABLES"]).await;
    mover.wait_for("replicating");
    mover.switch();
    assert_equal(&source, &target, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_removed_between_read_and_write_stay_removed() {
    for binary in support::servers() {
        for strategy in [Strategy::Watermark, Strategy::DeleteHistory] {
            removed_meanwhile(&binary, strategy).await;
        }
    }
}

/// A copy that was begun in one way is not gone on with in another.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_keeps_its_strategy() {
    for binary in support::servers() {
        let (source, target) = pair(&binary).await;
        let (mut s, _t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1), (2), (3)"]).await;
        let slowly = ["--copy-strategy", "locking", "--chunk-rows", "1", "--copy-rows-per-second", "1"];
        let mut mover = Mover::new(&source, &target, "a").with(&slowly);
        mover.start();
        mover.wait_until("a row", |s| copied(s) >= 1);
        mover.kill();
        let output = Mover::new(&source, &target, "a").run();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("it copies with --copy-strategy locking"), "{error}");
        mover.start();
        mover.wait_for("replicating");
        mover.kill();
        // From here on it does not matter any more.
        let mut mover = Mover::new(&source, &target, "a");
        mover.start();
        mover.wait_until("a runner", |s| s["running"] == true && s["state"] == "replicating");
        mover.switch();
        assert_equal(&source, &target, "a");
    }
}
