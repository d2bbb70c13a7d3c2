//! Settings changed while a move runs, by a session or for all: whatever is then logged in a form that does not tell all
//! of a change stops the move at once, says what to do, and is passed by no option.

use converge_mysql::Flavor;

use crate::sql::{connect, execute};
use crate::support;
use crate::world::World;

/// What a session does, and what must be said.
struct Case {
    only: Option<Flavor>,
    session: &'static [&'static str],
    said: &'static [&'static str],
}

const fn case(session: &'static [&'static str], said: &'static [&'static str]) -> Case {
    Case { only: None, session, said }
}

const FORMAT: &[&str] = &["logged as a statement", "binlog_format = 'ROW'"];
const IMAGE: &[&str] = &["row image", "binlog_row_image = 'FULL'"];

const LOAD: &str = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE triggering";

const CASES: &[Case] = &[
    case(&["SET SESSION binlog_format = STATEMENT", "UPDATE c SET x = x + 1"], FORMAT),
    case(&["SET SESSION binlog_format = MIXED", "INSERT INTO c (id, x) VALUES (9, 9)"], FORMAT),
    // The log shows neither the view's nor the trigger's table.
    case(&["SET SESSION binlog_format = STATEMENT", "UPDATE seen SET x = x + 1"], FORMAT),
    case(&["SET SESSION binlog_format = STATEMENT", "INSERT INTO triggering VALUES (1)"], FORMAT),
    // From another database its name does not occur at all.
    case(&["SET SESSION binlog_format = STATEMENT", "USE elsewhere", "UPDATE seen SET x = x + 1"], FORMAT),
    case(
        &["SET SESSION binlog_format = STATEMENT", "USE elsewhere", "INSERT INTO triggering VALUES (1)"],
        FORMAT,
    ),
    // The same of a file that is read.
    case(
        &["SET GLOBAL local_infile = 1", "SET SESSION binlog_format = STATEMENT", "USE elsewhere", LOAD],
        FORMAT,
    ),
    Case {
        only: Some(Flavor::MariaDb),
        session: &["SET SESSION binlog_format = STATEMENT", "ANALYZE UPDATE c SET x = 3"],
        said: FORMAT,
    },
    Case {
        only: Some(Flavor::MariaDb),
        session: &["SET STATEMENT binlog_format = 'STATEMENT' FOR UPDATE c SET x = 4"],
        said: FORMAT,
    },
    case(&["SET SESSION binlog_row_image = MINIMAL", "UPDATE c SET x = x + 1 WHERE id = 1"], IMAGE),
    case(&["SET SESSION binlog_row_image = NOBLOB", "UPDATE c SET x = x + 1 WHERE id = 1"], IMAGE),
    case(&["SET SESSION binlog_row_image = MINIMAL", "DELETE FROM c WHERE id = 1"], IMAGE),
    case(&["SET GLOBAL binlog_row_image = MINIMAL", "RECONNECT", "INSERT INTO c (id) VALUES (9)"], IMAGE),
    Case {
        only: Some(Flavor::MySql),
        session: &[
            "SET SESSION binlog_row_value_options = PARTIAL_JSON",
            "UPDATE c SET j = JSON_SET(j, '$.a', 2) WHERE id = 1",
        ],
        said: &["logged as differences", "binlog_row_value_options = ''"],
    },
    Case {
        only: Some(Flavor::MariaDb),
        session: &["SET GLOBAL gtid_strict_mode = OFF", "SET SESSION gtid_seq_no = 2", "UPDATE c SET x = 7"],
        said: &["transaction number 2 follows number", "gtid_strict_mode = ON"],
    },
    case(
        &["XA START 'k'", "UPDATE c SET x = 7", "XA END 'k'", "XA PREPARE 'k'"],
        &["prepared XA transaction", "XA COMMIT … ONE PHASE"],
    ),
];

async fn stops(world: &World, case: &Case) {
    let (mut s, mut t) = world.connections().await;
    let fill = [
        "DROP TABLE IF EXISTS c, triggering",
        "CREATE TABLE c (id INT PRIMARY KEY, x INT, j JSON, b BLOB)",
        "INSERT INTO c VALUES (1, 1, '{\"a\": 1, \"b\": \"long enough to be worth a difference\"}', 'b'), (2, 2, 'null', '')",
        "CREATE OR REPLACE VIEW seen AS SELECT * FROM c",
        "CREATE TABLE triggering (id INT PRIMARY KEY)",
        "CREATE TRIGGER t BEFORE INSERT ON triggering FOR EACH ROW UPDATE c SET x = 0",
        "DROP DATABASE IF EXISTS elsewhere",
        "CREATE DATABASE elsewhere",
        "CREATE VIEW elsewhere.seen AS SELECT * FROM shop.c",
        "CREATE TABLE elsewhere.triggering (id INT PRIMARY KEY)",
        "CREATE TRIGGER elsewhere.t BEFORE INSERT ON elsewhere.triggering FOR EACH ROW UPDATE shop.c SET x = 0",
    ];
    execute(&mut s, &fill).await;
    execute(&mut t, &["DROP TABLE IF EXISTS c", "DROP DATABASE IF EXISTS _converge"]).await;
    let mut mover = world.mover("c");
    mover.start();
    mover.wait_for("replicating");
    let mut session = connect(&world.source).await;
    for statement in case.session {
        match *statement {
            "RECONNECT" => session = connect(&world.source).await,
            LOAD => {
                let rows = futures_util::stream::iter([Ok(b"7\n".to_vec().into())]);
                session.set_infile_handler(async move { Ok(Box::pin(rows) as mysql_async::InfileData) });
                execute(&mut session, &[LOAD]).await;
            }
            statement => execute(&mut session, &[statement]).await,
        }
    }
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    let again = mover.another().with(&["--skip-ddl"]).run();
    assert_eq!(again.status.code(), Some(2));
    let status = mover.status().unwrap();
    assert_eq!(status["state"], "error", "{status}");
    let advice = status["what_to_do"].as_str().unwrap();
    let logs = [mover.log(), String::from_utf8_lossy(&again.stderr).into_owned()];
    for word in case.said {
        // Once the setting is wrong for all, the next session is refused for that.
        let stops = |log: &String| ["refused:", "went back in time"].iter().any(|other| log.contains(other));
        assert!(logs.iter().all(|log| log.contains(word) || stops(log)), "{word}: {logs:?}");
        assert!(logs[0].contains(word), "{word}: {}", logs[0]);
    }
    assert!(advice.contains("cancel the workflow") || advice.contains("SET GLOBAL"), "{advice}");
    execute(&mut s, &["SET GLOBAL binlog_row_image = FULL"]).await;
    if case.only == Some(Flavor::MariaDb) {
        execute(&mut s, &["SET GLOBAL gtid_strict_mode = ON"]).await;
    }
    for prepared in ["XA ROLLBACK 'k'"] {
        // Most cases have none.
        let _ = mysql_async::prelude::Queryable::query_drop(&mut session, prepared).await;
    }
    assert!(mover.command("cancel", &[]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tells_too_little_stops_the_move() {
    for binary in support::servers() {
        let world = World::new(&binary).await;
        for case in CASES.iter().filter(|c| c.only.is_none_or(|f| f == binary.info.flavor)) {
            eprintln!("{:?} on {}", case.session, binary.info);
            stops(&world, case).await;
        }
    }
}
