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
    #[diagnostic(help("name tables as --tables a,b or --tables source_name=target_name"))]
    BadRequest(String),

    /// No column compares.
    #[error("`{0}` and its counterpart have no column that can be compared")]
    #[diagnostic(help("check that the right tables are named, and --ignore-columns"))]
    NothingToCompare(String),

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

    /// The HTML report could not be rendered.
    #[error("cannot render the report: {0}")]
    Render(String),
}

impl Error {
    /// A connection's or statement's error, with the side it happened on.
    pub(crate) fn server(side: Side, address: &str, inner: converge_mysql::Error) -> Self {
        let help = Diagnostic::help(&inner).map(|help| help.to_string());
        Self::Server { side, address: address.into(), inner, help }
    }
}
