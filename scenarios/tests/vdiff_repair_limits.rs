//! What a repair must leave alone, on real servers: it is named, nothing of it is written, and the verdict does not hide it.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff/repairing.rs"]
mod repairing;
#[path = "support/servers.rs"]
mod support;

use common::{fresh, request, run, server, server_with};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::repair::TableRepair;
use converge_vdiff::{Repair, Request, TablePair, Verdict, compare_and_repair};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use repairing::{all_servers, pair, play, played, quick, repaired, text};

fn renamed(source: &str, target: &str) -> TablePair {
    TablePair { source: source.into(), target: target.into() }
}

/// What `pair` does with each of these tables, whose statements have `T` for their names.
async fn tables(one: &LocalServer, source: &[&str], target: &[&str]) -> [Conn; 2] {
    let (none, mut conns) = ("SELECT 1", [fresh(one, "vs").await, fresh(one, "vt").await]);
    for (conn, statements) in conns.iter_mut().zip([source, target]) {
        for sql in statements.iter().chain(&[none]) {
            run(conn, sql).await;
        }
    }
    conns
}

fn refusal(table: &TableRepair) -> &str {
    table.refused.as_deref().unwrap_or_default()
}

fn named<'a>(table: &'a TableRepair, row: &str) -> &'a str {
    table.missed.iter().find(|m| m.row.contains(row)).map_or("", |m| &m.why)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_on_one_of_a_sources_targets_is_not_that_on_another() {
    const TABLE: &str = "(id INT PRIMARY KEY, v INT)";
    for one in all_servers().await {
        let source = [
            &format!("CREATE TABLE ra {TABLE}")[..],
            "INSERT INTO ra VALUES (1,1),(2,2)",
            "CREATE TABLE rx AS SELECT * FROM ra",
            "ALTER TABLE rx ADD PRIMARY KEY (id)",
            "INSERT INTO rx VALUES (3,3)",
        ];
        let target = [
            &format!("CREATE TABLE rb {TABLE}")[..],
            "INSERT INTO rb VALUES (1,1),(2,9)",
            &format!("CREATE TABLE rc {TABLE}"),
            "INSERT INTO rc VALUES (1,9)",
            "CREATE TRIGGER tr BEFORE UPDATE ON rc FOR EACH ROW SET NEW.v = 7",
        ];
        let [_source, mut there] = tables(&one, &source, &target).await;
        let asked = request([&one, &one], vec![renamed("ra", "rb"), renamed("ra", "rc")], quick());
        let (report, done) = repaired(&asked, None, true).await;
        let verdicts: Vec<Verdict> = report.tables.iter().map(|t| t.verdict).collect();
        assert_eq!(verdicts, [Verdict::Equal, Verdict::Different], "{done:?}");
        assert_eq!(report.verdict, Verdict::Different);
        assert!(done.lines().iter().any(|l| l.starts_with("ra = rc: NOT repaired: trigger tr")), "{done:?}");

        // To make it equal to one would make it unequal to the other.
        run(&mut there, "UPDATE rb SET v = 9").await;
        let asked = request([&one, &one], vec![renamed("ra", "rb"), renamed("rx", "rb")], quick());
        let (report, done) = repaired(&asked, None, true).await;
        assert!(done.tables.iter().all(|t| refusal(t).contains("several")), "{done:?}");
        assert_eq!(report.verdict, Verdict::Different);

        let mut asked = request([&one, &one], vec![renamed("ra", "rb"), renamed("rb", "rc")], quick());
        run(&mut there, "CREATE TABLE ra AS SELECT * FROM vs.ra").await;
        run(&mut there, "ALTER TABLE ra ADD PRIMARY KEY (id)").await;
        asked.source = asked.target.clone();
        let (report, done) = repaired(&asked, None, true).await;
        assert!(refusal(&done.tables[0]).contains("a source too"), "{done:?}");
        assert_eq!(report.verdict, Verdict::Different);
        assert_eq!(
            text(&mut there, "SELECT GROUP_CONCAT(v) FROM rb").await,
            "9,9",
            "a source was written to"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_value_arrives_whole_or_not_at_all() {
    for binary in support::servers() {
        let source = server(&binary).await;
        let target = server_with(&binary, &["--max-allowed-packet=2M"]).await;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT, w INT, b LONGBLOB)";
        let rows = "INSERT INTO t VALUES (1, REPEAT('x', 3000000), 1, NULL), (2, REPEAT('y', 1900000), 2, \
                    REPEAT(x'00ff', 900000)), (3, 'short', 3, NULL)";
        let old = "INSERT INTO t VALUES (1, 'old', 1, NULL), (3, REPEAT('z', 1900000), 3, 'old')";
        let [_here, mut there] = [fresh(&source, "vs").await, fresh(&target, "vt").await];
        let mut here = fresh(&source, "vs").await;
        for (conn, sql) in [(&mut here, rows), (&mut there, old)] {
            run(conn, table).await;
            run(conn, sql).await;
        }
        let rows =
            "SELECT GROUP_CONCAT(CONCAT_WS(':', id, LENGTH(v), LEFT(v, 1), SHA2(b, 256)) ORDER BY id) FROM t";
        let before = text(&mut there, rows).await;
        let asked = request([&source, &target], vec![TablePair::same("t")], quick());
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("r.sql");
        let (_, done) = repaired(&asked, Some(&script), false).await;
        assert_eq!((done.tables[0].scripted_rows, done.tables[0].missed_rows), (2, 1), "{done:?}");
        assert!(named(&done.tables[0], "`id` = 1").contains("max_allowed_packet"), "{done:?}");
        played(&target, &script);
        let after = text(&mut there, rows).await;
        assert!(after.starts_with("1:3:o,2:1900000:y:") && after.ends_with(",3:5:s"), "{after}");
        played(&target, &directory.path().join("r.undo.sql"));
        assert_eq!(text(&mut there, rows).await, before);

        let (report, done) = repaired(&asked, None, true).await;
        assert_eq!((done.tables[0].repaired_rows, done.tables[0].missed_rows), (2, 1), "{done:?}");
        // The one that is left is known to differ.
        assert_eq!(report.verdict, Verdict::Different, "{done:?}");
        assert_eq!(text(&mut there, rows).await, after);
        grown(&source, &target, &mut here, &mut there).await;
    }
}

/// A script that was made for a server which takes larger values.
async fn grown(source: &LocalServer, target: &LocalServer, here: &mut Conn, there: &mut Conn) {
    run(here, "DELETE FROM t WHERE id <> 1").await;
    run(there, "DELETE FROM t WHERE id <> 1").await;
    run(here, "INSERT INTO t VALUES (2, REPEAT('n', 3000000), 1, NULL)").await;
    let limit = async |conn: &mut Conn, bytes: u64| {
        run(conn, &format!("SET GLOBAL max_allowed_packet = {bytes}")).await
    };
    limit(there, 64 << 20).await;
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("r.sql");
    let asked = request([source, target], vec![TablePair::same("t")], quick());
    let (_, done) = repaired(&asked, Some(&script), false).await;
    assert_eq!(done.tables[0].scripted_rows, 2, "{done:?}");
    limit(there, 2 << 20).await;
    assert!(!play(target, &script).status.success());
    assert_eq!(text(there, "SELECT GROUP_CONCAT(CONCAT(id, IFNULL(v, 'NULL'))) FROM t").await, "1old");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_the_target_cannot_have_are_left_alone() {
    for one in all_servers().await {
        let odd = "CREATE TABLE odd (id INT PRIMARY KEY, v LONGTEXT CHARACTER SET cp1251, w INT)";
        let source = [
            odd,
            "INSERT INTO odd VALUES (1, CONCAT(REPEAT(_cp1251 'a', 600), _cp1251 x'98'), 1), (2, REPEAT('b', 600), 2), (3, _cp1251 x'98', 3)",
            "CREATE TABLE kept (id INT PRIMARY KEY, v INT, n TIMESTAMP NULL, m BLOB)",
            "INSERT INTO kept VALUES (1, 1, NOW(), 'a'), (2, 200, NOW(), 'a'), (3, 3, NULL, 'a'), (4, 4, NOW(), x'ff'), \
             (5, 5, NOW(), REPEAT(x'ff', 600)), (500, 1, NOW(), 'a')",
            "CREATE TABLE members (id INT PRIMARY KEY, e ENUM('\u{1f600}', 'x'), s SET('\u{1f600}', 'x'))",
            "INSERT INTO members VALUES (1, '\u{1f600}', 'x'), (2, 'x', 'x'), (3, 'x', '\u{1f600}')",
        ];
        let target = [
            &odd.replace("cp1251", "utf8mb4")[..],
            "INSERT INTO odd VALUES (1, 'old', 1), (2, 'old', 2), (3, 'old', 3)",
            "CREATE TABLE kept (id INT PRIMARY KEY, v INT, n TIMESTAMP NOT NULL, m TEXT, CHECK (v < 100)) PARTITION BY RANGE \
             (id) (PARTITION p VALUES LESS THAN (100))",
            "INSERT INTO kept VALUES (1, 9, NOW(), 'a'), (2, 9, NOW(), 'a'), (3, 9, NOW(), 'a'), (4, 9, NOW(), 'a'), \
             (5, 9, NOW(), 'a')",
            "CREATE TABLE members (id INT PRIMARY KEY, e ENUM('\u{1f601}', 'x'), s SET('\u{1f601}', 'x'))",
            "INSERT INTO members VALUES (1, 'x', 'x'), (2, '\u{1f601}', 'x'), (3, 'x', '')",
        ];
        let [_source, mut there] = tables(&one, &source, &target).await;
        let names = ["odd", "kept", "members"];
        let asked = request([&one, &one], names.map(TablePair::same).to_vec(), quick());
        let (report, done) = repaired(&asked, None, true).await;
        let [odd, kept, members] = &done.tables[..] else { panic!("{done:?}") };
        assert_eq!((odd.repaired_rows, odd.missed_rows), (1, 2), "{odd:?}");
        assert!(["= 1", "= 3"].iter().all(|row| named(odd, row).contains("no form")), "{odd:?}");
        assert_eq!(
            text(&mut there, "SELECT GROUP_CONCAT(LEFT(v, 3) ORDER BY id) FROM odd").await,
            "old,bbb,old"
        );
        assert_eq!((kept.repaired_rows, kept.missed_rows), (1, 5), "{kept:?}");
        assert!(named(kept, "= 3").contains("NULL") && named(kept, "= 4").contains("no form"), "{kept:?}");
        assert_eq!(text(&mut there, "SELECT GROUP_CONCAT(v ORDER BY id) FROM kept").await, "1,9,9,9,9");
        assert_eq!((members.repaired_rows, members.missed_rows), (1, 2), "{members:?}");
        let now = "SELECT GROUP_CONCAT(e + 0, s + 0 ORDER BY id) FROM members";
        assert_eq!(text(&mut there, now).await, "22,22,20");
        assert!(report.tables.iter().all(|t| t.verdict == Verdict::Different), "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_the_account_may_not_see_are_not_run() {
    for one in all_servers().await {
        let table = "CREATE TABLE t (id INT PRIMARY KEY, v INT)";
        let rows = "INSERT INTO t VALUES (1, 1)";
        let harm = ["UPDATE t SET v = 2", "CREATE TABLE log (v INT)"];
        let trigger = "CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW INSERT INTO log VALUES (NEW.v)";
        let [_source, mut target] = pair(&one, table, &[rows], &[rows, harm[0], harm[1], trigger]).await;
        let account = "writer@127.0.0.1";
        for sql in [
            format!("DROP USER IF EXISTS {account}"),
            format!("CREATE USER {account} IDENTIFIED BY 'w'"),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON vt.* TO {account}"),
        ] {
            run(&mut target, &sql).await;
        }
        let mut asked = request([&one, &one], vec![TablePair::same("t")], quick());
        let mine = one.address("vt").to_url().replacen("root@", "writer:w@", 1);
        asked.target = vec![mine.parse().unwrap()];
        let refused = async |request: &Request, word: &str| {
            let (report, done) = repaired(request, None, true).await;
            assert!(refusal(&done.tables[0]).contains(word), "{done:?}");
            assert_eq!(report.verdict, Verdict::Different);
        };
        // MariaDB shows them to whoever may write to the table.
        refused(
            &asked,
            if one.binary().info.flavor == Flavor::MySql { "privilege TRIGGER" } else { "trigger tr" },
        )
        .await;
        run(&mut target, &format!("GRANT TRIGGER ON vt.* TO {account}")).await;
        refused(&asked, "trigger tr").await;
        // Of none that are seen, it is not known whether there are none.
        run(&mut target, "DROP TRIGGER tr").await;
        run(&mut target, &format!("REVOKE TRIGGER ON vt.* FROM {account}")).await;
        refused(&asked, "privilege TRIGGER").await;
        run(&mut target, &format!("GRANT TRIGGER ON vt.* TO {account}")).await;
        assert_eq!(repaired(&asked, None, true).await.0.verdict, Verdict::Equal);
        assert_eq!(target.query_first::<u32, _>("SELECT COUNT(*) FROM log").await.unwrap(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_cannot_be_written_loses_no_answer() {
    for one in all_servers().await {
        let [_source, _target] = pair(
            &one,
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
            &["INSERT INTO t VALUES (1, 1), (2, 2)"],
            &["INSERT INTO t VALUES (1, 1), (2, 3)"],
        )
        .await;
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        let directory = tempfile::tempdir().unwrap();
        // The script can be written, its undo cannot.
        let repair = Repair { script: Some(directory.path().join("r.sql")), apply: false };
        std::fs::create_dir(&repair.files()[1]).unwrap();
        let report = compare_and_repair(&request, &repair, &|_| {}).await.unwrap();
        assert_eq!((report.verdict, report.tables[0].rows.len()), (Verdict::Different, 1));
        let failed = report.repair.as_ref().unwrap().failed.clone().unwrap_or_default();
        assert!(failed.contains("r.undo.sql") && failed.contains("nothing was changed"), "{failed}");
        assert!(report.to_text().contains("FAILED: cannot write the repair to"), "{}", report.to_text());
    }
}

/// Of what such an engine has done nothing is undone.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_transactions_is_not_repaired() {
    for one in all_servers().await {
        let mut engines = vec!["MyISAM"];
        engines.extend((one.binary().info.flavor == Flavor::MariaDb).then_some("Aria"));
        for engine in engines {
            let table = format!("CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE) ENGINE={engine}");
            let [_source, mut target] = pair(
                &one,
                &table,
                &["INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)"],
                &["INSERT INTO t VALUES (1, 2), (2, 1), (3, 4)"],
            )
            .await;
            let request = request([&one, &one], vec![TablePair::same("t")], quick());
            let directory = tempfile::tempdir().unwrap();
            let script = directory.path().join("r.sql");
            for (script, apply) in [(None, true), (Some(script.as_path()), false)] {
                let (report, done) = repaired(&request, script, apply).await;
                assert!(refusal(&done.tables[0]).contains("has no transactions"), "{engine}: {done:?}");
                assert_eq!(report.verdict, Verdict::Different);
            }
            let now = "SELECT GROUP_CONCAT(CONCAT(id, '=', u) ORDER BY id) FROM t";
            assert_eq!(text(&mut target, now).await, "1=2,2=1,3=4", "{engine}");
        }
    }
}

/// A table of which 1,200 rows differ, and another session that has one of the last locked.
async fn one_locked(one: &LocalServer) -> [Conn; 3] {
    let table = "CREATE TABLE t (id INT PRIMARY KEY, v INT)";
    let ids: Vec<String> = (1..=1200).map(|id| format!("({id}, 1)")).collect();
    let rows = format!("INSERT INTO t VALUES {}", ids.join(", "));
    let [source, target] = pair(one, table, &[&rows], &[&rows, "UPDATE t SET v = 2"]).await;
    let mut other = converge_mysql::Connector::new(one.address("vt")).connect().await.unwrap();
    run(&mut other, "START TRANSACTION").await;
    run(&mut other, "SELECT * FROM t WHERE id = 1100 FOR UPDATE").await;
    [source, target, other]
}

const REPAIRED: &str = "SELECT COUNT(*) FROM t WHERE v = 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_has_locked_is_left_alone() {
    for one in all_servers().await {
        let [_source, mut target, _other] = one_locked(&one).await;
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        let (report, done) = repaired(&request, None, true).await;
        let table = &done.tables[0];
        assert_eq!((table.repaired_rows, table.missed_rows), (1199, 1), "{done:?}");
        assert!(named(table, "`id` = 1100").contains("holds a lock"), "{done:?}");
        assert_eq!(target.query_first::<u64, _>(REPAIRED).await.unwrap(), Some(1199));
        assert_eq!((report.verdict, table.still_differing_rows), (Verdict::Different, Some(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_before_an_error_is_counted() {
    for binary in support::servers() {
        let one = server_with(&binary, &["--innodb-rollback-on-timeout=ON"]).await;
        let [_source, mut target, _other] = one_locked(&one).await;
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        let repair = Repair { script: None, apply: true };
        let report = compare_and_repair(&request, &repair, &|_| {}).await.unwrap();
        let done = report.repair.clone().unwrap();
        assert!(done.failed.as_ref().is_some_and(|why| why.contains("ock wait timeout")), "{done:?}");
        let there = target.query_first::<u64, _>(REPAIRED).await.unwrap().unwrap();
        assert!(there > 0 && there < 1200, "{there}");
        assert_eq!(done.tables[0].repaired_rows, there, "{done:?}");
        assert!(report.to_text().contains(&format!("{there} rows repaired")), "{}", report.to_text());
    }
}
