//! Both engines: chunks are digested on both sides at once, by the servers (push-down) or by the client out of the rows
//! (stream); where they differ, keys and digests of the rows are fetched.

mod detail;
mod rows;
mod settle;
mod stream;
mod table;

use std::time::{Instant, SystemTime};

use crate::error::Error;
use crate::plan::{self, Plan};
use crate::report::{DIGEST, Report, ServerReport, TableReport, Verdict, rfc3339};
use crate::request::{Progress, Request, Side, TablePair};
use crate::schema;
use crate::session::Session;
use settle::Evidence;
use table::TableRun;

/// Both sides' connections.
pub struct Sessions {
    pub source: Session,
    pub target: Session,
}

/// Compares tables between two servers.
///
/// Only reads. Tables are compared one after the other; `progress` is told what happens. The verdict is
/// [`Verdict::Equal`] only if every row of both sides was read and found equal; a difference is reported as proven
/// only if both servers stood still while it was there.
///
/// # Errors
/// Whatever keeps a table from being read to its end, so that nothing can be said: see [`Error`].
///
/// # Example
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use converge_vdiff::{Options, Request, TablePair, Verdict, compare};
///
/// let request = Request {
///     source: "mysql://root@127.0.0.1:3306/shop".parse()?,
///     target: "mysql://root@127.0.0.1:3307/shop".parse()?,
///     tables: vec![TablePair::same("customer")],
///     options: Options::default(),
/// };
/// let report = compare(&request, &|_| {}).await?;
/// assert_eq!(report.verdict, Verdict::Equal);
/// # Ok(()) }
/// ```
pub async fn compare(request: &Request, progress: &(dyn Fn(Progress) + Sync)) -> Result<Report, Error> {
    if request.tables.is_empty() {
        return Err(Error::BadRequest("no table is named".into()));
    }
    let (started, clock) = (SystemTime::now(), Instant::now());
    let timeout = request.options.statement_timeout;
    let (source, target) = tokio::join!(
        Session::open(Side::Source, &request.source, timeout),
        Session::open(Side::Target, &request.target, timeout)
    );
    let mut sessions = Sessions { source: source?, target: target? };
    // All tables are looked up before the first is compared: a typing error must not come out after hours.
    for pair in &request.tables {
        plan_of(&mut sessions, pair, request).await?;
    }
    let before = Evidence::read(&mut sessions).await?;
    let mut tables = Vec::with_capacity(request.tables.len());
    for pair in &request.tables {
        tables.push(one_table(&mut sessions, pair, request, progress).await?);
    }
    let after = Evidence::read(&mut sessions).await?;
    let server = |session: &Session, side: usize| ServerReport {
        address: session.address.clone(),
        version: session.info.to_string(),
        position_before: before.positions[side].clone(),
        position_after: after.positions[side].clone(),
        stood_still: before.stood_still(&after, side),
    };
    let mut report = Report {
        verdict: tables.iter().map(|t| t.verdict).max().unwrap_or(Verdict::NotProven),
        tables,
        source: server(&sessions.source, 0),
        target: server(&sessions.target, 1),
        digest: DIGEST.into(),
        started: rfc3339(started),
        elapsed_seconds: clock.elapsed().as_secs_f64(),
        notes: Vec::new(),
        command: command(request),
    };
    note(&mut report, request);
    let Sessions { source, target } = sessions;
    tokio::join!(source.close(), target.close());
    Ok(report)
}

async fn plan_of(sessions: &mut Sessions, pair: &TablePair, request: &Request) -> Result<(Plan, u64), Error> {
    let (source, target) = tokio::join!(
        schema::read(&mut sessions.source, &pair.source),
        schema::read(&mut sessions.target, &pair.target)
    );
    let (source, target) = (source?, target?);
    let flavors = [sessions.source.info.flavor, sessions.target.info.flavor];
    let plan = plan::build([&source, &target], flavors, &request.options)?;
    Ok((plan, source.rows_estimated))
}

async fn one_table(
    sessions: &mut Sessions,
    pair: &TablePair,
    request: &Request,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<TableReport, Error> {
    let clock = Instant::now();
    let (plan, rows_estimated) = plan_of(sessions, pair, request).await?;
    let table = pair.source.clone();
    progress(Progress::Table { table: table.clone(), rows_estimated });
    let mut run = TableRun::new(&plan, sessions, &request.options, progress, &pair.source);
    let proof = run.run().await?;
    let rows = run.describe(proof.differences).await?;
    let counts = run.counts();
    let mut reasons = plan.unproven.clone();
    reasons.extend(proof.reasons);
    let differs = plan.is_different || (proof.differences && counts.differing() > 0);
    let verdict = match (differs, reasons.is_empty()) {
        (true, _) => Verdict::Different,
        (false, false) => Verdict::NotProven,
        (false, true) => Verdict::Equal,
    };
    let (found, unconfirmed) =
        if proof.differences { (counts, 0) } else { (rows::Counts::default(), counts.differing()) };
    let mut schema_notes = plan.schema_notes.clone();
    if run.source_rows + run.target_rows == 0 {
        schema_notes.push("the table is empty on both sides".into());
    }
    progress(Progress::Done { table: table.clone(), verdict });
    Ok(TableReport {
        table,
        target_table: pair.target.clone(),
        verdict,
        processed_rows: run.matching + counts.differing() + run.undigested,
        matching_rows: run.matching,
        mismatched_rows: found.mismatched,
        extra_rows_source: found.extra_source,
        extra_rows_target: found.extra_target,
        unconfirmed_rows: unconfirmed,
        rows,
        not_verified: plan.not_verified.clone(),
        reasons,
        schema_notes,
        source_rows: run.source_rows,
        target_rows: run.target_rows,
        engine: run.engine.as_str().into(),
        engine_reason: run.engine_reason.clone(),
        key: plan.key().iter().map(|c| c.name.clone()).collect(),
        chunks: run.chunks,
        elapsed_seconds: clock.elapsed().as_secs_f64(),
    })
}

fn note(report: &mut Report, request: &Request) {
    let place = |a: &converge_mysql::Address| (a.host.clone(), a.port, a.database.clone());
    if place(&request.source) == place(&request.target) && request.tables.iter().any(|t| t.source == t.target)
    {
        report.notes.push("source and target are the same: tables were compared with themselves".into());
    }
    for (side, server) in [("source", &report.source), ("target", &report.target)] {
        if !server.stood_still {
            let what = format!(
                "the {side} was written to during the comparison (or its position cannot be read): equal rows were equal \
                 when they were read, at different moments"
            );
            report.notes.push(what);
        }
    }
}

/// The command to run again, without passwords.
fn command(request: &Request) -> String {
    let bare = |address: &converge_mysql::Address| {
        let mut address = address.clone();
        address.password.clear();
        address.to_string()
    };
    let tables: Vec<String> = request
        .tables
        .iter()
        .map(|t| if t.source == t.target { t.source.clone() } else { format!("{}={}", t.source, t.target) })
        .collect();
    let mut command = format!(
        "converge vdiff --source '{}' --target '{}' --tables '{}'",
        bare(&request.source),
        bare(&request.target),
        tables.join(",").replace('\'', "'\\''")
    );
    if request.options.engine != crate::request::Engine::Auto {
        command.push_str(&format!(" --engine {}", request.options.engine.as_str()));
    }
    if !request.options.ignore_columns.is_empty() {
        let columns = request.options.ignore_columns.join(",").replace('\'', "'\\''");
        command.push_str(&format!(" --ignore-columns '{columns}'"));
    }
    command
}
