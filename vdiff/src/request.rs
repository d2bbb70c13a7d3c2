//! What to compare, how, and what is told while it runs.

mod command;
mod pace;
mod part;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use converge_mysql::{Address, names};
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub use pace::MaxLoad;
pub use part::{Filter, Sample};

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

    /// `name`, or `source_name=target_name`; a name that has `,` or `=` in it, in backquotes.
    fn from_str(text: &str) -> Result<Self, Error> {
        let names: Option<Vec<String>> =
            names::split(text.trim(), '=').into_iter().map(names::plain).collect();
        match names.as_deref() {
            Some([name]) => Ok(Self::same(name)),
            Some([source, target]) => Ok(Self { source: source.clone(), target: target.clone() }),
            _ => Err(Error::BadRequest(format!("{text:?} names no table"))),
        }
    }
}

impl fmt::Display for TablePair {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&names::spelled(&self.source))?;
        if self.source != self.target {
            write!(f, "={}", names::spelled(&self.target))?;
        }
        Ok(())
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

/// What proves that a row differs, rather than is late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProofSource {
    /// Both servers stand still.
    #[default]
    Stillness,
    /// The checkpoint of this workflow of `converge move`.
    Workflow(String),
    /// The target natively replicates the source.
    Replica,
}

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// What proves that a row differs.
    pub proof: ProofSource,
    /// All tables of the databases but these, instead of [`Request::tables`]; those of one side only are differences.
    pub all_tables: Option<Vec<String>>,
    /// Who digests rows.
    pub engine: Engine,
    /// Rows must fulfil these to be compared; listed in the report as what is not verified.
    pub filters: Vec<Filter>,
    /// Only some rows, chosen by their keys. Without a difference the verdict is then `not_proven`.
    pub sample: Option<Sample>,
    /// Only these columns and the key, as `column` or `table.column` in any letter case; all columns of a table that no
    /// entry is about. The others are listed in the report as not verified.
    pub columns: Vec<String>,
    /// Columns left out, in the same form; listed in the report as not verified.
    pub ignore_columns: Vec<String>,
    /// Columns that have another name on the target, as `source=target` or `table.source=target`.
    pub rename_columns: Vec<String>,
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
    /// No chunk begins while a server shows more than this.
    pub max_load: Vec<MaxLoad>,
    /// No chunk begins while a server that is a replica lags by more than this.
    pub max_lag: Option<Duration>,
    /// Held back for so long without a break, the comparison gives up.
    pub hold_at_most: Duration,
    /// The directory that remembers what was compared, so that a comparison that was killed goes on where it was.
    pub state: Option<std::path::PathBuf>,
    /// No chunk is begun after this time; what was not compared then is in the report.
    pub max_duration: Option<Duration>,
    /// How many chunks are compared at once, each over a connection of its own to every shard.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            proof: ProofSource::Stillness,
            all_tables: None,
            engine: Engine::Auto,
            filters: Vec::new(),
            sample: None,
            columns: Vec::new(),
            ignore_columns: Vec::new(),
            rename_columns: Vec::new(),
            max_rows_reported: 100,
            first_chunk_rows: 10_000,
            max_chunk_rows: 2_000_000,
            chunk_time: Duration::from_secs(1),
            fetch_rows: 20_000,
            max_suspects: 100_000,
            quiet_window: Duration::from_secs(2),
            confirm_within: Duration::from_secs(15),
            statement_timeout: Duration::from_secs(600),
            state: None,
            max_duration: None,
            parallel: 2,
            max_load: Vec::new(),
            max_lag: None,
            hold_at_most: Duration::from_secs(3600),
        }
    }
}

/// Two databases and the tables to compare between them.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where the rows come from, one address per shard; the databases must be named.
    pub source: Vec<Address>,
    /// Where they should be, one address per shard; the databases must be named.
    pub target: Vec<Address>,
    /// The tables, at least one unless the options say where they come from.
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
    /// No chunk begins for the moment.
    Held {
        /// The table's name on the source.
        table: String,
        /// Which limit is exceeded.
        why: String,
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
