//! A history as a timeline: what happened in each of a bounded number of equal spans of time. Read entry by entry;
//! memory grows with neither the run's length nor its statements, save for the acknowledgements' times.

use std::path::Path;

use converge_chaos::history::{self, Entry, Event, Phase, Sample};

use crate::oracle::Statements;

/// The narrowest bucket, in microseconds.
const NARROWEST: u64 = 500_000;
/// Buckets at the most; a longer run gets wider ones.
const MOST_BUCKETS: u64 = 300;

/// What happened in one span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bucket {
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Statements refused.
    pub refused: u64,
    /// Statements whose answer was lost.
    pub unknown: u64,
    /// The largest lag seen, seconds; absent while unknown.
    pub lag: Option<f64>,
    /// Rows copied by the end of it; absent while unknown.
    pub copied: Option<u64>,
}

impl Bucket {
    /// What happened here and in the next one together.
    fn then(self, next: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + next.acknowledged,
            refused: self.refused + next.refused,
            unknown: self.unknown + next.unknown,
            lag: self.lag.into_iter().chain(next.lag).reduce(f64::max),
            copied: next.copied.or(self.copied),
        }
    }
}

/// One fault, from its injection on. Times are microseconds since the run began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Band {
    /// The fault's name.
    pub fault: String,
    /// When it was injected.
    pub injected: u64,
    /// When its effect was first seen.
    pub observed: Option<u64>,
    /// When it was last said to be undone.
    pub healed: Option<u64>,
    /// The latest evidence of its effect.
    pub evidence: String,
}

/// A change of the mover's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it was first seen, microseconds since the run began.
    pub at: u64,
    /// The new state.
    pub state: String,
}

/// A run over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Microseconds that a bucket covers.
    pub width: u64,
    /// The buckets, from the run's beginning on, without a gap.
    pub buckets: Vec<Bucket>,
    /// The faults, by injection.
    pub bands: Vec<Band>,
    /// The mover's states.
    pub changes: Vec<Change>,
    /// When the last entry was written, microseconds since the run began.
    pub end: u64,
    /// Rows to copy, by the latest estimate.
    pub rows_estimated: u64,
    /// Why the history could not be read to its end.
    pub trouble: Option<String>,
}

impl Timeline {
    /// Reads a history file. Trouble on the way is told in the result, which then holds what came before.
    pub fn read(path: &Path) -> Self {
        match history::read(path) {
            Ok(mut entries) => {
                let mut timeline = Self::of(&mut entries);
                if let Some(line) = entries.torn() {
                    timeline
                        .trouble
                        .get_or_insert(format!("line {line} is unfinished: the writer was stopped"));
                }
                timeline
            }
            Err(e) => Self { trouble: Some(e.to_string()), ..Self::new() },
        }
    }

    fn new() -> Self {
        Self {
            width: NARROWEST,
            buckets: Vec::new(),
            bands: Vec::new(),
            changes: Vec::new(),
            end: 0,
            rows_estimated: 0,
            trouble: None,
        }
    }

    /// Reads entries up to their end or the first that is an error.
    pub fn of(entries: impl IntoIterator<Item = Result<Entry, converge_chaos::Error>>) -> Self {
        let mut timeline = Self::new();
        // What counts as acknowledged is decided in one place, for the chart and for the oracles.
        let mut statements = Statements::default();
        for entry in entries {
            match entry {
                Ok(entry) => {
                    timeline.see(&entry);
                    statements.see(entry);
                }
                Err(e) => {
                    timeline.trouble = Some(e.to_string());
                    break;
                }
            }
        }
        let tally = statements.finish();
        let mut from = 0u64;
        for bucket in &mut timeline.buckets {
            let to = from.saturating_add(timeline.width);
            bucket.acknowledged = tally.acknowledged_between(from, to - 1);
            from = to;
        }
        timeline
    }

    /// Seconds of the run that the bucket `index` covers. `None`: the run ended so soon after its beginning that a rate
    /// would come out of nothing.
    pub fn seconds(&self, index: usize) -> Option<f64> {
        let width = self.width as f64;
        let covered = self.end as f64 - index as f64 * width;
        (covered >= width / 4.0).then(|| covered.min(width) / 1e6)
    }

    fn see(&mut self, entry: &Entry) {
        let at = entry.at_us;
        self.end = self.end.max(at);
        let bucket = self.bucket(at);
        match &entry.event {
            Event::Fail { .. } => bucket.refused += 1,
            Event::Info { .. } => bucket.unknown += 1,
            Event::Sample(sample) => self.sample(at, sample),
            Event::Fault { fault, phase, detail } => self.fault(at, fault, *phase, detail),
            Event::Run { .. }
            | Event::Invoke(_)
            | Event::Ok { .. }
            | Event::Reading(_)
            | Event::Note { .. } => {}
        }
    }

    fn bucket(&mut self, at: u64) -> &mut Bucket {
        while at / self.width >= MOST_BUCKETS {
            self.buckets = self
                .buckets
                .chunks(2)
                .map(|pair| pair.iter().copied().fold(Bucket::default(), Bucket::then))
                .collect();
            self.width *= 2;
        }
        let index = (at / self.width) as usize;
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, Bucket::default());
        }
        &mut self.buckets[index]
    }

    fn sample(&mut self, at: u64, sample: &Sample) {
        let bucket = self.bucket(at);
        *bucket = bucket.then(Bucket {
            lag: sample.lag_seconds.map(|lag| lag.max(0.0)),
            copied: Some(sample.rows_copied),
            ..Bucket::default()
        });
        if sample.rows_estimated > 0 {
            self.rows_estimated = sample.rows_estimated;
        }
        if self.changes.last().is_none_or(|last| last.state != sample.state) {
            self.changes.push(Change { at, state: sample.state.clone() });
        }
    }

    fn fault(&mut self, at: u64, fault: &str, phase: Phase, detail: &str) {
        if phase == Phase::Inject {
            let band = Band {
                fault: fault.into(),
                injected: at,
                observed: None,
                healed: None,
                evidence: String::new(),
            };
            return self.bands.push(band);
        }
        // Several may see one fault bite or heal: who caused it, and who suffered it.
        let Some(band) = self.bands.iter_mut().rfind(|b| b.fault == fault) else { return };
        if phase == Phase::Observed {
            band.observed.get_or_insert(at);
            band.evidence = detail.into();
        } else {
            band.healed = Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use converge_chaos::history::{Invoke, Kind};

    use super::*;

    fn over(events: impl IntoIterator<Item = (u64, Event)>) -> Timeline {
        Timeline::of(events.into_iter().map(|(at_us, event)| Ok(Entry { at_us, event })))
    }

    fn insert(id: u64) -> Event {
        Event::Invoke(Invoke {
            id,
            session: 0,
            tx: None,
            kind: Kind::Insert,
            table: "customer".into(),
            sql: "INSERT".into(),
            keys: vec![],
            ledger: vec![],
        })
    }

    fn sample(state: &str, rows_copied: u64, lag_seconds: Option<f64>) -> Event {
        Event::Sample(Sample {
            state: state.into(),
            rows_copied,
            rows_estimated: 90,
            lag_seconds,
            ..Sample::default()
        })
    }

    #[test]
    fn each_entry_falls_into_the_bucket_of_its_time() {
        let timeline = over([
            (0, insert(1)),
            (NARROWEST - 1, Event::Ok { id: 1, affected: 1 }),
            (NARROWEST - 1, insert(2)),
            (NARROWEST, Event::Ok { id: 2, affected: 1 }),
            (NARROWEST, Event::Fail { id: 3, code: 1062, message: String::new() }),
            (NARROWEST, sample("copying", 5, Some(2.0))),
            (NARROWEST + 1, sample("copying", 7, Some(1.0))),
            (NARROWEST * 3, Event::Info { id: 4, message: String::new() }),
        ]);
        let expected = [
            Bucket { acknowledged: 1, ..Bucket::default() },
            Bucket { acknowledged: 1, refused: 1, lag: Some(2.0), copied: Some(7), ..Bucket::default() },
            Bucket::default(),
            Bucket { unknown: 1, ..Bucket::default() },
        ];
        assert_eq!(timeline.buckets, expected);
        assert_eq!((timeline.end, timeline.rows_estimated), (NARROWEST * 3, 90));
        assert_eq!([0, 2, 3].map(|i| timeline.seconds(i)), [Some(0.5), Some(0.5), None]);
    }

    #[test]
    fn a_long_run_gets_wider_buckets_and_loses_nothing() {
        let seconds = 3600u64;
        let events = (0..seconds).flat_map(|s| {
            let at = s * 1_000_000;
            [
                (at, insert(s)),
                (at, Event::Ok { id: s, affected: 1 }),
                (at, Event::Fail { id: s, code: 1, message: String::new() }),
                (at, sample("copying", s, Some(s as f64))),
            ]
        });
        let timeline = over(events);
        assert!(
            timeline.buckets.len() as u64 <= MOST_BUCKETS && timeline.buckets.len() as u64 > MOST_BUCKETS / 3
        );
        let sum = |what: fn(&Bucket) -> u64| timeline.buckets.iter().map(what).sum::<u64>();
        assert_eq!((sum(|b| b.acknowledged), sum(|b| b.refused)), (seconds, seconds));
        let last = timeline.buckets.last().unwrap();
        assert_eq!((last.copied, last.lag), (Some(seconds - 1), Some((seconds - 1) as f64)));
    }

    #[test]
    fn an_absurd_time_neither_hangs_nor_fills_memory() {
        let timeline = over([(0, insert(1)), (u64::MAX, Event::Ok { id: 1, affected: 1 })]);
        assert!(timeline.buckets.len() as u64 <= MOST_BUCKETS);
    }

    #[test]
    fn a_fault_lasts_until_it_was_last_said_to_be_healed() {
        let fault =
            |phase, detail: &str| Event::Fault { fault: "kill_source".into(), phase, detail: detail.into() };
        let timeline = over([
            (1, fault(Phase::Inject, "")),
            (2, fault(Phase::Observed, "gone")),
            (3, fault(Phase::Observed, "felt")),
            (4, fault(Phase::Healed, "")),
            (5, fault(Phase::Healed, "")),
            (6, fault(Phase::Inject, "")),
        ]);
        let first = &timeline.bands[0];
        assert_eq!(
            (first.injected, first.observed, first.healed, first.evidence.as_str()),
            (1, Some(2), Some(5), "felt")
        );
        let second = &timeline.bands[1];
        assert_eq!((second.injected, second.observed, second.healed), (6, None, None));
    }

    #[test]
    fn states_are_noted_when_they_change() {
        let timeline = over(
            ["copying", "copying", "replicating", "switched"]
                .into_iter()
                .zip(1u64..)
                .map(|(s, at)| (at, sample(s, 0, None))),
        );
        let seen: Vec<_> = timeline.changes.iter().map(|c| (c.at, c.state.as_str())).collect();
        assert_eq!(seen, [(1, "copying"), (3, "replicating"), (4, "switched")]);
    }

    #[test]
    fn a_history_that_cannot_be_read_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        assert!(Timeline::read(&path).trouble.is_some());
        std::fs::write(&path, "{\"at_us\":1,\"event\":\"note\",\"text\":\"a\"}\n{\"at_us\":2,").unwrap();
        let torn = Timeline::read(&path);
        assert!(torn.trouble.unwrap().contains("line 2") && torn.buckets.len() == 1);
        std::fs::write(&path, "{\"at_us\":9,\"event\":\"note\",\"text\":\"a\"}\nnonsense\n").unwrap();
        let bad = Timeline::read(&path);
        assert!(bad.trouble.is_some());
        assert_eq!(bad.end, 9);
    }
}
