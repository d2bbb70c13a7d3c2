//! Targets whose position covers the source's by chance, or that are ahead of it: what differs may be late, on either side.

use std::sync::Arc;
use std::time::Duration;

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::Flavor;
use converge_vdiff::{Progress, ProofSource, Report, Request, TablePair, Verdict, compare};
use mysql_async::prelude::Queryable as _;
use tokio::sync::Notify;

use super::common::{connect, fresh, report, run, server_with};
use super::followed::Pair;
use super::{replication, support, until};

const OFF: [&str; 2] = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];

/// The statement that stops, or starts, what applies.
pub fn applier(server: &LocalServer, verb: &str) -> String {
    match server.binary().info.flavor {
        Flavor::MySql => format!("{verb} REPLICA SQL_THREAD"),
        Flavor::MariaDb => format!("{verb} SLAVE SQL_THREAD"),
    }
}

fn of_flavor(flavor: Flavor) -> ServerBinary {
    support::servers().into_iter().find(|b| b.info.flavor == flavor).expect("a server of each flavor")
}

async fn on(server: &LocalServer, sql: &str) {
    run(&mut connect(server, "").await, sql).await;
}

async fn until_on(server: &LocalServer, what: &str, sql: &str) {
    until(&mut connect(server, "").await, what, sql).await;
}

/// A comparison of a table `a` by the replication of the two.
pub fn between(source: &LocalServer, target: &LocalServer) -> Request {
    let mut request = Request {
        source: vec![source.address("shop")],
        target: vec![target.address("shop")],
        tables: vec![TablePair::same("a")],
        options: Default::default(),
    };
    request.options.proof = ProofSource::Replica;
    request.options.confirm_within = Duration::from_secs(3);
    request
}

/// A table of a few rows, made on `server`.
async fn make(server: &LocalServer) {
    let mut conn = fresh(server, "shop").await;
    run(&mut conn, "CREATE TABLE a (id INT PRIMARY KEY, v INT)").await;
    run(&mut conn, "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)").await;
}

const FILLED: &str = "SELECT COUNT(*) = 3 FROM shop.a";

async fn unproven(request: &Request, words: &str) {
    let found = report(request).await;
    let reasons = found.tables[0].reasons.join("\n");
    assert_eq!(found.verdict, Verdict::NotProven, "{}", found.to_text());
    assert!(reasons.contains(words), "{words:?} is not in {reasons:?}");
}

async fn is(request: &Request, verdict: Verdict) -> Report {
    let found = report(request).await;
    assert_eq!(found.verdict, verdict, "{}", found.to_text());
    found
}

/// Two replicas of one server, and one of a replica: the source gets later what the target has.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_late_itself_proves_nothing() {
    let binary = of_flavor(Flavor::MySql);
    let first = server_with(&binary, &[]).await;
    let [late, early, last] =
        [server_with(&binary, &[]).await, server_with(&binary, &[]).await, server_with(&binary, &[]).await];
    for (source, replica) in [(&first, &late), (&first, &early), (&early, &last)] {
        replication::replicate(source, replica).await;
    }
    make(&first).await;
    for server in [&late, &early, &last] {
        until_on(server, "the rows", FILLED).await;
    }
    for server in [&late, &last] {
        on(server, &applier(server, "STOP")).await;
    }
    on(&first, "UPDATE shop.a SET v = 20 WHERE id = 2").await;
    until_on(&early, "the update", "SELECT v = 20 FROM shop.a WHERE id = 2").await;
    let pairs = [between(&late, &early), between(&last, &early)];
    for request in &pairs {
        unproven(request, "the target is ahead of the source").await;
    }
    for server in [&late, &last] {
        on(server, &applier(server, "START")).await;
        until_on(server, "the update", "SELECT v = 20 FROM shop.a WHERE id = 2").await;
    }
    on(&early, "SET sql_log_bin = 0; UPDATE shop.a SET v = 30 WHERE id = 3").await;
    for request in &pairs {
        assert_eq!(is(request, Verdict::Different).await.tables[0].mismatched_rows, 1);
    }
}

/// Each replicates the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_back_is_late() {
    let mut trials: Vec<(ServerBinary, &[&str], &str)> = vec![(of_flavor(Flavor::MySql), &OFF, "read_only")];
    trials.extend(support::servers().into_iter().map(|binary| (binary, &[][..], "ahead of the source")));
    for (binary, more, words) in trials {
        let (one, two) = (server_with(&binary, more).await, server_with(&binary, more).await);
        replication::replicate(&one, &two).await;
        replication::replicate(&two, &one).await;
        make(&one).await;
        until_on(&two, "the rows", FILLED).await;
        on(&one, &applier(&one, "STOP")).await;
        on(&two, "UPDATE shop.a SET v = 20 WHERE id = 2").await;
        // MariaDB's numbers of a domain go on: this one is as high.
        on(&one, "UPDATE shop.a SET v = 10 WHERE id = 1").await;
        until_on(&two, "the update", "SELECT v = 10 FROM shop.a WHERE id = 1").await;
        unproven(&between(&one, &two), words).await;
        on(&one, &applier(&one, "START")).await;
        is(&between(&one, &two), Verdict::Equal).await;
    }
}

/// Replication ends in the middle, and the target is written to.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_goes_away_proves_nothing_any_more() {
    for binary in support::servers() {
        let pair = Pair::replicated(&binary, &[]).await;
        let mut slow = Request { tables: vec![TablePair::same("account")], ..pair.request() };
        (slow.options.first_chunk_rows, slow.options.max_chunk_rows) = (2, 2);
        slow.options.confirm_within = Duration::from_secs(3);
        let begun = Arc::new(Notify::new());
        let tell = begun.clone();
        let running = tokio::spawn(async move {
            let progress = |progress| {
                if matches!(progress, Progress::Rows { .. }) {
                    tell.notify_one();
                }
            };
            compare(&slow, &progress).await
        });
        begun.notified().await;
        let end = match binary.info.flavor {
            Flavor::MySql => "STOP REPLICA; RESET REPLICA ALL",
            Flavor::MariaDb => "STOP SLAVE; RESET SLAVE ALL",
        };
        on(&pair.target, end).await;
        on(&pair.target, "UPDATE shop.account SET v = 'promoted' WHERE id > 15000").await;
        let found = running.await.unwrap().unwrap();
        let reasons = found.tables[0].reasons.join("\n");
        assert_eq!(found.verdict, Verdict::NotProven, "{}", found.to_text());
        assert!(reasons.contains("does not replicate") && reasons.contains("any more"), "{reasons}");
        assert!(found.notes.iter().any(|note| note.contains("any more")), "{:?}", found.notes);
    }
}

/// The source's numbers begin anew while the target has yet to apply old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_reset_proves_nothing() {
    let mut trials: Vec<(ServerBinary, &[&str])> = vec![(of_flavor(Flavor::MySql), &OFF)];
    trials.extend(support::servers().into_iter().map(|binary| (binary, &[][..])));
    for (binary, more) in trials {
        let (source, target) = (server_with(&binary, more).await, server_with(&binary, more).await);
        replication::replicate(&source, &target).await;
        make(&source).await;
        until_on(&target, "the rows", FILLED).await;
        on(&target, &applier(&target, "STOP")).await;
        on(&source, "UPDATE shop.a SET v = 20 WHERE id = 2").await;
        received(&target).await;
        let reset = match binary.info.flavor {
            Flavor::MySql => "RESET BINARY LOGS AND GTIDS",
            Flavor::MariaDb => "RESET MASTER",
        };
        on(&source, reset).await;
        on(&source, "CREATE DATABASE other").await;
        unproven(&between(&source, &target), "its log was reset").await;
        on(&target, &applier(&target, "START")).await;
        until_on(&target, "the update", "SELECT v = 20 FROM shop.a WHERE id = 2").await;
        is(&between(&source, &target), Verdict::Equal).await;
    }
}

/// Waits until the receiver has what is not applied.
async fn received(target: &LocalServer) {
    let (sql, read, applied) = match target.binary().info.flavor {
        Flavor::MySql => ("SHOW REPLICA STATUS", "Read_Source_Log_Pos", "Exec_Source_Log_Pos"),
        Flavor::MariaDb => ("SHOW ALL SLAVES STATUS", "Read_Master_Log_Pos", "Exec_Master_Log_Pos"),
    };
    let mut conn = connect(target, "").await;
    for _ in 0..300 {
        let row: mysql_async::Row = conn.query_first(sql).await.unwrap().unwrap();
        if row.get::<u64, _>(read).unwrap() > row.get::<u64, _>(applied).unwrap() {
            // The whole of it.
            return tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing was received");
}

/// Somebody wrote to the replica, as everybody can see.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_the_target_alone_is_different() {
    let mut trials: Vec<(ServerBinary, &[&str])> = vec![(of_flavor(Flavor::MySql), &OFF)];
    trials.extend(support::servers().into_iter().map(|binary| (binary, &[][..])));
    for (binary, more) in trials {
        let (source, target) = (server_with(&binary, more).await, server_with(&binary, more).await);
        replication::replicate(&source, &target).await;
        make(&source).await;
        until_on(&target, "the rows", FILLED).await;
        on(&target, "UPDATE shop.a SET v = 20 WHERE id = 2").await;
        on(&source, "UPDATE shop.a SET v = 30 WHERE id = 3").await;
        let table = is(&between(&source, &target), Verdict::Different).await.tables.remove(0);
        assert!(table.mismatched_rows == 1 && table.rows[0].position.is_some(), "{table:?}");
    }
}

/// Of several threads that apply domains side by side, a place in a file shows the farthest.
#[tokio::test(flavor = "multi_thread")]
async fn domains_that_are_applied_side_by_side_are_told_by_gtids() {
    let binary = of_flavor(Flavor::MariaDb);
    let (one, two) = (
        server_with(&binary, &["--gtid-domain-id=1"]).await,
        server_with(&binary, &["--gtid-domain-id=2"]).await,
    );
    let threads = ["--slave-parallel-threads=4", "--slave-domain-parallel-threads=2"];
    let replica = server_with(&binary, &threads).await;
    for (channel, source) in [("one", &one), ("two", &two)] {
        let to = format!("master_host = '127.0.0.1', master_port = {}, master_user = 'root'", source.port());
        on(&replica, &format!("CHANGE MASTER '{channel}' TO {to}, master_use_gtid = slave_pos")).await;
        on(&replica, &format!("START SLAVE '{channel}'")).await;
    }
    make(&one).await;
    on(&two, "CREATE DATABASE other").await;
    until_on(&replica, "the rows", FILLED).await;
    until_on(&replica, "both domains", "SELECT @@gtid_slave_pos LIKE '%,%'").await;
    let request = between(&one, &replica);
    on(&replica, "UPDATE shop.a SET v = 20 WHERE id = 2").await;
    let table = is(&request, Verdict::Different).await.tables.remove(0);
    let position = table.rows[0].position.clone().unwrap_or_default();
    assert!(position.starts_with("mariadb-gtid:1-"), "{table:?}");
}
