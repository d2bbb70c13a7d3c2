//! `converge move`: the mover's commands.

use std::io::Read as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use converge_mover::control::{Control, Status};
use converge_mover::copy::{Pace, Strategy};
use converge_mover::preflight::Accepted;
use converge_mover::source::fenced_name;
use converge_mover::state::State;
use converge_mover::workflow::{Ended, Options};
use converge_mysql::Address;
use converge_vdiff::TablePair;

use super::arguments::{Listed, at_least_one, duration, pairs, tables};
use super::{Failure, Format, Outcome, check, interrupted, print, print_json};

#[derive(Debug, Args)]
#[command(
    about = "Move tables online from one server to another",
    after_help = "\
Example:
  converge move check --source mysql://mover:pw@db1:3306/shop \\
    --target mysql://mover:pw@db2:3306/shop --tables customer,corder
  converge move run shop --source mysql://mover:pw@db1:3306/shop \\
    --target mysql://mover:pw@db2:3306/shop --tables customer,corder
  converge move status shop --target mysql://mover:pw@db2:3306/shop
  converge move switch-traffic shop \\
    --target mysql://mover:pw@db2:3306/shop --timeout 30s
  converge move complete shop --target mysql://mover:pw@db2:3306/shop

The workflow's state is kept on the target, in the database _converge:
commands work from any machine that reaches the target, and `run` resumes
where the rows are."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at both servers and say what forbids a move, what to know before it, and what was not looked at
    Check(check::Arguments),
    /// Create or resume a workflow and run it in the foreground until it is complete or cancelled
    Run(Box<Run>),
    /// Say where a workflow stands
    Status(StatusArguments),
    /// Fence writes on the source and prove that the target has everything
    SwitchTraffic(SwitchArguments),
    /// Give a workflow up; nothing is dropped
    #[command(after_help = "\
Example:
  converge move cancel shop --target mysql://mover:pw@db2:3306/shop")]
    Cancel(Named),
    /// Declare a switched workflow done; nothing is dropped
    #[command(after_help = "\
Example:
  converge move complete shop --target mysql://mover:pw@db2:3306/shop")]
    Complete(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The workflow's name
    workflow: String,
    /// The target: mysql://user:password@host:port/database
    // Parsed later: the parser's own complaint would print the password.
    #[arg(long, value_name = "URL")]
    target: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  converge move run shop --source mysql://mover:pw@db1:3306/shop \\
    --target mysql://mover:pw@db2:3306/shop --tables customer,corder

Privileges: on the source SELECT on the tables, REPLICATION SLAVE, REPLICATION
CLIENT (BINLOG MONITOR, SLAVE MONITOR on MariaDB), and CREATE, SELECT, INSERT,
UPDATE, DELETE on _converge.*; for switch-traffic also SELECT, ALTER, DROP,
CREATE and INSERT on the database. On the target all of these on the tables and
on _converge.*.

Copy strategies (--copy-strategy). Each is right under any load:
  watermark       (default) two small marks per chunk are written to
                  _converge.watermark on the source; no locks. A chunk waits
                  for the stream to come to its mark; two are written at once,
                  over connections to the target beside the stream's.
  locking         each chunk is read with shared row locks, kept until the
                  target has it: writers of these rows wait for that. One mark
                  in all, no privilege beyond the default's.
  delete_history  one mark per chunk; no locks, and a chunk never waits for
                  the stream. Keys removed meanwhile are kept in memory.
  snapshot        all rows come from one consistent snapshot, and the stream
                  begins when they are copied: the source keeps old row
                  versions and binary logs for so long. No marks. MySQL: a
                  moment's LOCK TABLES … READ on all tables (privilege LOCK
                  TABLES); MariaDB: no locks. A copy that is interrupted
                  begins again.
  replica         as locking, on the replica in --copy-from: its applier waits
                  for the locks, not the source's writers, and its binary log
                  is followed until all is copied, then the source's. Needs
                  GTIDs and log_replica_updates there, and on the replica
                  SELECT and the two REPLICATION privileges.

Tables with neither a primary key nor a unique key without NULLs
(--allow-no-key) are copied first, as by `snapshot`, whatever the strategy:
writes to them wait for a moment on MySQL, and their copy does not resume.
Their changes are then applied to rows that are equal in every column, each of
which is looked for in the whole table: for small tables.

Stop it with Ctrl-C and run the same command again to resume, while it copies
with the same strategy. Exit code 3: stopped before it was complete.")]
struct Run {
    #[command(flatten)]
    named: Named,
    /// The source: mysql://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    source: String,
    /// Tables to move; source=target where the name changes; a name with one of ,=` in it in backquotes
    #[arg(long, value_name = "A,B", value_parser = tables)]
    tables: Vec<Listed<TablePair>>,
    /// How chunks are protected from concurrent changes; see below
    #[arg(long, value_name = "STRATEGY", default_value_t)]
    copy_strategy: Strategy,
    /// The replica of --source that `--copy-strategy replica` reads from: mysql://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    copy_from: Option<String>,
    /// Move tables without a usable key too; see below
    #[arg(long)]
    allow_no_key: bool,
    /// Rows of a chunk at the most
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = at_least_one())]
    chunk_rows: usize,
    /// Copy no more than so many rows a second, to spare the source [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    copy_rows_per_second: Option<u32>,
    /// Make the target's tables without their plain secondary keys and build these once the rows are copied, which is
    /// faster; unique keys stay, and so do all keys of tables that are there already or have foreign keys
    #[arg(long)]
    defer_secondary_keys: bool,
    /// How long to go on trying while a server is away
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    retry_for: Duration,
    /// How long a server or the network may be silent before a connection is taken for dead
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    dead_after: Duration,
    /// Pass over the statement on a moved table at which the workflow stopped; apply it on the target first
    #[arg(long)]
    skip_ddl: bool,
    /// Move tables whose foreign keys cascade although the server does not log what they change
    #[arg(long)]
    i_know: bool,
    /// Stop once standard input is closed: for a parent whose end must be this process's end too
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  converge move status shop --target mysql://mover:pw@db2:3306/shop \\
    --format json")]
struct StatusArguments {
    #[command(flatten)]
    named: Named,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  converge move switch-traffic shop \\
    --target mysql://mover:pw@db2:3306/shop --timeout 30s")]
struct SwitchArguments {
    #[command(flatten)]
    named: Named,
    /// How long fencing and draining may take; past it the fence is taken away again
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// How to answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Give up and take the fence away once standard input is closed: for a parent whose end must be this process's end too
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

/// Runs one of the commands.
pub async fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Command::Check(arguments) => check::run(arguments).await,
        Command::Run(run) => run_workflow(*run).await,
        Command::Status(arguments) => status(arguments).await,
        Command::SwitchTraffic(arguments) => switch(arguments).await,
        Command::Cancel(named) => cancel(named).await,
        Command::Complete(named) => complete(named).await,
    }
}

async fn run_workflow(run: Run) -> Result<Outcome, Failure> {
    let interrupted = interrupted();
    let options = Options {
        workflow: run.named.workflow,
        source: run.source.parse()?,
        target: run.named.target.parse()?,
        tables: pairs(&run.tables),
        strategy: run.copy_strategy,
        copy_from: run.copy_from.map(|url| url.parse()).transpose()?,
        allow_no_key: run.allow_no_key,
        pace: Pace { chunk_rows: run.chunk_rows, rows_per_second: run.copy_rows_per_second },
        retry_for: run.retry_for,
        skip_ddl: run.skip_ddl,
        defer_secondary_keys: run.defer_secondary_keys,
        patience: run.dead_after,
        accepted: Accepted { unlogged_cascades: run.i_know, no_key: run.allow_no_key },
    };
    let ended = tokio::select! {
        ended = converge_mover::workflow::run(&options) => Some(ended?),
        _ = interrupted => None,
        () = stdin_closed(), if run.until_stdin_closes => None,
    };
    match ended {
        Some(Ended::Complete) => answer!("workflow {}: complete", options.workflow),
        Some(Ended::Cancelled) => answer!("workflow {}: cancelled", options.workflow),
        None => {
            answer!("workflow {}: stopped; run the same command again to resume", options.workflow);
            tell_of_a_fence(&options).await;
            return Ok(Outcome::NotProven);
        }
    }
    Ok(Outcome::Good)
}

/// A runner that is stopped in the middle of a switch leaves it to the next one.
async fn tell_of_a_fence(options: &Options) {
    let looking = async { Control::open(&options.target, &options.workflow).await?.status().await };
    if let Ok(Ok(status)) = tokio::time::timeout(Duration::from_secs(5), looking).await
        && status.state == "switching"
    {
        answer!("  a switch was under way: until then the source's tables may be fenced");
    }
}

/// Waits for the end of standard input; what comes over it is passed over.
async fn stdin_closed() {
    let reading = tokio::task::spawn_blocking(|| {
        let mut buffer = [0; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
    });
    let _ = reading.await;
}

async fn open(named: &Named) -> Result<Control, Failure> {
    let target: Address = named.target.parse()?;
    Ok(Control::open(&target, &named.workflow).await?)
}

async fn status(arguments: StatusArguments) -> Result<Outcome, Failure> {
    let status = open(&arguments.named).await?.status().await?;
    match arguments.format {
        Format::Json => print_json(&status)?,
        Format::Text => print(&status_text(&status))?,
    }
    Ok(Outcome::Good)
}

fn status_text(status: &Status) -> String {
    let mut text = format!("workflow {}: {}", status.workflow, status.state);
    let silence = match (status.running, status.silent_seconds) {
        (true, _) => String::new(),
        _ if status.state == "switched" => String::new(),
        (false, Some(seconds)) => format!(" (no runner wrote its state for {seconds:.0} s)"),
        (false, None) => " (no runner is alive)".into(),
    };
    text.push_str(&format!("{silence}\n"));
    for table in &status.tables {
        let (copied, estimated) = (table.rows_copied, table.rows_estimated.max(table.rows_copied));
        let state = if table.copied { "copied" } else { "copying" };
        text.push_str(&format!(
            "  {} -> {}: {copied} of about {estimated} rows, {state}\n",
            table.table, table.target_table
        ));
    }
    let unknown = || "unknown".to_owned();
    text.push_str(&format!("  source:  {}\n", status.source));
    text.push_str(&format!(
        "  source position:  {}\n",
        status.source_position.clone().unwrap_or_else(unknown)
    ));
    text.push_str(&format!("  applied position: {}\n", status.applied_position));
    text.push_str(&format!("  lag: {}\n", status.lag_seconds.map_or_else(unknown, |s| format!("{s:.0} s"))));
    if let Some(error) = &status.error {
        text.push_str(&format!("  error: {error}\n"));
    }
    if let Some(what_to_do) = &status.what_to_do {
        text.push_str(&format!("  what to do: {what_to_do}\n"));
    }
    text
}

async fn switch(arguments: SwitchArguments) -> Result<Outcome, Failure> {
    let (named, until_stdin_closes) = (&arguments.named, arguments.until_stdin_closes);
    let interrupted = interrupted();
    let given_up = async {
        tokio::select! {
            how = interrupted => how,
            () = stdin_closed(), if until_stdin_closes => "left by its parent",
        }
    };
    let mut control = open(named).await?;
    let switched = control.switch_traffic_unless(arguments.timeout, given_up).await?;
    if arguments.format == Format::Json {
        print_json(&switched)?;
        return Ok(Outcome::Good);
    }
    answer!("workflow {}: traffic switched", named.workflow);
    answer!("  writes on the source are fenced, and the target has everything up to {}", switched.position);
    if let Some(times) = &switched.times {
        match times.attempts {
            // Another session of the runner fenced the tables.
            0 => answer!("  finished after an interruption: how long writers were held up is not known"),
            attempts => answer!(
                "  fenced after {:.0} ms in {attempts} attempt(s), which held writers up for {:.0} ms; proven complete {:.0} ms later",
                times.fencing_ms,
                times.blocked_ms,
                times.drained_ms
            ),
        }
        for warning in &times.warnings {
            answer!("  warning: {warning}");
        }
    }
    for (table, fenced) in control.status().await?.tables.iter().zip(&switched.fenced_tables) {
        answer!("  {} on the source is now {fenced}", table.table);
    }
    answer!(
        "  point the application at the target, then: converge move complete {} --target …",
        named.workflow
    );
    Ok(Outcome::Good)
}

async fn cancel(named: Named) -> Result<Outcome, Failure> {
    let workflow = open(&named).await?.cancel().await?;
    answer!("workflow {}: cancelled; nothing was dropped", named.workflow);
    for table in &workflow.tables {
        answer!("  left on the target: {}.{}", workflow.target_schema, table.target);
    }
    if workflow.state == State::Switching {
        answer!(
            "  a switch was under way, and the source's tables may be fenced; if so, let writers in again, there:"
        );
        answer!("  {}", workflow.way_back());
    }
    Ok(Outcome::Good)
}

async fn complete(named: Named) -> Result<Outcome, Failure> {
    let workflow = open(&named).await?.complete().await?;
    answer!("workflow {}: complete; nothing was dropped", named.workflow);
    for table in &workflow.tables {
        answer!("  left on the source: {}.{}", workflow.source_schema, fenced_name(&table.source));
    }
    Ok(Outcome::Good)
}
