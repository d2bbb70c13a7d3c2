//! Copying from a replica: the log that is followed moves from it to the source, and what is no replica is refused.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mover::copy::Strategy;
use converge_mysql::{Connector, Flavor};

use super::mover::Mover;
use super::{assert_equal, connect, execute, hostile, replication, support, until};

/// A replica of a source that nobody has written to yet. Nothing is written to it but by replication.
pub async fn replica_of(source: &LocalServer, extra: &[&str]) -> LocalServer {
    let binary = source.binary();
    let extra = ["--log-slave-updates=ON"].iter().chain(extra).map(ToString::to_string).collect();
    let options = ServerOptions { extra, ..ServerOptions::named("replica") };
    let replica = LocalServer::start(binary, options).await.unwrap();
    replication::replicate(source, &replica).await;
    replica
}

async fn under_load(binary: &ServerBinary) {
    let source = support::start(binary, "source").await;
    let replica = replica_of(&source, &[]).await;
    let url = replica.address("shop").to_url();
    hostile(binary, Strategy::Replica, &source, &["--copy-from", &url]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_moves_tables_under_load() {
    for binary in support::servers() {
        under_load(&binary).await;
    }
}

/// Once all is copied the replica is not needed any more, whoever was killed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn the_stream_moves_to_the_source() {
    for binary in support::servers() {
        eprintln!("stream moves on {}", binary.info);
        let source = support::start(&binary, "source").await;
        let replica = replica_of(&source, &[]).await;
        let target = support::start(&binary, "target").await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT)", "CREATE TABLE n (x INT)"]).await;
        execute(&mut s, &["INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)", "INSERT INTO n VALUES (1), (1)"])
            .await;
        let mut r = Connector::new(replica.address("shop")).connect().await.unwrap();
        until(&mut r, "the replica has the rows", "SELECT COUNT(*) = 2 FROM shop.n").await;
        let url = replica.address("shop").to_url();
        let options = ["--copy-strategy", "replica", "--copy-from", &url, "--allow-no-key"];
        let mut mover = Mover::new(&source, &target, "a,n").with(&options);
        mover.start();
        mover.wait_for("replicating");
        drop(r);
        replica.kill().await.unwrap();
        execute(&mut s, &["INSERT INTO a VALUES (4, 4)", "DELETE FROM n LIMIT 1"]).await;
        until(&mut t, "the row that the replica never had", "SELECT COUNT(*) = 4 FROM shop.a").await;
        mover.kill();
        execute(&mut s, &["UPDATE a SET id = id + 10"]).await;
        mover.start();
        mover.wait_until("a runner", |s| s["running"] == true && s["state"] == "replicating");
        mover.switch();
        assert_equal(&source, &target, "a,n");
    }
}

/// Runs the mover, which must refuse with this word and a way out.
pub async fn refused(mover: &Mover, word: &str) {
    let output = mover.run();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains(word) && error.contains("what to do:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_replica_that_can_be_followed_is_refused() {
    for binary in support::servers() {
        eprintln!("refused replicas on {}", binary.info);
        let source = support::start(&binary, "source").await;
        let target = support::start(&binary, "target").await;
        let (mut s, _t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY)"]).await;
        let mover = || Mover::new(&source, &target, "a");
        refused(&mover().with(&["--copy-strategy", "replica"]), "copies from a replica").await;
        let other = target.address("shop").to_url();
        refused(&mover().with(&["--copy-from", &other]), "--copy-strategy replica").await;
        let options = ["--copy-strategy", "replica", "--copy-from", &other];
        refused(&mover().with(&options), "is no replica").await;

        let replica = replica_of(&source, &[]).await;
        let mut r = Connector::new(replica.address("")).connect().await.unwrap();
        until(&mut r, "replication", "SELECT COUNT(*) = 0 FROM shop.a").await;
        execute(&mut r, &["CREATE DATABASE own"]).await;
        let url = replica.address("shop").to_url();
        let options = ["--copy-strategy", "replica", "--copy-from", &url];
        refused(&mover().with(&options), "transactions of its own").await;

        let silent = replica_of(&source, &["--log-slave-updates=OFF"]).await;
        let mut r = Connector::new(silent.address("")).connect().await.unwrap();
        until(&mut r, "replication", "SELECT COUNT(*) = 0 FROM shop.a").await;
        let url = silent.address("shop").to_url();
        let options = ["--copy-strategy", "replica", "--copy-from", &url];
        refused(&mover().with(&options), "its log lacks what it replicates").await;
    }
}

/// Without GTIDs a place in the replica's log means nothing on the source.
#[tokio::test(flavor = "multi_thread")]
async fn without_gtids_a_replica_is_refused() {
    let mysql = support::servers().into_iter().find(|b| b.info.flavor == Flavor::MySql);
    let Some(binary) = mysql else { return };
    let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"].map(str::to_owned);
    let options = |name| ServerOptions { extra: off.to_vec(), ..ServerOptions::named(name) };
    let source = LocalServer::start(&binary, options("source")).await.unwrap();
    let replica = LocalServer::start(&binary, options("replica")).await.unwrap();
    let target = support::start(&binary, "target").await;
    let (mut s, _t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY)"]).await;
    let mut r = Connector::new(replica.address("")).connect().await.unwrap();
    let change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, SOURCE_USER='root', \
         GET_SOURCE_PUBLIC_KEY=1",
        source.port()
    );
    execute(&mut r, &[&change, "START REPLICA"]).await;
    until(&mut r, "replication", "SELECT COUNT(*) = 0 FROM shop.a").await;
    let url = replica.address("shop").to_url();
    let mover = Mover::new(&source, &target, "a").with(&["--copy-strategy", "replica", "--copy-from", &url]);
    refused(&mover, "no GTIDs").await;
}
