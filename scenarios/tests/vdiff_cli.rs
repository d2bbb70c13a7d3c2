//! `converge vdiff` as a script sees it: its JSON, its exit codes, its errors.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{connect, fresh, run, server};
use converge_chaos::server::LocalServer;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

fn command(source: &str, target: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_converge"));
    command.args(["vdiff", "--source", source, "--target", target]).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn vdiff(source: &str, target: &str, more: &[&str]) -> Output {
    command(source, target, more).output().unwrap()
}

fn urls(server: &LocalServer) -> (String, String) {
    (server.address("vs").to_url(), server.address("vt").to_url())
}

/// The error that a comparison ends in: exit code 2, no verdict, and each of the words.
fn refused(output: &Output, words: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    for word in words {
        assert!(error.contains(word), "no {word:?} in: {error}");
    }
    assert!(error.contains("what to do:"), "{error}");
    assert!(!error.contains("s3cret"), "{error}");
}

async fn tables(server: &LocalServer) -> (Conn, Conn) {
    let (mut source, mut target) = (fresh(server, "vs").await, fresh(server, "vt").await);
    for (conn, renamed) in [(&mut source, "a"), (&mut target, "b")] {
        run(conn, "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, email VARCHAR(50), secret INT)").await;
        run(conn, "INSERT INTO t VALUES (1, 'a@x', 1), (2, 'b@x', 2), (18446744073709551615, 'c@x', 3)")
            .await;
        run(conn, &format!("CREATE TABLE {renamed} (k VARBINARY(8) PRIMARY KEY)")).await;
        run(conn, &format!("INSERT INTO {renamed} VALUES (x'00ff'), ('a')")).await;
    }
    (source, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn json_and_exit_codes_are_the_contract() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut target) = tables(&one).await;
        let (from, to) = urls(&one);
        let args = ["--tables", "t,a=b", "--format", "json"];
        let equal = vdiff(&from, &to, &args);
        assert_eq!(equal.status.code(), Some(0), "{}", String::from_utf8_lossy(&equal.stderr));
        let json: serde_json::Value = serde_json::from_slice(&equal.stdout).unwrap();
        assert_eq!((&json["verdict"], &json["tables"][1]["target_table"]), (&"equal".into(), &"b".into()));

        for (engine, used, why) in [
            ("stream", "stream", "asked for"),
            ("pushdown", "pushdown", "asked for"),
            ("auto", "", "too small for a trial"),
        ] {
            let more = ["--tables", "t", "--format", "json", "--chunk-rows", "1", "--engine", engine];
            let json: serde_json::Value = serde_json::from_slice(&vdiff(&from, &to, &more).stdout).unwrap();
            let table = &json["tables"][0];
            assert_eq!((&json["verdict"], &table["processed_rows"]), (&"equal".into(), &3.into()), "{json}");
            assert!(table["engine"].as_str().unwrap().contains(used), "{table}");
            assert!(table["engine_reason"].as_str().unwrap().contains(why), "{table}");
        }

        run(&mut target, "UPDATE t SET email = 'B@x' WHERE id = 2").await;
        run(&mut target, "DELETE FROM t WHERE id > 2").await;
        run(&mut target, "INSERT INTO b VALUES (x'ff')").await;
        let page = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
        let path = page.path().to_str().unwrap();
        let different = vdiff(&from, &to, &[&args[..], &["--report", path]].concat());
        assert_eq!(different.status.code(), Some(1), "{}", String::from_utf8_lossy(&different.stderr));
        let json: serde_json::Value = serde_json::from_slice(&different.stdout).unwrap();
        let table = &json["tables"][0];
        let numbers =
            ["processed_rows", "matching_rows", "mismatched_rows", "extra_rows_source", "extra_rows_target"]
                .map(|name| table[name].as_u64().unwrap());
        assert_eq!((&json["verdict"], numbers), (&"different".into(), [3, 1, 1, 1, 0]));
        let row = |row: &serde_json::Value| (row["key"].clone(), row["kind"].clone(), row["columns"].clone());
        let rows: Vec<_> = table["rows"].as_array().unwrap().iter().map(row).collect();
        let wanted = serde_json::json!([
            [{"id": 2}, "mismatched", ["email"]],
            [{"id": "18446744073709551615"}, "extra_source", []],
        ]);
        assert_eq!(serde_json::to_value(&rows).unwrap(), wanted);
        assert_eq!(table["not_verified"], serde_json::json!([]));
        assert_eq!(json["tables"][1]["rows"][0]["key"], serde_json::json!({"k": "0xff"}));
        let html = std::fs::read_to_string(path).unwrap();
        assert!(
            html.contains("<mark>B</mark>@x")
                && html.contains("18446744073709551615")
                && !html.contains("src="),
            "{html}"
        );

        let text = vdiff(&from, &to, &["--tables", "t"]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("verdict: different") && text.contains("\"b@x\" → \"B@x\""), "{text}");

        let one_row = vdiff(&from, &to, &["--tables", "t", "--format", "json", "--max-rows-reported", "1"]);
        let json: serde_json::Value = serde_json::from_slice(&one_row.stdout).unwrap();
        let table = &json["tables"][0];
        assert_eq!((table["rows"].as_array().unwrap().len(), &table["extra_rows_source"]), (1, &1.into()));

        files_that_cannot_be_written_lose_no_answer(&from, &to);

        run(&mut target, "ALTER TABLE t ADD more INT").await;
        run(&mut target, "REPLACE INTO t VALUES (2, 'b@x', 2, 0), (18446744073709551615, 'c@x', 3, 0)").await;
        let open = vdiff(&from, &to, &["--tables", "t"]);
        assert_eq!(open.status.code(), Some(3), "{}", String::from_utf8_lossy(&open.stdout));
    }
}

/// What took hours is told all the same, in all the other places.
fn files_that_cannot_be_written_lose_no_answer(from: &str, to: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (state, junit, json) = (path("state"), path("r.xml"), path("r.json"));
    let some = ["--tables", "t", "--state", &state, "--report", "/dev/full", "--junit", &junit];
    let full = vdiff(from, to, &some);
    let (answer, error) = (String::from_utf8_lossy(&full.stdout), String::from_utf8_lossy(&full.stderr));
    assert_eq!(full.status.code(), Some(2), "{error}");
    assert!(answer.contains("verdict: different") && error.contains("cannot write to /dev/full"), "{error}");
    assert!(std::fs::read_to_string(&junit).unwrap().contains("failures=\"1\""));
    assert!(std::fs::exists(path("state/vdiff-state.jsonl")).unwrap(), "the state is gone with the answer");

    let twice = vdiff(from, to, &["--tables", "t", "--json", &json, "--report", &json]);
    refused(&twice, &["named for two files"]);
    refused(&vdiff(from, to, &["--tables", "nosuch", "--json", &path("no/r.json")]), &["cannot write to"]);
    assert!(!std::fs::exists(&json).unwrap(), "what was only tried is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_explained() {
    let help = Command::new(env!("CARGO_BIN_EXE_converge")).args(["vdiff", "--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("Example"));
    for binary in support::servers() {
        let one = server(&binary).await;
        let (mut source, _target) = tables(&one).await;
        let (from, to) = urls(&one);
        refused(&vdiff(&from, &to, &["--tables", "nosuch"]), &["source", "`vs`.`nosuch`"]);
        refused(&vdiff(&from, &to, &["--tables", "a"]), &["target", "`vt`.`a`"]);
        refused(&vdiff(&from, &one.address("nosuch").to_url(), &["--tables", "t"]), &["target", "nosuch"]);
        refused(&vdiff(&one.address("").to_url(), &to, &["--tables", "t"]), &["source", "no database"]);
        refused(&vdiff("mysql://root@127.0.0.1:1/vs", &to, &["--tables", "t"]), &["source", "127.0.0.1:1"]);
        refused(&vdiff("postgres://root:s3cret@h/db", &to, &["--tables", "t"]), &["postgres", "mysql://"]);
        refused(&vdiff(&from, &to, &[]), &["--tables", "--all-tables", "--workflow"]);
        let both = ["--tables", "t", "--columns", "email", "--ignore-columns", "Email"];
        refused(&vdiff(&from, &to, &both), &["--columns email", "--ignore-columns"]);
        assert_eq!(vdiff(&from, &to, &["--tables", "=x"]).status.code(), Some(2));
        for option in ["--confirm-within", "--statement-timeout", "--max-lag", "--max-duration"] {
            let never = vdiff(&from, &to, &["--tables", "t", option, "18446744073709551615"]);
            assert_eq!(never.status.code(), Some(2), "{}", String::from_utf8_lossy(&never.stderr));
        }

        let account = "'reader'@'127.0.0.1'";
        run(&mut source, &format!("CREATE USER {account} IDENTIFIED BY 's3cret'")).await;
        let mut reader = one.address("vs");
        (reader.user, reader.password) = ("reader".into(), "wrong".into());
        refused(&vdiff(&reader.to_url(), &to, &["--tables", "t"]), &["source", "reader"]);
        reader.password = "s3cret".into();
        run(&mut source, &format!("GRANT SELECT ON vs.a TO {account}")).await;
        refused(&vdiff(&reader.to_url(), &to, &["--tables", "t"]), &["source", "`vs`.`t`", "GRANT SELECT"]);
        run(&mut source, &format!("GRANT SELECT (id, email) ON vs.t TO {account}")).await;
        refused(&vdiff(&reader.to_url(), &to, &["--tables", "t"]), &["source", "`vs`.`t`", "GRANT SELECT"]);
        // SELECT on the tables is enough.
        run(&mut source, &format!("GRANT SELECT ON vs.t TO {account}")).await;
        let read = vdiff(&reader.to_url(), &to, &["--tables", "t"]);
        assert_eq!(read.status.code(), Some(0), "{}", String::from_utf8_lossy(&read.stderr));
        assert!(!String::from_utf8_lossy(&read.stdout).contains("s3cret"));
    }
}

/// A comparison in the background; it is gone when this is, also after a panic.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A comparison that waits on a lock of the target; the lock lasts as long as the connection returned.
async fn stuck(one: &LocalServer) -> (Running, Conn) {
    let (_source, mut target) = tables(one).await;
    run(&mut target, "LOCK TABLES t WRITE").await;
    let (from, to) = urls(one);
    let child = Running::start(&mut command(&from, &to, &["--tables", "t"]));
    let mut watcher = connect(one, "").await;
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let waiting: Option<u64> = watcher
            .query_first(
                "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table%'",
            )
            .await
            .unwrap();
        if waiting > Some(0) {
            return (child, target);
        }
        assert!(Instant::now() < give_up, "the comparison never waited for the lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ended(mut child: Running, within: Duration) -> Output {
    let give_up = Instant::now() + within;
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            child.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
            child.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
            return Output { status, stdout, stderr };
        }
        assert!(Instant::now() < give_up, "still running after {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gone_in_the_middle_is_an_error() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (child, _lock) = stuck(&one).await;
        one.kill().await.unwrap();
        let output = ended(child, Duration::from_secs(20));
        refused(&output, &["lost"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_end_it_without_a_verdict() {
    use nix::sys::signal::Signal;
    for binary in support::servers() {
        let one = server(&binary).await;
        for (signal, told) in [(Signal::SIGINT, "interrupted"), (Signal::SIGTERM, "terminated")] {
            let (child, _lock) = stuck(&one).await;
            let pid = nix::unistd::Pid::from_raw(child.0.id() as i32);
            nix::sys::signal::kill(pid, signal).unwrap();
            let output = ended(child, Duration::from_secs(3));
            refused(&output, &[told]);
        }
    }
}

/// How many statements of comparisons run on a server that work without end.
async fn working(watcher: &mut Conn) -> u64 {
    let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE '%BENCHMARK(%' AND ID <> CONNECTION_ID()";
    watcher.query_first(sql).await.unwrap().unwrap()
}

/// Waits until so many work.
async fn until_working(watcher: &mut Conn, are: impl Fn(u64) -> bool, what: &str) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !are(working(watcher).await) {
        assert!(Instant::now() < give_up, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_running_on_the_servers() {
    use nix::sys::signal::Signal;
    // Of one row, so that nothing but reading the rows takes long.
    let endless = "IF(id = 2, BENCHMARK(4000000000, SHA2('x', 512)), 0) = 0";
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut watcher) = tables(&one).await;
        let (from, to) = urls(&one);
        for engine in ["pushdown", "stream"] {
            let some = ["--tables", "t", "--where", endless, "--engine", engine];
            let child = Running::start(&mut command(&from, &to, &some));
            until_working(&mut watcher, |working| working == 2, "it never began").await;
            let pid = nix::unistd::Pid::from_raw(child.0.id() as i32);
            nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
            refused(&ended(child, Duration::from_secs(6)), &["interrupted"]);
            assert_eq!(working(&mut watcher).await, 0, "{engine}: left running after a signal");
            let late = [&some[..], &["--statement-timeout", "1"]].concat();
            refused(&vdiff(&from, &to, &late), &["no answer within 1 s"]);
            assert_eq!(working(&mut watcher).await, 0, "{engine}: left running after its time was up");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_an_answer_is_given_up() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut target) = tables(&one).await;
        run(&mut target, "LOCK TABLES t WRITE").await;
        let (from, to) = urls(&one);
        let child = Running::start(&mut command(&from, &to, &["--tables", "t", "--statement-timeout", "1"]));
        refused(&ended(child, Duration::from_secs(20)), &["target", "no answer within 1 s"]);
    }
}
