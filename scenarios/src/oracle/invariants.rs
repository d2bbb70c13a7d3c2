//! Oracles over the readings of the target's tables with invariants: the sum of all accounts, the counters, the journal.
//!
//! A reading counts once the target is known to hold all of the copied rows at its position; before that, rows are
//! missing by right. Each oracle needs one such reading at least: none proves nothing.

use std::collections::BTreeMap;
use std::path::Path;

use converge_chaos::history::{self, Entry, Event, Reading, Settled, settle};
use converge_chaos::load::{ACCOUNTS, BALANCE, COUNTERS, Invariant, Names};
use converge_mysql::Position;

use super::{MOST_EVIDENCE, without_position};
use crate::verdict::{Finding, Oracle};

/// The readings that count, collected entry by entry.
#[derive(Debug, Default)]
pub struct Readings {
    /// The source's position when all rows were first known to be copied.
    complete_at: Option<Position>,
    counted: Vec<(u64, Reading)>,
}

impl Readings {
    /// Takes the next entry of a history.
    pub fn see(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Sample(sample) if self.complete_at.is_none() && has_all_rows(&sample.state) => {
                self.complete_at = sample.source_position.as_deref().and_then(|text| text.parse().ok());
            }
            Event::Reading(reading) => {
                let at = reading.position.as_deref().and_then(|text| text.parse::<Position>().ok());
                if let (Some(complete), Some(at)) = (&self.complete_at, at)
                    && at.covers(complete) == Some(true)
                {
                    self.counted.push((entry.at_us, reading.clone()));
                }
            }
            _ => {}
        }
    }

    /// Those in which a table was read.
    fn with(&self, has: impl Fn(&Reading) -> bool) -> Vec<(u64, Reading)> {
        self.counted.iter().filter(|(_, reading)| has(reading)).cloned().collect()
    }
}

/// Whether a workflow in this state has copied all rows.
fn has_all_rows(state: &str) -> bool {
    ["replicating", "switching", "switched", "completed"].contains(&state)
}

/// The oracles of the tables with invariants that are among `moved`. `proven`: the last reading has everything.
pub fn invariants(
    history: &Path,
    readings: &Readings,
    names: Names,
    moved: &[String],
    proven: bool,
) -> Vec<Oracle> {
    let is_moved = |invariant: Invariant| moved.contains(&names.of(invariant));
    let mut oracles = Vec::new();
    if is_moved(Invariant::Account) {
        let counted = readings.with(|reading| reading.accounts.is_some());
        oracles.push(judged("bank", &counted, proven, bank(&counted)));
    }
    for (invariant, name) in [(Invariant::Counter, "counters"), (Invariant::Journal, "journal")] {
        if !is_moved(invariant) {
            continue;
        }
        let table = names.of(invariant);
        oracles.push(match writes(history, &table) {
            Err(e) => Oracle::new(name, Finding::Unknown, format!("the history cannot be read: {e}")),
            Ok(writes) if invariant == Invariant::Counter => {
                let counted = readings.with(|reading| reading.counters.is_some());
                judged(name, &counted, proven, counters(&counted, &writes, proven))
            }
            Ok(writes) => {
                let counted = readings.with(|reading| reading.journal.is_some());
                judged(name, &counted, proven, journal(&counted, &writes, proven))
            }
        });
    }
    oracles
}

/// What an oracle says of its readings: the figures, what is wrong, and whether anything was there to be judged.
struct Judged {
    detail: String,
    wrong: Vec<String>,
    tried: bool,
}

fn judged(name: &str, counted: &[(u64, Reading)], proven: bool, judged: Judged) -> Oracle {
    let Judged { detail, wrong, tried } = judged;
    if counted.is_empty() {
        return Oracle::new(name, Finding::Unknown, "the target was never read after the copy");
    }
    let figures = format!("{detail} in {} readings of the target", counted.len());
    let (finding, detail) = match (wrong.is_empty(), proven, tried) {
        (false, ..) => (Finding::Fail, figures),
        (true, false, _) => return without_position(name, figures),
        (true, true, false) => (Finding::Unknown, format!("nothing was put to the test: {figures}")),
        (true, true, true) => (Finding::Pass, figures),
    };
    Oracle::new(name, finding, detail).with_evidence(wrong.into_iter().take(MOST_EVIDENCE).collect())
}

/// A write to a table with an invariant: when it was sent, and to which row.
type Write = (u64, u64);

fn writes(path: &Path, table: &str) -> Result<Settled<Write>, converge_chaos::Error> {
    settle(history::read(path)?, |at_us, invoke| {
        let ours = invoke.table == table;
        invoke.keys.iter().filter(|_| ours).filter_map(|key| Some((at_us, key.parse().ok()?))).collect()
    })
}

fn seconds(at_us: u64) -> String {
    format!("{:.1} s", at_us as f64 / 1e6)
}

fn when(at_us: u64, reading: &Reading) -> String {
    format!("at {}, applied up to {}", seconds(at_us), reading.position.as_deref().unwrap_or("nowhere"))
}

fn bank(readings: &[(u64, Reading)]) -> Judged {
    let sum = ACCOUNTS as i64 * BALANCE;
    let wrong = readings.iter().filter_map(|(at, reading)| {
        let (rows, found) = reading.accounts.filter(|accounts| *accounts != (ACCOUNTS, sum))?;
        Some(format!(
            "{} the target's {rows} of {ACCOUNTS} accounts held {found} together, not {sum}",
            when(*at, reading)
        ))
    });
    let wrong: Vec<String> = wrong.collect();
    Judged { detail: format!("{ACCOUNTS} accounts hold {sum} together"), wrong, tried: true }
}

fn counters(readings: &[(u64, Reading)], writes: &Settled<Write>, proven: bool) -> Judged {
    let mut wrong = Vec::new();
    let mut before: Option<&(u64, Reading)> = None;
    for now in readings {
        let values = now.1.counters.clone().unwrap_or_default();
        if values.len() as u64 != COUNTERS {
            wrong.push(format!("{} there were {} of {COUNTERS} counters", when(now.0, &now.1), values.len()));
        }
        for (id, value) in &values {
            let most = sent(writes, *id, now.0);
            if *value > most {
                wrong.push(format!(
                    "{} counter {id} stood at {value}, but only {most} increments had been sent",
                    when(now.0, &now.1)
                ));
            }
            let former = before.and_then(|(_, r)| value_of(r, *id));
            if let (Some(former), Some((at, _))) = (former.filter(|f| f > value), before) {
                wrong.push(format!(
                    "counter {id} fell from {former} at {} to {value} {}",
                    seconds(*at),
                    when(now.0, &now.1)
                ));
            }
        }
        before = Some(now);
    }
    if let Some((_, last)) = readings.last().filter(|_| proven) {
        for (id, acknowledged) in per_row(&writes.acknowledged) {
            let (found, open) = (value_of(last, id).unwrap_or(0), count(&writes.unknown, id));
            if found < acknowledged {
                wrong.push(format!(
                    "counter {id} ended at {found}; {acknowledged} increments were acknowledged"
                ));
            } else if found > acknowledged + open {
                wrong.push(format!(
                    "counter {id} ended at {found}; {acknowledged} increments were acknowledged, {open} of unknown outcome"
                ));
            }
        }
    }
    let all = writes.acknowledged.len();
    Judged {
        detail: format!("{all} acknowledged increments, {} of unknown outcome", writes.unknown.len()),
        wrong,
        tried: all > 0,
    }
}

fn journal(readings: &[(u64, Reading)], writes: &Settled<Write>, proven: bool) -> Judged {
    let mut wrong = Vec::new();
    for (at, reading) in readings {
        let gaps = reading.journal.iter().flat_map(|(_, gaps)| gaps);
        wrong.extend(gaps.map(|gap| format!("{} {gap}", when(*at, reading))));
    }
    let (acknowledged, open) = (writes.acknowledged.len() as u64, writes.unknown.len() as u64);
    if let Some((_, last)) = readings.last().filter(|_| proven) {
        let rows = last.journal.as_ref().map_or(0, |(rows, _)| *rows);
        if rows < acknowledged || rows > acknowledged + open {
            wrong.push(format!(
                "there are {rows} entries; {acknowledged} were acknowledged, {open} of unknown outcome"
            ));
        }
    }
    let detail = format!("{acknowledged} acknowledged entries, {open} of unknown outcome, without a gap");
    Judged { detail, wrong, tried: acknowledged > 0 }
}

fn value_of(reading: &Reading, counter: u64) -> Option<u64> {
    reading.counters.iter().flatten().find(|(id, _)| *id == counter).map(|(_, value)| *value)
}

/// Writes to a row that may hold, sent before a moment.
fn sent(writes: &Settled<Write>, row: u64, before_us: u64) -> u64 {
    let all = writes.acknowledged.iter().chain(&writes.unknown);
    all.filter(|(at, id)| *id == row && *at <= before_us).count() as u64
}

fn count(writes: &[Write], row: u64) -> u64 {
    writes.iter().filter(|(_, id)| *id == row).count() as u64
}

fn per_row(writes: &[Write]) -> BTreeMap<u64, u64> {
    let mut rows = BTreeMap::new();
    for (_, id) in writes {
        *rows.entry(*id).or_default() += 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    use converge_chaos::history::Sample;

    use super::*;

    const SUM: i64 = ACCOUNTS as i64 * BALANCE;

    fn reading(position: &str, first: u64) -> Reading {
        Reading {
            position: Some(position.into()),
            accounts: Some((ACCOUNTS, SUM)),
            counters: Some((1..=COUNTERS).map(|id| (id, if id == 1 { first } else { 0 })).collect()),
            journal: Some((2, vec![])),
            ..Reading::default()
        }
    }

    fn seen(events: Vec<Event>) -> Readings {
        let mut readings = Readings::default();
        for (at_us, event) in (0u64..).zip(events) {
            readings.see(&Entry { at_us, event });
        }
        readings
    }

    fn complete(position: &str) -> Event {
        let (state, source_position) = ("replicating".into(), Some(position.into()));
        Event::Sample(Sample { state, source_position, ..Sample::default() })
    }

    fn settled(acknowledged: usize, unknown: usize) -> Settled<Write> {
        Settled { acknowledged: vec![(0, 1); acknowledged], unknown: vec![(0, 1); unknown], absent: vec![] }
    }

    #[test]
    fn only_readings_after_the_copy_count() {
        let early = Event::Reading(reading("file:log.1:9", 0));
        let readings = seen(vec![
            early.clone(),
            complete("file:log.1:10"),
            early,
            Event::Reading(reading("file:log.1:10", 0)),
        ]);
        assert_eq!(readings.counted.len(), 1);
        let none = judged("bank", &[], true, bank(&[]));
        assert_eq!(none.finding, Finding::Unknown);
    }

    #[test]
    fn what_proves_nothing_says_why_before_its_figures() {
        let readings = [(1, reading("file:log.1:20", 0))];
        let says = |proven, writes| {
            let oracle = judged("counters", &readings, proven, counters(&readings, &writes, proven));
            (oracle.finding, oracle.in_a_line())
        };
        let (finding, said) = says(false, settled(0, 1));
        assert_eq!(finding, Finding::Unknown);
        assert!(said.starts_with("counters: not decided: no position was proven; 0 acknowledged"), "{said}");
        let (finding, said) = says(true, settled(0, 1));
        assert_eq!(finding, Finding::Unknown);
        assert!(said.starts_with("counters: nothing was put to the test: 0 acknowledged"), "{said}");
        let lost = judged("bank", &readings, false, Judged { wrong: vec!["x".into()], ..bank(&readings) });
        assert_eq!(lost.finding, Finding::Fail);
    }

    #[test]
    fn money_that_comes_from_nowhere_is_named_with_its_position() {
        let mut wrong = reading("file:log.1:20", 0);
        assert!(bank(&[(1, wrong.clone())]).wrong.is_empty());
        wrong.accounts = Some((ACCOUNTS, SUM + 7));
        let said = bank(&[(2_000_000, wrong)]).wrong.join(" ");
        assert!(
            said.contains("2.0 s") && said.contains("file:log.1:20") && said.contains(&(SUM + 7).to_string())
        );
    }

    #[test]
    fn a_counter_that_lost_doubled_or_took_back_is_named() {
        let at = |n, value| (n, reading(&format!("file:log.1:{n}"), value));
        let says = |readings: &[(u64, Reading)], writes: Settled<Write>| {
            counters(readings, &writes, true).wrong.join(" ")
        };
        assert_eq!(says(&[at(1, 1), at(2, 2)], settled(2, 1)), "");
        assert_eq!(says(&[at(1, 1), at(2, 3)], settled(2, 1)), "");
        assert!(says(&[at(2, 1)], settled(2, 0)).contains("ended at 1"));
        assert!(says(&[at(2, 4)], settled(2, 1)).contains("only 3 increments had been sent"));
        assert!(says(&[at(1, 2), at(2, 1)], settled(1, 1)).contains("fell from 2"));
    }

    #[test]
    fn a_gap_or_a_lost_entry_is_named() {
        let mut gap = reading("file:log.1:1", 0);
        assert_eq!(journal(&[(1, gap.clone())], &settled(2, 0), true).wrong.len(), 0);
        assert!(journal(&[(1, gap.clone())], &settled(3, 0), true).wrong[0].contains("2 entries"));
        assert!(journal(&[(1, gap.clone())], &settled(1, 0), true).wrong[0].contains("2 entries"));
        gap.journal = Some((2, vec!["session 4 has 2 entries from 1 to 3".into()]));
        assert!(journal(&[(1, gap)], &settled(2, 0), true).wrong[0].contains("session 4"));
    }
}
