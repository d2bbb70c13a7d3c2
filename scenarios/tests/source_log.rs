//! The oracle of the source over the logs of real servers: what somebody else does to a judged table is seen however it is
//! spelled, and nothing else is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/servers.rs"]
mod support;

use converge_chaos::history::{History, Invoke, Kind};
use converge_chaos::load::LOG_TEXTS;
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Connector, Flavor};
use converge_scenarios::oracle::source::Sources;
use converge_scenarios::verdict::{Finding, Oracle};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

const TABLES: [&str; 4] = [
    "CREATE DATABASE shop",
    "CREATE TABLE shop.customer (n INT PRIMARY KEY, a INT)",
    "CREATE TABLE shop.journal (n INT PRIMARY KEY)",
    "INSERT INTO shop.customer VALUES (1, 0), (2, 0)",
];
/// What the load sends.
const OURS: &str = "UPDATE customer SET a = a + 1 WHERE n = 1";

/// Each is of one transaction.
const FOREIGN: [&str; 4] = [
    "/* nightly */ truncate table customer",
    "RENAME TABLE customer TO c3, c2 TO customer",
    "RENAME TABLE /* converge fence */ customer TO c4, c3 TO customer",
    "/*!50000 TRUNCATE */ TABLE customer",
];
const FOREIGN_TO_MARIADB: [&str; 2] = [
    "SET STATEMENT lock_wait_timeout=5 FOR truncate table customer",
    "CREATE OR REPLACE TABLE journal LIKE j2",
];
/// Nobody's rows are changed by these.
const HARMLESS: [&str; 6] = [
    "CREATE TABLE c2 LIKE customer",
    "CREATE TABLE j2 LIKE journal",
    "ALTER DATABASE shop CHARACTER SET utf8mb4",
    "ANALYZE TABLE customer",
    "RENAME TABLE /* converge fence */ `shop`.`journal` TO `shop`.`_journal_fenced`",
    "RENAME TABLE /* converge fence */ `shop`.`_journal_fenced` TO `shop`.`journal`",
];

async fn execute(conn: &mut Conn, statements: &[&str]) {
    for statement in statements {
        conn.query_drop(*statement).await.unwrap_or_else(|e| panic!("{e}: {statement}"));
    }
}

async fn begin(binary: &ServerBinary) -> LocalServer {
    let server = support::start(binary, "source").await;
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    execute(&mut conn, &TABLES).await;
    server
}

/// What the oracle says after the load has sent its statement and somebody else these.
async fn judged(server: &LocalServer, foreign: &[&str]) -> Oracle {
    let (directory, address) = (tempfile::tempdir().unwrap(), server.address("shop"));
    let path = directory.path().join("history.jsonl");
    let history = History::create(&path).unwrap();
    let sources =
        Sources::begin(std::slice::from_ref(&address), &["customer".into(), "journal".into()], &path).await;
    assert!(sources.texts());
    let mut load = Connector::new(address.clone()).with_setup(LOG_TEXTS).connect().await.unwrap();
    history.invoke(Invoke {
        id: 0,
        session: 1,
        tx: None,
        kind: Kind::Update,
        table: "customer".into(),
        sql: OURS.into(),
        keys: vec![],
        ledger: vec![],
    });
    execute(&mut load, &[OURS]).await;
    history.finish().unwrap();
    let mut other = Connector::new(address.clone()).with_setup(LOG_TEXTS).connect().await.unwrap();
    execute(&mut other, foreign).await;
    sources.judge(&address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_by_others_are_seen_however_they_are_spelled() {
    for binary in support::servers() {
        let server = begin(&binary).await;
        let oracle = judged(&server, &HARMLESS).await;
        assert_eq!(oracle.finding, Finding::Pass, "{}: {oracle:?}", binary.info);
        let mut foreign = FOREIGN.to_vec();
        if binary.info.flavor == Flavor::MariaDb {
            foreign.extend(FOREIGN_TO_MARIADB);
        }
        execute(
            &mut Connector::new(server.address("shop")).connect().await.unwrap(),
            &["INSERT INTO customer VALUES (1, 0) ON DUPLICATE KEY UPDATE a = 1"],
        )
        .await;
        let oracle = judged(&server, &foreign).await;
        assert_eq!(oracle.finding, Finding::Fail, "{}: {oracle:?}", binary.info);
        assert_eq!(oracle.evidence.len(), foreign.len(), "{}: {oracle:#?}", binary.info);
    }
}

/// What a program does is logged by its own statements: only a whole one may be taken for one of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_a_programs_statement_is_not_taken_for_it() {
    const TRIGGER: &str = "CREATE TRIGGER t AFTER UPDATE ON customer FOR EACH ROW BEGIN IF NEW.a > 0 THEN \
                           DELETE FROM journal WHERE n = NEW.n; END IF; END";
    const PROCEDURE: &str = "CREATE PROCEDURE p() BEGIN\n  DECLARE EXIT HANDLER FOR SQLEXCEPTION ROLLBACK;\n  -- once\n  \
                             IF 1 THEN INSERT INTO journal VALUES (7); ELSE DO 1; END IF;\n  \
                             DELETE FROM journal /* again */\n    WHERE n = 7 OR n = 3;\nEND";
    const ROWS: &str = "INSERT INTO journal VALUES (1), (2), (3), (4)";
    for binary in support::servers() {
        let server = begin(&binary).await;
        let mut conn = Connector::new(server.address("shop")).connect().await.unwrap();
        execute(&mut conn, &[TRIGGER, PROCEDURE, ROWS]).await;
        let by_programs = judged(&server, &["CALL p()"]).await;
        assert_eq!(by_programs.finding, Finding::Pass, "{}: {by_programs:?}", binary.info);
        for typed in ["DELETE FROM journal WHERE n = 2", "DELETE FROM journal"] {
            let oracle = judged(&server, &[typed]).await;
            assert_eq!(oracle.finding, Finding::Unknown, "{}: {typed}: {oracle:?}", binary.info);
        }
    }
}
