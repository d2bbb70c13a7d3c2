//! Rehearsals of what seldom happens: a full disk and a failover, which a mover survives, and a source that lost what the mover still
//! needs, after which it must stop and say so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use rehearsal::{Run, converge, rehearse};
use serde_json::Value;

/// `FAULT` is put in.
const SCENARIO: &str = "
settle_seconds = 0.0
limit_seconds = 240.0
least = { each_kind = 5, during_copy = 10, catch_up_seconds = 100.0 }
copy = { rows_per_second = 2000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 600.0 }
[[fault]]
FAULT
";

fn with_fault(server: &ServerBinary, fault: &str) -> Run {
    rehearse(server, &SCENARIO.replace("FAULT", fault), 6)
}

fn oracle<'a>(run: &'a Run, name: &str) -> &'a Value {
    let all = run.verdict["oracles"].as_array().unwrap_or_else(|| panic!("{}", run.errors));
    all.iter().find(|o| o["name"] == name).unwrap_or_else(|| panic!("no {name}: {}", run.verdict))
}

/// Whether this machine can give a server a disk of its own.
async fn has_disks(server: &ServerBinary) -> bool {
    let options = ServerOptions { disk: Some(512), ..ServerOptions::named("disk") };
    LocalServer::start(server, options).await.is_ok()
}

/// Mounted directories below this one.
fn mounted(below: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = below.to_str().unwrap();
    let path = |line: &str| line.split(' ').nth(1).map(str::to_owned);
    mounts.lines().filter_map(path).filter(|path| path.starts_with(below)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_survived_or_cannot_be_had() {
    for server in support::servers() {
        eprintln!("full disk on {}", server.info);
        let run = with_fault(&server, "kind = 'disk_full'\nhold_seconds = 0.5");
        if !has_disks(&server).await {
            eprintln!("  this machine mounts no tmpfs, and must say so");
            assert_eq!(run.code, 2, "{}", run.errors);
            assert!(run.errors.contains("this machine cannot mount") && run.errors.contains("what to do"));
            continue;
        }
        let told = format!("{} {}", run.verdict, run.errors);
        assert_eq!((run.code, &run.verdict["verdict"]), (0, &"converged".into()), "{told}");
        let fault = &run.verdict["faults"][0];
        let observed = fault["observed"].as_str().unwrap();
        eprintln!("  {observed}");
        assert!(observed.contains("the server says: ") || observed.contains("ended over it"), "{fault}");
        assert!(observed.contains("the mover says") || observed.contains("no longer renewed"), "{fault}");
    }
}

#[test]
fn a_failover_is_survived_during_the_copy_and_after_it() {
    for (server, when) in support::servers().iter().zip(["at_copied = 0.3", ""].iter().cycle()) {
        eprintln!("failover on {}, {when}", server.info);
        // What comes after it happens to the new source.
        let more = "hold_seconds = 0.5\n[[fault]]\nkind = 'kill_source'\nhold_seconds = 0.2";
        let run = with_fault(server, &format!("kind = 'failover'\n{when}\n{more}"));
        assert_eq!(
            (run.code, &run.verdict["verdict"]),
            (0, &"converged".into()),
            "{} {}",
            run.verdict,
            run.errors
        );
        let faults = run.verdict["faults"].as_array().unwrap();
        let observed = faults[0]["observed"].as_str().unwrap();
        eprintln!("  {observed}");
        assert!(
            observed.contains("has everything up to") && observed.contains("the mover says"),
            "{observed}"
        );
        let (lost, killed) = (port(observed), port(faults[1]["observed"].as_str().unwrap()));
        assert_ne!(lost, killed, "{faults:?}");
        assert!(observed.contains(&format!("server on port {killed} has everything")), "{faults:?}");
    }
}

/// A mover that was cut off from the target knows little of where the source is.
#[test]
fn a_log_is_purged_once_the_mover_has_applied_what_it_holds() {
    for server in support::servers() {
        eprintln!("purge after a reset on {}", server.info);
        let reset = "kind = 'network_reset'\nside = 'target'\nhold_seconds = 9.0";
        let run = with_fault(&server, &format!("{reset}\n[[fault]]\nkind = 'purge_log'"));
        let told = format!("{} {}", run.verdict, run.errors);
        assert_eq!((run.code, &run.verdict["verdict"]), (0, &"converged".into()), "{told}");
    }
}

/// Parents and children, and a load that replaces rows of both.
const FAMILY: &str = "
CREATE TABLE person (id INT PRIMARY KEY, name VARCHAR(20), update_cnt INT NOT NULL DEFAULT 0);
CREATE TABLE pet (id INT PRIMARY KEY, person INT, name VARCHAR(20), FOREIGN KEY (person) REFERENCES person (id));
";

#[test]
fn a_failover_is_survived_by_tables_with_foreign_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("family.sql");
    std::fs::write(&file, FAMILY).unwrap();
    for server in support::servers() {
        eprintln!("failover with foreign keys on {}", server.info);
        let scenario = SCENARIO.replace("FAULT", "kind = 'failover'\nhold_seconds = 0.5");
        let run = rehearse(&server, &format!("schema = '{}'\n{scenario}", file.display()), 6);
        let told = format!("{} {}", run.verdict, run.errors);
        assert_eq!((run.code, &run.verdict["verdict"]), (0, &"converged".into()), "{told}");
        let observed = run.verdict["faults"][0]["observed"].as_str().unwrap();
        assert!(observed.contains("has everything up to"), "{observed}");
    }
}

/// The port that refuses connections.
fn port(observed: &str) -> &str {
    let endpoint = observed.split("is gone; ").nth(1).unwrap();
    endpoint.split(':').nth(1).unwrap()
}

/// Killed in its middle, a rehearsal leaves no disk either.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_goes_with_whoever_made_it() {
    let server = support::servers().remove(0);
    if !has_disks(&server).await {
        eprintln!("this machine mounts no tmpfs: a refused rehearsal is tested beside this");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let scenario = directory.path().join("scenario.toml");
    std::fs::write(&scenario, SCENARIO.replace("FAULT", "kind = 'disk_full'")).unwrap();
    let mut child = converge()
        .arg("rehearse")
        .arg(&scenario)
        .arg("--report")
        .arg(directory.path().join("report"))
        .arg("--server")
        .arg(&server.path)
        .env("TMPDIR", directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wait = async |what: &str, holds: &dyn Fn() -> bool| {
        let give_up = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < give_up, "{what}: {:?}", mounted(directory.path()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let running = || directory.path().join("report/mover.log").exists();
    wait("nothing is moved", &running).await;
    assert_eq!(mounted(directory.path()).len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || {
        let left = std::fs::read_dir(directory.path()).unwrap().flatten();
        let servers = left.filter(|e| e.file_name().to_string_lossy().starts_with("converge-"));
        mounted(directory.path()).is_empty() && servers.count() == 0
    };
    wait("something is left", &gone).await;
}

/// The verdict is that nothing is proven, and the first reason that the mover did what it must.
fn stops(server: &ServerBinary, kind: &str, physical: &str, words: &[&str]) {
    eprintln!("{kind} on {}", server.info);
    let run = with_fault(server, &format!("kind = '{kind}'"));
    assert_eq!((run.code, &run.verdict["verdict"]), (3, &"not_proven".into()), "{}", run.errors);
    let observed = run.verdict["faults"][0]["observed"].as_str().unwrap_or_else(|| panic!("{}", run.errors));
    assert!(observed.contains(physical), "{observed}");
    assert!(words.iter().any(|word| observed.contains(word)), "{observed}");
    let loud = oracle(&run, "loud_stop");
    assert_eq!(loud["finding"], "pass", "{loud}");
    let reason = run.verdict["reasons"][0].as_str().unwrap();
    assert!(reason.contains(kind) && reason.contains("as it must"), "{reason}");
    assert_eq!(oracle(&run, "faults")["finding"], "pass");
    for name in ["position", "vdiff"] {
        assert_eq!(oracle(&run, name)["finding"], "unknown", "{name}");
    }
}

#[test]
fn a_mover_whose_log_was_purged_stops_and_says_so() {
    for server in support::servers() {
        stops(&server, "purge_unread_log", " gone; the log was at ", &["purged"]);
    }
}

#[test]
fn a_mover_whose_source_went_back_in_time_stops_and_says_so() {
    for server in support::servers() {
        let words = ["went back in time", "not those of this workflow"];
        stops(&server, "restore_to_past", "was restored to", &words);
    }
}
