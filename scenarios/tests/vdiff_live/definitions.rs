//! Definitions that are late on a replica: what it lacks is no difference until it has all that the source had.

use std::time::Duration;

use converge_mysql::Flavor;
use converge_vdiff::{Report, Request, TablePair, Verdict};

use super::common::{connect, report, run};
use super::followed::Pair;
use super::support;

fn verdict(found: &Report, table: &str) -> Verdict {
    found.tables.iter().find(|t| t.table == table).unwrap_or_else(|| panic!("{}", found.to_text())).verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_does_not_have_yet_is_waited_for() {
    for binary in support::servers() {
        let pair = Pair::replicated(&binary, &[]).await;
        let (mut source, mut target) =
            (connect(&pair.source, "shop").await, connect(&pair.target, "shop").await);
        let [stop, delay, start] = match binary.info.flavor {
            Flavor::MySql => [
                "STOP REPLICA SQL_THREAD",
                "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 2",
                "START REPLICA SQL_THREAD",
            ],
            Flavor::MariaDb => ["STOP SLAVE", "CHANGE MASTER TO MASTER_DELAY = 2", "START SLAVE"],
        };
        for sql in [stop, delay, start] {
            run(&mut target, sql).await;
        }
        let mut all = Request { tables: Vec::new(), ..pair.request() };
        all.options.all_tables = Some(Vec::new());
        let label = Request { tables: vec![TablePair::same("label")], ..pair.request() };

        run(&mut source, "CREATE TABLE late (id INT PRIMARY KEY)").await;
        let found = report(&all).await;
        assert_eq!(
            (found.verdict, verdict(&found, "late")),
            (Verdict::Equal, Verdict::Equal),
            "{}",
            found.to_text()
        );
        run(&mut source, "ALTER TABLE label ADD COLUMN late INT").await;
        let found = report(&label).await;
        assert_eq!(found.verdict, Verdict::Equal, "{}", found.to_text());
        assert!(found.tables[0].schema.iter().all(|f| !f.message.contains("late")), "{}", found.to_text());

        // What never comes is no difference either.
        run(&mut target, stop).await;
        for sql in ["CREATE TABLE later (id INT PRIMARY KEY)", "ALTER TABLE label ADD COLUMN later INT"] {
            run(&mut source, sql).await;
        }
        for request in [&mut all, &mut label.clone()] {
            request.options.confirm_within = Duration::from_millis(1500);
            let found = report(request).await;
            assert_eq!(found.verdict, Verdict::NotProven, "{}", found.to_text());
            let reasons: String = found.tables.iter().flat_map(|t| t.reasons.clone()).collect();
            assert!(reasons.contains("did not come to where the source is"), "{reasons}");
        }
        run(&mut target, start).await;
        all.options.confirm_within = Duration::from_secs(60);
        assert_eq!(report(&all).await.verdict, Verdict::Equal);

        // What was dropped there is one.
        for sql in ["SET sql_log_bin = 0", "DROP TABLE late", "ALTER TABLE label DROP COLUMN later"] {
            run(&mut target, sql).await;
        }
        let found = report(&all).await;
        assert_eq!(verdict(&found, "late"), Verdict::Different, "{}", found.to_text());
        assert_eq!(verdict(&found, "label"), Verdict::Different, "{}", found.to_text());
        assert_eq!(verdict(&found, "later"), Verdict::Equal, "{}", found.to_text());
    }
}
