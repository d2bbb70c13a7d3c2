//! The report as a whole: what readers get, whatever the rows hold.

use converge_chaos::history::{Entry, Event};
use converge_vdiff::Report as VdiffReport;
use converge_vdiff::report::{DifferingRow, Kind, ServerReport, TableReport, Values};

use super::*;
use crate::verdict::{FaultReport, Finding, Oracle, StatementCount, Verdict};

const HOSTILE: &str = "<script>alert('x')</script>\u{1b}[2J\u{202e}";

fn server() -> ServerReport {
    ServerReport {
        address: "mysql://root@127.0.0.1:1/shop".into(),
        version: "MySQL 9.7.4".into(),
        position_before: None,
        position_after: None,
        stood_still: true,
    }
}

fn differing(kind: Kind) -> DifferingRow {
    let values = Values { source: Some(HOSTILE.into()), target: None };
    DifferingRow {
        key: serde_json::Map::from_iter([("id".to_owned(), HOSTILE.into())]),
        kind,
        columns: if kind == Kind::Mismatched { vec!["email".into()] } else { vec![] },
        values: [("email".to_owned(), values)].into(),
        copies: 1,
        confirmed: true,
        position: None,
    }
}

fn table(rows: Vec<DifferingRow>) -> TableReport {
    TableReport {
        table: "_customer_fenced".into(),
        target_table: "customer".into(),
        verdict: converge_vdiff::Verdict::Different,
        processed_rows: 1234567,
        matching_rows: 1234565,
        mismatched_rows: 1,
        extra_rows_source: 1,
        extra_rows_target: 0,
        unconfirmed_rows: 0,
        rows,
        not_verified: vec![],
        reasons: vec![],
        not_compared_from: None,
        schema: Vec::new(),
        schema_notes: vec![HOSTILE.into()],
        source_rows: 1234567,
        target_rows: 1234566,
        key: vec!["id".into()],
        engine: "pushdown".into(),
        engine_reason: String::new(),
        chunks: 9,
        elapsed_seconds: 0.5,
    }
}

fn report() -> RunReport {
    RunReport {
        verdict: Verdict::Diverged,
        reasons: vec![format!("vdiff: {HOSTILE}")],
        scenario: HOSTILE.into(),
        seed: u64::MAX,
        replay: format!("converge rehearse --seed 7 {HOSTILE}"),
        started: "2026-11-21T05:25:42.896Z".into(),
        elapsed_seconds: 17.75,
        source: "MySQL 9.7.4".into(),
        target: "MariaDB 10.11.19".into(),
        position: Some(HOSTILE.into()),
        oracles: vec![
            Oracle::new("vdiff", Finding::Fail, HOSTILE).with_evidence(vec![HOSTILE.into()]),
            Oracle::new("copy_under_load", Finding::Unknown, "the copy was not seen"),
        ],
        statements: vec![StatementCount { kind: HOSTILE.into(), acknowledged: 60, ok: 61, fail: 2, info: 1 }],
        faults: vec![FaultReport {
            fault: HOSTILE.into(),
            injected_at: 1.25,
            observed: Some(HOSTILE.into()),
            healed_at: None,
        }],
        vdiff: Some(VdiffReport {
            repair: None,
            finished_state: None,
            verdict: converge_vdiff::Verdict::Different,
            tables: vec![table(vec![differing(Kind::Mismatched), differing(Kind::ExtraSource)])],
            source: server(),
            target: server(),
            digest: "SHA-256".into(),
            started: "2026-11-21T05:25:42Z".into(),
            elapsed_seconds: 0.5,
            notes: vec![],
            not_verified: Vec::new(),
            command: String::new(),
        }),
        explanation: vec![crate::verdict::Story { row: HOSTILE.into(), told: vec![HOSTILE.into()] }],
        not_verified: vec![format!("table product {HOSTILE}")],
    }
}

fn written(report: &RunReport) -> (RunReport, String) {
    let directory = tempfile::tempdir().unwrap();
    let history = directory.path().join("history.jsonl");
    let entry = Entry {
        at_us: 5,
        event: Event::Fault {
            fault: HOSTILE.into(),
            phase: converge_chaos::history::Phase::Inject,
            detail: HOSTILE.into(),
        },
    };
    std::fs::write(&history, serde_json::to_string(&entry).unwrap() + "\n").unwrap();
    std::fs::write(directory.path().join("a&b #1.log"), "x").unwrap();
    let files = write(directory.path(), report, &history).unwrap();
    let json = std::fs::read_to_string(files.verdict).unwrap();
    (serde_json::from_str(&json).unwrap(), std::fs::read_to_string(files.page).unwrap())
}

#[test]
fn json_reads_back_as_it_was() {
    assert_eq!(written(&report()).0, report());
}

#[test]
fn no_value_reaches_the_page_as_markup() {
    let (_, page) = written(&report());
    assert!(!page.contains("<script") && !page.contains('\u{1b}') && !page.contains('\u{202e}'));
    // Title, heading, reason, replay, position, chart, oracle, evidence, key, value, notes: all of them are there.
    assert!(page.matches("&lt;script&gt;").count() >= 12, "{page}");
    assert!(page.contains("href=\"a%26b%20%231.log\""), "{page}");
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let (_, page) = written(&report());
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "src=", "@import", "url(", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_says_what_it_must() {
    let (_, page) = written(&report());
    for needed in [
        "<b>diverged</b>",
        "18446744073709551615",
        "1,234,567",
        "missing on the target",
        "no row",
        "table product",
        "copy_under_load could not tell",
        "a log",
        "never",
        "seconds since the run began",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
}

#[test]
fn nothing_compared_is_said_loudly() {
    let empty = RunReport { vdiff: None, position: None, not_verified: vec![], oracles: vec![], ..report() };
    let (_, page) = written(&empty);
    for needed in [
        "No rows were compared.",
        "no rows were compared at all",
        "no position was proven",
        "No oracle was asked",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    let text = text(&empty);
    assert!(text.contains("no rows were compared at all") && text.contains("no oracle was asked"), "{text}");
}

#[test]
fn a_history_that_is_not_there_leaves_a_page_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let files = write(directory.path(), &report(), &directory.path().join("history.jsonl")).unwrap();
    assert!(std::fs::read_to_string(files.page).unwrap().contains("could not be read to its end"));
}

#[test]
fn the_text_ends_with_the_verdict() {
    for verdict in [Verdict::Converged, Verdict::Diverged, Verdict::NotProven] {
        let text = text(&RunReport { verdict, ..report() });
        let last = format!("VERDICT: {}", verdict.words().to_uppercase());
        assert_eq!(text.lines().last(), Some(last.as_str()), "{text}");
        assert_eq!(text.matches("VERDICT").count(), 1);
    }
}

#[test]
fn the_text_holds_what_the_verdict_rests_on_and_no_terminal_codes() {
    let text = text(&report());
    for needed in [
        "vdiff            FAIL",
        "copy_under_load  unknown",
        "customer",
        "1,234,567",
        "not healed",
        "NOT verified",
        "replay    converge rehearse --seed 7",
    ] {
        assert!(text.contains(needed), "{needed}: {text}");
    }
    assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'));
}

#[test]
fn the_text_tells_what_the_targets_definitions_lack() {
    use converge_vdiff::report::{SchemaFinding, Severity};
    assert!(!text(&report()).contains("definitions differ"));
    let mut report = report();
    let finding = |severity| SchemaFinding {
        severity,
        object: "index by_email".into(),
        property: "presence".into(),
        source: None,
        target: None,
        message: format!("{} takes duplicates", severity.as_str()),
    };
    let table = &mut report.vdiff.as_mut().unwrap().tables[0];
    table.schema = vec![finding(Severity::Warning), finding(Severity::Note)];
    let said = text(&report);
    assert!(said.contains("  - warning: customer: warning takes duplicates\n"), "{said}");
    assert!(!said.contains("note takes"), "{said}");
}

#[test]
fn a_pass_without_faults_says_so() {
    let faults = "faults that really happened";
    let (_, page) = written(&RunReport { verdict: Verdict::Converged, ..report() });
    assert!(page.contains(faults) && !page.contains("No fault was injected."), "{page}");
    let (_, page) = written(&RunReport { verdict: Verdict::Converged, faults: vec![], ..report() });
    assert!(!page.contains(faults) && page.contains("No fault was injected."), "{page}");
}

#[test]
fn what_oracles_could_not_tell_is_said_once() {
    let said = "copy_under_load could not tell";
    assert!(text(&report()).contains(said));
    let reasons = vec!["copy_under_load: the copy was not seen".into()];
    let text = text(&RunReport { verdict: Verdict::NotProven, reasons, ..report() });
    assert!(
        !text.contains(said) && text.contains("because   copy_under_load: the copy was not seen"),
        "{text}"
    );
}

#[test]
fn long_evidence_is_cut_and_said_to_be() {
    let evidence = (0..20).map(|i| format!("row {i}")).collect();
    let oracles = vec![Oracle::new("vdiff", Finding::Fail, "20 rows").with_evidence(evidence)];
    let text = text(&RunReport { oracles, ..report() });
    assert!(text.contains("row 5") && !text.contains("row 6") && text.contains("and 14 more"), "{text}");
}

#[test]
fn a_former_verdict_is_cleared_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for name in [VERDICT, PAGE, "other.log"] {
        std::fs::write(directory.path().join(name), "x").unwrap();
    }
    clear(directory.path()).unwrap();
    clear(directory.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["other.log"]);
}
