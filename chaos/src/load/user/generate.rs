//! What a session sends to somebody's tables: as [`super::super::generate`] does for the commerce schema, from the model
//! of theirs. It depends on the seed, the session, the number of the unit, and the rows that were sampled at the start.

use super::model::{Column, Model, Table};
use super::rows::{Cells, Rows};
use crate::history::Kind;
use crate::load::generate::Statement;
use crate::load::plan::LoadPlan;
use crate::load::values::Dice;

/// Draws statements for a model.
pub struct Draws<'a> {
    pub plan: &'a LoadPlan,
    pub rows: Rows<'a>,
    pub dice: &'a mut Dice,
    /// A number that no other statement has, for unique values that nobody ever held.
    pub fresh: u64,
}

/// The kinds of statements that some of these tables take.
pub fn kinds(plan: &LoadPlan, model: &Model, tables: &[String]) -> Vec<Kind> {
    let wanted = || model.tables.iter().filter(|t| tables.contains(&t.name));
    // Where all that an update may set is under constraints, it may well change nothing.
    let surely =
        |t: &Table, kind: Kind| takes(plan, model, t, kind) && (kind != Kind::Update || !free(t).is_empty());
    let possible = |kind: &Kind| wanted().any(|t| surely(t, *kind));
    Kind::WRITES.into_iter().filter(possible).collect()
}

/// Whether statements of a kind are sent to a table.
fn takes(plan: &LoadPlan, model: &Model, table: &Table, kind: Kind) -> bool {
    match kind {
        Kind::Replace => has_key(table) && !(plan.spare_parents && model.is_parent(table)),
        Kind::Insert => table.takes_load(),
        Kind::UniqueSwap => swappable(table).is_some(),
        Kind::Update => has_key(table) && (!free(table).is_empty() || !table.checked.is_empty()),
        _ => has_key(table),
    }
}

fn has_key(table: &Table) -> bool {
    !table.key.is_empty() && table.takes_load()
}

/// Columns that an update may set: no key, no constraint.
fn free(table: &Table) -> Vec<usize> {
    let bound = |n: &usize| {
        table.key.contains(n)
            || table.uniques.iter().flatten().any(|c| c == n)
            || table.foreign.iter().flat_map(|f| &f.columns).any(|c| c == n)
            || table.checked.contains(n)
    };
    (0..table.columns.len()).filter(|n| !bound(n)).collect()
}

/// A column whose unique value can change places with another row's.
fn swappable(table: &Table) -> Option<usize> {
    let alone = |key: &&Vec<usize>| {
        key.len() == 1
            && !table.key.contains(&key[0])
            && !table.checked.contains(&key[0])
            && !table.foreign.iter().any(|f| f.columns.contains(&key[0]))
    };
    has_key(table).then(|| table.uniques.iter().find(alone).map(|key| key[0])).flatten()
}

impl Draws<'_> {
    fn table(&self, table: usize) -> &Table {
        &self.rows.model.tables[table]
    }

    /// Statements of a kind for one of the tables that take it; none if there is no such table.
    pub fn statements(&mut self, kind: Kind) -> Vec<Statement> {
        let tables = self.rows.model.tables.iter().enumerate();
        let fit: Vec<usize> =
            tables.filter(|(_, t)| takes(self.plan, self.rows.model, t, kind)).map(|(n, _)| n).collect();
        if fit.is_empty() {
            return Vec::new();
        }
        let table = *self.dice.pick(&fit);
        vec![match kind {
            Kind::Insert | Kind::InsertIgnore | Kind::Upsert | Kind::Replace => self.insert(kind, table),
            Kind::Delete => self.delete(table),
            Kind::KeyUpdate => self.key_update(table),
            Kind::UniqueSwap => return self.unique_swap(table),
            _ => self.update(table),
        }]
    }

    /// The ordinal of a row that is likely to be there: in a hot range or anywhere.
    fn existing(&mut self, table: usize) -> u64 {
        let all = self.rows.existing(table);
        crate::load::generate::hot(self.plan, self.dice, all)
    }

    fn statement(&self, kind: Kind, table: usize, sql: String, keys: &[&Cells]) -> Statement {
        let keys = keys.iter().filter(|key| !key.is_empty()).map(|key| self.rows.key_text(table, key));
        Statement::new(kind, self.table(table).name.clone(), sql).about(keys.collect())
    }

    fn insert(&mut self, kind: Kind, table: usize) -> Statement {
        let hits = match kind {
            Kind::Insert => 0.1,
            Kind::InsertIgnore => 0.4,
            _ => 0.6,
        };
        let ordinal =
            if self.dice.chance(hits) { self.existing(table) } else { self.rows.spare(table, self.dice) };
        let unique = match self.dice.chance(self.plan.collision_share) {
            true => self.existing(table),
            // Far behind everything that was filled in.
            false => self.rows.filled * 4 + self.fresh,
        };
        let mut row = self.rows.row(table, ordinal, unique, self.dice);
        let t = self.table(table);
        let key: Cells = t.key.iter().filter_map(|c| Some((*c, row.get(c)?.clone()))).collect();
        let numbered: Vec<usize> = (0..t.columns.len()).filter(|n| t.columns[*n].numbered).collect();
        let by_server = kind == Kind::Insert && !numbered.is_empty() && self.dice.chance(0.4);
        if by_server {
            row.extend(numbered.into_iter().map(|c| (c, "NULL".to_owned())));
        }
        let names: Vec<String> = row.keys().map(|c| self.rows.name(table, *c)).collect();
        let values: Vec<&str> = row.values().map(String::as_str).collect();
        let (verb, tail) = match kind {
            Kind::InsertIgnore => ("INSERT IGNORE INTO", String::new()),
            Kind::Replace => ("REPLACE INTO", String::new()),
            Kind::Upsert => {
                ("INSERT INTO", format!(" ON DUPLICATE KEY UPDATE {}", self.changes(table).join(", ")))
            }
            _ => ("INSERT INTO", String::new()),
        };
        let quoted = self.table(table).quoted();
        let sql = format!("{verb} {quoted} ({}) VALUES ({}){tail}", names.join(", "), values.join(", "));
        let none = Cells::new();
        self.statement(kind, table, sql, &[if by_server { &none } else { &key }])
    }

    /// Assignments to some columns; never none.
    fn changes(&mut self, table: usize) -> Vec<String> {
        let free = free(self.table(table));
        let mut changes = Vec::new();
        for n in 0..self.table(table).columns.len() {
            if self.table(table).columns[n].counts_updates() {
                let name = self.rows.name(table, n);
                changes.push(format!("{name} = {name} + 1"));
            }
        }
        let plain: Vec<usize> =
            free.into_iter().filter(|n| !self.table(table).columns[*n].counts_updates()).collect();
        for _ in 0..=self.dice.below(3) {
            if plain.is_empty() {
                break;
            }
            let at = *self.dice.pick(&plain);
            let drawn = self.value(table, at);
            changes.push(format!("{} = {drawn}", self.rows.name(table, at)));
        }
        let checked = self.dice.chance(0.3) || changes.is_empty();
        let mut bound = if checked { self.rows.checked(table, self.dice) } else { Cells::new() };
        let parents = self.table(table).foreign.len();
        if parents > 0 && (self.dice.chance(0.3) || changes.is_empty()) {
            let which = self.dice.below(parents as u64) as usize;
            bound.extend(self.rows.parent(table, which, self.dice));
        }
        let t = self.table(table);
        let in_key = |c: &usize| t.key.contains(c) || t.uniques.iter().flatten().any(|u| u == c);
        bound.retain(|c, _| !in_key(c));
        changes.extend(bound.iter().map(|(c, literal)| format!("{} = {literal}", self.rows.name(table, *c))));
        if changes.is_empty() {
            // Nothing but keys and constraints: a key column stays what it is.
            let name = self.rows.name(table, t.key.first().copied().unwrap_or(0));
            changes.push(format!("{name} = {name}"));
        }
        changes
    }

    fn value(&mut self, table: usize, column: usize) -> String {
        let Column { domain, nullable, .. } = &self.rows.model.tables[table].columns[column];
        if *nullable && self.dice.chance(0.1) { "NULL".into() } else { domain.draw(self.dice) }
    }

    fn update(&mut self, table: usize) -> Statement {
        let ordinal = self.existing(table);
        let (key, changes) = (self.rows.key(table, ordinal), self.changes(table).join(", "));
        let sql = format!(
            "UPDATE {} SET {changes} WHERE {}",
            self.table(table).quoted(),
            self.rows.condition(table, &key)
        );
        self.statement(Kind::Update, table, sql, &[&key])
    }

    fn delete(&mut self, table: usize) -> Statement {
        let ordinal = self.existing(table);
        let key = self.rows.key(table, ordinal);
        let sql =
            format!("DELETE FROM {} WHERE {}", self.table(table).quoted(), self.rows.condition(table, &key));
        self.statement(Kind::Delete, table, sql, &[&key])
    }

    /// Moves a row to another key, out of or back into what was there.
    fn key_update(&mut self, table: usize) -> Statement {
        let (a, b) = (self.existing(table), self.rows.spare(table, self.dice));
        let (from, to) = if self.dice.chance(0.7) { (a, b) } else { (b, a) };
        let (from, to) = (self.rows.key(table, from), self.rows.key(table, to));
        let mut changes: Vec<String> =
            to.iter().map(|(c, literal)| format!("{} = {literal}", self.rows.name(table, *c))).collect();
        let t = self.table(table);
        let counts = (0..t.columns.len()).filter(|n| t.columns[*n].counts_updates());
        changes.extend(counts.map(|n| format!("{0} = {0} + 1", self.rows.name(table, n))));
        let condition = self.rows.condition(table, &from);
        let sql = format!("UPDATE {} SET {} WHERE {condition}", t.quoted(), changes.join(", "));
        self.statement(Kind::KeyUpdate, table, sql, &[&from, &to])
    }

    /// Swaps the unique values of two rows by way of a third value; does nothing where a row is missing.
    fn unique_swap(&mut self, table: usize) -> Vec<Statement> {
        let Some(column) = swappable(self.table(table)) else { return Vec::new() };
        let (a, b) = (self.existing(table), self.existing(table));
        let (a, b) = if a == b { (a, a + 1) } else { (a.min(b), a.max(b)) };
        let aside = self.table(table).columns[column].domain.nth(self.rows.filled * 4 + self.fresh);
        let (a, b) = (self.rows.key(table, a), self.rows.key(table, b));
        let (is_a, is_b) = (self.rows.condition(table, &a), self.rows.condition(table, &b));
        let (name, column) = (self.table(table).quoted(), self.rows.name(table, column));
        let both = "@a IS NOT NULL AND @b IS NOT NULL";
        [
            format!(
                "SELECT MAX(IF({is_a}, {column}, NULL)), MAX(IF({is_b}, {column}, NULL)) INTO @a, @b \
                 FROM {name} WHERE ({is_a}) OR ({is_b}) FOR UPDATE"
            ),
            format!("UPDATE {name} SET {column} = {aside} WHERE {is_a} AND {both}"),
            format!("UPDATE {name} SET {column} = @a WHERE {is_b} AND {both}"),
            format!("UPDATE {name} SET {column} = @b WHERE {is_a} AND {both}"),
        ]
        .map(|sql| self.statement(Kind::UniqueSwap, table, sql, &[&a, &b]))
        .into()
    }
}
