//! The harness held against movers that are known to be wrong: each bug that is planted in the mover is rehearsed many
//! times, and each time it is written down whether it did harm and which oracle noticed.
//!
//! A run in which the bug did no harm says nothing about the harness: it is counted apart, never as a miss and never
//! as a detection.

mod matrix;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;

use converge_chaos::server::ServerBinary;
use converge_mover::planted::{Bug, HITS, VARIABLE};
use serde::{Deserialize, Serialize};

pub use self::matrix::{Line, Matrix};
pub use self::plan::scenario;
use crate::batch::{self, Ended};
use crate::rehearsal::{self, Options, RehearsalError};
use crate::verdict::{Finding, RunReport, Verdict};

/// What to run.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The bugs.
    pub bugs: Vec<Bug>,
    /// Runs of each bug on each kind of server.
    pub runs: u64,
    /// The first run's seed; the others follow.
    pub seed: u64,
    /// Rehearsals at the same time.
    pub jobs: usize,
    /// The kinds of servers.
    pub servers: Vec<ServerBinary>,
    /// The `converge` binary with the bugs in it.
    pub program: PathBuf,
    /// Where results are kept, a line each: what is there already is not run again.
    pub results: PathBuf,
    /// Where the reports of runs go whose bug did harm and was not noticed; those of the others are removed.
    pub missed: PathBuf,
}

/// One rehearsal of one bug.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The bug's id.
    pub bug: String,
    /// Product and version of the servers.
    pub server: String,
    /// The rehearsal's seed.
    pub seed: u64,
    /// How often the bug did harm.
    pub hits: u64,
    /// What the harness said.
    pub verdict: Verdict,
    /// The oracles that noticed, in the order in which they speak.
    pub noticed_by: Vec<String>,
    /// Seconds it took.
    pub seconds: f64,
    /// Acknowledged writes until then.
    pub statements: u64,
}

impl Outcome {
    /// Whether the bug did harm.
    pub fn triggered(&self) -> bool {
        self.hits > 0
    }

    /// Whether the harness noticed.
    pub fn detected(&self) -> bool {
        !self.noticed_by.is_empty()
    }
}

/// The oracles whose "cannot tell" blames the mover: it stopped, or got nowhere. That a load was thin or a fault did
/// not bite blames the rehearsal.
const BLAMES: [&str; 4] = ["position", "mover", "liveness", "vdiff"];

/// The oracles that noticed something.
fn noticed_by(report: &RunReport) -> Vec<String> {
    let failed = |finding| report.oracles.iter().filter(move |o| o.finding == finding);
    let mut names: Vec<String> = failed(Finding::Fail).map(|o| o.name.clone()).collect();
    if names.is_empty() {
        names.extend(
            failed(Finding::Unknown).map(|o| o.name.clone()).filter(|n| BLAMES.contains(&n.as_str())),
        );
    }
    names
}

/// Runs what is not in the results yet until `stop` says why not to go on, and returns the results of all. `tell` hears of
/// each run that ended.
pub async fn run(
    campaign: &Campaign,
    stop: impl Future<Output = &'static str>,
    tell: impl Fn(Result<&Outcome, &RehearsalError>, usize, usize),
) -> Result<Ended<Outcome>, RehearsalError> {
    let mut wanted = Vec::new();
    // Seed by seed, so that a campaign that is cut short has seen every bug.
    for seed in campaign.seed..campaign.seed + campaign.runs {
        for server in &campaign.servers {
            for &bug in &campaign.bugs {
                let key = (bug.id().to_owned(), server.info.to_string(), seed);
                wanted.push((key, (bug, server.clone(), seed)));
            }
        }
    }
    let key = |o: &Outcome| (o.bug.clone(), o.server.clone(), o.seed);
    let one = |(bug, server, seed)| one(campaign.clone(), bug, server, seed);
    batch::run(&campaign.results, (campaign.jobs, wanted), key, one, stop, tell).await
}

async fn one(
    campaign: Campaign,
    bug: Bug,
    server: ServerBinary,
    seed: u64,
) -> Result<Outcome, RehearsalError> {
    let name = format!("{}-{}-{seed}", bug.id(), server.kind());
    let directory = campaign.missed.join(&name);
    let hits = directory.join("hits");
    let environment = vec![
        (VARIABLE.to_owned(), bug.id().into()),
        (HITS.to_owned(), std::path::absolute(&hits).unwrap_or(hits.clone()).into()),
    ];
    let options = Options {
        scenario: scenario(bug, seed),
        seed,
        servers: server.clone().into(),
        program: campaign.program.clone(),
        directory: directory.clone(),
        replay: format!(
            "converge selftest --bug {} --seed {seed} --runs 1 --server {}",
            bug.id(),
            server.kind()
        ),
        toxiproxy: None,
        keep: false,
        mover_environment: environment,
        mutant: None,
    };
    let report = rehearsal::run(&options, Arc::new(|_| {})).await?;
    let outcome = Outcome {
        bug: bug.id().into(),
        server: server.info.to_string(),
        seed,
        hits: std::fs::metadata(&hits).map_or(0, |m| m.len()),
        verdict: report.verdict,
        noticed_by: noticed_by(&report),
        seconds: report.elapsed_seconds,
        statements: report.statements.iter().map(|s| s.acknowledged).sum(),
    };
    if outcome.detected() || !outcome.triggered() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    Ok(outcome)
}
