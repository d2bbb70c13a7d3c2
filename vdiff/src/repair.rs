//! Making the target equal: the least DML for the rows that differ, as a script with its undo, or applied at once.
//!
//! What it must never do: write to the source; write on account of a difference that is not proven; change a row that
//! is not, byte for byte, what it was when it was compared; leave a row half repaired.

mod rows;
mod sink;
mod target;
mod value;
mod write;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::rows::{fetch, matched};
use crate::engine::shards::Sessions;
use crate::engine::suspects::Lookup;
use crate::engine::{Found, compare_keeping};
use crate::error::Error;
use crate::report::{Report, Verdict};
use crate::request::{Progress, Request};
use sink::Sink;
use target::Target;
use write::{Direction, Outcome, Writer};

/// Rows that were not repaired and are named.
const NAMED: usize = 100;

/// What to do about differing rows.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// Write what makes the target equal to this file, and its undo beside it.
    pub script: Option<PathBuf>,
    /// Apply it to the target, and read those rows again.
    pub apply: bool,
}

/// A row that was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedRow {
    /// Its key, as SQL.
    pub row: String,
    /// Why.
    pub why: String,
}

/// What became of one table's differing rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRepair {
    /// The table's name on the source.
    pub table: String,
    /// Rows in the script.
    pub scripted_rows: u64,
    /// Rows that were changed on the target.
    pub repaired_rows: u64,
    /// Rows that were left as they are, the first of them.
    pub missed: Vec<MissedRow>,
    /// How many were left as they are.
    pub missed_rows: u64,
    /// Differing rows beyond those that are held: another run finds them.
    pub further_rows: u64,
    /// Rows that still differed when they were read again after the repair.
    pub still_differing_rows: Option<u64>,
    /// Why nothing was done about the table.
    pub refused: Option<String>,
}

/// What was done about differing rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// The verdict before. The report's own is that after an applied repair.
    pub verdict_before: Verdict,
    /// Whether the target was written to.
    pub applied: bool,
    /// The script, and its undo.
    pub script: Option<[String; 2]>,
    /// Each table with rows that differ.
    pub tables: Vec<TableRepair>,
}

/// Compares, then repairs what is proven to differ.
///
/// # Errors
/// Those of [`crate::compare`]; a script that cannot be written; an account that may not write. What an applied repair
/// had committed by then stays, and a new comparison finds the rest.
pub async fn compare_and_repair(
    request: &Request,
    repair: &Repair,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, Error> {
    let mut found = Vec::new();
    let mut report = compare_keeping(request, progress, &mut |table| found.push(table)).await?;
    found.retain(|table| !table.suspects.is_empty() || table.uncounted > 0);
    let mut done = RepairReport {
        verdict_before: report.verdict,
        applied: repair.apply,
        script: None,
        tables: Vec::new(),
    };
    let mut sessions = Sessions::open(request).await?;
    let mut open = Vec::new();
    for found in &found {
        let mut table = TableRepair { table: found.pair.source.clone(), ..TableRepair::default() };
        table.further_rows = found.uncounted;
        match Target::read(&mut sessions, found).await? {
            Ok(target) => open.push((done.tables.len(), found, target)),
            Err(why) => table.refused = Some(why),
        }
        done.tables.push(table);
    }
    if let Some(path) = &repair.script {
        let undo = undo_of(path);
        script(&mut sessions, &report, request, [path, &undo], &open, &mut done.tables).await?;
        done.script = Some([path.display().to_string(), undo.display().to_string()]);
    }
    if repair.apply && !open.is_empty() {
        apply(&mut sessions, request, &open, &mut done.tables).await?;
        judge(&mut report, &done.tables);
    }
    sessions.close().await;
    report.repair = Some(done);
    Ok(report)
}

/// `FILE.sql` becomes `FILE.undo.sql`.
fn undo_of(path: &Path) -> PathBuf {
    path.with_extension(match path.extension() {
        Some(extension) => format!("undo.{}", extension.to_string_lossy()),
        None => "undo".into(),
    })
}

type Open<'a> = (usize, &'a Found, Target);

/// Writes all tables' statements one way.
async fn written(
    sessions: &mut Sessions,
    sink: &mut Sink,
    (found, target): (&Found, &Target),
    direction: Direction,
    skip: HashSet<Vec<u8>>,
) -> Result<Outcome, Error> {
    let (outcome, load) = (Outcome::default(), Default::default());
    Writer { found, target, sessions, direction, sink, skip, outcome, load }.write().await
}

async fn script(
    sessions: &mut Sessions,
    report: &Report,
    request: &Request,
    paths: [&Path; 2],
    open: &[Open<'_>],
    tables: &mut [TableRepair],
) -> Result<(), Error> {
    let comment = comment(report, request, paths, tables);
    let mut repair = Sink::script(paths[0], &comment[0])?;
    let mut undo = Sink::script(paths[1], &comment[1])?;
    for (at, found, target) in open {
        let done = written(sessions, &mut repair, (found, target), Direction::Repair, HashSet::new()).await?;
        let left_out = done.left_out.clone();
        let undone = written(sessions, &mut undo, (found, target), Direction::Undo, left_out).await?;
        if !undone.missed.is_empty() || undone.rows != done.rows {
            let why = "rows changed while it was written: run the comparison again when they stand still";
            return Err(Error::RepairFile { path: paths[1].display().to_string(), why: why.into() });
        }
        tables[*at].scripted_rows = done.rows;
        tables[*at].left(done);
    }
    repair.finish().await?;
    undo.finish().await
}

async fn apply(
    sessions: &mut Sessions,
    request: &Request,
    open: &[Open<'_>],
    tables: &mut [TableRepair],
) -> Result<(), Error> {
    let [address] = &request.target[..] else { return Ok(()) };
    let mut sink = Sink::server(address, request.options.statement_timeout).await?;
    for (at, found, target) in open {
        let done = written(sessions, &mut sink, (found, target), Direction::Repair, HashSet::new()).await?;
        tables[*at].repaired_rows = done.rows;
        tables[*at].left(done);
    }
    sink.finish().await?;
    for (at, found, _) in open {
        let mut left = still_differing(sessions, found).await?;
        if left > 0 {
            // What is on its way by other means gets one moment.
            tokio::time::sleep(request.options.quiet_window).await;
            left = still_differing(sessions, found).await?;
        }
        tables[*at].still_differing_rows = Some(left);
    }
    Ok(())
}

/// How many of the rows that were proven to differ still do.
async fn still_differing(sessions: &mut Sessions, found: &Found) -> Result<u64, Error> {
    let (mut differing, plan) = (0, &found.plan);
    for batch in rows::batches(plan, found.suspects.iter().collect()) {
        let lookup = Lookup::of(plan, batch.iter().copied());
        let (source, target) = tokio::join!(
            fetch(&mut sessions.source, plan, &lookup.scope, lookup.pick()),
            fetch(&mut sessions.target, plan, &lookup.scope, lookup.pick())
        );
        let (source, target) = (source?, target?);
        differing += source.undigested + target.undigested;
        let wanted: HashSet<&[u8]> = batch.iter().map(|s| s.row.key.as_slice()).collect();
        let left = matched(source.rows, target.rows).1;
        differing +=
            left.iter().filter(|d| wanted.contains(&d.key[..])).map(|d| d.counts().differing()).sum::<u64>();
    }
    Ok(differing)
}

impl RepairReport {
    /// What was done, a line for each table and file.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("verdict before: {}", self.verdict_before.as_str())];
        if let Some([script, undo]) = &self.script {
            lines.push(format!("script: {script}, its undo: {undo}"));
        }
        for table in &self.tables {
            let name = &table.table;
            if let Some(why) = &table.refused {
                lines.push(format!("{name}: NOT repaired: {why}"));
                continue;
            }
            let done = match self.applied {
                true => format!("{} rows repaired", table.repaired_rows),
                false => format!("{} rows in the script", table.scripted_rows),
            };
            let further = match table.further_rows {
                0 => String::new(),
                more => format!("; PARTIAL: {more} more differ than are held at once: run it again"),
            };
            lines.push(format!("{name}: {done}, {} left alone{further}", table.missed_rows));
            lines.extend(
                table.missed.iter().map(|row| format!("{name}: left alone: {}: {}", row.row, row.why)),
            );
        }
        lines
    }
}

impl TableRepair {
    fn left(&mut self, outcome: Outcome) {
        self.missed_rows = outcome.missed.len() as u64;
        self.missed =
            (outcome.missed.into_iter().take(NAMED)).map(|(row, why)| MissedRow { row, why }).collect();
    }
}

/// The verdict after the repair: equal only where every differing row was seen to be equal.
fn judge(report: &mut Report, repairs: &[TableRepair]) {
    for repair in repairs.iter().filter(|r| r.refused.is_none() && r.further_rows == 0) {
        let Some(left) = repair.still_differing_rows else { continue };
        for table in report.tables.iter_mut().filter(|t| t.table == repair.table) {
            if left > 0 {
                table.reasons.push(format!(
                    "{left} rows still differed when they were read again after the repair, {} of them were left alone \
                     because they are not what was compared: run the comparison again",
                    repair.missed_rows
                ));
            }
            table.verdict = if table.reasons.is_empty() { Verdict::Equal } else { Verdict::NotProven };
        }
    }
    report.verdict = report.tables.iter().map(|t| t.verdict).max().unwrap_or(Verdict::NotProven);
}

/// What stands on top of the script and of its undo.
fn comment(
    report: &Report,
    request: &Request,
    paths: [&Path; 2],
    tables: &[TableRepair],
) -> [Vec<String>; 2] {
    let run = |path: &Path| {
        let target =
            request.target.first().map(|a| format!("--host={} --port={} --user={}", a.host, a.port, a.user));
        format!("Run it: mysql {} < {}", target.unwrap_or_default(), path.display())
    };
    let about = |what: String, path: &Path| {
        let mut lines = vec![what, format!("Compared at {}: {}", report.started, report.command)];
        lines.extend(tables.iter().filter_map(|t| {
            let why = t.refused.as_ref()?;
            Some(format!("NOT in it: table {}: {why}", t.table))
        }));
        lines.extend(tables.iter().filter(|t| t.further_rows > 0).map(|t| {
            format!(
                "PARTIAL: table {} has {} more differing rows: compare again afterwards",
                t.table, t.further_rows
            )
        }));
        lines.extend([
            "Each statement changes a row only while it is, byte for byte, what it was when it was compared. If one is".into(),
            format!("not, the transaction is rolled back and the client ends with an error that names `{}`.", "converge"),
            "Foreign keys are not checked here, and nothing cascades. The account needs SELECT, INSERT, UPDATE, DELETE.".into(),
            run(path),
        ]);
        lines
    };
    [
        about(
            format!(
                "Makes {} equal to {}. Its undo: {}",
                report.target.address,
                report.source.address,
                paths[1].display()
            ),
            paths[0],
        ),
        about(format!("Undoes {} on {}", paths[0].display(), report.target.address), paths[1]),
    ]
}
