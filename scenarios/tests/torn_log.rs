//! Oracles that read the target's log go on behind one that ends in the middle of an event, as a server leaves it that
//! died while it wrote, and prove nothing by one that was wiped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/servers.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor, Version};
use converge_scenarios::oracle::commits;
use converge_scenarios::oracle::logs::{self, Mark, Since};
use converge_scenarios::oracle::silence::{self, Marks};
use converge_scenarios::verdict::Finding;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// What a mover makes on a target, and the first rows.
const MADE: [&str; 6] = [
    "CREATE DATABASE shop",
    "CREATE TABLE shop.t (id INT PRIMARY KEY)",
    "INSERT INTO shop.t VALUES (1)",
    "CREATE DATABASE _converge",
    "CREATE TABLE _converge.applied (workflow VARCHAR(64) PRIMARY KEY, position LONGTEXT NOT NULL, commits INT)",
    "INSERT INTO _converge.applied VALUES ('w', 'file:bin.1:5', 0), ('other', 'file:bin.9:1', 0)",
];

async fn execute(server: &LocalServer, statements: &[&str]) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
    conn
}

fn checkpoint(position: u64) -> String {
    format!("UPDATE _converge.applied SET position = 'file:bin.1:{position}', commits = commits + 1")
}

/// The log that the server writes to.
async fn current_log(conn: &mut Conn) -> PathBuf {
    let basename: String = conn.query_first("SELECT @@log_bin_basename").await.unwrap().unwrap();
    let logs: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.unwrap();
    let last: String = logs.last().unwrap().get(0).unwrap();
    Path::new(&basename).with_file_name(last)
}

async fn torn(binary: &ServerBinary) {
    let server = LocalServer::start(binary, ServerOptions::named("target")).await.unwrap();
    let began = Mark::set(&server.address("")).await.unwrap();
    execute(&server, &MADE).await;
    let mut conn = execute(&server, &[&checkpoint(10), &checkpoint(20)]).await;
    let log = current_log(&mut conn).await;
    drop(conn);
    server.kill().await.unwrap();
    // The end of the last commit is lost.
    let file = std::fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 7).unwrap();
    server.restart().await.unwrap();
    // What the log lost the tables may still have: not compared with what comes in the next log.
    execute(&server, &[&checkpoint(15), &checkpoint(30), "INSERT INTO shop.t VALUES (2)"]).await;
    let target = server.address("shop");
    let read = commits::read(&target, "w", &began).await.unwrap();
    assert!(read.went_back.is_empty() && read.since == Since::Whole, "{read:?}");
    // MySQL removes the whole transaction that it cannot read, MariaDB leaves what there is.
    let (seen, cut) = match binary.info.flavor {
        Flavor::MySql => (4, 0),
        Flavor::MariaDb => (5, 1),
    };
    assert_eq!((read.seen, read.torn.0.len()), (seen, cut), "{read:?}");
    let marks = Marks { began: began.clone(), drained: logs::end(&target).await.unwrap() };
    let oracle = silence::judge(&target, &marks, &["t".into()]).await;
    assert_eq!(oracle.finding, Finding::Pass, "{oracle:?}");
    assert_eq!(oracle.detail.contains("ends where the server died"), cut == 1, "{oracle:?}");
    // In one log it counts.
    execute(&server, &[&checkpoint(29)]).await;
    let back = commits::read(&target, "w", &began).await.unwrap();
    assert!(back.went_back.len() == 1 && back.went_back[0].contains("bin.1:30"), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_log_of_the_target_hides_nothing_behind_it() {
    for binary in support::servers() {
        eprintln!("on {}", binary.info);
        torn(&binary).await;
    }
}

/// What somebody wrote is gone with the log, which goes on under the same name, past where it had been.
async fn wiped(binary: &ServerBinary) {
    let server = LocalServer::start(binary, ServerOptions::named("target")).await.unwrap();
    let began = Mark::set(&server.address("")).await.unwrap();
    let reset = match binary.info.is_mysql_since(Version(8, 2, 0)) {
        true => "RESET BINARY LOGS AND GTIDS",
        false => "RESET MASTER",
    };
    execute(&server, &["CREATE DATABASE stranger", "DROP DATABASE stranger"]).await;
    execute(&server, &MADE).await;
    let target = server.address("shop");
    let moved = ["t".to_owned()];
    let judged = async || {
        let marks = Marks { began: began.clone(), drained: logs::end(&target).await.unwrap() };
        let commits = commits::read(&target, "w", &began).await.unwrap();
        (silence::judge(&target, &marks, &moved).await.finding, commits.since, commits.seen)
    };
    assert_eq!(judged().await, (Finding::Pass, Since::Whole, 1));
    let more = [&checkpoint(10), &checkpoint(20), "INSERT INTO shop.t VALUES (2)"];
    execute(&server, &[&[reset], &more[..]].concat()).await;
    assert_eq!(judged().await, (Finding::Unknown, Since::Wiped, 2));
    execute(&server, &["FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
    assert_eq!(judged().await.1, Since::Wiped);
    let mut conn = execute(&server, &[]).await;
    let last = current_log(&mut conn).await.file_name().unwrap().to_str().unwrap().to_owned();
    let give_up = Instant::now() + Duration::from_secs(30);
    loop {
        // A server keeps a log that somebody read until it has seen the reader's end.
        execute(&server, &[&format!("PURGE BINARY LOGS TO '{last}'")]).await;
        match judged().await.1 {
            Since::Cut => break,
            _ => assert!(Instant::now() < give_up, "nothing was purged"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_the_target_that_was_wiped_proves_nothing() {
    for binary in support::servers() {
        eprintln!("on {}", binary.info);
        wiped(&binary).await;
    }
}
