//! Whether what the verdict rests on is whole: the history holds what the load counted, and every oracle answered.

use converge_chaos::history::Kind;
use converge_chaos::load::{Invariant, Names, Totals};

use super::Tally;
use crate::verdict::{Finding, Oracle};

/// Whether the history has every answer that the load's own counters have.
pub fn history(tally: &Tally, counted: &Totals) -> Oracle {
    let mut missing = Vec::new();
    let (mut all, mut sent) = (0, 0);
    for kind in Kind::ALL {
        let (written, counted) = (tally.of(kind), counted.of(kind));
        let answers = [
            ("executed", written.ok, counted.ok),
            ("refused", written.fail, counted.fail),
            ("unknown", written.info - written.unanswered, counted.info),
        ];
        sent += written.ok + written.fail + written.info;
        for (what, written, counted) in answers {
            all += counted;
            if written != counted {
                missing.push(format!("{}: {written} {what}, the load counted {counted}", kind.name()));
            }
        }
    }
    let finding = if missing.is_empty() { Finding::Pass } else { Finding::Unknown };
    let detail = format!("{sent} statements in the history, {all} answers counted by the load");
    Oracle::new("history", finding, detail).with_evidence(missing)
}

/// The oracles that hold the target against the history: what is missing in that would look wrong here.
const BY_HISTORY: [&str; 3] = ["ledger", "counters", "journal"];

/// Lets nothing be called wrong by a history that is not whole.
pub fn doubt(oracles: &mut [Oracle]) {
    if oracles.iter().any(|oracle| oracle.name == "history" && oracle.finding == Finding::Pass) {
        return;
    }
    let failed = |o: &&mut Oracle| BY_HISTORY.contains(&o.name.as_str()) && o.finding == Finding::Fail;
    for oracle in oracles.iter_mut().filter(failed) {
        oracle.finding = Finding::Unknown;
        oracle.detail.push_str("; but the history is not whole");
    }
}

/// The oracles without whose answer nothing is proven.
/// `fenced`: writes were fenced, and more can be asked.
pub fn needed(names: Names, moved: &[String], fenced: bool) -> Vec<&'static str> {
    let mut needed =
        vec!["position", "vdiff", "faults", "history", "checkpoint", "liveness", "load", "copy_under_load"];
    if fenced {
        needed.extend(["mover", "silence", "source"]);
    }
    let by_table = [
        (Invariant::Ledger, "ledger"),
        (Invariant::Account, "bank"),
        (Invariant::Counter, "counters"),
        (Invariant::Journal, "journal"),
    ];
    needed.extend(
        by_table.into_iter().filter(|(table, _)| moved.contains(&names.of(*table))).map(|(_, name)| name),
    );
    needed
}

/// What is said for an oracle that gave no answer.
pub const SILENT: &str = "it gave no answer";

/// An answer "cannot tell" for each oracle that is needed and gave none.
pub fn absent(needed: &[&str], answered: &[Oracle]) -> Vec<Oracle> {
    let is_missing = |name: &&&str| !answered.iter().any(|oracle| oracle.name == **name);
    let unknown = |name: &&str| Oracle::new(name, Finding::Unknown, SILENT);
    needed.iter().filter(is_missing).map(unknown).collect()
}

#[cfg(test)]
mod tests {
    use converge_chaos::load::KindCounts;

    use super::*;

    #[test]
    fn a_history_without_an_answer_proves_nothing() {
        let totals =
            |info| Totals { kinds: vec![(Kind::Insert, KindCounts { info, ..KindCounts::default() })] };
        assert_eq!(history(&Tally::default(), &totals(0)).finding, Finding::Pass);
        let oracle = history(&Tally::default(), &totals(1));
        assert_eq!((oracle.finding, oracle.evidence.len()), (Finding::Unknown, 1));
    }

    #[test]
    fn nothing_is_wrong_by_a_history_with_holes() {
        for (history, ledger) in [(Finding::Pass, Finding::Fail), (Finding::Unknown, Finding::Unknown)] {
            let mut oracles = ["history", "ledger", "vdiff"].map(|name| Oracle::new(name, Finding::Fail, ""));
            oracles[0].finding = history;
            doubt(&mut oracles);
            assert_eq!((oracles[1].finding, oracles[2].finding), (ledger, Finding::Fail));
        }
    }

    #[test]
    fn an_oracle_that_is_silent_proves_nothing() {
        let answered = [Oracle::new("vdiff", Finding::Pass, "")];
        let absent = absent(&["vdiff", "load"], &answered);
        assert_eq!(absent.len(), 1);
        assert_eq!((absent[0].name.as_str(), absent[0].finding), ("load", Finding::Unknown));
    }

    #[test]
    fn oracles_of_tables_are_needed_where_these_are_moved() {
        let names = Names::PLAIN;
        assert!(!needed(names, &["customer".into()], true).contains(&"ledger"));
        assert!(needed(names, &[names.of(Invariant::Ledger)], true).contains(&"ledger"));
    }
}
