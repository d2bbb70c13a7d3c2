//! Another server in the source's place: what it wrote by itself before that, and a switch that it does not know of.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor};
use mysql_async::Conn;

use crate::mover::Mover;
use crate::sql::{assert_same, execute, until, wait_same};
use crate::support;
use crate::world::World;

/// A source with a replica, and a mover that replicates `a`.
struct Pair {
    world: World,
    replica: LocalServer,
    mover: Mover,
    s: Conn,
    r: Conn,
    t: Conn,
}

impl Pair {
    async fn replicating(binary: &ServerBinary) -> Self {
        let world = World::new(binary).await;
        let extra = vec!["--log-slave-updates=ON".into()];
        let options = ServerOptions { extra, ..ServerOptions::named("replica") };
        let replica = LocalServer::start(binary, options).await.unwrap();
        replica.replicate(&world.source).await.unwrap();
        let (mut s, t) = world.connections().await;
        let rows = "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)";
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT)", rows]).await;
        let mut mover = world.mover("a");
        mover.start();
        mover.wait_for("replicating");
        let mut r = Connector::new(replica.address("")).connect().await.unwrap();
        Self::arrives(&mut r, "x = 3").await;
        execute(&mut r, &["USE shop"]).await;
        Self { world, replica, mover, s, r, t }
    }

    async fn arrives(conn: &mut Conn, what: &str) {
        let query = "SELECT COUNT(*) > 0 FROM information_schema.TABLES WHERE TABLE_NAME = 'a' AND TABLE_SCHEMA = 'shop'";
        until(conn, "the table", query).await;
        until(conn, what, &format!("SELECT COUNT(*) > 0 FROM shop.a WHERE {what}")).await;
    }

    /// Changes a row on the source, and waits until it is everywhere.
    async fn change(&mut self, x: u32) {
        execute(&mut self.s, &[&format!("UPDATE a SET x = {x} WHERE id = 2")]).await;
        Self::arrives(&mut self.r, &format!("x = {x}")).await;
        Self::arrives(&mut self.t, &format!("x = {x}")).await;
    }

    /// However often it is tried.
    fn refused(&mut self, words: &str) {
        for _ in 0..2 {
            self.mover.start();
            assert_eq!(self.mover.ended(), 2, "{}", self.mover.log());
            assert!(self.mover.log().contains(words), "{words}: {}", self.mover.log());
        }
    }

    async fn stop_replica(&mut self) {
        let word = if self.replica.binary().info.flavor == Flavor::MySql { "REPLICA" } else { "SLAVE" };
        execute(&mut self.r, &[&format!("STOP {word}"), &format!("RESET {word} ALL")]).await;
    }
}

/// A row that somebody wrote to the replica before it took over, at a place that the move has passed.
async fn errant(binary: &ServerBinary) {
    eprintln!("errant transactions on {}", binary.info);
    let mut pair = Pair::replicating(binary).await;
    // Nobody minds these, in this log file or an earlier one.
    execute(&mut pair.r, &["CREATE TABLE own (id INT PRIMARY KEY)", "FLUSH BINARY LOGS"]).await;
    pair.change(7).await;
    execute(&mut pair.r, &["INSERT INTO own VALUES (1)", "FLUSH BINARY LOGS"]).await;
    pair.change(8).await;
    pair.stop_replica().await;
    pair.mover.kill();
    pair.mover.set_source(&pair.replica.address("shop").to_url());
    pair.mover.start();
    execute(&mut pair.r, &["INSERT INTO a VALUES (9, 9)"]).await;
    wait_same(&mut pair.r, &mut pair.t, "a").await;

    let mut pair = Pair::replicating(binary).await;
    pair.change(7).await;
    execute(&mut pair.r, &["INSERT INTO a VALUES (-1, -1)", "FLUSH BINARY LOGS"]).await;
    pair.change(8).await;
    execute(&mut pair.r, &["FLUSH BINARY LOGS"]).await;
    pair.change(9).await;
    pair.stop_replica().await;
    pair.mover.kill();
    pair.mover.set_source(&pair.replica.address("shop").to_url());
    if binary.info.flavor == Flavor::MySql {
        // What a set of GTIDs lacks is sent.
        pair.mover.start();
        return wait_same(&mut pair.r, &mut pair.t, "a").await;
    }
    pair.refused("the former source did not have, and it changes moved tables (`shop`.`a`)");
    pair.mover.set_source(&pair.world.source.address("shop").to_url());
    pair.mover.start();
    pair.mover.wait_until("replicating", |s| s["state"] == "replicating" && s["error"].is_null());
    pair.mover.switch();
    assert_same(&mut pair.s, "_a_fenced", &mut pair.t, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_wrote_before_it_took_over_is_moved_or_refused() {
    for binary in support::servers() {
        errant(&binary).await;
    }
}

/// After a switch, a server that does not have all of it and the fence is not spoken of as if it had.
async fn unfenced(binary: &ServerBinary) {
    eprintln!("switched, and another server on {}", binary.info);
    let mut pair = Pair::replicating(binary).await;
    let word = if binary.info.flavor == Flavor::MySql { "REPLICA" } else { "SLAVE" };
    execute(&mut pair.r, &[&format!("STOP {word}")]).await;
    pair.mover.switch();
    assert_same(&mut pair.s, "_a_fenced", &mut pair.t, "a").await;
    pair.mover.kill();
    pair.mover.set_source(&pair.replica.address("shop").to_url());
    pair.refused("went back in time");

    // The switch is proven by what comes behind the fence.
    execute(&mut pair.s, &["CREATE TABLE later (id INT)"]).await;
    execute(&mut pair.r, &[&format!("START {word}")]).await;
    let later = "SELECT COUNT(*) > 0 FROM information_schema.TABLES WHERE TABLE_NAME = 'later'";
    until(&mut pair.r, "all of the switch", later).await;
    pair.stop_replica().await;
    execute(&mut pair.r, &["RENAME TABLE _a_fenced TO a"]).await;
    pair.refused("converge move complete");
    execute(&mut pair.r, &["RENAME TABLE a TO _a_fenced"]).await;
    pair.mover.start();
    pair.mover.wait_until("its word", |s| s["running"] == true && s["state"] == "switched");
    assert!(pair.mover.command("complete", &[]).status.success());
    assert_eq!(pair.mover.ended(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switched_workflow_wants_a_server_with_its_fence() {
    for binary in support::servers() {
        unfenced(&binary).await;
    }
}
