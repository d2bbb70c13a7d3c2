//! The target's own replication as the witness: the server is asked to wait for GTIDs, or shows the place in the source's
//! binary log that its applier has reached.
//!
//! GTIDs and places of a server that the target does not replicate could be covered by chance, so the source must be the
//! one that it replicates, but for MySQL's GTIDs, which no two servers share. Nor may the target be ahead of the source:
//! see [`super::lead`].

use std::time::Duration;

use converge_mysql::{FilePosition, Flavor, MariaDbGtidPosition, Position, quote};
use tokio::time::Instant;

use super::channel::{Channel, channels};
use super::frontier::{self, Form, has_gtids};
use super::lead::{self, Known};
use super::told;
use crate::error::Error;
use crate::session::{Session, text};

/// Between two looks at the applier's place.
const POLL: Duration = Duration::from_millis(20);
/// What channels are looked at for.
const WHY: &str = "see which server it replicates";

/// The target replicates the source.
#[derive(Debug)]
pub struct Replica {
    /// What its positions look like.
    pub form: Form,
    /// The channel as it was when the comparison began.
    channel: Channel,
    /// Whether that leads to the source itself.
    direct: bool,
    /// Whether the target has no other channel.
    only: bool,
    /// MySQL's GTIDs that the source had in the beginning; empty where positions have another form.
    begun_with: String,
}

impl Replica {
    /// Finds the channel by which the target replicates the source.
    pub async fn open(source: &mut Session, target: &mut Session) -> Result<Self, Error> {
        let found = channels(target, WHY).await?;
        let Some(first) = found.first().cloned() else {
            return Err(Error::Proof {
                what: format!("the target, {}, is no replica", target.address),
                help: "leave --replica out: without a proof of position, differences are proven only at rest"
                    .into(),
            });
        };
        let only = found.len() == 1;
        let form = match (source.info.flavor, target.info.flavor) {
            // The server waits for a domain's number, whoever's transaction has it: another channel's would do. Places in
            // files tell channels apart, where they can be trusted.
            (Flavor::MariaDb, Flavor::MariaDb) if only || lead::shows_the_farthest(target).await? => {
                Form::MariaDbGtid
            }
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
        let direct = found.iter().find(|c| c.server_id == id && (uuid.is_empty() || c.uuid == uuid)).cloned();
        match direct {
            Some(channel) => Ok(Self { form, channel, direct: true, only, begun_with }),
            None if form == Form::MySqlGtid => {
                Ok(Self { form, channel: first, direct: false, only, begun_with })
            }
            None => Err(not_the_source(source, target, &found, &id)),
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
            Position::Gtid(set) => {
                let (set, seconds) = (quote::text(&set.to_string()), bound.as_secs_f64().max(0.01));
                let sql = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({set}, {seconds})");
                target.one(WAITING, &sql).await?.first().map(text).as_deref() == Some("0")
            }
            Position::MariaDbGtid(position) => self.domains_reached(target, position, bound).await?,
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

    /// The server's own wait may remember a number from before the position was set back, so it only saves looking.
    async fn domains_reached(
        &self,
        target: &mut Session,
        wanted: &MariaDbGtidPosition,
        bound: Duration,
    ) -> Result<bool, Error> {
        let give_up = Instant::now() + bound;
        loop {
            let applied = executed(target, "SELECT @@GLOBAL.gtid_slave_pos").await?;
            let applied: MariaDbGtidPosition = applied.parse().map_err(|inner| target.failed(inner))?;
            if has_come_to(&applied, wanted, self.only) {
                return Ok(true);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left <= POLL {
                return Ok(false);
            }
            let (position, seconds) = (quote::text(&wanted.to_string()), left.as_secs_f64());
            target.one(WAITING, &format!("SELECT MASTER_GTID_WAIT({position}, {seconds})")).await?;
            tokio::time::sleep(POLL.min(give_up.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn status(&self, target: &mut Session) -> Result<Option<Channel>, Error> {
        Ok(channels(target, WHY).await?.into_iter().find(|channel| channel.name == self.channel.name))
    }

    /// Whether nothing will be applied until somebody starts the applier.
    pub async fn is_stopped(&self, target: &mut Session) -> Result<bool, Error> {
        Ok(self.status(target).await?.is_none_or(|channel| channel.applies == "No"))
    }

    /// Why the target does not replicate what it did any more, if so.
    pub async fn left(&self, target: &mut Session) -> Result<Option<String>, Error> {
        Ok(self.left_by(self.status(target).await?.as_ref()))
    }

    fn left_by(&self, now: Option<&Channel>) -> Option<String> {
        let was = &self.channel.source;
        let what = match now {
            None => format!("the target does not replicate {was} any more"),
            Some(now) if !now.is_still(&self.channel) => {
                format!("the target replicates {} now, and not {was} any more", now.source)
            }
            Some(_) => return None,
        };
        Some(format!("{what}: run again once replication has been put in order, or without --replica"))
    }

    /// See [`super::Witness::doubt`].
    pub async fn doubt(
        &self,
        source: &mut Session,
        target: &mut Session,
        bound: Duration,
    ) -> Result<Option<String>, Error> {
        let found = channels(target, WHY).await?;
        let now = found.iter().find(|channel| channel.name == self.channel.name);
        if let Some(why) = self.left_by(now) {
            return Ok(Some(why));
        }
        if self.form == Form::File && lead::shows_the_farthest(target).await? {
            return Ok(Some(
                "several threads of the target apply domains side by side, so that the place in the source's log that it \
                 shows may have earlier transactions before it that are not applied yet: run again, SET GLOBAL \
                 slave_parallel_threads = 0 on the target, or stop the writes"
                    .into(),
            ));
        }
        let place = now.and_then(|channel| channel.applied.clone()).map(Position::File);
        let known = Known { form: self.form, direct: self.direct, channels: &found, place };
        lead::caught_up(&known, source, target, bound).await
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
    pub async fn trouble(&self, source: &mut Session, target: &mut Session) -> Result<String, Error> {
        let Some(status) = self.status(target).await? else {
            return Ok("the target is no replica any more".into());
        };
        let mut words = told_by(&status);
        if self.form == Form::MySqlGtid {
            words.extend(self.lacking(source, target).await?);
        }
        Ok(words.join(", "))
    }

    /// GTIDs that it may never get.
    async fn lacking(&self, source: &mut Session, target: &mut Session) -> Result<Vec<String>, Error> {
        let without =
            |set: &str| format!("SELECT GTID_SUBTRACT({}, @@GLOBAL.gtid_executed)", quote::text(set));
        let mut words = Vec::new();
        // From before it was made a replica, say, and not in its gtid_purged.
        let lacks = executed(target, &without(&self.begun_with)).await?;
        if !lacks.is_empty() {
            words.push(format!("of what the source had in the beginning it lacks {}", told(&lacks)));
        }
        let owned = frontier::owned(source).await?.to_string();
        let owned = executed(target, &without(&owned)).await?;
        if !owned.is_empty() {
            words.push(format!(
                "sessions of the source own {} (gtid_owned), which it cannot have before they are committed: COMMIT, or \
                 ROLLBACK and SET gtid_next = 'AUTOMATIC', where they do not end by themselves",
                told(&owned)
            ));
        }
        Ok(words)
    }
}

/// What is asked for.
const WAITING: &str = "waiting for the replica";

/// Whether one position covers another. Numbers tell where all come by one channel; else a domain's last transaction has to
/// be of the server that the other position names, for other channels' have numbers of their own.
fn has_come_to(applied: &MariaDbGtidPosition, wanted: &MariaDbGtidPosition, only_channel: bool) -> bool {
    let same = |id, number| applied.numbers().any(|(i, applied)| i == id && applied >= number);
    applied.covers(wanted) && (only_channel || wanted.numbers().all(|(id, number)| same(id, number)))
}

/// What a channel's status says to whoever waits for it.
fn told_by(status: &Channel) -> Vec<String> {
    let mut words = vec![format!("the target replicates {}", status.source)];
    for (thread, runs) in [("receiver", &status.receives), ("applier", &status.applies)] {
        if runs != "Yes" {
            words.push(format!("its {thread} does not run ({runs})"));
        }
    }
    for number in status.errors.iter().filter(|number| !["", "0"].contains(&number.as_str())) {
        words.push(format!("it met error {number}, which the server's replication status explains"));
    }
    if !["", "0"].contains(&status.delay.as_str()) {
        words.push(format!("it is configured to stay {} s behind", status.delay));
    }
    if !status.behind.is_empty() {
        words.push(format!("it is {} s behind", status.behind));
    }
    words
}

/// Why no channel can be the source's.
fn not_the_source(source: &Session, target: &Session, channels: &[Channel], id: &str) -> Error {
    if let Some(channel) = channels.iter().find(|channel| !channel.has_connected()) {
        let start = match target.info.flavor {
            Flavor::MySql => "START REPLICA",
            Flavor::MariaDb => "START SLAVE",
        };
        return Error::Proof {
            what: format!(
                "the target, {}, is to replicate {}, and has not connected to it since it was set up or restarted, so that \
                 it does not know which server that is",
                target.address, channel.source
            ),
            help: format!(
                "{start} on the target; if its receiver does not connect, its replication status says why"
            ),
        };
    }
    let from: Vec<String> =
        channels.iter().map(|c| format!("{} (server id {})", c.source, c.server_id)).collect();
    Error::Proof {
        what: format!(
            "the target, {}, replicates {}, and not the source, {}, whose server id is {id}",
            target.address,
            from.join(" and "),
            source.address
        ),
        help: "compare each replica with the server that it replicates, or leave --replica out".into(),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_channels_number_covers_nothing() {
        let of = |text: &str| text.parse::<MariaDbGtidPosition>().unwrap();
        assert!(has_come_to(&of("0-2-9"), &of("0-1-8"), true));
        assert!(!has_come_to(&of("0-2-9"), &of("0-1-8"), false));
        assert!(has_come_to(&of("0-1-9,1-2-3"), &of("0-1-8"), false));
        assert!(!has_come_to(&of("0-1-7"), &of("0-1-8"), true));
    }

    #[test]
    fn a_configured_delay_is_told() {
        let told = |delay: &str| told_by(&Channel { delay: delay.into(), ..Channel::default() }).join(", ");
        assert!(told("30").contains("configured to stay 30 s behind"));
        assert!(!told("0").contains("configured") && !told("").contains("configured"));
    }
}
