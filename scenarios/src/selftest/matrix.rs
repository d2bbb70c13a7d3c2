//! What came of all runs, bug by bug and oracle by oracle. Pure: outcomes in, text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use converge_mover::planted::Bug;

use super::Outcome;

/// The share of triggered runs in which a bug must be noticed: 19 of 20.
const LEAST: f64 = 0.95;

/// What came of one bug.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The bug.
    pub bug: Bug,
    /// Rehearsals.
    pub runs: usize,
    /// Those in which it did harm.
    pub triggered: usize,
    /// Those of them in which it was noticed.
    pub detected: usize,
    /// The oracle that spoke first in most of them.
    pub first: String,
    /// Median seconds and acknowledged writes of the runs in which it was noticed.
    pub median: Option<(f64, u64)>,
    /// Seeds of the runs in which it did harm and was not noticed.
    pub missed: Vec<u64>,
}

impl Line {
    fn of(bug: Bug, outcomes: &[Outcome]) -> Self {
        let runs: Vec<&Outcome> = outcomes.iter().filter(|o| o.bug == bug.id()).collect();
        let triggered: Vec<&Outcome> = runs.iter().copied().filter(|o| o.triggered()).collect();
        let (found, missed): (Vec<&Outcome>, Vec<&Outcome>) =
            triggered.iter().partition(|outcome| outcome.detected());
        let mut firsts: BTreeMap<&str, usize> = BTreeMap::new();
        for outcome in &found {
            *firsts.entry(&outcome.noticed_by[0]).or_default() += 1;
        }
        let first = firsts.into_iter().max_by_key(|(_, n)| *n).map_or(String::new(), |(name, _)| name.into());
        let mut seconds: Vec<f64> = found.iter().map(|o| o.seconds).collect();
        let mut statements: Vec<u64> = found.iter().map(|o| o.statements).collect();
        seconds.sort_by(f64::total_cmp);
        statements.sort_unstable();
        let middle = found.len() / 2;
        Self {
            bug,
            runs: runs.len(),
            triggered: triggered.len(),
            detected: found.len(),
            first,
            median: seconds.get(middle).copied().zip(statements.get(middle).copied()),
            missed: missed.iter().map(|o| o.seed).collect(),
        }
    }

    /// Whether it was noticed as often as it must be. Never triggered is not noticed.
    pub fn is_good(&self) -> bool {
        self.triggered > 0 && self.detected as f64 >= LEAST * self.triggered as f64
    }

    fn result(&self) -> &'static str {
        match (self.runs, self.triggered) {
            (0, _) => "not run",
            (_, 0) => "**never triggered**",
            _ if self.is_good() => "detected",
            _ => "**missed**",
        }
    }
}

/// What came of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// One line per bug.
    pub lines: Vec<Line>,
    /// For each oracle: bugs that it noticed, and those that nothing else noticed in any run.
    pub oracles: Vec<(String, usize, Vec<String>)>,
    /// The servers.
    pub servers: BTreeSet<String>,
}

impl Matrix {
    /// Adds outcomes up.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let lines = Bug::ALL.iter().map(|bug| Line::of(*bug, outcomes)).collect();
        let mut by_bug: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for outcome in outcomes.iter().filter(|o| o.triggered()) {
            by_bug.entry(&outcome.bug).or_default().extend(outcome.noticed_by.iter().map(String::as_str));
        }
        let names: BTreeSet<&str> = by_bug.values().flatten().copied().collect();
        let oracle = |name: &&str| {
            let noticed: Vec<_> = by_bug.iter().filter(|(_, by)| by.contains(name)).collect();
            let alone = noticed.iter().filter(|(_, by)| by.len() == 1).map(|(bug, _)| (**bug).to_owned());
            ((*name).to_owned(), noticed.len(), alone.collect())
        };
        let oracles = names.iter().map(oracle).collect();
        Self { lines, oracles, servers: outcomes.iter().map(|o| o.server.clone()).collect() }
    }

    /// Bugs that did harm and were noticed less often than they must be.
    pub fn missed(&self) -> usize {
        self.lines.iter().filter(|l| l.triggered > 0 && !l.is_good()).count()
    }

    /// Bugs that were rehearsed and never did harm.
    pub fn never_triggered(&self) -> usize {
        self.lines.iter().filter(|l| l.runs > 0 && l.triggered == 0).count()
    }

    /// The least and the most runs of a bug that was rehearsed.
    fn runs_of_each(&self) -> String {
        let runs = || self.lines.iter().map(|l| l.runs).filter(|runs| *runs > 0);
        match (runs().min().unwrap_or(0), runs().max().unwrap_or(0)) {
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        }
    }

    /// As Markdown, with the command that made it.
    pub fn to_markdown(&self, command: &str) -> String {
        let mut out = String::from("# The kill matrix\n\n");
        let (run, good) = (
            self.lines.iter().filter(|l| l.runs > 0).count(),
            self.lines.iter().filter(|l| l.is_good()).count(),
        );
        let servers: Vec<&str> = self.servers.iter().map(String::as_str).collect();
        let _ = write!(
            out,
            "{good} of {run} bugs that were planted in the mover were noticed in at least 95% of the runs in which they did \
             harm; {} missed, {} never triggered. {} runs, {} of each bug. Servers: {}. Made by\n\n    {command}\n\n",
            self.missed(),
            self.never_triggered(),
            self.lines.iter().map(|l| l.runs).sum::<usize>(),
            self.runs_of_each(),
            servers.join(", ")
        );
        out.push_str("| bug | what is wrong | seen in | runs | triggered | detected | first oracle | median s | median writes | |\n");
        out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        for line in &self.lines {
            let (seconds, writes) =
                line.median.map_or(Default::default(), |(s, w)| (format!("{s:.1}"), w.to_string()));
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | {} | {} | {} | {} | {seconds} | {writes} | {} |",
                line.bug.id(),
                line.bug.cause(),
                line.bug.seen(),
                line.runs,
                line.triggered,
                line.detected,
                line.first,
                line.result()
            );
        }
        out.push_str("\n| oracle | bugs that it noticed | bugs that nothing else noticed |\n|---|---|---|\n");
        for (name, noticed, alone) in &self.oracles {
            let _ = writeln!(out, "| {name} | {noticed} | {} |", alone.join(", "));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    fn outcome(bug: Bug, hits: u64, noticed_by: &[&str]) -> Outcome {
        Outcome {
            bug: bug.id().into(),
            server: "MySQL".into(),
            seed: 1,
            hits,
            verdict: Verdict::Diverged,
            noticed_by: noticed_by.iter().map(|n| (*n).to_owned()).collect(),
            seconds: 3.0,
            statements: 10,
        }
    }

    #[test]
    fn missed_and_never_triggered_are_told_apart() {
        let outcomes = [
            outcome(Bug::ChangeLost, 3, &["vdiff", "ledger"]),
            outcome(Bug::BatchLimit, 1, &["vdiff"]),
            outcome(Bug::YearZero, 0, &[]),
            outcome(Bug::LongValueCut, 1, &[]),
            outcome(Bug::LongValueCut, 1, &["vdiff"]),
        ];
        let matrix = Matrix::of(&outcomes);
        assert_eq!((matrix.missed(), matrix.never_triggered()), (1, 1));
        let line = |bug: Bug| matrix.lines.iter().find(|l| l.bug == bug).unwrap();
        assert!(
            line(Bug::ChangeLost).is_good()
                && !line(Bug::LongValueCut).is_good()
                && !line(Bug::YearZero).is_good()
        );
        assert_eq!(line(Bug::ChangeLost).first, "vdiff");
        let vdiff = matrix.oracles.iter().find(|o| o.0 == "vdiff").unwrap();
        assert_eq!(
            (vdiff.1, vdiff.2.as_slice()),
            (3, ["batch_limit".to_owned(), "long_value_cut".into()].as_slice())
        );
        let text = matrix.to_markdown("converge selftest");
        assert!(text.contains("5 runs, 1 to 2 of each bug"), "{text}");
        assert!(
            text.contains("| `year_zero`")
                && text.contains("**never triggered**")
                && text.contains("**missed**")
        );
    }
}
