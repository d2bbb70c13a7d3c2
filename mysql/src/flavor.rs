//! Which product and version a server is.

use std::fmt;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The two families that Converge works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL and what calls itself MySQL (Percona Server).
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// Major, minor and patch numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(pub u16, pub u16, pub u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Product and version of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// The family.
    pub flavor: Flavor,
    /// The version numbers.
    pub version: Version,
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.flavor, self.version)
    }
}

impl ServerInfo {
    /// Reads the text that `SELECT VERSION()` or `mysqld --version` gives.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let flavor =
            if text.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql };
        let version = text
            .split(|c: char| !(c.is_ascii_digit() || c == '.'))
            .find_map(version_numbers)
            .ok_or_else(|| Error::UnsupportedServer(format!("no version number in {text:?}")))?;
        let least = match flavor {
            Flavor::MySql => Version(8, 0, 0),
            Flavor::MariaDb => Version(10, 6, 0),
        };
        let info = Self { flavor, version };
        if version < least {
            return Err(Error::UnsupportedServer(info.to_string()));
        }
        Ok(info)
    }

    /// Asks a server.
    pub async fn read(conn: &mut Conn) -> Result<Self, Error> {
        let text: Option<String> = conn
            .query_first("SELECT VERSION()")
            .await
            .map_err(|e| Error::driver("reading the server's version", e))?;
        Self::parse(&text.unwrap_or_default())
    }

    /// Whether this is MySQL at or after `version`.
    pub fn is_mysql_since(&self, version: Version) -> bool {
        self.flavor == Flavor::MySql && self.version >= version
    }
}

fn version_numbers(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(str::parse);
    match (parts.next()?, parts.next()?, parts.next()?) {
        (Ok(a), Ok(b), Ok(c)) => Some(Version(a, b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_told_apart() {
        let maria = ServerInfo::parse("10.11.14-MariaDB-0+deb12u2-log").unwrap();
        assert_eq!(maria.to_string(), "MariaDB 10.11.14");
        let mysql = ServerInfo::parse("/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64").unwrap();
        assert_eq!(mysql.to_string(), "MySQL 9.7.4");
        assert!(mysql.is_mysql_since(Version(8, 4, 0)) && !maria.is_mysql_since(Version(8, 4, 0)));
        assert!(ServerInfo::parse("5.7.44-log").is_err());
        assert!(ServerInfo::parse("nothing").is_err());
    }
}
