//! Verdicts of whole rehearsals on real servers: the safe strategy converges under every fault, the naive one is
//! caught with the rows named, and a run that proved nothing says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use rehearsal::rehearse;

/// Small, with every kind of fault, and with hot keys that a careless copier gets wrong.
const FAULTS: &str = "
name = 'short'
settle_seconds = 1.0
[copy]
rows_per_second = 3000
chunk_rows = 500
[least]
each_kind = 20
during_copy = 100
[load]
rows = 16000
statements_per_second = 1200.0
[[fault]]
kind = 'kill_source'
at_copied = 0.2
hold_seconds = 0.3
[[fault]]
kind = 'kill_target'
at_copied = 0.4
hold_seconds = 0.3
[[fault]]
kind = 'kill_mover'
at_copied = 0.6
hold_seconds = 0.3
[[fault]]
kind = 'network_down'
hold_seconds = 0.5
";

#[test]
fn the_default_strategy_converges_under_every_fault() {
    for server in support::servers() {
        let run = rehearse(&server, FAULTS, 11);
        assert_eq!(run.code, 0, "{} {}\n{}", server.info, run.verdict, run.errors);
        assert_eq!(run.verdict["verdict"], "converged");
        let oracles = run.verdict["oracles"].as_array().unwrap();
        let names: Vec<&str> = oracles.iter().map(|o| o["name"].as_str().unwrap()).collect();
        for name in ["position", "vdiff", "ledger", "faults", "load", "copy_under_load", "mover"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(oracles.iter().all(|o| o["finding"] == "pass"), "{oracles:?}");
        let faults = run.verdict["faults"].as_array().unwrap();
        assert!(
            faults.len() == 4 && faults.iter().all(|f| f["observed"].is_string() && f["healed_at"].is_f64())
        );
        for file in [
            "report.html",
            "verdict.json",
            "history.jsonl",
            "plan.toml",
            "mover.log",
            "source.log",
            "target.log",
        ] {
            assert!(run.directory.path().join(file).metadata().unwrap().len() > 0, "{file}");
        }
        let page = std::fs::read_to_string(run.directory.path().join("report.html")).unwrap();
        assert!(page.to_lowercase().contains("converged") && page.contains("<svg"));
    }
}

#[test]
fn the_naive_strategy_is_caught_at_once() {
    let naive = include_str!("../naive.toml");
    for server in support::servers() {
        let run = rehearse(&server, naive, 1);
        assert_eq!(run.verdict["verdict"], "diverged", "{}: {} {}", server.info, run.verdict, run.errors);
        assert_eq!(run.code, 1);
        let vdiff =
            run.verdict["oracles"].as_array().unwrap().iter().find(|o| o["name"] == "vdiff").unwrap().clone();
        assert_eq!(vdiff["finding"], "fail");
        assert!(vdiff["evidence"][0].as_str().unwrap().contains('='), "rows are named: {vdiff}");
        let open = run.verdict["not_verified"].to_string();
        assert!(
            open.contains("the strategy naive is wrong on purpose: a pass says nothing about it"),
            "{open}"
        );
    }
}

#[test]
fn a_run_that_proved_nothing_is_not_converged() {
    let server = support::servers().remove(0);
    let scenario = "
        settle_seconds = 0.0
        [least]
        each_kind = 0
        during_copy = 1000000
        [load]
        rows = 2000
        statements_per_second = 300.0
    ";
    let run = rehearse(&server, scenario, 3);
    assert_eq!((run.code, run.verdict["verdict"].as_str()), (3, Some("not_proven")), "{}", run.verdict);
    assert!(run.verdict["reasons"][0].as_str().unwrap().contains("copy_under_load"), "{}", run.verdict);
}

#[test]
fn bad_input_ends_with_what_why_and_what_to_do() {
    let run = |arguments: &[&str]| {
        let output = rehearsal::converge().arg("rehearse").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, errors) = run(&["/nowhere/scenario.toml"]);
    assert!(code == Some(2) && errors.contains("scenario.toml") && errors.contains("what to do"), "{errors}");
    let (code, errors) = run(&["--server", "/nowhere/mysqld"]);
    assert!(code == Some(2) && errors.contains("/nowhere/mysqld"), "{errors}");
    assert_eq!(run(&["--sede", "7"]).0, Some(2));
}
