//! Oracles on real servers: what somebody plants on the target in the middle of a rehearsal is found by the oracle
//! whose business it is, and told with the row, its statements and the faults between them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use converge_chaos::history::{Event, Reading, read};
use converge_chaos::server::ServerBinary;
use converge_mysql::{Address, Connector};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;

/// Small, with time to plant something once the rows are copied.
const SCENARIO: &str = "
name = 'planted'
settle_seconds = 4.0
limit_seconds = 120.0
least = { each_kind = 1, during_copy = 10 }
copy = { rows_per_second = 4000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 500.0 }
";

/// What is done to the target: nothing that a change on the source explains. The first and last keys stay: the switch
/// looks at them.
const PLANTED: [&str; 7] = [
    "SELECT position INTO @older FROM _converge.applied",
    "UPDATE account SET balance = balance + 7 WHERE id = 5",
    "UPDATE counter SET c = c + 100000",
    "DELETE FROM journal WHERE n = 2",
    "DELETE ledger FROM ledger JOIN (SELECT id FROM ledger ORDER BY id LIMIT 1, 1) AS second USING (id)",
    "UPDATE customer SET update_cnt = update_cnt + 1 WHERE id = 1500",
    "CREATE TABLE stranger AS SELECT 1 AS x",
];

/// A checkpoint that goes back and forth before anybody can look at it.
const BACK_AND_FORTH: [&str; 5] = [
    "START TRANSACTION",
    "SELECT position INTO @now FROM _converge.applied FOR UPDATE",
    "UPDATE _converge.applied SET position = @older",
    "UPDATE _converge.applied SET position = @now",
    "COMMIT",
];

/// Waits until readings of the whole target are made, and returns the target's port.
fn until_copied(directory: &Path) -> u16 {
    let give_up = Instant::now() + Duration::from_secs(90);
    let whole = |reading: &Reading| reading.journal.as_ref().is_some_and(|(rows, _)| *rows > 3);
    loop {
        assert!(Instant::now() < give_up, "the copy did not end");
        let history = read(&directory.join("history.jsonl"));
        let mut replicating = false;
        for entry in history.into_iter().flatten().flatten() {
            match entry.event {
                Event::Sample(sample) => replicating = sample.state == "replicating",
                Event::Reading(reading) if replicating && whole(&reading) => {
                    return port_in(directory, "target.log");
                }
                _ => {}
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The port that a server's log names.
fn port_in(directory: &Path, log: &str) -> u16 {
    let log = std::fs::read(directory.join(log)).unwrap();
    let log = String::from_utf8_lossy(&log);
    // What comes before the first mention is no port.
    let mut ports = log.split("port: ").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|port| *port > 0)
    });
    ports.next().unwrap()
}

fn oracle<'a>(verdict: &'a Value, name: &str) -> &'a Value {
    verdict["oracles"].as_array().unwrap().iter().find(|o| o["name"] == name).unwrap()
}

async fn execute(conn: &mut Conn, statements: &[&str]) {
    for statement in statements {
        conn.query_drop(*statement).await.unwrap_or_else(|e| panic!("{e}: {statement}"));
    }
}

/// A session of somebody else on the source, once the copy is complete.
async fn at_source(directory: &Path) -> Conn {
    let here = directory.to_owned();
    let looked = move || {
        until_copied(&here);
        port_in(&here, "source.log")
    };
    let port = tokio::task::spawn_blocking(looked).await.unwrap();
    let source: Address = format!("mysql://root@127.0.0.1:{port}/commerce").parse().unwrap();
    Connector::new(source).connect().await.unwrap()
}

/// What somebody does to the source reaches the target too: both are equal.
async fn damaged_source(binary: &ServerBinary) {
    let directory = tempfile::tempdir().unwrap();
    let damaging = async {
        let mut conn = at_source(directory.path()).await;
        let grants: Vec<String> = conn.query("SHOW GRANTS FOR mover@'127.0.0.1'").await.unwrap();
        let on_rows = |grant: &&String| grant.contains("commerce");
        let grants: Vec<&String> = grants.iter().filter(on_rows).collect();
        assert_eq!(grants.len(), 1, "{grants:?}");
        assert!(!["ALL", "UPDATE", "DELETE"].iter().any(|right| grants[0].contains(right)), "{grants:?}");
        execute(&mut conn, &["DELETE FROM customer WHERE id BETWEEN 900 AND 950"]).await;
    };
    let (binary, here) = (binary.clone(), directory.path().to_owned());
    let running = tokio::task::spawn_blocking(move || rehearsal::rehearse_in(&binary, SCENARIO, 6, &here));
    let (output, ()) = tokio::join!(running, damaging);
    let (code, verdict, errors) = output.unwrap();
    assert_eq!((code, verdict["verdict"].as_str()), (1, Some("diverged")), "{verdict}\n{errors}");
    let found = oracle(&verdict, "source");
    assert_eq!(
        (&found["finding"], found["evidence"].as_array().unwrap().len()),
        (&"fail".into(), 1),
        "{found}"
    );
    for word in ["commerce.customer", "DELETE FROM customer WHERE id BETWEEN 900 AND 950"] {
        assert!(found["evidence"].to_string().contains(word), "{found}");
    }
    assert_eq!(oracle(&verdict, "vdiff")["finding"], "pass", "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_damaged_is_found_though_the_target_is_equal_to_it() {
    for binary in support::servers() {
        eprintln!("damaged on {}", binary.info);
        damaged_source(&binary).await;
    }
}

async fn plants(binary: &ServerBinary) {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_owned();
    let planting = async {
        let port = tokio::task::spawn_blocking(move || until_copied(&here)).await.unwrap();
        let target: Address = format!("mysql://root@127.0.0.1:{port}/commerce").parse().unwrap();
        let mut conn = Connector::new(target).connect().await.unwrap();
        execute(&mut conn, &PLANTED).await;
        let give_up = Instant::now() + Duration::from_secs(60);
        let older = "SELECT position = @older FROM _converge.applied";
        while conn.query_first::<bool, _>(older).await.unwrap().unwrap() {
            assert!(Instant::now() < give_up, "nothing more was applied");
        }
        execute(&mut conn, &BACK_AND_FORTH).await;
    };
    let (binary, here) = (binary.clone(), directory.path().to_owned());
    let running = tokio::task::spawn_blocking(move || rehearsal::rehearse_in(&binary, SCENARIO, 6, &here));
    let (output, ()) = tokio::join!(running, planting);
    let (code, verdict, errors) = output.unwrap();
    assert_eq!((code, verdict["verdict"].as_str()), (1, Some("diverged")), "{verdict}\n{errors}");
    for (name, word) in [
        ("bank", "100007"),
        ("counters", "increments"),
        ("journal", "entries"),
        ("ledger", "the source has it"),
        // Rows that the load writes to again are as they were.
        ("vdiff", "n=2: is missing on the target"),
        ("silence", "stranger"),
        ("checkpoint", "written over"),
    ] {
        let oracle = oracle(&verdict, name);
        assert_eq!(oracle["finding"], "fail", "{oracle}");
        assert!(oracle["evidence"].to_string().contains(word), "{oracle}");
    }
    let stories = verdict["explanation"].as_array().unwrap();
    assert!(!stories.is_empty() && stories.len() <= 3, "{stories:?}");
    let ledger = stories.iter().find(|s| s["row"].as_str().unwrap().starts_with("ledger ")).unwrap();
    let told = ledger["told"].to_string();
    for word in ["INSERT INTO ledger", "acknowledged at", "the source's log had reached", "no fault fell"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let page = std::fs::read_to_string(directory.path().join("report.html")).unwrap();
    assert!(page.contains("What happened"));
    for name in ["position", "mover", "liveness", "load", "source"] {
        assert_eq!(oracle(&verdict, name)["finding"], "pass", "{}", oracle(&verdict, name));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_on_the_target_is_found_by_the_oracle_for_it() {
    for binary in support::servers() {
        eprintln!("planted on {}", binary.info);
        plants(&binary).await;
    }
}
