//! Two servers with the same tables.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use converge_benches::lab::{self, SCHEMA, Usage};
use converge_benches::rows::{self, Shape, TableFile};
use converge_chaos::server::{LocalServer, ServerBinary, discover};
use converge_mysql::Address;
use converge_vdiff::{Engine, Options, Report, Request, TablePair, compare};
use mysql_async::prelude::Queryable;

/// Source and target, equal at first.
pub struct World {
    pub source: LocalServer,
    pub target: LocalServer,
    pub shape: Shape,
    pub tables: Vec<String>,
    pub rows: u64,
}

/// A server of this kind.
pub fn binary(kind: &str) -> Result<ServerBinary> {
    let found = discover()?.into_iter().find(|b| b.kind() == kind);
    found.with_context(|| format!("no {kind} server: name one in CONVERGE_SERVERS"))
}

impl World {
    /// Two durable servers with the same tables.
    pub async fn new(binary: &ServerBinary, shape: Shape, tables: u64, rows: u64, seed: u64) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("converge-bench-").tempdir()?;
        let files = rows::write(directory.path(), shape, tables, rows, seed)?;
        let (source, target) =
            tokio::try_join!(filled(binary, "source", &files), filled(binary, "target", &files))?;
        let tables = files.iter().map(|file| file.name.clone()).collect();
        Ok(Self { source, target, shape, tables, rows })
    }

    /// Rows of all tables of a side.
    pub fn all_rows(&self) -> u64 {
        self.rows * self.tables.len() as u64
    }

    /// Both servers.
    pub fn servers(&self) -> [&LocalServer; 2] {
        [&self.source, &self.target]
    }

    /// Compares all tables in this process.
    pub async fn compare(&self, engine: Engine) -> Result<(f64, Report)> {
        self.compare_at(self.servers().map(|s| s.address(SCHEMA)), engine).await
    }

    /// Compares all tables behind other addresses.
    pub async fn compare_at(&self, [source, target]: [Address; 2], engine: Engine) -> Result<(f64, Report)> {
        let begun = Instant::now();
        let report = compare(&request(source, target, &self.tables, engine), &|_| {}).await?;
        ensure!(
            report.tables.iter().map(|t| t.source_rows).sum::<u64>() == self.all_rows(),
            "not all rows were compared: {}",
            report.to_text()
        );
        Ok((begun.elapsed().as_secs_f64(), report))
    }

    /// Compares all tables in a process of their own, and says what it used.
    pub fn compare_apart(&self, engine: Engine) -> Result<(f64, Usage)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--compare").args(self.servers().map(|s| s.address(SCHEMA).to_url()));
        command.arg(engine.as_str()).args(&self.tables).stdin(Stdio::null()).stdout(Stdio::piped());
        let (begun, mut child) = (Instant::now(), command.spawn()?);
        let mut last = Usage::default();
        loop {
            if let Ok(usage) = Usage::of(child.id()) {
                last = usage;
            }
            if let Some(status) = child.try_wait()? {
                ensure!(status.success(), "the comparison apart ended with {status}");
                return Ok((begun.elapsed().as_secs_f64(), last));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

async fn filled(binary: &ServerBinary, name: &str, files: &[TableFile]) -> Result<LocalServer> {
    let mut options = lab::roomy(binary, lab::options(name, true));
    options.extra.push("--innodb-buffer-pool-size=1280M".into());
    let server = LocalServer::start(binary, options).await?;
    let mut conn = lab::connect(&server).await?;
    rows::load(&mut conn, files).await?;
    for TableFile { name, .. } in files {
        conn.query_drop(format!("ANALYZE TABLE {name}")).await?;
    }
    Ok(server)
}

fn request(source: Address, target: Address, tables: &[String], engine: Engine) -> Request {
    Request {
        source: vec![source],
        target: vec![target],
        tables: tables.iter().map(|table| TablePair::same(table)).collect(),
        options: Options { engine, ..Options::default() },
    }
}

/// What the process apart does.
pub async fn compare_alone(words: &[String]) -> Result<()> {
    let [source, target, engine, tables @ ..] = words else { anyhow::bail!("--compare needs more words") };
    let engines = [Engine::Auto, Engine::PushDown, Engine::Stream];
    let engine = engines.into_iter().find(|e| e.as_str() == engine).context("an engine")?;
    let report = compare(&request(source.parse()?, target.parse()?, tables, engine), &|_| {}).await?;
    ensure!(report.verdict == converge_vdiff::Verdict::Equal, "{}", report.to_text());
    Ok(())
}
