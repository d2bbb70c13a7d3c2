//! A chunk whose locks were lost before it was committed: the source lets its rows go as soon as the connection is gone,
//! a change of one of them can reach the stream first, and the chunk must not bring the old row back.

use std::time::Duration;

use converge_chaos::server::ServerBinary;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Mover, assert_equal, connect, execute, pair, until};
use crate::support;

const LOCKS: &str = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx \
                     WHERE trx_rows_locked > 0 AND trx_query IS NULL AND trx_mysql_thread_id <> CONNECTION_ID()";

/// Waits for connections that hold locks, or for none to. The server does not look anew for who asks more than ten times
/// a second.
async fn holders(conn: &mut Conn, wanted: impl Fn(&[u64]) -> bool) -> Vec<u64> {
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let there: Vec<u64> = conn.query(LOCKS).await.unwrap();
        if wanted(&there) {
            return there;
        }
    }
    panic!("waited in vain for the locks of a chunk");
}

async fn a_deleted_row_stays_away(binary: &ServerBinary) {
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &[
            "CREATE TABLE a (id INT PRIMARY KEY, x INT)",
            "INSERT INTO a VALUES (1, 1)",
            "CREATE TABLE c (id INT PRIMARY KEY, x INT)",
            "INSERT INTO c VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8)",
        ],
    )
    .await;
    // The second chunk cannot be locked yet.
    let mut blocker = connect(&source).await;
    execute(&mut blocker, &["BEGIN", "UPDATE c SET x = 0 WHERE id = 5"]).await;
    let options = ["--copy-strategy", "locking", "--chunk-rows", "4"];
    let mut mover = Mover::new(&source, &target, "a,c").with(&options);
    mover.start();
    mover.wait_until("the first chunk", |s| s["tables"][1]["rows_copied"].as_u64() >= Some(4));
    // The follower hangs in its next commit, so that it comes to what is posted meanwhile only behind what follows.
    let mut holder = connect(&target).await;
    execute(&mut holder, &["BEGIN", "SELECT * FROM _converge.applied FOR UPDATE"]).await;
    execute(&mut s, &["UPDATE a SET x = 2"]).await;
    let waits = "SELECT COUNT(*) > 0 FROM information_schema.processlist \
                 WHERE id <> CONNECTION_ID() AND info LIKE '%_converge%applied%'";
    until(&mut t, "the follower to wait", waits).await;
    execute(&mut blocker, &["ROLLBACK"]).await;
    let locking = holders(&mut s, |there| !there.is_empty()).await;
    // The chunk is handed over within this time, or is not, and then there is nothing to see.
    tokio::time::sleep(Duration::from_millis(500)).await;
    execute(&mut s, &[&format!("KILL {}", locking[0])]).await;
    holders(&mut s, |there| there.is_empty()).await;
    execute(&mut s, &["DELETE FROM c WHERE id = 5", "UPDATE a SET x = 3"]).await;
    execute(&mut holder, &["ROLLBACK"]).await;
    mover.wait_for("replicating");
    mover.switch();
    assert_equal(&source, &target, "a,c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_whose_locks_were_lost_is_not_written() {
    for binary in support::servers() {
        eprintln!("locks lost on {}", binary.info);
        a_deleted_row_stays_away(&binary).await;
    }
}
