//! Tables that are on the target already: each pair of types that would alter values without a word is refused by its
//! column, and what is taken arrives as it was. VDiff is the judge.

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;

use crate::mover::{Mover, converge};
use crate::{check, connect, execute, found, support};

/// Types on the source and on the target: refused.
const ALTERING: &[(&str, &str)] = &[
    ("ENUM('a','b','c')", "ENUM('c','b','a')"),
    ("ENUM('a','B')", "ENUM('A','b')"),
    ("ENUM('a','b')", "VARCHAR(9)"),
    ("SET('a','b')", "SET('b','a')"),
    ("DECIMAL(10,4)", "DECIMAL(10,2)"),
    ("DATETIME(6)", "DATETIME"),
    ("DATETIME", "DATE"),
    ("TIME(6)", "TIME(3)"),
    ("DOUBLE", "FLOAT"),
    ("DOUBLE", "INT"),
    ("DOUBLE", "DECIMAL(20,4)"),
    ("DOUBLE", "FLOAT(7,4)"),
    ("BIGINT", "DOUBLE"),
    ("BIT(8)", "VARCHAR(9)"),
    ("VARCHAR(9)", "CHAR(9)"),
    ("VARCHAR(10)", "VARCHAR(3)"),
    ("VARBINARY(9)", "BINARY(9)"),
    ("BINARY(3)", "BINARY(4)"),
    ("TEXT", "TINYTEXT"),
    ("INT AS (a + 1) STORED", "INT"),
    ("INT AS (a + 1) STORED", "INT AS (a + 2) STORED"),
    ("INT", "INT AS (a + 1) STORED"),
];

/// Types on the source and on the target, and a value that shows what is lost: taken.
const HOLDING: &[(&str, &str, &str)] = &[
    ("INT UNSIGNED", "BIGINT", "4294967295"),
    ("TINYINT", "DECIMAL(3,0)", "-128"),
    ("DECIMAL(10,2)", "DECIMAL(12,4)", "99999999.99"),
    ("FLOAT", "DOUBLE", "1.1"),
    ("BIT(3)", "BIT(8)", "b'101'"),
    ("DATE", "DATETIME", "'2024-02-29'"),
    ("DATETIME(3)", "DATETIME(6)", "'2024-02-29 23:59:59.999'"),
    ("TIME", "TIME(6)", "'-838:59:59'"),
    ("CHAR(9)", "VARCHAR(9)", "'é'"),
    ("VARCHAR(9)", "TEXT", "'é  '"),
    ("VARCHAR(9) CHARACTER SET latin1", "VARCHAR(9)", "'é  '"),
    ("TEXT", "LONGTEXT", "REPEAT('é', 32767)"),
    ("BINARY(3)", "VARBINARY(3)", "x'010000'"),
    ("VARBINARY(9)", "BLOB", "x'00ff00'"),
    ("ENUM('a','b')", "ENUM('a','b','c')", "'b'"),
    ("SET('a','b')", "SET('a','b','c')", "'a,b'"),
    ("INT AS (a * 2) STORED", "INT AS (a * 2) VIRTUAL", "DEFAULT"),
];

fn table<'a>(name: &str, types: impl Iterator<Item = &'a str>) -> String {
    let columns: Vec<String> = types.enumerate().map(|(i, t)| format!(", c{i} {t}")).collect();
    format!("CREATE TABLE {name} (id INT PRIMARY KEY, a INT{}) CHARACTER SET utf8mb4", columns.concat())
}

async fn pairs(binary: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(binary, "source"), support::start(binary, "target"));
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let (from, to) = (source.address("shop"), target.address("shop"));
    execute(&mut s, &[&table("altered", ALTERING.iter().map(|p| p.0))]).await;
    execute(&mut t, &[&table("altered", ALTERING.iter().map(|p| p.1))]).await;
    let (code, report) = check(&from, &to, "altered", &[]);
    assert_eq!(code, 2);
    for i in 0..ALTERING.len() {
        found(&report, "refuse", "columns", &format!("column `c{i}` of "), "ALTER TABLE `shop`.`altered` ");
    }
    let values: Vec<String> = HOLDING.iter().map(|p| format!(", {}", p.2)).collect();
    let rows = |id: u8| format!("INSERT INTO held VALUES ({id}, 7{})", values.concat());
    execute(&mut s, &[&table("held", HOLDING.iter().map(|p| p.0)), &rows(1)]).await;
    execute(&mut t, &[&table("held", HOLDING.iter().map(|p| p.1))]).await;
    let mut mover = Mover::new(&source, &target, "held");
    mover.start();
    mover.wait_for("replicating");
    execute(&mut s, &[&rows(2)]).await;
    mover.switch();
    let output = converge()
        .args([
            "vdiff",
            "--source",
            &from.to_url(),
            "--target",
            &to.to_url(),
            "--tables",
            "_held_fenced=held",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    // What a server warns of stops the workflow; preflight says so and lets it begin.
    execute(&mut s, &["CREATE TABLE tight (id INT PRIMARY KEY, n BIGINT, v VARCHAR(9))"]).await;
    let create = "CREATE TABLE tight (id INT PRIMARY KEY, n INT, v VARCHAR(9) CHARACTER SET latin1)";
    execute(&mut t, &[create]).await;
    let (code, report) = check(&from, &to, "tight", &[]);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "warn", "columns", "`n`", "MODIFY `n` bigint");
    found(&report, "warn", "columns", "`v`", "MODIFY `v` varchar(9) CHARACTER SET utf8mb4");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_made_by_hand_hold_every_value_or_are_refused() {
    for binary in support::servers() {
        eprintln!("tables made by hand on {}", binary.info);
        pairs(&binary).await;
    }
}

/// Rows that come while others are copied are found in a later chunk's range, by the target's own key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_may_have_another_name_and_more_digits() {
    for binary in support::servers() {
        eprintln!("another key on {}", binary.info);
        let (source, target) =
            tokio::join!(support::start(&binary, "source"), support::start(&binary, "target"));
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(
            &mut s,
            &[
                "CREATE TABLE n (k DECIMAL(10,2) NOT NULL, v INT, UNIQUE KEY here (k))",
                "INSERT INTO n WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 900) SELECT i, i FROM r",
            ],
        )
        .await;
        execute(&mut t, &["CREATE TABLE n (k DECIMAL(12,4) NOT NULL, v INT, UNIQUE KEY there (k))"]).await;
        let pace = ["--chunk-rows", "100", "--copy-rows-per-second", "300"];
        let mut mover = Mover::new(&source, &target, "n").with(&pace);
        mover.start();
        mover.wait_until("some rows", |s| s["tables"][0]["rows_copied"].as_u64().is_some_and(|n| n > 0));
        execute(
            &mut s,
            &["INSERT INTO n VALUES (5000.25, 1), (5000.5, 2)", "UPDATE n SET v = 3 WHERE k > 5000"],
        )
        .await;
        mover.wait_for("replicating");
        mover.switch();
        let rows: Option<(u64, u64)> = mysql_async::prelude::Queryable::query_first(
            &mut t,
            "SELECT COUNT(*), SUM(v = 3 AND k > 5000) FROM n",
        )
        .await
        .unwrap();
        assert_eq!(rows, Some((902, 2)));
    }
}

/// Two collations of one name that order otherwise, and one order of two names.
#[tokio::test(flavor = "multi_thread")]
async fn a_collation_of_the_same_name_need_not_be_the_same() {
    let servers = support::servers();
    let of = |flavor| servers.iter().find(|b| b.info.flavor == flavor);
    let (Some(mysql), Some(mariadb)) = (of(Flavor::MySql), of(Flavor::MariaDb)) else { return };
    let (source, target) = tokio::join!(support::start(mysql, "source"), support::start(mariadb, "target"));
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let (from, to) = (source.address("shop"), target.address("shop"));
    let table = |name: &str, collation: &str| {
        format!("CREATE TABLE {name} (k VARCHAR(9) CHARACTER SET utf8mb4 COLLATE {collation} PRIMARY KEY)")
    };
    for name in ["other", "same", "made"] {
        execute(&mut s, &[&table(name, "utf8mb4_croatian_ci")]).await;
    }
    execute(
        &mut t,
        &[&table("other", "utf8mb4_croatian_ci"), &table("same", "utf8mb4_croatian_mysql561_ci")],
    )
    .await;
    let (code, report) = check(&from, &to, "other", &[]);
    assert_eq!(code, 2);
    found(
        &report,
        "refuse",
        "same_key",
        "order and compare keys differently",
        "utf8mb4_croatian_mysql561_ci",
    );
    assert_eq!(check(&from, &to, "same", &[]).0, 0);
    let mut mover = Mover::new(&source, &target, "made");
    mover.start();
    mover.wait_for("replicating");
    let made: Option<(String, String)> =
        mysql_async::prelude::Queryable::query_first(&mut t, "SHOW CREATE TABLE made").await.unwrap();
    assert!(made.unwrap().1.contains("utf8mb4_croatian_mysql561_ci"));
}
