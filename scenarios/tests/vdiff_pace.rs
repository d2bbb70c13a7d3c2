//! Holding a comparison back: by a server's load, by a replica's lag, for a bounded time only.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{connect, fresh, report, request, run, server};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::Flavor;
use converge_vdiff::{Engine, Error, Options, Progress, Request, TablePair, Verdict, compare};
use miette::Diagnostic;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

async fn table(one: &LocalServer) -> Conn {
    let mut last = None;
    for database in ["vs", "vt"] {
        let mut conn = fresh(one, database).await;
        run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY)").await;
        run(&mut conn, "INSERT INTO t VALUES (1), (2), (3)").await;
        last = Some(conn);
    }
    last.unwrap()
}

fn with(one: &LocalServer, limit: &str) -> Request {
    let options = Options { max_load: vec![limit.parse().unwrap()], ..Options::default() };
    request([one, one], vec![TablePair::same("t")], options)
}

#[tokio::test(flavor = "multi_thread")]
async fn load_holds_chunks_back() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let _conn = table(&one).await;
        let mut others = Vec::new();
        for _ in 0..30 {
            others.push(connect(&one, "").await);
        }
        let (held, compared) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let tell = |progress: Progress| {
            match progress {
                Progress::Held { why, .. } => {
                    assert!(why.contains("Threads_connected is"), "{why}");
                    held.fetch_add(1, Ordering::SeqCst);
                }
                Progress::Rows { .. } => drop(compared.fetch_add(1, Ordering::SeqCst)),
                _ => {}
            };
        };
        let leave = async {
            while held.load(Ordering::SeqCst) < 3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(compared.load(Ordering::SeqCst), 0, "a chunk was compared while the server was busy");
            for conn in others {
                conn.disconnect().await.unwrap();
            }
        };
        let wanted = with(&one, "Threads_connected=25");
        let both = async { tokio::join!(compare(&wanted, &tell), leave) };
        let (answer, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("an end");
        let answer = answer.unwrap();
        assert_eq!((answer.verdict, answer.tables[0].source_rows), (Verdict::Equal, 3));
        assert!(answer.notes.iter().any(|n| n.contains("held back for")), "{:?}", answer.notes);
        assert!(answer.command.contains("--max-load 'Threads_connected=25'"), "{}", answer.command);
        let idle = report(&with(&one, "Threads_connected=2000")).await;
        assert!(!idle.notes.iter().any(|n| n.contains("held back")), "{:?}", idle.notes);

        let mut hopeless = with(&one, "Threads_connected=1");
        hopeless.options.hold_at_most = Duration::from_secs(1);
        let error = compare(&hopeless, &|_| {}).await.unwrap_err();
        assert!(
            matches!(error, Error::Busy { .. }) && error.to_string().contains("Threads_connected"),
            "{error}"
        );
        let error = compare(&with(&one, "Threads_walking=1"), &|_| {}).await.unwrap_err();
        let help = error.help().unwrap().to_string();
        assert!(
            error.to_string().contains("Threads_walking") && help.contains("--max-load takes"),
            "{error}"
        );

        // The time given is up while chunks are held: before the trial, in a small table, and without a key.
        for database in ["vs", "vt"] {
            let mut conn = connect(&one, database).await;
            run(&mut conn, "CREATE TABLE keyless (v INT)").await;
            run(&mut conn, "CREATE TABLE long_one (id INT PRIMARY KEY)").await;
            let rows: Vec<String> = (0..3000).map(|id| format!("({id})")).collect();
            run(&mut conn, &format!("INSERT INTO long_one VALUES {}", rows.join(", "))).await;
        }
        for table in ["long_one", "t", "keyless"] {
            let mut bounded = with(&one, "Threads_connected=1");
            bounded.tables = vec![TablePair::same(table)];
            bounded.options.max_duration = Some(Duration::from_secs(1));
            let answer =
                tokio::time::timeout(Duration::from_secs(30), report(&bounded)).await.expect("an end");
            let reasons = answer.tables[0].reasons.join(" ");
            assert!(
                reasons.contains("all rows were not compared: the time given was up"),
                "{table}: {reasons}"
            );
            assert_eq!((answer.verdict, answer.tables[0].source_rows), (Verdict::NotProven, 0), "{table}");
        }
    }
}

/// A replica of `source` that applies everything ten minutes late.
async fn late_replica(binary: &ServerBinary, source: &LocalServer) -> (LocalServer, Conn) {
    let replica = server(binary).await;
    let mut conn = connect(&replica, "").await;
    let port = source.port();
    let (change, start) = match binary.info.flavor {
        Flavor::MySql => (
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
                 SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1, SOURCE_DELAY=600"
            ),
            "START REPLICA",
        ),
        Flavor::MariaDb => (
            format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
                 MASTER_USE_GTID=slave_pos, MASTER_DELAY=600"
            ),
            "START SLAVE",
        ),
    };
    run(&mut conn, &change).await;
    run(&mut conn, start).await;
    (replica, conn)
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_holds_chunks_back() {
    for binary in support::servers() {
        let source = server(&binary).await;
        let _conn = table(&source).await;
        let mut wanted = request([&source, &source], vec![TablePair::same("t")], Options::default());
        wanted.options.max_lag = Some(Duration::from_secs(1));
        let error = compare(&wanted, &|_| {}).await.unwrap_err().to_string();
        assert!(error.contains("none of the servers is a replica"), "{error}");

        let (replica, mut conn) = late_replica(&binary, &source).await;
        for database in ["vs", "vt"] {
            run(&mut conn, &format!("CREATE DATABASE IF NOT EXISTS {database}")).await;
            run(&mut conn, &format!("CREATE TABLE {database}.t (id INT PRIMARY KEY)")).await;
        }
        let mut wanted = request([&replica, &replica], vec![TablePair::same("t")], Options::default());
        wanted.options.max_lag = Some(Duration::from_secs(1));
        wanted.options.hold_at_most = Duration::from_secs(3);
        // It lags once it has an event and a second has passed.
        let error = loop_until_busy(&wanted).await.to_string();
        assert!(error.contains("lags by"), "{error}");
        wanted.options.max_lag = Some(Duration::from_secs(500));
        assert_eq!(report(&wanted).await.verdict, Verdict::Equal);
        let _: Option<u8> = conn.query_first("SELECT 1").await.unwrap();
    }
}

/// The error that a comparison ends in once the replica lags.
async fn loop_until_busy(wanted: &Request) -> Error {
    for _ in 0..200 {
        match compare(wanted, &|_| {}).await {
            Err(error) => return error,
            Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("the replica never lagged");
}

/// Chunks of one row, as of tables with very large rows, over gaps that are as wide as can be.
#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_the_keys_cost_no_steps() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for database in ["vs", "vt"] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE t (id BIGINT PRIMARY KEY, v INT)").await;
            let dense: Vec<String> = (0..200).map(|id| format!("({id})")).collect();
            let (least, most) = (i64::MIN, i64::MAX);
            run(&mut conn, &format!("INSERT INTO t (id) VALUES ({least}), {}, ({most})", dense.join(", ")))
                .await;
            run(&mut conn, "ANALYZE TABLE t").await;
            if database == "vt" {
                run(&mut conn, "UPDATE t SET v = 1 WHERE id = 90").await;
            }
        }
        let engine = Engine::PushDown;
        let options = Options { engine, first_chunk_rows: 1, max_chunk_rows: 1, ..Options::default() };
        let asked = request([&one, &one], vec![TablePair::same("t")], options);
        let told = tokio::time::timeout(Duration::from_secs(60), report(&asked)).await;
        let told = told.unwrap_or_else(|_| panic!("{}: it takes steps over a gap", binary.info));
        let table = &told.tables[0];
        assert_eq!((table.mismatched_rows, table.matching_rows), (1, 201), "{}", told.to_text());
        assert!((4..=250).contains(&table.chunks), "{}: {} chunks", binary.info, table.chunks);
    }
}
