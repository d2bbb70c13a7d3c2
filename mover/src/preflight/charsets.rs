//! Character sets and collations: the target must have each that a column of a moved table uses.

use std::collections::{BTreeMap, BTreeSet};

use converge_mysql::quote;

use super::{Finding, Pair, Servers};
use crate::error::{Result, Side};

const NAME: &str = "collations";

/// Checks the tables that the move will create. Between products their definitions are translated, collations included.
pub async fn check(servers: &mut Servers<'_>, pairs: &[Pair]) -> Result<Vec<Finding>> {
    let created: Vec<String> = pairs
        .iter()
        .filter(|p| p.target.is_none())
        .filter_map(|p| p.source.as_ref())
        .map(|t| {
            format!("(table_schema = {} AND table_name = {})", quote::text(&t.schema), quote::text(&t.name))
        })
        .collect();
    if created.is_empty() || !servers.same_flavor() {
        return Ok(Vec::new());
    }
    let query = format!(
        "SELECT table_name, column_name, collation_name FROM information_schema.columns \
         WHERE collation_name IS NOT NULL AND ({})",
        created.join(" OR ")
    );
    let columns: Vec<(String, String, String)> = servers.source.query("reading collations", &query).await?;
    let mut used: BTreeMap<String, String> = BTreeMap::new();
    for (table, column, collation) in columns {
        used.entry(collation)
            .or_insert_with(|| format!("{}.{}", quote::ident(&table), quote::ident(&column)));
    }
    let there = collations(servers).await?;
    let mut findings: Vec<Finding> = used
        .iter()
        .filter(|(collation, _)| !there.contains(&collation.to_lowercase()))
        .map(|(collation, column)| {
            Finding::refuse(
                NAME,
                format!("the target has no collation {collation}, which column {column} uses"),
                "create the table on the target by hand with a collation that it has, or change the source's: \
                 ALTER TABLE … MODIFY … COLLATE …",
            )
        })
        .collect();
    if findings.is_empty() {
        let names: Vec<&str> = used.keys().map(String::as_str).collect();
        let names = if names.is_empty() { "no column has one".into() } else { names.join(", ") };
        findings.push(Finding::pass(NAME, format!("the target has all that are used: {names}")));
    }
    Ok(findings.into_iter().map(|f| f.on(Side::Target)).collect())
}

/// All names under which the target knows a collation. MariaDB's newer ones are listed without their character set.
async fn collations(servers: &mut Servers<'_>) -> Result<BTreeSet<String>> {
    const WHAT: &str = "reading the target's collations";
    let plain = "SELECT collation_name FROM information_schema.collations";
    let full = "SELECT full_collation_name FROM information_schema.collation_character_set_applicability";
    let mut names: Vec<String> = servers.target.query(WHAT, plain).await?;
    // MariaDB 10.10 and later.
    if servers.target.probe(&format!("{full} LIMIT 0")).await.is_ok() {
        names.extend(servers.target.query::<String>(WHAT, full).await?);
    }
    Ok(names.into_iter().map(|n| n.to_lowercase()).collect())
}
