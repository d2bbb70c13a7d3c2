//! What a session sends: the nth unit of a session, from nothing but the plan, the session's number and n.
//!
//! A unit is one autocommit statement or one transaction. Nothing here sees a clock or an answer.

use std::borrow::Cow;

use converge_mysql::quote;

use super::invariants;
use super::literal::key_of;
use super::plan::LoadPlan;
use super::tables::{Column, Table};
use super::user::{self, Model};
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
    pub table: Cow<'static, str>,
    /// Its text.
    pub sql: String,
    /// The primary keys of the rows that it means, each as one text; see [`crate::history::key_text`].
    pub keys: Vec<String>,
    /// Ids that it inserts into the ledger.
    pub ledger: Vec<u64>,
}

impl Statement {
    pub(super) fn new(kind: Kind, table: impl Into<Cow<'static, str>>, sql: String) -> Self {
        Self { kind, table: table.into(), sql, keys: Vec::new(), ledger: Vec::new() }
    }

    pub(super) fn control(kind: Kind, sql: &str) -> Self {
        Self::new(kind, "", sql.into())
    }

    /// The same, with the keys of the rows that it means.
    pub(super) fn about(mut self, keys: Vec<String>) -> Self {
        self.keys = keys;
        self
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

/// The `n`th unit of a session, for the commerce schema.
pub fn unit(plan: &LoadPlan, session: u32, n: u64) -> Unit {
    unit_for(plan, None, session, n)
}

/// The `n`th unit of a session, for the commerce schema or another one.
pub fn unit_for(plan: &LoadPlan, model: Option<&Model>, session: u32, n: u64) -> Unit {
    let dice = Dice::new(plan.seed, LOAD, u64::from(session), n);
    Generator { plan, model, session, unit: n, dice, drawn: 0 }.unit()
}

/// The ordinal of one of `all` rows: in a hot range or anywhere.
pub fn hot(plan: &LoadPlan, dice: &mut Dice, all: u64) -> u64 {
    let all = all.max(1);
    let (ranges, width) = (u64::from(plan.hot_ranges), u64::from(plan.hot_width));
    if ranges == 0 || width == 0 || !dice.chance(plan.hot_share) {
        return dice.below(all);
    }
    let within = dice.zipf(width);
    let start = all.saturating_sub(width) * dice.below(ranges) / (ranges - 1).max(1);
    (start + within).min(all - 1)
}

/// What is drawn by weight.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Draw {
    Write(Kind),
    Ledger,
    Count,
    Transfer,
    Append,
}

struct Generator<'a> {
    plan: &'a LoadPlan,
    /// The tables, if they are not those of the commerce schema.
    model: Option<&'a Model>,
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
        let drawn = self.draw();
        let statements = self.statements(drawn);
        // What takes several statements holds as a whole only.
        if statements.len() > 1 {
            return transaction(statements, Statement::control(Kind::Commit, "COMMIT"));
        }
        Unit { transaction: false, statements }
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
            (Draw::Count, w.count),
            (Draw::Transfer, w.transfer),
            (Draw::Append, w.append),
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
        let names = self.plan.subject.names();
        let kind = match drawn {
            Draw::Write(kind) => kind,
            Draw::Ledger => {
                let (session, unit) = (self.session, self.unit);
                return vec![invariants::ledger(names, &mut self.dice, session, unit, &mut self.drawn)];
            }
            Draw::Count => return vec![invariants::count(names, &mut self.dice)],
            Draw::Transfer => return invariants::transfer(names, &mut self.dice),
            Draw::Append => return vec![invariants::append(names, self.session)],
        };
        if let Some(model) = self.model {
            return self.for_model(model, kind);
        }
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

    /// Statements for somebody's tables; a kind that none of them takes becomes an insert into the ledger.
    fn for_model(&mut self, model: &Model, kind: Kind) -> Vec<Statement> {
        self.drawn += 1;
        // Never the same for two statements of a run, as long as units have fewer than 64 of them.
        let fresh =
            (self.unit * u64::from(self.plan.sessions) + u64::from(self.session)) * 64 + self.drawn % 64;
        let statements = user::statements(self.plan, model, kind, &mut self.dice, fresh);
        if statements.is_empty() { self.statements(Draw::Ledger) } else { statements }
    }

    /// The ordinal of a row that is likely to exist: in a hot range or anywhere.
    fn existing(&mut self, table: Table) -> u64 {
        hot(self.plan, &mut self.dice, table.seeded(self.plan))
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
        let keys = if key[0] == "NULL" { Vec::new() } else { vec![text_of(&key)] };
        let mut values = key;
        values.push(self.unique(table));
        let mut others: Vec<String> = table.columns().iter().map(|c| c.draw(&mut self.dice)).collect();
        let at = table.columns().iter().position(|c| Some(c.name) == table.large_column());
        if let (Some(at), Some(large)) = (at, self.large(table)) {
            others[at] = large;
        }
        values.extend(others);
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
        .about(keys)
    }

    /// Now and then a large value for a table that takes one. The server makes it, so that the history stays small.
    fn large(&mut self, table: Table) -> Option<String> {
        table.large_column().filter(|_| self.dice.chance(self.plan.large_share))?;
        let part = self.dice.bytes(8);
        let times = 1 + self.dice.below(self.plan.large_bytes / 8);
        Some(format!("REPEAT({}, {times})", quote::hex(&part)))
    }

    /// Assignments to some columns; `update_cnt` is always one of them, so that a lost update shows.
    fn changes(&mut self, table: Table) -> String {
        let mut changes = vec!["update_cnt = update_cnt + 1".to_owned()];
        for _ in 0..=self.dice.below(3) {
            let column = self.dice.pick(table.columns());
            changes.push(format!("{} = {}", column.name, column.draw(&mut self.dice)));
        }
        if let (Some(column), Some(large)) = (table.large_column(), self.large(table)) {
            changes.push(format!("{column} = {large}"));
        }
        changes.join(", ")
    }

    fn update(&mut self, table: Table) -> Statement {
        let ordinal = self.existing(table);
        let mut changes = self.changes(table);
        let count = if self.dice.chance(0.15) { 1 + self.dice.below(6) } else { 1 };
        if count == 1 && self.dice.chance(0.1) {
            changes += &format!(", {} = {}", table.unique_column(), self.unique(table));
        }
        let (condition, keys) = range(table, ordinal, count);
        let sql = format!("UPDATE {} SET {changes} WHERE {condition}", table.name());
        Statement::new(Kind::Update, table.name(), sql).about(keys)
    }

    fn delete(&mut self, table: Table) -> Statement {
        let ordinal = self.existing(table);
        let count = if self.dice.chance(0.1) { 1 + self.dice.below(3) } else { 1 };
        let (condition, keys) = range(table, ordinal, count);
        let sql = format!("DELETE FROM {} WHERE {condition}", table.name());
        Statement::new(Kind::Delete, table.name(), sql).about(keys)
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
        let keys = vec![text_of(&table.key(from)), text_of(&table.key(to))];
        Statement::new(Kind::KeyUpdate, name, sql).about(keys)
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
        .map(|sql| {
            let keys = vec![text_of(&table.key(a)), text_of(&table.key(b))];
            Statement::new(Kind::UniqueSwap, name, sql).about(keys)
        })
        .into()
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

/// A condition on up to `count` neighbouring keys, and those keys.
fn range(table: Table, ordinal: u64, count: u64) -> (String, Vec<String>) {
    let key = table.key(ordinal);
    let condition = match (table.key_columns(), &key[..]) {
        _ if count < 2 => equals(table, ordinal),
        ([first, last], [a, b]) => format!("{first} = {a} AND {last} BETWEEN {b} AND {b} + {}", count - 1),
        ([only, ..], [a, ..]) => format!("{only} BETWEEN {a} AND {a} + {}", count - 1),
        _ => equals(table, ordinal),
    };
    let step = table.neighbour();
    (condition, (0..count).map(|n| text_of(&table.key(ordinal + n * step))).collect())
}

/// A key of literals as the history writes it.
fn text_of(key: &[String]) -> String {
    key_of(key.iter().map(String::as_str))
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
            // A single unit may be another's by chance.
            let units = |session| (n..n + 8).map(|n| unit(&plan, session, n)).collect::<Vec<_>>();
            prop_assert_eq!(units(session), units(session));
            prop_assert_ne!(units(session), units(session + 1));
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
    fn the_load_of_a_seed_changes_only_on_purpose() {
        let plan = LoadPlan { seed: 42, rows: 1000, ..LoadPlan::default() };
        let text: Vec<String> = (0..200).flat_map(|n| unit(&plan, 5, n).statements).map(|s| s.sql).collect();
        // FNV-1a over the statements.
        let hash = text
            .join("\n")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), "bbfc7f75b48bc638");
    }
}
