//! Other people's tools, as programs.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use converge_benches::lab::{self, SCHEMA};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use mysql_async::prelude::Queryable;

use crate::world::World;

/// A tool that compares one pair of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    PtTableSync,
    Reladiff,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::PtTableSync => "pt-table-sync --print",
            Self::Reladiff => "reladiff",
        }
    }

    /// Those that are installed; the others are complained about.
    pub async fn found(world: &World) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for (peer, program) in [(Self::PtTableSync, "pt-table-sync"), (Self::Reladiff, "reladiff")] {
            let mut version = Command::new(program);
            version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            let there = version.status().is_ok_and(|status| status.success());
            if there { found.push(peer) } else { println!("\n**{program} is not installed: MISSING**") }
        }
        for server in world.servers() {
            prepare(server).await?;
        }
        Ok(found)
    }

    /// Compares all tables, one after the other. Returns the seconds, and how many lines it printed.
    pub fn run(self, world: &World) -> Result<(f64, usize)> {
        let (begun, mut lines) = (Instant::now(), 0);
        for table in &world.tables {
            let output = self.command(world, table).stdin(Stdio::null()).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            // pt-table-sync: 2 means that it found differences.
            let ended = matches!(output.status.code(), Some(0 | 2));
            ensure!(ended, "{}: {said}{}", self.name(), String::from_utf8_lossy(&output.stderr));
            lines += said.lines().filter(|line| !line.trim().is_empty()).count();
        }
        Ok((begun.elapsed().as_secs_f64(), lines))
    }

    fn command(self, world: &World, table: &str) -> Command {
        let [source, target] = world.servers().map(LocalServer::port);
        match self {
            Self::PtTableSync => {
                let mut command = Command::new("pt-table-sync");
                command.args(["--print", "--no-check-slave", "--charset", "utf8"]);
                command.arg(format!("h=127.0.0.1,P={source},u=root,D={SCHEMA},t={table}"));
                command.arg(format!("h=127.0.0.1,P={target},u=root,D={SCHEMA},t={table}"));
                command
            }
            Self::Reladiff => {
                let mut command = Command::new("reladiff");
                for port in [source, target] {
                    command.arg(format!("mysql://root@127.0.0.1:{port}/{SCHEMA}")).arg(table);
                }
                // All columns but the key's.
                command.args(["-k", "id", "-c", "%"]);
                command
            }
        }
    }
}

/// What the peers need of a server.
async fn prepare(server: &LocalServer) -> Result<()> {
    if server.binary().info.flavor == Flavor::MySql {
        let mut conn = lab::connect(server).await?;
        // reladiff needs MD5(), which MySQL 9.6 and later have in a component only.
        let _ = conn.query_drop("INSTALL COMPONENT 'file://component_classic_hashing'").await;
        let _ = conn.query_drop("SET GLOBAL explain_format = TRADITIONAL").await;
    }
    Ok(())
}
