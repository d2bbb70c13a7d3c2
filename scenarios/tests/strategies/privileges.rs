//! Every strategy with the privileges that `move run --help` names for it, and no others.

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mover::copy::Strategy;
use converge_mysql::{Address, Flavor};
use mysql_async::Conn;

use super::mover::Mover;
use super::replica::replica_of;
use super::{assert_equal, connect, execute, support, until};

const ACCOUNT: &str = "'mover'@'127.0.0.1'";

fn url(server: &LocalServer) -> String {
    Address { user: "mover".into(), password: "pw".into(), ..server.address("shop") }.to_url()
}

async fn grant(conn: &mut Conn, privileges: &[String]) {
    execute(conn, &[&format!("CREATE USER {ACCOUNT} IDENTIFIED BY 'pw'")]).await;
    for privilege in privileges {
        execute(conn, &[&format!("GRANT {privilege} TO {ACCOUNT}")]).await;
    }
}

async fn least(binary: &ServerBinary, strategy: Strategy, column: &str, more: &[&str]) {
    eprintln!("privileges of {strategy} {more:?} on {}", binary.info);
    let source = support::start(binary, "source").await;
    let target = support::start(binary, "target").await;
    let replica = match strategy {
        Strategy::Replica => Some(replica_of(&source, &[]).await),
        _ => None,
    };
    let (mut s, mut t) = (connect(&source).await, connect(&target).await);
    execute(&mut s, &[&format!("CREATE TABLE a ({column})"), "INSERT INTO a VALUES (1), (2), (3)"]).await;
    let mysql = binary.info.flavor == Flavor::MySql;
    let client = if mysql { "REPLICATION CLIENT" } else { "BINLOG MONITOR, SLAVE MONITOR" };
    let privileges = [
        "SELECT, ALTER, DROP, CREATE, INSERT ON shop.*".to_owned(),
        format!("REPLICATION SLAVE, {client} ON *.*"),
        "CREATE, SELECT, INSERT, UPDATE, DELETE ON _converge.*".to_owned(),
    ];
    grant(&mut s, &privileges).await;
    let all = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP";
    grant(&mut t, &[format!("{all} ON shop.*"), format!("{all} ON _converge.*")]).await;
    let mut mover = Mover::between(&url(&source), &url(&target), "a")
        .with(&["--copy-strategy", strategy.name()])
        .with(more);
    if let Some(replica) = &replica {
        mover = mover.with(&["--copy-from", &url(replica)]);
    }
    // A table without a key is copied from a snapshot whatever the strategy.
    if mysql && (strategy == Strategy::Snapshot || !column.contains("KEY")) {
        let refused = mover.run();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && said.contains("GRANT LOCK TABLES ON `shop`.* TO"),
            "{said}"
        );
        execute(&mut s, &[&format!("GRANT LOCK TABLES ON shop.* TO {ACCOUNT}")]).await;
    }
    mover.start();
    mover.wait_for("replicating");
    execute(&mut s, &["UPDATE a SET id = id + 10"]).await;
    until(&mut t, "the change", "SELECT MIN(id) = 11 FROM shop.a").await;
    mover.switch();
    assert_equal(&source, &target, "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_strategy_needs_no_more_privileges_than_help_names() {
    for binary in support::servers() {
        for strategy in Strategy::SAFE {
            least(&binary, strategy, "id INT PRIMARY KEY", &[]).await;
        }
        least(&binary, Strategy::Watermark, "id INT", &["--allow-no-key"]).await;
    }
}
