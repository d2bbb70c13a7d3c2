//! The target's own replication as the witness: the server is asked to wait for GTIDs, or shows the place in the source's
//! binary log that its applier has reached.
//!
//! GTIDs and places of a server that the target does not replicate could be covered by chance, so the source must be the
//! one that it replicates, but for MySQL's GTIDs, which no two servers share.

use std::time::Duration;

use converge_mysql::{FilePosition, Flavor, Position, Version, quote, within};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use tokio::time::Instant;

use super::frontier::{Form, has_gtids};
use super::needs;
use crate::error::Error;
use crate::session::{Session, text};

/// Between two looks at the applier's place.
const POLL: Duration = Duration::from_millis(20);
/// How long the server may take to show how replication stands.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The target replicates the source.
#[derive(Debug)]
pub struct Replica {
    /// What its positions look like.
    pub form: Form,
    /// The name of the channel (MariaDB: of the connection); empty for the default one.
    channel: String,
    /// MySQL's GTIDs that the source had in the beginning; empty where positions have another form.
    begun_with: String,
}

/// The most characters of GTIDs that are told.
const TOLD: usize = 300;

/// How one channel of the target stands.
#[derive(Debug, Default)]
struct Status {
    channel: String,
    source: String,
    server_id: String,
    uuid: String,
    receives: String,
    applies: String,
    behind: String,
    /// Numbers only: their texts may hold values of rows.
    errors: [String; 2],
    applied: Option<FilePosition>,
}

impl Replica {
    /// Finds the channel by which the target replicates the source.
    pub async fn open(source: &mut Session, target: &mut Session) -> Result<Self, Error> {
        let channels = statuses(target).await?;
        if channels.is_empty() {
            return Err(Error::Proof {
                what: format!("the target, {}, is no replica", target.address),
                help: "leave --replica out: without a proof of position, differences are proven only at rest"
                    .into(),
            });
        }
        let form = match (source.info.flavor, target.info.flavor) {
            // The server waits for a domain's number, whoever's transaction has it: another channel's would do.
            (Flavor::MariaDb, Flavor::MariaDb) if channels.len() == 1 => Form::MariaDbGtid,
            (Flavor::MySql, Flavor::MySql) if has_gtids(source).await? && has_gtids(target).await? => {
                Form::MySqlGtid
            }
            _ => Form::File,
        };
        let begun_with = match form {
            Form::MySqlGtid => executed(source, "SELECT @@GLOBAL.gtid_executed").await?,
            _ => String::new(),
        };
        let (id, uuid) = identity(source).await?;
        let direct = channels.iter().find(|c| c.server_id == id && (uuid.is_empty() || c.uuid == uuid));
        match direct {
            Some(channel) => Ok(Self { form, channel: channel.channel.clone(), begun_with }),
            None if form == Form::MySqlGtid => {
                let channel = channels.into_iter().next().unwrap_or_default().channel;
                Ok(Self { form, channel, begun_with })
            }
            None => {
                let from: Vec<String> =
                    channels.iter().map(|c| format!("{} (server id {})", c.source, c.server_id)).collect();
                Err(Error::Proof {
                    what: format!(
                        "the target, {}, replicates {}, and not the source, {}, whose server id is {id}",
                        target.address,
                        from.join(" and "),
                        source.address
                    ),
                    help: "compare each replica with the server that it replicates, or leave --replica out"
                        .into(),
                })
            }
        }
    }

    /// See [`super::Witness::snapshot_at`].
    pub async fn snapshot_at(
        &self,
        target: &mut Session,
        position: &Position,
        bound: Duration,
    ) -> Result<bool, Error> {
        let reached = match position {
            Position::File(place) => self.place_reached(target, place, bound).await?,
            _ => gtids_applied(target, position, bound).await?,
        };
        if reached {
            target.query("opening a snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        }
        Ok(reached)
    }

    async fn place_reached(
        &self,
        target: &mut Session,
        wanted: &FilePosition,
        bound: Duration,
    ) -> Result<bool, Error> {
        let give_up = Instant::now() + bound;
        loop {
            let applied = self.status(target).await?.and_then(|status| status.applied).map(Position::File);
            if applied.is_some_and(|place| place.covers(&Position::File(wanted.clone())) == Some(true)) {
                return Ok(true);
            }
            if Instant::now() + POLL >= give_up {
                return Ok(false);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn status(&self, target: &mut Session) -> Result<Option<Status>, Error> {
        Ok(statuses(target).await?.into_iter().find(|status| status.channel == self.channel))
    }

    /// What the target has applied now.
    pub async fn applied(&self, target: &mut Session) -> Result<String, Error> {
        const WHAT: &str = "reading the replica's position";
        let sql = match self.form {
            Form::MySqlGtid => "SELECT CONCAT('gtid:', @@GLOBAL.gtid_executed)",
            Form::MariaDbGtid => "SELECT CONCAT('mariadb-gtid:', @@GLOBAL.gtid_slave_pos)",
            Form::File => {
                let applied = self.status(target).await?.and_then(|status| status.applied);
                return Ok(applied.map(|p| Position::File(p).to_string()).unwrap_or_default());
            }
        };
        Ok(target.one(WHAT, sql).await?.first().map(text).unwrap_or_default())
    }

    /// What the target says about its replication.
    pub async fn trouble(&self, target: &mut Session) -> Result<String, Error> {
        let Some(status) = self.status(target).await? else {
            return Ok("the target is no replica any more".into());
        };
        let mut words = vec![format!("the target replicates {}", status.source)];
        for (thread, runs) in [("receiver", &status.receives), ("applier", &status.applies)] {
            if runs != "Yes" {
                words.push(format!("its {thread} does not run ({runs})"));
            }
        }
        for number in status.errors.iter().filter(|number| !["", "0"].contains(&number.as_str())) {
            words.push(format!("it met error {number}, which the server's replication status explains"));
        }
        if !status.behind.is_empty() {
            words.push(format!("it is {} s behind", status.behind));
        }
        // Among them those that it never gets: from before it was made a replica, say, and not in its gtid_purged.
        let lacks = match self.form {
            Form::MySqlGtid => {
                let source = quote::text(&self.begun_with);
                executed(target, &format!("SELECT GTID_SUBTRACT({source}, @@GLOBAL.gtid_executed)")).await?
            }
            _ => String::new(),
        };
        if !lacks.is_empty() {
            let more = if lacks.chars().count() > TOLD { "…" } else { "" };
            let told: String = lacks.chars().filter(|c| *c != '\n').take(TOLD).collect();
            words.push(format!("of what the source had in the beginning it lacks {told}{more}"));
        }
        Ok(words.join(", "))
    }
}

/// Has the server wait until it has applied all of these.
async fn gtids_applied(target: &mut Session, position: &Position, bound: Duration) -> Result<bool, Error> {
    const WHAT: &str = "waiting for the replica";
    let seconds = bound.as_secs_f64().max(0.01);
    let (sql, done) = match position {
        Position::Gtid(set) => {
            (format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {seconds})", quote::text(&set.to_string())), "0")
        }
        Position::MariaDbGtid(position) => {
            // The wait of 0 looks once; the positive answer is the number of transactions waited for.
            (format!("SELECT MASTER_GTID_WAIT({}, {seconds}) >= 0", quote::text(&position.to_string())), "1")
        }
        Position::File(_) => return Ok(false),
    };
    Ok(target.one(WHAT, &sql).await?.first().map(text).unwrap_or_default() == done)
}

/// A set of GTIDs.
async fn executed(session: &mut Session, sql: &str) -> Result<String, Error> {
    Ok(session.one("reading the executed GTIDs", sql).await?.first().map(text).unwrap_or_default())
}

/// Server id, and MySQL's UUID.
async fn identity(source: &mut Session) -> Result<(String, String), Error> {
    let sql = match source.info.flavor {
        Flavor::MySql => "SELECT @@server_id, @@server_uuid",
        Flavor::MariaDb => "SELECT @@server_id, ''",
    };
    let row = source.one("reading the server's identity", sql).await?;
    Ok((row.first().map(text).unwrap_or_default(), row.get(1).map(text).unwrap_or_default()))
}

async fn statuses(target: &mut Session) -> Result<Vec<Status>, Error> {
    let (sql, grant) = match target.info.flavor {
        Flavor::MySql if target.info.is_mysql_since(Version(8, 0, 22)) => {
            ("SHOW REPLICA STATUS", "GRANT REPLICATION CLIENT ON *.*")
        }
        Flavor::MySql => ("SHOW SLAVE STATUS", "GRANT REPLICATION CLIENT ON *.*"),
        Flavor::MariaDb => ("SHOW ALL SLAVES STATUS", "GRANT SLAVE MONITOR ON *.*"),
    };
    let what = "reading how replication stands";
    let rows: Result<Vec<Row>, _> = within(TIMEOUT, what, target.conn().query(sql)).await;
    match rows {
        Ok(rows) => Ok(rows.iter().map(status).collect()),
        Err(inner) => Err(needs(target.failed(inner), grant, "see which server it replicates")),
    }
}

/// Columns by their present or their former name.
fn status(row: &Row) -> Status {
    let cell = |names: &[&str]| {
        let index =
            names.iter().find_map(|name| row.columns_ref().iter().position(|c| c.name_str() == *name));
        index.and_then(|i| row.get::<Option<String>, _>(i)).flatten().unwrap_or_default()
    };
    let host = cell(&["Source_Host", "Master_Host"]);
    let port = cell(&["Source_Port", "Master_Port"]);
    let file = cell(&["Relay_Source_Log_File", "Relay_Master_Log_File"]);
    let offset = cell(&["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]).parse();
    Status {
        channel: cell(&["Channel_Name", "Connection_name"]),
        source: format!("{host}:{port}"),
        server_id: cell(&["Source_Server_Id", "Master_Server_Id"]),
        uuid: cell(&["Source_UUID", "Master_UUID"]),
        receives: cell(&["Replica_IO_Running", "Slave_IO_Running"]),
        applies: cell(&["Replica_SQL_Running", "Slave_SQL_Running"]),
        behind: cell(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
        errors: [cell(&["Last_IO_Errno"]), cell(&["Last_SQL_Errno"])],
        applied: offset.ok().filter(|_| !file.is_empty()).map(|offset| FilePosition { file, offset }),
    }
}
