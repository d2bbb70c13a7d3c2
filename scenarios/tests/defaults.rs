//! Servers whose defaults would have a session see less than is there, or what never was: sessions are pinned, and names
//! are taken as the server spells them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must say so")]

#[path = "support/mover.rs"]
mod mover;
#[path = "support/sql.rs"]
mod sql;
#[path = "support/servers.rs"]
mod support;
#[path = "support/world.rs"]
#[allow(dead_code, reason = "shared with tests that need more of it")]
mod world;

use converge_chaos::server::ServerBinary;
use converge_mysql::{Connector, Flavor};
use mover::Mover;
use mysql_async::prelude::Queryable;
use sql::{connect, execute};
use world::World;

/// Defaults of the server, and what a session must have instead.
fn defaults(flavor: Flavor) -> Vec<(&'static str, &'static str, &'static str)> {
    let own: [_; 2] = match flavor {
        Flavor::MySql => [
            ("transaction_isolation", "'READ-UNCOMMITTED'", "REPEATABLE-READ"),
            ("max_execution_time", "60000", "0"),
        ],
        Flavor::MariaDb => [
            ("tx_isolation", "'READ-UNCOMMITTED'", "REPEATABLE-READ"),
            ("max_statement_time", "60", "0.000000"),
        ],
    };
    let all = [
        ("sql_select_limit", "100", "18446744073709551615"),
        ("sql_safe_updates", "1", "0"),
        ("autocommit", "0", "1"),
        ("completion_type", "'CHAIN'", "NO_CHAIN"),
        ("time_zone", "'+05:30'", "+00:00"),
    ];
    own.into_iter().chain(all).collect()
}

async fn set(world: &World, flavor: Flavor) {
    for server in [&world.source, &world.target] {
        let mut conn = connect(server).await;
        for (name, value, _) in defaults(flavor) {
            execute(&mut conn, &[&format!("SET GLOBAL {name} = {value}")]).await;
        }
    }
}

/// What is not committed is not copied, and a table without a key not cut short.
async fn moves_what_is_there(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, _t) = world.connections().await;
    execute(&mut s, &["CREATE TABLE bag (x INT)"]).await;
    world.fill("n", 512).await;
    execute(&mut s, &["INSERT INTO bag SELECT id FROM n"]).await;
    set(&world, binary.info.flavor).await;
    let mut session = Connector::new(world.source.address("shop")).connect().await.unwrap();
    for (name, _, pinned) in defaults(binary.info.flavor) {
        let value: Option<String> =
            session.query_first(format!("SELECT CAST(@@SESSION.{name} AS CHAR)")).await.unwrap();
        let value = value.map(|value| match value.as_str() {
            "OFF" => "0".into(),
            "ON" => "1".into(),
            _ => value,
        });
        assert_eq!(value.as_deref(), Some(pinned), "{name}");
    }
    let open = [
        "BEGIN",
        "INSERT INTO n (u) VALUES (-1)",
        "UPDATE n SET x = 7 WHERE id = 5",
        "DELETE FROM n WHERE id = 7",
    ];
    execute(&mut session, &open).await;
    let mut mover = world.mover("n,bag").with(&["--allow-no-key"]);
    mover.start();
    mover.wait_for("replicating");
    execute(&mut session, &["ROLLBACK"]).await;
    mover.switch();
    assert_eq!(world.judge_fenced(&["n", "bag"]).await, 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_default_of_a_server_changes_what_is_moved() {
    for binary in support::servers() {
        eprintln!("defaults on {}", binary.info);
        moves_what_is_there(&binary).await;
    }
}

/// Where letter case in names does not count, the log has the server's spelling only: changes of a table that was named
/// otherwise would be passed over. (MySQL's data directories of these tests are made for names that do count.)
#[tokio::test(flavor = "multi_thread")]
async fn names_in_another_letter_case_are_refused() {
    for binary in support::servers().into_iter().filter(|b| b.info.flavor == Flavor::MariaDb) {
        let folded = ["--lower-case-table-names=1"];
        let world = World::with(&binary, &folded, &folded).await;
        world.fill("n", 4).await;
        let url = |server: &converge_chaos::server::LocalServer, name: &str| server.address(name).to_url();
        for (database, table) in [("SHOP", "n"), ("shop", "N")] {
            let (source, target) = (url(&world.source, database), url(&world.target, "shop"));
            let output = Mover::between(&source, &target, table).run();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains("name the database shop in --source and the table n in --tables"),
                "{said}"
            );
        }
        let mut mover = world.mover("n");
        mover.start();
        mover.wait_for("replicating");
        mover.switch();
    }
}
