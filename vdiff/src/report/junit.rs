//! The report for continuous integration: JUnit XML, one test case per table. A table that differs is a failure; one
//! that is not proven is an error, never a pass and never skipped.

use std::fmt::Write as _;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::show::visible;
use super::{Report, TableReport, Verdict, text};
use crate::error::Error;

/// Differing rows that a failure shows.
const SHOWN_ROWS: usize = 50;

/// The name of the one suite.
const NAME: &str = "converge vdiff";

/// One case per table.
pub fn render(report: &Report) -> Result<String, Error> {
    let mut suite = TestSuite::new(NAME);
    suite.set_time(seconds(report.elapsed_seconds));
    for (name, server) in [("source", &report.source), ("target", &report.target)] {
        suite.add_property((name, clean(&format!("{} ({})", server.address, server.version)).as_str()));
    }
    suite.add_property(("digest", report.digest.as_str()));
    suite.add_property(("command", clean(&report.command).as_str()));
    for table in &report.tables {
        suite.add_test_case(case(report, table));
    }
    document(suite)
}

/// One case per table, all of them errors: the comparison could not be done. One in all where no table is known yet: a
/// suite without cases would pass.
pub fn undone(tables: &[String], why: &str) -> Result<String, Error> {
    let mut suite = TestSuite::new(NAME);
    let unknown = [NAME.to_owned()];
    for table in if tables.is_empty() { &unknown } else { tables } {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type("not_done").set_message(clean(why)).set_description(clean(why));
        suite.add_test_case(TestCase::new(clean(table), status));
    }
    document(suite)
}

fn document(suite: TestSuite) -> Result<String, Error> {
    let mut document = Document::new(NAME);
    document.add_test_suite(suite);
    document.to_string().map_err(|e| Error::Render(e.to_string()))
}

/// Text whose every line can be seen, and be held by XML.
fn clean(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn case(report: &Report, table: &TableReport) -> TestCase {
    let status = match table.verdict {
        Verdict::Equal => TestCaseStatus::success(),
        Verdict::Different => failed(NonSuccessKind::Failure, table, text::counts(table)),
        Verdict::NotProven => failed(NonSuccessKind::Error, table, table.reasons.join("; ")),
    };
    let mut case = TestCase::new(text::name(table), status);
    case.set_classname(NAME).set_time(seconds(table.elapsed_seconds));
    case.set_assertions(usize::try_from(table.processed_rows).unwrap_or(usize::MAX));
    let mut out = format!("{}\n", text::counts(table));
    for line in &table.not_verified {
        let _ = writeln!(out, "NOT verified: {line}");
    }
    for text in report.repair.iter().flat_map(|repair| repair.lines()) {
        let _ = writeln!(out, "repair: {text}");
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    case.set_system_out(clean(&out));
    case
}

fn failed(kind: NonSuccessKind, table: &TableReport, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let mut details = String::new();
    text::differences(&mut details, table, SHOWN_ROWS);
    for line in table.reasons.iter().chain(&table.schema_notes) {
        let _ = writeln!(details, "{line}");
    }
    status.set_type(table.verdict.as_str()).set_message(clean(&message)).set_description(clean(&details));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{hostile, report};

    #[test]
    fn a_table_that_differs_fails_and_one_that_is_not_proven_is_no_pass() {
        let mut found = report(2);
        let mut open = found.tables[0].clone();
        (open.table, open.verdict) = ("open".into(), Verdict::NotProven);
        let mut equal = found.tables[0].clone();
        (equal.table, equal.verdict, equal.rows) = ("same".into(), Verdict::Equal, Vec::new());
        found.tables.extend([open, equal]);
        let xml = found.to_junit().unwrap();
        assert!(xml.contains("errors=\"1\" failures=\"1\""), "{xml}");
        assert!(xml.contains("NOT verified: column secret"), "{xml}");
    }

    #[test]
    fn what_could_not_be_done_is_an_error_whether_or_not_tables_are_known() {
        let named = undone(&["a".into(), "b".into()], "gone").unwrap();
        assert!(named.contains("tests=\"2\"") && named.contains("errors=\"2\""), "{named}");
        let unknown = undone(&[], "gone").unwrap();
        assert!(unknown.contains("tests=\"1\"") && unknown.contains("errors=\"1\""), "{unknown}");
        assert!(
            unknown.contains("testcase name=\"converge vdiff\"") && unknown.contains("gone"),
            "{unknown}"
        );
    }

    #[test]
    fn odd_characters_leave_the_xml_well_formed() {
        let mut found = report(2);
        found.tables[0].table = format!("\u{0}\u{b}\u{fffe}]]>{}", hostile());
        found.tables[0].reasons = vec!["a\u{1}b".into()];
        for xml in [found.to_junit().unwrap(), undone(&[hostile()], "\u{1f} & <x>").unwrap()] {
            assert!(!xml.contains("<script>"), "{xml}");
            let allowed = |c: char| matches!(c, '\n' | ' '..='\u{fffd}' | '\u{10000}'..);
            assert!(xml.chars().all(allowed), "{xml:?}");
        }
    }
}
