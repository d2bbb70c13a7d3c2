//! The two servers as preflight asks them: a connection, what product it is, and its global settings, read once.

use std::collections::HashMap;

use converge_mysql::{Flavor, ServerInfo, quote, within};
use mysql_async::Conn;
use mysql_async::prelude::{FromRow, Queryable};

use super::grants::Grants;
use crate::error::{OnSide, Result, Side};
use crate::source::TIMEOUT;

/// One server.
pub struct Server<'a> {
    /// Which of the two.
    pub side: Side,
    /// Product and version.
    pub info: ServerInfo,
    /// What the account may do.
    pub grants: Grants,
    /// The account, as a statement names it.
    pub account: String,
    conn: &'a mut Conn,
    variables: HashMap<String, String>,
}

/// Both servers.
pub struct Servers<'a> {
    /// Where the tables are.
    pub source: Server<'a>,
    /// Where they go.
    pub target: Server<'a>,
}

impl<'a> Servers<'a> {
    /// Reads what both servers say of themselves.
    pub async fn read(source: &'a mut Conn, target: &'a mut Conn) -> Result<Self> {
        Ok(Self {
            source: Server::read(Side::Source, source).await?,
            target: Server::read(Side::Target, target).await?,
        })
    }

    /// Whether both are the same product.
    pub fn same_flavor(&self) -> bool {
        self.source.info.flavor == self.target.info.flavor
    }

    /// Whether both are one and the same server.
    pub async fn same_server(&mut self) -> Result<bool> {
        if !self.same_flavor() {
            return Ok(false);
        }
        let (source, target) = (&mut self.source, &mut self.target);
        Ok(identity(source.conn, source.side, &source.info).await?
            == identity(target.conn, target.side, &target.info).await?)
    }
}

impl<'a> Server<'a> {
    /// Reads what a server says of itself.
    pub async fn read(side: Side, conn: &'a mut Conn) -> Result<Self> {
        let info = ServerInfo::read(conn).await.on(side)?;
        let mut server = Self {
            side,
            info,
            grants: Grants::default(),
            account: String::new(),
            conn,
            variables: HashMap::new(),
        };
        let variables: Vec<(String, String)> =
            server.query("reading the server's settings", "SHOW GLOBAL VARIABLES").await?;
        server.variables = variables.into_iter().collect();
        let account: Option<String> =
            server.first("reading the account's name", "SELECT CURRENT_USER()").await?;
        server.account = quoted_account(&account.unwrap_or_default());
        let grants: Vec<String> = server.query("reading the account's privileges", "SHOW GRANTS").await?;
        server.grants = grants.iter().map(String::as_str).collect();
        Ok(server)
    }

    /// A global setting as the server shows it; `None` if it has no such setting.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.variable(name)?.parse().ok()
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), Some("ON" | "1"))
    }

    /// All rows of a query.
    pub async fn query<T: FromRow + Send + 'static>(&mut self, what: &str, sql: &str) -> Result<Vec<T>> {
        within(TIMEOUT, what, self.conn.query(sql)).await.on(self.side)
    }

    /// The first row of a query.
    pub async fn first<T: FromRow + Send + 'static>(&mut self, what: &str, sql: &str) -> Result<Option<T>> {
        within(TIMEOUT, what, self.conn.query_first(sql)).await.on(self.side)
    }

    /// Whether there is a table, as far as the account may see it.
    pub async fn has_table(&mut self, schema: &str, table: &str) -> Result<bool> {
        let query = format!(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = {} AND table_name = {}",
            quote::text(schema),
            quote::text(table)
        );
        Ok(self.first::<u8>("looking for a table", &query).await?.is_some())
    }

    /// The server's answer to a statement whose refusal says something.
    pub async fn probe(&mut self, sql: &str) -> std::result::Result<(), converge_mysql::Error> {
        within(TIMEOUT, "asking for a privilege", self.conn.query_drop(sql)).await
    }

    /// The connection itself.
    pub fn conn(&mut self) -> &mut Conn {
        self.conn
    }
}

/// A text that is the same for two connections exactly if they reach the same server.
pub async fn identity(conn: &mut Conn, side: Side, info: &ServerInfo) -> Result<String> {
    let query = match info.flavor {
        Flavor::MySql => "SELECT @@server_uuid",
        Flavor::MariaDb => "SELECT CONCAT(@@hostname, ' ', @@port, ' ', @@datadir)",
    };
    let found: Option<String> =
        within(TIMEOUT, "reading the server's identity", conn.query_first(query)).await.on(side)?;
    Ok(found.unwrap_or_default())
}

/// `user@host` with each part in quotes. The host part has no `@`.
fn quoted_account(account: &str) -> String {
    let quote = |part: &str| format!("'{}'", part.replace('\'', "''"));
    match account.rsplit_once('@') {
        Some((user, host)) => format!("{}@{}", quote(user), quote(host)),
        None => quote(account),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_named_as_statements_name_them() {
        assert_eq!(quoted_account("mover@10.%"), "'mover'@'10.%'");
        assert_eq!(quoted_account("o'x@y@localhost"), "'o''x@y'@'localhost'");
    }
}
