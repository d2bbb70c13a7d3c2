//! Chunks that are written at once: each on a connection of its own, whose locks may reach into the other's rows.

use converge_chaos::server::ServerBinary;
use mysql_async::prelude::Queryable;

use super::mover::Mover;
use super::sql::until;
use super::{assert_equal, connect, copied, execute, pair, support};

const ROWS: u64 = 60_000;

/// A second unique key in another order than the first, and nearly all rows on the target before they are copied, as after
/// one UPDATE of all: chunks delete and store them anew, and lock what lies between.
async fn entangled(binary: &ServerBinary) {
    eprintln!("entangled chunks on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, u INT NOT NULL UNIQUE, v INT NOT NULL)"]).await;
    // A prime makes each number of the second key out of another of the first.
    let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id},{},0)", id * 7919 % 60_013)).collect();
    for rows in rows.chunks(5000) {
        execute(&mut s, &[&format!("INSERT INTO a VALUES {}", rows.join(","))]).await;
    }
    let slowly = ["--chunk-rows", "50", "--copy-rows-per-second", "50"];
    let mut mover = Mover::new(&source, &target, "a").with(&slowly);
    mover.start();
    mover.wait_until("rows", |status| copied(status) >= 50);
    execute(&mut s, &["UPDATE a SET v = v + 1 WHERE id > 2000"]).await;
    until(&mut t, "the updated rows", &format!("SELECT COUNT(*) > {} FROM a", ROWS - 2500)).await;
    mover.kill();
    let mut mover = Mover::new(&source, &target, "a").with(&["--chunk-rows", "10000"]);
    mover.start();
    mover.wait_for("replicating");
    mover.switch();
    assert_equal(&source, &target, "a");
    let moved: Option<u64> = t.query_first("SELECT COUNT(*) FROM a").await.unwrap();
    assert_eq!(moved, Some(ROWS));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_that_wait_for_each_other_are_written_one_at_a_time() {
    for binary in support::servers() {
        entangled(&binary).await;
    }
}
