//! Whatever ends a rehearsal, nothing of it is left: no process, no port, no directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const MARKER: &str = "CONVERGE_TEST_MARKER";

/// Living processes that inherited the marker.
fn marked(marker: &str) -> Vec<String> {
    let needle = format!("{MARKER}={marker}");
    let of = |pid: &Path| -> Option<String> {
        let environment = std::fs::read(pid.join("environ")).ok()?;
        let has = environment.split(|b| *b == 0).any(|v| v == needle.as_bytes());
        let command = std::fs::read(pid.join("cmdline")).ok()?;
        (has && !command.is_empty()).then(|| String::from_utf8_lossy(&command).replace('\0', " "))
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of(&entry.path())).collect()
}

/// Starts a rehearsal with its own directory for temporary files, and waits until rows are being copied.
fn start(marker: &str, temporary: &Path) -> Child {
    let server = support::servers().remove(0);
    let mut child = rehearsal::converge()
        .args(["rehearse", "--seed", "5", "--server"])
        .arg(&server.path)
        .arg("--report")
        .arg(temporary.join("report"))
        .env(MARKER, marker)
        .env("TMPDIR", temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let copying =
        lines.map_while(Result::ok).find(|l| l.contains("copying:") && !l.contains("copying: 0 of"));
    assert!(copying.is_some(), "the rehearsal ended before it copied");
    // Two servers and a mover at least, besides the rehearsal itself.
    assert!(marked(marker).len() >= 4, "{:?}", marked(marker));
    child
}

/// Ends a rehearsal in its middle with a signal; its exit code.
fn ended_by(signal: Signal) -> Option<i32> {
    let temporary = tempfile::tempdir().unwrap();
    let marker = format!("{signal}-{}", std::process::id());
    let mut child = start(&marker, temporary.path());
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    let status = child.wait().unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    let rest = || -> Vec<String> {
        let entries = std::fs::read_dir(temporary.path()).unwrap().flatten();
        entries
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .filter(|name| name != "report")
            .collect()
    };
    while !(marked(&marker).is_empty() && rest().is_empty()) {
        assert!(Instant::now() < give_up, "{signal} left {:?} and {:?}", marked(&marker), rest());
        std::thread::sleep(Duration::from_millis(50));
    }
    status.code()
}

#[test]
fn ctrl_c_leaves_nothing() {
    assert_eq!(ended_by(Signal::SIGINT), Some(3));
}

#[test]
fn termination_leaves_nothing() {
    assert_eq!(ended_by(Signal::SIGTERM), Some(3));
}

#[test]
fn the_end_of_the_terminal_leaves_nothing() {
    assert_eq!(ended_by(Signal::SIGHUP), Some(3));
}

/// As under `nohup`: SIGHUP is ignored by who starts it.
#[test]
fn who_is_told_to_outlive_its_terminal_does() {
    let program = env!("CARGO_BIN_EXE_converge");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$0\" proxy --api 127.0.0.1:0", program])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("API ")));
    kill(pid, Signal::SIGHUP).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it ended with its terminal");
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn even_sigkill_leaves_nothing() {
    assert_eq!(ended_by(Signal::SIGKILL), None);
}
