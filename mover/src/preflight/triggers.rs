//! Triggers. On the target they would fire again for rows that the source's triggers already changed. On the source
//! what they do is logged as rows, of which the move takes those of the moved tables.

use converge_mysql::{Flavor, quote};

use super::grants::On;
use super::{Finding, Server, Servers};
use crate::error::{Result, Side};
use crate::schema::Table;

const NAME: &str = "triggers";

/// Checks the triggers of one table on both sides.
pub async fn check(
    servers: &mut Servers<'_>,
    source: &Table,
    target: Option<&Table>,
) -> Result<Vec<Finding>> {
    let mut findings = vec![on_source(&mut servers.source, source).await?];
    if let Some(target) = target {
        findings.extend(on_target(&mut servers.target, source, target, true).await?);
    }
    Ok(findings)
}

async fn on_source(server: &mut Server<'_>, table: &Table) -> Result<Finding> {
    let found = names(server, table).await?;
    let name = table.qualified();
    let finding = if !found.is_empty() {
        Finding::warn(
            NAME,
            format!(
                "{name} has triggers ({}): the rows they change are moved where their tables are, the triggers are not",
                found.join(", ")
            ),
            "move the tables that they write to in the same workflow, and create the triggers on the target after the switch",
        )
    } else if sees(server, table) {
        Finding::pass(NAME, "none on the source")
    } else {
        Finding::warn(
            NAME,
            format!("triggers of {name} cannot be seen; they are not moved"),
            grant(server, &name),
        )
    };
    Ok(finding.on(Side::Source).of(name))
}

/// Checks the target's table. `must_see`: refuses if the account may not see triggers.
pub async fn on_target(
    server: &mut Server<'_>,
    source: &Table,
    table: &Table,
    must_see: bool,
) -> Result<Vec<Finding>> {
    let found = names(server, table).await?;
    let name = table.qualified();
    let mut findings: Vec<Finding> = found
        .iter()
        .map(|trigger| {
            Finding::refuse(
                NAME,
                format!(
                    "trigger {trigger} of {name} would fire again on the target for rows of {}",
                    source.qualified()
                ),
                format!(
                    "DROP TRIGGER {} on the target, create it again after the switch",
                    quote::qualified(&table.schema, trigger)
                ),
            )
        })
        .collect();
    if findings.is_empty() && must_see {
        findings.push(if sees(server, table) {
            Finding::pass(NAME, "none on the target")
        } else {
            let what = format!(
                "triggers of {name} on the target cannot be seen, and would fire for every moved row"
            );
            let fix = format!(
                "{}, or DROP TABLE {name}: the move creates it without triggers",
                grant(server, &name)
            );
            Finding::refuse(NAME, what, fix)
        });
    }
    Ok(findings.into_iter().map(|f| f.on(Side::Target).of(&name)).collect())
}

fn grant(server: &Server<'_>, table: &str) -> String {
    format!("GRANT TRIGGER ON {table} TO {}", server.account)
}

/// MySQL shows triggers to those who may create them, MariaDB to those who may change rows.
fn sees(server: &Server<'_>, table: &Table) -> bool {
    let on = On::Table(&table.schema, &table.name);
    let enough: &[&str] = match server.info.flavor {
        Flavor::MySql => &["TRIGGER"],
        Flavor::MariaDb => &["TRIGGER", "INSERT", "UPDATE", "DELETE"],
    };
    enough.iter().any(|privilege| server.grants.holds(privilege, on))
}

async fn names(server: &mut Server<'_>, table: &Table) -> Result<Vec<String>> {
    let query = format!(
        "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = {} AND event_object_table = {} \
         ORDER BY trigger_name",
        quote::text(&table.schema),
        quote::text(&table.name)
    );
    server.query("reading triggers", &query).await
}
