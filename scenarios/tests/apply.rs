//! Applying large transactions between real servers: rows written over in place, what must be there and is not, unique
//! values that move through a transaction of several parts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/servers.rs"]
mod support;

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::Connector;
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

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

/// Rows and the server's own checksum over them: right between two servers of one kind.
async fn checksum(conn: &mut Conn, table: &str) -> (u64, u64) {
    let count: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM shop.`{table}`")).await.unwrap();
    let sum: Option<(String, u64)> =
        conn.query_first(format!("CHECKSUM TABLE shop.`{table}` EXTENDED")).await.unwrap();
    (count.unwrap(), sum.unwrap().1)
}

async fn assert_same(source: &mut Conn, target: &mut Conn, table: &str) {
    let (a, b) = (checksum(source, &format!("_{table}_fenced")).await, checksum(target, table).await);
    assert_eq!(a, b, "rows and checksum of {table}");
}

/// A unique value that every row passes on to its neighbour, values that swap places, and keys that move, each in one
/// transaction of more changes than are sent at once.
async fn unique_values_move(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &[
            "CREATE TABLE u (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(40), UNIQUE (k))",
            "CREATE TABLE p (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(40), KEY (k))",
            "INSERT INTO u VALUES (1, 1, 'a')",
        ],
    )
    .await;
    for _ in 0..14 {
        execute(
            &mut s,
            &["INSERT INTO u SELECT id + (SELECT MAX(id) FROM u), k + (SELECT MAX(k) FROM u), v FROM u"],
        )
        .await;
    }
    execute(&mut s, &["DELETE FROM u WHERE id > 12000", "INSERT INTO p SELECT * FROM u"]).await;
    let mut mover = Mover::new(&source, &target, "u,p");
    mover.start();
    mover.wait_for("replicating");
    execute(
        &mut s,
        &[
            "UPDATE u SET k = k + 1 ORDER BY k DESC",
            "UPDATE p SET k = k + 1, v = 'b'",
            "BEGIN",
            "UPDATE u SET k = -k",
            "UPDATE u SET k = 20000 + (id ^ 1) WHERE k < 0",
            "UPDATE u SET id = id + 1 ORDER BY id DESC",
            "UPDATE p SET id = -id WHERE id % 3 = 0",
            "DELETE FROM p WHERE id % 5 = 1",
            "INSERT INTO p SELECT id + 50000, k, 'c' FROM p WHERE id % 7 = 1",
            "UPDATE p SET v = CONCAT(v, 'd')",
            "COMMIT",
        ],
    )
    .await;
    mover.switch();
    assert_same(&mut s, &mut t, "u").await;
    assert_same(&mut s, &mut t, "p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_move_through_large_transactions() {
    for binary in support::servers() {
        eprintln!("unique values on {}", binary.info);
        unique_values_move(&binary).await;
    }
}

/// Rows that are written over must be there, one or many; that they are the same already is no harm.
async fn missing_rows_are_noticed(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &[
            "CREATE TABLE a (id INT PRIMARY KEY, x INT, v VARCHAR(9) DEFAULT 'v')",
            "INSERT INTO a (id, x) VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
        ],
    )
    .await;
    let mut mover = Mover::new(&source, &target, "a");
    mover.start();
    mover.wait_for("replicating");
    execute(&mut t, &["UPDATE a SET x = 12 WHERE id = 2"]).await;
    execute(&mut s, &["UPDATE a SET x = x + 10"]).await;
    let applied =
        |s: &serde_json::Value| s["lag_seconds"] == 0.0 && s["applied_position"] == s["source_position"];
    mover.wait_until("all applied", applied);
    assert_eq!(checksum(&mut s, "a").await, checksum(&mut t, "a").await);

    for (remove, change) in [("id = 3", "id > 0"), ("id = 4", "id = 4")] {
        execute(&mut t, &[&format!("DELETE FROM a WHERE {remove}")]).await;
        execute(&mut s, &[&format!("UPDATE a SET x = x + 1 WHERE {change}")]).await;
        assert_eq!(mover.ended(), 2);
        assert!(
            mover.log().contains("differs from the source") && mover.log().contains("rows matched"),
            "{}",
            mover.log()
        );
        let rows: Vec<(i32, i32)> = s.query("SELECT id, x FROM a").await.unwrap();
        let (id, x) = rows.into_iter().find(|(id, _)| remove.ends_with(&id.to_string())).unwrap();
        execute(&mut t, &[&format!("INSERT INTO a (id, x) VALUES ({id}, {x})")]).await;
        mover.start();
        mover.wait_until("all applied", |s| applied(s) && s["error"].is_null());
    }
    assert_eq!(checksum(&mut s, "a").await, checksum(&mut t, "a").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_written_over_must_be_there() {
    for binary in support::servers() {
        eprintln!("missing rows on {}", binary.info);
        missing_rows_are_noticed(&binary).await;
    }
}
