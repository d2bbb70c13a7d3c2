//! Every safe copy strategy on real servers: a move under hostile load with the mover killed in the copy, judged by
//! VDiff; and the races that a strategy is there for, forced where they can be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "strategies/replica.rs"]
mod replica;
#[path = "support/servers.rs"]
mod support;

use std::time::{Duration, Instant};

use converge_chaos::history::History;
use converge_chaos::load::{Load, LoadPlan, create_schema, seed_rows};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mover::copy::Strategy;
use converge_mysql::Connector;
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

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

/// Waits until a condition over SQL holds.
async fn until(conn: &mut Conn, what: &str, query: &str) {
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        // What it asks of may not be there yet.
        let holds: Result<Option<bool>, _> = conn.query_first(query).await;
        if holds.is_ok_and(|holds| holds == Some(true)) {
            return;
        }
        assert!(Instant::now() < give_up, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
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
    // The second low mark is written when the first chunk waits for the target's lock.
    let read = "SELECT COUNT(*) > 0 FROM _converge.watermark WHERE mark LIKE '%:2'";
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

/// Columns whose values may look alike and are not the same; `{more}`: those of one product.
const LOOKALIKES: &str = "CREATE TABLE n (i INT, d DOUBLE, f FLOAT, c VARCHAR(9), l CHAR(9) CHARACTER SET latin1, \
    u VARCHAR(9) CHARACTER SET ucs2, b VARBINARY(9), fb BINARY(3), y YEAR, ti TIME(6), dt DATETIME(6), da DATE, ts TIMESTAMP NULL, \
    e ENUM('a','A1',''), st SET('x','y'), bits BIT(64), dec1 DECIMAL(65,30), t TEXT, j JSON, g GEOMETRY, \
    gen INT AS (i + 1) VIRTUAL, UNIQUE (i, c)) CHARACTER SET utf8mb4";

/// Each a row that differs from others only in what a comparison may not see.
const ROWS_ALIKE: &[&str] = &[
    "(d) VALUES (0e0), (-0e0), (-0e0), (5e-324), (0.1), (1.7976931348623157e308)",
    "(f) VALUES (0e0), (-0e0), (1.1), (16777215), (1.4e-45), (3.402823466e38)",
    "(c) VALUES ('a'), ('A'), ('A'), ('á'), ('a '), (''), ('😀')",
    "(l) VALUES ('a'), ('A'), ('á'), (''), ('ß'), ('ss')",
    "(u) VALUES ('a'), ('A'), ('á'), ('')",
    "(b) VALUES (x''), (x'00'), (x'0000'), ('a'), ('A')",
    "(fb) VALUES (x''), (x'20'), ('a')",
    "(y) VALUES (0), (2000), (1901), (2001)",
    "(ti) VALUES (0), ('-838:59:59'), ('00:00:00.000001'), ('-00:00:00.000001')",
    "(dt) VALUES (0), ('2024-02-30 01:02:03'), ('2024-00-00'), ('9999-12-31 23:59:59.999999')",
    "(da) VALUES (0), ('2024-00-00'), ('9999-12-31')",
    "(ts) VALUES (0), ('1970-01-01 00:00:01'), ('2038-01-19 03:14:07')",
    "(e) VALUES ('a'), ('A1'), (''), (0), (3)",
    "(st) VALUES (''), ('x'), ('x,y')",
    "(bits) VALUES (0), (1), (18446744073709551615)",
    "(dec1) VALUES (0), (0.000000000000000000000000000001), (99999999999999999999999999999999999.999999999999999999999999999999)",
    "(t) VALUES ('x'), ('X'), (REPEAT('é', 9000))",
    "(j) VALUES ('1'), ('1.0'), ('\"1\"'), ('[1, 2]'), ('[1.0, 2]'), ('{\"a\": 0.1, \"b\": \"é\"}'), ('null')",
    "(g) VALUES (ST_GeomFromText('POINT(1 2)')), (ST_GeomFromText('POINT(1 2)', 4326)), (ST_GeomFromText('POINT(2 1)'))",
    "(i, c) VALUES (NULL, 'x'), (NULL, 'x'), (2, NULL), (2, NULL)",
    "(i) VALUES (NULL), (NULL), (NULL)",
];

/// A table without a key is copied, followed and compared as a multiset, beside one that has a key.
async fn no_key(binary: &ServerBinary, strategy: Strategy) {
    eprintln!("no key, {strategy} on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let lenient = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00'";
    execute(&mut s, &[lenient, LOOKALIKES, "CREATE TABLE k (id INT PRIMARY KEY, x INT)"]).await;
    for row in ROWS_ALIKE {
        execute(&mut s, &[&format!("INSERT INTO n {row}"), &format!("INSERT INTO n {row}")]).await;
    }
    execute(&mut s, &["INSERT INTO n (i, c) VALUES (1, 'x'), (1, 'y'), (3, 'z')"]).await;
    execute(&mut s, &["INSERT INTO k VALUES (1, 1), (2, 2), (3, 3)"]).await;
    let slowly = ["--copy-strategy", strategy.name(), "--allow-no-key", "--chunk-rows", "20"];
    let mut mover = Mover::new(&source, &target, "k,n").with(&slowly).with(&["--copy-rows-per-second", "60"]);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 20);
    mover.kill();
    execute(&mut s, &["UPDATE k SET x = x + 1", "DELETE FROM n WHERE i IS NULL AND c = 'A' LIMIT 1"]).await;
    mover.start();
    mover.wait_until("some rows again", |s| copied(s) >= 20);
    execute(&mut s, &["UPDATE n SET d = -d WHERE d = 0 LIMIT 1", "UPDATE n SET c = LOWER(c) LIMIT 30"]).await;
    mover.wait_for("replicating");
    // One of each pair of equal rows goes, another changes; what is left tells whether it was the right one.
    for row in ROWS_ALIKE {
        execute(&mut s, &[&format!("INSERT INTO n {row}")]).await;
    }
    let total: Option<u64> = s.query_first("SELECT COUNT(*) FROM n").await.unwrap();
    let changes = [
        format!("DELETE FROM n ORDER BY RAND({SEED}) LIMIT {}", total.unwrap() / 3),
        format!("UPDATE n SET st = 'y', b = 'new' ORDER BY RAND({SEED} + 1) LIMIT {}", total.unwrap() / 4),
        "UPDATE k SET id = id + 10".into(),
    ];
    for change in &changes {
        execute(&mut s, &[change]).await;
    }
    execute(
        &mut s,
        &["BEGIN", "INSERT INTO n (t) VALUES ('once')", "DELETE FROM n WHERE t = 'once'", "COMMIT"],
    )
    .await;
    mover.switch();
    assert_equal(&source, &target, "k,n");
    let negative = "SELECT COUNT(*) FROM n WHERE d = 0 AND LEFT(CONCAT(d), 1) = '-'";
    let wanted: Option<u64> = s.query_first(negative.replace("FROM n", "FROM _n_fenced")).await.unwrap();
    let found: Option<u64> = t.query_first(negative).await.unwrap();
    assert_eq!(found, wanted, "rows with a negative zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_moved_as_multisets() {
    for binary in support::servers() {
        for strategy in [Strategy::Watermark, Strategy::DeleteHistory, Strategy::Snapshot] {
            no_key(&binary, strategy).await;
        }
    }
}

/// A row of a table without a key that is not where it must be stops the workflow.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_row_of_a_table_without_a_key_is_an_alarm() {
    for binary in support::servers() {
        let (source, target) = pair(&binary).await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE n (c VARCHAR(9))", "INSERT INTO n VALUES ('a'), ('b')"]).await;
        let mut mover = Mover::new(&source, &target, "n").with(&["--allow-no-key"]);
        mover.start();
        mover.wait_for("replicating");
        execute(&mut t, &["UPDATE n SET c = 'A' WHERE c = 'a'"]).await;
        execute(&mut s, &["DELETE FROM n WHERE c = 'a'"]).await;
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("differs from the source"), "{}", mover.log());
    }
}
