//! Running a rehearsal: two servers, a load, a mover and faults, until the move is switched and compared.
//!
//! What goes wrong with the *tools* here (a server that does not start, a full disk) is an error; what goes wrong with
//! the *move* is a finding. Everything waits on conditions with bounds, and everything that was started is gone when
//! this returns, however it returns.

mod error;
mod faults;
mod finish;
mod ground;
mod kept;
mod mover;
mod readings;
mod scan;
mod servers;
mod watch;
mod world;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use converge_chaos::history::{self, Event, History, Kind};
use converge_chaos::load::{Load, LoadHandle, Names, Totals};
use converge_mover::copy::Strategy;

use self::faults::Stage;
use self::ground::Ground;
use self::kept::Kept;
use self::mover::Mover;
use self::readings::Readings;
use self::scan::Scan;
use self::watch::Watcher;
use self::world::{Seeded, World};
use crate::lock::Lock;
use crate::mutant::Mutant;
use crate::oracle::commits::Commits;
use crate::oracle::logs::Mark;
use crate::oracle::source::Sources;
use crate::oracle::{self, Suspect, Tally, limit, whole};
use crate::saved;
use crate::scenario::{Least, Scenario};
use crate::verdict::{FaultReport, Finding, Oracle, RunReport, Story, Verdict, judge};

pub use error::RehearsalError;
pub use mover::End;
pub use servers::{External, Servers};
pub use watch::{Progress, Update};
pub use world::{DATABASE, Leftovers};

/// What to rehearse, and where to put what comes of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scenario.
    pub scenario: Scenario,
    /// What everything random is drawn from.
    pub seed: u64,
    /// The two servers.
    pub servers: Servers,
    /// The `converge` binary that is run as the mover.
    pub program: PathBuf,
    /// The report's directory.
    pub directory: PathBuf,
    /// The command that runs it again.
    pub replay: String,
    /// The API of a Toxiproxy server to use instead of the built-in one.
    pub toxiproxy: Option<String>,
    /// Whether the servers' directories stay.
    pub keep: bool,
    /// Variables that the mover's process gets beside its own.
    pub mover_environment: Vec<(String, OsString)>,
    /// What is broken in the harness on purpose.
    pub mutant: Option<Mutant>,
}

impl Options {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// Runs a rehearsal and writes its report. `progress` is told what happens.
pub async fn run(options: &Options, progress: Progress) -> Result<RunReport, RehearsalError> {
    options.servers.check(&options.scenario)?;
    let ground = Ground::make(&options.directory)?;
    let _lock = Lock::take(&options.directory)?;
    let result = rehearse(options, progress).await;
    if result.is_err() {
        ground.abandon();
    }
    result
}

/// The same in a directory that is there.
async fn rehearse(options: &Options, progress: Progress) -> Result<RunReport, RehearsalError> {
    let started = SystemTime::now();
    let path = options.directory.join(saved::HISTORY);
    // The log is appended to with each start of the mover; what a former run left does not belong to this one.
    let _ = std::fs::remove_file(options.directory.join(MOVER_LOG));
    crate::report::clear(&options.directory)?;
    save_plan(options)?;
    let history = History::create(&path)?;
    history.record(Event::Run {
        wall: history::rfc3339(started),
        seed: options.seed,
        plan: serde_json::to_value(&options.scenario).unwrap_or_default(),
        external: !options.servers.are_private(),
    });
    let mut run = Run {
        options,
        history: history.clone(),
        progress,
        oracles: Vec::new(),
        faults: Vec::new(),
        position: None,
        versions: None,
        vdiff: None,
        seeded: Seeded {
            tables: options.scenario.tables.clone(),
            rows: 0,
            kinds: Vec::new(),
            idle: Vec::new(),
            notes: Vec::new(),
        },
        suspects: Vec::new(),
        counted: None,
        commits: None,
    };
    let bound = Duration::from_secs_f64(options.scenario.limit_seconds);
    let ended = tokio::time::timeout(bound, run.carry_out()).await;
    let cut_short = ended.is_err().then_some(bound);
    ended.unwrap_or(Ok(()))?;
    history.finish()?;
    let tally = run.judge_history(&path, cut_short);
    whole::doubt(&mut run.oracles);
    run.oracles.retain(|oracle| !options.is(Mutant::ReportLosesAnswer) || oracle.name != "vdiff");
    let mut needed = whole::needed(run.names(), &run.seeded.tables, run.position.is_some());
    // Where others write as well, it is not asked; the report says so.
    needed.retain(|name| *name != oracle::silence::NAME || options.servers.are_private());
    let absent = whole::absent(&needed, &run.oracles);
    run.oracles.extend(absent);
    if cut_short.is_some() {
        limit::blame(&mut run.oracles, whole::SILENT);
    }
    let explanation = oracle::explain(&path, std::mem::take(&mut run.suspects));
    let report = run.report(started, &tally, explanation);
    crate::report::write(&options.directory, &report, &path)?;
    Ok(report)
}

/// Saves the scenario so that it can be run again from the report's directory alone.
fn save_plan(options: &Options) -> Result<(), RehearsalError> {
    let mut scenario = options.scenario.clone();
    if let Some(file) = &scenario.schema {
        let copy = options.directory.join(SCHEMA);
        let sql = std::fs::read(file).map_err(RehearsalError::io("reading the schema", file))?;
        std::fs::write(&copy, sql).map_err(RehearsalError::io("writing", &copy))?;
        scenario.schema = Some(SCHEMA.into());
    }
    // TOML has no larger numbers; the run's seed is in its verdict and its history as well.
    scenario.load.seed = i64::try_from(options.seed).map_or(0, |_| options.seed);
    let plan = options.directory.join(saved::PLAN);
    std::fs::write(&plan, scenario.to_toml()).map_err(RehearsalError::io("writing", &plan))
}

/// The schema's file in the report's directory.
const SCHEMA: &str = "schema.sql";
/// The mover's log in the report's directory.
const MOVER_LOG: &str = "mover.log";

struct Run<'a> {
    options: &'a Options,
    history: History,
    progress: Progress,
    oracles: Vec<Oracle>,
    faults: Vec<FaultReport>,
    position: Option<String>,
    /// Product and version of source and target, once they were asked.
    versions: Option<(String, String)>,
    vdiff: Option<converge_vdiff::Report>,
    /// What is moved.
    seeded: Seeded,
    /// Rows that are not as they must be.
    suspects: Vec<Suspect>,
    /// What the load counted, once it ended.
    counted: Option<Totals>,
    /// The checkpoints in the target's log, or why they cannot be read; where nobody else writes to the target.
    commits: Option<Result<Commits, String>>,
}

/// What runs beside the mover, and where the target's log ended before the move, if it is judged.
struct Running {
    load: LoadHandle,
    readings: Readings,
    began: Option<Mark>,
    sources: Sources,
}

impl Run<'_> {
    async fn carry_out(&mut self) -> Result<(), RehearsalError> {
        let scenario = &self.options.scenario;
        self.step(match &self.options.servers {
            Servers::Private(_) => "starting two private servers and a proxy",
            #[cfg(feature = "docker")]
            Servers::Docker(_) => "starting two containers and a proxy",
            Servers::External(_) => "preparing two servers and starting a proxy",
        });
        let world = World::start(self.options, self.options.toxiproxy.as_deref()).await?;
        let _kept = self.options.keep.then(|| Kept::new(&self.progress, world.directories()));
        self.versions = Some((world.source().info().to_string(), world.target.info().to_string()));
        self.step(&format!("seeding {} rows on the source", scenario.load.rows));
        self.seeded = world.seed(self.options).await?;
        let (tables, rows) = (self.seeded.tables.clone(), self.seeded.rows);
        self.step(&format!("moving {} with {rows} rows under load", tables.join(", ")));
        self.seeded.notes.iter().for_each(|note| self.step(note));
        let mut plan = world.load_plan(self.options);
        if self.options.is(Mutant::LoadWritesNothing) {
            plan.sessions = 0;
        }
        let sources = world.watch_sources(&tables, &self.options.directory.join(saved::HISTORY)).await;
        plan.log_texts = sources.texts();
        let load = Load::start(world.source_address(), plan, self.history.clone()).await?;
        // What others write to their servers is not judged; there need not even be a log.
        let began = match self.options.servers.are_private() {
            true => Some(Mark::set(&world.target_address()).await?),
            false => None,
        };
        let mut mover = world.mover(self.options, &tables, &self.options.directory.join(MOVER_LOG));
        mover.start()?;
        let watcher = Watcher::new(self.history.clone(), self.progress.clone(), rows)
            .braking(scenario.most_lag_seconds, load.brake());
        let (source, target) = (world.where_the_source_is(), world.target_address());
        let read = if self.options.is(Mutant::ReadingsMissing) { &[] } else { &tables[..] };
        let readings = Readings::start(source, target, self.names(), read, self.history.clone());
        let running = Running { load, readings, began, sources };
        self.break_and_finish(&world, &watcher, &mut mover, running).await?;
        world.stop().await;
        Ok(())
    }

    /// The names of the tables with invariants.
    fn names(&self) -> Names {
        self.options.scenario.load.subject.names()
    }

    fn step(&self, text: &str) {
        (self.progress)(Update::Step(text.into()));
    }

    async fn break_and_finish(
        &mut self,
        world: &World,
        watcher: &Watcher,
        mover: &mut Mover,
        running: Running,
    ) -> Result<(), RehearsalError> {
        let history = self.history.clone();
        let tables = &self.seeded.tables.clone();
        let stage = Stage {
            world,
            watcher,
            load: &running.load,
            history: &history,
            tables,
            sources: &running.sources,
        };
        for fault in &self.options.scenario.faults {
            if self.options.is(Mutant::FaultNotInjected) || !watcher.until_due(mover, fault).await {
                break;
            }
            let mut report = stage.inject(fault, mover).await?;
            if self.options.is(Mutant::FaultNotObserved) {
                report.observed = None;
            }
            let (healed, bit) = (report.healed_at.is_some(), report.observed.is_some());
            self.faults.push(report);
            if bit && !fault.kind.is_survivable() {
                self.oracles.push(oracle::loud_stop(fault.kind.name(), mover.end()));
            }
            if !healed {
                break;
            }
        }
        self.finish(world, watcher, mover, running).await
    }

    /// The oracles that look at the history, once it is complete. `cut_short`: the time limit, if that ended the run.
    fn judge_history(&mut self, path: &Path, cut_short: Option<Duration>) -> Tally {
        let least = self.options.scenario.least;
        let Scan { statements, copy, mut reached, readings, progress, trouble } =
            Scan::of(path, &self.seeded.tables);
        self.oracles.extend(cut_short.map(|bound| reached.oracle(bound)));
        let going_on = reached.fault(&self.faults).filter(|_| cut_short.is_some());
        let planned = self.options.scenario.faults.len();
        self.oracles.push(oracle::faults(planned, &self.faults, going_on.as_ref()));
        self.faults.extend(going_on);
        if let Some(why) = trouble {
            let detail = format!("the history cannot be read: {why}");
            self.oracles.push(Oracle::new("history", Finding::Unknown, detail));
        }
        let (proven, moved) = (self.position.is_some(), &self.seeded.tables);
        let names = self.names();
        self.oracles.extend(oracle::invariants(path, &readings, names, moved, proven));
        self.oracles.push(progress.checkpoint(self.commits.as_ref()));
        self.oracles.push(progress.liveness(Duration::from_secs_f64(least.catch_up_seconds)));
        let tally = statements.finish();
        self.oracles.extend(self.counted.as_ref().map(|counted| whole::history(&tally, counted)));
        self.oracles.push(oracle::load(&tally, least.each_kind, &self.seeded.kinds, &self.seeded.idle));
        let during = copy.span().map(|(from, to)| tally.moved_between(from, to));
        self.oracles.push(oracle::copy_under_load(during, least.during_copy));
        tally
    }

    fn report(self, started: SystemTime, tally: &Tally, explanation: Vec<Story>) -> RunReport {
        let verdict = judge(&self.oracles);
        let reasons = reasons(verdict, &self.oracles, &self.faults);
        let (source, target) = self
            .versions
            .unwrap_or_else(|| (self.options.servers.to_string(), self.options.servers.to_string()));
        let mut not_verified: Vec<String> = self
            .options
            .scenario
            .tables_that_stay()
            .map(|table| format!("table {table}: it is written to on the source, but not moved"))
            .chain(self.seeded.notes.iter().cloned())
            .collect();
        let all = Kind::WRITES.into_iter().filter(|kind| !self.seeded.kinds.contains(kind));
        not_verified
            .extend(all.map(|kind| format!("no moved table takes statements of the kind {}", kind.name())));
        let untouched = tally.untouched().filter(|table| !self.seeded.idle.iter().any(|idle| idle == table));
        not_verified.extend(untouched.map(|table| format!("table {table}: no write to it was acknowledged")));
        if !self.options.servers.are_private() {
            let text =
                "what others write to the servers: the target's binary log was not judged (oracle silence)";
            not_verified.push(text.to_owned());
        }
        not_verified.extend(not_asked_for(&self.options.scenario.least));
        not_verified.extend(nothing_broken(&self.options.scenario.copy.strategy, &self.faults));
        not_verified.push("what a crash of the machine (not of a process) would lose".to_owned());
        for table in self.vdiff.iter().flat_map(|v| &v.tables) {
            not_verified.extend(table.not_verified.iter().map(|n| format!("{}: {n}", table.table)));
        }
        RunReport {
            verdict,
            reasons,
            scenario: self.options.scenario.name.clone(),
            seed: self.options.seed,
            replay: self.options.replay.clone(),
            started: history::rfc3339(started),
            elapsed_seconds: started.elapsed().unwrap_or_default().as_secs_f64(),
            source,
            target,
            position: self.position,
            oracles: self.oracles,
            statements: tally.counts(),
            faults: self.faults,
            vdiff: self.vdiff,
            explanation,
            not_verified,
        }
    }
}

/// What a pass says nothing about, because nothing was broken, or because the mover is broken by itself.
fn nothing_broken(strategy: &str, faults: &[FaultReport]) -> Vec<String> {
    let mut lines = Vec::new();
    if strategy == Strategy::Naive.name() {
        lines.push(format!("the strategy {strategy} is wrong on purpose: a pass says nothing about it"));
    }
    if faults.is_empty() {
        lines.push(
            "how the mover gets over faults of servers, network or its own: no fault was injected".to_owned(),
        );
    }
    lines
}

/// What a pass says nothing about, because the scenario does not ask for it.
fn not_asked_for(least: &Least) -> Vec<String> {
    let each_kind = "that each kind of statement was sent: least.each_kind is 0";
    let during_copy = "more than one change while rows were copied: least.during_copy is 0";
    let lines = [(least.each_kind, each_kind), (least.during_copy, during_copy)];
    lines.into_iter().filter(|(least, _)| *least == 0).map(|(_, line)| line.to_owned()).collect()
}

/// The verdict in words: what the oracles that decided it said.
fn reasons(verdict: Verdict, oracles: &[Oracle], faults: &[FaultReport]) -> Vec<String> {
    let deciding = match verdict {
        Verdict::Converged => {
            let faults = if faults.is_empty() { "; no fault was injected" } else { "" };
            return vec![format!(
                "every oracle passed: rows are equal at a proven position, and nothing acknowledged is missing{faults}"
            )];
        }
        Verdict::Diverged => Finding::Fail,
        Verdict::NotProven => Finding::Unknown,
    };
    // Some moves can only end well by not ending: then that comes first.
    let loud = |o: &&Oracle| o.name == oracle::LOUD_STOP && o.finding == Finding::Pass;
    let decided = oracles.iter().filter(|o| o.finding == deciding);
    limit::lines(oracles.iter().filter(loud).chain(decided), Oracle::in_a_line)
}
