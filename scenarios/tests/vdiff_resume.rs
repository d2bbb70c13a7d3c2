//! VDiff that is interrupted: nothing is compared twice, nothing is skipped, nothing that was found is forgotten.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{connect, fresh, report, request, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::{Engine, Options, TablePair, Verdict};
use serde_json::Value;

const ROWS: u64 = 250_000;

async fn fill(server: &LocalServer) {
    for database in ["vs", "vt"] {
        let mut conn = fresh(server, database).await;
        for table in ["t", "u"] {
            run(&mut conn, &format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(60))")).await;
        }
        let numbers = "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < 499) \
                       SELECT a.n * 500 + b.n, REPEAT(b.n, 15) FROM r a, r b";
        run(&mut conn, &format!("INSERT INTO t {numbers}")).await;
        run(&mut conn, "INSERT INTO u VALUES (1, 'a')").await;
        run(&mut conn, "ANALYZE TABLE t").await;
    }
    let mut target = connect(server, "vt").await;
    run(&mut target, "UPDATE t SET v = 'damaged' WHERE id = 3").await;
}

fn vdiff(server: &LocalServer, state: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_converge"));
    let [from, to] = ["vs", "vt"].map(|database| server.address(database).to_url());
    command.args(["vdiff", "--source", &from, "--target", &to, "--format", "json", "--engine", "pushdown"]);
    command.args(["--chunk-rows", "20", "--state"]).arg(state).args(more);
    if !more.contains(&"--tables") {
        command.args(["--tables", "t,u"]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Whole lines of the state about chunks.
fn chunks(state: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(state.join("vdiff-state.jsonl")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line.get("chunk").cloned()).collect()
}

/// Kills a comparison once it has so many chunks behind it.
fn kill_after(server: &LocalServer, state: &Path, wanted: usize) {
    kill_in(vdiff(server, state, &[]), state, wanted);
}

fn kill_in(mut comparison: Command, state: &Path, wanted: usize) {
    let mut child = comparison.spawn().unwrap();
    let begun = Instant::now();
    while chunks(state).len() < wanted {
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            panic!("it ended before it could be killed: {output:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no {wanted} chunks after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_comparison_goes_on_where_it_was() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one).await;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        kill_after(&one, state, 2);
        kill_after(&one, state, chunks(state).len() + 1);
        let before: u64 = chunks(state).iter().map(|chunk| chunk["source_rows"].as_u64().unwrap()).sum();
        assert!(before > 0 && before < ROWS, "{before} rows were compared before the kill");

        let other = vdiff(&one, state, &["--ignore-columns", "v"]).output().unwrap();
        let error = String::from_utf8_lossy(&other.stderr).into_owned();
        assert_eq!(other.status.code(), Some(2), "{error}");
        assert!(error.contains("other options") && error.contains("what to do:"), "{error}");

        let done = vdiff(&one, state, &["--parallel", "3"]).output().unwrap();
        let found = json(&done);
        let table = &found["tables"][0];
        assert_eq!(done.status.code(), Some(1), "{found}");
        // More would have been compared twice, fewer not at all.
        assert_eq!((&table["source_rows"], &table["target_rows"]), (&ROWS.into(), &ROWS.into()), "{table}");
        assert_eq!((&table["matching_rows"], &table["mismatched_rows"]), (&(ROWS - 1).into(), &1.into()));
        assert_eq!(table["rows"][0]["key"]["id"], 3, "what was found before the kill is forgotten: {table}");
        let notes = table["schema_notes"].to_string();
        assert!(
            notes.contains(&format!("{before} rows of the source were compared by an earlier run")),
            "{notes}"
        );
        assert_eq!(found["tables"][1]["verdict"], "equal");
        assert!(!state.join("vdiff-state.jsonl").exists(), "the state outlives its comparison");
    }
}

/// What was said of a table does not hold for another one that was put in its place, finished or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_replaced_between_two_runs_is_compared_anew() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one).await;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let tables = ["--tables", "u,t"];
        kill_in(vdiff(&one, state, &tables), state, 3);
        let mut target = connect(&one, "vt").await;
        for (table, damage) in [("u", "id = 1"), ("t", "id = 5")] {
            run(&mut target, &format!("CREATE TABLE other LIKE {table}")).await;
            run(&mut target, &format!("INSERT INTO other SELECT * FROM {table}")).await;
            run(&mut target, &format!("UPDATE other SET v = 'another' WHERE {damage}")).await;
            run(&mut target, &format!("RENAME TABLE {table} TO old_{table}, other TO {table}")).await;
        }
        let found = json(&vdiff(&one, state, &tables).output().unwrap());
        for (number, differing) in [1, 2].into_iter().enumerate() {
            let table = &found["tables"][number];
            assert_eq!(
                (&table["verdict"], &table["mismatched_rows"]),
                (&"different".into(), &differing.into())
            );
            assert!(table["schema_notes"].to_string().contains("compared anew"), "{table}");
        }
        assert_eq!(found["tables"][1]["source_rows"], ROWS);
        assert_eq!(
            (&found["source"]["stood_still"], &found["target"]["stood_still"]),
            (&false.into(), &false.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_refused_once_the_schema_changed() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one).await;
        let directory = tempfile::tempdir().unwrap();
        kill_after(&one, directory.path(), 1);
        let mut conn = connect(&one, "vt").await;
        run(&mut conn, "ALTER TABLE u MODIFY v VARCHAR(61)").await;
        let refused = vdiff(&one, directory.path(), &[]).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stdout));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("another schema"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_time_did_not_suffice_for_is_not_proven() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one).await;
        run(&mut connect(&one, "vt").await, "UPDATE t SET v = REPEAT(3, 15) WHERE id = 3").await;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let none = vdiff(&one, state, &["--max-duration", "0s"]).output().unwrap();
        let found = json(&none);
        assert_eq!((none.status.code(), &found["tables"][0]["source_rows"]), (Some(3), &0.into()), "{found}");
        for table in [0, 1] {
            let reasons = found["tables"][table]["reasons"].to_string();
            assert!(reasons.contains("all rows were not compared: the time given was up"), "{found}");
        }
        let (mut runs, mut last) = (0, 0);
        let whole = loop {
            let most = format!("{}ms", 300 + 100 * runs);
            let part = vdiff(&one, state, &["--max-duration", &most]).output().unwrap();
            let found = json(&part);
            let rows = found["tables"][0]["source_rows"].as_u64().unwrap();
            assert!(rows >= last, "{rows} rows were compared, {last} before: {found}");
            if part.status.code() == Some(0) {
                break found;
            }
            assert_eq!(part.status.code(), Some(3), "{found}");
            assert!(runs < 200, "never done: {found}");
            (runs, last) = (runs + 1, rows);
        };
        assert_eq!(whole["tables"][0]["matching_rows"], ROWS, "{whole}");
    }
}

/// Left to itself, a comparison tries both engines on rows that it need not compare again.
#[tokio::test(flavor = "multi_thread")]
async fn the_trial_of_the_engines_is_a_part_of_the_comparison() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one).await;
        let options = Options { engine: Engine::Auto, ..Options::default() };
        let tables = vec![TablePair::same("t"), TablePair::same("u")];
        let found = report(&request([&one, &one], tables, options)).await;
        let table = &found.tables[0];
        assert_eq!(
            (table.verdict, table.source_rows, table.matching_rows),
            (Verdict::Different, ROWS, ROWS - 1)
        );
        assert_eq!(table.rows[0].key["id"], 3);
        assert!(table.engine_reason.contains("pushdown compared"), "{table:?}");
        assert_eq!((found.tables[1].verdict, &found.tables[1].engine), (Verdict::Equal, &table.engine));
    }
}
