//! Holding a comparison back: by a server's load, by a replica's lag, for a bounded time only.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{connect, fresh, report, request, run, server};
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::proxy::{Effect, ProxyServer, Stream, Toxic};
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

/// Tables without a common order of the key: no key, keys under other collations, and documents that only the client can
/// compare, all rows of which are alike to the servers. Columns besides, on the source and on the target.
const ORDERLESS: [(&str, [&str; 2]); 4] = [
    ("keyless", ["n INT, v VARCHAR(9)", "n INT, v VARCHAR(9)"]),
    (
        "collated",
        [
            "n INT, v VARCHAR(9), k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY",
            "n INT, v VARCHAR(9), k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY",
        ],
    ),
    ("documents", ["n INT, v JSON", "n INT, v LONGTEXT"]),
    ("repeated", ["n INT, v VARCHAR(9)", "n INT, v VARCHAR(9)"]),
];

/// Fills a table of [`ORDERLESS`] with 4,000 rows.
async fn fill(conn: &mut Conn, table: &str, columns: &str) {
    run(conn, &format!("CREATE TABLE {table} ({columns})")).await;
    let row = |n: u32| match table {
        "documents" => format!("(7, '{{\"n\": {n}}}')"),
        "collated" => format!("({n}, 'v', 'key {n}')"),
        "repeated" => format!("({}, 'v')", n / 40),
        _ => format!("({n}, 'v')"),
    };
    let rows: Vec<String> = (0..4000).map(row).collect();
    run(conn, &format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
}

/// Each look at some of the rows of such a table reads all of it: there must be few, however many rows differ.
#[tokio::test(flavor = "multi_thread")]
async fn scattered_differences_without_an_order_take_few_scans() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (at, database) in ["vs", "vt"].into_iter().enumerate() {
            let mut conn = fresh(&one, database).await;
            for (table, columns) in ORDERLESS {
                fill(&mut conn, table, columns[at]).await;
            }
        }
        let mut conn = connect(&one, "vt").await;
        // The same rows twice more on the target; half of the rows of each number changed.
        for damage in ["UPDATE keyless SET v = 'w'", "UPDATE collated SET v = 'w'"] {
            run(&mut conn, &format!("{damage} WHERE n % 10 = 3")).await;
        }
        run(&mut conn, "UPDATE documents SET v = REPLACE(v, '3}', '3.5}')").await;
        run(&mut conn, "UPDATE repeated SET v = 'w' WHERE n < 50 LIMIT 1000").await;
        for (room, table, wanted) in [
            (100_000, "keyless", [0, 400, 400, 3600]),
            (100_000, "collated", [400, 0, 0, 3600]),
            (100_000, "documents", [0, 400, 400, 3600]),
            (100_000, "repeated", [0, 1000, 1000, 3000]),
            (30, "keyless", [0, 400, 400, 3600]),
            (30, "collated", [400, 0, 0, 3600]),
        ] {
            let options = Options {
                fetch_rows: 20,
                max_suspects: room,
                max_rows_reported: 1,
                quiet_window: Duration::from_millis(20),
                ..Options::default()
            };
            let asked = request([&one, &one], vec![TablePair::same(table)], options);
            let statements = "SHOW GLOBAL STATUS LIKE 'Com_select'";
            let before: (String, u64) = conn.query_first(statements).await.unwrap().unwrap();
            let told = report(&asked).await;
            let after: (String, u64) = conn.query_first(statements).await.unwrap().unwrap();
            let found = &told.tables[0];
            let counts = [
                found.mismatched_rows,
                found.extra_rows_source,
                found.extra_rows_target,
                found.matching_rows,
            ];
            assert_eq!(counts, wanted, "{} {room}: {}", binary.info, told.to_text());
            assert_eq!((found.source_rows, found.target_rows), (4000, 4000), "{}", told.to_text());
            assert_eq!(found.verdict, Verdict::Different);
            assert!(after.1 - before.1 < 200, "{}: {table}: {} statements", binary.info, after.1 - before.1);
        }
    }
}

/// Documents against text over a network that takes longer for them than a statement may take.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_keep_coming_are_waited_for() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (database, kind) in [("vs", "JSON"), ("vt", "LONGTEXT")] {
            let mut conn = fresh(&one, database).await;
            for (table, key) in [("keyed", "INT PRIMARY KEY"), ("keyless", "INT")] {
                run(&mut conn, &format!("CREATE TABLE {table} (id {key}, v {kind})")).await;
                let rows: Vec<String> =
                    (0..100).map(|id| format!("({id}, '[\"{}\"]')", "x".repeat(5000))).collect();
                run(&mut conn, &format!("INSERT INTO {table} VALUES {}", rows.join(", "))).await;
            }
        }
        let proxy = ProxyServer::start("127.0.0.1:0", 1).await.unwrap();
        let proxies = Toxiproxy::connect(&proxy.url()).await.unwrap();
        let listen =
            proxies.create("line", "127.0.0.1:0", &format!("127.0.0.1:{}", one.port())).await.unwrap();
        let port = listen.rsplit_once(':').unwrap().1.parse().unwrap();
        let effect = Effect::Bandwidth { rate: 100 };
        proxies.add_toxic("line", &Toxic::new(Stream::Downstream, effect)).await.unwrap();
        let options =
            Options { statement_timeout: Duration::from_secs(2), fetch_rows: 10, ..Options::default() };
        let tables = ["keyed", "keyless"].map(TablePair::same).to_vec();
        let mut asked = request([&one, &one], tables, options);
        asked.source = vec![one.address("vs").with_endpoint("127.0.0.1", port)];
        let told = report(&asked).await;
        assert_eq!(told.verdict, Verdict::Equal, "{}", told.to_text());
        proxy.stop().await;
    }
}
