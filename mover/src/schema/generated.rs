//! Generated columns: the server fills them, on the target by the target's own expression.

use converge_mysql::{Flavor, quote};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Column, Kind, kind_of, reading};
use crate::error::{OnSide, Result, Side};

/// One generated column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Its name and type.
    pub column: Column,
    /// Its expression, as the server prints it.
    pub expression: String,
    /// Whether its values are kept, in the row or in an index, so that they are what they were when they were written.
    pub kept: bool,
}

type GeneratedRow = (
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<u64>,
    Option<u64>,
    String,
    Option<String>,
    bool,
);

/// Reads those of one table.
pub async fn read(
    conn: &mut Conn,
    side: Side,
    flavor: Flavor,
    schema: &str,
    name: &str,
) -> Result<Vec<Generated>> {
    let rows: Vec<GeneratedRow> = conn
        .query(format!(
            "SELECT column_name, data_type, column_type, character_set_name, collation_name, datetime_precision, \
             character_octet_length, extra, generation_expression, EXISTS (SELECT 1 FROM information_schema.statistics s \
             WHERE s.table_schema = c.table_schema AND s.table_name = c.table_name AND s.column_name = c.column_name) \
             FROM information_schema.columns c WHERE table_schema = {} AND table_name = {} \
             AND extra LIKE '% GENERATED%' ORDER BY ordinal_position",
            quote::text(schema),
            quote::text(name)
        ))
        .await
        .map_err(reading("generated columns", schema, name))
        .on(side)?;
    let made = rows.into_iter().map(|(a, b, c, d, e, f, g, extra, expression, indexed)| {
        let expression = expression.unwrap_or_default();
        let kept = indexed || extra.to_uppercase().contains("STORED");
        let row = (a, b, c, d, e, f, g, extra);
        // A type that cannot be moved is compared by its name.
        let kind = kind_of(&row).unwrap_or(Kind::Binary);
        Generated {
            column: Column { kind, name: row.0, sql_type: row.2 },
            expression: if flavor == Flavor::MySql { unescaped(&expression) } else { expression },
            kept,
        }
    });
    Ok(made.collect())
}

/// What MySQL's information_schema means by an expression: it shows each byte of it as a character, with quotes and
/// backslashes escaped. `None` for bytes that are no text.
pub fn decoded(shown: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = shown.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    match bytes {
        Some(bytes) => String::from_utf8(bytes).ok(),
        // A version that shows characters.
        None => Some(shown.to_owned()),
    }
}

fn unescaped(shown: &str) -> String {
    let text = decoded(shown).unwrap_or_else(|| shown.to_owned());
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mysql_shows_bytes_as_characters() {
        assert_eq!(unescaped("concat(`v`,_utf8mb4\\'Ã©\\')"), "concat(`v`,_utf8mb4'é')");
        assert_eq!(unescaped("_utf8mb4\\'it\\\\\\'s\\'"), "_utf8mb4'it\\'s'");
        assert_eq!(decoded("_latin1\\'é\\'"), None, "a byte that is no text");
        assert_eq!(decoded("Ÿ").as_deref(), Some("Ÿ"));
    }
}
