//! A run that its time limit ended: said once, with how far it had come, and with what was therefore not decided.

use std::time::Duration;

use converge_chaos::history::{Entry, Event, Phase};
use converge_vdiff::report::show::grouped;

use super::UNDECIDED;
use crate::verdict::{FaultReport, Finding, Oracle};

/// The name of the oracle that says so.
pub const NAME: &str = "time_limit";
/// What an oracle could not tell because of, when the run was ended.
const WHY: &str = "the time limit ended the run first";

/// How far a run had come, by its history.
#[derive(Debug, Default)]
pub struct Reached {
    /// Rows copied, and rows to copy, when the mover was asked last.
    copied: Option<(u64, u64)>,
    /// Why the mover did not go on then.
    complaint: Option<String>,
    /// The fault that was injected and is not undone.
    fault: Option<FaultReport>,
}

impl Reached {
    /// Takes the next entry of a history.
    pub fn see(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Sample(sample) => {
                self.copied = Some((sample.rows_copied, sample.rows_estimated));
                self.complaint.clone_from(&sample.error);
            }
            Event::Fault { fault, phase, detail } => match (phase, &mut self.fault) {
                (Phase::Inject, _) => {
                    let injected_at = entry.at_us as f64 / 1e6;
                    let fault = fault.clone();
                    self.fault = Some(FaultReport { fault, injected_at, observed: None, healed_at: None });
                }
                (Phase::Observed, Some(open)) => open.observed = Some(detail.clone()),
                (Phase::Healed, open) => *open = None,
                _ => {}
            },
            _ => {}
        }
    }

    /// The fault that was going on at the end. `reported`: those that came to their own end, undone or not.
    pub fn fault(&mut self, reported: &[FaultReport]) -> Option<FaultReport> {
        // One that was reported without being undone was the last.
        self.fault.take().filter(|_| reported.last().is_none_or(|last| last.healed_at.is_some()))
    }

    /// What ended the run.
    pub fn oracle(&self, limit: Duration) -> Oracle {
        let seconds = limit.as_secs_f64();
        let when = match self.copied {
            None => "before rows were copied".to_owned(),
            Some((copied, rows)) if copied >= rows => format!("when all {} rows were copied", grouped(rows)),
            Some((copied, rows)) => {
                format!("while {} of {} rows were copied", grouped(copied), grouped(rows))
            }
        };
        let way_out = match &self.complaint {
            Some(why) => format!("the mover did not go on: {why}"),
            None => "raise limit_seconds or rerun on an idle machine".into(),
        };
        let detail = format!(
            "the time limit of {seconds} s (`limit_seconds` in the scenario) ended the run {when}; {way_out}"
        );
        Oracle::new(NAME, Finding::Unknown, detail)
    }
}

/// Has the oracles that could not tell say why. What they had to say is kept as evidence; that of the faults stands.
pub fn blame(oracles: &mut [Oracle], silent: &str) {
    let other = |o: &&mut Oracle| ![NAME, "faults"].contains(&o.name.as_str());
    for oracle in oracles.iter_mut().filter(other).filter(|o| o.finding == Finding::Unknown) {
        let said = std::mem::replace(&mut oracle.detail, format!("{UNDECIDED}{WHY}"));
        if said != silent && !said.starts_with(UNDECIDED) {
            oracle.evidence.insert(0, said);
        }
    }
}

/// A line for each oracle, in the words of `say`, and one for all those together that could not decide because of what
/// another one tells.
pub fn lines<'a>(oracles: impl Iterator<Item = &'a Oracle>, say: impl Fn(&Oracle) -> String) -> Vec<String> {
    let (undecided, others): (Vec<&Oracle>, Vec<&Oracle>) =
        oracles.partition(|o| o.detail.starts_with(UNDECIDED));
    let mut lines: Vec<String> = others.into_iter().map(say).collect();
    if !undecided.is_empty() {
        let names: Vec<&str> = undecided.iter().map(|o| o.name.as_str()).collect();
        lines.push(format!("therefore not decided: {}", names.join(", ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use converge_chaos::history::Sample;

    use super::*;

    fn reached(events: Vec<Event>) -> Reached {
        let mut reached = Reached::default();
        for (at, event) in (1..).zip(events) {
            reached.see(&Entry { at_us: at * 10_000_000, event });
        }
        reached
    }

    fn fault(phase: Phase) -> Event {
        Event::Fault { fault: "network_down".into(), phase, detail: "gone".into() }
    }

    #[test]
    fn a_fault_that_the_limit_cut_short_was_injected() {
        let mut open = reached(vec![fault(Phase::Inject), fault(Phase::Observed)]);
        let report = open.fault(&[]).unwrap();
        assert_eq!((report.fault.as_str(), report.injected_at), ("network_down", 10.0));
        assert_eq!((report.observed.as_deref(), report.healed_at), (Some("gone"), None));
        let mut undone = reached(vec![fault(Phase::Inject), fault(Phase::Observed), fault(Phase::Healed)]);
        assert_eq!(undone.fault(&[]), None);
        // It came to its end without being undone: that is reported already.
        assert_eq!(reached(vec![fault(Phase::Inject)]).fault(&[report]), None);
    }

    #[test]
    fn the_limit_is_said_once_with_how_far_the_run_had_come() {
        let sample = Sample { rows_copied: 1234, rows_estimated: 3000, ..Sample::default() };
        let error = Some("the source is read-only".to_owned());
        let stuck = Event::Sample(Sample { error, ..sample.clone() });
        let told = reached(vec![stuck.clone()]).oracle(Duration::from_secs(60)).detail;
        assert!(told.ends_with("were copied; the mover did not go on: the source is read-only"), "{told}");
        let limit = reached(vec![stuck, Event::Sample(sample)]).oracle(Duration::from_secs(60));
        for words in ["limit of 60 s (`limit_seconds`", "while 1,234 of 3,000 rows were copied", "raise"] {
            assert!(limit.detail.contains(words), "{}", limit.detail);
        }
        let unknown = |name: &str, said: &str| Oracle::new(name, Finding::Unknown, said);
        let mut oracles =
            vec![limit, unknown("faults", "0 of 1"), unknown("bank", "silent"), unknown("load", "few")];
        oracles.push(Oracle::new("history", Finding::Pass, "whole"));
        blame(&mut oracles, "silent");
        let said = |o: &Oracle| format!("{}: {}", o.name, o.detail);
        let lines = lines(oracles.iter().filter(|o| o.finding == Finding::Unknown), said);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[1..], ["faults: 0 of 1", "therefore not decided: bank, load"]);
        assert_eq!((&oracles[2].evidence[..], &oracles[3].evidence[..]), (&[][..], &["few".to_owned()][..]));
    }
}
