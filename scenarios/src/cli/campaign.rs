//! `converge campaign`.

use std::path::{Path, PathBuf};

use converge_scenarios::campaign::{Campaign, Outcome as Run, Plans, Summary};
use converge_scenarios::rehearsal::RehearsalError;
use converge_scenarios::scenario::Scenario;
use converge_scenarios::words::counted;

use super::arguments::{at_least_one, check_schema, chosen_server, program, program_word};
use super::{Failure, Format, Outcome, interrupted, print, print_json};

/// Characters of a cause in the line of a run.
const SHORT: usize = 120;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge campaign --runs 100 --swarm
  converge campaign --runs 300 --jobs 2 --server mariadb scenarios/short.toml
  converge campaign --runs 50 --seed 1000 --directory /tmp/nightly \\
    my-scenario.toml

Each run is a rehearsal with a seed of its own (whatever seed a scenario
names), on private servers. What came of it is written into results.jsonl in
the directory at once; the same command goes on there after it was stopped or
killed, more --runs add to it, and no seed is run twice. Directories of runs
that converged are removed, the others stay in runs/SEED, to be looked at,
repeated (`converge rehearse --replay`) and made smaller (`converge shrink`).

Failures count as one cause if verdict, oracles and their evidence are the
same but for numbers, keys, names and positions. The summary is printed and
written into summary.md and summary.json.

Exit codes: 0 all runs converged, 1 one diverged, 2 the work could not be
done, 3 one was not proven or not run.")]
pub struct Arguments {
    /// A scenario in TOML for all runs [default: the built-in one, drawn from each run's seed]
    scenario: Option<PathBuf>,
    /// Draw faults and load from each run's seed instead
    #[arg(long, conflicts_with = "scenario")]
    swarm: bool,
    /// How many runs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The first run's seed; each further run has the next number
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Rehearsals at the same time
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = at_least_one())]
    jobs: usize,
    /// The server: mysql, mariadb, or a path to a mysqld or mariadbd [default: the first one found]
    #[arg(long, value_name = "KIND|PATH")]
    server: Option<String>,
    /// Where results, failed runs and the summary are kept and continued [default: runs/campaign-NAME-KIND]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Runs a campaign.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    if arguments.seed.checked_add(arguments.runs).is_none() {
        return Err(Failure::new(format!(
            "{} from {} on do not fit: the largest seed is {}",
            counted(arguments.runs as usize, "seed"),
            arguments.seed,
            u64::MAX - 1
        ))
        .with_help("give a smaller --seed"));
    }
    let plans = match &arguments.scenario {
        Some(path) => Plans::Fixed(Box::new(Scenario::read(path)?)),
        None if arguments.swarm => Plans::Swarm,
        None => Plans::Standard,
    };
    check_schema(&plans.of(0))?;
    let server = chosen_server(arguments.server.as_deref())?;
    let by_default = || Path::new("runs").join(format!("campaign-{}-{}", plans.name(), server.kind()));
    let campaign = Campaign {
        directory: arguments.directory.clone().unwrap_or_else(by_default),
        plans,
        runs: arguments.runs,
        seed: arguments.seed,
        jobs: arguments.jobs,
        server,
        program: program()?,
        called: program_word(),
    };
    let (server, directory) = (&campaign.server.info, campaign.directory.display());
    let runs = counted(campaign.runs as usize, "run");
    note!("{runs} of {} on {server}, kept in {directory}", campaign.plans.name());
    let ended = campaign.run(interrupted(), tell).await?;
    let summary = Summary::of(&campaign, &ended.results);
    summary.write(&campaign)?;
    match arguments.format {
        Format::Text => print(&format!("{}\n", summary.to_markdown().trim_end()))?,
        Format::Json => print_json(&summary)?,
    }
    if let Some(signal) = ended.stopped {
        note!("{signal}: run the same command again to go on");
    }
    match ended.failed {
        // What was found stays found.
        _ if summary.diverged > 0 => Ok(Outcome::Different),
        Some((error, count)) => {
            let runs = counted(count, "run");
            note!("{runs} could not be carried out; run the same command again to try them again");
            Err(error.into())
        }
        None if summary.converged as u64 == campaign.runs => Ok(Outcome::Good),
        None => Ok(Outcome::NotProven),
    }
}

/// A line for each run.
fn tell(run: Result<&Run, &RehearsalError>, done: usize, all: usize) {
    match run {
        Ok(run) => {
            let cause = run.cause.to_string();
            let short: String = cause.chars().take(SHORT).collect();
            let more = if short.len() < cause.len() { "…" } else { "" };
            note!("{done}/{all} seed {}: {:.1} s, {short}{more}", run.seed, run.seconds);
        }
        Err(error) => note!("{done}/{all} a run could not be carried out: {error}"),
    }
}
