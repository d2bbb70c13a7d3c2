//! Definitions that the move would make otherwise than they are, keys and columns that it cannot follow: refused by name.

use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::Flavor;
use mysql_async::prelude::Queryable;

use crate::mover::Mover;
use crate::{check, connect, execute, found, support};

/// A name, what stands behind it in CREATE TABLE, and the finding with a word of it.
type Refused = (&'static str, &'static str, &'static str, &'static str);

const COMMON: &[Refused] = &[
    ("t1", "(id INT PRIMARY KEY, e ENUM('😀','b'))", "definition", "a member of column `e`"),
    (
        "t2",
        "(id INT PRIMARY KEY, a INT UNSIGNED, b INT UNSIGNED, g DOUBLE AS (a / 3) STORED)",
        "generated_columns",
        "`g`",
    ),
];
const MYSQL: &[Refused] = &[
    (
        "m1",
        "(id INT PRIMARY KEY, v VARCHAR(9), g VARCHAR(9) AS (CONCAT(v, '😀')) VIRTUAL)",
        "definition",
        "column g",
    ),
    (
        "m2",
        "(id INT PRIMARY KEY, v VARCHAR(9) DEFAULT (CONCAT('😀', '')))",
        "definition",
        "default of column v",
    ),
    ("m3", "(id INT PRIMARY KEY, v VARCHAR(9), CHECK (v <> '😀'))", "definition", "constraint m3_chk_1"),
    (
        "m4",
        "(id INT PRIMARY KEY, t TIMESTAMP, g CHAR(20) AS (CAST(t AS CHAR)) STORED)",
        "generated_columns",
        "`g`",
    ),
    (
        "m5",
        "(id INT PRIMARY KEY, s INT, g DATETIME AS (FROM_UNIXTIME(s)) STORED)",
        "generated_columns",
        "seconds since 1970",
    ),
    (
        "m7",
        "(id INT PRIMARY KEY, d DATE, g VARCHAR(20) AS (DATE_FORMAT(d, '%M')) STORED)",
        "generated_columns",
        "names of days and months",
    ),
    (
        "m6",
        "(id INT PRIMARY KEY, s VARBINARY(90), g VARBINARY(99) AS (AES_ENCRYPT(s, 'k')) STORED)",
        "generated_columns",
        "a cipher",
    ),
];
const MARIADB: &[Refused] = &[
    ("a1", "(id INT PRIMARY KEY, c VARBINARY(9) DEFAULT x'00ff27')", "definition", "bytes that are no text"),
    ("a2", "(id INT PRIMARY KEY, v VARCHAR(9) DEFAULT '😀')", "definition", "default of column `v`"),
    ("a3", "(t TEXT NOT NULL, UNIQUE (t) USING HASH)", "key", "hash index"),
    (
        "a5",
        "(id INT PRIMARY KEY, d DATETIME, g BIGINT AS (UNIX_TIMESTAMP(d)) STORED)",
        "generated_columns",
        "seconds since 1970",
    ),
    ("a4", "(id INT DEFAULT (NEXTVAL(numbers)) PRIMARY KEY)", "definition", "sequence `shop`.`numbers`"),
];
/// What looks alike and is moved.
const HONEST: &str = "(id INT PRIMARY KEY, v VARCHAR(9) DEFAULT 'a?', w VARCHAR(9) CHECK (w <> '?'), \
     e ENUM('?','b') CHARACTER SET latin1, g VARCHAR(20) AS (CONCAT(v, 'é?')) STORED)";

async fn start(binary: &ServerBinary, name: &str, extra: &[&str]) -> LocalServer {
    let extra = extra.iter().map(ToString::to_string).collect();
    LocalServer::start(binary, ServerOptions { extra, ..ServerOptions::named(name) }).await.unwrap()
}

async fn definitions(binary: &ServerBinary) {
    let source = start(
        binary,
        "source",
        &["--div-precision-increment=6", "--default-time-zone=+02:00", "--lc-time-names=de_DE"],
    )
    .await;
    let target = start(binary, "target", &[]).await;
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let (from, to) = (source.address("shop"), target.address("shop"));
    let own = match binary.info.flavor {
        Flavor::MySql => {
            execute(&mut s, &["SET GLOBAL block_encryption_mode = 'aes-256-cbc'"]).await;
            MYSQL
        }
        Flavor::MariaDb => {
            execute(&mut s, &["CREATE SEQUENCE numbers"]).await;
            MARIADB
        }
    };
    for (name, definition, finding, word) in COMMON.iter().chain(own) {
        execute(&mut s, &[&format!("CREATE TABLE {name} {definition} CHARACTER SET utf8mb4")]).await;
        let (code, report) = check(&from, &to, name, &[]);
        assert_eq!(code, 2, "{name}: {report:#}");
        found(&report, "refuse", finding, word, "");
    }
    execute(&mut s, &[&format!("CREATE TABLE honest {HONEST} CHARACTER SET utf8mb4")]).await;
    let (code, report) = check(&from, &to, "honest", &[]);
    assert_eq!((code, report["verdict"].as_str()), (0, Some("pass")), "{report:#}");
    execute(&mut s, &["SET GLOBAL div_precision_increment = 4"]).await;
    let (code, report) = check(&from, &to, "t2", &["--defer-secondary-keys"]);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "warn", "generated_columns", "a division", "VIRTUAL");
    let dated = "(id INT PRIMARY KEY, v VARCHAR(20), g DATE AS (CAST(v AS DATE)) STORED, d DATETIME, h DATE AS (CAST(d AS DATE)) STORED)";
    execute(&mut s, &[&format!("CREATE TABLE dated {dated}")]).await;
    let (code, report) = check(&from, &to, "dated", &[]);
    assert_eq!(code, 0, "{report:#}");
    found(&report, "warn", "generated_columns", "`g`", "a day there that does not exist");
    let warned = report["findings"].as_array().unwrap().iter().filter(|f| f["name"] == "generated_columns");
    assert_eq!(warned.count(), 1, "{report:#}");
    if binary.info.flavor == Flavor::MySql {
        execute(
            &mut s,
            &["CREATE TABLE checked (id INT PRIMARY KEY, x INT)", "INSERT INTO checked VALUES (1, -1)"],
        )
        .await;
        execute(&mut t, &["CREATE TABLE checked (id INT PRIMARY KEY, x INT CHECK (x > 0))"]).await;
        let mut mover = Mover::new(&source, &target, "checked");
        mover.start();
        assert_eq!(mover.ended(), 2);
        assert!(mover.log().contains("a row of the source violates a CHECK"), "{}", mover.log());
    }
    if binary.info.flavor == Flavor::MariaDb {
        // Members are read in another way there.
        execute(&mut s, &["CREATE TABLE members (id INT PRIMARY KEY, e ENUM('?','b'), f SET('a','?'))"])
            .await;
        assert_eq!(check(&from, &to, "members", &[]).0, 0);
        execute(
            &mut s,
            &[
                "SET GLOBAL mysql56_temporal_format = OFF",
                "CREATE TABLE old (id INT PRIMARY KEY, a TIME(3))",
                "SET GLOBAL mysql56_temporal_format = ON",
            ],
        )
        .await;
        let (_, report) = check(&from, &to, "old", &[]);
        found(&report, "refuse", "columns", "column `a` of `shop`.`old`", "mysql56_temporal_format = ON");
        // Rows that came before a constraint are moved as they are.
        execute(
            &mut s,
            &[
                "CREATE TABLE checked (id INT PRIMARY KEY, x INT CHECK (x > 0))",
                "SET SESSION check_constraint_checks = 0",
                "INSERT INTO checked VALUES (1, -1)",
            ],
        )
        .await;
        execute(
            &mut t,
            &["CREATE TABLE checked (id INT PRIMARY KEY, x INT CHECK (x > 0), CONSTRAINT more CHECK (x < 9))"],
        )
        .await;
        let (_, report) = check(&from, &to, "checked", &[]);
        found(&report, "warn", "checks_unchecked", "are not checked: x<9", "add them after it");
        let mut mover = Mover::new(&source, &target, "checked");
        mover.start();
        mover.wait_for("replicating");
        execute(&mut s, &["INSERT INTO checked VALUES (2, -2)"]).await;
        mover.switch();
        let rows: Option<u64> = t.query_first("SELECT COUNT(*) FROM checked WHERE x < 0").await.unwrap();
        assert_eq!(rows, Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_would_become_others_are_refused() {
    for binary in support::servers() {
        eprintln!("definitions on {}", binary.info);
        definitions(&binary).await;
    }
}

/// Strings with characters and quotes mean the same after the definition crossed, and what cannot cross is named.
async fn crossing(from: &ServerBinary, to: &ServerBinary) {
    let (source, target) = tokio::join!(support::start(from, "source"), support::start(to, "target"));
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    let (here, there) = (source.address("shop"), target.address("shop"));
    let (_, report) = check(&here, &there, "nothing", &["--defer-secondary-keys"]);
    found(&report, "refuse", "defer_secondary_keys", "between", "without --defer-secondary-keys");
    let table = "CREATE TABLE words (id INT PRIMARY KEY, v VARCHAR(9) DEFAULT (CONCAT('é', 'it''s')), \
                 g VARCHAR(20) AS (CONCAT(v, 'ž\\'')) STORED, CHECK (v <> 'ü')) CHARACTER SET utf8mb4";
    execute(&mut s, &[table, "INSERT INTO words (id) VALUES (1)"]).await;
    let mut mover = Mover::new(&source, &target, "words");
    mover.start();
    mover.wait_for("replicating");
    execute(&mut s, &["INSERT INTO words (id, v) VALUES (2, 'x')"]).await;
    mover.switch();
    execute(&mut t, &["INSERT INTO words (id) VALUES (3)"]).await;
    let rows: Vec<String> = t.query("SELECT g FROM words ORDER BY id").await.unwrap();
    assert_eq!(rows, ["éit'sž'", "xž'", "éit'sž'"]);
    if from.info.flavor == Flavor::MySql {
        let table = "CREATE TABLE other (id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET latin1, \
                     g VARCHAR(20) CHARACTER SET latin1 AS (CONCAT(v, _latin1'\\'')))";
        execute(&mut s, &[table]).await;
        let (code, report) = check(&here, &there, "other", &[]);
        assert_eq!(code, 2, "{report:#}");
        found(&report, "refuse", "definition", "column `g`", "by hand");
    } else {
        let tables = [
            "CREATE TABLE spans (id INT PRIMARY KEY, a DATE, b DATE, PERIOD FOR p (a, b))",
            "CREATE SEQUENCE numbers",
            "CREATE TABLE counted (id INT DEFAULT (NEXTVAL(numbers)) PRIMARY KEY)",
        ];
        execute(&mut s, &tables).await;
        for (table, word) in [("spans", "no periods"), ("counted", "a sequence")] {
            let (code, report) = check(&here, &there, table, &[]);
            assert_eq!(code, 2, "{report:#}");
            found(&report, "refuse", "definition", word, "by hand");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strings_in_definitions_mean_the_same_on_the_other_product() {
    let servers = support::servers();
    for from in &servers {
        for to in servers.iter().filter(|to| to.info.flavor != from.info.flavor) {
            eprintln!("definitions from {} to {}", from.info, to.info);
            crossing(from, to).await;
        }
    }
}

/// A key that the server made itself is moved, although its settings hide it; on the target no other one is made.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_server_makes_itself_are_seen() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MySql) {
        let source = start(
            binary,
            "source",
            &[
                "--sql-generate-invisible-primary-key=ON",
                "--show-gipk-in-create-table-and-information-schema=OFF",
            ],
        )
        .await;
        let target = start(binary, "target", &["--sql-generate-invisible-primary-key=ON"]).await;
        let (mut s, mut t) = (connect(&source).await, connect(&target).await);
        let statements = [
            "CREATE TABLE made (v INT)",
            "INSERT INTO made VALUES (1), (2)",
            "SET SESSION sql_generate_invisible_primary_key = OFF",
            "CREATE TABLE own (u INT NOT NULL UNIQUE)",
            "INSERT INTO own VALUES (7)",
        ];
        execute(&mut s, &statements).await;
        let mut mover = Mover::new(&source, &target, "made,own");
        mover.start();
        mover.wait_for("replicating");
        execute(&mut s, &["UPDATE made SET v = 3 WHERE v = 2"]).await;
        mover.switch();
        let rows: Vec<(u64, u64)> =
            t.query("SELECT my_row_id, v FROM made ORDER BY my_row_id").await.unwrap();
        assert_eq!(rows, [(1, 1), (2, 3)]);
        let columns: Vec<String> = t
            .query("SELECT column_name FROM information_schema.columns WHERE table_name = 'own'")
            .await
            .unwrap();
        assert_eq!(columns, ["u"]);
    }
}

/// MySQL that leaves cascades to InnoDB does not log them.
#[tokio::test(flavor = "multi_thread")]
async fn cascades_that_innodb_makes_are_refused() {
    for binary in
        support::servers().iter().filter(|b| b.info.is_mysql_since(converge_mysql::Version(9, 6, 0)))
    {
        let source = start(binary, "source", &["--innodb-native-foreign-keys=ON"]).await;
        let target = start(binary, "target", &[]).await;
        let mut s = connect(&source).await;
        connect(&target).await;
        let tables = [
            "CREATE TABLE p (id INT PRIMARY KEY)",
            "CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        ];
        execute(&mut s, &tables).await;
        let (code, report) = check(&source.address("shop"), &target.address("shop"), "p,c", &[]);
        assert_eq!(code, 2, "{report:#}");
        found(
            &report,
            "refuse",
            "foreign_key_cascades",
            "innodb_native_foreign_keys = ON",
            "DROP FOREIGN KEY",
        );
    }
}
