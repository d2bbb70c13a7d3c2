//! Many rehearsals of one plan, or of plans drawn from one, with a seed each: how many converge, and why the others do
//! not. What is known of a seed is kept in a file, so that a campaign that was killed goes on.

mod summary;

use std::path::PathBuf;
use std::sync::Arc;

use converge_chaos::server::ServerBinary;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::summary::{Line, Summary};
use crate::batch::{self, Ended};
use crate::cause::Cause;
use crate::lock::Lock;
use crate::rehearsal::{self, Options, RehearsalError};
use crate::scenario::Scenario;
use crate::scratch::Scratch;
use crate::shell;
use crate::verdict::Verdict;

/// The file of what is known, a line for each run.
const RESULTS: &str = "results.jsonl";
/// The file that says what a campaign is about.
const ABOUT: &str = "campaign.json";

/// The plan of each seed.
#[derive(Debug, Clone, PartialEq)]
pub enum Plans {
    /// The default rehearsal.
    Standard,
    /// Drawn from the seed.
    Swarm,
    /// One scenario for all.
    Fixed(Box<Scenario>),
}

impl Plans {
    /// The plan of a seed.
    pub fn of(&self, seed: u64) -> Scenario {
        match self {
            Self::Standard => Scenario::standard(seed),
            Self::Swarm => Scenario::swarm(seed),
            Self::Fixed(scenario) => (**scenario).clone(),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.of(0).name
    }
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The plans.
    pub plans: Plans,
    /// Runs.
    pub runs: u64,
    /// The first run's seed; the others follow.
    pub seed: u64,
    /// Rehearsals at the same time.
    pub jobs: usize,
    /// The server for both sides of each.
    pub server: ServerBinary,
    /// The `converge` binary that is run as the mover.
    pub program: PathBuf,
    /// This program as it was called, for commands that are printed.
    pub called: String,
    /// Where everything is kept.
    pub directory: PathBuf,
}

/// What came of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// Its verdict, and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// A campaign that cannot be carried out.
#[derive(Debug, Error, Diagnostic)]
pub enum CampaignError {
    /// The directory belongs to another campaign.
    #[error("{} holds another campaign: {what} is not the same", .directory.display())]
    #[diagnostic(help("choose another directory with --directory, or remove that one"))]
    Another {
        /// The directory.
        directory: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// A file, or the rehearsals.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rehearsal(#[from] RehearsalError),
}

/// What must be the same for a campaign to go on.
#[derive(PartialEq, Serialize, Deserialize)]
struct About {
    plans: String,
    server: String,
    /// What stands in the file that makes the tables, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
}

impl Campaign {
    /// Runs what was not run yet, until `stop` says why not to go on. `tell` hears of each run that ended.
    pub async fn run(
        &self,
        stop: impl Future<Output = &'static str>,
        tell: impl Fn(Result<&Outcome, &RehearsalError>, usize, usize),
    ) -> Result<Ended<Outcome>, CampaignError> {
        std::fs::create_dir_all(&self.directory).map_err(RehearsalError::io("creating", &self.directory))?;
        let _lock = Lock::take(&self.directory)?;
        self.begin()?;
        let wanted = self.seeds().map(|seed| (seed, seed)).collect();
        let one = |seed: u64| one(self.clone(), seed);
        let results = self.directory.join(RESULTS);
        let mut ended =
            batch::run(&results, (self.jobs, wanted), |o: &Outcome| o.seed, one, stop, tell).await?;
        ended.results.retain(|outcome| self.seeds().contains(&outcome.seed));
        ended.results.sort_by_key(|outcome| outcome.seed);
        Ok(ended)
    }

    fn seeds(&self) -> std::ops::Range<u64> {
        self.seed..self.seed.saturating_add(self.runs)
    }

    /// Where a run's report is, if it is kept.
    fn directory_of(&self, seed: u64) -> PathBuf {
        self.directory.join("runs").join(seed.to_string())
    }

    /// The command that repeats a run that is kept.
    pub fn replay(&self, seed: u64) -> String {
        shell::command([&self.called, "rehearse", "--replay", &self.directory_of(seed).display().to_string()])
    }

    /// Makes sure that what is in the directory, if anything, is of the same campaign.
    fn begin(&self) -> Result<(), CampaignError> {
        let (plans, file) = match &self.plans {
            Plans::Fixed(scenario) => (scenario.to_toml(), scenario.schema.as_ref()),
            drawn => (drawn.name(), None),
        };
        let read = |file: &PathBuf| {
            std::fs::read_to_string(file).map_err(RehearsalError::io("reading the schema", file))
        };
        let schema = file.map(read).transpose()?;
        let about = About { plans, server: self.server.info.to_string(), schema };
        let path = self.directory.join(ABOUT);
        match std::fs::read(&path) {
            Ok(text) => {
                let what = match serde_json::from_slice::<About>(&text) {
                    Ok(there) if there == about => return Ok(()),
                    Ok(there) if there.plans != about.plans => "its plan",
                    Ok(there) if there.server != about.server => "its server",
                    Ok(_) => "its schema",
                    Err(_) => "its plan",
                };
                Err(CampaignError::Another { directory: self.directory.clone(), what })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let text = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
                Ok(std::fs::write(&path, text).map_err(RehearsalError::io("writing", &path))?)
            }
            Err(e) => Err(RehearsalError::io("reading", &path)(e).into()),
        }
    }
}

async fn one(campaign: Campaign, seed: u64) -> Result<Outcome, RehearsalError> {
    let mut scratch = Scratch::new(&campaign.directory_of(seed));
    let options = Options {
        scenario: campaign.plans.of(seed),
        seed,
        replay: campaign.replay(seed),
        servers: campaign.server.into(),
        program: campaign.program,
        directory: scratch.directory.clone(),
        toxiproxy: None,
        keep: false,
        mover_environment: Vec::new(),
        mutant: None,
    };
    let report = rehearsal::run(&options, Arc::new(|_| {})).await?;
    scratch.keep = report.verdict != Verdict::Converged;
    Ok(Outcome { seed, seconds: report.elapsed_seconds, cause: Cause::of(&report) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A campaign of three runs.
    pub(super) fn campaign(plans: Plans, directory: PathBuf) -> Campaign {
        let info = converge_mysql::ServerInfo::parse("mysqld  Ver 9.7.4 for Linux").unwrap();
        Campaign {
            plans,
            runs: 3,
            seed: 1,
            jobs: 1,
            server: ServerBinary { path: "/usr/sbin/mysqld".into(), info },
            program: "converge".into(),
            called: "converge".into(),
            directory,
        }
    }

    #[test]
    fn a_campaign_does_not_go_on_with_another_schema() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("shop.sql");
        std::fs::write(&file, "CREATE TABLE t (id INT PRIMARY KEY)").unwrap();
        let scenario = Scenario::default().with_schema(file.to_str().unwrap());
        let campaign = campaign(Plans::Fixed(scenario.into()), place.path().into());
        campaign.begin().unwrap();
        campaign.begin().unwrap();
        std::fs::write(&file, "CREATE TABLE t (id INT PRIMARY KEY, x INT)").unwrap();
        let refused = campaign.begin().unwrap_err().to_string();
        assert!(refused.contains("its schema is not the same"), "{refused}");
    }
}
