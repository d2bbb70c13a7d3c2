//! The oracle of silence: once everything is applied the target stands still, and nothing was ever changed there
//! besides the moved tables and the mover's own state. Read from the target's own binary log, which no mover writes by
//! hand.

use std::collections::BTreeMap;

use converge_mysql::{Address, Connector, Error as ServerError, FilePosition, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::MOST_EVIDENCE;
use super::logs::{self, Mark, Since, Torn};
use crate::verdict::{Finding, Oracle};

/// The oracle's name.
pub const NAME: &str = "silence";
/// The error of `SHOW BINLOG EVENTS` where a log cannot be read on, after the events before.
pub(super) const TORN: u16 = 1220;
/// Where a mover keeps its state.
pub(super) const STATE: &str = "_converge";
/// Databases that belong to the server.
const SYSTEM: &str = "'mysql', 'sys', 'information_schema', 'performance_schema'";

/// Where the target's log ended before the move, and when everything had been applied.
#[derive(Debug, Clone)]
pub struct Marks {
    /// Before the mover was started.
    pub began: Mark,
    /// When the mover had ended.
    pub drained: FilePosition,
}

/// Judges the target as it is now.
pub async fn judge(target: &Address, marks: &Marks, moved: &[String]) -> Oracle {
    let found = async {
        let (now, mut traces) = (logs::end(target).await?, Traces::read(target).await?);
        // Last: what is lost while it is read is lost as well.
        traces.since = marks.began.look(target).await?;
        Ok::<_, ServerError>((now, traces))
    };
    match found.await {
        Ok((now, traces)) => traces.judge(target, &marks.drained, &now, moved),
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
    /// Whether the log has all that was written since the move began.
    since: Since,
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

    fn judge(
        &self,
        target: &Address,
        drained: &FilePosition,
        now: &FilePosition,
        moved: &[String],
    ) -> Oracle {
        let ours = |table: &str| match table.split_once('.') {
            Some((database, _)) if database == STATE => true,
            Some((database, name)) => database == target.database && moved.iter().any(|t| t == name),
            None => false,
        };
        let mut wrong = Vec::new();
        // A log that was begun anew did not go on.
        if self.since != Since::Wiped && drained != now {
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
        // A log that shows no change of any moved table was not read.
        let shown = self.changed.keys().any(|table| ours(table) && !table.starts_with(STATE));
        let silent = (!shown).then_some("shows no change of a moved table");
        let (finding, detail) = match (wrong.is_empty(), self.since.lack().or(silent)) {
            (false, _) => {
                (Finding::Fail, "the target holds or got what no change on the source explains".to_owned())
            }
            (true, None) => {
                let count = moved.len();
                let torn = self.torn.remark();
                let detail = format!(
                    "on the target only {count} moved tables and {STATE} were changed, and nothing after the last change{torn}"
                );
                (Finding::Pass, detail)
            }
            (true, Some(why)) => (Finding::Unknown, format!("the target's binary log {why}")),
        };
        Oracle::new(NAME, finding, detail).with_evidence(wrong.into_iter().take(MOST_EVIDENCE).collect())
    }
}

/// `table_id: 97 (shop.customer)`: the table's name.
pub(super) fn mapped(info: &str) -> Option<String> {
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
            since: Since::Whole,
            torn: Torn::default(),
        }
    }

    fn judged(traces: &Traces, after: u64) -> Oracle {
        let target: Address = "mysql://root@127.0.0.1:1/shop".parse().unwrap();
        let at = |offset| FilePosition { file: "log.1".into(), offset };
        traces.judge(&target, &at(9), &at(after), &["a".into(), "b".into()])
    }

    #[test]
    fn only_the_moved_tables_and_the_movers_state_may_change() {
        let good = ["shop.a", "shop.b", "_converge.applied"];
        assert_eq!(judged(&traces(&good, &good), 9).finding, Finding::Pass);
        assert_eq!(judged(&traces(&good, &good), 10).finding, Finding::Fail);
        for stranger in ["shop.c", "other.a"] {
            let list = [&good[..], &[stranger]].concat();
            for traces in [traces(&list, &good), traces(&good, &list)] {
                let oracle = judged(&traces, 9);
                assert_eq!(oracle.finding, Finding::Fail);
                assert!(oracle.evidence[0].contains(stranger), "{oracle:?}");
            }
        }
    }

    #[test]
    fn a_log_that_does_not_show_the_copy_proves_nothing() {
        let tables = ["shop.a", "shop.b"];
        let silent = traces(&["_converge.applied"], &tables);
        assert_eq!(judged(&silent, 9).finding, Finding::Unknown);
        for (since, after) in [(Since::Cut, 9), (Since::Wiped, 9), (Since::Wiped, 5)] {
            let less = Traces { since, ..traces(&tables, &tables) };
            assert_eq!(judged(&less, after).finding, Finding::Unknown);
            let stranger = Traces { since, ..traces(&["shop.a", "shop.c"], &tables) };
            assert_eq!(judged(&stranger, after).finding, Finding::Fail);
        }
        assert_eq!(mapped("table_id: 97 (shop.customer)").as_deref(), Some("shop.customer"));
    }
}
