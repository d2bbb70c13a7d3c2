//! Load for tables that Converge did not make: types, keys, foreign keys and checks are read from the server and
//! respected, so that what is refused is refused for what load is about, and every table is written to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/rehearsal.rs"]
mod rehearsal;
#[path = "support/servers.rs"]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use converge_chaos::history::{Event, History, Kind, read};
use converge_chaos::load::{Load, LoadPlan, Script, Subject, create_database, kinds, prepare, read_model};
use converge_chaos::server::{LocalServer, ServerBinary, ServerOptions};
use converge_mysql::{Address, Connector, Flavor};
use mysql_async::prelude::Queryable;

const SHOP: &str = r"
CREATE TABLE country (code CHAR(2) NOT NULL PRIMARY KEY, name VARCHAR(60) NOT NULL UNIQUE);
CREATE TABLE person (
    id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    country CHAR(2) NULL,
    boss INT UNSIGNED NULL,
    email VARCHAR(80) CHARACTER SET latin1 NOT NULL,
    age TINYINT UNSIGNED NOT NULL,
    status VARCHAR(10) NOT NULL,
    born DATE NULL,
    shout VARCHAR(100) GENERATED ALWAYS AS (UPPER(email)) STORED,
    UNIQUE KEY email (email),
    CONSTRAINT grown CHECK (age BETWEEN 18 AND 120),
    CONSTRAINT known CHECK (status IN ('new', 'it''s gone')),
    FOREIGN KEY (country) REFERENCES country (code),
    FOREIGN KEY (boss) REFERENCES person (id)
);
CREATE TABLE `item=1,``2` (
    person INT UNSIGNED NOT NULL,
    line SMALLINT NOT NULL,
    price DECIMAL(9,2) NOT NULL,
    `odd name` JSON NULL,
    update_cnt INT NOT NULL DEFAULT 0,
    PRIMARY KEY (person, line),
    CHECK (price >= 0.5),
    FOREIGN KEY (person) REFERENCES person (id)
);
CREATE TABLE note (
    person INT UNSIGNED NOT NULL,
    line SMALLINT NOT NULL,
    no TINYINT UNSIGNED NOT NULL,
    said TEXT NULL,
    PRIMARY KEY (person, line, no),
    FOREIGN KEY (person, line) REFERENCES `item=1,``2` (person, line)
);
CREATE TABLE hidden (
    id INT PRIMARY KEY AUTO_INCREMENT INVISIBLE,
    part TINYINT NOT NULL DEFAULT 3 INVISIBLE,
    z INT,
    CHECK (part BETWEEN 1 AND 9)
);
CREATE TABLE heap (at DATETIME(3) NOT NULL, what VARBINARY(40) NULL);
";

/// A table whose name has the signs in it that stand between names.
const ITEM: &str = "item=1,`2";

/// Refusals that are part of the game: duplicates, lock waits, deadlocks, parents in use. What breaks a CHECK or does not
/// fit its column is none of them.
const EXPECTED: [u16; 5] = [1062, 1205, 1213, 1451, NO_PARENT];
/// A foreign key without its parent: only where one was deleted meanwhile.
const NO_PARENT: u16 = 1452;

/// Runs load until each kind that can be was acknowledged, and returns acknowledged writes by table.
async fn loaded(address: &Address, subject: Subject) -> BTreeMap<String, u64> {
    let plan = LoadPlan { seed: 5, rows: 1200, sessions: 6, subject, ..LoadPlan::default() };
    let notes = prepare(address, &plan).await.unwrap();
    assert!(notes.iter().all(|note| note.contains("heap")), "{notes:?}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.jsonl");
    let history = History::create(&path).unwrap();
    let model = read_model(address).await.unwrap();
    let names: Vec<String> = model.tables.iter().map(|table| table.name.clone()).collect();
    let wanted = kinds(&plan, Some(&model), &names);
    let load = Load::start(address.clone(), plan, history.clone()).await.unwrap();
    let give_up = Instant::now() + Duration::from_secs(60);
    while wanted.iter().any(|kind| load.counters().totals().of(*kind).acknowledged < 15) {
        assert!(Instant::now() < give_up, "{:?}", load.counters().totals());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    load.stop().await;
    history.finish().unwrap();
    judged(&path)
}

fn judged(history: &Path) -> BTreeMap<String, u64> {
    let (mut sent, mut writes) = (HashMap::new(), BTreeMap::new());
    let mut refused: BTreeMap<u16, u64> = BTreeMap::new();
    for entry in read(history).unwrap().map(Result::unwrap) {
        match entry.event {
            Event::Invoke(invoke) => drop(sent.insert(invoke.id, invoke)),
            Event::Ok { id, affected } if affected > 0 => {
                let invoke = &sent[&id];
                if Kind::WRITES.contains(&invoke.kind) {
                    *writes.entry(invoke.table.clone()).or_default() += 1;
                }
            }
            Event::Fail { id, code, message } => {
                assert!(EXPECTED.contains(&code), "{code} {message}: {}", sent[&id].sql);
                *refused.entry(code).or_default() += 1;
            }
            _ => {}
        }
    }
    eprintln!("written {writes:?}, refused {refused:?}");
    let orphans = refused.get(&NO_PARENT).copied().unwrap_or(0);
    assert!(orphans * 10 < writes.values().sum(), "{orphans} without a parent: {writes:?}");
    writes
}

/// Where a server keeps a column to one system of coordinates, which MariaDB does not.
const PLACES: &str = "CREATE TABLE place (id INT PRIMARY KEY, at POINT NOT NULL SRID 4326)";

async fn loads(binary: &ServerBinary) {
    let server = support::start(binary, "source").await;
    let shop = server.address("shop");
    create_database(&shop).await.unwrap();
    let script = Script::parse(Path::new("shop.sql"), SHOP, "shop").unwrap();
    script.run(&shop).await.unwrap();
    let has_systems = binary.info.flavor == Flavor::MySql;
    if has_systems {
        Script::parse(Path::new("places.sql"), PLACES, "shop").unwrap().run(&shop).await.unwrap();
    }
    let writes = loaded(&shop, Subject::Existing).await;
    assert!(!has_systems || writes.get("place").is_some_and(|n| *n > 5), "{writes:?}");
    for table in ["country", "person", ITEM, "note", "hidden", "heap", "converge_ledger", "converge_account"]
    {
        assert!(writes.get(table).is_some_and(|n| *n > 5), "{table}: {writes:?}");
    }
    let classic = loaded(&server.address("classic"), Subject::Classic).await;
    assert!(classic["test1"] > 20 && classic["test2"] > 20, "{classic:?}");
    let types = loaded(&server.address("types"), Subject::Types).await;
    for table in ["every_type", "binary_key", "text_key", "time_key"] {
        assert!(types[table] > 20, "{types:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_respects_types_keys_and_constraints_of_tables_that_are_there() {
    for binary in support::servers() {
        eprintln!("on {}", binary.info);
        loads(&binary).await;
    }
}

/// What is there stays, and what the server refuses is told with its place.
async fn refuses(binary: &ServerBinary) {
    let server = support::start(binary, "source").await;
    let shop = server.address("shop");
    create_database(&shop).await.unwrap();
    let run = async |sql: &str| Script::parse(Path::new("shop.sql"), sql, "shop").unwrap().run(&shop).await;
    let dump = "DROP TABLE IF EXISTS t;\nCREATE TABLE t (id INT PRIMARY KEY);\nINSERT INTO t VALUES (1);";
    run(dump).await.unwrap();
    for sql in [dump, "CREATE TABLE u (id INT);\nALTER TABLE t ADD x INT", "DELETE FROM T"] {
        let error = run(sql).await.unwrap_err();
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(error.to_string().contains("was in the database before"), "{error}");
        assert!(help.contains("name a database without that table"), "{help}");
    }
    let model = read_model(&shop).await.unwrap();
    assert_eq!((model.tables.len(), model.tables[0].sample.len()), (1, 1), "nothing was sent");
    let error = run("CREATE TABLE v (id INT PRIMARY KEY);\n\nCREATE TABLE w (id NUMBER);").await.unwrap_err();
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    let said = error.to_string();
    for words in ["shop.sql:3: ", "1064", "CREATE TABLE w (id NUMBER)"] {
        assert!(said.contains(words), "{said}");
    }
    assert!(help.contains("empty database"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schemas_file_takes_nothing_away_and_its_faults_are_told_with_their_place() {
    for binary in support::servers() {
        eprintln!("on {}", binary.info);
        refuses(&binary).await;
    }
}

/// What a server would take for statements of their own, or for settings of its own.
const OUTSIDE: [&str; 6] = [
    "CREATE TABLE t (event INT PRIMARY KEY, begin INT); DROP DATABASE other;",
    "DELIMITER //\nCREATE TABLE t (a INT PRIMARY KEY, b INT); DROP DATABASE other//",
    "SET sql_mode = CONCAT('NO_BACKSLASH','_ESCAPES'); SET @a = LENGTH('\\'); DROP DATABASE other; -- ');",
    "SET @a = CONCAT(1 /*!99998 , ' */); DROP DATABASE other; -- ' */)",
    "SET STATEMENT max_statement_time=0 FOR DROP DATABASE other;",
    "CREATE FUNCTION f() RETURNS INT DETERMINISTIC BEGIN SET GLOBAL max_connections = 120; RETURN 1; END;",
];

/// What looks like that and is not, written for a client.
const INSIDE: &str = r"
SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO';
CREATE TABLE t (event INT PRIMARY KEY, begin INT, note VARCHAR(30) DEFAULT 'it\'s; --');
DELIMITER $$
CREATE FUNCTION f(a INT) RETURNS INT UNSIGNED DETERMINISTIC
BEGIN
    CASE WHEN a > 1 THEN SET a = CASE a WHEN 2 THEN 4 ELSE a END; ELSE BEGIN END; END CASE;
    RETURN a;
END$$
CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW IF NEW.event > 1 THEN SET NEW.begin = f(NEW.event); END IF$$
DELIMITER ;
/*!50003 INSERT INTO t (event, begin) VALUES (1, 1), (2, 2) */;
SET SQL_MODE=@OLD_SQL_MODE;
";

async fn stays_inside(binary: &ServerBinary) {
    let modes = match binary.info.flavor {
        Flavor::MySql => "ANSI,NO_BACKSLASH_ESCAPES",
        Flavor::MariaDb => "ORACLE,ANSI,NO_BACKSLASH_ESCAPES",
    };
    let extra = vec![format!("--sql-mode={modes}"), "--log-bin-trust-function-creators=ON".into()];
    let options = ServerOptions { extra, ..ServerOptions::named("source") };
    let server = LocalServer::start(binary, options).await.unwrap();
    let shop = server.address("shop");
    create_database(&shop).await.unwrap();
    for sql in OUTSIDE {
        assert!(Script::parse(Path::new("shop.sql"), sql, "shop").is_err(), "{sql}");
    }
    Script::parse(Path::new("shop.sql"), INSIDE, "shop").unwrap().run(&shop).await.unwrap();
    let mut conn = Connector::new(shop).connect().await.unwrap();
    let rows: Vec<(i32, i32, String)> = conn.query("SELECT * FROM t ORDER BY event").await.unwrap();
    assert_eq!(rows, [(1, 1, "it's; --".to_owned()), (2, 4, "it's; --".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schemas_file_stays_in_its_database_whatever_modes_the_server_has() {
    for binary in support::servers() {
        eprintln!("on {}", binary.info);
        stays_inside(&binary).await;
    }
}

/// Plans that cannot work end before the load, with the cause.
#[test]
fn tables_that_cannot_be_moved_are_named_before_the_load() {
    let schema = "CREATE TABLE good (id INT PRIMARY KEY); CREATE TABLE heap (id INT); \
                  CREATE TABLE old (id INT PRIMARY KEY) ENGINE=MyISAM;";
    let poor = schema.split_once("; ").unwrap().1;
    let server = &support::servers().pop().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.sql");
    for (schema, tables, words) in [
        ("CREATE VIEW v AS SELECT 1", "", "shop.sql makes no table"),
        (poor, "", "none of the schema's tables can be moved"),
        (schema, "'good', 'heap'", "heap cannot be moved: table `commerce`.`heap` has"),
        (schema, "'old'", "old cannot be moved: `commerce`.`old` on the source"),
        (schema, "'god'", "there is no table god; there are good, heap, old"),
    ] {
        std::fs::write(&file, schema).unwrap();
        let scenario = format!("schema = '{}'\ntables = [{tables}]\n{QUIET}", file.display());
        let run = rehearsal::rehearse(server, &scenario, 3);
        assert_eq!(run.code, 2, "{}", run.errors);
        assert!(run.errors.contains(words) && run.errors.contains("what to do:"), "{}", run.errors);
        assert!(!run.errors.contains("-- moving"), "{}", run.errors);
    }
}

/// Short, without faults.
const QUIET: &str = "
name = 'theirs'
settle_seconds = 0.5
limit_seconds = 90.0
least = { each_kind = 5, during_copy = 10 }
copy = { rows_per_second = 1500, chunk_rows = 300 }
";

fn rehearses(server: &ServerBinary) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.sql");
    std::fs::write(&file, SHOP).unwrap();
    let load = "load = { rows = 3000, statements_per_second = 500.0 }";
    let scenario = format!("schema = '{}'\n{QUIET}{load}", file.display());
    let run = rehearsal::rehearse(server, &scenario, 3);
    assert_eq!(run.code, 0, "{} {}\n{}", server.info, run.verdict, run.errors);
    let tables: Vec<&str> = run.verdict["vdiff"]["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["target_table"].as_str().unwrap())
        .collect();
    for table in ["country", "person", ITEM, "note", "converge_ledger", "converge_journal"] {
        assert!(tables.contains(&table), "{tables:?}");
    }
    assert!(run.verdict["not_verified"].to_string().contains("heap"), "{}", run.verdict["not_verified"]);
    // The plan beside the report names the copy of the schema there.
    let plan = std::fs::read_to_string(run.directory.path().join("plan.toml")).unwrap();
    assert!(plan.contains("schema = \"schema.sql\""), "{plan}");
    assert_eq!(std::fs::read_to_string(run.directory.path().join("schema.sql")).unwrap(), SHOP);
}

#[test]
fn a_rehearsal_moves_the_tables_of_a_file() {
    for server in support::servers() {
        eprintln!("on {}", server.info);
        rehearses(&server);
    }
}

/// Tables that load cannot write: no values can be made up, a parent is such a table, and an engine without transactions.
const UNWRITABLE: &str = "
CREATE TABLE region (id INT PRIMARY KEY, shape POLYGON NOT NULL);
INSERT INTO region VALUES (1, ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))'));
CREATE TABLE shop (id INT PRIMARY KEY, region INT, FOREIGN KEY (region) REFERENCES region (id));
CREATE TABLE sale (id INT PRIMARY KEY, shop INT, FOREIGN KEY (shop) REFERENCES shop (id));
CREATE TABLE old (id INT PRIMARY KEY, v INT) ENGINE=MyISAM;
CREATE TABLE item (id INT PRIMARY KEY, v INT, w VARCHAR(20));
CREATE VIEW items AS SELECT id FROM item;
CREATE TRIGGER upper_w BEFORE INSERT ON item FOR EACH ROW SET NEW.w = UPPER(NEW.w);
";

fn unwritable(server: &ServerBinary, tables: &str) -> rehearsal::Run {
    rehearses_file(server, UNWRITABLE, tables)
}

/// A short rehearsal of a schema. `tables`: a line of the scenario, or nothing.
fn rehearses_file(server: &ServerBinary, schema: &str, tables: &str) -> rehearsal::Run {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shop.sql");
    std::fs::write(&file, schema).unwrap();
    let load = "load = { rows = 3000, statements_per_second = 500.0 }";
    rehearsal::rehearse(server, &format!("schema = '{}'\n{tables}\n{QUIET}{load}", file.display()), 3)
}

/// They are moved with what is in them or named, and keep nobody from a pass.
#[test]
fn tables_without_load_are_named_and_the_others_are_moved() {
    for server in support::servers() {
        eprintln!("on {}", server.info);
        let run = unwritable(&server, "");
        let told = format!("{} {}", run.verdict, run.errors);
        assert_eq!((run.code, &run.verdict["verdict"]), (0, &"converged".into()), "{told}");
        let compared = run.verdict["vdiff"]["tables"].as_array().unwrap();
        assert!(compared.iter().any(|table| table["target_table"] == "region"), "{told}");
        let named = run.verdict["not_verified"].to_string();
        for words in [
            "table region gets no load: no values of shape polygon",
            "table region: only its copy is compared",
            "table shop is not moved",
            "table sale is not moved",
            "table old gets no load: its engine has no transactions",
            "table old is not moved",
            "not moved, for only tables are: view items",
            "table item: `commerce`.`item` has triggers (upper_w)",
        ] {
            assert!(named.contains(words), "no {words:?}: {named}");
        }
    }
}

/// Writes to other tables say nothing about a move.
#[test]
fn a_move_that_no_write_went_to_is_not_proven() {
    let server = &support::servers().pop().unwrap();
    let run = unwritable(server, "tables = ['region']");
    let told = format!("{} {}", run.verdict, run.errors);
    assert_eq!((run.code, &run.verdict["verdict"]), (3, &"not_proven".into()), "{told}");
    let reasons = run.verdict["reasons"].to_string();
    for oracle in ["load: 0 writes to moved tables", "copy_under_load: "] {
        assert!(reasons.contains(oracle), "{reasons}");
    }
    let named = run.verdict["not_verified"].to_string();
    for table in ["item", "shop", "old", "converge_ledger"] {
        assert!(named.contains(&format!("table {table} is not moved")), "{named}");
    }
}

/// Tables that the mover itself refuses, for reasons of MariaDB.
const REFUSED: &str = "
CREATE SEQUENCE number;
CREATE TABLE numbered (id INT PRIMARY KEY DEFAULT NEXT VALUE FOR number, v INT);
CREATE TABLE packed (id INT PRIMARY KEY, v TEXT COMPRESSED);
CREATE TABLE booked (id INT, a DATE, b DATE, PERIOD FOR p (a, b), PRIMARY KEY (id, p WITHOUT OVERLAPS));
CREATE TABLE item (id INT PRIMARY KEY, v INT, w VARCHAR(20));
INSERT INTO packed VALUES (1, 'x');
INSERT INTO booked VALUES (1, '2020-01-01', '2020-02-01');
";

/// What the mover's preflight says against a table keeps the others from nothing.
#[test]
fn tables_that_the_mover_refuses_are_named_and_the_others_are_moved() {
    let mut servers = support::servers();
    servers.retain(|server| server.info.flavor == Flavor::MariaDb);
    let run = rehearses_file(&servers.pop().expect("no MariaDB server"), REFUSED, "");
    let told = format!("{} {}", run.verdict, run.errors);
    assert_eq!((run.code, &run.verdict["verdict"]), (0, &"converged".into()), "{told}");
    let named = run.verdict["not_verified"].to_string();
    for (table, why) in [
        ("numbered", "the sequence `commerce`.`number`"),
        ("packed", "COMPRESSED"),
        ("booked", "WITHOUT OVERLAPS"),
    ] {
        let note = format!("table {table} is not moved: ");
        assert!(named.contains(&note) && named.contains(why), "no {table}: {named}");
    }
}
