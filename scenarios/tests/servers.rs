//! Private servers: what was committed survives a kill, and nothing of a server survives its harness.

#![allow(clippy::unwrap_used)]

#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Position, ServerInfo};
use mysql_async::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn exists(pid: u32) -> bool {
    // A zombie that nobody reaps in this container does not count as alive.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

async fn kill_and_restart(binary: &ServerBinary) {
    let server = support::start(binary, "source").await;
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    let info = ServerInfo::read(&mut conn).await.unwrap();
    assert_eq!(info.flavor, binary.info.flavor);
    assert!(matches!(
        Position::current(&mut conn, &info).await.unwrap(),
        Position::Gtid(_) | Position::MariaDbGtid(_)
    ));
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
        "INSERT INTO shop.t VALUES (1), (2)",
    ] {
        conn.query_drop(sql).await.unwrap();
    }

    let pid = server.pid().unwrap();
    let port = server.port();
    assert_eq!(server.kill().await.unwrap(), pid);
    assert!(!server.is_running() && !exists(pid));
    let shut_down = |server: &LocalServer| {
        let log = std::fs::read_to_string(server.log_path()).unwrap();
        log.to_lowercase().contains("shutdown complete")
    };
    assert!(!shut_down(&server), "a kill is no shutdown");
    assert!(server.kill().await.unwrap_err().to_string().contains("not running"));
    let refused = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid().unwrap(), pid);
    let mut conn = Connector::new(server.address("shop")).connect().await.unwrap();
    let rows: Vec<i64> = conn.query("SELECT id FROM t ORDER BY id").await.unwrap();
    assert_eq!(rows, [1, 2]);
    assert!(server.restart().await.unwrap_err().to_string().contains("is running"));

    server.stop().await.unwrap();
    assert!(!server.is_running() && shut_down(&server));
    server.restart().await.unwrap();
    assert!(server.log_path().is_file());
    let (pid, directory) = (server.pid().unwrap(), server.directory().to_path_buf());
    drop(server);
    assert!(!exists(pid) && !directory.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_rows_survive_a_kill_and_nothing_survives_a_drop() {
    for binary in support::servers() {
        eprintln!("on {binary}");
        kill_and_restart(&binary).await;
    }
}

/// The watchdog over a server's directory.
fn watchdog(directory: &Path) -> Option<u32> {
    let over = directory.as_os_str().as_encoded_bytes();
    let is_it = |pid: &u32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        arguments.contains(&&b"converge-watchdog"[..]) && arguments.contains(&over)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_that_was_stopped_holds_nobody_up_and_leaves_nothing() {
    for binary in support::servers() {
        let server = support::start(&binary, "source").await;
        let (pid, directory) = (server.pid().unwrap(), server.directory().to_path_buf());
        let watchdog = watchdog(&directory).unwrap();
        kill(Pid::from_raw(watchdog as i32), Signal::SIGSTOP).unwrap();
        let began = Instant::now();
        let dropped =
            tokio::time::timeout(Duration::from_secs(50), tokio::task::spawn_blocking(|| drop(server)));
        let in_time = dropped.await.is_ok();
        // Or the test would hang where the server does.
        let _ = kill(Pid::from_raw(watchdog as i32), Signal::SIGKILL);
        assert!(in_time, "after {:?}", began.elapsed());
        assert!(!exists(pid) && !exists(watchdog) && !directory.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_those_of_a_durable_source() {
    for binary in support::servers() {
        let (a, b) = tokio::join!(support::start(&binary, "source"), support::start(&binary, "target"));
        let mut ids = Vec::new();
        for server in [&a, &b] {
            let mut conn = Connector::new(server.address("")).connect().await.unwrap();
            let row: (u64, String, String, i64, i64) = conn
                .query_first(
                    "SELECT @@server_id, @@binlog_format, @@binlog_row_image, @@sync_binlog, \
                     @@innodb_flush_log_at_trx_commit",
                )
                .await
                .unwrap()
                .unwrap();
            assert_eq!((row.1.as_str(), row.2.as_str(), row.3, row.4), ("ROW", "FULL", 1, 1));
            ids.push(row.0);
            // The system has little of it for all servers together.
            if binary.kind() == "mysql" {
                let native: Option<i64> = conn.query_first("SELECT @@innodb_use_native_aio").await.unwrap();
                assert_eq!(native, Some(0));
            }
        }
        assert_ne!(ids[0], ids[1]);
        a.keep();
        let kept = a.directory().to_path_buf();
        drop(a);
        assert!(kept.join("data").is_dir() && kept.join("error.log").is_file());
        std::fs::remove_dir_all(kept).unwrap();
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    for binary in support::servers() {
        let mut options = ServerOptions::named("source");
        options.extra.push("--no-such-option=1".into());
        let error = LocalServer::start(&binary, options).await.unwrap_err().to_string();
        assert!(error.contains("no-such-option"), "{error}");
    }
}

/// Not a test of its own: the process that [`harness`] runs and sees ending badly.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the tests that end a harness"]
async fn ending_harness() {
    let binary = ServerBinary::probe(Path::new(&std::env::var("ENDING_BINARY").unwrap())).unwrap();
    let server = support::start(&binary, "source").await;
    println!("server {} {}", server.pid().unwrap(), server.directory().display());
    match std::env::var("ENDING").unwrap().as_str() {
        "panic" => panic!("on purpose"),
        "abort" => std::process::abort(),
        _ => std::future::pending().await,
    }
}

/// Runs [`ending_harness`] until its server is up, ends it in the given way, and returns the server's process and
/// directory.
fn harness(binary: &ServerBinary, ending: &str) -> (u32, PathBuf) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ending_harness", "--ignored", "--nocapture"])
        .env("ENDING_BINARY", &binary.path)
        .env("ENDING", ending)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find_map(|line| line.split_once("server ").map(|(_, rest)| rest.to_owned()))
        .expect("the harness started a server");
    let (pid, directory) = line.split_once(' ').unwrap();
    let (pid, directory) = (pid.parse().unwrap(), PathBuf::from(directory));
    if ending == "kill" {
        assert!(exists(pid) && directory.is_dir());
        child.kill().unwrap();
    }
    assert!(!child.wait().unwrap().success());
    (pid, directory)
}

#[test]
fn nothing_survives_a_harness_that_panics_aborts_or_is_killed() {
    for binary in support::servers() {
        for ending in ["panic", "abort", "kill"] {
            let (pid, directory) = harness(&binary, ending);
            wait_until(&format!("process {pid} is gone after {ending}"), || !exists(pid));
            wait_until(&format!("{} is gone after {ending}", directory.display()), || !directory.exists());
        }
    }
}

/// Not a test of its own: the process that starts two servers at once without a template.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test that shares a cache between processes"]
async fn starting_harness() {
    let binary = ServerBinary::probe(Path::new(&std::env::var("STARTING_BINARY").unwrap())).unwrap();
    tokio::join!(support::start(&binary, "source"), support::start(&binary, "target"));
}

/// A home with a cache of its own, and a program in it that stands for a server and writes down how it was called.
struct Home(tempfile::TempDir);

impl Home {
    /// `initialising`: what the program does when it is to make a data directory, as a shell command.
    fn new(binary: &ServerBinary, initialising: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let (called, real) = (home.path("called"), binary.path.display().to_string());
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n  *--version*) ;;\n  *) echo \"$*\" >>'{}' ;;\nesac\n\
             case \"$*\" in *--initialize*|*--bootstrap*) {initialising} ;; esac\nexec '{real}' \"$@\"\n",
            called.display()
        );
        std::fs::create_dir(home.path("tmp")).unwrap();
        std::fs::write(home.path("server"), script).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(home.path("server"), executable).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// In this home.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("XDG_CACHE_HOME", self.path("cache")).env("TMPDIR", self.path("tmp"));
        command.env("STARTING_BINARY", self.path("server")).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A rehearsal on this home's server.
    fn rehearsal(&self) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_converge"));
        command.args(["rehearse", "--server"]).arg(self.path("server"));
        command.arg("--report").arg(self.path("runs").join("report"));
        command
    }

    /// What is in the cache but for its lock.
    fn cached(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("cache/converge/datadirs")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != ".lock").collect()
    }

    /// The server's command lines.
    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("called")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Two processes start two servers each, with nothing in the cache, while other servers have temporary tables.
#[test]
fn a_template_is_made_once_and_the_temporary_tables_of_others_stay() {
    for binary in support::servers() {
        let home = Home::new(&binary, ":");
        let theirs = ["#sql-1a2b-3.MAI", "#sql-1a2b-3.MYD", "#sql-temptable-1-2-3.ibd"];
        theirs.iter().for_each(|name| std::fs::write(home.path("tmp").join(name), "precious").unwrap());
        let start = |_| {
            let mut command = home.command(std::env::current_exe().unwrap());
            command.args(["--exact", "starting_harness", "--ignored", "--nocapture"]).spawn().unwrap()
        };
        let children: Vec<_> = (0..2).map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{binary}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let calls = home.calls();
        let made = |call: &&String| call.contains("--initialize") || call.contains("--bootstrap");
        assert_eq!((calls.iter().filter(made).count(), calls.len()), (1, 5), "{calls:?}");
        assert!(calls.iter().all(|call| call.contains("--tmpdir=")), "{calls:?}");
        let cached = home.cached();
        assert!(cached.len() == 1 && !cached[0].starts_with('.'), "{cached:?}");
        for name in theirs {
            assert!(home.path("tmp").join(name).exists(), "{binary} removed {name}");
        }
    }
}

#[test]
fn a_template_that_cannot_be_made_is_explained_and_leaves_nothing() {
    for binary in support::servers() {
        let home = Home::new(&binary, "echo 'no room for the tables' >&2; exit 1");
        let output = home.rehearsal().output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        for words in ["cannot initialise", "no room for the tables", "what to do: "] {
            assert!(errors.contains(words), "no {words:?}: {errors}");
        }
        assert_eq!(home.cached(), [""; 0]);
        assert!(!home.path("runs").exists(), "a report of nothing is left");

        let home = Home::new(&binary, "exec sleep 300");
        let mut child = home.rehearsal().spawn().unwrap();
        wait_until("a template is being made", || !home.calls().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("its directory is gone", || home.cached().is_empty());
    }
}
