//! Whether the name that the switch gives to a table is free: a former move leaves its fenced table under it.

use converge_mysql::quote;

use super::{Finding, Server};
use crate::error::Result;
use crate::schema::Table;
use crate::source::fenced_name;

/// Looks for a table of that name on the source.
pub async fn check(server: &mut Server<'_>, table: &Table) -> Result<Finding> {
    const NAME: &str = "fenced_name";
    let name = fenced_name(&table.name);
    let is_taken = server.has_table(&table.schema, &name).await?;
    let name = quote::qualified(&table.schema, &name);
    let finding = match is_taken {
        false => Finding::pass(NAME, "the name that the switch gives to the table is free"),
        true => Finding::warn(
            NAME,
            format!(
                "{name} is on the source already: switch-traffic gives that name to {}, and will refuse",
                table.qualified()
            ),
            format!("before the switch: DROP TABLE {name} if a former move left it, or rename it"),
        ),
    };
    Ok(finding.on(server.side).of(table.qualified()))
}
