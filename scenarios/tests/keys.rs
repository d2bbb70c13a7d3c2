//! Keys of every kind under statements that move them: rotations, chains, swaps of unique values, rows that push others
//! out. While rows are copied and afterwards, with the mover killed in both, judged by VDiff.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "keys/kinds.rs"]
mod kinds;
#[path = "support/mover.rs"]
mod mover;
#[path = "keys/odd.rs"]
mod odd;
#[path = "keys/once.rs"]
mod once;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;
use kinds::{KINDS, Kind};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sql::execute;
use world::World;

/// Rows of a table in the beginning; half as many keys again are free.
const ROWS: u32 = 90;
/// Transactions in the copy, and as many behind it, for each table.
const TRANSACTIONS: usize = 30;

/// What one statement group of a transaction does.
const OPERATIONS: &[&str] = &[
    "insert", "delete", "rotate", "chain", "swap", "replace", "upsert", "respell", "reborn", "range",
    "recase",
];

/// Statements on the rows of three different keys.
fn operation(kind: &Kind, what: &str, [i, j, k]: [u32; 3]) -> Vec<String> {
    let name = kind.name;
    let (columns, at, set) = (kind.columns.join(", "), |n| kind.matching(n, 0), |n| kind.assigned(n, 0));
    let values = |n: u32, spelling: u32| kind.values(n, spelling).join(", ");
    let insert = |n: u32, spelling: u32, rest: &str| {
        format!("INTO {name} ({columns}, u, w, x) VALUES ({}, {rest})", values(n, spelling))
    };
    let rekey = |from: u32, to: u32| format!("UPDATE {name} SET {} WHERE {}", set(to), at(from));
    let unique = |column: &str, n: u32| format!("(SELECT {column} FROM {name} WHERE {})", at(n));
    let new = format!("{}, NULL, 1", i + 7000);
    match what {
        "insert" => vec![format!("INSERT {}", insert(i, 0, &new))],
        "delete" => vec![format!("DELETE FROM {name} WHERE {} OR {}", at(i), at(j))],
        "rotate" => vec![rekey(i, 9000), rekey(j, i), rekey(k, j), rekey(9000, k)],
        "chain" => {
            let delete = format!("DELETE FROM {name} WHERE {}", at(k));
            vec![delete, rekey(j, k), rekey(i, j), format!("INSERT {}", insert(i, 0, "NULL, NULL, 2"))]
        }
        "swap" => vec![
            format!("SET @i = {}, @j = {}", unique("u", i), unique("u", j)),
            format!("SET @v = {}, @w = {}", unique("w", i), unique("w", j)),
            format!("UPDATE {name} SET u = -1, w = '' WHERE {} AND @i IS NOT NULL AND @j IS NOT NULL", at(i)),
            format!("UPDATE {name} SET u = @i, w = @v WHERE {} AND @i IS NOT NULL AND @j IS NOT NULL", at(j)),
            format!("UPDATE {name} SET u = @j, w = @w WHERE {} AND @i IS NOT NULL AND @j IS NOT NULL", at(i)),
        ],
        "replace" => vec![
            format!("SET @j = {}, @w = {}", unique("u", j), unique("w", k)),
            format!("REPLACE {}", insert(i, 0, "@j, @w, 3")),
        ],
        "upsert" => vec![
            format!("SET @j = {}", unique("u", j)),
            format!(
                "INSERT {} ON DUPLICATE KEY UPDATE x = x + 1, u = NULL, w = CONCAT('up', x)",
                insert(i, 0, "@j, NULL, 4")
            ),
        ],
        "respell" => vec![format!("UPDATE {name} SET {} WHERE {}", kind.assigned(i, 1), at(i))],
        "reborn" => vec![
            format!("DELETE FROM {name} WHERE {}", at(i)),
            format!("INSERT {}", insert(i, 1, "NULL, NULL, 5")),
            format!("UPDATE {name} SET x = 6 WHERE {}", at(i)),
        ],
        "range" => vec![format!("UPDATE {name} SET x = x + 1 WHERE u BETWEEN {i} * 10 AND {i} * 10 + 200")],
        "recase" => {
            vec![format!("UPDATE {name} SET w = IF(x % 2, UPPER(w), LOWER(w)) WHERE {} OR {}", at(i), at(j))]
        }
        other => panic!("{other}"),
    }
}

async fn fill(conn: &mut Conn, kind: &Kind) {
    execute(conn, &[&kind.create()]).await;
    let rows: Vec<String> =
        (0..ROWS).map(|i| format!("({}, {}, 'W{i}é', 0)", kind.values(i, 0).join(", "), i * 10)).collect();
    let (name, columns) = (kind.name, kind.columns.join(", "));
    execute(conn, &[&format!("INSERT INTO {name} ({columns}, u, w, x) VALUES {}", rows.join(", "))]).await;
}

/// Transactions on every table in turn, `TRANSACTIONS` on each; how often an operation was acknowledged.
async fn hostile(conn: &mut Conn, kinds: &[&Kind], random: &mut ChaCha8Rng, done: &mut BTreeMap<&str, u32>) {
    for kind in kinds {
        conn.query_drop("BEGIN").await.unwrap();
        for _ in 0..random.random_range(1..4) {
            let keys = loop {
                let keys: [u32; 3] = std::array::from_fn(|_| random.random_range(0..ROWS + ROWS / 2));
                if keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2] {
                    break keys;
                }
            };
            let what = OPERATIONS[random.random_range(0..OPERATIONS.len())];
            let mut fine = true;
            for statement in operation(kind, what, keys) {
                match conn.query_drop(statement.as_str()).await {
                    // A value that is taken is an answer; what was done before it stays.
                    Err(mysql_async::Error::Server(e)) if e.code == 1062 => fine = false,
                    answer => answer.unwrap_or_else(|e| panic!("{e}: {statement}")),
                }
            }
            *done.entry(what).or_default() += u32::from(fine);
        }
        conn.query_drop(if random.random_range(0..8) == 0 { "ROLLBACK" } else { "COMMIT" }).await.unwrap();
    }
}

fn copied(status: &serde_json::Value) -> u64 {
    status["tables"].as_array().unwrap().iter().filter_map(|t| t["rows_copied"].as_u64()).sum()
}

async fn keys(binary: &ServerBinary, strategy: &str, seed: u64) {
    eprintln!("keys on {}, {strategy}, seed {seed}", binary.info);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let world = World::new(binary).await;
    let (mut s, _t) = world.connections().await;
    execute(&mut s, &["SET SESSION sql_mode = ''"]).await;
    let kinds: Vec<&Kind> =
        KINDS.iter().filter(|k| k.only.is_none_or(|only| only == binary.info.flavor)).collect();
    for kind in &kinds {
        fill(&mut s, kind).await;
    }
    let names: Vec<&str> = kinds.iter().map(|k| k.name).collect();
    let pace = ["--chunk-rows", "7", "--copy-rows-per-second", "500", "--copy-strategy", strategy];
    let mut mover = world.mover(&names.join(",")).with(&pace);
    mover.start();
    mover.wait_until("some rows", |s| copied(s) > 50);
    let mut done = BTreeMap::new();
    let mut copying = true;
    for half in 0..2 {
        for round in 0..TRANSACTIONS {
            hostile(&mut s, &kinds, &mut random, &mut done).await;
            if round == TRANSACTIONS / 3 {
                copying &= half > 0 || mover.status().unwrap()["state"] == "copying";
                mover.kill();
                hostile(&mut s, &kinds, &mut random, &mut done).await;
                mover.start();
            }
        }
        mover.wait_until("all rows", |s| s["state"] == "replicating" && s["error"].is_null());
    }
    assert!(copying, "the copy was over before the mover was killed in it");
    mover.switch();
    let rows = world.judge_fenced(&names).await;
    eprintln!("  {rows} rows are equal after {done:?}");
    assert!(rows > 10 * names.len() as u64);
    for operation in OPERATIONS {
        assert!(done.get(operation) > Some(&20), "{operation} was not done often enough: {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_their_identity_whatever_becomes_of_their_keys() {
    for binary in support::servers() {
        keys(&binary, "watermark", 1).await;
        match binary.info.flavor {
            Flavor::MySql => keys(&binary, "delete_history", 2).await,
            Flavor::MariaDb => keys(&binary, "locking", 3).await,
        }
    }
}
