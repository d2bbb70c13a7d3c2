//! Preflight on real servers: what `move check` finds, by name, weight and fix, and that it writes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "preflight/definitions.rs"]
mod definitions;
#[path = "preflight/hand_made.rs"]
mod hand_made;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "support/mover.rs"]
mod mover;
#[path = "support/servers.rs"]
mod support;

use std::process::Command;

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Address, Connector, Flavor, Version};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

async fn connect(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    execute(&mut conn, &["CREATE DATABASE shop", "USE shop"]).await;
    conn
}

async fn execute(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// Exit code and report of `move check`.
fn check(source: &Address, target: &Address, tables: &str, more: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_converge"));
    command.args(["move", "check", "--source", &source.to_url(), "--target", &target.to_url()]);
    let output = command.args(["--tables", tables, "--format", "json"]).args(more).output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// Whether the report has a finding of this weight and name, whose text has both words.
fn found(report: &Value, weight: &str, name: &str, word: &str, fix: &str) {
    let findings = report["findings"].as_array().unwrap();
    let yes = findings.iter().any(|f| {
        let has = |field: &str, word: &str| f[field].as_str().unwrap_or_default().contains(word);
        f["weight"] == weight && f["name"] == name && has("what", word) && has("fix", fix)
    });
    assert!(yes, "no {weight} {name} with {word:?} and {fix:?}: {report:#}");
}

async fn questions(binary: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(binary, "source"), support::start(binary, "target"));
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let (from, to) = (source.address("shop"), target.address("shop"));
    execute(
        &mut s,
        &[
            "CREATE TABLE good (id INT PRIMARY KEY, v VARCHAR(9))",
            "CREATE TABLE plain (a INT, b VARCHAR(20) NOT NULL, UNIQUE (a), UNIQUE (b(3)))",
            "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES good (id) ON DELETE CASCADE)",
            "CREATE TABLE full (id INT PRIMARY KEY, u VARCHAR(9) COLLATE utf8mb4_bin UNIQUE)",
            "CREATE TRIGGER tr BEFORE INSERT ON full FOR EACH ROW SET NEW.u = 'x'",
        ],
    )
    .await;
    let (code, report) = check(&from, &to, "good", &[]);
    assert_eq!((code, report["verdict"].as_str()), (0, Some("pass")), "{report:#}");
    assert_eq!(report["format"], 1);
    assert!(report["not_checked"].as_array().unwrap().iter().any(|n| n.as_str().unwrap().contains("disk")));
    for name in [
        "binlog_row_image",
        "binlog_format",
        "binlog_filters",
        "replication",
        "privileges",
        "key",
        "xa_prepared",
    ] {
        found(&report, "pass", name, "", "");
    }
    let databases: Option<u64> = t
        .query_first("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '_converge'")
        .await
        .unwrap();
    assert_eq!(databases, Some(0), "check wrote to the target");

    let (code, report) = check(&from, &to, "plain", &[]);
    assert_eq!(code, 2);
    found(&report, "refuse", "key", "may hold NULL in `a`", "ADD PRIMARY KEY");
    found(&report, "refuse", "key", "first 3 of `b`", "--allow-no-key");
    assert_eq!(check(&from, &to, "plain", &["--allow-no-key"]).0, 0);

    execute(
        &mut t,
        &[
            "CREATE TABLE full (id INT PRIMARY KEY, u VARCHAR(9) COLLATE utf8mb4_general_ci UNIQUE, n INT NOT NULL)",
            "INSERT INTO full VALUES (1, 'a', 1)",
            "CREATE TRIGGER tr BEFORE INSERT ON full FOR EACH ROW SET NEW.u = 'x'",
            "CREATE TABLE parent (id INT PRIMARY KEY)",
            "CREATE TABLE good (id INT PRIMARY KEY, v VARCHAR(9), FOREIGN KEY (id) REFERENCES parent (id))",
        ],
    )
    .await;
    execute(&mut s, &["CREATE TABLE _good_fenced (id INT PRIMARY KEY)"]).await;
    let (code, report) = check(&from, &to, "good", &[]);
    assert_eq!(code, 0);
    found(&report, "warn", "foreign_keys_unchecked", "good_ibfk_1", "add them after it");
    found(
        &report,
        "warn",
        "fenced_name",
        "`_good_fenced` is on the source",
        "DROP TABLE `shop`.`_good_fenced`",
    );
    execute(&mut s, &["DROP TABLE _good_fenced"]).await;
    execute(&mut t, &["DROP TABLE good, parent"]).await;

    let (code, report) = check(&from, &to, "full,child", &[]);
    assert_eq!(code, 2);
    found(&report, "refuse", "target_table", "has rows", "TRUNCATE");
    found(&report, "refuse", "triggers", "would fire again", "DROP TRIGGER `shop`.`tr`");
    found(&report, "refuse", "unique_keys", "utf8mb4_general_ci", "DROP INDEX `u`");
    found(&report, "refuse", "extra_columns", "`n`", "DROP COLUMN");
    found(&report, "warn", "triggers", "has triggers (tr)", "");
    found(&report, "warn", "foreign_key_parents", "`shop`.`good`", "");
    cascades(binary, &mut s, &source, &to).await;
    settings(binary, &mut s, &from, &to).await;
}

/// Cascades are seen by an account that may read the table and no more.
async fn cascades(binary: &ServerBinary, s: &mut Conn, source: &LocalServer, to: &Address) {
    let client = match binary.info.flavor {
        Flavor::MySql => "REPLICATION CLIENT",
        Flavor::MariaDb => "BINLOG MONITOR, SLAVE MONITOR",
    };
    execute(
        s,
        &[
            "CREATE USER 'reader'@'127.0.0.1'",
            "GRANT SELECT ON shop.* TO 'reader'@'127.0.0.1'",
            &format!("GRANT {client} ON *.* TO 'reader'@'127.0.0.1'"),
        ],
    )
    .await;
    let reader = Address { user: "reader".into(), ..source.address("shop") };
    execute(s, &["SET GLOBAL read_only = 1"]).await;
    let (_, report) = check(&reader, to, "child", &[]);
    found(&report, "refuse", "read_only", "the source has read_only = ON", "SET GLOBAL read_only = OFF");
    found(&check(&source.address("shop"), to, "good", &[]).1, "pass", "read_only", "the source", "");
    execute(s, &["SET GLOBAL read_only = 0"]).await;

    let (code, report) = check(&reader, to, "child", &[]);
    assert_eq!(code, 2);
    found(
        &report,
        "refuse",
        "privileges",
        "REPLICATION SLAVE on *.*",
        "GRANT REPLICATION SLAVE ON *.* TO 'reader'@'127.0.0.1'",
    );
    found(&report, "refuse", "privileges", "INSERT, UPDATE, DELETE, CREATE on `_converge`.*", "GRANT ");
    found(
        &report,
        "warn",
        "privileges",
        "which switch-traffic needs",
        "GRANT ALTER, DROP, CREATE, INSERT ON `shop`.`child`",
    );
    if binary.info.flavor == Flavor::MariaDb {
        found(&report, "refuse", "foreign_key_cascades", "child_ibfk_1", "DROP FOREIGN KEY");
        let (_, report) = check(&reader, to, "child", &["--i-know"]);
        found(&report, "warn", "foreign_key_cascades", "child_ibfk_1", "--i-know");
    } else {
        found(
            &report,
            "warn",
            "foreign_key_cascades",
            "cascades from `shop`.`good`, which is not moved",
            "move `shop`.`good`",
        );
        let (_, report) = check(&reader, to, "child,good", &[]);
        found(&report, "pass", "foreign_key_cascades", "logs what cascades change", "");
        found(&report, "warn", "xa_prepared", "cannot be seen", "XA_RECOVER_ADMIN");
    }
}

/// Each setting that must not be is named with the statement that sets it right.
async fn settings(binary: &ServerBinary, s: &mut Conn, from: &Address, to: &Address) {
    let mut cases = vec![
        ("binlog_format = 'MIXED'", "refuse", "binlog_format", "SET GLOBAL binlog_format = 'ROW'"),
        (
            "binlog_row_image = 'MINIMAL'",
            "refuse",
            "binlog_row_image",
            "SET GLOBAL binlog_row_image = 'FULL'",
        ),
        (
            "binlog_expire_logs_seconds = 600",
            "warn",
            "binlog_retention",
            "SET GLOBAL binlog_expire_logs_seconds",
        ),
        (
            "max_allowed_packet = 134217728",
            "warn",
            "max_allowed_packet",
            "SET GLOBAL max_allowed_packet = 134217728",
        ),
    ];
    if binary.info.flavor == Flavor::MariaDb && binary.info.version >= Version(10, 8, 0) {
        let fix = "SET GLOBAL binlog_alter_two_phase = OFF";
        cases.push(("binlog_alter_two_phase = ON", "refuse", "binlog_alter_two_phase", fix));
    }
    if binary.info.flavor == Flavor::MySql {
        cases.push((
            "binlog_order_commits = OFF",
            "refuse",
            "binlog_order_commits",
            "binlog_order_commits = ON",
        ));
        cases.push((
            "binlog_row_value_options = 'PARTIAL_JSON'",
            "refuse",
            "binlog_row_value_options",
            "SET GLOBAL binlog_row_value_options = ''",
        ));
    }
    for (setting, weight, name, fix) in cases {
        let variable = setting.split(' ').next().unwrap();
        let before: Option<String> =
            s.query_first(format!("SELECT CAST(@@GLOBAL.{variable} AS CHAR)")).await.unwrap();
        execute(s, &[&format!("SET GLOBAL {setting}")]).await;
        let (code, report) = check(from, to, "good", &[]);
        assert_eq!(code, if weight == "refuse" { 2 } else { 0 }, "{setting}");
        found(&report, weight, name, "", fix);
        let before = before.unwrap();
        let number = before.parse::<u64>().is_ok();
        let literal = if number { before } else { format!("'{before}'") };
        execute(s, &[&format!("SET GLOBAL {variable} = {literal}")]).await;
    }
    execute(s, &["XA START 'x'", "INSERT INTO shop.good VALUES (77, 'xa')", "XA END 'x'", "XA PREPARE 'x'"])
        .await;
    let (code, report) = check(from, to, "good", &[]);
    assert_eq!(code, 2);
    found(&report, "refuse", "xa_prepared", "prepared on the source", "XA COMMIT or XA ROLLBACK");
    execute(s, &["XA ROLLBACK 'x'"]).await;
    assert_eq!(check(from, to, "good", &[]).0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_by_name() {
    for binary in support::servers() {
        eprintln!("preflight on {}", binary.info);
        questions(&binary).await;
    }
}
