//! What belongs to a table beside its columns: indexes, foreign keys, checks, triggers, views, grants.

use std::collections::{BTreeMap, BTreeSet};

use converge_mysql::Flavor;

use super::super::spelling::{Likeness, alike};
use super::super::{ForeignKey, Index, SchemaFinding, Severity, Table};

/// What an index does, without its name.
fn indexed(index: &Index) -> String {
    let unique = if index.unique { "unique " } else { "" };
    let kind = if index.kind == "BTREE" { String::new() } else { format!("{} ", index.kind.to_lowercase()) };
    format!("{unique}{kind}({})", index.parts.join(", ").to_lowercase())
}

/// Indexes by what they do; their names matter only to hints.
pub fn indexes(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let by_work = |table: &Table| -> BTreeMap<(bool, String), Vec<Index>> {
        let mut map: BTreeMap<_, Vec<Index>> = BTreeMap::new();
        for index in &table.details.indexes {
            map.entry((index.name == "PRIMARY", indexed(index))).or_default().push(index.clone());
        }
        map
    };
    let sides = tables.map(by_work);
    for (side, (here, there)) in [(0, (&sides[0], &sides[1])), (1, (&sides[1], &sides[0]))] {
        for ((primary, work), found) in here.iter().filter(|(key, _)| !there.contains_key(*key)) {
            let (name, unique) = (&found[0].name, found[0].unique);
            let so = match (side, unique) {
                (0, true) => "the target takes duplicates that the source refuses",
                (0, false) => "statements that rely on it are slow on the target",
                (_, true) => "the target refuses rows that the source takes",
                (_, false) => "",
            };
            let severity = if side == 0 || unique { Severity::Warning } else { Severity::Note };
            let object = if *primary { "primary key".to_owned() } else { format!("index {name}") };
            findings.push(SchemaFinding::only_on(side, severity, &object, work, so));
        }
    }
    for (key, source) in &sides[0] {
        let Some(target) = sides[1].get(key) else { continue };
        let (a, b) = (&source[0], &target[0]);
        if a.name != b.name {
            let object = format!("index {}", a.name);
            findings.push(SchemaFinding::differs(Severity::Note, &object, "name", [&a.name, &b.name], ""));
        }
        let seen = |index: &Index| if index.hidden { "hidden from the optimizer" } else { "used" };
        if a.hidden != b.hidden {
            let (object, severity) = (format!("index {}", a.name), Severity::Warning);
            let so = "statements may take other ways on the target";
            findings.push(SchemaFinding::differs(severity, &object, "use", [seen(a), seen(b)], so));
        }
    }
}

/// Foreign keys by what they do; their names are no part of it.
pub fn foreign_keys(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let sides = tables.map(|t| &t.details.foreign_keys);
    for side in [0, 1] {
        let so = match side {
            0 => "the target takes rows without their parent, and does not cascade",
            _ => "the target refuses rows, or cascades, where the source does not",
        };
        let there: Vec<&ForeignKey> = sides[1 - side].values().collect();
        for (name, key) in sides[side].iter().filter(|(_, key)| !there.contains(key)) {
            let (object, what) = (format!("foreign key {name}"), key.to_string());
            findings.push(SchemaFinding::only_on(side, Severity::Warning, &object, &what, so));
        }
    }
}

/// CHECK constraints by their clauses; the one that makes JSON of MariaDB's text belongs to the column's type.
pub fn checks(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2], flavors: [Flavor; 2]) {
    let is_json = |table: &Table, clause: &str| {
        clause
            .to_lowercase()
            .strip_prefix("json_valid(`")
            .and_then(|rest| rest.strip_suffix("`)"))
            .and_then(|name| table.column(name))
            .is_some_and(|c| c.data_type == "json")
    };
    for side in [0, 1] {
        for clause in &tables[side].details.checks {
            let texts = |other: &str| {
                if side == 0 {
                    [clause.clone(), other.to_owned()]
                } else {
                    [other.to_owned(), clause.clone()]
                }
            };
            let matched = tables[1 - side].details.checks.iter().any(|other| {
                let [a, b] = texts(other);
                alike([&a, &b], flavors) != Likeness::Different
            });
            if matched || is_json(tables[1 - side], clause) {
                continue;
            }
            let so = match side {
                0 => "the target takes rows that the source refuses",
                _ => "the target refuses rows that the source takes",
            };
            findings.push(SchemaFinding::only_on(side, Severity::Warning, "check", clause, so));
        }
    }
}

/// Triggers by name.
pub fn triggers(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2]) {
    let sides = tables.map(|t| &t.details.triggers);
    let hidden = tables.map(|t| t.details.hidden.contains(&"triggers"));
    for side in [0, 1] {
        for (name, body) in sides[side].iter().filter(|(name, _)| !sides[1 - side].contains_key(*name)) {
            if hidden[1 - side] {
                continue;
            }
            let so = match side {
                0 => "the target will not do what it does",
                _ => "the target does what the source does not; also to rows that are moved there",
            };
            let object = format!("trigger {name}");
            findings.push(SchemaFinding::only_on(side, Severity::Warning, &object, body, so));
        }
    }
    for (name, a) in sides[0] {
        if let Some(b) = sides[1].get(name).filter(|b| *b != a) {
            let (object, so) = (format!("trigger {name}"), "the target will do something else");
            findings.push(SchemaFinding::differs(Severity::Warning, &object, "definition", [a, b], so));
        }
    }
}

/// Views that read the table, and the compared object's own definition if it is a view.
pub fn views(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2], flavors: [Flavor; 2]) {
    let hidden = tables.map(|t| t.details.hidden.contains(&"views"));
    let compared = |findings: &mut Vec<SchemaFinding>, object: &str, a: &str, b: &str| {
        let so = "the target shows something else";
        if a.is_empty() || b.is_empty() || alike([a, b], flavors) != Likeness::Different {
            return;
        }
        findings.push(SchemaFinding::differs(Severity::Warning, object, "definition", [a, b], so));
    };
    if let (Some(a), Some(b)) = (&tables[0].details.view, &tables[1].details.view) {
        compared(findings, "view", a, b);
    }
    let sides = tables.map(|t| &t.details.views);
    for side in [0, 1] {
        for (name, text) in sides[side].iter().filter(|(name, _)| !sides[1 - side].contains_key(*name)) {
            // A view over a table that has another name there has another definition: found by its own name only.
            if !hidden[1 - side] {
                let (object, severity) =
                    (format!("view {name}"), if side == 0 { Severity::Warning } else { Severity::Note });
                let so = if side == 0 { "what reads it fails on the target" } else { "" };
                findings.push(SchemaFinding::only_on(side, severity, &object, text, so));
            }
        }
    }
    for (name, a) in sides[0] {
        if let Some(b) = sides[1].get(name) {
            compared(findings, &format!("view {name}"), a, b);
        }
    }
}

/// Privileges on the table and its columns, per account.
pub fn grants(findings: &mut Vec<SchemaFinding>, tables: [&Table; 2], flavors: [Flavor; 2]) {
    if tables.iter().any(|t| t.details.hidden.contains(&"grants")) {
        return;
    }
    let across = flavors[0] != flavors[1];
    // What only one family has is none that the other could miss.
    let known = |privilege: &&(String, String)| !across || !privilege.1.starts_with("DELETE HISTORY");
    let sides = tables.map(|t| t.details.grants.iter().filter(known).cloned().collect::<BTreeSet<_>>());
    for side in [0, 1] {
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (account, privilege) in sides[side].difference(&sides[1 - side]) {
            missing.entry(account).or_default().push(privilege);
        }
        for (account, privileges) in missing {
            let so = match side {
                0 => "the account cannot do that on the target",
                _ => "the account may do more on the target",
            };
            let (object, what) = (format!("grant to {account}"), privileges.join(", "));
            findings.push(SchemaFinding::only_on(side, Severity::Warning, &object, &what, so));
        }
    }
}
