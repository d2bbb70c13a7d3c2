//! Every value crosses unaltered: a matrix of types, each by copy, by a logged insert, and by a logged update, between
//! all pairs of products. Two judges that share nothing with the mover: the servers' own exact texts, and VDiff.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "values/cases.rs"]
mod cases;
#[path = "values/documents.rs"]
mod documents;
#[path = "values/forms.rs"]
mod forms;
#[path = "values/judge.rs"]
mod judge;
#[path = "support/mover.rs"]
mod mover;
#[path = "support/servers.rs"]
mod support;

use cases::{COMMON, Case, LACKING, MARIADB, MYSQL, REFUSED};
use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Connector, Flavor};
use judge::ident;
use mover::Mover;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Zero dates, no strictness, and a time zone with two clock changes a year.
const SESSION: &str =
    "SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone = 'Europe/Prague'";
/// MySQL and MariaDB know the zone by name only once its table is filled.
const ZONE: &[&str] = &[
    "INSERT IGNORE INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (9001, 'N')",
    "INSERT IGNORE INTO mysql.time_zone_name (Name, Time_zone_id) VALUES ('Europe/Prague', 9001)",
    "INSERT IGNORE INTO mysql.time_zone_transition_type (Time_zone_id, Transition_type_id, `Offset`, Is_DST, Abbreviation) VALUES \
     (9001, 0, 3600, 0, 'CET'), (9001, 1, 7200, 1, 'CEST')",
    "INSERT IGNORE INTO mysql.time_zone_transition (Time_zone_id, Transition_time, Transition_type_id) VALUES \
     (9001, -2147483648, 0), (9001, 1711846800, 1), (9001, 1729990800, 0)",
];

async fn connect(server: &LocalServer) -> Conn {
    let mut conn = Connector::new(server.address("")).connect().await.unwrap();
    run(&mut conn, "CREATE DATABASE IF NOT EXISTS shop CHARACTER SET utf8mb4").await;
    run(&mut conn, "USE shop").await;
    conn
}

async fn run(conn: &mut Conn, sql: &str) {
    let shown: String = sql.chars().take(2000).collect();
    conn.query_drop(sql).await.unwrap_or_else(|e| panic!("{e}: {shown}"));
}

/// A source that writes in Central European time.
async fn source_of(binary: &ServerBinary, extra: &[&str]) -> (LocalServer, Conn) {
    let extra = extra.iter().map(ToString::to_string).collect();
    let server =
        LocalServer::start(binary, ServerOptions { extra, ..ServerOptions::named("source") }).await.unwrap();
    let mut conn = connect(&server).await;
    for sql in ZONE {
        run(&mut conn, sql).await;
    }
    run(&mut conn, SESSION).await;
    (server, conn)
}

fn wide() -> (String, String) {
    let columns: Vec<String> = (0..200)
        .map(|i| format!("c{i} {}", ["INT", "VARCHAR(20)", "DECIMAL(9,2)", "DATETIME(3)"][i % 4]))
        .collect();
    let values: Vec<String> = (0..200)
        .map(|i| {
            if i % 7 == 0 {
                "NULL".into()
            } else {
                [i.to_string(), format!("'v{i}'"), format!("{i}.25"), "'2024-01-02 03:04:05.678'".into()]
                    [i % 4]
                    .clone()
            }
        })
        .collect();
    (columns.join(", "), values.join(", "))
}

/// An ENUM with more members than a byte counts.
fn many_members() -> String {
    let members: Vec<String> = (0..300).map(|i| format!("'m{i}'")).collect();
    format!("e ENUM({})", members.join(","))
}

struct Matrix {
    tables: Vec<(String, String, String, Vec<String>)>,
}

impl Matrix {
    fn new(source: Flavor, target: Flavor) -> Self {
        let own = if source == Flavor::MySql { MYSQL } else { MARIADB };
        let wanted = |c: &&Case| c.only.is_none_or(|f| f == source) && (source == target || c.crosses);
        let mut tables: Vec<_> = COMMON
            .iter()
            .chain(own)
            .filter(wanted)
            .map(|c| {
                let rows = c.rows.iter().map(ToString::to_string).collect();
                (c.table.to_owned(), c.columns.to_owned(), c.options.to_owned(), rows)
            })
            .collect();
        let (columns, values) = wide();
        tables.push(("wide".into(), columns, String::new(), vec![values]));
        let rows = ["'m0'", "'m254'", "'m255'", "'m299'", "0", "NULL"].map(str::to_owned).to_vec();
        tables.push(("many_members".into(), many_members(), String::new(), rows));
        Self { tables }
    }

    fn names(&self) -> Vec<&str> {
        self.tables.iter().map(|t| t.0.as_str()).collect()
    }
}

/// Names of the columns that a statement may write, without `id`, each behind a comma and a prefix.
async fn written(conn: &mut Conn, table: &str, prefix: &str) -> String {
    let columns = judge::columns(conn, table).await;
    columns.iter().filter(|c| !c.2 && c.0 != "id").map(|c| format!(", {prefix}{}", ident(&c.0))).collect()
}

/// Rows 0 to 99 are copied. Rows 100 to 199 are copied with another row's values and updated to their own; rows 200 to
/// 299 are inserted; rows 300 to 399 are copied and deleted.
async fn before(conn: &mut Conn, (table, columns, options, rows): &(String, String, String, Vec<String>)) {
    let name = ident(table);
    run(conn, &format!("CREATE TABLE {name} (id INT PRIMARY KEY AUTO_INCREMENT, {columns}) {options} CHARACTER SET utf8mb4")).await;
    let list = written(conn, table, "").await;
    for (i, row) in rows.iter().enumerate() {
        run(conn, &format!("INSERT INTO {name} (id{list}) VALUES ({i}, {row})")).await;
    }
    let n = rows.len().max(1);
    run(
        conn,
        &format!(
            "INSERT INTO {name} (id{list}) SELECT 100 + (id + 1) % {n}{list} FROM {name} WHERE id < 100"
        ),
    )
    .await;
    run(conn, &format!("INSERT INTO {name} (id{list}) SELECT id + 300{list} FROM {name} WHERE id < 100"))
        .await;
}

async fn after(conn: &mut Conn, table: &str) {
    let name = ident(table);
    let list = written(conn, table, "").await;
    let columns = judge::columns(conn, table).await;
    let sets: Vec<String> = columns
        .iter()
        .filter(|c| !c.2 && c.0 != "id")
        .map(|c| format!("a.{0} = b.{0}", ident(&c.0)))
        .collect();
    run(conn, &format!("INSERT INTO {name} (id{list}) SELECT id + 200{list} FROM {name} WHERE id < 100"))
        .await;
    if !sets.is_empty() {
        let sets = sets.join(", ");
        run(conn, &format!("UPDATE {name} a JOIN {name} b ON a.id = b.id + 100 AND b.id < 100 SET {sets}"))
            .await;
    }
    run(conn, &format!("DELETE FROM {name} WHERE id >= 300")).await;
}

/// What the servers say about a moved table, compared cell by cell. Names the first wrong cell of each column.
async fn complaints(s: &mut Conn, t: &mut Conn, table: &str, flavors: [Flavor; 2]) -> Vec<String> {
    let fenced = format!("_{table}_fenced");
    let columns = judge::columns(s, &fenced).await;
    let kinds: Vec<_> = columns.into_iter().filter(|c| c.0 != "id").collect();
    let typed = flavors == [Flavor::MySql; 2];
    let (there, here) =
        (judge::dump(s, &fenced, &kinds, typed).await, judge::dump(t, table, &kinds, typed).await);
    let mut found = Vec::new();
    let ids = |rows: &[(i64, Vec<Option<String>>)]| rows.iter().map(|r| r.0).collect::<Vec<_>>();
    if ids(&there) != ids(&here) {
        return vec![format!("{table}: rows {:?} and {:?}", ids(&there), ids(&here))];
    }
    for (i, (name, kind, _)) in kinds.iter().enumerate() {
        for (a, b) in there.iter().zip(&here).filter(|(a, b)| a.1[i] != b.1[i]) {
            let cut = |v: &Option<String>| format!("{v:?}").chars().take(300).collect::<String>();
            found.push(format!(
                "{table}.{name} ({kind}) row {}: {} became {}",
                a.0,
                cut(&a.1[i]),
                cut(&b.1[i])
            ));
        }
    }
    found
}

/// VDiff's verdict over all tables.
fn vdiff(source: &LocalServer, target: &LocalServer, tables: &[&str]) -> Vec<String> {
    let pairs: Vec<String> = tables.iter().map(|t| format!("_{t}_fenced={t}")).collect();
    let (from, to) = (source.address("shop").to_url(), target.address("shop").to_url());
    let output = mover::converge()
        .args(["vdiff", "--source", &from, "--target", &to, "--tables", &pairs.join(","), "--format", "json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let tables = report["tables"].as_array().unwrap();
    tables.iter().filter(|t| t["verdict"] != "equal").map(|t| format!("vdiff: {t}")).collect()
}

async fn matrix(binaries: [&ServerBinary; 2], settings: &[&str]) {
    matrix_into(binaries, settings, true).await;
    if settings.is_empty() {
        matrix_into(binaries, settings, false).await;
    }
}

/// `files`: whether the target takes chunks as files; else they are inserted.
async fn matrix_into(binaries: [&ServerBinary; 2], settings: &[&str], files: bool) {
    eprintln!("{} to {} with {settings:?}, as files: {files}", binaries[0].info, binaries[1].info);
    let flavors = binaries.map(|b| b.info.flavor);
    let (source, mut s) = source_of(binaries[0], settings).await;
    let extra = vec![format!("--local-infile={}", u8::from(files))];
    let options = ServerOptions { extra, ..ServerOptions::named("target") };
    let target = LocalServer::start(binaries[1], options).await.unwrap();
    let mut t = connect(&target).await;
    let matrix = Matrix::new(flavors[0], flavors[1]);
    for case in &matrix.tables {
        before(&mut s, case).await;
    }
    let names = matrix.names();
    let mut mover = Mover::new(&source, &target, &names.join(",")).with(&["--chunk-rows", "4"]);
    mover.start();
    mover.wait_for("replicating");
    for name in &names {
        after(&mut s, name).await;
    }
    mover.switch();
    let mut wrong = Vec::new();
    for name in &names {
        wrong.extend(complaints(&mut s, &mut t, name, flavors).await);
    }
    wrong.extend(vdiff(&source, &target, &names));
    assert!(wrong.is_empty(), "{flavors:?}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn binary(flavor: Flavor) -> Option<ServerBinary> {
    support::servers().into_iter().find(|b| b.info.flavor == flavor)
}

async fn between(from: Flavor, to: Flavor, settings: &[&str]) {
    match (binary(from), binary(to)) {
        (Some(from), Some(to)) => matrix([&from, &to], settings).await,
        _ => eprintln!("not run: there is no {from:?} or no {to:?} on this machine"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_from_mysql_to_mysql() {
    between(Flavor::MySql, Flavor::MySql, &["--binlog-row-metadata=FULL"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_from_mariadb_to_mariadb() {
    between(Flavor::MariaDb, Flavor::MariaDb, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_from_mysql_to_mariadb() {
    between(Flavor::MySql, Flavor::MariaDb, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_cross_from_mariadb_to_mysql() {
    between(Flavor::MariaDb, Flavor::MySql, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_query_reads_has_the_form_of_the_log() {
    for binary in support::servers() {
        let (source, mut s) = source_of(&binary, &[]).await;
        let matrix = Matrix::new(binary.info.flavor, binary.info.flavor);
        for case in &matrix.tables {
            before(&mut s, case).await;
        }
        let names = matrix.names();
        let again = async |conn: &mut Conn| {
            for table in &names {
                let (list, name) = (written(conn, table, "").await, ident(table));
                // As text, a SET's empty member would be no member.
                let columns = judge::columns(conn, table).await;
                let sets = columns.iter().filter(|c| c.1 == "set").map(|c| ident(&c.0));
                let read = sets.fold(list.clone(), |read, set| {
                    read.replace(&format!(", {set}"), &format!(", CAST({set} AS UNSIGNED)"))
                });
                let (by, sql) = (forms::AGAIN, format!("INSERT INTO {name} (id{list})"));
                run(conn, &format!("{sql} SELECT id + {by}{read} FROM {name}")).await;
            }
        };
        let wrong = forms::differing(&source, &mut s, &names, again).await;
        assert!(wrong.is_empty(), "{}: {} wrong:\n{}", binary.info, wrong.len(), wrong.join("\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_look_alike_but_for_some_keep_their_types() {
    let Some(binary) = binary(Flavor::MySql) else { return eprintln!("not run: there is no MySQL") };
    for strategy in ["watermark", "locking"] {
        let (source, mut s) = source_of(&binary, &[]).await;
        let target = support::start(&binary, "target").await;
        let mut t = connect(&target).await;
        run(&mut s, "SET SESSION cte_max_recursion_depth = 10000").await;
        run(&mut s, documents::TABLE).await;
        run(&mut s, &documents::fill()).await;
        let options = ["--chunk-rows", "200", "--copy-strategy", strategy];
        let mut mover = Mover::new(&source, &target, "documents").with(&options);
        mover.start();
        mover.wait_for("replicating");
        mover.switch();
        let mut wrong = complaints(&mut s, &mut t, "documents", [Flavor::MySql; 2]).await;
        wrong.extend(vdiff(&source, &target, &["documents"]));
        assert!(wrong.is_empty(), "{strategy}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
        let rows: Option<u64> = t.query_first("SELECT COUNT(*) FROM documents").await.unwrap();
        assert_eq!(rows, Some(documents::ROWS));
    }
}

/// A move of one table must be refused before anything is written, and say these words.
fn assert_refused(source: &LocalServer, target: &LocalServer, table: &str, words: &[&str]) {
    let output = Mover::new(source, target, table).run();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{table}: {said}");
    for word in words.iter().chain(&["what to do:"]) {
        assert!(said.contains(word), "{table}: {word:?} is not in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_cross_is_refused_by_name() {
    for binary in support::servers() {
        let (source, mut s) = source_of(&binary, &[]).await;
        let target = support::start(&binary, "target").await;
        connect(&target).await;
        for (flavor, table, made, words) in REFUSED {
            if *flavor == binary.info.flavor {
                run(&mut s, &format!("CREATE {made}")).await;
                assert_refused(&source, &target, table, words);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_product_lacks_is_refused_by_column() {
    for (from, to, refused) in
        [(Flavor::MySql, Flavor::MariaDb, LACKING[0]), (Flavor::MariaDb, Flavor::MySql, LACKING[1])]
    {
        let (Some(from), Some(to)) = (binary(from), binary(to)) else { continue };
        let (source, mut s) = source_of(&from, &[]).await;
        let target = support::start(&to, "target").await;
        let mut t = connect(&target).await;
        for (i, (columns, word)) in refused.iter().enumerate() {
            let table = format!("lacking{i}");
            run(
                &mut s,
                &format!("CREATE TABLE {table} (id INT PRIMARY KEY, {columns}) CHARACTER SET utf8mb4"),
            )
            .await;
            assert_refused(&source, &target, &table, &[word, &format!("`shop`.`{table}`")]);
        }
        let made: Vec<String> = t.query("SHOW TABLES").await.unwrap();
        assert!(made.is_empty(), "made in spite of a refusal: {made:?}");
    }
}
