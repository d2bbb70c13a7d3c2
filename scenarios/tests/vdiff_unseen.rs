//! What could hide from a comparison, or look like a difference, by what a server does with a value or a setting.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::time::Duration;

use common::{fresh, report, request, run, server, server_with};
use converge_chaos::server::LocalServer;
use converge_mysql::Flavor;
use converge_vdiff::report::TableReport;
use converge_vdiff::{Engine, Options, TablePair, Verdict};
use mysql_async::Conn;

/// One table on both sides.
struct Case {
    table: &'static str,
    only: Option<Flavor>,
    /// How it is declared on the source and on the target.
    declared: [&'static str; 2],
    /// The rows of the source and of the target.
    rows: [&'static str; 2],
    /// Rows that match, that are mismatched, and that only the source and only the target has.
    found: [u64; 4],
}

const NULL_KEYS: &str = "(1,1),(2,1),(3,1),(4,1),(5,1),(6,1),(7,1),(8,1),(NULL,1),(NULL,2),(NULL,2)";

const CASES: &[Case] = &[
    // NULL is in no range of keys.
    Case {
        table: "null_key",
        only: None,
        declared: ["a INT PRIMARY KEY, v INT", "a INT NULL, v INT, KEY (a)"],
        rows: ["(1,1),(2,1),(3,1),(4,1),(5,1),(6,1),(7,1),(8,1)", NULL_KEYS],
        found: [8, 0, 0, 3],
    },
    Case {
        table: "null_in_key",
        only: None,
        declared: ["a INT, b INT, PRIMARY KEY (a, b)", "a INT, b INT, KEY (a, b)"],
        rows: [
            "(1,1),(1,2),(2,1),(2,2),(3,1)",
            "(1,1),(1,2),(2,1),(2,2),(3,1),(2,NULL),(NULL,1),(NULL,NULL)",
        ],
        found: [5, 0, 0, 3],
    },
    // Rounded to its digits, a literal is another number than the one that is stored.
    Case {
        table: "rounded_key",
        only: None,
        declared: ["d FLOAT(10,3) PRIMARY KEY, v INT", "d FLOAT(10,3) PRIMARY KEY, v INT"],
        rows: ["(1,1),(9999999.999,1)", "(1,1),(9999999.999,2)"],
        found: [1, 1, 0, 0],
    },
    // The catalogue has a ? for each of these characters.
    Case {
        table: "hidden_members",
        only: None,
        declared: [
            "id INT PRIMARY KEY, e ENUM('😀','x'), s SET('😀','x')",
            "id INT PRIMARY KEY, e ENUM('😁','x'), s SET('😁','x')",
        ],
        rows: ["(1,'😀','x'),(2,'x','😀'),(3,'x','x')", "(1,'😁','x'),(2,'x','😁'),(3,'x','x')"],
        found: [1, 2, 0, 0],
    },
    Case {
        table: "same_members",
        only: None,
        declared: [
            "id INT PRIMARY KEY, e ENUM('😀','x'), s SET('😀','x')",
            "id INT PRIMARY KEY, e ENUM('😀','x'), s SET('😀','x','y')",
        ],
        rows: ["(1,'😀','😀,x'),(2,'x','')", "(1,'😀','😀,x'),(2,'x','')"],
        found: [2, 0, 0, 0],
    },
    // What one side's character set lacks cannot be compared with its column.
    Case {
        table: "key_beyond_the_set",
        only: None,
        declared: [
            "k VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY, v INT",
            "k VARCHAR(20) PRIMARY KEY, v INT",
        ],
        rows: ["('a',1),('é',1),('z',1)", "('a',1),('é',2),('z',1),('é😀',1)"],
        found: [2, 1, 0, 1],
    },
    Case {
        table: "key_beyond_the_plane",
        only: None,
        declared: [
            "k VARCHAR(20) CHARACTER SET utf8mb3 PRIMARY KEY, v INT",
            "k VARCHAR(20) CHARACTER SET utf8mb4 PRIMARY KEY, v INT",
        ],
        rows: ["('a',1),('あ',1)", "('a',1),('あ',2),('é😀',1)"],
        found: [1, 1, 0, 1],
    },
    Case {
        table: "no_such_date",
        only: None,
        declared: ["d DATE PRIMARY KEY, v INT", "d DATE PRIMARY KEY, v INT"],
        rows: [
            "('0000-00-00',1),('2024-02-28',1),('2024-02-31',1),('2024-06-31',1),('2024-07-01',1)",
            "('0000-00-00',1),('2024-02-28',1),('2024-02-31',2),('2024-06-31',1),('2024-07-01',2)",
        ],
        found: [3, 2, 0, 0],
    },
    // Some characters have two codes in this set, and some codes no character.
    Case {
        table: "two_codes",
        only: None,
        declared: [
            "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET cp932",
            "id INT PRIMARY KEY, v VARCHAR(9)",
        ],
        rows: [
            "(1,_cp932 x'8790'),(2,_cp932 x'fa54'),(3,_cp932 x'3f8790'),(4,_cp932 x'fa54'),(5,_cp932 x'8179')",
            "(1,CONVERT(_cp932 x'8790' USING utf8mb4)),(2,CONVERT(_cp932 x'fa54' USING utf8mb4)),
             (3,CONVERT(_cp932 x'3f8790' USING utf8mb4)),(4,'?'),(5,'】')",
        ],
        found: [3, 2, 0, 0],
    },
    Case {
        table: "no_character",
        only: None,
        declared: [
            "id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET tis620",
            "id INT PRIMARY KEY, v VARCHAR(9)",
        ],
        rows: ["(1,_tis620 x'db'),(2,_tis620 x'a1')", "(1,CONVERT(_tis620 x'dc' USING utf8mb4)),(2,'ก')"],
        found: [1, 1, 0, 0],
    },
];

fn options(engine: Engine) -> Options {
    Options {
        engine,
        first_chunk_rows: 3,
        max_chunk_rows: 3,
        fetch_rows: 2,
        quiet_window: Duration::from_millis(20),
        ..Options::default()
    }
}

/// Makes the database of one side (0: the source).
async fn make(one: &LocalServer, side: usize, cases: &[&Case]) -> Conn {
    let mut conn = fresh(one, ["vs", "vt"][side]).await;
    run(&mut conn, "SET SESSION sql_mode = 'ALLOW_INVALID_DATES'").await;
    for case in cases {
        run(&mut conn, &format!("CREATE TABLE {} ({})", case.table, case.declared[side])).await;
        run(&mut conn, &format!("INSERT INTO {} VALUES {}", case.table, case.rows[side])).await;
    }
    conn
}

fn counts(table: &TableReport) -> [u64; 4] {
    [table.matching_rows, table.mismatched_rows, table.extra_rows_source, table.extra_rows_target]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_hides_and_none_is_made_up() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let flavor = binary.info.flavor;
        let cases: Vec<&Case> = CASES.iter().filter(|c| c.only.is_none_or(|only| only == flavor)).collect();
        let (_source, mut target) = (make(&one, 0, &cases).await, make(&one, 1, &cases).await);
        run(&mut target, "CREATE VIEW seen AS SELECT * FROM null_key").await;
        let mut pairs: Vec<TablePair> = cases.iter().map(|c| TablePair::same(c.table)).collect();
        pairs.push(TablePair { source: "null_key".into(), target: "seen".into() });
        for engine in [Engine::PushDown, Engine::Stream] {
            let found = report(&request([&one, &one], pairs.clone(), options(engine))).await;
            let wanted = cases.iter().map(|c| c.found).chain([cases[0].found]);
            for (table, wanted) in found.tables.iter().zip(wanted) {
                let verdict = if wanted[1..] == [0; 3] { Verdict::Equal } else { Verdict::Different };
                assert_eq!((counts(table), table.verdict), (wanted, verdict), "{engine:?}: {table:#?}");
                assert_eq!(table.unconfirmed_rows, 0, "{table:?}");
                let named: u64 = table.rows.iter().map(|row| row.copies).sum();
                assert_eq!(named, table.differing(), "{table:?}");
            }
        }
    }
}

/// A server's defaults: its history for the present, and temporary tables on disk, which count as rows written.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_a_server_hides_a_difference_or_its_proof() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let versioned = if binary.info.flavor == Flavor::MariaDb { "WITH SYSTEM VERSIONING" } else { "" };
        for (database, value) in [("vs", 1), ("vt", 2)] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, &format!("CREATE TABLE t (id INT PRIMARY KEY, v INT) {versioned}")).await;
            run(&mut conn, &format!("INSERT INTO t VALUES (1, {value}), (2, 1)")).await;
            run(&mut conn, "SET GLOBAL big_tables = ON").await;
        }
        if !versioned.is_empty() {
            let mut conn = fresh(&one, "other").await;
            run(&mut conn, "SET GLOBAL system_versioning_asof = '2020-01-01 00:00:00'").await;
        }
        for engine in [Engine::PushDown, Engine::Stream] {
            let found = report(&request([&one, &one], vec![TablePair::same("t")], options(engine))).await;
            assert_eq!((counts(&found.tables[0]), found.verdict), ([1, 1, 0, 0], Verdict::Different));
        }
    }
}

const ENGINES: [Engine; 2] = [Engine::PushDown, Engine::Stream];

/// Where a server orders an index in another way than it compares, what is between the two is in no range.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_collation_keeps_out_of_ranges_are_compared() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let collations: &[&str] = match binary.info.flavor {
            Flavor::MariaDb => &[
                "utf8mb4_nopad_bin",
                "utf8mb4_general_nopad_ci",
                "utf8mb4_uca1400_nopad_ai_ci",
                "tis620_thai_ci",
            ],
            Flavor::MySql => &["utf8mb4_0900_bin", "utf8mb4_0900_ai_ci", "tis620_thai_ci"],
        };
        let mut pairs = Vec::new();
        for (database, v) in [("vs", 1), ("vt", 2)] {
            let mut conn = fresh(&one, database).await;
            pairs.clear();
            for collation in collations {
                for (name, key) in [("single", "k"), ("first", "k, n"), ("second", "n, k")] {
                    let table = format!("{collation}_{name}");
                    let set = collation.split('_').next().unwrap();
                    let k = format!("k CHAR(8) CHARACTER SET {set} COLLATE {collation}");
                    run(&mut conn, &format!("CREATE TABLE {table} ({k}, n INT, v INT, PRIMARY KEY ({key}))"))
                        .await;
                    let few = match set {
                        "tis620" => ["x'a1e8'", "x'e0a1'", "x'e0a2'"],
                        _ => ["'b'", "'a\\t'", "'b\\t'"],
                    };
                    let [one, two, three] = few.map(|k| format!("_{set} {k}"));
                    let rows =
                        format!("('a',1,1),({one},1,1),('c',1,1),('d',1,1),({two},1,{v}),({three},1,{v})");
                    run(&mut conn, &format!("INSERT INTO {table} VALUES {rows}")).await;
                    pairs.push(TablePair::same(&table));
                }
            }
        }
        for engine in ENGINES {
            let options =
                Options { first_chunk_rows: 1, max_chunk_rows: 1, fetch_rows: 1, ..options(engine) };
            let found = report(&request([&one, &one], pairs.clone(), options)).await;
            for table in &found.tables {
                assert_eq!((counts(table), table.verdict), ([4, 2, 0, 0], Verdict::Different), "{table:?}");
            }
        }
    }
}

/// What is computed when it is read is computed by the settings of the session that reads.
#[tokio::test(flavor = "multi_thread")]
async fn virtual_columns_and_conditions_do_not_depend_on_a_servers_settings() {
    let other = ["--div-precision-increment=9", "--default-week-format=3", "--lc-time-names=de_DE"];
    for binary in support::servers() {
        let servers = [server(&binary).await, server_with(&binary, &other).await];
        for (one, database) in servers.iter().zip(["vs", "vt"]) {
            let mut conn = fresh(one, database).await;
            let columns = "id INT PRIMARY KEY, d DATE, part DECIMAL(30,12) AS (id / 7) VIRTUAL, \
                           name VARCHAR(30) AS (DAYNAME(d)) VIRTUAL";
            run(&mut conn, &format!("CREATE TABLE t ({columns})")).await;
            run(
                &mut conn,
                "INSERT INTO t (id, d) VALUES (1, '2026-01-01'), (2, '2027-01-03'), (3, '2026-06-14')",
            )
            .await;
        }
        for engine in ENGINES {
            for filter in [None, Some("WEEK(d) IN (0, 1, 24)"), Some("MONTHNAME(d) = 'January'")] {
                let mut options = options(engine);
                options.filters.extend(filter.map(|sql| sql.parse().unwrap()));
                let found =
                    report(&request([&servers[0], &servers[1]], vec![TablePair::same("t")], options)).await;
                assert_eq!(found.verdict, Verdict::Equal, "{filter:?}: {}", found.to_text());
            }
        }
    }
}

/// The statements of a comparison are rows of such logs.
#[tokio::test(flavor = "multi_thread")]
async fn logs_in_tables_are_nobodys_writes_or_named() {
    let logged = ["--general-log=1", "--slow-query-log=1", "--long-query-time=0", "--log-output=TABLE"];
    for binary in support::servers() {
        let one = server_with(&binary, &logged).await;
        for (database, v) in [("vs", 1), ("vt", 2)] {
            let mut conn = fresh(&one, database).await;
            for (table, engine) in [("t", "InnoDB"), ("m", "MyISAM")] {
                run(&mut conn, &format!("CREATE TABLE {table} (id INT PRIMARY KEY, v INT) ENGINE={engine}"))
                    .await;
                run(&mut conn, &format!("INSERT INTO {table} VALUES (1, {v}), (2, 1), (3, 1), (4, 1)")).await;
            }
            run(&mut conn, "CREATE USER IF NOT EXISTS plain").await;
            run(&mut conn, &format!("GRANT SELECT ON {database}.* TO plain")).await;
        }
        for engine in ENGINES {
            let options = Options { confirm_within: Duration::from_millis(1500), ..options(engine) };
            let mut wanted = request([&one, &one], ["t", "m"].map(TablePair::same).into(), options);
            for table in &report(&wanted).await.tables {
                assert_eq!((counts(table), table.verdict), ([3, 1, 0, 0], Verdict::Different), "{table:?}");
            }
            for address in wanted.source.iter_mut().chain(&mut wanted.target) {
                address.user = "plain".into();
            }
            for table in report(&wanted).await.tables {
                if binary.info.flavor == Flavor::MariaDb {
                    assert_eq!((table.verdict, table.unconfirmed_rows), (Verdict::NotProven, 1), "{table:?}");
                    assert!(
                        table.reasons.join(" ").contains("the general log is written to a table"),
                        "{table:?}"
                    );
                } else {
                    assert_eq!(
                        (counts(&table), table.verdict),
                        ([3, 1, 0, 0], Verdict::Different),
                        "{table:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_not_tiny_where_a_server_does_not_look_into_ranges() {
    // MariaDB always looks into a range of one column.
    for binary in support::servers().into_iter().filter(|binary| binary.info.flavor == Flavor::MySql) {
        let one = server(&binary).await;
        let rows: Vec<String> = (0..3000).map(|id| format!("({id})")).collect();
        for database in ["vs", "vt"] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE t (id INT PRIMARY KEY)").await;
            run(&mut conn, &format!("INSERT INTO t VALUES {}", rows.join(","))).await;
            run(&mut conn, "SET GLOBAL range_optimizer_max_mem_size = 1000").await;
        }
        for engine in ENGINES {
            let options = Options { first_chunk_rows: 100, max_chunk_rows: 100, ..options(engine) };
            let found = report(&request([&one, &one], vec![TablePair::same("t")], options)).await;
            assert_eq!((found.verdict, counts(&found.tables[0])), (Verdict::Equal, [3000, 0, 0, 0]));
            assert!((20..90).contains(&found.tables[0].chunks), "{}", found.tables[0].chunks);
        }
    }
}
