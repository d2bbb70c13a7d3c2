//! A target that takes no writes for a while, or not these, or not any more.

use std::time::Duration;

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::mover::Mover;
use crate::sql::{connect, execute, wait_same};
use crate::support;
use crate::world::{DEAD_AFTER, World, wait};

/// A replicating mover whose account on both servers is not all-powerful, and connections to both.
async fn replicating(binary: &ServerBinary) -> (World, Mover, Conn, Conn) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, v LONGTEXT)", "INSERT INTO a VALUES (1, 'x')"])
        .await;
    let urls = [&world.source, &world.target].map(|server| {
        let mut address = server.address("shop");
        address.user = "mover".into();
        address.password = "pw".into();
        address.to_url()
    });
    let more = match binary.info.flavor {
        Flavor::MySql => "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO mover@'127.0.0.1'",
        Flavor::MariaDb => {
            "GRANT REPLICATION SLAVE, BINLOG MONITOR, SLAVE MONITOR ON *.* TO mover@'127.0.0.1'"
        }
    };
    for conn in [&mut s, &mut t] {
        execute(
            conn,
            &[
                "CREATE USER mover@'127.0.0.1' IDENTIFIED BY 'pw'",
                "GRANT ALL ON shop.* TO mover@'127.0.0.1'",
                "GRANT ALL ON `_converge`.* TO mover@'127.0.0.1'",
                more,
            ],
        )
        .await;
    }
    let mut mover = Mover::between(&urls[0], &urls[1], "a").with(&["--dead-after", DEAD_AFTER]);
    mover.start();
    mover.wait_for("replicating");
    (world, mover, s, t)
}

/// What is wrong, how it is put right, and whether the status must say so meanwhile.
struct Trouble {
    name: &'static str,
    begin: &'static [&'static str],
    end: &'static [&'static str],
    /// Seconds that it lasts.
    hold: u64,
    said: &'static str,
}

/// Long enough for more than one attempt.
const ATTEMPTS: u64 = 5;
/// Long enough for a session to be given up, and for the next one to find the lock with a connection that nobody reads.
const LINGERING: u64 = 16;

const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "read-only",
        begin: &["SET GLOBAL read_only = 1"],
        end: &["SET GLOBAL read_only = 0"],
        hold: ATTEMPTS,
        said: "read_only",
    },
    Trouble {
        name: "read-only transactions",
        begin: &["SET GLOBAL tx_read_only = 1", "KILL MOVER"],
        end: &["SET GLOBAL tx_read_only = 0"],
        hold: ATTEMPTS,
        said: "",
    },
    Trouble {
        name: "row lock",
        begin: &["BEGIN", "SELECT * FROM a FOR UPDATE"],
        end: &["ROLLBACK"],
        hold: ATTEMPTS,
        said: "",
    },
    Trouble {
        name: "table lock",
        begin: &["LOCK TABLES a READ"],
        end: &["UNLOCK TABLES"],
        hold: ATTEMPTS,
        said: "",
    },
    Trouble {
        name: "global read lock",
        begin: &["FLUSH TABLES WITH READ LOCK"],
        end: &["UNLOCK TABLES"],
        hold: LINGERING,
        said: "",
    },
    Trouble { name: "connections killed", begin: &["KILL MOVER"], end: &[], hold: 0, said: "" },
    Trouble {
        name: "no connections left",
        begin: &["SET GLOBAL max_connections = 10", "FILL", "KILL MOVER"],
        end: &["SET GLOBAL max_connections = 500"],
        hold: ATTEMPTS,
        said: "",
    },
];

/// Ends all connections of the mover's account.
async fn kill_mover(conn: &mut Conn) {
    let ids: Vec<u64> = conn
        .query("SELECT id FROM information_schema.processlist WHERE user = 'mover' ORDER BY id")
        .await
        .unwrap();
    assert!(!ids.is_empty());
    for id in ids {
        let _ = conn.query_drop(format!("KILL {id}")).await;
    }
}

async fn passing_troubles(binary: &ServerBinary) {
    let (world, mut mover, mut s, mut t) = replicating(binary).await;
    for (i, trouble) in TROUBLES.iter().enumerate() {
        eprintln!("  {}", trouble.name);
        let mut other = connect(&world.target).await;
        let mut crowd = Vec::new();
        for statement in trouble.begin {
            match *statement {
                "KILL MOVER" => kill_mover(&mut other).await,
                // The accounts that may do everything have one connection more.
                "FILL" => {
                    let mut address = world.target.address("shop");
                    (address.user, address.password) = ("mover".into(), "pw".into());
                    while let Ok(conn) = Connector::new(address.clone()).connect().await {
                        crowd.push(conn);
                    }
                }
                "SET GLOBAL tx_read_only = 1" if binary.info.flavor == Flavor::MySql => {
                    execute(&mut other, &["SET GLOBAL transaction_read_only = 1"]).await;
                }
                sql => execute(&mut other, &[sql]).await,
            }
        }
        execute(
            &mut s,
            &["UPDATE a SET v = CONCAT(v, '.')", &format!("INSERT INTO a VALUES ({}, 'y')", 10 + i)],
        )
        .await;
        if !trouble.said.is_empty() {
            let status = mover.wait_until("what is wrong", |s| s["error"].as_str().is_some());
            let said = status["error"].as_str().unwrap();
            assert!(said.contains(trouble.said), "{}: {status}", trouble.name);
            assert!(status["what_to_do"].as_str().is_some_and(|w| w.contains("by itself")), "{status}");
        }
        tokio::time::sleep(Duration::from_secs(trouble.hold)).await;
        assert!(mover.is_running(), "{}: {}", trouble.name, mover.log());
        drop(crowd);
        for sql in trouble.end {
            let sql = match binary.info.flavor {
                Flavor::MySql => sql.replace("tx_read_only", "transaction_read_only"),
                Flavor::MariaDb => (*sql).to_owned(),
            };
            execute(&mut other, &[&sql]).await;
        }
        wait_same(&mut s, &mut t, "a").await;
        mover.wait_until("no error", |s| s["error"].is_null() && s["running"] == true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_takes_no_writes_for_a_while_is_waited_for() {
    for binary in support::servers() {
        eprintln!("troubles on {}", binary.info);
        passing_troubles(&binary).await;
    }
}

/// The source's connections of the mover are killed, one by one and all, and those that idle are cut.
#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_on_the_source_are_made_again() {
    for binary in support::servers() {
        eprintln!("kills on {}", binary.info);
        let (_world, mut mover, mut s, mut t) = replicating(&binary).await;
        execute(&mut s, &["SET GLOBAL wait_timeout = 1"]).await;
        for (i, only) in ["AND command LIKE 'Binlog Dump%'", "AND command = 'Sleep'", ""].iter().enumerate() {
            let query = format!(
                "SELECT id FROM information_schema.processlist WHERE user = 'mover' {only} ORDER BY id"
            );
            let ids: Vec<u64> = s.query(query).await.unwrap();
            assert!(!ids.is_empty(), "{only}");
            for id in ids {
                let _ = s.query_drop(format!("KILL {id}")).await;
            }
            execute(&mut s, &[&format!("INSERT INTO a VALUES ({}, 'k')", 10 + i)]).await;
            wait_same(&mut s, &mut t, "a").await;
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        execute(&mut s, &["INSERT INTO a VALUES (50, 'after idling')"]).await;
        wait_same(&mut s, &mut t, "a").await;
        assert!(mover.is_running());
    }
}

/// What ends the run: how it begins, a write that meets it, and the words that must be said.
const STOPS: &[(&str, &[&str], &str)] = &[
    ("target", &["DROP TABLE a"], "definition of a table was changed"),
    ("target", &["ALTER TABLE a DROP COLUMN v"], "definition of a table was changed"),
    ("target", &["ALTER TABLE a RENAME COLUMN v TO w"], "definition of a table was changed"),
    ("target", &["DELETE FROM a"], "differs from the source"),
    ("target", &["INSERT INTO a VALUES (20, 'somebody else')"], "differs from the source"),
    ("target", &["REVOKE ALL ON shop.* FROM mover@'127.0.0.1'", "KILL MOVER"], "privilege"),
    ("target", &["DROP DATABASE _converge"], "_converge"),
    (
        "source",
        &[
            "REVOKE ALL ON shop.* FROM mover@'127.0.0.1'",
            "REVOKE REPLICATION SLAVE ON *.* FROM mover@'127.0.0.1'",
            "KILL MOVER",
        ],
        "privilege",
    ),
    ("target", &["SET GLOBAL max_allowed_packet = 1048576", "KILL MOVER"], "max_allowed_packet"),
];

async fn stops(binary: &ServerBinary) {
    for (side, statements, words) in STOPS {
        eprintln!("  {side}: {statements:?}");
        let (_world, mut mover, mut s, mut t) = replicating(binary).await;
        let conn = if *side == "source" { &mut s } else { &mut t };
        for statement in *statements {
            match *statement {
                "KILL MOVER" => kill_mover(conn).await,
                sql => execute(conn, &[sql]).await,
            }
        }
        execute(
            &mut s,
            &["UPDATE a SET v = REPEAT('long', 400000) WHERE id = 1", "INSERT INTO a VALUES (20, 'new')"],
        )
        .await;
        assert_eq!(mover.ended(), 2, "{statements:?}: {}", mover.log());
        let log = mover.log();
        assert!(log.contains(words) && log.contains("what to do:"), "{statements:?}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_go_away_by_itself_stops_the_workflow() {
    for binary in support::servers() {
        eprintln!("stops on {}", binary.info);
        stops(&binary).await;
    }
}

/// Once the variable is large enough the same workflow goes on; a small one on the source does not matter.
#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_too_small_are_named_with_the_size_needed() {
    for binary in support::servers() {
        eprintln!("packets on {}", binary.info);
        let (_world, mut mover, mut s, mut t) = replicating(&binary).await;
        execute(&mut s, &["SET GLOBAL max_allowed_packet = 67108864"]).await;
        let mut big = connect(&_world.source).await;
        execute(&mut big, &["INSERT INTO a VALUES (7, REPEAT('b', 3000000))"]).await;
        execute(&mut s, &["SET GLOBAL max_allowed_packet = 1048576"]).await;
        execute(&mut t, &["SET GLOBAL max_allowed_packet = 1048576"]).await;
        mover.kill();
        execute(&mut big, &["UPDATE a SET v = CONCAT(v, 'c') WHERE id = 7"]).await;
        mover.start();
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        let status = mover.status().unwrap();
        let what_to_do = status["what_to_do"].as_str().unwrap().to_owned();
        let begin = what_to_do.find("SET GLOBAL").unwrap_or_else(|| panic!("{status}"));
        let statement = what_to_do[begin..].split(" (").next().unwrap();
        assert!(what_to_do.contains("on the target"), "{status}");
        execute(&mut t, &[statement]).await;
        mover.start();
        let rows = "SELECT COUNT(*) FROM a WHERE LENGTH(v) = 3000001";
        let t = tokio::sync::Mutex::new(t);
        wait("the long row", || async {
            t.lock().await.query_first::<u64, _>(rows).await.unwrap() == Some(1)
        })
        .await;
        // The same by the copy.
        let mut t = t.into_inner();
        mover.kill();
        execute(&mut t, &["DROP DATABASE _converge", "DROP TABLE a"]).await;
        mover.start();
        mover.wait_for("replicating");
        let copied: Option<u64> = t.query_first(rows).await.unwrap();
        assert_eq!(copied, Some(1));
    }
}

/// A target on a file system of 100 MB that is full, and then is not: on a tmpfs of its own where that can be mounted.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_for() {
    for binary in support::servers() {
        let Some(disk) = SmallDisk::mount(300) else {
            eprintln!("no tmpfs can be mounted here: the test of a full disk is left out");
            return;
        };
        eprintln!("full disk (tmpfs) on {}", binary.info);
        let options = ServerOptions { parent: Some(disk.path.clone()), ..ServerOptions::named("target") };
        let source = support::start(&binary, "source").await;
        let target = LocalServer::start(&binary, options).await.unwrap();
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        execute(&mut s, &["CREATE TABLE a (id INT AUTO_INCREMENT PRIMARY KEY, v LONGTEXT)"]).await;
        execute(&mut s, &["INSERT INTO a (v) VALUES ('x')"]).await;
        let mut mover = Mover::new(&source, &target, "a").with(&["--dead-after", DEAD_AFTER]);
        mover.start();
        mover.wait_for("replicating");
        let ballast = disk.path.join("ballast");
        fill(&ballast);
        let insert = "INSERT INTO a (v) VALUES (REPEAT('0123456789', 100000))";
        for _ in 0..30 {
            execute(&mut s, &[insert]).await;
        }
        let told = |log: &str| log.contains("trying again");
        let mover_cell = std::sync::Mutex::new(&mut mover);
        wait("the mover's notice", || async { told(&mover_cell.lock().unwrap().log()) }).await;
        assert!(mover.is_running(), "{}", mover.log());
        eprintln!("  {}", mover.log().lines().rfind(|l| l.contains("trying again")).unwrap_or_default());
        std::fs::remove_file(&ballast).unwrap();
        if !target.is_running() {
            eprintln!("  the server ended over it, and is started again");
            target.restart().await.unwrap();
            t = connect(&target).await;
        }
        wait_same(&mut s, &mut t, "a").await;
        mover.wait_until("no error", |s| s["error"].is_null() && s["running"] == true);
    }
}

/// Writes until there is no space.
fn fill(path: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[1; 65_536]).is_ok() {}
}

struct SmallDisk {
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let size = format!("size={megabytes}m");
        let mut mount = std::process::Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        let ok = output.is_ok_and(|o| o.status.success());
        ok.then_some(Self { path, _directory: directory })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that was just killed may not be quite gone.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).output();
    }
}
