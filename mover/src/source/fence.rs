//! The fence: the moved tables get other names on the source, so that no statement of an application can write to
//! them any more. The renaming waits for open transactions, is atomic over all tables, survives a restart, and stands
//! in the binary log behind the last write that got through.

use std::time::Duration;

use converge_mysql::quote;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::marks;
use super::statement::FENCE_MARKER;
use crate::error::{Error, OnSide, Result};
use crate::schema::Table;

/// The longest table name that a server takes, in characters.
const LONGEST_NAME: usize = 64;
const SUFFIX: &str = "_fenced";

/// The name of a fenced table: `customer` becomes `_customer_fenced`; long names are cut and keep a checksum.
pub fn fenced_name(table: &str) -> String {
    let whole = format!("_{table}{SUFFIX}");
    if whole.chars().count() <= LONGEST_NAME {
        return whole;
    }
    // FNV-1a, 32 bits: two long names that begin alike must not meet.
    let hash = table.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let kept: String = table.chars().take(LONGEST_NAME - 1 - SUFFIX.len() - 9).collect();
    format!("_{kept}_{hash:08x}{SUFFIX}")
}

/// How a moved table stands on the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// It has its name, or is not there at all.
    Open,
    /// It has the other name.
    Fenced,
    /// There are tables of both names: one of them is somebody else's.
    Both,
}

/// How far the fence is up over all tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// Writers are kept out of all tables.
    All,
    /// Of some, or another table has the name of a fenced one.
    Part,
    /// Of none.
    None,
}

impl Raised {
    fn of(stands: &[Stand]) -> Self {
        let is = |wanted| stands.iter().filter(|stand| **stand == wanted).count();
        match (is(Stand::Open), is(Stand::Fenced)) {
            (open, _) if open == stands.len() => Self::None,
            (_, fenced) if fenced == stands.len() => Self::All,
            _ => Self::Part,
        }
    }
}

/// How the tables stand now, in order.
pub async fn stands(conn: &mut Conn, tables: &[Table]) -> Result<Vec<Stand>> {
    let Some(first) = tables.first() else { return Ok(Vec::new()) };
    let wanted: Vec<String> =
        tables.iter().flat_map(|t| [quote::text(&t.name), quote::text(&fenced_name(&t.name))]).collect();
    let query = format!(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = {} AND table_name IN ({})",
        quote::text(&first.schema),
        wanted.join(", ")
    );
    let names: Vec<String> =
        converge_mysql::within(super::TIMEOUT, "looking for fenced tables", conn.query(query))
            .await
            .on_source()?;
    let stand = |t: &Table| match (names.contains(&t.name), names.contains(&fenced_name(&t.name))) {
        (_, false) => Stand::Open,
        (false, true) => Stand::Fenced,
        (true, true) => Stand::Both,
    };
    Ok(tables.iter().map(stand).collect())
}

/// How far the fence is up.
pub async fn raised(conn: &mut Conn, tables: &[Table]) -> Result<Raised> {
    Ok(Raised::of(&stands(conn, tables).await?))
}

/// Whether writers are kept out of any of the tables.
pub async fn is_up(conn: &mut Conn, tables: &[Table]) -> Result<bool> {
    Ok(stands(conn, tables).await?.contains(&Stand::Fenced))
}

/// Why the tables cannot be fenced, if their other names are taken.
pub async fn obstacle(conn: &mut Conn, tables: &[Table]) -> Result<Option<String>> {
    let stands = stands(conn, tables).await?;
    let taken: Vec<String> = tables
        .iter()
        .zip(stands)
        .filter(|(_, stand)| *stand != Stand::Open)
        .map(|(table, _)| quote::qualified(&table.schema, &fenced_name(&table.name)))
        .collect();
    let why = "is on the source already: rename or drop what has the name that a fenced table gets";
    Ok((!taken.is_empty()).then(|| format!("{} {why}", taken.join(", "))))
}

/// The row of the marks' table that says whose the last fence before a table was.
fn claim_of(table: &Table) -> String {
    format!("CONCAT('fence ', SHA2({}, 256))", quote::text(&table.qualified()))
}

/// Leaves on the source who is about to fence the tables: a renaming that arrives late, when its sender is gone, can
/// then be told from that of another workflow which moves the same tables.
pub async fn claim(conn: &mut Conn, tables: &[Table], owner: &str) -> Result<()> {
    let owner = quote::text(owner);
    let rows: Vec<String> = tables.iter().map(|table| format!("({}, {owner})", claim_of(table))).collect();
    let statement = format!(
        "INSERT INTO {} (workflow, mark) VALUES {} ON DUPLICATE KEY UPDATE mark = {owner}",
        quote::qualified(marks::SCHEMA, marks::TABLE),
        rows.join(", ")
    );
    converge_mysql::within(super::TIMEOUT, "claiming the fence", conn.query_drop(statement)).await.on_source()
}

/// Whether the last who was about to fence any of the tables was `owner`.
pub async fn is_claimed(conn: &mut Conn, tables: &[Table], owner: &str) -> Result<bool> {
    let rows: Vec<String> = tables.iter().map(claim_of).collect();
    let query = format!(
        "SELECT COUNT(*) FROM {} WHERE workflow IN ({}) AND mark = {}",
        quote::qualified(marks::SCHEMA, marks::TABLE),
        rows.join(", "),
        quote::text(owner)
    );
    let found: Option<usize> =
        converge_mysql::within(super::TIMEOUT, "asking whose the fence is", conn.query_first(query))
            .await
            .on_source()?;
    Ok(found == Some(tables.len()))
}

/// Removes what [`claim`] left.
pub async fn disclaim(conn: &mut Conn, owner: &str) -> Result<()> {
    let table = quote::qualified(marks::SCHEMA, marks::TABLE);
    let statement =
        format!("DELETE FROM {table} WHERE workflow LIKE 'fence %' AND mark = {}", quote::text(owner));
    converge_mysql::within(super::TIMEOUT, "giving the fence up", conn.query_drop(statement))
        .await
        .on_source()
}

/// Whether another connection of this account is renaming, or waits to.
pub async fn is_waiting(conn: &mut Conn) -> Result<bool> {
    let query = format!(
        "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE id <> CONNECTION_ID() AND info LIKE 'RENAME TABLE {FENCE_MARKER}%'"
    );
    let found: Option<u64> =
        converge_mysql::within(super::TIMEOUT, "looking for a renaming", conn.query_first(query))
            .await
            .on_source()?;
    Ok(found.unwrap_or(0) > 0)
}

/// What is behind `RENAME TABLE` to fence tables of a database (`up`), or to take the fence away.
pub fn renaming<'a>(schema: &str, tables: impl Iterator<Item = &'a str>, up: bool) -> String {
    let pair = |table: &str| {
        let (name, fenced) = (quote::qualified(schema, table), quote::qualified(schema, &fenced_name(table)));
        if up { format!("{name} TO {fenced}") } else { format!("{fenced} TO {name}") }
    };
    tables.map(pair).collect::<Vec<_>>().join(", ")
}

/// Renames the tables away. Waits for open transactions for at most `wait`.
pub async fn raise(conn: &mut Conn, tables: &[Table], wait: Duration) -> Result<()> {
    rename(conn, &tables.iter().collect::<Vec<_>>(), true, wait).await
}

/// Renames back what is fenced. Tables in whose place another one was made stay fenced; the error names them.
pub async fn lower(conn: &mut Conn, tables: &[Table], wait: Duration) -> Result<()> {
    let stands = stands(conn, tables).await?;
    let standing = |wanted| -> Vec<&Table> {
        tables.iter().zip(&stands).filter(|(_, stand)| **stand == wanted).map(|(table, _)| table).collect()
    };
    let (fenced, replaced) = (standing(Stand::Fenced), standing(Stand::Both));
    if !fenced.is_empty() {
        rename(conn, &fenced, false, wait).await?;
    }
    match replaced.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(replacement(&first.schema, &replaced)),
    }
}

fn replacement(schema: &str, tables: &[&Table]) -> Error {
    let listed = |name: &dyn Fn(&Table) -> String| {
        tables.iter().map(|t| quote::qualified(schema, &name(t))).collect::<Vec<_>>().join(", ")
    };
    let aside: Vec<String> = tables
        .iter()
        .map(|t| format!("{} TO {}", t.qualified(), quote::qualified(schema, &format!("{}_new", t.name))))
        .collect();
    Error::StillFenced {
        why: format!(
            "{} was made anew on the source while a switch had it fenced",
            listed(&|t| t.name.clone())
        ),
        tables: listed(&|t| fenced_name(&t.name)),
        help: format!(
            "the moved rows are under the fenced name: look at those of the new table, move it out of the way (RENAME \
             TABLE {}), and run the workflow again: it renames the fenced one back",
            aside.join(", ")
        ),
    }
}

async fn rename(conn: &mut Conn, tables: &[&Table], up: bool, wait: Duration) -> Result<()> {
    let Some(first) = tables.first() else { return Ok(()) };
    let pairs = renaming(&first.schema, tables.iter().map(|t| t.name.as_str()), up);
    let what = if up { "fencing the source's tables" } else { "taking the fence away" };
    let bound = format!("SET SESSION lock_wait_timeout = {}", wait.as_secs().max(1));
    let statement = format!("RENAME TABLE {FENCE_MARKER} {pairs}");
    // Each table's files are renamed one by one.
    let most = wait + Duration::from_secs(5) + Duration::from_millis(100) * tables.len() as u32;
    converge_mysql::within(most, what, async {
        conn.query_drop(bound).await?;
        conn.query_drop(statement).await
    })
    .await
    .on_source()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_within_the_servers_limit_and_apart() {
        assert_eq!(fenced_name("customer"), "_customer_fenced");
        let (a, b) =
            (fenced_name(&format!("{}a", "x".repeat(63))), fenced_name(&format!("{}b", "x".repeat(63))));
        assert!(a.chars().count() <= 64 && a != b);
    }

    #[test]
    fn a_fence_is_up_in_full_in_part_or_not() {
        use Stand::{Both, Fenced, Open};
        for (stands, expected) in [
            (&[Open, Open][..], Raised::None),
            (&[Fenced, Fenced], Raised::All),
            (&[Open, Fenced], Raised::Part),
            (&[Both, Fenced], Raised::Part),
            (&[Both, Open], Raised::Part),
            (&[Both], Raised::Part),
        ] {
            assert_eq!(Raised::of(stands), expected, "{stands:?}");
        }
    }

    #[test]
    fn renamings_name_the_database() {
        assert_eq!(
            renaming("s", ["a", "b"].into_iter(), true),
            "`s`.`a` TO `s`.`_a_fenced`, `s`.`b` TO `s`.`_b_fenced`"
        );
        assert_eq!(renaming("s", ["a"].into_iter(), false), "`s`.`_a_fenced` TO `s`.`a`");
    }
}
