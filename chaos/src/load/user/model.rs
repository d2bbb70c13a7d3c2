//! Somebody's tables, as load is generated for them: columns, keys, constraints, and a sample of the rows that are there.
//!
//! Read from `information_schema`; nothing here writes.

use std::collections::BTreeSet;

use converge_mysql::{Error as ServerError, quote};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::domain::Domain;
use crate::error::Error;
use crate::load::invariants::{Invariant, Names};
use crate::load::values::Dice;

/// Rows of a table that are remembered.
const SAMPLE: usize = 4000;

/// A database.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// Its tables, without those of the load's own.
    pub tables: Vec<Table>,
    /// What is left out, and why.
    pub notes: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Columns that take values, in order; generated ones are left to the server.
    pub columns: Vec<Column>,
    /// Columns of the primary key, or else of a unique key without NULLs; empty if there is none.
    pub key: Vec<usize>,
    /// Columns of further unique keys.
    pub uniques: Vec<Vec<usize>>,
    /// Foreign keys into the same database, whose parents take load.
    pub foreign: Vec<Foreign>,
    /// Columns that CHECK constraints speak of: they only take values together that a row was seen to have.
    pub checked: Vec<usize>,
    /// Whether its engine has transactions: InnoDB, and no other.
    pub transactional: bool,
    /// Why no load is sent to it, if none is.
    pub no_load: Option<String>,
    /// Whether there was no row in it.
    pub is_empty: bool,
    /// Rows that are there: a literal for each column in [`Table::sampled`].
    pub sample: Vec<Vec<String>>,
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values.
    pub domain: Domain,
    /// Whether NULL is one of them.
    pub nullable: bool,
    /// Whether the server numbers it.
    pub numbered: bool,
    /// Literals in the CHECK constraints that speak of it: its values are likely to lie at or between them.
    pub hints: Vec<Hint>,
}

/// A literal in a CHECK constraint.
#[derive(Debug, Clone, PartialEq)]
pub enum Hint {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl Column {
    /// A value that may satisfy its constraints.
    pub fn guess(&self, dice: &mut Dice) -> String {
        let number = |hint: &Hint| match hint {
            Hint::Number(n) => Some(*n),
            Hint::Text(_) => None,
        };
        match dice.pick(&self.hints) {
            Hint::Text(text) => quote::text(text),
            Hint::Number(n) => {
                let numbers: Vec<i64> = self.hints.iter().filter_map(number).collect();
                let other = *dice.pick(&numbers);
                match dice.below(4) {
                    0 => n.saturating_add(1).to_string(),
                    1 => n.saturating_sub(1).to_string(),
                    _ => dice.between(*n.min(&other), *n.max(&other)).to_string(),
                }
            }
        }
    }

    /// By convention each update raises it by one, so that a lost or doubled one shows.
    pub fn counts_updates(&self) -> bool {
        self.name == "update_cnt" && matches!(self.domain, Domain::Int { .. })
    }
}

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Columns of the child.
    pub columns: Vec<usize>,
    /// The parent's table.
    pub parent: usize,
    /// Columns of the parent.
    pub parent_columns: Vec<usize>,
}

impl Table {
    /// Whether load can be sent to it.
    pub fn takes_load(&self) -> bool {
        self.no_load.is_none()
    }

    /// The columns that the sample holds: those of keys, foreign keys' parents and checks.
    pub fn sampled(&self) -> Vec<usize> {
        let keys = self.key.iter().chain(self.uniques.iter().flatten()).chain(&self.checked);
        keys.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// A column's literal in the nth sampled row.
    pub fn seen(&self, column: usize, n: u64) -> Option<&str> {
        let at = self.sampled().iter().position(|c| *c == column)?;
        let row = self.sample.get((n % self.sample.len().max(1) as u64) as usize)?;
        Some(&row[at])
    }

    /// The quoted name.
    pub fn quoted(&self) -> String {
        quote::ident(&self.name)
    }
}

/// What a database has besides tables, and a move of tables leaves where it is.
async fn others(conn: &mut Conn) -> Result<Option<String>, Error> {
    let names: Vec<(String, String)> = ask(
        conn,
        "SELECT 'view', table_name FROM information_schema.views WHERE table_schema = DATABASE() UNION ALL \
         SELECT LOWER(routine_type), routine_name FROM information_schema.routines WHERE routine_schema = DATABASE() \
         UNION ALL SELECT 'event', event_name FROM information_schema.events WHERE event_schema = DATABASE() \
         ORDER BY 1, 2",
    )
    .await?;
    let names: Vec<String> = names.into_iter().map(|(kind, name)| format!("{kind} {name}")).collect();
    Ok((!names.is_empty()).then(|| format!("not moved, for only tables are: {}", names.join(", "))))
}

/// A row of `information_schema.columns`, or why its table is left out.
struct Found {
    table: String,
    column: Column,
    /// Whether its values are left to the server.
    generated: bool,
    /// Why no rows can be made up because of it.
    obstacle: Option<String>,
}

impl Model {
    /// Reads the connection's database, without the tables that the load makes itself.
    pub async fn read(conn: &mut Conn) -> Result<Self, Error> {
        let mut model = Self::default();
        let own: Vec<String> = Invariant::ALL.iter().map(|i| Names::PREFIXED.of(*i)).collect();
        let tables: Vec<(String, String, bool)> = ask(
            conn,
            "SELECT table_name, table_type, COALESCE(engine, '') = 'InnoDB' FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_type NOT LIKE '%VIEW' ORDER BY 1",
        )
        .await?;
        let columns = columns(conn).await?;
        for (name, kind, transactional) in tables.into_iter().filter(|(name, ..)| !own.contains(name)) {
            if kind != "BASE TABLE" {
                let kind = kind.to_lowercase();
                model.notes.push(format!("table {name} gets no load and is not moved: its type is {kind}"));
                continue;
            }
            let of_table = || columns.iter().filter(|c| c.table == name);
            // What a rollback leaves in such a table is nothing that a mover could know of.
            let engine = (!transactional).then(|| "its engine has no transactions".to_owned());
            let no_load = engine.or_else(|| of_table().find_map(|c| c.obstacle.clone()));
            let columns = of_table().filter(|c| !c.generated).map(|c| c.column.clone()).collect();
            let is_empty = is_empty(conn, &quote::ident(&name)).await?;
            model.tables.push(Table { name, columns, transactional, no_load, is_empty, ..Table::default() });
        }
        model.read_keys(conn).await?;
        model.read_foreign_keys(conn).await?;
        model.read_checks(conn).await?;
        model.tell();
        model.notes.extend(others(conn).await?);
        for table in model.tables.iter_mut().filter(|table| table.takes_load()) {
            table.sample = sample(conn, table).await?;
        }
        Ok(model)
    }

    /// Notes what is left out, once all is known.
    fn tell(&mut self) {
        for table in &self.tables {
            match &table.no_load {
                Some(why) => self.notes.push(format!("table {} gets no load: {why}", table.name)),
                None if table.key.is_empty() => {
                    self.notes.push(format!("table {} has no usable key: rows are only inserted", table.name))
                }
                None => {}
            }
        }
    }

    /// Whether foreign keys refer to a table.
    pub fn is_parent(&self, table: &Table) -> bool {
        let parents = self.tables.iter().flat_map(|child| &child.foreign).map(|foreign| foreign.parent);
        parents.into_iter().any(|parent| self.tables[parent].name == table.name)
    }

    /// The place of a table.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|t| t.name == name)
    }

    fn places(&self, table: usize, names: &[String]) -> Option<Vec<usize>> {
        let columns = &self.tables[table].columns;
        names.iter().map(|name| columns.iter().position(|c| c.name == *name)).collect()
    }

    async fn read_keys(&mut self, conn: &mut Conn) -> Result<(), Error> {
        let rows: Vec<(String, String, Option<String>, Option<u64>)> = ask(
            conn,
            "SELECT table_name, index_name, column_name, CAST(sub_part AS UNSIGNED) FROM information_schema.statistics \
             WHERE table_schema = DATABASE() AND non_unique = 0 \
             ORDER BY table_name, index_name <> 'PRIMARY', index_name, seq_in_index",
        )
        .await?;
        for group in rows.chunk_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1)) {
            let Some(table) = self.position(&group[0].0) else { continue };
            let names: Vec<String> = group.iter().filter_map(|row| row.2.clone()).collect();
            // A key over an expression, a generated column or a part of one is only kept by the server.
            let whole = names.len() == group.len() && group.iter().all(|row| row.3.is_none());
            let Some(columns) = self.places(table, &names).filter(|_| whole) else { continue };
            let table = &mut self.tables[table];
            let nullable = columns.iter().any(|c| table.columns[*c].nullable);
            if table.key.is_empty() && !nullable { table.key = columns } else { table.uniques.push(columns) }
        }
        Ok(())
    }

    async fn read_foreign_keys(&mut self, conn: &mut Conn) -> Result<(), Error> {
        let rows: Vec<(String, String, String, String, String, bool)> = ask(
            conn,
            "SELECT table_name, constraint_name, column_name, referenced_table_name, referenced_column_name, \
             referenced_table_schema = DATABASE() FROM information_schema.key_column_usage \
             WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL \
             ORDER BY table_name, constraint_name, ordinal_position",
        )
        .await?;
        for group in rows.chunk_by(|a, b| (&a.0, &a.1) == (&b.0, &b.1)) {
            let (name, constraint, parent) = (&group[0].0, &group[0].1, &group[0].3);
            let Some(table) = self.position(name) else { continue };
            let children: Vec<String> = group.iter().map(|r| r.2.clone()).collect();
            let parents: Vec<String> = group.iter().map(|r| r.4.clone()).collect();
            let found = self.position(parent).filter(|_| group[0].5);
            let found = found.and_then(|p| {
                let (columns, parent_columns) = (self.places(table, &children)?, self.places(p, &parents)?);
                Some(Foreign { columns, parent: p, parent_columns })
            });
            match found {
                Some(foreign) => self.tables[table].foreign.push(foreign),
                None => self.leave_out(table, &format!("its foreign key {constraint} refers to {parent}")),
            }
        }
        self.leave_out_orphans();
        Ok(())
    }

    fn leave_out(&mut self, table: usize, why: &str) {
        self.tables[table].no_load.get_or_insert_with(|| why.to_owned());
    }

    /// Without load for a parent there is none for its children, and theirs.
    fn leave_out_orphans(&mut self) {
        let orphan = |model: &Self| {
            let tables = model.tables.iter().enumerate().filter(|(_, table)| table.takes_load());
            let parents = |table: &Table| table.foreign.iter().map(|f| f.parent).collect::<Vec<_>>();
            let without = |parent: &usize| !model.tables[*parent].takes_load();
            tables.into_iter().find_map(|(n, table)| Some((n, parents(table).into_iter().find(without)?)))
        };
        while let Some((table, parent)) = orphan(self) {
            let why = format!("a foreign key refers to {}, which gets none", self.tables[parent].name);
            self.leave_out(table, &why);
        }
    }

    async fn read_checks(&mut self, conn: &mut Conn) -> Result<(), Error> {
        let by_table = "SELECT table_name, check_clause FROM information_schema.check_constraints \
                        WHERE constraint_schema = DATABASE()";
        let joined = "SELECT t.table_name, c.check_clause FROM information_schema.check_constraints c \
                      JOIN information_schema.table_constraints t USING (constraint_schema, constraint_name) \
                      WHERE c.constraint_schema = DATABASE() AND t.constraint_type = 'CHECK'";
        let query = if is_mariadb(conn).await? { by_table } else { joined };
        let rows: Vec<(String, String)> = ask(conn, query).await?;
        for (name, clause) in rows {
            let Some(table) = self.position(&name) else { continue };
            let table = &mut self.tables[table];
            let mut spoken: Vec<usize> =
                (0..table.columns.len()).filter(|n| mentions(&clause, &table.columns[*n].name)).collect();
            // MariaDB's JSON is text with this check.
            if let ([only], true) = (&spoken[..], clause.starts_with("json_valid(")) {
                table.columns[*only].domain = Domain::Json;
                continue;
            }
            let hints = hints(&clause);
            for column in &spoken {
                table.columns[*column].hints.extend(hints.iter().cloned());
            }
            spoken.retain(|column| !table.checked.contains(column));
            table.checked.extend(spoken);
        }
        Ok(())
    }
}

async fn is_mariadb(conn: &mut Conn) -> Result<bool, Error> {
    let version: Option<String> = conn
        .query_first("SELECT VERSION()")
        .await
        .map_err(|e| ServerError::driver("asking for the server's version", e))?;
    Ok(version.is_some_and(|version| version.contains("MariaDB")))
}

/// Whether a clause speaks of a column; both servers write names in backquotes.
fn mentions(clause: &str, column: &str) -> bool {
    clause.contains(&quote::ident(column))
}

/// The numbers and texts in a clause.
fn hints(clause: &str) -> Vec<Hint> {
    // MySQL shows the clause as a literal itself, with its quotes escaped.
    let clause = clause.replace("\\'", "'");
    let mut hints = Vec::new();
    for (n, part) in clause.split('\'').enumerate() {
        if n % 2 == 1 {
            hints.push(Hint::Text(part.to_owned()));
            continue;
        }
        // Digits in names are no numbers: names are in backquotes.
        for outside in part.split('`').step_by(2) {
            let words = outside.split(|c: char| {
                !(c.is_ascii_digit() || c == '-' || c == '.' || c == '_' || c.is_alphabetic())
            });
            let numbers = words.filter_map(|word| word.parse::<f64>().ok()).map(|n| Hint::Number(n as i64));
            hints.extend(numbers);
        }
    }
    hints
}

async fn ask<T>(conn: &mut Conn, query: &str) -> Result<Vec<T>, Error>
where
    T: mysql_async::prelude::FromRow + Send + 'static,
{
    Ok(conn.query(query).await.map_err(|e| ServerError::driver("reading the schema", e))?)
}

async fn columns(conn: &mut Conn) -> Result<Vec<Found>, Error> {
    // MariaDB keeps no column to one system of coordinates.
    let system = if is_mariadb(conn).await? { "0" } else { "COALESCE(srs_id, 0)" };
    let query = format!(
        "SELECT table_name, column_name, column_type, character_set_name, is_nullable, extra, \
         COALESCE(generation_expression, ''), column_default, CAST({system} AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position"
    );
    let rows: Vec<Row> = ask(conn, &query).await?;
    let text = |row: &Row, n: usize| row.get::<Option<String>, _>(n).flatten();
    let found = rows.iter().map(|row| {
        let name = text(row, 1).unwrap_or_default();
        let (kind, nullable) = (text(row, 2).unwrap_or_default(), text(row, 4).as_deref() == Some("YES"));
        let generated = text(row, 6).is_some_and(|expression| !expression.is_empty());
        let numbered = text(row, 5).is_some_and(|extra| extra.to_lowercase().contains("auto_increment"));
        let domain = Domain::of(&kind, text(row, 3).as_deref()).map(|domain| match domain {
            Domain::Point(_) => Domain::Point(text(row, 8).and_then(|n| n.parse().ok()).unwrap_or(0)),
            other => other,
        });
        // What can be left to its default does no harm.
        let optional = nullable || text(row, 7).is_some();
        let obstacle = domain.is_none().then(|| format!("no values of {name} {kind} can be made up"));
        let generated = generated || obstacle.is_some() && optional;
        // Of a column that is left to the server, or of a table without load, no value is ever drawn.
        let domain = domain.unwrap_or(Domain::Json);
        let column = Column { name, domain, nullable, numbered, hints: vec![] };
        let obstacle = obstacle.filter(|_| !generated);
        Found { table: text(row, 0).unwrap_or_default(), column, generated, obstacle }
    });
    Ok(found.collect())
}

/// Whether a table has no row.
pub async fn is_empty(conn: &mut Conn, table: &str) -> Result<bool, Error> {
    let row: Option<u8> = conn
        .query_first(format!("SELECT 1 FROM {table} LIMIT 1"))
        .await
        .map_err(|e| ServerError::driver(format!("looking into {table}"), e))?;
    Ok(row.is_none())
}

/// Rows spread over the table, or all if they are few, in an order that depends on nothing but the rows.
async fn sample(conn: &mut Conn, table: &Table) -> Result<Vec<Vec<String>>, Error> {
    let columns = table.sampled();
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let literals: Vec<String> = columns.iter().map(|c| literal_of(&table.columns[*c])).collect();
    let order: Vec<String> = table.key.iter().map(|c| quote::ident(&table.columns[*c].name)).collect();
    let order = if order.is_empty() { "1".to_owned() } else { order.join(", ") };
    // By name: a star leaves out those that are INVISIBLE.
    let named: BTreeSet<usize> = columns.iter().chain(&table.key).copied().collect();
    let named: Vec<String> = named.into_iter().map(|c| quote::ident(&table.columns[c].name)).collect();
    let sql = format!(
        "SELECT {} FROM (SELECT {} FROM {} ORDER BY RAND(7) LIMIT {SAMPLE}) s ORDER BY {order}",
        literals.join(", "),
        named.join(", "),
        table.quoted()
    );
    let rows: Vec<Row> = ask(conn, &sql).await?;
    let count = columns.len();
    let read = |row: Row| {
        (0..count).map(move |n| row.get::<Option<String>, _>(n).flatten().unwrap_or_else(|| "NULL".into()))
    };
    Ok(rows.into_iter().map(|row| read(row).collect()).collect())
}

/// An expression that gives a column's value as an SQL literal.
fn literal_of(column: &Column) -> String {
    let name = quote::ident(&column.name);
    match &column.domain {
        Domain::Int { .. } | Domain::Decimal { .. } | Domain::Year => format!("CAST({name} AS CHAR)"),
        Domain::Float { .. } => format!("CAST(CAST({name} AS DOUBLE) AS CHAR)"),
        Domain::Bits(_) => format!("CONCAT('x''', IF(LENGTH(HEX({name})) % 2, '0', ''), HEX({name}), '''')"),
        Domain::Bytes { .. } => format!("CONCAT('x''', HEX({name}), '''')"),
        _ => format!("QUOTE(CAST({name} AS CHAR CHARACTER SET utf8mb4))"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checks_literals_are_hints() {
        let mysql = r"((`kind` in (_utf8mb4\'a\',_utf8mb4\'b c\')) and (`col2` between 1 and 50))";
        let text = |s: &str| Hint::Text(s.into());
        assert_eq!(hints(mysql), [text("a"), text("b c"), Hint::Number(1), Hint::Number(50)]);
        let column = Column {
            name: "x".into(),
            domain: Domain::Date,
            nullable: false,
            numbered: false,
            hints: hints("`x` between -3 and 9"),
        };
        let mut dice = Dice::new(1, 1, 1, 1);
        let drawn: Vec<i64> = (0..200).map(|_| column.guess(&mut dice).parse().unwrap()).collect();
        assert!(drawn.iter().all(|n| (-4..=10).contains(n)) && drawn.contains(&9) && drawn.contains(&-3));
    }
}
