//! Comparing tables of which both sides order a part of the key only alike: ranges end between its values, however many rows
//! these have.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::time::Duration;

use common::{fresh, report, request, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::{Engine, Options, TablePair, Verdict};
use mysql_async::Conn;

/// Eight tenants of so many rows each, whose codes the two sides order in different ways; `kind`: of a column of the key
/// between these two.
async fn sides(server: &LocalServer, rows: u64, kind: &str) -> [Conn; 2] {
    let mut conns = [fresh(server, "vs").await, fresh(server, "vt").await];
    for (conn, collation) in conns.iter_mut().zip(["utf8mb4_general_ci", "utf8mb4_unicode_ci"]) {
        let table = format!(
            "CREATE TABLE t (tenant SMALLINT NOT NULL, kind {kind} NOT NULL, code VARCHAR(40) COLLATE {collation} NOT NULL, \
             v VARCHAR(60), PRIMARY KEY (tenant, kind, code))"
        );
        run(conn, &table).await;
        for tenant in 1..=8 {
            let numbers = format!(
                "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < {}) \
                 SELECT {tenant}, 'a', CONCAT('Code ', n), REPEAT(n, 9) FROM r",
                rows - 1
            );
            run(conn, &format!("INSERT INTO t {numbers}")).await;
        }
        run(conn, "ANALYZE TABLE t").await;
    }
    conns
}

/// Below the smallest value of the key's ordered part there are no rows, and their time is no evidence.
#[tokio::test(flavor = "multi_thread")]
async fn the_trial_of_the_engines_measures_chunks_that_have_rows() {
    for binary in support::servers() {
        let one = server(&binary).await;
        sides(&one, 800, "VARCHAR(3)").await;
        for filter in [None, Some("tenant BETWEEN 4 AND 8")] {
            let filters = filter.map(|sql: &str| sql.parse().unwrap()).into_iter().collect();
            let options = Options { engine: Engine::Auto, filters, ..Options::default() };
            let found = report(&request([&one, &one], vec![TablePair::same("t")], options)).await;
            let (table, rows) = (&found.tables[0], if filter.is_some() { 4_000 } else { 6_400 });
            assert_eq!((table.verdict, table.matching_rows), (Verdict::Equal, rows), "{}", found.to_text());
            let reason = &table.engine_reason;
            let measured = reason.starts_with("pushdown compared") && !reason.contains(" 0 rows");
            assert!(measured || reason.contains("too small for a trial"), "{reason}");
        }
    }
}

/// What differs among rows that came to the client is looked up by its keys: the servers need not digest all of them.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_in_a_stream_are_looked_up_by_their_whole_keys() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for kind in ["VARCHAR(3)", "ENUM('a', 'b')"] {
            let [_source, mut target] = sides(&one, 300, kind).await;
            run(&mut target, "UPDATE t SET v = 'damaged' WHERE code LIKE '%7'").await;
            run(&mut target, "DELETE FROM t WHERE code = 'Code 11'").await;
            run(&mut target, "UPDATE t SET code = 'CODE 12' WHERE code = 'Code 12'").await;
            let directory = tempfile::tempdir().unwrap();
            let log = directory.path().join("general.log");
            run(&mut target, &format!("SET GLOBAL general_log_file = '{}'", log.display())).await;
            run(&mut target, "SET GLOBAL general_log = 1").await;
            let options = Options {
                engine: Engine::Stream,
                first_chunk_rows: 600,
                max_chunk_rows: 600,
                quiet_window: Duration::from_millis(20),
                max_rows_reported: 1_000,
                ..Options::default()
            };
            let found = report(&request([&one, &one], vec![TablePair::same("t")], options)).await;
            run(&mut target, "SET GLOBAL general_log = 0").await;
            let table = &found.tables[0];
            let counts = (table.mismatched_rows, table.extra_rows_source, table.extra_rows_target);
            assert_eq!((table.verdict, counts), (Verdict::Different, (240, 16, 8)), "{}", found.to_text());
            assert_eq!((table.source_rows, table.target_rows, table.rows.len()), (2_400, 2_392, 264));
            let statements = std::fs::read_to_string(&log).unwrap();
            assert!(statements.contains("SHA2("), "{statements}");
            assert!(!statements.contains("COUNT(h)"), "the servers digested chunks");
        }
    }
}
