//! Servers and tables for VDiff's tests.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::Connector;
use converge_vdiff::{Options, Report, Request, TablePair, compare};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// A server that takes large values.
#[allow(dead_code)]
pub async fn server(binary: &ServerBinary) -> LocalServer {
    server_with(binary, &["--max-allowed-packet=64M"]).await
}

/// A server with more arguments.
pub async fn server_with(binary: &ServerBinary, extra: &[&str]) -> LocalServer {
    let extra = extra.iter().map(ToString::to_string).collect();
    let options = ServerOptions { extra, durable: false, ..ServerOptions::named("vdiff") };
    LocalServer::start(binary, options).await.expect("a server")
}

/// A connection that lets everything in: zero dates, ENUM errors, id 0.
pub async fn connect(server: &LocalServer, database: &str) -> Conn {
    Connector::new(server.address(database))
        .with_setup("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        .connect()
        .await
        .unwrap()
}

/// A connection to a new, empty database.
pub async fn fresh(server: &LocalServer, database: &str) -> Conn {
    let mut conn = connect(server, "").await;
    run(&mut conn, &format!("DROP DATABASE IF EXISTS {database}")).await;
    run(&mut conn, &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"))
        .await;
    connect(server, database).await
}

/// Runs a statement, which must work.
pub async fn run(conn: &mut Conn, sql: &str) {
    conn.query_drop(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// A comparison of the database `vs` of one server with `vt` of another.
#[allow(dead_code)]
pub fn request(sides: [&LocalServer; 2], tables: Vec<TablePair>, options: Options) -> Request {
    Request { source: vec![sides[0].address("vs")], target: vec![sides[1].address("vt")], tables, options }
}

/// What a comparison says, which must be possible.
#[allow(dead_code)]
pub async fn report(request: &Request) -> Report {
    compare(request, &|_| {}).await.unwrap_or_else(|e| panic!("{e}"))
}
