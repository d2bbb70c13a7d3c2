//! A workflow of `converge move` as the witness: its checkpoint is written in the transactions that write the rows, so
//! that one snapshot of the target has the rows and the position they belong to.
//!
//! Reads the database `_converge` with statements of its own; shares no code with the mover.

use std::time::Duration;

use converge_mysql::{Flavor, Position, quote};
use tokio::time::Instant;

use super::frontier::Form;
use super::needs;
use crate::error::Error;
use crate::request::TablePair;
use crate::session::{Cells, Session, number, text};

/// Where workflows keep their state, in the target.
const SCHEMA: &str = "_converge";
/// Between two looks at a checkpoint.
const POLL: Duration = Duration::from_millis(10);
/// A runner that has been silent for so long is taken for gone, in messages.
const SILENT: f64 = 10.0;
/// The longest name that a server takes, in characters.
const LONGEST_NAME: usize = 64;

/// A workflow that moves tables from this source's database to this target's.
#[derive(Debug)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// The form of its positions.
    pub form: Form,
    state: String,
    /// When it was made: another one may get its name.
    made: String,
    tables: Vec<TablePair>,
}

impl Workflow {
    /// Finds the workflow, and refuses one of other servers or databases, and one whose target is not complete.
    pub async fn open(name: &str, source: &mut Session, target: &mut Session) -> Result<Self, Error> {
        let row = find(name, target).await?;
        let [state, source_schema, target_schema, position, log, made] = row.map(|cell| text(&cell));
        check_place(name, source, &source_schema)?;
        check_place(name, target, &target_schema)?;
        check_server(name, source, &log).await?;
        check_state(name, &state)?;
        let position: Position = position.parse().map_err(|inner| target.failed(inner))?;
        let tables = moved(name, target).await?;
        Ok(Self { name: name.into(), form: Form::of(&position), state, made, tables })
    }

    /// Whether its checkpoint still follows the source.
    pub fn follows(&self) -> bool {
        ["indexing", "replicating", "switching"].contains(&self.state.as_str())
    }

    /// All of its tables if none is wanted; else those wanted, each under its name on the target.
    pub async fn tables(&self, wanted: &[TablePair], source: &mut Session) -> Result<Vec<TablePair>, Error> {
        let mut pairs = Vec::new();
        for pair in if wanted.is_empty() { &self.tables } else { wanted } {
            let moved = self.tables.iter().find(|moved| {
                moved.source == pair.source && (pair.target == pair.source || pair.target == moved.target)
            });
            let Some(moved) = moved else { return Err(self.does_not_move(pair)) };
            pairs.push(moved.clone());
        }
        if self.state != "replicating" && self.state != "indexing" {
            for pair in &mut pairs {
                pair.source = present_name(source, &pair.source).await?;
            }
        }
        Ok(pairs)
    }

    fn does_not_move(&self, pair: &TablePair) -> Error {
        let list: Vec<String> =
            self.tables
                .iter()
                .map(|t| {
                    if t.source == t.target { t.source.clone() } else { format!("{}={}", t.source, t.target) }
                })
                .collect();
        Error::Proof {
            what: format!("the workflow {} does not move {} to {}", self.name, pair.source, pair.target),
            help: format!("it moves {}; compare other tables without --workflow", list.join(", ")),
        }
    }

    /// The applied position, as the target shows it now.
    pub async fn position(&self, target: &mut Session) -> Result<Position, Error> {
        const WHAT: &str = "reading the workflow's position";
        let sql = format!(
            "SELECT a.position FROM {} a JOIN {} w ON w.name = a.workflow WHERE a.workflow = {} AND w.created_at = {}",
            quote::qualified(SCHEMA, "applied"),
            quote::qualified(SCHEMA, "workflow"),
            quote::text(&self.name),
            quote::text(&self.made)
        );
        let rows = target.query(WHAT, &sql).await?;
        let Some(cell) = rows.first().and_then(|row| row.first()) else {
            return Err(Error::Proof {
                what: format!(
                    "the workflow {} was removed from the target meanwhile, or made anew",
                    self.name
                ),
                help: "run again once it replicates, or without --workflow".into(),
            });
        };
        text(cell).parse().map_err(|inner| target.failed(inner))
    }

    /// See [`super::Witness::snapshot_at`].
    pub async fn snapshot_at(
        &self,
        target: &mut Session,
        position: &Position,
        bound: Duration,
    ) -> Result<bool, Error> {
        let give_up = Instant::now() + bound;
        loop {
            target.query("opening a snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
            if self.position(target).await?.covers(position) == Some(true) {
                return Ok(true);
            }
            target.query("ending a snapshot", "ROLLBACK").await?;
            if Instant::now() + POLL >= give_up {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// What the workflow says about itself.
    pub async fn trouble(&self, target: &mut Session) -> Result<String, Error> {
        let sql = format!(
            "SELECT error, stopped, TIMESTAMPDIFF(MICROSECOND, alive_at, UTC_TIMESTAMP(3)) / 1e6, lag_seconds, state \
             FROM {} WHERE name = {}",
            quote::qualified(SCHEMA, "workflow"),
            quote::text(&self.name)
        );
        let rows = target.query("reading the workflow's state", &sql).await?;
        let Some([error, stopped, silent, lag, state]) = rows.first().map(Vec::as_slice) else {
            return Ok(format!("the workflow {} was removed from the target", self.name));
        };
        let of = |cell| number::<f64>(cell);
        Ok(match (error, of(silent), of(lag)) {
            (Some(_), ..) => {
                // Its words may hold values of rows, which no report shows unasked.
                let verb = if text(stopped) == "1" { "stopped" } else { "does not go on" };
                format!("the workflow {} {verb}: `converge move status {}` says why", self.name, self.name)
            }
            (None, None, _) => format!("no runner of the workflow {} has been seen", self.name),
            (None, Some(silent), _) if silent > SILENT => {
                format!("the runner of the workflow {} has been silent for {silent:.0} s", self.name)
            }
            (None, _, Some(lag)) => {
                format!("the workflow {} is {}, {lag:.1} s behind the source", self.name, text(state))
            }
            _ => format!("the workflow {} is {}", self.name, text(state)),
        })
    }
}

/// State, both databases, position, the source's identity, and when the workflow was made.
async fn find(name: &str, target: &mut Session) -> Result<[Option<Vec<u8>>; 6], Error> {
    let grant = format!("GRANT SELECT ON {}.*", quote::ident(SCHEMA));
    let sql = format!(
        "SELECT w.state, w.source_schema, w.target_schema, a.position, l.log_identity, w.created_at FROM {} w \
         JOIN {} a ON a.workflow = w.name LEFT JOIN {} l ON l.workflow = w.name WHERE w.name = {}",
        quote::qualified(SCHEMA, "workflow"),
        quote::qualified(SCHEMA, "applied"),
        quote::qualified(SCHEMA, "source_log"),
        quote::text(name)
    );
    let rows = match target.query("reading the workflow's state", &sql).await {
        Ok(rows) => rows,
        // No such database or table.
        Err(Error::Server { inner, .. }) if matches!(inner.server_code(), Some(1049 | 1146)) => {
            return Err(Error::Proof {
                what: format!("the target, {}, knows of no workflow: it has no {SCHEMA}", target.address),
                help: "point --target at the server that `converge move` writes to, or leave --workflow out"
                    .into(),
            });
        }
        Err(error) => return Err(needs(error, &grant, "read the workflow's state")),
    };
    match rows.into_iter().next().map(<[Option<Vec<u8>>; 6]>::try_from) {
        Some(Ok(row)) => Ok(row),
        _ => Err(unknown(name, target).await),
    }
}

async fn unknown(name: &str, target: &mut Session) -> Error {
    let sql = format!("SELECT name, state FROM {} ORDER BY name", quote::qualified(SCHEMA, "workflow"));
    let rows = target.query("listing workflows", &sql).await.unwrap_or_default();
    let all: Vec<String> = rows.iter().map(|row| format!("{} ({})", text(&row[0]), text(&row[1]))).collect();
    let all = if all.is_empty() { "it has none".to_owned() } else { format!("it has {}", all.join(", ")) };
    Error::Proof {
        what: format!("the target, {}, has no workflow {name}", target.address),
        help: format!("{all}; `converge move status NAME` shows one"),
    }
}

async fn moved(name: &str, target: &mut Session) -> Result<Vec<TablePair>, Error> {
    let sql = format!(
        "SELECT source_table, target_table FROM {} WHERE workflow = {} ORDER BY number",
        quote::qualified(SCHEMA, "copy_table"),
        quote::text(name)
    );
    let pair = |row: &Cells| TablePair { source: text(&row[0]), target: text(&row[1]) };
    Ok(target.query("reading the workflow's tables", &sql).await?.iter().map(pair).collect())
}

fn check_place(name: &str, session: &Session, schema: &str) -> Result<(), Error> {
    if session.database == schema {
        return Ok(());
    }
    let (side, database) = (session.side, &session.database);
    Err(Error::Proof {
        what: format!("the workflow {name} has the {side} database {schema}, the URL names {database}"),
        help: format!("end the URL of --{side} with /{schema}, or leave --workflow out"),
    })
}

/// Positions of another server could cover this one's by chance.
async fn check_server(name: &str, source: &mut Session, log: &str) -> Result<(), Error> {
    let sql = match source.info.flavor {
        Flavor::MySql => "SELECT @@server_uuid",
        Flavor::MariaDb => "SELECT CONCAT(@@hostname, ' ', @@port, ' ', @@datadir)",
    };
    let here = source.one("reading the server's identity", sql).await?.first().map(text).unwrap_or_default();
    let moved_from = serde_json::from_str::<serde_json::Value>(log).unwrap_or_default();
    let moved_from =
        moved_from.get("server").and_then(|s| s.as_str()).unwrap_or("a server that it has not named");
    if moved_from == here {
        return Ok(());
    }
    Err(Error::Proof {
        what: format!(
            "the workflow {name} moves rows from {moved_from}; the source, {}, is {here}",
            source.address
        ),
        help: "point --source at the server that the workflow reads, or leave --workflow out".into(),
    })
}

fn check_state(name: &str, state: &str) -> Result<(), Error> {
    let (what, help) = match state {
        "copying" => (
            format!(
                "the workflow {name} is still copying: rows that it has not copied yet are missing on the target"
            ),
            format!("run again once `converge move status {name}` says that it is replicating"),
        ),
        "cancelled" => (
            format!("the workflow {name} was cancelled: the target does not follow the source any more"),
            "leave --workflow out".into(),
        ),
        _ => return Ok(()),
    };
    Err(Error::Proof { what, help })
}

/// A table's name on the source now: the switch renames `customer` to `_customer_fenced`, and cuts long names.
async fn present_name(source: &mut Session, table: &str) -> Result<String, Error> {
    let sql = format!(
        "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {}",
        quote::text(&source.database)
    );
    let rows = source.query("looking for fenced tables", &sql).await?;
    let names: Vec<String> = rows.iter().filter_map(|row| row.first()).map(text).collect();
    if names.iter().any(|name| name == table) {
        return Ok(table.into());
    }
    let mut fenced = names.into_iter().filter(|name| is_fence_of(name, table));
    match (fenced.next(), fenced.next()) {
        (Some(only), None) => Ok(only),
        // The name as given makes the error that says what is missing.
        _ => Ok(table.into()),
    }
}

fn is_fence_of(name: &str, table: &str) -> bool {
    const SUFFIX: &str = "_fenced";
    let whole = format!("_{table}{SUFFIX}");
    if whole.chars().count() <= LONGEST_NAME {
        return name == whole;
    }
    // Long names are cut, and keep eight digits that tell them apart.
    let kept: String = table.chars().take(LONGEST_NAME - 1 - SUFFIX.len() - 9).collect();
    let digits = name.strip_prefix(&format!("_{kept}_")).and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fenced_tables_are_recognised() {
        assert!(is_fence_of("_customer_fenced", "customer") && !is_fence_of("_customers_fenced", "customer"));
        let long = "x".repeat(60);
        assert!(is_fence_of(&format!("_{}_0123abcd_fenced", "x".repeat(47)), &long));
        assert!(!is_fence_of(&format!("_{}_0123abcg_fenced", "x".repeat(47)), &long));
    }

    #[test]
    fn a_target_that_is_not_complete_is_refused() {
        for (state, right) in
            [("copying", false), ("cancelled", false), ("replicating", true), ("switched", true)]
        {
            assert_eq!(check_state("w", state).is_ok(), right, "{state}");
        }
    }
}
