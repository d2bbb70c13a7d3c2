//! From two schemas to a plan.

use std::cmp::Reverse;

use converge_mysql::{Flavor, quote};

use super::part::Part;
use super::{Identity, Plan, PlannedColumn};
use crate::error::Error;
use crate::form::Pairing;
use crate::request::{Options, TablePair};
use crate::schema::{Column, SchemaFinding, Severity, Table, UniqueIndex, compare};

/// Plans the comparison of two tables, which is one of `pairs`. Fails only where no column compares at all.
pub fn build(
    tables: [&Table; 2],
    flavors: [Flavor; 2],
    options: &Options,
    pairs: &[TablePair],
) -> Result<Plan, Error> {
    let mut plan = Plan {
        // In the default database of each connection: that of each shard may have another name.
        tables: tables.map(|table| quote::ident(&table.name)),
        names: tables.map(|table| table.name.clone()),
        indexes: [None, None],
        flavors,
        columns: Vec::new(),
        twins: Vec::new(),
        identity: Identity::Multiset,
        filters: Vec::new(),
        sample: None,
        matched: Default::default(),
        schema: Vec::new(),
        schema_notes: Vec::new(),
        not_verified: Vec::new(),
        is_different: false,
        unproven: Vec::new(),
        unlockable: None,
    };
    let names: Vec<String> = tables[0].columns.iter().map(|c| c.name.clone()).collect();
    let mut part = Part::new(&tables[0].name, &names, options);
    let twins = twins(&mut part, tables)?;
    plan.twins = (tables[0].columns.iter().zip(&twins))
        .filter_map(|(column, twin)| Some([column.name.clone(), tables[1].column(twin)?.name.clone()]))
        .collect();
    pair_columns(&mut plan, tables, &twins, &mut part);
    if plan.columns.is_empty() {
        return Err(Error::NothingToCompare(tables[0].name.clone()));
    }
    choose_key(&mut plan, tables);
    keep_selected(&mut plan, &mut part);
    choose_rows(&mut plan, part.filters(), options);
    note_tables(&mut plan, tables);
    plan.unlockable = unlockable(&plan, tables[0]);
    plan.matched = part.matched();
    plan.schema.extend(compare::tables([&renamed(tables[0], &twins, pairs), tables[1]], flavors));
    plan.schema.sort_by_key(|finding| Reverse(finding.severity));
    plan.schema_notes.splice(..0, plan.schema.iter().map(|finding| finding.message.clone()));
    Ok(plan)
}

/// Only InnoDB locks rows and the gaps between them, and only by a key.
fn unlockable(plan: &Plan, source: &Table) -> Option<String> {
    if source.is_view {
        return Some("it is a view on the source".into());
    }
    if !source.engine.eq_ignore_ascii_case("InnoDB") {
        return Some(format!("its storage engine on the source is {}, not InnoDB", source.engine));
    }
    if plan.is_multiset() {
        return Some("it has no key".into());
    }
    // Locks hold what the statement's own table gives, not what a subquery reads.
    if plan.filters.iter().any(|filter| filter.to_lowercase().contains("select")) {
        return Some("the condition on its rows may read others".into());
    }
    let column = plan.key().into_iter().find(|c| c.form.equality.is_none())?;
    Some(format!("its key column {} cannot be written as a literal", column.name))
}

/// The target's names of the source's columns, whether it has them or not.
fn twins(part: &mut Part<'_>, tables: [&Table; 2]) -> Result<Vec<String>, Error> {
    let mut twins: Vec<String> = Vec::new();
    for column in &tables[0].columns {
        let twin = part.on_target(&column.name, |name| tables[1].column(name).is_some());
        let before = twins.iter().position(|other| other.to_lowercase() == twin.to_lowercase());
        if let Some(before) = before.filter(|_| !part.ignores(&column.name)) {
            let first = &tables[0].columns[before].name;
            if !part.ignores(first) {
                return Err(Error::BadPart {
                    option: "--rename-columns".into(),
                    why: format!(
                        "both {first} and {} of the source would be compared with {twin}",
                        column.name
                    ),
                });
            }
        }
        twins.push(twin);
    }
    Ok(twins)
}

fn pair_columns(plan: &mut Plan, tables: [&Table; 2], twins: &[String], part: &mut Part<'_>) {
    for (column, twin) in tables[0].columns.iter().zip(twins) {
        let name = &column.name;
        if part.ignores(name) {
            plan.not_verified.push(format!("column {name}: left out on request"));
            continue;
        }
        // Which key is chosen is not known yet: see `keep_selected`.
        let may_be_key = tables[0].keys.iter().flat_map(|key| &key.columns).any(|c| same(c, name));
        let (selected, other) = (part.selects(name), tables[1].column(twin));
        if !(selected || may_be_key && other.is_some()) {
            plan.not_verified.push(not_selected(name));
            continue;
        }
        let Some(other) = other else {
            plan.is_different = true;
            plan.not_verified.push(format!("column {name}: missing on the target"));
            plan.schema.push(only_on(0, column, "its values are lost"));
            continue;
        };
        if !same(name, &other.name) {
            plan.schema_notes.push(format!("column {name} is compared with {} of the target", other.name));
        }
        plan.schema.extend(compare::column(tables, [column, other], plan.flavors));
        match (Pairing { columns: [column, other], flavors: plan.flavors }).form() {
            Ok(form) => {
                plan.schema_notes.extend(form.notes.iter().map(|n| format!("column {name}: {n}")));
                let names = [name.clone(), other.name.clone()];
                // What a view says about its columns is not that of the rows it shows.
                let nullable =
                    [(column, tables[0]), (other, tables[1])].map(|(c, t)| c.nullable || t.is_view);
                plan.columns.push(PlannedColumn { name: name.clone(), names, nullable, form });
            }
            Err(_) if !selected => plan.not_verified.push(not_selected(name)),
            Err(why) => {
                plan.unproven.push(format!("column {name} cannot be compared"));
                plan.not_verified.push(format!("column {name}: {why}"));
                let types = [column.column_type.as_str(), other.column_type.as_str()];
                let object = format!("column {name}");
                plan.schema.push(SchemaFinding::differs(Severity::Error, &object, "values", types, &why));
            }
        }
    }
    for column in &tables[1].columns {
        let name = &column.name;
        if twins.iter().any(|twin| same(twin, name)) {
            continue;
        }
        if part.ignores(name) {
            plan.not_verified.push(format!("column {name}: left out on request"));
        } else if !part.selects(name) {
            plan.not_verified.push(not_selected(name));
        } else {
            plan.unproven.push(format!("column {name} exists on the target only"));
            plan.not_verified.push(format!("column {name}: exists on the target only"));
            plan.schema.push(only_on(1, column, "nothing on the source tells what it should hold"));
        }
    }
}

/// A table with its columns named as their counterparts are, in its indexes too.
fn renamed(table: &Table, twins: &[String], pairs: &[TablePair]) -> Table {
    let mut named = table.clone();
    for key in named.details.foreign_keys.values_mut() {
        if let Some(pair) = pairs.iter().find(|pair| pair.source == key.parent) {
            key.parent.clone_from(&pair.target);
        }
        for name in &mut key.columns {
            let twin = table.columns.iter().zip(twins).find(|(column, _)| same(&column.name, name));
            *name = twin.map_or_else(|| name.clone(), |(_, twin)| twin.to_lowercase());
        }
    }
    for part in named.details.indexes.iter_mut().flat_map(|index| &mut index.parts) {
        // The name may be followed by the length of a prefix, and by the direction.
        let new = table.columns.iter().zip(twins).find_map(|(column, twin)| {
            let rest = part.strip_prefix(&column.name)?;
            (rest.is_empty() || rest.starts_with(['(', ' '])).then(|| format!("{twin}{rest}"))
        });
        *part = new.unwrap_or_else(|| part.clone());
    }
    for (column, twin) in named.columns.iter_mut().zip(twins) {
        column.name.clone_from(twin);
    }
    named
}

/// A column that one side (0: the source) lacks: no table without it equals one with it.
fn only_on(side: usize, column: &Column, so: &str) -> SchemaFinding {
    SchemaFinding::only_on(side, Severity::Error, &format!("column {}", column.name), &column.column_type, so)
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn not_selected(name: &str) -> String {
    format!("column {name}: left out on request (not among --columns)")
}

/// Drops columns that were kept only because they might have become the key.
fn keep_selected(plan: &mut Plan, part: &mut Part<'_>) {
    let key = plan.key_positions().to_vec();
    let kept: Vec<usize> =
        (0..plan.columns.len()).filter(|i| key.contains(i) || part.selects(&plan.columns[*i].name)).collect();
    for i in (0..plan.columns.len()).filter(|i| !kept.contains(i)) {
        plan.not_verified.push(not_selected(&plan.columns[i].name));
    }
    if let Identity::Key { columns, .. } = &mut plan.identity {
        *columns = columns.iter().filter_map(|i| kept.iter().position(|k| k == i)).collect();
    }
    plan.columns = kept.iter().map(|i| plan.columns[*i].clone()).collect();
}

/// Which rows are compared, and what that leaves open.
fn choose_rows(plan: &mut Plan, filters: Vec<String>, options: &Options) {
    for sql in &filters {
        plan.not_verified.push(format!(
            "rows that do not fulfil {sql}: left out on request (a row that fulfils it on one side only counts as extra)"
        ));
    }
    if let Some(sample) = options.sample {
        let by = if plan.is_multiset() { "their contents" } else { "their keys" };
        let share = sample.share();
        plan.not_verified.push(format!(
            "all but about {share} of the rows: only a sample is compared (chosen by {by}, seed {})",
            sample.seed
        ));
        plan.unproven.push(format!(
            "only a sample of about {share} was compared: a difference in it would be a difference, but a row outside of it \
             may differ unseen; of K differing rows none is in such a sample with a probability of (100% - {share})^K"
        ));
    }
    (plan.filters, plan.sample) = (filters, options.sample);
}

/// The first key of the source that the target has too, else the source's first one whose columns compare.
fn choose_key(plan: &mut Plan, tables: [&Table; 2]) {
    let usable: Vec<&UniqueIndex> =
        tables[0].keys.iter().filter(|key| positions(plan, &key.columns).is_some()).collect();
    let theirs: Vec<UniqueIndex> = usable.iter().map(|key| on_target(plan, key)).collect();
    let is_shared = |key: &UniqueIndex| tables[1].keys.iter().any(|other| same_columns(key, other));
    let shared = usable.iter().zip(&theirs).find(|(_, their)| is_shared(their)).map(|(key, _)| key);
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
    let their = on_target(plan, key);
    // NULL is in no range: the target may have rows with it, whatever the source's key allows.
    let in_ranges = |c: &PlannedColumn| c.form.literal.is_some() && c.nullable == [false; 2];
    let ordered = columns.iter().take_while(|i| in_ranges(&plan.columns[**i])).count();
    plan.indexes = [
        key.ordered.then(|| key.name.clone()),
        tables[1].keys.iter().find(|o| o.ordered && same_order(&their, o)).map(|o| o.name.clone()),
    ];
    if plan.indexes[0].is_none() {
        // Without an index in key order each range would be a full scan: one scan with buckets is better.
        plan.identity = Identity::Key { columns, ordered: 0 };
        return;
    }
    plan.identity = Identity::Key { columns, ordered };
}

/// The key as the target would have it.
fn on_target(plan: &Plan, key: &UniqueIndex) -> UniqueIndex {
    let columns = positions(plan, &key.columns).unwrap_or_default();
    UniqueIndex {
        columns: columns.into_iter().map(|i| plan.columns[i].names[1].clone()).collect(),
        ..key.clone()
    }
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
    plan.not_verified.extend(compare::unseen(tables));
    let sides = ["source", "target"];
    for (table, side) in tables.iter().zip(sides) {
        if table.is_versioned {
            plan.not_verified.push(format!("history rows of the system-versioned table on the {side}"));
        }
        if table.is_view {
            plan.schema_notes.push(format!("{} is a view on the {side}", quote::ident(&table.name)));
        }
    }
}
