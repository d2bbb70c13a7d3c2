//! Runs of `converge rehearse` with the built binary.

use std::path::Path;
use std::process::Command;

use converge_chaos::server::ServerBinary;

/// A rehearsal that ended.
#[allow(dead_code)]
pub struct Run {
    /// Exit code.
    pub code: i32,
    /// The JSON answer, null if there was none.
    pub verdict: serde_json::Value,
    /// Standard error.
    pub errors: String,
    /// The report's directory.
    pub directory: tempfile::TempDir,
}

/// The built binary.
pub fn converge() -> Command {
    Command::new(env!("CARGO_BIN_EXE_converge"))
}

/// Runs a scenario, given as TOML, to its end.
#[allow(dead_code)]
pub fn rehearse(server: &ServerBinary, scenario: &str, seed: u64) -> Run {
    let directory = tempfile::tempdir().unwrap();
    let (code, verdict, errors) = rehearse_in(server, scenario, seed, directory.path());
    Run { code, verdict, errors, directory }
}

/// The same with a report in this directory: exit code, JSON answer, standard error.
#[allow(dead_code)]
pub fn rehearse_in(
    server: &ServerBinary,
    scenario: &str,
    seed: u64,
    directory: &Path,
) -> (i32, serde_json::Value, String) {
    let file = directory.join("scenario.toml");
    std::fs::write(&file, scenario).unwrap();
    let output = converge()
        .arg("rehearse")
        .arg(&file)
        .args(["--format", "json", "--seed", &seed.to_string(), "--server"])
        .arg(&server.path)
        .arg("--report")
        .arg(directory)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), serde_json::from_slice(&output.stdout).unwrap_or_default(), errors)
}
