//! What a session sends: the nth unit of a session, from nothing but the plan, the session's number and n.
//!
//! A unit is one autocommit statement or one transaction. Nothing here sees a clock or an answer.

use super::plan::LoadPlan;
use super::tables::{Column, Table};
use super::values::Dice;
use crate::history::Kind;

/// Separates the dice of the load from those of seeding.
const LOAD: u64 = 2;

/// A statement to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its kind.
    pub kind: Kind,
    /// Its table; empty for `BEGIN` and the like.
    pub table: &'static str,
    /// Its text.
    pub sql: String,
    /// Ids that it inserts into the ledger.
    pub ledger: Vec<u64>,
}

impl Statement {
    fn new(kind: Kind, table: &'static str, sql: String) -> Self {
        Self { kind, table, sql, ledger: Vec::new() }
    }

    fn control(kind: Kind, sql: &str) -> Self {
        Self::new(kind, "", sql.into())
    }
}

/// What is sent as a whole: one statement, or a transaction from `BEGIN` to `COMMIT` or `ROLLBACK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Whether it is a transaction.
    pub transaction: bool,
    /// In order.
    pub statements: Vec<Statement>,
}

/// The `n`th unit of a session.
pub fn unit(plan: &LoadPlan, session: u32, n: u64) -> Unit {
    let dice = Dice::new(plan.seed, LOAD, u64::from(session), n);
    Generator { plan, session, unit: n, dice, drawn: 0 }.unit()
}

/// What is drawn by weight.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    Write(Kind),
    Ledger,
}

struct Generator<'a> {
    plan: &'a LoadPlan,
    session: u32,
    unit: u64,
    dice: Dice,
    /// Names handed out in this unit.
    drawn: u64,
}

impl Generator<'_> {
    fn unit(mut self) -> Unit {
        if self.dice.chance(self.plan.transaction_share) {
            return self.transaction();
        }
        match self.draw() {
            Draw::Write(Kind::UniqueSwap) => {
                let swap = self.unique_swap();
                transaction(swap, Statement::control(Kind::Commit, "COMMIT"))
            }
            drawn => Unit { transaction: false, statements: self.statements(drawn) },
        }
    }

    fn transaction(mut self) -> Unit {
        // The smaller of two draws: mostly short transactions, now and then a long one.
        let most = u64::from(self.plan.max_statements.max(1));
        let count = 1 + self.dice.below(most).min(self.dice.below(most));
        let savepoint = self.dice.chance(self.plan.savepoint_share).then(|| self.dice.below(count));
        let back = savepoint.filter(|_| self.dice.chance(0.5)).map(|at| at + self.dice.below(count - at));
        let mut statements = Vec::new();
        for n in 0..count {
            if savepoint == Some(n) {
                statements.push(Statement::control(Kind::Savepoint, "SAVEPOINT s"));
            }
            let drawn = self.draw();
            let more = self.statements(drawn);
            statements.extend(more);
            if back == Some(n) {
                statements.push(Statement::control(Kind::RollbackTo, "ROLLBACK TO SAVEPOINT s"));
            }
        }
        let end = if self.dice.chance(self.plan.rollback_share) {
            Statement::control(Kind::Rollback, "ROLLBACK")
        } else {
            Statement::control(Kind::Commit, "COMMIT")
        };
        transaction(statements, end)
    }

    fn draw(&mut self) -> Draw {
        let w = &self.plan.weights;
        let table = [
            (Draw::Write(Kind::Insert), w.insert),
            (Draw::Write(Kind::InsertIgnore), w.insert_ignore),
            (Draw::Write(Kind::Upsert), w.upsert),
            (Draw::Write(Kind::Replace), w.replace),
            (Draw::Write(Kind::Update), w.update),
            (Draw::Write(Kind::Delete), w.delete),
            (Draw::Write(Kind::KeyUpdate), w.key_update),
            (Draw::Write(Kind::UniqueSwap), w.unique_swap),
            (Draw::Ledger, w.ledger),
        ];
        let mut left = self.dice.below(table.iter().map(|(_, weight)| u64::from(*weight)).sum());
        for (drawn, weight) in table {
            match left.checked_sub(u64::from(weight)) {
                Some(rest) => left = rest,
                None => return drawn,
            }
        }
        // All weights are 0.
        Draw::Write(Kind::Update)
    }

    fn statements(&mut self, drawn: Draw) -> Vec<Statement> {
        let Draw::Write(kind) = drawn else { return vec![self.ledger()] };
        let table = match self.dice.below(20) {
            0..11 => Table::Customer,
            11..18 => Table::Corder,
            _ => Table::Product,
        };
        vec![match kind {
            Kind::Insert | Kind::InsertIgnore | Kind::Upsert | Kind::Replace => self.insert(kind, table),
            Kind::Delete => self.delete(table),
            Kind::KeyUpdate => self.key_update(table),
            Kind::UniqueSwap => return self.unique_swap(),
            _ => self.update(table),
        }]
    }

    /// The ordinal of a row that is likely to exist: in a hot range or anywhere.
    fn existing(&mut self, table: Table) -> u64 {
        let all = table.seeded(self.plan).max(1);
        let (ranges, width) = (u64::from(self.plan.hot_ranges), u64::from(self.plan.hot_width));
        if ranges == 0 || width == 0 || !self.dice.chance(self.plan.hot_share) {
            return self.dice.below(all);
        }
        // The smaller of two draws: the first keys of a range are the hottest.
        let within = self.dice.below(width).min(self.dice.below(width));
        let start = all.saturating_sub(width) * self.dice.below(ranges) / (ranges - 1).max(1);
        (start + within).min(all - 1)
    }

    /// The ordinal of a key that is likely to be free.
    fn spare(&mut self, table: Table) -> u64 {
        let seeded = table.seeded(self.plan);
        seeded + self.dice.below(table.ordinals(self.plan) - seeded)
    }

    /// A unique value: one that another row may hold, or one that nobody ever held.
    fn unique(&mut self, table: Table) -> String {
        if self.dice.chance(self.plan.collision_share) {
            let ordinal = self.existing(table);
            return table.unique(ordinal);
        }
        self.fresh()
    }

    fn fresh(&mut self) -> String {
        self.drawn += 1;
        format!("'s{}-{}-{}'", self.session, self.unit, self.drawn)
    }

    fn insert(&mut self, kind: Kind, table: Table) -> Statement {
        let hits = match kind {
            Kind::Insert => 0.1,
            Kind::InsertIgnore => 0.4,
            _ => 0.6,
        };
        let ordinal = if self.dice.chance(hits) { self.existing(table) } else { self.spare(table) };
        let mut key = table.key(ordinal);
        if table == Table::Customer && kind == Kind::Insert && self.dice.chance(0.3) {
            key = vec!["NULL".into()];
        }
        let mut values = key;
        values.push(self.unique(table));
        values.extend(table.columns().iter().map(|c| c.draw(&mut self.dice)));
        let mut names = table.key_columns().to_vec();
        names.push(table.unique_column());
        names.extend(table.columns().iter().map(|c| c.name));
        let (verb, tail) = match kind {
            Kind::InsertIgnore => ("INSERT IGNORE INTO", String::new()),
            Kind::Replace => ("REPLACE INTO", String::new()),
            Kind::Upsert => ("INSERT INTO", format!(" ON DUPLICATE KEY UPDATE {}", self.changes(table))),
            _ => ("INSERT INTO", String::new()),
        };
        let (names, values) = (names.join(", "), values.join(", "));
        Statement::new(
            kind,
            table.name(),
            format!("{verb} {} ({names}) VALUES ({values}){tail}", table.name()),
        )
    }

    /// Assignments to some columns; `update_cnt` is always one of them, so that a lost update shows.
    fn changes(&mut self, table: Table) -> String {
        let mut changes = vec!["update_cnt = update_cnt + 1".to_owned()];
        for _ in 0..=self.dice.below(3) {
            let column = self.dice.pick(table.columns());
            changes.push(format!("{} = {}", column.name, column.draw(&mut self.dice)));
        }
        changes.join(", ")
    }

    fn update(&mut self, table: Table) -> Statement {
        let ordinal = self.existing(table);
        let mut changes = self.changes(table);
        let condition = if self.dice.chance(0.15) {
            range(table, ordinal, 1 + self.dice.below(6))
        } else {
            if self.dice.chance(0.1) {
                changes += &format!(", {} = {}", table.unique_column(), self.unique(table));
            }
            equals(table, ordinal)
        };
        Statement::new(
            Kind::Update,
            table.name(),
            format!("UPDATE {} SET {changes} WHERE {condition}", table.name()),
        )
    }

    fn delete(&mut self, table: Table) -> Statement {
        let ordinal = self.existing(table);
        let condition = match self.dice.chance(0.1) {
            true => range(table, ordinal, 1 + self.dice.below(3)),
            false => equals(table, ordinal),
        };
        Statement::new(Kind::Delete, table.name(), format!("DELETE FROM {} WHERE {condition}", table.name()))
    }

    /// Moves a row to another key, out of or back into the hot ranges; at times to one that is taken.
    fn key_update(&mut self, table: Table) -> Statement {
        let outwards = self.dice.chance(0.7);
        let (existing, spare) = (self.existing(table), self.spare(table));
        let (from, to) = if outwards { (existing, spare) } else { (spare, existing) };
        let from = if self.dice.chance(0.3) { self.existing(table) } else { from };
        let assignments: Vec<String> = table
            .key_columns()
            .iter()
            .zip(table.key(to))
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        let (name, assignments, condition) = (table.name(), assignments.join(", "), equals(table, from));
        let sql = format!("UPDATE {name} SET {assignments}, update_cnt = update_cnt + 1 WHERE {condition}");
        Statement::new(Kind::KeyUpdate, name, sql)
    }

    /// Swaps the unique values of two rows by way of a third value; does nothing where a row is missing.
    fn unique_swap(&mut self) -> Vec<Statement> {
        let table = if self.dice.chance(0.6) { Table::Customer } else { Table::Corder };
        let (a, b) = (self.existing(table), self.existing(table));
        // Locks are taken in one order, so that swaps do not deadlock with each other too often.
        let (a, b) = if a == b { (a, b + 1) } else { (a.min(b), a.max(b)) };
        let (name, column, aside) = (table.name(), table.unique_column(), self.fresh());
        let (is_a, is_b) = (equals(table, a), equals(table, b));
        let both = "@a IS NOT NULL AND @b IS NOT NULL";
        [
            format!(
                "SELECT MAX(IF({is_a}, {column}, NULL)), MAX(IF({is_b}, {column}, NULL)) INTO @a, @b \
                 FROM {name} WHERE ({is_a}) OR ({is_b}) FOR UPDATE"
            ),
            format!("UPDATE {name} SET {column} = {aside} WHERE {is_a} AND {both}"),
            format!("UPDATE {name} SET {column} = @a, update_cnt = update_cnt + 1 WHERE {is_b} AND {both}"),
            format!("UPDATE {name} SET {column} = @b, update_cnt = update_cnt + 1 WHERE {is_a} AND {both}"),
        ]
        .map(|sql| Statement::new(Kind::UniqueSwap, name, sql))
        .into()
    }

    fn ledger(&mut self) -> Statement {
        // 16 bits of session, 40 of unit, 8 of place: never the same id twice in a run.
        let base = (u64::from(self.session) + 1) << 48 | (self.unit & ((1 << 40) - 1)) << 8;
        let mut statement = Statement::new(Kind::Insert, "ledger", String::new());
        let mut rows = Vec::new();
        for _ in 0..=self.dice.below(3) {
            self.drawn += 1;
            let id = base | (self.drawn & 0xff);
            rows.push(format!("({id}, {}, 'unit {}')", self.session, self.unit));
            statement.ledger.push(id);
        }
        statement.sql = format!("INSERT INTO ledger (id, session, entry) VALUES {}", rows.join(", "));
        statement
    }
}

fn transaction(inner: Vec<Statement>, end: Statement) -> Unit {
    let mut statements = vec![Statement::control(Kind::Begin, "BEGIN")];
    statements.extend(inner);
    statements.push(end);
    Unit { transaction: true, statements }
}

fn equals(table: Table, ordinal: u64) -> String {
    let parts: Vec<String> = table
        .key_columns()
        .iter()
        .zip(table.key(ordinal))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    parts.join(" AND ")
}

/// A condition on up to `count` neighbouring keys.
fn range(table: Table, ordinal: u64, count: u64) -> String {
    let key = table.key(ordinal);
    match (table.key_columns(), &key[..]) {
        ([first, last], [a, b]) => format!("{first} = {a} AND {last} BETWEEN {b} AND {b} + {}", count - 1),
        ([only, ..], [a, ..]) => format!("{only} BETWEEN {a} AND {a} + {}", count - 1),
        _ => equals(table, ordinal),
    }
}

impl Column {
    /// Draws a literal; every tenth is NULL where that may be.
    pub fn draw(&self, dice: &mut Dice) -> String {
        if self.nullable && dice.chance(0.1) { "NULL".into() } else { self.value.draw(dice) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_unit_depends_on_seed_session_and_number_only(seed: u64, session in 0u32..2000, n in 0u64..1 << 40) {
            let plan = LoadPlan { seed, ..LoadPlan::default() };
            prop_assert_eq!(unit(&plan, session, n), unit(&plan, session, n));
            prop_assert_ne!(unit(&plan, session, n), unit(&plan, session + 1, n));
        }

        #[test]
        fn transactions_are_well_formed(seed: u64, max in 1u32..30) {
            let plan = LoadPlan { seed, max_statements: max, transaction_share: 1.0, ..LoadPlan::default() };
            let unit = unit(&plan, 1, 1);
            let kinds: Vec<Kind> = unit.statements.iter().map(|s| s.kind).collect();
            prop_assert_eq!(kinds[0], Kind::Begin);
            prop_assert!(matches!(kinds[kinds.len() - 1], Kind::Commit | Kind::Rollback));
            let at = |kind| kinds.iter().position(|k| *k == kind);
            if let Some(back) = at(Kind::RollbackTo) {
                prop_assert!(at(Kind::Savepoint).is_some_and(|set| set < back));
            }
        }
    }

    #[test]
    fn every_kind_is_drawn_and_one_that_is_off_is_not() {
        let mut plan = LoadPlan { seed: 3, ..LoadPlan::default() };
        let count = |plan: &LoadPlan| {
            let mut counts = BTreeMap::new();
            for statement in (0..3000).flat_map(|n| unit(plan, 0, n).statements) {
                *counts.entry(statement.kind).or_insert(0) += 1;
            }
            counts
        };
        assert_eq!(count(&plan).len(), Kind::ALL.len());
        plan.weights.replace = 0;
        assert!(!count(&plan).contains_key(&Kind::Replace));
    }

    #[test]
    fn ledger_ids_never_repeat() {
        let plan = LoadPlan { seed: 3, ..LoadPlan::default() };
        let ids: Vec<u64> = (0..3)
            .flat_map(|session| (0..2000).map(move |n| (session, n)))
            .flat_map(|(session, n)| unit(&plan, session, n).statements)
            .flat_map(|s| s.ledger)
            .collect();
        assert!(ids.len() > 500);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    }

    #[test]
    fn the_load_of_a_seed_is_that_of_the_first_release() {
        let plan = LoadPlan { seed: 42, rows: 1000, ..LoadPlan::default() };
        let text: Vec<String> = (0..200).flat_map(|n| unit(&plan, 5, n).statements).map(|s| s.sql).collect();
        // FNV-1a over the statements.
        let hash = text
            .join("\n")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), "4229d81a58e47a20");
    }
}
