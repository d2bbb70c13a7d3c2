//! The mover between real servers: values through copy and binlog, resumption, the switch, and refusals.

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
use sql::{assert_same, connect, execute, wait_same};

/// Columns of many types; `{json}` and the like differ between the products.
const TYPES: &str = "CREATE TABLE v (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, \
    t TINYINT, tu TINYINT UNSIGNED, s SMALLINT, m MEDIUMINT, mu MEDIUMINT UNSIGNED, i INT, b BIGINT, bu BIGINT UNSIGNED, \
    d DECIMAL(65,30), d2 DECIMAL(9,2), f FLOAT, g DOUBLE, bits BIT(13), bits64 BIT(64), y YEAR, \
    da DATE, dt DATETIME, dt6 DATETIME(6), ts TIMESTAMP NULL, ts3 TIMESTAMP(3) NULL, ti TIME, ti1 TIME(1), ti6 TIME(6), \
    c CHAR(10), v VARCHAR(300), l VARCHAR(20) CHARACTER SET latin1, u3 VARCHAR(20) CHARACTER SET utf8mb3, \
    u2 VARCHAR(20) CHARACTER SET ucs2, u16 CHAR(20) CHARACTER SET utf16, bi BINARY(6), vb VARBINARY(300), \
    tx TEXT, bl BLOB, mb MEDIUMBLOB, e ENUM('a','','é'), st SET('x','y','z'), j JSON, po POINT, \
    gen INT AS (i + 1) STORED, vir INT AS (i + 2) VIRTUAL, KEY (i)) CHARACTER SET utf8mb4";

const VALUES: &[&str] = &[
    "INSERT INTO v (id) VALUES (0)",
    "INSERT INTO v (id, t, tu, s, m, mu, i, b, bu) VALUES (18446744073709550000, -128, 255, -32768, -8388608, 16777215, \
     -2147483648, -9223372036854775808, 18446744073709551615)",
    "INSERT INTO v (d, d2, f, g) VALUES (99999999999999999999999999999999999.999999999999999999999999999999, -0.01, 1.2345678, 0.1)",
    "INSERT INTO v (d, f, g) VALUES (-0.000000000000000000000000000001, -3.402823466e38, -1.7976931348623157e308)",
    "INSERT INTO v (f, g) VALUES (1.4e-45, 5e-324), (16777215, 9007199254740993), (-0e0, -0e0)",
    "INSERT INTO v (bits, bits64, y) VALUES (b'1000000000001', 18446744073709551615, 1901), (0, 0, 0), (1, 1, 2155)",
    "INSERT INTO v (da, dt, dt6, ts, ts3) VALUES ('0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', 0), \
     ('9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999999', '2038-01-19 03:14:07', '2038-01-19 03:14:07.999'), \
     ('2024-00-00', '2024-02-30 01:02:03', '2024-02-29 00:00:00.000001', '1970-01-01 00:00:01', '2024-03-31 02:30:00.5')",
    "INSERT INTO v (ti, ti1, ti6) VALUES ('-838:59:59', '-00:00:00.5', '-838:59:58.999999'), ('838:59:59', '838:59:58.9', '-00:00:00.000001'), (0, 0, 0)",
    "INSERT INTO v (c, v, l, u3, u2, u16) VALUES ('trail  ', 'trail  ', 'déjà', '€', 'žluť', '😀'), ('', '', '', '', '', ''), \
     ('😀', 'quote '' back \\\\ nul \\0 nl \\n', 'x', 'x', 'x', 'x')",
    "INSERT INTO v (bi, vb, bl) VALUES (x'000100', x'0001000000', x'00ff00'), (x'', x'', x''), (x'200000000020', REPEAT(x'ff', 300), x'27')",
    "INSERT INTO v (tx, mb) VALUES (REPEAT('long é ', 5000), REPEAT(x'deadbeef00', 50000))",
    "INSERT INTO v (e, st) VALUES ('a', 'x,z'), ('', ''), ('é', 'y')",
    "INSERT INTO v (j) VALUES ('{\"a\": [1, 1.0, \"1\", null, true, {\"ž\": \"😀\\\\n\"}], \"b\": -9007199254740993}'), ('null'), ('[]'), ('1e300'), ('\"\"')",
    "INSERT INTO v (po) VALUES (ST_GeomFromText('POINT(1 2)', 4326))",
    "INSERT INTO v (i) VALUES (41)",
];

const LENIENT: &str = "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'";

/// Half of the values go in before the move, so that they are copied; the other half after the copy, so that they come
/// by the binary log; then all of them are updated.
async fn values_cross(binary: &ServerBinary, files: bool) {
    let extra = vec![format!("--local-infile={}", u8::from(files))];
    let options = ServerOptions { extra, ..ServerOptions::named("target") };
    let (source, target) =
        (support::start(binary, "source").await, LocalServer::start(binary, options).await.unwrap());
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &[LENIENT, TYPES, &TYPES.replace("TABLE v", "TABLE logged")]).await;
    execute(&mut s, VALUES).await;
    let mut mover = Mover::new(&source, &target, "v=w,logged");
    mover.start();
    mover.wait_for("replicating");
    assert_same(&mut s, "v", &mut t, "w").await;
    assert_ne!(mover.log().contains("local_infile"), files, "{}", mover.log());
    for sql in VALUES {
        execute(&mut s, &[&sql.replace("INTO v", "INTO logged")]).await;
    }
    execute(&mut s, &["UPDATE v SET i = 7, v = CONCAT(v, '!')", "DELETE FROM v WHERE id BETWEEN 3 AND 5"])
        .await;
    execute(&mut s, &["UPDATE logged SET id = id + 1000 WHERE id < 8"]).await;
    mover.switch();
    let fenced: u64 = s.query_first("SELECT COUNT(*) FROM _v_fenced").await.unwrap().unwrap();
    assert!(fenced > 20);
    assert_same(&mut s, "_v_fenced", &mut t, "w").await;
    assert_same(&mut s, "_logged_fenced", &mut t, "logged").await;
    let complete = mover.command("complete", &[]);
    assert!(complete.status.success());
    assert_eq!(mover.ended(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_by_copy_and_by_binlog() {
    for binary in support::servers() {
        for files in [true, false] {
            eprintln!("values on {}, as files: {files}", binary.info);
            values_cross(&binary, files).await;
        }
    }
}

/// Composite string keys whose collation ignores case, walked in chunks of three rows.
async fn keys_are_walked(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let ddl = [
        "CREATE TABLE k1 (a VARCHAR(20), b INT, c VARBINARY(8), x INT, PRIMARY KEY (a, b, c)) CHARACTER SET utf8mb4",
        "CREATE TABLE k2 (a DECIMAL(20,5) PRIMARY KEY, x INT)",
        "CREATE TABLE k3 (a DATETIME(3), b ENUM('z','a','m'), x INT, PRIMARY KEY (b, a))",
        "CREATE TABLE k4 (x INT, a BIGINT UNSIGNED NOT NULL, n INT, UNIQUE (n), UNIQUE (a))",
        "CREATE TABLE k5 (a CHAR(4) CHARACTER SET latin1 PRIMARY KEY, x INT)",
        "CREATE TABLE k6 (a BIT(20) PRIMARY KEY, x INT)",
        "CREATE TABLE k7 (a BINARY(3) PRIMARY KEY, x INT)",
        "CREATE TABLE k8 (a INT PRIMARY KEY)",
    ];
    execute(&mut s, &ddl).await;
    for i in 0..40 {
        let sql = [
            format!(
                "INSERT INTO k1 VALUES (CONCAT('{}', CHAR(65 + {i} % 7 USING utf8mb4)), {i} % 3 - 1, x'{i:02x}00', 0)",
                ["é", "E", "", "x y"][i % 4]
            ),
            format!("INSERT INTO k2 VALUES ({i} * 1000.00001 - 9000, 0)"),
            format!("INSERT INTO k3 VALUES ('2020-01-01' + INTERVAL {i} * 37 SECOND, 1 + {i} % 3, 0)"),
            format!(
                "INSERT INTO k4 VALUES (0, 18446744073709551615 - {i} * 1000000007, {})",
                if i % 5 == 0 { "NULL".into() } else { i.to_string() }
            ),
            format!("INSERT INTO k5 VALUES ('{}é', 0)", (b'a' + (i % 26) as u8) as char)
                .replace("'zé'", "'ZÉ'"),
            format!("INSERT INTO k6 VALUES ({i} * 20000, 0)"),
            format!("INSERT INTO k7 VALUES (x'{:02x}{:02x}', 0)", i * 5, i),
        ];
        for statement in &sql {
            if s.query_drop(statement.as_str()).await.is_err() {
                assert!(statement.contains("k5"), "{statement}");
            }
        }
    }
    let mut mover = Mover::new(&source, &target, "k1,k2,k3,k4,k5,k6,k7,k8").with(&["--chunk-rows", "3"]);
    mover.start();
    mover.wait_for("replicating");
    for table in ["k1", "k2", "k3", "k4", "k5", "k6", "k7"] {
        assert_same(&mut s, table, &mut t, table).await;
        let update = format!("UPDATE {table} SET x = 1");
        execute(&mut s, &[&update]).await;
    }
    let moves = [
        "UPDATE k1 SET a = LOWER(a)",
        "UPDATE k2 SET a = -a ORDER BY a DESC",
        "DELETE FROM k3 WHERE b = 'a'",
        "UPDATE k4 SET a = a - 1 ORDER BY a",
        "UPDATE k5 SET a = UPPER(a)",
        "DELETE FROM k6 WHERE a < 100000",
        "UPDATE k7 SET a = x'aa0000' WHERE a = x'0a0200'",
    ];
    execute(&mut s, &moves).await;
    mover.switch();
    for table in ["k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"] {
        assert_same(&mut s, &format!("_{table}_fenced"), &mut t, table).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_are_walked_to_the_end() {
    for binary in support::servers() {
        eprintln!("keys on {}", binary.info);
        keys_are_walked(&binary).await;
    }
}

/// Everybody is killed once in the middle of the copy while rows change.
async fn kills_are_survived(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &["CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, u INT UNIQUE, x INT NOT NULL DEFAULT 0)"],
    )
    .await;
    execute(&mut s, &["INSERT INTO n (u) VALUES (1)"]).await;
    for _ in 0..13 {
        execute(&mut s, &["INSERT INTO n (u) SELECT u + (SELECT MAX(u) FROM n) FROM n"]).await;
    }
    let options = ["--chunk-rows", "100", "--copy-rows-per-second", "2000"];
    let mut mover = Mover::new(&source, &target, "n").with(&options);
    mover.start();
    let copied = |s: &serde_json::Value| s["tables"][0]["rows_copied"].as_u64().unwrap_or(0);
    mover.wait_until("some rows", |s| copied(s) >= 500);
    execute(&mut s, &["UPDATE n SET x = x + 1, u = -u WHERE id % 3 = 0", "DELETE FROM n WHERE id % 7 = 0"])
        .await;
    mover.kill();
    execute(&mut s, &["UPDATE n SET id = id + 100000 WHERE id % 11 = 0"]).await;
    mover.start();
    let before = copied(&mover.wait_until("more rows", |s| copied(s) >= 1500));
    drop(s);
    source.kill().await.unwrap();
    source.restart().await.unwrap();
    let mut s = connect(&source).await;
    execute(&mut s, &["UPDATE n SET u = u + 1000000 WHERE id < 5000"]).await;
    let before = copied(&mover.wait_until("rows after the source's restart", |s| copied(s) > before + 500));
    drop(t);
    target.kill().await.unwrap();
    target.restart().await.unwrap();
    execute(&mut s, &["DELETE FROM n WHERE id % 13 = 0", "INSERT INTO n (u) VALUES (-5000000)"]).await;
    mover.wait_until("rows after the target's restart", |s| copied(s) > before + 500);
    mover.wait_for("replicating");
    mover.switch();
    t = connect(&target).await;
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_all_three_processes_are_survived() {
    for binary in support::servers() {
        eprintln!("kills on {}", binary.info);
        kills_are_survived(&binary).await;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What cannot be right is refused with the cause and the way out, and leaves nothing behind.
async fn refusals(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &[
            "CREATE TABLE plain (a INT)",
            "CREATE TABLE good (a INT PRIMARY KEY)",
            "CREATE VIEW looks AS SELECT 1",
        ],
    )
    .await;
    execute(&mut s, &["CREATE TABLE my (a INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO good VALUES (1)"])
        .await;
    execute(&mut t, &["CREATE TABLE full (a INT PRIMARY KEY)", "INSERT INTO full VALUES (1)"]).await;
    let cases = [
        ("plain", "--allow-no-key"),
        ("missing", "there is no table `shop`.`missing`"),
        ("looks", "VIEW"),
        ("my", "MyISAM"),
        ("good=full", "has rows"),
    ];
    for (tables, word) in cases {
        let output = Mover::new(&source, &target, tables).run();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{tables}: {error}");
        assert!(error.contains(word) && error.contains("what to do:"), "{tables}: {error}");
    }
    execute(&mut s, &["SET GLOBAL binlog_row_image = 'MINIMAL'"]).await;
    let error = text(&Mover::new(&source, &target, "good").run().stderr);
    assert!(
        error.contains("binlog_row_image") && error.contains("SET GLOBAL binlog_row_image = 'FULL'"),
        "{error}"
    );
    execute(&mut s, &["SET GLOBAL binlog_row_image = 'FULL'"]).await;
    let status = Mover::new(&source, &target, "good").command("status", &[]);
    assert_eq!(status.status.code(), Some(2));
    assert!(text(&status.stderr).contains("no such workflow"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_right_is_refused() {
    for binary in support::servers() {
        eprintln!("refusals on {}", binary.info);
        refusals(&binary).await;
    }
}

/// A second runner refuses, a statement on a moved table stops the first, a write to the target raises the alarm.
async fn alarms(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &["CREATE TABLE a (id INT PRIMARY KEY, x INT UNIQUE)", "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)"],
    )
    .await;
    let mut mover = Mover::new(&source, &target, "a");
    mover.start();
    mover.wait_for("replicating");
    let second = mover.run();
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("already run by another process"), "{}", text(&second.stderr));

    execute(&mut s, &["INSERT INTO a VALUES (4, 4)", "ALTER TABLE a ADD y INT"]).await;
    assert_eq!(mover.ended(), 2);
    assert!(
        mover.log().contains("ALTER TABLE a ADD y INT") && mover.log().contains("--skip-ddl"),
        "{}",
        mover.log()
    );
    let status = mover.status().unwrap();
    assert_eq!(status["state"], "error");
    assert!(status["error"].as_str().unwrap().contains("ALTER TABLE"));
    execute(&mut t, &["ALTER TABLE a ADD y INT"]).await;
    let mut mover = mover.with(&["--skip-ddl"]);
    mover.start();
    execute(&mut s, &["UPDATE a SET y = id"]).await;
    mover.wait_until("no error", |s| {
        s["state"] == "replicating" && s["error"].is_null() && s["running"] == true
    });
    wait_same(&mut s, &mut t, "a").await;

    // Somebody else's row on the target holds a unique value; once it is gone the workflow goes on.
    execute(&mut t, &["INSERT INTO a (id, x) VALUES (50, 77)"]).await;
    execute(&mut s, &["UPDATE a SET x = 77 WHERE id = 1"]).await;
    assert_eq!(mover.ended(), 2);
    assert!(mover.log().contains("Duplicate entry '77'"), "{}", mover.log());
    execute(&mut t, &["DELETE FROM a WHERE id = 50"]).await;
    mover.start();
    wait_same(&mut s, &mut t, "a").await;

    execute(&mut t, &["DELETE FROM a WHERE id = 2"]).await;
    execute(&mut s, &["UPDATE a SET x = 9 WHERE id = 2"]).await;
    assert_eq!(mover.ended(), 2);
    assert!(
        mover.log().contains("differs from the source") && mover.log().contains("`id` IN (2)"),
        "{}",
        mover.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_the_invariant_stops_the_workflow() {
    for binary in support::servers() {
        eprintln!("alarms on {}", binary.info);
        alarms(&binary).await;
    }
}

/// The fence waits for an open transaction, gives up in time, and works once it is gone.
async fn switching(binary: &ServerBinary) {
    let (source, target) = (support::start(binary, "source").await, support::start(binary, "target").await);
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(
        &mut s,
        &["CREATE TABLE a (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'x')", "INSERT INTO a (id) VALUES (1)"],
    )
    .await;
    let mut mover = Mover::new(&source, &target, "a");
    let none = mover.command("switch-traffic", &[]);
    assert_eq!(none.status.code(), Some(2));
    mover.start();
    mover.wait_for("replicating");
    assert_eq!(mover.command("complete", &[]).status.code(), Some(2));

    let mut open = connect(&source).await;
    execute(&mut open, &["BEGIN", "INSERT INTO a (id) VALUES (2)"]).await;
    let refused = mover.command("switch-traffic", &["--timeout", "1s"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("could not be fenced"), "{}", text(&refused.stderr));
    execute(&mut open, &["COMMIT"]).await;
    execute(&mut s, &["INSERT INTO a (id) VALUES (3)"]).await;
    mover.wait_for("replicating");
    mover.switch();
    assert!(s.query_drop("INSERT INTO a (id) VALUES (4)").await.is_err());
    let rows: Vec<i32> = t.query("SELECT id FROM a ORDER BY id").await.unwrap();
    assert_eq!(rows, [1, 2, 3]);
    assert_eq!(mover.command("cancel", &[]).status.code(), Some(2));
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0);
    let marks: Option<u64> = s.query_first("SELECT COUNT(*) FROM _converge.watermark").await.unwrap();
    assert_eq!(marks, Some(0));

    let compare = || {
        let mut command = mover::converge();
        command.args([
            "vdiff",
            "--source",
            &source.address("shop").to_url(),
            "--target",
            &target.address("shop").to_url(),
        ]);
        let output = command.args(["--tables", "_a_fenced=a", "--format", "json"]).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = compare();
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("equal")), "{report}");
    execute(&mut t, &["UPDATE a SET v = 'x ' WHERE id = 2"]).await;
    let (code, report) = compare();
    assert_eq!((code, report["verdict"].as_str()), (Some(1), Some("different")), "{report}");
    let row = &report["tables"][0]["rows"][0];
    assert_eq!((row["key"]["id"].as_u64(), row["columns"][0].as_str()), (Some(2), Some("v")), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_switches_only_behind_a_fence() {
    for binary in support::servers() {
        eprintln!("switch on {}", binary.info);
        switching(&binary).await;
    }
}

/// The log may be compressed, without checksums, or without GTIDs.
async fn binlog_settings(binary: &ServerBinary) {
    let settings: &[&[&str]] = match binary.info.flavor {
        Flavor::MySql => &[
            &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"],
            &["--binlog-transaction-compression=ON", "--binlog-checksum=NONE", "--binlog-row-metadata=FULL"],
        ],
        Flavor::MariaDb => {
            &[&["--log-bin-compress=ON", "--log-bin-compress-min-len=10"], &["--binlog-checksum=NONE"]]
        }
    };
    let target = support::start(binary, "target").await;
    for (i, extra) in settings.iter().enumerate() {
        let extra = extra.iter().map(ToString::to_string).collect();
        let source = LocalServer::start(binary, ServerOptions { extra, ..ServerOptions::named("source") })
            .await
            .unwrap();
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        let table = format!("b{i}");
        let create = format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(200))");
        let insert = format!("INSERT INTO {table} VALUES (1, REPEAT('a', 200)), (2, REPEAT('b', 200))");
        execute(&mut s, &[&create, &insert]).await;
        let mut mover = Mover::new(&source, &target, &table);
        mover.start();
        mover.wait_for("replicating");
        let more = format!("INSERT INTO {table} SELECT id + 10, REPEAT('c', 200) FROM {table}");
        let update = format!("UPDATE {table} SET v = REPEAT('d', 190) WHERE id = 2");
        execute(&mut s, &[&more, "FLUSH BINARY LOGS", &update]).await;
        mover.kill();
        execute(&mut s, &[&format!("DELETE FROM {table} WHERE id = 1")]).await;
        mover.start();
        wait_same(&mut s, &mut t, &table).await;
        mover.switch();
        assert_same(&mut s, &format!("_{table}_fenced"), &mut t, &table).await;
        assert!(mover.command("complete", &[]).status.success());
        assert_eq!(mover.ended(), 0);
        execute(&mut t, &["DROP DATABASE _converge"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_may_be_written_in_every_way() {
    for binary in support::servers() {
        eprintln!("binlog settings on {}", binary.info);
        binlog_settings(&binary).await;
    }
}
