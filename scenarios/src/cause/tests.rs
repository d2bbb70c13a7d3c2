//! What makes two causes one, and what keeps them apart.

use super::*;

fn report(verdict: Verdict, oracles: Vec<Oracle>) -> RunReport {
    let json = serde_json::json!({
        "verdict": verdict, "reasons": [], "scenario": "s", "seed": 1, "replay": "", "started": "",
        "elapsed_seconds": 1.0, "source": "MySQL 9.7.4", "target": "MySQL 9.7.4", "position": null,
        "oracles": oracles, "statements": [], "faults": [], "vdiff": null, "not_verified": [],
    });
    serde_json::from_value(json).unwrap()
}

fn failed(name: &str, evidence: &[&str]) -> Oracle {
    let evidence = evidence.iter().map(|e| (*e).to_owned()).collect();
    Oracle::new(name, Finding::Fail, "3 of 7 are wrong").with_evidence(evidence)
}

fn diverged(oracles: Vec<Oracle>) -> Cause {
    Cause::of(&report(Verdict::Diverged, oracles))
}

#[test]
fn numbers_names_and_positions_do_not_make_another_cause() {
    for (one, other, wanted) in [
        (
            "ledger row 5 was lost; 3 more",
            "ledger row 71234 was lost; 9 more",
            "ledger row # was lost; # more",
        ),
        ("customer id=10426: is missing", "customer id=9: is missing", "customer id=#: is missing"),
        (
            "at 3.1 s, applied up to gtid:af5a39d9-e56f-11f1-ab03-02fc00000001:1-46, it fell",
            "at 12.0 s, applied up to file:log.000002:99, it fell",
            "at # s, applied up to #, it fell",
        ),
        ("table 'a b' is gone", "table 'c' is gone", "table … is gone"),
        ("no space in /tmp/x/y: stop", "no space in /var/z: stop", "no space in #: stop"),
        ("sessions 1, 2, 3 have gaps", "sessions 7, 9 have gaps", "sessions # have gaps"),
    ] {
        assert_eq!(form(one), form(other), "{one} | {other}");
        assert_eq!(form(one), wanted);
    }
    assert_eq!(form("the target's accounts weren't there"), "the target's accounts weren't there");
    assert_eq!(form("an open ' quote"), "an open ' quote");
    assert!(form(&"ä".repeat(1000)).chars().count() == MOST_CHARACTERS);
}

#[test]
fn the_number_of_evidence_lines_does_not_make_another_cause() {
    let few = diverged(vec![failed("ledger", &["row 1 is lost"])]);
    let many = diverged(vec![failed("ledger", &["row 8 is lost", "row 9 is lost", "row 3 is lost"])]);
    assert_eq!(few, many);
    assert_eq!(few.to_string(), "diverged: ledger (row # is lost)");
}

#[test]
fn another_verdict_oracle_or_sign_is_another_cause() {
    let lost = diverged(vec![failed("ledger", &["row 1 is lost"])]);
    let back = diverged(vec![failed("ledger", &["row 1 came back"])]);
    let bank = diverged(vec![failed("bank", &["row 1 is lost"])]);
    let open = report(Verdict::NotProven, vec![Oracle::new("ledger", Finding::Unknown, "row 1 is lost")]);
    let all = [lost, back, bank, Cause::of(&open)];
    for (n, one) in all.iter().enumerate() {
        assert!(all[n + 1..].iter().all(|other| one != other), "{one}");
    }
}

#[test]
fn only_the_oracles_that_decided_count() {
    let beside = Oracle::new("load", Finding::Unknown, "too little");
    let alone = diverged(vec![failed("bank", &["the sum is 5"])]);
    assert_eq!(diverged(vec![failed("bank", &["the sum is 7"]), beside.clone()]), alone);
    // Without evidence what it says stands for it.
    let cause = Cause::of(&report(Verdict::NotProven, vec![beside]));
    assert_eq!(cause.to_string(), "not proven: load (too little)");
    let converged =
        Cause::of(&report(Verdict::Converged, vec![Oracle::new("load", Finding::Pass, "5 writes")]));
    assert_eq!(converged.to_string(), "converged");
}

#[test]
fn a_part_shows_nothing_new() {
    let both = diverged(vec![failed("bank", &["sum 1"]), failed("ledger", &["row 1"])]);
    let one = diverged(vec![failed("bank", &["sum 7"])]);
    assert!(one.is_part_of(&both) && both.is_part_of(&both) && !both.is_part_of(&one));
    let other = Cause { verdict: Verdict::NotProven, ..one.clone() };
    assert!(!other.is_part_of(&both));
    assert!(both.against(&both).starts_with("the same cause"));
    let text = one.against(&both);
    assert!(text.starts_with("in part") && text.contains("only in the saved run: ledger"), "{text}");
    assert!(text.ends_with("only now: nothing"), "{text}");
    let stranger = diverged(vec![failed("journal", &["gap"])]);
    assert!(
        stranger.against(&both).starts_with("another cause") && other.against(&both).starts_with("another")
    );
}
