//! What the target has that the source does not have: a position that the target has applied proves nothing about rows of
//! which the target may have a later version than the source.
//!
//! The target's position is read first, after the snapshot that the rows come from, and the source's afterwards. What the
//! target has beyond it then is one of these:
//!
//! - The source's own: it was reset, or lost the end of its log. Its numbers begin anew, so that the target's position
//!   covers transactions by chance that it has never seen.
//! - Of others, and the source is a replica itself: it may be late there.
//! - Of others, and the source gets nothing from anybody: somebody wrote to the target. What differs by that is different.
//!
//! A transaction that the source is still committing counts as one that it lacks: it is waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use converge_mysql::{Flavor, MySqlGtidSet, Position, last_numbers, quote};
use tokio::time::Instant;

use super::channel::{Channel, channels};
use super::frontier::{self, Form};
use super::told;
use crate::error::Error;
use crate::session::{Session, number, text};

/// Between two looks at the source's position.
const POLL: Duration = Duration::from_millis(20);
/// A transaction that the source has logged is committed within this.
const COMMIT: Duration = Duration::from_secs(2);
/// What is asked for.
const WHAT: &str = "reading what the target has beyond the source";

/// What is known of the pair.
pub struct Known<'a> {
    /// In which form positions compare.
    pub form: Form,
    /// Whether the target replicates the source itself.
    pub direct: bool,
    /// All channels of the target.
    pub channels: &'a [Channel],
    /// The place in the source's log that the target has applied.
    pub place: Option<Position>,
}

/// What the target has beyond the source, by whose it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct Beyond {
    /// The source's own.
    own: Vec<String>,
    /// Such by which the target's position covers what it never saw, but for the source being late.
    covering: Vec<String>,
    /// Others.
    others: Vec<String>,
}

impl Beyond {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.covering.is_empty() && self.others.is_empty()
    }
}

/// From where the source gets transactions.
enum Origins {
    None,
    /// Whether they come.
    Some {
        running: bool,
    },
    /// It may not be asked; what to do about it.
    Unknown(String),
}

/// What a lead of the target means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// What differs is different.
    Harmless,
    /// The source may get it within so long.
    Late(Duration, String),
}

/// Waits until the source has what the target has now, for `bound` at the most. Says why if it does not, unless only the
/// target can ever have it.
pub async fn caught_up(
    known: &Known<'_>,
    source: &mut Session,
    target: &mut Session,
    bound: Duration,
) -> Result<Option<String>, Error> {
    if known.form == Form::File
        && let Some(why) = unseen(known, source, target).await?
    {
        return Ok(Some(why));
    }
    let begun = Instant::now();
    let ahead = Ahead::read(known, target).await?;
    loop {
        let beyond = ahead.beyond(known, source).await?;
        if beyond.is_empty() {
            return Ok(None);
        }
        match meaning(&beyond, &origins(source).await?) {
            Meaning::Harmless => return Ok(None),
            Meaning::Late(most, why) if begun.elapsed() + POLL >= bound.min(most) => return Ok(Some(why)),
            Meaning::Late(..) => tokio::time::sleep(POLL).await,
        }
    }
}

fn meaning(beyond: &Beyond, origins: &Origins) -> Meaning {
    if !beyond.own.is_empty() {
        let why = format!(
            "the target has {} of the source's own, which the source does not have: its log was reset, or lost its end, and \
             positions do not tell any more what is late: make the replica anew, or stop the writes, wait until all is \
             applied, and compare without --replica",
            told(&beyond.own.join(","))
        );
        return Meaning::Late(COMMIT, why);
    }
    let others = told(&[beyond.covering.as_slice(), beyond.others.as_slice()].concat().join(","));
    match origins {
        Origins::None if beyond.covering.is_empty() => Meaning::Harmless,
        Origins::None => Meaning::Late(
            Duration::ZERO,
            format!(
                "the target has applied {others}, which the source, a replica of nobody, does not have, so that the target's \
                 position says nothing about the source: make the replica anew, or stop the writes, wait until all is \
                 applied, and compare without --replica"
            ),
        ),
        Origins::Some { running } => Meaning::Late(
            if *running { Duration::MAX } else { Duration::ZERO },
            format!(
                "the target is ahead of the source, which gets transactions from other servers and does not have {others}: \
                 what differs may be late on the source; run again once it has caught up, or, if it never gets them, stop \
                 the writes and compare without --replica"
            ),
        ),
        Origins::Unknown(help) => Meaning::Late(
            Duration::ZERO,
            format!(
                "the target has {others}, and whether the source may still get them cannot be seen: {help}"
            ),
        ),
    }
}

/// Asked after the source's position: who is made its source later, brings nothing that it could have had before.
async fn origins(source: &mut Session) -> Result<Origins, Error> {
    let found = match channels(source, "see whether it is a replica").await {
        Ok(found) => found,
        Err(Error::Proof { help, .. }) => return Ok(Origins::Unknown(help)),
        Err(error) => return Err(error),
    };
    // Members of a cluster get transactions without a channel that is shown.
    let sql = "SHOW GLOBAL VARIABLES WHERE (Variable_name = 'group_replication_group_name' AND Value <> '') \
               OR (Variable_name = 'wsrep_on' AND Value = 'ON')";
    let in_cluster = !source.query(WHAT, sql).await?.is_empty();
    if found.is_empty() && !in_cluster {
        return Ok(Origins::None);
    }
    Ok(Origins::Some { running: in_cluster || found.iter().any(|channel| channel.applies == "Yes") })
}

/// Places in a file know nothing of the target's own transactions. Why such may still be on their way to the source.
async fn unseen(
    known: &Known<'_>,
    source: &mut Session,
    target: &mut Session,
) -> Result<Option<String>, Error> {
    let help = match origins(source).await? {
        Origins::None => return Ok(None),
        Origins::Unknown(help) => help,
        Origins::Some { .. } => {
            let sql = "SELECT @@GLOBAL.read_only OR NOT @@GLOBAL.log_bin";
            let passes_nothing_on = target.one(WHAT, sql).await?.first().and_then(number) == Some(1);
            if passes_nothing_on && known.channels.len() == 1 {
                return Ok(None);
            }
            "SET GLOBAL read_only = ON on the target while they are compared (which helps where it has one channel), or \
             replicate by GTIDs"
                .into()
        }
    };
    Ok(Some(format!(
        "the source may be a replica itself, and places in its binary log do not show whether transactions of the target are \
         still to reach it: {help}"
    )))
}

/// What the target has.
enum Ahead {
    MySql { set: MySqlGtidSet, uuid: String },
    MariaDb { applied: String, logged: String },
    File,
}

impl Ahead {
    async fn read(known: &Known<'_>, target: &mut Session) -> Result<Self, Error> {
        Ok(match known.form {
            Form::MySqlGtid => {
                let uuid = target.one(WHAT, "SELECT @@server_uuid").await?;
                // With what is being committed, which the snapshot may have.
                let set = frontier::gtids(target).await?;
                Self::MySql { set, uuid: uuid.first().map(text).unwrap_or_default() }
            }
            Form::MariaDbGtid => {
                let row =
                    target.one(WHAT, "SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.gtid_binlog_state").await?;
                let [applied, logged] = [0, 1].map(|i| row.get(i).map(text).unwrap_or_default());
                Self::MariaDb { applied, logged }
            }
            Form::File => Self::File,
        })
    }

    /// What of it the source does not have now.
    async fn beyond(&self, known: &Known<'_>, source: &mut Session) -> Result<Beyond, Error> {
        match self {
            Self::MySql { set, uuid } => {
                let lacking = format!(
                    "SELECT GTID_SUBTRACT({}, @@GLOBAL.gtid_executed), @@server_uuid",
                    quote::text(&set.to_string())
                );
                let row = source.one(WHAT, &lacking).await?;
                let [lacking, own] = [0, 1].map(|i| row.get(i).map(text).unwrap_or_default());
                let lacking = lacking.parse().map_err(|inner| source.failed(inner))?;
                Ok(of_mysql(&lacking, &own, (!known.direct).then_some(uuid)))
            }
            Self::MariaDb { applied, logged } => {
                let sql = "SELECT CONCAT_WS(',', NULLIF(@@GLOBAL.gtid_binlog_state, ''), \
                           NULLIF(@@GLOBAL.gtid_slave_pos, '')), @@server_id";
                let row = source.one(WHAT, sql).await?;
                let last = |text: &str| last_numbers(text).map_err(|inner| source.failed(inner));
                let has = last(&row.first().map(text).unwrap_or_default())?;
                let own = row.get(1).and_then(number).unwrap_or_default();
                let there = [last(applied)?, last(logged)?];
                Ok(of_mariadb(&has, own, &there, known.channels.len() == 1))
            }
            Self::File => {
                let end = frontier::read(source, Form::File).await?;
                let place = known.place.iter().filter(|place| end.covers(place) != Some(true));
                Ok(Beyond { own: place.map(ToString::to_string).collect(), ..Beyond::default() })
            }
        }
    }
}

/// `only`: where the target does not replicate the source itself, the only server of which a transaction shows that it was
/// written behind the source's back. Others may have come the way on which the source's come.
fn of_mysql(lacking: &MySqlGtidSet, own: &str, only: Option<&String>) -> Beyond {
    let mut beyond = Beyond::default();
    for (uuid, tag, intervals) in lacking.iter() {
        let tag = if tag.is_empty() { String::new() } else { format!(":{tag}") };
        let ranges: Vec<String> = intervals.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        let told = format!("{uuid}{tag}:{}", ranges.join(":"));
        let is_own = uuid.eq_ignore_ascii_case(own);
        let is_covering = only.is_some_and(|only| !uuid.eq_ignore_ascii_case(only));
        let list = match (is_own, is_covering) {
            (true, _) => &mut beyond.own,
            (false, true) => &mut beyond.covering,
            (false, false) => &mut beyond.others,
        };
        list.push(told);
    }
    beyond
}

/// Servers' last numbers, by domain and server.
type Last = BTreeMap<(u32, u32), u64>;

/// `there`: what the target has applied, and what it has logged. Numbers of a domain go on whoever writes, so that by its
/// only channel the target has applied nothing that the source does not have, unless its position covers by chance.
fn of_mariadb(has: &Last, own: u32, there: &[Last; 2], only_channel: bool) -> Beyond {
    let mut beyond = Beyond::default();
    for (is_applied, list) in [true, false].into_iter().zip(there) {
        for ((domain, server), number) in list {
            if has.get(&(*domain, *server)) >= Some(number) {
                continue;
            }
            let told = format!("{domain}-{server}-{number}");
            let list = match (*server == own, is_applied && only_channel) {
                (true, _) => &mut beyond.own,
                (false, true) => &mut beyond.covering,
                (false, false) => &mut beyond.others,
            };
            list.push(told);
        }
    }
    beyond
}

/// Whether the place that a channel shows may have earlier transactions before it that are not applied yet: on MariaDB,
/// where several threads apply domains side by side.
pub async fn shows_the_farthest(target: &mut Session) -> Result<bool, Error> {
    if target.info.flavor != Flavor::MariaDb {
        return Ok(false);
    }
    let sql = "SELECT @@GLOBAL.slave_parallel_threads > 0 AND @@GLOBAL.gtid_slave_pos LIKE '%,%'";
    Ok(target.one("reading how many threads apply", sql).await?.first().and_then(number) == Some(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

    fn late(beyond: &Beyond, origins: &Origins) -> bool {
        meaning(beyond, origins) != Meaning::Harmless
    }

    #[test]
    fn who_wrote_what_the_source_lacks_decides() {
        let own = of_mysql(&format!("{A}:5-9").parse().unwrap(), A, None);
        assert_eq!(own.own, [format!("{A}:5-9")]);
        let other = of_mysql(&format!("{B}:5").parse().unwrap(), A, None);
        assert_eq!(other.others, [format!("{B}:5-5")]);
        assert!(late(&own, &Origins::None) && !late(&other, &Origins::None));
        assert!(late(&other, &Origins::Some { running: true }));
        assert!(late(&other, &Origins::Unknown("GRANT".into())));
        // Of the target itself, which does not replicate the source, or of the server in between.
        let set = format!("{B}:5").parse().unwrap();
        assert!(!late(&of_mysql(&set, A, Some(&B.to_owned())), &Origins::None));
        assert!(late(&of_mysql(&set, A, Some(&A.to_owned())), &Origins::None));
    }

    #[test]
    fn numbers_of_a_domain_are_told_apart_by_server() {
        let last = |text: &str| last_numbers(text).unwrap();
        let beyond = |source: &str, applied: &str, logged: &str| {
            of_mariadb(&last(source), 1, &[last(applied), last(logged)], true)
        };
        assert!(beyond("0-1-9,0-2-7", "0-1-9", "0-2-7,0-1-8").is_empty());
        // The source was reset, though it has come as far with another server's.
        assert_eq!(beyond("0-1-3,0-2-9", "0-1-9", "").own, ["0-1-9"]);
        assert_eq!(beyond("0-1-9", "0-2-9", "").covering, ["0-2-9"]);
        // Written to the target.
        let written = beyond("0-1-9", "0-1-9", "0-1-9,0-3-10");
        assert_eq!(written.others, ["0-3-10"]);
        assert!(!late(&written, &Origins::None) && late(&written, &Origins::Some { running: false }));
    }
}
