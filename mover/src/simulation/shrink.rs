//! A failing world made smaller, until nothing can be left out: delta debugging over statements, faults and rows; what has
//! none of them left goes as well. The order of events is part of a plan; a smaller plan is tried in many orders.

use super::outcome::{Outcome, run};
use super::plan::{Plan, Transaction};
use super::reduce::Reduction;

/// Orders in which each smaller plan is tried.
const ORDERS: u64 = 400;

/// What can be left out, by its place in the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    /// A client's transaction's statement.
    Op(usize, usize, usize),
    Fault(usize),
    /// A table's row.
    Row(usize, usize),
}

/// The smallest plan that still fails, and how it does. `None`: the plan does not fail at all.
pub fn shrink(plan: &Plan) -> Option<(Plan, Outcome)> {
    let mut smallest = (plan.clone(), failure(plan)?);
    let mut search = Reduction::new(parts(plan));
    while let Some(parts) = search.candidate() {
        let candidate = Plan { schedule: smallest.0.schedule, ..with(plan, &parts) };
        let found = in_some_order(&candidate);
        search.answer(found.is_some());
        smallest = found.unwrap_or(smallest);
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

fn parts(plan: &Plan) -> Vec<Part> {
    let ops = |client: usize, (n, transaction): (usize, &Transaction)| {
        (0..transaction.ops.len()).map(move |op| Part::Op(client, n, op)).collect::<Vec<_>>()
    };
    let clients = plan.clients.iter().enumerate();
    let ops = clients.flat_map(|(client, all)| all.iter().enumerate().flat_map(move |t| ops(client, t)));
    let tables = plan.tables.iter().enumerate();
    let rows = tables.flat_map(|(table, rows)| (0..rows.len()).map(move |row| Part::Row(table, row)));
    ops.chain((0..plan.faults.len()).map(Part::Fault)).chain(rows).collect()
}

/// The plan with these parts alone.
fn with(plan: &Plan, parts: &[Part]) -> Plan {
    let mut smaller = plan.clone();
    for (client, all) in smaller.clients.iter_mut().enumerate() {
        for (n, transaction) in all.iter_mut().enumerate() {
            transaction.ops = chosen(&transaction.ops, parts, |op| Part::Op(client, n, op));
        }
        all.retain(|transaction| !transaction.ops.is_empty());
    }
    smaller.clients.retain(|all| !all.is_empty());
    smaller.faults = chosen(&plan.faults, parts, Part::Fault);
    for (table, rows) in smaller.tables.iter_mut().enumerate() {
        *rows = chosen(rows, parts, |row| Part::Row(table, row));
    }
    let used = smaller.clients.iter().flatten().map(|t| t.table + 1).max().unwrap_or(1);
    while smaller.tables.len() > used && smaller.tables.last().is_some_and(Vec::is_empty) {
        smaller.tables.pop();
    }
    smaller
}

fn chosen<T: Clone>(all: &[T], parts: &[Part], part: impl Fn(usize) -> Part) -> Vec<T> {
    all.iter().enumerate().filter(|(n, _)| parts.contains(&part(*n))).map(|(_, item)| item.clone()).collect()
}
