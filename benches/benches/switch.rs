//! The switch under load: from writes being fenced on the source to the target being proven complete.
//!
//! Each repetition is a whole move between two fresh durable servers, with writing sessions that stop only at the
//! fence. MySQL and MariaDB take turns. After each switch the tables are compared by checksum.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_benches::lab::{self, Mover, SCHEMA, Usage, median, print_table};
use converge_benches::sysbench::Tables;
use converge_chaos::server::{LocalServer, ServerBinary, discover};
use converge_mover::control::{Control, Switched};

/// The longest that one step may take.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, Parser)]
#[command(about = "Switch traffic under writing sessions, over and over")]
struct Arguments {
    /// Repetitions on each kind of server
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Sessions that write until they meet the fence
    #[arg(long, default_value_t = 8)]
    sessions: u64,
    /// Rows of each of the four tables
    #[arg(long, default_value_t = 10_000)]
    rows: u64,
    /// Seconds of load before the switch
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the mover: the source's URL, the target's URL, the tables
    #[arg(long, hide = true, num_args = 3..)]
    mover: Option<Vec<String>>,
}

/// One switch.
struct Run {
    switched: Switched,
    /// The whole command, from asking to the answer.
    total_ms: f64,
    /// Transactions a second that were committed up to the fence.
    rate: f64,
    mover: Usage,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(words) = &arguments.mover {
        return lab::run_mover(words).await;
    }
    let binaries = discover()?;
    let mut runs: Vec<Vec<Run>> = binaries.iter().map(|_| Vec::new()).collect();
    for round in 0..arguments.rounds {
        for (binary, runs) in binaries.iter().zip(&mut runs) {
            let run = switch(binary, &arguments).await.with_context(|| binary.to_string())?;
            eprintln!("round {round}, {}: {:?}", binary.info, run.switched.times);
            runs.push(run);
        }
    }
    println!(
        "switch: {} sessions, seed {}, durable, medians (and the worst) of {} runs in turn\n",
        arguments.sessions, arguments.seed, arguments.rounds
    );
    let head = [
        "",
        "fenced to proven, ms",
        "to the fence, ms",
        "writers held up, ms",
        "whole command, ms",
        "transactions/s",
        "own CPU s",
        "own peak MiB",
    ];
    let rows: Vec<Vec<String>> = binaries.iter().zip(&runs).map(|(b, runs)| line(b, runs)).collect();
    print_table(&head, &rows);
    Ok(())
}

fn line(binary: &ServerBinary, runs: &[Run]) -> Vec<String> {
    let both = |value: fn(&Run) -> f64| {
        let values: Vec<f64> = runs.iter().map(value).collect();
        let worst = values.iter().copied().fold(f64::NAN, f64::max);
        format!("{:.0} ({worst:.0})", median(values))
    };
    vec![
        binary.info.to_string(),
        both(|r| r.switched.times.clone().unwrap_or_default().drained_ms),
        both(|r| r.switched.times.clone().unwrap_or_default().fencing_ms),
        both(|r| r.switched.times.clone().unwrap_or_default().blocked_ms),
        both(|r| r.total_ms),
        both(|r| r.rate),
        format!("{:.1}", median(runs.iter().map(|r| r.mover.cpu).collect())),
        format!("{:.0}", median(runs.iter().map(|r| r.mover.peak).collect())),
    ]
}

async fn switch(binary: &ServerBinary, arguments: &Arguments) -> Result<Run> {
    let start = |name: &'static str| LocalServer::start(binary, lab::options(name, true));
    let (source, target) = tokio::try_join!(start("source"), start("target"))?;
    let tables = Tables { count: 4, rows: arguments.rows, seed: arguments.seed };
    tables.fill(&source).await?;
    let mut conn = lab::connect(&target).await?;
    let mut mover = Mover::start(&source, &target, &tables.names())?;
    let address = target.address(SCHEMA);
    mover.copied(&target, LIMIT).await?;
    let begun = Instant::now();
    let writing = tables.write_until_fenced(&source, arguments.sessions, None).await?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let mut control = Control::open(&address, "bench").await?;
    let asked = Instant::now();
    let switched = control.switch_traffic(LIMIT).await?;
    let total_ms = asked.elapsed().as_secs_f64() * 1e3;
    let rate = writing.fenced().await? as f64 / begun.elapsed().as_secs_f64();
    let usage = Usage::of(mover.id())?;
    let there = tables.checksums(&mut conn).await?;
    let fenced = fenced_checksums(&source, &switched).await?;
    ensure!(there == fenced, "the target differs: {there:?}, the fenced tables: {fenced:?}");
    Ok(Run { switched, total_ms, rate, mover: usage })
}

async fn fenced_checksums(source: &LocalServer, switched: &Switched) -> Result<Vec<(u64, u64)>> {
    use mysql_async::prelude::Queryable;
    let mut conn = lab::connect(source).await?;
    let mut sums = Vec::new();
    for name in &switched.fenced_tables {
        let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {name}")).await?;
        let sum: Option<(String, u64)> = conn.query_first(format!("CHECKSUM TABLE {name} EXTENDED")).await?;
        sums.push((rows.context("no count")?, sum.context("no checksum")?.1));
    }
    Ok(sums)
}
