//! Campaigns on real servers: a failure is told once with the command that repeats it, and whatever ends a campaign,
//! nothing is run twice and nothing is left running.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Without faults, and as short as it goes; `LEAST` is put in.
const TINY: &str = "
name = 'tiny'
settle_seconds = 0.0
limit_seconds = 60.0
least = { each_kind = 0, during_copy = LEAST }
copy = { rows_per_second = 2000, chunk_rows = 250 }
load = { rows = 1500, statements_per_second = 500.0 }
";

/// A directory with a scenario and a place for a campaign.
struct Place(tempfile::TempDir);

impl Place {
    fn new(least: u64) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.0.path().join("tiny.toml"), TINY.replace("LEAST", &least.to_string())).unwrap();
        place
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join("the campaign")
    }

    fn campaign(&self, more: &[&str]) -> Command {
        let server = support::servers().pop().unwrap();
        let mut command = rehearsal::converge();
        command.arg("campaign").arg(self.0.path().join("tiny.toml")).args(more);
        command.arg("--server").arg(server.path).arg("--directory").arg(self.directory());
        // Data directories, and with them the servers' command lines, are then below this place.
        command.env("TMPDIR", self.0.path()).stdin(Stdio::null());
        command
    }

    /// The seeds in the results, in their order.
    fn seeds(&self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.directory().join("results.jsonl")).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seed"].as_u64().unwrap()).collect()
    }

    /// The runs whose directories are there.
    fn kept(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory().join("runs")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.directory().join("summary.json")).unwrap()).unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn failures_of_one_cause_are_told_once_and_their_runs_are_kept() {
    let place = Place::new(1_000_000);
    let output = place.campaign(&["--runs", "2", "--jobs", "2", "--seed", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let summary = place.summary();
    assert_eq!((&summary["runs"], &summary["not_proven"]), (&2.into(), &2.into()), "{summary}");
    let causes = summary["causes"].as_array().unwrap();
    assert_eq!((causes.len(), &causes[0]["count"]), (1, &2.into()), "{summary}");
    assert_eq!(
        (&causes[0]["first_seed"], &causes[0]["signs"][0]["oracle"]),
        (&5.into(), &"copy_under_load".into())
    );
    assert!((causes[0]["share_of_time"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(place.kept(), ["5", "6"]);
    let markdown = std::fs::read_to_string(place.directory().join("summary.md")).unwrap();
    let replay = causes[0]["replay"].as_str().unwrap();
    assert!(markdown.contains(replay) && text(&output).contains(replay), "{markdown}");
    // The directory's name has a space in it: a shell must take the command as it is printed.
    let again = Command::new("sh").args(["-c", replay]).current_dir(place.0.path()).output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{}", text(&again));
    assert!(
        text(&again).contains("replay: the same cause as in the saved run: not proven"),
        "{}",
        text(&again)
    );

    let other = Place::new(7);
    std::fs::copy(other.0.path().join("tiny.toml"), place.0.path().join("tiny.toml")).unwrap();
    let output = place.campaign(&["--runs", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("its plan is not the same"), "{}", text(&output));
}

/// Starts a campaign and waits until so many runs of it have ended.
fn until_ended(place: &Place, more: &[&str], runs: usize) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = place.campaign(more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(&format!("{runs}/")) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the campaign ended before {runs} runs had");
    }
    (child, lines)
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Processes whose command line speaks of a directory.
fn about(directory: &Path) -> Vec<String> {
    let needle = directory.display().to_string();
    let of = |pid: PathBuf| {
        Some(std::fs::read(pid.join("cmdline")).ok()?).map(|c| String::from_utf8_lossy(&c).into_owned())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of(entry.path()));
    all.filter(|command| command.contains(&needle)).collect()
}

#[test]
fn a_campaign_goes_on_where_it_was_stopped_or_killed() {
    let place = Place::new(1);
    let runs = ["--runs", "3"];
    let (mut child, _lines) = until_ended(&place, &runs, 1);
    let give_up = Instant::now() + Duration::from_secs(30);
    // The campaign and both servers of the next run.
    while about(place.0.path()).len() < 3 {
        assert!(Instant::now() < give_up, "no server was started: {:?}", about(place.0.path()));
        std::thread::sleep(Duration::from_millis(20));
    }
    send(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert_eq!(place.summary()["runs"], 1);
    assert_eq!(place.kept(), [""; 0], "what was broken off is removed");
    let left = about(place.0.path());
    assert!(left.is_empty(), "{left:?}");

    let (mut child, _lines) = until_ended(&place, &runs, 2);
    send(&child, Signal::SIGKILL);
    assert_eq!(child.wait().unwrap().code(), None);
    let before = place.seeds();
    assert_eq!(before, [1, 2]);

    let output = place.campaign(&runs).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(place.seeds(), [1, 2, 3], "each seed once");
    let run = String::from_utf8_lossy(&output.stderr).lines().filter(|l| l.contains(" seed ")).count();
    assert_eq!(run, 1, "{}", text(&output));
    assert_eq!((&place.summary()["converged"], place.kept().len()), (&3.into(), 0));
}
