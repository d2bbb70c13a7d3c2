//! What a table computes of its rows may draw warnings that say nothing of the rows: the move goes on. A value that does
//! not fit its column draws one as well, and stops it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::Flavor;
use mover::Mover;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use sql::{connect, execute};

/// A table's name, what it has besides the columns, and a text that the expression does not like.
type Case = (&'static str, &'static str, &'static str);

/// A column of each type, with a value, beside one that draws the warning: what was sent has to be found again.
macro_rules! types {
    () => {
        "g INT AS (n + 0) VIRTUAL, f FLOAT DEFAULT 1.1, d DOUBLE DEFAULT -0.0, m DECIMAL(9,3) ZEROFILL DEFAULT 1.5, \
         b BIT(9) DEFAULT b'101', y YEAR DEFAULT 2000, ti TIME(3) DEFAULT '-10:11:12.5', \
         dt DATETIME(2) DEFAULT '2020-02-03 04:05:06.78', ts TIMESTAMP(6) DEFAULT '2020-02-03 04:05:06.7', \
         da DATE DEFAULT '2020-02-29', l VARCHAR(9) CHARACTER SET latin1 DEFAULT 'é ', c CHAR(5) DEFAULT 'Ab', \
         s SET('a', 'b') DEFAULT 'a,b', e ENUM('x', 'y') DEFAULT 'y', p GEOMETRY DEFAULT (POINT(1, 2)), \
         h BINARY(4) DEFAULT 'a', v VARBINARY(9) DEFAULT 'x ', u BIGINT UNSIGNED DEFAULT 18446744073709551615"
    };
}

const COMMON: &[Case] = &[
    ("kept", "g INT AS (n + 0) STORED", "9 9"),
    ("virt", "g INT AS (n + 0) VIRTUAL", "9 9"),
    ("virtual_key", "g INT AS (n + 0) VIRTUAL, KEY (g)", "9 9"),
    ("short", "g VARCHAR(2) AS (CONCAT(n, 'x')) STORED", "abcd"),
    ("day", "g DATE AS (CAST(n AS DATE)) STORED", "no day"),
    // More than one unique value: rows are removed and added instead of changed.
    ("twice", "u INT UNIQUE, g INT AS (n + 0) VIRTUAL, e ENUM('a', 'b')", "9 9"),
];
const MYSQL: &[Case] = &[
    ("types", concat!(types!(), ", j JSON DEFAULT (JSON_ARRAY(CAST('2020-01-01' AS DATE), 1.0, 1))"), "9 9"),
    ("value", "g VARCHAR(50) AS (JSON_VALUE(n, '$.a')) STORED", "no json"),
    ("by_expression", "KEY ((n + 0))", "9 9"),
    ("by_text", "KEY ((CAST(n AS CHAR(2))))", "abcd"),
    ("checked", "CHECK (n + 0 < 100)", "9 9"),
];
const MARIADB: &[Case] = &[
    (
        "types",
        concat!(types!(), ", j JSON DEFAULT '[1.0]', i UUID DEFAULT UUID(), i6 INET6 DEFAULT '::1'"),
        "9 9",
    ),
    ("cut", "g VARCHAR(5) AS (CAST(n AS CHAR(5))) STORED", "abcdefghij"),
    ("cut_virtual", "g VARCHAR(5) AS (CAST(n AS CHAR(5))) VIRTUAL, KEY (g)", "abcdefghij"),
];
/// Not strict, so that every server takes such rows.
const LOOSE: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'";

fn cases(binary: &ServerBinary) -> Vec<Case> {
    let own = if binary.info.flavor == Flavor::MariaDb { MARIADB } else { MYSQL };
    [COMMON, own].concat()
}

async fn pair(binary: &ServerBinary, files: bool) -> (LocalServer, LocalServer) {
    let extra = vec![format!("--local-infile={}", u8::from(files))];
    let options = ServerOptions { extra, ..ServerOptions::named("target") };
    (support::start(binary, "source").await, LocalServer::start(binary, options).await.unwrap())
}

/// Rows from `first` on: every second one is disliked.
async fn insert(conn: &mut Conn, (table, _, text): Case, first: u32, rows: u32) {
    let row = |id: u32| format!("({id}, '{}')", if id.is_multiple_of(2) { text } else { "1" });
    let rows: Vec<String> = (first..first + rows).map(row).collect();
    execute(conn, &[&format!("INSERT INTO {table} (id, n) VALUES {}", rows.join(", "))]).await;
}

async fn changed(conn: &mut Conn, case: Case) {
    let (table, _, text) = case;
    execute(conn, &["BEGIN"]).await;
    insert(conn, case, 5000, 30).await;
    for statement in [
        format!("UPDATE {table} SET n = '{text}' WHERE id % 5 = 1"),
        format!("DELETE FROM {table} WHERE id % 7 = 2"),
        format!("INSERT INTO {table} (id, n) VALUES (2, '{text}'), (9000, '{text}')"),
        format!("UPDATE {table} SET n = '2' WHERE id = 9000"),
        format!("DELETE FROM {table} WHERE id = 5006"),
    ] {
        execute(conn, &[&statement]).await;
    }
    execute(conn, &["COMMIT"]).await;
    // Single rows, in transactions of their own.
    execute(conn, &[&format!("UPDATE {table} SET n = '{text}' WHERE id = 9000")]).await;
    insert(conn, case, 9002, 1).await;
    execute(conn, &[&format!("DELETE FROM {table} WHERE id = 9002")]).await;
}

/// All rows with all their columns. MariaDB's checksums of generated columns may differ where the rows do not.
async fn rows(conn: &mut Conn, table: &str) -> Vec<String> {
    let rows: Vec<Row> = conn.query(format!("SELECT * FROM {table} ORDER BY id")).await.unwrap();
    rows.into_iter().map(|row| format!("{:?}", row.unwrap())).collect()
}

async fn complaints(binary: &ServerBinary, files: bool, options: &[&str]) {
    eprintln!("complaints on {}, files {files}, {options:?}", binary.info);
    let (source, target) = pair(binary, files).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &[LOOSE]).await;
    let cases = cases(binary);
    for &case in &cases {
        let (table, more, _) = case;
        execute(&mut s, &[&format!("CREATE TABLE {table} (id INT PRIMARY KEY, n VARCHAR(30), {more})")])
            .await;
        insert(&mut s, case, 1, 300).await;
    }
    execute(&mut s, &["UPDATE twice SET u = id", "UPDATE twice SET e = 'no member' WHERE id % 3 = 0"]).await;
    let tables: Vec<&str> = cases.iter().map(|case| case.0).collect();
    let mut mover =
        Mover::new(&source, &target, &tables.join(",")).with(&["--chunk-rows", "120"]).with(options);
    mover.start();
    mover.wait_for("replicating");
    for &case in &cases {
        changed(&mut s, case).await;
    }
    execute(&mut s, &["UPDATE twice SET u = -u"]).await;
    mover.switch();
    for (table, ..) in &cases {
        let fenced = rows(&mut s, &format!("_{table}_fenced")).await;
        assert_eq!(fenced, rows(&mut t, table).await, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_expression_complains_of_stops_nothing() {
    for binary in support::servers() {
        for files in [true, false] {
            complaints(&binary, files, &[]).await;
        }
    }
}

/// Such a copy writes beside rows that are newer.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_expression_complains_of_stops_no_copy_under_locks() {
    for binary in support::servers() {
        complaints(&binary, true, &["--copy-strategy", "locking"]).await;
    }
}

/// How a value comes to the target that does not fit there.
#[derive(Debug, Clone, Copy)]
enum Way {
    Copy,
    Insert,
    Update,
    /// After others, in one transaction.
    Among,
}

async fn misfit(source: &LocalServer, target: &LocalServer, way: Way) {
    let (mut s, mut t) = (connect(source).await, connect(target).await);
    let create = |kind: &str| {
        format!("CREATE TABLE a (id INT PRIMARY KEY, n VARCHAR(30), x {kind}, g INT AS (n + 0) VIRTUAL)")
    };
    let gone = ["DROP TABLE IF EXISTS a, _a_fenced", "DROP DATABASE IF EXISTS _converge"];
    execute(&mut s, &[gone.as_slice(), &[LOOSE, &create("INT")]].concat()).await;
    execute(&mut t, &[gone.as_slice(), &[&create("SMALLINT")]].concat()).await;
    execute(&mut s, &["INSERT INTO a (id, n, x) VALUES (1, '9 9', 1), (2, '1', 2), (3, '9 9', 3)"]).await;
    if let Way::Copy = way {
        execute(&mut s, &["INSERT INTO a (id, n, x) VALUES (4, '9 9', 70000)"]).await;
    }
    let mut mover = Mover::new(source, target, "a");
    mover.start();
    if !matches!(way, Way::Copy) {
        mover.wait_for("replicating");
    }
    match way {
        Way::Copy => {}
        Way::Insert => execute(&mut s, &["INSERT INTO a (id, n, x) VALUES (4, '9 9', 70000)"]).await,
        Way::Update => execute(&mut s, &["UPDATE a SET n = '8 8', x = -70000 WHERE id = 2"]).await,
        Way::Among => {
            let among = "INSERT INTO a (id, n, x) VALUES (5, '9 9', 5), (6, '9 9', 70000), (7, '9 9', 7)";
            let change = "UPDATE a SET n = '7 7' WHERE id < 3";
            execute(&mut s, &["BEGIN", change, among, "DELETE FROM a WHERE id = 3", "COMMIT"]).await;
        }
    }
    assert_eq!(mover.ended(), 2, "{way:?}: {}", mover.log());
    assert!(mover.log().contains("a value did not fit its column"), "{way:?}: {}", mover.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_fit_stops_the_move_beside_an_expression_that_complains() {
    for binary in support::servers() {
        for files in [true, false] {
            let (source, target) = pair(&binary, files).await;
            for way in [Way::Copy, Way::Insert, Way::Update, Way::Among] {
                eprintln!("{way:?} on {}, files {files}", binary.info);
                misfit(&source, &target, way).await;
            }
        }
    }
}
