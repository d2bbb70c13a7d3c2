//! What a rehearsal does: tables, load, faults, and what a pass must have seen. Read from TOML.
//!
//! One rule for what a file leaves out: each field, also inside a table, is the default rehearsal's. A rate of 0 is no
//! limit. A field that is not known is an error.

mod fault;

use std::path::{Path, PathBuf};

use converge_chaos::load::{LoadPlan, Subject};
use converge_mover::copy::Strategy;
use miette::Diagnostic;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use fault::{Direction, Fault, FaultKind, SPACE, Side};

/// The tables that the default rehearsal moves.
const MOVED: [&str; 6] = ["customer", "corder", "ledger", "account", "counter", "journal"];
/// The table that stays on the source.
const STAYS: &str = "product";

/// A scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Its name, part of the report's directory.
    pub name: String,
    /// Tables that are moved; none named with another schema than the default one: all that can be.
    pub tables: Vec<String>,
    /// A file of SQL statements that make the tables, instead of the commerce schema; a path beside the scenario's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
    /// How they are copied.
    pub copy: Copy,
    /// What must have happened for a pass to be earned.
    pub least: Least,
    /// Seconds that the load goes on after the last fault was undone.
    pub settle_seconds: f64,
    /// Seconds after which the whole rehearsal is given up.
    pub limit_seconds: f64,
    /// Seconds that the target may be behind before the load waits for it. None by default: the load never waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_lag_seconds: Option<f64>,
    /// What is seeded on the source, and what is written meanwhile. Its seed is what the run's is unless that is given; 0 is
    /// none.
    pub load: LoadPlan,
    /// What is broken, one after the other.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

/// How the mover copies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Copy {
    /// The strategy. `naive` is wrong on purpose.
    pub strategy: String,
    /// Rows of a chunk at the most.
    pub chunk_rows: u64,
    /// Rows a second; 0: as fast as it goes.
    pub rows_per_second: u32,
}

/// What must have happened for a pass to be earned.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Least {
    /// Acknowledged statements of each kind.
    pub each_kind: u64,
    /// Writes acknowledged while rows were copied.
    pub during_copy: u64,
    /// Seconds within which the target must have caught up after each fault.
    pub catch_up_seconds: f64,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "default".into(),
            tables: MOVED.map(str::to_owned).into(),
            schema: None,
            copy: Copy::default(),
            least: Least::default(),
            settle_seconds: 5.0,
            limit_seconds: 240.0,
            most_lag_seconds: None,
            load: LoadPlan { rows: 110_000, statements_per_second: Some(1200.0), ..LoadPlan::default() },
            faults: Vec::new(),
        }
    }
}

impl Copy {
    fn check(&self) -> Result<(), String> {
        if self.chunk_rows == 0 {
            return Err("copy.chunk_rows must be from 1 up".into());
        }
        match self.strategy.parse::<Strategy>() {
            // A rehearsal has a source and a target, and nothing else.
            Ok(Strategy::Replica) => Err("copy.strategy: a rehearsal has no replica to copy from".into()),
            Ok(_) => Ok(()),
            Err(_) => {
                let all = Strategy::SAFE.into_iter().filter(|s| *s != Strategy::Replica).map(Strategy::name);
                let list: Vec<&str> = all.collect();
                Err(format!("copy.strategy: {:?} is none of {}", self.strategy, list.join(", ")))
            }
        }
    }
}

impl Default for Copy {
    fn default() -> Self {
        Self { strategy: "watermark".into(), chunk_rows: 2000, rows_per_second: 8000 }
    }
}

impl Default for Least {
    fn default() -> Self {
        Self { each_kind: 50, during_copy: 200, catch_up_seconds: 60.0 }
    }
}

/// A scenario that cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub enum BadScenario {
    /// The file cannot be read.
    #[error("cannot read the scenario {}: {why}", .path.display())]
    #[diagnostic(help("check the path; without a scenario the default one is run"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
    /// It is not what a scenario must be.
    #[error("the scenario {} is not valid: {why}", .path.display())]
    #[diagnostic(help(
        "a complete example is the plan.toml that `converge rehearse` writes at its start into the report's directory \
         (runs/… or --report)"
    ))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Scenario {
    /// The default rehearsal: the source killed in the middle of the copy, then the mover, then the network during
    /// replication. When exactly is drawn from the seed.
    pub fn standard(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut fault = |kind, at_copied: Option<(f64, f64)>, hold: (f64, f64)| Fault {
            at_copied: at_copied.map(|(from, to)| random.random_range(from..to)),
            hold_seconds: random.random_range(hold.0..hold.1),
            ..Fault::new(kind)
        };
        let faults = vec![
            fault(FaultKind::KillSource, Some((0.25, 0.5)), (0.2, 1.0)),
            fault(FaultKind::KillMover, Some((0.6, 0.8)), (0.2, 1.0)),
            fault(FaultKind::NetworkDown, None, (1.0, 3.0)),
        ];
        Self { faults, ..Self::default() }
    }

    /// The same for servers of which there is nothing but a connection: the network and the mover are broken.
    pub fn external(seed: u64) -> Self {
        let standard = Self::standard(seed);
        let kinds = [FaultKind::NetworkReset, FaultKind::KillMover, FaultKind::NetworkDown];
        let faults = standard.faults.iter().zip(kinds).map(|(fault, kind)| Fault { kind, ..fault.clone() });
        Self { faults: faults.collect(), ..standard }
    }

    /// A plan drawn from the seed: three to six faults of kinds that are drawn as well, so that each plan leaves most kinds
    /// out and repeats others, and a load of another size and character each time.
    pub fn swarm(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let drawable = FaultKind::drawable();
        let kinds: Vec<FaultKind> = drawable.iter().copied().filter(|_| random.random_bool(0.4)).collect();
        let mut faults: Vec<Fault> = (0..random.random_range(3..=6))
            .map(|_| {
                let all = if kinds.is_empty() { &drawable } else { &kinds };
                Fault::drawn(all[random.random_range(0..all.len())], &mut random)
            })
            .collect();
        // A second one finds no replica any more.
        for fault in faults.iter_mut().filter(|fault| fault.kind == FaultKind::Failover).skip(1) {
            fault.kind = FaultKind::KillSource;
        }
        // Those of the copy in the order in which they come up; the others follow.
        faults.sort_by(|a, b| a.at_copied.unwrap_or(1.0).total_cmp(&b.at_copied.unwrap_or(1.0)));
        let load = LoadPlan {
            sessions: random.random_range(2..=16),
            rows: random.random_range(20_000..=110_000),
            hot_share: random.random_range(0.2..0.95),
            hot_width: random.random_range(4..=64),
            collision_share: random.random_range(0.0..0.2),
            transaction_share: random.random_range(0.1..0.9),
            rollback_share: random.random_range(0.0..0.4),
            savepoint_share: random.random_range(0.0..0.5),
            statements_per_second: Some(random.random_range(400.0..1500.0)),
            large_share: random.random_range(0.0..0.01),
            ..LoadPlan::default()
        };
        let copy =
            Copy { chunk_rows: random.random_range(50..=3000), rows_per_second: 8000, ..Copy::default() };
        Self { name: "swarm".into(), faults, load, copy, ..Self::default() }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, BadScenario> {
        let text = std::fs::read_to_string(path)
            .map_err(|why| BadScenario::Unreadable { path: path.into(), why })?;
        let invalid = |why: String| BadScenario::Invalid { path: path.into(), why };
        let mut scenario = Self::parse(&text).map_err(|e| invalid(e.to_string()))?;
        if let (Some(file), Some(beside)) = (&scenario.schema, path.parent()) {
            scenario.schema = Some(beside.join(file));
        }
        scenario = scenario.settled();
        scenario.check().map_err(invalid)?;
        Ok(scenario)
    }

    /// The same for other tables: `classic` or `types`, which are built in, or those that a file of SQL statements makes.
    pub fn with_schema(mut self, schema: &str) -> Self {
        self.schema = None;
        self.load.subject = match schema {
            "commerce" => Subject::Commerce,
            "classic" => Subject::Classic,
            "types" => Subject::Types,
            file => {
                self.schema = Some(file.into());
                Subject::Existing
            }
        };
        if self.load.subject == Subject::Commerce && self.tables.is_empty() {
            self.tables = MOVED.map(str::to_owned).into();
        }
        self.settled()
    }

    /// A schema in a file is one of existing tables, and of another schema all tables are moved unless some are named.
    fn settled(mut self) -> Self {
        if self.schema.is_some() {
            self.load.subject = Subject::Existing;
        }
        if self.load.subject != Subject::Commerce && self.tables == MOVED {
            self.tables.clear();
        }
        self
    }

    /// The file's fields laid over the defaults.
    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        // Read by itself first: only then does an error say where in the file it is.
        let _: Self = toml::from_str(text)?;
        let mut whole: toml::Table = toml::from_str(&Self::default().to_toml())?;
        overlay(&mut whole, toml::from_str(text)?);
        whole.try_into()
    }

    /// Whether there is a fault of this kind in it.
    pub fn has(&self, kind: FaultKind) -> bool {
        self.faults.iter().any(|fault| fault.kind == kind)
    }

    /// Tables that load is sent to, but that are not moved.
    pub fn tables_that_stay(&self) -> impl Iterator<Item = &'static str> {
        let commerce = self.load.subject == Subject::Commerce;
        MOVED
            .into_iter()
            .chain([STAYS])
            .filter(move |_| commerce)
            .filter(|name| !self.tables.iter().any(|t| t == name))
    }

    /// What cannot be rehearsed, if anything: the field, and what it must be.
    pub fn check(&self) -> Result<(), String> {
        let known: Vec<&str> = MOVED.into_iter().chain([STAYS]).collect();
        let commerce = self.load.subject == Subject::Commerce;
        if self.load.subject == Subject::Existing && self.schema.is_none() {
            return Err("load.subject = 'existing' needs `schema`: a rehearsal's servers begin empty".into());
        }
        if commerce && self.tables.is_empty() {
            return Err("tables: at least one must be moved".into());
        }
        if let Some(unknown) = self.tables.iter().find(|t| commerce && !known.contains(&t.as_str())) {
            return Err(format!("tables: {unknown} is none of {}", known.join(", ")));
        }
        if let Some((n, twice)) = self.tables.iter().enumerate().find(|(n, t)| self.tables[..*n].contains(t))
        {
            return Err(format!("tables: {twice} is named twice, the second time as number {}", n + 1));
        }
        check_name(&self.name)?;
        self.load.check().map_err(|why| format!("load.{why}"))?;
        self.copy.check()?;
        self.faults.iter().try_for_each(Fault::check)?;
        if self.faults.iter().filter(|fault| fault.kind == FaultKind::Failover).count() > 1 {
            return Err("fault failover: there is one replica, which takes over once".into());
        }
        let before_last = self.faults.split_last().map_or(&[][..], |(_, others)| others);
        if let Some(end) = before_last.iter().find(|fault| !fault.kind.is_survivable()) {
            return Err(format!("fault {}: ends the move, so that no other can follow", end.kind.name()));
        }
        let seconds = [
            ("settle_seconds", self.settle_seconds),
            ("limit_seconds", self.limit_seconds),
            ("least.catch_up_seconds", self.least.catch_up_seconds),
            ("most_lag_seconds", self.most_lag_seconds.unwrap_or_default()),
        ];
        let seconds = seconds.map(|(name, seconds)| (name.to_owned(), seconds)).into_iter();
        let held = |fault: &Fault| (format!("fault {}: hold_seconds", fault.name()), fault.hold_seconds);
        let mut seconds = seconds.chain(self.faults.iter().map(held));
        if let Some((name, _)) = seconds.find(|(_, seconds)| !(0.0..=86_400.0).contains(seconds)) {
            return Err(format!("{name} must be from 0 to 86400"));
        }
        if self.limit_seconds <= 0.0 {
            return Err("limit_seconds must be more than 0 and at most 86400: nothing ends in no time".into());
        }
        Ok(())
    }

    /// As TOML, complete: what `plan.toml` holds.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self)
            .unwrap_or_else(|e| format!("# the plan cannot be written as TOML: {e}\n"))
    }
}

/// A name is a part of the names of directories.
fn check_name(name: &str) -> Result<(), String> {
    const MOST: usize = 80;
    let begins = name.starts_with(char::is_alphanumeric);
    let plain = |c: char| c.is_alphanumeric() || " -_.".contains(c);
    if begins && name.len() <= MOST && name.chars().all(plain) {
        return Ok(());
    }
    Err(format!(
        "name: {name:?} cannot be part of a directory's name: give 1 to {MOST} letters, digits, spaces, `-`, `_` or `.`, a \
         letter or digit first"
    ))
}

/// Puts every field of `file` in the place of the one in `whole`; tables are gone into, lists are replaced.
fn overlay(whole: &mut toml::Table, file: toml::Table) {
    for (name, value) in file {
        match (whole.get_mut(&name), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => overlay(under, over),
            (_, value) => {
                whole.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scenario, BadScenario> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Scenario::read(file.path())
    }

    #[test]
    fn a_plan_reads_back_as_it_was() {
        let scenario = Scenario::standard(7);
        assert_eq!(read(&scenario.to_toml()).unwrap(), scenario);
        assert_eq!(Scenario::standard(7), scenario);
        assert_ne!(Scenario::standard(8), scenario);
    }

    #[test]
    fn what_a_file_leaves_out_is_the_defaults() {
        let default = Scenario::default();
        let scenario = read("[load]\nrows = 7\n[copy]\nchunk_rows = 9\n[least]\neach_kind = 1").unwrap();
        assert_eq!((scenario.load.rows, scenario.copy.chunk_rows, scenario.least.each_kind), (7, 9, 1));
        assert_eq!(scenario.load.statements_per_second, default.load.statements_per_second);
        assert_eq!(scenario.load.weights, default.load.weights);
        assert_eq!(scenario.copy.rows_per_second, default.copy.rows_per_second);
        assert_eq!(scenario.least.during_copy, default.least.during_copy);
        let unlimited = read("[load]\nstatements_per_second = 0\n[copy]\nrows_per_second = 0").unwrap();
        assert_eq!((unlimited.load.statements_per_second, unlimited.copy.rows_per_second), (Some(0.0), 0));
    }

    #[test]
    fn of_another_schema_all_tables_are_moved_unless_some_are_named() {
        let scenario = read("schema = 'shop.sql'").unwrap();
        assert_eq!((scenario.load.subject, scenario.tables.len()), (Subject::Existing, 0));
        assert!(scenario.schema.as_ref().unwrap().is_absolute());
        let scenario = read("schema = 'shop.sql'\ntables = ['item']").unwrap();
        assert_eq!(scenario.tables, ["item"]);
        let scenario = read("[load]\nsubject = 'classic'").unwrap();
        assert_eq!((&scenario, scenario.tables.len()), (&Scenario::default().with_schema("classic"), 0));
        assert_eq!(Scenario::default().with_schema("commerce"), Scenario::default());
        for (schema, subject) in [("types", Subject::Types), ("commerce", Subject::Commerce)] {
            let scenario = read("schema = 'shop.sql'").unwrap().with_schema(schema);
            assert_eq!((scenario.load.subject, scenario.schema), (subject, None), "{schema}");
        }
    }

    #[test]
    fn a_swarm_plan_is_one_that_can_be_read_and_is_the_seeds() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let scenario = Scenario::swarm(seed);
            assert_eq!(read(&scenario.to_toml()).unwrap(), scenario, "seed {seed}");
            assert_eq!(Scenario::swarm(seed), scenario);
            kinds.extend(scenario.faults.iter().map(|f| f.kind));
        }
        assert_eq!(kinds, FaultKind::drawable().into_iter().collect());
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        for (text, word) in [
            ("nmae = 'x'", "nmae"),
            ("tables = ['custmer']", "custmer"),
            ("[load]\nsubject = 'existing'", "begin empty"),
            ("[[fault]]\nkind = 'kill_everything'", "kill_everything"),
            ("[[fault]]\nkind = 'kill_mover'\nat_copied = 1.5", "at_copied"),
            ("[[fault]]\nkind = 'restore_to_past'\n[[fault]]\nkind = 'kill_mover'", "ends the move"),
            ("[[fault]]\nkind = 'failover'\n[[fault]]\nkind = 'failover'", "once"),
            ("settle_seconds = -1.0", "settle_seconds must be from 0 to 86400"),
            ("least = { catch_up_seconds = 1e9 }", "least.catch_up_seconds must"),
            ("most_lag_seconds = -1", "most_lag_seconds must be from 0"),
            ("[[fault]]\nkind = 'kill_mover'\nhold_seconds = -1", "kill_mover: hold_seconds must"),
            ("tables = ['customer', 'corder', 'customer']", "customer is named twice"),
            ("[load]\nlarge_bytes = 0", "load.large_bytes must be from 8"),
            ("limit_seconds = 0", "limit_seconds must be more than 0"),
            ("limit_seconds = nan", "seconds"),
            ("name = ''", "letter or digit first"),
            ("name = '../../evil'", "letter or digit first"),
            ("name = 'a/b'", "a/b"),
            ("name = '.hidden'", "letter or digit first"),
            ("[copy]\nchunk_rows = 0", "chunk_rows must be from 1"),
            ("[load]\nsessions = 0", "load.sessions must be from 1"),
            ("[load]\nrows = 0", "load.rows must be from 1"),
            ("[load]\nhot_share = 1.5", "load.hot_share must be from 0 to 1"),
            ("[copy]\nstrategy = 'lokcing'", "watermark, locking, delete_history, snapshot"),
            ("[copy]\nstrategy = 'replica'", "no replica"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
