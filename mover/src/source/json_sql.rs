//! JSON documents as SQL expressions, for those with values of SQL types inside: `1.10` as DECIMAL, dates, times and
//! binary strings look like numbers and strings in the document's text, and would become such.
//!
//! Pure. Expressions are for a MySQL session whose literals are bytes and whose time zone is UTC.

use converge_mysql::quote;

/// A document or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A part that its text says completely.
    Text(String),
    /// A value of an SQL type: an expression.
    Sql(String),
    /// An array.
    Array(Vec<Node>),
    /// Members; the names are JSON strings in quotes.
    Object(Vec<(String, Node)>),
}

impl Node {
    /// An expression of type JSON.
    pub fn to_sql(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Sql(sql) => out.extend_from_slice(format!("CAST({sql} AS JSON)").as_bytes()),
            other => other.push(&mut out),
        }
        out
    }

    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                out.extend_from_slice(b"CAST(_utf8mb4");
                quote::push_bytes(out, text.as_bytes());
                out.extend_from_slice(b" AS JSON)");
            }
            Self::Sql(sql) => out.extend_from_slice(sql.as_bytes()),
            Self::Array(items) => {
                out.extend_from_slice(b"JSON_ARRAY(");
                for (i, item) in items.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b"," } else { b"" });
                    item.push(out);
                }
                out.push(b')');
            }
            Self::Object(members) => {
                out.extend_from_slice(b"JSON_OBJECT(");
                for (i, (name, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if i > 0 {
                        b",JSON_UNQUOTE(_utf8mb4"
                    } else {
                        b"JSON_UNQUOTE(_utf8mb4"
                    });
                    quote::push_bytes(out, name.as_bytes());
                    out.extend_from_slice(b"),");
                    value.push(out);
                }
                out.push(b')');
            }
        }
    }
}

/// A DECIMAL by the digits that it shows; a stored precision may be larger than any column's.
pub fn decimal(text: &str) -> String {
    let digits = text.trim_start_matches('-');
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = if whole == "0" && !fraction.is_empty() { 0 } else { whole.len() };
    let (precision, scale) = (whole + fraction.len(), fraction.len());
    format!("CAST('{text}' AS DECIMAL({precision},{scale}))")
}

/// A DATE.
pub fn date(text: &str) -> String {
    format!("CAST('{text}' AS DATE)")
}

/// A TIME.
pub fn time(text: &str) -> String {
    format!("CAST('{text}' AS TIME(6))")
}

/// A DATETIME.
pub fn datetime(text: &str) -> String {
    format!("CAST('{text}' AS DATETIME(6))")
}

/// A TIMESTAMP, a type that only columns have.
pub fn timestamp(text: &str) -> String {
    column("TIMESTAMP(6)", &format!("_utf8mb4'{text}'"))
}

/// BIT and the binary strings, by the type's number. `None`: no expression makes that type.
pub fn binary(kind: u8, data: &[u8]) -> Option<String> {
    let bytes = quote::hex(data);
    Some(match kind {
        15 => bytes,
        16 => {
            let number = data.iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
            column(&format!("BIT({})", data.len().clamp(1, 8) * 8), &number.to_string())
        }
        249 => column("TINYBLOB", &bytes),
        250 => column("MEDIUMBLOB", &bytes),
        251 => column("LONGBLOB", &bytes),
        252 => column("BLOB", &bytes),
        254 => column(&format!("BINARY({})", data.len()), &bytes),
        _ => return None,
    })
}

/// A value by way of a column of a type.
fn column(sql_type: &str, value: &str) -> String {
    format!(
        "(SELECT CAST(x.v AS JSON) FROM JSON_TABLE(JSON_ARRAY({value}),_utf8mb4'$' COLUMNS (v {sql_type} PATH _utf8mb4'$[0]')) x)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_without_sql_types_stay_text() {
        let node = Node::Object(vec![
            (
                "\"a\\\"\"".into(),
                Node::Array(vec![Node::Text("[1, 2.0]".into()), Node::Sql(decimal("1.10"))]),
            ),
            ("\"b\"".into(), Node::Sql(date("2024-01-01"))),
        ]);
        assert_eq!(
            String::from_utf8(node.to_sql()).unwrap(),
            "JSON_OBJECT(JSON_UNQUOTE(_utf8mb4'\"a\\\\\"\"'),JSON_ARRAY(CAST(_utf8mb4'[1, 2.0]' AS JSON),CAST('1.10' AS DECIMAL(3,2))),\
             JSON_UNQUOTE(_utf8mb4'\"b\"'),CAST('2024-01-01' AS DATE))"
        );
        assert_eq!(Node::Sql(date("2024-01-01")).to_sql(), b"CAST(CAST('2024-01-01' AS DATE) AS JSON)");
    }

    #[test]
    fn decimals_have_as_many_digits_as_they_show() {
        assert_eq!(decimal("-0.01"), "CAST('-0.01' AS DECIMAL(2,2))");
        assert_eq!(decimal("0"), "CAST('0' AS DECIMAL(1,0))");
        assert_eq!(decimal("-12.30"), "CAST('-12.30' AS DECIMAL(4,2))");
    }

    #[test]
    fn every_binary_type_has_an_expression_or_none() {
        assert_eq!(binary(15, &[0, 255]).unwrap(), "x'00ff'");
        assert!(
            binary(16, &[1, 0]).unwrap().contains("JSON_ARRAY(256)")
                && binary(16, &[1, 0]).unwrap().contains("BIT(16)")
        );
        assert_eq!(binary(255, &[1]), None);
    }
}
