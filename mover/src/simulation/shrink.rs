//! A failing world made smaller, until nothing can be left out: delta debugging over rows, clients, transactions,
//! statements and faults. The order of events is part of a plan; a smaller plan is tried in many orders.

use super::outcome::{Outcome, run};
use super::plan::Plan;

/// Orders in which each smaller plan is tried.
const ORDERS: u64 = 400;

/// The smallest plan that still fails, and how it does. `None`: the plan does not fail at all.
pub fn shrink(plan: &Plan) -> Option<(Plan, Outcome)> {
    let mut smallest = (plan.clone(), failure(plan)?);
    while let Some(smaller) = candidates(&smallest.0).into_iter().find_map(|plan| in_some_order(&plan)) {
        smallest = smaller;
    }
    Some(smallest)
}

fn failure(plan: &Plan) -> Option<Outcome> {
    match run(plan).outcome {
        Outcome::Converged => None,
        Outcome::Stopped(_) if plan.may_stop() => None,
        outcome => Some(outcome),
    }
}

fn in_some_order(plan: &Plan) -> Option<(Plan, Outcome)> {
    let orders = std::iter::once(plan.schedule).chain(0..ORDERS);
    orders.map(|schedule| Plan { schedule, ..plan.clone() }).find_map(|plan| {
        let outcome = failure(&plan)?;
        Some((plan, outcome))
    })
}

/// Every plan with one thing less, the largest things first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut smaller = plan.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    let last = plan.tables.len() - 1;
    if last > 0 {
        with(&|p| {
            p.tables.pop();
            p.clients.iter_mut().for_each(|c| c.retain(|t| t.table < last));
        });
    }
    for client in 0..plan.clients.len() {
        with(&|p| {
            let _ = p.clients.remove(client);
        });
        for transaction in 0..plan.clients[client].len() {
            with(&|p| {
                let _ = p.clients[client].remove(transaction);
            });
            let ops = plan.clients[client][transaction].ops.len();
            for op in (0..ops).filter(|_| ops > 1) {
                with(&|p| {
                    let _ = p.clients[client][transaction].ops.remove(op);
                });
            }
        }
    }
    for fault in 0..plan.faults.len() {
        with(&|p| {
            let _ = p.faults.remove(fault);
        });
    }
    for table in 0..plan.tables.len() {
        for row in 0..plan.tables[table].len() {
            with(&|p| {
                let _ = p.tables[table].remove(row);
            });
        }
    }
    all
}
