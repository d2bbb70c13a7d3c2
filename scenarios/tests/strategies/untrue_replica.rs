//! Replicas that do not have all of the source, or have something else: refused, or noticed before the copy counts.

use converge_chaos::server::{LocalServer, ServerBinary};
use converge_mysql::{Connector, Flavor};
use mysql_async::Conn;

use super::mover::Mover;
use super::replica::{refused, replica_of};
use super::{connect, copied, execute, support, until};

/// Rows of the table that is moved: copied in some seconds.
const ROWS: u32 = 400;

/// A source with rows, its replica, and a target.
struct Servers {
    source: LocalServer,
    replica: LocalServer,
    target: LocalServer,
    flavor: Flavor,
}

impl Servers {
    async fn start(binary: &ServerBinary) -> Self {
        let source = support::start(binary, "source").await;
        let replica = replica_of(&source, &[]).await;
        let target = support::start(binary, "target").await;
        let (mut s, _t) = (connect(&source).await, connect(&target).await);
        let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id}, {id})")).collect();
        let insert = format!("INSERT INTO a VALUES {}", rows.join(","));
        execute(&mut s, &["CREATE TABLE a (id INT PRIMARY KEY, x INT)", &insert]).await;
        let servers = Self { source, replica, target, flavor: binary.info.flavor };
        let all = format!("SELECT COUNT(*) = {ROWS} FROM shop.a");
        until(&mut servers.at_replica().await, "the replica has the rows", &all).await;
        servers
    }

    async fn at_replica(&self) -> Conn {
        Connector::new(self.replica.address("")).connect().await.unwrap()
    }

    fn mover(&self) -> Mover {
        let url = self.replica.address("shop").to_url();
        let slowly = ["--chunk-rows", "10", "--copy-rows-per-second", "100"];
        Mover::new(&self.source, &self.target, "a")
            .with(&["--copy-strategy", "replica", "--copy-from", &url])
            .with(&slowly)
    }

    /// A mover in the middle of its copy.
    fn copying(&self) -> Mover {
        let mut mover = self.mover();
        mover.start();
        mover.wait_until("some rows", |status| copied(status) >= 20);
        mover
    }

    /// Runs statements on the replica while it does not replicate.
    async fn at_rest(&self, statements: &[&str]) {
        let (stop, start) = match self.flavor {
            Flavor::MySql => ("STOP REPLICA", "START REPLICA"),
            Flavor::MariaDb => ("STOP SLAVE", "START SLAVE"),
        };
        let mut r = self.at_replica().await;
        execute(&mut r, &[&[stop], statements, &[start]].concat()).await;
    }
}

/// The mover has ended with these words and says so again, whatever was mended meanwhile.
async fn ended_for_good(mut mover: Mover, servers: &Servers, words: &str, mended: impl AsyncFnOnce()) {
    assert_eq!(mover.ended(), 2, "{}", mover.log());
    assert!(mover.log().contains(words), "{}", mover.log());
    mended().await;
    refused(&servers.mover(), words).await;
    refused(&servers.mover(), "start another one").await;
    assert_eq!(mover.status().unwrap()["state"], "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_any_filter_is_refused() {
    for binary in support::servers() {
        eprintln!("filters on {}", binary.info);
        let servers = Servers::start(&binary).await;
        let filters: &[(&str, &str)] = match servers.flavor {
            Flavor::MySql => &[(
                "CHANGE REPLICATION FILTER REPLICATE_REWRITE_DB = ((other, another))",
                "Replicate_Rewrite_DB",
            )],
            Flavor::MariaDb => &[
                ("CHANGE MASTER TO IGNORE_DOMAIN_IDS = (7)", "Replicate_Ignore_Domain_Ids"),
                ("CHANGE MASTER TO IGNORE_DOMAIN_IDS = (), DO_DOMAIN_IDS = (0)", "Replicate_Do_Domain_Ids"),
                ("SET GLOBAL replicate_rewrite_db = 'other->another'", "Replicate_Rewrite_DB"),
            ],
        };
        for (filter, column) in filters {
            servers.at_rest(&[filter]).await;
            refused(&servers.mover(), column).await;
            if servers.flavor == Flavor::MariaDb {
                servers.at_rest(&["CHANGE MASTER TO IGNORE_DOMAIN_IDS = (), DO_DOMAIN_IDS = ()"]).await;
            }
        }
    }
}

/// What another channel brings is not the source's.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_several_servers_is_refused() {
    for binary in support::servers() {
        eprintln!("channels on {}", binary.info);
        let servers = Servers::start(&binary).await;
        let other = match servers.flavor {
            Flavor::MySql => {
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT=1 FOR CHANNEL 'other'"
            }
            Flavor::MariaDb => "CHANGE MASTER 'other' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1",
        };
        execute(&mut servers.at_replica().await, &[other]).await;
        refused(&servers.mover(), "2 channels").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_to_the_replica_ends_the_copy() {
    for binary in support::servers() {
        eprintln!("errant write on {}", binary.info);
        let servers = Servers::start(&binary).await;
        let mover = servers.copying();
        execute(&mut servers.at_replica().await, &["UPDATE shop.a SET x = -1 WHERE id = 390"]).await;
        let mut s = connect(&servers.source).await;
        execute(&mut s, &["UPDATE a SET x = 7 WHERE id = 1"]).await;
        ended_for_good(mover, &servers, "somebody wrote to the replica", async || ()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_came_during_the_copy_ends_it() {
    for binary in support::servers() {
        eprintln!("filter during the copy on {}", binary.info);
        let servers = Servers::start(&binary).await;
        let mover = servers.copying();
        let (filter, none) = match servers.flavor {
            Flavor::MySql => (
                "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('shop.a')",
                "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ()",
            ),
            Flavor::MariaDb => (
                "SET GLOBAL replicate_wild_ignore_table = 'shop.a'",
                "SET GLOBAL replicate_wild_ignore_table = ''",
            ),
        };
        servers.at_rest(&[filter]).await;
        execute(&mut connect(&servers.source).await, &["UPDATE a SET x = 7"]).await;
        let mended = async || servers.at_rest(&[none]).await;
        ended_for_good(mover, &servers, "Replicate_Wild_Ignore_Table = shop.a", mended).await;
    }
}
