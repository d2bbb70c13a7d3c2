//! What a server does not show by itself, so that differing tables looked equal, or tables that are only late different.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{connect, fresh, report, request, run, server, server_with};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_vdiff::{Engine, Options, TablePair, Verdict};

fn of_kind(kind: &str) -> impl Iterator<Item = ServerBinary> {
    support::servers().into_iter().filter(move |binary| binary.kind() == kind)
}

/// Writes to a table of its own past the binary log, until told to stop.
async fn writing(one: &LocalServer, stop: Arc<AtomicBool>) {
    let mut conn = connect(one, "vt").await;
    run(&mut conn, "SET sql_log_bin = 0").await;
    while !stop.load(Ordering::SeqCst) {
        run(&mut conn, "UPDATE busy SET v = v + 1").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unlogged_writes_to_other_engines_keep_rows_unproven() {
    for binary in of_kind("mysql") {
        let one = server(&binary).await;
        let engines = ["MyISAM", "MEMORY"];
        for (database, v) in [("vs", 1), ("vt", 2)] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE busy (v INT) ENGINE=MyISAM").await;
            run(&mut conn, "INSERT INTO busy VALUES (1)").await;
            for engine in engines {
                run(&mut conn, &format!("CREATE TABLE {engine} (id INT PRIMARY KEY, v INT) ENGINE={engine}"))
                    .await;
                run(&mut conn, &format!("INSERT INTO {engine} VALUES (1, {v}), (2, 2)")).await;
            }
        }
        let options = Options { confirm_within: Duration::from_millis(2500), ..Options::default() };
        let wanted = request([&one, &one], engines.map(TablePair::same).into(), options);
        let stop = Arc::new(AtomicBool::new(false));
        let compared = async {
            let found = report(&wanted).await;
            stop.store(true, Ordering::SeqCst);
            found
        };
        let (busy, ()) = tokio::join!(compared, writing(&one, stop.clone()));
        for table in &busy.tables {
            assert_eq!((table.verdict, table.unconfirmed_rows), (Verdict::NotProven, 1), "{table:?}");
            assert!(table.reasons.join(" ").contains("Handler_write"), "{table:?}");
        }
        let idle = report(&wanted).await;
        for table in &idle.tables {
            assert_eq!((table.verdict, table.mismatched_rows), (Verdict::Different, 1), "{table:?}");
        }
    }
}

/// The server shows such members as `?`, or as text that looks like their digits, and casts them to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_no_text_are_compared_by_their_bytes() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (database, members) in [("vs", "x'e9', x'e8', 'abc'"), ("vt", "x'e8', x'e9', 'abc'")] {
            let mut conn = fresh(&one, database).await;
            for (table, rows) in [
                ("same", "(1, x'e9'), (2, x'e8'), (3, 'abc'), (4, NULL)"),
                ("other", "(1, 1), (2, 2), (3, 3), (4, NULL)"),
            ] {
                let columns = format!("id INT PRIMARY KEY, e ENUM({members}) CHARACTER SET binary");
                run(&mut conn, &format!("CREATE TABLE {table} ({columns})")).await;
                run(&mut conn, &format!("INSERT INTO {table} VALUES {rows}")).await;
            }
        }
        let pairs = ["same", "other"].map(TablePair::same).into();
        let found = report(&request([&one, &one], pairs, Options::default())).await;
        let verdicts: Vec<_> = found.tables.iter().map(|t| (t.verdict, t.mismatched_rows)).collect();
        assert_eq!(verdicts, [(Verdict::Equal, 0), (Verdict::Different, 2)], "{}", found.to_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_server_made_and_hides_is_compared() {
    let hides =
        ["--sql-generate-invisible-primary-key=ON", "--show-gipk-in-create-table-and-information-schema=OFF"];
    for binary in of_kind("mysql") {
        let one = server_with(&binary, &hides).await;
        for (database, rows) in [("vs", "(10), (20)"), ("vt", "(20), (10)")] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE t (v INT)").await;
            run(&mut conn, &format!("INSERT INTO t VALUES {rows}")).await;
        }
        let found = report(&request([&one, &one], vec![TablePair::same("t")], Options::default())).await;
        assert_eq!(found.tables[0].key, ["my_row_id"], "{}", found.to_text());
        assert_eq!((found.verdict, found.tables[0].mismatched_rows), (Verdict::Different, 2));
    }
}

/// One side cannot build the image of the only row: that is not a row too few.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_one_side_cannot_digest_is_not_missing_there() {
    for binary in support::servers() {
        let (large, small) = (server(&binary).await, server(&binary).await);
        for (one, database) in [(&large, "vs"), (&small, "vt")] {
            let mut conn = fresh(one, database).await;
            for (table, key) in [("keyless", ""), ("keyed", "PRIMARY KEY")] {
                run(&mut conn, &format!("CREATE TABLE {table} (id INT {key}, v LONGBLOB)")).await;
                run(&mut conn, &format!("INSERT INTO {table} VALUES (1, REPEAT('x', 3000000))")).await;
            }
        }
        run(&mut connect(&small, "").await, "SET GLOBAL max_allowed_packet = 1048576").await;
        let pairs: Vec<_> = ["keyless", "keyed"].map(TablePair::same).into();
        let found = report(&request([&large, &small], pairs, Options::default())).await;
        for table in &found.tables {
            assert_ne!(table.verdict, Verdict::Different, "{table:?}");
            assert_eq!(table.unconfirmed_rows, 0, "{table:?}");
        }
    }
}

/// MariaDB keeps halves of surrogate pairs, which MySQL does not take from a client, not even to look for them.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_text_are_compared_and_told_apart() {
    const ODD: [(&str, [&str; 3]); 2] = [
        ("utf8mb3", ["eda080", "eda081", "61edb080"]),
        ("utf32", ["0000d800", "0000d801", "000000610000dc00"]),
    ];
    let (mut servers, mut names) = (Vec::new(), Vec::new());
    for binary in support::servers() {
        servers.push(server(&binary).await);
        names.push(binary.kind().to_owned());
    }
    let keeps = |at: usize| names[at] == "mariadb";
    for (from, to) in (0..names.len()).flat_map(|a| (0..names.len()).map(move |b| (a, b))) {
        for (set, odd) in ODD {
            for (at, database) in [(from, "vs"), (to, "vt")] {
                let mut conn = fresh(&servers[at], database).await;
                let key = format!("s VARCHAR(20) CHARACTER SET {set} COLLATE {set}_bin PRIMARY KEY");
                run(&mut conn, &format!("CREATE TABLE t ({key}, v INT)")).await;
                let rows: Vec<String> =
                    (0..20).map(|n| format!("('{}', {n})", char::from(b'a' + n))).collect();
                run(&mut conn, &format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
                for hex in odd.iter().filter(|_| keeps(at)) {
                    let v = if database == "vs" { 1 } else { 2 };
                    run(&mut conn, &format!("INSERT INTO t VALUES (_{set} x'{hex}', {v})")).await;
                }
            }
            for engine in [Engine::PushDown, Engine::Stream] {
                let options = Options {
                    engine,
                    first_chunk_rows: 1,
                    max_chunk_rows: 2,
                    quiet_window: Duration::from_millis(20),
                    ..Options::default()
                };
                let sides = [&servers[from], &servers[to]];
                let found = report(&request(sides, vec![TablePair::same("t")], options)).await;
                let table = &found.tables[0];
                let wanted = match [keeps(from), keeps(to)] {
                    [true, true] => [3, 0, 0],
                    [true, false] => [0, 3, 0],
                    [false, true] => [0, 0, 3],
                    _ => [0, 0, 0],
                };
                let counts = [table.mismatched_rows, table.extra_rows_source, table.extra_rows_target];
                assert_eq!(counts, wanted, "{engine:?} {set} {} {}: {table:?}", names[from], names[to]);
                let mut keys: Vec<&str> = table.rows.iter().filter_map(|row| row.key["s"].as_str()).collect();
                keys.sort_unstable();
                let mut named: Vec<String> = odd.iter().map(|hex| format!("0x{hex}")).collect();
                named.sort_unstable();
                named.truncate(keys.len());
                assert_eq!(keys, named, "{set}: {table:?}");
            }
        }
    }
}

/// What a report shows of long values is where they differ.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_are_shown_where_they_differ() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (database, c, b) in [("vs", "é", "a1"), ("vt", "è", "b2")] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY, c LONGTEXT, b LONGBLOB)").await;
            let text = format!("CONCAT(REPEAT('x', 250000), '{c}', REPEAT('y', 50000))");
            let bytes = format!("CONCAT(REPEAT(x'00', 70000), x'{b}', REPEAT(x'01', 9))");
            run(&mut conn, &format!("INSERT INTO t VALUES (1, {text}, {bytes})")).await;
        }
        let options = Options { quiet_window: Duration::from_millis(20), ..Options::default() };
        let found = report(&request([&one, &one], vec![TablePair::same("t")], options)).await;
        let values = |column: &str| {
            let values = &found.tables[0].rows[0].values[column];
            [&values.source, &values.target].map(|value| value.clone().unwrap())
        };
        // The letters have their first byte in common.
        let [source, target] = values("c");
        assert!(source.contains("xéy") && target.contains("xèy"), "{source} {target}");
        assert!(source.ends_with("… (300002 bytes, differs from byte 250002 on)"), "{source}");
        let [source, target] = values("b");
        let at = "(70010 bytes, differs from byte 70001 on)";
        let shown = |byte: &str| format!("…0x{}{byte}{} {at}", "00".repeat(30), "01".repeat(9));
        assert_eq!([source, target], [shown("a1"), shown("b2")]);
        let told = found.to_text();
        assert!(told.contains("xéy") && told.contains(at), "{told}");
        let page = found.to_html().unwrap();
        assert!(page.contains("<mark>é</mark>") && page.contains(at), "{page}");
    }
}
