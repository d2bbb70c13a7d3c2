//! Load for tables that are not the commerce schema: anybody's, or one of the built-in ones that are made of SQL and then
//! read like anybody's.

mod builtin;
mod domain;
mod fill;
mod generate;
mod judge;
mod model;
mod program;
mod reach;
mod rows;
mod script;
mod setting;
mod tokens;

use converge_mysql::{Address, Error as ServerError};
use mysql_async::prelude::Queryable;

use super::plan::{LoadPlan, Subject};
use super::rest::connector;
use super::values::Dice;
use crate::error::Error;
use crate::history::Kind;

pub use generate::kinds;
pub use model::{Model, Table};
pub use program::Program;
pub use script::Script;

/// Makes the tables of a built-in schema; for others there is nothing to make.
pub async fn make(address: &Address, subject: Subject) -> Result<(), Error> {
    let statements: &[&str] = match subject {
        Subject::Classic => &builtin::CLASSIC,
        Subject::Types => &builtin::TYPES,
        Subject::Commerce | Subject::Existing => &[],
    };
    let mut conn = connector(address.clone()).connect().await?;
    for statement in statements {
        conn.query_drop(*statement).await.map_err(|e| ServerError::driver("creating a table", e))?;
    }
    converge_mysql::connect::close(conn).await;
    Ok(())
}

/// Reads the model of a database.
pub async fn read(address: &Address) -> Result<Model, Error> {
    let mut conn = connector(address.clone()).connect().await?;
    let model = Model::read(&mut conn).await?;
    converge_mysql::connect::close(conn).await;
    if !model.tables.iter().any(Table::takes_load) {
        return Err(Error::NothingToLoad { address: address.to_string(), notes: model.notes });
    }
    Ok(model)
}

/// Fills the tables that are empty; returns what could not be done.
pub async fn fill(address: &Address, plan: &LoadPlan) -> Result<Vec<String>, Error> {
    let model = read(address).await?;
    fill::fill(&connector(address.clone()), &model, plan.seed, rows_each(plan, &model)).await
}

/// Rows of each table.
fn rows_each(plan: &LoadPlan, model: &Model) -> u64 {
    let tables = model.tables.iter().filter(|table| table.takes_load()).count();
    (plan.rows / tables.max(1) as u64).max(1)
}

/// Statements of a kind for one of the model's tables; none if no table takes that kind. `fresh` is a number that no
/// other statement of the run has.
pub fn statements(
    plan: &LoadPlan,
    model: &Model,
    kind: Kind,
    dice: &mut Dice,
    fresh: u64,
) -> Vec<super::generate::Statement> {
    let rows = rows::Rows { model, filled: rows_each(plan, model) };
    generate::Draws { plan, rows, dice, fresh }.statements(kind)
}
