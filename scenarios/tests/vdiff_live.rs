//! VDiff while rows are being written: no difference is reported that is one of timing, and none is lost.

#![allow(clippy::unwrap_used)]

#[path = "vdiff_live/ahead.rs"]
mod ahead;
#[path = "vdiff/common.rs"]
mod common;
#[path = "vdiff_live/definitions.rs"]
mod definitions;
#[path = "vdiff_live/followed.rs"]
mod followed;
#[path = "vdiff_live/load.rs"]
mod load;
#[path = "support/mover.rs"]
mod mover;
#[path = "support/replication.rs"]
mod replication;
#[path = "support/sql.rs"]
mod sql;
#[path = "vdiff_live/stalled.rs"]
mod stalled;
#[path = "support/servers.rs"]
mod support;
#[path = "vdiff_live/witnesses.rs"]
mod witnesses;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{connect, fresh, report, run, server};
use converge_chaos::server::LocalServer;
use converge_vdiff::{Options, Request, TablePair, Verdict};
use mysql_async::prelude::Queryable;
use sql::until;
use tokio::task::JoinSet;

const ROWS: u64 = 2_000;

/// Sessions that write to `vs.hot` until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Writers {
    async fn start(server: &LocalServer, sessions: u64, logged: bool) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for session in 0..sessions {
            let mut conn = connect(server, "vs").await;
            run(&mut conn, &format!("SET sql_log_bin = {}", u8::from(logged))).await;
            let (stop, written) = (stop.clone(), written.clone());
            tasks.spawn(async move {
                let mut n = session;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let id = (n >> 33) % ROWS;
                    let sql = match n >> 61 {
                        0 => format!("DELETE FROM hot WHERE id = {id}"),
                        1 => format!("REPLACE INTO hot VALUES ({id}, '{n}')"),
                        _ => format!("UPDATE hot SET v = '{n}' WHERE id = {id}"),
                    };
                    run(&mut conn, &sql).await;
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, written, tasks }
    }

    async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
        self.written.load(Ordering::Relaxed)
    }
}

async fn fill(server: &LocalServer, database: &str, tables: &[&str]) {
    let mut conn = fresh(server, database).await;
    for table in tables {
        run(&mut conn, &format!("CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(40))")).await;
        let rows: Vec<String> = (0..ROWS).map(|id| format!("({id}, 'v{id}')")).collect();
        run(&mut conn, &format!("INSERT INTO {table} VALUES {}", rows.join(","))).await;
    }
}

fn options(confirm_within: Duration) -> Options {
    let quiet_window = Duration::from_millis(300);
    Options { first_chunk_rows: 100, max_chunk_rows: 100, confirm_within, quiet_window, ..Options::default() }
}

/// A table under writes compared with itself: each difference seen is one of timing.
#[tokio::test(flavor = "multi_thread")]
async fn differences_of_timing_are_never_reported() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one, "vs", &["hot"]).await;
        let writers = Writers::start(&one, 4, true).await;
        let request = Request {
            source: vec![one.address("vs")],
            // The same server by another name.
            target: vec![one.address("vs").with_endpoint("localhost", one.port())],
            tables: vec![TablePair::same("hot")],
            options: options(Duration::from_millis(500)),
        };
        let (begun, mut runs, mut suspected) = (Instant::now(), 0, AtomicBool::new(false));
        // Where commits wait for a busy disk they come in bursts, and few of them fall between two readings.
        while begun.elapsed() < Duration::from_secs(5)
            || ((runs < 3 || !*suspected.get_mut()) && begun.elapsed() < Duration::from_secs(60))
        {
            let suspicions = &suspected;
            let found = converge_vdiff::compare(&request, &|progress| {
                if let converge_vdiff::Progress::Confirming { .. } = progress {
                    suspicions.store(true, Ordering::Relaxed);
                }
            })
            .await
            .unwrap();
            assert_ne!(found.verdict, Verdict::Different, "run {runs}: {found:?}");
            if found.source.stood_still {
                // On a busy machine the writers may all have waited for the disk while the table was read.
                continue;
            }
            assert!(found.notes[0].contains("with themselves"), "{found:?}");
            assert!(found.notes[1].contains("written to"), "{found:?}");
            runs += 1;
        }
        let written = writers.stop().await;
        assert!(runs > 0, "{written} writes, and the writers never wrote while the table was read");
        assert!(*suspected.get_mut(), "{runs} runs beside {written} writes never saw a difference of timing");
        let still = report(&request).await;
        assert_eq!(still.verdict, Verdict::Equal, "{still:?}");
        assert_eq!(still.tables[0].processed_rows, still.tables[0].source_rows);
        println!("{binary:?}: {runs} runs beside {written} writes");
    }
}

/// A real difference is not proven while the server is written to, logged or not, and is once it stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_proven_only_at_rest() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one, "vs", &["hot", "cold"]).await;
        fill(&one, "vt", &["cold"]).await;
        let mut target = connect(&one, "vt").await;
        run(&mut target, "UPDATE cold SET v = 'V77' WHERE id = 77").await;
        let request = Request {
            source: vec![one.address("vs")],
            target: vec![one.address("vt")],
            tables: vec![TablePair::same("cold")],
            options: options(Duration::from_millis(700)),
        };
        for logged in [true, false] {
            let writers = Writers::start(&one, 1, logged).await;
            let moving = report(&request).await;
            let table = &moving.tables[0];
            assert_eq!(
                (moving.verdict, table.unconfirmed_rows, table.mismatched_rows),
                (Verdict::NotProven, 1, 0),
                "{}, logged: {logged}",
                binary.info
            );
            assert!(!table.rows[0].confirmed && table.rows[0].key["id"] == 77, "{table:?}");
            assert!(table.reasons[0].contains("written to"), "{table:?}");
            writers.stop().await;
        }
        let still = report(&request).await;
        let table = &still.tables[0];
        assert_eq!(
            (still.verdict, table.unconfirmed_rows, table.mismatched_rows),
            (Verdict::Different, 0, 1)
        );
        assert!(table.rows[0].confirmed, "{table:?}");
    }
}

/// A row that is repaired while it is being read again is no difference.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_catch_up_are_equal() {
    for binary in support::servers() {
        let one = server(&binary).await;
        fill(&one, "vs", &["cold"]).await;
        fill(&one, "vt", &["cold"]).await;
        let mut late = connect(&one, "vt").await;
        run(&mut late, "UPDATE cold SET v = 'late' WHERE id IN (3, 1999)").await;
        run(&mut late, "DELETE FROM cold WHERE id = 1000").await;
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        let tell = std::sync::Mutex::new(Some(tell));
        let applier = tokio::spawn(async move {
            told.await.unwrap();
            late.query_drop("UPDATE cold SET v = CONCAT('v', id) WHERE id IN (3, 1999)").await.unwrap();
            late.query_drop("INSERT INTO cold VALUES (1000, 'v1000')").await.unwrap();
        });
        let request = Request {
            source: vec![one.address("vs")],
            target: vec![one.address("vt")],
            tables: vec![TablePair::same("cold")],
            options: options(Duration::from_secs(20)),
        };
        let found = converge_vdiff::compare(&request, &|progress| {
            if let converge_vdiff::Progress::Rows { suspects: 3, .. } = progress
                && let Some(tell) = tell.lock().unwrap().take()
            {
                tell.send(()).unwrap();
            }
        })
        .await
        .unwrap();
        applier.await.unwrap();
        assert_eq!((found.verdict, found.tables[0].matching_rows), (Verdict::Equal, ROWS), "{found:?}");
    }
}
