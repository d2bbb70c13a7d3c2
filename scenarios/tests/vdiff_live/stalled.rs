//! Replicas that do not come to where the source is: why, in words that help, and without waiting for nothing.

use std::time::{Duration, Instant};

use converge_mysql::Flavor;
use converge_vdiff::{Error, Request, TablePair, Verdict, compare};
use miette::Diagnostic as _;

use super::ahead::{applier, between};
use super::common::{connect, fresh, report, run, server_with};
use super::followed::Pair;
use super::support;

fn account(pair: &Pair) -> Request {
    Request { tables: vec![TablePair::same("account")], ..pair.request() }
}

async fn reasons(request: &Request) -> String {
    let found = report(request).await;
    assert_eq!(found.verdict, Verdict::NotProven, "{}", found.to_text());
    found.tables[0].reasons.join("\n")
}

/// Nothing is waited for that nobody applies.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_applier_is_not_waited_for() {
    for binary in support::servers() {
        let pair = Pair::replicated(&binary, &[]).await;
        run(&mut connect(&pair.target, "").await, &applier(&pair.target, "STOP")).await;
        run(&mut connect(&pair.source, "shop").await, "UPDATE account SET v = 'late' WHERE id = 501").await;
        let mut request = account(&pair);
        request.options.confirm_within = Duration::from_secs(60);
        let begun = Instant::now();
        let told = reasons(&request).await;
        assert!(told.contains("its applier does not run"), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}

/// A delay is named; and so is that no time was given.
#[tokio::test(flavor = "multi_thread")]
async fn a_delay_and_a_bound_of_nothing_are_named() {
    for binary in support::servers() {
        let pair = Pair::replicated(&binary, &[]).await;
        let mut request = account(&pair);
        request.options.confirm_within = Duration::ZERO;
        // Not as long as rows have to stand still.
        request.options.quiet_window = Duration::from_secs(1);
        let mut target = connect(&pair.target, "shop").await;
        let damage = "SET sql_log_bin = 0; UPDATE account SET v = 'damaged' WHERE id = 500";
        run(&mut target, damage).await;
        let load = super::load::Load::start(&pair.source, "shop", 2, 100).await;
        let told = reasons(&request).await;
        load.stop().await;
        assert!(!told.contains("looked up"), "{told}");

        let delay = match binary.info.flavor {
            Flavor::MySql => {
                "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 600; START REPLICA SQL_THREAD"
            }
            Flavor::MariaDb => "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 600; START SLAVE",
        };
        run(&mut target, delay).await;
        run(&mut connect(&pair.source, "shop").await, "UPDATE account SET v = 'late' WHERE id = 501").await;
        let told = reasons(&request).await;
        assert!(told.contains("configured to stay 600 s behind"), "{told}");
    }
}

/// Before it has connected, a replica does not know which server it replicates.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_not_connected_is_told_to() {
    for binary in support::servers() {
        let more: &[&str] = match binary.info.flavor {
            Flavor::MySql => &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"],
            Flavor::MariaDb => &[],
        };
        let (source, target) = (server_with(&binary, more).await, server_with(&binary, more).await);
        for server in [&source, &target] {
            fresh(server, "shop").await;
        }
        let (sql, start) = match binary.info.flavor {
            Flavor::MySql => {
                ("CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT", "START REPLICA on")
            }
            Flavor::MariaDb => ("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT", "START SLAVE on"),
        };
        run(&mut connect(&target, "").await, &format!("{sql} = {}", source.port())).await;
        let error: Error = compare(&between(&source, &target), &|_| {}).await.expect_err("an unknown source");
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        assert!(error.to_string().contains("has not connected") && help.contains(start), "{error}: {help}");
    }
}

/// A session that owns a GTID and does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn owned_gtids_are_named() {
    let binary = support::servers().into_iter().find(|b| b.info.flavor == Flavor::MySql).expect("a MySQL");
    let pair = Pair::replicated(&binary, &[]).await;
    let mut idle = connect(&pair.source, "shop").await;
    let owned = "11111111-1111-1111-1111-111111111111:7";
    run(&mut idle, &format!("SET gtid_next = '{owned}'")).await;
    run(&mut idle, "BEGIN").await;
    let mut target = connect(&pair.target, "shop").await;
    run(&mut target, "SET sql_log_bin = 0; UPDATE account SET v = 'damaged' WHERE id = 500").await;
    let mut request = account(&pair);
    request.options.confirm_within = Duration::from_secs(2);
    let told = reasons(&request).await;
    assert!(told.contains(owned) && told.contains("gtid_owned"), "{told}");
    run(&mut idle, "ROLLBACK").await;
    run(&mut idle, "SET gtid_next = 'AUTOMATIC'").await;
    assert_eq!(report(&request).await.verdict, Verdict::Different);
}
