//! The table that is repaired: its columns, what a row of it is made of, and what forbids repairing it.

use converge_mysql::{Flavor, quote};

use super::fit::Room;
use super::rows::Held;
use super::value::{Value, Writes, Written, holds};
use crate::engine::Found;
use crate::engine::lookup::table_of;
use crate::engine::shards::{Sessions, Shards};
use crate::error::Error;
use crate::form::Pairing;
use crate::form::kind::Kind;
use crate::plan::Plan;
use crate::schema::{Column, Table};
use crate::session::text;

/// Values up to so many bytes are held; longer ones are read when they are written, in slices.
pub const HELD: u64 = 512;

/// A column of the target that is written.
pub struct TargetColumn {
    /// As declared there.
    pub column: Column,
    /// Quoted name there.
    pub name: String,
    /// Its canonical form on each side; none where a side does not have it.
    pub pieces: [Option<String>; 2],
    /// Its quoted name on each side.
    pub names: [String; 2],
    /// What a piece becomes.
    pub writes: Writes,
    /// Whether it was compared.
    pub compared: bool,
    /// Whether it belongs to the key that rows are matched by.
    pub key: bool,
    /// Whether the server sets it when another column changes.
    pub on_update: bool,
    /// Whether all of it is held, however long: keys, and documents that the client compares.
    pub held: bool,
    /// Whether a side has text in it, and counts its letters.
    pub has_letters: [bool; 2],
    /// As declared on the source; there is none of a column that only the target has, which is its own.
    pub source: Column,
    /// The target's family.
    pub flavor: Flavor,
}

impl TargetColumn {
    /// As the place of the source's values.
    pub fn room(&self) -> Room<'_> {
        Room { columns: [&self.source, &self.column], flavor: self.flavor, writes: &self.writes }
    }
}

/// A unique index of the target.
pub struct Unique {
    /// Its columns as positions; none where it has something else than whole columns.
    pub columns: Option<Vec<usize>>,
}

/// The table, ready to be written to.
pub struct Target {
    /// Quoted, qualified name on each side.
    pub tables: [String; 2],
    /// Its columns that can be written.
    pub columns: Vec<TargetColumn>,
    /// Its unique indexes.
    pub uniques: Vec<Unique>,
    /// Whether a key finds one row at the most.
    pub key_is_unique: bool,
    /// The most bytes that the server takes in a statement, and makes of one value.
    pub longest: u64,
    /// Bytes of a long value that are read and written at once.
    pub slice: usize,
}

/// Bytes of a slice, where a statement with all of it in hexadecimal is not too long for the server.
const SLICE: u64 = 1 << 20;

/// Bytes of a statement besides its values: names, and what stands between.
pub const AROUND: u64 = 512;

impl Target {
    /// Reads what has to be known about the table. The inner error says why it is not repaired.
    pub async fn read(sessions: &mut Sessions, found: &Found) -> Result<Result<Self, String>, Error> {
        let (source, target) = tokio::join!(
            table_of(&mut sessions.source, &found.pair.source),
            table_of(&mut sessions.target, &found.pair.target)
        );
        let tables = [source?, target?];
        let flavors = [sessions.source.first().info.flavor, sessions.target.first().info.flavor];
        let named = in_table(&tables[1]);
        if let Some(why) = forbidden(sessions, found, &tables[1]) {
            return Ok(Err(why));
        }
        if !has_transactions(&mut sessions.target, &tables[1]).await? {
            return Ok(Err(format!(
                "its engine on the target, {}, has no transactions: of a row that is taken out and cannot be put back nothing \
                 would be left. ALTER TABLE … ENGINE = InnoDB first, or copy the table anew",
                tables[1].engine
            )));
        }
        let columns = match columns(&found.plan, &tables, flavors) {
            Ok(columns) => columns,
            Err(why) => return Ok(Err(why)),
        };
        let uniques = uniques(&mut sessions.target, &named, &columns).await?;
        let key = found.plan.key();
        let named = |name: &String| key.iter().any(|c| c.names[1].to_lowercase() == name.to_lowercase());
        let is_key = |index: &crate::schema::UniqueIndex| index.columns.iter().all(named);
        let key_is_unique = !key.is_empty() && tables[1].keys.iter().any(is_key);
        let longest = sessions.target.first().longest;
        let slice = SLICE.min(longest.saturating_sub(AROUND) / 2).max(1) as usize;
        let tables = tables.each_ref().map(Table::sql);
        Ok(Ok(Self { tables, columns, uniques, key_is_unique, longest, slice }))
    }

    /// The condition that the `i`th column holds a value as a side gave it.
    pub fn holds(&self, i: usize, value: &Value, side: usize) -> String {
        let column = &self.columns[i];
        let name = &column.name;
        // A document that only the client can compare stands there in the server's own words.
        if let (Value::Whole(text), "json", 0) = (value, column.column.data_type.as_str(), side)
            && column.held
            && !column.key
        {
            let text = super::value::string("utf8mb4", text);
            return format!(
                "CAST(CAST({name} AS CHAR) AS BINARY) <=> CAST(CAST(CAST({text} AS JSON) AS CHAR) AS BINARY)"
            );
        }
        match &column.pieces[1] {
            Some(piece) => holds(&column.column, piece, value),
            None => "FALSE".into(),
        }
    }

    /// The condition on a row of a side as it stands in the target: its key, by index, and every value of it, by bytes. Of
    /// a row that is not looked at as a whole, what was not compared may be anything.
    pub fn guard(&self, row: &Held, side: usize, whole: bool) -> String {
        let mut parts = self.key(row);
        for (i, value) in row.values.iter().enumerate() {
            let Some(value) = value.as_ref().filter(|_| whole || self.columns[i].compared) else { continue };
            let holds = self.holds(i, value, side);
            // Numbers are found by what they are recognised by.
            if !parts.contains(&holds.replacen(" <=> ", " = ", 1)) {
                parts.push(holds);
            }
        }
        parts.join(" AND ")
    }

    /// The conditions that find a row by its key, by index.
    fn key(&self, row: &Held) -> Vec<String> {
        let key = row.values.iter().enumerate().filter(|(i, _)| self.columns[*i].key);
        key.filter_map(|(i, value)| self.finds(i, value.as_ref()?)).collect()
    }

    /// The condition on a row's key, letter for letter.
    pub fn key_of(&self, row: &Held, side: usize) -> String {
        let mut parts = self.key(row);
        let key = row.values.iter().enumerate().filter(|(i, _)| self.columns[*i].key);
        parts.extend(key.filter_map(|(i, value)| Some(self.holds(i, value.as_ref()?, side))));
        parts.join(" AND ")
    }

    /// The condition that finds a row by its key, by index: what a collation calls equal is found too.
    pub fn finds(&self, i: usize, value: &Value) -> Option<String> {
        let Value::Whole(piece) = value else { return None };
        // Two digits stand for four where a YEAR is compared.
        if self.columns[i].column.data_type == "year" {
            return None;
        }
        let Written { sql, .. } = self.columns[i].writes.literal(piece)?;
        Some(format!("{} = {sql}", self.columns[i].name))
    }
}

fn in_table(table: &Table) -> String {
    format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", quote::text(&table.schema), quote::text(&table.name))
}

/// Whether what was begun with a table's rows can be undone.
async fn has_transactions(target: &mut Shards, table: &Table) -> Result<bool, Error> {
    let engine = quote::text(&table.engine);
    let sql = format!("SELECT TRANSACTIONS FROM information_schema.ENGINES WHERE ENGINE = {engine}");
    let answer = target.query("asking whether the table's engine has transactions", &sql).await?;
    Ok(answer.iter().any(|row| row.first().is_some_and(|yes| text(yes).eq_ignore_ascii_case("YES"))))
}

/// Why the table must not be written to.
fn forbidden(sessions: &Sessions, found: &Found, target: &Table) -> Option<String> {
    if !found.confirmed {
        return Some("its differences are not proven: they may be ones of timing".into());
    }
    if sessions.target.count() > 1 {
        return Some("the target has several shards, and where a row belongs is not known".into());
    }
    if !found.plan.filters.is_empty() {
        // A row that left the part on one side only would be taken for missing or extra.
        return Some("only a part of it was compared by --where: compare all of it".into());
    }
    if found.plan.sample.is_some() {
        return Some("only a sample of it was compared by --sample: compare all of it".into());
    }
    if found.plan.is_different || !found.plan.unproven.is_empty() {
        let why = found.plan.not_verified.join("; ");
        return Some(format!("the columns of the two sides differ ({why}): make the tables alike first"));
    }
    if target.is_view || target.is_versioned {
        return Some("it is a view, or keeps its history, on the target".into());
    }
    if let Some(name) = target.details.triggers.keys().next() {
        return Some(format!(
            "trigger {name} on the target would run for each row: drop it for the time of the repair"
        ));
    }
    // A catalogue that shows none to the account may have some.
    target.details.hidden.contains(&"triggers").then(|| {
        "the account may not see whether it has triggers on the target, which would run for each row: grant it the privilege \
         TRIGGER on the table (itself: roles are not looked at)"
            .into()
    })
}

fn columns(plan: &Plan, tables: &[Table; 2], flavors: [Flavor; 2]) -> Result<Vec<TargetColumn>, String> {
    let mut columns = Vec::new();
    for column in tables[1].columns.iter().filter(|c| c.generated.is_none()) {
        let planned = plan.columns.iter().position(|c| c.names[1] == column.name);
        let source = match planned {
            Some(at) => tables[0].column(&plan.columns[at].names[0]),
            None => plan.twin(&column.name).and_then(|name| tables[0].column(name)),
        };
        let pair = [source.unwrap_or(column), column];
        let flavors = [if source.is_some() { flavors[0] } else { flavors[1] }, flavors[1]];
        let form = match planned {
            Some(at) => plan.columns[at].form.clone(),
            None => (Pairing { columns: pair, flavors })
                .form()
                .map_err(|why| format!("column {} cannot be carried over: {why}", column.name))?,
        };
        let writes = Writes::of(pair[0], column, &form)
            .ok_or_else(|| format!("column {} has a type that is not written", column.name))?;
        if source.is_none() && !column.nullable && column.default.is_none() {
            return Err(format!("column {} exists on the target only and has no default", column.name));
        }
        let key = planned.is_some_and(|at| plan.key_positions().contains(&at));
        let [from, to] = form.pieces;
        columns.push(TargetColumn {
            name: quote::ident(&column.name),
            names: pair.map(|c| quote::ident(&c.name)),
            pieces: [source.is_some().then_some(from), Some(to)],
            writes,
            compared: planned.is_some(),
            key,
            on_update: column.extra.to_lowercase().contains("on update"),
            held: key || form.client_json || !matches!(Kind::of(column), Ok(k) if is_long(k)),
            has_letters: pair.map(|c| Kind::of(c) == Ok(Kind::Text)),
            source: pair[0].clone(),
            flavor: flavors[1],
            column: column.clone(),
        });
    }
    Ok(columns)
}

/// Whether values of the kind can be longer than what is held.
fn is_long(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Bytes | Kind::Json)
}

async fn uniques(target: &mut Shards, named: &str, columns: &[TargetColumn]) -> Result<Vec<Unique>, Error> {
    let sql = format!(
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS WHERE {named} AND NON_UNIQUE = 0 \
         ORDER BY INDEX_NAME, SEQ_IN_INDEX"
    );
    let mut found: std::collections::BTreeMap<String, Unique> = Default::default();
    for row in target.query("reading the unique keys", &sql).await? {
        let at = columns.iter().position(|c| c.column.name == text(&row[1])).filter(|_| row[2].is_none());
        let unique = found.entry(text(&row[0])).or_insert(Unique { columns: Some(Vec::new()) });
        unique.columns = unique.columns.take().zip(at).map(|(mut columns, at)| {
            columns.push(at);
            columns
        });
    }
    Ok(found.into_values().collect())
}
