//! A source whose log is not what the checkpoint needs: purged, reset, restored to the past, or another server's.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions, replica_option};
use converge_mysql::{Connector, Flavor};
use mysql_async::prelude::Queryable;

use crate::fence::{exists, refused};
use crate::mover::Mover;
use crate::sql::{connect, execute, wait_same};
use crate::support;
use crate::world::{World, wait};

const FILL: &[&str] =
    &["CREATE TABLE a (id INT PRIMARY KEY, x INT)", "INSERT INTO a VALUES (1, 1), (2, 2), (3, 3)"];

/// A mover that replicated and was killed, in a world of its own.
pub(super) async fn replicated(binary: &ServerBinary, source: &[&str]) -> (World, Mover) {
    let world = World::with(binary, source, &[]).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, FILL).await;
    let mut mover = world.mover("a");
    mover.start();
    mover.wait_for("replicating");
    execute(&mut s, &["INSERT INTO a VALUES (4, 4)"]).await;
    wait_same(&mut s, &mut t, "a").await;
    mover.kill();
    (world, mover)
}

/// Runs the mover to its end, which must be exit code 2 with these words and a way out, in the status too.
pub(super) fn assert_stops(mover: &Mover, words: &[&str]) {
    let output = mover.run();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    for word in words.iter().chain(&["what to do:"]) {
        assert!(text.contains(word), "{word}: {text}");
    }
    let status = mover.status().unwrap();
    assert_eq!(status["state"], "error", "{status}");
    assert!(status["what_to_do"].as_str().is_some_and(|s| !s.is_empty()), "{status}");
}

fn reset(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::MySql => "RESET BINARY LOGS AND GTIDS",
        Flavor::MariaDb => "RESET MASTER",
    }
}

/// Statements that make new log files until a reset log has more of everything than before.
async fn outgrow(conn: &mut mysql_async::Conn) {
    for i in 0..40 {
        execute(conn, &[&format!("REPLACE INTO a VALUES ({}, {i})", 100 + i)]).await;
    }
    execute(conn, &["FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "REPLACE INTO a VALUES (1, 77)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_log_stops_the_workflow() {
    for binary in support::servers() {
        for extra in settings(&binary) {
            eprintln!("purge on {}, {extra:?}", binary.info);
            let (world, mover) = replicated(&binary, extra).await;
            let mut s = connect(&world.source).await;
            execute(
                &mut s,
                &["INSERT INTO a VALUES (5, 5)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (6, 6)"],
            )
            .await;
            let status = match binary.info.flavor {
                Flavor::MySql => "SHOW BINARY LOG STATUS",
                Flavor::MariaDb => "SHOW MASTER STATUS",
            };
            let row: mysql_async::Row = s.query_first(status).await.unwrap().unwrap();
            let file: String = row.get(0).unwrap();
            // As long as a server has not seen that its reader is gone, the files in use stay.
            let s = tokio::sync::Mutex::new(s);
            wait("the purge", || async {
                let mut s = s.lock().await;
                execute(&mut s, &[&format!("PURGE BINARY LOGS TO '{file}'")]).await;
                let first: mysql_async::Row = s.query_first("SHOW BINARY LOGS").await.unwrap().unwrap();
                first.get::<String, _>(0).unwrap() == file
            })
            .await;
            assert_stops(&mover, &["purged"]);
        }
    }
}

/// Log files are told apart by the second in which they were begun.
async fn next_second(conn: &mut mysql_async::Conn) {
    let now = "SELECT UNIX_TIMESTAMP()";
    let begun: Option<u64> = conn.query_first(now).await.unwrap();
    let conn = tokio::sync::Mutex::new(conn);
    wait("the next second", || async { conn.lock().await.query_first::<u64, _>(now).await.unwrap() > begun })
        .await;
}

/// With and without GTIDs, where a server can be without.
fn settings(binary: &ServerBinary) -> &'static [&'static [&'static str]] {
    match binary.info.flavor {
        Flavor::MySql => &[&[], &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]],
        Flavor::MariaDb => &[&[]],
    }
}

/// Also when the new log has grown past the checkpoint, where no position can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_log_stops_the_workflow() {
    for binary in support::servers() {
        for extra in settings(&binary) {
            for grown in [false, true] {
                eprintln!("reset on {}, {extra:?}, grown {grown}", binary.info);
                let (world, mover) = replicated(&binary, extra).await;
                let mut s = connect(&world.source).await;
                next_second(&mut s).await;
                execute(&mut s, &[reset(binary.info.flavor)]).await;
                if grown {
                    outgrow(&mut s).await;
                }
                assert_stops(&mover, &["not those of this workflow"]);
            }
        }
    }
}

/// A stream does not end where its log is reset, and need not bring anything either.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_reset_under_the_stream_stops_the_workflow() {
    for binary in support::servers() {
        for extra in settings(&binary) {
            eprintln!("reset under the stream on {}, {extra:?}", binary.info);
            let (world, mut mover) = replicated(&binary, extra).await;
            mover.start();
            let (mut s, mut t) = world.connections().await;
            execute(&mut s, &["INSERT INTO a VALUES (5, 5)"]).await;
            wait_same(&mut s, &mut t, "a").await;
            mover.wait_until("its own words", |status| status["running"] == true);
            next_second(&mut s).await;
            execute(&mut s, &[reset(binary.info.flavor), "INSERT INTO a VALUES (6, 6)"]).await;
            assert_eq!(mover.ended(), 2, "{}", mover.log());
            let log = mover.log();
            assert!(log.contains("not those of this workflow") && log.contains("what to do:"), "{log}");
        }
    }
}

/// A copy of the source's directory is put back after more was applied; then the source writes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_restored_to_the_past_stops_the_running_workflow() {
    for binary in support::servers() {
        for (extra, grown) in settings(&binary).iter().flat_map(|e| [(e, false), (e, true)]) {
            eprintln!("restore on {}, {extra:?}, grown {grown}", binary.info);
            let (world, mut mover) = replicated(&binary, extra).await;
            world.source.stop().await.unwrap();
            let data = world.source.directory().join("data");
            let backup = world.source.directory().join("backup");
            copy_directory(&data, &backup);
            world.source.restart().await.unwrap();
            mover.start();
            let (mut s, mut t) = world.connections().await;
            execute(
                &mut s,
                &["INSERT INTO a VALUES (50, 50)", "FLUSH BINARY LOGS", "DELETE FROM a WHERE id = 1"],
            )
            .await;
            wait_same(&mut s, &mut t, "a").await;
            next_second(&mut s).await;
            // The mover runs on while its source is replaced.
            world.source.stop().await.unwrap();
            std::fs::remove_dir_all(&data).unwrap();
            copy_directory(&backup, &data);
            if grown {
                // The network is back only once the source has written more than it had before.
                mover.signal(nix::sys::signal::Signal::SIGSTOP);
            }
            world.source.restart().await.unwrap();
            if grown {
                outgrow(&mut connect(&world.source).await).await;
                mover.signal(nix::sys::signal::Signal::SIGCONT);
            }
            assert_eq!(mover.ended(), 2, "{}", mover.log());
            let log = mover.log();
            let told = log.contains("went back in time") || log.contains("not those of this workflow");
            assert!(told && log.contains("what to do:"), "{log}");
            assert_eq!(mover.status().unwrap()["state"], "error");
        }
    }
}

/// A copy of the source's directory, taken under way, is put back: it has the log file with which the mover's session began,
/// but not those that were read since, and the source makes others of their names.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_restored_to_a_moment_of_the_session_stops_the_workflow() {
    for binary in support::servers() {
        restored(&binary, false).await;
        if binary.info.flavor == Flavor::MariaDb {
            restored(&binary, true).await;
        }
    }
}

/// `elsewhere`: the copy is put up at another place, which is all that tells one MariaDB from another.
async fn restored(binary: &ServerBinary, elsewhere: bool) {
    eprintln!("restore on {}, elsewhere {elsewhere}", binary.info);
    let (world, mut mover) = replicated(binary, &[]).await;
    mover.start();
    let (mut s, mut t) = world.connections().await;
    // The session has begun once it applies something.
    execute(&mut s, &["INSERT INTO a VALUES (5, 5)"]).await;
    wait_same(&mut s, &mut t, "a").await;
    let data = world.source.directory().join("data");
    let backup = world.source.directory().join("backup");
    world.source.pause().unwrap();
    copy_directory(&data, &backup);
    world.source.resume().unwrap();
    for i in 0..3 {
        execute(&mut s, &[&format!("INSERT INTO a VALUES ({}, 50)", 50 + i), "FLUSH BINARY LOGS"]).await;
    }
    let status = match binary.info.flavor {
        Flavor::MySql => "SHOW BINARY LOG STATUS",
        Flavor::MariaDb => "SHOW MASTER STATUS",
    };
    let row: mysql_async::Row = s.query_first(status).await.unwrap().unwrap();
    let file: String = row.get(0).unwrap();
    wait_same(&mut s, &mut t, "a").await;
    {
        let t = tokio::sync::Mutex::new(&mut t);
        let reached =
            "SELECT CONVERT(JSON_EXTRACT(log_identity, '$.reached') USING utf8mb4) FROM _converge.source_log";
        wait("the last file to be remembered", || async {
            let reached: Option<Option<String>> = t.lock().await.query_first(reached).await.unwrap();
            reached.flatten().is_some_and(|reached| reached.contains(&file))
        })
        .await;
    }
    mover.kill();
    if elsewhere {
        let moved = "UPDATE _converge.source_log SET log_identity = JSON_SET(log_identity, '$.server', 'db1 3306 /data/')";
        execute(&mut t, &[moved]).await;
    }
    next_second(&mut s).await;
    world.source.stop().await.unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy_directory(&backup, &data);
    world.source.restart().await.unwrap();
    let mut s = connect(&world.source).await;
    for _ in 0..3 {
        outgrow(&mut s).await;
    }
    assert_stops(&mover, &["not those of this workflow", &file]);
}

pub(super) fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let copy = to.join(entry.file_name());
        if kind.is_dir() {
            copy_directory(&path, &copy);
        } else if kind.is_file() {
            std::fs::copy(&path, &copy).unwrap();
        }
    }
}

/// A connection that leaves nothing in the log.
async fn quietly(server: &LocalServer) -> mysql_async::Conn {
    Connector::new(server.address("")).connect().await.unwrap()
}

/// Makes `replica` follow `source` by GTID, and waits until it has everything.
async fn replicate(source: &LocalServer, replica: &LocalServer) {
    let (mut s, mut r) = (connect(source).await, quietly(replica).await);
    let port = source.port();
    match source.binary().info.flavor {
        Flavor::MySql => {
            let change = format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={port}, SOURCE_USER='root', \
                 SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1"
            );
            execute(&mut r, &["RESET BINARY LOGS AND GTIDS", &change, "START REPLICA"]).await;
        }
        Flavor::MariaDb => {
            let change = format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={port}, MASTER_USER='root', \
                 MASTER_USE_GTID=slave_pos"
            );
            execute(&mut r, &["RESET MASTER", &change, "START SLAVE"]).await;
        }
    }
    caught_up(&mut s, &mut r, source.binary().info.flavor).await;
}

async fn caught_up(s: &mut mysql_async::Conn, r: &mut mysql_async::Conn, flavor: Flavor) {
    let position = match flavor {
        Flavor::MySql => "SELECT @@gtid_executed",
        Flavor::MariaDb => "SELECT @@gtid_binlog_pos",
    };
    let wanted: Option<String> = s.query_first(position).await.unwrap();
    let r = tokio::sync::Mutex::new(r);
    wait("the replica", || async {
        r.lock().await.query_first::<String, _>(position).await.unwrap() == wanted
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_goes_on_where_everything_is() {
    for binary in support::servers() {
        eprintln!("failover on {}", binary.info);
        let replica_options = ServerOptions {
            extra: match binary.info.flavor {
                Flavor::MySql => vec!["--log-replica-updates=ON".into()],
                Flavor::MariaDb => vec!["--log-slave-updates=ON".into()],
            },
            ..ServerOptions::named("replica")
        };
        let replica = LocalServer::start(&binary, replica_options).await.unwrap();
        let world = World::new(&binary).await;
        let (mut s, mut t) = world.connections().await;
        replicate(&world.source, &replica).await;
        execute(&mut s, FILL).await;
        let mut mover = world.mover("a");
        mover.start();
        mover.wait_for("replicating");
        let mut r = quietly(&replica).await;
        execute(&mut r, &["USE shop"]).await;
        caught_up(&mut s, &mut r, binary.info.flavor).await;
        let stop = match binary.info.flavor {
            Flavor::MySql => "STOP REPLICA",
            Flavor::MariaDb => "STOP SLAVE",
        };
        execute(&mut r, &[stop]).await;
        execute(&mut s, &["INSERT INTO a VALUES (9, 9)"]).await;
        wait_same(&mut s, &mut t, "a").await;
        mover.kill();
        // The replica lacks what was applied.
        let former = world.source.address("shop").to_url();
        mover.set_source(&replica.address("shop").to_url());
        assert_stops(&mover, &["went back in time"]);
        mover.set_source(&former);
        execute(&mut r, &[&stop.replace("STOP", "START")]).await;
        caught_up(&mut s, &mut r, binary.info.flavor).await;
        execute(&mut r, &[stop]).await;
        world.source.kill().await.unwrap();
        mover.set_source(&replica.address("shop").to_url());
        mover.start();
        execute(&mut r, &["UPDATE a SET x = x + 1", "INSERT INTO a VALUES (10, 10)"]).await;
        wait_same(&mut r, &mut t, "a").await;
        let status = mover.wait_until("no error", |s| s["error"].is_null() && s["running"] == true);
        assert!(status["source"].as_str().unwrap().contains(&replica.port().to_string()), "{status}");
        // Nobody but its operator knows that it is not to replicate again.
        refused(&mover, "switch-traffic", "is set up as a replica of");
        execute(&mut r, &[&format!("{} ALL", stop.replace("STOP", "RESET"))]).await;
        mover.switch();
    }
}

/// The application writes to the primary: a fence on its replica keeps nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_switched_away_from() {
    for binary in support::servers() {
        eprintln!("switch on a replica on {}", binary.info);
        let extra = vec![replica_option(binary.info.flavor).to_owned()];
        let options = ServerOptions { extra, ..ServerOptions::named("replica") };
        let replica = LocalServer::start(&binary, options).await.unwrap();
        let world = World::new(&binary).await;
        let (mut s, mut t) = world.connections().await;
        replicate(&world.source, &replica).await;
        execute(&mut s, FILL).await;
        let mut r = quietly(&replica).await;
        execute(&mut r, &["USE shop"]).await;
        caught_up(&mut s, &mut r, binary.info.flavor).await;
        let mut mover = world.mover("a");
        mover.set_source(&replica.address("shop").to_url());
        mover.start();
        mover.wait_for("replicating");
        refused(&mover, "switch-traffic", "is set up as a replica of");
        assert!(mover.log().contains("switch-traffic will be declined"), "{}", mover.log());
        assert!(exists(&mut r, "a").await);
        execute(&mut s, &["INSERT INTO a VALUES (77, 7)"]).await;
        wait_same(&mut s, &mut t, "a").await;
    }
}

/// The source dies while it writes a large transaction to its log. MySQL cuts the torn end off when it comes back, MariaDB
/// leaves it there and sends nothing behind it; what it sent of the transaction is never committed on the target.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_the_source_died_in_is_never_applied() {
    for binary in support::servers() {
        eprintln!("death in a transaction on {}", binary.info);
        let (world, mut mover) = replicated(&binary, &[]).await;
        let (mut s, mut t) = world.connections().await;
        let flavor = binary.info.flavor;
        let status = match flavor {
            Flavor::MySql => "SHOW BINARY LOG STATUS",
            Flavor::MariaDb => "SHOW MASTER STATUS",
        };
        let log: mysql_async::Row = s.query_first(status).await.unwrap().unwrap();
        let basename: String = s.query_first("SELECT @@log_bin_basename").await.unwrap().unwrap();
        let directory = std::path::Path::new(&basename).parent().unwrap();
        let log = directory.join(log.get::<String, _>(0).unwrap());
        let size = || std::fs::metadata(&log).unwrap().len();
        let mut victim = connect(&world.source).await;
        let filler = "CREATE TABLE filler (id INT PRIMARY KEY, v VARBINARY(10000))";
        execute(
            &mut victim,
            &[filler, "BEGIN", "UPDATE a SET x = -1", "INSERT INTO filler VALUES (0, REPEAT('a', 4000))"],
        )
        .await;
        for i in 0..14 {
            let double = format!("INSERT INTO filler SELECT id + {}, v FROM filler", 1 << i);
            execute(&mut victim, &[&double]).await;
        }
        let before = size();
        let commit = tokio::spawn(async move { victim.query_drop("COMMIT").await });
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while size() < before + (4 << 20) {
            assert!(std::time::Instant::now() < give_up, "nothing was logged");
        }
        world.source.kill().await.unwrap();
        let answered = commit.await.unwrap().is_ok();
        world.source.restart().await.unwrap();
        s = connect(&world.source).await;
        let there: Option<u64> = s.query_first("SELECT COUNT(*) FROM a WHERE x = -1").await.unwrap();
        assert!(!answered && there == Some(0), "the source was not killed in time");
        execute(&mut s, &["UPDATE a SET x = 5 WHERE id = 2"]).await;
        match flavor {
            Flavor::MySql => {
                mover.start();
                wait_same(&mut s, &mut t, "a").await;
            }
            Flavor::MariaDb => assert_stops(&mover, &["ends in the middle of an event"]),
        }
        let applied: Option<u64> = t.query_first("SELECT COUNT(*) FROM a WHERE x = -1").await.unwrap();
        assert_eq!(applied, Some(0));
    }
}

/// Who follows by GTID gets no word of what was written while there were none.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_without_gtids_end_the_workflow() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MySql) {
        for running in [true, false] {
            eprintln!("gtid_mode down and up on {}, running {running}", binary.info);
            let (world, mut mover) = replicated(binary, &[]).await;
            let (mut s, mut t) = world.connections().await;
            if running {
                mover.start();
                execute(&mut s, &["INSERT INTO a VALUES (5, 5)"]).await;
                wait_same(&mut s, &mut t, "a").await;
            }
            let mode = |mode| format!("SET GLOBAL gtid_mode = {mode}");
            execute(&mut s, &[&mode("ON_PERMISSIVE"), &mode("OFF_PERMISSIVE")]).await;
            execute(&mut s, &["INSERT INTO a VALUES (6, 6)"]).await;
            if running {
                assert_eq!(mover.ended(), 2, "{}", mover.log());
                assert!(mover.log().contains("gtid_mode was changed"), "{}", mover.log());
            }
            execute(&mut s, &[&mode("ON_PERMISSIVE"), &mode("ON"), "INSERT INTO a VALUES (7, 7)"]).await;
            assert_stops(&mover, &["without GTIDs", "gtid_mode was changed", "start another one"]);
            // Nor when the files that tell of it are gone.
            execute(&mut s, &["FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY"]).await;
            assert_stops(&mover, &["without GTIDs", "start another one"]);
            let passed: Option<u64> = t.query_first("SELECT COUNT(*) FROM a WHERE id > 5").await.unwrap();
            assert_eq!(passed, Some(0));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_position_is_refused_on_another_server() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MySql) {
        let off: &[&str] = &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
        let (_world, mut mover) = replicated(binary, off).await;
        let other = World::with(binary, off, &[]).await;
        let mut conn = connect(&other.source).await;
        execute(&mut conn, FILL).await;
        outgrow(&mut conn).await;
        mover.set_source(&other.source.address("shop").to_url());
        assert_stops(&mover, &["in the files of another server"]);
    }
}
