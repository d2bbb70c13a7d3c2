//! The end of a rehearsal: let the load reach its least, switch traffic under load, compare at the proven position.

use std::time::{Duration, Instant};

use converge_chaos::load::{Invariant, LoadHandle, Written};
use converge_mover::control::Status;
use converge_mover::source::fenced_name;
use converge_vdiff::{Filter, Options as VdiffOptions, ProofSource, Request, TablePair};

use super::mover::{Mover, UNTIL, WORKFLOW};
use super::watch::{TICK, Watcher};
use super::world::{Seeded, World};
use super::{RehearsalError, Run, Running};
use crate::mutant::Mutant;
use crate::oracle;
use crate::oracle::{commits, logs, silence};
use crate::saved::HISTORY;
use crate::verdict::{Finding, Oracle};

/// How long the copy may take.
const COPY_BOUND: Duration = Duration::from_secs(600);
/// How long the load may take to acknowledge its least number of statements.
const LOAD_BOUND: Duration = Duration::from_secs(60);
/// How long the load is watched before its rate says anything.
const OBSERVED: Duration = Duration::from_secs(3);
/// What `switch-traffic` gets to fence and drain.
const SWITCH_TIMEOUT: &str = "30s";
/// How long the command may take over all.
const SWITCH_BOUND: Duration = Duration::from_secs(60);
/// How long the mover may take to end once the workflow is complete.
const END_BOUND: Duration = Duration::from_secs(15);

/// Why a comparison without a proven position decides nothing.
const NOT_FENCED: &str = "no position was proven: a difference may be a change that was not applied yet, and equal rows may be \
     so by chance";

impl Run<'_> {
    /// Ends the move and compares. The load goes on until writes are fenced.
    pub(super) async fn finish(
        &mut self,
        world: &World,
        watcher: &Watcher,
        mover: &mut Mover,
        running: Running,
    ) -> Result<(), RehearsalError> {
        let Running { load, readings, began, sources } = running;
        let replicating = |s: Option<&Status>| s.is_some_and(|s| s.state == "replicating");
        let copied = watcher.until(mover, COPY_BOUND, replicating).await.is_some();
        if copied {
            self.until_enough(watcher, mover, &load).await;
            self.switch(watcher, mover).await?;
        } else {
            let why = mover.ended().unwrap_or_else(|| "the copy did not end".into());
            self.no_position(&why);
        }
        self.step("stopping the load");
        self.counted = Some(load.stop().await);
        readings.finish().await;
        let fenced = self.position.is_some();
        if fenced {
            self.end_workflow(mover).await?;
        }
        let target = world.target_address();
        let mut drained = None;
        if let Some(began) = &began {
            drained = Some(logs::end(&target).await);
            self.commits = Some(commits::read(&target, WORKFLOW, began).await.map_err(|e| e.to_string()));
        }
        self.step("comparing");
        self.compare(world, fenced, mover.is_running()).await;
        // The ledger is read back from the file, which must be whole.
        self.history.finish()?;
        self.forget()?;
        self.ledger(world, fenced).await;
        self.oracles.push(sources.judge(&world.source_address()).await);
        if let (true, Some((began, drained))) = (fenced, began.zip(drained)) {
            let tables = &self.seeded.tables;
            let marks = silence::Marks { began, drained: drained? };
            self.oracles.push(silence::judge(&target, &marks, tables).await);
        }
        Ok(())
    }

    async fn ledger(&mut self, world: &World, fenced: bool) {
        let name = self.names().of(Invariant::Ledger);
        if !self.seeded.tables.contains(&name) {
            return;
        }
        let kept = if fenced { fenced_name(&name) } else { name.clone() };
        let (target, source) = (world.target_address(), world.source_address());
        let history = self.options.directory.join(HISTORY);
        let (oracle, suspects) = oracle::ledger(&history, (&target, &name), (&source, &kept), fenced).await;
        self.oracles.push(oracle);
        self.suspects.extend(suspects);
    }

    /// Lets the load run until each kind was acknowledged often enough and some time has passed since the last fault.
    async fn until_enough(&self, watcher: &Watcher, mover: &mut Mover, load: &LoadHandle) {
        self.step("replicating under load");
        let least = self.options.scenario.least.each_kind;
        let settled = Instant::now() + Duration::from_secs_f64(self.options.scenario.settle_seconds);
        let give_up = settled + LOAD_BOUND;
        let acknowledged = || self.reached(&load.counters().written());
        let (begun, before) = (Instant::now(), acknowledged());
        while Instant::now() < give_up && mover.is_running() {
            watcher.look(mover).await;
            let now = acknowledged();
            let seen = begun.elapsed();
            if Instant::now() >= settled && now.iter().all(|(n, least)| n >= least) {
                return;
            }
            if Instant::now() >= settled && seen >= OBSERVED {
                let left = give_up.saturating_duration_since(Instant::now());
                let mut pairs = before.iter().zip(now);
                if pairs.any(|((before, _), (now, least))| out_of_reach(now - before, seen, now, least, left))
                {
                    let why =
                        format!("each kind cannot reach {least} acknowledged writes to moved tables in time");
                    self.history.note(why);
                    return;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// How many writes to the moved tables were acknowledged, and are needed: of each kind, and to each table.
    fn reached(&self, written: &Written) -> Vec<(u64, u64)> {
        let Seeded { tables, kinds, idle, .. } = &self.seeded;
        let least = self.options.scenario.least.each_kind;
        let moved = || tables.iter().filter_map(|table| written.get(table));
        let of_kind = |kind| (moved().filter_map(|kinds| kinds.get(kind)).sum(), least);
        let of_table = |table| (written.get(table).map_or(0, |kinds| kinds.values().sum()), least.min(1));
        let busy = tables.iter().filter(|table| !idle.contains(table));
        kinds.iter().map(of_kind).chain(busy.map(of_table)).collect()
    }

    async fn switch(&mut self, watcher: &Watcher, mover: &mut Mover) -> Result<(), RehearsalError> {
        self.step("fencing writes on the source while the load goes on");
        watcher.let_go();
        let (code, output) =
            mover.command("switch-traffic", &["--timeout", SWITCH_TIMEOUT, UNTIL], SWITCH_BOUND).await?;
        self.history.note(format!("switch-traffic ended with {code}: {output}"));
        if code != 0 {
            let ended = mover.ended().unwrap_or_default();
            self.no_position(&format!("traffic could not be switched: {output} {ended}"));
            return Ok(());
        }
        match watcher.look(mover).await {
            Some(status) if status.state == "switched" => {
                let position = status.applied_position;
                self.oracles.push(Oracle::new(
                    "position",
                    Finding::Pass,
                    format!("writes are fenced and applied up to {position}"),
                ));
                self.position = Some(position);
            }
            other => self
                .no_position(&format!("after switch-traffic the workflow is {:?}", other.map(|s| s.state))),
        }
        Ok(())
    }

    /// No proven position. A mover that says itself that the target differs is evidence; any other end is not.
    fn no_position(&mut self, why: &str) {
        const ALARMS: [&str; 2] = ["the target differs from the source", "is not what was moved there"];
        let alarm = ALARMS.iter().any(|alarm| why.contains(alarm));
        let finding = if alarm { Finding::Fail } else { Finding::Unknown };
        self.oracles.push(Oracle::new("position", finding, why));
    }

    /// `follows`: the mover still applies what the source logs.
    async fn compare(&mut self, world: &World, fenced: bool, follows: bool) {
        let of_itself = self.options.is(Mutant::DiffOfItself);
        let fenced_here = fenced && !of_itself;
        let mut options = VdiffOptions::default();
        if self.options.is(Mutant::DiffOfNothing) {
            options.filters.extend("1 = 0".parse::<Filter>().ok());
        }
        if self.options.is(Mutant::DiffCutShort) {
            options.max_duration = Some(Duration::ZERO);
        }
        let pair = |name: &String| TablePair {
            source: if fenced_here { fenced_name(name) } else { name.clone() },
            target: name.clone(),
        };
        let request = Request {
            source: vec![if of_itself { world.target_address() } else { world.source_address() }],
            target: vec![world.target_address()],
            tables: self.seeded.tables.iter().map(pair).collect(),
            options,
        };
        let (compared, proven) = match follows && !fenced {
            true => self.followed(request).await,
            false => (converge_vdiff::compare(&request, &|_| {}).await, fenced),
        };
        match compared {
            Ok(report) => {
                let mut oracle = oracle::vdiff(&report);
                self.suspects.extend(oracle::differing(&report));
                if !(fenced || proven && oracle.finding == Finding::Fail) {
                    oracle.finding = Finding::Unknown;
                    oracle.evidence.insert(0, NOT_FENCED.into());
                }
                self.oracles.push(oracle);
                self.vdiff = Some(report);
            }
            Err(e) => self.oracles.push(Oracle::new(
                "vdiff",
                Finding::Unknown,
                format!("the comparison failed: {e}"),
            )),
        }
    }

    /// Compares at the position that the mover has applied, which proves a difference, though no pass; or, where that cannot
    /// be done, the tables as they are. Which of both it was.
    async fn followed(
        &self,
        request: Request,
    ) -> (Result<converge_vdiff::Report, converge_vdiff::Error>, bool) {
        let mut by_workflow = request.clone();
        by_workflow.options.proof = ProofSource::Workflow(WORKFLOW.into());
        by_workflow.options.confirm_within = END_BOUND;
        match converge_vdiff::compare(&by_workflow, &|_| {}).await {
            Ok(report) => (Ok(report), true),
            Err(why) => {
                self.history.note(format!("compared without the mover's position: {why}"));
                (converge_vdiff::compare(&request, &|_| {}).await, false)
            }
        }
    }

    /// Leaves lines out of the history that is complete, if this is a mutant that does.
    fn forget(&self) -> Result<(), RehearsalError> {
        let (what, every) = match self.options.mutant {
            Some(Mutant::HistoryForgetsUnknown) => ("\"event\":\"info\"", 1),
            Some(Mutant::HistoryForgetsSome) => ("\"event\":\"ok\"", 10),
            _ => return Ok(()),
        };
        let path = self.options.directory.join("history.jsonl");
        let text = std::fs::read_to_string(&path).map_err(RehearsalError::io("reading", &path))?;
        let mut seen = 0_u64;
        let kept = text.lines().filter(|line| {
            seen += u64::from(line.contains(what));
            !line.contains(what) || !seen.is_multiple_of(every)
        });
        let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
        std::fs::write(&path, kept).map_err(RehearsalError::io("writing", &path))
    }

    async fn end_workflow(&mut self, mover: &mut Mover) -> Result<(), RehearsalError> {
        let (code, output) = mover.command("complete", &[], SWITCH_BOUND).await?;
        let ended = mover.wait(END_BOUND).await;
        let finding = if code == 0 && ended == Some(0) { Finding::Pass } else { Finding::Unknown };
        let detail = match finding {
            Finding::Pass => "the workflow was completed and the mover ended by itself".to_owned(),
            _ => format!("complete ended with {code} ({output}), the mover with {ended:?}"),
        };
        self.oracles.push(Oracle::new("mover", finding, detail));
        Ok(())
    }
}

/// Whether `least` is not to be reached in the time `left`, even at several times the rate that was seen.
fn out_of_reach(gained: u64, seen: Duration, now: u64, least: u64, left: Duration) -> bool {
    const GENEROUS: f64 = 4.0;
    let hoped = GENEROUS * (gained + 1) as f64 / seen.as_secs_f64().max(f64::EPSILON) * left.as_secs_f64();
    (now as f64) + hoped < least as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_hopeless_is_given_up() {
        let (seen, left) = (Duration::from_secs(5), Duration::from_secs(50));
        assert!(!out_of_reach(10, seen, 30, 50, left));
        assert!(!out_of_reach(1, seen, 0, 50, left));
        assert!(out_of_reach(0, seen, 0, 1_000_000, left));
        assert!(out_of_reach(500, seen, 2000, 1_000_000, left));
    }
}
