//! A failing run made small: its plan is run again with less and less in it, and what still fails for the same cause is
//! kept, until nothing can be left out.
//!
//! Real servers do not repeat themselves: a candidate fails if it does in one of several tries, and one that never did is
//! taken for sound. What is kept was seen to fail; that nothing smaller does is as likely as the tries make it.

mod part;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use converge_chaos::server::ServerBinary;
use converge_mover::simulation::Reduction;
use tokio::time::Instant;

pub use self::part::described;
use self::part::{Part, parts, with};
use crate::cause::Cause;
use crate::lock::Lock;
use crate::rehearsal::{self, Options, RehearsalError};
use crate::scenario::Scenario;
use crate::scratch::Scratch;

/// The smallest plan's name in the run's directory.
pub const SMALLEST: &str = "smallest.toml";
/// Where candidates are run, in the same directory.
const SHRINKING: &str = "shrinking";

/// What to make small.
#[derive(Debug, Clone)]
pub struct Shrink {
    /// The run's directory.
    pub directory: PathBuf,
    /// Its plan.
    pub plan: Scenario,
    /// Its seed.
    pub seed: u64,
    /// Why it failed.
    pub cause: Cause,
    /// The server for both sides.
    pub server: ServerBinary,
    /// The `converge` binary that is run as the mover.
    pub program: PathBuf,
    /// How often a candidate is tried.
    pub tries: u32,
    /// No candidate goes on after that time.
    pub most: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The smallest plan that failed for the same cause; nothing if not even the whole one did again, or had the time to.
    pub smallest: Option<Scenario>,
    /// Whether the search came to its end.
    pub ended: bool,
}

/// What became of one rehearsal.
#[derive(Debug)]
pub struct Try<'a> {
    /// Its plan.
    pub plan: &'a Scenario,
    /// Why it ended as it did.
    pub cause: &'a Cause,
    /// Whether that is the cause that is looked for.
    pub same: bool,
}

impl Shrink {
    /// Searches, and saves each smaller plan at once, in the place of what a former search found. `tell` hears of each
    /// rehearsal.
    pub async fn run(&self, tell: impl Fn(Try<'_>)) -> Result<Shrunk, RehearsalError> {
        let _lock = Lock::take(&self.directory)?;
        let saved = self.saved();
        match std::fs::remove_file(&saved) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(RehearsalError::io("removing", &saved)(e));
            }
            _ => {}
        }
        let deadline = self.most.map(|most| Instant::now() + most);
        let again = self.fails(&self.plan, deadline, &tell).await?;
        if again != Some(true) {
            return Ok(Shrunk { smallest: None, ended: again.is_some() });
        }
        self.save(&self.plan)?;
        let mut smallest = self.plan.clone();
        let mut known = HashMap::from([(self.plan.to_toml(), true)]);
        let all: Vec<Part> = parts(&self.plan);
        let mut search = Reduction::new(all.clone());
        while let Some(left) = search.candidate() {
            let Some(plan) = with(&self.plan, &all, &left) else {
                search.answer(false);
                continue;
            };
            let text = plan.to_toml();
            let fails = match known.get(&text) {
                Some(fails) => *fails,
                None => match self.fails(&plan, deadline, &tell).await? {
                    Some(fails) => fails,
                    None => return Ok(Shrunk { smallest: Some(smallest), ended: false }),
                },
            };
            known.insert(text, fails);
            search.answer(fails);
            if fails {
                self.save(&plan)?;
                smallest = plan;
            }
        }
        Ok(Shrunk { smallest: Some(smallest), ended: true })
    }

    /// Whether a plan fails for the cause in one of its tries; nothing if time ran out before that was known.
    async fn fails(
        &self,
        plan: &Scenario,
        deadline: Option<Instant>,
        tell: &impl Fn(Try<'_>),
    ) -> Result<Option<bool>, RehearsalError> {
        for _ in 0..self.tries.max(1) {
            let scratch = Scratch::new(&self.directory.join(SHRINKING));
            let options = self.options(plan, &scratch.directory);
            let run = rehearsal::run(&options, Arc::new(|_| {}));
            let report = match deadline {
                None => run.await?,
                Some(at) => match tokio::time::timeout_at(at, run).await {
                    Ok(report) => report?,
                    Err(_) => return Ok(None),
                },
            };
            let cause = Cause::of(&report);
            let same = cause.is_part_of(&self.cause);
            tell(Try { plan, cause: &cause, same });
            if same {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    fn options(&self, plan: &Scenario, directory: &Path) -> Options {
        Options {
            scenario: plan.clone(),
            seed: self.seed,
            servers: self.server.clone().into(),
            program: self.program.clone(),
            directory: directory.into(),
            // Nobody sees these reports.
            replay: String::new(),
            toxiproxy: None,
            keep: false,
            mover_environment: Vec::new(),
            mutant: None,
        }
    }

    /// Where the smallest plan is.
    pub fn saved(&self) -> PathBuf {
        self.directory.join(SMALLEST)
    }

    fn save(&self, plan: &Scenario) -> Result<(), RehearsalError> {
        let mut plan = plan.clone();
        // The schema of a saved run is beside its plan.
        plan.schema = plan.schema.and_then(|file| Some(file.file_name()?.into()));
        let path = self.saved();
        std::fs::write(&path, plan.to_toml()).map_err(RehearsalError::io("writing", &path))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::verdict::Verdict;

    #[tokio::test]
    async fn two_searches_do_not_work_in_one_directory() {
        let place = tempfile::tempdir().unwrap();
        let info = converge_mysql::ServerInfo::parse("mysqld  Ver 9.7.4 for Linux").unwrap();
        let shrink = Shrink {
            directory: place.path().into(),
            plan: Scenario::default(),
            seed: 1,
            cause: Cause { verdict: Verdict::NotProven, signs: BTreeSet::new() },
            server: ServerBinary { path: "/nowhere".into(), info },
            program: "/nowhere".into(),
            tries: 1,
            most: Some(Duration::ZERO),
        };
        std::fs::write(shrink.saved(), "another's").unwrap();
        let other = Lock::take(place.path()).unwrap();
        assert!(matches!(shrink.run(|_| {}).await, Err(RehearsalError::InUse(_))));
        assert!(shrink.saved().exists());
        drop(other);
        std::fs::create_dir(place.path().join(SHRINKING)).unwrap();
        // No time for anything: what former searches left is gone all the same.
        let shrunk = shrink.run(|_| {}).await.unwrap();
        assert_eq!(shrunk, Shrunk { smallest: None, ended: false });
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
