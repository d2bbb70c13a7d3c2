//! `converge vdiff`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use converge_mysql::Address;
use converge_vdiff::{Engine, Options, Progress, Report, Request, TablePair, Verdict};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Failure, Format, Outcome};

const EXAMPLE: &str = "\
Example:
  converge vdiff --source mysql://root:secret@10.0.0.1:3306/shop --target mysql://root:secret@10.0.0.2:3306/shop \\
                 --tables customer,corder,old_product=product --report vdiff.html

SELECT on the tables is all the accounts need. Differing rows are read again until they agree, or until both servers
stood still while they differed; where neither happens the verdict is not_proven.

Exit codes: 0 equal, 1 different, 2 the comparison could not be done, 3 not proven.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Arguments {
    /// Where the rows come from: mysql://user:password@host:port/database, percent-encoded
    // Parsed later: the parser's own complaint would print the password.
    #[arg(long, value_name = "URL")]
    source: String,
    /// Where they should be, in the same form
    #[arg(long, value_name = "URL")]
    target: String,
    /// Tables in both databases, by comma; SRC=DST where the names differ
    #[arg(long, value_name = "TABLES", value_delimiter = ',', required = true)]
    tables: Vec<TablePair>,
    /// Who digests rows: the servers (pushdown), the client (stream), or the faster one by table (auto)
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineChoice,
    /// How to answer on standard output
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Also write one self-contained HTML page
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Name at most this many differing rows per table; all are counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_rows_reported: usize,
    /// Columns to leave out, by comma; the report lists them as not verified
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    ignore_columns: Vec<String>,
    /// Rows in the first chunk; further ones adapt to about one second each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    chunk_rows: u64,
    /// Give up on differing rows that are still being written to after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    confirm_within: u64,
    /// Give up on a statement after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    statement_timeout: u64,
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

pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    let options = Options {
        engine: arguments.engine.into(),
        ignore_columns: arguments.ignore_columns,
        max_rows_reported: arguments.max_rows_reported,
        first_chunk_rows: arguments.chunk_rows,
        confirm_within: Duration::from_secs(arguments.confirm_within),
        statement_timeout: Duration::from_secs(arguments.statement_timeout),
        ..Options::default()
    };
    let (source, target): (Address, Address) = (arguments.source.parse()?, arguments.target.parse()?);
    let request = Request { source, target, tables: arguments.tables, options };
    let display = Display::new();
    let tell = |progress: Progress| display.tell(progress);
    let result = tokio::select! {
        result = converge_vdiff::compare(&request, &tell) => result,
        _ = tokio::signal::ctrl_c() => {
            display.clear();
            return Err(Failure::new("interrupted: nothing can be said about the tables")
                .with_help("run the same command again; nothing was changed on either server"));
        }
    };
    display.clear();
    let report = result?;
    if let Some(path) = &arguments.report {
        std::fs::write(path, report.to_html()?).map_err(|e| {
            Failure::new(format!("cannot write the report to {}: {e}", path.display()))
                .with_help("name a file in a directory that exists and may be written to")
        })?;
    }
    print(&report, arguments.format)?;
    Ok(match report.verdict {
        Verdict::Equal => Outcome::Good,
        Verdict::Different => Outcome::Different,
        Verdict::NotProven => Outcome::NotProven,
    })
}

/// Writes the answer; a reader that goes away early must not turn it into a panic.
fn print(report: &Report, format: Format) -> Result<(), Failure> {
    use std::io::Write as _;
    let text = match format {
        Format::Json => report.to_json() + "\n",
        Format::Text => report.to_text(),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(format!("cannot write the answer to standard output: {e}")))
}

/// Progress on standard error: a bar on a terminal, else now and then a line.
struct Display {
    bar: Option<ProgressBar>,
    last_line: Mutex<Option<Instant>>,
}

/// Between two lines about one table.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Display {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = "{prefix} [{bar:30}] {pos}/{len} rows, {per_sec}, {eta} left {msg}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Self { bar, last_line: Mutex::new(None) }
    }

    fn tell(&self, progress: Progress) {
        match progress {
            Progress::Table { table, rows_estimated } => match &self.bar {
                Some(bar) => {
                    bar.reset();
                    bar.set_length(rows_estimated);
                    bar.set_prefix(table);
                    bar.set_message("");
                }
                None => self.line(format!("{table}: comparing about {rows_estimated} rows"), true),
            },
            Progress::Rows { table, rows, suspects } => match &self.bar {
                Some(bar) => {
                    bar.set_length(bar.length().unwrap_or(0).max(rows));
                    bar.set_position(rows);
                    if suspects > 0 {
                        bar.set_message(format!("({suspects} differ)"));
                    }
                }
                None => self.line(format!("{table}: {rows} rows compared, {suspects} differ"), false),
            },
            Progress::Confirming { table, suspects } => match &self.bar {
                Some(bar) => bar.set_message(format!("({suspects} differ, reading them again)")),
                None => self.line(format!("{table}: reading {suspects} differing rows again"), false),
            },
            Progress::Done { table, verdict } => match &self.bar {
                Some(bar) => bar.suspend(|| note!("{table}: {}", verdict.as_str())),
                None => self.line(format!("{table}: {}", verdict.as_str()), true),
            },
        }
    }

    fn line(&self, text: String, always: bool) {
        let mut last = self.last_line.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if always || last.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            note!("{text}");
            *last = Some(Instant::now());
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
