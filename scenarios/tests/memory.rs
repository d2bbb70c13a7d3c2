//! The mover's memory is bounded, whatever comes through the binary log: transactions larger than all it may use, and
//! rows of many megabytes. The limits are held against the most memory that the process ever had resident.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/servers.rs"]
mod support;

use std::time::{Duration, Instant};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor};
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// What goes through, and what the mover may use.
#[derive(Clone, Copy)]
struct Size {
    /// Rows of the large transaction: this power of two.
    doublings: u32,
    /// Bytes of one of its rows.
    row: usize,
    /// Bytes of a large row.
    large_row: usize,
    /// How many of them are written at once, faster than the target takes them.
    many: u32,
    /// MiB of memory at the most for the large transaction, and with the large rows.
    limits: [u64; 2],
    /// Whether the allocator keeps nothing back for later.
    exact: bool,
    /// How long it may take.
    patience: Duration,
}

async fn start(binary: &ServerBinary, name: &str) -> LocalServer {
    let redo = match binary.info.flavor {
        Flavor::MySql => "--innodb-redo-log-capacity=2G",
        Flavor::MariaDb => "--innodb-log-file-size=2G",
    };
    let extra = [redo, "--max-allowed-packet=256M"].map(str::to_owned).into();
    let options = ServerOptions { extra, durable: false, ..ServerOptions::named(name) };
    LocalServer::start(binary, options).await.unwrap()
}

async fn connect(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    conn.query_drop("CREATE DATABASE IF NOT EXISTS shop").await.unwrap();
    conn.query_drop("USE shop").await.unwrap();
    conn
}

async fn execute(conn: &mut Conn, sql: impl AsRef<str>) {
    conn.query_drop(sql.as_ref()).await.unwrap_or_else(|e| panic!("{e}: {}", sql.as_ref()));
}

/// Rows, and a sum over what both products say of each.
async fn checksum(conn: &mut Conn, table: &str) -> (u64, u64) {
    let sum = format!("SELECT COUNT(*), IFNULL(SUM(CRC32(CONCAT(id, SHA2(v, 256)))), 0) FROM {table}");
    conn.query_first(sum).await.unwrap().unwrap()
}

/// Waits until the target has what the source has, by a row that is written last.
async fn settle(mover: &mut Mover, source: &mut Conn, target: &mut Conn, last: u32, patience: Duration) {
    execute(source, format!("INSERT INTO fin VALUES ({last})")).await;
    let give_up = Instant::now() + patience;
    loop {
        let there: Option<u32> =
            target.query_first(format!("SELECT id FROM fin WHERE id = {last}")).await.unwrap();
        if there.is_some() {
            break;
        }
        assert!(mover.is_running(), "the mover ended: {:?}\n{}", mover.status(), mover.log());
        assert!(Instant::now() < give_up, "not applied after {} s\n{}", patience.as_secs(), mover.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for table in ["t", "blobs"] {
        assert_eq!(checksum(source, table).await, checksum(target, table).await, "{table}");
    }
}

async fn memory_is_bounded(from: &ServerBinary, to: &ServerBinary, size: Size) {
    let (source, target) = (start(from, "source").await, start(to, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    for sql in [
        "CREATE TABLE t (id INT PRIMARY KEY, v VARBINARY(10000))",
        "CREATE TABLE blobs (id INT PRIMARY KEY, v LONGBLOB)",
        "CREATE TABLE fin (id INT PRIMARY KEY)",
    ] {
        execute(&mut s, sql).await;
    }
    let n = size.large_row;
    execute(&mut s, format!("INSERT INTO blobs VALUES (-2, REPEAT(x'00275c0a', {})), (-1, '')", n / 4)).await;
    let mover = Mover::new(&source, &target, "t,blobs,fin");
    let mut mover = if size.exact { mover.with_exact_memory() } else { mover };
    mover.start();
    mover.wait_for("replicating");

    execute(&mut s, "BEGIN").await;
    execute(&mut s, format!("INSERT INTO t VALUES (0, REPEAT('a', {}))", size.row)).await;
    for i in 0..size.doublings {
        execute(&mut s, format!("INSERT INTO t SELECT id + {}, v FROM t", 1u64 << i)).await;
    }
    execute(&mut s, "COMMIT").await;
    settle(&mut mover, &mut s, &mut t, 1, size.patience).await;
    let after_transaction = mover.peak_memory();

    let mut statements = vec![
        format!("INSERT INTO blobs VALUES (1, REPEAT(x'00ff', {}))", n / 2),
        format!("UPDATE blobs SET v = REPEAT('c', {n}) WHERE id = 1"),
    ];
    if size.many > 0 {
        statements.extend([
            format!("INSERT INTO blobs VALUES (2, REPEAT('b', {n}))"),
            format!("UPDATE blobs SET v = CONCAT('d', REPEAT('e', {})), id = id + 10 WHERE id > 0", n - 1),
            "DELETE FROM blobs WHERE id = 11".into(),
        ]);
    }
    for sql in statements {
        execute(&mut s, sql).await;
    }
    execute(&mut s, "BEGIN").await;
    for id in 100..100 + size.many {
        execute(&mut s, format!("INSERT INTO blobs VALUES ({id}, REPEAT('f', {n}))")).await;
    }
    execute(&mut s, "COMMIT").await;
    settle(&mut mover, &mut s, &mut t, 2, size.patience).await;
    let peak = mover.peak_memory();
    eprintln!(
        "{} to {}: {} MiB after a transaction of {} MiB, {peak} MiB after rows of {} MiB, {:?} allowed",
        from.info,
        to.info,
        after_transaction,
        (size.row << size.doublings) >> 20,
        n >> 20,
        size.limits
    );
    assert!(after_transaction <= size.limits[0] && peak <= size.limits[1], "more memory than is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_and_rows_larger_than_the_queues_pass_in_bounded_memory() {
    for binary in support::servers() {
        let patience = Duration::from_secs(120);
        let limits = [128, 260];
        let size =
            Size { doublings: 17, row: 1000, large_row: 12 << 20, many: 12, limits, exact: true, patience };
        memory_is_bounded(&binary, &binary, size).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_64_megabytes_cross_to_the_other_product() {
    let servers = support::servers();
    for from in &servers {
        for to in servers.iter().filter(|to| to.info.flavor != from.info.flavor) {
            let (patience, limits) = (Duration::from_secs(120), [512, 512]);
            let size =
                Size { doublings: 1, row: 10, large_row: 64 << 20, many: 0, limits, exact: false, patience };
            memory_is_bounded(from, to, size).await;
        }
    }
}

/// `cargo test --release -p converge-scenarios --test memory -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and gigabytes of disk"]
async fn two_gigabytes_and_rows_of_64_megabytes_pass_in_512() {
    for binary in support::servers() {
        let patience = Duration::from_secs(1800);
        let size = Size {
            doublings: 18,
            row: 8192,
            large_row: 64 << 20,
            many: 12,
            limits: [512, 512],
            exact: false,
            patience,
        };
        memory_is_bounded(&binary, &binary, size).await;
    }
}
