//! The verdict of a rehearsal, and everything it rests on.
//!
//! A pass is earned: `converged` needs every oracle to have passed. One that failed makes it `diverged`, one that could
//! not tell makes it `not_proven`. Nothing here can turn a missing answer into a good one.

use serde::{Deserialize, Serialize};

/// What a rehearsal can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Source and target are equal at a proven position, under load and faults that really happened.
    Converged,
    /// Rows differ or were lost; the evidence is in the report.
    Diverged,
    /// Neither was shown; the reasons are in the report.
    NotProven,
}

impl Verdict {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Diverged => "diverged",
            Self::NotProven => "not proven",
        }
    }
}

/// What one oracle found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// What it looks for is as it must be.
    Pass,
    /// It has evidence that something was lost or altered.
    Fail,
    /// It could not tell.
    Unknown,
}

/// One oracle's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Oracle {
    /// Its name: `vdiff`, `ledger`, `load`, `faults`, `copy_under_load`, `position`, `mover`.
    pub name: String,
    /// What it found.
    pub finding: Finding,
    /// The figures behind it, in a sentence.
    pub detail: String,
    /// Evidence, a line each, worst first.
    pub evidence: Vec<String>,
}

impl Oracle {
    /// An answer without evidence lines.
    pub fn new(name: &str, finding: Finding, detail: impl Into<String>) -> Self {
        Self { name: name.into(), finding, detail: detail.into(), evidence: Vec::new() }
    }

    /// In a line. Figures alone can read like a success: what tells why they decide comes with them.
    pub fn in_a_line(&self) -> String {
        let said = format!("{}: {}", self.name, self.detail);
        match self.evidence.first().filter(|why| self.finding != Finding::Pass && !said.contains(*why)) {
            Some(why) => format!("{said}; {why}"),
            None => said,
        }
    }

    /// Adds evidence lines.
    pub fn with_evidence(mut self, evidence: Vec<String>) -> Self {
        self.evidence = evidence;
        self
    }
}

/// How often one kind of statement was sent, by outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementCount {
    /// The kind, as in the history.
    pub kind: String,
    /// Acknowledged: the statement, or the transaction around it, was committed.
    pub acknowledged: u64,
    /// Executed by the server.
    pub ok: u64,
    /// Refused by the server.
    pub fail: u64,
    /// Of unknown outcome.
    pub info: u64,
}

/// What became of one fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// Its name, such as `kill_source`.
    pub fault: String,
    /// When it was injected, seconds since the run began.
    pub injected_at: f64,
    /// The evidence that it bit; absent if none was seen.
    pub observed: Option<String>,
    /// When it was undone, seconds since the run began; absent if it was not.
    pub healed_at: Option<f64>,
}

/// What the history tells of one row that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// The row and what is wrong with it.
    pub row: String,
    /// What happened to it and around it, a sentence each, in the order of time.
    pub told: Vec<String>,
}

/// A rehearsal from beginning to end: what `verdict.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in a sentence or a few.
    pub reasons: Vec<String>,
    /// The scenario's name.
    pub scenario: String,
    /// What everything random was drawn from.
    pub seed: u64,
    /// The command that runs it again.
    pub replay: String,
    /// When it began, RFC 3339, UTC.
    pub started: String,
    /// Seconds it took, without the build.
    pub elapsed_seconds: f64,
    /// Product and version of the source.
    pub source: String,
    /// Product and version of the target.
    pub target: String,
    /// The proven position, if there is one.
    pub position: Option<String>,
    /// What each oracle said.
    pub oracles: Vec<Oracle>,
    /// The load.
    pub statements: Vec<StatementCount>,
    /// The faults.
    pub faults: Vec<FaultReport>,
    /// The comparison, if it came to one.
    pub vdiff: Option<converge_vdiff::Report>,
    /// What is known of rows that are not as they must be.
    #[serde(default)]
    pub explanation: Vec<Story>,
    /// What was not verified.
    pub not_verified: Vec<String>,
}

/// The verdict that the oracles' answers add up to. No oracle at all proves nothing.
pub fn judge(oracles: &[Oracle]) -> Verdict {
    if oracles.iter().any(|o| o.finding == Finding::Fail) {
        Verdict::Diverged
    } else if oracles.is_empty() || oracles.iter().any(|o| o.finding == Finding::Unknown) {
        Verdict::NotProven
    } else {
        Verdict::Converged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_reads_like_a_success_says_why_it_is_none() {
        let oracle = |finding| {
            Oracle::new("vdiff", finding, "9 of 9 rows match")
                .with_evidence(vec!["t: cut short".into(), "u".into()])
        };
        assert_eq!(oracle(Finding::Unknown).in_a_line(), "vdiff: 9 of 9 rows match; t: cut short");
        assert_eq!(oracle(Finding::Pass).in_a_line(), "vdiff: 9 of 9 rows match");
        assert_eq!(Oracle::new("load", Finding::Unknown, "few").in_a_line(), "load: few");
    }

    #[test]
    fn a_pass_is_earned() {
        let oracle = |finding| Oracle::new("x", finding, "");
        assert_eq!(judge(&[]), Verdict::NotProven);
        assert_eq!(judge(&[oracle(Finding::Pass)]), Verdict::Converged);
        assert_eq!(judge(&[oracle(Finding::Pass), oracle(Finding::Unknown)]), Verdict::NotProven);
        assert_eq!(judge(&[oracle(Finding::Unknown), oracle(Finding::Fail)]), Verdict::Diverged);
    }
}
