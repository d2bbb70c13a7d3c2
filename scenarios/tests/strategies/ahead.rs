//! What the copy saw ahead of the stream, or behind a snapshot's back: a source that never had it, and XA transactions that
//! span a snapshot.

use std::fmt::Write;

use converge_chaos::server::ServerBinary;
use converge_mover::copy::Strategy;
use converge_mysql::{Address, Connector, Flavor};
use mysql_async::prelude::Queryable;

use super::mover::Mover;
use super::replica::replica_of;
use super::{assert_equal, connect, copied, execute, pair, support, until};

/// What the stream has to do before it comes to where the replica stands, each of 400 rows.
const UPDATES: u32 = 500;

fn rows(n: u32) -> String {
    let mut sql = "INSERT INTO a VALUES (0, 0, 'old')".to_owned();
    (1..n).for_each(|id| write!(sql, ",({id}, 0, 'old')").unwrap());
    sql
}

/// A transaction that the replica never got is on the target already, ahead of the stream, when the replica takes over.
async fn failover(binary: &ServerBinary, strategy: Strategy) {
    eprintln!("copied ahead of the stream, {strategy} on {}", binary.info);
    let source = support::start(binary, "source").await;
    let replica = replica_of(&source, &[]).await;
    let target = support::start(binary, "target").await;
    let (mut s, mut t, mut locker) = (connect(&source).await, connect(&target).await, connect(&target).await);
    let table = "CREATE TABLE a (id INT PRIMARY KEY, n INT, v VARCHAR(9))";
    execute(&mut s, &[table, &rows(20_000)]).await;
    let pace = ["--chunk-rows", "100", "--copy-rows-per-second", "2000"];
    let mut mover = Mover::new(&source, &target, "a").with(&["--copy-strategy", strategy.name()]).with(&pace);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 500);

    // The stream is held up, and has much to do before it comes to where the replica stands.
    execute(&mut locker, &["BEGIN", "SELECT * FROM a WHERE id = 0 FOR UPDATE"]).await;
    execute(&mut s, &["UPDATE a SET n = -1 WHERE id = 0"]).await;
    for n in 1..=UPDATES {
        execute(&mut s, &[&format!("UPDATE a SET n = {n} WHERE id < 400")]).await;
    }
    let mut r = Connector::new(replica.address("")).connect().await.unwrap();
    until(&mut r, "the replica", &format!("SELECT n = {UPDATES} FROM shop.a WHERE id = 1")).await;
    let (stop, reset) = match binary.info.flavor {
        Flavor::MySql => ("STOP REPLICA", "RESET REPLICA ALL"),
        Flavor::MariaDb => ("STOP SLAVE", "RESET SLAVE ALL"),
    };
    execute(&mut r, &[stop, reset]).await;
    let last: Option<u32> = t.query_first("SELECT MAX(id) FROM a").await.unwrap();
    execute(&mut s, &[&format!("UPDATE a SET v = 'lost' WHERE id > {}", last.unwrap() + 500)]).await;
    execute(&mut locker, &["ROLLBACK"]).await;
    until(&mut t, "what the replica lacks", "SELECT COUNT(*) > 0 FROM a WHERE v = 'lost'").await;
    mover.kill();

    mover.set_source(&replica.address("shop").to_url());
    mover.start();
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    let log = mover.log();
    assert!(log.contains("the target may show transactions") || log.contains("restored"), "{log}");
    mover.set_source(&source.address("shop").to_url());
    mover.start();
    mover.wait_for("replicating");
    mover.switch();
    assert_equal(&source, &target, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_had_what_was_copied_is_refused() {
    for binary in support::servers() {
        for strategy in [Strategy::Locking, Strategy::DeleteHistory] {
            failover(&binary, strategy).await;
        }
    }
}

/// An account that does not see the transaction which was prepared before the move began; its commit says so.
async fn unlisted(binary: &ServerBinary) {
    eprintln!("an XA transaction that is not listed on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut other, _t) = (connect(&source).await, connect(&source).await, connect(&target).await);
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, n INT, v VARCHAR(9))", &rows(100)]).await;
    let grants = [
        "CREATE USER blind@'127.0.0.1'",
        "GRANT SELECT ON shop.* TO blind@'127.0.0.1'",
        "GRANT ALL ON _converge.* TO blind@'127.0.0.1'",
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO blind@'127.0.0.1'",
    ];
    execute(&mut s, &grants).await;
    execute(&mut other, &["XA START 'x'", "DELETE FROM a WHERE id = 50", "XA END 'x'", "XA PREPARE 'x'"])
        .await;
    let blind = Address { user: "blind".into(), ..source.address("shop") };
    let mut mover = Mover::between(&blind.to_url(), &target.address("shop").to_url(), "a");
    mover.start();
    mover.wait_for("replicating");
    execute(&mut other, &["XA COMMIT 'x'"]).await;
    for _ in 0..2 {
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        let log = mover.log();
        assert!(
            log.contains("prepared before the move began") && log.contains("cancel the workflow"),
            "{log}"
        );
        mover.start();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commit_of_what_was_prepared_unseen_ends_the_move() {
    for binary in support::servers() {
        // MariaDB lists them for everybody.
        if binary.info.flavor == Flavor::MySql {
            unlisted(&binary).await;
        }
    }
}

/// What was prepared before a snapshot and is committed after it stands in the log before it, and cannot be seen in it.
async fn spanned(binary: &ServerBinary, options: &[&str], tables: &str) {
    eprintln!("an XA transaction over a snapshot, {options:?} on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut other, _t) = (connect(&source).await, connect(&source).await, connect(&target).await);
    let keyless = "CREATE TABLE n (x INT)";
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, n INT, v VARCHAR(9))", &rows(2000), keyless])
        .await;
    execute(&mut s, &["INSERT INTO n SELECT id FROM a"]).await;
    let pace = ["--chunk-rows", "50", "--copy-rows-per-second", "400"];
    let mut mover = Mover::new(&source, &target, tables).with(options).with(&pace);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 100);
    mover.kill();
    let within = ["XA START 'x'", "UPDATE a SET v = 'xa' WHERE id = 1500", "DELETE FROM a WHERE id = 1501"];
    execute(&mut other, &within).await;
    execute(&mut other, &["XA END 'x'", "XA PREPARE 'x'"]).await;
    mover.start();
    // The lock that all tables are read under waits for it.
    let waits = binary.info.flavor == Flavor::MySql && tables == "a";
    if waits {
        let query = "SELECT COUNT(*) > 0 FROM information_schema.PROCESSLIST WHERE INFO LIKE 'LOCK TABLES%' \
                     AND STATE LIKE 'Waiting for table metadata%'";
        until(&mut s, "the lock", query).await;
    } else {
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        assert!(mover.log().contains("1 XA transactions are prepared"), "{}", mover.log());
    }
    execute(&mut other, &["XA COMMIT 'x'"]).await;
    if !waits {
        mover.start();
    }
    mover.wait_for("replicating");
    mover.switch();
    assert_equal(&source, &target, tables);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_is_opened_within_an_xa_transaction() {
    for binary in support::servers() {
        spanned(&binary, &["--copy-strategy", "snapshot"], "a").await;
        spanned(&binary, &["--allow-no-key"], "a,n").await;
    }
}
