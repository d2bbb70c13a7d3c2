//! What can go wrong between Converge and a server, and what an operator can do about it.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

/// An error of a connection, a statement or a position.
#[derive(Debug, Clone, Error, Diagnostic)]
pub enum Error {
    /// The URL is not `mysql://user:password@host:port/database`.
    #[error("bad server address {url}: {why}")]
    #[diagnostic(help(
        "use mysql://user:password@host:port/database, with special characters percent-encoded (@ is %40, : is %3A, / is \
         %2F, ? is %3F); options follow as ?ssl-mode=REQUIRED&password-env=NAME"
    ))]
    BadAddress {
        /// The address as given, without its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },

    /// The server has no database of this name, or the account may not see it.
    #[error("{address}: {why}")]
    #[diagnostic(help("create the database (CREATE DATABASE …) or correct the name at the end of the URL"))]
    UnknownDatabase {
        /// The address, password hidden.
        address: String,
        /// The server's words.
        why: String,
    },

    /// No connection could be made.
    #[error("cannot connect to {address}: {why}")]
    #[diagnostic(help(
        "check that the server is running and that host, port and firewall let this machine through"
    ))]
    Unreachable {
        /// The address, password hidden.
        address: String,
        /// The operating system's or driver's words.
        why: String,
    },

    /// A connection is not encrypted as it must be.
    #[error("no encrypted connection to {address}: {why}")]
    #[diagnostic(help(
        "options at the end of the URL say what is wanted: ?ssl-mode=REQUIRED encrypts, ?ssl-mode=VERIFY_CA&ssl-ca=FILE \
         also checks who issued the server's certificate, VERIFY_IDENTITY that it names the host as a subjectAltName, \
         DISABLED does without; a server offers encryption once it has ssl_cert and ssl_key"
    ))]
    Tls {
        /// The address, password hidden.
        address: String,
        /// What the server, the file or the certificate lacks.
        why: String,
    },

    /// The server refused the account or a privilege.
    #[error("{address} refused {what}: {why}")]
    #[diagnostic(help(
        "check user and password, and that the account holds the privilege named above; an account that must use \
         encryption needs ?ssl-mode=REQUIRED at the end of the URL"
    ))]
    Denied {
        /// The address, password hidden.
        address: String,
        /// What was attempted.
        what: String,
        /// The server's words.
        why: String,
    },

    /// The server answered a statement with an error.
    #[error("{what}: server error {code}: {message}")]
    Server {
        /// What was attempted.
        what: String,
        /// The server's error number.
        code: u16,
        /// The server's words.
        message: String,
    },

    /// The connection broke in the middle of something.
    #[error("{what}: connection lost: {why}")]
    #[diagnostic(help("the server or the network went away; run the command again once it is back"))]
    Lost {
        /// What was attempted.
        what: String,
        /// The operating system's or driver's words.
        why: String,
    },

    /// No answer within the bound.
    #[error("{what}: no answer within {} s", .after.as_secs_f64())]
    #[diagnostic(help(
        "the server is overloaded, locked, or the network between is silently dropping packets"
    ))]
    TimedOut {
        /// What was attempted.
        what: String,
        /// The bound that passed.
        after: Duration,
    },

    /// The server is a product or version that Converge does not work with.
    #[error("unsupported server: {0}")]
    #[diagnostic(help("Converge works with MySQL 8.0 and later and MariaDB 10.6 and later"))]
    UnsupportedServer(String),

    /// A position's text has no known form.
    #[error("bad position {text:?}: {why}")]
    BadPosition {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        why: String,
    },

    /// The server writes no binary log.
    #[error("{0} writes no binary log")]
    #[diagnostic(help("start it with --log-bin --binlog-format=ROW --server-id=N"))]
    NoBinaryLog(String),
}

/// The binary log cannot be written, and the server ends over it. What it was asked to commit, it may find in its log when
/// it comes back.
const UNDECIDED: u16 = 1598;

/// Server errors that go away by themselves: lock waits, deadlocks, shutdown, too many connections,
/// a server that is read-only or out of disk, memory or threads for the moment.
const TRANSIENT_CODES: &[u16] = &[
    1021, // disk full
    1023, 1026, // error on close or write, as when the disk is full
    1037, 1038, 1041, // out of memory
    1040, // too many connections
    1053, // server shutdown in progress
    1077, 1079, 1080, // shutting down
    1114, // table is full
    1135, // no thread can be made
    1152, // aborted connection
    1158, 1159, 1160, 1161,      // network read/write errors
    1203,      // user has too many connections
    1205,      // lock wait timeout
    1206,      // the locks take too much memory
    1213,      // deadlock
    1223,      // a global read lock
    1226,      // the account's hourly or session limit
    1290,      // running with --read-only
    1317,      // query interrupted
    1412,      // the table was altered meanwhile
    UNDECIDED, // the server ends, and comes back
    1637,      // too many open transactions
    1792,      // transaction_read_only
    1836,      // running in read-only mode
    1927,      // connection was killed (MariaDB)
    1969,      // maximum statement time exceeded (MariaDB)
    3024,      // maximum execution time exceeded
    3032,      // offline mode
    3168,      // the server is not available for the moment
    3169,      // session was killed
    3948,      // loading of local files was switched off: the next connection does without
    4031,      // disconnected because of inactivity
    4166,      // the same as 3948 (MariaDB)
];

/// Server errors that mean a refused account or a missing privilege.
const DENIED_CODES: &[u16] = &[1044, 1045, 1142, 1143, 1227, 1370, 1698, 3118, 4151];

impl Error {
    /// Wraps a driver error. `what` says what was attempted, as in "reading a chunk of `shop`.`customer`".
    pub fn driver(what: impl Into<String>, error: mysql_async::Error) -> Self {
        let what = what.into();
        match error {
            mysql_async::Error::Server(e) if DENIED_CODES.contains(&e.code) => {
                Self::Denied { address: "the server".into(), what, why: e.message.to_string() }
            }
            mysql_async::Error::Server(e) => {
                Self::Server { what, code: e.code, message: e.message.to_string() }
            }
            other => Self::Lost { what, why: other.to_string() },
        }
    }

    /// The server's error number, where the server answered with one.
    pub fn server_code(&self) -> Option<u16> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server itself said no: what was asked for surely did not happen.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Server { code, .. } => *code != UNDECIDED,
            other => matches!(other, Self::Denied { .. }),
        }
    }

    /// Whether trying again later can help without anybody's doing: the server or the network may come back.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::TimedOut { .. } => true,
            // Errors of the server's file layer (below 1000), of its storage engines, and of making files have the system's
            // own number in their text.
            Self::Server { code: 0..1000 | 1004..=1006 | 1030, message, .. } => is_full(message),
            Self::Server { code, .. } => TRANSIENT_CODES.contains(code),
            _ => false,
        }
    }
}

/// Whether a message names the system's error 28, a full disk, in one of the ways that servers have for it.
fn is_full(message: &str) -> bool {
    ["rror 28", "rrno 28", "rrno: 28", "rrcode: 28"].iter().any(|words| {
        let mut ends = message.match_indices(words).map(|(at, _)| &message[at + words.len()..]);
        ends.any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: u16) -> Error {
        Error::Server { what: "x".into(), code, message: "m".into() }
    }

    #[test]
    fn deadlocks_are_transient_and_duplicates_are_not() {
        assert!(server(1213).is_transient());
        assert!(!server(1062).is_transient());
    }

    #[test]
    fn a_server_that_ends_over_its_full_log_comes_back_and_did_not_say_no() {
        assert!(server(1598).is_transient() && !server(1598).is_refusal());
        assert!(server(1213).is_refusal() && server(1062).is_refusal());
    }

    #[test]
    fn a_full_disk_is_transient_whoever_says_so() {
        let says = |code, message: &str| {
            Error::Server { what: "x".into(), code, message: message.into() }.is_transient()
        };
        assert!(says(3, "Error writing file '/tmp/#sql/fd=67' (Errcode: 28 \"No space left on device\")"));
        assert!(says(3, "Error writing file './binlog.000001' (OS errno 28 - No space left on device)"));
        assert!(says(1005, "Can't create table `a`.`b` (errno: 28 \"No space left on device\")"));
        assert!(says(1030, "Got error 28 from storage engine"));
        assert!(!says(1030, "Got error 281 from storage engine"));
        assert!(!says(3, "Error writing file 'x' (Errcode: 5 \"Input/output error\")"));
    }
}
