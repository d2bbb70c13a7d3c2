//! Comparing a part of the tables: conditions, samples, columns, other names. What is left out is said, and is never
//! claimed to be equal.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "support/servers.rs"]
mod support;

use common::{fresh, report, request, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::report::{Kind, TableReport};
use converge_vdiff::{Engine, Error, Options, Report, Sample, TablePair, Verdict, compare};
use mysql_async::Conn;

const ENGINES: [Engine; 2] = [Engine::PushDown, Engine::Stream];

/// `n` numbers from 0 on, as a table `seq (i)`.
async fn numbers(conn: &mut Conn, n: u64) {
    run(conn, "CREATE TABLE seq (i INT PRIMARY KEY)").await;
    run(conn, "INSERT INTO seq VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)").await;
    let mut have = 10;
    while have < n {
        run(
            conn,
            &format!("INSERT IGNORE INTO seq SELECT a.i * {have} + b.i FROM seq a, seq b WHERE a.i < 10 AND a.i * {have} + b.i < {n}"),
        )
        .await;
        have *= 10;
    }
}

/// The same table on both sides: `t (id, v, w)` with `n` rows, with or without its key.
async fn sides(one: &LocalServer, n: u64, key: &str) -> (Conn, Conn) {
    let (mut source, mut target) = (fresh(one, "vs").await, fresh(one, "vt").await);
    for conn in [&mut source, &mut target] {
        numbers(conn, n).await;
        run(conn, &format!("CREATE TABLE t (id INT NOT NULL{key}, v INT, w INT)")).await;
        run(conn, "INSERT INTO t SELECT i, i, i FROM seq").await;
    }
    (source, target)
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

async fn compared(one: &LocalServer, options: &Options) -> Report {
    report(&request([one, one], vec![TablePair::same("t")], options.clone())).await
}

async fn refused(one: &LocalServer, options: Options, words: &[&str]) {
    let error =
        compare(&request([one, one], vec![TablePair::same("t")], options), &|_| {}).await.unwrap_err();
    assert!(matches!(error, Error::BadPart { .. }), "{error:?}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
}

fn ids(table: &TableReport) -> Vec<i64> {
    table.rows.iter().map(|row| row.key["id"].as_i64().unwrap()).collect()
}

fn left_out(report: &Report, words: &str) {
    let text = report.to_text();
    assert!(report.tables[0].not_verified.iter().any(|what| what.contains(words)), "{text}");
    assert!(text.contains(words), "{text}");
    assert!(report.to_html().unwrap().contains(&words.replace('<', "&lt;")));
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_choose_rows() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for key in [" PRIMARY KEY", ""] {
            let (_source, mut target) = sides(&one, 1000, key).await;
            run(&mut target, "UPDATE t SET v = -1 WHERE id IN (5, 995)").await;
            run(&mut target, "DELETE FROM t WHERE id = 500").await;
            for engine in ENGINES {
                let with = |sql: &[&str]| Options {
                    engine,
                    filters: sql.iter().map(|sql| sql.parse().unwrap()).collect(),
                    first_chunk_rows: 100,
                    ..Options::default()
                };
                let part = compared(&one, &with(&["id BETWEEN 10 AND 400 OR id BETWEEN 600 AND 900"])).await;
                assert_eq!(
                    (part.verdict, part.tables[0].source_rows),
                    (Verdict::Equal, 692),
                    "{}",
                    part.to_text()
                );
                left_out(&part, "rows that do not fulfil id BETWEEN 10");
                let part = compared(&one, &with(&["id < 600", "t:id > 5"])).await;
                assert_eq!((part.verdict, part.tables[0].extra_rows_source), (Verdict::Different, 1));
                assert_eq!((ids(&part.tables[0]), part.tables[0].source_rows), (vec![500], 594));
                assert!(part.command.contains("--where 'id < 600' --where 't:id > 5'"), "{}", part.command);
                // Rows that only one side has in the part are missing on the other.
                let part = compared(&one, &with(&["v >= 0 AND id < 100"])).await;
                let table = &part.tables[0];
                assert_eq!((table.extra_rows_source, table.extra_rows_target, ids(table)), (1, 0, vec![5]));
            }
        }
        refused(
            &one,
            Options { filters: vec!["nosuch = 1".parse().unwrap()], ..Options::default() },
            &["nosuch", "source"],
        )
        .await;
        refused(
            &one,
            Options { filters: vec!["x:id = 1".parse().unwrap()], ..Options::default() },
            &["x:id = 1", "no such table"],
        )
        .await;
        refused(
            &one,
            Options { filters: vec!["id = = 1".parse().unwrap()], ..Options::default() },
            &["id = = 1", "syntax"],
        )
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_chosen_and_have_other_names() {
    for binary in support::servers() {
        let one = server(&binary).await;
        let (_source, mut target) = sides(&one, 100, " PRIMARY KEY").await;
        run(&mut target, "UPDATE t SET v = -1 WHERE id = 7").await;
        let only = |columns: &[&str]| Options { columns: own(columns), ..Options::default() };
        let part = compared(&one, &only(&["w"])).await;
        assert_eq!(part.verdict, Verdict::Equal);
        left_out(&part, "column v: left out on request");
        assert_eq!(part.tables[0].key, ["id"], "the key is always compared");
        let part = compared(&one, &only(&["t.V"])).await;
        assert_eq!((part.verdict, ids(&part.tables[0])), (Verdict::Different, vec![7]));
        left_out(&part, "column w: left out on request");
        let part = compared(&one, &Options { ignore_columns: own(&["t.v"]), ..Options::default() }).await;
        assert_eq!(part.verdict, Verdict::Equal);
        left_out(&part, "column v: left out on request");
        refused(&one, only(&["w", "nosuch"]), &["--columns nosuch"]).await;
        refused(
            &one,
            Options { ignore_columns: own(&["x.v"]), ..Options::default() },
            &["--ignore-columns x.v"],
        )
        .await;

        run(&mut target, "UPDATE t SET v = 7 WHERE id = 7").await;
        run(&mut target, "ALTER TABLE t CHANGE id number INT NOT NULL, CHANGE v value INT").await;
        let renamed = |renames: &[&str]| Options { rename_columns: own(renames), ..Options::default() };
        let part = compared(&one, &renamed(&["id=number", "t.v=value"])).await;
        assert_eq!(
            (part.verdict, part.tables[0].key.clone()),
            (Verdict::Equal, own(&["id"])),
            "{}",
            part.to_text()
        );
        assert!(part.tables[0].schema_notes.iter().any(|n| n.contains("v is compared with value")));
        assert!(part.tables[0].not_verified.is_empty(), "{:?}", part.tables[0].not_verified);
        run(&mut target, "UPDATE t SET value = 8 WHERE number = 7").await;
        run(&mut target, "UPDATE t SET number = 2000 WHERE number = 9").await;
        let part = compared(&one, &renamed(&["id=number", "v=value"])).await;
        let kinds: Vec<Kind> = part.tables[0].rows.iter().map(|row| row.kind).collect();
        assert_eq!(ids(&part.tables[0]), [7, 9, 2000]);
        assert_eq!(kinds, [Kind::Mismatched, Kind::ExtraSource, Kind::ExtraTarget]);
        assert_eq!(part.tables[0].rows[0].columns, ["v"]);
        // Columns that are swapped by their names, and one that stands for two.
        let swapped = compared(&one, &renamed(&["id=number", "v=w", "w=value"])).await;
        assert_eq!((swapped.verdict, swapped.tables[0].mismatched_rows), (Verdict::Different, 1));
        refused(&one, renamed(&["id=number", "v=w"]), &["both v and w"]).await;
        refused(&one, renamed(&["id=number", "v=nosuch"]), &["--rename-columns v=nosuch"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_never_proves_equality() {
    for binary in support::servers() {
        let one = server(&binary).await;
        for key in [" PRIMARY KEY", ""] {
            let (_source, mut target) = sides(&one, 4000, key).await;
            let sampled = |seed: u64, engine: Engine| Options {
                sample: Some(Sample::parse("10%", seed).unwrap()),
                engine,
                // Without a key each row that is named is looked for in the whole table.
                max_rows_reported: if key.is_empty() { 1 } else { 4000 },
                ..Options::default()
            };
            let first = compared(&one, &sampled(1, Engine::PushDown)).await;
            assert_eq!(first.verdict, Verdict::NotProven, "{}", first.to_text());
            left_out(&first, "all but about 10% of the rows");
            assert!(first.tables[0].reasons[0].contains("only a sample"), "{:?}", first.tables[0].reasons);
            assert!(first.command.contains("--sample '10%' --seed '1'"), "{}", first.command);
            assert_eq!(first.tables[0].matching_rows, first.tables[0].source_rows);

            // Every row differs: the sample's are all found, about as many as asked for, the same by both engines, and
            // others with another seed.
            run(&mut target, "UPDATE t SET v = v + 1").await;
            let mut samples = Vec::new();
            for seed in [1, 2] {
                let [pushed, streamed] = [
                    compared(&one, &sampled(seed, Engine::PushDown)).await,
                    compared(&one, &sampled(seed, Engine::Stream)).await,
                ];
                assert_eq!((pushed.verdict, streamed.verdict), (Verdict::Different, Verdict::Different));
                let table = &pushed.tables[0];
                assert!((300..500).contains(&table.source_rows), "{} of 4000", table.source_rows);
                if !key.is_empty() {
                    assert_eq!(table.mismatched_rows, table.source_rows);
                    assert_eq!(ids(table), ids(&streamed.tables[0]));
                }
                samples.push(ids(table));
            }
            if !key.is_empty() {
                let again = samples[0].iter().filter(|id| samples[1].contains(id)).count();
                assert!(again < samples[0].len() / 4, "{again} of {} are in both samples", samples[0].len());
            }
        }
    }
}
