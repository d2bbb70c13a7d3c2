//! Servers in containers, where a Docker engine answers: each fault bites and heals, a whole rehearsal converges, and
//! nothing is left behind.
//!
//! Images are made of the servers of this machine. Without an engine these tests say so and check nothing, unless
//! `CONVERGE_REQUIRE_DOCKER` is set, as it is where an engine is known to be.

#![cfg(feature = "docker")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use converge_chaos::fault::{
    self, Record, kill_server, pause_server, restart_server, resume_server, stop_server,
};
use converge_chaos::history::History;
use converge_chaos::server::{Container, ServerOptions};
use converge_mysql::Connector;
use mysql_async::prelude::Queryable;
use rehearsal::converge;

/// How long the watchdog may take after the harness was killed.
const CLEANED: Duration = Duration::from_secs(60);

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("docker: {e}"))
}

/// An image of each server of this machine; none without an engine.
fn images() -> &'static [String] {
    static IMAGES: OnceLock<Vec<String>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let answers = Command::new("docker").arg("info").output().is_ok_and(|o| o.status.success());
        if !answers {
            assert!(std::env::var_os("CONVERGE_REQUIRE_DOCKER").is_none(), "no Docker engine answers");
            eprintln!("SKIPPED: no Docker engine answers");
            return Vec::new();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/docker-image");
        let image = |server: converge_chaos::server::ServerBinary| {
            let name = format!("converge-{}:{}", server.kind(), server.info.version);
            let made = Command::new(&script).arg(&server.path).arg(&name).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            name
        };
        support::servers().into_iter().map(image).collect()
    })
}

/// A rehearsal in containers, and how the names of its two begin.
fn start(image: &str, report: &Path, more: &[&str]) -> (Child, [String; 2]) {
    let mut command = converge();
    command.args(["rehearse", "--seed", "3", "--image", image]).args(more).arg("--report").arg(report);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let names = ["source", "target"].map(|side| format!("converge-{side}-{}-", child.id()));
    (child, names)
}

/// Containers and networks whose names begin like this.
fn left(prefix: &str) -> String {
    let filter = format!("name=^{prefix}");
    let containers = docker(&["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"]);
    let networks = docker(&["network", "ls", "--filter", &filter, "--format", "{{.Name}}"]);
    [containers.stdout, networks.stdout].map(|text| String::from_utf8(text).unwrap()).concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_of_a_container_bites_and_heals() {
    for image in images() {
        let directory = tempfile::tempdir().unwrap();
        let history = History::create(&directory.path().join("history.jsonl")).unwrap();
        let record = |name| Record { name, history: &history };
        let server = Container::start(image, &ServerOptions::named("bitten")).await.unwrap();
        let name = server.name().to_owned();
        let mut conn = Connector::new(server.address("")).connect().await.unwrap();
        conn.query_drop("CREATE DATABASE d").await.unwrap();
        conn.query_drop("CREATE TABLE d.t (id INT PRIMARY KEY)").await.unwrap();
        conn.query_drop("INSERT INTO d.t VALUES (1), (2)").await.unwrap();

        let cut = fault::unplug(record("unplug"), &server).await.unwrap();
        assert!(cut.contains("a new one"), "{cut}");
        fault::plug_in(record("unplug"), &server).await.unwrap();
        let silent = pause_server(record("pause"), &server).await.unwrap();
        assert!(silent.contains("says nothing"), "{silent}");
        resume_server(record("pause"), &server).await.unwrap();
        for killed in [true, false] {
            let gone = match killed {
                true => kill_server(record("kill"), &server).await.unwrap(),
                false => stop_server(record("restart"), &server).await.unwrap(),
            };
            assert!(gone.contains("does not run"), "{gone}");
            restart_server(record("kill"), &server).await.unwrap();
            let mut conn = Connector::new(server.address("d")).connect().await.unwrap();
            let rows: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap();
            assert_eq!(rows, Some(2), "{image}");
        }
        assert!(left(&name).contains(&name));
        drop(server);
        assert_eq!(left(&name), "");
    }
}

#[test]
fn a_rehearsal_in_containers_converges_and_leaves_nothing() {
    for image in images() {
        let report = tempfile::tempdir().unwrap();
        let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker.toml");
        let scenario = scenario.to_str().unwrap();
        let (child, mine) = start(image, report.path(), &["--format", "json", scenario]);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{image}: {errors}");
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(verdict["verdict"], "converged", "{errors}");
        let faults = verdict["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 5);
        assert!(faults.iter().all(|fault| !fault["observed"].is_null()), "{faults:?}");
        assert_eq!(mine.map(|prefix| left(&prefix)).concat(), "");
    }
}

#[test]
fn containers_of_a_harness_that_is_killed_go_too() {
    let Some(image) = images().last() else { return };
    let report = tempfile::tempdir().unwrap();
    let (mut child, mine) = start(image, report.path(), &[]);
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let copying = lines.map_while(Result::ok).find(|line| line.contains("copying:"));
    assert!(copying.is_some(), "the rehearsal ended before it copied");
    assert!(mine.iter().all(|prefix| !left(prefix).is_empty()));
    child.kill().unwrap();
    child.wait().unwrap();
    let give_up = Instant::now() + CLEANED;
    while mine.iter().any(|prefix| !left(prefix).is_empty()) {
        assert!(Instant::now() < give_up, "{:?} are still there", mine.map(|prefix| left(&prefix)));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_cannot_be_done_with_containers_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let scenario = directory.path().join("scenario.toml");
    let refused = |kind: &str, more: &[&str]| {
        std::fs::write(&scenario, format!("[[fault]]\nkind = '{kind}'\n")).unwrap();
        let report = directory.path().join("report");
        let output =
            converge().arg("rehearse").args(more).arg(&scenario).arg("--report").arg(&report).output();
        let output = output.unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        errors
    };
    for kind in ["disk_full", "failover", "restore_to_past"] {
        let errors = refused(kind, &["--docker"]);
        assert!(errors.contains(kind) && errors.contains("without --docker"), "{errors}");
    }
    let errors = refused("unplug", &[]);
    assert!(errors.contains("unplug") && errors.contains("network_down"), "{errors}");
    if images().is_empty() {
        return;
    }
    // From a registry that is not there: nothing leaves this machine.
    let errors = refused("kill_target", &["--image", "127.0.0.1:1/nothing:1"]);
    assert!(errors.contains("127.0.0.1:1/nothing:1") && errors.contains("docker images"), "{errors}");
}
