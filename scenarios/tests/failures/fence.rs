//! A fence that nobody looks after is taken away, and a switch that was given up does not happen: whatever becomes of
//! the runner, the client and the target, writers get in again, or somebody is told that they do not.

use std::process::Child;
use std::time::{Duration, Instant};

use converge_chaos::server::ServerBinary;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::mover::Mover;
use crate::sql::{assert_same, connect, execute, until};
use crate::support;
use crate::world::{World, caught_up, wait};

/// Waits for a command's end: its code and what it wrote.
pub async fn ended(child: Child) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Runs a command that must be refused soon, with these words.
pub fn refused(mover: &Mover, verb: &str, words: &str) {
    let begun = Instant::now();
    let output = mover.command(verb, &[]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{verb} took {:?}", begun.elapsed());
}

/// Whether a table is there.
pub async fn exists(conn: &mut Conn, table: &str) -> bool {
    conn.query_drop(format!("SELECT 1 FROM {table} LIMIT 1")).await.is_ok()
}

/// A mover that replicates `n` and what else is named, and a transaction on the source that keeps the fence off and has
/// changed a row of `n`.
pub async fn replicating(world: &World, tables: &str) -> (Mover, Conn) {
    for table in tables.split(',') {
        world.fill(table, 16).await;
    }
    let mut mover = world.mover(tables);
    mover.start();
    mover.wait_for("replicating");
    let mut open = connect(&world.source).await;
    execute(&mut open, &["BEGIN", "UPDATE n SET x = x + 1 WHERE id = 1"]).await;
    (mover, open)
}

/// The target lost a row behind the mover's back, which it finds out about when the tables are fenced already.
async fn alarm(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut mover, mut open) = replicating(&world, "n").await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut t, &["DELETE FROM n WHERE id = 1"]).await;
    let switching = mover.spawn("switch-traffic", &["--timeout", "20s"]);
    mover.wait_for("switching");
    refused(&mover, "cancel", "a switch is under way");
    execute(&mut open, &["COMMIT"]).await;
    assert_eq!(mover.ended(), 2);
    assert!(mover.log().contains("the fence is taken away"), "{}", mover.log());
    let (code, text) = ended(switching).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("differs from the source"), "{text}");
    assert!(!exists(&mut s, "_n_fenced").await);
    execute(&mut s, &["INSERT INTO n (u) VALUES (-1)"]).await;
    let status = mover.status().unwrap();
    assert_eq!((&status["state"], &status["running"]), (&"error".into(), &false.into()), "{status}");
    refused(&mover, "switch-traffic", "the workflow has stopped");
    assert!(mover.command("cancel", &[]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_behind_the_fence_takes_it_away() {
    for binary in support::servers() {
        eprintln!("alarm on {}", binary.info);
        alarm(&binary).await;
    }
}

/// An application makes a fenced table anew before the fence is taken away: the others come back, and that one is named.
async fn anew(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut mover, mut open) = replicating(&world, "n,m").await;
    let (mut s, mut t) = world.connections().await;
    // The stream waits for this row once the transaction is committed.
    execute(&mut t, &["BEGIN", "SELECT * FROM n WHERE id = 1 FOR UPDATE"]).await;
    let switching = mover.spawn("switch-traffic", &["--timeout", "5s"]);
    mover.wait_for("switching");
    execute(&mut open, &["COMMIT"]).await;
    wait("a fence", || async { exists(&mut connect(&world.source).await, "_n_fenced").await }).await;
    // As applications do when they start.
    let anew = ["CREATE TABLE IF NOT EXISTS n LIKE _n_fenced", "INSERT INTO n (id, u) VALUES (900, 900)"];
    execute(&mut s, &anew).await;
    assert_eq!(mover.ended(), 2);
    assert_eq!(ended(switching).await.0, Some(2));
    for run in 0..2 {
        assert!(exists(&mut s, "_n_fenced").await && !exists(&mut s, "_m_fenced").await);
        let status = mover.status().unwrap();
        let (error, help) = (status["error"].to_string(), status["what_to_do"].to_string());
        assert!(error.contains("`shop`.`n` was made anew") && error.contains("`_n_fenced`"), "{status}");
        assert!(help.contains("RENAME TABLE `shop`.`n` TO `shop`.`n_new`"), "{status}");
        execute(&mut s, &["UPDATE m SET x = x + 1"]).await;
        if run == 0 {
            mover.start();
            assert_eq!(mover.ended(), 2, "{}", mover.log());
        }
    }
    execute(&mut t, &["ROLLBACK"]).await;
    execute(&mut s, &["RENAME TABLE n TO n_new"]).await;
    mover.start();
    wait("the moved table", || async { !exists(&mut connect(&world.source).await, "_n_fenced").await }).await;
    execute(&mut s, &["INSERT INTO n (id, u) VALUES (901, -1)"]).await;
    // What was written to the other table is nobody's here.
    caught_up(&mover, &mut s, &mut t, "n").await;
    mover.switch();
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
    let there: Vec<u32> = t.query("SELECT id FROM n WHERE id >= 900").await.unwrap();
    assert_eq!(there, [901]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_is_partly_up_is_not_taken_for_none() {
    for binary in support::servers() {
        eprintln!("partly up on {}", binary.info);
        anew(&binary).await;
    }
}

/// Requests whose client or runner is gone, and a renaming whose sender is.
async fn given_up(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut mover, mut open) = replicating(&world, "n").await;
    let (mut s, mut t) = world.connections().await;
    let workflow = "_converge.workflow";

    // Interrupted while a transaction keeps the fence off.
    let switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
    mover.wait_for("switching");
    let begun = Instant::now();
    kill(Pid::from_raw(switching.id() as i32), Signal::SIGINT).unwrap();
    let (code, text) = ended(switching).await;
    assert!(code == Some(2) && text.contains("the request was taken back"), "{code:?}: {text}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(mover.status().unwrap()["state"], "replicating");
    execute(&mut open, &["COMMIT"]).await;

    // Asked of a runner that was killed, by a client that was: when there is a runner again, its time is over.
    mover.kill();
    let mut switching = mover.spawn("switch-traffic", &["--timeout", "2s"]);
    until(&mut t, "a request", &format!("SELECT switch_outcome IS NULL FROM {workflow}")).await;
    switching.kill().unwrap();
    switching.wait().unwrap();
    let over = format!("SELECT switch_deadline < UTC_TIMESTAMP(3) FROM {workflow}");
    until(&mut t, "the end of its time", &over).await;
    mover.start();
    let refused_late =
        format!("SELECT IFNULL(switch_outcome, '') LIKE '%its time was over%' FROM {workflow}");
    until(&mut t, "a refusal", &refused_late).await;
    assert_eq!(mover.status().unwrap()["state"], "replicating");

    // A renaming that this workflow may have sent comes out of the network.
    let rename = "RENAME TABLE /* converge fence */ shop.n TO shop._n_fenced";
    execute(&mut s, &[rename]).await;
    wait("the tables", || async { exists(&mut connect(&world.source).await, "n").await }).await;
    assert!(mover.log().contains("arrived late"), "{}", mover.log());
    // Another workflow's is left alone.
    execute(
        &mut s,
        &["UPDATE _converge.watermark SET mark = 'another' WHERE workflow LIKE 'fence %'", rename],
    )
    .await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(exists(&mut s, "_n_fenced").await);
    refused(&mover, "switch-traffic", "`shop`.`_n_fenced` is on the source already");
    execute(&mut s, &["RENAME TABLE /* converge fence */ shop._n_fenced TO shop.n"]).await;
    mover.switch();
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0);
    let marks: Option<u64> = s.query_first("SELECT COUNT(*) FROM _converge.watermark").await.unwrap();
    assert_eq!(marks, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_was_given_up_does_not_happen() {
    for binary in support::servers() {
        eprintln!("given up on {}", binary.info);
        given_up(&binary).await;
    }
}

/// The target dies behind the fence: who waits and who runs say which tables writers are locked out of.
async fn target_gone(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mover, mut open) = replicating(&world, "n").await;
    let mut mover = mover.with(&["--retry-for", "3s"]);
    mover.kill();
    mover.start();
    mover.wait_for("replicating");
    let mut t = connect(&world.target).await;
    execute(&mut t, &["BEGIN", "SELECT * FROM n WHERE id = 1 FOR UPDATE"]).await;
    let switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
    mover.wait_for("switching");
    execute(&mut open, &["COMMIT"]).await;
    wait("a fence", || async { exists(&mut connect(&world.source).await, "_n_fenced").await }).await;
    world.target.kill().await.unwrap();
    drop(t);
    kill(Pid::from_raw(switching.id() as i32), Signal::SIGTERM).unwrap();
    let (code, text) = ended(switching).await;
    assert!(code == Some(2) && text.contains("(`shop`.`_n_fenced`)"), "{code:?}: {text}");
    assert_eq!(mover.ended(), 2);
    let log = mover.log();
    assert!(log.contains("locked out of `shop`.`_n_fenced`"), "{log}");
    assert!(log.contains("RENAME TABLE `shop`.`_n_fenced` TO `shop`.`n`"), "{log}");
    world.target.restart().await.unwrap();
    // Without a runner the operator may give up, and is told what that leaves.
    let given_up = mover.command("cancel", &[]);
    let text = String::from_utf8_lossy(&given_up.stdout).into_owned();
    assert!(
        given_up.status.success() && text.contains("RENAME TABLE `shop`.`_n_fenced` TO `shop`.`n`"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_behind_the_fence_is_told_of() {
    for binary in support::servers() {
        eprintln!("target gone on {}", binary.info);
        target_gone(&binary).await;
    }
}

/// A switch that takes longer than the target lets a silent connection live, and numbers that never reached the target.
async fn long(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mover, mut open) = replicating(&world, "n,m").await;
    let (mut s, mut t) = world.connections().await;
    for table in ["n", "m"] {
        let used = format!("INSERT INTO {table} (id, u) VALUES (100000, -7)");
        execute(&mut s, &["BEGIN", &used, "ROLLBACK"]).await;
    }
    // Nobody can alter this one.
    execute(&mut t, &["LOCK TABLES m READ"]).await;
    let switching = mover.spawn("switch-traffic", &["--timeout", "40s", "--format", "json"]);
    tokio::time::sleep(Duration::from_secs(11)).await;
    execute(&mut open, &["COMMIT"]).await;
    let (code, text) = ended(switching).await;
    assert_eq!(code, Some(0), "{text}\n{}", mover.log());
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{answer}");
    assert!(warnings[0].to_string().contains("ALTER TABLE `shop`.`m` AUTO_INCREMENT = 100001"), "{answer}");
    execute(&mut t, &["UNLOCK TABLES", "INSERT INTO n (u) VALUES (-9)"]).await;
    let given: Option<u64> = t.query_first("SELECT id FROM n WHERE u = -9").await.unwrap();
    assert_eq!(given, Some(100_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_switch_keeps_its_lock_and_carries_counters_over() {
    for binary in support::servers() {
        eprintln!("long on {}", binary.info);
        long(&binary).await;
    }
}
