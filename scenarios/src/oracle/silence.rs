//! The oracle of silence: once everything is applied the target stands still, and nothing was ever changed there
//! besides the moved tables and the mover's own state. Read from the target's own binary log, which no mover writes by
//! hand.

use std::collections::BTreeMap;

use converge_mysql::{Address, Connector, Error as ServerError, FilePosition, Position, ServerInfo, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::MOST_EVIDENCE;
use super::logs::{self, Torn};
use crate::verdict::{Finding, Oracle};

/// The oracle's name.
pub const NAME: &str = "silence";
/// The error of `SHOW BINLOG EVENTS` where a log cannot be read on, after the events before.
const TORN: u16 = 1220;
/// Where a mover keeps its state.
pub(super) const STATE: &str = "_converge";
/// Databases that belong to the server.
const SYSTEM: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";

/// Where the target's binary log ends.
pub async fn mark(target: &Address) -> Result<Position, ServerError> {
    let mut conn = Connector::new(target.clone()).connect().await?;
    let server = ServerInfo::read(&mut conn).await?;
    // The file position, not the GTIDs: it moves with whatever is written.
    let position = Position::File(Position::current_file(&mut conn, &server).await?);
    converge_mysql::connect::close(conn).await;
    Ok(position)
}

/// Where the target's log ended before the move, and when everything had been applied.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Before the mover was started.
    pub began: Position,
    /// When the mover had ended.
    pub drained: Position,
}

/// Judges the target as it is now.
pub async fn judge(target: &Address, marks: &Marks, moved: &[String]) -> Oracle {
    let found = async { Ok::<_, ServerError>((mark(target).await?, Traces::read(target).await?)) };
    match found.await {
        Ok((now, traces)) => traces.judge(target, marks, &now, moved),
        Err(e) => Oracle::new(NAME, Finding::Unknown, format!("the target's binary log cannot be read: {e}")),
    }
}

/// What the target's log and catalogue show.
#[derive(Debug, Default)]
struct Traces {
    /// Row events by `database.table`, with the log position of the first.
    changed: BTreeMap<String, (u64, String)>,
    /// Tables that there are, as `database.table`.
    tables: Vec<String>,
    /// The oldest log that is still there.
    first: String,
    torn: Torn,
}

impl Traces {
    async fn read(target: &Address) -> Result<Self, ServerError> {
        const WHAT: &str = "reading the target's binary log";
        let fail = |e| ServerError::driver(WHAT, e);
        let mut conn = Connector::new(target.clone()).connect().await?;
        let mut traces = Self::default();
        let names = logs::names(&mut conn).await.map_err(fail)?;
        for (i, name) in names.iter().enumerate() {
            let read = traces.log(&mut conn, name).await.map_err(fail);
            traces.torn.note(read, TORN, name, i + 1 == names.len())?;
        }
        traces.first = names.into_iter().next().unwrap_or_default();
        let tables = format!(
            "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE table_schema NOT IN ({SYSTEM}) \
             ORDER BY 1"
        );
        traces.tables = conn.query(tables).await.map_err(fail)?;
        converge_mysql::connect::close(conn).await;
        Ok(traces)
    }

    async fn log(&mut self, conn: &mut Conn, name: &str) -> Result<(), mysql_async::Error> {
        let mut events = conn.query_iter(format!("SHOW BINLOG EVENTS IN {}", quote::text(name))).await?;
        while let Some(row) = events.next().await? {
            let column = |n: usize| row.get::<Option<String>, _>(n).flatten().unwrap_or_default();
            if let Some(table) = (column(2) == "Table_map").then(|| mapped(&column(5))).flatten() {
                let at = || (0, format!("{name}:{}", row.get::<u64, _>(1).unwrap_or_default()));
                self.changed.entry(table).or_insert_with(at).0 += 1;
            }
        }
        Ok(())
    }

    fn judge(&self, target: &Address, marks: &Marks, now: &Position, moved: &[String]) -> Oracle {
        let ours = |table: &str| match table.split_once('.') {
            Some((database, _)) if database == STATE => true,
            Some((database, name)) => database == target.database && moved.iter().any(|t| t == name),
            None => false,
        };
        let mut wrong = Vec::new();
        if marks.drained != *now {
            let drained = &marks.drained;
            wrong.push(format!(
                "after the last change was applied, the target's log went on from {drained} to {now}"
            ));
        }
        for (table, (events, first)) in self.changed.iter().filter(|(table, _)| !ours(table)) {
            wrong.push(format!(
                "{table} is not moved, and was changed on the target ({events} times, first at {first})"
            ));
        }
        for table in self.tables.iter().filter(|table| !ours(table)) {
            wrong.push(format!("{table} is not moved, and is on the target"));
        }
        let begin = Position::File(FilePosition { file: self.first.clone(), offset: 0 });
        let whole = !self.first.is_empty() && marks.began.covers(&begin) == Some(true);
        // A log that shows no change of any moved table was not read.
        let shown = self.changed.keys().any(|table| ours(table) && !table.starts_with(STATE));
        let (finding, detail) = match (wrong.is_empty(), whole && shown) {
            (false, _) => {
                (Finding::Fail, "the target holds or got what no change on the source explains".to_owned())
            }
            (true, true) => {
                let count = moved.len();
                let torn = self.torn.remark();
                let detail = format!(
                    "on the target only {count} moved tables and {STATE} were changed, and nothing after the last change{torn}"
                );
                (Finding::Pass, detail)
            }
            (true, false) => {
                let why =
                    if whole { "shows no change of a moved table" } else { "no longer has its beginning" };
                (Finding::Unknown, format!("the target's binary log {why}"))
            }
        };
        Oracle::new(NAME, finding, detail).with_evidence(wrong.into_iter().take(MOST_EVIDENCE).collect())
    }
}

/// `table_id: 97 (shop.customer)`: the table's name.
fn mapped(info: &str) -> Option<String> {
    let (_, rest) = info.split_once('(')?;
    Some(rest.strip_suffix(')')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(changed: &[&str], tables: &[&str]) -> Traces {
        Traces {
            changed: changed.iter().map(|t| ((*t).to_owned(), (1, "log.1:4".to_owned()))).collect(),
            tables: tables.iter().map(|t| (*t).to_owned()).collect(),
            first: "log.1".into(),
            torn: Torn::default(),
        }
    }

    fn judged(traces: &Traces, after: &str) -> Oracle {
        let target: Address = "mysql://root@127.0.0.1:1/shop".parse().unwrap();
        let marks =
            Marks { began: "file:log.1:4".parse().unwrap(), drained: "file:log.1:9".parse().unwrap() };
        traces.judge(&target, &marks, &after.parse().unwrap(), &["a".into(), "b".into()])
    }

    #[test]
    fn only_the_moved_tables_and_the_movers_state_may_change() {
        let good = ["shop.a", "shop.b", "_converge.applied"];
        assert_eq!(judged(&traces(&good, &good), "file:log.1:9").finding, Finding::Pass);
        assert_eq!(judged(&traces(&good, &good), "file:log.1:10").finding, Finding::Fail);
        for stranger in ["shop.c", "other.a"] {
            let list = [&good[..], &[stranger]].concat();
            for traces in [traces(&list, &good), traces(&good, &list)] {
                let oracle = judged(&traces, "file:log.1:9");
                assert_eq!(oracle.finding, Finding::Fail);
                assert!(oracle.evidence[0].contains(stranger), "{oracle:?}");
            }
        }
    }

    #[test]
    fn a_log_that_does_not_show_the_copy_proves_nothing() {
        let tables = ["shop.a", "shop.b"];
        let silent = traces(&["_converge.applied"], &tables);
        assert_eq!(judged(&silent, "file:log.1:9").finding, Finding::Unknown);
        let cut = Traces { first: "log.2".into(), ..traces(&tables, &tables) };
        assert_eq!(judged(&cut, "file:log.1:9").finding, Finding::Unknown);
        assert_eq!(mapped("table_id: 97 (shop.customer)").as_deref(), Some("shop.customer"));
    }
}
