//! Keys: one that identifies rows, and unique keys that mean the same on both sides.

use std::collections::BTreeMap;

use converge_mysql::{Flavor, quote};

use super::{Finding, Server, Servers};
use crate::error::{Result, Side};
use crate::schema::{Table, definition, loose_order};
use crate::target::common_name;

const KEY: &str = "key";
const UNIQUE: &str = "unique_keys";

/// One part of a unique key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// `None`: an expression.
    column: Option<String>,
    expression: Option<String>,
    /// Characters of the column, if not all of them.
    prefix: Option<u64>,
    nullable: bool,
    generated: bool,
    collation: Option<String>,
    /// Whether the index orders nothing: MariaDB's over long columns.
    hash: bool,
    /// Whether statements cannot use the index: MySQL's INVISIBLE, MariaDB's IGNORED.
    hidden: bool,
    /// Whether its values are members, which compare by their numbers whatever the collation.
    members: bool,
    /// See [`loose_order`].
    loose: Option<&'static str>,
}

impl Part {
    /// Why a key with this part does not identify rows.
    fn obstacle(&self) -> Option<String> {
        let Some(column) = &self.column else { return Some("has an expression".into()) };
        let column = quote::ident(column);
        if self.nullable {
            Some(format!("may hold NULL in {column}"))
        } else if self.generated {
            Some(format!("has the generated column {column}"))
        } else if self.hash {
            Some(format!("is a hash index over {column}, which has no order"))
        } else if self.hidden {
            Some("is hidden from statements".into())
        } else if let Some(what) = self.loose {
            Some(format!("has {column}, {what}, which servers compare in another way than they order it"))
        } else {
            self.prefix.map(|n| format!("has only the first {n} of {column}"))
        }
    }
}

type UniqueKeys = BTreeMap<String, Vec<Part>>;
type PartRow = (
    String,
    Option<String>,
    Option<String>,
    Option<u64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<bool>,
);

async fn unique_keys(server: &mut Server<'_>, schema: &str, table: &str) -> Result<UniqueKeys> {
    let (expression, hidden) = match server.info.flavor {
        Flavor::MySql => ("s.expression", "s.is_visible = 'NO'"),
        Flavor::MariaDb => ("NULL", "s.ignored = 'YES'"),
    };
    let query = format!(
        "SELECT s.index_name, s.column_name, {expression}, s.sub_part, s.nullable, c.extra, c.collation_name, s.index_type, c.column_type, {hidden} \
         FROM information_schema.statistics s LEFT JOIN information_schema.columns c ON c.table_schema = s.table_schema \
         AND c.table_name = s.table_name AND c.column_name = s.column_name \
         WHERE s.table_schema = {} AND s.table_name = {} AND s.non_unique = 0 ORDER BY s.index_name, s.seq_in_index",
        quote::text(schema),
        quote::text(table)
    );
    let rows: Vec<PartRow> = server.query("reading unique keys", &query).await?;
    let mut keys = UniqueKeys::new();
    for (index, column, expression, prefix, nullable, extra, collation, kind, column_type, hidden) in rows {
        let column_type = column_type.unwrap_or_default().to_lowercase();
        let is_set = column_type.starts_with("set(");
        let generated = extra.is_some_and(|e| e.to_uppercase().contains(" GENERATED"));
        let nullable = nullable.as_deref() == Some("YES");
        keys.entry(index).or_default().push(Part {
            column,
            expression,
            prefix,
            nullable,
            generated,
            loose: loose_order(&column_type, collation.as_deref()),
            collation: collation.map(|c| common_name(&c, server.info.flavor)),
            hash: kind.as_deref() == Some("HASH"),
            hidden: hidden == Some(true),
            members: is_set || column_type.starts_with("enum("),
        });
    }
    Ok(keys)
}

/// Whether a table has a key that identifies its rows; says so, or why each of its unique keys is none. A table that
/// is not there passes: that is somebody else's finding.
///
/// `allowed`: the operator moves tables without one.
pub async fn usable(
    server: &mut Server<'_>,
    schema: &str,
    table: &str,
    allowed: bool,
    findings: &mut Vec<Finding>,
) -> Result<bool> {
    let query = format!(
        "SELECT table_type FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
        quote::text(schema),
        quote::text(table)
    );
    let kind: Option<String> = server.first("looking for a table", &query).await?;
    if kind.as_deref() != Some("BASE TABLE") {
        return Ok(true);
    }
    let keys = unique_keys(server, schema, table).await?;
    let name = quote::qualified(schema, table);
    let obstacles: Vec<String> = keys
        .iter()
        .filter_map(|(index, parts)| {
            let why = parts.iter().find_map(Part::obstacle)?;
            Some(format!("unique key {} {why}", quote::ident(index)))
        })
        .collect();
    let usable = obstacles.len() < keys.len();
    findings.push(
        if usable {
            Finding::pass(KEY, "a key identifies its rows")
        } else {
            let more = match obstacles.is_empty() {
                true => String::new(),
                false => format!(" ({})", obstacles.join(", ")),
            };
            no_key(&name, &more, allowed)
        }
        .on(server.side)
        .of(name),
    );
    Ok(usable || allowed)
}

/// MariaDB's keys over periods cannot be written to by statements that write rows over others.
pub async fn over_periods(server: &mut Server<'_>, table: &Table) -> Result<Option<Finding>> {
    if server.info.flavor != Flavor::MariaDb {
        return Ok(None);
    }
    let name = table.qualified();
    let definition = definition(server.conn(), Side::Source, &table.schema, &table.name).await?;
    let definition = String::from_utf8_lossy(&definition);
    // A line for each key; what people wrote, as a comment or a default, stands in others.
    let is_key =
        |line: &str| line.contains("KEY ") && line.trim_end_matches(',').ends_with("WITHOUT OVERLAPS)");
    Ok(definition.lines().any(is_key).then(|| {
        Finding::refuse(
            "without_overlaps",
            format!("{name} has a key over a period (WITHOUT OVERLAPS), which does not let rows be written over others"),
            format!("ALTER TABLE {name} DROP that key, or leave the table out"),
        )
        .on(server.side)
        .of(&name)
    }))
}

/// A table whose rows nothing tells apart is moved only if the operator says so.
fn no_key(name: &str, more: &str, allowed: bool) -> Finding {
    let what = format!("table {name} has neither a primary key nor a unique key without NULLs{more}");
    if allowed {
        let fix =
            "accepted by --allow-no-key: each row that changes is looked for in the target's whole table";
        return Finding::warn(KEY, what, fix);
    }
    let fix = format!(
        "ALTER TABLE {name} ADD PRIMARY KEY (…); or run with --allow-no-key: it is then copied from a snapshot that \
         cannot be resumed, and each row that changes is looked for in the whole table"
    );
    Finding::refuse(KEY, what, fix)
}

/// Compares the unique keys of a table that is on both sides. One that is looser on the target, by its collation or
/// by fewer columns, would take two rows of the source for one.
pub async fn both_sides(servers: &mut Servers<'_>, source: &Table, target: &Table) -> Result<Vec<Finding>> {
    let here = unique_keys(&mut servers.source, &source.schema, &source.name).await?;
    let there = unique_keys(&mut servers.target, &target.schema, &target.name).await?;
    let name = target.qualified();
    let mut findings = vec![same_key(source, target, &here, &there)];
    for (index, parts) in &there {
        if here.values().any(|own| implies(own, parts)) {
            continue;
        }
        let shown = quote::ident(index);
        let what = format!(
            "unique key {shown} of {name} ({}) may take two rows of the source for one: the source has no such key",
            columns(parts)
        );
        let fix = match index.as_str() {
            "PRIMARY" => format!("give {name} the source's primary key, with the same collations"),
            _ => format!(
                "ALTER TABLE {name} DROP INDEX {shown}, or give the source the same key with the same collations"
            ),
        };
        findings.push(Finding::refuse(UNIQUE, what, fix));
    }
    if findings.iter().all(|f| f.name != UNIQUE) {
        findings.push(Finding::pass(UNIQUE, "none on the target is looser than the source's"));
    }
    Ok(findings.into_iter().map(|f| f.on(Side::Target).of(&name)).collect())
}

/// Rows are found by the moved key on both sides: it must be the same one, in the same order of values.
fn same_key(source: &Table, target: &Table, here: &UniqueKeys, there: &UniqueKeys) -> Finding {
    let names = |t: &Table| t.key_columns().map(|c| c.name.to_lowercase()).collect::<Vec<_>>();
    let name = target.qualified();
    let list = |t: &Table| names(t).join(", ");
    if names(source) != names(target) {
        let what = format!("{name} has the key ({}), the source has ({})", list(target), list(source));
        return Finding::refuse("same_key", what, "give both the same primary key");
    }
    let collations = |keys: &UniqueKeys, t: &Table| -> Vec<Option<String>> {
        let of = |part: &Part| part.collation.clone().filter(|_| !part.members);
        keys.get(&t.key_name).into_iter().flatten().map(of).collect()
    };
    let (ours, theirs) = (collations(here, source), collations(there, target));
    for ((column, ours), theirs) in source.key_columns().zip(&ours).zip(&theirs) {
        if ours != theirs {
            let shown = |c: &Option<String>| c.clone().unwrap_or_else(|| "none".into());
            let column = quote::ident(&column.name);
            return Finding::refuse(
                "same_key",
                format!(
                    "key column {column} of {name} has the collation {}, {} on the source: they order and compare keys differently",
                    shown(theirs),
                    shown(ours)
                ),
                format!("ALTER TABLE {name} MODIFY {column} … COLLATE {}", shown(ours)),
            );
        }
    }
    Finding::pass("same_key", format!("({}) on both", list(source)))
}

/// Whether rows that differ in the source's key `own` surely differ in the target's key `other`: each part of `own`
/// must be in `other`, at least as strict.
fn implies(own: &[Part], other: &[Part]) -> bool {
    let lower = |text: &Option<String>| text.as_ref().map(|t| t.to_lowercase());
    own.iter().all(|part| {
        other.iter().any(|o| {
            let same = lower(&o.column) == lower(&part.column)
                && o.expression == part.expression
                && (lower(&o.collation) == lower(&part.collation) || o.members && part.members);
            let long_enough = o.prefix.is_none() || part.prefix.is_some_and(|n| o.prefix >= Some(n));
            // Rows with NULL in the source's key are apart from all others; in the target's they must be so too.
            same && long_enough && (!part.nullable || o.nullable)
        })
    })
}

fn columns(parts: &[Part]) -> String {
    let shown = |p: &Part| {
        let column = p.column.as_deref().map_or_else(|| "an expression".into(), quote::ident);
        match (&p.prefix, &p.collation) {
            (Some(n), _) => format!("{column}({n})"),
            (None, Some(collation)) => format!("{column} {collation}"),
            (None, None) => column,
        }
    };
    parts.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(column: &str, collation: Option<&str>) -> Part {
        Part {
            column: Some(column.into()),
            expression: None,
            prefix: None,
            nullable: false,
            generated: false,
            collation: collation.map(Into::into),
            hash: false,
            hidden: false,
            members: false,
            loose: None,
        }
    }

    #[test]
    fn a_key_of_the_target_must_follow_from_one_of_the_source() {
        let implies = |own: &[&Part], other: &[&Part]| {
            let owned = |parts: &[&Part]| parts.iter().map(|p| (*p).clone()).collect::<Vec<_>>();
            super::implies(&owned(own), &owned(other))
        };
        let (a, b) = (&part("a", None), &part("b", Some("utf8mb4_bin")));
        let cut = &Part { prefix: Some(10), ..b.clone() };
        let null = &Part { nullable: true, ..a.clone() };
        assert!(implies(&[a], &[&part("A", None)]), "names of columns ignore case");
        assert!(implies(&[a], &[a, b]), "more columns only tell more rows apart");
        let member = |collation| Part { members: true, ..part("e", Some(collation)) };
        assert!(
            implies(&[&member("utf8mb4_0900_ai_ci")], &[&member("utf8mb4_general_ci")]),
            "members are numbers"
        );
        assert!(!implies(&[a, b], &[a]), "fewer columns merge rows");
        assert!(!implies(&[b], &[&part("b", Some("utf8mb4_general_ci"))]), "another collation merges rows");
        assert!(!implies(&[b], &[cut]) && implies(&[cut], &[cut]), "a prefix merges rows");
        assert!(!implies(&[null], &[a]) && implies(&[null], &[null]), "NULLs do not meet each other");
        let by = |text: &str| Part { column: None, expression: Some(text.into()), ..a.clone() };
        assert!(implies(&[&by("lower(a)")], &[&by("lower(a)")]) && !implies(&[&by("a+1")], &[&by("a")]));
    }

    #[test]
    fn every_obstacle_is_named() {
        let a = part("a", None);
        assert_eq!(a.obstacle(), None);
        for (part, word) in [
            (Part { column: None, ..a.clone() }, "expression"),
            (Part { nullable: true, ..a.clone() }, "NULL in `a`"),
            (Part { generated: true, ..a.clone() }, "generated"),
            (Part { prefix: Some(3), ..a.clone() }, "first 3 of `a`"),
            (Part { hash: true, ..a.clone() }, "hash index over `a`"),
            (Part { hidden: true, ..a.clone() }, "hidden"),
            (Part { loose: Some("a SET of more than 53 members"), ..a.clone() }, "more than 53 members"),
        ] {
            assert!(part.obstacle().unwrap().contains(word));
        }
    }
}
