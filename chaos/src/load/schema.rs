//! Makes the schema and fills it.

use converge_mysql::{Address, Connector, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::task::JoinSet;

use super::invariants::{Invariant, Names};
use super::plan::{LoadPlan, Subject};
use super::rest::connector;
use super::tables::{DDL, Table};
use super::user;
use super::values::Dice;
use crate::error::Error;

/// Separates the dice of seeding from those of the load.
const SEEDING: u64 = 1;
/// Sessions that fill tables at the same time.
const SESSIONS: u64 = 4;
const ROWS_PER_STATEMENT: u64 = 200;
const STATEMENTS_PER_TRANSACTION: u64 = 10;

/// Makes the address's database, if it is absent and the account may, and the tables that are absent. A table of the
/// same name but with other columns is somebody's data: an error, and nothing is touched.
pub async fn create_schema(address: &Address) -> Result<(), Error> {
    create_database(address).await?;
    make_tables(connector(address.clone()).connect().await?).await
}

/// Makes the address's database, if it is absent and the account may.
pub async fn create_database(address: &Address) -> Result<(), Error> {
    let database = address.require_database()?;
    match connector(address.clone()).connect().await {
        Ok(conn) => {
            converge_mysql::connect::close(conn).await;
            Ok(())
        }
        // The server said that there is no such database.
        Err(converge_mysql::Error::UnknownDatabase { .. }) => {
            let mut conn = connector(address.with_database("")).connect().await?;
            let create =
                format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quote::ident(database));
            run(&mut conn, "creating the database", &create).await?;
            converge_mysql::connect::close(conn).await;
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// Makes and fills the tables of a plan's subject, beside those with invariants; what is there already stays. Returns
/// what load will leave out, and why.
pub async fn prepare(address: &Address, plan: &LoadPlan) -> Result<Vec<String>, Error> {
    if plan.subject == Subject::Commerce {
        create_schema(address).await?;
        if !is_seeded(address).await? {
            seed_rows(address, plan.seed, plan.rows).await?;
        }
        return Ok(Vec::new());
    }
    create_database(address).await?;
    user::make(address, plan.subject).await?;
    let mut conn = connector(address.clone()).connect().await?;
    for invariant in Invariant::ALL {
        refuse_foreign(&mut conn, &Names::PREFIXED.of(invariant), invariant.columns()).await?;
    }
    make_invariants(&mut conn, Names::PREFIXED).await?;
    converge_mysql::connect::close(conn).await;
    let mut notes = user::fill(address, plan).await?;
    notes.extend(user::read(address).await?.notes);
    Ok(notes)
}

async fn make_tables(mut conn: Conn) -> Result<(), Error> {
    refuse_foreign_tables(&mut conn).await?;
    for statement in DDL {
        run(&mut conn, "creating a table", statement).await?;
    }
    make_invariants(&mut conn, Names::PLAIN).await?;
    converge_mysql::connect::close(conn).await;
    Ok(())
}

/// Makes the tables with invariants, and the rows that they begin with.
async fn make_invariants(conn: &mut Conn, names: Names) -> Result<(), Error> {
    for invariant in Invariant::ALL {
        let table = names.of(invariant);
        run(conn, "creating a table", &invariant.ddl(&table)).await?;
        if let Some(rows) = invariant.seed(&table) {
            run(conn, "seeding rows", &rows).await?;
        }
    }
    Ok(())
}

async fn refuse_foreign_tables(conn: &mut Conn) -> Result<(), Error> {
    for table in Table::ALL {
        let ours = [table.key_columns(), &[table.unique_column()]].concat().into_iter();
        let ours = ours.chain(table.columns().iter().map(|c| c.name)).chain(["update_cnt"]);
        refuse_foreign(conn, table.name(), &ours.collect::<Vec<_>>()).await?;
    }
    for invariant in Invariant::ALL {
        refuse_foreign(conn, &Names::PLAIN.of(invariant), invariant.columns()).await?;
    }
    Ok(())
}

async fn refuse_foreign(conn: &mut Conn, table: &str, ours: &[&str]) -> Result<(), Error> {
    let sql = format!(
        "SELECT column_name FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name = {} ORDER BY ordinal_position",
        quote::text(table)
    );
    let found: Vec<String> = conn
        .query(sql)
        .await
        .map_err(|e| converge_mysql::Error::driver(format!("reading the columns of {table}"), e))?;
    if found.is_empty() || found == ours { Ok(()) } else { Err(Error::ForeignTable { table: table.into() }) }
}

/// Whether there is any row in `customer`, `corder` or `product`.
pub async fn is_seeded(address: &Address) -> Result<bool, Error> {
    let mut conn = connector(address.clone()).connect().await?;
    for table in Table::ALL {
        let name = table.name();
        let row: Option<u8> = conn
            .query_first(format!("SELECT 1 FROM {name} LIMIT 1"))
            .await
            .map_err(|e| converge_mysql::Error::driver(format!("looking into {name}"), e))?;
        if row.is_some() {
            return Ok(true);
        }
    }
    converge_mysql::connect::close(conn).await;
    Ok(false)
}

/// Fills the empty tables with `rows` rows in all. The same seed makes the same rows.
pub async fn seed_rows(address: &Address, seed: u64, rows: u64) -> Result<(), Error> {
    let plan = LoadPlan { seed, rows, ..LoadPlan::default() };
    let mut sessions = JoinSet::new();
    for session in 0..SESSIONS {
        sessions.spawn(fill(connector(address.clone()), plan.clone(), session));
    }
    while let Some(done) = sessions.join_next().await {
        done.map_err(|e| Error::Io { what: "seeding rows".into(), source: std::io::Error::other(e) })??;
    }
    Ok(())
}

/// One session's share: neighbouring rows go into one transaction, transactions take turns over the sessions.
async fn fill(connector: Connector, plan: LoadPlan, session: u64) -> Result<(), Error> {
    let mut conn = connector.connect().await?;
    let block = ROWS_PER_STATEMENT * STATEMENTS_PER_TRANSACTION;
    for table in Table::ALL {
        let seeded = table.seeded(&plan);
        let mut from = session * block;
        while from < seeded {
            run(&mut conn, "seeding rows", "BEGIN").await?;
            let to = (from + block).min(seeded);
            for start in (from..to).step_by(ROWS_PER_STATEMENT as usize) {
                let statement = insert(&plan, table, start..(start + ROWS_PER_STATEMENT).min(to));
                run(&mut conn, "seeding rows", &statement).await?;
            }
            run(&mut conn, "seeding rows", "COMMIT").await?;
            from += SESSIONS * block;
        }
    }
    converge_mysql::connect::close(conn).await;
    Ok(())
}

fn insert(plan: &LoadPlan, table: Table, ordinals: std::ops::Range<u64>) -> String {
    let mut names = table.key_columns().to_vec();
    names.push(table.unique_column());
    names.extend(table.columns().iter().map(|c| c.name));
    let mut sql = format!("INSERT INTO {} ({}) VALUES ", table.name(), names.join(", "));
    for (n, ordinal) in ordinals.enumerate() {
        let mut dice = Dice::new(plan.seed, SEEDING, table as u64, ordinal);
        let mut values = table.key(ordinal);
        values.push(table.unique(ordinal));
        values.extend(table.columns().iter().map(|c| c.draw(&mut dice)));
        if n > 0 {
            sql.push(',');
        }
        sql.push('(');
        sql.push_str(&values.join(","));
        sql.push(')');
    }
    sql
}

async fn run(conn: &mut Conn, what: &str, statement: &str) -> Result<(), Error> {
    conn.query_drop(statement).await.map_err(|e| converge_mysql::Error::driver(what, e).into())
}
