//! Oracles over the samples of the mover's state: positions that never go back, and a target that catches up after
//! every fault.

use std::time::Duration;

use converge_chaos::history::{Entry, Event, Phase};
use converge_mysql::Position;

use super::MOST_EVIDENCE;
use super::commits::Commits;
use crate::scenario::{FaultKind, SPACE};
use crate::verdict::{Finding, Oracle};

/// What the mover said of itself, collected entry by entry.
#[derive(Debug, Default)]
pub struct Progress {
    looks: u64,
    applied: Option<(u64, Position)>,
    /// The same, as read on the target in the readings' snapshots.
    read: Option<(u64, Position)>,
    went_back: Vec<String>,
    /// A fault that was injected and is not healed yet.
    broken: Option<String>,
    waits: Vec<Wait>,
    copied: bool,
}

/// A wait for the target to reach what the source had when a fault was healed, or when the copy ended.
#[derive(Debug)]
struct Wait {
    after: String,
    since: u64,
    /// How long it had gone on when a fault interrupted it.
    waited: u64,
    /// How long it may last, whatever the bound is.
    allowed: Duration,
    /// Whether a reading was recorded since; that one may have begun before.
    begun: bool,
    goal: Option<Position>,
    reached: Option<u64>,
}

impl Progress {
    /// Takes the next entry of a history.
    pub fn see(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Fault { fault, phase: Phase::Inject, .. } => {
                self.broken = Some(fault.clone());
                self.open().for_each(|wait| wait.interrupt(entry.at_us));
            }
            Event::Fault { fault, phase: Phase::Healed, .. } => self.healed(fault, entry.at_us),
            Event::Reading(reading) => {
                let parsed = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
                let (source, position) = (parsed(&reading.source), parsed(&reading.position));
                if self.broken.is_none() {
                    self.open().for_each(|wait| wait.see(entry.at_us, source.as_ref(), position.as_ref()));
                }
                advance(&mut self.read, entry.at_us, position, &mut self.went_back);
            }
            Event::Sample(sample) => {
                if sample.state == "replicating" && !self.copied {
                    self.copied = true;
                    self.waits.push(Wait::new("the end of the copy", entry.at_us));
                }
                let applied = sample.applied_position.as_deref().and_then(|text| text.parse().ok());
                self.looks += u64::from(applied.is_some());
                for wait in self.open() {
                    match sample.state.as_str() {
                        // A copy may hold the stream up by right; how long it takes is not a matter of faults.
                        "copying" => wait.since = entry.at_us,
                        // Writes are fenced, and everything before the fence is there.
                        "switched" => wait.reached = Some(entry.at_us),
                        _ => {}
                    }
                }
                advance(&mut self.applied, entry.at_us, applied, &mut self.went_back);
            }
            _ => {}
        }
    }

    /// The waits whose goals are not reached.
    fn open(&mut self) -> impl Iterator<Item = &mut Wait> {
        self.waits.iter_mut().filter(|wait| wait.reached.is_none())
    }

    /// First the server is as it was, and then the mover is back: before that it may not even have noticed, and the fault's
    /// own wait begins once more. What else is waited for began before the fault, which is not to be charged to it; how long
    /// the mover takes to be back is.
    fn healed(&mut self, fault: &str, at: u64) {
        let least = if fault == FaultKind::DiskFull.name() { SPACE } else { Duration::ZERO };
        if self.broken.as_deref() == Some(fault) {
            self.broken = None;
            self.open().for_each(|wait| wait.again(at, least));
            self.waits.push(Wait::new(fault, at));
        }
        if let Some(own) = self.waits.iter_mut().rfind(|wait| wait.after == fault) {
            own.again(at, least);
        }
    }

    /// Whether what was applied only ever grew, by the looks at it and by the target's log, if that is there to be read.
    pub fn checkpoint(&self, log: Option<&Result<Commits, String>>) -> Oracle {
        let commits = log.and_then(|log| log.as_ref().ok());
        let went_back: Vec<&String> =
            self.went_back.iter().chain(commits.iter().flat_map(|log| &log.went_back)).collect();
        let logged = match log {
            None => String::new(),
            Some(Ok(commits)) => {
                let lack = commits.since.lack().map(|why| format!(", which {why}")).unwrap_or_default();
                format!(" and {} commits in the target's log{lack}{}", commits.seen, commits.torn.remark())
            }
            Some(Err(why)) => format!("; the target's log cannot be read: {why}"),
        };
        let whole = |commits: &Commits| commits.seen > 0 && commits.since.lack().is_none();
        let shown = self.looks > 0 && log.is_none_or(|log| log.as_ref().is_ok_and(whole));
        let (finding, detail) = match (went_back.is_empty(), shown) {
            (false, _) => {
                (Finding::Fail, format!("the applied position went back {} times", went_back.len()))
            }
            (true, shown) => (
                if shown { Finding::Pass } else { Finding::Unknown },
                format!("the applied position never went back in {} looks at it{logged}", self.looks),
            ),
        };
        let evidence = went_back.into_iter().take(MOST_EVIDENCE).cloned().collect();
        Oracle::new("checkpoint", finding, detail).with_evidence(evidence)
    }

    /// Whether the target caught up within `bound` after each fault. That it did not is no evidence of a difference.
    pub fn liveness(&self, bound: Duration) -> Oracle {
        let seconds = |us: u64| us as f64 / 1e6;
        let mut longest = 0;
        let mut late = Vec::new();
        for wait in &self.waits {
            match wait.reached.map(|at| at.saturating_sub(wait.since).max(wait.waited)) {
                Some(took) if u128::from(took) <= bound.max(wait.allowed).as_micros() => {
                    longest = longest.max(took)
                }
                Some(took) => late.push(format!("after {} it took {:.1} s", wait.after, seconds(took))),
                None => late.push(format!("after {} it was never seen to", wait.after)),
            }
        }
        if let Some(fault) = &self.broken {
            late.push(format!("{fault} was never healed"));
        }
        let finding = if late.is_empty() && self.copied { Finding::Pass } else { Finding::Unknown };
        let detail = match finding {
            Finding::Pass => format!(
                "the target caught up with the source {} times, within {:.1} s each",
                self.waits.len(),
                seconds(longest)
            ),
            _ if late.is_empty() => "the copy was not seen to end".into(),
            _ => format!("the target did not catch up within {} s", bound.as_secs()),
        };
        Oracle::new("liveness", finding, detail).with_evidence(late)
    }
}

impl Wait {
    fn new(after: &str, since: u64) -> Self {
        let after = after.to_owned();
        Self { after, since, waited: 0, allowed: Duration::ZERO, begun: false, goal: None, reached: None }
    }

    /// Begins anew, with at least so long to last.
    fn again(&mut self, at: u64, least: Duration) {
        let (waited, allowed) = (self.waited, self.allowed.max(least));
        *self = Self { waited, allowed, ..Self::new(&self.after, at) };
    }

    fn interrupt(&mut self, at: u64) {
        self.waited = self.waited.max(at.saturating_sub(self.since));
    }

    fn see(&mut self, at: u64, source: Option<&Position>, applied: Option<&Position>) {
        if !std::mem::replace(&mut self.begun, true) {
            return;
        }
        if self.goal.is_none() {
            self.goal = source.cloned();
        }
        if let (Some(goal), Some(applied)) = (&self.goal, applied)
            && applied.covers(goal) == Some(true)
        {
            self.reached = Some(at);
        }
    }
}

fn advance(last: &mut Option<(u64, Position)>, at: u64, now: Option<Position>, went_back: &mut Vec<String>) {
    let Some(now) = now else { return };
    if let Some((before_at, before)) = last
        && now.covers(before) != Some(true)
    {
        let seconds = |us: u64| us as f64 / 1e6;
        went_back.push(format!(
            "at {:.1} s {before} was applied, at {:.1} s only {now}",
            seconds(*before_at),
            seconds(at)
        ));
    }
    *last = Some((at, now));
}

#[cfg(test)]
mod tests {
    use converge_chaos::history::{Reading, Sample};

    use super::*;
    use crate::oracle::logs::Since;

    fn sample(state: &str, applied: u64) -> Event {
        let applied_position = Some(format!("file:log.1:{applied}"));
        Event::Sample(Sample { state: state.into(), applied_position, ..Sample::default() })
    }

    fn reading(source: u64, applied: u64) -> Event {
        let position = |n| Some(format!("file:log.1:{n}"));
        Event::Reading(Reading {
            position: position(applied),
            source: position(source),
            ..Reading::default()
        })
    }

    fn fault(phase: Phase) -> Event {
        named("kill_source", phase)
    }

    fn named(fault: &str, phase: Phase) -> Event {
        Event::Fault { fault: fault.into(), phase, detail: String::new() }
    }

    fn progress(events: Vec<Event>) -> Progress {
        let mut progress = Progress::default();
        for (second, event) in (0u64..).zip(events) {
            progress.see(&Entry { at_us: second * 1_000_000, event });
        }
        progress
    }

    const BOUND: Duration = Duration::from_secs(3);

    #[test]
    fn a_position_that_goes_back_is_named() {
        let steady = progress(vec![sample("copying", 5), sample("copying", 5), sample("copying", 6)]);
        assert_eq!(steady.checkpoint(None).finding, Finding::Pass);
        let back = progress(vec![sample("copying", 5), sample("copying", 4)]).checkpoint(None);
        assert_eq!(back.finding, Finding::Fail);
        assert!(back.evidence[0].contains("log.1:5") && back.evidence[0].contains("log.1:4"), "{back:?}");
        assert_eq!(progress(vec![]).checkpoint(None).finding, Finding::Unknown);
    }

    #[test]
    fn the_targets_log_shows_what_no_look_has_seen() {
        let steady = progress(vec![sample("copying", 5), sample("copying", 6)]);
        let with = |log: Result<Commits, String>| steady.checkpoint(Some(&log));
        let whole = || Commits { seen: 7, since: Since::Whole, ..Commits::default() };
        assert_eq!(with(Ok(whole())).finding, Finding::Pass);
        let back = with(Ok(Commits { went_back: vec!["at log.1:9".into()], ..whole() }));
        assert_eq!((back.finding, back.evidence.len()), (Finding::Fail, 1));
        // What was not read proves nothing.
        assert_eq!(with(Ok(Commits::default())).finding, Finding::Unknown);
        assert_eq!(with(Err("gone".into())).finding, Finding::Unknown);
        for since in [Since::Cut, Since::Wiped] {
            assert_eq!(with(Ok(Commits { since, ..whole() })).finding, Finding::Unknown);
        }
    }

    #[test]
    fn a_target_must_catch_up_after_every_fault_within_the_bound() {
        let copied = || vec![sample("copying", 1), sample("replicating", 5), reading(5, 4), reading(5, 5)];
        let after = |more: Vec<Event>| progress(copied().into_iter().chain(more).collect()).liveness(BOUND);
        assert_eq!(after(vec![]).finding, Finding::Pass);
        let broken = || vec![fault(Phase::Inject), fault(Phase::Healed)];
        let with = |more: &[Event]| after(broken().into_iter().chain(more.iter().cloned()).collect());
        assert_eq!(with(&[reading(7, 7), reading(9, 8), reading(20, 9)]).finding, Finding::Pass);
        // The first reading may have looked at the source before the fault was healed.
        assert_eq!(with(&[reading(7, 7), reading(9, 8)]).finding, Finding::Unknown);
        assert_eq!(with(&[reading(9, 8), sample("switched", 9)]).finding, Finding::Pass);
        let slow = reading(9, 8);
        let late = with(&[slow.clone(), slow.clone(), slow.clone(), slow, reading(9, 9)]);
        assert!(late.finding == Finding::Unknown && late.evidence[0].contains("kill_source"), "{late:?}");
        assert_eq!(with(&[reading(9, 8)]).finding, Finding::Unknown);
        // Caught up before the mover noticed, and not since it is back.
        let back = [reading(9, 9), reading(9, 9), fault(Phase::Healed), reading(9, 9), reading(12, 9)];
        assert_eq!(with(&back).finding, Finding::Unknown);
        assert_eq!(with(&[&back[..], &[reading(15, 12)]].concat()).finding, Finding::Pass);
        assert_eq!(after(vec![fault(Phase::Inject)]).finding, Finding::Unknown);
        assert_eq!(progress(vec![sample("copying", 5)]).liveness(BOUND).finding, Finding::Unknown);
    }

    #[test]
    fn how_long_a_fault_lasts_is_charged_to_no_earlier_wait() {
        let copied = || vec![sample("copying", 1), sample("replicating", 5)];
        let last = |n: usize| vec![reading(9, 8); n];
        let run = |parts: &[Vec<Event>]| progress([copied(), parts.concat()].concat()).liveness(BOUND);
        let (inject, healed) = (vec![fault(Phase::Inject)], vec![fault(Phase::Healed)]);
        let caught_up = || vec![reading(9, 9), reading(9, 9)];
        let long = run(&[inject.clone(), last(9), healed.clone(), caught_up()]);
        assert_eq!(long.finding, Finding::Pass, "{long:?}");
        // How long the mover takes to be back is.
        let slow = run(&[inject.clone(), healed.clone(), last(9), healed.clone(), caught_up()]);
        assert!(slow.finding == Finding::Unknown && slow.evidence[0].contains("end of the copy"), "{slow:?}");
        let quick = run(&[inject.clone(), healed.clone(), last(1), caught_up(), healed.clone(), caught_up()]);
        assert_eq!(quick.finding, Finding::Pass, "{quick:?}");
        // What was too late before the fault stays so.
        let late = run(&[last(5), inject.clone(), healed.clone(), caught_up()]);
        assert!(late.finding == Finding::Unknown && late.evidence[0].contains("end of the copy"), "{late:?}");
        let never = run(&[inject, last(9), healed, last(2)]);
        assert_eq!((never.finding, never.evidence.len()), (Finding::Unknown, 2), "{never:?}");
    }

    #[test]
    fn after_a_full_disk_servers_look_for_space_in_their_own_time() {
        let after = |name: &str| {
            let healed = [named(name, Phase::Inject), named(name, Phase::Healed)];
            let events = [sample("copying", 1), sample("replicating", 5)].into_iter().chain(healed);
            progress(events.chain(vec![reading(9, 8); 9]).chain([reading(9, 9)]).collect()).liveness(BOUND)
        };
        assert_eq!(after("disk_full").finding, Finding::Pass);
        assert_eq!(after("kill_target").finding, Finding::Unknown);
    }
}
