//! Whether each column of a table can cross to the column of that name on the target.

use converge_mysql::{Flavor, quote};
use mysql_async::Conn;

use super::fits::{Fit, fit};
use super::{Finding, Servers, expressions};
use crate::error::{Result, Side};
use crate::schema::generated::{self, Generated};
use crate::schema::{Column, Kind, Table};

const NAME: &str = "columns";

/// Checks the columns of a table that is on the target already.
pub async fn check(servers: &mut Servers<'_>, source: &Table, target: &Table) -> Result<Vec<Finding>> {
    let name = target.qualified();
    let flavors = [servers.source.info.flavor, servers.target.info.flavor];
    let conns = [servers.source.conn(), servers.target.conn()];
    let mut findings = computed(conns, flavors, source, target).await?;
    findings.extend(source.columns.iter().filter_map(|column| stored(column, target, source.key.is_empty())));
    if findings.is_empty() {
        let what = format!("each of {} columns holds the source's values", source.columns.len());
        findings.push(Finding::pass(NAME, what));
    }
    Ok(findings.into_iter().map(|f| f.on(Side::Target).of(&name)).collect())
}

/// Checks the columns that one of the servers generates.
pub async fn computed(
    [here, there]: [&mut Conn; 2],
    flavors: [Flavor; 2],
    source: &Table,
    target: &Table,
) -> Result<Vec<Finding>> {
    let here = generated::read(here, Side::Source, flavors[0], &source.schema, &source.name).await?;
    let there = generated::read(there, Side::Target, flavors[1], &target.schema, &target.name).await?;
    let same_flavor = flavors[0] == flavors[1];
    let mut findings: Vec<Finding> =
        here.iter().filter_map(|column| generated_column(column, target, &there, same_flavor)).collect();
    for column in source.columns.iter().filter(|c| there.iter().any(|g| same_name(&g.column, c))) {
        let (name, shown) = (target.qualified(), quote::ident(&column.name));
        let what = format!(
            "column {shown} of {name} is generated there, and the source has values of its own for it"
        );
        findings.push(Finding::refuse(
            NAME,
            what,
            format!("ALTER TABLE {name} MODIFY {shown} {}", sql_type(column)),
        ));
    }
    Ok(findings)
}

/// What is wrong with the target's column for one whose values are moved.
fn stored(column: &Column, target: &Table, source_has_no_key: bool) -> Option<Finding> {
    let (name, shown) = (target.qualified(), quote::ident(&column.name));
    let modify = || format!("ALTER TABLE {name} MODIFY {shown} {}", sql_type(column));
    let Some(there) = target.columns.iter().find(|c| same_name(c, column)) else {
        let what = format!("{name} on the target has no column {shown}");
        return Some(Finding::refuse(
            NAME,
            what,
            format!("ALTER TABLE {name} ADD {shown} {}", sql_type(column)),
        ));
    };
    let what = |why: &str| {
        format!(
            "column {shown} of {name} is {} there, {} on the source: {why}",
            there.sql_type, column.sql_type
        )
    };
    if source_has_no_key && matches!((&column.kind, &there.kind), (Kind::Char { .. }, Kind::Json)) {
        let why = "the table has no key, and a row is looked for by its values, which the target spells in its own way";
        let fix =
            format!("give the source's table a primary key, or ALTER TABLE {name} MODIFY {shown} LONGTEXT");
        return Some(Finding::refuse(NAME, what(why), fix));
    }
    match fit(column, there) {
        Fit::Alters(why) => Some(Finding::refuse(NAME, what(why), modify())),
        Fit::OrStops(why) => Some(Finding::warn(NAME, what(why), modify())),
        Fit::Whole if unreadable(column) => Some(Finding::warn(
            NAME,
            format!(
                "column {shown} of {name} has a member with a ? in it, which may stand for a character that servers do not \
                 show there"
            ),
            "make sure that both sides have the same members, and compare the table with `converge vdiff` after the copy",
        )),
        Fit::Whole => None,
    }
}

/// Whether members of an ENUM or SET may be others than the server shows.
fn unreadable(column: &Column) -> bool {
    matches!(column.kind, Kind::Enum | Kind::Set) && column.sql_type.contains('?')
}

/// What is wrong with the target's column for one that the source generates.
fn generated_column(
    column: &Generated,
    target: &Table,
    there: &[Generated],
    same_flavor: bool,
) -> Option<Finding> {
    let (name, shown) = (target.qualified(), quote::ident(&column.column.name));
    let kind = sql_type(&column.column);
    let expression = &column.expression;
    let fix = format!("ALTER TABLE {name} ADD {shown} {kind} GENERATED ALWAYS AS ({expression})");
    let again = || format!("ALTER TABLE {name} DROP {shown}; {fix}");
    let Some(found) = there.iter().find(|g| same_name(&g.column, &column.column)) else {
        let plain = target.columns.iter().any(|c| same_name(c, &column.column));
        let (how, fix) = if plain { ("not generated there", again()) } else { ("not there", fix) };
        let what = format!(
            "column {shown} of {name} is {how}: the source generates it, so no values are moved for it"
        );
        return Some(Finding::refuse(NAME, what, fix));
    };
    if let Fit::Alters(why) = fit(&column.column, &found.column) {
        let (there, here) = (&found.column.sql_type, &column.column.sql_type);
        let what =
            format!("generated column {shown} of {name} is {there} there, {here} on the source: {why}");
        return Some(Finding::refuse(NAME, what, again()));
    }
    if expressions::same(expression, &found.expression, same_flavor) {
        return None;
    }
    let what = format!(
        "column {shown} of {name} is generated by {} there, by {expression} on the source",
        found.expression
    );
    Some(match same_flavor {
        true => Finding::refuse(NAME, what, again()),
        false => Finding::warn(NAME, what, format!("make sure that both mean the same, or: {}", again())),
    })
}

fn same_name(a: &Column, b: &Column) -> bool {
    a.name.to_lowercase() == b.name.to_lowercase()
}

/// A column's type as a statement names it.
fn sql_type(column: &Column) -> String {
    match &column.kind {
        Kind::Char { charset, .. } => format!("{} CHARACTER SET {charset}", column.sql_type),
        _ => column.sql_type.clone(),
    }
}
