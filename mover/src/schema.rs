//! Tables as the mover sees them: columns in order, their kinds, and the key that identifies a row.

pub mod generated;
pub mod secondary;

use std::collections::BTreeSet;

use converge_mysql::{Error as ServerError, quote};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use serde::{Deserialize, Serialize};

use crate::error::{Error, OnSide, Result, Side};

/// What a column holds, as far as reading and writing its values needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// TINYINT to BIGINT.
    Int {
        /// Whether the column is UNSIGNED.
        unsigned: bool,
    },
    /// DECIMAL.
    Decimal,
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// BIT(n).
    Bit,
    /// YEAR.
    Year,
    /// DATE.
    Date,
    /// TIME with digits of fraction.
    Time(u8),
    /// DATETIME with digits of fraction.
    DateTime(u8),
    /// TIMESTAMP with digits of fraction.
    Timestamp(u8),
    /// CHAR, VARCHAR and the TEXT types.
    Char {
        /// Character set of the stored bytes.
        charset: String,
        /// Collation by which the server compares.
        collation: String,
    },
    /// BINARY(n): always n bytes long.
    FixedBinary(usize),
    /// VARBINARY, the BLOB types, spatial types and VECTOR: bytes as they are.
    Binary,
    /// ENUM, by index.
    Enum,
    /// SET, by bit mask.
    Set,
    /// JSON of MySQL (MariaDB's is a LONGTEXT).
    Json,
    /// JSON of MySQL whose target column is text: SQL types inside documents cannot be kept.
    JsonText,
    /// MariaDB's UUID, INET6 and INET4.
    Address(Address),
}

/// MariaDB's types of fixed binary width whose values are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// UUID.
    Uuid,
    /// INET6.
    Inet6,
    /// INET4.
    Inet4,
}

/// One stored column. Generated columns are left to the server and are not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// Its full SQL type, for messages and comparison.
    pub sql_type: String,
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Database.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Stored columns, in order.
    pub columns: Vec<Column>,
    /// For each column of the table, generated ones included, its index in `columns`.
    pub ordinals: Vec<Option<usize>>,
    /// Indexes in `columns` of the primary key, else of the first unique key without NULLs; empty if there is neither.
    pub key: Vec<usize>,
    /// Name of the index over `key`, empty if there is none.
    pub key_name: String,
    /// The server's estimate of the number of rows.
    pub rows_estimated: u64,
    /// The server's estimate of a row's bytes.
    pub row_bytes_estimated: u64,
    /// Hidden columns behind all others in the row events: MariaDB's, one for each unique index that keeps hashes of
    /// values too long for it.
    #[serde(default)]
    pub row_hashes: usize,
}

impl Table {
    /// `` `schema`.`name` ``.
    pub fn qualified(&self) -> String {
        quote::qualified(&self.schema, &self.name)
    }

    /// The key's columns.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|&i| &self.columns[i])
    }

    /// Whether rows of both are laid out alike on the source. What becomes of a document on the target is no part of it.
    pub fn same_form(&self, other: &Self) -> bool {
        let same = |(a, b): (&Column, &Column)| {
            let documents = [&a.kind, &b.kind].iter().all(|k| matches!(k, Kind::Json | Kind::JsonText));
            (&a.name, &a.sql_type) == (&b.name, &b.sql_type) && (documents || a.kind == b.kind)
        };
        (&self.ordinals, &self.key) == (&other.ordinals, &other.key)
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(same)
    }

    /// The same table with no columns but its key's.
    pub fn keys_only(&self) -> Self {
        let columns: Vec<Column> = self.key_columns().cloned().collect();
        let ordinals = (0..columns.len()).map(Some).collect();
        Self { key: (0..columns.len()).collect(), columns, ordinals, ..self.clone() }
    }

    /// Reads a table's definition from `information_schema`.
    pub async fn read(conn: &mut Conn, side: Side, schema: &str, name: &str) -> Result<Option<Self>> {
        let Some((rows_estimated, row_bytes_estimated)) = read_estimates(conn, side, schema, name).await?
        else {
            return Ok(None);
        };
        let (columns, ordinals) = read_columns(conn, side, schema, name).await?;
        let (parts, row_hashes) = read_unique(conn, side, schema, name).await?;
        let (key_name, key) = usable_key(&parts, &columns);
        Ok(Some(Self {
            schema: schema.into(),
            name: name.into(),
            columns,
            ordinals,
            key,
            key_name,
            rows_estimated,
            row_bytes_estimated,
            row_hashes,
        }))
    }
}

/// The statement that made a table, as the server prints it. MariaDB prints binary defaults as they are: bytes that need
/// not be text.
pub async fn definition(conn: &mut Conn, side: Side, schema: &str, name: &str) -> Result<Vec<u8>> {
    let row: Option<(Vec<u8>, Vec<u8>)> = conn
        .query_first(format!("SHOW CREATE TABLE {}", quote::qualified(schema, name)))
        .await
        .map_err(reading("definition", schema, name))
        .on(side)?;
    Ok(row.map(|r| r.1).unwrap_or_default())
}

fn reading(what: &str, schema: &str, table: &str) -> impl Fn(mysql_async::Error) -> ServerError {
    let what = format!("reading the {what} of {}", quote::qualified(schema, table));
    move |e| ServerError::driver(what.clone(), e)
}

/// Kind, rows, bytes of a row, and the server's own spelling of both names.
type EstimateRow = (String, Option<u64>, Option<u64>, String, String);

async fn read_estimates(conn: &mut Conn, side: Side, schema: &str, name: &str) -> Result<Option<(u64, u64)>> {
    let found: Option<EstimateRow> = conn
        .query_first(format!(
            "SELECT table_type, table_rows, avg_row_length, table_schema, table_name FROM information_schema.tables \
             WHERE table_schema = {} AND table_name = {}",
            quote::text(schema),
            quote::text(name)
        ))
        .await
        .map_err(reading("definition", schema, name))
        .on(side)?;
    match found {
        None => Ok(None),
        // The log has the server's spelling of names, and nothing else would be found in it.
        Some((_, _, _, own_schema, own_name))
            if side == Side::Source && (own_schema.as_str(), own_name.as_str()) != (schema, name) =>
        {
            Err(Error::refused(
                format!(
                    "the source calls {} {} (its lower_case_table_names is not 0)",
                    quote::qualified(schema, name),
                    quote::qualified(&own_schema, &own_name)
                ),
                format!("name the database {own_schema} in --source and the table {own_name} in --tables"),
            ))
        }
        Some((kind, rows, bytes, ..)) if kind == "BASE TABLE" => {
            Ok(Some((rows.unwrap_or(0), bytes.unwrap_or(0))))
        }
        Some((kind, ..)) => Err(Error::refused(
            format!("{} is a {kind}, not a base table", quote::qualified(schema, name)),
            "name base tables only in --tables",
        )),
    }
}

type ColumnRow = (String, String, String, Option<String>, Option<String>, Option<u64>, Option<u64>, String);

async fn read_columns(
    conn: &mut Conn,
    side: Side,
    schema: &str,
    name: &str,
) -> Result<(Vec<Column>, Vec<Option<usize>>)> {
    let rows: Vec<ColumnRow> = conn
        .query(format!(
            "SELECT column_name, data_type, column_type, character_set_name, collation_name, datetime_precision, \
             character_octet_length, extra \
             FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
             ORDER BY ordinal_position",
            quote::text(schema),
            quote::text(name)
        ))
        .await
        .map_err(reading("columns", schema, name))
        .on(side)?;
    let mut columns = Vec::new();
    let mut ordinals = Vec::new();
    for row in rows {
        // "VIRTUAL GENERATED" or "STORED GENERATED"; a default by expression says "DEFAULT_GENERATED".
        if row.7.to_ascii_uppercase().contains(" GENERATED") {
            ordinals.push(None);
            continue;
        }
        ordinals.push(Some(columns.len()));
        let kind = kind_of(&row).ok_or_else(|| {
            Error::refused(
                format!(
                    "column {} of {} has the type {}, which cannot be moved",
                    row.0,
                    quote::qualified(schema, name),
                    row.2
                ),
                "leave the table out of --tables, or change the column's type",
            )
        })?;
        columns.push(Column { name: row.0, kind, sql_type: row.2 });
    }
    Ok((columns, ordinals))
}

fn kind_of((_, data_type, column_type, charset, collation, fraction, octets, _): &ColumnRow) -> Option<Kind> {
    let fraction = fraction.unwrap_or(0) as u8;
    // MariaDB logs COMPRESSED columns in a form of their own.
    if column_type.to_ascii_uppercase().contains("COMPRESSED*/") {
        return None;
    }
    // A query answers with two digits, which may be those of two years.
    if column_type.to_ascii_lowercase().contains("year(2)") {
        return None;
    }
    Some(match data_type.to_ascii_lowercase().as_str() {
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" => {
            Kind::Int { unsigned: column_type.to_ascii_lowercase().contains("unsigned") }
        }
        "decimal" => Kind::Decimal,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bit" => Kind::Bit,
        "year" => Kind::Year,
        "date" => Kind::Date,
        "time" => Kind::Time(fraction),
        "datetime" => Kind::DateTime(fraction),
        "timestamp" => Kind::Timestamp(fraction),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => match charset.as_deref() {
            Some(charset) => {
                Kind::Char { charset: charset.to_owned(), collation: collation.clone().unwrap_or_default() }
            }
            None => Kind::Binary,
        },
        "binary" => Kind::FixedBinary(octets.unwrap_or(0) as usize),
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => Kind::Binary,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geomcollection" | "geometrycollection" => Kind::Binary,
        "enum" => Kind::Enum,
        "set" => Kind::Set,
        "json" => Kind::Json,
        "uuid" => Kind::Address(Address::Uuid),
        "inet6" => Kind::Address(Address::Inet6),
        "inet4" => Kind::Address(Address::Inet4),
        _ => return None,
    })
}

/// A column of a unique index: the index, the column (`None`: an expression), and whether every value of it is in the
/// index, in an order that a range of it can be read in.
type KeyPart = (String, Option<String>, bool);

/// Reads the parts of the unique indexes that statements may use, the primary key first, and how many others keep hashes.
///
/// MariaDB's hash indexes keep values apart, but have no order. Hidden ones statements cannot name.
async fn read_unique(conn: &mut Conn, side: Side, schema: &str, name: &str) -> Result<(Vec<KeyPart>, usize)> {
    // What says that an index is hidden has another name with each product.
    let rows: Vec<Row> = conn
        .query(format!(
            "SELECT * FROM information_schema.statistics WHERE table_schema = {} AND table_name = {} AND non_unique = 0 \
             ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            quote::text(schema),
            quote::text(name)
        ))
        .await
        .map_err(reading("keys", schema, name))
        .on(side)?;
    let text = |row: &Row, column: &str| row.get::<Option<String>, _>(column).flatten();
    let is_hidden = |row: &Row| {
        text(row, "IS_VISIBLE").is_some_and(|v| v == "NO") || text(row, "IGNORED").is_some_and(|v| v == "YES")
    };
    let part = |row: &Row| {
        let whole = text(row, "SUB_PART").is_none() && text(row, "NULLABLE").is_none_or(|v| v != "YES");
        (text(row, "INDEX_NAME").unwrap_or_default(), text(row, "COLUMN_NAME"), whole)
    };
    let (hashes, ordered): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| text(row, "INDEX_TYPE").is_some_and(|kind| kind == "HASH"));
    let hashes: BTreeSet<_> = hashes.into_iter().map(|row| text(row, "INDEX_NAME")).collect();
    Ok((ordered.into_iter().filter(|row| !is_hidden(row)).map(part).collect(), hashes.len()))
}

/// The first index whose columns identify each row, and these; empty if there is none.
fn usable_key(parts: &[KeyPart], columns: &[Column]) -> (String, Vec<usize>) {
    let mut names: Vec<&str> = parts.iter().map(|p| p.0.as_str()).collect();
    names.dedup();
    for index in names {
        let whole: Option<Vec<usize>> = parts
            .iter()
            .filter(|p| p.0 == index)
            .map(|(_, column, whole)| {
                columns
                    .iter()
                    .position(|c| *whole && !c.compares_loosely() && Some(&c.name) == column.as_ref())
            })
            .collect();
        if let Some(key) = whole {
            return (index.to_owned(), key);
        }
    }
    Default::default()
}

/// Members of a SET whose numbers a double holds exactly.
const EXACT_MEMBERS: usize = 53;

/// What of a type, in lower case, makes the server compare its values in another way than it orders them. It compares
/// numbers of a SET as doubles, which tell only so many members apart, or as signed integers. And it orders CHAR as if it were
/// filled up with spaces: MariaDB compares it without them where the collation knows no padding, so that a tab comes before
/// the end of the text in the one way, and behind it in the other; Thai vowels are put in order with those spaces or without.
pub fn loose_order(sql_type: &str, collation: Option<&str>) -> Option<&'static str> {
    // A comma stands between two members, and in none of them.
    if sql_type.starts_with("set(") && sql_type.matches(',').count() >= EXACT_MEMBERS {
        return Some("a SET of more than 53 members");
    }
    let collation = collation.filter(|_| sql_type.starts_with("char(")).unwrap_or_default();
    match collation {
        _ if collation.contains("nopad") => Some("a CHAR with a NOPAD collation"),
        _ if collation.starts_with("tis620_thai") => Some("a CHAR in the order of Thai"),
        _ => None,
    }
}

impl Column {
    /// See [`loose_order`].
    fn compares_loosely(&self) -> bool {
        let collation = match &self.kind {
            Kind::Char { collation, .. } => Some(collation.as_str()),
            _ => None,
        };
        loose_order(&self.sql_type.to_lowercase(), collation).is_some()
    }
}

#[cfg(test)]
impl Column {
    /// A column with nothing but a name and a kind.
    pub fn for_tests(name: &str, kind: Kind) -> Self {
        Self { name: name.into(), kind, sql_type: String::new() }
    }
}

#[cfg(test)]
impl Table {
    /// `s`.`t` with these columns and the key over some of them.
    pub fn for_tests(columns: Vec<Column>, key: Vec<usize>) -> Self {
        Self {
            schema: "s".into(),
            name: "t".into(),
            ordinals: (0..columns.len()).map(Some).collect(),
            columns,
            key,
            key_name: "PRIMARY".into(),
            rows_estimated: 0,
            row_bytes_estimated: 0,
            row_hashes: 0,
        }
    }
}
