//! A source that was put up from a backup, at another place and under another name.

use converge_chaos::server::{LocalServer, ServerOptions};
use converge_mysql::Flavor;
use mysql_async::prelude::Queryable;

use crate::source::{assert_stops, copy_directory, replicated};
use crate::sql::{connect, execute, wait_same};
use crate::support;

/// A MariaDB that is put up from a backup under an id of its own gives out the domain's numbers anew, as a replica that took
/// over goes on with them.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_put_up_under_another_id_stops_the_workflow() {
    for binary in support::servers().into_iter().filter(|b| b.info.flavor == Flavor::MariaDb) {
        let (world, mut mover) = replicated(&binary, &[]).await;
        let backup = world.source.directory().join("backup");
        world.source.stop().await.unwrap();
        copy_directory(&world.source.directory().join("data"), &backup);
        world.source.restart().await.unwrap();
        let (mut s, mut t) = world.connections().await;
        mover.start();
        for i in 0..3 {
            execute(&mut s, &[&format!("INSERT INTO a VALUES ({}, 50)", 50 + i)]).await;
        }
        wait_same(&mut s, &mut t, "a").await;
        mover.kill();
        for with_logs in [true, false] {
            let other = LocalServer::start(&binary, ServerOptions::named("other")).await.unwrap();
            other.stop().await.unwrap();
            let data = other.directory().join("data");
            std::fs::remove_dir_all(&data).unwrap();
            copy_directory(&backup, &data);
            let logs = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
            for log in logs
                .filter(|path| !with_logs && path.file_name().unwrap().to_string_lossy().contains("binlog"))
            {
                std::fs::remove_file(log).unwrap();
            }
            other.restart().await.unwrap();
            let mut o = connect(&other).await;
            // As many as the checkpoint says, and more.
            let own: Option<u64> =
                s.query_first("SELECT SUBSTRING_INDEX(@@gtid_binlog_pos, '-', -1)").await.unwrap();
            for i in 0..=own.unwrap() {
                execute(&mut o, &[&format!("INSERT INTO shop.a VALUES ({}, 60)", 1000 + i)]).await;
            }
            mover.set_source(&other.address("shop").to_url());
            assert_stops(&mover, &["never had the transactions up to"]);
        }
    }
}
