//! Reading a table's schema.

use std::collections::{BTreeMap, HashSet};

use converge_mysql::{Error as ServerError, Flavor, quote};

use crate::error::Error;
use crate::schema::{Column, Details, Index, Table, UniqueIndex, details};
use crate::session::{Cells, Session, number, text};

/// Reads the schema of `table` in the session's database, and proves that the account sees all of it.
pub async fn read(session: &mut Session, table: &str) -> Result<Table, Error> {
    let schema = session.database.clone();
    // Names have characters of the basic plane only; asked for others, MySQL has an error of its own.
    if table.chars().any(|letter| letter > '\u{ffff}') {
        return Err(missing(session, &schema, table));
    }
    let named = format!("{} AND TABLE_NAME = {}", in_schema(&schema), quote::text(table));
    let found = session
        .query(
            "looking for the table",
            &format!(
                "SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, AUTO_INCREMENT, ROW_FORMAT, TABLE_COLLATION, TABLE_COMMENT, \
                 CREATE_OPTIONS FROM information_schema.TABLES WHERE {named}"
            ),
        )
        .await?;
    // The comparison of names above may ignore letter case; two tables may differ in nothing else.
    let exact = found.iter().find(|row| text(&row[0]) == table);
    let Some(row) = exact.or(found.first().filter(|_| found.len() == 1)).cloned() else {
        return Err(absent(session, &schema, table).await);
    };
    let name = text(&row[0]);
    if exact.is_none() && select_nothing(session, &schema, table).await.is_err() {
        return Err(absent(session, &schema, table).await);
    }
    let kind = text(&row[1]);
    let only = named_exactly("", ["TABLE_SCHEMA", "TABLE_NAME"], [&schema, &name]);
    let columns = columns(session, &only).await?;
    let (indexes, keys) = indexes(session, &only, &columns).await?;
    let options = Details {
        auto_increment: number(&row[4]),
        row_format: text(&row[5]),
        collation: text(&row[6]),
        comment: text(&row[7]),
        partitioned: text(&row[8]).contains("partitioned"),
        indexes,
        ..Details::default()
    };
    let details = details::read(session, &name, options).await?;
    let table = Table {
        is_view: kind.contains("VIEW"),
        is_versioned: kind == "SYSTEM VERSIONED",
        engine: text(&row[2]),
        rows_estimated: number(&row[3]).unwrap_or(0),
        schema,
        name,
        columns,
        keys,
        details,
    };
    prove_readable(session, &table).await?;
    Ok(table)
}

/// A condition for one table, in letter case too, on a catalogue's columns for database and table.
pub(crate) fn named_exactly(alias: &str, columns: [&str; 2], names: [&str; 2]) -> String {
    let [schema, name] = names.map(quote::text);
    let [in_schema, named] = columns.map(|c| format!("{alias}{c}"));
    format!(
        "{in_schema} = {schema} AND {named} = {name} AND CAST({named} AS BINARY) = CAST({name} AS BINARY)"
    )
}

fn in_schema(schema: &str) -> String {
    format!("TABLE_SCHEMA = {}", quote::text(schema))
}

async fn select_nothing(session: &mut Session, schema: &str, table: &str) -> Result<Vec<Cells>, Error> {
    let sql = format!("SELECT * FROM {} LIMIT 0", quote::qualified(schema, table));
    session.query("reading the table", &sql).await
}

/// Makes sure that a table which is not listed is not there: what the account may not know of is not listed either.
pub async fn prove_absent(session: &mut Session, table: &str) -> Result<(), Error> {
    let schema = session.database.clone();
    match absent(session, &schema, table).await {
        Error::MissingTable { .. } => Ok(()),
        other => Err(other),
    }
}

/// Why a table is not in the catalogue: it does not exist, or the account may not know of it.
async fn absent(session: &mut Session, schema: &str, table: &str) -> Error {
    match select_nothing(session, schema, table).await {
        Err(error) => denied(session, schema, table, error),
        Ok(_) => missing(session, schema, table),
    }
}

fn missing(session: &Session, schema: &str, table: &str) -> Error {
    let (side, address) = (session.side, session.address.clone());
    Error::MissingTable { side, address, schema: schema.into(), table: table.into() }
}

fn denied(session: &Session, schema: &str, table: &str, error: Error) -> Error {
    match error {
        Error::Server { inner: ServerError::Denied { why, .. }, .. } => Error::Denied {
            side: session.side,
            address: session.address.clone(),
            schema: schema.into(),
            table: table.into(),
            why,
        },
        Error::Server { inner: ServerError::Server { code: 1146 | 1049, .. }, .. } => {
            missing(session, schema, table)
        }
        other => other,
    }
}

/// `information_schema` silently leaves out what the account has no privilege on; a SELECT does not.
async fn prove_readable(session: &mut Session, table: &Table) -> Result<(), Error> {
    let names: Vec<String> = table.columns.iter().map(|c| quote::ident(&c.name)).collect();
    select_nothing(session, &table.schema, &table.name)
        .await
        .map_err(|e| denied(session, &table.schema, &table.name, e))?;
    // After the statement above: a view that shows nothing any more is listed without columns.
    if names.is_empty() {
        return Err(missing(session, &table.schema, &table.name));
    }
    let sql = format!("SELECT {} FROM {} LIMIT 0", names.join(", "), table.sql());
    session.query("reading all columns", &sql).await.map_err(|e| match e {
        Error::Server { inner: ServerError::Server { code: 1054, .. }, .. } => Error::HiddenColumns {
            side: session.side,
            address: session.address.clone(),
            schema: table.schema.clone(),
            table: table.name.clone(),
        },
        other => denied(session, &table.schema, &table.name, other),
    })?;
    Ok(())
}

async fn columns(session: &mut Session, only: &str) -> Result<Vec<Column>, Error> {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, COLUMN_DEFAULT, \
         EXTRA, GENERATION_EXPRESSION, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, CHARACTER_OCTET_LENGTH, \
         COLUMN_COMMENT \
         FROM information_schema.COLUMNS WHERE {only} ORDER BY ORDINAL_POSITION"
    );
    let rows = session.query("reading the columns", &sql).await?;
    let optional = |cell: &Option<Vec<u8>>| Some(text(cell)).filter(|t| !t.is_empty());
    Ok(rows
        .iter()
        .map(|row| Column {
            name: text(&row[0]),
            data_type: text(&row[1]).to_lowercase(),
            column_type: text(&row[2]),
            charset: optional(&row[3]),
            collation: optional(&row[4]),
            nullable: text(&row[5]) == "YES",
            default: row[6].is_some().then(|| text(&row[6])),
            extra: text(&row[7]),
            generated: optional(&row[8]),
            precision: number(&row[9]).unwrap_or(0),
            scale: number(&row[10]).unwrap_or(0),
            fraction: number(&row[11]).unwrap_or(0),
            octets: number(&row[12]).unwrap_or(0),
            comment: text(&row[13]),
        })
        .collect())
}

/// All indexes, and those of them that hold each row exactly once, the primary key first.
async fn indexes(
    session: &mut Session,
    only: &str,
    columns: &[Column],
) -> Result<(Vec<Index>, Vec<UniqueIndex>), Error> {
    let (hidden, expression) = match session.info.flavor {
        Flavor::MySql => ("IS_VISIBLE = 'NO'", "EXPRESSION"),
        Flavor::MariaDb => ("IGNORED = 'YES'", "NULL"),
    };
    let sql = format!(
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART, INDEX_TYPE, {hidden}, {expression}, NON_UNIQUE, COLLATION \
         FROM information_schema.STATISTICS WHERE {only} ORDER BY INDEX_NAME, SEQ_IN_INDEX"
    );
    let mut all: BTreeMap<String, Index> = BTreeMap::new();
    let mut keys: BTreeMap<(bool, String), UniqueIndex> = BTreeMap::new();
    let mut unusable = HashSet::new();
    for row in session.query("reading the keys", &sql).await? {
        let (name, column, kind) = (text(&row[0]), text(&row[1]), text(&row[3]));
        let (hidden, unique) = (text(&row[4]) == "1", text(&row[6]) == "0");
        let empty = Index { name: name.clone(), parts: Vec::new(), unique, kind: kind.clone(), hidden };
        all.entry(name.clone()).or_insert(empty).parts.push(part(&row, &column, &kind));
        let nullable = columns.iter().find(|c| c.name == column).is_none_or(|c| c.nullable);
        if nullable || row[5].is_some() || !unique {
            unusable.insert(name.clone());
        }
        let index = keys.entry((name != "PRIMARY", name.clone())).or_insert_with(|| UniqueIndex {
            name,
            columns: Vec::new(),
            ordered: true,
        });
        index.ordered &= row[2].is_none() && kind == "BTREE" && !hidden;
        index.columns.push(column);
    }
    let keys = keys.into_values().filter(|index| !unusable.contains(&index.name)).collect();
    Ok((all.into_values().collect(), keys))
}

/// A part of an index, in words.
fn part(row: &Cells, column: &str, kind: &str) -> String {
    let mut part = match &row[5] {
        Some(expression) => format!("({})", String::from_utf8_lossy(expression)),
        None => column.to_owned(),
    };
    // Of other kinds the families show lengths that nobody gave.
    if kind == "BTREE" && row[2].is_some() {
        part.push_str(&format!("({})", text(&row[2])));
    }
    if text(&row[7]) == "D" {
        part.push_str(" desc");
    }
    part
}
