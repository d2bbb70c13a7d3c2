//! Rows of a fenced table that change behind the fence: foreign keys whose parents stay where they are reach through it.

use converge_chaos::server::ServerBinary;
use converge_mysql::{Flavor, Position, Version};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::fence::{ended, exists};
use crate::mover::Mover;
use crate::sql::{assert_same, connect, execute, until, wait_same};
use crate::support;
use crate::world::{World, caught_up, wait};

const RENAMING: &str = "RENAME TABLE /* converge fence */ shop.c TO shop._c_fenced";
const LOWERING: &str = "RENAME TABLE /* converge fence */ shop._c_fenced TO shop.c";

/// Servers that log what cascades change.
fn logging() -> impl Iterator<Item = ServerBinary> {
    let logs = |b: &ServerBinary| b.info.flavor == Flavor::MySql && b.info.version >= Version(9, 6, 0);
    support::servers().into_iter().filter(logs)
}

/// A mover of `c`, whose parents are in `p`.
async fn replicating(world: &World) -> (Mover, Conn, Conn) {
    let (mut s, t) = world.connections().await;
    let child = "CREATE TABLE c (id INT PRIMARY KEY, p INT, x INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)";
    let rows = [
        "INSERT INTO p VALUES (1), (2), (3), (4)",
        "INSERT INTO c VALUES (1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 0)",
    ];
    execute(&mut s, &["CREATE TABLE p (id INT PRIMARY KEY)", child, rows[0], rows[1]]).await;
    let mut mover = world.mover("c");
    mover.start();
    mover.wait_for("replicating");
    (mover, s, t)
}

/// A switch that is undone when a cascade has reached the fenced table.
async fn undone(world: &World, mover: &mut Mover, s: &mut Conn, t: &mut Conn) {
    let mut open = connect(&world.source).await;
    execute(&mut open, &["BEGIN", "UPDATE c SET x = 1 WHERE id = 1"]).await;
    // The stream waits for this row once the transaction is committed.
    execute(t, &["BEGIN", "SELECT * FROM c WHERE id = 1 FOR UPDATE"]).await;
    let switching = mover.spawn("switch-traffic", &["--timeout", "3s"]);
    mover.wait_for("switching");
    execute(&mut open, &["COMMIT"]).await;
    wait("a fence", || async { exists(&mut connect(&world.source).await, "_c_fenced").await }).await;
    execute(s, &["DELETE FROM p WHERE id = 2"]).await;
    let (code, text) = ended(switching).await;
    assert_eq!(code, Some(2), "{text}");
    execute(t, &["ROLLBACK"]).await;
    wait("the table", || async { exists(&mut connect(&world.source).await, "c").await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cascades_behind_a_fence_is_followed() {
    for binary in logging() {
        let world = World::new(&binary).await;
        let (mut mover, mut s, mut t) = replicating(&world).await;
        // Before there was a fence the name is somebody else's.
        let others = ["CREATE TABLE _c_fenced LIKE c", "INSERT INTO _c_fenced VALUES (1, 1, 0), (3, 3, 0)"];
        execute(
            &mut s,
            &[others[0], others[1], "DELETE FROM _c_fenced WHERE id = 3", "DROP TABLE _c_fenced"],
        )
        .await;
        undone(&world, &mut mover, &mut s, &mut t).await;
        caught_up(&mover, &mut s, &mut t, "c").await;
        let left: Option<u64> = t.query_first("SELECT COUNT(*) FROM c").await.unwrap();
        assert_eq!(left, Some(3));
        mover.switch();
        assert_same(&mut s, "_c_fenced", &mut t, "c").await;
    }
}

/// Once switched, the target's rows are the application's: nothing of the source's log is applied any more.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_switch_the_log_is_not_read() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        world.fill("n", 16).await;
        let mut mover = world.mover("n");
        mover.start();
        mover.wait_for("replicating");
        let mut s = connect(&world.source).await;
        let readers = |none: bool| {
            let compare = if none { "= 0" } else { "> 0" };
            format!(
                "SELECT COUNT(*) {compare} FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
            )
        };
        until(&mut s, "a reader of the log", &readers(false)).await;
        mover.switch();
        until(&mut s, "no reader of the log", &readers(true)).await;
        assert!(mover.is_running());
        assert!(mover.command("complete", &[]).status.success());
        assert_eq!(mover.ended(), 0);
    }
}

/// Where the stream begins behind a fence, the log says that it is one, or else how the tables stand now.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_before_the_streams_beginning_is_known() {
    for binary in logging() {
        for lowered in [false, true] {
            eprintln!("behind a fence on {}, lowered {lowered}", binary.info);
            let world = World::new(&binary).await;
            let (mut mover, mut s, mut t) = replicating(&world).await;
            undone(&world, &mut mover, &mut s, &mut t).await;
            wait_same(&mut s, &mut t, "c").await;
            mover.kill();
            execute(&mut s, &[RENAMING]).await;
            let at = Position::current(&mut s, &binary.info).await.unwrap();
            let checkpoint = format!("UPDATE _converge.applied SET position = '{at}' WHERE workflow = 'w'");
            execute(&mut t, &[&checkpoint]).await;
            execute(&mut s, &["DELETE FROM p WHERE id = 3"]).await;
            if lowered {
                let aside =
                    ["CREATE TABLE c LIKE _c_fenced", "INSERT INTO c VALUES (9, 9, 9)", "DROP TABLE c"];
                execute(&mut s, &aside).await;
                execute(&mut s, &[LOWERING, "INSERT INTO c VALUES (8, 4, 8)"]).await;
            }
            mover.start();
            wait("the table", || async { exists(&mut connect(&world.source).await, "c").await }).await;
            caught_up(&mover, &mut s, &mut t, "c").await;
            let there: Vec<u32> = t.query("SELECT id FROM c ORDER BY id").await.unwrap();
            assert_eq!(there, if lowered { vec![1, 4, 8] } else { vec![1, 4] });
        }
    }
}

/// Where there are tables of both names and the log says nothing, nobody knows whose rows those are.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_may_be_behind_a_fence_stop_the_workflow() {
    for binary in logging() {
        let world = World::new(&binary).await;
        let (mut mover, mut s, mut t) = replicating(&world).await;
        undone(&world, &mut mover, &mut s, &mut t).await;
        wait_same(&mut s, &mut t, "c").await;
        mover.kill();
        execute(&mut s, &[RENAMING, "CREATE TABLE c LIKE _c_fenced"]).await;
        let at = Position::current(&mut s, &binary.info).await.unwrap();
        let checkpoint = format!("UPDATE _converge.applied SET position = '{at}' WHERE workflow = 'w'");
        execute(&mut t, &[&checkpoint]).await;
        execute(&mut s, &["INSERT INTO c VALUES (9, 9, 9)"]).await;
        mover.start();
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        let log = mover.log();
        assert!(log.contains("rows of `shop`.`c` changed") || log.contains("was made anew"), "{log}");
        let there: Vec<u32> = t.query("SELECT id FROM c ORDER BY id").await.unwrap();
        assert_eq!(there, [1, 3, 4]);
    }
}
