//! Side by side: comparing tables on two servers by VDiff's engines, against what limits them (both sides' rows read
//! by a minimal client and thrown away; one hand-written aggregate of the same digest on each server, both at once) and
//! against `pt-table-sync` and `reladiff`, where those are installed.
//!
//! Contestants run in turn on the same two servers, after one round that warms them. Nothing here is a judge: each run
//! must say what is known to be true of the tables, or the bench stops.

mod contest;
mod peers;
mod world;

use anyhow::Result;
use clap::Parser;
use converge_benches::rows::Shape;

#[derive(Debug, Parser)]
#[command(about = "Compare tables: VDiff's engines, their limits, and other tools, side by side")]
pub(crate) struct Arguments {
    /// Rows of each table
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Number of sysbench tables
    #[arg(long, default_value_t = 1)]
    tables: u64,
    /// Measured rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Four sysbench tables of a million rows, half a million mixed rows, tables of 1M and 5M rows for the growth
    #[arg(long)]
    full: bool,
    /// What to measure, by comma; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The kind of server, by comma: mysql, mariadb
    #[arg(long, value_delimiter = ',', default_value = "mysql,mariadb")]
    server: Vec<String>,
    /// Which tables; both kinds by default
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// Rows of the tables whose memory and time are measured [default: 100000,300000; with --full 1000000,5000000]
    #[arg(long, value_delimiter = ',')]
    growth: Vec<u64>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Compares in this process: the source's URL, the target's URL, the engine, the tables
    #[arg(long, hide = true, num_args = 4..)]
    compare: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// Equal tables.
    Equal,
    /// 1 and 100 differing rows, against none.
    Damaged,
    /// Over a link of 20 ms and 50 Mbit/s.
    Link,
    /// Memory and time by the number of rows.
    Growth,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(words) = &arguments.compare {
        return world::compare_alone(words).await;
    }
    if arguments.full {
        (arguments.rows, arguments.tables) = (1_000_000, 4);
    }
    if arguments.growth.is_empty() {
        let full = arguments.full;
        arguments.growth = if full { vec![1_000_000, 5_000_000] } else { vec![100_000, 300_000] };
    }
    let wants = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    for kind in &arguments.server {
        let binary = world::binary(kind)?;
        println!("\n# {binary}, seed {}, medians of {} rounds in turn", arguments.seed, arguments.rounds);
        for shape in [Shape::Sysbench, Shape::Mixed] {
            if arguments.shape.is_some_and(|s| s != shape) {
                continue;
            }
            let rows = if arguments.full && shape == Shape::Mixed { 500_000 } else { arguments.rows };
            if wants(Part::Equal) || wants(Part::Damaged) {
                let world = world::World::new(&binary, shape, arguments.tables, rows, arguments.seed).await?;
                if wants(Part::Equal) {
                    contest::equal(&world, arguments.rounds).await?;
                }
                if wants(Part::Damaged) {
                    contest::damaged(&world, arguments.rounds).await?;
                }
            }
        }
        if wants(Part::Link) {
            let rows = if arguments.full { 1_000_000 } else { arguments.rows.min(200_000) };
            let world = world::World::new(&binary, Shape::Sysbench, 1, rows, arguments.seed).await?;
            contest::link(&world, arguments.rounds, arguments.seed).await?;
        }
        if wants(Part::Growth) {
            contest::growth(&binary, &arguments).await?;
        }
    }
    Ok(())
}
