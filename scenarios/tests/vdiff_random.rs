//! Random tables with random damage: both engines and a naive full dump must agree on every row.
//!
//! `CONVERGE_VDIFF_TABLES` tables per pair of servers (24), drawn from `CONVERGE_SEED` (printed). A disagreement is made
//! smaller before it is shown.

#![allow(clippy::unwrap_used)]

#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff_random/naive.rs"]
mod naive;
#[path = "vdiff_random/spec.rs"]
mod spec;
#[path = "support/servers.rs"]
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{connect, fresh, report, request, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::report::{Kind, TableReport};
use converge_vdiff::{Engine, Options, TablePair, Verdict};
use mysql_async::Conn;
use naive::{Difference, differences};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use spec::{Read, Spec};

/// Smaller tables tried for one that failed.
const SHRINKS: usize = 60;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Makes both copies of a table.
async fn make(conns: &mut [Conn; 2], table: &str, spec: &Spec) {
    let rows = spec.rows();
    let names: Vec<String> = (0..spec.width()).map(|i| format!("c{i}")).collect();
    for (side, conn) in conns.iter_mut().enumerate() {
        run(conn, &format!("DROP TABLE IF EXISTS {table}")).await;
        run(conn, &format!("CREATE TABLE {table} ({})", spec.declared(side))).await;
        run(conn, "START TRANSACTION").await;
        for row in &rows[side] {
            // A key that is taken already stays as it is: what the tables hold in the end, the naive dump says.
            let sql =
                format!("INSERT IGNORE INTO {table} ({}) VALUES ({})", names.join(", "), row.join(", "));
            run(conn, &sql).await;
        }
        run(conn, "COMMIT").await;
    }
}

/// What VDiff found, in the words of the naive dump.
fn told(table: &TableReport, spec: &Spec) -> BTreeSet<Difference> {
    let columns: Vec<usize> = match spec.key().is_empty() {
        true => (0..spec.width()).collect(),
        false => spec.key(),
    };
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "NULL".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let key = |row: &converge_vdiff::report::DifferingRow| -> Vec<String> {
        // What a person reads of these two is no exact value.
        let exact = |i: usize| ![Read::Real, Read::Json].contains(&spec.of(i).read);
        let of = |i: &usize| if exact(*i) { shown(&row.key[&format!("c{i}")]) } else { String::new() };
        columns.iter().map(of).collect()
    };
    let kind = |kind: Kind| match kind {
        Kind::Mismatched => "mismatched",
        Kind::ExtraSource => "extra_source",
        Kind::ExtraTarget => "extra_target",
    };
    table
        .rows
        .iter()
        .map(|r| (kind(r.kind).into(), key(r), r.columns.iter().cloned().collect(), r.copies))
        .collect()
}

/// Without what one of the two cannot know: texts of types that are not shown exactly, and which of several rows of one
/// key (where the target's is not unique) is compared with which.
fn blurred(found: BTreeSet<Difference>, spec: &Spec) -> BTreeSet<Difference> {
    let blur = |(kind, mut key, mut columns, copies): Difference| {
        for (i, text) in key.iter_mut().enumerate().filter(|_| spec.key().is_empty()) {
            if [Read::Real, Read::Json].contains(&spec.of(i).read) {
                text.clear();
            }
        }
        if !spec.is_unique_there() {
            columns.clear();
        }
        (kind, key, columns, copies)
    };
    found.into_iter().map(blur).collect()
}

/// Compares the tables by both engines and by hand; what they disagree on, by the tables' places.
async fn disagreements(
    sides: [&LocalServer; 2],
    specs: &[(String, Spec)],
    options: &Options,
) -> Vec<(usize, String)> {
    let flavors = sides.map(|s| s.binary().info.flavor);
    let mut conns = [connect(sides[0], "vs").await, connect(sides[1], "vt").await];
    let mut truth = Vec::new();
    for (table, spec) in specs {
        make(&mut conns, table, spec).await;
        truth.push(differences(&mut conns, table, spec, flavors[0] != flavors[1]).await);
    }
    // A draw in which nothing is damaged, or everything, would prove little.
    let damaged = truth.iter().filter(|t| !t.is_empty()).count();
    assert!(
        specs.len() < 20 || (1..specs.len()).contains(&damaged),
        "{damaged} of {} tables differ",
        specs.len()
    );
    let mut found = Vec::new();
    for engine in [Engine::PushDown, Engine::Stream] {
        let tables = specs.iter().map(|(table, _)| TablePair::same(table)).collect();
        let asked = request(sides, tables, Options { engine, ..options.clone() });
        for (at, table) in report(&asked).await.tables.iter().enumerate() {
            let spec = &specs[at].1;
            let (told, truth) = (blurred(told(table, spec), spec), blurred(truth[at].clone(), spec));
            let wanted = if truth.is_empty() { Verdict::Equal } else { Verdict::Different };
            if told != truth || table.verdict != wanted {
                found.push((at, format!("{engine:?}: {:?} {told:?}; by hand: {truth:?}", table.verdict)));
            }
        }
    }
    found
}

async fn agree(sides: [&LocalServer; 2], seed: u64, tables: u64) {
    drop((fresh(sides[0], "vs").await, fresh(sides[1], "vt").await));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let mut trees: Vec<_> = (0..tables).map(|_| spec::spec().new_tree(&mut runner).unwrap()).collect();
    let specs: Vec<(String, Spec)> =
        trees.iter().enumerate().map(|(i, tree)| (format!("t{i}"), tree.current())).collect();
    let options = Options {
        first_chunk_rows: 1 + seed % 7,
        max_chunk_rows: 1 + seed % 7,
        fetch_rows: 1 + seed % 5,
        quiet_window: Duration::from_millis(10),
        ..Options::default()
    };
    let found = disagreements(sides, &specs, &options).await;
    let Some((at, first)) = found.first().cloned() else { return };
    let (tree, mut smallest, mut why) = (&mut trees[at], specs[at].clone(), first);
    let mut more = tree.simplify();
    for _ in 0..SHRINKS {
        if !more {
            break;
        }
        let smaller = [(smallest.0.clone(), tree.current())];
        more = match disagreements(sides, &smaller, &options).await.into_iter().next() {
            Some((_, still)) => {
                (smallest, why) = (smaller[0].clone(), still);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    let flavors = sides.map(|s| s.binary().info.flavor);
    let declared = [0, 1].map(|side| smallest.1.declared(side));
    panic!(
        "{flavors:?}, seed {seed}: {} of {tables} tables; the smallest: {declared:#?} rows {:#?}: {why}",
        found.len(),
        smallest.1.rows()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_and_a_naive_dump_agree_on_random_tables() {
    let seed = from_environment("CONVERGE_SEED").unwrap_or_else(rand::random);
    let tables = from_environment("CONVERGE_VDIFF_TABLES").unwrap_or(24);
    println!("CONVERGE_SEED={seed}");
    let mut servers = Vec::new();
    for binary in support::servers() {
        servers.push(server(&binary).await);
    }
    for (a, source) in servers.iter().enumerate() {
        for (b, target) in servers.iter().enumerate() {
            // Other tables for each pair.
            agree([source, target], seed.wrapping_add((a * 10 + b) as u64), tables).await;
        }
    }
}
