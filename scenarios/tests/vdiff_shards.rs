//! VDiff over shards: several databases compare as one logical table, by any number of workers.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use std::time::Duration;

use common::{connect, fresh, report, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::report::{Kind, Report};
use converge_vdiff::{Engine, Error, Options, Request, TablePair, Verdict, compare};

const ROWS: u64 = 300;

/// Tables with a key that ranges may use, with one that each side may order as it likes, and without one.
const TABLES: [(&str, &str); 3] = [
    ("numbered", "id INT PRIMARY KEY, v VARCHAR(40)"),
    ("named", "id VARCHAR(40) COLLATE utf8mb4_bin, v VARCHAR(40), part INT, PRIMARY KEY (id, part)"),
    ("keyless", "id INT, v VARCHAR(40)"),
];

/// Spreads the rows of all tables over databases `PREFIX0`, `PREFIX1`, ….
async fn spread(server: &LocalServer, prefix: &str, shards: u64) {
    for shard in 0..shards {
        let mut conn = fresh(server, &format!("{prefix}{shard}")).await;
        let ids = || (0..ROWS).filter(|id| id % shards == shard);
        for (table, columns) in TABLES {
            run(&mut conn, &format!("CREATE TABLE {table} ({columns})")).await;
            let rows: Vec<String> = match table {
                "named" => ids().map(|id| format!("('n{id}', 'v{id}', {})", id % 7)).collect(),
                _ => ids().map(|id| format!("({id}, 'v{id}')")).collect(),
            };
            run(&mut conn, &format!("INSERT INTO {table} VALUES {}", rows.join(","))).await;
        }
    }
}

fn options(engine: Engine, parallel: usize) -> Options {
    Options {
        engine,
        parallel,
        first_chunk_rows: 16,
        max_chunk_rows: 16,
        fetch_rows: 4,
        quiet_window: Duration::from_millis(20),
        ..Options::default()
    }
}

fn request(sides: [&LocalServer; 2], shards: [u64; 2], options: Options) -> Request {
    let addresses = |server: &LocalServer, prefix: &str, shards: u64| {
        (0..shards).map(|shard| server.address(&format!("{prefix}{shard}"))).collect()
    };
    Request {
        source: addresses(sides[0], "vs", shards[0]),
        target: addresses(sides[1], "vt", shards[1]),
        tables: TABLES.iter().map(|(table, _)| TablePair::same(table)).collect(),
        options,
    }
}

/// Each row named, in the order of the report.
fn named(report: &Report, table: usize) -> Vec<String> {
    let word = |kind| match kind {
        Kind::Mismatched => "mismatched",
        Kind::ExtraSource => "extra_source",
        Kind::ExtraTarget => "extra_target",
    };
    let rows = report.tables[table].rows.iter();
    rows.map(|row| format!("{} {}", word(row.kind), row.key["id"])).collect()
}

async fn shards(sides: [&LocalServer; 2], from: u64, to: u64) {
    spread(sides[0], "vs", from).await;
    spread(sides[1], "vt", to).await;
    let requests: Vec<Request> = [Engine::PushDown, Engine::Stream]
        .into_iter()
        .flat_map(|engine| [1, 3].map(|parallel| request(sides, [from, to], options(engine, parallel))))
        .collect();
    for request in &requests {
        let equal = report(request).await;
        assert_eq!(equal.verdict, Verdict::Equal, "{from} to {to}: {equal:?}");
        for table in &equal.tables {
            assert_eq!((table.source_rows, table.target_rows), (ROWS, ROWS), "{table:?}");
        }
    }
    let last = to - 1;
    let mut conn = connect(sides[1], &format!("vt{last}")).await;
    let mut other = connect(sides[1], "vt0").await;
    let mut first = connect(sides[0], "vs0").await;
    for (table, _) in TABLES {
        let id = |n: u64| if table == "named" { format!("'n{n}'") } else { n.to_string() };
        let (changed, missing) = (id(to * 40 + last), id(to * 3 + last));
        run(&mut conn, &format!("UPDATE {table} SET v = 'other' WHERE id = {changed}")).await;
        run(&mut conn, &format!("DELETE FROM {table} WHERE id = {missing}")).await;
        // A copy of a row of the last shard that shows up on the first as well.
        let copy = if table == "named" { "('n100000', 'x', 1)" } else { "(100000, 'x')" };
        run(&mut conn, &format!("INSERT INTO {table} VALUES {copy}")).await;
        run(&mut first, &format!("INSERT INTO {table} VALUES {copy}")).await;
        if to > 1 {
            run(&mut other, &format!("INSERT INTO {table} VALUES {copy}")).await;
        }
    }
    let mut orders = Vec::new();
    for request in &requests {
        let found = report(request).await;
        assert_eq!(found.verdict, Verdict::Different);
        let wanted = [format!("mismatched {}", to * 40 + last), format!("extra_source {}", to * 3 + last)];
        let rows = named(&found, 0);
        assert!(wanted.iter().all(|w| rows.contains(w)), "{from} to {to}: {rows:?}, wanted {wanted:?}");
        let twice = rows.contains(&"extra_target 100000".to_owned());
        assert_eq!((twice, rows.len()), (to > 1, 2 + usize::from(to > 1)), "{rows:?}");
        for table in &found.tables {
            let one_more = u64::from(to > 1);
            let changed = if table.table == "keyless" { (0, 2, 1 + one_more) } else { (1, 1, one_more) };
            let counts = (table.mismatched_rows, table.extra_rows_source, table.extra_rows_target);
            assert_eq!(counts, changed, "{table:?}");
            assert_eq!((table.source_rows, table.target_rows), (ROWS + 1, ROWS + one_more), "{table:?}");
        }
        orders.push(rows);
    }
    // However many workers there are. Engines go through the shards in different orders.
    assert_eq!((&orders[0], &orders[2]), (&orders[1], &orders[3]), "rows are named in another order");
    orders.iter_mut().for_each(|rows| rows.sort());
    assert_eq!(orders[0], orders[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_compare_as_one_table() {
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    for one in &servers {
        shards([one, one], 1, 2).await;
        shards([one, one], 3, 2).await;
        shards([one, one], 2, 1).await;
    }
    if let [first, .., last] = servers.as_slice() {
        shards([first, last], 2, 3).await;
    }
}

/// What is on one shard only, at the end of the table or before its beginning, is in a chunk too.
#[tokio::test(flavor = "multi_thread")]
async fn shards_by_range_are_read_to_their_ends() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for (database, ids) in [("vs0", 500..900), ("vs1", 1..300), ("vt0", 1..700), ("vt1", 700..900)] {
            let mut conn = fresh(&one, database).await;
            run(&mut conn, "CREATE TABLE numbered (id INT PRIMARY KEY, v INT)").await;
            let rows: Vec<String> =
                ids.filter(|id| !(300..500).contains(id)).map(|id| format!("({id}, {id})")).collect();
            run(&mut conn, &format!("INSERT INTO numbered VALUES {}", rows.join(","))).await;
        }
        let tables = vec![TablePair::same("numbered")];
        for engine in [Engine::PushDown, Engine::Stream] {
            let request =
                Request { tables: tables.clone(), ..request([&one, &one], [2, 2], options(engine, 2)) };
            let found = report(&request).await;
            assert_eq!((found.verdict, found.tables[0].source_rows), (Verdict::Equal, 699), "{found:?}");
            // Chunks have 16 rows on the shard that is cut; none holds a whole shard.
            assert!(found.tables[0].chunks > 30, "{found:?}");
        }
        let mut conn = connect(&one, "vt1").await;
        run(&mut conn, "INSERT INTO numbered VALUES (-5, 0), (400, 0), (100000, 0)").await;
        for engine in [Engine::PushDown, Engine::Stream] {
            let request =
                Request { tables: tables.clone(), ..request([&one, &one], [2, 2], options(engine, 2)) };
            let found = report(&request).await;
            assert_eq!(
                named(&found, 0),
                ["extra_target -5", "extra_target 400", "extra_target 100000"],
                "{found:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_do_not_fit_together_are_refused() {
    for binary in support::servers() {
        let one = server(&binary).await;
        spread(&one, "vs", 1).await;
        spread(&one, "vt", 2).await;
        let request = request([&one, &one], [1, 2], options(Engine::PushDown, 2));
        let refused = async |request: &Request| match compare(request, &|_| {}).await {
            Ok(report) => panic!("{report:?}"),
            Err(e) => e,
        };
        let twice = Request { source: vec![one.address("vs0"), one.address("vs0")], ..request.clone() };
        assert!(matches!(refused(&twice).await, Error::BadRequest(why) if why.contains("twice")));
        let none = Request { target: Vec::new(), ..request.clone() };
        assert!(matches!(refused(&none).await, Error::BadRequest(why) if why.contains("target")));
        let mut conn = connect(&one, "vt1").await;
        run(&mut conn, "ALTER TABLE named MODIFY v VARCHAR(41)").await;
        let error = refused(&request).await.to_string();
        assert!(error.contains("column v") && error.contains("vt1"), "{error}");
        run(&mut conn, "DROP TABLE named").await;
        let error = refused(&request).await;
        assert!(
            matches!(&error, Error::MissingTable { schema, table, .. } if schema == "vt1" && table == "named"),
            "{error:?}"
        );
    }
}
