//! What a comparison costs those who write: transactions a second of writing sessions, alone and beside VDiff, in turn.
//!
//! A move goes on all the while, so that the comparison is one that people run: of a target that follows, proven by the
//! workflow's positions. Each comparison must say that the tables are equal, or the bench stops.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_benches::lab::{self, Mover, SCHEMA, median, print_table};
use converge_benches::sysbench::{Tables, Writing};
use converge_chaos::server::{LocalServer, ServerBinary, discover};
use converge_mover::control::Control;
use converge_vdiff::{Engine, Options, ProofSource, Request, TablePair, Verdict, compare};

/// The longest that one step may take.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(about = "Compare tables while they are written to, and see what the writers lose")]
struct Arguments {
    /// Measured rounds, each of a time alone and a time beside a comparison
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sessions that write
    #[arg(long, default_value_t = 8)]
    sessions: u64,
    /// Transactions a second of four row changes each [default: as many as they can]
    #[arg(long)]
    rate: Option<u64>,
    /// Rows of each of the four tables
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Chunks that are compared at once
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// The kind of server, by comma: mysql, mariadb
    #[arg(long, value_delimiter = ',', default_value = "mysql,mariadb")]
    server: Vec<String>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the mover: the source's URL, the target's URL, the tables
    #[arg(long, hide = true, num_args = 3..)]
    mover: Option<Vec<String>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(words) = &arguments.mover {
        return lab::run_mover(words).await;
    }
    let mut lines = Vec::new();
    for kind in &arguments.server {
        let binary = discover()?.into_iter().find(|b| b.kind() == *kind);
        let binary = binary.with_context(|| format!("no {kind} server: name one in CONVERGE_SERVERS"))?;
        lines.push(live(&binary, &arguments).await.with_context(|| binary.to_string())?);
    }
    println!(
        "live: {} sessions, {} workers, seed {}, durable, medians of {} rounds in turn\n",
        arguments.sessions, arguments.workers, arguments.seed, arguments.rounds
    );
    let head = ["", "row changes/s alone", "beside VDiff", "× alone", "worst round", "a comparison, s"];
    print_table(&head, &lines);
    Ok(())
}

async fn live(binary: &ServerBinary, arguments: &Arguments) -> Result<Vec<String>> {
    let start = async |name| LocalServer::start(binary, lab::roomy(binary, lab::options(name, true))).await;
    let (source, target) = tokio::try_join!(start("source"), start("target"))?;
    let tables = Tables { count: 4, rows: arguments.rows, seed: arguments.seed };
    tables.fill(&source).await?;
    // The mover expects the target's database.
    drop(lab::connect(&target).await?);
    let mut mover = Mover::start(&source, &target, &tables.names())?;
    mover.copied(&target, LIMIT).await?;
    let writing = tables.write_until_fenced(&source, arguments.sessions, arguments.rate).await?;
    let request = request(&source, &target, &tables, arguments.workers);
    let (mut alone, mut beside, mut ratios, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..=arguments.rounds {
        let (with, seconds) = rate_over(&writing, compared(&request)).await?;
        // As long as the comparison took, and at least long enough to count.
        let as_long = async {
            tokio::time::sleep(Duration::from_secs_f64(seconds.max(2.0))).await;
            Ok(())
        };
        let (without, _) = rate_over(&writing, as_long).await?;
        mover.check()?;
        eprintln!("round {round}, {}: {with:.0} beside, {without:.0} alone, {seconds:.1} s", binary.info);
        // The first round warms the servers.
        if round > 0 {
            alone.push(without);
            beside.push(with);
            ratios.push(with / without);
            times.push(seconds);
        }
    }
    let mut control = Control::open(&target.address(SCHEMA), "bench").await?;
    control.switch_traffic(LIMIT).await?;
    writing.fenced().await?;
    let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(vec![
        binary.info.to_string(),
        format!("{:.0}", median(alone)),
        format!("{:.0}", median(beside)),
        format!("{:.2}", median(ratios)),
        format!("{worst:.2}"),
        format!("{:.1}", median(times)),
    ])
}

fn request(source: &LocalServer, target: &LocalServer, tables: &Tables, workers: usize) -> Request {
    Request {
        source: vec![source.address(SCHEMA)],
        target: vec![target.address(SCHEMA)],
        tables: tables.names().iter().map(|table| TablePair::same(table)).collect(),
        options: Options {
            engine: Engine::PushDown,
            proof: ProofSource::Workflow("bench".into()),
            parallel: workers,
            ..Options::default()
        },
    }
}

/// Row changes a second while something happens, and how long that took, in seconds.
async fn rate_over(writing: &Writing, what: impl Future<Output = Result<()>>) -> Result<(f64, f64)> {
    const CHANGES: f64 = 4.0;
    let (before, begun) = (writing.committed(), Instant::now());
    what.await?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(((writing.committed() - before) as f64 * CHANGES / seconds, seconds))
}

async fn compared(request: &Request) -> Result<()> {
    let report = compare(request, &|_| {}).await?;
    ensure!(report.verdict == Verdict::Equal, "{}", report.to_text());
    Ok(())
}
