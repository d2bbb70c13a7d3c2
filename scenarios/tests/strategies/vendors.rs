//! Documents between products, with every strategy: one side stores them as values, the other as text, so that what was
//! read, what the log has and what is on the target have three forms.

use converge_chaos::server::ServerBinary;
use converge_mover::copy::Strategy;

use super::mover::Mover;
use super::{assert_equal, connect, copied, execute, support};

const DOCUMENTS: &[&str] = &[
    r#"'{"b": 1, "a": [1, 2.5, "x", null, true, {"é": "😀"}]}'"#,
    r#"'[1, 1.0, -0.5, 1e20, 18446744073709551615, "1", "2024-01-01", ""]'"#,
    "'1'",
    "'1.5'",
    r#"'"a"'"#,
    "'null'",
    "NULL",
    "'{}'",
    "'[]'",
];

/// Changes of rows that the copy has passed, has before it, or has under its hands.
const CHANGES: &[&str] = &[
    "UPDATE k SET j = '{\"new\": [1, 2, 3]}', x = x + 1 WHERE id % 5 = 0",
    "UPDATE k SET x = x + 1 WHERE id % 7 = 0",
    "DELETE FROM k WHERE id % 11 = 0",
    "UPDATE k SET id = id + 1000 WHERE id % 13 = 0",
    "REPLACE INTO k VALUES (3, '[2.5]', 9), (2000, '[\"z\"]', 9)",
    "INSERT INTO k VALUES (17, '{}', 0) ON DUPLICATE KEY UPDATE j = '\"again\"', x = x + 1",
];

async fn between(from: &ServerBinary, to: &ServerBinary, strategy: Strategy) {
    eprintln!("{strategy} from {} to {}", from.info, to.info);
    let (source, target) = (support::start(from, "source").await, support::start(to, "target").await);
    let mut s = connect(&source).await;
    connect(&target).await;
    execute(&mut s, &["CREATE TABLE k (id INT PRIMARY KEY, j JSON, x INT) CHARACTER SET utf8mb4"]).await;
    for id in 1..=90 {
        let document = DOCUMENTS[id % DOCUMENTS.len()];
        execute(&mut s, &[&format!("INSERT INTO k VALUES ({id}, {document}, {id})")]).await;
    }
    let mut tables = "k";
    let mut options = vec!["--copy-strategy", strategy.name(), "--chunk-rows", "10"];
    options.extend(["--copy-rows-per-second", "60"]);
    if strategy == Strategy::Snapshot {
        tables = "k,n";
        options.push("--allow-no-key");
        execute(&mut s, &["CREATE TABLE n CHARACTER SET utf8mb4 SELECT j, x FROM k"]).await;
    }
    let mut mover = Mover::new(&source, &target, tables).with(&options);
    mover.start();
    mover.wait_until("some rows", |status| copied(status) >= 20);
    execute(&mut s, CHANGES).await;
    mover.wait_for("replicating");
    execute(&mut s, CHANGES).await;
    if tables == "k,n" {
        execute(&mut s, &["DELETE FROM n WHERE x % 3 = 0 LIMIT 9", "UPDATE n SET x = 7 WHERE x % 2 = 0"])
            .await;
    }
    mover.switch();
    assert_equal(&source, &target, tables);
    assert!(mover.command("complete", &[]).status.success());
    assert_eq!(mover.ended(), 0, "{}", mover.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_cross_vendors_with_every_strategy() {
    let binaries = support::servers();
    for (from, to) in binaries.iter().flat_map(|from| binaries.iter().map(move |to| (from, to))) {
        if from.info.flavor != to.info.flavor {
            for strategy in
                [Strategy::Watermark, Strategy::Locking, Strategy::DeleteHistory, Strategy::Snapshot]
            {
                between(from, to, strategy).await;
            }
        }
    }
}
