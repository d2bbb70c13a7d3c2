//! What others do to a workflow's tables and servers: another workflow, an operator's TRUNCATE, a lock on a whole table,
//! a machine that crashed and took the end of the log back.

use std::process::Command;

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::mover::{Mover, converge};
use crate::sql::{connect, execute, until, wait_same};
use crate::support;
use crate::world::{World, signal, wait};

const FILL: &[&str] =
    &["CREATE TABLE a (id INT PRIMARY KEY, x INT)", "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)"];

async fn replicating(world: &World) -> (Mover, Conn, Conn) {
    let (mut s, t) = world.connections().await;
    execute(&mut s, FILL).await;
    let mut mover = world.mover("a");
    mover.start();
    mover.wait_for("replicating");
    (mover, s, t)
}

fn refused(output: &std::process::Output, words: &[&str]) {
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    let text = String::from_utf8_lossy(&text);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
}

/// A move command between the two servers' databases `from` and `to`.
fn mover_command(world: &World, verb: &[&str], [from, to]: [&str; 2]) -> Command {
    let mut command = converge();
    command.arg("move").args(verb).args(["--source", &world.source.address(from).to_url()]);
    command.args(["--target", &world.target.address(to).to_url(), "--tables", "a"]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_target_is_not_switched_to() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mut mover, mut s, mut t) = replicating(&world).await;
        execute(&mut t, &["TRUNCATE TABLE a"]).await;
        execute(&mut s, &["INSERT INTO a VALUES (4, 4)"]).await;
        let words =
            ["`shop`.`a` is not what was moved there", "keys from 4 to 4, the source keys from 1 to 4"];
        refused(&mover.command("switch-traffic", &[]), &words);
        execute(&mut s, &["INSERT INTO a VALUES (5, 5)"]).await;
        execute(&mut t, &["REPLACE INTO a VALUES (1, 1), (2, 2), (3, 3)"]).await;
        assert!(mover.is_running());
        mover.switch();
    }
}

/// What a runner asks many times a second is answered without looking whether the state is there at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_taken_away_ends_the_move() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mut mover, _, mut t) = replicating(&world).await;
        execute(&mut t, &["DROP DATABASE _converge"]).await;
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        for words in ["removed from the target while it ran", "do not touch the database _converge"] {
            assert!(mover.log().contains(words), "{words}: {}", mover.log());
        }
    }
}

/// The stream has nothing to do with a table that nobody writes to, and does not see it go.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_table_that_is_gone_is_not_switched_to() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mut mover, mut s, mut t) = replicating(&world).await;
        execute(&mut t, &["RENAME TABLE a TO aside"]).await;
        let words = [
            "the tables' first and last keys could not be compared",
            "a' doesn't exist",
            "writes go on at the source",
        ];
        refused(&mover.command("switch-traffic", &[]), &words);
        execute(&mut t, &["RENAME TABLE aside TO a"]).await;
        execute(&mut s, &["INSERT INTO a VALUES (4, 4)"]).await;
        assert!(mover.is_running());
        mover.switch();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_has_one_workflow() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mover, ..) = replicating(&world).await;
        let words =
            ["the workflow w, which is replicating, moves rows into `shop`.`a`", "converge move cancel w"];
        for verb in [&["run", "two"][..], &["check"]] {
            refused(&mover_command(&world, verb, ["shop", "shop"]).output().unwrap(), &words);
        }
        let reserved = "is a server's own or the mover's";
        for databases in [["shop", "mysql"], ["performance_schema", "shop"], ["shop", "_converge"]] {
            refused(&mover_command(&world, &["run", "two"], databases).output().unwrap(), &[reserved]);
        }
        // A command that does not fit the workflow is nothing that stops it.
        let other = Mover::between(
            &world.source.address("other").to_url(),
            &world.target.address("shop").to_url(),
            "a",
        );
        assert_eq!(other.run().status.code(), Some(2));
        assert_eq!(mover.status().unwrap()["state"], "replicating");
        assert!(mover.command("cancel", &[]).status.success());
        refused(&mover.run(), &["it was cancelled", "under another name"]);
        refused(&mover.command("complete", &[]), &["it is cancelled, not switched", "under another name"]);
        assert_eq!(mover.status().unwrap()["state"], "cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_gone_has_no_lag_and_switches_nothing() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mut mover, _s, mut t) = replicating(&world).await;
        mover.wait_until("a lag", |status| status["lag_seconds"] == 0.0);
        mover.kill();
        // As if it had been silent for long.
        execute(
            &mut t,
            &["UPDATE _converge.workflow SET alive_at = alive_at - INTERVAL 1 MINUTE, state = 'copying'"],
        )
        .await;
        let status = mover.status().unwrap();
        assert_eq!((&status["lag_seconds"], &status["running"]), (&serde_json::Value::Null, &false.into()));
        refused(&mover.command("switch-traffic", &[]), &["no runner is alive", "`converge move run`"]);
        execute(&mut t, &["CREATE USER blind@'%' IDENTIFIED BY 'b'", "GRANT SELECT ON shop.* TO blind@'%'"])
            .await;
        let mut blind = world.target.address("shop");
        (blind.user, blind.password) = ("blind".into(), "b".into());
        let output = converge().args(["move", "status", "w", "--target", &blind.to_url()]).output().unwrap();
        refused(&output, &["the account may not read the workflows", "GRANT SELECT"]);
    }
}

/// Somebody keeps a table of the source locked: the runner gives up in time and leaves no statement behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_stays_locked_is_given_up() {
    for binary in support::servers() {
        eprintln!("locked on {}", binary.info);
        let world = World::new(&binary).await;
        let (mut s, mut locker) = (connect(&world.source).await, connect(&world.source).await);
        execute(&mut s, FILL).await;
        let slowly = ["--chunk-rows", "1", "--copy-rows-per-second", "1", "--retry-for", "5s"];
        let mut mover = world.mover("a").with(&slowly);
        mover.start();
        mover.wait_until("a row", |status| status["tables"][0]["rows_copied"].as_u64() >= Some(1));
        execute(&mut locker, &["LOCK TABLES a WRITE"]).await;
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        assert!(mover.log().contains("reading a chunk of `shop`.`a`"), "{}", mover.log());
        let left = "SELECT COUNT(*) = 0 FROM information_schema.processlist WHERE info LIKE '%FORCE INDEX%' \
                    AND id <> CONNECTION_ID()";
        until(&mut s, "no statement that waits", left).await;
    }
}

/// Copies a directory's files, whatever is there.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let status = Command::new("cp").arg("-a").arg("-T").args([from, to]).status().unwrap();
    assert!(status.success());
}

/// A source that does not flush its log loses its end with its machine, and gives the numbers out again.
async fn lost_end(binary: &ServerBinary) {
    let loose = ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=0"];
    let world = World::with(binary, &loose, &[]).await;
    let (mut mover, mut s, mut t) = replicating(&world).await;
    assert!(mover.log().contains("if its machine crashes, it may lose transactions"), "{}", mover.log());
    let directory: String = s.query_first("SELECT @@datadir").await.unwrap().unwrap();
    let directory = std::path::Path::new(&directory);
    let image = tempfile::tempdir().unwrap();
    signal(&world.source, Signal::SIGSTOP);
    copy(directory, image.path());
    signal(&world.source, Signal::SIGCONT);
    execute(&mut s, &["INSERT INTO a VALUES (4, 4)", "INSERT INTO a VALUES (5, 5)"]).await;
    wait_same(&mut s, &mut t, "a").await;
    let statement = match binary.info.flavor {
        Flavor::MySql => "SHOW BINARY LOG STATUS",
        Flavor::MariaDb => "SHOW MASTER STATUS",
    };
    let end: mysql_async::Row = s.query_first(statement).await.unwrap().unwrap();
    let end = format!("file:{}:{}", end.get::<String, _>(0).unwrap(), end.get::<u64, _>(1).unwrap());
    let noted = format!("SELECT log_identity LIKE '%\"{end}\"%' FROM _converge.source_log");
    until(&mut t, "the end of the log in the workflow's state", &noted).await;
    mover.kill();
    world.source.kill().await.unwrap();
    std::fs::remove_dir_all(directory).unwrap();
    copy(image.path(), directory);
    world.source.restart().await.unwrap();
    let mut s = connect(&world.source).await;
    for id in 4..12 {
        execute(&mut s, &[&format!("INSERT INTO a VALUES ({id}, 77)")]).await;
    }
    let output = mover.run();
    refused(&output, &["the source lost transactions when it crashed", "what to do:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_the_end_of_its_log_is_not_followed() {
    for binary in support::servers() {
        eprintln!("lost end on {}", binary.info);
        lost_end(&binary).await;
    }
}

/// A replica that was set up from a backup has domains that its own log does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_minds_no_domain_that_only_a_backup_knows() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MariaDb) {
        let extra = vec!["--log-slave-updates=ON".into()];
        let options = ServerOptions { extra, ..ServerOptions::named("replica") };
        let replica = LocalServer::start(binary, options).await.unwrap();
        let world = World::new(binary).await;
        let mut s = connect(&world.source).await;
        execute(&mut s, &["SET SESSION gtid_domain_id = 5", "CREATE TABLE other (id INT)"]).await;
        execute(&mut s, &["SET SESSION gtid_domain_id = 0"]).await;
        let (mut mover, mut s, mut t) = replicating(&world).await;
        let position: Option<String> = s.query_first("SELECT @@gtid_binlog_pos").await.unwrap();
        let mut r = Connector::new(replica.address("")).connect().await.unwrap();
        let backup = ["CREATE DATABASE shop", "USE shop", FILL[0], FILL[1]];
        execute(&mut r, &[&["SET SESSION sql_log_bin = 0"][..], &backup].concat()).await;
        execute(&mut r, &["SET SESSION sql_log_bin = 1", "RESET MASTER"]).await;
        mover.kill();
        execute(&mut r, &[&format!("SET GLOBAL gtid_slave_pos = '{}'", position.unwrap())]).await;
        mover.set_source(&replica.address("shop").to_url());
        execute(&mut r, &["INSERT INTO a VALUES (8, 8)"]).await;
        mover.start();
        execute(&mut r, &["INSERT INTO a VALUES (9, 9)"]).await;
        wait_same(&mut r, &mut t, "a").await;
        wait("no error", || async { mover_is_well(&world).await }).await;
    }
}

async fn mover_is_well(world: &World) -> bool {
    let mut t = connect(&world.target).await;
    let error: Option<Option<String>> = t.query_first("SELECT error FROM _converge.workflow").await.unwrap();
    error == Some(None)
}

/// Who asks for a switch that somebody else waits for is told so, and takes nothing away from him.
#[tokio::test(flavor = "multi_thread")]
async fn a_switch_is_asked_for_once() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        let (mut mover, mut s, _t) = replicating(&world).await;
        execute(&mut s, &["BEGIN", "UPDATE a SET x = 7 WHERE id = 1"]).await;
        let first = mover.spawn("switch-traffic", &["--timeout", "30s"]);
        mover.wait_for("switching");
        let second = mover.command("switch-traffic", &["--timeout", "30s"]);
        execute(&mut s, &["COMMIT"]).await;
        let first = tokio::task::spawn_blocking(move || first.wait_with_output().unwrap()).await.unwrap();
        refused(&second, &["a switch is under way"]);
        assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
        // Whoever asks now is answered from what is known.
        assert!(mover.command("switch-traffic", &[]).status.success());
    }
}

/// Sessions that may only read by default, and files that are not taken any more, keep no move from going on.
#[tokio::test(flavor = "multi_thread")]
async fn global_settings_are_minded_or_told() {
    for binary in support::servers() {
        eprintln!("settings on {}", binary.info);
        let read_only = match binary.info.flavor {
            Flavor::MySql => "SET GLOBAL transaction_read_only = ON",
            Flavor::MariaDb => "SET GLOBAL tx_read_only = ON",
        };
        let world = World::with(&binary, &[], &["--local-infile=ON"]).await;
        let (mut s, mut t) = world.connections().await;
        execute(&mut s, FILL).await;
        execute(&mut t, &["SET GLOBAL binlog_format = 'STATEMENT'"]).await;
        refused(
            &mover_command(&world, &["check"], ["shop", "shop"]).output().unwrap(),
            &["SET GLOBAL binlog_format"],
        );
        execute(&mut t, &["SET GLOBAL binlog_format = 'ROW'", read_only]).await;
        execute(&mut s, &[read_only]).await;
        let mut mover = world.mover("a").with(&["--chunk-rows", "1", "--copy-rows-per-second", "1"]);
        mover.start();
        mover.wait_until("a row", |status| status["tables"][0]["rows_copied"].as_u64() >= Some(1));
        execute(&mut t, &["SET GLOBAL local_infile = OFF"]).await;
        mover.wait_for("replicating");
        execute(&mut s, &["INSERT INTO a VALUES (4, 4)"]).await;
        wait_same(&mut s, &mut t, "a").await;
        mover.switch();
    }
}
