//! Values that the target's column would round, cut or refuse, on real servers: their rows are left alone and named, all
//! others are repaired, and a script and its undo pass through.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff/repairing.rs"]
mod repairing;
#[path = "support/servers.rs"]
mod support;

use common::{fresh, report, request, run};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::repair::TableRepair;
use converge_vdiff::{Request, TablePair, Verdict};
use mysql_async::Conn;
use repairing::{all_servers, played, quick, repaired};

/// A table, the type of its column on each side, and the source's rows. Rows from 5 on are left alone by a script only:
/// what becomes of them is known when they are written. Rows from 10 on are left alone by a repair too.
type Case = (&'static str, [&'static str; 2], &'static str);

const CASES: &[Case] = &[
    ("short", ["VARCHAR(20)", "VARCHAR(5)"], "(1, 'ok'), (10, 'toolong'), (11, 'abcde ')"),
    ("latin", ["VARCHAR(20)", "VARCHAR(20) CHARACTER SET latin1"], "(1, 'é€ü'), (10, '😀'), (11, 'Ж')"),
    ("cyrillic", ["VARCHAR(20)", "VARCHAR(20) CHARACTER SET cp1251"], "(1, 'Привет'), (10, 'é'), (11, '?é')"),
    (
        "plane",
        ["TEXT", "TEXT CHARACTER SET utf8mb3"],
        "(1, REPEAT('a', 700)), (5, REPEAT('é', 400)), (10, CONCAT(REPEAT('é', 400), '😀')), (11, '😀')",
    ),
    ("whole", ["BIGINT", "INT"], "(1, -5), (2, 2147483647), (10, 2147483648)"),
    ("signed", ["INT", "INT UNSIGNED"], "(1, 5), (10, -5)"),
    (
        "exact",
        ["DECIMAL(20,6)", "DECIMAL(10,2)"],
        "(1, 1.5), (2, -99999999.99), (10, 2.123456), (11, 99999999999)",
    ),
    ("cut", ["DECIMAL(20,6)", "INT"], "(1, 7), (10, 7.5)"),
    ("years", ["INT", "YEAR"], "(1, 1999), (2, 0), (10, 5), (11, 1900)"),
    ("bits", ["INT", "BIT(4)"], "(1, 15), (10, 16)"),
    ("seconds", ["DATETIME(6)", "DATETIME"], "(1, '2020-01-01 00:00:00'), (10, '2020-01-01 00:00:00.5')"),
    (
        "moments",
        ["TIMESTAMP(6) NULL", "TIMESTAMP(3) NULL"],
        "(1, '2020-01-01 00:00:00.125'), (10, '2020-01-01 00:00:00.1255')",
    ),
    ("times", ["TIME(6)", "TIME(1)"], "(1, '-10:00:00.5'), (10, '10:00:00.55')"),
    ("days", ["DATETIME", "DATE"], "(1, '2020-02-03'), (10, '2020-02-03 10:00:00')"),
    (
        "stamps",
        ["DATETIME", "TIMESTAMP NULL"],
        "(1, '2020-03-29 02:30:00'), (2, '0000-00-00'), (10, '1969-01-01'), (11, '2040-01-01')",
    ),
    ("members", ["ENUM('a','b','c')", "ENUM('b','a')"], "(1, 'a'), (2, 'no member'), (10, 'c')"),
    ("errors", ["ENUM('a','b')", "VARCHAR(3)"], "(1, 'a'), (10, 'no member')"),
    ("sets", ["SET('a','b','c')", "SET('c','a')"], "(1, 'a,c'), (2, ''), (10, 'a,b')"),
    ("words", ["VARCHAR(9)", "SET('x','y')"], "(1, 'x,y'), (10, 'y,x'), (11, 'z')"),
    ("reals", ["DOUBLE", "FLOAT"], "(1, 0.5), (10, 0.1), (11, 1e300)"),
    ("rounded", ["DOUBLE", "DOUBLE(10,2)"], "(5, 0.25), (10, 0.126), (11, 0.126)"),
    ("unmoved", ["DOUBLE", "DOUBLE(10,2)"], "(10, 0.001)"),
    ("filled", ["VARBINARY(9)", "BINARY(4)"], "(1, 'abcd'), (10, 'ab'), (11, 'abcde')"),
    ("spaces", ["VARCHAR(9)", "CHAR(9)"], "(1, 'ab'), (10, 'ab ')"),
    ("tiny", ["TEXT", "TINYTEXT"], "(1, 'x'), (10, REPEAT('é', 128)), (11, REPEAT('x', 600))"),
    ("letters", ["LONGTEXT", "VARCHAR(1000)"], "(1, REPEAT('é', 900)), (10, REPEAT('é', 1001))"),
];

/// Documents have a type of their own on MySQL only.
const DOCUMENTS: Case =
    ("documents", ["VARCHAR(99)", "JSON"], "(1, '[1, 2]'), (10, 'none'), (11, '[0.1234567890123456789]')");

/// MariaDB stores no -0, however it is written.
fn zeros(sides: [&LocalServer; 2]) -> Case {
    let flavors = sides.map(|side| side.binary().info.flavor);
    match flavors == [Flavor::MySql, Flavor::MariaDb] {
        true => ("zeros", ["DOUBLE", "DOUBLE"], "(1, 0.1), (10, -0e0), (11, -0e0)"),
        false => ("zeros", ["DOUBLE", "DOUBLE"], "(1, 0.1), (2, -0e0), (3, -0e0)"),
    }
}

/// The source in `vs`, the target in `vt`, and the same target in `vd`.
async fn made(sides: [&LocalServer; 2], cases: &[Case]) {
    for (server, database, side) in [(sides[0], "vs", 0), (sides[1], "vt", 1), (sides[1], "vd", 1)] {
        let mut conn: Conn = fresh(server, database).await;
        run(&mut conn, "SET time_zone = '+00:00'").await;
        for (table, types, rows) in cases {
            let rows = if side == 0 { rows } else { "(1, NULL), (10, NULL), (100, NULL)" };
            run(&mut conn, &format!("CREATE TABLE {table} (id INT PRIMARY KEY, v {} )", types[side])).await;
            run(&mut conn, &format!("INSERT INTO {table} VALUES {rows}")).await;
            // What the target makes of the source's value.
            if side == 1 && *table == "unmoved" {
                run(&mut conn, "UPDATE unmoved SET v = 0 WHERE id = 10").await;
            }
        }
    }
}

fn ids(rows: impl Iterator<Item = String>) -> Vec<u32> {
    let mut ids: Vec<u32> = rows.map(|row| row.trim_start_matches("`id` = ").parse().unwrap()).collect();
    ids.sort_unstable();
    ids
}

/// The source's rows from an id on.
fn left(case: &Case, from: u32) -> Vec<u32> {
    let starts = case.2.split('(').filter_map(|row| row.split_once(',')?.0.parse::<u32>().ok());
    starts.filter(|id| *id >= from && *id < 100).collect()
}

/// That these rows are left alone, each for its column.
fn named(table: &TableRepair, wanted: &[u32]) {
    assert_eq!(table.refused, None);
    assert_eq!(ids(table.missed.iter().map(|m| m.row.clone())), wanted, "{table:?}");
    for missed in &table.missed {
        let server = missed.why.contains("'v'") || missed.why.contains(".`v`");
        let told = ["alter the target's column", "make the target's column", "write 0 on the source"]
            .iter()
            .any(|w| missed.why.contains(w));
        assert!(server || told && missed.why.contains("column v"), "{}: {missed:?}", table.table);
        let may_be_it =
            !missed.why.contains("has changed") || missed.why.contains("or the target makes another");
        assert!(may_be_it, "{}: {missed:?}", table.table);
    }
}

/// That of each table just these rows differ.
async fn differ(request: &Request, cases: &[Case], from: u32) {
    let report = report(request).await;
    for case in cases {
        let table = report.tables.iter().find(|t| t.table == case.0).unwrap();
        let keys = table.rows.iter().map(|row| row.key.values().next().unwrap().to_string().replace('"', ""));
        assert_eq!(ids(keys), left(case, from), "{}: {:?}", case.0, table.rows);
    }
}

async fn exactly(sides: [&LocalServer; 2]) {
    let mut cases = CASES.to_vec();
    cases.push(zeros(sides));
    cases.extend((sides[1].binary().info.flavor == Flavor::MySql).then_some(DOCUMENTS));
    made(sides, &cases).await;
    let tables: Vec<TablePair> = cases.iter().map(|case| TablePair::same(case.0)).collect();
    let asked = request(sides, tables.clone(), quick());
    let directory = tempfile::tempdir().unwrap();
    let (script, undo) = (directory.path().join("r.sql"), directory.path().join("r.undo.sql"));

    let (_, done) = repaired(&asked, Some(&script), false).await;
    for (case, table) in cases.iter().zip(&done.tables) {
        named(table, &left(case, 5));
    }
    played(sides[1], &script);
    differ(&asked, &cases, 5).await;
    played(sides[1], &undo);
    let mut former = request([sides[1]; 2], tables, quick());
    former.source = vec![sides[1].address("vd")];
    assert_eq!(report(&former).await.verdict, Verdict::Equal);

    let (after, done) = repaired(&asked, None, true).await;
    for (case, table) in cases.iter().zip(&done.tables) {
        let wanted = left(case, 10);
        named(table, &wanted);
        let verdict = after.tables.iter().find(|t| t.table == case.0).unwrap().verdict;
        let different = if wanted.is_empty() { Verdict::Equal } else { Verdict::Different };
        assert_eq!(verdict, different, "{}", case.0);
    }
    differ(&asked, &cases, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_cannot_hold_exactly_is_left_alone() {
    let servers = all_servers().await;
    for source in &servers {
        for target in &servers {
            exactly([source, target]).await;
        }
    }
}

/// Of rows without a key it cannot be seen which one was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_key_is_written_only_where_its_column_surely_holds_it() {
    for one in all_servers().await {
        for (database, kind, rows) in [
            ("vs", "DOUBLE", "(0.126, 1), (0.5, 2), (NULL, 3)"),
            ("vt", "DOUBLE(10,2)", "(0.13, 1), (0.5, 2)"),
        ] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, &format!("CREATE TABLE t (v {kind}, w INT)")).await;
            run(&mut conn, &format!("INSERT INTO t VALUES {rows}")).await;
        }
        let asked = request([&one, &one], vec![TablePair::same("t")], quick());
        let (after, done) = repaired(&asked, None, true).await;
        let table = &done.tables[0];
        assert_eq!((table.repaired_rows, table.missed_rows), (2, 1), "{done:?}");
        assert!(table.missed[0].why.contains("alter the target's column first"), "{done:?}");
        assert_eq!((after.verdict, table.still_differing_rows), (Verdict::Different, Some(1)), "{done:?}");
    }
}

/// What only the server knows of a column: what it refuses does not end the repair.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_server_refuses_is_left_alone() {
    for one in all_servers().await.iter().filter(|one| one.binary().info.flavor == Flavor::MySql) {
        let places = "(1, ST_GeomFromText('POINT(1 1)')), (2, NULL)";
        for (database, srid, rows) in [("vs", "", places), ("vt", "SRID 4326", "(1, NULL)")] {
            let mut conn = fresh(one, database).await;
            run(&mut conn, &format!("CREATE TABLE t (id INT PRIMARY KEY, v POINT {srid})")).await;
            run(&mut conn, &format!("INSERT INTO t VALUES {rows}")).await;
        }
        let (after, done) =
            repaired(&request([one, one], vec![TablePair::same("t")], quick()), None, true).await;
        let table = &done.tables[0];
        assert_eq!((table.repaired_rows, table.missed_rows), (1, 1), "{done:?}");
        assert!(table.missed[0].why.contains("SRID"), "{done:?}");
        assert_eq!(after.verdict, Verdict::Different);
    }
}
