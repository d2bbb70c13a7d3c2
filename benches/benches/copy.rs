//! Side by side: the copy of some tables into an empty durable server, by one `LOAD DATA LOCAL INFILE` of ready files
//! (the limit: nothing has to be read from a server), by `mysqldump | mysql`, and by the mover with and without
//! `--defer-secondary-keys`.
//!
//! Each run has a new server of its own, with the binary log on. The mover's clock includes starting, connecting and
//! creating the tables, and ends when the workflow replicates. After each run the tables are compared by checksum.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use converge_benches::lab::{self, SCHEMA, Usage, median, print_table};
use converge_benches::rows::{self, Shape, TableFile};
use converge_chaos::server::{LocalServer, ServerBinary, discover};
use converge_mover::workflow::{self, Options};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// The longest that one contestant may take.
const LIMIT: Duration = Duration::from_secs(3600);
/// How often it is asked whether it is done, and what a process that will end by itself has used.
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, Parser)]
#[command(about = "Copy tables: LOAD DATA, mysqldump | mysql, and the mover, side by side")]
struct Arguments {
    /// Rows of each table
    #[arg(long, default_value_t = 100_000)]
    rows: u64,
    /// Number of sysbench tables
    #[arg(long, default_value_t = 2)]
    tables: u64,
    /// Rows of the mixed table [default: as many as of the others]
    #[arg(long)]
    mixed_rows: Option<u64>,
    /// Runs of each contestant, in turn [default: 3; with --full 2]
    #[arg(long)]
    rounds: Option<usize>,
    /// Four tables of a million rows, and a mixed one of 250,000: some ten minutes on a machine of two cores
    #[arg(long)]
    full: bool,
    /// Which tables; both kinds, one after the other, by default
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// Only these, as when one is profiled; all by default
    #[arg(long, value_enum)]
    only: Vec<Contestant>,
    /// The kind of server: mysql or mariadb
    #[arg(long, default_value = "mysql")]
    server: String,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the mover: the source's URL, the target's URL, whether to defer keys, the tables
    #[arg(long, hide = true, num_args = 4..)]
    mover: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Contestant {
    /// One LOAD DATA after the other
    Load,
    /// mysqldump | mysql
    Dump,
    /// The mover
    Mover,
    /// The mover, with secondary keys built afterwards
    Deferring,
}

impl Contestant {
    const ALL: [Self; 4] = [Self::Load, Self::Dump, Self::Mover, Self::Deferring];

    fn name(self) -> &'static str {
        match self {
            Self::Load => "LOAD DATA LOCAL of ready files",
            Self::Dump => "mysqldump \\| mysql",
            Self::Mover => "converge",
            Self::Deferring => "converge --defer-secondary-keys",
        }
    }
}

/// One run of one contestant.
struct Run {
    seconds: f64,
    target_cpu: f64,
    /// Of its own processes, the largest memory of one of them.
    own: Option<Usage>,
}

/// What is copied, and from where.
struct Scene {
    binary: ServerBinary,
    source: LocalServer,
    files: Vec<TableFile>,
    checksums: Vec<(u64, u64, usize)>,
    clients: Option<Clients>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(words) = &arguments.mover {
        return run_mover(&words[0], &words[1], words[2] == "true", &words[3..]).await;
    }
    if arguments.full {
        (arguments.rows, arguments.tables) = (1_000_000, 4);
        arguments.mixed_rows.get_or_insert(250_000);
        arguments.rounds.get_or_insert(2);
    }
    let begun = Instant::now();
    let found = discover()?.into_iter().find(|b| b.kind() == arguments.server);
    let binary =
        found.with_context(|| format!("no {} server: name one in CONVERGE_SERVERS", arguments.server))?;
    println!(
        "copy: {binary}, seed {}, durable, medians of {} runs in turn",
        arguments.seed,
        arguments.rounds()
    );
    for shape in [Shape::Sysbench, Shape::Mixed] {
        if arguments.shape.is_none_or(|s| s == shape) {
            compare(&binary, &arguments, shape).await?;
        }
    }
    println!("\nall of it took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

impl Arguments {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(3).max(1)
    }

    fn rows(&self, shape: Shape) -> u64 {
        self.mixed_rows.filter(|_| shape == Shape::Mixed).unwrap_or(self.rows)
    }
}

async fn compare(binary: &ServerBinary, arguments: &Arguments, shape: Shape) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
    let rows = arguments.rows(shape);
    let files = rows::write(directory.path(), shape, arguments.tables, rows, arguments.seed)?;
    let scene = Scene::set(binary, files).await?;
    let mut runs: Vec<(Contestant, Vec<Run>)> = Contestant::ALL.map(|c| (c, Vec::new())).into();
    if scene.clients.is_none() {
        println!("mysqldump and mysql are neither beside the server nor on PATH: that contestant is MISSING");
        runs.retain(|(contestant, _)| *contestant != Contestant::Dump);
    }
    if !arguments.only.is_empty() {
        runs.retain(|(contestant, _)| arguments.only.contains(contestant));
    }
    for _ in 0..arguments.rounds() {
        for (contestant, list) in &mut runs {
            list.push(scene.run(*contestant).await?);
        }
    }
    let total = rows * scene.files.len() as u64;
    println!("\n{shape:?}: {} tables of {rows} rows, every copy equal by checksum:\n", scene.files.len());
    let seconds = |contestant: Contestant| {
        let list = runs.iter().find(|(c, _)| *c == contestant).map_or(&[][..], |(_, list)| list);
        median(list.iter().map(|r| r.seconds).collect())
    };
    let against = [seconds(Contestant::Load), seconds(Contestant::Dump)];
    let lines: Vec<_> = runs.iter().map(|(c, list)| line(c.name(), list, total, against)).collect();
    print_table(
        &[
            "",
            "s",
            "krows/s",
            "× LOAD DATA",
            "× mysqldump",
            "target's CPU s",
            "own CPU s",
            "own CPU s per 1M rows",
            "own peak MiB",
        ],
        &lines,
    );
    Ok(())
}

/// `against`: seconds of LOAD DATA and of mysqldump.
fn line(name: &str, runs: &[Run], rows: u64, against: [f64; 2]) -> Vec<String> {
    let middle = |value: &dyn Fn(&Run) -> f64| median(runs.iter().map(value).collect());
    let seconds = middle(&|r| r.seconds);
    let own = |value: &dyn Fn(&Usage) -> f64| match runs.iter().filter_map(|r| r.own.as_ref().map(value)) {
        values if runs.iter().any(|r| r.own.is_some()) => format!("{:.1}", median(values.collect())),
        _ => "in this one".to_owned(),
    };
    vec![
        name.to_owned(),
        format!("{seconds:.2}"),
        format!("{:.0}", rows as f64 / seconds / 1e3),
        ratio(against[0] / seconds),
        ratio(against[1] / seconds),
        format!("{:.1}", middle(&|r| r.target_cpu)),
        own(&|u| u.cpu),
        own(&|u| u.cpu * 1e6 / rows as f64),
        own(&|u| u.peak),
    ]
}

/// A figure, or that there is none.
fn ratio(value: f64) -> String {
    if value.is_nan() { "MISSING".to_owned() } else { format!("{value:.2}") }
}

impl Scene {
    /// A source with these rows.
    async fn set(binary: &ServerBinary, files: Vec<TableFile>) -> Result<Self> {
        let source = server(binary, "source").await?;
        let mut conn = lab::connect(&source).await?;
        rows::load(&mut conn, &files).await?;
        let checksums = checksums(&source, &files).await?;
        Ok(Self { binary: binary.clone(), source, files, checksums, clients: Clients::find(&binary.path) })
    }

    async fn run(&self, contestant: Contestant) -> Result<Run> {
        let target = server(&self.binary, "target").await?;
        let mut conn = lab::connect(&target).await?;
        let usage = || Usage::of(target.pid().context("the target ended")?);
        let (before, begun) = (usage()?, Instant::now());
        let own = match contestant {
            Contestant::Load => {
                rows::load(&mut conn, &self.files).await?;
                None
            }
            Contestant::Dump => Some(self.dump(&target)?),
            Contestant::Mover => Some(self.move_tables(&target, &mut conn, false).await?),
            Contestant::Deferring => Some(self.move_tables(&target, &mut conn, true).await?),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let target_cpu = usage()?.cpu - before.cpu;
        let name = contestant.name();
        ensure!(
            checksums(&target, &self.files).await? == self.checksums,
            "{name} left other rows than the source has"
        );
        println!("{name}: {seconds:.2} s, target's CPU {target_cpu:.1} s");
        Ok(Run { seconds, target_cpu, own })
    }

    fn dump(&self, target: &LocalServer) -> Result<Usage> {
        let clients = self.clients.as_ref().context("no clients")?;
        let login = |command: &mut Command, server: &LocalServer| {
            command.args(["--no-defaults", "--user=root", "--host=127.0.0.1", "--protocol=TCP"]);
            command.arg(format!("--port={}", server.port()));
        };
        let mut dump = Command::new(&clients.dump);
        login(&mut dump, &self.source);
        dump.args(["--single-transaction", "--set-gtid-purged=OFF", SCHEMA]);
        let mut dump = dump.args(self.files.iter().map(|f| &f.name)).stdout(Stdio::piped()).spawn()?;
        let mut restore = Command::new(&clients.client);
        login(&mut restore, target);
        let output = dump.stdout.take().context("no output")?;
        let restore = restore.arg(SCHEMA).stdin(output).spawn()?;
        let (dumped, restored) = (ended(dump)?, ended(restore)?);
        Ok(Usage { cpu: dumped.cpu + restored.cpu, peak: dumped.peak.max(restored.peak) })
    }

    async fn move_tables(&self, target: &LocalServer, conn: &mut Conn, defer: bool) -> Result<Usage> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--mover").args([&self.source, target].map(|s| s.address(SCHEMA).to_url()));
        command.arg(defer.to_string()).args(self.files.iter().map(|f| &f.name));
        let mut mover = Mover(command.stdin(Stdio::null()).spawn()?);
        let begun = Instant::now();
        loop {
            ensure!(mover.0.try_wait()?.is_none(), "the mover ended");
            ensure!(begun.elapsed() < LIMIT, "not copied after {} s", LIMIT.as_secs());
            let query = "SELECT state FROM _converge.workflow";
            let state: Option<String> = conn.query_first(query).await.unwrap_or_default();
            if state.as_deref() == Some("replicating") {
                return Usage::of(mover.0.id());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// An empty durable server, or a source.
async fn server(binary: &ServerBinary, name: &str) -> Result<LocalServer> {
    Ok(LocalServer::start(binary, lab::roomy(binary, lab::options(name, true))).await?)
}

/// Rows, checksum and number of index columns of each table; all tables at once.
async fn checksums(server: &LocalServer, files: &[TableFile]) -> Result<Vec<(u64, u64, usize)>> {
    futures_util::future::try_join_all(files.iter().map(async |TableFile { name, .. }| {
        let mut conn = lab::connect(server).await?;
        let rows: Option<u64> = conn.query_first(format!("SELECT COUNT(*) FROM {name}")).await?;
        let sum: Option<(String, u64)> = conn.query_first(format!("CHECKSUM TABLE {name} EXTENDED")).await?;
        let keys: Vec<mysql_async::Row> = conn.query(format!("SHOW INDEX FROM {name}")).await?;
        Ok((rows.context("no count")?, sum.context("no checksum")?.1, keys.len()))
    }))
    .await
}

/// The server's own client programs.
struct Clients {
    dump: PathBuf,
    client: PathBuf,
}

impl Clients {
    /// Beside the server, or on PATH.
    fn find(server: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = server.parent().map(Into::into).into_iter().collect();
        places.extend(std::env::split_paths(&path));
        let find = |name: &str| places.iter().map(|p| p.join(name)).find(|p| p.is_file());
        Some(Self { dump: find("mysqldump")?, client: find("mysql")? })
    }
}

/// What a process used that ends by itself, as it was last seen.
fn ended(mut child: Child) -> Result<Usage> {
    let mut last = Usage::default();
    loop {
        if let Ok(usage) = Usage::of(child.id()) {
            last = usage;
        }
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "a client ended with {status}");
            return Ok(last);
        }
        std::thread::sleep(POLL);
    }
}

/// The mover's process, ended with its run.
struct Mover(Child);

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn run_mover(source: &str, target: &str, defer: bool, tables: &[String]) -> Result<()> {
    let options = Options::new("bench", source.parse()?, target.parse()?, tables);
    workflow::run(&Options { defer_secondary_keys: defer, ..options }).await?;
    Ok(())
}
