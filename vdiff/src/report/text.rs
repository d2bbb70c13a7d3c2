//! The report for a terminal.

use std::fmt::Write as _;

use super::{DifferingRow, Kind, Report, TableReport};

/// Differing rows per table that text shows; the JSON and HTML forms have them all.
const SHOWN_ROWS: usize = 20;

/// Characters of a value that text shows.
const SHOWN_CHARACTERS: usize = 60;

pub fn render(report: &Report) -> String {
    let mut out = String::new();
    for table in &report.tables {
        differences(&mut out, table);
    }
    summary(&mut out, report);
    for table in &report.tables {
        remarks(&mut out, "not verified", table, &table.not_verified);
        remarks(&mut out, "engine", table, &[format!("{}: {}", table.engine, table.engine_reason)]);
        remarks(&mut out, "schema", table, &table.schema_notes);
        if table.verdict == super::Verdict::NotProven {
            remarks(&mut out, "not proven", table, &table.reasons);
        }
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let _ = writeln!(out, "source: {} ({})", report.source.address, report.source.version);
    let _ = writeln!(out, "target: {} ({})", report.target.address, report.target.version);
    let _ = writeln!(out, "verdict: {}", report.verdict.as_str());
    out
}

fn remarks(out: &mut String, what: &str, table: &TableReport, lines: &[String]) {
    for line in lines {
        let _ = writeln!(out, "{what}: {}: {line}", table.table);
    }
}

fn differences(out: &mut String, table: &TableReport) {
    if table.rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "differing rows of {}:", table.table);
    for row in table.rows.iter().take(SHOWN_ROWS) {
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
                let (source, target) = (value(&values.source), value(&values.target));
                let _ = writeln!(out, "      {column}: {source} → {target}");
            }
        }
    }
    let all =
        table.mismatched_rows + table.extra_rows_source + table.extra_rows_target + table.unconfirmed_rows;
    let shown: u64 = table.rows.iter().take(SHOWN_ROWS).map(|r| r.copies).sum();
    if all > shown {
        let _ = writeln!(out, "  … and {} more", all - shown);
    }
    out.push('\n');
}

fn key(row: &DifferingRow) -> String {
    let parts: Vec<String> = row
        .key
        .iter()
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{name}={}", shortened(text)),
            other => format!("{name}={other}"),
        })
        .collect();
    parts.join(", ")
}

fn value(value: &Option<String>) -> String {
    value.as_deref().map_or_else(|| "NULL".into(), shortened)
}

/// In quotes, control characters escaped, cut to a readable length.
fn shortened(text: &str) -> String {
    let mut letters = text.chars();
    let start: String = letters.by_ref().take(SHOWN_CHARACTERS).collect();
    let more = if letters.next().is_some() { "…" } else { "" };
    format!("{start:?}{more}")
}

fn summary(out: &mut String, report: &Report) {
    let head =
        ["table", "verdict", "rows", "matching", "mismatched", "extra source", "extra target", "seconds"];
    let mut lines: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    for table in &report.tables {
        let name = if table.table == table.target_table {
            table.table.clone()
        } else {
            format!("{} = {}", table.table, table.target_table)
        };
        let numbers = [
            table.processed_rows,
            table.matching_rows,
            table.mismatched_rows,
            table.extra_rows_source,
            table.extra_rows_target,
        ];
        let mut line = vec![name, table.verdict.as_str().to_owned()];
        line.extend(numbers.map(|n| n.to_string()));
        line.push(format!("{:.1}", table.elapsed_seconds));
        lines.push(line);
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
