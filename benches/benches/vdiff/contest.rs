//! The contests.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use converge_benches::lab::{self, SCHEMA, median, print_table};
use converge_benches::minimal::MinimalClient;
use converge_benches::rows::Shape;
use converge_chaos::proxy::client::Toxiproxy;
use converge_chaos::proxy::{Effect, ProxyServer, Stream, Toxic};
use converge_chaos::server::{LocalServer, ServerBinary};
use converge_vdiff::{Engine, Verdict};
use mysql_async::prelude::Queryable;

use crate::Arguments;
use crate::peers::Peer;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contestant {
    Wire,
    Aggregate,
    Engine(Engine),
    Peer(Peer),
}

impl Contestant {
    fn name(self) -> String {
        match self {
            Self::Wire => "wire limit (rows read and dropped)".into(),
            Self::Aggregate => "hand-written aggregate".into(),
            Self::Engine(engine) => format!("vdiff --engine {}", engine.as_str()),
            Self::Peer(peer) => peer.name().into(),
        }
    }

    /// Seconds, and what there is to say.
    async fn run(self, world: &World) -> Result<(f64, String)> {
        let begun = Instant::now();
        match self {
            Self::Wire => both(world, read_all).await?,
            Self::Aggregate => both(world, aggregate).await?,
            Self::Engine(engine) => {
                let (seconds, report) = world.compare(engine).await?;
                ensure!(report.verdict == Verdict::Equal, "{}", report.to_text());
                return Ok((seconds, report.tables[0].engine.clone()));
            }
            Self::Peer(peer) => {
                let (seconds, lines) = peer.run(world)?;
                ensure!(lines == 0, "{} found {lines} differences in equal tables", peer.name());
                return Ok((seconds, String::new()));
            }
        }
        Ok((begun.elapsed().as_secs_f64(), String::new()))
    }
}

/// Does the same on both servers at once.
async fn both<'a, F: Future<Output = Result<()>> + Send + 'static>(
    world: &'a World,
    what: impl Fn(&'a World, &'a LocalServer) -> F,
) -> Result<()> {
    // Tasks of their own, so that each side has a processor.
    let [source, target] = world.servers().map(|server| tokio::spawn(what(world, server)));
    source.await??;
    target.await?
}

fn read_all(world: &World, server: &LocalServer) -> impl Future<Output = Result<()>> + Send + 'static {
    let (tables, rows) = (world.tables.clone(), world.rows);
    let connected = MinimalClient::connect_to(server.port(), SCHEMA);
    async move {
        let mut client = connected.await?;
        for table in tables {
            let (found, _) = client.read(&format!("SELECT * FROM {table}")).await?;
            ensure!(found == rows, "{found} rows of {table}");
        }
        Ok(())
    }
}

/// One pass by hand: the digest that the push-down engine makes, without anything around it.
fn aggregate(world: &World, server: &LocalServer) -> impl Future<Output = Result<()>> + Send + 'static {
    let (tables, rows, image) = (world.tables.clone(), world.rows, image(world.shape));
    let address = server.address(SCHEMA);
    async move {
        let mut conn = converge_mysql::Connector::new(address).connect().await?;
        for table in tables {
            let part = |from| format!("SUM(CAST(CONV(SUBSTR(h, {from}, 16), 16, 10) AS UNSIGNED))");
            let sql = format!(
                "SELECT COUNT(*), {}, {} FROM (SELECT SHA2({image}, 256) AS h FROM {table} LIMIT 9999999999) AS d",
                part(1),
                part(17)
            );
            let row: Option<mysql_async::Row> = conn.query_first(sql).await?;
            let found: u64 = row.and_then(|mut row| row.take(0)).context("no sums")?;
            ensure!(found == rows, "{found} rows of {table}");
        }
        Ok(())
    }
}

/// What somebody would write who knows which columns can be NULL.
fn image(shape: Shape) -> String {
    let sized = |c: &str| format!("LENGTH({c}), ':', CAST({c} AS BINARY), ','");
    let maybe = |c: &str, image: String| format!("IF({c} IS NULL, 'N,', CONCAT({image}))");
    let parts: Vec<String> = match shape {
        Shape::Sysbench => vec!["id, ',', k, ','".into(), sized("c"), sized("pad")],
        Shape::Mixed => {
            let real = |c: &str| format!("HEX(SUBSTR(POINT({c}, 0), 10, 8)), ','");
            let hashed = |c: &str| format!("LENGTH({c}), ':', SHA2({c}, 256), ','");
            vec![
                "id, ',', customer, ',', small, ',', state + 0, ',', flags + 0, ',', total, ','".into(),
                real("rate"),
                maybe("weight", real("weight")),
                "placed, ','".into(),
                maybe("changed", "changed, ','".into()),
                maybe("due", "due, ','".into()),
                maybe("spent", "spent, ','".into()),
                maybe("code", sized("code")),
                sized("email"),
                sized("name"),
                maybe("note", hashed("note")),
                maybe("token", sized("token")),
                maybe("doc", hashed("CAST(doc AS CHAR)")),
            ]
        }
    };
    format!("CONCAT({})", parts.join(", "))
}

/// Equal tables.
pub async fn equal(world: &World, rounds: usize) -> Result<()> {
    let engines = [Engine::PushDown, Engine::Stream, Engine::Auto].map(Contestant::Engine);
    let peers = Peer::found(world).await?.into_iter().map(Contestant::Peer);
    let all: Vec<Contestant> =
        [Contestant::Wire, Contestant::Aggregate].into_iter().chain(engines).chain(peers).collect();
    let (mut times, mut said) = (vec![Vec::new(); all.len()], vec![String::new(); all.len()]);
    for round in 0..=rounds {
        for (i, contestant) in all.iter().enumerate() {
            let (seconds, words) = contestant.run(world).await?;
            said[i] = words;
            // The first round warms the servers.
            if round > 0 {
                times[i].push(seconds);
            }
        }
    }
    let (count, rows) = (world.tables.len(), world.rows);
    println!("\n## Equal: {:?}, {count} tables of {rows} rows a side\n", world.shape);
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let lines: Vec<Vec<String>> = (all.iter().zip(&medians).zip(said))
        .map(|((contestant, seconds), said)| {
            vec![
                contestant.name(),
                format!("{seconds:.2}"),
                format!("{:.0}", world.all_rows() as f64 / seconds / 1e3),
                format!("{:.2}", medians[0] / seconds),
                format!("{:.2}", medians[1] / seconds),
                format!("{:.2}", seconds / medians[2].min(medians[3])),
                said,
            ]
        })
        .collect();
    print_table(
        &["", "s", "krows/s a side", "speed × wire", "speed × aggregate", "time × better engine", "engine"],
        &lines,
    );
    Ok(())
}

/// Longer than both servers must have stood still before a difference counts.
const REST: Duration = Duration::from_secs(4);

/// One table with 0, then 1, then 100 differing rows. The tables stay damaged.
pub async fn damaged(world: &World, rounds: usize) -> Result<()> {
    let engines = [Engine::PushDown, Engine::Stream, Engine::Auto];
    let mut conn = lab::connect(&world.target).await?;
    let table = &world.tables[0];
    let column = if world.shape == Shape::Sysbench { "k = -k - 1" } else { "customer = -customer - 1" };
    let mut lines: Vec<Vec<String>> =
        engines.iter().map(|e| vec![format!("vdiff --engine {}", e.as_str())]).collect();
    let mut equal = [0.0; 3];
    let mut damaged = 0;
    for rows in [0, 1, 100] {
        // Spread over the table.
        let step = world.rows / 100;
        for i in damaged..rows {
            conn.query_drop(format!("UPDATE {table} SET {column} WHERE id = {}", i * step + 7)).await?;
        }
        damaged = rows;
        // A difference counts once both servers stood still for a while; most that are looked for are older than that.
        tokio::time::sleep(REST).await;
        for (i, engine) in engines.into_iter().enumerate() {
            let mut times = Vec::new();
            for _ in 0..rounds {
                let (seconds, report) = world.compare(engine).await?;
                let found: u64 = report.tables.iter().map(|t| t.mismatched_rows).sum();
                ensure!(found == rows, "{found} of {rows} differing rows were found: {}", report.to_text());
                ensure!(report.tables[0].rows.len() as u64 == rows, "not all rows were named");
                times.push(seconds);
            }
            let seconds = median(times);
            if rows == 0 {
                equal[i] = seconds;
            }
            lines[i].push(format!("{seconds:.2}"));
            if rows > 0 {
                lines[i].push(format!("{:.2}", seconds / equal[i]));
            }
        }
    }
    println!(
        "\n## Damaged: {:?}, {} tables of {} rows a side\n",
        world.shape,
        world.tables.len(),
        world.rows
    );
    print_table(&["", "equal, s", "1 row, s", "× equal", "100 rows, s", "× equal"], &lines);
    Ok(())
}

/// Behind a proxy with 20 ms of latency and 50 Mbit/s for each connection.
pub async fn link(world: &World, rounds: usize, seed: u64) -> Result<()> {
    let proxy = ProxyServer::start("127.0.0.1:0", seed).await?;
    let toxics = Toxiproxy::connect(&proxy.url()).await?;
    let mut addresses = Vec::new();
    for (server, name) in world.servers().into_iter().zip(["source", "target"]) {
        let upstream = format!("127.0.0.1:{}", server.port());
        let listen = toxics.create(name, "127.0.0.1:0", &upstream).await?;
        for effect in [Effect::Latency { latency: 20, jitter: 0 }, Effect::Bandwidth { rate: 6_250 }] {
            toxics.add_toxic(name, &Toxic::new(Stream::Downstream, effect)).await?;
        }
        let (host, port) = listen.rsplit_once(':').context("an address")?;
        addresses.push(server.address(SCHEMA).with_endpoint(host, port.parse()?));
    }
    let addresses = [addresses[0].clone(), addresses[1].clone()];
    let mut lines = Vec::new();
    let mut streamed = 0.0;
    for engine in [Engine::Stream, Engine::PushDown, Engine::Auto] {
        let (mut times, mut chosen) = (Vec::new(), String::new());
        for _ in 0..rounds {
            let (seconds, report) = world.compare_at(addresses.clone(), engine).await?;
            ensure!(report.verdict == Verdict::Equal, "{}", report.to_text());
            times.push(seconds);
            chosen = report.tables[0].engine.clone();
        }
        let seconds = median(times);
        if engine == Engine::Stream {
            streamed = seconds;
        }
        let name = format!("vdiff --engine {}", engine.as_str());
        lines.push(vec![name, format!("{seconds:.2}"), format!("{:.1}", streamed / seconds), chosen]);
    }
    println!("\n## Link of 20 ms and 50 Mbit/s: sysbench, {} rows a side\n", world.rows);
    print_table(&["", "s", "× as fast as stream", "engine"], &lines);
    proxy.stop().await;
    Ok(())
}

/// Memory and time of a process apart, by the number of rows.
pub async fn growth(binary: &ServerBinary, arguments: &Arguments) -> Result<()> {
    let mut lines = Vec::new();
    for rows in &arguments.growth {
        let world = World::new(binary, Shape::Sysbench, 1, *rows, arguments.seed).await?;
        for engine in [Engine::PushDown, Engine::Stream] {
            let (mut times, mut peaks) = (Vec::new(), Vec::new());
            for _ in 0..arguments.rounds {
                let (seconds, usage) = world.compare_apart(engine)?;
                times.push(seconds);
                peaks.push(usage.peak);
            }
            let seconds = median(times);
            lines.push(vec![
                rows.to_string(),
                engine.as_str().to_owned(),
                format!("{seconds:.2}"),
                format!("{:.2}", seconds * 1e6 / *rows as f64),
                format!("{:.0}", peaks.into_iter().fold(0.0, f64::max)),
            ]);
        }
    }
    println!("\n## Growth: sysbench, one table\n");
    print_table(&["rows", "engine", "s", "s per million", "peak MiB of the client"], &lines);
    Ok(())
}
