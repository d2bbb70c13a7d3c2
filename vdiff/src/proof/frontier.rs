//! A position of the source that covers every transaction whose row locks were released before it was asked for.
//!
//! MySQL with GTIDs: a transaction gets its GTID when it is written to the binary log, gives its locks up in the
//! engine's commit, and enters `gtid_executed` only after that. `gtid_executed` alone may therefore lack it. But from the first moment on
//! it stands in `gtid_owned`, and it leaves that in the same critical section in which it enters `gtid_executed`. Read
//! in this order, `gtid_owned` and then `gtid_executed` together have it. (They may have more: a transaction that is
//! still to commit. Then the target is waited for longer than needed.)
//!
//! MariaDB: `gtid_binlog_pos` moves when a transaction is written to the binary log, before the engine's commit.
//!
//! MySQL without GTIDs: the end of the binary log file, which has moved by then for the same reason.

use converge_mysql::{Flavor, MySqlGtidSet, Position, within};

use crate::error::Error;
use crate::session::{Session, text};

/// In which form positions of the source and of the target compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// MySQL's GTID sets.
    MySqlGtid,
    /// MariaDB's GTID positions.
    MariaDbGtid,
    /// File and offset.
    File,
}

impl Form {
    /// The form of a position.
    pub fn of(position: &Position) -> Self {
        match position {
            Position::Gtid(_) => Self::MySqlGtid,
            Position::MariaDbGtid(_) => Self::MariaDbGtid,
            Position::File(_) => Self::File,
        }
    }
}

/// What is asked for.
const WHAT: &str = "reading the position";

/// Reads it.
pub async fn read(source: &mut Session, form: Form) -> Result<Position, Error> {
    match form {
        Form::MySqlGtid => Ok(Position::Gtid(gtids(source).await?)),
        Form::MariaDbGtid => {
            let (info, bound) = (source.info, source.timeout());
            let position = within(bound, WHAT, Position::current(source.conn(), &info)).await;
            position.map_err(|inner| source.failed(inner))
        }
        Form::File => file(source).await,
    }
}

/// Whether a MySQL server gives every transaction a GTID.
pub async fn has_gtids(session: &mut Session) -> Result<bool, Error> {
    if session.info.flavor != Flavor::MySql {
        return Ok(false);
    }
    let row = session.one("reading gtid_mode", "SELECT @@GLOBAL.gtid_mode").await?;
    Ok(row.first().map(text).is_some_and(|mode| mode == "ON"))
}

/// GTIDs of all that a server has committed or is committing.
pub async fn gtids(session: &mut Session) -> Result<MySqlGtidSet, Error> {
    if !has_gtids(session).await? {
        let (side, address) = (session.side, &session.address);
        return Err(Error::Proof {
            what: format!("the {side}, {address}, does not give every transaction a GTID any more"),
            help: "do not change gtid_mode while rows are compared".into(),
        });
    }
    // Two statements, in this order: see above.
    let owned = owned(session).await?;
    let executed = session.one(WHAT, "SELECT @@GLOBAL.gtid_executed").await?;
    let mut set: MySqlGtidSet =
        executed.first().map(text).unwrap_or_default().parse().map_err(|inner| session.failed(inner))?;
    set.join(&owned);
    Ok(set)
}

/// GTIDs of transactions that have not ended.
pub async fn owned(session: &mut Session) -> Result<MySqlGtidSet, Error> {
    let owned = session.one(WHAT, "SELECT @@GLOBAL.gtid_owned").await?;
    let owned = owned.first().map(text).unwrap_or_default();
    parse_owned(&owned).ok_or_else(|| session.unexpected(WHAT, &format!("{owned:?} is no list of GTIDs")))
}

async fn file(source: &mut Session) -> Result<Position, Error> {
    let (info, bound) = (source.info, source.timeout());
    match within(bound, WHAT, Position::current_file(source.conn(), &info)).await {
        Ok(position) => Ok(Position::File(position)),
        Err(inner) => {
            let error = source.failed(inner);
            let grant = match info.flavor {
                Flavor::MySql => "GRANT REPLICATION CLIENT ON *.*",
                Flavor::MariaDb => "GRANT BINLOG MONITOR ON *.*",
            };
            Err(super::needs(error, grant, "read the binary log's position"))
        }
    }
}

/// Reads `gtid_owned`: `UUID:NUMBER#THREAD:NUMBER#THREAD`, one member after the other with nothing, or a comma,
/// between them, each with a tag after the UUID if it has one. `None`: not of this form.
fn parse_owned(text: &str) -> Option<MySqlGtidSet> {
    let mut set = MySqlGtidSet::default();
    let starts = uuids(text);
    let lead = starts.first().map_or(text, |first| &text[..*first]);
    if !lead.trim_matches([',', '\n', ' ']).is_empty() {
        return None;
    }
    let ends = starts.iter().copied().skip(1).chain([text.len()]);
    for (start, end) in starts.iter().copied().zip(ends) {
        let (uuid, rest) = text[start..end].split_at(UUID);
        let mut tag = "";
        let mut any = false;
        for part in rest.trim_end_matches([',', '\n', ' ']).strip_prefix(':')?.split(':') {
            match part.split_once('#') {
                Some((number, thread)) => {
                    thread.parse::<u64>().ok()?;
                    set.add(uuid, tag, number.parse().ok()?);
                    any = true;
                }
                None if part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => tag = part,
                None => return None,
            }
        }
        if !any {
            return None;
        }
    }
    Some(set)
}

/// Characters of a UUID.
const UUID: usize = 36;

/// Where the UUIDs begin: eight characters before the first of four dashes that stand as they do in one. A thread's
/// number may stand right before, so digits alone do not tell.
fn uuids(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let is_uuid = |from: usize| {
        bytes.get(from..from + UUID).is_some_and(|uuid| {
            uuid.iter()
                .enumerate()
                .all(|(i, b)| if [8, 13, 18, 23].contains(&i) { *b == b'-' } else { b.is_ascii_hexdigit() })
        })
    };
    (0..bytes.len()).filter(|from| is_uuid(*from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

    #[test]
    fn owned_gtids_are_read_with_and_without_separators() {
        // As MySQL 9.7 printed it.
        let seen = format!("{A}:7#14:5#11{A}:tag:9#13{B}:1#12");
        assert_eq!(parse_owned(&seen).unwrap().to_string(), format!("{A}:5:7,{A}:tag:9,{B}:1"));
        let separated = format!("{A}:7#14,\n{B}:1#12");
        assert_eq!(parse_owned(&separated).unwrap().to_string(), format!("{A}:7,{B}:1"));
        assert!(parse_owned("").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let uuid_only = A.to_owned();
        for text in ["x", "1#2", &uuid_only, &format!("{A}:5"), &format!("{A}:5#x"), &format!("{A}:tag")] {
            assert!(parse_owned(text).is_none(), "{text}");
        }
    }
}
