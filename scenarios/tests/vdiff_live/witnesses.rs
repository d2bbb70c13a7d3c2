//! Witnesses that are missing, silent, of other servers, or must not be asked; and the least that an account needs.

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::{Address, Flavor};
use converge_vdiff::{Error, Progress, ProofSource, Report, Request, TablePair, Verdict, compare};
use miette::Diagnostic;
use mysql_async::prelude::Queryable as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::common::{connect, fresh, report, run, server_with};
use super::followed::Pair;
use super::load::Load;
use super::{replication, support};

/// What is refused, in the words for people and with the way out.
async fn refused(request: &Request, words: &[&str]) {
    let error: Error = match compare(request, &|_| {}).await {
        Ok(report) => panic!("not refused: {}", report.to_text()),
        Err(error) => error,
    };
    let told = format!("{error}: {}", error.help().map(|h| h.to_string()).unwrap_or_default());
    for word in words {
        assert!(told.contains(word), "{word:?} is not in {told:?}");
    }
}

fn of_workflow(request: &Request, name: &str) -> Request {
    let mut request = request.clone();
    request.options.proof = ProofSource::Workflow(name.into());
    request
}

fn with_accounts(request: &Request, user: &str) -> Request {
    let of = |list: &[Address]| list.iter().map(|a| Address { user: user.into(), ..a.clone() }).collect();
    Request { source: of(&request.source), target: of(&request.target), ..request.clone() }
}

/// A workflow of another name, server, database or table.
async fn others_are_refused(pair: &Pair) {
    let right = pair.request();
    refused(&of_workflow(&right, "v"), &["no workflow v", "w (replicating)"]).await;
    let unknown = TablePair { source: "account".into(), target: "label".into() };
    refused(&Request { tables: vec![unknown], ..right.clone() }, &["does not move", "account, label"]).await;
    let swapped = Request { source: right.target.clone(), ..right.clone() };
    refused(&swapped, &["moves rows from", "--source"]).await;
    fresh(&pair.source, "elsewhere").await;
    let elsewhere = Request { source: vec![pair.source.address("elsewhere")], ..right.clone() };
    refused(&elsewhere, &["source database shop", "/shop"]).await;
    let nowhere = Request { target: vec![pair.source.address("shop")], ..right.clone() };
    refused(&nowhere, &["no workflow"]).await;
    let sharded = Request { source: [right.source.clone(), elsewhere.source].concat(), ..right.clone() };
    refused(&sharded, &["one source and one target", "--workflow"]).await;
}

/// SELECT on the tables and on the workflow's state are enough, under writes too.
async fn reading_suffices(pair: &Pair) {
    for (server, grant) in [(&pair.source, "shop.*"), (&pair.target, "shop.*")] {
        let mut conn = connect(server, "").await;
        run(&mut conn, "CREATE USER reader@'127.0.0.1'").await;
        run(&mut conn, &format!("GRANT SELECT ON {grant} TO reader@'127.0.0.1'")).await;
    }
    let request = with_accounts(&pair.request(), "reader");
    refused(&request, &["may not read the workflow's state", "GRANT SELECT ON `_converge`.*"]).await;
    let mut target = connect(&pair.target, "shop").await;
    run(&mut target, "GRANT SELECT ON _converge.* TO reader@'127.0.0.1'").await;
    run(&mut target, "UPDATE account SET v = 'damaged' WHERE id = 500").await;
    let load = Load::start(&pair.source, "shop", 4, 500).await;
    let found = report(&request).await;
    load.stop().await;
    run(&mut target, "UPDATE account SET v = 'v500' WHERE id = 500").await;
    let table = &found.tables[0];
    assert_eq!((found.verdict, table.mismatched_rows), (Verdict::Different, 1), "{}", found.to_text());
    assert!(table.rows[0].confirmed && !found.source.stood_still, "{}", found.to_text());
}

/// A comparison that has read its first rows, and is long from its end.
async fn slowly(pair: &Pair) -> JoinHandle<Result<Report, Error>> {
    let mut slow = Request { tables: vec![TablePair::same("account")], ..pair.request() };
    (slow.options.first_chunk_rows, slow.options.max_chunk_rows) = (2, 2);
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
    running
}

/// One that was made anew under the name says nothing of rows that were read before.
async fn one_made_anew_is_another(pair: &Pair) {
    let running = slowly(pair).await;
    let mut target = connect(&pair.target, "_converge").await;
    run(&mut target, "UPDATE workflow SET created_at = created_at + INTERVAL 1 SECOND").await;
    let told = match running.await.unwrap() {
        Ok(report) => panic!("not noticed: {}", report.to_text()),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("the workflow w was removed from the target meanwhile, or made anew"), "{told}");
    assert_eq!(report(&pair.request()).await.verdict, Verdict::Equal);
}

/// The tables of a workflow need no names, and after the switch have others.
async fn a_switch_is_followed(pair: &mut Pair) {
    let all = Request { tables: Vec::new(), ..pair.request() };
    let before = report(&all).await;
    assert_eq!((before.verdict, before.tables.len()), (Verdict::Equal, 2), "{}", before.to_text());
    let running = slowly(pair).await;
    pair.mover().switch();
    let error = running.await.unwrap().expect_err("an end of the names");
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    assert!(error.to_string().contains("the workflow w has switched traffic"), "{error}");
    assert!(help.contains("run the same command again") && !help.contains("--tables"), "{help}");
    let after = report(&all).await;
    let named: Vec<&str> = after.tables.iter().map(|t| t.table.as_str()).collect();
    assert_eq!((after.verdict, named), (Verdict::Equal, vec!["_account_fenced", "_label_fenced"]));
    assert!(after.notes.iter().any(|note| note.contains("switched traffic")), "{:?}", after.notes);
}

/// What is late because nobody applies it is never a difference, even while both servers stand still.
async fn a_dead_mover_proves_nothing(pair: &mut Pair) {
    pair.mover().kill();
    let mut source = connect(&pair.source, "shop").await;
    run(&mut source, "UPDATE account SET v = 'late' WHERE id = 501").await;
    let mut request = pair.request();
    request.options.confirm_within = Duration::from_millis(2500);
    let found = report(&request).await;
    let table = &found.tables[0];
    assert_eq!((found.verdict, table.unconfirmed_rows), (Verdict::NotProven, 1), "{}", found.to_text());
    assert!(!table.rows[0].confirmed, "{}", found.to_text());
    assert!(table.reasons.iter().any(|r| r.contains("the workflow w")), "{:?}", table.reasons);
    pair.mover().start();
    pair.mover().wait_until("a runner", |s| s["running"] == true && s["state"] == "replicating");
    assert_eq!(report(&pair.request()).await.verdict, Verdict::Equal);
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_asked_for_what_they_know() {
    for binary in support::servers() {
        let mut pair = Pair::moved(&binary).await;
        others_are_refused(&pair).await;
        reading_suffices(&pair).await;
        a_dead_mover_proves_nothing(&mut pair).await;
        one_made_anew_is_another(&pair).await;
        a_switch_is_followed(&mut pair).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_asked_for_what_they_know() {
    for binary in support::servers() {
        let pair = Pair::replicated(&binary, &[]).await;
        let mysql = binary.info.flavor == Flavor::MySql;
        let backwards =
            Request { source: pair.request().target, target: pair.request().source, ..pair.request() };
        refused(&backwards, &["is no replica"]).await;
        let mut source = connect(&pair.source, "").await;
        run(&mut source, "CREATE USER reader@'127.0.0.1'").await;
        run(&mut source, "GRANT SELECT ON shop.* TO reader@'127.0.0.1'").await;
        let mut target = connect(&pair.target, "shop").await;
        let reader = "SELECT COUNT(*) FROM mysql.user WHERE user = 'reader'";
        super::until(&mut target, "the account", reader).await;
        let grant = if mysql { "REPLICATION CLIENT" } else { "SLAVE MONITOR" };
        let request = with_accounts(&pair.request(), "reader");
        refused(&request, &[&format!("GRANT {grant} ON *.*")]).await;
        run(&mut source, &format!("GRANT {grant} ON *.* TO reader@'127.0.0.1'")).await;
        let privileges = format!(
            "SELECT COUNT(*) FROM information_schema.user_privileges WHERE grantee LIKE '\\'reader%' \
             AND privilege_type = '{grant}'"
        );
        super::until(&mut target, "the privilege", &privileges).await;
        assert_eq!(report(&request).await.verdict, Verdict::Equal);

        run(&mut target, if mysql { "STOP REPLICA SQL_THREAD" } else { "STOP SLAVE SQL_THREAD" }).await;
        run(&mut source, "UPDATE shop.account SET v = 'late' WHERE id = 501").await;
        let mut late = request.clone();
        late.options.confirm_within = Duration::from_millis(2500);
        let found = report(&late).await;
        assert_eq!((found.verdict, found.tables[0].unconfirmed_rows), (Verdict::NotProven, 1));
        let reasons = found.tables[0].reasons.join("\n");
        assert!(reasons.contains("its applier does not run"), "{reasons}");
        if mysql {
            let uuid: Option<String> = source.query_first("SELECT @@server_uuid").await.unwrap();
            assert!(reasons.contains(&format!("it lacks {}:", uuid.unwrap())), "{reasons}");
        }
        // Both servers stand still.
        assert!(reasons.contains("had not applied all") && !reasons.contains("were written to"), "{reasons}");
    }
}

/// Positions of a server that is not replicated would be covered by chance.
#[tokio::test(flavor = "multi_thread")]
async fn another_servers_replica_is_refused() {
    for binary in support::servers() {
        let off: &[&str] = match binary.info.flavor {
            Flavor::MySql => &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"],
            Flavor::MariaDb => &[],
        };
        let (one, two) = (server_with(&binary, off).await, server_with(&binary, off).await);
        let replica = server_with(&binary, off).await;
        replication::replicate(&one, &replica).await;
        for server in [&two, &replica] {
            run(&mut fresh(server, "shop").await, "CREATE TABLE a (id INT PRIMARY KEY)").await;
        }
        let mut request = Request {
            source: vec![two.address("shop")],
            target: vec![replica.address("shop")],
            tables: vec![TablePair::same("a")],
            options: Default::default(),
        };
        request.options.proof = ProofSource::Replica;
        refused(&request, &["replicates 127.0.0.1", "not the source"]).await;
    }
}

/// MariaDB waits for a number in a domain, which the transactions of another channel can have.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_channels_is_told_from_the_other() {
    let mut servers = support::servers();
    servers.retain(|binary| binary.info.flavor == Flavor::MariaDb);
    let binary = servers.pop().expect("no MariaDB server");
    let (one, two) = (server_with(&binary, &[]).await, server_with(&binary, &[]).await);
    let replica = server_with(&binary, &[]).await;
    let mut there = connect(&replica, "").await;
    for (channel, source) in [("one", &one), ("two", &two)] {
        let mut conn = connect(source, "").await;
        let status = conn.query_first("SHOW MASTER STATUS").await.unwrap();
        let (file, offset, _, _): (String, u64, String, String) = status.unwrap();
        let to = format!("master_host = '127.0.0.1', master_port = {}, master_user = 'root'", source.port());
        let from = format!("master_log_file = '{file}', master_log_pos = {offset}, master_use_gtid = no");
        run(&mut there, &format!("CHANGE MASTER '{channel}' TO {to}, {from}")).await;
        run(&mut there, &format!("START SLAVE '{channel}'")).await;
    }
    let mut source = fresh(&one, "vs").await;
    run(&mut source, "CREATE TABLE a (id INT PRIMARY KEY, v INT)").await;
    run(&mut source, "INSERT INTO a VALUES (1, 1), (2, 2)").await;
    super::until(&mut there, "the rows", "SELECT COUNT(*) = 2 FROM vs.a").await;
    run(&mut there, "STOP SLAVE 'one'").await;
    let mut other = connect(&two, "").await;
    for n in 0..30 {
        run(&mut other, &format!("CREATE DATABASE other{n}")).await;
    }
    let last = "SELECT COUNT(*) = 1 FROM information_schema.schemata WHERE schema_name = 'other29'";
    super::until(&mut there, "the other channel", last).await;
    run(&mut source, "UPDATE a SET v = 20 WHERE id = 2").await;
    let mut request = Request {
        source: vec![one.address("vs")],
        target: vec![replica.address("vs")],
        tables: vec![TablePair::same("a")],
        options: Default::default(),
    };
    request.options.proof = ProofSource::Replica;
    request.options.confirm_within = Duration::from_secs(2);
    let found = report(&request).await;
    assert_eq!(found.verdict, Verdict::NotProven, "{}", found.to_text());
    run(&mut there, "START SLAVE 'one'").await;
    let found = report(&request).await;
    assert_eq!(found.verdict, Verdict::Equal, "{}", found.to_text());
}
