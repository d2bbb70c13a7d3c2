//! A switch that somebody dies in is finished or undone: never are tables left fenced without a word.

use std::time::Duration;

use converge_chaos::server::ServerBinary;
use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::sql::{assert_same, connect, execute};
use crate::support;
use crate::world::{World, Writer};

/// One switch of one table, with one party killed at a random moment of it. Whether it was switched in the end.
async fn struck(world: &World, random: &mut ChaCha8Rng, round: u32) -> bool {
    let table = format!("n{round}");
    world.fill(&table, 256).await;
    let mut mover = world.mover(&table);
    mover.start();
    mover.wait_for("replicating");
    let writer = Writer::start(world.source.address("shop"), &table, u64::from(round));
    writer.wait_for(20).await;
    // Every other time a transaction is in the way, so that the renaming is waiting when the blow falls.
    let mut open = connect(&world.source).await;
    if round.is_multiple_of(2) {
        execute(&mut open, &["BEGIN", &format!("SELECT COUNT(*) FROM {table}")]).await;
    }
    let mut switching = mover.spawn("switch-traffic", &["--timeout", "6s"]);
    let after = Duration::from_millis(random.random_range(0..400));
    tokio::time::sleep(after).await;
    let victim = random.random_range(0..3);
    eprintln!("  round {round}: {} killed after {after:?}", ["source", "target", "mover"][victim]);
    match victim {
        0 => {
            world.source.kill().await.unwrap();
            world.source.restart().await.unwrap();
        }
        1 => {
            world.target.kill().await.unwrap();
            world.target.restart().await.unwrap();
        }
        _ => {
            mover.kill();
            mover.start();
        }
    }
    drop(open);
    let status = mover.wait_until("an end of the switch", |s| {
        let replicating = s["state"] == "replicating" && s["running"] == true;
        (replicating || s["state"] == "switched") && s["error"].is_null()
    });
    // The command ends too, whatever became of the switch.
    let ended = tokio::task::spawn_blocking(move || switching.wait().unwrap()).await.unwrap();
    let status =
        if status["state"] == "switched" || !ended.success() { status } else { mover.wait_for("switched") };
    let switched = status["state"] == "switched";
    let mut s = connect(&world.source).await;
    let fenced = s.query_drop(format!("SELECT 1 FROM _{table}_fenced")).await.is_ok();
    assert_eq!(fenced, switched, "{}", mover.log());
    if !switched {
        // Writes go on as before, and the next attempt works.
        assert!(!ended.success());
        writer.wait_for(3).await;
        mover.switch();
    }
    writer.stop().await;
    let mut t = connect(&world.target).await;
    assert_same(&mut s, &format!("_{table}_fenced"), &mut t, &table).await;
    mover.kill();
    execute(&mut t, &["DROP DATABASE _converge"]).await;
    switched
}

async fn switches(binary: &ServerBinary, seed: u64, rounds: u32) {
    eprintln!("switches on {}, seed {seed}", binary.info);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(binary).await;
    let mut switched = 0;
    for round in 0..rounds {
        switched += u32::from(struck(&world, &mut random, round).await);
    }
    eprintln!("  {switched} of {rounds} were finished, the others undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_somebody_dies_in_is_finished_or_undone() {
    for binary in support::servers() {
        switches(&binary, 3, 10).await;
    }
}

/// The mover is killed while its renaming waits, and nobody starts it again at once: the status says what may be.
#[tokio::test(flavor = "multi_thread")]
async fn a_renaming_that_outlives_its_runner_is_undone() {
    for binary in support::servers() {
        eprintln!("renaming on {}", binary.info);
        let world = World::new(&binary).await;
        world.fill("n", 64).await;
        let mut mover = world.mover("n");
        mover.start();
        mover.wait_for("replicating");
        let mut open = connect(&world.source).await;
        execute(&mut open, &["BEGIN", "SELECT COUNT(*) FROM n"]).await;
        let mut switching = mover.spawn("switch-traffic", &["--timeout", "2s"]);
        let mut s = connect(&world.source).await;
        let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'RENAME TABLE%'";
        while s.query_first::<u64, _>(waiting).await.unwrap() != Some(1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        mover.kill();
        let status = mover.status().unwrap();
        assert_eq!(status["state"], "switching");
        mover.start();
        // Whoever says that the switch is over while the renaming still waits is wrong as soon as it goes through.
        while s.query_first::<u64, _>(waiting).await.unwrap() == Some(1)
            && mover.status().is_some_and(|s| s["state"] == "switching")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        execute(&mut open, &["COMMIT"]).await;
        tokio::task::spawn_blocking(move || switching.wait().unwrap()).await.unwrap();
        mover.wait_until("replicating", |s| s["state"] == "replicating" && s["error"].is_null());
        execute(&mut s, &["INSERT INTO n (u) VALUES (-1)"]).await;
        mover.switch();
        let mut t = connect(&world.target).await;
        assert_same(&mut s, "_n_fenced", &mut t, "n").await;
    }
}

/// Statements wait behind a renaming for no longer than one attempt, however long a transaction is in its way.
#[tokio::test(flavor = "multi_thread")]
async fn writers_are_held_up_for_one_attempt_at_most() {
    for binary in support::servers() {
        eprintln!("held up on {}", binary.info);
        let world = World::new(&binary).await;
        world.fill("n", 64).await;
        let mut mover = world.mover("n");
        mover.start();
        mover.wait_for("replicating");
        let mut open = connect(&world.source).await;
        execute(&mut open, &["BEGIN", "SELECT COUNT(*) FROM n"]).await;
        let mut switching = mover.spawn("switch-traffic", &["--timeout", "6s", "--format", "json"]);
        let mut s = connect(&world.source).await;
        let mut longest = Duration::ZERO;
        let begun = std::time::Instant::now();
        let mut writes = 0;
        while begun.elapsed() < Duration::from_secs(4) {
            let one = std::time::Instant::now();
            execute(&mut s, &["UPDATE n SET x = x + 1 WHERE id = 1"]).await;
            longest = longest.max(one.elapsed());
            writes += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        execute(&mut open, &["COMMIT"]).await;
        let status = switching.wait().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut switching.stdout.take().unwrap(), &mut text).unwrap();
        assert!(status.success(), "{text}\n{}", mover.log());
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        eprintln!("  {writes} writes meanwhile, the longest took {longest:?}; {answer}");
        assert!(longest < Duration::from_millis(2500), "{longest:?}");
        assert!(writes > 20 && answer["attempts"].as_u64() > Some(1), "{answer}");
        for field in ["fencing_ms", "blocked_ms", "drained_ms"] {
            assert!(answer[field].as_f64() > Some(0.0), "{answer}");
        }
        assert!(answer["blocked_ms"].as_f64() < answer["fencing_ms"].as_f64(), "{answer}");
    }
}

/// A request that no runner takes up: the answer has what keeps it from that.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_takes_up_is_answered_by_the_reason() {
    // The answer does not depend on the product, and takes its time.
    let binary = support::servers().remove(0);
    let world = World::new(&binary).await;
    world.fill("n", 64).await;
    let mut mover = world.mover("n");
    mover.start();
    mover.wait_for("replicating");
    world.source.kill().await.unwrap();
    mover.wait_until("that it is gone", |s| s["error"].as_str().is_some_and(|e| e.contains("reconnecting")));
    let output = mover.command("switch-traffic", &["--timeout", "1s"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("taken back before a runner had begun with it, which says: reconnecting"),
        "{text}"
    );
}
