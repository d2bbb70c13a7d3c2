//! Why a comparison could not be done. A comparison that ends in one of these has no verdict.

use miette::Diagnostic;
use thiserror::Error;

use crate::request::Side;

/// An error of a comparison: nothing can be said about the tables.
#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    /// A connection or a statement failed.
    #[error("on the {side}, {address}: {inner}")]
    Server {
        /// Which of the two.
        side: Side,
        /// Its address, password hidden.
        address: String,
        /// What happened.
        inner: converge_mysql::Error,
        /// What the operator can do about it.
        #[help]
        help: Option<String>,
    },

    /// A table to compare is not there, or the account may not know of it.
    #[error("the {side}, {address}, has no table `{schema}`.`{table}`")]
    #[diagnostic(help(
        "check the database in the URL and the name in --tables (SRC=DST where names differ; letter case counts)"
    ))]
    MissingTable {
        /// Which of the two.
        side: Side,
        /// Its address, password hidden.
        address: String,
        /// The database looked in.
        schema: String,
        /// The table looked for.
        table: String,
    },

    /// The account may not read the table.
    #[error("on the {side}, {address}, the account may not read `{schema}`.`{table}`: {why}")]
    #[diagnostic(help(
        "GRANT SELECT on the whole table to the account in the URL; nothing else is needed to compare"
    ))]
    Denied {
        /// Which of the two.
        side: Side,
        /// Its address, password hidden.
        address: String,
        /// The database.
        schema: String,
        /// The table.
        table: String,
        /// The server's words, or what is hidden from the account.
        why: String,
    },

    /// The account sees only a part of the table's columns.
    #[error(
        "on the {side}, {address}, `{schema}`.`{table}` changed while its columns were read, or some are hidden"
    )]
    #[diagnostic(help("GRANT SELECT on the whole table, and run again when no DDL runs"))]
    HiddenColumns {
        /// Which of the two.
        side: Side,
        /// Its address, password hidden.
        address: String,
        /// The database.
        schema: String,
        /// The table.
        table: String,
    },

    /// The request makes no sense.
    #[error("{0}")]
    #[diagnostic(help(
        "name each table once, as --tables a,b or --tables source_name=target_name, or --all-tables --exclude c,d; what the \
         options take is in `converge vdiff --help`"
    ))]
    BadRequest(String),

    /// What is said about the servers' load makes no sense.
    #[error("{0}")]
    #[diagnostic(help(
        "--max-load takes a counter of SHOW GLOBAL STATUS and the most that it may show, as Threads_running=25; --max-lag \
         seconds, where one of the servers is a replica"
    ))]
    BadLoad(String),

    /// What is said about the part to compare makes no sense.
    #[error("{option}: {why}")]
    #[diagnostic(help(
        "--where takes an SQL expression or TABLE:SQL, --sample a share as 1%, --columns and --ignore-columns take COLUMN or \
         TABLE.COLUMN, --rename-columns SRC=DST or TABLE.SRC=DST; tables go by their names on the source"
    ))]
    BadPart {
        /// The option and its value.
        option: String,
        /// What is wrong with it.
        why: String,
    },

    /// No column compares.
    #[error("`{0}` and its counterpart have no column that can be compared")]
    #[diagnostic(help("check that the right tables are named, and --columns and --ignore-columns"))]
    NothingToCompare(String),

    /// Where the target stands, or how to ask, is not known.
    #[error("{what}")]
    Proof {
        /// What is wrong.
        what: String,
        /// What the operator can do about it.
        #[help]
        help: String,
    },

    /// A server answered something that it never should.
    #[error("unexpected answer from the {side} when {what}: {why}")]
    Unexpected {
        /// Which of the two.
        side: Side,
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        why: String,
    },

    /// The shards of a side do not have the same table.
    #[error("the shards of the {side} do not agree about `{table}`: {why}")]
    #[diagnostic(help("shards that are compared as one table must have it with the same columns and keys"))]
    ShardsDisagree {
        /// Which of the two.
        side: Side,
        /// The table.
        table: String,
        /// Who has what.
        why: String,
    },

    /// A limit of load was exceeded all the while.
    #[error("gave up after {} s without a chunk: {why}", .after.as_secs())]
    #[diagnostic(help("raise --max-load or --max-lag, or compare when there is less to do"))]
    Busy {
        /// The limit.
        why: String,
        /// For how long.
        after: std::time::Duration,
    },

    /// The state of an earlier run is for something else.
    #[error("the state in {0} is of a comparison of other tables, another schema or with other options")]
    #[diagnostic(help(
        "run the command as it was run then (how fast and how long it runs, and what is written about it, may change), or \
         name another directory with --state"
    ))]
    OtherState(String),

    /// Another process writes the state.
    #[error("another comparison is using the state in {0}")]
    #[diagnostic(help("wait until it has ended, or name another directory with --state"))]
    StateInUse(String),

    /// The state cannot be read or written.
    #[error("cannot keep the state in {path}: {why}")]
    #[diagnostic(help(
        "name a directory that may be written to with --state, or remove the file to begin anew"
    ))]
    State {
        /// The file.
        path: String,
        /// What happened.
        why: String,
    },

    /// A worker was ended from outside.
    #[error("a worker of the comparison did not end by itself: {0}")]
    Worker(String),

    /// A repair's script could not be written.
    #[error("cannot write the repair to {path}: {why}")]
    #[diagnostic(help("nothing was changed on either server; do not run what the file holds"))]
    RepairFile {
        /// The file.
        path: String,
        /// The operating system's words, or what happened.
        why: String,
    },

    /// The account may not write to the target.
    #[error("{address} does not let the account repair: {why}")]
    #[diagnostic(help(
        "GRANT SELECT, INSERT, UPDATE, DELETE on the tables to the account in --target, or run the script of --repair-sql \
         with another account; what was committed before is repaired, and a new comparison finds the rest"
    ))]
    RepairDenied {
        /// The target's address, password hidden.
        address: String,
        /// The server's words.
        why: String,
    },

    /// The HTML report could not be rendered.
    #[error("cannot render the report: {0}")]
    Render(String),
}

impl Error {
    /// Without what a server says in quotes: it may be a row's value.
    pub fn redacted(mut self) -> Self {
        if let Self::Server { inner: converge_mysql::Error::Server { message, .. }, .. } = &mut self {
            *message = unquoted(message);
        }
        self
    }

    /// A connection's or statement's error, with the side it happened on.
    pub(crate) fn server(side: Side, address: &str, inner: converge_mysql::Error) -> Self {
        let help = Diagnostic::help(&inner).map(|help| help.to_string());
        let help = help.or_else(|| way_out(inner.server_code()?).map(str::to_owned));
        Self::Server { side, address: address.into(), inner, help }
    }
}

/// A server's words without what stands between their first and their last quote: a value may have quotes in it.
fn unquoted(message: &str) -> String {
    const QUOTES: [char; 2] = ['\'', '"'];
    let (Some(first), Some(last)) = (message.find(QUOTES), message.rfind(QUOTES)) else {
        return message.into();
    };
    // One that was cut off has no second quote.
    let rest = if first < last { &message[last + 1..] } else { "" };
    format!("{}(hidden){rest}", &message[..first])
}

/// What can be done about a server's error in the middle of a comparison.
fn way_out(code: u16) -> Option<&'static str> {
    Some(match code {
        1054 | 1146 | 1412 => {
            "the table was changed or dropped while it was compared: run again when no DDL runs"
        }
        1356 => {
            "the view shows a table or column that is not there, or that its definer may not read: repair the view"
        }
        1969 | 3024 => {
            "the statement took too long: raise --statement-timeout, or compare when there is less to do"
        }
        1053 => "the server is being shut down: run again when it is up",
        1..=100 => {
            "the server's files are in trouble: see its error log, its tmpdir and its disk, and run again"
        }
        1317 | 1927 | 3169 => "somebody ended the statement or the connection: run again",
        1153 | 1301 => "raise max_allowed_packet on the server",
        1040 | 1203 | 1226 => {
            "the comparison needs some connections to each server (fewer with --parallel 1): run again when there are fewer \
             others, or raise the server's limit (max_connections, max_user_connections)"
        }
        1114 => {
            "a temporary table met the server's limit, or there is no room for it: raise tmp_disk_table_size (MySQL: \
             temptable_max_mmap), or see to the server's disk"
        }
        1021 | 1030 | 3675 => "see to the server's disk: it needs room for temporary tables",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_words_are_told_without_values() {
        assert_eq!(unquoted("Incorrect DATE value: '2024-02-31'"), "Incorrect DATE value: (hidden)");
        assert_eq!(unquoted("Duplicate entry 'it's' for key 't.k' there"), "Duplicate entry (hidden) there");
        assert_eq!(unquoted("Cannot convert 'a that was cut"), "Cannot convert (hidden)");
        assert_eq!(unquoted("Lost connection"), "Lost connection");
    }

    #[test]
    fn limits_of_the_server_are_named() {
        for (code, limit) in [(1040, "max_connections"), (1114, "tmp_disk_table_size"), (1153, "packet")] {
            assert!(way_out(code).is_some_and(|help| help.contains(limit)), "{code}");
        }
    }
}
