//! What to compare, how, and what is told while it runs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use converge_mysql::Address;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Where the rows come from.
    Source,
    /// Where they should be.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// A table on the source and its counterpart on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablePair {
    /// Name on the source.
    pub source: String,
    /// Name on the target.
    pub target: String,
}

impl TablePair {
    /// A table of the same name on both sides.
    pub fn same(name: &str) -> Self {
        Self { source: name.into(), target: name.into() }
    }
}

impl FromStr for TablePair {
    type Err = Error;

    /// `name`, or `source_name=target_name`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (source, target) = text.split_once('=').unwrap_or((text, text));
        let (source, target) = (source.trim(), target.trim());
        if source.is_empty() || target.is_empty() || target.contains('=') {
            return Err(Error::BadRequest(format!("{text:?} names no table")));
        }
        Ok(Self { source: source.into(), target: target.into() })
    }
}

/// Who digests rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The faster one for each table: its first chunk is timed both ways.
    #[default]
    Auto,
    /// The servers; only sums cross the network.
    PushDown,
    /// The client; each row crosses the network once.
    Stream,
}

impl Engine {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::PushDown => "pushdown",
            Self::Stream => "stream",
        }
    }
}

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who digests rows.
    pub engine: Engine,
    /// Columns left out, by name in any letter case; listed in the report as not verified.
    pub ignore_columns: Vec<String>,
    /// At most this many differing rows per table are named; they are all counted.
    pub max_rows_reported: usize,
    /// Rows in the first chunk.
    pub first_chunk_rows: u64,
    /// Chunks grow and shrink towards [`Options::chunk_time`] between 1 row and this many.
    pub max_chunk_rows: u64,
    /// How long one chunk's digest should take on the slower server.
    pub chunk_time: Duration,
    /// The most rows whose keys and digests are fetched at once; larger differing ranges are split first.
    pub fetch_rows: u64,
    /// The most differing rows held for confirmation; further ones are counted only.
    pub max_suspects: usize,
    /// Both servers must have stood still for this long while a differing row still differs.
    pub quiet_window: Duration,
    /// How long to wait for differing rows to become equal, or for both servers to stand still.
    pub confirm_within: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            engine: Engine::Auto,
            ignore_columns: Vec::new(),
            max_rows_reported: 100,
            first_chunk_rows: 10_000,
            max_chunk_rows: 2_000_000,
            chunk_time: Duration::from_secs(1),
            fetch_rows: 20_000,
            max_suspects: 100_000,
            quiet_window: Duration::from_secs(2),
            confirm_within: Duration::from_secs(15),
            statement_timeout: Duration::from_secs(600),
        }
    }
}

/// Two databases and the tables to compare between them.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the rows come from; the database must be named.
    pub source: Address,
    /// Where they should be; the database must be named.
    pub target: Address,
    /// The tables, at least one.
    pub tables: Vec<TablePair>,
    /// How to compare.
    pub options: Options,
}

/// What is told while a comparison runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A table begins.
    Table {
        /// Its name on the source.
        table: String,
        /// Rows that the source's statistics expect.
        rows_estimated: u64,
    },
    /// A chunk was compared.
    Rows {
        /// The table's name on the source.
        table: String,
        /// Rows of the source seen so far.
        rows: u64,
        /// Rows seen to differ so far, not yet confirmed.
        suspects: u64,
    },
    /// Differing rows are read again, until they agree or are proven.
    Confirming {
        /// The table's name on the source.
        table: String,
        /// How many still differ.
        suspects: u64,
    },
    /// A table is done.
    Done {
        /// Its name on the source.
        table: String,
        /// What came out.
        verdict: crate::report::Verdict,
    },
}
