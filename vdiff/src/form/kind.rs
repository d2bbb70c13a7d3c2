//! What a column's type holds, as far as comparing goes.

use converge_mysql::quote;

use crate::schema::Column;

/// Families of types. Values within one compare; see `Pairing::form` for those that compare across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Integer,
    Decimal,
    Real,
    Temporal(Temporal),
    Text,
    Bytes,
    Enum,
    Set,
    Json,
    /// MariaDB's UUID, INET4 and INET6.
    Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporal {
    Date,
    DateTime,
    Timestamp,
    Time,
}

impl Kind {
    pub fn of(column: &Column) -> Result<Self, String> {
        Ok(match column.data_type.as_str() {
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "bit" | "year" => Self::Integer,
            "decimal" => Self::Decimal,
            "float" | "double" => Self::Real,
            "date" => Self::Temporal(Temporal::Date),
            "datetime" => Self::Temporal(Temporal::DateTime),
            "timestamp" => Self::Temporal(Temporal::Timestamp),
            "time" => Self::Temporal(Temporal::Time),
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => Self::Text,
            "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "vector" => {
                Self::Bytes
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geometrycollection" | "geomcollection" => Self::Bytes,
            "enum" => Self::Enum,
            "set" => Self::Set,
            "json" => Self::Json,
            "uuid" | "inet4" | "inet6" => Self::Address,
            other => return Err(format!("type {other} is unknown to VDiff")),
        })
    }

    /// Whether the values compare as text with those of another such kind.
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Enum | Self::Set | Self::Address)
    }
}

/// A whole number's digits. ZEROFILL, BIT and YEAR have text forms of their own, which a cast avoids.
pub fn integer_text(column: &Column) -> String {
    let c = quote::ident(&column.name);
    let as_is =
        !column.column_type.contains("zerofill") && !["bit", "year"].contains(&column.data_type.as_str());
    if as_is { format!("CAST({c} AS CHAR)") } else { format!("CAST(CAST({c} AS UNSIGNED) AS CHAR)") }
}

/// The most digits before the point.
pub fn whole_digits(column: &Column) -> u32 {
    match column.data_type.as_str() {
        "decimal" => column.precision.saturating_sub(column.scale),
        _ => 20,
    }
}

/// The type as declared, without what does not change values (display width, as old servers show it).
pub fn declared_type(column: &Column) -> String {
    let declared = column.column_type.to_lowercase();
    let width =
        ["tinyint", "smallint", "mediumint", "int", "bigint", "year"].contains(&column.data_type.as_str());
    match (width && !declared.contains("zerofill"), declared.find('('), declared.find(')')) {
        (true, Some(from), Some(to)) if from < to => format!("{}{}", &declared[..from], &declared[to + 1..]),
        _ => declared,
    }
}

/// `stored`, `virtual`, or empty.
pub fn generated(column: &Column) -> String {
    let extra = column.extra.to_uppercase();
    match (extra.contains("GENERATED") && column.generated.is_some(), extra.contains("VIRTUAL")) {
        (true, true) => "virtual".into(),
        (true, false) => "stored".into(),
        _ => String::new(),
    }
}

/// The least and the largest value of an integer type.
pub fn integer_range(column: &Column) -> Option<(i128, i128)> {
    let bits = match column.data_type.as_str() {
        "tinyint" => 8,
        "smallint" => 16,
        "mediumint" => 24,
        "int" => 32,
        "bigint" => 64,
        _ => return None,
    };
    let all = 1i128 << bits;
    Some(if column.column_type.contains("unsigned") { (0, all - 1) } else { (-all / 2, all / 2 - 1) })
}
