//! A run that diverged on real servers is made smaller, and the smaller plan diverges as well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use converge_chaos::server::ServerBinary;
use converge_scenarios::scenario::Scenario;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{Run, converge, rehearse};

/// Runs of a wrong mover until one is caught.
const MOST_RUNS: u64 = 5;

/// A run of the naive copier that diverged, and its seed.
fn diverged(server: &ServerBinary, scenario: &str) -> (Run, u64) {
    let mut runs = (1..=MOST_RUNS).map(|seed| (rehearse(server, scenario, seed), seed));
    runs.find(|(run, _)| run.code == 1).expect("a wrong mover that is caught")
}

fn plan(directory: &Path, name: &str) -> Scenario {
    Scenario::read(&directory.join(name)).unwrap()
}

/// A plan that asks for more than there can be proves nothing each time that it is run, whatever is left out of it.
const HOPELESS: &str = "
settle_seconds = 0.0
[least]
each_kind = 0
during_copy = 1000000
[load]
rows = 2000
statements_per_second = 300.0
[[fault]]
kind = 'kill_connections'
hold_seconds = 0.1
";

/// Stopped at the first smaller plan: what was found by then is kept.
#[test]
fn a_run_that_failed_is_made_smaller() {
    let server = support::servers().pop().unwrap();
    let run = rehearse(&server, HOPELESS, 3);
    assert_eq!(run.code, 3, "{}", run.verdict);
    let directory = run.directory.path();
    let mut child = converge()
        .arg("shrink")
        .arg(directory)
        .args(["--tries", "3", "--max-duration", "4m"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    // The first that fails is the whole plan.
    let second = lines.filter(|line| line.starts_with("fails: ")).nth(1);
    assert!(second.is_some(), "no smaller plan was found");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    let (whole, smallest) = (plan(directory, "plan.toml"), plan(directory, "smallest.toml"));
    assert_ne!(smallest, whole);
    assert!(smallest.tables.len() <= whole.tables.len() && smallest.load.rows <= whole.load.rows);
    assert!(smallest.to_toml().len() <= whole.to_toml().len());

    // A search that comes to nothing does not hand out what the former one found.
    let output = converge().arg("shrink").arg(directory).args(["--max-duration", "1s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.starts_with("not known: time ran out"), "{text}");
    for left in ["smallest.toml", "shrinking"] {
        assert!(!directory.join(left).exists(), "{left} is left");
    }
}

#[test]
#[ignore = "dozens of rehearsals, which take minutes on each server"]
fn the_naive_scenario_is_made_as_small_as_it_goes() {
    for server in support::servers() {
        eprintln!("shrinking on {}", server.info);
        let (run, _) = diverged(&server, include_str!("../naive.toml"));
        let directory = run.directory.path();
        let output = converge().arg("shrink").arg(directory).args(["--tries", "3"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let (whole, smallest) = (plan(directory, "plan.toml"), plan(directory, "smallest.toml"));
        assert!(smallest.tables.len() < whole.tables.len() && smallest.load.rows < whole.load.rows, "{text}");
        let replay = text.lines().find_map(|line| line.strip_prefix("replay:")).unwrap();
        let run = || Command::new("sh").args(["-c", replay]).current_dir(directory).output().unwrap();
        assert!((0..MOST_RUNS).any(|_| run().status.code() == Some(1)), "{replay}");
    }
}
