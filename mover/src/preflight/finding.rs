//! Findings and the report that they make. The report's form is a contract with scripts: fields are added, never
//! renamed, and a finding's name never changes its meaning.

use serde::Serialize;

use super::{NOT_CHECKED, Request, Servers};
use crate::error::{Error, Result, Side};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It was looked at and is as it should be.
    Pass,
    /// The move may go on.
    Warn,
    /// The move could lose or alter rows.
    Refuse,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// The question, such as `binlog_row_image`.
    pub name: &'static str,
    /// The server it is about; `None`: both.
    pub side: Option<Side>,
    /// The table it is about, under its name on that server.
    pub table: Option<String>,
    /// What was found.
    pub what: String,
    /// The statement that fixes it, or what else to do; `None` for a pass.
    pub fix: Option<String>,
}

impl Finding {
    fn new(weight: Weight, name: &'static str, what: String, fix: Option<String>) -> Self {
        Self { weight, name, side: None, table: None, what, fix }
    }

    /// A question that was answered well.
    pub fn pass(name: &'static str, what: impl Into<String>) -> Self {
        Self::new(Weight::Pass, name, what.into(), None)
    }

    /// Something the operator should know.
    pub fn warn(name: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Weight::Warn, name, what.into(), Some(fix.into()))
    }

    /// Something with which the move is not begun.
    pub fn refuse(name: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(Weight::Refuse, name, what.into(), Some(fix.into()))
    }

    /// Says which server it is about.
    pub fn on(mut self, side: Side) -> Self {
        self.side = Some(side);
        self
    }

    /// Says which table it is about.
    pub fn of(mut self, table: impl Into<String>) -> Self {
        self.table = Some(table.into());
        self
    }
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of this form.
    pub format: u32,
    /// The heaviest weight.
    pub verdict: Weight,
    /// Product, version and address of the source, without password.
    pub source: String,
    /// The same of the target.
    pub target: String,
    /// The findings, heaviest first.
    pub findings: Vec<Finding>,
    /// What was not looked at.
    pub not_checked: Vec<String>,
}

impl Report {
    /// Sorts findings into a report.
    pub fn new(servers: &Servers<'_>, request: &Request, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|f| std::cmp::Reverse(f.weight));
        Self {
            format: 1,
            verdict: findings.first().map_or(Weight::Refuse, |f| f.weight),
            source: format!("{} at {}", servers.source.info, request.source),
            target: format!("{} at {}", servers.target.info, request.target),
            findings,
            not_checked: NOT_CHECKED.iter().map(ToString::to_string).collect(),
        }
    }

    /// How many findings have a weight.
    pub fn count(&self, weight: Weight) -> usize {
        self.findings.iter().filter(|f| f.weight == weight).count()
    }

    /// The findings' verdict as the beginning of a workflow sees it.
    pub fn judge(&self) -> Result<()> {
        let (passed, warned) = (self.count(Weight::Pass), self.count(Weight::Warn));
        tracing::info!(
            "preflight: {passed} checks passed, {warned} warnings; `converge move check` lists them"
        );
        judge(&self.findings)
    }
}

/// Turns findings into an error if one of them forbids the move; warnings are logged.
pub fn judge(findings: &[Finding]) -> Result<()> {
    let fix = |f: &Finding| f.fix.clone().unwrap_or_default();
    for finding in findings.iter().filter(|f| f.weight == Weight::Warn) {
        tracing::warn!("{}: {}; {}", finding.name, finding.what, fix(finding));
    }
    let refused: Vec<&Finding> = findings.iter().filter(|f| f.weight == Weight::Refuse).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let whats: Vec<String> = refused.iter().map(|f| f.what.clone()).collect();
    let fixes: Vec<String> = refused.iter().map(|f| fix(f)).collect();
    Err(Error::refused(whats.join("; "), fixes.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_forbids_the_move_and_says_all_of_them() {
        let (pass, warn) = (Finding::pass("a", "fine"), Finding::warn("b", "odd", "look"));
        assert!(judge(&[pass.clone(), warn.clone()]).is_ok());
        let refuse =
            |n: u8| Finding::refuse("c", format!("bad {n}"), format!("SET {n}")).on(Side::Source).of("t");
        let error = judge(&[refuse(1), pass, warn, refuse(2)]).unwrap_err();
        assert_eq!(error.to_string(), "refused: bad 1; bad 2");
    }
}
