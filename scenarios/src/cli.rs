//! The command line: arguments in, exit code out. Every decision is made in the libraries.

/// Writes a line to standard error. A reader that went away is no reason to panic in the middle of the work.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// Writes a line of the answer to standard output, likewise.
macro_rules! answer {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod arguments;
mod campaign;
mod check;
mod failure;
mod load;
mod mover;
mod proxy;
mod rehearse;
mod selftest;
mod shrink;
mod simulate;
mod vdiff;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use converge_scenarios::verdict::Verdict;

pub use failure::Failure;

const EXIT_CODES: &str = "\
Exit codes (all commands):
  0  converged / equal / done
  1  diverged / different
  2  the work could not be done (bad input, unreachable server, missing
     privilege)
  3  not proven: nothing wrong was found, but a pass was not earned either";

/// Prove that a MySQL or MariaDB table move is correct: move, compare, break, judge.
#[derive(Debug, Parser)]
#[command(name = "converge", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rehearse a move on private servers, under load and faults, and give a verdict
    Rehearse(rehearse::Arguments),
    /// Rehearse many seeds, go on where a killed campaign stopped, and tell each cause of a failure once
    Campaign(campaign::Arguments),
    /// Find the smallest plan that still fails as a saved run did
    Shrink(shrink::Arguments),
    /// Compare tables between two servers, row by row where their digests differ
    Vdiff(Box<vdiff::Arguments>),
    /// Move tables online from one server to another
    Move(mover::Arguments),
    /// Run the mover's own code in many small worlds in memory, and tell how one fails
    Simulate(simulate::Arguments),
    /// Send randomized, seeded DML to a server and record every answer
    Load(load::Arguments),
    /// Stand between a server and its clients, and break the network over an HTTP API (Toxiproxy's)
    Proxy(proxy::Arguments),
    /// Plant bugs in the mover and see whether rehearsals notice them
    Selftest(selftest::Arguments),
}

/// How a command answers on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines: one JSON object.
    Json,
}

/// What a command that did its work found. Its failure to do so is a [`Failure`], exit code 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Good,
    /// Exit code 1.
    Different,
    /// Exit code 3.
    NotProven,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Converged => Self::Good,
            Verdict::Diverged => Self::Different,
            Verdict::NotProven => Self::NotProven,
        }
    }
}

/// Every command's help ends with the exit codes, unless it explains its own.
fn with_exit_codes(command: clap::Command) -> clap::Command {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let help = if help.contains("Exit codes") { help } else { format!("{help}\n\n{EXIT_CODES}") };
    command.after_help(help).mut_subcommands(with_exit_codes)
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let matches = Arguments::command().mut_subcommands(with_exit_codes).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    start_logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return report(Failure::new(format!("cannot start: {e}"))),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Rehearse(arguments) => rehearse::run(arguments).await,
            Command::Campaign(arguments) => campaign::run(arguments).await,
            Command::Shrink(arguments) => shrink::run(arguments).await,
            Command::Vdiff(arguments) => vdiff::run(*arguments).await,
            Command::Move(arguments) => mover::run(arguments).await,
            Command::Simulate(arguments) => simulate::run(arguments).await,
            Command::Load(arguments) => load::run(arguments).await,
            Command::Proxy(arguments) => proxy::run(arguments).await,
            Command::Selftest(arguments) => selftest::run(arguments).await,
        }
    });
    // Threads that still wait for a server must not keep the process from ending.
    runtime.shutdown_background();
    match result {
        Ok(Outcome::Good) => ExitCode::from(0),
        Ok(Outcome::Different) => ExitCode::from(1),
        Ok(Outcome::NotProven) => ExitCode::from(3),
        Err(failure) => report(failure),
    }
}

/// Writes the answer to standard output. A reader that goes away early must not turn it into a panic; an answer that did
/// not arrive is a failure.
pub fn print(answer: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(answer.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(format!("cannot write the answer to standard output: {e}")))
}

/// The same as a line of JSON.
pub fn print_json(answer: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(answer).map_err(|e| Failure::new(e.to_string()))?;
    print(&(text + "\n"))
}

/// A seed that is small enough to be typed again.
pub fn drawn_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// Waits for Ctrl-C, SIGTERM or the end of the terminal (SIGHUP) and says which it was. They are listened for from the call
/// on, not from the first time that the answer is waited for: what comes in between is neither lost nor the process's end.
pub fn interrupted() -> impl Future<Output = &'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    // Asked before anything listens, which would be seen as well.
    let outlives_its_terminal = *IGNORES_HANGUP;
    let listening = signal(SignalKind::terminate()).and_then(|terminate| {
        let hangup = (!outlives_its_terminal).then(|| signal(SignalKind::hangup())).transpose()?;
        Ok((terminate, signal(SignalKind::interrupt())?, hangup))
    });
    async move {
        let Ok((mut terminate, mut interrupt, mut hangup)) = listening else {
            return std::future::pending().await;
        };
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => "interrupted",
            _ = terminate.recv() => "terminated",
            _ = hung_up => "hung up",
        }
    }
}

/// Whether the process was started to outlive its terminal, as `nohup` does: then SIGHUP is left ignored.
static IGNORES_HANGUP: LazyLock<bool> = LazyLock::new(|| {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores_hangup(&status)
});

fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // SIGHUP is the first signal.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

fn report(failure: Failure) -> ExitCode {
    note!("{failure}");
    ExitCode::from(2)
}

/// Logs go to standard error; `CONVERGE_LOG=debug` shows more.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CONVERGE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,converge=info,converge_mover=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_started_by_nohup_is_known_by_its_mask() {
        assert!(ignores_hangup("Name:\tconverge\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"));
        assert!(!ignores_hangup("Name:\tconverge\nSigIgn:\t0000000000001000\nSigCgt:\t1\n"));
        assert!(!ignores_hangup(""));
    }
}
