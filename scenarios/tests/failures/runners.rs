//! One runner at a time: a second one refuses, a paused one that was replaced never commits again, and a runner that
//! is asked to end says how it ended.

use std::time::Duration;

use converge_chaos::server::ServerBinary;
use converge_mysql::Position;
use nix::sys::signal::Signal;

use crate::sql::{assert_same, connect, execute, until, wait_same};
use crate::support;
use crate::world::{World, Writer};

/// The first runner is stopped in the middle of its work for longer than its lock lasts, a second one takes over, and
/// then the first wakes up.
async fn a_paused_runner(binary: &ServerBinary) {
    let world = World::new(binary).await;
    world.fill("n", 8192).await;
    let pace = ["--chunk-rows", "100", "--copy-rows-per-second", "1000"];
    let mut first = world.mover("n").with(&pace);
    first.start();
    first.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(300));
    let writer = Writer::start(world.source.address("shop"), "n", 5);
    let refused = first.run();
    assert_eq!(refused.status.code(), Some(2));
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("already run by another process") && words.contains("what to do:"), "{words}");
    let running = first.wait_until("no error", |s| s["running"] == true);
    assert!(running["error"].is_null(), "the second runner's refusal is no error of the first: {running}");

    first.signal(Signal::SIGSTOP);
    let mut second = first.another();
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        second.start();
        let taken = || second.log().contains("workflow w: ");
        let deadline = std::time::Instant::now() + Duration::from_secs(8);
        while std::time::Instant::now() < deadline && !taken() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if taken() {
            break;
        }
        assert_eq!(second.ended(), 2, "{}", second.log());
        assert!(std::time::Instant::now() < give_up, "the lock outlived its runner: {}", second.log());
    }
    second.wait_until("more rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(1000));
    first.signal(Signal::SIGCONT);
    assert_eq!(first.ended(), 2, "{}", first.log());
    assert!(first.log().contains("already run by another process"), "{}", first.log());
    let status = second.wait_until("replicating", |s| s["state"] == "replicating" && s["error"].is_null());
    assert_eq!(status["running"], true);
    writer.stop().await;
    second.switch();
    let (mut s, mut t) = world.connections().await;
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_replaced_never_commits_again() {
    for binary in support::servers() {
        eprintln!("runners on {}", binary.info);
        a_paused_runner(&binary).await;
    }
}

/// A runner is killed while the target is about to commit what it applied: to the next one that is applied.
async fn a_commit_on_its_way(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY)", "INSERT INTO a VALUES (1)"]).await;
    let mut mover = world.mover("a");
    mover.start();
    mover.wait_for("replicating");
    mover.kill();
    execute(&mut s, &["INSERT INTO a VALUES (2)"]).await;
    let at = Position::current(&mut s, &binary.info).await.unwrap();
    let mut late = connect(&world.target).await;
    let checkpoint = format!("UPDATE `_converge`.applied SET position = '{at}' WHERE workflow = 'w'");
    execute(&mut late, &["BEGIN", "INSERT INTO a VALUES (2)", &checkpoint]).await;
    mover.start();
    let waits =
        "SELECT COUNT(*) > 0 FROM information_schema.processlist WHERE info LIKE 'UPDATE%applied%run = %'";
    until(&mut t, "the next runner", waits).await;
    execute(&mut late, &["COMMIT", "DO 1"]).await;
    execute(&mut s, &["INSERT INTO a VALUES (3)"]).await;
    wait_same(&mut s, &mut t, "a").await;
    assert!(mover.is_running(), "{}", mover.log());
    assert!(!mover.log().contains("duplicate"), "{}", mover.log());
    mover.switch();
    assert_same(&mut s, "_a_fenced", &mut t, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_runner_was_committing_is_waited_for() {
    for binary in support::servers() {
        eprintln!("a commit on its way on {}", binary.info);
        a_commit_on_its_way(&binary).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_runner_with_its_own_exit_code() {
    for binary in support::servers() {
        eprintln!("signals on {}", binary.info);
        let world = World::new(&binary).await;
        world.fill("n", 2048).await;
        let mut mover = world.mover("n").with(&["--chunk-rows", "50", "--copy-rows-per-second", "2000"]);
        let mut handled = 0;
        for (i, signal) in [Signal::SIGINT, Signal::SIGTERM].into_iter().cycle().take(12).enumerate() {
            mover.start();
            let waited = Duration::from_millis(40 * i as u64);
            tokio::time::sleep(waited).await;
            if i % 3 == 0 {
                mover.wait_until("a runner", |s| s["running"] == true);
            }
            // Before its handlers are in place a signal ends the process as it ends any other.
            mover.signal(signal);
            let code = mover.ended();
            assert!([3, -1].contains(&code), "{signal} after {waited:?}: {code}\n{}", mover.log());
            handled += u32::from(code == 3);
        }
        assert!(handled > 0, "no signal was handled: {}", mover.log());
        mover.start();
        mover.wait_for("replicating");
        let (mut s, mut t) = (connect(&world.source).await, connect(&world.target).await);
        execute(&mut s, &["UPDATE n SET x = x + 1"]).await;
        wait_same(&mut s, &mut t, "n").await;
    }
}
