//! `converge shrink`.

use std::path::PathBuf;
use std::time::Duration;

use converge_scenarios::cause::Cause;
use converge_scenarios::saved::SavedRun;
use converge_scenarios::shell;
use converge_scenarios::shrink::{Shrink, Try, described};
use converge_scenarios::verdict::Verdict;

use super::arguments::{program, program_word, server_of, some_time};
use super::{Failure, Outcome, interrupted};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  converge shrink runs/default-7-20261121140000
  converge shrink runs/campaign-swarm-mysql/runs/12 --tries 5 \\
    --max-duration 2h

Rehearses the failed run's plan again and again, each time with less in it:
faults, tables, kinds of statements, transactions, sessions, rows, time. What
still fails for the same cause is kept, until nothing can be left out. A plan
fails for the same cause if the verdict is the same and no oracle points at
anything that it did not point at in the saved run. The smallest plan so far
is always in smallest.toml in the run's directory.

Exit codes: 0 the smallest plan was found, 2 the work could not be done, 3 the
search was cut short (--max-duration, Ctrl-C), or the run's plan did not fail
again.")]
pub struct Arguments {
    /// The directory of a run that diverged or was not proven
    run: PathBuf,
    /// How often a plan is tried before it is taken for one that does not fail
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// End the search after that time, with the smallest plan so far
    #[arg(long, value_name = "D", value_parser = some_time)]
    max_duration: Option<Duration>,
    /// The server: mysql, mariadb, or a path to a mysqld or mariadbd [default: the run's]
    #[arg(long, value_name = "KIND|PATH")]
    server: Option<String>,
}

/// Makes a failed run small.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let run = SavedRun::read(&arguments.run)?;
    let report = run.report.as_ref().ok_or_else(|| {
        Failure::new(format!("the run in {} came to no verdict", arguments.run.display()))
            .with_help("repeat it with `converge rehearse --replay`, and shrink the run that this makes")
    })?;
    if report.verdict == Verdict::Converged {
        return Err(Failure::new(format!("the run in {} converged", arguments.run.display())).with_help(
            "name a run that diverged or was not proven: there is nothing to look for in this one",
        ));
    }
    let shrink = Shrink {
        directory: arguments.run.clone(),
        seed: report.seed,
        cause: Cause::of(report),
        server: server_of(&run, arguments.server.as_deref())?,
        program: program()?,
        tries: arguments.tries,
        most: arguments.max_duration,
        plan: run.scenario.clone(),
    };
    note!("seed {}   server {}\nlooking for: {}", shrink.seed, shrink.server.info, shrink.cause);
    let tell = |tried: Try<'_>| {
        let result = if tried.same { "fails" } else { "does not fail like it" };
        note!("{result}: {} ({})", described(tried.plan), tried.cause.verdict.words());
    };
    let shrunk = tokio::select! {
        shrunk = shrink.run(tell) => shrunk?,
        signal = interrupted() => {
            let saved = shrink.saved();
            match saved.exists() {
                true => note!("{signal}: the smallest plan so far is in {}", saved.display()),
                false => note!("{signal}: the plan had not failed again so far"),
            }
            return Ok(Outcome::NotProven);
        }
    };
    let Some(smallest) = shrunk.smallest else {
        let tries = shrink.tries;
        if shrunk.ended {
            answer!("not reproduced: in {tries} tries the plan did not fail for the same cause");
            note!("what to do: more --tries");
        } else {
            answer!("not known: time ran out before the plan had failed again or been tried {tries} times");
            note!("what to do: a longer --max-duration");
        }
        return Ok(Outcome::NotProven);
    };
    let path = shrink.saved().display().to_string();
    let seed = shrink.seed.to_string();
    let server = shrink.server.path.display().to_string();
    let words = [&program_word(), "rehearse", &path, "--seed", &seed, "--server", &server];
    answer!("was:      {}", described(&shrink.plan));
    answer!("smallest: {}", described(&smallest));
    answer!("cause:    {}", shrink.cause);
    answer!("saved:    {path}");
    answer!("replay:   {}", shell::command(words));
    if !shrunk.ended {
        answer!("the search was cut short: a smaller plan may fail as well");
        return Ok(Outcome::NotProven);
    }
    Ok(Outcome::Good)
}
