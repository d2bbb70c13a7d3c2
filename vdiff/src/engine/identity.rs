//! Whether a name stood for one and the same table all the while: RENAME TABLE can put another one with the same columns and
//! keys in its place between two chunks.
//!
//! No catalogue that every account may read numbers tables, and nothing here may hold a lock that DDL would wait for. So
//! three things are looked at, of which none suffices alone:
//!
//! * The time of its creation: in whole seconds, and a table and its replacement may be of the same one. MariaDB's InnoDB
//!   shows the time of the last renaming.
//! * Whether the server had to prepare a statement on it anew. It has to for another table; MySQL also does so when it only
//!   opened the table anew, and MariaDB does not for one that went and came back.
//! * How often tables were renamed or altered, whatever tables these were.
//!
//! Between two runs of a comparison nothing watches. There the server, the time of the creation and InnoDB's number of the
//! table have to be the same ones; the number is shown to accounts with PROCESS only, and for the others no table at all may
//! have been renamed or altered meanwhile.

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use super::shards::{Sessions, Shards};
use crate::error::Error;
use crate::plan::Plan;
use crate::schema::named_exactly;
use crate::session::{Cells, Session, number, text};
use converge_mysql::{Flavor, quote};

/// What told the tables of both sides, on all shards, from others at one moment.
#[derive(Debug)]
pub struct Identity {
    sides: [Vec<Seen>; 2],
}

/// What one server showed of its table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    created: String,
    /// How often this connection's statements were prepared anew; `None`: the server takes no more statements.
    #[serde(skip)]
    prepared_anew: Option<u64>,
    /// How often tables were renamed or altered.
    renamed: String,
    /// Which server it is.
    server: String,
    /// InnoDB's number of the table, where it is shown.
    number: Option<u64>,
}

/// What tells the tables of both sides from others in a later run as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lasting([Vec<Seen>; 2]);

impl Lasting {
    /// Whether both are known to be of the same tables.
    pub fn is_same(&self, later: &Self) -> bool {
        let sides = self.0.iter().zip(&later.0);
        sides.into_iter().all(|(before, after)| {
            before.len() == after.len() && before.iter().zip(after).all(|(before, after)| before.lasts(after))
        })
    }
}

impl Seen {
    /// Why a later look may have shown another table.
    fn replaced(&self, later: &Self) -> Option<String> {
        if self.created != later.created {
            return Some(format!("created {}, and {} before that", later.created, self.created));
        }
        let kept = self.prepared_anew.is_some() && self.prepared_anew == later.prepared_anew;
        let elsewhere = "opened anew, and tables were renamed or altered on the server";
        (!kept && self.renamed != later.renamed).then(|| elsewhere.into())
    }

    /// Whether a look of another run is known to have shown the same table.
    fn lasts(&self, later: &Self) -> bool {
        let same_number = match (self.number, later.number) {
            (Some(before), Some(after)) => before == after,
            _ => self.renamed == later.renamed,
        };
        same_number && self.server == later.server && self.created == later.created
    }
}

impl Identity {
    /// Looks at the tables before they are read, and has the servers watch them.
    pub async fn watch(sessions: &mut Sessions, plan: &Plan) -> Result<Self, Error> {
        Self::of(sessions, plan, true).await
    }

    /// What a later run can hold against its own look.
    pub fn lasting(&self) -> Lasting {
        Lasting(self.sides.clone())
    }

    /// Why a table may be another one than it was at this look.
    pub async fn replaced(&self, sessions: &mut Sessions, plan: &Plan) -> Result<Option<String>, Error> {
        let later = Self::of(sessions, plan, false).await?;
        let sides = ["source", "target"].into_iter().zip(self.sides.iter().zip(&later.sides));
        Ok(sides
            .flat_map(|(side, (before, after))| before.iter().zip(after).map(move |(b, a)| (side, b, a)))
            .find_map(|(side, before, after)| Some((side, before.replaced(after)?)))
            .map(|(side, what)| {
                format!(
                    "the {side}'s table was replaced or altered while it was compared ({what}), so that rows of two \
                     tables may have been read: run again when no DDL runs"
                )
            }))
    }

    async fn of(sessions: &mut Sessions, plan: &Plan, begin: bool) -> Result<Self, Error> {
        let (source, target) = tokio::join!(
            of_side(&mut sessions.source, plan, 0, begin),
            of_side(&mut sessions.target, plan, 1, begin)
        );
        Ok(Self { sides: [source?, target?] })
    }
}

async fn of_side(shards: &mut Shards, plan: &Plan, side: usize, begin: bool) -> Result<Vec<Seen>, Error> {
    try_join_all(shards.each_mut().map(|session| of_one(session, plan, side, begin))).await
}

/// At the beginning the watch begins last, at the end it is looked at first: what happens in between is seen.
async fn of_one(session: &mut Session, plan: &Plan, side: usize, begin: bool) -> Result<Seen, Error> {
    let mut seen = Seen::default();
    if !begin {
        seen.prepared_anew = prepared_anew(session, EXECUTE).await?;
    }
    seen.renamed = renamed(session).await?;
    seen.created = created(session, &plan.names[side]).await?;
    if begin {
        (seen.server, seen.number) =
            (server(session).await?, table_number(session, &plan.names[side]).await?);
        let statement = quote::text(&format!("SELECT 1 FROM {} LIMIT 0", plan.tables[side]));
        seen.prepared_anew = prepared_anew(session, &format!("PREPARE {STATEMENT} FROM {statement}")).await?;
    }
    Ok(seen)
}

const STATEMENT: &str = "converge_vdiff";
const EXECUTE: &str = "EXECUTE converge_vdiff";

/// Runs `sql`, then asks how often this connection's statements were prepared anew.
async fn prepared_anew(session: &mut Session, sql: &str) -> Result<Option<u64>, Error> {
    use converge_mysql::Error as ServerError;
    let counter = match session.info.flavor {
        // SHOW would count as rows written to a temporary table.
        Flavor::MySql => {
            "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.session_status \
             WHERE VARIABLE_NAME = 'Com_stmt_reprepare'"
        }
        Flavor::MariaDb => "SHOW SESSION STATUS WHERE Variable_name = 'Com_stmt_reprepare'",
    };
    match session.query("watching the table", sql).await {
        Ok(_) => {}
        // There may be too many, and there is none where there were.
        Err(Error::Server { inner: ServerError::Server { code: 1461 | 1243, .. }, .. }) => return Ok(None),
        Err(other) => return Err(other),
    }
    let rows = session.query("watching the table", counter).await?;
    Ok(rows.first().and_then(|row| number(row.get(1)?)))
}

async fn renamed(session: &mut Session) -> Result<String, Error> {
    let sql = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_rename_table', 'Com_alter_table')";
    Ok(words(&session.query("reading the server's counters", sql).await?))
}

async fn created(session: &mut Session, name: &str) -> Result<String, Error> {
    let only = named_exactly("", ["TABLE_SCHEMA", "TABLE_NAME"], [&session.database, name]);
    let sql = format!("SELECT CREATE_TIME FROM information_schema.TABLES WHERE {only}");
    Ok(words(&session.query("asking when the table was created", &sql).await?))
}

/// What tells the server from another one at the same address.
async fn server(session: &mut Session) -> Result<String, Error> {
    let sql = match session.info.flavor {
        Flavor::MySql => "SELECT @@server_uuid",
        Flavor::MariaDb => "SELECT @@server_id, @@hostname, @@datadir",
    };
    Ok(words(&session.query("asking which server it is", sql).await?))
}

/// InnoDB's number of a table; `None`: the account may not see it, the table has none of its own, or it is listed under a
/// name in another form.
async fn table_number(session: &mut Session, name: &str) -> Result<Option<u64>, Error> {
    let table = match session.info.flavor {
        Flavor::MySql => "INNODB_TABLES",
        Flavor::MariaDb => "INNODB_SYS_TABLES",
    };
    let listed = quote::text(&format!("{}/{name}", session.database));
    let sql = format!("SELECT TABLE_ID FROM information_schema.{table} WHERE NAME = {listed}");
    match session.query("asking for the table's number", &sql).await {
        Ok(rows) => Ok(rows.first().and_then(|row| number(row.first()?))),
        Err(Error::Server { inner, .. }) if inner.is_refusal() => Ok(None),
        Err(other) => Err(other),
    }
}

fn words(rows: &[Cells]) -> String {
    rows.iter().flatten().map(text).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(created: &str, prepared_anew: Option<u64>, renamed: &str) -> Seen {
        Seen { created: created.into(), prepared_anew, renamed: renamed.into(), ..Seen::default() }
    }

    #[test]
    fn what_may_be_another_table_is_said_to_be_one() {
        let before = seen("noon", Some(1), "5");
        for same in [seen("noon", Some(1), "5"), seen("noon", Some(1), "6"), seen("noon", Some(2), "5")] {
            assert_eq!(before.replaced(&same), None, "{same:?}");
        }
        for other in [seen("one", Some(1), "5"), seen("noon", Some(2), "6"), seen("noon", None, "6")] {
            assert!(before.replaced(&other).is_some(), "{other:?}");
        }
        let numbered = |renamed, number| Seen { number, ..seen("noon", None, renamed) };
        assert!(numbered("5", Some(7)).lasts(&numbered("6", Some(7))));
        assert!(numbered("5", None).lasts(&numbered("5", Some(7))));
        for other in [numbered("5", Some(8)), numbered("6", None), seen("one", None, "5")] {
            assert!(!numbered("5", Some(7)).lasts(&other), "{other:?}");
        }
        let elsewhere = Seen { server: "b".into(), ..numbered("5", Some(7)) };
        assert!(!numbered("5", Some(7)).lasts(&elsewhere));
        let unwatched = seen("noon", None, "5");
        assert_eq!(unwatched.replaced(&unwatched), None);
        assert!(unwatched.replaced(&seen("noon", None, "6")).is_some());
    }
}
