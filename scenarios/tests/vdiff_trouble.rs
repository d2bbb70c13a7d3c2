//! What can go wrong while tables are compared: a table dropped or changed, a server gone; and views, whole and broken.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use common::{connect, fresh, report, request, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::{Error, Options, Progress, Report, Request, TablePair, Verdict, compare};
use miette::Diagnostic;
use mysql_async::Conn;
use tokio::sync::Notify;

/// The same table of `rows` rows on both sides.
async fn sides(one: &LocalServer, rows: usize) -> (Conn, Conn) {
    let (mut source, mut target) = (fresh(one, "vs").await, fresh(one, "vt").await);
    let values: Vec<String> = (0..rows).map(|i| format!("({i}, {i})")).collect();
    for conn in [&mut source, &mut target] {
        run(conn, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
        run(conn, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
    }
    (source, target)
}

/// A comparison in as many chunks as there are rows: it lasts until it is in trouble.
fn slow(one: &LocalServer) -> Request {
    let options = Options { first_chunk_rows: 1, max_chunk_rows: 1, ..Options::default() };
    request([one, one], vec![TablePair::same("t")], options)
}

/// What it ends in when `trouble` happens after its first chunk.
async fn with_trouble(request: &Request, trouble: impl Future<Output = ()>) -> Result<Report, Error> {
    let begun = Arc::new(Notify::new());
    let tell = |progress| {
        if let Progress::Rows { .. } = progress {
            begun.notify_one();
        }
    };
    let cause = async {
        begun.notified().await;
        trouble.await;
    };
    let both = async { tokio::join!(compare(request, &tell), cause) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("an end");
    answer
}

/// The error that it ends in then.
async fn after_a_chunk(request: &Request, trouble: impl Future<Output = ()>) -> Error {
    with_trouble(request, trouble).await.expect_err("no verdict")
}

fn explained(error: &Error, words: &[&str]) {
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    for word in words {
        assert!(format!("{error} {help}").contains(word), "no {word:?} in: {error}; {help}");
    }
    assert!(!help.is_empty(), "no way out of: {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_goes_or_changes_in_the_middle_is_an_error() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut target) = sides(&one, 5000).await;
        let error = after_a_chunk(&slow(&one), run(&mut target, "ALTER TABLE t DROP COLUMN v")).await;
        explained(&error, &["target", "v", "changed or dropped"]);
        let (_source, mut target) = sides(&one, 5000).await;
        let error = after_a_chunk(&slow(&one), run(&mut target, "DROP TABLE t")).await;
        explained(&error, &["target", "vt.t", "changed or dropped"]);
    }
}

/// Nobody compared it, and nobody will see from the report that it is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_comes_in_the_middle_is_not_called_equal() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (mut source, mut target) = sides(&one, 3000).await;
        for conn in [&mut source, &mut target] {
            run(conn, "CREATE TABLE u (id INT PRIMARY KEY)").await;
            run(conn, "INSERT INTO u VALUES (1)").await;
        }
        let mut request = slow(&one);
        request.tables.push(TablePair::same("u"));
        let written = with_trouble(&request, run(&mut source, "CREATE TABLE other (id INT)")).await.unwrap();
        assert_eq!(written.verdict, Verdict::Equal, "{}", written.to_text());
        let unlogged = async {
            for sql in ["SET sql_log_bin = 0", "ALTER TABLE t ADD unlogged INT", "SET sql_log_bin = 1"] {
                run(&mut target, sql).await;
            }
        };
        let altered = with_trouble(&request, unlogged).await.unwrap();
        assert_eq!(altered.tables[0].verdict, Verdict::NotProven, "{}", altered.to_text());
        run(&mut target, "ALTER TABLE t DROP COLUMN unlogged").await;
        run(&mut target, "UPDATE t SET v = -1 WHERE id = 7").await;
        let alter = async {
            for sql in ["ALTER TABLE t ADD more INT", "ALTER TABLE u ADD more INT DEFAULT 1"] {
                run(&mut target, sql).await;
            }
            run(&mut source, "ALTER TABLE u ADD more INT DEFAULT 2").await;
        };
        let altered = with_trouble(&request, alter).await.unwrap();
        let [t, u] = [0, 1].map(|table| &altered.tables[table]);
        assert_eq!(t.verdict, Verdict::NotProven, "{}", altered.to_text());
        let wanted = ["the target's table was altered", "column more", "run again when no DDL runs"];
        assert!(wanted.iter().all(|part| t.reasons.join(" ").contains(part)), "{:?}", t.reasons);
        // What differs is named, but whether it did in the table as it is now is not known.
        assert_eq!((t.mismatched_rows, t.unconfirmed_rows, t.rows.len()), (0, 1, 1), "{}", altered.to_text());
        assert!(!t.rows[0].confirmed && t.rows[0].key["id"] == 7, "{:?}", t.rows);
        // Its turn came later: as it is by then.
        assert_eq!((u.verdict, u.mismatched_rows), (Verdict::Different, 1), "{}", altered.to_text());
    }
}

/// What the first chunks were read from is not there any more; nothing else about the table is different.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_replaced_in_the_middle_is_not_called_equal() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut target) = sides(&one, 3000).await;
        for sql in ["SET sql_log_bin = 0", "CREATE TABLE n LIKE t", "INSERT INTO n SELECT * FROM t"] {
            run(&mut target, sql).await;
        }
        let untouched = async {
            for sql in ["CREATE TABLE other (id INT)", "DROP TABLE other", "FLUSH TABLES", "ANALYZE TABLE t"]
            {
                run(&mut target, sql).await;
            }
        };
        let same = with_trouble(&slow(&one), untouched).await.unwrap();
        assert_eq!(same.verdict, Verdict::Equal, "{}", same.to_text());
        run(&mut target, "UPDATE n SET v = -1 WHERE id < 3").await;
        run(&mut target, "DELETE FROM n WHERE id = 4").await;
        for swap in ["RENAME TABLE t TO o, n TO t", "RENAME TABLE t TO n, o TO t"] {
            let replaced = with_trouble(&slow(&one), run(&mut target, swap)).await.unwrap();
            // From the replacement back to the table, its rows had differed when they were read.
            let wanted = if swap.contains("n TO t") { Verdict::NotProven } else { replaced.verdict };
            assert_eq!(replaced.verdict, wanted, "{}", replaced.to_text());
            let reasons = replaced.tables[0].reasons.join(" ");
            assert!(reasons.contains("the target's table was replaced"), "{}", replaced.to_text());
        }
        let by_alter = async {
            for sql in ["ALTER TABLE t RENAME TO o", "ALTER TABLE n RENAME TO t"] {
                run(&mut target, sql).await;
            }
        };
        // Between the two there is no table, which a chunk may meet.
        if let Ok(replaced) = with_trouble(&slow(&one), by_alter).await {
            assert_eq!(replaced.verdict, Verdict::NotProven, "{}", replaced.to_text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_in_the_middle_is_an_error() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, _target) = sides(&one, 5000).await;
        let error = after_a_chunk(&slow(&one), async {
            one.kill().await.unwrap();
        })
        .await;
        explained(&error, &["connection lost", "run the command again"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_compared_as_what_they_show() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (mut source, mut target) = sides(&one, 10).await;
        for conn in [&mut source, &mut target] {
            run(conn, "CREATE VIEW big AS SELECT * FROM t WHERE id > 5").await;
        }
        let pairs = || vec![TablePair::same("big")];
        let same = report(&request([&one, &one], pairs(), Options::default())).await;
        assert_eq!((same.verdict, same.tables[0].source_rows), (Verdict::Equal, 4), "{}", same.to_text());
        assert!(same.tables[0].schema_notes.iter().any(|n| n.contains("is a view")));
        run(&mut target, "UPDATE t SET v = 0 WHERE id = 7").await;
        let other = report(&request([&one, &one], pairs(), Options::default())).await;
        assert_eq!(other.verdict, Verdict::Different);
        run(&mut target, "ALTER TABLE t RENAME COLUMN v TO w").await;
        let error = compare(&request([&one, &one], pairs(), Options::default()), &|_| {}).await.unwrap_err();
        explained(&error, &["target", "big", "view"]);
        drop(connect(&one, "").await);
    }
}
