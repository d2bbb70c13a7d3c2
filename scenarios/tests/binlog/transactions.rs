//! A position is promoted at a transaction's end only: the mover is killed inside of transactions, and between the
//! phases of XA transactions.

use std::time::{Duration, Instant};

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;
use mysql_async::prelude::Queryable;

use crate::mover::Mover;
use crate::sql::{connect, execute};
use crate::support;
use crate::world::{World, caught_up, wait};

/// Longer than a position may go unrecorded on an idle stream: what is promoted next is recorded at once.
const IDLE: Duration = Duration::from_millis(1100);
/// Rows of this kind are sent to the target before the source's transaction has ended.
const LARGE: &str = "UPDATE a SET v = REPEAT(CHAR(97 + (ASCII(v) + 1) % 26), 1500000)";

/// Servers with and without GTIDs.
fn settings(binary: &ServerBinary) -> &'static [&'static [&'static str]] {
    match binary.info.flavor {
        Flavor::MySql => &[&[], &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]],
        Flavor::MariaDb => &[&[]],
    }
}

async fn replicating(binary: &ServerBinary, options: &[&str]) -> (World, Mover) {
    let world = World::with(binary, options, &[]).await;
    let (mut s, _) = world.connections().await;
    let create = [
        "CREATE TABLE a (id INT PRIMARY KEY, v LONGTEXT)",
        "INSERT INTO a VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
        "CREATE TABLE other (id INT PRIMARY KEY)",
    ];
    execute(&mut s, &create).await;
    let mut mover = world.mover("a");
    mover.start();
    mover.wait_for("replicating");
    (world, mover)
}

/// What may stand before, among and behind the changes of one transaction.
const FORMS: &[[&str; 3]] = &[
    ["BEGIN", "SAVEPOINT s", "COMMIT"],
    ["BEGIN; INSERT INTO other VALUES (100); SAVEPOINT s", "RELEASE SAVEPOINT s", "COMMIT"],
    ["XA START 'k'", "SELECT 1", "XA END 'k'; XA COMMIT 'k' ONE PHASE"],
];

/// A row lock on the target stops the mover in the middle of a transaction, where it is killed.
async fn killed_inside(binary: &ServerBinary, options: &[&str]) {
    let (world, mut mover) = replicating(binary, options).await;
    let (mut s, mut t) = world.connections().await;
    let mut lock = connect(&world.target).await;
    for [begin, among, end] in FORMS {
        eprintln!("killed inside of {begin} … {among} … {end} on {}, {options:?}", binary.info);
        let idle = Instant::now();
        wait("an idle stream", || async { idle.elapsed() > IDLE }).await;
        execute(&mut lock, &["BEGIN", "SELECT id FROM a WHERE id = 3 FOR UPDATE"]).await;
        for part in begin.split("; ").chain([LARGE, *among, "INSERT INTO other SELECT COUNT(*) FROM other"]) {
            execute(&mut s, &[part]).await;
        }
        for part in ["UPDATE a SET v = CONCAT(v, '!') WHERE id = 1"].into_iter().chain(end.split("; ")) {
            execute(&mut s, &[part]).await;
        }
        let waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
        let give_up = Instant::now() + Duration::from_secs(30);
        while t.query_first::<u64, _>(waiting).await.unwrap() != Some(1) {
            assert!(
                Instant::now() < give_up,
                "the mover did not come to the row: {:?}\n{}",
                mover.status(),
                mover.log()
            );
            // Asked sooner, the server answers with what it knew the last time.
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        mover.kill();
        execute(&mut lock, &["ROLLBACK"]).await;
        mover.start();
        caught_up(&mover, &mut s, &mut t, "a").await;
    }
    mover.switch();
    assert_eq!(world.judge_fenced(&["a"]).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_inside_of_a_transaction_loses_nothing_of_it() {
    for binary in support::servers() {
        for options in settings(&binary) {
            killed_inside(&binary, options).await;
        }
    }
}

/// Another table's XA transaction, with changes of the moved one between its phases, and a kill at each of them.
async fn killed_between_phases(binary: &ServerBinary, options: &[&str]) {
    eprintln!("XA on {}, {options:?}", binary.info);
    let (world, mut mover) = replicating(binary, options).await;
    let (mut s, mut t) = world.connections().await;
    let mut row = 10;
    for end in ["COMMIT", "ROLLBACK"] {
        for killed_at in 0..4 {
            let mut xa = connect(&world.source).await;
            let name = format!("'{end}{killed_at}'");
            let phases = [
                format!("XA START {name}; INSERT INTO other VALUES ({row})"),
                format!("XA END {name}"),
                format!("XA PREPARE {name}"),
                format!("XA {end} {name}"),
            ];
            for (i, phase) in phases.iter().enumerate() {
                for part in phase.split("; ") {
                    execute(&mut xa, &[part]).await;
                }
                row += 1;
                execute(&mut s, &[&format!("INSERT INTO a VALUES ({row}, 'x')")]).await;
                if i == killed_at {
                    caught_up(&mover, &mut s, &mut t, "a").await;
                    mover.kill();
                    execute(&mut s, &[&format!("UPDATE a SET v = CONCAT(v, '{row}')")]).await;
                    mover.start();
                }
            }
        }
        caught_up(&mover, &mut s, &mut t, "a").await;
    }
    mover.switch();
    assert!(world.judge_fenced(&["a"]).await > 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn xa_transactions_of_other_tables_never_promote_a_position_early() {
    for binary in support::servers() {
        for options in settings(&binary) {
            killed_between_phases(&binary, options).await;
        }
    }
}
