//! A client of the switch that goes away with an error leaves no request behind, and never reads one answer for another.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::fence::{ended, exists, replicating};
use crate::sql::{connect, execute, until};
use crate::support;
use crate::world::{World, signal};

const ASKED: &str = "SELECT switch_token IS NOT NULL AND switch_outcome IS NULL FROM _converge.workflow";
const ANSWERED: &str = "SELECT switch_outcome IS NOT NULL FROM _converge.workflow";

/// The workflow is found stopped while somebody waits for a switch.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_whose_client_gave_up_is_not_carried_out_later() {
    for binary in support::servers() {
        eprintln!("a client that gave up on {}", binary.info);
        let world = World::new(&binary).await;
        let (mut mover, mut open) = replicating(&world, "n").await;
        execute(&mut open, &["ROLLBACK"]).await;
        let (mut s, mut t) = world.connections().await;
        mover.signal(Signal::SIGSTOP);
        let switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
        until(&mut t, "a request", ASKED).await;
        execute(&mut t, &["UPDATE _converge.workflow SET stopped = TRUE, error = 'as planned'"]).await;
        let (code, text) = ended(switching).await;
        assert!(code == Some(2) && text.contains("as planned"), "{code:?}: {text}");
        until(&mut t, "the end of the request", ANSWERED).await;
        mover.signal(Signal::SIGCONT);
        mover.wait_until("a runner", |s| s["running"] == true && s["error"].is_null());
        assert_eq!(mover.status().unwrap()["state"], "replicating");
        assert!(exists(&mut s, "n").await);

        // Asked of a runner that finds a reason to stop, by a client that is gone.
        mover.kill();
        execute(&mut s, &["ALTER TABLE n ADD COLUMN y INT"]).await;
        let mut switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
        until(&mut t, "a request", ASKED).await;
        switching.kill().unwrap();
        switching.wait().unwrap();
        mover.start();
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        until(&mut t, "an answer", ANSWERED).await;
        assert!(exists(&mut s, "n").await);
    }
}

/// The target stands still for longer than a query and the next connection are waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    const STANDSTILL: Duration = Duration::from_secs(33);
    let hang = async |binary| {
        let world = World::new(&binary).await;
        let (mut mover, mut open) = replicating(&world, "n").await;
        let switching = mover.spawn("switch-traffic", &["--timeout", "60s"]);
        mover.wait_for("switching");
        signal(&world.target, Signal::SIGSTOP);
        tokio::time::sleep(STANDSTILL).await;
        signal(&world.target, Signal::SIGCONT);
        execute(&mut open, &["COMMIT"]).await;
        let (code, text) = ended(switching).await;
        assert!([Some(0), Some(2)].contains(&code) && !text.contains("panicked"), "{code:?}: {text}");
        let fenced = exists(&mut connect(&world.source).await, "_n_fenced").await;
        assert_eq!(fenced, code == Some(0), "{text}\n{}", mover.log());
    };
    for binary in support::servers() {
        eprintln!("a late answer on {}", binary.info);
        hang(binary).await;
    }
}
