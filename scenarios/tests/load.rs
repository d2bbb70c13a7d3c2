//! The load against real servers: every kind is acknowledged, a lost answer is never called a failure, and the
//! ledger's accounts are true.

#![allow(clippy::unwrap_used)]

#[path = "support/servers.rs"]
mod support;

use std::collections::{BTreeSet, HashMap};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use converge_chaos::fault::{self, Record};
use converge_chaos::history::{Entry, Event, History, Invoke, Kind, Ledger, Phase, read, settle};
use converge_chaos::load::{
    ACCOUNTS, BALANCE, Counters, Load, LoadPlan, Script, Unit, check, create_schema, is_seeded, prepare,
    seed_rows, unit,
};
use converge_chaos::proxy::ProxyServer;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Address, Connector};
use mysql_async::prelude::Queryable;

const SEED: u64 = 11;

async fn seeded(binary: &ServerBinary, rows: u64) -> (LocalServer, Address) {
    let server = support::start(binary, "source").await;
    let address = server.address("shop");
    create_schema(&address).await.unwrap();
    create_schema(&address).await.unwrap();
    assert!(!is_seeded(&address).await.unwrap());
    seed_rows(&address, SEED, rows).await.unwrap();
    assert!(is_seeded(&address).await.unwrap());
    (server, address)
}

fn plan(rows: u64, sessions: u32) -> LoadPlan {
    LoadPlan { seed: SEED, rows, sessions, ..LoadPlan::default() }
}

async fn until(what: &str, counters: &Counters, mut condition: impl FnMut(&Counters) -> bool) {
    let give_up = Instant::now() + Duration::from_secs(60);
    while !condition(counters) {
        assert!(Instant::now() < give_up, "waited in vain until {what}: {:?}", counters.totals());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The history as statements with their outcomes.
fn outcomes(path: &Path) -> Vec<(Invoke, Option<Event>)> {
    let entries: Vec<Entry> = read(path).unwrap().map(Result::unwrap).collect();
    let mut outcomes = HashMap::new();
    let mut invokes = Vec::new();
    for entry in entries {
        match entry.event {
            Event::Invoke(invoke) => invokes.push(invoke),
            Event::Ok { id, .. } | Event::Fail { id, .. } | Event::Info { id, .. } => {
                assert!(outcomes.insert(id, entry.event).is_none(), "two outcomes of {id}");
            }
            _ => {}
        }
    }
    invokes.into_iter().map(|invoke| (invoke.clone(), outcomes.remove(&invoke.id))).collect()
}

async fn ledger_rows(address: &Address) -> BTreeSet<u64> {
    let mut conn = Connector::new(address.clone()).connect().await.unwrap();
    conn.query::<u64, _>("SELECT id FROM ledger").await.unwrap().into_iter().collect()
}

/// The sum of all accounts, the counters against their acknowledged increments, and the journal without a gap.
async fn assert_invariants(address: &Address, history: &Path) {
    let mut conn = Connector::new(address.clone()).connect().await.unwrap();
    let bank: Option<(u64, i64)> =
        conn.query_first("SELECT COUNT(*), CAST(SUM(balance) AS SIGNED) FROM account").await.unwrap();
    assert_eq!(bank, Some((ACCOUNTS, ACCOUNTS as i64 * BALANCE)));
    let gaps = "SELECT session FROM journal GROUP BY session HAVING MIN(n) <> 1 OR MAX(n) <> COUNT(*)";
    assert_eq!(conn.query::<u32, _>(gaps).await.unwrap(), Vec::<u32>::new());
    for (table, total) in [("counter", "SUM(c)"), ("journal", "COUNT(*)")] {
        let of = |_, invoke: &Invoke| if invoke.table == table { vec![()] } else { vec![] };
        let writes = settle(read(history).unwrap(), of).unwrap();
        let query = format!("SELECT CAST({total} AS UNSIGNED) FROM {table}");
        let found: u64 = conn.query_first(query).await.unwrap().unwrap();
        let (least, open) = (writes.acknowledged.len() as u64, writes.unknown.len() as u64);
        assert!(least > 0 && (least..=least + open).contains(&found), "{table}: {found}, {least} + {open}");
    }
}

async fn assert_ledger(address: &Address, history: &Path) {
    let ledger = Ledger::of(read(history).unwrap()).unwrap();
    let rows = ledger_rows(address).await;
    assert!(!ledger.acknowledged.is_empty() && !ledger.absent.is_empty(), "{ledger:?}");
    assert!(ledger.acknowledged.is_subset(&rows), "lost: {:?}", ledger.acknowledged.difference(&rows));
    assert!(ledger.absent.is_disjoint(&rows), "came back: {:?}", ledger.absent.intersection(&rows));
    let expected: BTreeSet<u64> = ledger.acknowledged.union(&ledger.unknown).copied().collect();
    assert!(rows.is_subset(&expected), "from nowhere: {:?}", rows.difference(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_acknowledged_and_failures_are_the_expected_ones() {
    for binary in support::servers() {
        eprintln!("on {binary}, seed {SEED}");
        let (_server, address) = seeded(&binary, 4000).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        let load = Load::start(address.clone(), plan(4000, 8), history.clone()).await.unwrap();
        until("each kind is acknowledged", &load.counters(), |counters| {
            let totals = counters.totals();
            Kind::ALL.iter().all(|kind| totals.of(*kind).acknowledged >= 20)
        })
        .await;
        let totals = load.stop().await;
        history.finish().unwrap();

        assert_eq!(totals.sum().info, 0, "nothing was cut off: {totals:?}");
        let outcomes = outcomes(&path);
        assert_eq!(outcomes.len() as u64, totals.sum().ok + totals.sum().fail);
        for (invoke, outcome) in &outcomes {
            match outcome {
                Some(Event::Fail { code: 1062 | 1205 | 1213, .. } | Event::Ok { .. }) => {}
                other => panic!("{other:?} for {}", invoke.sql),
            }
        }
        assert_ledger(&address, &path).await;
        assert_invariants(&address, &path).await;
        eprintln!("{totals:?}");
    }
}

/// Where a server's binary log ends.
async fn logged(address: &Address) -> String {
    converge_chaos::server::position_of(address).await.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_rests_writes_nothing_and_goes_on_where_it_is_told() {
    for binary in support::servers() {
        eprintln!("rest on {binary}, seed {SEED}");
        let ((_one, first), (_other, second)) = (seeded(&binary, 500).await, seeded(&binary, 500).await);
        let load = Load::start(first.clone(), plan(500, 8), History::discard()).await.unwrap();
        let writes = |counters: &Counters| counters.totals().acknowledged_writes();
        until("something is written", &load.counters(), |counters| writes(counters) > 50).await;

        let rest = load.rest().await;
        let (at_rest, begun) = (logged(&first).await, writes(&load.counters()));
        // That nothing happens can only be shown for a while.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((logged(&first).await, writes(&load.counters())), (at_rest.clone(), begun));

        let elsewhere = logged(&second).await;
        rest.go_on_at(second.clone());
        until("it goes on", &load.counters(), |counters| writes(counters) > begun + 50).await;
        load.stop().await;
        assert_eq!(logged(&first).await, at_rest, "some session stayed where it was");
        assert_ne!(logged(&second).await, elsewhere);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_what_the_seed_says() {
    let binary = support::servers().remove(0);
    let (_server, address) = seeded(&binary, 1000).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let history = History::create(&path).unwrap();
    let plan = plan(1000, 3);
    let load = Load::start(address, plan.clone(), history.clone()).await.unwrap();
    until("something was sent", &load.counters(), |c| c.totals().sum().ok > 300).await;
    load.stop().await;
    history.finish().unwrap();
    for session in 0..3 {
        let sent = outcomes(&path).into_iter().filter(|(invoke, _)| invoke.session == session);
        let mut sent = sent.peekable();
        for n in 0.. {
            if sent.peek().is_none() {
                assert!(n > 10);
                break;
            }
            let unit = unit(&plan, session, n);
            let mut attempts = 1;
            while must_be_sent_again(&unit, &mut sent) && attempts < 3 && sent.peek().is_some() {
                attempts += 1;
            }
        }
    }
}

/// Takes one attempt at a unit; whether it ended as the victim of a lock wait or a deadlock.
fn must_be_sent_again(unit: &Unit, sent: &mut impl Iterator<Item = (Invoke, Option<Event>)>) -> bool {
    for statement in &unit.statements {
        let (invoke, outcome) = sent.next().unwrap_or_else(|| panic!("{} was not sent", statement.sql));
        assert_eq!(invoke.sql, statement.sql);
        if let Some(Event::Fail { code, .. }) = outcome {
            if unit.transaction {
                assert_eq!(sent.next().unwrap().0.kind, Kind::Rollback, "after {}", invoke.sql);
            }
            return [1205, 1213].contains(&code);
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_lost_to_a_kill_are_unknown_and_sessions_come_back() {
    for binary in support::servers() {
        let (server, address) = seeded(&binary, 2000).await;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let history = History::create(&path).unwrap();
        let load = Load::start(address.clone(), plan(2000, 6), history.clone()).await.unwrap();
        let counters = load.counters();
        for _ in 0..3 {
            let before = counters.totals().sum().ok;
            until("load runs", &counters, |c| c.totals().sum().ok > before + 200).await;
            let lost = counters.totals().sum().info;
            let record = Record { name: "kill_source", history: &history };
            fault::kill_server(record, &server).await.unwrap();
            until("answers are lost", &counters, |c| c.totals().sum().info > lost).await;
            fault::restart_server(record, &server).await.unwrap();
        }
        let before = counters.totals().acknowledged_writes();
        until("sessions are back", &counters, |c| c.totals().acknowledged_writes() > before + 100).await;
        load.stop().await;
        history.finish().unwrap();
        for (invoke, outcome) in outcomes(&path) {
            match outcome {
                Some(Event::Info { .. } | Event::Ok { .. }) => {}
                Some(Event::Fail { code: 1062 | 1205 | 1213, .. }) => {}
                // A shutting-down server may still refuse statements inside a transaction.
                Some(Event::Fail { code: 1053, .. }) if invoke.tx.is_some() => {}
                other => panic!("{other:?} for {}", invoke.sql),
            }
        }
        assert_ledger(&address, &path).await;
        assert_invariants(&address, &path).await;
        let phases: Vec<Phase> = read(&path)
            .unwrap()
            .filter_map(|e| match e.unwrap().event {
                Event::Fault { phase, .. } => Some(phase),
                _ => None,
            })
            .collect();
        assert_eq!(phases, [Phase::Inject, Phase::Observed, Phase::Healed].repeat(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_down_is_seen_to_and_comes_back() {
    let binary = support::servers().remove(0);
    let server = support::start(&binary, "source").await;
    let proxy = ProxyServer::start("127.0.0.1:0", SEED).await.unwrap();
    let proxies = Toxiproxy::connect(&proxy.url()).await.unwrap();
    let upstream = format!("127.0.0.1:{}", server.port());
    proxies.create("source", "127.0.0.1:0", &upstream).await.unwrap();
    let history = History::discard();
    let record = Record { name: "net", history: &history };
    for _ in 0..2 {
        let evidence = fault::proxy_down(record, &proxies, "source").await.unwrap();
        assert!(evidence.contains("refused"), "{evidence}");
        fault::proxy_up(record, &proxies, "source").await.unwrap();
    }
    // Without a server behind it there is no live connection to break: the fault cannot be seen to bite.
    server.kill().await.unwrap();
    let error = fault::proxy_down(record, &proxies, "source").await.unwrap_err().to_string();
    assert!(error.contains("did not bite"), "{error}");
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_sessions_than_the_server_takes_are_refused_with_the_way_out() {
    for binary in support::servers() {
        let (_server, address) = seeded(&binary, 100).await;
        let mut conn = Connector::new(address.clone()).connect().await.unwrap();
        conn.query_drop("SET GLOBAL max_connections = 20").await.unwrap();
        let error = Load::start(address.clone(), plan(100, 30), History::discard()).await.unwrap_err();
        assert!(error.to_string().contains("max_connections is 20"), "{error}");
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        // Connections of the seeding may not be quite gone.
        let wanted = |n: u32| help.contains(&format!("SET GLOBAL max_connections = {n})"));
        assert!((41..50).any(wanted), "{help}");
        // Before anything is made, in a database that is not there yet.
        let elsewhere = address.with_database("elsewhere");
        let error = check(&elsewhere, &plan(100, 30)).await.unwrap_err();
        assert!(error.to_string().contains("max_connections is 20"), "{error}");
        let load = Load::start(address, plan(100, 10), History::discard()).await.unwrap();
        until("load runs", &load.counters(), |c| c.totals().acknowledged_writes() > 10).await;
        load.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_table_is_a_failure_and_the_load_goes_on() {
    let binary = support::servers().remove(0);
    let (_server, address) = seeded(&binary, 1000).await;
    let load = Load::start(address.clone(), plan(1000, 4), History::discard()).await.unwrap();
    let counters = load.counters();
    until("load runs", &counters, |c| c.totals().sum().ok > 100).await;
    let mut conn = Connector::new(address).connect().await.unwrap();
    conn.query_drop("RENAME TABLE customer TO customer_fenced").await.unwrap();
    let (before, began) = (counters.totals().sum().fail, Instant::now());
    until("statements fail", &counters, |c| c.totals().sum().fail > before + 20).await;
    // Ledger and corder go on meanwhile.
    let ok = counters.totals().acknowledged_writes();
    until("other tables go on", &counters, |c| c.totals().acknowledged_writes() > ok).await;
    conn.query_drop("RENAME TABLE customer_fenced TO customer").await.unwrap();
    let failed = (counters.totals().sum().fail - before) as f64;
    let rate = failed / began.elapsed().as_secs_f64();
    assert!(rate < 1000.0, "{rate} failures a second");
    assert_eq!(load.stop().await.sum().info, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_rows_are_seeded_in_seconds_and_alike() {
    for binary in support::servers() {
        let began = Instant::now();
        let (_server, address) = seeded(&binary, 100_000).await;
        eprintln!("{binary}: {:.1} s", began.elapsed().as_secs_f64());
        let mut conn = Connector::new(address).connect().await.unwrap();
        let count: Option<u64> = conn
            .query_first(
                "SELECT (SELECT COUNT(*) FROM customer) + (SELECT COUNT(*) FROM corder) \
                 + (SELECT COUNT(*) FROM product)",
            )
            .await
            .unwrap();
        assert_eq!(count, Some(100_000));
    }
}

#[test]
fn the_command_prints_seed_and_summary_and_says_what_is_wrong() {
    let converge = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_converge")).arg("load").args(arguments).output().unwrap()
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(support::start(&support::servers()[0], "source"));
    let url = server.address("some shop").to_url();
    let done =
        converge(&["--url", &url, "--seed", "5", "--sessions", "4", "--duration", "1s", "--rows", "500"]);
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    let first = text.lines().next().unwrap();
    assert!(first.contains("seed 5"), "{text}");
    assert!(text.contains("insert_ignore") && text.contains("acknowledged"), "{text}");
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(
        errors.contains("the tables are ready") && !text.contains("the tables are ready"),
        "{text}{errors}"
    );

    let directory = tempfile::tempdir().unwrap();
    let history = directory.path().join("h.jsonl");
    let done = converge(&[
        "--url",
        &url,
        "--sessions",
        "2",
        "--duration",
        "1s",
        "--format",
        "json",
        "--history",
        history.to_str().unwrap(),
    ]);
    let object: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(object["seed"].is_u64() && object["acknowledged_writes"].as_u64().unwrap() > 0, "{object}");
    assert!(read(&history).unwrap().map(Result::unwrap).any(|e| matches!(e.event, Event::Run { .. })));

    let refused = converge(&["--url", "mysql://root@127.0.0.1:1/x", "--duration", "1s"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("what to do"));
    assert_eq!(converge(&["--url", &url, "--duration", "soon"]).status.code(), Some(2));
}

/// Where a backslash is a character like any other, texts must not be read as that server would.
#[tokio::test(flavor = "multi_thread")]
async fn rows_are_seeded_alike_whatever_modes_the_server_has() {
    for binary in support::servers() {
        eprintln!("modes of {}", binary.info);
        let mut found = Vec::new();
        for modes in ["NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "STRICT_TRANS_TABLES"] {
            let extra = vec![format!("--sql-mode={modes}")];
            let options = ServerOptions { extra, ..ServerOptions::named("source") };
            let server = LocalServer::start(&binary, options).await.unwrap();
            let address = server.address("shop");
            prepare(&address, &plan(3000, 1)).await.unwrap();
            let odd = "CREATE TABLE odd (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'it\\'s')";
            Script::parse("odd.sql".as_ref(), odd, "shop").unwrap().run(&address).await.unwrap();
            let mut conn = Connector::new(address).connect().await.unwrap();
            let sums = "CHECKSUM TABLE customer, corder, product, account";
            found.push(conn.query::<(String, u64), _>(sums).await.unwrap());
        }
        assert_eq!(found[0], found[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_table_is_not_touched() {
    let server = support::start(&support::servers()[0], "source").await;
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    for sql in ["CREATE DATABASE shop", "CREATE TABLE shop.corder (id INT PRIMARY KEY)"] {
        conn.query_drop(sql).await.unwrap();
    }
    let error = create_schema(&server.address("shop")).await.unwrap_err().to_string();
    assert!(error.contains("corder"), "{error}");
    let tables: Vec<String> = conn.query("SHOW TABLES IN shop").await.unwrap();
    assert_eq!(tables, ["corder"]);
}

fn interrupt(child: &std::process::Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
}

/// More rows than are filled before the signal is there.
#[test]
fn ctrl_c_while_tables_are_filled_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(support::start(&support::servers()[0], "source"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_converge"))
        .args(["load", "--url", &server.address("shop").to_url(), "--rows", "5000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.starts_with("plan ")).expect("the plan");
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("interrupted: tables may be filled in part"), "{errors}");
}

#[test]
fn ctrl_c_ends_the_load_with_its_summary_and_a_whole_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(support::start(&support::servers()[0], "source"));
    let directory = tempfile::tempdir().unwrap();
    let history = directory.path().join("h.jsonl");
    let mut child = Command::new(env!("CARGO_BIN_EXE_converge"))
        .args(["load", "--url", &server.address("shop").to_url(), "--duration", "10m", "--rows", "200"])
        .args(["--history", history.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    lines.find(|line| line.contains("statements/s")).expect("progress");
    interrupt(&child);
    let rest: Vec<String> =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(!rest.iter().any(|line| line.contains("statements/s")), "{rest:?}");
    assert!(rest.last().is_some_and(|line| line.contains("writes acknowledged")), "{rest:?}");
    assert!(child.wait().unwrap().success());
    let entries: Vec<Entry> = read(&history).unwrap().map(Result::unwrap).collect();
    let invoked = entries.iter().filter(|e| matches!(e.event, Event::Invoke(_))).count();
    let answered = entries
        .iter()
        .filter(|e| matches!(e.event, Event::Ok { .. } | Event::Fail { .. } | Event::Info { .. }))
        .count();
    assert_eq!(invoked, answered);
}
