//! Tables without a key: a multiset on both sides, exact to the byte.

use converge_chaos::server::ServerBinary;
use converge_mover::copy::Strategy;
use mysql_async::prelude::Queryable;

use super::mover::Mover;
use super::{SEED, assert_equal, connect, copied, execute, pair, support};

/// Columns whose values may look alike and are not the same; `{more}`: those of one product.
const LOOKALIKES: &str = "CREATE TABLE n (i INT, d DOUBLE, f FLOAT, c VARCHAR(9), l CHAR(9) CHARACTER SET latin1, \
    u VARCHAR(9) CHARACTER SET ucs2, b VARBINARY(9), fb BINARY(3), y YEAR, ti TIME(6), dt DATETIME(6), da DATE, ts TIMESTAMP NULL, \
    e ENUM('a','A1',''), st SET('x','y'), bits BIT(64), dec1 DECIMAL(65,30), t TEXT, j JSON, g GEOMETRY, \
    gen INT AS (i + 1) VIRTUAL, UNIQUE (i, c)) CHARACTER SET utf8mb4";

/// Each a row that differs from others only in what a comparison may not see.
const ROWS_ALIKE: &[&str] = &[
    "(d) VALUES (0e0), (-0e0), (-0e0), (5e-324), (0.1), (1.7976931348623157e308)",
    "(f) VALUES (0e0), (-0e0), (1.1), (16777215), (1.4e-45), (3.402823466e38)",
    "(c) VALUES ('a'), ('A'), ('A'), ('á'), ('a '), (''), ('😀')",
    "(l) VALUES ('a'), ('A'), ('á'), (''), ('ß'), ('ss')",
    "(u) VALUES ('a'), ('A'), ('á'), ('')",
    "(b) VALUES (x''), (x'00'), (x'0000'), ('a'), ('A')",
    "(fb) VALUES (x''), (x'20'), ('a')",
    "(y) VALUES (0), (2000), (1901), (2001)",
    "(ti) VALUES (0), ('-838:59:59'), ('00:00:00.000001'), ('-00:00:00.000001')",
    "(dt) VALUES (0), ('2024-02-30 01:02:03'), ('2024-00-00'), ('9999-12-31 23:59:59.999999')",
    "(da) VALUES (0), ('2024-00-00'), ('9999-12-31')",
    "(ts) VALUES (0), ('1970-01-01 00:00:01'), ('2038-01-19 03:14:07')",
    "(e) VALUES ('a'), ('A1'), (''), (0), (3)",
    "(st) VALUES (''), ('x'), ('x,y')",
    "(bits) VALUES (0), (1), (18446744073709551615)",
    "(dec1) VALUES (0), (0.000000000000000000000000000001), (99999999999999999999999999999999999.999999999999999999999999999999)",
    "(t) VALUES ('x'), ('X'), (REPEAT('é', 9000))",
    "(j) VALUES ('1'), ('1.0'), ('\"1\"'), ('[1, 2]'), ('[1.0, 2]'), ('{\"a\": 0.1, \"b\": \"é\"}'), ('null')",
    "(g) VALUES (ST_GeomFromText('POINT(1 2)')), (ST_GeomFromText('POINT(1 2)', 4326)), (ST_GeomFromText('POINT(2 1)'))",
    "(i, c) VALUES (NULL, 'x'), (NULL, 'x'), (2, NULL), (2, NULL)",
    "(i) VALUES (NULL), (NULL), (NULL)",
];

/// A table without a key is copied, followed and compared as a multiset, beside one that has a key.
async fn no_key(binary: &ServerBinary, strategy: Strategy) {
    eprintln!("no key, {strategy} on {}", binary.info);
    let (source, target) = pair(binary).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let lenient = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = '+00:00'";
    execute(&mut s, &[lenient, LOOKALIKES, "CREATE TABLE k (id INT PRIMARY KEY, x INT)"]).await;
    for row in ROWS_ALIKE {
        execute(&mut s, &[&format!("INSERT INTO n {row}"), &format!("INSERT INTO n {row}")]).await;
    }
    execute(&mut s, &["INSERT INTO n (i, c) VALUES (1, 'x'), (1, 'y'), (3, 'z')"]).await;
    execute(&mut s, &["INSERT INTO k VALUES (1, 1), (2, 2), (3, 3)"]).await;
    let slowly = ["--copy-strategy", strategy.name(), "--allow-no-key", "--chunk-rows", "20"];
    let mut mover = Mover::new(&source, &target, "k,n").with(&slowly).with(&["--copy-rows-per-second", "60"]);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) >= 20);
    mover.kill();
    execute(&mut s, &["UPDATE k SET x = x + 1", "DELETE FROM n WHERE i IS NULL AND c = 'A' LIMIT 1"]).await;
    mover.start();
    mover.wait_until("some rows again", |s| copied(s) >= 20);
    execute(&mut s, &["UPDATE n SET d = -d WHERE d = 0 LIMIT 1", "UPDATE n SET c = LOWER(c) LIMIT 30"]).await;
    mover.wait_for("replicating");
    // One of each pair of equal rows goes, another changes; what is left tells whether it was the right one.
    for row in ROWS_ALIKE {
        execute(&mut s, &[&format!("INSERT INTO n {row}")]).await;
    }
    let total: Option<u64> = s.query_first("SELECT COUNT(*) FROM n").await.unwrap();
    let changes = [
        format!("DELETE FROM n ORDER BY RAND({SEED}) LIMIT {}", total.unwrap() / 3),
        format!("UPDATE n SET st = 'y', b = 'new' ORDER BY RAND({SEED} + 1) LIMIT {}", total.unwrap() / 4),
        "UPDATE k SET id = id + 10".into(),
    ];
    for change in &changes {
        execute(&mut s, &[change]).await;
    }
    execute(
        &mut s,
        &["BEGIN", "INSERT INTO n (t) VALUES ('once')", "DELETE FROM n WHERE t = 'once'", "COMMIT"],
    )
    .await;
    mover.switch();
    assert_equal(&source, &target, "k,n");
    let negative = "SELECT COUNT(*) FROM n WHERE d = 0 AND LEFT(CONCAT(d), 1) = '-'";
    let wanted: Option<u64> = s.query_first(negative.replace("FROM n", "FROM _n_fenced")).await.unwrap();
    let found: Option<u64> = t.query_first(negative).await.unwrap();
    assert_eq!(found, wanted, "rows with a negative zero");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_a_key_are_moved_as_multisets() {
    for binary in support::servers() {
        for strategy in [Strategy::Watermark, Strategy::DeleteHistory, Strategy::Snapshot] {
            no_key(&binary, strategy).await;
        }
    }
}

/// A row of a table without a key that is not where it must be stops the workflow.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_row_of_a_table_without_a_key_is_an_alarm() {
    for binary in support::servers() {
        let (source, target) = pair(&binary).await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE n (c VARCHAR(9))", "INSERT INTO n VALUES ('a'), ('b')"]).await;
        let mut mover = Mover::new(&source, &target, "n").with(&["--allow-no-key"]);
        mover.start();
        mover.wait_for("replicating");
        execute(&mut t, &["UPDATE n SET c = 'A' WHERE c = 'a'"]).await;
        execute(&mut s, &["DELETE FROM n WHERE c = 'a'"]).await;
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("differs from the source"), "{}", mover.log());
    }
}
