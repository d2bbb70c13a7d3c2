//! Private servers and processes for side-by-side runs, and what they cost.
//!
//! Every contestant gets a server of its own with the same settings and the same rows; nothing here judges or compares.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions, discover};
use converge_mover::control::Control;
use converge_mover::workflow::{self, Options};
use converge_mysql::{Connector, Flavor};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// The database of all side-by-side runs.
pub const SCHEMA: &str = "bench";

/// A server binary of this kind.
pub fn binary(flavor: Flavor) -> Result<ServerBinary> {
    let found = discover()?.into_iter().find(|b| b.info.flavor == flavor);
    found.with_context(|| format!("no {flavor} server found: name one in CONVERGE_SERVERS"))
}

/// Settings with room for the whole of a bench's data, the same for every contestant.
pub fn options(name: &str, durable: bool) -> ServerOptions {
    let extra = ["--innodb-buffer-pool-size=512M", "--max-allowed-packet=256M", "--local-infile=ON"];
    ServerOptions { durable, extra: extra.map(str::to_owned).into(), ..ServerOptions::named(name) }
}

/// The settings of a source or a target with a larger redo log, which MySQL and MariaDB name differently.
pub fn roomy(binary: &ServerBinary, mut options: ServerOptions) -> ServerOptions {
    let redo = match binary.info.flavor {
        Flavor::MySql => "--innodb-redo-log-capacity=512M",
        Flavor::MariaDb => "--innodb-log-file-size=512M",
    };
    options.extra.push(redo.into());
    options
}

/// A connection with the bench's database as default.
pub async fn connect(server: &LocalServer) -> Result<Conn> {
    let mut conn = Connector::new(server.address("")).connect().await?;
    conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {SCHEMA}")).await?;
    conn.query_drop(format!("USE {SCHEMA}")).await?;
    Ok(conn)
}

/// The data of a server that was shut down, from which others can start.
pub struct Base(tempfile::TempDir);

impl Base {
    /// Shuts `server` down, copies its data and starts it again.
    pub async fn take(server: &LocalServer) -> Result<Self> {
        let base = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
        server.stop().await?;
        copy(&server.directory().join("data"), &base.path().join("data"))?;
        server.restart().await?;
        Ok(Self(base))
    }

    /// A new server that begins with this data.
    pub async fn start(&self, binary: &ServerBinary, options: ServerOptions) -> Result<LocalServer> {
        let server = LocalServer::start(binary, options).await?;
        server.stop().await?;
        let data = server.directory().join("data");
        std::fs::remove_dir_all(&data)?;
        copy(&self.0.path().join("data"), &data)?;
        // Each server has an identity of its own, which it makes anew.
        let _ = std::fs::remove_file(data.join("auto.cnf"));
        server.restart().await?;
        Ok(server)
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg("--sparse=always").arg(from).arg(to).status()?;
    ensure!(status.success(), "cp {} {} failed", from.display(), to.display());
    Ok(())
}

/// The mover in a process of its own, which ends with this value: the bench's program again, with `--mover`.
pub struct Mover(Child);

impl Mover {
    /// Starts to move tables between the bench's databases.
    pub fn start(source: &LocalServer, target: &LocalServer, tables: &[String]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--mover").args([source, target].map(|s| s.address(SCHEMA).to_url()));
        Ok(Self(command.args(tables).stdin(Stdio::null()).spawn()?))
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// An error if it has ended.
    pub fn check(&mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "the mover ended");
        Ok(())
    }

    /// Waits until all rows are copied.
    pub async fn copied(&mut self, target: &LocalServer, limit: Duration) -> Result<()> {
        let (address, begun) = (target.address(SCHEMA), Instant::now());
        loop {
            self.check()?;
            ensure!(begun.elapsed() < limit, "the copy did not end in time");
            if let Ok(mut control) = Control::open(&address, "bench").await
                && control.status().await.is_ok_and(|status| status.state == "replicating")
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What that process does: `words` are the source's URL, the target's URL, and the tables.
pub async fn run_mover(words: &[String]) -> Result<()> {
    let [source, target, tables @ ..] = words else { bail!("--mover needs two URLs and tables") };
    let options = Options::new("bench", source.parse()?, target.parse()?, tables);
    workflow::run(&options).await?;
    Ok(())
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    /// The most memory it ever had resident, in MiB.
    pub peak: f64,
}

impl Usage {
    /// Of a process that lives.
    pub fn of(pid: u32) -> Result<Self> {
        /// What Linux reports to processes, whatever the kernel's own tick is.
        const TICKS: f64 = 100.0;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let Some((_, fields)) = stat.rsplit_once(')') else { bail!("/proc/{pid}/stat has no name") };
        let field = |n: usize| fields.split_whitespace().nth(n).and_then(|f| f.parse::<f64>().ok());
        let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kib = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
        Ok(Self {
            cpu: ticks.context("no processor time")? / TICKS,
            peak: kib.context("no peak memory")? / 1024.0,
        })
    }
}

/// The middle of some measurements.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Prints a Markdown table.
pub fn print_table(head: &[&str], rows: &[Vec<String>]) {
    let line =
        |cells: &mut dyn Iterator<Item = String>| println!("| {} |", cells.collect::<Vec<_>>().join(" | "));
    line(&mut head.iter().map(ToString::to_string));
    line(&mut head.iter().map(|_| "---".to_owned()));
    rows.iter().for_each(|row| line(&mut row.iter().cloned()));
}
