//! The report for a terminal.

use std::fmt::Write as _;

use super::show::{first_difference, grouped, line, visible, without_told};
use super::{DifferingRow, Kind, Report, TableReport, Values};

/// Differing rows per table that text shows; the JSON and HTML forms have them all.
const SHOWN_ROWS: usize = 20;

/// Characters of a value that text shows.
const SHOWN_CHARACTERS: usize = 60;

/// Characters that are the same, shown before what differs in two long values.
const CONTEXT: usize = 20;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    for table in report.tables.iter().filter(|t| !t.rows.is_empty()) {
        let _ = writeln!(out, "differing rows of {}:", line(&table.table));
        differences(&mut out, table, SHOWN_ROWS);
        out.push('\n');
    }
    summary(&mut out, report);
    let about = |of: fn(&TableReport) -> &Vec<String>| -> Vec<String> {
        let lines = |t| of(t).iter().map(|text| format!("{}: {}", line(&t.table), line(text)));
        report.tables.iter().flat_map(lines).collect()
    };
    section(&mut out, "NOT proven", &about(|t| &t.reasons));
    section(&mut out, "NOT verified", &[about(|t| &t.not_verified), report.not_verified.clone()].concat());
    if let Some(repair) = &report.repair {
        section(&mut out, "repair", &repair.lines());
    }
    section(&mut out, "schema", &schema(report));
    section(&mut out, "notes", &report.notes);
    out.push('\n');
    // Of a table that one side lacks nothing was compared.
    for table in report.tables.iter().filter(|table| !table.engine.is_empty()) {
        let _ = writeln!(out, "engine: {}: {}: {}", line(&table.table), table.engine, table.engine_reason);
    }
    for (side, server) in [("source", &report.source), ("target", &report.target)] {
        let _ = writeln!(out, "{side}: {} ({})", line(&server.address), server.version);
    }
    let _ = writeln!(out, "verdict: {}", report.verdict.as_str());
    out
}

/// Findings with their severity, then what is no finding: how rows were matched.
fn schema(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for table in &report.tables {
        let name = line(&table.table);
        for finding in &table.schema {
            lines.push(format!("{}: {name}: {}", finding.severity.as_str(), line(&finding.message)));
        }
        let told = |note: &&String| !table.schema.iter().any(|finding| finding.message == **note);
        lines.extend(table.schema_notes.iter().filter(told).map(|note| format!("{name}: {}", line(note))));
    }
    lines
}

fn section(out: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(out, "\n{title}");
    }
    for text in lines {
        let _ = writeln!(out, "  - {}", line(text));
    }
}

/// A table's name, and that on the target where it has another.
pub fn name(table: &TableReport) -> String {
    match table.table == table.target_table {
        true => line(&table.table),
        false => format!("{} = {}", line(&table.table), line(&table.target_table)),
    }
}

/// What was counted, in one line.
pub fn counts(table: &TableReport) -> String {
    let n = |n| grouped(n);
    format!(
        "{} of {} rows match, {} differ, {} on the source only, {} on the target only, {} unconfirmed",
        n(table.matching_rows),
        n(table.processed_rows),
        n(table.mismatched_rows),
        n(table.extra_rows_source),
        n(table.extra_rows_target),
        n(table.unconfirmed_rows)
    )
}

/// The first `most` differing rows.
pub fn differences(out: &mut String, table: &TableReport, most: usize) {
    for row in table.rows.iter().take(most) {
        let kind = match row.kind {
            Kind::Mismatched => "mismatched",
            Kind::ExtraSource => "on the source only",
            Kind::ExtraTarget => "on the target only",
        };
        let copies = if row.copies > 1 { format!(" ×{}", row.copies) } else { String::new() };
        let sure = if row.confirmed { "" } else { " (unconfirmed)" };
        let _ = writeln!(out, "  {}  {kind}{copies}{sure}", key(row));
        for column in &row.columns {
            if let Some(values) = row.values.get(column) {
                let (source, target) = values_of(values);
                let _ = writeln!(out, "      {}: {source} → {target}", line(column));
            }
        }
    }
    let shown: u64 = table.rows.iter().take(most).map(|r| r.copies).sum();
    if table.differing() > shown {
        let _ = writeln!(out, "  … and {} more", grouped(table.differing() - shown));
    }
}

fn key(row: &DifferingRow) -> String {
    let parts: Vec<String> = row
        .key
        .iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{}={}", line(name), shortened(text, 0)),
            other => format!("{}={other}", line(name)),
        })
        .collect();
    parts.join(", ")
}

/// Both values, from shortly before what tells them apart.
fn values_of(values: &Values) -> (String, String) {
    let from = match (&values.source, &values.target) {
        (Some(source), Some(target)) => {
            first_difference(without_told(source).0, without_told(target).0, CONTEXT)
        }
        _ => 0,
    };
    let value = |value: &Option<String>| match value.as_deref().map(without_told) {
        Some((text, told)) => format!("{}{told}", shortened(text, from)),
        None => "NULL".into(),
    };
    (value(&values.source), value(&values.target))
}

/// In quotes, control characters made visible, cut to a readable length.
fn shortened(text: &str, from: usize) -> String {
    let mut letters = text.chars().skip(from);
    let part: String = letters.by_ref().take(SHOWN_CHARACTERS).collect();
    let before = if from > 0 { "…" } else { "" };
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("{before}\"{}\"{more}", visible(&part))
}

fn summary(out: &mut String, report: &Report) {
    if report.repair.as_ref().is_some_and(|repair| repair.applied && repair.failed.is_none()) {
        let _ = writeln!(out, "verdicts after the repair, rows as they were counted before it:");
    }
    let head =
        ["table", "verdict", "rows", "matching", "mismatched", "extra source", "extra target", "seconds"];
    let mut lines: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    for table in &report.tables {
        let numbers = [
            table.processed_rows,
            table.matching_rows,
            table.mismatched_rows,
            table.extra_rows_source,
            table.extra_rows_target,
        ];
        let mut cells = vec![name(table), table.verdict.as_str().to_owned()];
        cells.extend(numbers.map(grouped));
        cells.push(format!("{:.1}", table.elapsed_seconds));
        lines.push(cells);
    }
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(i, (cell, width))| {
                    if i < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                },
            )
            .collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::RepairReport;
    use crate::report::tests::report;

    #[test]
    fn what_was_counted_before_a_repair_is_not_taken_for_what_is_left() {
        let mut one = report(1);
        let mut label = |applied| {
            one.repair = Some(RepairReport {
                verdict_before: one.verdict,
                applied,
                script: None,
                tables: Vec::new(),
                failed: None,
            });
            render(&one).contains("after the repair, rows as they were counted before it:\ntable ")
        };
        assert!(label(true) && !label(false));
    }

    #[test]
    fn long_values_are_shown_where_they_differ() {
        let long = |end: &str| Some(format!("{}{end}", "a".repeat(150)));
        let (source, target) = values_of(&Values { source: long("x"), target: long("") });
        assert_eq!(source, format!("…\"{}x\"", "a".repeat(CONTEXT)));
        assert_eq!(target, format!("…\"{}\"", "a".repeat(CONTEXT)));
        // What is told behind a value stays whole, and is never the difference.
        let told = |digest| Some(format!("{}… (9000000 bytes, digest {digest}…)", "a".repeat(200)));
        let (source, target) = values_of(&Values { source: told("0123"), target: told("4567") });
        let shown = "a".repeat(SHOWN_CHARACTERS);
        assert_eq!(source, format!("\"{shown}\"… (9000000 bytes, digest 0123…)"));
        assert!(target.ends_with("digest 4567…)"), "{target}");
        let (source, target) = values_of(&Values { source: long("x"), target: None });
        assert_eq!((source, target), (format!("\"{}\"…", "a".repeat(SHOWN_CHARACTERS)), "NULL".into()));
    }
}
