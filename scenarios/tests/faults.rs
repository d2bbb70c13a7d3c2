//! Each fault on real servers: it is seen to bite, it can be undone, and where it cannot bite it says so.

#![allow(clippy::unwrap_used)]

#[path = "support/servers.rs"]
mod support;

use std::time::Duration;

use converge_chaos::Error;
use converge_chaos::fault::{self, Account, Purge, Record, Victims};
use converge_chaos::history::History;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::proxy::{Effect, ProxyServer, Stream, Toxic};
use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Address, Connector};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

const SEED: u64 = 5;

/// A server with a table and an account that is no administrator.
struct Stage {
    server: LocalServer,
    admin: Address,
    victim: Address,
    history: History,
}

impl Stage {
    async fn open(binary: &ServerBinary) -> Self {
        let server = support::start(binary, "victim").await;
        let mut root = Connector::new(server.address("")).connect().await.unwrap();
        for statement in [
            "CREATE DATABASE shop",
            "CREATE TABLE shop.t (id INT PRIMARY KEY)",
            "INSERT INTO shop.t VALUES (1)",
            "CREATE USER 'mover'@'127.0.0.1'",
            "GRANT ALL ON shop.* TO 'mover'@'127.0.0.1'",
        ] {
            root.query_drop(statement).await.unwrap();
        }
        let admin = server.address("shop");
        let victim = Address { user: "mover".into(), ..admin.clone() };
        Self { server, admin, victim, history: History::discard() }
    }

    fn record(&self) -> Record<'_> {
        Record { name: "fault", history: &self.history }
    }

    fn account(&self) -> Account<'_> {
        Account { admin: &self.admin, victim: &self.victim }
    }

    async fn session(&self) -> Conn {
        Connector::new(self.victim.clone()).connect().await.unwrap()
    }

    async fn writes(&self) -> Result<(), mysql_async::Error> {
        self.session().await.query_drop("UPDATE t SET id = id + 1").await
    }
}

fn missed<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::FaultDidNotBite { why, .. }) => why,
        other => panic!("the fault claims to have bitten: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_stopped_and_go_on() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let evidence = fault::pause_server(record, &stage.server).await.unwrap();
        assert!(evidence.contains("says nothing"), "{evidence}");
        fault::resume_server(record, &stage.server).await.unwrap();
        stage.writes().await.unwrap();

        let evidence = fault::stop_server(record, &stage.server).await.unwrap();
        assert!(evidence.contains("refused"), "{evidence}");
        fault::restart_server(record, &stage.server).await.unwrap();
        stage.writes().await.unwrap();

        let pid = stage.server.pid().unwrap();
        fault::pause_process(record, pid).await.unwrap();
        fault::resume_process(record, pid).unwrap();
        stage.writes().await.unwrap();
    }
}

/// Every kind of toxic, in each direction in which it can be measured.
fn toxics() -> Vec<(Vec<Toxic>, &'static str)> {
    let both = |effect: Effect| {
        [Stream::Upstream, Stream::Downstream].map(|s| Toxic::new(s, effect.clone())).to_vec()
    };
    let one = |stream, effect| vec![Toxic::new(stream, effect)];
    let slices = Effect::Slicer { average_size: 256, size_variation: 64, delay: 1000 };
    vec![
        (one(Stream::Upstream, Effect::Latency { latency: 150, jitter: 50 }), "latency"),
        (both(Effect::Latency { latency: 150, jitter: 50 }), "latency"),
        (one(Stream::Downstream, Effect::Bandwidth { rate: 200 }), "bandwidth"),
        (one(Stream::Upstream, Effect::Bandwidth { rate: 200 }), "bandwidth"),
        (one(Stream::Downstream, slices.clone()), "slicer"),
        (one(Stream::Upstream, slices), "slicer"),
        (one(Stream::Downstream, Effect::Timeout { timeout: 0 }), "says nothing"),
        (one(Stream::Upstream, Effect::Timeout { timeout: 0 }), "no answer"),
        (one(Stream::Downstream, Effect::ResetPeer { timeout: 0 }), "reset"),
        (one(Stream::Downstream, Effect::LimitData { bytes: 10 }), "live connection"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn toxics_are_measured_and_go_away() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let proxy = ProxyServer::start("127.0.0.1:0", SEED).await.unwrap();
        let proxies = Toxiproxy::connect(&proxy.url()).await.unwrap();
        let upstream = format!("127.0.0.1:{}", stage.server.port());
        let listen = proxies.create("line", "127.0.0.1:0", &upstream).await.unwrap();
        let port = listen.rsplit_once(':').unwrap().1.parse().unwrap();
        let through = stage.victim.clone().with_endpoint("127.0.0.1", port);
        for (toxics, word) in toxics() {
            let evidence = fault::toxics_on(record, &proxies, "line", &through, &toxics).await;
            let evidence = evidence.unwrap_or_else(|e| panic!("{}: {toxics:?}: {e}", binary.info));
            assert!(evidence.contains(word), "{}: {toxics:?}: {evidence}", binary.info);
            fault::toxics_off(record, &proxies, "line").await.unwrap();
            let connector = Connector::new(through.clone());
            let quick = tokio::time::timeout(Duration::from_secs(5), connector.connect());
            quick.await.expect("the line is free again").unwrap();
        }
        // A toxic that works on no connection is not one that bites.
        let mut idle = Toxic::new(Stream::Downstream, Effect::Latency { latency: 400, jitter: 0 });
        idle.toxicity = 0.0;
        let why = missed(fault::toxics_on(record, &proxies, "line", &through, &[idle]).await);
        assert!(why.contains("expected"), "{why}");
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_killed_and_only_those_that_were_meant() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let mut session = stage.session().await;
        let mut other = Connector::new(stage.admin.clone()).connect().await.unwrap();
        let evidence = fault::kill_connections(record, stage.account(), Victims::All).await.unwrap();
        assert!(evidence.contains(&session.id().to_string()), "{evidence}");
        session.query_drop("DO 1").await.unwrap_err();
        other.query_drop("DO 1").await.unwrap();
        let why = missed(fault::kill_connections(record, stage.account(), Victims::LogReaders).await);
        assert!(why.contains("no session"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_is_waited_for() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let mut session = stage.session().await;
        let waiting = tokio::spawn(async move { session.query_drop("UPDATE t SET id = id + 1").await });
        // The lock may come before or after: the session works until it waits.
        let busy = async {
            let mut session = stage.session().await;
            loop {
                session.query_drop("UPDATE t SET id = id + 1").await.unwrap();
            }
        };
        let (hog, evidence) = tokio::select! {
            locked = fault::lock_table(record, stage.account(), "t") => locked.unwrap(),
            () = busy => unreachable!(),
        };
        assert!(evidence.contains("metadata lock"), "{evidence}");
        waiting.await.unwrap().unwrap();
        fault::unlock_table(record, hog).await.unwrap();
        stage.writes().await.unwrap();
        let why = missed(fault::lock_table(record, stage.account(), "t").await.map(|(_, evidence)| evidence));
        assert!(why.contains("waits for t"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_refuses_writes_and_takes_them_again() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let flavor = binary.info.flavor;
        let evidence = fault::read_only_on(record, stage.account(), flavor, "t").await.unwrap();
        assert!(evidence.contains("1290"), "{evidence}");
        stage.writes().await.unwrap_err();
        fault::read_only_off(record, &stage.admin, flavor).await.unwrap();
        stage.writes().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_the_account_and_has_room_again() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let mut session = stage.session().await;
        let (hog, evidence) = fault::exhaust_connections(record, stage.account()).await.unwrap();
        assert!(evidence.contains("1 sessions of mover killed"), "{evidence}");
        session.query_drop("DO 1").await.unwrap_err();
        fault::give_back_connections(record, hog).await.unwrap();
        stage.writes().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_is_full_only_if_the_server_says_so() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let why = missed(fault::fill_disk(stage.record(), &stage.server).await);
        assert!(why.contains("shares its disk"), "{why}");
        let options = ServerOptions { disk: Some(512), ..ServerOptions::named("disk") };
        let server = match LocalServer::start(&binary, options).await {
            Ok(server) => server,
            Err(Error::NoDisk { why }) => {
                eprintln!("this machine mounts no tmpfs ({why}): nothing can be filled here");
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        let mut root = Connector::new(server.address("")).connect().await.unwrap();
        for sql in
            ["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT)"]
        {
            root.query_drop(sql).await.unwrap();
        }
        let insert = "INSERT INTO shop.t (v) VALUES (REPEAT('0123456789', 100000))";
        let writes = tokio::spawn(async move { while root.query_drop(insert).await.is_ok() {} });
        let evidence = fault::fill_disk(stage.record(), &server).await.unwrap();
        eprintln!("{}: {evidence}", binary.info);
        fault::free_disk(stage.record(), &server).await.unwrap();
        writes.abort();
        let mut root = Connector::new(server.address("shop")).connect().await.unwrap();
        let again = tokio::time::timeout(Duration::from_secs(90), root.query_drop(insert));
        again.await.expect("it writes again").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_rotated_and_purged() {
    for binary in support::servers() {
        let stage = Stage::open(&binary).await;
        let record = stage.record();
        let evidence = fault::rotate_log(record, &stage.admin).await.unwrap();
        assert!(evidence.contains("follows"), "{evidence}");
        let evidence = fault::purge_logs(record, &stage.admin, Purge::Some).await.unwrap();
        assert!(evidence.contains("binlog.000001"), "{evidence}");
        let why = missed(fault::purge_logs(record, &stage.admin, Purge::Some).await);
        assert!(why.contains("0 log files"), "{why}");
    }
}
