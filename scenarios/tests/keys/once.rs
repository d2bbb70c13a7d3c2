//! What a server does by itself is done once: cascades, triggers and generated columns of the source arrive by the log,
//! and do not fire again on the target.

use converge_chaos::server::ServerBinary;
use converge_mysql::Flavor;
use mysql_async::prelude::Queryable;

use crate::sql::execute;
use crate::support;
use crate::world::World;

const TABLES: &[&str] = &[
    "CREATE TABLE parent (id INT PRIMARY KEY, x INT, twice INT AS (x * 2) STORED, thrice INT AS (x * 3) VIRTUAL UNIQUE)",
    "CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40), at TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6))",
    "CREATE TABLE stamped (id INT, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, x INT, \
     PRIMARY KEY (id, at))",
    "CREATE TRIGGER made AFTER INSERT ON parent FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('made ', NEW.id))",
    "CREATE TRIGGER changed BEFORE UPDATE ON parent FOR EACH ROW SET NEW.x = NEW.x + 100000",
    "CREATE TRIGGER gone AFTER DELETE ON parent FOR EACH ROW INSERT INTO audit (what) VALUES (CONCAT('gone ', OLD.id))",
];
/// Children: MariaDB does not log what cascades change.
const CASCADING: &str = "ON DELETE CASCADE ON UPDATE CASCADE";

async fn once(binary: &ServerBinary) {
    let world = World::new(binary).await;
    let (mut s, mut t) = world.connections().await;
    execute(&mut s, TABLES).await;
    let cascades = binary.info.flavor == Flavor::MySql;
    let actions = if cascades { CASCADING } else { "" };
    let child = format!(
        "CREATE TABLE child (id INT PRIMARY KEY, parent INT, y INT AS (parent + 1) VIRTUAL, \
         FOREIGN KEY (parent) REFERENCES parent (id) {actions})"
    );
    let orphan = format!(
        "CREATE TABLE orphan (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES parent (id) {})",
        if cascades { "ON DELETE SET NULL ON UPDATE SET NULL" } else { "" }
    );
    execute(&mut s, &[&child, &orphan]).await;
    let more = |from: u32| {
        let rows = |f: &dyn Fn(u32) -> String| (from..from + 40).map(f).collect::<Vec<_>>().join(", ");
        [
            format!("INSERT INTO parent (id, x) VALUES {}", rows(&|i| format!("({i}, {i})"))),
            format!("INSERT INTO child (id, parent) VALUES {}", rows(&|i| format!("({i}, {i})"))),
            format!("INSERT INTO orphan (id, parent) VALUES {}", rows(&|i| format!("({i}, {i})"))),
            format!("INSERT INTO stamped VALUES {}", rows(&|i| format!("({i}, '2020-01-01', {i})"))),
        ]
    };
    let changes = |from: u32| {
        let (a, b) = (from + 5, from + 9);
        let mut list = vec![
            format!("UPDATE parent SET x = x + 1 WHERE id BETWEEN {a} AND {b}"),
            // One row is written in another way than several.
            format!("UPDATE stamped SET x = -1, at = at WHERE id BETWEEN {a} AND {b}"),
            format!("UPDATE stamped SET x = -2, at = at WHERE id = {from}"),
        ];
        if cascades {
            list.push(format!("UPDATE parent SET id = id + 5000 WHERE id BETWEEN {a} AND {b}"));
        } else {
            list.push(format!("DELETE FROM child WHERE parent BETWEEN {} AND {}", from + 10, from + 19));
            list.push(format!(
                "UPDATE orphan SET parent = NULL WHERE parent BETWEEN {} AND {}",
                from + 10,
                from + 19
            ));
        }
        list.push(format!("DELETE FROM parent WHERE id BETWEEN {} AND {}", from + 10, from + 19));
        list
    };
    let mut run = async |statements: Vec<String>| {
        for statement in statements {
            execute(&mut s, &[&statement]).await;
        }
    };
    for from in [0, 100, 200] {
        run(more(from).to_vec()).await;
    }
    let tables = ["parent", "child", "orphan", "audit", "stamped"];
    let pace = ["--chunk-rows", "5", "--copy-rows-per-second", "150"];
    let mut mover = world.mover(&tables.join(",")).with(&pace);
    mover.start();
    mover.wait_until("rows", |s| s["tables"][0]["rows_copied"].as_u64() > Some(20));
    run(changes(0)).await;
    mover.kill();
    run(changes(100)).await;
    mover.start();
    mover.wait_for("replicating");
    run(more(300).to_vec()).await;
    run(changes(200)).await;
    mover.kill();
    run(changes(300)).await;
    mover.start();
    mover.switch();
    assert!(world.judge_fenced(&tables).await > 300);
    let audited: Option<u64> = t.query_first("SELECT COUNT(*) FROM shop.audit").await.unwrap();
    assert_eq!(audited, Some(4 * 40 + 4 * 10), "each made once, each gone once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_does_by_itself_is_done_once() {
    for binary in support::servers() {
        eprintln!("cascades and triggers on {}", binary.info);
        once(&binary).await;
    }
}
