//! JSON documents read by `SELECT`, with the SQL types of the values inside.
//!
//! A document's text does not say them: `1.10` may be a DECIMAL or a DOUBLE, and `"2024-01-01"` a DATE or a string. So
//! each chunk [asks](super::json_question) the server for them; where the answer leaves a document open, the types of its
//! values that may be one are asked for by path. Never a guess: a document that changes meanwhile is asked about again.

use converge_mysql::{quote, within};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::json::BadJson;
use super::json_sql::Node;
use super::json_text::Document;
use super::{TIMEOUT, json_text};
use crate::error::{Error, OnSide, Result};
use crate::key_range::push_comparison;
use crate::schema::{Column, Kind, Table};
use crate::value::{Row, Value};

/// What `JSON_TYPE` calls values of SQL types.
pub const SQL_TYPES: [&str; 9] =
    ["DECIMAL", "DATE", "TIME", "DATETIME", "TIMESTAMP", "BLOB", "BIT", "GEOMETRY", "OPAQUE"];
/// Values asked about in one query.
const PATHS: usize = 500;
/// How often a document that changes between two looks is looked at again.
const LOOKS: usize = 20;

/// Columns whose documents may hold SQL types.
pub fn columns(table: &Table) -> impl Iterator<Item = usize> {
    table.columns.iter().enumerate().filter(|(_, c)| c.kind == Kind::Json).map(|(i, _)| i)
}

/// Names of types as a list of literals.
pub fn listed(types: &[&str]) -> String {
    types.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",")
}

/// An expression that is true for documents with a value of an SQL type, and false or NULL for all others.
pub fn flag(column: &Column) -> String {
    let (name, types) = (quote::ident(&column.name), listed(&SQL_TYPES));
    let any = |path: &str| {
        format!(
            "EXISTS (SELECT 1 FROM JSON_TABLE({name}, '{path}' COLUMNS (v JSON PATH '$')) x WHERE JSON_TYPE(v) IN ({types}))"
        )
    };
    format!("(JSON_TYPE({name}) IN ({types}) OR {} OR {})", any("$**.*"), any("$**[*]"))
}

/// Replaces a flagged document of a row by one that has its types.
pub async fn restore(conn: &mut Conn, table: &Table, row: &mut Row, column: usize) -> Result<()> {
    for _ in 0..LOOKS {
        let Value::Json(text) = &row[column] else { return Ok(()) };
        let unreadable = |why: String| Error::Unreadable { position: table.qualified(), why };
        let document = json_text::parse(text).map_err(|e| unreadable(e.0))?;
        match types(conn, table, row, column, &document.leaves()).await? {
            // Gone, or NULL: the change is in the log, behind this chunk's low mark, and the row is dropped.
            Look::Gone => return Ok(()),
            Look::Changed(text) => row[column] = Value::Json(text),
            Look::Types(types) => {
                let types = types.iter().map(String::as_str);
                row[column] = with_types(text, &document, types).map_err(|e| unreadable(e.0))?;
                return Ok(());
            }
        }
    }
    Err(Error::Unreadable {
        position: table.qualified(),
        why: format!(
            "the JSON document in {} changes too often to be read",
            quote::ident(&table.columns[column].name)
        ),
    })
}

/// A document, given the types of its leaves in their order.
pub fn with_types<'t>(
    text: &[u8],
    document: &Document<'_>,
    mut types: impl Iterator<Item = &'t str>,
) -> std::result::Result<Value, BadJson> {
    Ok(match document.node(&mut types)? {
        Node::Text(_) => Value::Json(text.to_vec()),
        typed => Value::JsonSql(typed.to_sql()),
    })
}

/// Without a key there is no asking again about one document.
pub fn without_key(table: &Table, column: usize) -> Error {
    let name = quote::ident(&table.columns[column].name);
    Error::refused(
        format!(
            "a JSON document in column {name} of {} has values of SQL types inside (decimals, dates or binary strings), \
             which can be kept only where a key finds the row",
            table.qualified()
        ),
        "add a primary key: ALTER TABLE … ADD PRIMARY KEY (…)",
    )
}

enum Look {
    Gone,
    Changed(Vec<u8>),
    Types(Vec<String>),
}

/// Asks for the types of all leaves, in bounded queries that each see the same document.
async fn types(conn: &mut Conn, table: &Table, row: &Row, column: usize, leaves: &[String]) -> Result<Look> {
    let Value::Json(text) = &row[column] else { return Ok(Look::Gone) };
    let name = quote::ident(&table.columns[column].name);
    let mut types = Vec::with_capacity(leaves.len());
    for paths in leaves.chunks(PATHS) {
        let mut sql = format!("SELECT {name}").into_bytes();
        for path in paths {
            sql.extend_from_slice(format!(", JSON_TYPE(JSON_EXTRACT({name}, _utf8mb4").as_bytes());
            quote::push_bytes(&mut sql, path.as_bytes());
            sql.extend_from_slice(b"))");
        }
        sql.extend_from_slice(format!(" FROM {} WHERE ", table.qualified()).as_bytes());
        for (i, &k) in table.key.iter().enumerate() {
            sql.extend_from_slice(if i > 0 { b" AND " } else { b"" });
            push_comparison(&mut sql, &table.columns[k], "=", &row[k]);
        }
        let what = "reading types inside a JSON document";
        let found: Option<mysql_async::Row> =
            within(TIMEOUT, what, conn.query_first(sql)).await.on_source()?;
        let mut answers = match found {
            Some(found) => found.unwrap().into_iter(),
            None => return Ok(Look::Gone),
        };
        match answers.next() {
            Some(mysql_async::Value::Bytes(now)) if now == *text => {}
            Some(mysql_async::Value::Bytes(now)) => return Ok(Look::Changed(now)),
            _ => return Ok(Look::Gone),
        }
        for answer in answers {
            let kind: Option<String> = mysql_async::from_value(answer);
            types.push(kind.ok_or_else(|| Error::Unreadable {
                position: table.qualified(),
                why: format!("the server does not find all values of a JSON document in {name}"),
            })?);
        }
    }
    Ok(Look::Types(types))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_documents_that_keep_their_types_are_asked_about() {
        let columns = vec![Column::for_tests("a", Kind::JsonText), Column::for_tests("b`", Kind::Json)];
        let table = Table::for_tests(columns, vec![0]);
        assert_eq!(super::columns(&table).collect::<Vec<_>>(), [1]);
        assert!(flag(&table.columns[1]).starts_with("(JSON_TYPE(`b```) IN ('DECIMAL',"));
    }
}
