//! `converge selftest`.

use std::path::PathBuf;

use converge_chaos::server::{discover, select};
use converge_mover::planted::Bug;
use converge_scenarios::rehearsal::RehearsalError;
use converge_scenarios::selftest::{self, Campaign, Matrix, Outcome as Run};

use super::arguments::{at_least_one, program};
use super::{Failure, Outcome, interrupted};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example, which makes a build that has the bugs in it:
  make selftest ARGS=\"--runs 20 --jobs 2 --write scenarios/KILL_MATRIX.md\"
  make selftest ARGS=\"--bug delete_in_window --runs 3 --server mariadb\"

Each run is a short rehearsal on private servers with one bug planted in the
mover. A bug counts as detected if the verdict is not `converged` for a reason
that blames the mover, in at least 19 of 20 runs in which it did harm. Results
are kept in a file; what is in it is not run again. The reports of misses stay
beside it.

Exit codes: 0 every bug that was run was detected, 1 one was missed, 2 the
work could not be done, 3 one never did harm.")]
pub struct Arguments {
    /// Only this bug; may be given several times [default: all]
    #[arg(long, value_name = "ID")]
    bug: Vec<String>,
    /// List the bugs and end
    #[arg(long)]
    list: bool,
    /// Runs of each bug on each kind of server
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The first run's seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Rehearsals at the same time
    #[arg(long, value_name = "J", default_value_t = 1, value_parser = at_least_one())]
    jobs: usize,
    /// The server: mysql, mariadb, or a path [default: every kind found]
    #[arg(long, value_name = "KIND|PATH")]
    server: Option<String>,
    /// Where results are kept and continued
    #[arg(long, value_name = "FILE.jsonl", default_value = "runs/selftest/results.jsonl")]
    results: PathBuf,
    /// Also write the matrix here
    #[arg(long, value_name = "FILE.md")]
    write: Option<PathBuf>,
}

/// Runs the self-test.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    if arguments.list {
        for bug in Bug::ALL {
            answer!("{:24} {}", bug.id(), bug.cause());
        }
        return Ok(Outcome::Good);
    }
    if !cfg!(feature = "planted") {
        return Err(Failure::new("this build has no bugs planted in it")
            .with_help("make selftest, or cargo build --release -p converge-scenarios --features planted"));
    }
    let campaign = campaign(&arguments)?;
    let tell = |run: Result<&Run, &RehearsalError>, done: usize, all: usize| match run {
        Ok(run) => note!(
            "{done}/{all} {:24} {} seed {}: {} hits, {} {}, {:.1} s",
            run.bug,
            run.server,
            run.seed,
            run.hits,
            run.verdict.words(),
            run.noticed_by.join("+"),
            run.seconds
        ),
        Err(error) => note!("{done}/{all} a run could not be carried out: {error}"),
    };
    let ended = selftest::run(&campaign, interrupted(), tell).await?;
    if let Some(signal) = ended.stopped {
        note!("{signal}: run the same command again to go on");
        return Ok(Outcome::NotProven);
    }
    if let Some((error, _)) = ended.failed {
        return Err(error.into());
    }
    let outcomes = ended.results;
    let wanted: Vec<Run> =
        outcomes.into_iter().filter(|o| campaign.bugs.iter().any(|bug| bug.id() == o.bug)).collect();
    let matrix = Matrix::of(&wanted);
    let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let text = matrix.to_markdown(&format!("converge {command}"));
    if let Some(path) = &arguments.write {
        std::fs::write(path, &text)
            .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))?;
    }
    answer!("{text}");
    Ok(match (matrix.missed(), matrix.never_triggered()) {
        (0, 0) => Outcome::Good,
        (0, _) => Outcome::NotProven,
        _ => Outcome::Different,
    })
}

fn campaign(arguments: &Arguments) -> Result<Campaign, Failure> {
    let named = |id: &String| {
        let known = Bug::ALL.iter().copied().find(|bug| bug.id() == id);
        known.ok_or_else(|| {
            Failure::new(format!("there is no bug {id:?}"))
                .with_help("converge selftest --list names them all")
        })
    };
    let bugs = match arguments.bug.as_slice() {
        [] => Bug::ALL.to_vec(),
        ids => ids.iter().map(named).collect::<Result<_, _>>()?,
    };
    let servers = match &arguments.server {
        Some(wanted) => vec![select(wanted)?],
        None => discover()?,
    };
    if servers.is_empty() {
        return Err(Failure::new("no mysqld or mariadbd was found").with_help("run `make setup`"));
    }
    let directory = arguments.results.parent().map(PathBuf::from).unwrap_or_default();
    std::fs::create_dir_all(&directory)
        .map_err(|e| Failure::new(format!("cannot create {}: {e}", directory.display())))?;
    Ok(Campaign {
        bugs,
        runs: arguments.runs,
        seed: arguments.seed,
        jobs: arguments.jobs,
        servers,
        program: program()?,
        results: arguments.results.clone(),
        missed: directory.join("runs"),
    })
}
