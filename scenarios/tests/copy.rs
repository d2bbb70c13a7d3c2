//! How chunks are written: keys that are built after them, and what the server must not pass over in silence.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use sql::{assert_same, connect, execute};

async fn pair(binary: &ServerBinary) -> (LocalServer, LocalServer) {
    let options = ServerOptions { extra: vec!["--local-infile=1".into()], ..ServerOptions::named("target") };
    (support::start(binary, "source").await, LocalServer::start(binary, options).await.unwrap())
}

async fn definition(conn: &mut Conn, table: &str) -> String {
    let row: Option<(String, String)> =
        conn.query_first(format!("SHOW CREATE TABLE shop.{table}")).await.unwrap();
    // The counter is not part of what is compared.
    let text = row.unwrap().1;
    text.split(' ').filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect::<Vec<_>>().join(" ")
}

fn copied(status: &serde_json::Value) -> u64 {
    status["tables"][0]["rows_copied"].as_u64().unwrap_or(0)
}

/// The mover is killed during the copy, and the run that builds the keys does not ask for it again.
async fn deferral(binary: &ServerBinary) {
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let columns = "(id INT AUTO_INCREMENT PRIMARY KEY, u INT NOT NULL, x INT, y VARCHAR(20), UNIQUE KEY uu (u), \
                   KEY k1 (x, y), KEY `k``2` (y(3)) COMMENT 'a, (b'";
    execute(&mut s, &[&format!("CREATE TABLE a {columns})"), &format!("CREATE TABLE b {columns})")]).await;
    execute(&mut s, &["INSERT INTO a (u, x, y) VALUES (1, 1, 'x')"]).await;
    for _ in 0..12 {
        let double =
            "INSERT INTO a (u, x, y) SELECT u + (SELECT MAX(u) FROM a), x + u, CONCAT('y', u) FROM a";
        execute(&mut s, &[double]).await;
    }
    execute(
        &mut t,
        &["CREATE TABLE b (id INT AUTO_INCREMENT PRIMARY KEY, u INT NOT NULL, x INT, y VARCHAR(20))"],
    )
    .await;
    let slowly = ["--copy-rows-per-second", "2000"];
    let mut mover = Mover::new(&source, &target, "a,b").with(&slowly).with(&["--defer-secondary-keys"]);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 500);
    let without = definition(&mut t, "a").await;
    assert!(without.contains("`uu`") && !without.contains("`k1`") && !without.contains("k``2"), "{without}");
    assert!(mover.log().contains("b is there already"), "{}", mover.log());
    mover.kill();
    let mut mover = Mover::new(&source, &target, "a,b");
    mover.start();
    mover.wait_for("replicating");
    assert_eq!(definition(&mut t, "a").await, definition(&mut s, "a").await);
    assert!(!definition(&mut t, "b").await.contains("KEY `"), "a table that was there is left as it is");
    assert_same(&mut s, "a", &mut t, "a").await;
    let left: Option<u64> = t.query_first("SELECT COUNT(*) FROM _converge.deferred_key").await.unwrap();
    assert_eq!(left, Some(0));
    execute(&mut s, &["UPDATE a SET x = -1 WHERE id % 3 = 0", "DELETE FROM a WHERE id % 7 = 0"]).await;
    mover.switch();
    assert_same(&mut s, "_a_fenced", &mut t, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secondary_keys_are_built_after_the_copy() {
    for binary in support::servers() {
        eprintln!("deferred keys on {}", binary.info);
        deferral(&binary).await;
    }
}

/// `LOCAL` makes the server pass over a row whose unique value is taken; the mover does not, and writes nothing.
async fn duplicates(binary: &ServerBinary) {
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let create = "CREATE TABLE a (id INT PRIMARY KEY, u INT UNIQUE)";
    execute(&mut s, &[create, "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3), (4, 4)"]).await;
    execute(&mut t, &[create]).await;
    let slowly = ["--chunk-rows", "2", "--copy-rows-per-second", "1"];
    let mut mover = Mover::new(&source, &target, "a").with(&slowly);
    mover.start();
    mover.wait_until("the first chunk", |s| copied(s) >= 1);
    execute(&mut t, &["INSERT INTO a VALUES (100, 4)"]).await;
    assert_eq!(mover.ended(), 2);
    assert!(mover.log().contains("Duplicate entry '4'"), "{}", mover.log());
    let rows: Vec<i32> = t.query("SELECT id FROM a WHERE u = 4").await.unwrap();
    assert_eq!(rows, [100]);
    let count = copied(&mover.status().unwrap());
    let there: Option<u64> = t.query_first("SELECT COUNT(*) FROM a WHERE id < 100").await.unwrap();
    assert_eq!(there, Some(count), "what was not recorded was not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_server_passes_over_stops_the_copy() {
    for binary in support::servers() {
        eprintln!("duplicates on {}", binary.info);
        duplicates(&binary).await;
    }
}

/// What was right when a workflow began need not be when it goes on, also while it builds keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_builds_keys_is_checked_when_it_goes_on() {
    for binary in support::servers() {
        eprintln!("building keys on {}", binary.info);
        let (source, target) = pair(&binary).await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        let rows = "INSERT INTO a WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 300) SELECT i, i FROM r";
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT, KEY (x))", rows]).await;
        let slowly = ["--chunk-rows", "50", "--copy-rows-per-second", "150", "--defer-secondary-keys"];
        let mut mover = Mover::new(&source, &target, "a").with(&slowly);
        mover.start();
        mover.wait_until("some rows", |s| copied(s) > 0);
        // Whoever reads the table keeps the key from being built.
        execute(&mut t, &["BEGIN", "SELECT COUNT(*) FROM a"]).await;
        mover.wait_for("indexing");
        mover.kill();
        execute(&mut s, &["SET GLOBAL binlog_row_image = 'MINIMAL'"]).await;
        mover.start();
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        assert!(mover.log().contains("binlog_row_image"), "{}", mover.log());
    }
}
