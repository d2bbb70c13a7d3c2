//! What became of differing rows, as it is reported, and the verdict that follows from it.

use serde::{Deserialize, Serialize};

use super::write::Outcome;
use crate::report::{Report, TableReport, Verdict};

/// Rows that were not repaired and are named.
const NAMED: usize = 100;

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
    /// Its name on the target.
    pub target_table: String,
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
    /// How many of these were, on both sides, what they were when the difference was proven.
    pub unchanged_rows: Option<u64>,
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
    /// What ended it early, if anything did.
    pub failed: Option<String>,
}

impl RepairReport {
    /// What was done, a line for each table and file.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("verdict before: {}", self.verdict_before.as_str())];
        if let Some([script, undo]) = &self.script {
            lines.push(format!("script: {script}, its undo: {undo}"));
        }
        if let Some(why) = &self.failed {
            lines.push(format!("FAILED: {why}; the verdict is that of the comparison before it"));
        }
        for table in &self.tables {
            let name = table.name();
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
    /// Its names on both sides, where they differ.
    pub fn name(&self) -> String {
        match self.table == self.target_table {
            true => self.table.clone(),
            false => format!("{} = {}", self.table, self.target_table),
        }
    }

    /// Takes down what was left out.
    pub(super) fn left(&mut self, outcome: Outcome) {
        self.missed_rows = outcome.missed.len() as u64;
        self.missed =
            (outcome.missed.into_iter().take(NAMED)).map(|(row, why)| MissedRow { row, why }).collect();
    }

    /// What is known of the table after its repair; none where nothing was done, or something is left for another run.
    fn verdict(&self, reasons: &mut Vec<String>) -> Option<Verdict> {
        if self.refused.is_some() || self.further_rows > 0 {
            return None;
        }
        let (left, unchanged) = (self.still_differing_rows?, self.unchanged_rows.unwrap_or(0));
        if unchanged > 0 {
            return Some(Verdict::Different);
        }
        if left > 0 {
            reasons.push(format!(
                "{left} rows still differed when they were read again after the repair, {} of them were left alone \
                 because they are not what was compared: run the comparison again",
                self.missed_rows
            ));
        }
        Some(if reasons.is_empty() { Verdict::Equal } else { Verdict::NotProven })
    }
}

/// The verdict after the repair: equal only where every differing row was seen to be equal.
pub(super) fn judge(report: &mut Report, repairs: &[TableRepair]) {
    for repair in repairs {
        // A source may be compared with several targets.
        let same = |t: &&mut TableReport| t.table == repair.table && t.target_table == repair.target_table;
        for table in report.tables.iter_mut().filter(same) {
            table.verdict = repair.verdict(&mut table.reasons).unwrap_or(table.verdict);
        }
    }
    report.verdict = report.tables.iter().map(|t| t.verdict).max().unwrap_or(Verdict::NotProven);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    fn repair(target: &str, left: Option<u64>) -> TableRepair {
        TableRepair {
            table: "customer".into(),
            target_table: target.into(),
            still_differing_rows: left,
            unchanged_rows: left.map(|_| 0),
            ..TableRepair::default()
        }
    }

    #[test]
    fn a_verdict_is_that_of_the_pair_that_was_repaired() {
        let mut one = report(1);
        let other = TableReport { target_table: "other".into(), ..one.tables[0].clone() };
        one.tables.push(other);
        let refused = TableRepair { refused: Some("a trigger".into()), ..repair("other", None) };
        judge(&mut one, &[repair("customer", Some(0)), refused.clone()]);
        assert_eq!((one.tables[0].verdict, one.tables[1].verdict), (Verdict::Equal, Verdict::Different));
        assert_eq!(one.verdict, Verdict::Different);
        assert_eq!(refused.name(), "customer = other");
        // Neither is one that was repaired in part.
        let partial = TableRepair { further_rows: 3, ..repair("other", Some(0)) };
        judge(&mut one, &[partial]);
        assert_eq!(one.verdict, Verdict::Different);
    }

    #[test]
    fn rows_that_are_still_what_was_proven_to_differ_make_tables_different() {
        let mut one = report(1);
        judge(&mut one, &[TableRepair { unchanged_rows: Some(1), ..repair("customer", Some(1)) }]);
        assert_eq!(one.verdict, Verdict::Different);
        judge(&mut one, &[repair("customer", Some(1))]);
        assert_eq!(one.verdict, Verdict::NotProven);
    }
}
