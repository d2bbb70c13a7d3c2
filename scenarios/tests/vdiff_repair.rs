//! Repair on real servers: what was damaged becomes equal, its undo brings the very damage back, and a row that is not
//! any more what was compared is left alone.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/cases.rs"]
mod cases;
#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff/repairing.rs"]
mod repairing;
#[path = "support/servers.rs"]
mod support;

use cases::Case;
use common::{fresh, report, request, run};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::{Repair, Report, Request, TablePair, Verdict, compare_and_repair};
use repairing::{all_servers, pair, play, played, quick, repaired, text};

fn unequal(report: &Report) -> Vec<String> {
    let unequal = report.tables.iter().filter(|t| t.verdict != Verdict::Equal);
    unequal.map(|t| format!("{}: {:?} {:?}", t.table, t.reasons, t.rows)).collect()
}

/// What the two sides can hold alike: MariaDB has no -0, and prints documents otherwise.
fn within_reach(case: &Case, flavors: [Flavor; 2]) -> bool {
    case.only.is_none_or(|only| flavors == [only; 2])
}

/// The source in `vs`, the target in `vt`, and the same damaged target in `vd`.
async fn damaged(sides: [&LocalServer; 2], cases: &[&Case]) -> Vec<TablePair> {
    for (server, database, harm) in [(sides[0], "vs", false), (sides[1], "vt", true), (sides[1], "vd", true)]
    {
        let mut conn = fresh(server, database).await;
        for case in cases {
            let damages = if harm { case.damages() } else { Vec::new() };
            for sql in case.creation().iter().chain(&damages) {
                run(&mut conn, sql).await;
            }
        }
    }
    cases.iter().map(|case| TablePair::same(&case.table)).collect()
}

async fn matrix(sides: [&LocalServer; 2]) {
    let flavors = sides.map(|s| s.binary().info.flavor);
    let all = cases::cases();
    let cases: Vec<&Case> = all.iter().filter(|case| within_reach(case, flavors)).collect();
    let tables = damaged(sides, &cases).await;
    let directory = tempfile::tempdir().unwrap();
    let (script, undo) = (directory.path().join("r.sql"), directory.path().join("r.undo.sql"));
    let repair = request(sides, tables.clone(), quick());
    let (found, done) = repaired(&repair, Some(&script), false).await;
    assert_eq!(found.verdict, Verdict::Different);
    for table in &done.tables {
        assert!(table.refused.is_none() && table.missed.is_empty() && table.scripted_rows > 0, "{table:?}");
    }
    assert_eq!(done.tables.len(), cases.len());
    assert_eq!(
        unequal(&report(&former(sides, &tables)).await),
        [""; 0],
        "{flavors:?}: writing it changed the target"
    );

    played(sides[1], &script);
    assert_eq!(unequal(&report(&repair).await), [""; 0], "{flavors:?}: repaired");
    // A second time nothing is what the script was made for.
    let again = play(sides[1], &script);
    assert!(!again.status.success());
    played(sides[1], &undo);
    assert_eq!(unequal(&report(&former(sides, &tables)).await), [""; 0], "{flavors:?}: undone");

    let (after, done) = repaired(&repair, None, true).await;
    assert_eq!(unequal(&after), [""; 0], "{flavors:?}: {done:#?}");
    assert_eq!((after.verdict, done.verdict_before), (Verdict::Equal, Verdict::Different));
    assert_eq!(unequal(&report(&repair).await), [""; 0], "{flavors:?}: applied");
}

/// The target against its copy as it was damaged.
fn former(sides: [&LocalServer; 2], tables: &[TablePair]) -> Request {
    let mut request = request([sides[1], sides[1]], tables.to_vec(), quick());
    request.source = vec![sides[1].address("vd")];
    request
}

/// Servers of each kind on the source, of that kind or of others on the target.
async fn matrices(alike: bool) {
    let servers = all_servers().await;
    for (i, source) in servers.iter().enumerate() {
        for target in servers.iter().enumerate().filter(|(j, _)| (i == *j) == alike).map(|(_, target)| target)
        {
            matrix([source, target]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damage_is_repaired_and_can_be_brought_back() {
    matrices(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damage_is_repaired_across_vendors() {
    matrices(false).await;
}

const ROWS: &str =
    "CONCAT_WS(';', (SELECT GROUP_CONCAT(CONCAT_WS(',', id, u, v, w) ORDER BY id SEPARATOR ';') FROM t))";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changed_since_it_was_compared_is_left_alone() {
    for one in all_servers().await {
        let table = "CREATE TABLE t (id INT PRIMARY KEY, u INT UNIQUE, v INT, w INT)";
        let rows = "INSERT INTO t VALUES (1,1,1,1),(2,2,2,2),(3,3,3,3),(4,4,4,4)";
        let harm = ["UPDATE t SET v = 0 WHERE id IN (1, 2)", "DELETE FROM t WHERE id IN (3, 4)"];
        let [_source, mut target] = pair(&one, table, &[rows], &[rows, harm[0], harm[1]]).await;
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("r.sql");
        repaired(&request, Some(&script), false).await;
        // Another column of a row to change, and a row where one is missing.
        run(&mut target, "UPDATE t SET w = 77 WHERE id = 2").await;
        run(&mut target, "INSERT INTO t VALUES (3,33,33,33)").await;
        let before = text(&mut target, &format!("SELECT {ROWS}")).await;
        assert!(!play(&one, &script).status.success());
        assert_eq!(
            text(&mut target, &format!("SELECT {ROWS}")).await,
            before,
            "all of the transaction is undone"
        );

        // The same between the comparison and the repair, by whoever hears that the comparison is done.
        run(&mut target, "DELETE FROM t WHERE id = 3").await;
        run(&mut target, "UPDATE t SET w = 2 WHERE id = 2").await;
        let address = one.address("vt");
        let runtime = tokio::runtime::Handle::current();
        let meddle = move |progress: converge_vdiff::Progress| {
            if matches!(progress, converge_vdiff::Progress::Done { .. }) {
                let address = address.clone();
                tokio::task::block_in_place(|| {
                    runtime.block_on(async {
                        let mut conn = converge_mysql::Connector::new(address).connect().await.unwrap();
                        run(&mut conn, "UPDATE t SET w = 88 WHERE id = 1").await;
                        run(&mut conn, "INSERT INTO t VALUES (4,44,44,44)").await;
                    })
                });
            }
        };
        let repair = Repair { script: None, apply: true };
        let report = compare_and_repair(&request, &repair, &meddle).await.unwrap();
        let done = report.repair.unwrap().tables.remove(0);
        assert_eq!((done.repaired_rows, done.missed_rows), (2, 2), "{done:?}");
        assert_eq!((report.verdict, done.still_differing_rows), (Verdict::NotProven, Some(2)), "{done:?}");
        assert_eq!(text(&mut target, &format!("SELECT {ROWS}")).await, "1,1,0,88;2,2,2,2;3,3,3,3;4,44,44,44");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_values_that_rows_exchange_are_put_right() {
    for one in all_servers().await {
        let table = "CREATE TABLE t (id INT PRIMARY KEY, u VARCHAR(9) COLLATE utf8mb4_general_ci UNIQUE, v INT UNIQUE, w INT)";
        let rows = "INSERT INTO t VALUES (1,'a',1,1),(2,'b',2,2),(3,'c',3,3),(4,'d',4,4),(5,'e',5,5)";
        // A swap, a chain into a free value, a letter's case, and an extra row that holds a missing one's value.
        let harm = [
            "UPDATE t SET u = CONCAT('x', u), v = v + 100",
            "UPDATE t SET u = CASE id WHEN 1 THEN 'b' WHEN 2 THEN 'a' WHEN 3 THEN 'D' WHEN 4 THEN 'free' ELSE 'e' END, v = v - 100",
            "DELETE FROM t WHERE id = 5",
            "INSERT INTO t VALUES (9,'E',5,5)",
        ];
        let target: Vec<&str> = std::iter::once(rows).chain(harm).collect();
        let [_source, mut target] = pair(&one, table, &[rows], &target).await;
        let before = text(&mut target, &format!("SELECT {ROWS}")).await;
        assert_eq!(before, "1,b,1,1;2,a,2,2;3,D,3,3;4,free,4,4;9,E,5,5");
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("r.sql");
        repaired(&request, Some(&script), false).await;
        played(&one, &script);
        assert_eq!(report(&request).await.verdict, Verdict::Equal);
        played(&one, &directory.path().join("r.undo.sql"));
        assert_eq!(text(&mut target, &format!("SELECT {ROWS}")).await, before);
        assert_eq!(repaired(&request, None, true).await.0.verdict, Verdict::Equal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_repaired_is_refused_by_name() {
    for one in all_servers().await {
        let table = "CREATE TABLE t (id INT PRIMARY KEY, u INT, v INT NOT NULL, w INT)";
        let [_source, mut target] = pair(
            &one,
            table,
            &["INSERT INTO t VALUES (1,1,1,1),(2,2,2,2)"],
            &["INSERT INTO t VALUES (1,9,1,9)"],
        )
        .await;
        let mut request = request([&one, &one], vec![TablePair::same("t")], quick());
        let refused = async |request: &Request, word: &str| {
            let (report, done) = repaired(request, None, true).await;
            assert!(done.tables[0].refused.as_ref().unwrap().contains(word), "{done:?}");
            assert_ne!(report.verdict, Verdict::Equal);
        };
        run(&mut target, "CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW SET NEW.v = 7").await;
        refused(&request, "trigger tr").await;
        run(&mut target, "DROP TRIGGER tr").await;
        run(&mut target, "ALTER TABLE t ADD more INT").await;
        refused(&request, "column more").await;
        run(&mut target, "ALTER TABLE t DROP more").await;
        // A column that was not compared stays in a row that is changed, and comes along with one that is missing.
        request.options.ignore_columns = vec!["W".into()];
        let (report, done) = repaired(&request, None, true).await;
        assert_eq!((report.verdict, done.tables[0].repaired_rows), (Verdict::Equal, 2), "{done:?}");
        assert_eq!(text(&mut target, &format!("SELECT {ROWS}")).await, "1,1,1,9;2,2,2,2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_set_themselves_keep_what_they_hold() {
    for one in all_servers().await {
        let table =
            "CREATE TABLE t (id INT PRIMARY KEY, u TIMESTAMP NULL ON UPDATE CURRENT_TIMESTAMP, v INT, w INT)";
        let rows = "INSERT INTO t VALUES (0,'2001-01-01 00:00:00',1,1),(1,'2002-01-01 00:00:00',1,1)";
        let harm = ["UPDATE t SET v = 2, u = u WHERE id = 1", "DELETE FROM t WHERE id = 0"];
        let [_source, mut target] = pair(&one, table, &[rows], &[rows, harm[0], harm[1]]).await;
        let request = request([&one, &one], vec![TablePair::same("t")], quick());
        assert_eq!(repaired(&request, None, true).await.0.verdict, Verdict::Equal);
        let now = text(&mut target, &format!("SELECT {ROWS}")).await;
        assert_eq!(now, "0,2001-01-01 00:00:00,1,1;1,2002-01-01 00:00:00,1,1");
    }
}
