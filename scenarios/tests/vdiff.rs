//! VDiff on real servers: nothing hides from it, and it cries wolf over nothing.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/cases.rs"]
mod cases;
#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff/schemas.rs"]
mod schemas;
#[path = "support/servers.rs"]
mod support;
#[path = "vdiff/types.rs"]
mod types;

use std::time::Duration;

use cases::Case;
use common::{fresh, report, request, run, server, server_with};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::report::{DifferingRow, Kind, TableReport};
use converge_vdiff::{Engine, Options, Request, TablePair, Verdict};
use mysql_async::Conn;

/// Three rows per chunk and two per fetch, so that small tables have many boundaries.
fn tiny_chunks() -> Options {
    Options {
        first_chunk_rows: 3,
        max_chunk_rows: 3,
        fetch_rows: 2,
        quiet_window: Duration::from_millis(20),
        ..Options::default()
    }
}

async fn create(conn: &mut Conn, case: &Case) {
    for sql in case.creation() {
        run(conn, &sql).await;
    }
}

fn found(row: &DifferingRow) -> String {
    let kind = match row.kind {
        Kind::Mismatched => "mismatched",
        Kind::ExtraSource => "extra_source",
        Kind::ExtraTarget => "extra_target",
    };
    format!("{kind} {} {}", serde_json::to_string(&row.key).unwrap(), row.columns.join(","))
}

/// Whether what was found is what was done, `*` standing for any text.
fn agrees(found: &str, wanted: &str) -> bool {
    match wanted.split_once('*') {
        Some((start, end)) => found.starts_with(start) && found.ends_with(end),
        None => found == wanted,
    }
}

fn complaint(case: &Case, table: &TableReport) -> Option<String> {
    let found: Vec<String> = table.rows.iter().map(found).collect();
    let wanted = &case.found;
    let named = found.len() == wanted.len()
        && wanted.iter().all(|w| found.iter().any(|f| agrees(f, w)))
        && table.rows.iter().all(|r| r.confirmed);
    let copies = |kind| table.rows.iter().filter(|r| r.kind == kind).map(|r| r.copies).sum::<u64>();
    let counted = table.mismatched_rows == copies(Kind::Mismatched)
        && table.extra_rows_source == copies(Kind::ExtraSource)
        && table.extra_rows_target == copies(Kind::ExtraTarget)
        && table.source_rows == table.matching_rows + table.mismatched_rows + table.extra_rows_source
        && table.target_rows == table.matching_rows + table.mismatched_rows + table.extra_rows_target;
    let right = named && counted && table.verdict == Verdict::Different && table.not_verified.is_empty();
    (!right).then(|| format!("{}: wanted {wanted:?}, found {found:?}: {table:?}", case.table))
}

async fn matrix(sides: [&LocalServer; 2], engines: &[Engine], options: &Options) {
    let flavors = sides.map(|s| s.binary().info.flavor);
    let mut all = cases::cases();
    all.extend(types::cases());
    let cases: Vec<&Case> = all.iter().filter(|c| c.only.is_none_or(|only| flavors == [only; 2])).collect();
    let (mut source, mut target) = (fresh(sides[0], "vs").await, fresh(sides[1], "vt").await);
    for case in &cases {
        create(&mut source, case).await;
        create(&mut target, case).await;
    }
    let tables: Vec<TablePair> = cases.iter().map(|c| TablePair::same(&c.table)).collect();
    let by = |engine: &Engine| Options { engine: *engine, ..options.clone() };
    let requests: Vec<Request> = engines.iter().map(|e| request(sides, tables.clone(), by(e))).collect();
    for request in &requests {
        twins(request, &cases, flavors).await;
    }
    for case in &cases {
        for sql in case.damages() {
            run(&mut target, &sql).await;
        }
    }
    for request in &requests {
        damaged(request, &cases, flavors).await;
    }
}

async fn twins(request: &Request, cases: &[&Case], flavors: [Flavor; 2]) {
    let twins = report(request).await;
    if request.options.engine == Engine::Stream {
        let streamed = twins.tables.iter().filter(|t| t.engine == "stream").count();
        assert!(streamed > cases.len() / 2, "{streamed} of {} tables were streamed", cases.len());
    }
    let unequal: Vec<_> = twins.tables.iter().filter(|t| t.verdict != Verdict::Equal).collect();
    assert!(unequal.is_empty(), "{flavors:?}: equal tables called otherwise: {unequal:#?}");
    assert!(twins.source.stood_still && twins.target.stood_still, "reading moved a server: {twins:?}");
    for (case, table) in cases.iter().zip(&twins.tables) {
        assert_eq!(table.processed_rows > 0, !case.rows.is_empty(), "{table:?}");
        assert_eq!(table.matching_rows, table.processed_rows, "{table:?}");
    }
}

async fn damaged(request: &Request, cases: &[&Case], flavors: [Flavor; 2]) {
    let engine = request.options.engine;
    let damaged = report(request).await;
    let complaints: Vec<String> =
        cases.iter().zip(&damaged.tables).filter_map(|(case, table)| complaint(case, table)).collect();
    assert!(
        complaints.is_empty(),
        "{flavors:?} {engine:?}: {} of {}:\n{}",
        complaints.len(),
        cases.len(),
        complaints.join("\n")
    );
    assert_eq!(damaged.verdict, Verdict::Different);
    assert!(damaged.to_html().unwrap().contains("different"));
    assert!(damaged.to_text().contains("verdict: different"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damage_is_named_and_each_twin_is_equal() {
    let mut sources = tokio::task::JoinSet::new();
    for nth in 0..support::servers().len() {
        sources.spawn(each_damage_from(nth));
    }
    while let Some(ended) = sources.join_next().await {
        ended.unwrap();
    }
}

/// From one kind of server to each kind, on servers of its own.
async fn each_damage_from(nth: usize) {
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    let source = &servers[nth];
    for target in &servers {
        matrix([source, target], &[Engine::PushDown, Engine::Stream], &tiny_chunks()).await;
    }
    // Whole tables as one chunk; and each table's engine as the first chunk's times say.
    let options = Options { quiet_window: Duration::from_millis(20), ..Options::default() };
    matrix([source, source], &[Engine::PushDown, Engine::Stream], &options).await;
    matrix([source, source], &[Engine::Auto], &tiny_chunks()).await;
}

/// Tables declared differently on the two sides that can hold the same rows: source, target, rows, damage.
const DECLARED_DIFFERENTLY: &[(&str, &str, &str, &str, &str)] = &[
    (
        "charset",
        "id INT PRIMARY KEY, v VARCHAR(20) CHARACTER SET latin1",
        "id INT PRIMARY KEY, v VARCHAR(20)",
        "(1,'é'),(2,NULL)",
        "v = 'e'",
    ),
    (
        "charset_of_text",
        "id INT PRIMARY KEY, v TEXT CHARACTER SET utf8mb3",
        "id INT PRIMARY KEY, v LONGTEXT",
        "(1,'é'),(2,NULL)",
        "v = 'É'",
    ),
    (
        "charset_sjis",
        "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET sjis",
        "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET utf16",
        "(1,'あ')",
        "v = 'ア'",
    ),
    (
        "wider",
        "id INT PRIMARY KEY, v INT, w VARCHAR(50)",
        "id BIGINT PRIMARY KEY, v BIGINT UNSIGNED, w VARCHAR(100)",
        "(1,42,'x'),(2,7,'y')",
        "v = 43",
    ),
    (
        "scale",
        "id INT PRIMARY KEY, v DECIMAL(10,2), w INT",
        "id INT PRIMARY KEY, v DECIMAL(12,4), w DECIMAL(20,2)",
        "(1,-1.50,-3),(2,0,0)",
        "v = -1.5001",
    ),
    (
        "fraction",
        "id INT PRIMARY KEY, v DATETIME, w TIME(2)",
        "id INT PRIMARY KEY, v DATETIME(6), w TIME(3)",
        "(1,'2020-01-01 00:00:00','-01:00:00.25'),(2,0,0)",
        "v = '2020-01-01 00:00:00.000001'",
    ),
    (
        "reals",
        "id INT PRIMARY KEY, v FLOAT",
        "id INT PRIMARY KEY, v DOUBLE",
        "(1,1.5),(2,16777215)",
        "v = 1.5000000000000002",
    ),
    ("column_order", "id INT PRIMARY KEY, a INT, b INT", "b INT, id INT PRIMARY KEY, a INT", "", "a = b"),
    (
        "enum_order",
        "id INT PRIMARY KEY, v ENUM('a','b')",
        "id INT PRIMARY KEY, v ENUM('b','a','c')",
        "(1,'a'),(2,'b')",
        "v = 'c'",
    ),
    (
        "set_order",
        "id INT PRIMARY KEY, v SET('a','b')",
        "id INT PRIMARY KEY, v SET('b','a')",
        "(1,'a,b'),(2,'b'),(3,NULL)",
        "v = 'a'",
    ),
    (
        "enum_as_text",
        "id INT PRIMARY KEY, v ENUM('a','é')",
        "id INT PRIMARY KEY, v VARCHAR(9)",
        "(1,'a'),(2,'é')",
        "v = 'A'",
    ),
    (
        "key_collation",
        "k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT",
        "k VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY, v INT",
        "('a',1),('B',2),('c',3),('é',4),('Z',5)",
        "v = 9",
    ),
    (
        "key_charset",
        "k VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY, v INT",
        "k VARCHAR(20) PRIMARY KEY, v INT",
        "('a',1),('B',2),('é',4)",
        "v = 9",
    ),
    ("key_only_on_source", "id INT PRIMARY KEY, v INT", "id INT, v INT", "(3,1),(1,2),(2,3),(4,4)", "v = 9"),
    ("invisible_there", "id INT PRIMARY KEY, v INT", "id INT PRIMARY KEY, v INT INVISIBLE", "", "v = 9"),
    (
        "name_case",
        "id INT PRIMARY KEY, Name VARCHAR(9)",
        "ID INT PRIMARY KEY, name VARCHAR(9)",
        "(1,'x'),(2,'y')",
        "name = 'X'",
    ),
];

async fn declared_differently(sides: [&LocalServer; 2]) {
    let (mut source, mut target) = (fresh(sides[0], "vs").await, fresh(sides[1], "vt").await);
    for (name, there, here, rows, _) in DECLARED_DIFFERENTLY {
        let rows = match *rows {
            "" if there.contains("a INT") => "(id, a, b) VALUES (1,2,3),(2,3,4)".to_owned(),
            "" => "(id, v) VALUES (1,2),(2,3)".to_owned(),
            rows => format!("VALUES {rows}"),
        };
        for (conn, columns) in [(&mut source, there), (&mut target, here)] {
            run(conn, &format!("CREATE TABLE {name} ({columns}) ROW_FORMAT=DYNAMIC AUTO_INCREMENT=7")).await;
            run(conn, &format!("INSERT INTO {name} {rows}")).await;
        }
        run(&mut target, &format!("ALTER TABLE {name} ROW_FORMAT=COMPACT")).await;
    }
    let tables: Vec<TablePair> = DECLARED_DIFFERENTLY.iter().map(|c| TablePair::same(c.0)).collect();
    let requests = [Engine::PushDown, Engine::Stream]
        .map(|engine| request(sides, Vec::clone(&tables), Options { engine, ..tiny_chunks() }));
    for request in &requests {
        for table in &report(request).await.tables {
            assert_eq!(table.verdict, Verdict::Equal, "{table:?}");
            assert!(!table.schema_notes.is_empty() || table.table == "name_case", "{table:?}");
        }
    }
    for (name, _, here, _, change) in DECLARED_DIFFERENTLY {
        let key = if here.contains("k VARCHAR") { "k = 'B'" } else { "id = 1" };
        run(&mut target, &format!("UPDATE {name} SET {change} WHERE {key}")).await;
    }
    for request in &requests {
        for table in &report(request).await.tables {
            assert_eq!((table.verdict, table.mismatched_rows), (Verdict::Different, 1), "{table:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_values_are_equal_however_they_are_declared() {
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    for source in &servers {
        for target in &servers {
            declared_differently([source, target]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_compared_is_never_equal() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (mut source, mut target) = (fresh(&one, "vs").await, fresh(&one, "vt").await);
        let tables = [
            ("missing", "a INT, b INT", "a INT", Verdict::Different),
            ("extra", "a INT", "a INT, b INT", Verdict::NotProven),
            ("incomparable", "a INT, b INT", "a INT, b VARCHAR(9)", Verdict::NotProven),
        ];
        for (name, there, here, _) in tables {
            for (conn, columns) in [(&mut source, there), (&mut target, here)] {
                run(conn, &format!("CREATE TABLE {name} (id INT PRIMARY KEY, {columns})")).await;
                run(conn, &format!("INSERT INTO {name} (id, a) VALUES (1, 1)")).await;
            }
        }
        let pairs: Vec<TablePair> = tables.iter().map(|t| TablePair::same(t.0)).collect();
        let plain = request([&one, &one], pairs.clone(), tiny_chunks());
        for (table, (.., verdict)) in report(&plain).await.tables.iter().zip(tables) {
            assert_eq!(table.verdict, verdict, "{table:?}");
            assert!(table.not_verified.iter().any(|n| n.contains("column b")), "{table:?}");
        }
        let options = Options { ignore_columns: vec!["B".into()], ..tiny_chunks() };
        for table in &report(&request([&one, &one], pairs, options)).await.tables {
            assert_eq!(table.verdict, Verdict::Equal, "{table:?}");
            assert_eq!(table.not_verified, ["column b: left out on request"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_tables_are_equal_and_said_to_be_empty() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for database in ["vs", "vt"] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE keyed (id INT PRIMARY KEY)").await;
            run(&mut conn, "CREATE TABLE keyless (id INT)").await;
        }
        let pairs = vec![TablePair::same("keyed"), TablePair::same("keyless")];
        for table in &report(&request([&one, &one], pairs, Options::default())).await.tables {
            assert_eq!((table.verdict, table.processed_rows), (Verdict::Equal, 0), "{table:?}");
            assert!(table.schema_notes.iter().any(|n| n.contains("empty on both sides")), "{table:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_too_long_for_a_digest_are_not_equal() {
    for binary in support::servers() {
        let one = server_with(&binary, &["--max-allowed-packet=1024", "--net-buffer-length=1024"]).await;
        for (database, last) in [("vs", "a"), ("vt", "b")] {
            let mut conn = fresh(&one, database).await;
            for key in ["PRIMARY KEY", ""] {
                let table = if key.is_empty() { "keyless" } else { "keyed" };
                run(
                    &mut conn,
                    &format!("CREATE TABLE {table} (id INT {key}, v VARCHAR(4000), w VARCHAR(900))"),
                )
                .await;
                // Longer than a statement may be.
                run(
                    &mut conn,
                    &format!("INSERT INTO {table} VALUES (1, REPEAT('x', 800), REPEAT('{last}', 800))"),
                )
                .await;
                run(&mut conn, &format!("INSERT INTO {table} VALUES (2, 'x', 'y')")).await;
            }
        }
        let pairs = vec![TablePair::same("keyed"), TablePair::same("keyless")];
        for engine in [Engine::PushDown, Engine::Stream] {
            let options = Options { engine, ..tiny_chunks() };
            for table in &report(&request([&one, &one], pairs.clone(), options)).await.tables {
                assert_eq!(table.verdict, Verdict::NotProven, "{table:?}");
                assert!(table.reasons[0].contains("max_allowed_packet"), "{table:?}");
                assert_eq!(table.matching_rows, 1, "{table:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_too_long_to_be_sent_are_not_equal() {
    for binary in support::servers().into_iter().filter(|b| b.kind() == "mysql") {
        let one = server(&binary).await;
        let mut conn = fresh(&one, "vs").await;
        run(&mut conn, "CREATE TABLE d (id INT PRIMARY KEY, j JSON)").await;
        run(&mut conn, "INSERT INTO d VALUES (1, JSON_OBJECT('a', REPEAT('x', 3000))), (2, NULL)").await;
        let mut conn = fresh(&one, "vt").await;
        run(&mut conn, "CREATE TABLE d (id INT PRIMARY KEY, j LONGTEXT CHARACTER SET latin1)").await;
        run(&mut conn, "INSERT INTO d VALUES (1, CONCAT('{\"a\": \"', REPEAT('y', 3000), '\"}')), (2, NULL)")
            .await;
        run(&mut conn, "CREATE TABLE e (id INT PRIMARY KEY, j JSON)").await;
        run(&mut conn, "INSERT INTO e VALUES (1, JSON_OBJECT('a', REPEAT('y', 3000))), (2, NULL)").await;
        // From now on the server makes empty strings of them where they become text.
        run(&mut conn, "SET GLOBAL net_buffer_length = 1024, max_allowed_packet = 1024").await;
        for engine in [Engine::PushDown, Engine::Stream] {
            let options = Options { engine, ..tiny_chunks() };
            let documents = TablePair { source: "d".into(), target: "e".into() };
            let pairs = vec![TablePair::same("d"), documents];
            for table in &report(&request([&one, &one], pairs, options)).await.tables {
                assert_eq!((table.verdict, table.matching_rows), (Verdict::NotProven, 1), "{table:?}");
            }
        }
    }
}

/// Tables of 2,000 rows with a number `n` from 0 on, by their keys: numbers of both signs, numbers beyond the signed ones,
/// two columns, and text.
const KEYED: [(&str, &str, &str); 4] = [
    ("signed", "id INT PRIMARY KEY", "n * 3 - 2500"),
    ("huge", "id BIGINT UNSIGNED PRIMARY KEY", "18446744073709540000 + n * 2"),
    ("paired", "id INT, part INT DEFAULT 7, PRIMARY KEY (part, id)", "n"),
    ("named", "id VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY", "CONCAT('row', n)"),
];

#[tokio::test(flavor = "multi_thread")]
async fn differing_rows_among_many_are_found_whether_they_are_few_or_lie_close() {
    const DIGIT: &str = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 \
                         UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    for binary in support::servers() {
        let one = server(&binary).await;
        for database in ["vs", "vt"] {
            let mut conn = fresh(&one, database).await;
            for (table, key, id) in KEYED {
                run(&mut conn, &format!("CREATE TABLE {table} ({key}, n INT, v VARCHAR(20), KEY (n))")).await;
                let rows = format!(
                    "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d AS n \
                     FROM {DIGIT} a, {DIGIT} b, {DIGIT} c, {DIGIT} d WHERE d.d < 2"
                );
                run(
                    &mut conn,
                    &format!(
                        "INSERT INTO {table} (id, n, v) SELECT {id}, n, CONCAT('v', n) FROM ({rows}) AS r"
                    ),
                )
                .await;
            }
        }
        let mut conn = fresh(&one, "vt_is_there").await;
        let mut differing = 0;
        // Few; then besides them a block in the middle.
        for (damage, more) in [("n IN (0, 3, 700, 701, 1999)", 5), ("n BETWEEN 900 AND 1500", 601)] {
            differing += more;
            for (table, ..) in KEYED {
                run(&mut conn, &format!("UPDATE vt.{table} SET v = 'damaged' WHERE {damage}")).await;
                run(&mut conn, &format!("DELETE FROM vt.{table} WHERE n = 77")).await;
                run(&mut conn, &format!("DELETE FROM vs.{table} WHERE n = 1234")).await;
            }
            for engine in [Engine::PushDown, Engine::Stream] {
                // One worker, so that it is known which chunk comes after a damaged one.
                let options = Options {
                    engine,
                    first_chunk_rows: 400,
                    max_chunk_rows: 400,
                    fetch_rows: 20,
                    parallel: 1,
                    max_rows_reported: 2000,
                    quiet_window: Duration::from_millis(20),
                    ..Options::default()
                };
                let pairs = KEYED.map(|(table, ..)| TablePair::same(table)).to_vec();
                for table in &report(&request([&one, &one], pairs, options)).await.tables {
                    let changed = differing - u64::from(differing > 5);
                    let found = [
                        table.mismatched_rows,
                        table.extra_rows_source,
                        table.extra_rows_target,
                        table.matching_rows,
                    ];
                    assert_eq!(
                        found,
                        [changed, 1, 1, 1998 - changed],
                        "{engine:?} {}: {table:?}",
                        table.table
                    );
                    assert_eq!((table.source_rows, table.target_rows), (1999, 1999), "{}", table.table);
                    assert_eq!(table.rows.len() as u64, changed + 2, "{}", table.table);
                }
            }
        }
    }
}
