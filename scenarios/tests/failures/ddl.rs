//! Statements that change a moved table: stopped loudly, passed when the operator says so, refused where the target
//! was not changed as well. VDiff is the judge.

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;

use crate::mover::Mover;
use crate::sql::execute;
use crate::support;
use crate::world::World;

const TABLE: &str = "CREATE TABLE a (id INT PRIMARY KEY, x INT, v VARCHAR(20), KEY v (v))";
const ROWS: &str = "INSERT INTO a VALUES (1, 1, 'a'), (2, -2, 'b'), (3, 3, 'c')";

fn stopped(mover: &mut Mover, statement: &str) {
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    let log = mover.log();
    for word in [statement, "--skip-ddl", "what to do:"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    let status = mover.status().unwrap();
    assert!(status["error"].as_str().is_some_and(|e| e.contains(statement) && e.contains(":")), "{status}");
}

/// The statement, and whether the mover must refuse to go on while the target is as it was.
const STATEMENTS: &[(&str, bool)] = &[
    ("ALTER TABLE a ADD y INT NOT NULL DEFAULT 7 AFTER id", true),
    ("ALTER TABLE a MODIFY x BIGINT", true),
    ("ALTER TABLE a DROP INDEX v", false),
    ("ALTER TABLE a DROP COLUMN x", true),
    ("CREATE INDEX w ON a (v, id)", false),
    ("TRUNCATE TABLE a", true),
    ("ALTER TABLE a ADD g INT AS (id + 1) STORED, MODIFY v VARCHAR(40) CHARACTER SET latin1", true),
];

async fn statements(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &[TABLE, ROWS]).await;
    let mut mover = world.mover("a").with(&["--skip-ddl"]);
    mover.start();
    mover.wait_for("replicating");
    for (i, (statement, refused)) in STATEMENTS.iter().enumerate() {
        eprintln!("  {statement}");
        // The rows before the statement are read after it was run: they have the form that the source shows no more.
        mover.kill();
        let (before, after) = (10 * i + 10, 10 * i + 11);
        execute(
            &mut s,
            &[
                &format!("INSERT INTO a (id, v) VALUES ({before}, 'é{i}')"),
                "UPDATE a SET v = CONCAT(v, '!')",
                statement,
                &format!("INSERT INTO a (id, v) VALUES ({after}, 'é{i}')"),
                &format!("UPDATE a SET v = 'z' WHERE id = {before}"),
                "CREATE TABLE IF NOT EXISTS other (id INT PRIMARY KEY)",
                &format!("ALTER TABLE other ADD c{i} INT"),
            ],
        )
        .await;
        mover = mover.another();
        mover.start();
        stopped(&mut mover, statement);
        if *refused {
            let output = mover.run();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.code() == Some(2) && text.contains("was not changed as the source"),
                "{text}"
            );
        }
        if statement.contains("DEFAULT 7") {
            // The rows that were there would have another value.
            execute(&mut t, &[&statement.replace("DEFAULT 7", "DEFAULT 6")]).await;
            let text = String::from_utf8_lossy(&mover.run().stderr).into_owned();
            assert!(text.contains("column `y` of `shop`.`a` has the default 6, 7 on the source"), "{text}");
            execute(&mut t, &["ALTER TABLE a DROP COLUMN y"]).await;
        }
        execute(&mut t, &[statement]).await;
        mover = mover.another();
        mover.start();
        mover.wait_until("a runner", |s| s["running"] == true && s["error"].is_null());
        world.wait_equal("a");
    }
    mover.wait_until("no error", |s| s["error"].is_null() && s["running"] == true);
    mover.switch();
    world.wait_equal("_a_fenced=a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_passed_once_the_target_has_it() {
    for binary in support::servers() {
        eprintln!("statements on {}", binary.info);
        statements(&binary).await;
    }
}

/// Statements that change the moved table, and do not look like it.
const DISGUISED: &[(Option<Flavor>, &str)] = &[
    (Some(Flavor::MariaDb), "SET STATEMENT lock_wait_timeout=5 FOR TRUNCATE TABLE a"),
    (Some(Flavor::MariaDb), "SET STATEMENT lock_wait_timeout=5 FOR ALTER TABLE a MODIFY x INT AFTER v"),
    (None, "--\tdon't look\nTRUNCATE TABLE a"),
    (None, "ALTER /*!50000 TABLE */ a DROP COLUMN x"),
    (None, "DROP INDEX v ON a"),
];

/// Statements that name it, and do not change it.
const HARMLESS: &[&str] = &[
    "CREATE TABLE copied LIKE a",
    "CREATE TABLE IF NOT EXISTS a (id INT)",
    "CREATE OR REPLACE VIEW seen AS SELECT * FROM a",
    "ALTER TABLE copied ADD a INT",
    "CREATE INDEX a ON copied (a)",
    "ALTER TABLE copied ADD FOREIGN KEY (a) REFERENCES a (id)",
    "CREATE TABLE z (a INT, copied INT)",
];

async fn disguised(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    for (only, statement) in DISGUISED {
        if only.is_some_and(|flavor| flavor != binary.info.flavor) {
            continue;
        }
        eprintln!("  {statement}");
        execute(&mut s, &["DROP TABLE IF EXISTS copied, z, a", TABLE, ROWS]).await;
        execute(&mut t, &["DROP DATABASE IF EXISTS _converge", "DROP TABLE IF EXISTS a"]).await;
        let mut mover = world.mover("a");
        mover.start();
        mover.wait_for("replicating");
        execute(&mut s, HARMLESS).await;
        execute(&mut s, &["INSERT INTO a VALUES (9, 9, 'z')"]).await;
        world.wait_equal("a");
        execute(&mut s, &["DROP TABLE copied", statement]).await;
        assert_eq!(mover.ended(), 2, "{}", mover.log());
        assert!(mover.log().contains("--skip-ddl"), "{}", mover.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_told_by_what_they_change() {
    for binary in support::servers() {
        eprintln!("statements in disguise on {}", binary.info);
        disguised(&binary).await;
    }
}

/// The moved table, another one, how the session spells, and its statement. The log has that in the session's own spelling.
const SPELLED: &[(&str, &str, &str, &[u8])] = &[
    ("kü", "b", "SET NAMES latin1", b"TRUNCATE TABLE `k\xfc`"),
    // In UTF-8 these bytes are a name of their own.
    ("目", "b", "SET NAMES gbk", b"TRUNCATE \xc4\xbf"),
    // The second byte of a character looks like a backquote.
    ("a", "チーム", "SET NAMES cp932", b"RENAME TABLE \x83\x60\x81\x5b\x83\x80 TO x, a TO c"),
    ("a", "x\\", "SET sql_mode = 'ANSI_QUOTES'", br#"RENAME TABLE "x\" TO "y", a TO c"#),
    ("a", "database", "DO 0", b"RENAME TABLE shop.database TO d, a TO c"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_in_another_spelling_is_seen() {
    for binary in support::servers() {
        for (moved, other, spelling, statement) in SPELLED {
            eprintln!("{spelling} on {}", binary.info);
            let world = World::new(&binary).await;
            let (mut s, _t) = world.connections().await;
            for name in [moved, other] {
                execute(&mut s, &[&format!("CREATE TABLE `{name}` (id INT PRIMARY KEY)")]).await;
            }
            let mut mover = world.mover(moved);
            mover.start();
            mover.wait_for("replicating");
            execute(&mut s, &[spelling]).await;
            mysql_async::prelude::Queryable::query_drop(&mut s, *statement).await.unwrap();
            assert_eq!(mover.ended(), 2, "{spelling}: {}", mover.log());
        }
    }
}

/// A foreign key that cascades, and a column that would lose values, come by a statement that is passed over: they are
/// looked at as in the beginning.
async fn looked_at_again(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE p (id INT PRIMARY KEY)", TABLE, ROWS]).await;
    execute(&mut t, &["CREATE TABLE p (id INT PRIMARY KEY)"]).await;
    let mut mover = world.mover("a").with(&["--skip-ddl"]);
    mover.start();
    mover.wait_for("replicating");
    let refused = |mover: &Mover, words: &str| {
        let mut next = mover.another();
        next.start();
        assert!(next.ended() == 2 && next.log().contains(words), "{words}: {}", next.log());
    };
    let statement = "ALTER TABLE a ADD d DECIMAL(10,4), ADD g INT AS (id + 1) STORED";
    execute(&mut s, &[statement]).await;
    stopped(&mut mover, statement);
    execute(&mut t, &["ALTER TABLE a ADD d DECIMAL(10,2), ADD g INT AS (id + 1) STORED"]).await;
    refused(&mover, "is decimal(10,2), which does not hold the source's decimal(10,4)");
    execute(&mut t, &["ALTER TABLE a MODIFY d DECIMAL(10,4), DROP g, ADD g INT AS (id + 2) STORED"]).await;
    refused(&mover, "column `g` of `shop`.`a` is generated by");
    execute(&mut t, &["ALTER TABLE a DROP g, ADD g INT AS (id + 1) STORED"]).await;
    mover = mover.another();
    mover.start();
    mover.wait_until("a runner", |s| s["running"] == true && s["error"].is_null());
    world.wait_equal("a");
    let [statement, back] = ["MyISAM", "InnoDB"].map(|engine| format!("ALTER TABLE a ENGINE = {engine}"));
    execute(&mut s, &[&statement]).await;
    stopped(&mut mover, &statement);
    execute(&mut t, &[&statement]).await;
    refused(&mover, "is a MyISAM table, without transactions");
    execute(&mut s, &[&back]).await;
    execute(&mut t, &[&back]).await;
    for passed in [false, true] {
        mover = mover.another();
        mover.start();
        if !passed {
            stopped(&mut mover, &back);
        }
    }
    mover.wait_until("a runner", |s| s["running"] == true && s["error"].is_null());
    world.wait_equal("a");
    let statement =
        "ALTER TABLE a ADD q INT, ADD CONSTRAINT f FOREIGN KEY (q) REFERENCES p (id) ON DELETE SET NULL";
    execute(&mut s, &[statement]).await;
    stopped(&mut mover, statement);
    execute(&mut t, &[statement]).await;
    refused(&mover, "foreign key f of `shop`.`a` cascades");
    refused(&mover, "foreign key f of `shop`.`a` cascades");
    mover = mover.another().with(&["--i-know"]);
    mover.start();
    mover.wait_until("a runner", |s| s["running"] == true && s["error"].is_null());
    world.wait_equal("a");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_passed_statement_brings_is_looked_at() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MariaDb) {
        eprintln!("what a statement brings on {}", binary.info);
        looked_at_again(binary).await;
    }
}

/// Without the operator's word it stops at the same place again; with it, also during the copy.
async fn during_the_copy(binary: &ServerBinary, strategy: &str) {
    let world = World::new(binary).await;
    world.fill("n", 8192).await;
    let (mut s, mut t) = world.connections().await;
    let pace =
        ["--chunk-rows", "100", "--copy-rows-per-second", "2000", "--skip-ddl", "--copy-strategy", strategy];
    let mut mover = world.mover("n").with(&pace);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(500));
    let statement = "ALTER TABLE n ADD y INT NOT NULL DEFAULT 3, DROP COLUMN x";
    execute(&mut s, &[statement, "UPDATE n SET y = 9 WHERE id % 2 = 0"]).await;
    stopped(&mut mover, statement);
    let mut plain = mover.another();
    plain.without("--skip-ddl");
    plain.start();
    stopped(&mut plain, statement);
    execute(&mut t, &[statement]).await;
    mover = mover.another();
    mover.start();
    mover.wait_for("replicating");
    world.wait_equal("n");
    mover.switch();
    world.wait_equal("_n_fenced=n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_during_the_copy_loses_no_value() {
    for binary in support::servers() {
        for strategy in ["watermark", "locking", "delete_history"] {
            eprintln!("statement during the copy, {strategy}, on {}", binary.info);
            during_the_copy(&binary, strategy).await;
        }
    }
}

/// Another order of the key than the copy goes by: passed over would be what was not copied yet.
async fn reordered(binary: &ServerBinary, key: &str, statement: &str) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    let create = format!(
        "CREATE TABLE n (a INT NOT NULL, b INT NOT NULL, v VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, {key})"
    );
    execute(&mut s, &[&create, "INSERT INTO n VALUES (0, 1, 'a0')"]).await;
    for i in 0..9 {
        let n = 1 << i;
        let double =
            format!("INSERT INTO n SELECT a + {n}, b - {n}, CONCAT(IF(a % 2, 'A', 'a'), a + {n}) FROM n");
        execute(&mut s, &[&double]).await;
    }
    let mut mover =
        world.mover("n").with(&["--chunk-rows", "20", "--copy-rows-per-second", "100", "--skip-ddl"]);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(100));
    execute(&mut s, &[statement]).await;
    stopped(&mut mover, "ALTER TABLE n");
    execute(&mut t, &[statement]).await;
    let output = mover.run();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && text.contains("was being copied in the order of its key"),
        "{text}"
    );
    assert!(text.contains("cancel the workflow"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_during_the_copy_is_not_passed() {
    for binary in support::servers() {
        for (key, statement) in [
            ("PRIMARY KEY (a)", "ALTER TABLE n DROP PRIMARY KEY, ADD PRIMARY KEY (b)"),
            ("PRIMARY KEY (a)", "ALTER TABLE n DROP PRIMARY KEY, ADD PRIMARY KEY (a, b)"),
            ("UNIQUE (b)", "ALTER TABLE n ADD PRIMARY KEY (a)"),
            ("PRIMARY KEY (v)", "ALTER TABLE n MODIFY v VARCHAR(20) COLLATE utf8mb4_unicode_ci NOT NULL"),
        ] {
            eprintln!("{statement} on {}", binary.info);
            reordered(&binary, key, statement).await;
        }
    }
}

/// The stream has a backlog before the statement, while chunks are read behind it: their rows have the new form, in which
/// the same number is another member of the ENUM, and must not go in before the statement.
async fn read_ahead(binary: &ServerBinary, strategy: &str) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    let create = [
        "CREATE TABLE n (id INT AUTO_INCREMENT PRIMARY KEY, e ENUM('a','b') NOT NULL, x INT NOT NULL)",
        "INSERT INTO n (e, x) VALUES ('a', 0), ('b', 0)",
    ];
    execute(&mut s, &create).await;
    for _ in 0..11 {
        execute(&mut s, &["INSERT INTO n (e, x) SELECT e, x FROM n"]).await;
    }
    let pace = ["--chunk-rows", "100", "--copy-rows-per-second", "1000", "--copy-strategy", strategy];
    let mut mover = world.mover("n").with(&pace);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(300));
    mover.kill();
    for _ in 0..150 {
        execute(&mut s, &["UPDATE n SET x = x + 1 WHERE id <= 200"]).await;
    }
    let statement = "ALTER TABLE n MODIFY e ENUM('b','a') NOT NULL";
    execute(&mut s, &[statement]).await;
    mover.start();
    stopped(&mut mover, statement);
    execute(&mut t, &[statement]).await;
    mover = mover.another().with(&["--skip-ddl"]);
    mover.start();
    mover.wait_for("replicating");
    mover.switch();
    assert_eq!(world.judge_fenced(&["n"]).await, 4096);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_read_behind_a_statement_do_not_go_in_before_it() {
    for binary in support::servers() {
        let strategy = if binary.info.flavor == Flavor::MySql { "locking" } else { "delete_history" };
        eprintln!("read ahead of a statement, {strategy}, on {}", binary.info);
        read_ahead(&binary, strategy).await;
    }
}

/// Two in a burst are passed one by one; with rows in between the form of those rows is known to nobody.
async fn bursts(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &[TABLE, ROWS]).await;
    let mut mover = world.mover("a").with(&["--skip-ddl"]);
    mover.start();
    mover.wait_for("replicating");
    let burst = ["ALTER TABLE a ADD y INT", "ALTER TABLE a ADD z INT"];
    execute(&mut s, &burst).await;
    execute(&mut s, &["UPDATE a SET y = id, z = id"]).await;
    stopped(&mut mover, burst[0]);
    execute(&mut t, &burst).await;
    mover = mover.another();
    mover.start();
    stopped(&mut mover, burst[1]);
    mover = mover.another();
    mover.start();
    world.wait_equal("a");

    let burst = ["ALTER TABLE a MODIFY x INT UNSIGNED", "ALTER TABLE a MODIFY x INT"];
    execute(&mut s, &["UPDATE a SET x = 1", burst[0], "UPDATE a SET x = 4000000000 WHERE id = 1"]).await;
    execute(&mut s, &["UPDATE a SET x = 1 WHERE id = 1", burst[1]]).await;
    stopped(&mut mover, burst[0]);
    let output = mover.run();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && text.contains("shown nowhere any more"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bursts_of_statements_are_passed_or_refused() {
    for binary in support::servers() {
        eprintln!("bursts on {}", binary.info);
        bursts(&binary).await;
    }
}
