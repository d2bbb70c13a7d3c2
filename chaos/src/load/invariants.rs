//! Tables whose contents can be accounted for, whatever else a run does: rows that must be there (`ledger`), a sum that
//! never changes (`account`), values that only grow (`counter`) and entries without a gap (`journal`).
//!
//! Each statement here keeps its invariant in every transaction that commits, alone or among others; nothing else ever
//! writes to these tables.

use super::generate::Statement;
use super::values::Dice;
use crate::history::Kind;

/// How many accounts there are, with ids from 1.
pub const ACCOUNTS: u64 = 100;
/// What is on each of them at first.
pub const BALANCE: i64 = 1000;
/// How many counters there are, with ids from 1; each begins at 0.
pub const COUNTERS: u64 = 24;

/// A table with an invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Invariant {
    /// Every acknowledged row is there.
    Ledger,
    /// The sum of all balances is constant.
    Account,
    /// A counter shows every acknowledged increment, and never falls.
    Counter,
    /// Each session's entries are numbered from 1 without a gap.
    Journal,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ledger, Self::Account, Self::Counter, Self::Journal];

    /// The table's name.
    pub fn table(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Account => "account",
            Self::Counter => "counter",
            Self::Journal => "journal",
        }
    }

    /// The kind of statements that it takes.
    pub fn kind(self) -> Kind {
        match self {
            Self::Ledger | Self::Journal => Kind::Insert,
            Self::Account | Self::Counter => Kind::Update,
        }
    }

    /// The columns, in order.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Ledger => &["id", "session", "entry"],
            Self::Account => &["id", "balance"],
            Self::Counter => &["id", "c"],
            Self::Journal => &["session", "n"],
        }
    }

    pub(super) fn ddl(self, table: &str) -> String {
        let columns = match self {
            Self::Ledger => {
                "id BIGINT UNSIGNED NOT NULL, session INT UNSIGNED NOT NULL, entry VARCHAR(60) NOT NULL, PRIMARY KEY (id)"
            }
            Self::Account => "id INT UNSIGNED NOT NULL, balance BIGINT NOT NULL, PRIMARY KEY (id)",
            Self::Counter => "id INT UNSIGNED NOT NULL, c BIGINT UNSIGNED NOT NULL, PRIMARY KEY (id)",
            Self::Journal => {
                "session INT UNSIGNED NOT NULL, n BIGINT UNSIGNED NOT NULL, PRIMARY KEY (session, n)"
            }
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {table} ({columns}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 \
             COLLATE=utf8mb4_unicode_ci"
        )
    }

    /// The rows that it begins with, if it begins with any; rows that are there stay as they are.
    pub(super) fn seed(self, table: &str) -> Option<String> {
        let (last, value) = match self {
            Self::Account => (ACCOUNTS, BALANCE),
            Self::Counter => (COUNTERS, 0),
            Self::Ledger | Self::Journal => return None,
        };
        let rows: Vec<String> = (1..=last).map(|id| format!("({id}, {value})")).collect();
        Some(format!("INSERT IGNORE INTO {table} ({}) VALUES {}", self.columns().join(", "), rows.join(", ")))
    }
}

/// The names of the tables in one schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names(&'static str);

impl Names {
    /// The tables' own names.
    pub const PLAIN: Self = Self("");
    /// Names that are unlikely to be taken in somebody's schema.
    pub const PREFIXED: Self = Self("converge_");

    /// The name of one table.
    pub fn of(self, invariant: Invariant) -> String {
        format!("{}{}", self.0, invariant.table())
    }
}

/// One to three new rows of the ledger; `drawn` is raised by as many. An id is never drawn twice in a run: 16 bits of
/// session, 40 of unit, 8 of place.
pub fn ledger(names: Names, dice: &mut Dice, session: u32, unit: u64, drawn: &mut u64) -> Statement {
    let base = (u64::from(session) + 1) << 48 | (unit & ((1 << 40) - 1)) << 8;
    let table = names.of(Invariant::Ledger);
    let (mut rows, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..=dice.below(3) {
        *drawn += 1;
        let id = base | (*drawn & 0xff);
        rows.push(format!("({id}, {session}, 'unit {unit}')"));
        ids.push(id);
    }
    let sql = format!("INSERT INTO {table} (id, session, entry) VALUES {}", rows.join(", "));
    let keys = ids.iter().map(u64::to_string).collect();
    Statement { ledger: ids, ..Statement::new(Kind::Insert, table, sql).about(keys) }
}

/// One counter raised by one.
pub fn count(names: Names, dice: &mut Dice) -> Statement {
    let (table, id) = (names.of(Invariant::Counter), 1 + dice.zipf(COUNTERS));
    let sql = format!("UPDATE {table} SET c = c + 1 WHERE id = {id}");
    Statement::new(Kind::Update, table, sql).about(vec![id.to_string()])
}

/// Money from one account to another, in one statement or in two, which belong into one transaction.
pub fn transfer(names: Names, dice: &mut Dice) -> Vec<Statement> {
    let table = names.of(Invariant::Account);
    let (from, amount) = (1 + dice.below(ACCOUNTS), 1 + dice.below(50));
    let to = 1 + (from + dice.below(ACCOUNTS - 1)) % ACCOUNTS;
    let statement = |sql: String, ids: &[u64]| {
        let keys = ids.iter().map(u64::to_string).collect();
        Statement::new(Kind::Update, table.clone(), sql).about(keys)
    };
    if dice.chance(0.5) {
        let change = format!("balance = balance + IF(id = {from}, -{amount}, {amount})");
        return vec![statement(
            format!("UPDATE {table} SET {change} WHERE id IN ({from}, {to})"),
            &[from, to],
        )];
    }
    let half = |sign: &str, id: u64| {
        statement(format!("UPDATE {table} SET balance = balance {sign} {amount} WHERE id = {id}"), &[id])
    };
    vec![half("-", from), half("+", to)]
}

/// The session's next entry. The server counts, so that an entry whose transaction was rolled back leaves no gap.
pub fn append(names: Names, session: u32) -> Statement {
    let table = names.of(Invariant::Journal);
    let sql = format!(
        "INSERT INTO {table} (session, n) SELECT {session}, COALESCE(MAX(n), 0) + 1 FROM {table} WHERE session = {session}"
    );
    Statement::new(Kind::Insert, table, sql).about(vec![session.to_string()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_transfer_is_between_two_accounts_that_exist(seed: u64) {
            let keys: Vec<u64> = transfer(Names::PLAIN, &mut Dice::new(seed, 0, 0, 0))
                .into_iter()
                .flat_map(|s| s.keys)
                .map(|key| key.parse().unwrap())
                .collect();
            prop_assert_eq!(keys.len(), 2);
            prop_assert!(keys[0] != keys[1] && keys.iter().all(|id| (1..=ACCOUNTS).contains(id)));
        }
    }
}
