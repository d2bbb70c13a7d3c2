//! What came of a campaign: how many runs ended how, and each cause of a failure once. Pure but for [`Summary::write`].

use std::fmt::Write as _;

use serde::Serialize;

use super::{Campaign, Outcome};
use crate::cause::Cause;
use crate::rehearsal::RehearsalError;
use crate::verdict::Verdict;

/// Seeds of a cause that are listed.
const MOST_SEEDS: usize = 20;

/// What came of all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The plan's name.
    pub plan: String,
    /// Product and version of the servers.
    pub server: String,
    /// The first seed.
    pub seed: u64,
    /// Runs that were asked for.
    pub asked: u64,
    /// Runs that ended.
    pub runs: usize,
    /// Those that converged.
    pub converged: usize,
    /// Those that diverged.
    pub diverged: usize,
    /// Those that proved nothing.
    pub not_proven: usize,
    /// Seconds of all runs together.
    pub seconds: f64,
    /// The median run's.
    pub median_seconds: f64,
    /// What the share of runs that diverge is below, with 95% confidence; only if none did.
    pub diverge_less_than: Option<f64>,
    /// Why runs did not converge: those that diverged first, the most frequent first.
    pub causes: Vec<Line>,
}

/// One cause.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// The cause.
    #[serde(flatten)]
    pub cause: Cause,
    /// The cause in words.
    pub text: String,
    /// Runs that ended for it.
    pub count: usize,
    /// The first such run's seed.
    pub first_seed: u64,
    /// All such seeds.
    pub seeds: Vec<u64>,
    /// The command that repeats the first one.
    pub replay: String,
    /// The share of all runs' time that these runs took.
    pub share_of_time: f64,
}

impl Summary {
    /// Adds outcomes up, which are sorted by seed.
    pub fn of(campaign: &Campaign, outcomes: &[Outcome]) -> Self {
        let of = |verdict| outcomes.iter().filter(|o| o.cause.verdict == verdict).count();
        // A sum of nothing is -0.
        let seconds = outcomes.iter().map(|o| o.seconds).fold(0.0, |sum, one| sum + one);
        let mut all: Vec<f64> = outcomes.iter().map(|o| o.seconds).collect();
        all.sort_by(f64::total_cmp);
        let (runs, diverged) = (outcomes.len(), of(Verdict::Diverged));
        Self {
            plan: campaign.plans.name(),
            server: campaign.server.info.to_string(),
            seed: campaign.seed,
            asked: campaign.runs,
            runs,
            converged: of(Verdict::Converged),
            diverged,
            not_proven: of(Verdict::NotProven),
            seconds,
            median_seconds: all.get(runs / 2).copied().unwrap_or_default(),
            // So many runs without one have a chance of 5% at that share.
            diverge_less_than: (diverged == 0 && runs > 0).then(|| 1.0 - 0.05_f64.powf(1.0 / runs as f64)),
            causes: causes(outcomes, seconds, |seed| campaign.replay(seed)),
        }
    }

    /// For people: Markdown that reads well as it is.
    pub fn to_markdown(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "# Campaign {} on {}\n\n{} of {} runs, from seed {}: {} converged, {} diverged, {} not proven.",
            self.plan,
            self.server,
            self.runs,
            self.asked,
            self.seed,
            self.converged,
            self.diverged,
            self.not_proven
        );
        if self.runs > 0 {
            let _ = writeln!(
                out,
                "A run took {:.1} s (median), all together {:.0} s.",
                self.median_seconds, self.seconds
            );
        }
        if let Some(share) = self.diverge_less_than {
            let _ = writeln!(
                out,
                "None diverged: with 95% confidence less than {:.1}% of such runs do.",
                share * 100.0
            );
        }
        for (number, line) in (1..).zip(&self.causes) {
            let listed: Vec<String> = line.seeds.iter().take(MOST_SEEDS).map(u64::to_string).collect();
            let more = if line.seeds.len() > MOST_SEEDS { ", …" } else { "" };
            let _ = write!(
                out,
                "\n{number}. {}\n   - runs: {}, {:.1}% of the time; seeds {}{more}\n   - replay: `{}`\n",
                line.text,
                line.count,
                line.share_of_time * 100.0,
                listed.join(", "),
                line.replay
            );
        }
        out
    }

    /// Writes `summary.md` and `summary.json` into the campaign's directory.
    pub fn write(&self, campaign: &Campaign) -> Result<(), RehearsalError> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default() + "\n";
        for (name, text) in [("summary.md", self.to_markdown()), ("summary.json", json)] {
            let path = campaign.directory.join(name);
            std::fs::write(&path, text).map_err(RehearsalError::io("writing", &path))?;
        }
        Ok(())
    }
}

fn causes(outcomes: &[Outcome], seconds: f64, replay: impl Fn(u64) -> String) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for outcome in outcomes.iter().filter(|o| o.cause.verdict != Verdict::Converged) {
        let share = outcome.seconds / seconds.max(f64::EPSILON);
        match lines.iter_mut().find(|line| line.cause == outcome.cause) {
            Some(line) => {
                line.count += 1;
                line.seeds.push(outcome.seed);
                line.share_of_time += share;
            }
            None => lines.push(Line {
                cause: outcome.cause.clone(),
                text: outcome.cause.to_string(),
                count: 1,
                first_seed: outcome.seed,
                seeds: vec![outcome.seed],
                replay: replay(outcome.seed),
                share_of_time: share,
            }),
        }
    }
    lines.sort_by_key(|l| (l.cause.verdict != Verdict::Diverged, std::cmp::Reverse(l.count), l.first_seed));
    lines
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cause::Sign;

    fn outcome(seed: u64, verdict: Verdict, oracle: &str) -> Outcome {
        let sign = Sign { oracle: oracle.into(), form: "# rows".into() };
        let signs = if oracle.is_empty() { BTreeSet::new() } else { BTreeSet::from([sign]) };
        Outcome { seed, seconds: 10.0, cause: Cause { verdict, signs } }
    }

    #[test]
    fn each_cause_is_told_once_with_its_first_seed() {
        let outcomes = [
            outcome(1, Verdict::NotProven, "load"),
            outcome(2, Verdict::Converged, ""),
            outcome(3, Verdict::Diverged, "bank"),
            outcome(4, Verdict::Diverged, "vdiff"),
            outcome(5, Verdict::Diverged, "vdiff"),
        ];
        let lines = causes(&outcomes, 50.0, |seed| format!("again {seed}"));
        let told: Vec<_> = lines.iter().map(|l| (l.text.as_str(), l.count, l.replay.as_str())).collect();
        let wanted = [
            ("diverged: vdiff (# rows)", 2, "again 4"),
            ("diverged: bank (# rows)", 1, "again 3"),
            ("not proven: load (# rows)", 1, "again 1"),
        ];
        assert_eq!(told, wanted);
        assert!((lines[0].share_of_time - 0.4).abs() < 1e-9 && lines[0].seeds == [4, 5]);
    }

    #[test]
    fn a_campaign_that_was_stopped_at_once_took_no_time() {
        let campaign = super::super::tests::campaign(super::super::Plans::Standard, "runs".into());
        let summary = Summary::of(&campaign, &[]);
        assert!(summary.seconds.is_sign_positive());
        let text = summary.to_markdown();
        assert!(text.contains("0 of 3 runs") && !text.contains("-0") && !text.contains("took"), "{text}");
        let text = Summary::of(&campaign, &[outcome(1, Verdict::Converged, "")]).to_markdown();
        assert!(text.contains("took 10.0 s (median), all together 10 s"), "{text}");
    }

    #[test]
    fn an_outcome_reads_back() {
        for outcome in [outcome(u64::MAX, Verdict::Diverged, "bank"), outcome(1, Verdict::Converged, "")] {
            let text = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&text).unwrap(), outcome);
        }
    }
}
