//! A run as its directory keeps it: the plan, the seed, and the verdict if it came to one. Read only.

use std::path::{Path, PathBuf};

use converge_chaos::history::{self, Event};
use miette::Diagnostic;
use thiserror::Error;

use crate::report::VERDICT;
use crate::scenario::{BadScenario, Scenario};
use crate::verdict::RunReport;

/// The plan's name in a run's directory.
pub const PLAN: &str = "plan.toml";
/// The history's.
pub const HISTORY: &str = "history.jsonl";

/// A run that was carried out, or begun.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedRun {
    /// Its plan.
    pub scenario: Scenario,
    /// Its seed; nothing if neither verdict nor history tells it.
    pub seed: Option<u64>,
    /// Whether it was on servers that are somebody's.
    pub external: bool,
    /// Its verdict and what that rests on; nothing if it was killed before that.
    pub report: Option<RunReport>,
}

/// A directory that no run can be read from.
#[derive(Debug, Error, Diagnostic)]
pub enum BadRun {
    /// There is no plan.
    #[error("{} is not the directory of a run: it has no {PLAN}", .0.display())]
    #[diagnostic(help(
        "name a directory that `converge rehearse` or `converge campaign` wrote its report into"
    ))]
    NoRun(PathBuf),
    /// The plan cannot be used.
    #[error("the plan saved in {} is damaged: {why}", .directory.display())]
    #[diagnostic(help("correct {PLAN} there by hand, or rehearse the scenario that it was made from again"))]
    Plan {
        /// The run's directory.
        directory: PathBuf,
        /// What is wrong.
        why: BadScenario,
    },
    /// There is a verdict, but not a whole one.
    #[error("the verdict saved in {} is damaged: {why}", .directory.display())]
    #[diagnostic(help("remove {VERDICT} there: the plan can be rehearsed without it"))]
    Verdict {
        /// The run's directory.
        directory: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl SavedRun {
    /// Reads a run's directory.
    pub fn read(directory: &Path) -> Result<Self, BadRun> {
        let plan = directory.join(PLAN);
        if !plan.is_file() {
            return Err(BadRun::NoRun(directory.into()));
        }
        let scenario =
            Scenario::read(&plan).map_err(|why| BadRun::Plan { directory: directory.into(), why })?;
        let report = verdict(directory)?;
        let begun = begun(&directory.join(HISTORY));
        let seed = report.as_ref().map(|r| r.seed).or(begun.map(|(seed, _)| seed));
        Ok(Self { scenario, seed, external: begun.is_some_and(|(_, external)| external), report })
    }
}

fn verdict(directory: &Path) -> Result<Option<RunReport>, BadRun> {
    let damaged = |why: String| BadRun::Verdict { directory: directory.into(), why };
    match std::fs::read(directory.join(VERDICT)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(damaged(e.to_string())),
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|e| damaged(e.to_string())),
    }
}

/// The seed, and whether the servers are somebody's: the history begins with them.
fn begun(history: &Path) -> Option<(u64, bool)> {
    match history::read(history).ok()?.next()?.ok()?.event {
        Event::Run { seed, external, .. } => Some((seed, external)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_killed_still_has_its_plan_and_seed() {
        let directory = tempfile::tempdir().unwrap();
        let read = || SavedRun::read(directory.path());
        assert!(matches!(read(), Err(BadRun::NoRun(_))));
        let scenario = Scenario::swarm(3);
        std::fs::write(directory.path().join(PLAN), scenario.to_toml()).unwrap();
        assert_eq!(read().unwrap(), SavedRun { scenario, seed: None, external: false, report: None });
        let begun =
            "{\"at_us\":0,\"event\":\"run\",\"wall\":\"\",\"seed\":18446744073709551615,\"plan\":{}}\n";
        std::fs::write(directory.path().join(HISTORY), begun).unwrap();
        assert_eq!(read().unwrap().seed, Some(u64::MAX));
        std::fs::write(directory.path().join(VERDICT), "{\"verdict\":").unwrap();
        assert!(matches!(read(), Err(BadRun::Verdict { .. })));
        std::fs::write(directory.path().join(PLAN), "tables = [").unwrap();
        assert!(matches!(read(), Err(BadRun::Plan { .. })));
    }
}
