//! `converge rehearse`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use converge_chaos::history::rfc3339;
use converge_chaos::server::{ServerBinary, discover, select};
use converge_scenarios::rehearsal::{self, Options, Progress, Update};
use converge_scenarios::report;
use converge_scenarios::scenario::Scenario;
use converge_scenarios::verdict::{RunReport, Verdict};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Format, Outcome, drawn_seed, interrupted};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge rehearse
  converge rehearse --seed 7 --server mariadb --report /tmp/report
  converge rehearse --swarm --seed 12
  converge rehearse my-scenario.toml --format json
  converge rehearse --schema my-schema.sql

Starts two private servers on loopback, seeds a commerce schema, moves tables while randomized DML runs, kills servers
and the mover and drops the network on the way, switches traffic, compares, and gives a verdict. Nothing outside the
report's directory is touched, and nothing is left running. `plan.toml` in a report's directory is a complete scenario
to start from.")]
pub struct Arguments {
    /// A scenario in TOML [default: the built-in one, drawn from the seed]
    scenario: Option<PathBuf>,
    /// Whose tables: commerce, classic, types, or a file of SQL statements that makes them
    #[arg(long, value_name = "NAME|FILE.sql")]
    schema: Option<String>,
    /// Draw faults and load from the seed instead: other kinds of faults, on either side, in each plan
    #[arg(long, conflicts_with = "scenario")]
    swarm: bool,
    /// What everything random is drawn from [default: drawn and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The server: mysql, mariadb, or a path to a mysqld or mariadbd [default: the first one found]
    #[arg(long, value_name = "KIND|PATH")]
    server: Option<String>,
    /// Where the report goes [default: runs/NAME-SEED-TIME]
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Keep the servers' data directories
    #[arg(long)]
    keep: bool,
    /// Use this Toxiproxy server's API (such as that of `converge proxy`) instead of the built-in proxy
    #[arg(long, value_name = "URL")]
    toxiproxy: Option<String>,
}

/// Runs a rehearsal.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let seed = arguments.seed.unwrap_or_else(drawn_seed);
    let scenario = match &arguments.scenario {
        Some(path) => Scenario::read(path)?,
        None if arguments.swarm => Scenario::swarm(seed),
        None => Scenario::standard(seed),
    };
    let scenario = match &arguments.schema {
        Some(schema) => scenario.with_schema(schema),
        None => scenario,
    };
    let server = chosen(arguments.server.as_deref())?;
    let directory = arguments.report.clone().unwrap_or_else(|| default_directory(&scenario.name, seed));
    let options = Options {
        seed,
        program: std::env::current_exe()
            .map_err(|e| Failure::new(format!("cannot find this program's own file: {e}")))?,
        replay: replay(&arguments, seed, &server),
        directory,
        toxiproxy: arguments.toxiproxy,
        keep: arguments.keep,
        mover_environment: Vec::new(),
        scenario,
        server,
    };
    introduce(&options, arguments.format);
    let progress = if std::io::stderr().is_terminal() { bars() } else { lines() };
    let report = tokio::select! {
        report = rehearsal::run(&options, progress) => report?,
        signal = interrupted() => {
            note!("{signal}: servers, proxy and mover are stopped; not proven");
            return Ok(Outcome::NotProven);
        }
    };
    print(&report, &options, arguments.format)?;
    Ok(match report.verdict {
        Verdict::Converged => Outcome::Good,
        Verdict::Diverged => Outcome::Different,
        Verdict::NotProven => Outcome::NotProven,
    })
}

fn chosen(wanted: Option<&str>) -> Result<ServerBinary, Failure> {
    if let Some(wanted) = wanted {
        return Ok(select(wanted)?);
    }
    discover()?.into_iter().next().ok_or_else(|| {
        Failure::new("no mysqld or mariadbd was found").with_help(
            "run `make setup`, install MySQL 8.0+ or MariaDB 10.6+, or name one: --server /path/to/mysqld",
        )
    })
}

fn default_directory(name: &str, seed: u64) -> PathBuf {
    let time: String = rfc3339(SystemTime::now()).chars().filter(char::is_ascii_digit).take(14).collect();
    Path::new("runs").join(format!("{name}-{seed}-{time}"))
}

/// The command that does the same again, for a shell.
fn replay(arguments: &Arguments, seed: u64, server: &ServerBinary) -> String {
    let mut words = vec![std::env::args().next().unwrap_or_else(|| "converge".into()), "rehearse".into()];
    words.extend(arguments.scenario.as_ref().map(|path| path.display().to_string()));
    words.extend(arguments.schema.iter().flat_map(|schema| ["--schema".into(), schema.clone()]));
    words.extend(arguments.swarm.then(|| "--swarm".to_owned()));
    words.extend(["--seed".into(), seed.to_string(), "--server".into(), server.path.display().to_string()]);
    words.extend(arguments.toxiproxy.iter().flat_map(|url| ["--toxiproxy".into(), url.clone()]));
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell must see it: quoted unless it is plain.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Seed and plan come first, so that a run that never ends can be repeated too.
fn introduce(options: &Options, format: Format) {
    let scenario = &options.scenario;
    let mut text = format!(
        "seed {}   server {}   report {}\n",
        options.seed,
        options.server.info,
        options.directory.display()
    );
    text.push_str(&format!(
        "plan {}: move {} ({}), {} rows seeded, {} sessions of load\n",
        scenario.name,
        if scenario.tables.is_empty() { "all tables that can be".into() } else { scenario.tables.join(", ") },
        scenario.copy.strategy,
        scenario.load.rows,
        scenario.load.sessions
    ));
    for fault in &scenario.faults {
        let when = match fault.at_copied {
            Some(share) => format!("at {:.0}% of the copy", share * 100.0),
            None => "during replication".into(),
        };
        text.push_str(&format!("  {} {when}, for {:.1} s\n", fault.name(), fault.hold_seconds));
    }
    match format {
        Format::Text => answer!("{text}"),
        Format::Json => note!("{text}"),
    }
}

fn print(report: &RunReport, options: &Options, format: Format) -> Result<(), Failure> {
    match format {
        Format::Text => {
            answer!("\nreport: {}", options.directory.join("report.html").display());
            answer!("{}", report::text(report));
        }
        Format::Json => {
            answer!("{}", serde_json::to_string(report).map_err(|e| Failure::new(e.to_string()))?);
        }
    }
    Ok(())
}

fn described(state: &str, copied: u64, rows: u64, lag: Option<f64>) -> String {
    let lag = lag.map_or_else(|| "unknown".into(), |s| format!("{s:.0} s"));
    format!("{state}: {copied} of {rows} rows copied, lag {lag}")
}

/// Plain lines: every event, and the move's state every two seconds.
fn lines() -> Progress {
    let last = Mutex::new(None::<Instant>);
    Arc::new(move |update| match update {
        Update::Step(text) => note!("-- {text}"),
        Update::Event(text) => note!("   {text}"),
        Update::Sample { state, copied, rows, lag } => {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(2)) {
                *last = Some(Instant::now());
                note!("   {}", described(&state, copied, rows, lag));
            }
        }
    })
}

/// A bar for the copy, events above it.
fn bars() -> Progress {
    let style = ProgressStyle::with_template("{spinner} [{elapsed_precise}] {bar:32} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(1).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    Arc::new(move |update| match update {
        Update::Step(text) => {
            bar.println(format!("-- {text}"));
            bar.set_message(text);
        }
        Update::Event(text) => bar.println(format!("   {text}")),
        Update::Sample { state, copied, rows, lag } => {
            bar.set_length(rows.max(copied));
            bar.set_position(copied);
            bar.set_message(described(&state, copied, rows, lag));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(shell_word("/usr/sbin/mariadbd"), "/usr/sbin/mariadbd");
        for word in ["my plan.toml", "it's", "", "a;b", "$HOME", "é*"] {
            let echoed = std::process::Command::new("/bin/sh")
                .args(["-c", &format!("printf %s {}", shell_word(word))])
                .output();
            assert_eq!(String::from_utf8_lossy(&echoed.unwrap().stdout), word);
        }
    }
}
