//! The checkpoints in the target's binary log: each of the mover's commits writes one, so that one that goes back between
//! two looks at it is seen as well.
//!
//! Compared within one file of the log: a server that died may have undone what it had logged last. Nothing here shares
//! code with the mover that is judged, nor with VDiff.

use std::ops::ControlFlow;

use converge_mysql::{Address, Connector, Error as ServerError, Position, within};
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, Conn, Value};
use mysql_common::binlog::events::{EventData, RowsEventData};
use mysql_common::binlog::row::BinlogRow;
use mysql_common::binlog::value::BinlogValue;

use super::logs::{self, Mark, PATIENCE, Since, Torn};
use super::silence::STATE;

const TABLE: &str = "applied";
/// The error of a log that cannot be read on.
const TORN: u16 = 1236;
const WHAT: &str = "reading the checkpoints in the target's binary log";

/// What the log shows.
#[derive(Debug, Default)]
pub struct Commits {
    /// Checkpoints in it.
    pub seen: u64,
    /// Those that are behind the one before, in words.
    pub went_back: Vec<String>,
    /// Logs that the server left unfinished.
    pub torn: Torn,
    /// Whether it has all that was written since the move began.
    pub since: Since,
    pub(super) last: Option<Position>,
}

/// Reads all of a target's log, for the checkpoints of one workflow. `began`: where it ended before the first of them.
pub async fn read(target: &Address, workflow: &str, began: &Mark) -> Result<Commits, ServerError> {
    let connector = Connector::new(target.clone());
    let mut conn = connector.connect().await?;
    let names = within(PATIENCE, WHAT, logs::names(&mut conn)).await?;
    let wanted = within(PATIENCE, WHAT, Wanted::read(&mut conn, workflow)).await?;
    converge_mysql::connect::close(conn).await;
    let mut commits = Commits::default();
    for (i, name) in names.iter().enumerate() {
        let read = commits.log(connector.connect().await?, name, &wanted).await;
        commits.torn.note(read, TORN, name, i + 1 == names.len())?;
    }
    // Last: what is lost while it is read is lost as well.
    commits.since = began.look(target).await?;
    Ok(commits)
}

/// The workflow, and where in the table's rows, from 1, the columns with its name and its position are.
struct Wanted<'a> {
    workflow: &'a str,
    name: usize,
    position: usize,
}

impl<'a> Wanted<'a> {
    async fn read(conn: &mut Conn, workflow: &'a str) -> Result<Self, mysql_async::Error> {
        let query = "SELECT ordinal_position FROM information_schema.columns \
                     WHERE table_schema = ? AND table_name = ? AND column_name = ?";
        let mut place = async |column: &str| {
            let found: Option<usize> = conn.exec_first(query, (STATE, TABLE, column)).await?;
            // A target without the table has no checkpoints in its log either.
            Ok::<_, mysql_async::Error>(found.unwrap_or(0))
        };
        Ok(Self { workflow, name: place("workflow").await?, position: place("position").await? })
    }
}

/// A column's text, under its name or, as most servers log it, its number.
fn text(row: &BinlogRow, name: &str, place: usize) -> Option<String> {
    let numbered = format!("@{}", place.checked_sub(1)?);
    let at = row.columns_ref().iter().position(|c| c.name_str() == name || c.name_str() == numbered)?;
    match row.as_ref(at)? {
        BinlogValue::Value(Value::Bytes(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

impl Commits {
    async fn log(&mut self, conn: Conn, name: &str, wanted: &Wanted<'_>) -> Result<(), ServerError> {
        self.last = None;
        logs::events(conn, name, WHAT, |stream, event, data| {
            if let Some(EventData::RowsEvent(rows)) = data {
                let place = format!("{name}:{}", event.header().log_pos());
                let found = positions(stream, &rows, wanted).map_err(|e| ServerError::driver(WHAT, e))?;
                found.iter().for_each(|position| self.see(&place, position));
            }
            Ok(ControlFlow::Continue(()))
        })
        .await
    }

    fn see(&mut self, place: &str, text: &str) {
        let Ok(now) = text.parse::<Position>() else {
            self.went_back.push(format!("the checkpoint that ends at {place} is no position: {text}"));
            return;
        };
        self.seen += 1;
        if let Some(last) = self.last.as_ref().filter(|last| now.covers(last) != Some(true)) {
            self.went_back.push(format!("at {place} of the target's log, {last} was written over by {now}"));
        }
        self.last = Some(now);
    }
}

/// The positions that an event of the log writes, in order.
fn positions(
    stream: &BinlogStream,
    rows: &RowsEventData<'_>,
    wanted: &Wanted<'_>,
) -> Result<Vec<String>, mysql_async::Error> {
    let Some(table) = stream.get_tme(rows.table_id()) else { return Ok(Vec::new()) };
    if table.database_name() != STATE || table.table_name() != TABLE {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in rows.rows(table) {
        let (before, after) = row?;
        let Some(after) = after else { continue };
        let of = [Some(&after), before.as_ref()]
            .into_iter()
            .flatten()
            .find_map(|row| text(row, "workflow", wanted.name));
        let ours = of.as_deref() == Some(wanted.workflow);
        found.extend(text(&after, "position", wanted.position).filter(|_| ours));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_over_a_newer_one_is_named() {
        let mut commits = Commits::default();
        for (place, position) in [(1, 10), (2, 30), (3, 30), (4, 20), (5, 40)] {
            commits.see(&format!("log.1:{place}"), &format!("file:bin.1:{position}"));
        }
        assert_eq!(commits.seen, 5);
        assert_eq!(commits.went_back.len(), 1, "{commits:?}");
        assert!(commits.went_back[0].contains("log.1:4") && commits.went_back[0].contains("bin.1:30"));
        commits.see("log.1:6", "nowhere");
        assert_eq!((commits.seen, commits.went_back.len()), (5, 2));
    }
}
