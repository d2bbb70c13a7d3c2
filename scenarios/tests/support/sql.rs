//! SQL that tests of the mover run, over tables in the database `shop`.

use converge_chaos::server::LocalServer;
use converge_mysql::Connector;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// A connection to the database `shop`, which is made if it is not there.
#[allow(dead_code)]
pub async fn connect(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    conn.query_drop("CREATE DATABASE IF NOT EXISTS shop").await.unwrap();
    conn.query_drop("USE shop").await.unwrap();
    conn
}

/// Runs statements that must work.
#[allow(dead_code)]
pub async fn execute(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// The server's own checksum over all rows: right between two servers of one kind.
#[allow(dead_code)]
pub async fn checksum(conn: &mut Conn, table: &str) -> (u64, u64) {
    let count: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM shop.`{table}`")).await.unwrap();
    let sum: Option<(String, u64)> =
        conn.query_first(format!("CHECKSUM TABLE shop.`{table}` EXTENDED")).await.unwrap();
    (count.unwrap(), sum.unwrap().1)
}

/// Requires the same rows.
#[allow(dead_code)]
pub async fn assert_same(source: &mut Conn, name: &str, target: &mut Conn, other: &str) {
    let (a, b) = (checksum(source, name).await, checksum(target, other).await);
    assert_eq!(a, b, "rows and checksum of {name} and {other}");
}

/// Waits until a condition over SQL holds.
#[allow(dead_code)]
pub async fn until(conn: &mut Conn, what: &str, query: &str) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        // What it asks of may not be there yet.
        let holds: Result<Option<bool>, _> = conn.query_first(query).await;
        if matches!(holds, Ok(Some(true))) {
            return;
        }
        assert!(std::time::Instant::now() < give_up, "waited in vain for {what}: {holds:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until the stream has brought the tables to the same rows. A server whose disk was full may rest for 60 s first.
#[allow(dead_code)]
pub async fn wait_same(source: &mut Conn, target: &mut Conn, table: &str) {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(180);
    while checksum(source, table).await != checksum(target, table).await {
        assert!(std::time::Instant::now() < give_up, "{table} did not become the same");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
