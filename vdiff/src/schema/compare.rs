//! Compares two schemas that were read: what differs, how much it matters, and what follows from it. Pure.
//!
//! Never calls vendors' spellings a difference, and never leaves out a difference because it is not known whether it
//! matters.

mod columns;
mod objects;

use converge_mysql::Flavor;

use super::{SchemaFinding, Severity, Table};

pub use columns::column;

/// The property of a counter that goes on with each row.
pub const AUTO_INCREMENT: &str = "auto-increment counter";

/// What differs beside the columns, for which see [`column`].
pub fn tables(tables: [&Table; 2], flavors: [Flavor; 2]) -> Vec<SchemaFinding> {
    let mut findings = Vec::new();
    column_order(&mut findings, tables);
    options(&mut findings, tables);
    auto_increment(&mut findings, tables);
    objects::indexes(&mut findings, tables);
    objects::foreign_keys(&mut findings, tables);
    objects::checks(&mut findings, tables, flavors);
    objects::triggers(&mut findings, tables);
    objects::views(&mut findings, tables, flavors);
    objects::grants(&mut findings, tables, flavors);
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}

/// What the schemas' comparison could not see.
pub fn unseen(tables: [&Table; 2]) -> Vec<String> {
    let mut lines = Vec::new();
    for (table, side) in tables.iter().zip(["source", "target"]) {
        if !table.details.hidden.is_empty() {
            lines
                .push(format!("{} (hidden from the account on the {side})", table.details.hidden.join(", ")));
        }
    }
    lines
}

fn column_order(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let order = |table: &Table| -> Vec<String> {
        let shared = table.columns.iter().map(|c| c.name.to_lowercase());
        shared.filter(|n| tables.iter().all(|t| t.column(n).is_some())).collect()
    };
    let orders = tables.map(order);
    if orders[0] != orders[1] {
        let shown = orders.map(|names| names.join(", "));
        let mut finding = SchemaFinding::differs(
            Severity::Note,
            "table",
            "column order",
            [&shown[0], &shown[1]],
            "only SELECT * and INSERT without a column list notice",
        );
        finding.message = format!("columns stand in another order: {}", finding.message);
        findings.push(finding);
    }
}

fn options(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let [a, b] = tables;
    let mut differs = |severity, property: &str, a: &str, b: &str, so: &str| {
        if !a.eq_ignore_ascii_case(b) {
            findings.push(SchemaFinding::differs(severity, "table", property, [a, b], so));
        }
    };
    let kind = |t: &Table| if t.is_view { "view" } else { "table" };
    differs(Severity::Note, "kind", kind(a), kind(b), "");
    if a.is_view || b.is_view {
        return;
    }
    let transactions = "transactions, locks and crashes may go differently";
    differs(Severity::Warning, "engine", &a.engine, &b.engine, transactions);
    let (a, b) = (&a.details, &b.details);
    differs(Severity::Note, "row format", &a.row_format, &b.row_format, "");
    differs(
        Severity::Note,
        "default collation",
        &super::spelling::charset(Some(&a.collation)),
        &super::spelling::charset(Some(&b.collation)),
        "only columns that are added later take it",
    );
    differs(Severity::Note, "comment", &a.comment, &b.comment, "");
    let partitioned = |yes| if yes { "yes" } else { "no" };
    differs(Severity::Note, "partitioned", partitioned(a.partitioned), partitioned(b.partitioned), "");
}

/// The next number that the server gives: a lower one on the target gives numbers again that the source gave away.
fn auto_increment(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let counted = |t: &Table| t.columns.iter().any(|c| c.extra.to_lowercase().contains("auto_increment"));
    if !counted(tables[0]) || !counted(tables[1]) {
        // That the attribute is missing is a finding of its column.
        return;
    }
    let [a, b] = tables.map(|t| t.details.auto_increment.unwrap_or(1));
    let (severity, so) = match b.cmp(&a) {
        std::cmp::Ordering::Equal => return,
        std::cmp::Ordering::Greater => (Severity::Note, ""),
        std::cmp::Ordering::Less => (
            Severity::Warning,
            "the target will give numbers again that the source has given away; ALTER TABLE … AUTO_INCREMENT there before it \
             takes writes",
        ),
    };
    let shown = [a.to_string(), b.to_string()];
    findings.push(SchemaFinding::differs(severity, "table", AUTO_INCREMENT, [&shown[0], &shown[1]], so));
}
