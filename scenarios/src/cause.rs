//! Why a run failed, in a form in which two runs can be compared: the verdict, the oracles that decided it, and what
//! each of them pointed at, without the numbers, keys, names and positions that differ from run to run. Pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::verdict::{Finding, Oracle, RunReport, Verdict};

/// Characters of a sign's form at the most: an error that quotes half a log is told by its beginning.
const MOST_CHARACTERS: usize = 160;

/// One thing that an oracle pointed at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sign {
    /// The oracle.
    pub oracle: String,
    /// Its evidence without what differs from run to run.
    pub form: String,
}

/// Why a run ended as it did. Two runs with equal causes failed alike; a run that converged has no signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The verdict.
    pub verdict: Verdict,
    /// What the oracles that decided it pointed at.
    pub signs: BTreeSet<Sign>,
}

impl Cause {
    /// The cause of a run's verdict.
    pub fn of(report: &RunReport) -> Self {
        let deciding = match report.verdict {
            Verdict::Converged => return Self { verdict: report.verdict, signs: BTreeSet::new() },
            Verdict::Diverged => Finding::Fail,
            Verdict::NotProven => Finding::Unknown,
        };
        let oracles = report.oracles.iter().filter(|o| o.finding == deciding);
        let signs = oracles.flat_map(|oracle| {
            let name = oracle.name.clone();
            forms(oracle, report).into_iter().map(move |form| Sign { oracle: name.clone(), form })
        });
        Self { verdict: report.verdict, signs: signs.collect() }
    }

    /// The oracles that spoke.
    pub fn oracles(&self) -> BTreeSet<&str> {
        self.signs.iter().map(|sign| sign.oracle.as_str()).collect()
    }

    /// Whether this is the other cause, or a part of it: the same verdict, and no sign that the other has not. A smaller
    /// plan that fails like a larger one often shows less of it, but nothing new.
    pub fn is_part_of(&self, other: &Self) -> bool {
        self.verdict == other.verdict && self.signs.is_subset(&other.signs)
    }

    /// How this cause, of a run that was repeated, stands to that of the `saved` one.
    pub fn against(&self, saved: &Self) -> String {
        if self == saved {
            return match self.verdict {
                Verdict::Converged => "as the saved run: converged".into(),
                _ => format!("the same cause as in the saved run: {self}"),
            };
        }
        if self.verdict != saved.verdict || self.signs.is_disjoint(&saved.signs) {
            return format!("another cause than in the saved run\n  saved: {saved}\n  now: {self}");
        }
        let only = |one: &Self, other: &Self| {
            let signs = one.signs.difference(&other.signs).cloned().collect();
            Self { verdict: one.verdict, signs }.in_words("nothing")
        };
        let both =
            Self { verdict: self.verdict, signs: self.signs.intersection(&saved.signs).cloned().collect() };
        format!(
            "in part the same cause as in the saved run: {both}\n  only in the saved run: {}\n  only now: {}",
            only(saved, self),
            only(self, saved)
        )
    }

    fn in_words(&self, none: &str) -> String {
        let by_oracle = self.oracles().into_iter().map(|oracle| {
            let forms = self.signs.iter().filter(|s| s.oracle == oracle).map(|s| s.form.as_str());
            format!("{oracle} ({})", forms.collect::<Vec<_>>().join("; "))
        });
        let text = by_oracle.collect::<Vec<_>>().join(", ");
        if text.is_empty() { none.to_owned() } else { text }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signs.is_empty() {
            true => write!(f, "{}", self.verdict.words()),
            false => write!(f, "{}: {}", self.verdict.words(), self.in_words("")),
        }
    }
}

/// What an oracle pointed at.
fn forms(oracle: &Oracle, report: &RunReport) -> BTreeSet<String> {
    // Rows are named by their keys, whose values can hold anything: their counts tell the kinds of differences safely.
    if oracle.name == "vdiff" && oracle.finding == Finding::Fail {
        let kinds = differences(report);
        if !kinds.is_empty() {
            return kinds;
        }
    }
    match oracle.evidence.is_empty() {
        true => BTreeSet::from([form(&oracle.detail)]),
        false => oracle.evidence.iter().map(|line| form(line)).collect(),
    }
}

fn differences(report: &RunReport) -> BTreeSet<String> {
    let tables = report.vdiff.iter().flat_map(|v| &v.tables);
    let kinds = tables.flat_map(|t| {
        [
            (t.mismatched_rows, "rows differ"),
            (t.extra_rows_source, "rows are missing on the target"),
            (t.extra_rows_target, "rows are on the target only"),
        ]
    });
    kinds.filter(|(rows, _)| *rows > 0).map(|(_, kind)| kind.to_owned()).collect()
}

/// A text without what differs from run to run: words with digits and paths become `#`, quoted text `…`.
fn form(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in without_quoted(text).split_whitespace() {
        let word = without_number(word);
        // A list of numbers has no fixed length.
        let listed = word.starts_with('#') && words.last().is_some_and(|last| last == "#" || last == "#,");
        if listed {
            words.pop();
        }
        words.push(word);
    }
    words.join(" ").chars().take(MOST_CHARACTERS).collect()
}

fn without_number(word: &str) -> String {
    if !word.starts_with('/') && !word.contains(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    let end = word.trim_end_matches([',', ';', ':', '.', ')']);
    let named = end.split_once('=').filter(|(name, _)| !name.contains(|c: char| c.is_ascii_digit()));
    let name = named.map(|(name, _)| format!("{name}=")).unwrap_or_default();
    format!("{name}#{}", &word[end.len()..])
}

/// What stands in quotes becomes `…`. A quote inside a word is an apostrophe.
fn without_quoted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"', '`']) {
        let (before, quoted) = rest.split_at(at);
        out.push_str(before);
        let quote = &quoted[..1];
        let begins = !before.ends_with(char::is_alphanumeric);
        match quoted[1..].find(quote).filter(|_| begins) {
            Some(length) => {
                out.push('…');
                rest = &quoted[length + 2..];
            }
            None => {
                out.push_str(quote);
                rest = &quoted[1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests;
