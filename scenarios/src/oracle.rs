//! Oracles: each looks at what a run left behind and says whether it is as it must be.
//!
//! An oracle that lacks what it needs says `unknown`; none of them assumes.

pub mod commits;
mod invariants;
pub mod limit;
pub mod logs;
mod progress;
pub mod silence;
pub mod source;
mod statements;
mod story;
pub mod whole;

use std::path::Path;

use converge_chaos::history::{self, Kind, Ledger};
use converge_mysql::{Address, Connector, quote};
use converge_vdiff::Report as VdiffReport;
use mysql_async::prelude::Queryable;

pub use invariants::{Readings, invariants};
pub use progress::Progress;
pub use statements::{Statements, Tally};
pub use story::{Suspect, differing, explain};

use crate::rehearsal::End;
use crate::verdict::{FaultReport, Finding, Oracle};
use crate::words::counted;

/// The name of the oracle [`loud_stop`].
pub const LOUD_STOP: &str = "loud_stop";
/// The exit code of a mover that stops with an error.
const STOPPED: i32 = 2;
/// Lines of evidence that an oracle gives at the most.
const MOST_EVIDENCE: usize = 20;
/// How an answer begins that could not be given, for a reason that another oracle gives in full.
const UNDECIDED: &str = "not decided: ";

/// What an oracle says that needs a proven position, where there is none. Its figures alone would read like a success.
fn without_position(name: &str, figures: String) -> Oracle {
    let detail = format!("{UNDECIDED}no position was proven");
    Oracle::new(name, Finding::Unknown, detail).with_evidence(vec![figures])
}

/// Whether the rows are equal, by VDiff. Only an equal that compared rows passes.
pub fn vdiff(report: &VdiffReport) -> Oracle {
    use converge_vdiff::Verdict as V;
    let rows: u64 = report.tables.iter().map(|t| t.processed_rows).sum();
    let matching: u64 = report.tables.iter().map(|t| t.matching_rows).sum();
    let detail = format!("{matching} of {rows} rows match in {}", counted(report.tables.len(), "table"));
    let mut evidence = Vec::new();
    for table in &report.tables {
        evidence.extend(table.reasons.iter().map(|r| format!("{}: {r}", table.target_table)));
        for row in &table.rows {
            let key: Vec<String> = row.key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let kind = match row.kind {
                converge_vdiff::report::Kind::Mismatched => format!("differs in {}", row.columns.join(", ")),
                converge_vdiff::report::Kind::ExtraSource => "is missing on the target".into(),
                converge_vdiff::report::Kind::ExtraTarget => "is on the target only".into(),
            };
            evidence.push(format!("{} {}: {kind}", table.target_table, key.join(" ")));
        }
    }
    evidence.truncate(MOST_EVIDENCE);
    let empty: Vec<&str> =
        report.tables.iter().filter(|t| t.processed_rows == 0).map(|t| t.target_table.as_str()).collect();
    let itself = report.source.address == report.target.address;
    if itself {
        evidence.push("a server was compared with itself".into());
    }
    let finding = match report.verdict {
        V::Different => Finding::Fail,
        V::NotProven => Finding::Unknown,
        V::Equal if itself || !empty.is_empty() || matching != rows => Finding::Unknown,
        V::Equal => Finding::Pass,
    };
    if report.verdict == V::Equal && !empty.is_empty() {
        evidence.push(format!("no rows were compared in {}", empty.join(", ")));
    }
    Oracle::new("vdiff", finding, detail).with_evidence(evidence)
}

/// Whether every acknowledged insert of the ledger table is on the target, and nothing that was never committed.
/// `proven`: the target has everything; otherwise a missing row may only not have arrived yet. `kept` is the table on the
/// source: a row that is missing there too was lost by that server, not by the move.
pub async fn ledger(
    history: &Path,
    target: (&Address, &str),
    kept: (&Address, &str),
    proven: bool,
) -> (Oracle, Vec<Suspect>) {
    const NAME: &str = "ledger";
    let accounts = match history::read(history).and_then(Ledger::of) {
        Ok(accounts) => accounts,
        Err(e) => {
            let detail = format!("the history cannot be read: {e}");
            return (Oracle::new(NAME, Finding::Unknown, detail), Vec::new());
        }
    };
    let found = match ids(target.0, target.1).await {
        Ok(found) => found,
        Err(e) => {
            let detail = format!("the target's ledger cannot be read: {e}");
            return (Oracle::new(NAME, Finding::Unknown, detail), Vec::new());
        }
    };
    let lost: Vec<u64> = accounts.acknowledged.difference(&found).copied().collect();
    let kept = if lost.is_empty() { Ok(found.clone()) } else { ids(kept.0, kept.1).await };
    let unexpected: Vec<u64> = accounts.absent.intersection(&found).copied().collect();
    let recovered = accounts.unknown.intersection(&found).count();
    let detail = format!(
        "{} acknowledged inserts, {} lost; {} of unknown outcome, {recovered} of them there; {} never committed, {} of \
         them there",
        accounts.acknowledged.len(),
        lost.len(),
        accounts.unknown.len(),
        accounts.absent.len(),
        unexpected.len()
    );
    let finding = if !unexpected.is_empty() || proven && !lost.is_empty() {
        Finding::Fail
    } else if !proven {
        return (without_position(NAME, detail), Vec::new());
    } else if accounts.acknowledged.is_empty() {
        Finding::Unknown
    } else {
        Finding::Pass
    };
    let seen = |id: &u64| match &kept {
        Ok(kept) if kept.contains(id) => "the source has it",
        Ok(_) => "the source has it no more either",
        Err(_) => "the source could not be asked",
    };
    let suspect = |id: &u64, what: String| Suspect::new(target.1, id.to_string(), what);
    let lost = lost.iter().map(|id| {
        suspect(id, format!("ledger row {id} was acknowledged and is not on the target; {}", seen(id)))
    });
    let unexpected = unexpected
        .iter()
        .map(|id| suspect(id, format!("ledger row {id} was never committed and is on the target")));
    let suspects: Vec<Suspect> = lost.chain(unexpected).collect();
    let evidence = suspects.iter().take(MOST_EVIDENCE).map(|suspect| suspect.what.clone()).collect();
    // What may still be on its way is nothing to be explained.
    let suspects = if finding == Finding::Fail { suspects } else { Vec::new() };
    (Oracle::new(NAME, finding, detail).with_evidence(evidence), suspects)
}

async fn ids(
    target: &Address,
    table: &str,
) -> Result<std::collections::BTreeSet<u64>, converge_mysql::Error> {
    let mut conn = Connector::new(target.clone()).connect().await?;
    let query = format!("SELECT id FROM {}", quote::ident(table));
    let ids: Vec<u64> =
        conn.query(query).await.map_err(|e| converge_mysql::Error::driver("reading the ledger", e))?;
    Ok(ids.into_iter().collect())
}

/// Whether the load really wrote to what is moved: each of these kinds of statements a least number of times, and to each
/// table, but for the `idle` ones that load cannot be sent to.
pub fn load(tally: &Tally, each_kind: u64, kinds: &[Kind], idle: &[String]) -> Oracle {
    let few = kinds.iter().map(|kind| (kind.name(), tally.moved(*kind))).filter(|(_, n)| *n < each_kind);
    let few = few.map(|(kind, n)| format!("{kind}: {n} acknowledged, {each_kind} needed"));
    let asked = |table: &&str| each_kind > 0 && !idle.iter().any(|name| name == table);
    let untouched =
        tally.untouched().filter(asked).map(|table| format!("{table}: no write was acknowledged"));
    let few: Vec<String> = few.chain(untouched).collect();
    // Whatever a scenario asks for: without any write there was no load.
    let finding = if few.is_empty() && tally.acknowledged() > 0 { Finding::Pass } else { Finding::Unknown };
    let detail = format!(
        "{} writes to moved tables acknowledged, at least {each_kind} of each kind needed",
        tally.acknowledged()
    );
    let few = few.into_iter().take(MOST_EVIDENCE).collect();
    Oracle::new("load", finding, detail).with_evidence(few)
}

/// Whether changes were made to the moved tables while rows were copied: without them the copy's protection was not tried.
pub fn copy_under_load(during_copy: Option<u64>, least: u64) -> Oracle {
    const NAME: &str = "copy_under_load";
    match during_copy {
        None => Oracle::new(NAME, Finding::Unknown, "the copy was not seen from its beginning to its end"),
        Some(n) => {
            let least = least.max(1);
            let finding = if n >= least { Finding::Pass } else { Finding::Unknown };
            Oracle::new(NAME, finding, format!("{n} writes acknowledged during the copy, {least} needed"))
        }
    }
}

/// Whether each fault of the plan was seen to bite. `going_on`: the one that the time limit cut short.
pub fn faults(planned: usize, reports: &[FaultReport], going_on: Option<&FaultReport>) -> Oracle {
    const NAME: &str = "faults";
    if planned == 0 {
        return Oracle::new(NAME, Finding::Pass, "no fault was injected: the plan has none");
    }
    let seen = reports.iter().filter(|f| f.observed.is_some()).count();
    let injected = reports.len() + usize::from(going_on.is_some());
    let unseen: Vec<String> = reports
        .iter()
        .filter(|f| f.observed.is_none())
        .map(|f| format!("{} was injected, but no effect was seen", f.fault))
        .chain(going_on.map(|f| {
            format!("{} was injected and still going on when the time limit ended the run", f.fault)
        }))
        .chain((injected < planned).then(|| match planned - injected {
            1 => "1 fault was never injected".to_owned(),
            more => format!("{more} faults were never injected"),
        }))
        .collect();
    let finding = if unseen.is_empty() { Finding::Pass } else { Finding::Unknown };
    Oracle::new(NAME, finding, format!("{seen} of {planned} faults seen to bite")).with_evidence(unseen)
}

/// Whether a mover that was robbed of what it needs stopped and said so. If it went on, that proves nothing by itself:
/// what is lost then is for the comparison to find.
pub fn loud_stop(fault: &str, end: Option<End>) -> Oracle {
    const NAME: &str = LOUD_STOP;
    match end {
        None => {
            let detail = format!("after {fault} the mover should have stopped, and goes on");
            Oracle::new(NAME, Finding::Unknown, detail)
        }
        Some(end) if end.code == Some(STOPPED) && end.words.contains("what to do:") => {
            let detail = format!("after {fault} the mover stopped and said what to do, as it must");
            Oracle::new(NAME, Finding::Pass, detail).with_evidence(vec![end.words])
        }
        Some(end) => {
            let detail = format!("after {fault} the mover ended without saying what to do");
            Oracle::new(NAME, Finding::Unknown, detail).with_evidence(vec![end.words])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_was_not_seen_proves_nothing() {
        let seen = |observed: Option<&str>| FaultReport {
            fault: "kill_source".into(),
            injected_at: 1.0,
            observed: observed.map(str::to_owned),
            healed_at: Some(2.0),
        };
        assert_eq!(faults(1, &[seen(Some("gone"))], None).finding, Finding::Pass);
        assert_eq!(faults(1, &[seen(None)], None).finding, Finding::Unknown);
        let one_missing = faults(2, &[seen(Some("gone"))], None);
        assert_eq!(one_missing.finding, Finding::Unknown);
        assert_eq!(one_missing.evidence, ["1 fault was never injected"]);
        let cut_short = faults(2, &[seen(Some("gone"))], Some(&seen(Some("down"))));
        assert_eq!(cut_short.finding, Finding::Unknown);
        assert_eq!(
            cut_short.evidence,
            ["kill_source was injected and still going on when the time limit ended the run"]
        );
    }

    #[test]
    fn a_plan_without_faults_does_not_say_that_some_were_seen() {
        let oracle = faults(0, &[], None);
        assert_eq!(oracle.finding, Finding::Pass);
        assert!(oracle.detail.starts_with("no fault was injected"), "{}", oracle.detail);
    }

    #[test]
    fn only_a_mover_that_stops_and_says_why_stops_loudly() {
        let end = |code, words: &str| Some(End { code, words: words.into() });
        let loud = "the mover ended with 2: error: purged what to do: begin anew";
        assert_eq!(loud_stop("x", end(Some(2), loud)).finding, Finding::Pass);
        for silent in [None, end(None, loud), end(Some(0), loud), end(Some(2), "panicked")] {
            assert_eq!(loud_stop("x", silent).finding, Finding::Unknown);
        }
    }

    #[test]
    fn a_copy_without_changes_proves_nothing() {
        assert_eq!(copy_under_load(None, 1).finding, Finding::Unknown);
        assert_eq!(copy_under_load(Some(9), 10).finding, Finding::Unknown);
        assert_eq!(copy_under_load(Some(10), 10).finding, Finding::Pass);
        assert_eq!(copy_under_load(Some(0), 0).finding, Finding::Unknown);
    }

    #[test]
    fn a_load_that_wrote_nothing_proves_nothing() {
        let oracle = load(&Tally::default(), 1, &Kind::WRITES, &[]);
        assert_eq!((oracle.finding, oracle.evidence.len()), (Finding::Unknown, Kind::WRITES.len()));
        assert_eq!(load(&Tally::default(), 0, &Kind::WRITES, &[]).finding, Finding::Unknown);
    }
}
