//! Connections: every one bounded in time, over TCP unless a socket is named, with its session settings pinned.

use std::future::Future;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, IoError, OptsBuilder, SslOpts};

use crate::address::Address;
use crate::error::Error;

/// How long making a connection may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long without traffic the system begins to ask whether the other end is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The server runs with `require_secure_transport`.
const SECURE_TRANSPORT_REQUIRED: u16 = 3159;

tokio::task_local! {
    static PATIENCE: Duration;
}

/// The longest bound that [`with_patience`] cuts: a longer one belongs to a statement that may work for long.
const ORDINARY: Duration = Duration::from_secs(60);

/// Runs `future` with every ordinary bound in it, of [`within`] and of connecting, cut to `patience`: so long may a
/// server or the network be silent before a connection is taken for dead. Tasks that it spawns are not included.
pub async fn with_patience<T>(patience: Duration, future: impl Future<Output = T>) -> T {
    PATIENCE.scope(patience, future).await
}

/// `bound`, cut to the patience of the task that asks.
pub fn patient(bound: Duration) -> Duration {
    if bound > ORDINARY {
        return bound;
    }
    PATIENCE.try_with(|patience| bound.min(*patience)).unwrap_or(bound)
}

/// Waits for `future` for at most `bound`; past it the error says that `what` got no answer.
pub async fn within<T, E>(
    bound: Duration,
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, Error>
where
    Error: From<(String, E)>,
{
    let bound = patient(bound);
    match tokio::time::timeout(bound, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Error::from((what.to_owned(), e))),
        Err(_) => Err(Error::TimedOut { what: what.to_owned(), after: bound }),
    }
}

impl From<(String, mysql_async::Error)> for Error {
    fn from((what, error): (String, mysql_async::Error)) -> Self {
        Self::driver(what, error)
    }
}

impl From<(String, Error)> for Error {
    fn from((_, error): (String, Error)) -> Self {
        error
    }
}

/// What every session runs first, so that nothing depends on a server's locale, no statement stays in a transaction, or
/// ends one in another way, and none sees less than is there, or what is not committed, because of a server's defaults.
/// The comments are code to the one product and nothing to the other: neither knows the other's names.
pub const SETUP: &str = "SET NAMES utf8mb4, time_zone = '+00:00', autocommit = 1, completion_type = 0, \
    sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0 \
    /*!50720 , transaction_isolation = 'REPEATABLE-READ', max_execution_time = 0 */ \
    /*M!100600 , tx_isolation = 'REPEATABLE-READ', max_statement_time = 0 */";

/// Makes connections to one address, each with the same session settings.
#[derive(Debug, Clone)]
pub struct Connector {
    address: Address,
    setup: Vec<String>,
    found_rows: bool,
}

impl Connector {
    /// A connector whose sessions begin with [`SETUP`].
    pub fn new(address: Address) -> Self {
        Self { address, setup: vec![SETUP.to_owned()], found_rows: false }
    }

    /// Adds a statement that each new session runs first.
    pub fn with_setup(mut self, statement: impl Into<String>) -> Self {
        self.setup.push(statement.into());
        self
    }

    /// Makes `UPDATE` count the rows it matched instead of those it changed (`CLIENT_FOUND_ROWS`).
    pub fn with_found_rows(mut self) -> Self {
        self.found_rows = true;
        self
    }

    /// Where the connections go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Opens a connection, within [`CONNECT_TIMEOUT`].
    pub async fn connect(&self) -> Result<Conn, Error> {
        let tls = self.address.tls.driver_options().map_err(|why| self.no_tls(why))?;
        let bound = patient(CONNECT_TIMEOUT);
        match tokio::time::timeout(bound, self.open(tls)).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(e)) => Err(self.refused(e)),
            Err(_) => Err(Error::Unreachable {
                address: self.address.to_string(),
                why: format!("no answer within {} s", bound.as_secs_f64()),
            }),
        }
    }

    async fn open(&self, tls: Option<SslOpts>) -> Result<Conn, mysql_async::Error> {
        let options = self.driver_options();
        let may_do_without = !self.address.tls.is_demanded();
        let mut conn = match Conn::new(options.clone().ssl_opts(tls)).await {
            // The server said so before anything about the account was sent.
            Err(mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer)) if may_do_without => {
                Conn::new(options).await?
            }
            opened => opened?,
        };
        for statement in &self.setup {
            conn.query_drop(statement.as_str()).await?;
        }
        Ok(conn)
    }

    fn driver_options(&self) -> OptsBuilder {
        let address = &self.address;
        OptsBuilder::default()
            .ip_or_hostname(address.host.clone())
            .tcp_port(address.port)
            .socket(address.socket.clone())
            .user(Some(address.user.clone()))
            .pass((!address.password.is_empty()).then(|| address.password.clone()))
            .db_name((!address.database.is_empty()).then(|| address.database.clone()))
            // The driver would otherwise reconnect to loopback hosts over the Unix socket, around any proxy.
            .prefer_socket(false)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(KEEPALIVE))
            // Given here, the driver does not ask the server for them. What comes in is bounded by the server's own
            // limits; what goes out is held against them by whoever sends it.
            .max_allowed_packet(Some(1 << 30))
            .wait_timeout(Some(28_800))
            .client_found_rows(self.found_rows)
            .stmt_cache_size(0)
    }

    fn no_tls(&self, why: String) -> Error {
        Error::Tls { address: self.address.to_string(), why }
    }

    fn refused(&self, error: mysql_async::Error) -> Error {
        if let Some(why) = about_tls(&error) {
            return self.no_tls(why);
        }
        let address = self.address.to_string();
        match Error::driver("the connection", error) {
            Error::Denied { what, why, .. } => Error::Denied { address, what, why },
            Error::Lost { why, .. } => Error::Unreachable { address, why },
            Error::Server { code: 1049, message, .. } => Error::UnknownDatabase { address, why: message },
            Error::Server { code, message, .. } => {
                Error::Server { what: format!("connecting to {address}"), code, message }
            }
            other => other,
        }
    }
}

/// What the driver or the server says about encryption, if that is what it is about.
fn about_tls(error: &mysql_async::Error) -> Option<String> {
    match error {
        mysql_async::Error::Server(e) if e.code == SECURE_TRANSPORT_REQUIRED => {
            Some(format!("the server lets nobody in without encryption: {}", e.message))
        }
        mysql_async::Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            Some("the server offers no encryption".into())
        }
        mysql_async::Error::Io(IoError::Tls(e)) => Some(e.to_string()),
        // The handshake's errors come as those of the connection, where a lost one is one of them.
        mysql_async::Error::Io(IoError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
            Some(e.to_string())
        }
        _ => None,
    }
}

/// How long the server may take to end a connection.
const END_TIMEOUT: Duration = Duration::from_secs(20);
/// There is no connection of this number.
const NO_SUCH_THREAD: u16 = 1094;

/// Ends another connection of the server, if it did not go by itself.
pub async fn end(conn: &mut Conn, id: u64) -> Result<(), Error> {
    match within(END_TIMEOUT, "ending another connection", conn.query_drop(format!("KILL {id}"))).await {
        Err(error) if error.server_code() == Some(NO_SUCH_THREAD) => Ok(()),
        ended => ended,
    }
}

/// Closes a connection politely, without waiting for more than a moment.
pub async fn close(conn: Conn) {
    let _ = tokio::time::timeout(Duration::from_millis(500), conn.disconnect()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn patience_cuts_ordinary_bounds_only() {
        let short = Duration::from_millis(5);
        let silent = std::future::pending::<Result<(), Error>>();
        let error = with_patience(short, within(ORDINARY, "x", silent)).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { after, .. } if after == short));
        let long = ORDINARY + Duration::from_secs(1);
        assert_eq!(with_patience(short, async { patient(long) }).await, long);
        assert_eq!(patient(long), long);
    }
}
