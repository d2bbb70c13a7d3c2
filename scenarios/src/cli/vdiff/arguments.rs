//! What `converge vdiff` can be told, by topic, and what becomes of it. Nothing here talks to a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use converge_vdiff::{
    Engine, Filter, MaxLoad, Options, ProofSource, Request, Sample, TablePair, remembered_seed,
};

use crate::cli::arguments::{Listed, all, duration, entries, table_names, tables};
use crate::cli::{Failure, Format};

const EXAMPLE: &str = "\
Example:
  converge vdiff --source mysql://root:secret@10.0.0.1/shop \\
    --target mysql://root:secret@10.0.0.2/shop \\
    --tables customer,corder,old_product=product --report vdiff.html

Options follow a URL's database, as for every command:
  'mysql://reader@db2/shop?password-env=PW&ssl-mode=VERIFY_CA&ssl-ca=ca.pem'
  'mysql:///shop?defaults-file=/etc/converge/db1.cnf'
      user, password, host, ssl-* of its group [client]
  'mysql://root@localhost/shop?socket=/run/mysqld/mysqld.sock'

A part of the tables, on servers with other work to do:
  --where 'orders:id > 1000' --ignore-columns customer.last_seen
  --rename-columns orders.total=amount
  --sample 1% --seed 7
  --max-load Threads_running=25 --max-lag 10 --parallel 1

SELECT on the tables is all the accounts need. Differing rows are read again
until they agree, or until both servers stood still while they differed; where
neither happens the verdict is not_proven. With --workflow (needs SELECT on
_converge.* on the target) or --replica (needs REPLICATION CLIENT there; SLAVE
MONITOR on MariaDB) they are also proven while rows are written.

Exit codes: 0 equal, 1 different, 2 the comparison could not be done, 3 not
proven.";

/// Thirty days: MySQL takes no statement for much longer.
const MOST_SECONDS: u64 = 30 * 24 * 3600;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Arguments {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    part: Part,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    proof: Proof,
    #[command(flatten)]
    pub repair: RepairArguments,
    #[command(flatten)]
    pub answer: Answer,
}

/// Where the tables are.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What to compare")]
struct What {
    /// Where the rows come from: mysql://user:password@host:port/database, percent-encoded
    // Parsed later: the parser's own complaint would print the password.
    #[arg(long, value_name = "URL", required = true)]
    source: Vec<String>,
    /// Where they should be, in the same form; each of both may be given several times, for the shards of one table
    #[arg(long, value_name = "URL", required = true)]
    target: Vec<String>,
    /// Tables in both databases, by comma; SRC=DST where the names differ; a name with one of ,=` in it in backquotes.
    /// Needed unless --all-tables or --workflow (all of its tables) says which
    #[arg(long, value_name = "TABLES", value_parser = tables)]
    tables: Vec<Listed<TablePair>>,
    /// All tables of the two databases; one that only one of them has is a difference
    #[arg(long, conflicts_with_all = ["tables", "workflow"])]
    all_tables: bool,
    /// Tables that --all-tables leaves out, by comma
    #[arg(long, value_name = "TABLES", value_parser = table_names, requires = "all_tables", conflicts_with_all = ["tables", "workflow"])]
    exclude: Vec<Listed<String>>,
}

/// What of them is compared.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which part of it (what is left out is listed in the report as not verified)")]
struct Part {
    /// Only rows that fulfil an SQL expression, on both sides; TABLE:SQL for one table; may be given several times.
    /// TIMESTAMPs are in UTC
    #[arg(long = "where", value_name = "[TABLE:]SQL")]
    filters: Vec<Filter>,
    /// Only a random part of the rows, as 1%. A difference in it is one; without any the verdict is not_proven
    #[arg(long, value_name = "PERCENT%")]
    sample: Option<String>,
    /// Which rows the sample has; drawn, and told in the report, if it is not given
    #[arg(long, value_name = "N", requires = "sample")]
    seed: Option<u64>,
    /// Only these columns, and the key
    #[arg(long, value_name = "[TABLE.]COLUMN,…", value_parser = entries)]
    columns: Vec<Listed<String>>,
    /// All columns but these
    #[arg(long, value_name = "[TABLE.]COLUMN,…", value_parser = entries)]
    ignore_columns: Vec<Listed<String>>,
    /// Columns that have another name on the target
    #[arg(long, value_name = "[TABLE.]SRC=DST,…", value_parser = entries)]
    rename_columns: Vec<Listed<String>>,
}

/// By whom, and how much of the servers it may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Speed and load")]
struct Pace {
    /// Who digests rows: the servers (pushdown), the client (stream), or the faster one by table (auto)
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineChoice,
    /// Chunks compared at once, each over a connection of its own to every server
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Begin no chunk while a server shows more than this in SHOW GLOBAL STATUS, as Threads_running=25 (which counts
    /// the connections of the comparison as well)
    #[arg(long, value_name = "COUNTER=N,…", value_delimiter = ',')]
    max_load: Vec<MaxLoad>,
    /// Begin no chunk while a server that is itself a replica lags by more (needs REPLICATION CLIENT; MariaDB: SLAVE
    /// MONITOR)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=MOST_SECONDS))]
    max_lag: Option<u64>,
    /// Rows in the first chunk; further ones adapt to about one second each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_rows: u64,
    /// Begin no chunk after this time, as in 30m or 2h; what was not compared then makes the verdict not_proven
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_duration: Option<Duration>,
    /// Remember in this directory what was compared: the same command goes on there after it was killed
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Give up on a statement after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    statement_timeout: u64,
}

/// What makes a difference a proven one.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Proof")]
struct Proof {
    /// Prove differences while rows are written, by the positions that this workflow of `converge move` records on the target
    #[arg(long, value_name = "NAME", conflicts_with = "replica")]
    workflow: Option<String>,
    /// Prove differences while rows are written, by the target's native replication of the source
    #[arg(long)]
    replica: bool,
    /// Give up on differing rows that are still being written to after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(..=MOST_SECONDS))]
    confirm_within: u64,
}

/// What is done about rows that are proven to differ.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Repair of the target (off unless asked for)")]
pub struct RepairArguments {
    /// Write the least DML that makes the target equal, guarded by the rows' present contents; its undo goes to
    /// FILE.undo.sql
    #[arg(long, value_name = "FILE.sql", conflicts_with_all = ["redact", "sample"])]
    pub repair_sql: Option<PathBuf>,
    /// Apply it to the target in transactions of at most 500 rows, read those rows again, and give the verdict after
    /// that; the account in --target needs INSERT, UPDATE, DELETE and TRIGGER besides
    #[arg(long, conflicts_with_all = ["redact", "sample"])]
    pub repair: bool,
}

/// What is written, and where.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Answer")]
pub struct Answer {
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// Also write one self-contained HTML page
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Also write the JSON form, whatever standard output gets
    #[arg(long, value_name = "FILE.json")]
    pub json: Option<PathBuf>,
    /// Also write JUnit XML, one test case per table: different is a failure, not proven an error
    #[arg(long, value_name = "FILE.xml")]
    pub junit: Option<PathBuf>,
    /// Hide every value and key of rows, in all forms, behind a hash under a salt that is kept nowhere
    #[arg(long)]
    pub redact: bool,
    /// Name at most this many differing rows per table; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_rows_reported: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum EngineChoice {
    Auto,
    Pushdown,
    Stream,
}

impl From<EngineChoice> for Engine {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Auto => Self::Auto,
            EngineChoice::Pushdown => Self::PushDown,
            EngineChoice::Stream => Self::Stream,
        }
    }
}

impl Part {
    /// A comparison that goes on does so with the rows that it had drawn.
    fn sample(&self, state: Option<&Path>) -> Result<Option<Sample>, Failure> {
        let known = self.seed.or_else(|| remembered_seed(state?));
        let seed = known.unwrap_or_else(|| rand::random_range(0..1_000_000));
        match &self.sample {
            Some(share) => Ok(Some(Sample::parse(share, seed)?)),
            None => Ok(None),
        }
    }
}

impl Arguments {
    /// The tables on the source, as named.
    pub fn tables(&self) -> Vec<String> {
        all(&self.what.tables).into_iter().map(|pair| pair.source).collect()
    }

    /// The request that they stand for.
    pub fn request(&self) -> Result<Request, Failure> {
        let Self { what, part, pace, proof, repair: _, answer } = self;
        let proved_by = match (&proof.workflow, proof.replica) {
            (Some(name), _) => ProofSource::Workflow(name.clone()),
            (None, true) => ProofSource::Replica,
            (None, false) => ProofSource::Stillness,
        };
        let options = Options {
            proof: proved_by,
            all_tables: what.all_tables.then(|| all(&what.exclude)),
            engine: pace.engine.into(),
            filters: part.filters.clone(),
            sample: part.sample(pace.state.as_deref())?,
            columns: all(&part.columns),
            ignore_columns: all(&part.ignore_columns),
            rename_columns: all(&part.rename_columns),
            max_rows_reported: answer.max_rows_reported,
            parallel: pace.parallel.into(),
            first_chunk_rows: pace.chunk_rows,
            max_load: pace.max_load.clone(),
            max_lag: pace.max_lag.map(Duration::from_secs),
            max_duration: pace.max_duration,
            state: pace.state.clone(),
            confirm_within: Duration::from_secs(proof.confirm_within),
            statement_timeout: Duration::from_secs(pace.statement_timeout),
            ..Options::default()
        };
        let shards = |urls: &[String]| urls.iter().map(|url| url.parse()).collect::<Result<Vec<_>, _>>();
        let (source, target) = (shards(&what.source)?, shards(&what.target)?);
        Ok(Request { source, target, tables: all(&what.tables), options })
    }
}
