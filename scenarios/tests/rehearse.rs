//! Rehearsals can be repeated, are not fooled by a load that is too thin, and rest on a comparison that finds one
//! changed row among all that a real mover brought.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::process::Command;

use converge_chaos::server::ServerBinary;
use converge_mysql::Connector;
use converge_scenarios::scenario::Scenario;
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rehearsal::{converge, rehearse};
use serde_json::{Value, json};

/// Short and without faults; `LEAST` is put in.
const QUIET: &str = "
name = 'quiet'
settle_seconds = 0.5
limit_seconds = 60.0
least = { LEAST }
copy = { rows_per_second = 2000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 600.0 }
";

/// Every oracle's finding.
fn findings(verdict: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    verdict["oracles"].as_array().unwrap().iter().map(|o| (text(&o["name"]), text(&o["finding"]))).collect()
}

/// The saved plan is the whole scenario, and the printed command runs it again: with less asked for, it converges.
fn replays(server: &ServerBinary) {
    let run = rehearse(server, &QUIET.replace("LEAST", "each_kind = 5, during_copy = 1000000"), 4);
    assert_eq!((run.code, &run.verdict["verdict"]), (3, &json!("not_proven")), "{}", run.errors);
    let text = run.verdict.to_string();
    assert!(text.contains("no fault was injected: the plan has none"), "{text}");
    assert!(run.verdict["not_verified"].to_string().contains("no fault was injected"), "{text}");
    for (oracle, finding) in findings(&run.verdict) {
        let wanted = if oracle == "copy_under_load" { "unknown" } else { "pass" };
        assert_eq!(finding, wanted, "{oracle}: {}", run.verdict);
    }
    let (here, scenario) = (run.directory.path(), run.directory.path().join("scenario.toml"));
    let plan = std::fs::read_to_string(here.join("plan.toml")).unwrap();
    let (saved, mut given) =
        (Scenario::read(&here.join("plan.toml")).unwrap(), Scenario::read(&scenario).unwrap());
    // The plan tells its seed too, so that it sends the same load wherever it is run.
    given.load.seed = 4;
    assert_eq!(saved, given);
    assert!(run.verdict["reasons"][0].as_str().unwrap().contains("1000000 needed"), "{text}");
    let easier = plan.replace("during_copy = 1000000", "during_copy = 10");
    assert_ne!(plan, easier);
    std::fs::write(&scenario, easier).unwrap();

    let replay = run.verdict["replay"].as_str().unwrap();
    assert!(replay.contains("--seed 4"), "{replay}");
    // Without --report it goes into a directory below the current one.
    let output = Command::new("sh").args(["-c", replay]).current_dir(here).output().unwrap();
    let (text, errors) = (lossy(&output.stdout), lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{text}\n{errors}");
    assert!(text.trim_end().ends_with("VERDICT: CONVERGED"), "{text}");
    assert!(text.starts_with("seed 4 "), "{text}");
    let runs: Vec<_> = std::fs::read_dir(here.join("runs")).unwrap().flatten().collect();
    assert_eq!(runs.len(), 1);
    let report: Value =
        serde_json::from_slice(&std::fs::read(runs[0].path().join("verdict.json")).unwrap()).unwrap();
    assert_eq!((&report["verdict"], &report["seed"]), (&json!("converged"), &json!(4)));
    assert_eq!(report["replay"], run.verdict["replay"]);
}

/// `--replay` needs nothing but the directory: not the scenario's file, not the seed, not the server, which is not the one
/// that would be taken without being told.
#[test]
fn a_saved_run_is_repeated_and_compared() {
    let server = &support::servers().pop().unwrap();
    let run = &rehearse(server, &QUIET.replace("LEAST", "each_kind = 5, during_copy = 1000000"), 4);
    std::fs::remove_file(run.directory.path().join("scenario.toml")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let output = converge()
        .args(["rehearse", "--replay"])
        .arg(run.directory.path())
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    let (text, errors) = (lossy(&output.stdout), lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{text}\n{errors}");
    assert!(text.contains("seed 4 ") && text.contains(&server.path.display().to_string()), "{text}");
    let cause =
        "replay: the same cause as in the saved run: not proven: copy_under_load (# writes acknowledged";
    assert!(text.lines().last().unwrap().starts_with(cause), "{text}");
    let again = std::fs::read_dir(elsewhere.path().join("runs")).unwrap().flatten().next().unwrap().path();
    let verdict: Value = serde_json::from_slice(&std::fs::read(again.join("verdict.json")).unwrap()).unwrap();
    let replay = verdict["replay"].as_str().unwrap();
    assert!(replay.contains(&format!("--replay {}", run.directory.path().display())), "{replay}");
    let plan = |directory: &std::path::Path| Scenario::read(&directory.join("plan.toml")).unwrap();
    assert_eq!(plan(&again), plan(run.directory.path()));
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_rehearsal_can_be_repeated_from_what_it_leaves() {
    for server in support::servers() {
        eprintln!("replay on {}", server.info);
        replays(&server);
    }
}

/// The servers' directories stay, however the run ends.
#[test]
fn what_is_to_be_kept_is_kept_when_the_time_limit_ends_a_run() {
    let server = &support::servers().pop().unwrap();
    let (directory, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = directory.path().join("scenario.toml");
    let scenario = QUIET.replace("limit_seconds = 60.0", "limit_seconds = 4.0").replace("LEAST", "");
    std::fs::write(&file, scenario).unwrap();
    let mut command = converge();
    command.arg("rehearse").arg(&file).args(["--keep", "--server"]).arg(&server.path).arg("--report");
    let run = command.arg(directory.path()).env("TMPDIR", temporary.path()).output().unwrap();
    assert_eq!(run.status.code(), Some(3), "{}", lossy(&run.stderr));
    let kept = std::fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path());
    let data: Vec<_> = kept.filter(|path| path.join("data").join("ibdata1").exists()).collect();
    assert_eq!(data.len(), 2, "{data:?}");
    for path in data {
        assert!(lossy(&run.stderr).contains(&*path.to_string_lossy()), "{path:?}: {}", lossy(&run.stderr));
    }
}

/// The statements that were asked for never come, which ends the wait for them.
#[test]
fn a_kind_of_statement_that_is_too_rare_earns_no_pass() {
    let server = support::servers().remove(0);
    let scenario = QUIET.replace("LEAST", "each_kind = 1000000, during_copy = 1");
    let run = rehearse(&server, &scenario, 5);
    assert_eq!((run.code, &run.verdict["verdict"]), (3, &json!("not_proven")), "{}", run.errors);
    let oracles = run.verdict["oracles"].as_array().unwrap();
    let load = oracles.iter().find(|o| o["name"] == "load").unwrap();
    assert_eq!(load["finding"], "unknown", "{load}");
    let evidence = load["evidence"].to_string();
    for kind in ["insert", "insert_ignore", "upsert", "replace", "update", "delete", "key_update"] {
        assert!(evidence.contains(&format!("{kind}: ")), "{kind} in {evidence}");
    }
    let reasons = run.verdict["reasons"].to_string();
    assert!(reasons.contains("load: "), "{reasons}");
}

async fn execute(conn: &mut Conn, statements: &[&str]) {
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// Moves 4,096 rows, then changes one on the target.
async fn plants(binary: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(binary, "source"), support::start(binary, "target"));
    let mut conns = Vec::new();
    for server in [&source, &target] {
        let mut conn = Connector::new(server.address("")).connect().await.unwrap();
        execute(&mut conn, &["CREATE DATABASE shop", "USE shop"]).await;
        conns.push(conn);
    }
    let table =
        "CREATE TABLE item (shop INT, id INT, name VARCHAR(40), price DECIMAL(9,2), PRIMARY KEY (shop, id))";
    execute(&mut conns[0], &[table, "INSERT INTO item VALUES (0, 0, 'item 0', 0.99)"]).await;
    for power in 0..12 {
        let sql = format!(
            "INSERT INTO item SELECT (id + (1 << {power})) % 5, id + (1 << {power}), CONCAT('item ', id), price + id \
             FROM item"
        );
        execute(&mut conns[0], &[&sql]).await;
    }
    let mut mover = Mover::new(&source, &target, "item").with(&["--chunk-rows", "700"]);
    mover.start();
    mover.wait_for("replicating");
    execute(&mut conns[0], &["UPDATE item SET price = price + 1 WHERE id % 9 = 0"]).await;
    mover.switch();
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0);

    let vdiff = || {
        let (from, to) = (source.address("shop").to_url(), target.address("shop").to_url());
        let tables = ["--tables", "_item_fenced=item", "--format", "json"];
        let output =
            converge().args(["vdiff", "--source", &from, "--target", &to]).args(tables).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), json, lossy(&output.stderr))
    };
    let (code, report, errors) = vdiff();
    assert_eq!((code, &report["verdict"]), (Some(0), &json!("equal")), "{errors}");
    assert_eq!(report["tables"][0]["matching_rows"], 4096);

    execute(&mut conns[1], &["UPDATE item SET name = 'Item 1' WHERE id = 2049"]).await;
    let (code, report, errors) = vdiff();
    assert_eq!((code, &report["verdict"]), (Some(1), &json!("different")), "{report}\n{errors}");
    let table = &report["tables"][0];
    let counts =
        ["processed_rows", "matching_rows", "mismatched_rows", "extra_rows_source", "extra_rows_target"]
            .map(|name| table[name].as_u64().unwrap());
    assert_eq!(counts, [4096, 4095, 1, 0, 0]);
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{table}");
    assert_eq!(
        (&rows[0]["key"], &rows[0]["kind"], &rows[0]["columns"]),
        (&json!({"shop": 2049 % 5, "id": 2049}), &json!("mismatched"), &json!(["name"]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_changed_after_a_move_is_named() {
    for binary in support::servers() {
        eprintln!("planted row on {}", binary.info);
        plants(&binary).await;
    }
}
