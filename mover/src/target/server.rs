//! A real MySQL or MariaDB server as the target.

mod chunk;
mod opening;
mod warned;

use std::sync::Arc;
use std::time::Duration;

use converge_mysql::connect::patient;
use converge_mysql::{Error as ServerError, Position, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::load;
use super::render::{self, Expect, Statement};
use super::{Checkpoint, ChunkRows, Onto, TIMEOUT, Target};
use crate::apply::plan::Step;
use crate::error::{Error, OnSide, Result, Side};
use crate::state::Store;

use opening::Known;
pub use opening::Opening;
use warned::Sent;

/// How long a table may take to be counted or emptied.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a row may be looked for in a whole table.
const SCAN_TIMEOUT: Duration = Duration::from_secs(3600);
/// Statements sent in one packet.
const MOST_STATEMENTS: usize = 100;
/// Server errors that say that a unique value is taken.
const DUPLICATE: &[u16] = &[1022, 1062, 1586, 1859];
/// Bytes of one packet, unless one statement alone is larger.
const MOST_BYTES: usize = 1 << 20;

/// A connection to the target that writes the moved tables of one workflow.
pub struct ServerTarget {
    conn: Conn,
    store: Store,
    known: Arc<Known>,
    in_transaction: bool,
    /// Bytes of statements in the open transaction.
    sent: u64,
    /// The position being applied, for messages.
    at: String,
}

impl ServerTarget {
    async fn begin(&mut self) -> Result<()> {
        if !self.in_transaction {
            within(TIMEOUT, "opening a transaction", self.conn.query_drop("START TRANSACTION"))
                .await
                .on_target()?;
            self.in_transaction = true;
        }
        Ok(())
    }

    /// Sends statements in few packets and holds every answer against what it must be.
    async fn send(&mut self, mut statements: Vec<Statement>) -> Result<()> {
        let mut rest = statements.as_mut_slice();
        while !rest.is_empty() {
            let (mut packet, n) = first_packet(rest, MOST_BYTES.min(self.known.largest_packet / 2));
            let (now, later) = rest.split_at_mut(n);
            let marked = self.mark(&mut packet, now).await?;
            if self.send_packet(packet, now, marked).await? == Sent::Unclear {
                self.send_singly(now).await?;
            }
            rest = later;
        }
        Ok(())
    }

    /// `before`: how many other statements the packet begins with.
    async fn send_packet(
        &mut self,
        packet: Vec<u8>,
        statements: &[Statement],
        before: usize,
    ) -> Result<Sent> {
        self.check_size(&packet)?;
        self.sent += packet.len() as u64;
        let bound = if statements.iter().any(|s| s.scans) { SCAN_TIMEOUT } else { TIMEOUT };
        let answered = answers(&mut self.conn, packet, before + statements.len());
        let answers = within(bound, "writing rows", answered).await.on_target()?;
        let mut sent = Sent::Done;
        for (i, statement) in statements.iter().enumerate() {
            let found = match answers.get(before + i) {
                Some(Ok(answer)) => answer,
                Some(Err(error)) => return Err(self.refused(statement, error.clone())),
                None => return Err(self.alarm(statement, "the server did not answer it")),
            };
            let (rows, must) = match statement.expect {
                Expect::Rows(n) => (Some(found.rows), n),
                Expect::Found(n) => (found.duplicates, n),
                Expect::Any => (Some(0), 0),
            };
            if rows != Some(must) {
                let rows = rows.map_or("an unknown number of".into(), |n| n.to_string());
                return Err(self.alarm(statement, &format!("{rows} rows matched, {must} must")));
            }
            if found.warnings > 0
                && self.check_warnings(statement, found, statements.len() == 1).await? == Sent::Unclear
            {
                sent = Sent::Unclear;
            }
        }
        Ok(sent)
    }

    /// A server breaks the connection over a packet that is too large, which would look like an outage.
    fn check_size(&self, packet: &[u8]) -> Result<()> {
        // The command's own byte, and the rounding of the variable.
        let needed = (packet.len() + 1).next_multiple_of(1024);
        if needed <= self.known.largest_packet {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(&packet[..packet.len().min(120)]).into_owned();
        Err(Error::PacketTooLarge {
            side: Side::Target,
            what: format!("a statement ({shown}…)"),
            needed,
            allowed: self.known.largest_packet,
        })
    }

    /// A duplicate or a value that does not fit is an alarm; everything else is the server's trouble.
    fn refused(&self, statement: &Statement, error: ServerError) -> Error {
        match error.server_code() {
            Some(code) if DUPLICATE.contains(&code) => self.alarm(statement, &error.to_string()),
            _ => Err::<(), _>(error.clone())
                .on_target()
                .err()
                .unwrap_or(Error::Server { side: Side::Target, error }),
        }
    }

    fn alarm(&self, statement: &Statement, what: &str) -> Error {
        let sql = String::from_utf8_lossy(&statement.sql);
        let shown: String = sql.chars().take(400).collect();
        let more = if shown.len() < sql.len() { "…" } else { "" };
        Error::Diverged { position: self.at.clone(), evidence: format!("{what}: {shown}{more}") }
    }
}

/// How long a statement waits for another session's row locks: less than its answer is waited for.
fn lock_wait() -> Duration {
    patient(Duration::from_secs(30)) * 2 / 3
}

/// How long a commit may take. A server writes a large transaction into its binary log then, and says nothing
/// meanwhile: to take that for an outage would begin it again, for ever.
fn commit_timeout(sent: u64) -> Duration {
    const LARGE: u64 = 16 << 20;
    TIMEOUT + Duration::from_secs(if sent > LARGE { sent >> 20 } else { 0 })
}

/// The packet of the first of these statements, and how many are in it. A large statement moves into it, but for its
/// beginning: two copies of a large row are one too many.
fn first_packet(statements: &mut [Statement], limit: usize) -> (Vec<u8>, usize) {
    const SHOWN: usize = 2000;
    if let Some(first) = statements.first_mut().filter(|first| first.sql.len() > limit) {
        let beginning = first.sql[..first.sql.len().min(SHOWN)].to_vec();
        return (std::mem::replace(&mut first.sql, beginning), 1);
    }
    let mut packet = Vec::new();
    let mut n = 0;
    for statement in statements.iter().take(MOST_STATEMENTS) {
        let full = packet.len() + statement.sql.len() > limit;
        if n > 0 && (full || statement.alone || statements[n - 1].alone) {
            break;
        }
        packet.extend_from_slice(if n > 0 { b";" } else { b"" });
        packet.extend_from_slice(&statement.sql);
        n += 1;
    }
    (packet, n)
}

struct Answer {
    rows: u64,
    /// Rows of an INSERT that were there already.
    duplicates: Option<u64>,
    warnings: u16,
}

/// The second of the numbers in `Records: 3  Duplicates: 2  Warnings: 0`, whatever language that is in.
fn duplicates(info: &str) -> Option<u64> {
    let numbers = info.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let numbers: Vec<u64> = numbers.map_while(|n| n.parse().ok()).collect();
    (numbers.len() == 3).then(|| numbers[1])
}

/// Runs a packet of several statements; stops at the first error, which is the last answer.
async fn answers(
    conn: &mut Conn,
    packet: Vec<u8>,
    statements: usize,
) -> std::result::Result<Vec<std::result::Result<Answer, ServerError>>, mysql_async::Error> {
    let refused = |e: mysql_async::Error| match e {
        e @ mysql_async::Error::Server(_) => Ok(ServerError::driver("writing rows", e)),
        other => Err(other),
    };
    let mut answers = Vec::with_capacity(statements);
    let mut result = match conn.query_iter(packet).await {
        Ok(result) => result,
        Err(e) => return Ok(vec![Err(refused(e)?)]),
    };
    for _ in 0..statements {
        let answer = Answer {
            rows: result.affected_rows(),
            duplicates: duplicates(&result.info()),
            warnings: result.warnings(),
        };
        // This goes on to the next statement. The driver keeps the error of a statement that is not the first until
        // here, and until then shows it as an answer without rows.
        match result.collect::<mysql_async::Row>().await {
            Ok(_) => answers.push(Ok(answer)),
            Err(e) => {
                answers.push(Err(refused(e)?));
                break;
            }
        }
    }
    Ok(answers)
}

impl Target for ServerTarget {
    fn changes_in_place(&self, table: usize) -> bool {
        self.known.in_place[table]
    }

    fn stands_at(&mut self, position: &Position) {
        self.at = position.to_string();
    }

    async fn run(&mut self, steps: Vec<Step>) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        self.begin().await?;
        let known = self.known.clone();
        let render = |step: Step| {
            let statement = render::step(&known.tables[step.table], &step, known.alias);
            known.keeping(statement, step.table, render::fate(step.operation), || step.rows)
        };
        let statements = steps.into_iter().map(render).collect();
        self.send(statements).await
    }

    async fn write_chunk(&mut self, chunk: ChunkRows, onto: Onto) -> Result<()> {
        if chunk.rows.is_empty() {
            return Ok(());
        }
        self.begin().await?;
        if onto == Onto::Equal {
            self.remove_present(&chunk).await?;
        }
        let as_file = self.known.takes_files && self.known.alike[chunk.table] && onto != Onto::Newer;
        let (file, rest) = match as_file {
            true => load::can_be_sent(&self.known.tables[chunk.table], chunk.rows),
            false => (Vec::new(), chunk.rows),
        };
        if !file.is_empty() {
            self.sent += chunk.bytes as u64;
            self.load_chunk(chunk.table, file).await?;
        }
        self.insert_chunk(chunk.table, &rest, onto).await
    }

    async fn clear(&mut self, table: usize, rows: u64) -> Result<()> {
        let name = self.known.tables[table].qualified();
        let query = format!("SELECT COUNT(*) FROM {name}");
        let what = "counting the rows of an interrupted copy";
        let found: Option<u64> =
            within(CLEAR_TIMEOUT, what, self.conn.query_first(query)).await.on_target()?;
        let found = found.unwrap_or(0);
        if found == 0 {
            return Ok(());
        }
        if found != rows {
            return Err(Error::refused(
                format!(
                    "the interrupted copy wrote {rows} rows to {name}, but it has {found}: somebody else writes there"
                ),
                format!(
                    "a copy from a snapshot begins again from empty tables: look at the rows, TRUNCATE TABLE {name}, \
                     and run the workflow again"
                ),
            ));
        }
        tracing::warn!("the snapshot of the interrupted copy is gone: its {rows} rows in {name} are removed");
        let statement = format!("TRUNCATE TABLE {name}");
        let what = "removing the rows of an interrupted copy";
        within(CLEAR_TIMEOUT, what, self.conn.query_drop(statement)).await.on_target()
    }

    async fn commit(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.begin().await?;
        for statement in self.store.checkpoint_statements(checkpoint) {
            let result: std::result::Result<u64, ServerError> =
                within(TIMEOUT, "writing the checkpoint", async {
                    Ok::<_, mysql_async::Error>(
                        self.conn.query_iter(statement.sql.as_str()).await?.affected_rows(),
                    )
                })
                .await;
            let rows = result.on_target()?;
            if statement.must_match && rows != 1 {
                return Err(self.store.taken_over());
            }
        }
        let bound = commit_timeout(self.sent);
        within(bound, "committing", self.conn.query_drop("COMMIT")).await.on_target()?;
        (self.in_transaction, self.sent) = (false, 0);
        if let Some(position) = &checkpoint.position {
            self.stands_at(position);
        }
        Ok(())
    }
}

/// The statement that creates a table like the source's, under the target's name.
pub fn creation(definition: &str, source: &str, schema: &str, name: &str) -> Option<String> {
    // SHOW CREATE TABLE begins: CREATE TABLE `name` (
    let rest = definition.strip_prefix("CREATE TABLE ")?.strip_prefix(&quote::ident(source))?;
    Some(format!("CREATE TABLE {}{rest}", quote::qualified(schema, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_statement_is_moved_but_for_its_beginning() {
        let statement = |n: usize| Statement {
            sql: vec![b'x'; n],
            expect: Expect::Any,
            enum_zero: false,
            alone: false,
            scans: false,
            kept: None,
        };
        let mut statements = [statement(10), statement(10), statement(5000)];
        assert_eq!(first_packet(&mut statements, 100), (b"xxxxxxxxxx;xxxxxxxxxx".to_vec(), 2));
        assert_eq!(first_packet(&mut statements[2..], 100), (vec![b'x'; 5000], 1));
        assert_eq!(statements[2].sql.len(), 2000);
    }

    #[test]
    fn a_large_transaction_may_commit_for_longer() {
        assert_eq!(commit_timeout(1 << 20), TIMEOUT);
        assert!(commit_timeout(2 << 30) > Duration::from_secs(2000));
    }

    #[test]
    fn duplicates_are_read_in_any_language() {
        assert_eq!(duplicates("Records: 3  Duplicates: 2  Warnings: 0"), Some(2));
        assert_eq!(duplicates("Datensätze: 12  Duplikate: 10  Warnungen: 0"), Some(10));
        assert_eq!(duplicates(""), None);
    }

    #[test]
    fn a_created_table_gets_the_targets_name() {
        let sql = creation("CREATE TABLE `a``b` (\n  `a``b` int\n)", "a`b", "s", "t").unwrap();
        assert_eq!(sql, "CREATE TABLE `s`.`t` (\n  `a``b` int\n)");
        assert_eq!(creation("CREATE VIEW x", "x", "s", "t"), None);
    }
}
