//! Keys and values that servers treat in a way of their own, each in a table that is copied in small chunks, followed,
//! switched, and judged by VDiff.

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;

use crate::mover::Mover;
use crate::sql::execute;
use crate::support;
use crate::world::{World, caught_up};

/// A table and what happens to it.
struct Odd {
    name: &'static str,
    /// Products of source and target; `None`: each, and the same on both sides.
    only: Option<[Flavor; 2]>,
    /// Its columns and keys.
    columns: String,
    /// What it holds before the move, as `VALUES` of an INSERT.
    rows: &'static str,
    /// Statements while it is followed, with `$T` for its name.
    changes: &'static [&'static str],
    /// Whether it has no key that a move can go by.
    keyless: bool,
}

const MARIADB: Option<[Flavor; 2]> = Some([Flavor::MariaDb; 2]);
const MYSQL: Option<[Flavor; 2]> = Some([Flavor::MySql; 2]);
const ACROSS: Option<[Flavor; 2]> = Some([Flavor::MySql, Flavor::MariaDb]);

/// `SET('m0',…)` with as many members.
fn set(members: usize) -> String {
    let names: Vec<String> = (0..members).map(|i| format!("'m{i}'")).collect();
    format!("SET({})", names.join(","))
}

fn odd() -> Vec<Odd> {
    let table = |name, only, columns: &str, rows, changes, keyless| Odd {
        name,
        only,
        columns: columns.into(),
        rows,
        changes,
        keyless,
    };
    vec![
        // With more members numbers are compared as doubles, or the last member is taken for a sign.
        table(
            "set53",
            None,
            &format!("v {} NOT NULL, n INT, PRIMARY KEY (v)", set(53)),
            "(0, 0), (1, 1), (4503599627370496, 4), (4503599627370497, 5), (9007199254740991, 6)",
            &[
                "UPDATE $T SET n = 9 WHERE n = 4",
                "DELETE FROM $T WHERE n = 5",
                "INSERT INTO $T VALUES (4503599627370498, 6)",
            ],
            false,
        ),
        table(
            "set64",
            None,
            &format!("v {} NOT NULL, n INT, PRIMARY KEY (v)", set(64)),
            "(0, 0), (1, 1), (9223372036854775808, 4), (9223372036854775809, 5)",
            &[
                "UPDATE $T SET n = 9 WHERE n = 4",
                "DELETE FROM $T WHERE n = 5",
                "INSERT INTO $T VALUES (9223372036854775810, 6)",
            ],
            true,
        ),
        // Unique values too long for an index: their hashes are columns that only the log shows.
        table(
            "hashed",
            MARIADB,
            "id INT PRIMARY KEY, b TEXT, v VARCHAR(1000), s INT, UNIQUE (b), UNIQUE (v), UNIQUE USING HASH (s)",
            "(1, 'a', 'a', 1), (2, 'b', NULL, 2), (3, NULL, 'c', 3), (4, 'd', 'd', NULL)",
            &[
                "UPDATE $T SET b = 'q' WHERE id = 2",
                "BEGIN; UPDATE $T SET b = 'x' WHERE id = 1; UPDATE $T SET b = 'a' WHERE id = 2; COMMIT",
                "REPLACE INTO $T VALUES (5, 'x', 'd', 9)",
                "DELETE FROM $T WHERE id = 3",
            ],
            false,
        ),
        table(
            "invisible",
            MYSQL,
            "a INT NOT NULL, b INT NOT NULL, c TEXT, UNIQUE z (b), UNIQUE a (a, b) INVISIBLE",
            "(1, 3, 'x'), (2, 2, 'y'), (3, 1, 'z')",
            &["UPDATE $T SET c = 'new' WHERE b = 2", "DELETE FROM $T WHERE b = 1"],
            false,
        ),
        table(
            "ignored",
            MARIADB,
            "a INT NOT NULL, b INT NOT NULL, c TEXT, UNIQUE z (b), UNIQUE a (a, b) IGNORED",
            "(1, 3, 'x'), (2, 2, 'y'), (3, 1, 'z')",
            &["UPDATE $T SET c = 'new' WHERE b = 2", "DELETE FROM $T WHERE b = 1"],
            false,
        ),
        // Days that there are not.
        table(
            "days",
            None,
            "d DATE PRIMARY KEY, v INT",
            "('2020-02-30', 1), ('2020-02-31', 2), ('2020-03-01', 3), ('2020-04-31', 4)",
            &["UPDATE $T SET v = 9 WHERE v = 2", "DELETE FROM $T WHERE v = 4"],
            false,
        ),
        // A collation that the target does not have, over values that are numbers.
        table(
            "members",
            ACROSS,
            "id INT, e ENUM('a','b') COLLATE utf8mb4_0900_ai_ci NOT NULL, s SET('x','y') COLLATE utf8mb4_0900_ai_ci NOT NULL, \
             PRIMARY KEY (id, e), UNIQUE (s, id)",
            "(1, 'a', 'x'), (1, 'b', ''), (2, 'b', 'x,y')",
            &["UPDATE $T SET e = 'a' WHERE id = 2", "DELETE FROM $T WHERE id = 1 AND e = 'b'"],
            false,
        ),
        // Documents whose text has more than one form: lines of base64, digits in the middle between two.
        table(
            "documents",
            ACROSS,
            "a INT, j JSON",
            "(1, JSON_ARRAY(UNHEX(REPEAT('ab', 70)))), (2, '[689562960270756.25, 689562960270756.75]'), \
             (3, JSON_ARRAY(UNHEX(REPEAT('cd', 57)))), (4, '{\"a\": -562949953421312.125}')",
            &[
                "INSERT INTO $T SELECT a + 10, j FROM $T",
                "UPDATE $T SET a = 0 WHERE a IN (1, 12)",
                "DELETE FROM $T WHERE a IN (2, 3, 14)",
            ],
            true,
        ),
    ]
}

/// Runs a mover to its end, which must come soon and say this.
fn refused(mover: &mut Mover, words: &str) {
    mover.start();
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    assert!(mover.log().contains(words), "{}", mover.log());
}

async fn moves(binaries: [&ServerBinary; 2]) {
    let flavors = binaries.map(|binary| binary.info.flavor);
    let fits = |odd: &Odd| odd.only.map_or(flavors[0] == flavors[1], |only| only == flavors);
    let tables: Vec<Odd> = odd().into_iter().filter(fits).collect();
    if tables.is_empty() {
        return;
    }
    eprintln!("{flavors:?}");
    let world = World::between(binaries, &[], &[]).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["SET SESSION sql_mode = 'ALLOW_INVALID_DATES'"]).await;
    for Odd { name, columns, rows, .. } in &tables {
        execute(&mut s, &[&format!("CREATE TABLE {name} ({columns}) CHARACTER SET utf8mb4")]).await;
        execute(&mut s, &[&format!("INSERT INTO {name} VALUES {rows}")]).await;
    }
    let names: Vec<&str> = tables.iter().map(|odd| odd.name).collect();
    let mut mover = world.mover(&names.join(",")).with(&["--chunk-rows", "1"]);
    if tables.iter().any(|odd| odd.keyless) {
        refused(
            &mut mover,
            if names.contains(&"set64") { "a SET of more than 53 members" } else { "neither a primary key" },
        );
        mover = mover.with(&["--allow-no-key"]);
    }
    mover.start();
    mover.wait_for("replicating");
    for odd in &tables {
        for statement in odd.changes.iter().flat_map(|change| change.split("; ")) {
            execute(&mut s, &[&statement.replace("$T", odd.name)]).await;
        }
        if flavors[0] == flavors[1] {
            caught_up(&mover, &mut s, &mut t, odd.name).await;
        }
    }
    mover.switch();
    for name in names {
        assert!(world.judge_fenced(&[name]).await >= 2, "{name}");
    }
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0, "{}", mover.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_and_values_are_moved() {
    let binaries = support::servers();
    for (from, to) in binaries.iter().flat_map(|from| binaries.iter().map(move |to| (from, to))) {
        moves([from, to]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_over_periods_are_refused() {
    for binary in support::servers().iter().filter(|b| b.info.flavor == Flavor::MariaDb) {
        let world = World::new(binary).await;
        let (mut s, _t) = world.connections().await;
        let columns = "id INT, f DATE, u DATE, PERIOD FOR p (f, u), PRIMARY KEY (id, p WITHOUT OVERLAPS)";
        execute(&mut s, &[&format!("CREATE TABLE periods ({columns})")]).await;
        refused(&mut world.mover("periods"), "WITHOUT OVERLAPS");
    }
}

/// A text that the target keeps as a document is not found again by its spelling.
#[tokio::test(flavor = "multi_thread")]
async fn documents_from_text_need_a_key() {
    let binaries = support::servers();
    let of = |flavor| binaries.iter().find(|b| b.info.flavor == flavor);
    let (Some(from), Some(to)) = (of(Flavor::MariaDb), of(Flavor::MySql)) else { return };
    let world = World::between([from, to], &[], &[]).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE n (a INT, j JSON)", "INSERT INTO n VALUES (1, '{\"b\":1,\"a\":2}')"])
        .await;
    execute(&mut t, &["CREATE TABLE n (a INT, j JSON)"]).await;
    refused(&mut world.mover("n").with(&["--allow-no-key"]), "the table has no key");
}
