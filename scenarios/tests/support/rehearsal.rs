//! Runs of `converge rehearse` with the built binary.

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
    let file = directory.path().join("scenario.toml");
    std::fs::write(&file, scenario).unwrap();
    let output = converge()
        .arg("rehearse")
        .arg(&file)
        .args(["--format", "json", "--seed", &seed.to_string(), "--server"])
        .arg(&server.path)
        .arg("--report")
        .arg(directory.path())
        .output()
        .unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        verdict: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        directory,
    }
}
