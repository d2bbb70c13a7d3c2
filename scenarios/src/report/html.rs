//! The page: one file without any outside resource, made from a template that escapes every value.

use std::path::Path;

use converge_vdiff::report::{DifferingRow, Kind, TableReport, Values};
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use super::chart;
use super::timeline::Timeline;
use crate::oracle::limit;
use crate::verdict::{Finding, RunReport, Verdict};
use converge_vdiff::report::show::{first_difference, grouped, line, window};

/// The template's name; its ending makes the engine escape every value.
const NAME: &str = "template.html";
/// Characters of a value that are shown.
const MOST_CHARACTERS: usize = 160;
/// Characters before the first difference that are shown.
const CONTEXT: usize = 30;
/// Columns of a row on one side only that are shown.
const MOST_COLUMNS: usize = 12;

/// A row that differs, ready to be shown.
#[derive(Serialize)]
struct Row {
    key: String,
    what: &'static str,
    copies: u64,
    confirmed: bool,
    cells: Vec<Cell>,
}

/// A column of such a row, or all of them. `None` is NULL.
#[derive(Serialize)]
struct Cell {
    column: String,
    source: Option<String>,
    target: Option<String>,
    /// Whether there is a row on that side at all.
    on_source: bool,
    on_target: bool,
}

/// A table with rows that differ.
#[derive(Serialize)]
struct Differences {
    table: String,
    listed: usize,
    all: u64,
    rows: Vec<Row>,
}

/// A file beside the page.
#[derive(Serialize)]
struct Beside {
    name: String,
    href: String,
    bytes: u64,
    what: &'static str,
}

/// Renders the page.
pub fn page(report: &RunReport, timeline: &Timeline, directory: &Path) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.add_filter("line", |text: String| line(&text));
    environment.add_filter("grouped", grouped);
    environment.add_template(NAME, include_str!("template.html"))?;
    let differences: Vec<Differences> =
        report.vdiff.iter().flat_map(|v| &v.tables).filter(|t| !t.rows.is_empty()).map(differences).collect();
    environment.get_template(NAME)?.render(context! {
        report => Value::from(Serde(report)),
        words => report.verdict.words(),
        meaning => meaning(report),
        not_verified => not_verified(report),
        // Made by `svg`, which escapes what goes into it.
        chart => Value::from_safe_string(chart::draw(timeline)),
        bucket_seconds => timeline.width as f64 / 1e6,
        trouble => timeline.trouble.as_deref(),
        differences => Value::from(Serde(&differences)),
        files => Value::from(Serde(&beside(directory))),
    })
}

fn meaning(report: &RunReport) -> &'static str {
    match report.verdict {
        Verdict::Converged if report.faults.is_empty() => {
            "Source and target hold equal rows at a proven position, under load that really happened. No fault was injected."
        }
        Verdict::Converged => {
            "Source and target hold equal rows at a proven position, under load and faults that really happened."
        }
        Verdict::Diverged => "Rows were lost or altered. The evidence is below.",
        Verdict::NotProven => "Neither equality nor a difference was shown. This is not a pass.",
    }
}

/// What a reader must not take for verified.
pub fn not_verified(report: &RunReport) -> Vec<String> {
    let open = report.oracles.iter().filter(|o| o.finding == Finding::Unknown);
    let mut lines = limit::lines(open, |o| format!("{} could not tell: {}", o.name, o.detail));
    lines.extend(left_out(report));
    lines.iter().map(|text| line(text)).collect()
}

/// The same without what oracles could not tell.
pub fn left_out(report: &RunReport) -> Vec<String> {
    let mut lines = Vec::new();
    if report.vdiff.is_none() {
        lines.push("no rows were compared at all".into());
    }
    if report.position.is_none() {
        lines.push("no position was proven: what was compared may have been compared too early".into());
    }
    for table in report.vdiff.iter().flat_map(|v| &v.tables) {
        lines.extend(table.reasons.iter().map(|reason| format!("{}: {reason}", table.target_table)));
    }
    lines.extend(report.not_verified.iter().cloned());
    lines.iter().map(|text| line(text)).collect()
}

fn differences(table: &TableReport) -> Differences {
    Differences {
        table: line(&table.target_table),
        listed: table.rows.len(),
        all: table.mismatched_rows
            + table.extra_rows_source
            + table.extra_rows_target
            + table.unconfirmed_rows,
        rows: table.rows.iter().map(row).collect(),
    }
}

fn row(row: &DifferingRow) -> Row {
    let key: Vec<String> =
        row.key.iter().map(|(name, value)| format!("{name} = {}", key_value(value))).collect();
    let named = |name: &String| row.values.get(name).map(|values| cell(name, values));
    let cells = match row.kind {
        Kind::Mismatched => row.columns.iter().filter_map(named).collect(),
        _ => vec![whole(row)],
    };
    Row { key: key.join(", "), what: what(row.kind), copies: row.copies, confirmed: row.confirmed, cells }
}

/// A row that is on one side only, in one cell.
fn whole(row: &DifferingRow) -> Cell {
    let on_source = row.kind == Kind::ExtraSource;
    let mut columns: Vec<String> = Vec::new();
    for (name, values) in row.values.iter().take(MOST_COLUMNS) {
        let value = if on_source { &values.source } else { &values.target };
        let value = value.as_deref().map_or_else(|| "NULL".into(), |text| window(text, 0, MOST_CHARACTERS));
        columns.push(format!("{} = {value}", line(name)));
    }
    if row.values.len() > MOST_COLUMNS {
        columns.push(format!("… {} more columns", row.values.len() - MOST_COLUMNS));
    }
    let text = Some(columns.join("  ·  "));
    let (source, target) = if on_source { (text, None) } else { (None, text) };
    Cell { column: "the whole row".into(), source, target, on_source, on_target: !on_source }
}

fn key_value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => window(text, 0, MOST_CHARACTERS),
        other => window(&other.to_string(), 0, MOST_CHARACTERS),
    }
}

/// How a row differs, in words.
fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Mismatched => "differs",
        Kind::ExtraSource => "missing on the target",
        Kind::ExtraTarget => "on the target only",
    }
}

fn cell(name: &str, values: &Values) -> Cell {
    let (source, target) = (values.source.as_deref(), values.target.as_deref());
    let from = match (source, target) {
        (Some(source), Some(target)) => first_difference(source, target, CONTEXT),
        _ => 0,
    };
    let shown = |value: Option<&str>| value.map(|text| window(text, from, MOST_CHARACTERS));
    Cell {
        column: line(name),
        source: shown(source),
        target: shown(target),
        on_source: true,
        on_target: true,
    }
}

/// The files in the report's directory, except the page.
fn beside(directory: &Path) -> Vec<Beside> {
    let mut files: Vec<Beside> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            let name = entry.file_name().into_string().ok()?;
            let what = described(&name)?;
            Some(Beside { href: escaped_url(&name), name, bytes: meta.len(), what })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// `None` for what is no part of the report.
fn described(name: &str) -> Option<&'static str> {
    Some(match name {
        "verdict.json" => "this report, for programs",
        "history.jsonl" => "every statement and its answer, every fault, the mover's state",
        "schema.sql" => "the statements that made the tables",
        "plan.toml" => "the scenario, complete; it can be run again and changed",
        "mover.log" => "what the mover said",
        "source.log" => "the source server's log",
        "target.log" => "the target server's log",
        _ if name.ends_with(".log") => "a log",
        _ => return None,
    })
}

fn escaped_url(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    name.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
