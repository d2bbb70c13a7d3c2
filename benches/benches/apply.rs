//! Side by side: one recorded backlog, applied by native replication and by the mover, each to a durable server of its
//! own that begins with the rows from before the backlog.
//!
//! Native replication has fetched the whole backlog before its clock starts; the mover reads it from the source while
//! its clock runs, and its clock includes starting and connecting. After each run the tables are compared by checksum.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use converge_benches::lab::{self, Base, Mover, Usage, median, print_table};
use converge_benches::sysbench::{Mix, Tables};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Flavor, MySqlGtidSet, Position, ServerInfo};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Row changes of a transaction.
const CHANGES: u64 = 4;
/// The longest that one contestant may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// How often it is asked whether it is done.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Parser)]
#[command(about = "Apply a backlog: native replication and the mover, side by side")]
struct Arguments {
    /// Transactions of the backlog, four row changes each
    #[arg(long, default_value_t = 90_000)]
    transactions: u64,
    /// Rows of each of the tables
    #[arg(long, default_value_t = 250_000)]
    rows: u64,
    /// Number of tables
    #[arg(long, default_value_t = 4)]
    tables: u64,
    /// Runs of each contestant, in turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Workers of native replication; 0 leaves it out
    #[arg(long, default_value_t = 4)]
    workers: u32,
    /// Which rows are written to; both, one after the other, by default
    #[arg(long, value_enum)]
    mix: Option<Mix>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the mover: the source's URL, the target's URL, the tables
    #[arg(long, hide = true, num_args = 3..)]
    mover: Option<Vec<String>>,
}

/// One run of one contestant.
struct Run {
    seconds: f64,
    /// Of the server that it writes to.
    server_cpu: f64,
    /// Of its own process, if it has one.
    process: Option<Usage>,
}

/// The recorded backlog.
struct Backlog {
    tables: Tables,
    source: LocalServer,
    base: Base,
    /// The position after the last of it.
    end: Position,
    checksums: Vec<(u64, u64)>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(move_) = &arguments.mover {
        return lab::run_mover(move_).await;
    }
    let binary = lab::binary(Flavor::MySql)?;
    println!(
        "apply: {binary}, seed {}, durable targets, medians of {} runs in turn",
        arguments.seed, arguments.rounds
    );
    for mix in [Mix::Uniform, Mix::Hot] {
        if arguments.mix.is_none_or(|m| m == mix) {
            compare(&binary, &arguments, mix).await?;
        }
    }
    Ok(())
}

async fn compare(binary: &ServerBinary, arguments: &Arguments, mix: Mix) -> Result<()> {
    let backlog = record(binary, arguments, mix).await?;
    let mut native = Vec::new();
    let mut converge = Vec::new();
    for _ in 0..arguments.rounds {
        if arguments.workers > 0 {
            native.push(native_run(binary, &backlog, arguments.workers).await?);
        }
        converge.push(converge_run(binary, &backlog).await?);
    }
    let events = arguments.transactions * CHANGES;
    println!(
        "\n{mix:?} rows, {} transactions, {events} row changes, {} tables of {} rows:\n",
        arguments.transactions, arguments.tables, arguments.rows
    );
    let mut rows = Vec::new();
    for (name, runs) in [
        (format!("native replication, {} workers", arguments.workers), &native),
        ("converge".into(), &converge),
    ] {
        if !runs.is_empty() {
            rows.push(line(&name, runs, events, &native));
        }
    }
    print_table(
        &["", "row changes/s", "× native", "seconds", "target's CPU s", "own CPU s", "own peak MiB"],
        &rows,
    );
    Ok(())
}

fn line(name: &str, runs: &[Run], events: u64, native: &[Run]) -> Vec<String> {
    let middle = |runs: &[Run], value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let seconds = middle(runs, |r| r.seconds);
    let ratio = middle(native, |r| r.seconds) / seconds;
    let own = |value: fn(&Usage) -> f64| {
        let values: Vec<f64> = runs.iter().filter_map(|r| r.process.as_ref().map(value)).collect();
        if values.is_empty() { "in the server".to_owned() } else { format!("{:.1}", median(values)) }
    };
    vec![
        name.to_owned(),
        format!("{:.0}", events as f64 / seconds),
        if native.is_empty() { "?".into() } else { format!("{ratio:.2}") },
        format!("{seconds:.1}"),
        format!("{:.1}", middle(runs, |r| r.server_cpu)),
        own(|u| u.cpu),
        own(|u| u.peak),
    ]
}

/// Fills a source, moves its tables, ends the mover, and writes the backlog.
async fn record(binary: &ServerBinary, arguments: &Arguments, mix: Mix) -> Result<Backlog> {
    let tables = Tables { count: arguments.tables, rows: arguments.rows, seed: arguments.seed };
    let start = async |name| LocalServer::start(binary, lab::roomy(binary, lab::options(name, false))).await;
    let (source, copy) = (start("source").await?, start("copy").await?);
    tables.fill(&source).await?;
    let (mut from, mut to) = (lab::connect(&source).await?, lab::connect(&copy).await?);
    let mut mover = Mover::start(&source, &copy, &tables.names())?;
    wait("the copy", async || {
        mover.check()?;
        let query = "SELECT state FROM _converge.workflow";
        let state: Option<String> = to.query_first(query).await.unwrap_or_default();
        Ok(state.as_deref() == Some("replicating"))
    })
    .await?;
    let begin = position(&mut from).await?;
    wait("the end of the copy", async || applied(&mut to, &begin).await).await?;
    drop(mover);
    // A replica that begins here has what the source has logged so far.
    let Position::Gtid(executed) = &begin else { bail!("the source has no GTIDs") };
    to.query_drop("RESET BINARY LOGS AND GTIDS").await?;
    to.query_drop(format!("SET GLOBAL gtid_purged = '{executed}'")).await?;
    drop(to);
    let base = Base::take(&copy).await?;
    tables.write(&source, arguments.transactions, mix).await?;
    let end = position(&mut from).await?;
    let checksums = tables.checksums(&mut from).await?;
    Ok(Backlog { tables, source, base, end, checksums })
}

/// Whether the mover has applied everything up to `end`.
async fn applied(target: &mut Conn, end: &Position) -> Result<bool> {
    let at: Option<String> = target.query_first("SELECT position FROM _converge.applied").await?;
    Ok(at.context("no position")?.parse::<Position>()?.covers(end) == Some(true))
}

async fn position(conn: &mut Conn) -> Result<Position> {
    let info = ServerInfo::read(conn).await?;
    Ok(Position::current(conn, &info).await?)
}

/// A durable server with the rows from before the backlog.
async fn target(binary: &ServerBinary, backlog: &Backlog, name: &str) -> Result<(LocalServer, Conn)> {
    let options = lab::roomy(binary, lab::options(name, true));
    let server = backlog.base.start(binary, options).await?;
    let conn = lab::connect(&server).await?;
    Ok((server, conn))
}

fn server_usage(server: &LocalServer) -> Result<Usage> {
    Usage::of(server.pid().context("the server ended")?)
}

/// Waits until `done` says so.
async fn wait(what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !done().await? {
        ensure!(begun.elapsed() < LIMIT, "{what}: not done after {} s", LIMIT.as_secs());
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

async fn check(conn: &mut Conn, backlog: &Backlog, who: &str) -> Result<()> {
    ensure!(
        backlog.tables.checksums(conn).await? == backlog.checksums,
        "{who} left other rows than the source has"
    );
    Ok(())
}

async fn native_run(binary: &ServerBinary, backlog: &Backlog, workers: u32) -> Result<Run> {
    let (server, mut conn) = target(binary, backlog, "replica").await?;
    let port = backlog.source.port();
    conn.query_drop(format!("SET GLOBAL replica_parallel_workers = {workers}")).await?;
    conn.query_drop(format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'root', \
         SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
    ))
    .await?;
    conn.query_drop("START REPLICA IO_THREAD").await?;
    let Position::Gtid(end) = &backlog.end else { bail!("the source has no GTIDs") };
    wait("fetching the backlog", async || {
        let row: Option<mysql_async::Row> = conn.query_first("SHOW REPLICA STATUS").await?;
        let text: String = row.and_then(|r| r.get("Retrieved_Gtid_Set")).unwrap_or_default();
        let executed: Option<String> = conn.query_first("SELECT @@gtid_executed").await?;
        let mut all: MySqlGtidSet = executed.unwrap_or_default().parse()?;
        for (uuid, tag, intervals) in text.parse::<MySqlGtidSet>()?.iter() {
            intervals.iter().for_each(|(from, to)| (*from..=*to).for_each(|n| all.add(uuid, tag, n)));
        }
        Ok(all.covers(end))
    })
    .await?;
    let (before, begun) = (server_usage(&server)?, Instant::now());
    conn.query_drop("START REPLICA SQL_THREAD").await?;
    wait("native replication", async || Ok(position(&mut conn).await?.covers(&backlog.end) == Some(true)))
        .await?;
    let seconds = begun.elapsed().as_secs_f64();
    let server_cpu = server_usage(&server)?.cpu - before.cpu;
    check(&mut conn, backlog, "native replication").await?;
    Ok(Run { seconds, server_cpu, process: None })
}

async fn converge_run(binary: &ServerBinary, backlog: &Backlog) -> Result<Run> {
    let (server, mut conn) = target(binary, backlog, "target").await?;
    let (before, begun) = (server_usage(&server)?, Instant::now());
    let mut mover = Mover::start(&backlog.source, &server, &backlog.tables.names())?;
    wait("the mover", async || {
        mover.check()?;
        applied(&mut conn, &backlog.end).await
    })
    .await?;
    let seconds = begun.elapsed().as_secs_f64();
    let process = Some(Usage::of(mover.id())?);
    let server_cpu = server_usage(&server)?.cpu - before.cpu;
    drop(mover);
    check(&mut conn, backlog, "converge").await?;
    Ok(Run { seconds, server_cpu, process })
}
