//! Whether another workflow moves rows into one of the tables: what it is told to do with them would be done to that one's.

use converge_mysql::quote;

use super::{Finding, Request, Server};
use crate::error::{Error, Result, Side};
use crate::source::marks::SCHEMA;

/// Databases in which a server or the mover keeps what it needs to work.
const RESERVED: [&str; 5] = ["mysql", "sys", "information_schema", "performance_schema", SCHEMA];

/// Refuses to move tables out of or into a database that is a server's own, or the mover's.
pub fn reserved(request: &Request) -> Result<()> {
    for (address, side) in [(&request.source, Side::Source), (&request.target, Side::Target)] {
        if RESERVED.iter().any(|name| address.database.eq_ignore_ascii_case(name)) {
            return Err(Error::refused(
                format!("the database `{}` of the {side} is a server's own or the mover's", address.database),
                "name a database of yours in --source and --target; accounts are moved with CREATE USER and GRANT",
            ));
        }
    }
    Ok(())
}

/// Refuses target tables that a workflow has which has not ended.
pub async fn check(server: &mut Server<'_>, request: &Request) -> Result<Vec<Finding>> {
    const WHAT: &str = "looking for other workflows";
    let exists = format!(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{SCHEMA}' \
         AND table_name IN ('workflow', 'copy_table')"
    );
    if server.first::<u64>(WHAT, &exists).await? != Some(2) {
        return Ok(Vec::new());
    }
    let schema = &request.target.database;
    let names: Vec<String> = request.tables.iter().map(|(_, to)| quote::text(to)).collect();
    let query = format!(
        "SELECT w.name, w.state, t.target_table FROM {SCHEMA}.workflow w JOIN {SCHEMA}.copy_table t ON t.workflow = w.name \
         WHERE w.state NOT IN ('complete', 'cancelled') AND w.target_schema = {} AND t.target_table IN ({})",
        quote::text(schema),
        names.join(", ")
    );
    let found = match server.query::<(String, String, String)>(WHAT, &query).await {
        // Whoever may not see them gets to know by the privileges that are missing.
        Err(Error::Server { error, .. }) if error.is_refusal() => return Ok(Vec::new()),
        found => found?,
    };
    let refuse = |(workflow, state, table): (String, String, String)| {
        let name = quote::qualified(schema, &table);
        let end = if state == "switched" { "complete" } else { "cancel" };
        Finding::refuse(
            "other_workflow",
            format!("the workflow {workflow}, which is {state}, moves rows into {name}"),
            format!("choose other tables, or end that workflow first: converge move {end} {workflow}"),
        )
        .on(Side::Target)
        .of(name)
    };
    Ok(found.into_iter().map(refuse).collect())
}
