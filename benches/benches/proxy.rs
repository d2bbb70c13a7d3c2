//! What the idle proxy costs: the rows of one table read through it and directly, in turn.
//!
//! No toxic is on. The server's work is a part of both times, as it is in a rehearsal.

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use converge_benches::lab::{self, SCHEMA, median, print_table};
use converge_benches::minimal::MinimalClient;
use converge_benches::sysbench::Tables;
use converge_chaos::proxy::ProxyServer;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::server::{LocalServer, ServerBinary, discover};

#[derive(Debug, Parser)]
#[command(about = "Read a table through the idle proxy and directly")]
struct Arguments {
    /// Readings of each kind on each kind of server
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Rows of the table
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut lines = Vec::new();
    for binary in discover()? {
        lines.push(read_both_ways(&binary, &arguments).await?);
    }
    println!("proxy: {} rows, medians of {} readings in turn\n", arguments.rows, arguments.rounds);
    print_table(&["", "directly, MB/s", "through the proxy, MB/s", "× direct"], &lines);
    Ok(())
}

async fn read_both_ways(binary: &ServerBinary, arguments: &Arguments) -> Result<Vec<String>> {
    let server = LocalServer::start(binary, lab::roomy(binary, lab::options("proxied", false))).await?;
    let tables = Tables { count: 1, rows: arguments.rows, seed: arguments.seed };
    tables.fill(&server).await?;
    let proxy = ProxyServer::start("127.0.0.1:0", arguments.seed).await?;
    let proxies = Toxiproxy::connect(&proxy.url()).await?;
    let upstream = format!("127.0.0.1:{}", server.port());
    let listen = proxies.create("server", "127.0.0.1:0", &upstream).await?;
    let proxied: u16 = listen.rsplit(':').next().unwrap_or_default().parse()?;
    let sql = format!("SELECT * FROM {}", tables.names()[0]);
    let mut clients = [
        MinimalClient::connect_to(server.port(), SCHEMA).await?,
        MinimalClient::connect_to(proxied, SCHEMA).await?,
    ];
    let mut speeds = [Vec::new(), Vec::new()];
    // The first reading of each fills the server's memory.
    for round in 0..=arguments.rounds {
        for (client, speeds) in clients.iter_mut().zip(&mut speeds) {
            let begun = Instant::now();
            let (rows, bytes) = client.read(&sql).await?;
            ensure!(rows == arguments.rows, "{rows} rows came");
            if round > 0 {
                speeds.push(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64());
            }
        }
    }
    proxy.stop().await;
    let [direct, through] = speeds.map(median);
    Ok(vec![
        binary.info.to_string(),
        format!("{direct:.0}"),
        format!("{through:.0}"),
        format!("{:.2}", through / direct),
    ])
}
