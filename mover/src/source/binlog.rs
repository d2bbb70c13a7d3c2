//! The source's row binary log as a stream of changes.
//!
//! Its reader never decides that an event may be skipped because of where the copy stands; what it leaves out are other
//! tables' rows and nothing else. Whatever it cannot read ends the stream with an error.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use converge_mysql::{Error as ServerError, Position, quote};
use futures_util::StreamExt;
use mysql_async::BinlogStream;
use mysql_common::binlog::events::{Event, GtidEvent, TableMapEvent};

use super::bytes::Bytes;
use super::compressed;
use super::decode::Plan;
use super::event::{Query, RowsHeader, Unreadable, file_name, kind, uuid_text};
use super::fenced::{Fences, Whose};
use super::marks;
use super::place::Place;
use super::prepared::{self, Prepared};
use super::refused::{self, lost};
use super::replicated::Replicated;
use super::statement::{self, Logged, Meaning};
use crate::change::{Advance, Change, Mark, StreamEvent};
use crate::error::{OnSide, Result};
use crate::planted::{self, Bug};
use crate::schema::Table;
use crate::value::Value;

/// A source that is silent for so long is taken for lost, unless its reader has less patience.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a source may be silent.
pub fn silence() -> Duration {
    converge_mysql::connect::patient(SILENCE)
}

/// How often an idle source is to say that it lives: several times before it is taken for lost.
pub fn heartbeat() -> Duration {
    (silence() / 5).min(Duration::from_secs(2))
}

/// Where a table map leads.
enum Mapped {
    Moved(Plan),
    Marks(Plan),
    /// Perhaps to a moved table behind a fence, of this name.
    Unknown(String),
    Other,
}

/// Decodes the log, event by event.
pub struct Reader {
    stream: BinlogStream,
    tables: Arc<[Table]>,
    schema: String,
    workflow: Vec<u8>,
    fences: Fences,
    replica: Option<Replicated>,
    /// Where each that is committed must have been prepared here.
    prepared: Option<Prepared>,
    maps: HashMap<u64, Mapped>,
    place: Place,
    out: Vec<StreamEvent>,
    silence: Duration,
}

/// Set on events that a reader who does not know them may pass over.
const IGNORABLE: u16 = 0x80;

impl Reader {
    /// Reads `stream`, which begins at `position`; `fences`: how they stand there.
    pub fn new(
        stream: BinlogStream,
        position: &Position,
        tables: Arc<[Table]>,
        workflow: &str,
        fences: Fences,
    ) -> Self {
        let schema = tables.first().map(|t| t.schema.clone()).unwrap_or_default();
        Self {
            stream,
            fences,
            replica: None,
            prepared: None,
            schema,
            tables,
            workflow: workflow.as_bytes().to_vec(),
            maps: HashMap::new(),
            place: Place::new(position),
            out: Vec::new(),
            silence: silence(),
        }
    }

    /// `replica`: whose log it is, if not the source's; `prepared`: what is known of XA transactions where reading begins, if
    /// none may be unknown.
    pub fn beside(self, replica: Option<Replicated>, prepared: Option<Prepared>) -> Self {
        Self { replica, prepared, ..self }
    }

    /// Reads binlog events until there is something to pass on.
    pub async fn next_batch(&mut self) -> Result<Vec<StreamEvent>> {
        while self.out.is_empty() {
            let event = match tokio::time::timeout(self.silence, self.stream.next()).await {
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(e))) => return Err(refused::reason(e, &self.place.to_string())),
                Ok(None) => return Err(lost("the source ended the stream, as it does when it shuts down")),
                Err(_) => {
                    let what = "reading the source's binary log (heartbeats included)".to_owned();
                    return Err(ServerError::TimedOut { what, after: self.silence }).on_source();
                }
            };
            if let Err(unreadable) = self.handle(&event) {
                return Err(unreadable.at(self.place.to_string()));
            }
        }
        if let Some(replica) = &self.replica {
            replica.check_end(&self.out).await?;
        }
        Ok(std::mem::take(&mut self.out))
    }

    fn handle(&mut self, event: &Event) -> std::result::Result<(), Unreadable> {
        let header = event.header();
        let kind = header.event_type_raw();
        if !self.place.event(kind, header.flags_raw(), header.log_pos()) {
            return Ok(());
        }
        match kind {
            kind::TABLE_MAP => self.table_map(event)?,
            kind if kind::ROWS_V1.contains(&kind) => self.rows(kind - 23, false, event.data())?,
            kind if kind::ROWS_V2.contains(&kind) => self.rows(kind - 30, true, event.data())?,
            kind if kind::MARIADB_ROWS_COMPRESSED_V1.contains(&kind) => {
                self.compressed_rows(kind - 166, false, event.data())?;
            }
            kind if kind::MARIADB_ROWS_COMPRESSED.contains(&kind) => {
                self.compressed_rows(kind - 169, true, event.data())?;
            }
            kind::XID => self.commit(header.timestamp()),
            kind::QUERY | kind::EXECUTE_LOAD_QUERY | kind::MARIADB_QUERY_COMPRESSED => {
                self.query(&query_of(event)?, header.timestamp())?;
            }
            kind::GTID | kind::GTID_TAGGED => self.gtid(event)?,
            kind::ANONYMOUS_GTID => self.place.begin(None)?,
            kind::MARIADB_GTID => self.mariadb_gtid(event)?,
            kind::XA_PREPARE => self.xa_prepare(event.data(), header.timestamp())?,
            kind::ROTATE => self.rotate(event.data())?,
            kind::FORMAT_DESCRIPTION => self.maps.clear(),
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => self.out.push(StreamEvent::Heartbeat),
            kind::TRANSACTION_PAYLOAD => self.place.open(),
            kind::INCIDENT => return Err(Unreadable::event("the source logged an incident: it lost events")),
            kind::PARTIAL_UPDATE_ROWS => self.partial_update(event.data())?,

            kind if kind::HARMLESS.contains(&kind) || header.flags_raw() & IGNORABLE != 0 => {}
            unknown => return Err(Unreadable::event(format!("unknown event type {unknown}"))),
        }
        Ok(())
    }

    fn table_map(&mut self, event: &Event) -> std::result::Result<(), Unreadable> {
        let map = event.read_event::<TableMapEvent<'_>>()?;
        let (schema, name) = (map.database_name(), map.table_name());
        let (schema, name) = planted::stale_table(map.table_id(), schema, name);
        let mapped = match self.fences.whose(&schema, &name) {
            Whose::Moved(index) => Mapped::Moved(Plan::new(index, &self.tables[index], &map)?),
            Whose::Unknown => Mapped::Unknown(quote::qualified(&schema, &name)),
            Whose::Other if schema == marks::SCHEMA && name == marks::TABLE => {
                Mapped::Marks(Plan::new(0, &marks::definition(), &map)?)
            }
            Whose::Other => Mapped::Other,
        };
        self.maps.insert(map.table_id(), mapped);
        Ok(())
    }

    /// `operation`: 0 insert, 1 update, 2 delete.
    fn rows(&mut self, operation: u8, extended: bool, data: &[u8]) -> std::result::Result<(), Unreadable> {
        let mut bytes = Bytes::new(data);
        let header = RowsHeader::read(&mut bytes, operation, extended)?;
        self.row_images(operation, &header, bytes.rest())
    }

    fn compressed_rows(
        &mut self,
        operation: u8,
        extended: bool,
        data: &[u8],
    ) -> std::result::Result<(), Unreadable> {
        let mut bytes = Bytes::new(data);
        let header = RowsHeader::read(&mut bytes, operation, extended)?;
        if !matches!(self.maps.get(&header.table_id), Some(Mapped::Other)) {
            let images = compressed::inflate(bytes.rest())?;
            self.row_images(operation, &header, &images)?;
        }
        Ok(())
    }

    fn row_images(
        &mut self,
        operation: u8,
        header: &RowsHeader,
        images: &[u8],
    ) -> std::result::Result<(), Unreadable> {
        let (plan, moved) = match self.maps.get(&header.table_id) {
            Some(Mapped::Other) => return Ok(()),
            Some(Mapped::Moved(plan)) => (plan, true),
            Some(Mapped::Marks(plan)) => (plan, false),
            Some(Mapped::Unknown(name)) => return Err(perhaps_fenced(name)),
            None if images.is_empty() => return Ok(()),
            None => return Err(Unreadable::event("a row event came without its table map")),
        };
        if header.width != plan.width() || !header.full {
            return Err(Unreadable::too_little(
                "a row image is not complete",
                "SET GLOBAL binlog_row_image = 'FULL' on the source, and see to it that no session has another value",
            ));
        }
        let mut bytes = Bytes::new(images);
        while !bytes.is_empty() {
            let table = plan.table;
            let change = match operation {
                0 => Change::Insert { table, after: plan.read(&mut bytes)? },
                1 => Change::Update {
                    table,
                    before: plan.read_before(&mut bytes)?,
                    after: plan.read(&mut bytes)?,
                },
                _ => Change::Delete { table, before: plan.read_before(&mut bytes)? },
            };
            if moved && planted::after_rotation() {
                continue;
            }
            if moved {
                self.place.changed();
                self.out.push(StreamEvent::Change(change));
                if !bytes.is_empty() && planted::is_planted(Bug::RowsOfEvent) {
                    break;
                }
            } else if let Some(mark) = mark_in(&change, &self.workflow) {
                self.out.push(StreamEvent::Mark(mark));
            }
        }
        Ok(())
    }

    fn partial_update(&self, data: &[u8]) -> std::result::Result<(), Unreadable> {
        let id = Bytes::new(data).uint(6)?;
        match self.maps.get(&id) {
            Some(Mapped::Other) => Ok(()),
            _ => Err(Unreadable::too_little(
                "JSON columns are logged as differences",
                "SET GLOBAL binlog_row_value_options = '' on the source, and see to it that no session has another value",
            )),
        }
    }

    fn query(&mut self, query: &Query, timestamp: u32) -> std::result::Result<(), Unreadable> {
        let readings = query.spelling.readings(&query.text);
        // The mover's own can be read in one way.
        self.fences.follow(readings.first().map_or("", String::as_str), &query.schema);
        let rolled_back = |what: &str| {
            let why = "follows changes of moved tables, as it does when tables without transactions are changed too";
            Unreadable::too_little(
                format!("{what} {why}"),
                "change moved tables and tables without transactions (MyISAM, Aria, MEMORY) in different transactions",
            )
        };
        let (text, meaning) = statement::gravest(&readings, |text| {
            let logged = Logged { text, default: &query.schema, changed: query.changed.as_deref() };
            statement::meaning(&logged, &self.schema, self.fences.names())
        });
        match meaning {
            Meaning::Begin => self.place.open(),
            Meaning::Nothing => {}
            Meaning::Commit => {
                self.commit(timestamp);
                self.is_known(text)?;
            }
            Meaning::RollbackTo if !self.place.has_changes() => {}
            Meaning::Rollback if !self.place.has_changes() => self.commit(timestamp),
            Meaning::Rollback => return Err(rolled_back("ROLLBACK")),
            Meaning::RollbackTo => return Err(rolled_back("ROLLBACK TO SAVEPOINT")),
            Meaning::Rows => return Err(as_statement(text)),
            Meaning::Concerns => {
                let position = self.place.to_string();
                if statement::opens(&statement::words(text)) {
                    self.place.open();
                }
                self.out.push(StreamEvent::Statement { text: text.to_owned(), position });
                self.end_of_statement(timestamp);
            }
            Meaning::Other => self.end_of_statement(timestamp),
        }
        Ok(())
    }

    /// A statement outside of BEGIN and COMMIT is a transaction of its own.
    fn end_of_statement(&mut self, timestamp: u32) {
        if !self.place.is_open() {
            self.commit(timestamp);
        }
    }

    fn gtid(&mut self, event: &Event) -> std::result::Result<(), Unreadable> {
        let gtid = event.read_event::<GtidEvent>()?;
        let tag = gtid.tag().map(|t| t.as_str().to_owned()).unwrap_or_default();
        self.begin(Advance::Gtid { uuid: uuid_text(&gtid.sid()), tag, number: gtid.gno() })
    }

    fn begin(&mut self, transaction: Advance) -> std::result::Result<(), Unreadable> {
        match self.replica.as_ref().and_then(|replica| replica.errant(&transaction)) {
            Some(error) => Err(Unreadable::Never(error)),
            None => self.place.begin(Some(transaction)),
        }
    }

    fn mariadb_gtid(&mut self, event: &Event) -> std::result::Result<(), Unreadable> {
        const STANDALONE: u8 = 1;
        const COMPLETED_XA: u8 = 128;
        let mut bytes = Bytes::new(event.data());
        let (number, domain, flags) = (bytes.u64()?, bytes.u32()?, bytes.u8()?);
        self.begin(Advance::MariaDb { domain, server: event.header().server_id(), number })?;
        if flags & (STANDALONE | COMPLETED_XA) == 0 {
            self.place.open();
        }
        Ok(())
    }

    fn xa_prepare(&mut self, data: &[u8], timestamp: u32) -> std::result::Result<(), Unreadable> {
        // The first byte is set for XA COMMIT … ONE PHASE, which is a plain commit.
        let one_phase = data.first().is_some_and(|b| *b != 0);
        if self.place.has_changes() && !one_phase {
            return Err(Unreadable::too_little(
                "a prepared XA transaction changes moved tables; it may still be rolled back, which cannot be followed",
                "let no XA transaction write to moved tables during the move, unless it ends with XA COMMIT … ONE PHASE",
            ));
        }
        if let Some(prepared) = self.prepared.as_mut().filter(|_| !one_phase) {
            prepared.prepare(data)?;
        }
        self.commit(timestamp);
        Ok(())
    }

    fn commit(&mut self, timestamp: u32) {
        planted::committed();
        self.out.extend(self.place.commit(timestamp));
    }

    /// Refuses the commit of an XA transaction, which was passed on last, if nobody knows what it changed.
    fn is_known(&mut self, statement: &str) -> std::result::Result<(), Unreadable> {
        let Some(prepared) = &mut self.prepared else { return Ok(()) };
        if !prepared.end(statement) {
            return Ok(());
        }
        match self.out.last() {
            Some(StreamEvent::Commit { advance, .. }) if !prepared.is_unseen(advance) => Ok(()),
            _ => Err(Unreadable::Never(prepared::unseen(statement, &self.place.to_string()))),
        }
    }

    fn rotate(&mut self, data: &[u8]) -> std::result::Result<(), Unreadable> {
        let mut bytes = Bytes::new(data);
        let offset = bytes.u64()?;
        self.place.rotate(file_name(bytes.rest()), offset);
        Ok(())
    }
}

/// A statement's event, whether it was compressed or not.
pub fn query_of(event: &Event) -> std::result::Result<Query, Unreadable> {
    let mut query = Query::read(event)?;
    if event.header().event_type_raw() == kind::MARIADB_QUERY_COMPRESSED {
        query.text = compressed::inflate(&query.text)?;
    }
    Ok(query)
}

/// Looks through `log` from its beginning to its end for how `fences` stood there.
pub async fn learn(fences: &mut Fences, mut log: BinlogStream, position: &Position) -> Result<()> {
    while fences.are_unknown() {
        let event = match tokio::time::timeout(silence(), log.next()).await {
            Ok(Some(event)) => event.map_err(|e| refused::reason(e, &position.to_string()))?,
            Ok(None) => return Ok(()),
            Err(_) => return Err(lost("the source did not send its log to the end")),
        };
        let kind = event.header().event_type_raw();
        if [kind::QUERY, kind::MARIADB_QUERY_COMPRESSED].contains(&kind) {
            let query = query_of(&event).map_err(|unreadable| unreadable.at(position.to_string()))?;
            fences.learn(&String::from_utf8_lossy(&query.text), &query.schema);
        }
    }
    Ok(())
}

fn perhaps_fenced(name: &str) -> Unreadable {
    Unreadable::too_little(
        format!("rows of {name} changed, and whether that was a moved table behind a fence cannot be told"),
        "move the parents of the table's foreign keys with it, and let nobody write to a fenced table, nor make one anew",
    )
}

fn as_statement(text: &str) -> Unreadable {
    let text: String = text.chars().take(200).collect();
    Unreadable::too_little(
        format!("a change that may concern moved tables was logged as a statement: {text}"),
        "SET GLOBAL binlog_format = 'ROW' on the source, and see to it that no session has another value",
    )
}

fn mark_in(change: &Change, workflow: &[u8]) -> Option<Mark> {
    match change.after()?.as_slice() {
        [Value::Bytes(name), Value::Bytes(mark)] if name == workflow => {
            Mark::from_text(std::str::from_utf8(mark).ok()?)
        }
        _ => None,
    }
}
