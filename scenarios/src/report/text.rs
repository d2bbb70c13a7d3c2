//! The report for a terminal: on one screen in the normal case, the verdict last.

use std::fmt::Write as _;

use super::html::{left_out, not_verified};
use crate::verdict::{Finding, Oracle, RunReport, Verdict};
use converge_vdiff::report::show::{grouped, line};
use converge_vdiff::report::{Severity, TableReport};

/// Characters of a line.
const WIDTH: usize = 110;
/// Lines of evidence per oracle; `verdict.json` and the page have them all.
const MOST_EVIDENCE: usize = 6;
/// Lines on definitions; the same goes for them.
const MOST_SCHEMA: usize = 12;

/// The report as text. The last line is the verdict.
pub fn text(report: &RunReport) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "rehearsal {}, seed {}: {} to {}, {:.1} s",
        line(&report.scenario),
        report.seed,
        line(&report.source),
        line(&report.target),
        report.elapsed_seconds
    );
    out.push('\n');
    oracles(&mut out, &report.oracles);
    tables(&mut out, report);
    schema(&mut out, report);
    statements(&mut out, report);
    faults(&mut out, report);
    explanation(&mut out, report);
    // What oracles could not tell is said once: it is why nothing was proven.
    let open = match report.verdict {
        Verdict::NotProven => left_out(report),
        _ => not_verified(report),
    };
    if !open.is_empty() {
        out.push_str("\nNOT verified\n");
        open.iter().for_each(|text| wrapped(&mut out, "  - ", text));
    }
    out.push('\n');
    wrapped(&mut out, "position  ", report.position.as_deref().unwrap_or("none was proven"));
    // On one line, however long: it is there to be copied.
    let _ = writeln!(out, "replay    {}", line(&report.replay));
    out.push('\n');
    report.reasons.iter().for_each(|text| wrapped(&mut out, "because   ", text));
    let _ = writeln!(out, "VERDICT: {}", report.verdict.words().to_uppercase());
    out
}

fn oracles(out: &mut String, oracles: &[Oracle]) {
    let widest = oracles.iter().map(|o| o.name.chars().count()).max().unwrap_or(0);
    for oracle in oracles {
        let finding = match oracle.finding {
            Finding::Pass => "pass",
            Finding::Fail => "FAIL",
            Finding::Unknown => "unknown",
        };
        wrapped(out, &format!("{:<widest$}  {finding:<7}  ", line(&oracle.name)), &oracle.detail);
        let indent = format!("{:width$}- ", "", width = widest + 11);
        oracle.evidence.iter().take(MOST_EVIDENCE).for_each(|text| wrapped(out, &indent, text));
        if oracle.evidence.len() > MOST_EVIDENCE {
            let _ =
                writeln!(out, "{indent}… and {} more in the report", oracle.evidence.len() - MOST_EVIDENCE);
        }
    }
    if oracles.is_empty() {
        out.push_str("no oracle was asked\n");
    }
}

fn tables(out: &mut String, report: &RunReport) {
    let Some(vdiff) = &report.vdiff else { return };
    let head = [
        "table",
        "rows",
        "matching",
        "mismatched",
        "missing on target",
        "only on target",
        "unconfirmed",
        "verdict",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).into()];
    for t in &vdiff.tables {
        let figures = [
            t.processed_rows,
            t.matching_rows,
            t.mismatched_rows,
            t.extra_rows_source,
            t.extra_rows_target,
            t.unconfirmed_rows,
        ];
        let mut cells = vec![line(&t.target_table)];
        cells.extend(figures.map(grouped));
        cells.push(t.verdict.as_str().replace('_', " "));
        lines.push(cells);
    }
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    out.push('\n');
    for cells in &lines {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            if i == 0 || i == head.len() - 1 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let _ = writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// What the target's definitions lack, which rows that are equal do not show.
fn schema(out: &mut String, report: &RunReport) {
    let of = |table: &TableReport| {
        let graver = table.schema.iter().filter(|finding| finding.severity > Severity::Note);
        graver
            .map(|f| format!("{}: {}: {}", f.severity.as_str(), table.target_table, f.message))
            .collect::<Vec<_>>()
    };
    let lines: Vec<String> = report.vdiff.iter().flat_map(|vdiff| &vdiff.tables).flat_map(of).collect();
    if lines.is_empty() {
        return;
    }
    out.push_str("\nThe target's definitions differ\n");
    lines.iter().take(MOST_SCHEMA).for_each(|text| wrapped(out, "  - ", text));
    if lines.len() > MOST_SCHEMA {
        let _ = writeln!(out, "  - … and {} more in the report", lines.len() - MOST_SCHEMA);
    }
}

fn statements(out: &mut String, report: &RunReport) {
    if report.statements.is_empty() {
        return;
    }
    out.push('\n');
    let kinds = |count: fn(&crate::verdict::StatementCount) -> u64| {
        let some = report.statements.iter().filter(|s| count(s) > 0);
        let listed: Vec<String> = some.map(|s| format!("{} {}", line(&s.kind), grouped(count(s)))).collect();
        if listed.is_empty() { "none".to_owned() } else { listed.join(", ") }
    };
    wrapped(out, "acknowledged  ", &kinds(|s| s.acknowledged));
    wrapped(out, "refused       ", &kinds(|s| s.fail));
    wrapped(out, "unknown       ", &kinds(|s| s.info));
}

fn explanation(out: &mut String, report: &RunReport) {
    if !report.explanation.is_empty() {
        out.push_str("\nWhat happened\n");
    }
    for story in &report.explanation {
        wrapped(out, "  ", &story.row);
        story.told.iter().for_each(|text| wrapped(out, "    - ", text));
    }
}

fn faults(out: &mut String, report: &RunReport) {
    if !report.faults.is_empty() {
        out.push('\n');
    }
    for fault in &report.faults {
        let healed = fault.healed_at.map_or_else(|| "not healed".into(), |at| format!("healed at {at:.1} s"));
        let seen = fault.observed.as_deref().unwrap_or("NO effect was seen");
        wrapped(out, "", &format!("{} at {:.1} s, {healed}: {seen}", fault.fault, fault.injected_at));
    }
}

/// Writes `text` after `label`, broken between words, further lines indented to the same place.
fn wrapped(out: &mut String, label: &str, text: &str) {
    let indent = if label.is_empty() { 4 } else { label.chars().count() };
    out.push_str(label);
    let mut at = label.chars().count();
    let mut first = true;
    for word in line(text).split(' ') {
        let length = word.chars().count();
        if !first && at + 1 + length > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            at = indent;
            first = true;
        }
        if !first {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
        first = false;
    }
    out.push('\n');
}
