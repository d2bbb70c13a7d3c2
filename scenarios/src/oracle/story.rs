//! What the history tells of a row that is not as it must be: the acknowledged statements that meant it, where the logs
//! stood then, when the target had passed that point, and which faults fell between.
//!
//! It explains what an oracle found and never decides anything. A statement is found by the key that it names: one that
//! reached the row by another condition is not.

use std::collections::HashMap;
use std::path::Path;

use converge_chaos::history::{self, Entry, Event, Kind, Phase, key_text, settle};
use converge_mysql::Position;
use converge_vdiff::Report as VdiffReport;
use converge_vdiff::report::Kind as Difference;

use crate::verdict::Story;

/// Rows that are explained; more would not fit on a screen.
const MOST_STORIES: usize = 3;
/// Acknowledged statements of a row that are told, the last ones.
const MOST_STATEMENTS: usize = 3;
/// Faults between a statement and its arrival that are told.
const MOST_FAULTS: usize = 4;
/// Characters of a statement that are told.
const MOST_SQL: usize = 160;

/// A row that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    table: String,
    key: String,
    /// The row and what is wrong with it.
    pub what: String,
}

impl Suspect {
    /// A row by its table and its key, as [`key_text`] writes that.
    pub fn new(table: &str, key: String, what: String) -> Self {
        Self { table: table.into(), key, what }
    }
}

/// The rows that a comparison found to differ.
pub fn differing(report: &VdiffReport) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    for table in &report.tables {
        for row in table.rows.iter().filter(|row| row.confirmed) {
            let values: Vec<String> = row
                .key
                .values()
                .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                .collect();
            let key = key_text(values.iter().map(String::as_str));
            let what = match row.kind {
                Difference::Mismatched => format!("differs in {}", row.columns.join(", ")),
                Difference::ExtraSource => "is missing on the target".to_owned(),
                Difference::ExtraTarget => "is on the target only".to_owned(),
            };
            let names: Vec<String> =
                row.key.keys().zip(&values).map(|(name, value)| format!("{name}={value}")).collect();
            let what = format!("{} {} {what}", table.target_table, names.join(" "));
            suspects.push(Suspect::new(&table.target_table, key, what));
        }
    }
    suspects
}

/// The stories of some of the rows: first one of each table, then others.
pub fn explain(history: &Path, suspects: Vec<Suspect>) -> Vec<Story> {
    let mut chosen: Vec<Suspect> = Vec::new();
    for new_table in [true, false] {
        for suspect in &suspects {
            let known = chosen.iter().any(|c| c.table == suspect.table);
            if chosen.len() < MOST_STORIES && known != new_table && !chosen.contains(suspect) {
                chosen.push(suspect.clone());
            }
        }
    }
    if chosen.is_empty() {
        return Vec::new();
    }
    match Scene::read(history, &chosen) {
        Ok(scene) => chosen.iter().map(|suspect| scene.story(suspect)).collect(),
        Err(e) => vec![Story {
            row: "the rows cannot be explained".into(),
            told: vec![format!("the history cannot be read: {e}")],
        }],
    }
}

/// A statement that meant a suspect and was acknowledged.
#[derive(Debug, Clone)]
struct Deed {
    id: u64,
    sent: u64,
    session: u32,
    tx: Option<u64>,
    table: String,
    keys: Vec<String>,
    sql: String,
}

/// One look at where source and target stood.
#[derive(Debug, Clone)]
struct Look {
    at: u64,
    source: Option<Position>,
    applied: Option<Position>,
}

/// The parts of a history that the stories need.
#[derive(Debug, Default)]
struct Scene {
    deeds: Vec<Deed>,
    /// When a statement was answered; for one in a transaction when the `COMMIT` was.
    answered: HashMap<u64, u64>,
    looks: Vec<Look>,
    /// When rows began to be copied, and when all were.
    copying: Option<u64>,
    copied: Option<u64>,
    faults: Vec<(u64, String, Phase)>,
}

impl Scene {
    fn read(path: &Path, suspects: &[Suspect]) -> Result<Self, converge_chaos::Error> {
        let settled = settle(history::read(path)?, |sent, invoke| {
            let meant = |s: &Suspect| s.table == invoke.table && invoke.keys.contains(&s.key);
            if !suspects.iter().any(meant) {
                return Vec::new();
            }
            let (table, keys, sql) = (invoke.table.clone(), invoke.keys.clone(), invoke.sql.clone());
            vec![Deed { id: invoke.id, sent, session: invoke.session, tx: invoke.tx, table, keys, sql }]
        })?;
        let mut scene = Self { deeds: settled.acknowledged, ..Self::default() };
        scene.deeds.sort_by_key(|deed| deed.sent);
        let mut commits: HashMap<u64, (u32, Option<u64>)> = HashMap::new();
        let mut committed = HashMap::new();
        let mut alone = HashMap::new();
        for entry in history::read(path)? {
            let Entry { at_us, event } = entry?;
            match event {
                Event::Invoke(invoke) if invoke.kind == Kind::Commit => {
                    commits.insert(invoke.id, (invoke.session, invoke.tx));
                }
                Event::Ok { id, .. } => match commits.remove(&id) {
                    Some(transaction) => drop(committed.insert(transaction, at_us)),
                    None => drop(alone.insert(id, at_us)),
                },
                other => scene.see(at_us, other),
            }
        }
        for deed in &scene.deeds {
            let at = match deed.tx {
                Some(_) => committed.get(&(deed.session, deed.tx)),
                None => alone.get(&deed.id),
            };
            scene.answered.extend(at.map(|at| (deed.id, *at)));
        }
        Ok(scene)
    }

    fn see(&mut self, at: u64, event: Event) {
        let parsed = |text: Option<String>| text.and_then(|text| text.parse().ok());
        match event {
            Event::Sample(sample) => {
                match sample.state.as_str() {
                    "copying" => drop(self.copying.get_or_insert(at)),
                    "replicating" => drop(self.copied.get_or_insert(at)),
                    _ => {}
                }
                let (source, applied) = (parsed(sample.source_position), parsed(sample.applied_position));
                self.looks.push(Look { at, source, applied });
            }
            Event::Reading(reading) => {
                let (source, applied) = (parsed(reading.source), parsed(reading.position));
                self.looks.push(Look { at, source, applied });
            }
            Event::Fault { fault, phase, .. } => self.faults.push((at, fault, phase)),
            _ => {}
        }
    }

    fn story(&self, suspect: &Suspect) -> Story {
        let deeds: Vec<&Deed> = self
            .deeds
            .iter()
            .filter(|deed| deed.table == suspect.table && deed.keys.contains(&suspect.key))
            .collect();
        let mut told = Vec::new();
        if deeds.is_empty() {
            told.push(
                "no acknowledged statement of the load names this key: the row was seeded, reached by another condition, or \
                 changed by somebody else"
                    .to_owned(),
            );
        }
        let left_out = deeds.len().saturating_sub(MOST_STATEMENTS);
        if left_out > 0 {
            told.push(format!("{left_out} earlier acknowledged statements mean it"));
        }
        told.extend(deeds.iter().skip(left_out).map(|deed| self.statement(deed)));
        if let Some(last) = deeds.last() {
            told.extend(self.aftermath(last));
        }
        Story { row: suspect.what.clone(), told }
    }

    fn statement(&self, deed: &Deed) -> String {
        let sql: String = deed.sql.chars().take(MOST_SQL).collect();
        let cut = if sql.len() < deed.sql.len() { "…" } else { "" };
        let alone = if deed.tx.is_some() { "in a transaction" } else { "by itself" };
        let answered = self.answered.get(&deed.id).map_or_else(|| "?".into(), |at| seconds(*at));
        format!(
            "{} (session {}, {alone}) was sent at {}{}, acknowledged at {answered}",
            sql + cut,
            deed.session,
            seconds(deed.sent),
            self.stage(deed.sent)
        )
    }

    fn stage(&self, at: u64) -> &'static str {
        match (self.copying, self.copied) {
            (Some(from), _) if at < from => ", before the copy",
            (_, Some(to)) if at >= to => ", after the copy",
            (Some(_), _) => ", during the copy",
            (None, _) => "",
        }
    }

    /// What came between the last statement and the moment at which the target had passed it.
    fn aftermath(&self, deed: &Deed) -> Vec<String> {
        let answered = self.answered.get(&deed.id).copied().unwrap_or(deed.sent);
        let after = self.looks.iter().find(|look| look.at >= answered && look.source.is_some());
        let Some((after, goal)) = after.and_then(|look| Some((look, look.source.as_ref()?))) else {
            return vec!["where the source's log stood after it was not seen".into()];
        };
        let mut told = vec![format!("the source's log had reached {goal} by {}", seconds(after.at))];
        let passed = |look: &&Look| {
            look.at >= answered && look.applied.as_ref().is_some_and(|a| a.covers(goal) == Some(true))
        };
        let passed = self.looks.iter().find(passed).map(|look| look.at);
        told.push(match passed {
            Some(at) => format!(
                "the target was past that position at {}: the statement had been applied by then, or was lost",
                seconds(at)
            ),
            None => "the target was never seen past that position".into(),
        });
        let between =
            |(at, ..): &&(u64, String, Phase)| *at >= deed.sent && passed.is_none_or(|to| *at <= to);
        let faults: Vec<String> = self
            .faults
            .iter()
            .filter(between)
            .map(|(at, fault, phase)| format!("{fault} {} at {}", words(*phase), seconds(*at)))
            .take(MOST_FAULTS)
            .collect();
        let open = self.open_at(deed.sent);
        told.push(match (faults.is_empty(), open) {
            (false, _) => format!("between the two: {}", faults.join(", ")),
            (true, Some(fault)) => format!("{fault} was not healed yet when it was sent"),
            (true, None) => "no fault fell between the two".into(),
        });
        told
    }

    /// A fault that lasted at a moment.
    fn open_at(&self, at: u64) -> Option<&str> {
        let last = self.faults.iter().rfind(|(when, ..)| *when <= at)?;
        (last.2 != Phase::Healed).then_some(last.1.as_str())
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Inject => "injected",
        Phase::Observed => "seen to bite",
        Phase::Healed => "healed",
    }
}

fn seconds(at_us: u64) -> String {
    format!("{:.3} s", at_us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use converge_chaos::history::{Invoke, Sample};

    use super::*;

    fn invoke(id: u64, tx: Option<u64>, kind: Kind, key: &str, sql: &str) -> Event {
        let (table, sql) = ("customer".into(), sql.into());
        let keys = if key.is_empty() { vec![] } else { vec![key.to_owned()] };
        Event::Invoke(Invoke { id, session: 3, tx, kind, table, sql, keys, ledger: vec![] })
    }

    fn ok(id: u64) -> Event {
        Event::Ok { id, affected: 1 }
    }

    fn sample(state: &str, source: u64, applied: u64) -> Event {
        let position = |n| Some(format!("file:log.1:{n}"));
        Event::Sample(Sample {
            state: state.into(),
            source_position: position(source),
            applied_position: position(applied),
            ..Sample::default()
        })
    }

    fn fault(phase: Phase) -> Event {
        Event::Fault { fault: "kill_mover".into(), phase, detail: String::new() }
    }

    fn told(events: Vec<Event>, key: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let entries = (0u64..).zip(events).map(|(n, event)| Entry { at_us: n * 1_000_000, event });
        let lines: Vec<String> = entries.map(|entry| serde_json::to_string(&entry).unwrap() + "\n").collect();
        std::fs::write(file.path(), lines.concat()).unwrap();
        let suspect =
            Suspect::new("customer", key.into(), format!("customer id={key} is on the target only"));
        let stories = explain(file.path(), vec![suspect]);
        assert_eq!((stories.len(), stories[0].row.contains(key)), (1, true));
        stories[0].told.join("\n")
    }

    fn events() -> Vec<Event> {
        vec![
            sample("copying", 1, 1),
            invoke(1, None, Kind::Update, "7", "UPDATE 7"),
            ok(1),
            invoke(2, Some(1), Kind::Delete, "7", "DELETE 7"),
            ok(2),
            invoke(3, Some(1), Kind::Commit, "", "COMMIT"),
            ok(3),
            fault(Phase::Inject),
            sample("copying", 20, 10),
            fault(Phase::Healed),
            sample("replicating", 30, 20),
            invoke(4, None, Kind::Update, "7", "UPDATE refused"),
            Event::Fail { id: 4, code: 1205, message: String::new() },
        ]
    }

    #[test]
    fn statements_positions_and_faults_are_told_in_order() {
        let told = told(events(), "7");
        for words in [
            "UPDATE 7 (session 3, by itself) was sent at 1.000 s, during the copy, acknowledged at 2.000 s",
            "DELETE 7 (session 3, in a transaction) was sent at 3.000 s, during the copy, acknowledged at 6.000 s",
            "reached file:log.1:20 by 8.000 s",
            "past that position at 10.000 s",
            "kill_mover injected at 7.000 s, kill_mover healed at 9.000 s",
        ] {
            assert!(told.contains(words), "{words} in\n{told}");
        }
        assert!(!told.contains("refused"), "{told}");
    }

    #[test]
    fn a_row_that_no_statement_names_is_said_to_be_that() {
        assert!(told(events(), "8").contains("no acknowledged statement"));
    }
}
