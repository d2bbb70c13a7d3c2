//! Rehearsals on servers that are somebody's: only what a connection can do is broken, what was there stays, and what was
//! made goes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Address, Connector};
use mysql_async::prelude::Queryable;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::converge;
use serde_json::Value;

const PASSWORD: &str = "s3cret-of-theirs";

const SCENARIO: &str = "
settle_seconds = 0.0
limit_seconds = 240.0
least = { each_kind = 5, during_copy = 10 }
copy = { rows_per_second = 2000, chunk_rows = 500 }
load = { rows = 3000, statements_per_second = 600.0 }
[[fault]]
kind = 'kill_mover'
at_copied = 0.3
hold_seconds = 0.2
[[fault]]
kind = 'kill_connections'
[[fault]]
kind = 'network_down'
side = 'target'
hold_seconds = 0.5
";

/// A fault that changes a setting of the whole target, and lasts.
const SETTING: &str = "
settle_seconds = 0.0
limit_seconds = LIMIT
least = { each_kind = 5, during_copy = 10 }
load = { rows = 1000, statements_per_second = 300.0 }
[[fault]]
kind = 'KIND'
hold_seconds = 100.0
";

/// Two servers that a rehearsal did not start, with their administrators.
struct Theirs {
    source: LocalServer,
    target: LocalServer,
    directory: tempfile::TempDir,
}

impl Theirs {
    async fn start(binary: &ServerBinary) -> Self {
        Self::with(binary, &[]).await
    }

    /// With these arguments for the target.
    async fn with(binary: &ServerBinary, arguments: &[&str]) -> Self {
        let extra = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let options = ServerOptions { extra, ..ServerOptions::named("theirs") };
        let (source, target) =
            tokio::join!(support::start(binary, "theirs"), LocalServer::start(binary, options));
        let target = target.unwrap();
        for server in [&source, &target] {
            let made = format!("CREATE USER dba@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'");
            execute(server, &[&made, "GRANT ALL ON *.* TO dba@'127.0.0.1' WITH GRANT OPTION"]).await;
            execute(server, &["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY)"]).await;
        }
        Self { source, target, directory: tempfile::tempdir().unwrap() }
    }

    fn url(server: &LocalServer) -> String {
        Address { user: "dba".into(), password: PASSWORD.into(), ..server.address("") }.to_url()
    }

    fn report(&self) -> std::path::PathBuf {
        self.directory.path().join("report")
    }

    fn command(&self, scenario: &str, more: &[&str]) -> Command {
        let file = self.directory.path().join("scenario.toml");
        std::fs::write(&file, scenario).unwrap();
        let mut command = converge();
        command.arg("rehearse").arg(file).args(["--seed", "4", "--format", "json"]).args(more);
        command.args(["--source-url", &Self::url(&self.source), "--target-url", &Self::url(&self.target)]);
        command.arg("--report").arg(self.report());
        command
    }

    /// Exit code 2 with these words, and nothing begun.
    async fn refused(&self, output: Output, words: &[&str]) {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        for word in words.iter().chain(&["what to do: "]) {
            assert!(errors.contains(word), "no {word:?}: {errors}");
        }
        assert!(!errors.contains(PASSWORD), "{errors}");
        assert!(!self.report().join("mover.log").exists(), "something was begun");
    }
}

async fn execute(server: &LocalServer, statements: &[&str]) {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    for sql in statements {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{e}: {sql}"));
    }
}

/// Databases and accounts that are not the server's own.
async fn there(server: &LocalServer) -> Vec<String> {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    let query = "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('mysql', 'sys', \
                 'information_schema', 'performance_schema') UNION SELECT user FROM mysql.user WHERE user LIKE 'm%' AND \
                 user NOT LIKE 'm%.%' ORDER BY 1";
    let names: Vec<String> = conn.query(query).await.unwrap();
    names.into_iter().filter(|name| name != "mariadb.sys").collect()
}

/// No file that the rehearsal left, and nothing it printed, tells a password.
fn discreet(output: &Output, report: &Path) {
    let mut texts = vec![output.stdout.clone(), output.stderr.clone()];
    for entry in std::fs::read_dir(report).unwrap() {
        texts.push(std::fs::read(entry.unwrap().path()).unwrap());
    }
    assert!(texts.len() > 6, "the report has few files");
    let needle = PASSWORD.as_bytes();
    assert!(!texts.iter().any(|text| text.windows(needle.len()).any(|w| w == needle)));
}

async fn refusals(theirs: &Theirs) {
    for kind in [
        "kill_source",
        "restart",
        "pause",
        "network_down_restart",
        "disk_full",
        "failover",
        "restore_to_past",
    ] {
        let scenario = format!("[[fault]]\nkind = 'kill_mover'\n[[fault]]\nkind = '{kind}'");
        theirs.refused(theirs.command(&scenario, &["--i-know"]).output().unwrap(), &[kind, "host"]).await;
    }
    let purge = theirs.command("[[fault]]\nkind = 'purge_log'", &[]).output().unwrap();
    theirs.refused(purge, &["purge_log", "--i-know"]).await;
    assert!(!theirs.report().exists());
    let url = Theirs::url(&theirs.source);
    for same in [url.clone(), url.replace("127.0.0.1", "localhost")] {
        let mut one = converge();
        one.args(["rehearse", "--source-url", &url, "--target-url", &same]);
        let one = one.arg("--report").arg(theirs.report()).output().unwrap();
        theirs.refused(one, &["one server"]).await;
        assert!(!theirs.report().exists(), "a report of nothing is left");
    }
    assert_eq!(there(&theirs.source).await, ["shop"]);

    for server in [&theirs.source, &theirs.target] {
        let mut other = Connector::new(server.address("")).connect().await.unwrap();
        other.query_drop("SELECT GET_LOCK('converge rehearsals', 0)").await.unwrap();
        let words = ["another rehearsal is at work on", &server.port().to_string()];
        theirs.refused(theirs.command(SCENARIO, &["--i-know"]).output().unwrap(), &words).await;
        converge_mysql::connect::close(other).await;
    }
    assert_eq!(there(&theirs.source).await, ["shop"]);

    // What the mover would refuse is no finding about the move.
    execute(&theirs.source, &["SET GLOBAL binlog_format = STATEMENT"]).await;
    let output = theirs.command(SCENARIO, &[]).output().unwrap();
    execute(&theirs.source, &["SET GLOBAL binlog_format = ROW"]).await;
    theirs.refused(output, &["binlog_format", "SET GLOBAL"]).await;
    assert_eq!([there(&theirs.source).await, there(&theirs.target).await], [["shop"]; 2]);

    execute(&theirs.target, &["CREATE DATABASE commerce", "CREATE TABLE commerce.precious (id INT)"]).await;
    let forgotten = "mover_0123abcd@'%'";
    execute(&theirs.target, &[&format!("CREATE USER {forgotten} IDENTIFIED BY 'Aa1-x'")]).await;
    let output = theirs.command(SCENARIO, &[]).output().unwrap();
    let cleaning = "DROP DATABASE `commerce`; DROP USER 'mover_0123abcd'@'%';";
    theirs.refused(output, &["database commerce", "--i-know", cleaning]).await;
    execute(&theirs.target, &[&format!("DROP USER {forgotten}")]).await;
    assert!(!theirs.report().exists(), "a report of nothing is left");
    assert_eq!(there(&theirs.source).await, ["shop"]);
    assert_eq!(there(&theirs.target).await, ["commerce", "shop"]);
}

async fn on_their_servers(binary: &ServerBinary) {
    let theirs = Theirs::start(binary).await;
    refusals(&theirs).await;

    let output = theirs.command(SCENARIO, &["--i-know"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_eq!(
        (output.status.code(), &verdict["verdict"]),
        (Some(0), &"converged".into()),
        "{verdict} {errors}"
    );
    assert_eq!(verdict["faults"].as_array().unwrap().len(), 3);
    assert!(verdict["source"].as_str().unwrap().contains(&binary.info.version.to_string()), "{verdict}");
    assert!(verdict["not_verified"].to_string().contains("silence"), "{verdict}");
    assert!(verdict["replay"].as_str().unwrap().contains("--source-url mysql://dba@"), "{verdict}");
    discreet(&output, &theirs.report());
    assert_eq!(there(&theirs.source).await, ["shop"]);
    assert_eq!(there(&theirs.target).await, ["commerce", "shop"]);

    let mut again = converge();
    again.args(["rehearse", "--replay"]).arg(theirs.report()).arg("--report");
    let again = again.arg(theirs.directory.path().join("again")).output().unwrap();
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(2), "{said}");
    assert!(said.contains("not the rehearsal's own") && said.contains("--source-url"), "{said}");

    execute(&theirs.target, &["DROP DATABASE commerce"]).await;
    for signal in [Signal::SIGINT, Signal::SIGHUP] {
        let mut child =
            theirs.command(SCENARIO, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("kill_mover: injecting")), "it ended too soon");
        assert_eq!(there(&theirs.target).await.len(), 4, "database, state and account are there");
        for server in [&theirs.source, &theirs.target] {
            let mut other = Connector::new(server.address("")).connect().await.unwrap();
            let holder = other.query_first("SELECT IS_USED_LOCK('converge rehearsals')").await.unwrap();
            let holder: Option<Option<u64>> = holder;
            assert!(holder.flatten().is_some(), "another rehearsal would not be kept off");
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{signal}: {rest:?}");
        for server in [&theirs.source, &theirs.target] {
            assert_eq!(there(server).await, ["shop"], "{signal}: {rest:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_theirs_stays_and_what_was_made_goes() {
    for binary in support::servers() {
        eprintln!("on somebody's servers: {}", binary.info);
        on_their_servers(&binary).await;
    }
}

/// The settings of a whole server that faults change.
async fn settings(server: &LocalServer) -> Vec<String> {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    let mysql = server.binary().info.flavor == converge_mysql::Flavor::MySql;
    let names = ["max_connections", "read_only", "super_read_only"].into_iter().take(2 + usize::from(mysql));
    let columns: Vec<String> = names.map(|name| format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)")).collect();
    conn.query(columns.join(" UNION ALL ")).await.unwrap()
}

/// A rehearsal that has come to where a fault is seen to bite, and the lines that it prints from there on.
fn bitten(mut command: Command, kind: &str) -> (Child, impl Iterator<Item = String>) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut told = Vec::new();
    let seen = lines.any(|line| {
        told.push(line);
        told.last().is_some_and(|line| line.contains(kind) && line.contains("is told"))
    });
    assert!(seen, "{kind} did not bite: {told:#?}");
    (child, lines)
}

/// What a rehearsal changed that was killed meanwhile, the next one names, with the statements that undo it.
async fn settings_are_told_of(binary: &ServerBinary) {
    let theirs = Theirs::start(binary).await;
    let before = settings(&theirs.target).await;
    let scenario = SETTING.replace("KIND", "no_connections").replace("LIMIT", "240.0") + "side = 'target'";
    let (mut child, lines) = bitten(theirs.command(&scenario, &[]), "no_connections");
    child.kill().unwrap();
    // Its children hold the other end until they are gone too.
    child.wait().unwrap();
    lines.for_each(drop);
    assert_ne!(settings(&theirs.target).await, before);

    let told = |output: &Output| {
        String::from_utf8_lossy(&output.stderr).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let refused = theirs.command(&scenario, &[]).output().unwrap();
    let errors = told(&refused);
    assert_eq!(refused.status.code(), Some(2), "{errors}");
    assert!(errors.contains(&format!("SET GLOBAL max_connections = {}; DROP", before[0])), "{errors}");

    // Who goes on in spite of it is told, and loses nothing of it.
    let output = theirs.command(&scenario.replace("240.0", "5.0"), &["--i-know"]).output().unwrap();
    let errors = told(&output);
    assert!(errors.contains("a rehearsal that was killed changed settings of"), "{errors}");

    let errors = told(&theirs.command(&scenario, &[]).output().unwrap());
    let (_, clearing) = errors.split_once("uses these servers: ").unwrap_or_else(|| panic!("{errors}"));
    for server in [&theirs.source, &theirs.target] {
        let place = format!("on {}: ", server.address("").to_string().replace("root@", "dba:***@"));
        let (_, statements) = clearing.split_once(&place).unwrap_or_else(|| panic!("{place}: {clearing}"));
        let statements = statements.split(" on mysql:").next().unwrap();
        let statements: Vec<&str> = statements.split_inclusive(';').collect();
        execute(server, &statements).await;
    }
    assert_eq!(settings(&theirs.target).await, before);
    for server in [&theirs.source, &theirs.target] {
        assert_eq!(there(server).await, ["shop"]);
    }
}

/// Ended while a fault lasts, by its operator or by its time limit, a rehearsal gives settings their former values.
async fn settings_come_back(binary: &ServerBinary) {
    let theirs = Theirs::start(binary).await;
    execute(&theirs.target, &["SET GLOBAL max_connections = 77"]).await;
    let before = settings(&theirs.target).await;
    assert_eq!(before[0], "77");

    for kind in ["read_only", "no_connections"] {
        let side = if kind == "no_connections" { "side = 'target'" } else { "" };
        let scenario = SETTING.replace("KIND", kind).replace("LIMIT", "240.0") + side;
        let (mut child, lines) = bitten(theirs.command(&scenario, &[]), kind);
        if kind == "read_only" {
            assert_ne!(settings(&theirs.target).await, before, "it is read-only for now");
        }
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(3), "{rest:?}");
        assert_eq!(settings(&theirs.target).await, before, "{kind}: {rest:?}");
        assert_eq!(there(&theirs.target).await, ["shop"], "{kind}: {rest:?}");
        assert!(rest.iter().any(|line| line.contains("is removed")), "{rest:?}");
    }

    // How long it takes until the fault begins is the machine's affair; a minute later the mover gives up.
    let mut limits = ["20.0", "40.0", "65.0", "90.0", "140.0"].into_iter();
    let told = loop {
        let limit = limits.next().expect("a run whose fault begins before the limit");
        let scenario = SETTING.replace("KIND", "read_only").replace("LIMIT", limit);
        let output = theirs.command(&scenario, &[]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(3), "{told}");
        if !told.contains("never injected") {
            break told;
        }
    };
    assert!(told.contains("still going on when the time limit ended the run"), "{told}");
    assert_eq!(settings(&theirs.target).await, before);
    assert_eq!(there(&theirs.target).await, ["shop"]);
}

/// A server that cannot be made read-only yet, because somebody holds a table, does not become so once nobody looks.
async fn nothing_is_set_later(binary: &ServerBinary) {
    let theirs = Theirs::start(binary).await;
    let before = settings(&theirs.target).await;
    let mut holder = Connector::new(theirs.target.address("shop")).connect().await.unwrap();
    holder.query_drop("LOCK TABLES t WRITE").await.unwrap();
    let scenario = SETTING.replace("KIND", "read_only").replace("LIMIT", "240.0");
    let mut command = theirs.command(&scenario, &[]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("read_only: injecting")), "it ended too soon");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{rest:?}");
    holder.query_drop("UNLOCK TABLES").await.unwrap();
    let over = "SELECT COUNT(*) = 0 FROM information_schema.processlist \
                WHERE info LIKE 'SET GLOBAL%' AND id <> CONNECTION_ID()";
    sql::until(&mut holder, "the end of what waited", over).await;
    assert_eq!(settings(&theirs.target).await, before, "{rest:?}");
    assert_eq!(there(&theirs.target).await, ["shop"], "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_a_fault_changed_get_their_former_values() {
    for binary in support::servers() {
        eprintln!("settings of {}", binary.info);
        settings_come_back(&binary).await;
        nothing_is_set_later(&binary).await;
        settings_are_told_of(&binary).await;
    }
}

/// Silence is not judged on servers that others write to: the target needs no log.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_a_binary_log_is_rehearsed_on() {
    for binary in support::servers() {
        eprintln!("without a log on {}", binary.info);
        let theirs = Theirs::with(&binary, &["--skip-log-bin"]).await;
        let scenario = SCENARIO.split("[[fault]]").next().unwrap();
        let output = theirs.command(scenario, &[]).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert_eq!(output.status.code(), Some(0), "{told:?}");
    }
}

/// An account that may not make accounts: what it made goes, and nothing is said of what it could not make.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_made_is_not_cleaned_up() {
    for binary in support::servers() {
        let theirs = Theirs::start(&binary).await;
        let limited = [
            &format!("CREATE USER limited@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'"),
            "GRANT ALL ON commerce.* TO limited@'127.0.0.1'",
        ];
        execute(&theirs.source, &limited).await;
        let limited = Theirs::url(&theirs.source).replace("dba", "limited");
        let mut command = converge();
        command.args(["rehearse", "--source-url", &limited, "--target-url", &Theirs::url(&theirs.target)]);
        let output = command.arg("--report").arg(theirs.report()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("making the mover's account"), "{errors}");
        assert!(!errors.contains("was not cleaned up"), "{errors}");
        assert_eq!(
            (there(&theirs.source).await, there(&theirs.target).await),
            (vec!["shop".into()], vec!["shop".into()])
        );
    }
}
