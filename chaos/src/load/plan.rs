//! What load to send. A plan is data: it is printed, saved and replayed.

use serde::{Deserialize, Serialize};

use super::invariants::Names;

/// Bytes of a large value at the most: what servers take in one packet by default.
const LARGEST: u64 = 64 << 20;
/// Hot ranges, and keys in one, at the most.
const MOST_HOT: u32 = 1_000_000;

/// How often each kind of statement is drawn, relative to the others. 0 turns a kind off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// `INSERT`.
    pub insert: u32,
    /// `INSERT IGNORE`.
    pub insert_ignore: u32,
    /// `INSERT … ON DUPLICATE KEY UPDATE`.
    pub upsert: u32,
    /// `REPLACE`.
    pub replace: u32,
    /// `UPDATE`.
    pub update: u32,
    /// `DELETE`.
    pub delete: u32,
    /// `UPDATE` of a primary key.
    pub key_update: u32,
    /// Swap of a unique value between two rows, in a transaction of its own.
    pub unique_swap: u32,
    /// `INSERT` into the append-only ledger.
    pub ledger: u32,
    /// `c = c + 1` on one of a few counters.
    pub count: u32,
    /// Money moved from one account to another; the sum never changes.
    pub transfer: u32,
    /// The session's next entry in the journal, which the server numbers without a gap.
    pub append: u32,
}

impl Weights {
    /// All of them, in the order of the fields.
    pub fn all_mut(&mut self) -> [&mut u32; 12] {
        [
            &mut self.insert,
            &mut self.insert_ignore,
            &mut self.upsert,
            &mut self.replace,
            &mut self.update,
            &mut self.delete,
            &mut self.key_update,
            &mut self.unique_swap,
            &mut self.ledger,
            &mut self.count,
            &mut self.transfer,
            &mut self.append,
        ]
    }
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            insert: 18,
            insert_ignore: 8,
            upsert: 10,
            replace: 8,
            update: 26,
            delete: 8,
            key_update: 8,
            unique_swap: 4,
            ledger: 10,
            count: 5,
            transfer: 5,
            append: 4,
        }
    }
}

/// Whose tables the load is sent to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The commerce schema.
    #[default]
    Commerce,
    /// The two tables of the classic migration test.
    Classic,
    /// Tables with columns and keys of every type.
    Types,
    /// The tables that are there, whatever they are.
    Existing,
}

impl Subject {
    /// The names of the tables with invariants beside these.
    pub fn names(self) -> Names {
        if self == Self::Commerce { Names::PLAIN } else { Names::PREFIXED }
    }
}

/// The load of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadPlan {
    /// What everything random is drawn from.
    pub seed: u64,
    /// Concurrent sessions.
    pub sessions: u32,
    /// Whose tables it is sent to, beside those with invariants.
    pub subject: Subject,
    /// Rows that these tables were filled with, all together.
    pub rows: u64,
    /// The mix of statements.
    pub weights: Weights,
    /// Share of draws (0 to 1) that go to narrow hot ranges of keys; the rest is spread over all keys.
    pub hot_share: f64,
    /// Number of hot ranges, spread evenly over the keys.
    pub hot_ranges: u32,
    /// Keys per hot range. Within it they are drawn after Zipf's law: the nth key 1/n as often as the first.
    pub hot_width: u32,
    /// Share of new rows that take a unique value which another row may hold.
    pub collision_share: f64,
    /// Share of units that are transactions of several statements.
    pub transaction_share: f64,
    /// Most statements per transaction.
    pub max_statements: u32,
    /// Share of transactions that end in `ROLLBACK`.
    pub rollback_share: f64,
    /// Share of transactions that set a savepoint; half of them roll back to it.
    pub savepoint_share: f64,
    /// Share of changes to a table with a large column that write a large value into it.
    pub large_share: f64,
    /// Bytes of a large value at the most.
    pub large_bytes: u64,
    /// Upper bound on statements per second over all sessions; none by default, and 0 is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statements_per_second: Option<f64>,
    /// Whether tables that foreign keys refer to get no `REPLACE`. It is no choice of the plan's, but of its servers.
    #[serde(skip)]
    pub spare_parents: bool,
    /// Whether sessions have their statements logged as they were sent ([`super::LOG_TEXTS`]). It is no choice of the plan's
    /// either.
    #[serde(skip)]
    pub log_texts: bool,
}

impl LoadPlan {
    /// What cannot be sent, or would be no load, if anything: the setting, and its range.
    pub fn check(&self) -> Result<(), String> {
        let mut plan = self.clone();
        if !(1..=60_000).contains(&self.sessions) {
            return Err("sessions must be from 1 to 60000".into());
        }
        if !(1..=1_000_000_000).contains(&self.rows) {
            return Err("rows must be from 1 to 1000000000".into());
        }
        if plan.weights.all_mut().iter().all(|weight| **weight == 0) {
            return Err("weights must not all be 0: at least one must be from 1 up".into());
        }
        // One that no server takes is written as NULL, and a piece of one is of eight bytes.
        if !(8..=LARGEST).contains(&self.large_bytes) {
            return Err(format!("large_bytes must be from 8 to {LARGEST}"));
        }
        for (name, number, most) in [
            ("hot_ranges", self.hot_ranges, MOST_HOT),
            ("hot_width", self.hot_width, MOST_HOT),
            // What is new in a unit is told apart by its number there.
            ("max_statements", self.max_statements, 60),
        ] {
            if !(1..=most).contains(&number) {
                return Err(format!("{name} must be from 1 to {most}"));
            }
        }
        let [collision, transaction, rollback, savepoint, large] = plan.shares_mut().map(|share| *share);
        for (name, share) in [
            ("hot_share", self.hot_share),
            ("collision_share", collision),
            ("transaction_share", transaction),
            ("rollback_share", rollback),
            ("savepoint_share", savepoint),
            ("large_share", large),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("{name} must be from 0 to 1"));
            }
        }
        match self.statements_per_second {
            Some(rate) if !(0.0..=1e9).contains(&rate) => {
                Err("statements_per_second must be from 0 (no limit) to 1000000000".into())
            }
            _ => Ok(()),
        }
    }

    /// The shares whose 0 makes the load simpler, in the order of the fields.
    pub fn shares_mut(&mut self) -> [&mut f64; 5] {
        [
            &mut self.collision_share,
            &mut self.transaction_share,
            &mut self.rollback_share,
            &mut self.savepoint_share,
            &mut self.large_share,
        ]
    }
}

impl Default for LoadPlan {
    fn default() -> Self {
        Self {
            seed: 0,
            sessions: 8,
            subject: Subject::Commerce,
            rows: 100_000,
            weights: Weights::default(),
            hot_share: 0.7,
            hot_ranges: 8,
            hot_width: 48,
            collision_share: 0.08,
            transaction_share: 0.35,
            max_statements: 20,
            rollback_share: 0.15,
            savepoint_share: 0.25,
            large_share: 0.003,
            large_bytes: 256 << 10,
            statements_per_second: None,
            spare_parents: false,
            log_texts: false,
        }
    }
}

/// A seed from the system's entropy, short enough to be typed.
pub fn draw_seed() -> u64 {
    rand::random::<u64>() % 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_no_load_is_refused_with_its_range() {
        assert_eq!(LoadPlan::default().check(), Ok(()));
        let no_weights = "{\"insert\":0,\"insert_ignore\":0,\"upsert\":0,\"replace\":0,\"update\":0,\"delete\":0,\
            \"key_update\":0,\"unique_swap\":0,\"ledger\":0,\"count\":0,\"transfer\":0,\"append\":0}";
        for (setting, value, range) in [
            ("sessions", "0", "from 1 to 60000"),
            ("rows", "0", "from 1 to"),
            ("weights", no_weights, "not all be 0"),
            ("hot_share", "1.5", "from 0 to 1"),
            ("hot_share", "-0.1", "from 0 to 1"),
            ("rollback_share", "2.0", "from 0 to 1"),
            ("statements_per_second", "-1.0", "from 0"),
            ("large_bytes", "7", "from 8 to 67108864"),
            ("large_bytes", "18446744073709551615", "from 8 to 67108864"),
            ("hot_width", "0", "from 1"),
            ("hot_ranges", "0", "from 1"),
            ("max_statements", "0", "from 1"),
            ("max_statements", "1000", "from 1 to 60"),
        ] {
            let plan: LoadPlan = serde_json::from_str(&format!("{{\"{setting}\":{value}}}")).unwrap();
            let why = plan.check().unwrap_err();
            assert!(why.contains(setting) && why.contains(range), "{why}");
        }
        assert!(LoadPlan { hot_share: f64::NAN, ..LoadPlan::default() }.check().is_err());
    }

    #[test]
    fn plans_round_trip_and_unknown_settings_are_refused() {
        let plan = LoadPlan { seed: u64::MAX, statements_per_second: Some(100.0), ..LoadPlan::default() };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<LoadPlan>(&text).unwrap(), plan);
        assert_eq!(serde_json::from_str::<LoadPlan>("{\"sessions\":3}").unwrap().sessions, 3);
        assert!(serde_json::from_str::<LoadPlan>("{\"session\":3}").is_err());
    }
}
