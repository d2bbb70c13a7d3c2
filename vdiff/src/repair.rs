//! Making the target equal: the least DML for the rows that differ, as a script with its undo, or applied at once.
//!
//! What it must never do: write to the source; write on account of a difference that is not proven; change a row that
//! is not, byte for byte, what it was when it was compared; leave a row half repaired.

mod exact;
mod fit;
mod limits;
mod outcome;
mod rows;
mod sink;
mod target;
mod value;
mod write;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use miette::Diagnostic as _;

use crate::engine::rows::{Differing, fetch, matched};
use crate::engine::shards::Sessions;
use crate::engine::suspects::Lookup;
use crate::engine::{Found, compare_keeping, same};
use crate::error::Error;
use crate::report::{Report, TableReport};
use crate::request::{Progress, Request};
use crate::session::running::tidily;
use outcome::judge;
pub use outcome::{MissedRow, RepairReport, TableRepair};
use sink::Sink;
use target::Target;
use write::{Direction, Outcome, Writer};

/// What to do about differing rows.
#[derive(Debug, Clone, Default)]
pub struct Repair {
    /// Write what makes the target equal to this file, and its undo beside it.
    pub script: Option<PathBuf>,
    /// Apply it to the target, and read those rows again.
    pub apply: bool,
}

impl Repair {
    /// The files that it writes: the script and its undo.
    pub fn files(&self) -> Vec<PathBuf> {
        self.script.iter().flat_map(|script| [script.clone(), undo_of(script)]).collect()
    }
}

/// Compares, then repairs what is proven to differ.
///
/// What ends the repair early, as a script that cannot be written or an account that may not write, stands in the
/// report: what was found by then is not lost with it. What an applied repair had committed stays, and a new comparison
/// finds the rest.
///
/// # Errors
/// Those of [`crate::compare`].
pub async fn compare_and_repair(
    request: &Request,
    repair: &Repair,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, Error> {
    let mut found = Vec::new();
    let mut report = compare_keeping(request, progress, &mut |table| found.push(table)).await?;
    let names = all_names(&found, &report);
    found.retain(|table| !table.suspects.is_empty() || table.uncounted > 0);
    let mut done = RepairReport {
        verdict_before: report.verdict,
        applied: repair.apply,
        script: None,
        tables: Vec::new(),
        failed: None,
    };
    if let Err(error) =
        tidily(Box::pin(carry_out(request, repair, &names, &found, &mut report, &mut done))).await
    {
        done.failed = Some(match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        });
    }
    report.repair = Some(done);
    Ok(report)
}

/// Repairs what was found, and takes down how far it came.
async fn carry_out(
    request: &Request,
    repair: &Repair,
    names: &[[String; 2]],
    found: &[Found],
    report: &mut Report,
    done: &mut RepairReport,
) -> Result<(), Error> {
    let mut sessions = Sessions::open(request).await?;
    let shared = same::is_shared(&mut sessions).await?;
    let mut open = Vec::new();
    for found in found {
        let mut table = TableRepair {
            table: found.pair.source.clone(),
            target_table: found.pair.target.clone(),
            further_rows: found.uncounted,
            ..TableRepair::default()
        };
        let target = match entangled(names, &found.plan.names, shared) {
            Some(why) => Err(why.to_owned()),
            None => Target::read(&mut sessions, found).await?,
        };
        match target {
            Ok(target) => open.push((done.tables.len(), found, target)),
            Err(why) => table.refused = Some(why),
        }
        done.tables.push(table);
    }
    if let Some(path) = &repair.script {
        let undo = undo_of(path);
        script(&mut sessions, report, request, [path, &undo], &open, &mut done.tables).await?;
        done.script = Some([path.display().to_string(), undo.display().to_string()]);
    }
    if repair.apply && !open.is_empty() {
        apply(&mut sessions, request, &open, &mut done.tables).await?;
        judge(report, &done.tables);
    }
    sessions.close().await;
    Ok(())
}

/// The names of all tables that were compared, as far as known as their servers have them.
fn all_names(found: &[Found], report: &Report) -> Vec<[String; 2]> {
    let known =
        |t: &&TableReport| found.iter().any(|f| f.pair.source == t.table && f.pair.target == t.target_table);
    let others = report.tables.iter().filter(|t| !known(t));
    let others = others.map(|t| [t.table.clone(), t.target_table.clone()]);
    found.iter().map(|f| f.plan.names.clone()).chain(others).collect()
}

/// Why writing to a table would change what was found in another pair. `shared`: both sides are one database.
fn entangled(all: &[[String; 2]], own: &[String; 2], shared: bool) -> Option<&'static str> {
    if shared && all.iter().any(|names| names[0] == own[1]) {
        return Some("it is a source too, which is never written to");
    }
    let alike = all.iter().filter(|names| names[1] == own[1]).count();
    (alike > 1).then_some("it is the target of several of the tables: repair them one by one")
}

/// `FILE.sql` becomes `FILE.undo.sql`.
fn undo_of(path: &Path) -> PathBuf {
    path.with_extension(match path.extension() {
        Some(extension) => format!("undo.{}", extension.to_string_lossy()),
        None => "undo".into(),
    })
}

type Open<'a> = (usize, &'a Found, Target);

/// Writes a table's statements one way. What became of its rows is told also where an error ended it.
async fn written(
    sessions: &mut Sessions,
    sink: &mut Sink,
    (found, target): (&Found, &Target),
    direction: Direction,
    skip: HashSet<Vec<u8>>,
) -> (Outcome, Result<(), Error>) {
    let (outcome, load) = (Outcome::default(), Default::default());
    Writer { found, target, sessions, direction, sink, skip, outcome, load, pending: 0 }.write().await
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
        let (done, ended) =
            written(sessions, &mut repair, (found, target), Direction::Repair, HashSet::new()).await;
        ended?;
        let left_out = done.left_out.clone();
        let (undone, ended) = written(sessions, &mut undo, (found, target), Direction::Undo, left_out).await;
        ended?;
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
        let (done, ended) =
            written(sessions, &mut sink, (found, target), Direction::Repair, HashSet::new()).await;
        tables[*at].repaired_rows = done.rows;
        tables[*at].left(done);
        ended?;
    }
    sink.finish().await?;
    for (at, found, _) in open {
        let [mut left, mut unchanged] = still_differing(sessions, found).await?;
        if left > 0 {
            // What is on its way by other means gets one moment.
            tokio::time::sleep(request.options.quiet_window).await;
            [left, unchanged] = still_differing(sessions, found).await?;
        }
        (tables[*at].still_differing_rows, tables[*at].unchanged_rows) = (Some(left), Some(unchanged));
    }
    Ok(())
}

/// How many of the rows that were proven to differ still do, and how many of these are what they were then.
async fn still_differing(sessions: &mut Sessions, found: &Found) -> Result<[u64; 2], Error> {
    let (mut differing, mut unchanged, plan) = (0, 0, &found.plan);
    for batch in rows::batches(plan, found.suspects.iter().collect()) {
        let lookup = Lookup::of(plan, batch.iter().copied());
        let (source, target) = tokio::join!(
            fetch(&mut sessions.source, plan, &lookup.scope, lookup.pick()),
            fetch(&mut sessions.target, plan, &lookup.scope, lookup.pick())
        );
        let (source, target) = (source?, target?);
        differing += source.undigested + target.undigested;
        let proven: HashMap<&[u8], &Differing> =
            batch.iter().map(|s| (s.row.key.as_slice(), &s.row)).collect();
        for left in matched(source.rows, target.rows).1 {
            let Some(then) = proven.get(&left.key[..]) else { continue };
            let rows = left.counts().differing();
            differing += rows;
            unchanged += if left.rest == then.rest { rows } else { 0 };
        }
    }
    Ok([differing, unchanged])
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
            Some(format!("NOT in it: table {}: {why}", t.name()))
        }));
        lines.extend(tables.iter().filter(|t| t.further_rows > 0).map(|t| {
            format!(
                "PARTIAL: table {} has {} more differing rows: compare again afterwards",
                t.name(),
                t.further_rows
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
