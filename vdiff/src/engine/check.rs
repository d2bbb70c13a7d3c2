//! What is wrong with a request, as far as no server has to be asked about it.

use converge_mysql::Address;

use crate::error::Error;
use crate::request::{Options, ProofSource, Request};

/// What tells one shard from another.
fn place(address: &Address) -> (&str, u16, &str) {
    (&address.host, address.port, &address.database)
}

/// Refuses what cannot be meant.
pub fn check(request: &Request) -> Result<(), Error> {
    let found_otherwise =
        matches!(request.options.proof, ProofSource::Workflow(_)) || request.options.all_tables.is_some();
    if request.tables.is_empty() && !found_otherwise {
        return Err(Error::BadRequest(
            "no table is named: --tables, --all-tables or --workflow says which to compare".into(),
        ));
    }
    let Options { columns, ignore_columns, .. } = &request.options;
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    if let Some(both) = columns.iter().find(|one| ignore_columns.iter().any(|other| same(one, other))) {
        let why = "it is left out by --ignore-columns as well: one of the two has to go".into();
        return Err(Error::BadPart { option: format!("--columns {both}"), why });
    }
    for (i, pair) in request.tables.iter().enumerate() {
        if request.tables[..i].contains(pair) {
            return Err(Error::BadRequest(format!("the table {} is named twice", pair.source)));
        }
    }
    for (side, shards) in [("source", &request.source), ("target", &request.target)] {
        for (i, shard) in shards.iter().enumerate() {
            // Its rows would count twice.
            if shards[..i].iter().any(|other| place(other) == place(shard)) {
                return Err(Error::BadRequest(format!("the {side} names {shard} twice")));
            }
        }
    }
    Ok(())
}
