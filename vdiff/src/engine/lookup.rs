//! Looking up a pair of tables: their schemas on all shards, and the plan that follows from them.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::shards::{Sessions, Shards};
use crate::error::Error;
use crate::plan::part::unmatched;
use crate::plan::{self, Plan, at};
use crate::request::{Options, Request, TablePair};
use crate::schema::{self, Table};

/// A pair of tables as they were, and how they are to be compared.
#[derive(Clone)]
pub struct Pair {
    /// How.
    pub plan: Arc<Plan>,
    tables: [Table; 2],
}

impl Pair {
    /// The rows that the source's statistics expect.
    pub fn rows_estimated(&self) -> u64 {
        self.tables[0].rows_estimated
    }

    /// Whether both tables are InnoDB's. Of what a view shows that is not known.
    pub fn is_innodb(&self) -> bool {
        self.tables.iter().all(|table| table.engine.eq_ignore_ascii_case("InnoDB"))
    }

    /// What a later look found altered, of what the plan was made from.
    pub fn altered(&self, later: &Self) -> Option<String> {
        let sides = ["source", "target"].into_iter().zip(self.tables.iter().zip(&later.tables));
        let mut altered =
            sides.filter_map(|(side, (before, after))| Some((side, disagreement(before, after)?)));
        altered.next().map(|(side, what)| {
            format!(
                "the {side}'s table was altered while it was compared ({what}): run again when no DDL runs"
            )
        })
    }
}

/// Looks a pair of tables up, which is one of `pairs`.
pub async fn look_up(
    sessions: &mut Sessions,
    pair: &TablePair,
    pairs: &[TablePair],
    request: &Request,
) -> Result<Pair, Error> {
    let (source, target) = tokio::join!(
        table_of(&mut sessions.source, &pair.source),
        table_of(&mut sessions.target, &pair.target)
    );
    let (source, target) = (source?, target?);
    let flavors = [sessions.source.first().info.flavor, sessions.target.first().info.flavor];
    let plan = plan::build([&source, &target], flavors, &request.options, pairs)?;
    if plan.is_filtered() {
        probe(&mut sessions.source, &plan, 0).await?;
        probe(&mut sessions.target, &plan, 1).await?;
    }
    Ok(Pair { plan: Arc::new(plan), tables: [source, target] })
}

/// Has the servers look at the conditions, so that what is wrong with them comes out as such and at once.
async fn probe(shards: &mut Shards, plan: &Plan, side: usize) -> Result<(), Error> {
    use converge_mysql::Error as ServerError;
    let asked = shards.query("checking --where", &plan.probe(side)).await;
    asked.map(|_| ()).map_err(|error| match error {
        Error::Server { side, inner: ServerError::Server { message, .. }, .. }
            if !plan.filters.is_empty() =>
        {
            Error::BadPart {
                option: format!("--where '{}'", plan.filters.join("' --where '")),
                why: format!("the {side} does not take it for {}: {message}", plan.tables[at(side)]),
            }
        }
        other => other,
    })
}

/// What the request names must mean something in at least one of the tables.
pub fn check(pairs: &[Pair], options: &Options) -> Result<(), Error> {
    let matched = pairs.iter().flat_map(|pair| pair.plan.matched.iter().cloned()).collect();
    match unmatched(options, &matched) {
        Some((option, why)) => Err(Error::BadPart { option, why }),
        None => Ok(()),
    }
}

/// The table that all shards of a side have, with the rows of all of them.
pub async fn table_of(shards: &mut Shards, name: &str) -> Result<Table, Error> {
    let read = shards.each_mut().map(|session| schema::read(session, name));
    let mut tables = try_join_all(read).await?;
    let mut first = tables.remove(0);
    for (other, session) in tables.iter().zip(shards.each().skip(1)) {
        if let Some(why) = disagreement(&first, other) {
            return Err(Error::ShardsDisagree {
                side: session.side,
                table: name.into(),
                why: format!("{why} on {} is not as on {}", session.address, shards.first().address),
            });
        }
        first.rows_estimated += other.rows_estimated;
        // The side as a whole has given away the numbers below the highest counter.
        first.details.auto_increment = first.details.auto_increment.max(other.details.auto_increment);
    }
    Ok(first)
}

/// What two shards have differently, of what a plan is made from.
fn disagreement(a: &Table, b: &Table) -> Option<String> {
    if a.name != b.name {
        return Some(format!("the name `{}`", b.name));
    }
    if let Some(missing) = a.columns.iter().find(|c| b.column(&c.name).is_none()) {
        return Some(format!("the missing column {}", missing.name));
    }
    if let Some(column) = b.columns.iter().find(|c| !a.columns.contains(c)) {
        return Some(format!("the column {}", column.name));
    }
    let (keys, kind) = (a.keys != b.keys, (a.is_view, a.is_versioned) != (b.is_view, b.is_versioned));
    match (keys, kind) {
        (true, _) => Some("the set of primary and unique keys".into()),
        (_, true) => Some("the kind of table".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Column, UniqueIndex};

    fn table(columns: &[&str]) -> Table {
        let column = |name: &&str| Column { name: (*name).into(), ..Column::default() };
        Table {
            schema: String::new(),
            name: "t".into(),
            is_view: false,
            is_versioned: false,
            engine: "InnoDB".into(),
            rows_estimated: 1,
            columns: columns.iter().map(column).collect(),
            keys: Vec::new(),
            details: crate::schema::Details::default(),
        }
    }

    #[test]
    fn what_shards_have_differently_is_named() {
        let one = table(&["a", "b"]);
        assert_eq!(
            disagreement(&one, &Table { schema: "shop_1".into(), rows_estimated: 7, ..one.clone() }),
            None
        );
        assert!(disagreement(&one, &table(&["a"])).unwrap().contains("column b"));
        assert!(disagreement(&one, &table(&["a", "b", "c"])).unwrap().contains("column c"));
        let mut wider = one.clone();
        wider.columns[1].column_type = "bigint".into();
        assert!(disagreement(&one, &wider).unwrap().contains("column b"));
        let key = UniqueIndex { name: "PRIMARY".into(), columns: vec!["a".into()], ordered: true };
        assert!(disagreement(&one, &Table { keys: vec![key], ..one.clone() }).unwrap().contains("keys"));
        assert!(disagreement(&table(&["a", "b"]), &table(&["b", "a"])).is_none());
    }
}
