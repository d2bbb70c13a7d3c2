//! A plan as a list of parts that can be left out, each by itself. Pure.
//!
//! A quantity is left out in halves: each of its parts doubles what is left.

use converge_chaos::load::Subject;

use crate::scenario::{Least, Scenario};

/// Rows below which their number is not halved: the copy would be over before anything meets it.
const LEAST_ROWS: u64 = 400;
/// Seconds below which a time is not halved.
const LEAST_SECONDS: f64 = 0.25;

/// Something that a plan can do without.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// What a pass must have seen.
    Least,
    /// A fault.
    Fault(usize),
    /// A table that is moved.
    Table(String),
    /// A kind of statement.
    Kind(usize),
    /// A share of the load: transactions, rollbacks and the like.
    Share(usize),
    /// Half of the sessions.
    Sessions,
    /// Half of the rows.
    Rows,
    /// Half of the time after the last fault.
    Settle,
    /// Half of the time that a fault lasts.
    Hold(usize),
}

/// Everything that a plan can do without, the most telling first.
pub fn parts(plan: &Scenario) -> Vec<Part> {
    let mut load = plan.load.clone();
    let faults = 0..plan.faults.len();
    let mut parts = vec![Part::Least];
    parts.extend(faults.clone().map(Part::Fault));
    parts.extend(plan.tables.iter().cloned().map(Part::Table));
    let kinds = load.weights.all_mut().into_iter().enumerate().filter(|(_, weight)| **weight > 0);
    parts.extend(kinds.map(|(kind, _)| Part::Kind(kind)));
    let shares = load.shares_mut().into_iter().enumerate().filter(|(_, share)| **share > 0.0);
    parts.extend(shares.map(|(share, _)| Part::Share(share)));
    parts.extend((0..halves(f64::from(plan.load.sessions), 1.0)).map(|_| Part::Sessions));
    parts.extend((0..halves(plan.load.rows as f64, LEAST_ROWS as f64)).map(|_| Part::Rows));
    parts.extend((0..halves(plan.settle_seconds, LEAST_SECONDS)).map(|_| Part::Settle));
    for fault in faults {
        parts.extend((0..halves(plan.faults[fault].hold_seconds, LEAST_SECONDS)).map(|_| Part::Hold(fault)));
    }
    parts
}

/// The plan with these parts alone; nothing if that is no plan.
pub fn with(plan: &Scenario, all: &[Part], parts: &[Part]) -> Option<Scenario> {
    let missing = |part: &Part| {
        let count = |list: &[Part]| list.iter().filter(|p| *p == part).count();
        i32::try_from(count(all) - count(parts)).unwrap_or(i32::MAX)
    };
    let mut smaller = plan.clone();
    if missing(&Part::Least) > 0 {
        smaller.least = Least { each_kind: 0, during_copy: 0, ..plan.least };
    }
    for (fault, of) in smaller.faults.iter_mut().enumerate() {
        of.hold_seconds *= 0.5_f64.powi(missing(&Part::Hold(fault)));
    }
    let mut fault = 0..;
    smaller.faults.retain(|_| missing(&Part::Fault(fault.next().unwrap_or_default())) == 0);
    smaller.tables.retain(|table| missing(&Part::Table(table.clone())) == 0);
    for (kind, weight) in smaller.load.weights.all_mut().into_iter().enumerate() {
        *weight *= u32::from(missing(&Part::Kind(kind)) == 0);
    }
    for (share, of) in smaller.load.shares_mut().into_iter().enumerate() {
        *of *= f64::from(u8::from(missing(&Part::Share(share)) == 0));
    }
    smaller.load.sessions = (plan.load.sessions >> missing(&Part::Sessions)).max(1);
    smaller.load.rows = plan.load.rows >> missing(&Part::Rows);
    smaller.settle_seconds *= 0.5_f64.powi(missing(&Part::Settle));
    // Without a name all tables of another schema would be moved, and without a kind all statements would be of one.
    let tables =
        !smaller.tables.is_empty() || (plan.tables.is_empty() && plan.load.subject != Subject::Commerce);
    let writes = smaller.load.weights.all_mut().iter().any(|weight| **weight > 0);
    (tables && writes).then_some(smaller)
}

/// How often a quantity can be halved without falling below a least.
fn halves(quantity: f64, least: f64) -> usize {
    let mut half = quantity / 2.0;
    std::iter::from_fn(|| {
        let fits = half >= least;
        half /= 2.0;
        fits.then_some(())
    })
    .count()
}

/// A plan's size in words.
pub fn described(plan: &Scenario) -> String {
    let kinds = plan.load.weights.clone().all_mut().iter().filter(|weight| ***weight > 0).count();
    let tables = match plan.tables.len() {
        0 => "all".to_owned(),
        some => some.to_string(),
    };
    format!(
        "faults {}, tables {tables}, kinds of statements {kinds}, sessions {}, rows {}, settling {:.2} s",
        plan.faults.len(),
        plan.load.sessions,
        plan.load.rows,
        plan.settle_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_make_the_plan_and_each_one_less_a_smaller_one() {
        for seed in 0..20 {
            let plan = Scenario::swarm(seed);
            let all = parts(&plan);
            assert_eq!(with(&plan, &all, &all), Some(plan.clone()));
            for without in 0..all.len() {
                let less = [&all[..without], &all[without + 1..]].concat();
                let smaller = with(&plan, &all, &less).unwrap();
                assert_ne!(smaller, plan, "{:?}", all[without]);
            }
            assert_eq!(with(&plan, &all, &[]), None);
        }
    }

    #[test]
    fn quantities_are_halved_as_often_as_parts_are_missing() {
        let plan = Scenario::standard(1);
        let all = parts(&plan);
        let less: Vec<Part> =
            all.iter().filter(|p| **p != Part::Rows && **p != Part::Sessions).cloned().collect();
        let smaller = with(&plan, &all, &less).unwrap();
        assert_eq!((smaller.load.sessions, smaller.load.rows), (1, 110_000 >> 8));
        let kept: Vec<Part> = all.iter().filter(|p| **p != Part::Fault(0)).cloned().collect();
        assert_eq!(with(&plan, &all, &kept).unwrap().faults, plan.faults[1..]);
    }
}
