//! Options of `converge vdiff` through the real binary: all tables, files that are written, repair, what a state is for.
//! And a server whose defaults would keep a session in one transaction.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{connect, fresh, request, run, server, server_with};
use converge_chaos::server::LocalServer;
use converge_mysql::{Address, Flavor};
use converge_vdiff::{Error, Options, Progress, Request, TablePair, Verdict, compare};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// Runs the command with an exit code that is expected; its JSON, or its error if that is 2.
fn vdiff(server: &LocalServer, code: i32, more: &[&str]) -> Value {
    let output = vdiff_as(server, &[&["--format", "json"], more].concat());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{more:?}: {error}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    match code {
        2 => Value::String(error),
        _ => serde_json::from_slice(&output.stdout).unwrap(),
    }
}

fn vdiff_as(server: &LocalServer, more: &[&str]) -> Output {
    let [from, to] = ["vs", "vt"].map(|database| server.address(database).to_url());
    let mut command = Command::new(env!("CARGO_BIN_EXE_converge"));
    command.args(["vdiff", "--source", &from, "--target", &to]).args(more).stdin(Stdio::null());
    command.output().unwrap()
}

async fn both(server: &LocalServer, statements: &[&str]) -> [Conn; 2] {
    let mut conns = [fresh(server, "vs").await, fresh(server, "vt").await];
    for conn in &mut conns {
        for sql in statements {
            run(conn, sql).await;
        }
    }
    conns
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// With `autocommit=0` all readings of a session would show what the first one showed.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_begins_transactions_by_itself_shows_rows_as_they_are_now() {
    for binary in support::servers() {
        let one = server_with(&binary, &["--autocommit=0", "--completion-type=RELEASE"]).await;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, v INT)";
        let [_source, mut target] = both(&one, &[table, "INSERT INTO t VALUES (1, 1), (2, 2)"]).await;
        run(&mut target, "UPDATE t SET v = 9 WHERE id = 2").await;
        let (address, runtime) = (one.address("vt"), tokio::runtime::Handle::current());
        // The row was only late.
        let arrive = move |progress: Progress| {
            if matches!(progress, Progress::Confirming { .. }) {
                let address = address.clone();
                tokio::task::block_in_place(|| {
                    runtime.block_on(async {
                        let mut conn = converge_mysql::Connector::new(address).connect().await.unwrap();
                        run(&mut conn, "UPDATE t SET v = 2 WHERE id = 2").await;
                    })
                });
            }
        };
        let options = Options { quiet_window: Duration::from_millis(200), ..Options::default() };
        let request = request([&one, &one], vec![TablePair::same("t")], options);
        let report = compare(&request, &arrive).await.unwrap();
        assert_eq!((report.verdict, report.tables[0].matching_rows), (Verdict::Equal, 2), "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_are_compared_and_lonely_ones_are_named() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let [mut source, mut target] =
            both(&one, &["CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT)"]).await;
        run(&mut source, "INSERT INTO b VALUES (1)").await;
        run(&mut source, "CREATE VIEW w AS SELECT * FROM a").await;
        run(&mut source, "CREATE TABLE here (id INT)").await;
        run(&mut target, "CREATE TABLE there (id INT)").await;
        let directory = tempfile::tempdir().unwrap();
        let xml = directory.path().join("r.xml");
        let found =
            vdiff(&one, 1, &["--all-tables", "--exclude", "b,there", "--junit", xml.to_str().unwrap()]);
        let tables: Vec<_> =
            found["tables"].as_array().unwrap().iter().map(|t| (&t["table"], &t["verdict"])).collect();
        assert_eq!(
            tables,
            [(&json!("a"), &json!("equal")), (&json!("here"), &json!("different"))],
            "{found}"
        );
        assert!(found["tables"][1]["schema"][0]["message"].as_str().unwrap().contains("on the source only"));
        let notes = found["not_verified"].to_string();
        assert!(notes.contains("b, there") && notes.contains("views and sequences: w"), "{notes}");
        assert!(found["command"].as_str().unwrap().ends_with("--all-tables --exclude 'b,there'"), "{found}");
        assert!(read(&xml).contains("failures=\"1\""), "{}", read(&xml));
        let text = vdiff_as(&one, &["--all-tables", "--exclude", "b,here"]);
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("there") && text.contains("on the target only"), "{text}");
        assert!(!text.contains("engine: there") && found["tables"][1].get("engine").is_none(), "{text}");

        let all = vdiff(&one, 1, &["--all-tables", "--exclude", "here,there"]);
        assert_eq!(
            (&all["tables"][1]["table"], &all["tables"][1]["extra_rows_source"]),
            (&json!("b"), &json!(1))
        );
        vdiff(&one, 0, &["--all-tables", "--exclude", "b,here,there"]);
        let typo = vdiff(&one, 2, &["--all-tables", "--exclude", "c"]);
        assert!(typo.as_str().unwrap().contains("--exclude c"), "{typo}");
        vdiff(&one, 2, &["--all-tables", "--tables", "a"]);
        vdiff(&one, 2, &["--tables", "a", "--exclude", "b"]);
        let emoji = vdiff(&one, 2, &["--tables", "a😀"]);
        assert!(emoji.as_str().unwrap().contains("has no table"), "{emoji}");
    }
}

/// What an account may not see is not listed, and is not missing for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_account_may_not_see_is_not_called_missing() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let tables = ["CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)"];
        let [mut conn, _] = both(&one, &tables).await;
        run(&mut conn, "CREATE USER half@'127.0.0.1'").await;
        run(&mut conn, "GRANT SELECT ON vt.a TO half@'127.0.0.1'").await;
        let half = |database| Address { user: "half".into(), ..one.address(database) };
        let options = Options { all_tables: Some(Vec::new()), ..Options::default() };
        let request = Request { target: vec![half("vt")], ..request([&one, &one], Vec::new(), options) };
        let error = compare(&request, &|_| {}).await.unwrap_err();
        assert!(matches!(&error, Error::Denied { table, .. } if table == "b"), "{error}");
        run(&mut conn, "GRANT SELECT ON vt.* TO half@'127.0.0.1'").await;
        run(&mut conn, "DROP TABLE vt.b").await;
        let report = compare(&request, &|_| {}).await.unwrap();
        assert_eq!(report.verdict, Verdict::Different, "{}", report.to_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_and_the_target_is_repaired_as_asked() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let rows = "INSERT INTO t VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Edsger')";
        let [_source, mut target] =
            both(&one, &["CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20))", rows]).await;
        run(&mut target, "UPDATE t SET name = 'Linus' WHERE id = 2").await;
        run(&mut target, "DELETE FROM t WHERE id = 3").await;
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files: Vec<_> = ["r.sql", "r.json", "r.xml", "r.html"]
            .map(path)
            .iter()
            .map(|p| p.display().to_string())
            .collect();
        let reports =
            ["--tables", "t", "--json", &files[1], "--junit", &files[2], "--report", &files[3]].to_vec();

        let hidden = vdiff(&one, 1, &[&reports[..], &["--redact"]].concat());
        let written: String = files[1..].iter().map(|file| read(Path::new(file))).collect();
        for name in ["Grace", "Linus", "Edsger"] {
            assert!(
                !hidden.to_string().contains(name) && !written.contains(name),
                "{name}: {hidden}{written}"
            );
        }
        assert_eq!((&hidden["tables"][0]["mismatched_rows"], &hidden["repair"]), (&json!(1), &Value::Null));

        let scripted = vdiff(&one, 1, &[&reports[..], &["--repair-sql", &files[0]]].concat());
        assert_eq!(serde_json::from_str::<Value>(&read(Path::new(&files[1]))).unwrap(), scripted);
        assert!(read(Path::new(&files[2])).contains("failures=\"1\""), "{}", read(Path::new(&files[2])));
        assert!(read(Path::new(&files[3])).contains("Linus"));
        let table = &scripted["repair"]["tables"][0];
        assert_eq!((&table["scripted_rows"], &table["repaired_rows"]), (&json!(2), &json!(0)), "{table}");
        assert!(read(Path::new(&files[0])).contains("UPDATE") && path("r.undo.sql").exists());
        let names = "SELECT GROUP_CONCAT(name ORDER BY id) FROM t";
        let now: Option<String> = target.query_first(names).await.unwrap();
        assert_eq!(now.as_deref(), Some("Ada,Linus"), "writing a script changed the target");

        let none = vdiff(&one, 3, &["--tables", "t", "--where", "id > 99"]);
        assert!(none["tables"][0]["reasons"].to_string().contains("nothing was compared"), "{none}");
        let twice = vdiff(&one, 2, &["--tables", "t,t"]);
        assert!(twice.as_str().unwrap().contains("named twice"), "{twice}");
        for nonsense in
            [["--redact", "--repair"], ["--sample=50%", "--repair"], ["--sample=5%", "--repair-sql=r"]]
        {
            vdiff(&one, 2, &[&["--tables", "t"], &nonsense[..]].concat());
        }
        let repaired = vdiff(&one, 0, &[&reports[..], &["--repair"]].concat());
        let (repair, table) = (&repaired["repair"], &repaired["repair"]["tables"][0]);
        assert_eq!((&repair["verdict_before"], &repair["applied"]), (&json!("different"), &json!(true)));
        assert_eq!(
            (&table["repaired_rows"], &table["still_differing_rows"]),
            (&json!(2), &json!(0)),
            "{table}"
        );
        let now: Option<String> = target.query_first(names).await.unwrap();
        assert_eq!(now.as_deref(), Some("Ada,Grace,Edsger"));
        vdiff(&one, 0, &["--tables", "t"]);
    }
}

/// A column that is not compared comes along with a missing row, also where it has another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_comes_along_though_it_was_not_compared() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let table = "CREATE TABLE t (id INT PRIMARY KEY, v INT, old VARCHAR(9) NOT NULL)";
        let [_source, mut target] =
            both(&one, &[table, "INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')"]).await;
        run(&mut target, "ALTER TABLE t CHANGE old new VARCHAR(9) NOT NULL DEFAULT 'lost'").await;
        run(&mut target, "DELETE FROM t WHERE id = 2").await;
        run(&mut target, "UPDATE t SET v = 9, new = 'kept' WHERE id = 1").await;
        vdiff(&one, 0, &["--tables", "t", "--columns", "v", "--rename-columns", "old=new", "--repair"]);
        let now: Vec<(i32, i32, String)> =
            target.query("SELECT id, v, new FROM t ORDER BY id").await.unwrap();
        assert_eq!(now, [(1, 1, "kept".into()), (2, 2, "b".into())]);
    }
}

/// What a server writes to compute a digest would pass for somebody's writes, and nothing would be proven for longer.
#[tokio::test(flavor = "multi_thread")]
async fn digesting_a_large_chunk_writes_no_rows() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let mut statements = vec![
            "CREATE TABLE t (id INT PRIMARY KEY, v INT)".to_owned(),
            "INSERT INTO t VALUES (0, 7)".to_owned(),
        ];
        statements.extend((0..18).map(|n| format!("INSERT INTO t SELECT id + {}, v FROM t", 1 << n)));
        let [_source, mut target] =
            both(&one, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
        run(&mut target, "UPDATE t SET v = 8 WHERE id = 100000").await;
        let counter = match binary.info.flavor {
            Flavor::MySql => "SHOW GLOBAL STATUS LIKE 'Innodb_rows_inserted'",
            Flavor::MariaDb => "SHOW GLOBAL STATUS LIKE 'Handler_write'",
        };
        let before: (String, u64) = target.query_first(counter).await.unwrap().unwrap();
        let found = vdiff(&one, 1, &["--tables", "t", "--engine", "pushdown", "--chunk-rows", "1000000"]);
        assert_eq!(found["tables"][0]["mismatched_rows"], json!(1), "{found}");
        let after: (String, u64) = target.query_first(counter).await.unwrap().unwrap();
        assert_eq!(before, after, "{}", binary.info);
    }
}

/// MySQL moves temporary tables for which there is no room in memory to InnoDB, and counts their rows there.
#[tokio::test(flavor = "multi_thread")]
async fn digests_that_go_to_disk_are_nobodys_writes() {
    for binary in support::servers().into_iter().filter(|binary| binary.info.flavor == Flavor::MySql) {
        let one = server_with(&binary, &["--temptable-max-ram=6291456", "--temptable-max-mmap=0"]).await;
        let mut statements =
            vec!["CREATE TABLE t (id INT, v INT)".to_owned(), "INSERT INTO t VALUES (0, 7)".to_owned()];
        statements.extend((0..16).map(|n| format!("INSERT INTO t SELECT id + {}, v FROM t", 1 << n)));
        let [_source, mut target] =
            both(&one, &statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
        run(&mut target, "UPDATE t SET v = 8 WHERE id = 10000").await;
        let counter = "SHOW GLOBAL STATUS LIKE 'Innodb_rows_inserted'";
        let before: (String, u64) = target.query_first(counter).await.unwrap().unwrap();
        let found = vdiff(&one, 1, &["--tables", "t"]);
        let after: (String, u64) = target.query_first(counter).await.unwrap().unwrap();
        assert!(before < after, "no digest went to disk");
        assert_eq!(found["source"]["stood_still"], json!(true), "{found}");
        assert_eq!(found["tables"][0]["unconfirmed_rows"], json!(0), "{found}");
        assert!(!found["notes"].to_string().contains("written to"), "{found}");
    }
}

/// Commas, dots and the like in names are not those between them.
#[tokio::test(flavor = "multi_thread")]
async fn names_with_signs_in_them_are_named_in_backquotes() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let tables = [
            "CREATE TABLE `t,1` (id INT PRIMARY KEY, `v.w` INT, `x=y` INT)",
            "CREATE TABLE `u=1` (id INT PRIMARY KEY)",
            "INSERT INTO `t,1` VALUES (1, 1, 1)",
            "INSERT INTO `u=1` VALUES (1)",
        ];
        let [_source, mut target] = both(&one, &tables).await;
        run(&mut target, "RENAME TABLE `u=1` TO `u``2`").await;
        run(&mut target, "UPDATE `t,1` SET `v.w` = 2, `x=y` = 2").await;
        let names = "`t,1`,`u=1`=`u``2`";
        let found = vdiff(&one, 1, &["--tables", names]);
        let of = |table: usize| &found["tables"][table];
        assert_eq!((&of(0)["table"], &of(0)["verdict"]), (&json!("t,1"), &json!("different")), "{found}");
        assert_eq!((&of(1)["target_table"], &of(1)["verdict"]), (&json!("u`2"), &json!("equal")), "{found}");
        assert!(found["command"].as_str().unwrap().contains(&format!("--tables '{names}'")), "{found}");
        vdiff(&one, 0, &["--tables", names, "--ignore-columns", "`t,1`.`v.w`,`x=y`"]);
        let found = vdiff(&one, 1, &["--tables", names, "--columns", "`t,1`.`v.w`"]);
        assert_eq!(found["tables"][0]["rows"][0]["columns"], json!(["v.w"]), "{found}");
        let all = vdiff(&one, 1, &["--all-tables", "--exclude", "`t,1`"]);
        let command = all["command"].as_str().unwrap();
        assert!(command.ends_with("--all-tables --exclude '`t,1`'"), "{command}");
        let error = vdiff(&one, 2, &["--tables", "`t,1"]);
        assert!(error.as_str().unwrap().contains("names no table"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_for_the_same_rows_and_columns_only() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let table = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, w INT)";
        let [mut source, mut target] =
            both(&one, &[table, "INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)"]).await;
        let with = |state: &Path, more: &[&str]| {
            let state = ["--tables", "t", "--max-duration", "0s", "--state", state.to_str().unwrap()];
            [&state, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let asked = |code: i32, state: &Path, more: &[&str]| {
            let words = with(state, more);
            vdiff(&one, code, &words.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let begun = [
            vec![],
            vec!["--where", "v < 9"],
            vec!["--columns", "v"],
            vec!["--ignore-columns", "v"],
            vec!["--rename-columns", "v=w", "--ignore-columns", "w"],
            vec!["--sample", "50%"],
            vec!["--sample", "51%"],
        ];
        let kept = tempfile::tempdir().unwrap();
        for (i, options) in begun.iter().enumerate() {
            let state = kept.path().join(i.to_string());
            asked(3, &state, options);
            for (j, other) in begun.iter().enumerate().filter(|(j, _)| i.abs_diff(*j) == 1) {
                let refused = asked(2, &state, other);
                assert!(refused.as_str().unwrap().contains("other options"), "{i} {j}: {refused}");
            }
        }
        // A counter that goes on is no other schema, and a sample goes on with the rows that it had drawn.
        run(&mut source, "INSERT INTO t (v, w) VALUES (3, 3)").await;
        run(&mut target, "INSERT INTO t (v, w) VALUES (3, 3), (4, 4)").await;
        run(&mut target, "DELETE FROM t WHERE v = 4").await;
        asked(3, &kept.path().join("0"), &["--max-rows-reported", "1", "--parallel", "3"]);
        let drawn = asked(3, &kept.path().join("5"), &begun[5]);
        assert_eq!(asked(3, &kept.path().join("5"), &begun[5])["command"], drawn["command"]);
        let mut watcher = connect(&one, "vs").await;
        run(&mut watcher, "ALTER TABLE t ADD KEY (v)").await;
        asked(2, &kept.path().join("0"), &[]);
    }
}
