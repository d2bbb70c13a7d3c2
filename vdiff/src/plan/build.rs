//! From two schemas to a plan.

use converge_mysql::{Flavor, quote};

use super::{Identity, Plan, PlannedColumn};
use crate::error::Error;
use crate::form::Pairing;
use crate::request::Options;
use crate::schema::{Table, UniqueIndex};

/// Plans the comparison of two tables. Fails only where no column compares at all.
pub fn build(tables: [&Table; 2], flavors: [Flavor; 2], options: &Options) -> Result<Plan, Error> {
    let mut plan = Plan {
        tables: tables.map(Table::sql),
        indexes: [None, None],
        flavors,
        columns: Vec::new(),
        identity: Identity::Multiset,
        schema_notes: Vec::new(),
        not_verified: Vec::new(),
        is_different: false,
        unproven: Vec::new(),
    };
    pair_columns(&mut plan, tables, options);
    if plan.columns.is_empty() {
        return Err(Error::NothingToCompare(tables[0].name.clone()));
    }
    choose_key(&mut plan, tables);
    note_tables(&mut plan, tables);
    Ok(plan)
}

fn pair_columns(plan: &mut Plan, tables: [&Table; 2], options: &Options) {
    let ignored = |name: &str| options.ignore_columns.iter().any(|i| i.to_lowercase() == name.to_lowercase());
    for column in &tables[0].columns {
        let name = &column.name;
        if ignored(name) {
            plan.not_verified.push(format!("column {name}: left out on request"));
            continue;
        }
        let Some(other) = tables[1].column(name) else {
            plan.is_different = true;
            plan.not_verified.push(format!("column {name}: missing on the target"));
            plan.schema_notes
                .push(format!("column {name} ({}) is missing on the target", column.column_type));
            continue;
        };
        match (Pairing { columns: [column, other], flavors: plan.flavors }).form() {
            Ok(form) => {
                plan.schema_notes.extend(form.notes.iter().map(|n| format!("column {name}: {n}")));
                let names = [name.clone(), other.name.clone()];
                plan.columns.push(PlannedColumn { name: name.clone(), names, form });
            }
            Err(why) => {
                plan.unproven.push(format!("column {name} cannot be compared"));
                plan.not_verified.push(format!("column {name}: {why}"));
            }
        }
    }
    for column in &tables[1].columns {
        let name = &column.name;
        if tables[0].column(name).is_none() {
            if ignored(name) {
                plan.not_verified.push(format!("column {name}: left out on request"));
                continue;
            }
            plan.unproven.push(format!("column {name} exists on the target only"));
            plan.not_verified.push(format!("column {name}: exists on the target only"));
            plan.schema_notes
                .push(format!("column {name} ({}) exists on the target only", column.column_type));
        }
    }
    let order = |table: &Table| -> Vec<String> {
        let shared = table.columns.iter().map(|c| c.name.to_lowercase());
        shared.filter(|n| tables.iter().all(|t| t.column(n).is_some())).collect()
    };
    if order(tables[0]) != order(tables[1]) {
        plan.schema_notes.push("columns stand in another order".into());
    }
}

/// The first key of the source that the target has too, else the source's first one whose columns compare.
fn choose_key(plan: &mut Plan, tables: [&Table; 2]) {
    let usable: Vec<&UniqueIndex> =
        tables[0].keys.iter().filter(|key| positions(plan, &key.columns).is_some()).collect();
    let shared = usable.iter().find(|key| tables[1].keys.iter().any(|other| same_columns(key, other)));
    let Some(key) = shared.or(usable.first()).copied() else {
        let what = "no usable primary or NOT NULL unique key: compared as a multiset of rows, so that a changed row shows \
                    as an extra row on each side";
        plan.schema_notes.push(what.into());
        return;
    };
    if shared.is_none() {
        plan.schema_notes.push(format!("the key ({}) is not unique on the target", key.columns.join(", ")));
    }
    let columns = positions(plan, &key.columns).unwrap_or_default();
    let ordered = columns.iter().take_while(|i| plan.columns[**i].form.literal.is_some()).count();
    plan.indexes = [
        key.ordered.then(|| key.name.clone()),
        tables[1].keys.iter().find(|o| o.ordered && same_order(key, o)).map(|o| o.name.clone()),
    ];
    if plan.indexes[0].is_none() {
        // Without an index in key order each range would be a full scan: one scan with buckets is better.
        plan.identity = Identity::Key { columns, ordered: 0 };
        return;
    }
    plan.identity = Identity::Key { columns, ordered };
}

fn positions(plan: &Plan, names: &[String]) -> Option<Vec<usize>> {
    let find = |name: &String| {
        plan.columns.iter().position(|c| c.name.to_lowercase() == name.to_lowercase() && !c.form.client_json)
    };
    names.iter().map(find).collect()
}

fn same_columns(a: &UniqueIndex, b: &UniqueIndex) -> bool {
    let sorted = |key: &UniqueIndex| {
        let mut names: Vec<String> = key.columns.iter().map(|n| n.to_lowercase()).collect();
        names.sort();
        names
    };
    sorted(a) == sorted(b)
}

fn same_order(a: &UniqueIndex, b: &UniqueIndex) -> bool {
    a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(|(a, b)| a.to_lowercase() == b.to_lowercase())
}

fn note_tables(plan: &mut Plan, tables: [&Table; 2]) {
    let sides = ["source", "target"];
    for (table, side) in tables.iter().zip(sides) {
        if table.is_versioned {
            plan.not_verified.push(format!("history rows of the system-versioned table on the {side}"));
        }
        if table.is_view {
            plan.schema_notes.push(format!("{} is a view on the {side}", quote::ident(&table.name)));
        }
    }
    if tables[0].engine != tables[1].engine {
        plan.schema_notes
            .push(format!("engine: {} on the source, {} on the target", tables[0].engine, tables[1].engine));
    }
    let names = |table: &Table| -> Vec<Vec<String>> {
        let mut keys: Vec<Vec<String>> =
            table.keys.iter().map(|k| k.columns.iter().map(|c| c.to_lowercase()).collect()).collect();
        keys.sort();
        keys
    };
    if names(tables[0]) != names(tables[1]) {
        plan.schema_notes.push("the unique keys over NOT NULL columns differ".into());
    }
}
