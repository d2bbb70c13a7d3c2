//! Where a reader stands in a server's binary log.

use std::fmt;
use std::str::FromStr;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::flavor::{Flavor, ServerInfo, Version};
use crate::gtid::{MariaDbGtidPosition, MySqlGtidSet};

/// A binary log file and a byte offset in it. Offsets are 64 bits wide: files grow past 4 GiB.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePosition {
    /// File name, such as `binlog.000003`.
    pub file: String,
    /// Offset of the next event in bytes.
    pub offset: u64,
}

impl FilePosition {
    /// The number at the end of the file's name; files are compared by it.
    pub fn sequence(&self) -> u64 {
        self.file.rsplit('.').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.offset)
    }
}

/// A position in one of the three forms. Its text form is `gtid:…`, `mariadb-gtid:…` or `file:NAME:OFFSET`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// MySQL with `gtid_mode=ON`.
    Gtid(MySqlGtidSet),
    /// MariaDB.
    MariaDbGtid(MariaDbGtidPosition),
    /// Either, by file and offset.
    File(FilePosition),
}

impl Position {
    /// Whether a reader here has seen everything up to `other`. `None`: the two forms do not compare.
    pub fn covers(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Gtid(a), Self::Gtid(b)) => Some(a.covers(b)),
            (Self::MariaDbGtid(a), Self::MariaDbGtid(b)) => Some(a.covers(b)),
            (Self::File(a), Self::File(b)) => Some((a.sequence(), a.offset) >= (b.sequence(), b.offset)),
            _ => None,
        }
    }

    /// The position of a reader who has seen what either has seen. Of two forms that do not compare, `self`.
    pub fn joined(mut self, other: &Self) -> Self {
        match (&mut self, other) {
            (Self::Gtid(a), Self::Gtid(b)) => a.join(b),
            (Self::MariaDbGtid(a), Self::MariaDbGtid(b)) => a.join(b),
            (Self::File(a), Self::File(b)) if (b.sequence(), b.offset) > (a.sequence(), a.offset) => {
                a.clone_from(b);
            }
            _ => {}
        }
        self
    }

    /// The position after the last transaction that a server has logged, by GTID where the server has them
    /// (MySQL with `gtid_mode=ON`, any MariaDB), else by file and offset.
    pub async fn current(conn: &mut Conn, server: &ServerInfo) -> Result<Self, Error> {
        const WHAT: &str = "reading the server's binary log position";
        let fail = |e| Error::driver(WHAT, e);
        match server.flavor {
            Flavor::MariaDb => {
                let logged: Option<(i64, String)> =
                    conn.query_first("SELECT @@log_bin, @@gtid_binlog_pos").await.map_err(fail)?;
                match logged {
                    Some((1, text)) => Ok(Self::MariaDbGtid(text.parse()?)),
                    _ => Err(Error::NoBinaryLog("the server".into())),
                }
            }
            Flavor::MySql => {
                let settings: Option<(i64, String, String)> =
                    conn.query_first("SELECT @@log_bin, @@gtid_mode, @@gtid_executed").await.map_err(fail)?;
                match settings {
                    Some((1, mode, executed)) if mode == "ON" => Ok(Self::Gtid(executed.parse()?)),
                    Some((1, ..)) => Ok(Self::File(Self::current_file(conn, server).await?)),
                    _ => Err(Error::NoBinaryLog("the server".into())),
                }
            }
        }
    }

    /// The file and offset after the last transaction that a server has logged.
    pub async fn current_file(conn: &mut Conn, server: &ServerInfo) -> Result<FilePosition, Error> {
        let row: Option<Row> = conn
            .query_first(binlog_status_statement(server))
            .await
            .map_err(|e| Error::driver("reading the server's binary log position", e))?;
        let row = row.ok_or_else(|| Error::NoBinaryLog("the server".into()))?;
        match (row.get::<String, _>(0), row.get::<u64, _>(1)) {
            (Some(file), Some(offset)) => Ok(FilePosition { file, offset }),
            _ => Err(Error::NoBinaryLog("the server".into())),
        }
    }
}

/// The statement that shows file, offset and filters of a server's binary log; MySQL 8.2 gave it a new name.
pub fn binlog_status_statement(server: &ServerInfo) -> &'static str {
    if server.is_mysql_since(Version(8, 2, 0)) { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" }
}

/// The statement that shows from where a server replicates, one row for each channel.
pub fn replica_status_statement(server: &ServerInfo) -> &'static str {
    match server.flavor {
        Flavor::MariaDb => "SHOW ALL SLAVES STATUS",
        Flavor::MySql if server.is_mysql_since(Version(8, 4, 0)) => "SHOW REPLICA STATUS",
        Flavor::MySql => "SHOW SLAVE STATUS",
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gtid(set) => write!(f, "gtid:{set}"),
            Self::MariaDbGtid(position) => write!(f, "mariadb-gtid:{position}"),
            Self::File(position) => write!(f, "file:{position}"),
        }
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadPosition { text: text.into(), why: why.into() };
        match text.split_once(':') {
            Some(("gtid", rest)) => Ok(Self::Gtid(rest.parse()?)),
            Some(("mariadb-gtid", rest)) => Ok(Self::MariaDbGtid(rest.parse()?)),
            Some(("file", rest)) => match rest.rsplit_once(':').map(|(f, o)| (f, o.parse())) {
                Some((file, Ok(offset))) => Ok(Self::File(FilePosition { file: file.into(), offset })),
                _ => Err(bad("not file:NAME:OFFSET")),
            },
            _ => Err(bad("it begins with none of gtid:, mariadb-gtid:, file:")),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Position {
        format!("file:{text}").parse().unwrap()
    }

    #[test]
    fn files_compare_by_number_then_offset() {
        let old = file("binlog.999999:7000000000");
        let new = file("binlog.1000000:4");
        assert_eq!(new.covers(&old), Some(true));
        assert_eq!(old.covers(&new), Some(false));
        assert_eq!(old.to_string().parse::<Position>().unwrap(), old);
    }

    #[test]
    fn joined_positions_cover_both() {
        for (a, b, joined) in [
            ("mariadb-gtid:0-1-5,1-1-9", "mariadb-gtid:0-2-7,2-1-1", "mariadb-gtid:0-2-7,1-1-9,2-1-1"),
            ("file:b.000002:4", "file:b.000001:900", "file:b.000002:4"),
            ("file:b.000002:4", "file:b.000002:5", "file:b.000002:5"),
        ] {
            let (a, b): (Position, Position) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.clone().joined(&b).to_string(), joined);
            assert_eq!(a.clone().joined(&b).covers(&b), Some(true));
        }
    }

    #[test]
    fn different_forms_do_not_compare() {
        let gtid: Position = "mariadb-gtid:0-1-5".parse().unwrap();
        assert_eq!(gtid.covers(&file("b.1:4")), None);
    }
}
