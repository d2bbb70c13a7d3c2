//! The parts of binary log events that the mover reads by itself: numbers of event types, headers, names, offsets.
//! Pure; no event is judged here.

use mysql_common::binlog::events::{Event, ExecuteLoadQueryEvent, QueryEvent, StatusVarVal, StatusVars};

use super::bytes::{Bytes, Truncated};
use super::decode::BadRow;
use super::spelling::Spelling;
use crate::error::Error;

/// An error inside one event, before its position is known.
pub enum Unreadable {
    /// It breaks the rules of the log, or is not known.
    Event(String),
    /// It is sound, and says too little to be applied.
    TooLittle {
        /// What is missing.
        why: String,
        /// How it comes to be logged in full.
        fix: &'static str,
    },
    /// It cannot be there, whatever is in it.
    Never(Error),
}

impl Unreadable {
    /// An event that breaks the rules.
    pub fn event(why: impl Into<String>) -> Self {
        Self::Event(why.into())
    }

    /// A change that cannot be applied as it was logged.
    pub fn too_little(why: impl Into<String>, fix: &'static str) -> Self {
        Self::TooLittle { why: why.into(), fix }
    }

    /// The error of the stream at this position.
    pub fn at(self, position: String) -> Error {
        match self {
            Self::Event(why) => Error::Unreadable { position, why },
            Self::TooLittle { why, fix } => Error::LoggedTooLittle { position, why, fix },
            Self::Never(error) => error,
        }
    }
}

impl From<Truncated> for Unreadable {
    fn from(_: Truncated) -> Self {
        Self::event("an event is shorter than its fields")
    }
}

impl From<BadRow> for Unreadable {
    fn from(error: BadRow) -> Self {
        Self::Event(error.0)
    }
}

impl From<std::io::Error> for Unreadable {
    fn from(error: std::io::Error) -> Self {
        Self::Event(error.to_string())
    }
}

/// Event types by number, as MySQL (`libbinlogevents/include/binlog_event.h`) and MariaDB (`log_event.h`) define them.
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const ROTATE: u8 = 4;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const ROWS_V1: std::ops::RangeInclusive<u8> = 23..=25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const ROWS_V2: std::ops::RangeInclusive<u8> = 30..=32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const MARIADB_GTID: u8 = 162;
    pub const MARIADB_GTID_LIST: u8 = 163;
    pub const MARIADB_QUERY_COMPRESSED: u8 = 165;
    pub const MARIADB_ROWS_COMPRESSED_V1: std::ops::RangeInclusive<u8> = 166..=168;
    pub const MARIADB_ROWS_COMPRESSED: std::ops::RangeInclusive<u8> = 169..=171;
    /// What neither changes rows nor ends a transaction: stop, append block, ignorable, rows query, previous GTIDs,
    /// intvar, rand, user variable, view change, transaction context; MariaDB's annotations, checkpoints, GTID lists
    /// and start of encryption.
    pub const HARMLESS: [u8; 16] =
        [0, 3, 5, 9, 13, 14, 17, 28, 29, 35, 36, 37, 160, 161, MARIADB_GTID_LIST, 164];
}

/// What stands before the images in a row event.
pub struct RowsHeader {
    /// Which table map it refers to.
    pub table_id: u64,
    /// Columns of an image.
    pub width: usize,
    /// Whether every column is in the images.
    pub full: bool,
}

impl RowsHeader {
    /// `operation`: 0 insert, 1 update (two bitmaps), 2 delete. `extended`: the second version's extra data.
    pub fn read(bytes: &mut Bytes<'_>, operation: u8, extended: bool) -> Result<Self, Unreadable> {
        let table_id = bytes.uint(6)?;
        bytes.u16()?; // flags
        if extended {
            let length = usize::from(bytes.u16()?);
            bytes.take(length.saturating_sub(2))?;
        }
        let width = bytes.lenenc()? as usize;
        let bitmaps = if operation == 1 { 2 } else { 1 };
        let mut full = true;
        for _ in 0..bitmaps {
            let bitmap = bytes.take(width.div_ceil(8))?;
            full &= (0..width).all(|i| bitmap[i / 8] >> (i % 8) & 1 == 1);
        }
        Ok(Self { table_id, width, full })
    }
}

/// What a QUERY event says.
pub struct Query {
    /// The default database.
    pub schema: String,
    /// The statement, in the client's character set, as far as its event is not compressed.
    pub text: Vec<u8>,
    /// How the session spelled it.
    pub spelling: Spelling,
    /// The databases whose tables it changed, if the server says so: MySQL does.
    pub changed: Option<Vec<String>>,
}

/// Bytes of what an EXECUTE_LOAD_QUERY has besides what a QUERY has: its file, where that is named in the statement, and what
/// is done with duplicates.
const LOAD_HEADER: usize = 13;

impl Query {
    /// Reads the event, which may be an EXECUTE_LOAD_QUERY too: a LOAD DATA that was logged as a statement.
    pub fn read(event: &Event) -> Result<Self, Unreadable> {
        let data = event.data();
        let mut bytes = Bytes::new(data);
        bytes.take(8)?; // thread and duration
        let schema_length = usize::from(bytes.u8()?);
        bytes.take(2)?; // error code
        let status_length = usize::from(bytes.u16()?);
        if event.header().event_type_raw() == kind::EXECUTE_LOAD_QUERY {
            bytes.take(LOAD_HEADER)?;
        }
        let spelling = Spelling::read(bytes.take(status_length)?);
        let schema = String::from_utf8_lossy(bytes.take(schema_length)?).into_owned();
        bytes.take(1)?;
        Ok(Self { schema, text: bytes.rest().to_vec(), spelling, changed: changed(event) })
    }
}

/// The names in an event's status variables. An event of more databases than these can list, and one that cannot be read,
/// say nothing.
fn changed(event: &Event) -> Option<Vec<String>> {
    if event.header().event_type_raw() == kind::EXECUTE_LOAD_QUERY {
        let load = event.read_event::<ExecuteLoadQueryEvent<'_>>().ok()?;
        return databases(load.status_vars());
    }
    let query = event.read_event::<QueryEvent<'_>>().ok()?;
    databases(query.status_vars())
}

fn databases(variables: &StatusVars<'_>) -> Option<Vec<String>> {
    variables.iter().find_map(|variable| match variable.get_value() {
        Ok(StatusVarVal::UpdatedDbNames(names)) if !names.is_empty() => {
            let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches('\0').to_owned();
            Some(names.iter().map(|raw| name(raw.as_bytes())).collect())
        }
        _ => None,
    })
}

/// A server UUID in its usual form.
pub fn uuid_text(sid: &[u8; 16]) -> String {
    let hex = converge_mysql::quote::hex_digits(sid);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// MariaDB's first, made-up rotate event has a checksum behind the name: the name ends with its number.
pub fn file_name(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.rfind('.') {
        Some(dot) => {
            let digits = text[dot + 1..].bytes().take_while(u8::is_ascii_digit).count();
            text[..dot + 1 + digits].to_owned()
        }
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotate_names_lose_a_checksum() {
        assert_eq!(file_name(b"mariadb-bin.000012\x9f\x01ab"), "mariadb-bin.000012");
        assert_eq!(file_name(b"binlog.000003"), "binlog.000003");
    }

    #[test]
    fn incomplete_images_are_noticed() {
        let event = [9, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0b011];
        let header = RowsHeader::read(&mut Bytes::new(&event), 0, true).ok().unwrap();
        assert_eq!((header.table_id, header.width, header.full), (9, 3, false));
    }

    #[test]
    fn uuids_have_their_dashes() {
        assert_eq!(uuid_text(&[0x3e; 16]), "3e3e3e3e-3e3e-3e3e-3e3e-3e3e3e3e3e3e");
    }
}
