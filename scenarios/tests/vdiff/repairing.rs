//! Repairing in tests: by the client that comes with a server, or at once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::repair::RepairReport;
use converge_vdiff::{Options, Repair, Report, Request, compare_and_repair};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::common::{fresh, run, server};
use super::support;

/// A comparison that does not wait for long.
pub fn quick() -> Options {
    Options { quiet_window: Duration::from_millis(20), ..Options::default() }
}

/// The client that comes with a server.
fn client(server: &LocalServer) -> PathBuf {
    let binary = server.binary();
    match binary.info.flavor {
        Flavor::MySql => {
            let listed = std::env::var("CONVERGE_SERVERS").unwrap_or_default();
            let beside = listed.split(',').map(|path| Path::new(path).with_file_name("mysql"));
            beside.into_iter().find(|path| path.exists()).unwrap_or_else(|| "mysql".into())
        }
        Flavor::MariaDb => "mariadb".into(),
    }
}

/// Runs a script through the client.
pub fn play(server: &LocalServer, script: &Path) -> Output {
    let address = server.address("");
    Command::new(client(server))
        .args([
            "--no-defaults",
            "--protocol=tcp",
            "--batch",
            "--host",
            &address.host,
            "--user",
            &address.user,
        ])
        .arg(format!("--port={}", address.port))
        .stdin(std::fs::File::open(script).unwrap())
        .output()
        .unwrap_or_else(|e| panic!("the client {}, which tests need: {e}", client(server).display()))
}

/// Runs a script that must work.
pub fn played(server: &LocalServer, script: &Path) {
    let output = play(server, script);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let line =
        error.split("at line ").nth(1).and_then(|rest| rest.split(&[':', ' ']).next()?.parse::<usize>().ok());
    let text = std::fs::read(script).unwrap();
    let line = line.and_then(|n| {
        String::from_utf8_lossy(&text).lines().nth(n - 1).map(|l| l.chars().take(900).collect::<String>())
    });
    assert!(output.status.success(), "{error}\n{line:?}");
}

/// A comparison that was followed by a repair.
pub async fn repaired(request: &Request, script: Option<&Path>, apply: bool) -> (Report, RepairReport) {
    let repair = Repair { script: script.map(Path::to_owned), apply };
    let report = compare_and_repair(request, &repair, &|_| {}).await.unwrap_or_else(|e| panic!("{e}"));
    let done = report.repair.clone().unwrap();
    assert_eq!(done.failed, None);
    (report, done)
}

/// A server of each kind.
pub async fn all_servers() -> Vec<LocalServer> {
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    servers
}

/// A text that a statement gives.
#[allow(dead_code)]
pub async fn text(conn: &mut Conn, sql: &str) -> String {
    conn.query_first::<String, _>(sql).await.unwrap().unwrap()
}

/// Source and target databases on one server, with a table made by the first statement and filled by the others.
#[allow(dead_code)]
pub async fn pair(one: &LocalServer, table: &str, source: &[&str], target: &[&str]) -> [Conn; 2] {
    let mut conns = [fresh(one, "vs").await, fresh(one, "vt").await];
    for (conn, rows) in conns.iter_mut().zip([source, target]) {
        run(conn, table).await;
        for sql in rows {
            run(conn, sql).await;
        }
    }
    conns
}
