//! The command line: help that helps, and errors that say what failed, why, and what to do, on standard error, with
//! exit code 2, without passwords. VDiff's own errors are read in `vdiff_cli.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "cli/refusals.rs"]
mod refusals;
#[path = "support/servers.rs"]
mod support;

use std::process::Output;

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Address, Connector};
use mover::converge;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

const PASSWORD: &str = "s3cret/w:rd";

fn run(arguments: &[&str]) -> Output {
    converge().args(arguments).output().unwrap()
}

fn everything(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn without_password(text: &str) {
    assert!(!text.contains("s3cret"), "a password: {text}");
}

/// Exit code 2, nothing that looks like an answer, and an error with each of the words and a way out.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    let lines: Vec<&str> = error.lines().collect();
    assert!(lines.iter().any(|l| l.starts_with("error: ")), "{arguments:?}: {error}");
    assert!(lines.iter().any(|l| l.trim_start().starts_with("what to do: ")), "{arguments:?}: {error}");
    for word in words {
        assert!(error.contains(word), "no {word:?} for {arguments:?}: {error}");
    }
    assert!(!String::from_utf8_lossy(&output.stdout).contains("error"), "{}", everything(&output));
    without_password(&everything(&output));
}

#[test]
fn help_shows_an_example_and_exit_codes() {
    let all = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for words in ["Exit codes", "0  converged", "1  diverged", "2  the work", "3  not proven"] {
        assert!(all.contains(words), "{all}");
    }
    let verbs =
        ["check", "run", "status", "switch-traffic", "cancel", "complete"].map(|verb| vec!["move", verb]);
    let others =
        ["rehearse", "campaign", "shrink", "vdiff", "load", "proxy", "move"].map(|command| vec![command]);
    for command in others.into_iter().chain(verbs) {
        let output = run(&[&command[..], &["--help"]].concat());
        let help = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        let example = format!("  converge {}", command.join(" "));
        assert!(help.contains("Example:") && help.contains(&example), "{help}");
        assert!(help.contains("Exit codes") && help.contains("not proven"), "{help}");
        assert!(all.contains(&format!("\n  {} ", command[0])), "{all}");
    }
    for command in [&[][..], &["nosuch"], &["move"], &["move", "status"], &["rehearse", "--sede", "1"]] {
        let output = run(command);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{command:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Usage:"), "{command:?}");
    }
}

/// From the examples on, as a terminal of so many columns shows it.
fn help_of(command: &[&str], columns: &str) -> String {
    let output = converge().args(command).arg("--help").env("COLUMNS", columns).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    help[help.find("\nExample").unwrap() + 1..].to_owned()
}

#[test]
fn examples_can_be_pasted_from_a_narrow_terminal() {
    let verbs =
        ["check", "run", "status", "switch-traffic", "cancel", "complete"].map(|verb| vec!["move", verb]);
    let others = ["rehearse", "campaign", "shrink", "vdiff", "simulate", "load", "proxy", "selftest", "move"];
    for command in others.map(|command| vec![command]).into_iter().chain(verbs) {
        let help = help_of(&command, "80");
        assert_eq!(help, help_of(&command, "200"), "broken at 80 columns");
        let (_, examples) = help.split("\n\n").next().unwrap().split_once('\n').unwrap();
        // Everything that is no command of its own ends a shell like this one with an error.
        let stubs = "converge() { :; }; make() { :; }; mysql() { :; }; set -eu; PATH=\n";
        let output =
            std::process::Command::new("/bin/sh").args(["-c", &format!("{stubs}{examples}")]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}: {examples}", everything(&output));
    }
}

/// Every form of a command that takes a URL, with that URL, and a good one where a second is needed.
fn with_url(url: &str, good: &str) -> Vec<Vec<String>> {
    let words = |text: &str| text.split(' ').map(|w| w.replace("URL", url).replace("GOOD", good)).collect();
    [
        "move run w --source URL --target GOOD --tables t --retry-for 1s",
        "move run w --source GOOD --target URL --tables t --retry-for 1s",
        "move status w --target URL",
        "move switch-traffic w --target URL --timeout 1s",
        "move cancel w --target URL",
        "move complete w --target URL",
        "load --url URL --seed 1 --duration 1s --rows 100",
    ]
    .map(words)
    .into()
}

fn each_refused(commands: &[Vec<String>], words: &[&str]) {
    for command in commands {
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        refused(&command, words);
    }
}

#[test]
fn a_url_that_is_none_is_explained_without_its_password() {
    let good = "mysql://root@127.0.0.1:1/shop";
    for (url, word) in [
        ("postgres://root:s3cret@127.0.0.1:1/shop", "postgres"),
        ("root:s3cret@127.0.0.1/shop", "mysql://"),
        ("mysql://root:s3cret@127.0.0.1:port/shop", "mysql://"),
        ("mysql://root:s3cret@127.0.0.1:70000/shop", "mysql://"),
    ] {
        each_refused(&with_url(url, good), &[word]);
        refused(&["vdiff", "--source", url, "--target", good, "--tables", "t"], &[word]);
        refused(&["vdiff", "--source", good, "--target", url, "--tables", "t"], &[word]);
    }
}

#[test]
fn a_scenario_or_server_that_cannot_be_used_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report").display().to_string();
    let file = directory.path().join("scenario.toml");
    let path = file.to_str().unwrap();
    for (scenario, word) in [
        ("nmae = 'x'", "nmae"),
        ("name = ", "TOML"),
        ("tables = ['nosuch']", "nosuch"),
        ("[[fault]]\nkind = 'kill_everybody'", "kill_everybody"),
        ("[[fault]]\nkind = 'kill_mover'\nat_copied = 2.0", "at_copied"),
        ("[load]\nrows = 'many'", "rows"),
        ("[load]\nsessions = 0", "load.sessions must be from 1 to 60000"),
        ("name = '../../evil'", "../../evil"),
        ("limit_seconds = 0", "limit_seconds must be more than 0"),
    ] {
        std::fs::write(&file, scenario).unwrap();
        refused(&["rehearse", path, "--report", &report], &[path, word, "plan.toml", "at its start"]);
    }
    std::fs::write(&file, "schema = 'nosuch.sql'").unwrap();
    let schemas = "give a file of SQL statements, or one of commerce, classic, types";
    for command in [
        &["rehearse", path, "--report", &report][..],
        &["rehearse", "--schema", "nosuch.sql", "--report", &report],
        &["campaign", "--runs", "1", "--directory", &report, path],
    ] {
        refused(command, &["cannot read the schema", "nosuch.sql", schemas]);
        assert!(run(command).stdout.is_empty(), "a plan is printed that cannot be run");
    }
    for url in ["foo", "http://127.0.0.1", "127.0.0.1:8474", "http://:8474"] {
        let output = run(&["rehearse", "--toxiproxy", url, "--report", &report]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{url}");
        assert!(everything(&output).contains("give http://HOST:PORT"), "{}", everything(&output));
    }
    refused(&["rehearse", "/no/such/file.toml", "--report", &report], &["/no/such/file.toml"]);
    std::fs::write(&file, "").unwrap();
    for server in ["oracle", "/no/such/mysqld", "/bin/true"] {
        refused(&["rehearse", path, "--server", server, "--report", &report], &[server]);
    }
    assert!(!directory.path().join("report").exists(), "nothing was begun");
    refused(&["rehearse", path, "--report", &format!("{path}/below/a/file")], &[path]);
}

#[test]
fn a_campaign_that_cannot_be_run_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = file.join("below");
    let (path, below) = (file.to_str().unwrap(), below.to_str().unwrap());
    refused(&["campaign", "--runs", "1", "/no/such/file.toml"], &["/no/such/file.toml"]);
    refused(&["campaign", "--runs", "1", "--server", "oracle", "--directory", below], &["oracle"]);
    refused(&["campaign", "--runs", "1", "--directory", below], &[path, "--directory"]);
    for (bad, word) in [
        (&["campaign"][..], "--runs"),
        (&["campaign", "--runs", "0"], "0"),
        (&["campaign", "--runs", "1", "--jobs", "0"], "--jobs"),
        (&["simulate", "--worlds", "0"], "--worlds"),
        (
            &["simulate", "--copy-strategy", "nope"],
            "watermark, locking, delete_history, snapshot, replica, naive",
        ),
        (&["campaign", "--runs", "1", "--swarm", path], "cannot be used with"),
    ] {
        let output = run(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
        assert!(everything(&output).contains(word), "{}", everything(&output));
    }
}

#[test]
fn a_log_in_a_pipe_has_no_colours() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let server = directory.path().join("mysqld");
    std::fs::write(&server, "#!/bin/sh\necho hello\n").unwrap();
    std::fs::set_permissions(&server, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = converge();
    command.args(["rehearse", "--server", "oracle"]).env_remove("CONVERGE_SERVERS");
    let output = command.env("PATH", directory.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("passed over: ") && !errors.contains('\u{1b}'), "{errors:?}");
}

/// The text counts worlds from 1, and so does the JSON.
#[test]
fn a_world_that_fails_has_one_number_in_text_and_json() {
    let simulate = ["simulate", "--copy-strategy", "naive", "--seed", "11"];
    let text = everything(&run(&simulate));
    let json = run(&[&simulate[..], &["--format", "json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let (world, seed) = (&json["failure"]["world"], &json["failure"]["seed"]);
    assert_eq!(world, &json["worlds"]);
    assert!(text.contains(&format!("world {world} (seed {seed}) failed")), "{text} {json}");
    let plan = &json["failure"]["plan"];
    assert_eq!(plan["strategy"], "naive");
    assert!(plan["tables"].is_array() && plan["clients"][0][0]["statements"][0].is_string(), "{plan}");
}

#[test]
fn a_run_that_cannot_be_made_smaller_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    refused(&["shrink", path], &[path, "not the directory of a run"]);
    std::fs::write(directory.path().join("plan.toml"), "").unwrap();
    refused(&["shrink", path], &[path, "came to no verdict", "--replay"]);
    let verdict = r#"{"verdict":"converged","reasons":[],"scenario":"s","seed":1,"replay":"","started":"",
        "elapsed_seconds":1.0,"source":"MySQL 9.7.4","target":"MySQL 9.7.4","position":null,"oracles":[],
        "statements":[],"faults":[],"vdiff":null,"not_verified":[]}"#;
    std::fs::write(directory.path().join("verdict.json"), verdict).unwrap();
    refused(&["shrink", path], &[path, "converged", "nothing to look for"]);
    let failed = verdict.replace("converged", "diverged");
    std::fs::write(directory.path().join("verdict.json"), failed).unwrap();
    refused(&["shrink", path, "--server", "/no/such/mysqld"], &["/no/such/mysqld"]);
    assert_eq!(run(&["shrink", path, "--tries", "0"]).status.code(), Some(2));
    assert!(!directory.path().join("smallest.toml").exists());
}

#[test]
fn a_directory_that_cannot_be_replayed_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("a run");
    let path = run.to_str().unwrap();
    refused(&["rehearse", "--replay", path], &[path, "not the directory of a run", "plan.toml"]);
    std::fs::create_dir(&run).unwrap();
    refused(&["rehearse", "--replay", path], &[path, "not the directory of a run"]);
    let save = |name: &str, text: &str| std::fs::write(run.join(name), text).unwrap();
    for (plan, word) in [("name = ", "TOML"), ("nmae = 'x'", "nmae"), ("tables = ['nosuch']", "nosuch")] {
        save("plan.toml", plan);
        refused(&["rehearse", "--replay", path], &["plan saved in", path, "damaged", word]);
    }
    save("plan.toml", "");
    refused(&["rehearse", "--replay", path], &["seed", "--seed", path]);
    save("verdict.json", "{\"verdict\": \"conv");
    refused(&["rehearse", "--replay", path, "--seed", "1"], &["verdict saved in", path, "damaged"]);
    std::fs::remove_file(run.join("verdict.json")).unwrap();
    save("history.jsonl", "{\"at_us\":0,\"event\":\"run\",\"wall\":\"\",\"seed\":7,\"plan\":{}}\n");
    refused(&["rehearse", "--replay", path, "--report", path], &["is to be repeated", "--report"]);
    refused(&["rehearse", "--replay", path, "--server", "/no/such/mysqld"], &["/no/such/mysqld"]);
    for clash in [&["--swarm"][..], &["--schema", "classic"], &["some.toml"]] {
        let output = converge().args([&["rehearse", "--replay", path], clash].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{clash:?}");
        assert!(everything(&output).contains("cannot be used with"), "{}", everything(&output));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was begun");
}

async fn root(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.t (id INT PRIMARY KEY)",
        "INSERT INTO shop.t VALUES (1), (2)",
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    let account = "'dba'@'127.0.0.1'";
    conn.query_drop(format!("CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")).await.unwrap();
    conn.query_drop(format!("GRANT ALL ON *.* TO {account}")).await.unwrap();
    conn
}

fn dba(server: &LocalServer, database: &str) -> Address {
    Address { user: "dba".into(), password: PASSWORD.into(), ..server.address(database) }
}

/// Servers that are away or that refuse, databases and tables that are not there.
async fn unusable_servers(binary: &ServerBinary) {
    let server = support::start(binary, "source").await;
    let mut conn = root(&server).await;
    let good = dba(&server, "shop").to_url();
    let away = Address { port: 1, ..dba(&server, "shop") };
    each_refused(&with_url(&away.to_url(), &good), &["127.0.0.1:1", "refused"]);
    let wrong = Address { password: "s3cret".into(), ..dba(&server, "shop") };
    each_refused(&with_url(&wrong.to_url(), &good), &["dba", "password"]);
    let nowhere = with_url(&dba(&server, "nosuch").to_url(), &good);
    // The load makes the database that it is given; the commands on a workflow do not need it to be there.
    for command in nowhere.iter().filter(|c| c[0] == "move" && c[1] == "run") {
        each_refused(std::slice::from_ref(command), &["nosuch"]);
    }
    let nothing = with_url(&dba(&server, "").to_url(), &good);
    for command in nothing.iter().filter(|c| c[0] == "load" || c[1] == "run") {
        each_refused(std::slice::from_ref(command), &["no database"]);
    }
    let tables = ["--tables", "nosuch", "--retry-for", "1s"];
    conn.query_drop("CREATE DATABASE other").await.unwrap();
    let other = dba(&server, "other").to_url();
    refused(
        &[&["move", "run", "w", "--source", &good, "--target", &other], &tables[..]].concat(),
        &["nosuch"],
    );
    for command in ["status", "switch-traffic", "cancel", "complete"] {
        refused(&["move", command, "w", "--target", &good], &["no such workflow"]);
    }

    conn.query_drop("CREATE TABLE shop.customer (other INT)").await.unwrap();
    refused(&["load", "--url", &good, "--duration", "1s"], &["customer"]);
    conn.query_drop("CREATE USER 'poor'@'127.0.0.1' IDENTIFIED BY 's3cret'").await.unwrap();
    let poor = Address { user: "poor".into(), password: "s3cret".into(), ..server.address("shop") };
    each_refused(&with_url(&poor.to_url(), &good), &["poor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_refuses_is_explained() {
    for binary in support::servers() {
        eprintln!("refusals on {}", binary.info);
        unusable_servers(&binary).await;
    }
}

/// All commands at work, with a password to keep.
async fn discreet(binary: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(binary, "source"), support::start(binary, "target"));
    root(&source).await;
    let mut conn = root(&target).await;
    conn.query_drop("DROP TABLE shop.t").await.unwrap();
    let (from, to) = (dba(&source, "shop").to_url(), dba(&target, "shop").to_url());
    let scratch = dba(&source, "scratch").to_url();
    let load = run(&["load", "--url", &scratch, "--seed", "1", "--duration", "1s", "--rows", "100"]);
    assert_eq!(load.status.code(), Some(0), "{}", everything(&load));
    without_password(&everything(&load));

    let mut mover = mover::Mover::between(&from, &to, "t");
    mover.start();
    mover.wait_for("replicating");
    for command in [
        &["move", "status", "w", "--target", &to, "--format", "json"][..],
        &["move", "check", "--source", &from, "--target", &to, "--tables", "t", "--format", "json"],
        &["load", "--url", &scratch, "--duration", "1s", "--format", "json"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = converge().args(command).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(everything(&output).contains("cannot write the answer"), "{}", everything(&output));
    }
    mover.switch();
    for (verb, options) in [("status", &[][..]), ("status", &["--format", "json"]), ("complete", &[])] {
        let output = mover.command(verb, options);
        assert_eq!(output.status.code(), Some(0), "{}", everything(&output));
        without_password(&everything(&output));
    }
    assert_eq!(mover.ended(), 0);
    assert!(!mover.log().is_empty());
    without_password(&mover.log());
    let tables = ["--tables", "_t_fenced=t"];
    let vdiff = run(&[&["vdiff", "--source", &from, "--target", &to], &tables[..]].concat());
    assert_eq!(vdiff.status.code(), Some(0), "{}", everything(&vdiff));
    without_password(&everything(&vdiff));
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_stay_out_of_all_output() {
    for binary in support::servers() {
        eprintln!("passwords on {}", binary.info);
        discreet(&binary).await;
    }
}

/// An account that holds what `move run --help` names, and nothing else.
async fn grant(conn: &mut Conn, binary: &ServerBinary, privileges: &[String]) {
    let account = "'mover'@'127.0.0.1'";
    conn.query_drop(format!("CREATE USER {account} IDENTIFIED BY '{PASSWORD}'")).await.unwrap();
    for privilege in privileges {
        let sql = format!("GRANT {privilege} TO {account}");
        conn.query_drop(&sql).await.unwrap_or_else(|e| panic!("{}: {sql}: {e}", binary.info));
    }
}

/// A whole move with the least privileges.
async fn least_privileges(binary: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(binary, "source"), support::start(binary, "target"));
    let (mut s, mut t) = (root(&source).await, root(&target).await);
    t.query_drop("DROP TABLE shop.t").await.unwrap();
    let client = match binary.kind() {
        "mysql" => "REPLICATION CLIENT",
        _ => "BINLOG MONITOR, SLAVE MONITOR",
    };
    let rows = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP";
    let marks = "CREATE, SELECT, INSERT, UPDATE, DELETE ON _converge.*".to_owned();
    let log = format!("REPLICATION SLAVE, {client} ON *.*");
    let table = "SELECT, ALTER, DROP, CREATE, INSERT ON shop.*".to_owned();
    grant(&mut s, binary, &[table, log, marks]).await;
    grant(&mut t, binary, &[format!("{rows} ON shop.*"), format!("{rows} ON _converge.*")]).await;

    let url = |server: &LocalServer| Address { user: "mover".into(), ..dba(server, "shop") }.to_url();
    let mut mover = mover::Mover::between(&url(&source), &url(&target), "t");
    mover.start();
    mover.wait_for("replicating");
    s.query_drop("UPDATE shop.t SET id = id + 10").await.unwrap();
    mover.switch();
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0, "{}", mover.log());
    let rows: Vec<i32> = t.query("SELECT id FROM shop.t ORDER BY id").await.unwrap();
    assert_eq!(rows, [11, 12]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_privileges_that_help_names_are_enough() {
    for binary in support::servers() {
        eprintln!("privileges on {}", binary.info);
        least_privileges(&binary).await;
    }
}

#[test]
fn a_binary_for_people_has_no_bugs_planted_in_it() {
    refused(&["selftest", "--runs", "1"], &["no bugs planted", "--features planted"]);
    let binary = std::fs::read(env!("CARGO_BIN_EXE_converge")).unwrap();
    let said = b"this mover is wrong on purpose";
    assert!(!binary.windows(said.len()).any(|window| window == said), "planted bugs were compiled in");
    let listed = run(&["selftest", "--list"]);
    assert!(everything(&listed).contains("delete_in_window"));
}
