//! Schemas compared on real servers: each difference is found with its severity, and twins have none, also across
//! vendors.

use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::report::{Severity, TableReport};
use converge_vdiff::{Options, TablePair, Verdict};

use super::common::{connect, fresh, report, request, run, server};
use super::{support, tiny_chunks};

/// A change to the target's copy of the table `t`, and what must be found: `severity object property`, nothing else.
struct Change {
    name: &'static str,
    only: Option<Flavor>,
    /// Statements on the target with `T` for the table's name.
    sql: &'static [&'static str],
    found: &'static [&'static str],
}

const fn change(name: &'static str, sql: &'static [&'static str], found: &'static [&'static str]) -> Change {
    Change { name, only: None, sql, found }
}

/// The table that is changed; all its types, defaults and expressions are worded differently by the two vendors.
const TABLE: &str = "id INT(11) NOT NULL AUTO_INCREMENT PRIMARY KEY, n SMALLINT NOT NULL DEFAULT 7, \
    u INT UNSIGNED ZEROFILL, b TINYINT(1) DEFAULT 1, s VARCHAR(20) DEFAULT 'it''s', w VARCHAR(9) DEFAULT 'NULL', \
    l VARCHAR(20) CHARACTER SET latin1 DEFAULT '', t3 TEXT CHARACTER SET utf8mb3, e ENUM('a','b') DEFAULT 'a', \
    d DECIMAL(7,2) DEFAULT 1.5, r DOUBLE DEFAULT 1e10, y YEAR DEFAULT 2000, bits BIT(3) DEFAULT b'101', \
    bin BINARY(3) DEFAULT 'ab', day DATE DEFAULT '2020-01-01', \
    moment DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), \
    stamp TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, \
    made VARCHAR(40) DEFAULT (CONCAT('a', 'b')), u4 CHAR(36) DEFAULT (UUID()), j JSON, \
    g INT GENERATED ALWAYS AS (n + 1) VIRTUAL, g2 VARCHAR(60) GENERATED ALWAYS AS (CONCAT(s, 'x', UPPER(s))) STORED, \
    hidden INT INVISIBLE DEFAULT 5, parent INT, \
    KEY by_s (s(5), n DESC), UNIQUE KEY one (n, e), FULLTEXT KEY words (t3), \
    CONSTRAINT NAME_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE, \
    CONSTRAINT NAME_checked CHECK (n > 0 AND s <> 'x')";

const CHANGES: &[Change] = &[
    change(
        "column_order",
        &["ALTER TABLE T MODIFY b TINYINT(1) DEFAULT 1 AFTER d"],
        &["note table column order"],
    ),
    change("wider_type", &["ALTER TABLE T MODIFY n INT NOT NULL DEFAULT 7"], &["note column n type"]),
    change(
        "narrower_type",
        &["ALTER TABLE T MODIFY s VARCHAR(19) DEFAULT 'it''s'"],
        &["warning column s type"],
    ),
    change("unsigned", &["ALTER TABLE T MODIFY r DOUBLE UNSIGNED DEFAULT 1e10"], &["warning column r type"]),
    change("member", &["ALTER TABLE T MODIFY e ENUM('b','a') DEFAULT 'a'"], &["note column e type"]),
    change("no_member", &["ALTER TABLE T MODIFY e ENUM('a','c') DEFAULT 'a'"], &["warning column e type"]),
    change(
        "nullable",
        &["ALTER TABLE T MODIFY stamp TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"],
        &["warning column stamp nullability"],
    ),
    change(
        "not_null",
        &["ALTER TABLE T MODIFY d DECIMAL(7,2) NOT NULL DEFAULT 1.5"],
        &["warning column d nullability"],
    ),
    change("default", &["ALTER TABLE T ALTER d SET DEFAULT 1.51"], &["warning column d default"]),
    change("no_default", &["ALTER TABLE T ALTER b DROP DEFAULT"], &["warning column b default"]),
    change("null_word", &["ALTER TABLE T ALTER w SET DEFAULT NULL"], &["warning column w default"]),
    change("default_case", &["ALTER TABLE T ALTER s SET DEFAULT 'It''s'"], &["warning column s default"]),
    change(
        "default_expression",
        &["ALTER TABLE T ALTER made SET DEFAULT (CONCAT('a', 'c'))"],
        &["warning column made default"],
    ),
    change("default_word", &["ALTER TABLE T ALTER u4 SET DEFAULT 'uuid()'"], &["warning column u4 default"]),
    change(
        "collation",
        &["ALTER TABLE T MODIFY l VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_bin DEFAULT ''"],
        &["warning column l collation"],
    ),
    change(
        "wider_charset",
        &["ALTER TABLE T MODIFY l VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci DEFAULT ''"],
        &["note column l character set", "warning column l collation"],
    ),
    change(
        "narrower_charset",
        &["ALTER TABLE T MODIFY w VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_general_ci DEFAULT 'NULL'"],
        &["warning column w character set"],
    ),
    change(
        "expression",
        &["ALTER TABLE T MODIFY g INT GENERATED ALWAYS AS (n * 2) VIRTUAL"],
        &["warning column g expression"],
    ),
    change(
        "stored",
        &[
            "ALTER TABLE T DROP COLUMN g",
            "ALTER TABLE T ADD COLUMN g INT GENERATED ALWAYS AS (n + 1) STORED AFTER j",
        ],
        &["warning column g generated"],
    ),
    change(
        "on_update",
        &["ALTER TABLE T MODIFY moment DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3)"],
        &["warning column moment on update"],
    ),
    change("visible", &["ALTER TABLE T MODIFY hidden INT DEFAULT 5"], &["warning column hidden invisible"]),
    change("no_index", &["ALTER TABLE T DROP KEY by_s"], &["warning index by_s presence"]),
    change("more_index", &["ALTER TABLE T ADD KEY more (d)"], &["note index more presence"]),
    change("renamed_index", &["ALTER TABLE T RENAME KEY by_s TO other"], &["note index by_s name"]),
    change(
        "index_prefix",
        &["ALTER TABLE T DROP KEY by_s, ADD KEY by_s (s(6), n DESC)"],
        &["warning index by_s presence", "note index by_s presence"],
    ),
    change(
        "not_unique",
        &["ALTER TABLE T DROP KEY one, ADD KEY one (n, e)"],
        &["warning index one presence", "note index one presence"],
    ),
    change("no_fulltext", &["ALTER TABLE T DROP KEY words"], &["warning index words presence"]),
    change(
        "no_foreign_key",
        &["ALTER TABLE T DROP FOREIGN KEY NAME_parent"],
        &["warning foreign key NAME_parent presence"],
    ),
    change(
        "foreign_key_rule",
        &[
            "ALTER TABLE T DROP FOREIGN KEY NAME_parent",
            "ALTER TABLE T ADD CONSTRAINT NAME_parent FOREIGN KEY (parent) REFERENCES parents (id)",
        ],
        &["warning foreign key NAME_parent presence", "warning foreign key NAME_parent presence"],
    ),
    change("no_check", &["ALTER TABLE T DROP CONSTRAINT NAME_checked"], &["warning check presence"]),
    change("counter_ahead", &["ALTER TABLE T AUTO_INCREMENT = 900"], &["note table auto-increment counter"]),
    change(
        "counter_behind",
        &["ALTER TABLE T AUTO_INCREMENT = 3"],
        &["warning table auto-increment counter"],
    ),
    change(
        "no_counter",
        &["ALTER TABLE T MODIFY id INT(11) NOT NULL"],
        &["warning column id auto_increment"],
    ),
    change("row_format", &["ALTER TABLE T ROW_FORMAT = COMPACT"], &["note table row format"]),
    change("comment", &["ALTER TABLE T COMMENT 'other'"], &["note table comment"]),
    change("no_trigger", &["DROP TRIGGER NAME_before"], &["warning trigger NAME_before presence"]),
    change(
        "trigger_body",
        &[
            "DROP TRIGGER NAME_before",
            "CREATE TRIGGER NAME_before BEFORE INSERT ON T FOR EACH ROW SET NEW.b = NEW.b + 2",
        ],
        &["warning trigger NAME_before definition"],
    ),
    change("no_view", &["DROP VIEW NAME_view"], &["warning view NAME_view presence"]),
    change(
        "view_query",
        &["ALTER VIEW NAME_view AS SELECT id, s FROM T WHERE n > 2 AND (s = 'x' OR id = 3)"],
        &["warning view NAME_view definition"],
    ),
    change(
        "no_grant",
        &["REVOKE SELECT ON T FROM reader@localhost"],
        &["warning grant to 'reader'@'localhost' presence"],
    ),
    change(
        "more_grant",
        &["GRANT UPDATE (s, d) ON T TO reader@localhost"],
        &["warning grant to 'reader'@'localhost' presence"],
    ),
    change("no_column", &["ALTER TABLE T DROP COLUMN d"], &["error column d presence"]),
    change("more_column", &["ALTER TABLE T ADD COLUMN more INT FIRST"], &["error column more presence"]),
    change(
        "other_values",
        &["ALTER TABLE T MODIFY y DATE"],
        &["error column y values", "warning column y type", "warning column y default"],
    ),
    Change {
        name: "json_without_check",
        only: Some(Flavor::MariaDb),
        sql: &["ALTER TABLE T MODIFY j LONGTEXT COLLATE utf8mb4_bin"],
        found: &[],
    },
];

/// A change's table; some of the changes' names are words of SQL.
fn named(change: &str) -> String {
    format!("t_{change}")
}

async fn make(server: &LocalServer, database: &str) -> mysql_async::Conn {
    let mut conn = fresh(server, database).await;
    run(&mut conn, "CREATE TABLE parents (id INT PRIMARY KEY)").await;
    for name in std::iter::once("twin").chain(CHANGES.iter().map(|c| c.name)).map(named) {
        for sql in [
            format!(
                "CREATE TABLE {name} ({}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC COMMENT 'all'",
                TABLE.replace("NAME_", &format!("{name}_"))
            ),
            format!("INSERT INTO {name} (id, n, stamp) VALUES (1, 1, '2020-01-01'), (20, 2, '2020-01-01')"),
            format!("UPDATE {name} SET u4 = 'x', moment = '2020-01-01', j = '[1, 2]', stamp = '2020-01-01'"),
            format!("DELETE FROM {name} WHERE id = 20"),
            format!(
                "CREATE TRIGGER {name}_before BEFORE INSERT ON {name} FOR EACH ROW SET NEW.b = NEW.b + 1"
            ),
            format!(
                "CREATE VIEW {name}_view AS SELECT id, s FROM {name} WHERE n > 1 AND (s = 'x' OR id = 3)"
            ),
            format!("GRANT SELECT, UPDATE (s) ON {name} TO reader@localhost"),
        ] {
            run(&mut conn, &sql).await;
        }
    }
    conn
}

fn found(table: &TableReport) -> Vec<String> {
    let mut found: Vec<String> =
        table.schema.iter().map(|f| format!("{} {} {}", f.severity.as_str(), f.object, f.property)).collect();
    found.sort();
    found
}

async fn each_change(sides: [&LocalServer; 2]) {
    let flavors = sides.map(|s| s.binary().info.flavor);
    for side in sides {
        // Grants outlive their tables.
        let mut conn = connect(side, "").await;
        run(&mut conn, "DROP USER IF EXISTS reader@localhost").await;
        run(&mut conn, "CREATE USER reader@localhost").await;
    }
    drop(make(sides[0], "vs").await);
    let mut target = make(sides[1], "vt").await;
    let wanted: Vec<&Change> =
        CHANGES.iter().filter(|c| c.only.is_none_or(|only| flavors[1] == only)).collect();
    let pairs: Vec<TablePair> = std::iter::once("twin")
        .chain(wanted.iter().map(|c| c.name))
        .map(|n| TablePair::same(&named(n)))
        .collect();
    let asked = request(sides, pairs, Options { ..tiny_chunks() });
    for table in &report(&asked).await.tables {
        assert_eq!((found(table), table.verdict), (Vec::new(), Verdict::Equal), "{flavors:?}: {table:#?}");
        assert!(table.not_verified.is_empty(), "{table:?}");
    }
    for change in &wanted {
        let name = named(change.name);
        for sql in change.sql {
            let sql: Vec<&str> = sql.split(' ').map(|w| if w == "T" { name.as_str() } else { w }).collect();
            run(&mut target, &sql.join(" ").replace("NAME_", &format!("{name}_"))).await;
        }
    }
    let after = report(&asked).await;
    let mut complaints = Vec::new();
    for (change, table) in wanted.iter().zip(&after.tables[1..]) {
        let mut wanted: Vec<String> =
            change.found.iter().map(|f| f.replace("NAME_", &format!("{}_", named(change.name)))).collect();
        if change.name == "json_without_check" {
            wanted = json_without_check(flavors);
        }
        wanted.sort();
        let error = table.schema.iter().any(|f| f.severity == Severity::Error);
        if found(table) != wanted || error == (table.verdict == Verdict::Equal) {
            complaints
                .push(format!("{}: wanted {wanted:?}: {:?} {:#?}", change.name, table.verdict, table.schema));
        }
        // Text and HTML show every finding, with its severity.
        let (text, html) = (after.to_text(), after.to_html().unwrap());
        for finding in &table.schema {
            let line = format!("  - {}: {}: {}\n", finding.severity.as_str(), table.table, finding.message);
            assert!(text.contains(&line), "{line}\n{text}");
            assert!(html.contains(&format!("<li class=\"{}\">", finding.severity.as_str())), "{html}");
            assert!(table.schema_notes.contains(&finding.message), "{table:?}");
        }
    }
    assert!(complaints.is_empty(), "{flavors:?}: {}", complaints.join("\n"));
}

/// What text without its check is called: against MariaDB's JSON only the check is gone; against MySQL's the type, too.
fn json_without_check(flavors: [Flavor; 2]) -> Vec<String> {
    match flavors[0] {
        Flavor::MariaDb => vec!["warning check presence".into()],
        Flavor::MySql => vec!["note column j type".into()],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_difference_of_schemas_is_found_and_twins_have_none() {
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    for source in &servers {
        for target in &servers {
            each_change([source, target]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_refers_to_its_parent_by_either_name() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (database, parent, child) in
            [("vs", "_parent_fenced", "_child_fenced"), ("vt", "parent", "child")]
        {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, &format!("CREATE TABLE {parent} (id INT PRIMARY KEY)")).await;
            let of = format!("CONSTRAINT of_parent FOREIGN KEY (p) REFERENCES {parent} (id)");
            run(&mut conn, &format!("CREATE TABLE {child} (id INT PRIMARY KEY, p INT, KEY (p), {of})")).await;
        }
        let renamed = |name: &str| TablePair { source: format!("_{name}_fenced"), target: name.into() };
        let pairs = ["parent", "child"].map(&renamed).to_vec();
        let both = report(&request([&one, &one], pairs, tiny_chunks())).await;
        assert_eq!(both.tables.iter().map(|t| t.schema.len()).sum::<usize>(), 0);
        // Of the parent alone it is not known that it has another name.
        let alone = report(&request([&one, &one], vec![renamed("child")], tiny_chunks())).await;
        assert_eq!(alone.tables[0].schema.len(), 2, "{:?}", alone.tables[0].schema);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_account_may_not_see_is_not_verified() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for database in ["vs", "vt"] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
            run(&mut conn, "CREATE TRIGGER t_before BEFORE INSERT ON t FOR EACH ROW SET NEW.v = 1").await;
            run(&mut conn, "DROP USER IF EXISTS reader@'%'").await;
            run(&mut conn, "CREATE USER reader@'%' IDENTIFIED BY 'r'").await;
        }
        let mut conn = connect(&one, "vs").await;
        run(&mut conn, "GRANT SELECT ON vs.t TO reader@'%'").await;
        run(&mut conn, "GRANT SELECT ON vt.t TO reader@'%'").await;
        let mut asked = request([&one, &one], vec![TablePair::same("t")], tiny_chunks());
        for address in asked.source.iter_mut().chain(&mut asked.target) {
            address.user = "reader".into();
            address.password = "r".into();
        }
        let found = report(&asked).await;
        let table = &found.tables[0];
        assert_eq!((table.verdict, table.schema.len()), (Verdict::Equal, 0), "{table:?}");
        for side in ["source", "target"] {
            let line = format!("triggers, views, grants (hidden from the account on the {side})");
            assert!(table.not_verified.contains(&line), "{table:?}");
        }
    }
}
