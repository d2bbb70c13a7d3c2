//! Whoever is killed, stopped or restarted at whatever moment: the move goes on by itself, and nothing is lost.

use std::time::Duration;

use converge_chaos::server::{LocalServer, ServerBinary};
use nix::sys::signal::Signal;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::mover::Mover;
use crate::sql::{assert_same, connect, execute, until};
use crate::support;
use crate::world::{World, Writer, signal};

#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    Restart,
    Pause,
}

async fn strike_server(server: &LocalServer, blow: Blow, hold: Duration) {
    match blow {
        Blow::Kill => {
            server.kill().await.unwrap();
            tokio::time::sleep(hold).await;
            server.restart().await.unwrap();
        }
        Blow::Restart => {
            server.stop().await.unwrap();
            server.restart().await.unwrap();
        }
        Blow::Pause => {
            signal(server, Signal::SIGSTOP);
            tokio::time::sleep(hold).await;
            signal(server, Signal::SIGCONT);
        }
    }
}

async fn strike_mover(mover: &mut Mover, blow: Blow, hold: Duration) {
    match blow {
        Blow::Kill => {
            mover.kill();
            tokio::time::sleep(hold).await;
            mover.start();
        }
        Blow::Restart => {
            mover.signal(Signal::SIGTERM);
            // Before its handlers are in place a signal ends the process as it ends any other.
            let code = mover.ended();
            assert!([3, -1].contains(&code), "{code}: {}", mover.log());
            mover.start();
        }
        Blow::Pause => {
            mover.signal(Signal::SIGSTOP);
            tokio::time::sleep(hold).await;
            mover.signal(Signal::SIGCONT);
        }
    }
}

/// Strikes a random party in a random way at a random moment, `rounds` times.
async fn strikes(binary: &ServerBinary, seed: u64, rounds: u32) {
    eprintln!("blows on {}, seed {seed}", binary.info);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(binary).await;
    world.fill("n", 16_384).await;
    let pace = ["--chunk-rows", "150", "--copy-rows-per-second", "1500"];
    let mut mover = world.mover("n").with(&pace);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(0));
    let writer = Writer::start(world.source.address("shop"), "n", seed);
    for round in 0..rounds {
        let blow = [Blow::Kill, Blow::Restart, Blow::Pause][random.random_range(0..3)];
        let hold = Duration::from_millis(random.random_range(0..700));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..600))).await;
        let victim = random.random_range(0..3);
        eprintln!("  round {round}: {blow:?} {} for {hold:?}", ["source", "target", "mover"][victim]);
        match victim {
            0 => strike_server(&world.source, blow, hold).await,
            1 => strike_server(&world.target, blow, hold).await,
            _ => strike_mover(&mut mover, blow, hold).await,
        }
        writer.wait_for(1).await;
    }
    mover.wait_until("replicating", |s| s["state"] == "replicating" && s["error"].is_null());
    assert!(writer.stop().await > 20);
    mover.switch();
    let (mut s, mut t) = world.connections().await;
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blows_at_random_moments_are_survived() {
    for binary in support::servers() {
        strikes(&binary, 1, 14).await;
        strikes(&binary, 2, 14).await;
    }
}

/// A target that goes down before it has anything of the workflow: both servers were there, so the runner waits for it.
async fn down_at_once(binary: &ServerBinary) {
    eprintln!("a target that is down at once on {}", binary.info);
    let world = World::new(binary).await;
    world.fill("n", 10).await;
    let mut locker = connect(&world.target).await;
    execute(&mut locker, &["FLUSH TABLES WITH READ LOCK"]).await;
    let mut mover = world.mover("n");
    mover.start();
    let waits = "SELECT COUNT(*) > 0 FROM information_schema.processlist \
                 WHERE info LIKE 'CREATE DATABASE%' AND id <> CONNECTION_ID()";
    until(&mut locker, "the first write", waits).await;
    strike_server(&world.target, Blow::Kill, Duration::from_millis(500)).await;
    mover.wait_for("replicating");
    assert!(mover.log().contains("trying again in"), "{}", mover.log());
    mover.switch();
    let (mut s, mut t) = world.connections().await;
    assert_same(&mut s, "_n_fenced", &mut t, "n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_down_before_there_is_a_workflow_is_waited_for() {
    for binary in support::servers() {
        down_at_once(&binary).await;
    }
}
