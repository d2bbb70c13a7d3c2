//! What a history consists of.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Microseconds since the run began, on a clock that never goes back.
    pub at_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    Run {
        /// The wall clock at `at_us`, RFC 3339, UTC.
        wall: String,
        /// What everything random was drawn from.
        seed: u64,
        /// The plan.
        plan: serde_json::Value,
        /// Whether it is on servers that are somebody's.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        external: bool,
    },
    /// A statement is about to be sent.
    Invoke(Invoke),
    /// The server executed the statement. In a transaction it counts only once the `commit` is `ok`.
    Ok {
        /// The invocation.
        id: u64,
        /// Rows affected, as the server counts them.
        affected: u64,
    },
    /// The server said no: the statement surely changed nothing.
    Fail {
        /// The invocation.
        id: u64,
        /// The server's error number.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The answer was lost: the statement may or may not have been applied.
    Info {
        /// The invocation.
        id: u64,
        /// How it was lost.
        message: String,
    },
    /// A fault.
    Fault {
        /// Its name, such as `kill_source`.
        fault: String,
        /// How far it is.
        phase: Phase,
        /// The evidence, in words.
        detail: String,
    },
    /// The mover's state at one moment.
    Sample(Sample),
    /// What the tables with invariants held on the target at one moment.
    Reading(Reading),
    /// A remark.
    Note {
        /// Free text.
        text: String,
    },
}

/// A statement that is about to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    /// Unique in the history; given by [`super::History::invoke`].
    #[serde(default)]
    pub id: u64,
    /// The load session.
    pub session: u32,
    /// The session's transaction; absent in autocommit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<u64>,
    /// The kind of statement.
    pub kind: Kind,
    /// The table; empty for statements without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub table: String,
    /// The whole statement.
    pub sql: String,
    /// The primary keys of the rows that it means, as [`key_text`] writes them; a condition may well hit others too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Ids that it inserts into the ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<u64>,
}

/// A primary key as one text: its values with `/` between them.
pub fn key_text<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().collect::<Vec<_>>().join("/")
}

/// The kinds of statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `INSERT`.
    Insert,
    /// `INSERT IGNORE`.
    InsertIgnore,
    /// `INSERT … ON DUPLICATE KEY UPDATE`.
    Upsert,
    /// `REPLACE`.
    Replace,
    /// `UPDATE` that leaves the primary key alone.
    Update,
    /// `DELETE`.
    Delete,
    /// `UPDATE` of a primary key.
    KeyUpdate,
    /// Part of swapping a unique value between two rows.
    UniqueSwap,
    /// `BEGIN`.
    Begin,
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `SAVEPOINT`.
    Savepoint,
    /// `ROLLBACK TO SAVEPOINT`, always to the transaction's latest savepoint.
    RollbackTo,
}

impl Kind {
    /// The kinds that change rows.
    pub const WRITES: [Self; 8] = [
        Self::Insert,
        Self::InsertIgnore,
        Self::Upsert,
        Self::Replace,
        Self::Update,
        Self::Delete,
        Self::KeyUpdate,
        Self::UniqueSwap,
    ];

    /// All kinds, in the order of the enum.
    pub const ALL: [Self; 13] = [
        Self::Insert,
        Self::InsertIgnore,
        Self::Upsert,
        Self::Replace,
        Self::Update,
        Self::Delete,
        Self::KeyUpdate,
        Self::UniqueSwap,
        Self::Begin,
        Self::Commit,
        Self::Rollback,
        Self::Savepoint,
        Self::RollbackTo,
    ];

    /// The name, as in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::InsertIgnore => "insert_ignore",
            Self::Upsert => "upsert",
            Self::Replace => "replace",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::KeyUpdate => "key_update",
            Self::UniqueSwap => "unique_swap",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Rollback => "rollback",
            Self::Savepoint => "savepoint",
            Self::RollbackTo => "rollback_to",
        }
    }
}

/// How far a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is about to be done.
    Inject,
    /// Its effect was seen.
    Observed,
    /// It was undone, and that was seen too.
    Healed,
}

/// The mover's state at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The workflow's state, such as `copying`.
    pub state: String,
    /// Rows copied so far.
    pub rows_copied: u64,
    /// Rows to copy, as estimated.
    pub rows_estimated: u64,
    /// Seconds that the target is behind; absent while unknown.
    pub lag_seconds: Option<f64>,
    /// Where the source's binary log ends.
    pub source_position: Option<String>,
    /// What the target has applied.
    pub applied_position: Option<String>,
    /// Why the mover does not go on for the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the tables with invariants held on the target, all in one snapshot. A table that is not moved is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the target had applied in that snapshot.
    pub position: Option<String>,
    /// Where the source's binary log ended shortly before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Rows in `account`, and the sum of their balances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<(u64, i64)>,
    /// The counters' ids and values, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counters: Option<Vec<(u64, u64)>>,
    /// Entries in `journal`, and each session whose entries are not numbered from 1 without a gap, with what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<(u64, Vec<String>)>,
}

/// A wall-clock time as RFC 3339 in UTC with milliseconds. Days to civil date after Howard Hinnant's
/// `civil_from_days`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let z = (seconds / 86_400) as i64 + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = Event> {
        let text = ".{0,20}";
        let phase = prop_oneof![Just(Phase::Inject), Just(Phase::Observed), Just(Phase::Healed)];
        let invoke = (any::<u64>(), any::<u32>(), any::<Option<u64>>(), 0..Kind::ALL.len(), text, text);
        prop_oneof![
            (any::<u64>(), any::<i64>(), text).prop_map(|(n, sum, position)| Event::Reading(Reading {
                position: Some(position.clone()),
                source: None,
                accounts: Some((n, sum)),
                counters: Some(vec![(1, n)]),
                journal: Some((n, vec![position])),
            })),
            (text, any::<u64>(), any::<bool>()).prop_map(|(wall, seed, external)| Event::Run {
                wall,
                seed,
                external,
                plan: serde_json::json!({"a": [1, null], "b": "ü"})
            }),
            (invoke, prop::collection::vec(any::<u64>(), 0..3)).prop_map(
                |((id, session, tx, kind, table, sql), ledger)| {
                    Event::Invoke(Invoke {
                        id,
                        session,
                        tx,
                        kind: Kind::ALL[kind],
                        table,
                        sql,
                        keys: vec![],
                        ledger,
                    })
                }
            ),
            (any::<u64>(), any::<u64>()).prop_map(|(id, affected)| Event::Ok { id, affected }),
            (any::<u64>(), any::<u16>(), text).prop_map(|(id, code, message)| Event::Fail {
                id,
                code,
                message
            }),
            (any::<u64>(), text).prop_map(|(id, message)| Event::Info { id, message }),
            (text, phase, text).prop_map(|(fault, phase, detail)| Event::Fault { fault, phase, detail }),
            (text, any::<u64>(), any::<Option<u32>>()).prop_map(|(state, rows_copied, lag)| {
                Event::Sample(Sample {
                    state,
                    rows_copied,
                    lag_seconds: lag.map(|l| f64::from(l) / 8.0),
                    ..Sample::default()
                })
            }),
            text.prop_map(|text| Event::Note { text }),
        ]
    }

    proptest! {
        #[test]
        fn entries_round_trip_on_one_line(at_us in any::<u64>(), event in event()) {
            let entry = Entry { at_us, event };
            let line = serde_json::to_string(&entry).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        }
    }

    #[test]
    fn the_form_on_disk_is_the_agreed_one() {
        let entry: Entry = serde_json::from_str(
            r#"{"event":"invoke","at_us":5,"id":1,"session":3,"tx":17,"kind":"key_update","table":"customer","sql":"x"}"#,
        )
        .unwrap();
        let Event::Invoke(invoke) = &entry.event else { panic!("{entry:?}") };
        assert_eq!((invoke.tx, invoke.kind), (Some(17), Kind::KeyUpdate));
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn wall_times_are_civil() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
    }
}
