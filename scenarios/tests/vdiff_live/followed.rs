//! With a witness of the target's position: under hostile writes nothing is reported but what was damaged, and that each
//! time.

use std::sync::atomic::{AtomicU64, Ordering};

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::Flavor;
use converge_vdiff::report::{DifferingRow, Kind};
use converge_vdiff::{Options, Progress, ProofSource, Report, Request, TablePair, Verdict, compare};
use mysql_async::Conn;

use super::common::{connect, run, server_with};
use super::load::{Load, fill};
use super::mover::Mover;
use super::{replication, support};

/// Sessions that write.
const SESSIONS: u64 = 8;
/// Rows a second that they write in the long form, if the machine lets them.
const FAST: u64 = 2_500;
/// And in the short form: a busy machine's replica has to follow as well, and is given up on otherwise.
const SLOW: u64 = 600;

/// Two servers, the second of which follows the first.
pub struct Pair {
    pub source: LocalServer,
    pub target: LocalServer,
    mover: Option<Mover>,
    proof: ProofSource,
}

impl Pair {
    /// A workflow of the mover, which has copied everything.
    pub async fn moved(binary: &ServerBinary) -> Self {
        let (source, target) = (server_with(binary, &[]).await, server_with(binary, &[]).await);
        fill(&source, "shop").await;
        run(&mut connect(&target, "").await, "CREATE DATABASE shop").await;
        let mut mover = Mover::new(&source, &target, "account,label");
        mover.start();
        mover.wait_for("replicating");
        Self { source, target, mover: Some(mover), proof: ProofSource::Workflow("w".into()) }
    }

    /// Native replication, whose applier has several threads.
    pub async fn replicated(binary: &ServerBinary, more: &[&str]) -> Self {
        let threads = match binary.info.flavor {
            Flavor::MySql => "--replica-parallel-workers=4",
            Flavor::MariaDb => "--slave-parallel-threads=4",
        };
        let source = server_with(binary, more).await;
        let target = server_with(binary, &[&[threads], more].concat()).await;
        replication::replicate(&source, &target).await;
        fill(&source, "shop").await;
        let pair = Self { source, target, mover: None, proof: ProofSource::Replica };
        let mut conn = connect(&pair.target, "").await;
        let all = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'shop'";
        super::until(&mut conn, "replication", &format!("SELECT ({all}) = 2")).await;
        pair
    }

    /// The workflow's mover.
    pub fn mover(&mut self) -> &mut Mover {
        self.mover.as_mut().expect("a mover")
    }

    /// A comparison of both tables in small chunks.
    pub fn request(&self) -> Request {
        let options = Options {
            proof: self.proof.clone(),
            first_chunk_rows: 500,
            max_chunk_rows: 500,
            ..Options::default()
        };
        Request {
            source: vec![self.source.address("shop")],
            target: vec![self.target.address("shop")],
            tables: ["account", "label"].map(TablePair::same).into(),
            options,
        }
    }
}

/// Something done to the target behind everybody's back, its undoing, and what must be said of it.
struct Damage {
    does: String,
    undo: String,
    table: &'static str,
    key: String,
    kinds: &'static [Kind],
}

/// Of one of five kinds, to a row that nobody writes to, in the midst of rows that are written all the time.
fn damage(run: u64) -> Damage {
    let id = (run * 7 % 39 + 1) * 500;
    let word = (run * 3 % 7 + 1) * 500;
    let of = |table, key: String, does: &str, undo: &str, kinds| Damage {
        does: does.replace("KEY", &key),
        undo: undo.replace("KEY", &key),
        table,
        key,
        kinds,
    };
    match run % 5 {
        0 => of(
            "account",
            id.to_string(),
            "UPDATE account SET v = 'damaged' WHERE id = KEY",
            "UPDATE account SET v = 'vKEY' WHERE id = KEY",
            &[Kind::Mismatched],
        ),
        1 => of(
            "account",
            id.to_string(),
            "DELETE FROM account WHERE id = KEY",
            "INSERT INTO account VALUES (KEY, 'vKEY', KEY, NULL)",
            &[Kind::ExtraSource],
        ),
        2 => of(
            "account",
            (1_000_000 + id).to_string(),
            "INSERT INTO account VALUES (KEY, 'extra', 1, NULL)",
            "DELETE FROM account WHERE id = KEY",
            &[Kind::ExtraTarget],
        ),
        3 => of(
            "label",
            format!("key{word}"),
            "UPDATE label SET v = 'damaged' WHERE name = 'KEY'",
            &format!("UPDATE label SET v = 'v{word}' WHERE name = 'KEY'"),
            &[Kind::Mismatched],
        ),
        // Found by equality under a collation that takes both for the same.
        _ => of(
            "label",
            format!("key{word}"),
            "UPDATE label SET name = UPPER(name) WHERE name = 'KEY'",
            "UPDATE label SET name = LOWER(name) WHERE name = 'KEY'",
            &[Kind::ExtraSource, Kind::ExtraTarget],
        ),
    }
}

async fn silently(conn: &mut Conn, sql: &str) {
    run(conn, "SET SESSION sql_log_bin = 0").await;
    run(conn, sql).await;
}

fn key_of(row: &DifferingRow) -> String {
    let key = row.key.values().next().unwrap();
    key.as_str().map_or_else(|| key.to_string(), |text| text.to_lowercase())
}

/// Compares `runs` times beside the load, each time with one damaged row; and without any before and after.
pub async fn damaged_rows_alone_are_found(pair: &Pair, runs: u64, rate: u64) {
    let load = Load::start(&pair.source, "shop", SESSIONS, rate).await;
    let suspected = AtomicU64::new(0);
    let mut target = connect(&pair.target, "shop").await;
    let clean = async |when: &str| {
        let report = beside(pair, &suspected).await;
        assert_eq!(report.verdict, Verdict::Equal, "{when}: {}", report.to_text());
        assert!(!report.source.stood_still, "{when}: nobody wrote");
    };
    clean("before").await;
    for run in 0..runs {
        let damage = damage(run);
        silently(&mut target, &damage.does).await;
        let report = beside(pair, &suspected).await;
        silently(&mut target, &damage.undo).await;
        judge(&report, &damage, run);
    }
    clean("after").await;
    let written = load.stop().await;
    let suspected = suspected.into_inner();
    eprintln!(
        "{}: {runs} runs, {written:.0} rows/s written, {suspected} suspects of timing",
        pair.source.binary().info
    );
    assert!(suspected > 0 || rate < FAST, "no run saw a row that was late: nothing was tried");
}

/// One comparison; adds the rows that it suspected at first.
async fn beside(pair: &Pair, suspected: &AtomicU64) -> Report {
    compare(&pair.request(), &|progress| {
        if let Progress::Rows { suspects, .. } = progress {
            suspected.fetch_add(suspects, Ordering::Relaxed);
        }
    })
    .await
    .unwrap_or_else(|e| panic!("{e}"))
}

fn judge(report: &Report, damage: &Damage, run: u64) {
    let told = || format!("run {run}, {}: {}", damage.does, report.to_json());
    assert_eq!(report.verdict, Verdict::Different, "{}", told());
    assert!(!report.source.stood_still, "nobody wrote: {}", told());
    for table in &report.tables {
        assert_eq!(table.unconfirmed_rows, 0, "{}", told());
        let expected = if table.table == damage.table { damage.kinds } else { &[] };
        let mut kinds: Vec<Kind> = table.rows.iter().map(|row| row.kind).collect();
        kinds.sort_by_key(|kind| *kind as u8);
        assert_eq!(kinds, expected, "{}", told());
        for row in &table.rows {
            assert!(row.confirmed && row.position.is_some() && key_of(row) == damage.key, "{}", told());
        }
    }
}

fn runs() -> u64 {
    std::env::var("CONVERGE_LIVE_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(30)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_tells_damage_from_lateness() {
    for binary in support::servers() {
        damaged_rows_alone_are_found(&Pair::moved(&binary).await, 3, SLOW).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_tells_damage_from_lateness() {
    for binary in support::servers() {
        damaged_rows_alone_are_found(&Pair::replicated(&binary, &[]).await, 3, SLOW).await;
    }
}

/// Places in files instead of GTIDs.
#[tokio::test(flavor = "multi_thread")]
async fn places_in_files_tell_damage_from_lateness() {
    let mysql = support::servers().into_iter().find(|b| b.info.flavor == Flavor::MySql);
    let Some(binary) = mysql else { return };
    let off = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"];
    damaged_rows_alone_are_found(&Pair::replicated(&binary, &off).await, 3, SLOW).await;
}

/// The long form; `CONVERGE_LIVE_RUNS` says how long.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn a_workflow_tells_damage_from_lateness_in_many_runs() {
    for binary in support::servers() {
        damaged_rows_alone_are_found(&Pair::moved(&binary).await, runs(), FAST).await;
    }
}

/// The long form; `CONVERGE_LIVE_RUNS` says how long.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn replication_tells_damage_from_lateness_in_many_runs() {
    for binary in support::servers() {
        damaged_rows_alone_are_found(&Pair::replicated(&binary, &[]).await, runs(), FAST).await;
    }
}
