//! A runner that stood still while its workflow went on without it changes nothing when it wakes up: no table is renamed,
//! and no error is left.

use converge_chaos::server::ServerBinary;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::fence::{ended, exists, replicating};
use crate::mover::Mover;
use crate::sql::{connect, execute, until};
use crate::support;
use crate::world::{World, wait};

const RENAMING: &str =
    "SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE%'";
const UNLOCKED: &str = "SELECT IS_USED_LOCK('converge.w') IS NULL";

async fn holds(conn: &mut Conn, condition: &str) -> bool {
    conn.query_first(condition).await.unwrap() == Some(true)
}

/// Pauses a runner in a switch while one of its renamings waits, or between two.
async fn pause(mover: &Mover, s: &mut Conn, renaming: bool) {
    loop {
        until(s, "a renaming", RENAMING).await;
        // Between two, and it has the answer to the first.
        let mut gone = 0;
        while !renaming && gone < 20 {
            gone = if holds(s, RENAMING).await { 0 } else { gone + 1 };
        }
        mover.signal(Signal::SIGSTOP);
        if holds(s, RENAMING).await == renaming {
            return;
        }
        mover.signal(Signal::SIGCONT);
    }
}

/// The workflow is given up while its runner stands still.
async fn cancelled(binary: &ServerBinary, renaming: bool) {
    let world = World::new(binary).await;
    let (mut mover, mut open) = replicating(&world, "n").await;
    let (mut s, mut t) = world.connections().await;
    let mut switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
    mover.wait_for("switching");
    pause(&mover, &mut s, renaming).await;
    switching.kill().unwrap();
    switching.wait().unwrap();
    execute(&mut open, &["COMMIT"]).await;
    if renaming {
        wait("a fence", || async { exists(&mut connect(&world.source).await, "_n_fenced").await }).await;
    }
    until(&mut t, "the end of the lease", UNLOCKED).await;
    assert!(mover.command("cancel", &[]).status.success());
    mover.signal(Signal::SIGCONT);
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    assert!(exists(&mut s, "n").await && !exists(&mut s, "_n_fenced").await, "{}", mover.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_wakes_up_after_the_end_leaves_no_fence() {
    for binary in support::servers() {
        for renaming in [false, true] {
            eprintln!("waking up on {}, in a renaming: {renaming}", binary.info);
            cancelled(&binary, renaming).await;
        }
    }
}

/// A second runner that took over from the first, which stands still.
async fn replaced(world: &World, first: &Mover) -> Mover {
    first.signal(Signal::SIGSTOP);
    until(&mut connect(&world.target).await, "the end of the lease", UNLOCKED).await;
    let mut second = first.another();
    second.start();
    second.wait_until("a runner", |s| s["running"] == true && s["silent_seconds"].as_f64() < Some(3.0));
    second
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_replaced_leaves_no_error() {
    for binary in support::servers() {
        eprintln!("replaced on {}", binary.info);
        let world = World::new(&binary).await;
        let (mut first, mut open) = replicating(&world, "n").await;
        execute(&mut open, &["COMMIT"]).await;
        let second = replaced(&world, &first).await;
        second.switch();
        first.signal(Signal::SIGCONT);
        assert_eq!(first.ended(), 2, "{}", first.log());
        let status = second.status().unwrap();
        assert_eq!((&status["state"], &status["error"]), (&"switched".into(), &serde_json::Value::Null));
        assert!(exists(&mut connect(&world.source).await, "_n_fenced").await);
    }
}

/// What the first runner sent to the source and what is still on its way is not carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_replaced_has_no_connection_that_fences() {
    for binary in support::servers() {
        eprintln!("connections of the replaced on {}", binary.info);
        let world = World::new(&binary).await;
        let (first, mut open) = replicating(&world, "n").await;
        execute(&mut open, &["COMMIT"]).await;
        let (mut s, mut t) = world.connections().await;
        let born = "SELECT CONCAT(name, ' ', created_at) FROM _converge.workflow";
        let born: Option<String> = t.query_first(born).await.unwrap();
        let lock = format!("CONCAT('converge/fence/', LEFT(SHA2('{}', 256), 40))", born.unwrap());
        let holder: Option<Option<u64>> =
            s.query_first(format!("SELECT IS_USED_LOCK({lock})")).await.unwrap();
        let former = holder.flatten().expect("a connection that may fence");
        let second = replaced(&world, &first).await;
        let gone = format!("SELECT COUNT(*) = 0 FROM information_schema.processlist WHERE id = {former}");
        until(&mut s, "the end of the former runner's connection", &gone).await;
        until(&mut s, "the next one's", &format!("SELECT IS_USED_LOCK({lock}) <> {former}")).await;
        second.switch();
    }
}

/// The target does not answer to the end of a switch: who waits is told what is fenced.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_whose_end_is_not_known_names_the_fence() {
    for binary in support::servers() {
        eprintln!("an end that is not known on {}", binary.info);
        let world = World::new(&binary).await;
        let (mut mover, mut open) = replicating(&world, "n").await;
        let (mut t, mut other) = (connect(&world.target).await, connect(&world.target).await);
        execute(&mut t, &["BEGIN", "SELECT * FROM n WHERE id = 1 FOR UPDATE"]).await;
        let switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
        mover.wait_for("switching");
        execute(&mut other, &["BEGIN", "SELECT * FROM _converge.workflow FOR UPDATE"]).await;
        execute(&mut open, &["COMMIT"]).await;
        wait("a fence", || async { exists(&mut connect(&world.source).await, "_n_fenced").await }).await;
        execute(&mut t, &["ROLLBACK"]).await;
        let told = || async { mover.log().contains("trying again") };
        wait("a session's end", told).await;
        let log = mover.log();
        let line = log.lines().find(|line| line.contains("trying again")).unwrap();
        assert!(line.contains("locked out of `shop`.`_n_fenced`"), "{log}");
        execute(&mut other, &["ROLLBACK"]).await;
        let (code, text) = ended(switching).await;
        assert_eq!(exists(&mut connect(&world.source).await, "_n_fenced").await, code == Some(0), "{text}");
    }
}
