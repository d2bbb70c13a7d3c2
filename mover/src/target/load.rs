//! Rows as the text of a `LOAD DATA LOCAL INFILE`, in pieces of a bounded size. Pure.
//!
//! LOCAL makes the server pass over what it cannot store: whoever sends this holds the number of rows and of warnings
//! against what they must be.

use std::sync::LazyLock;

use converge_mysql::quote;

use crate::schema::{Column, Kind, Table};
use crate::value::{Row, Value};

/// Bytes of a piece, roughly.
pub const PIECE: usize = 256 << 10;

/// How a field becomes a column's value.
enum Form {
    /// As it is: text of numbers and times, bytes in the column's own character set.
    Direct,
    /// As a number: a text would be taken for the name of a member, or for bits.
    Number,
    /// As a text in utf8mb4: the server takes no JSON from bytes, and bytes for an address itself.
    Utf8,
}

fn form(kind: &Kind) -> Form {
    match kind {
        Kind::Bit | Kind::Enum | Kind::Set => Form::Number,
        Kind::Json | Kind::JsonText | Kind::Address(_) => Form::Utf8,
        _ => Form::Direct,
    }
}

/// The statement that reads rows from the client. `zeros`: whether a column has a zero in one of them, where the server
/// must be kept from counting on.
pub fn statement(table: &Table, zeros: impl Fn(usize) -> bool) -> Vec<u8> {
    let (mut fields, mut sets) = (Vec::new(), Vec::new());
    let any_set = table.columns.iter().any(|c| !matches!(form(&c.kind), Form::Direct));
    for (i, column) in table.columns.iter().enumerate() {
        let name = quote::ident(&column.name);
        let set = match form(&column.kind) {
            // Beside a SET, MariaDB makes the next number of a zero for an AUTO_INCREMENT column that has none.
            Form::Direct if any_set && may_count(&column.kind) && zeros(i) => {
                Some(format!("{name} = @converge{i}"))
            }
            Form::Direct => None,
            Form::Number => Some(format!("{name} = CAST(@converge{i} AS UNSIGNED)")),
            Form::Utf8 => Some(format!("{name} = CONVERT(@converge{i} USING utf8mb4)")),
        };
        fields.push(if set.is_some() { format!("@converge{i}") } else { name });
        sets.extend(set);
    }
    let set = if sets.is_empty() { String::new() } else { format!(" SET {}", sets.join(", ")) };
    format!(
        "LOAD DATA LOCAL INFILE 'converge' INTO TABLE {} CHARACTER SET binary \
         FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({}){set}",
        table.qualified(),
        fields.join(", ")
    )
    .into_bytes()
}

/// The rows that can be sent in this way, and those that cannot: where a value is an SQL expression.
pub fn can_be_sent(table: &Table, rows: Vec<Row>) -> (Vec<Row>, Vec<Row>) {
    let is_document = |&i: &usize| matches!(table.columns[i].kind, Kind::Json | Kind::JsonText);
    let documents: Vec<usize> = (0..table.columns.len()).filter(is_document).collect();
    if documents.is_empty() {
        return (rows, Vec::new());
    }
    rows.into_iter().partition(|row| !documents.iter().any(|&i| matches!(row[i], Value::JsonSql(_))))
}

/// Whether such a column can be AUTO_INCREMENT.
fn may_count(kind: &Kind) -> bool {
    matches!(kind, Kind::Int { .. } | Kind::Float | Kind::Double)
}

/// Whether a column has the number zero in one of the rows.
pub fn has_zero(rows: &[Row], column: usize) -> bool {
    rows.iter().any(|row| match row[column] {
        Value::Int(v) => v == 0,
        Value::UInt(v) => v == 0,
        Value::Float(v) => v == 0.0,
        Value::Double(v) => v == 0.0,
        _ => false,
    })
}

/// Truncation warnings that are in order: an ENUM's index 0 stands for an invalid member.
pub fn zero_members(table: &Table, rows: &[Row]) -> usize {
    let enums = table.columns.iter().enumerate().filter(|(_, c)| c.kind == Kind::Enum);
    enums.map(|(i, _)| rows.iter().filter(|row| row[i] == Value::UInt(0)).count()).sum()
}

/// Gives the rows' text to `send`, piece by piece, for as long as it takes them. Rows are let go as they are sent.
pub fn encode(
    table: &Table,
    rows: impl IntoIterator<Item = impl AsRef<[Value]>>,
    mut send: impl FnMut(Vec<u8>) -> bool,
) {
    let mut out = Vec::with_capacity(PIECE + PIECE / 4);
    let mut flush = |out: &mut Vec<u8>, least: usize| {
        out.len() < least || send(std::mem::replace(out, Vec::with_capacity(PIECE + PIECE / 4)))
    };
    for row in rows {
        for (i, (column, value)) in table.columns.iter().zip(row.as_ref()).enumerate() {
            if i > 0 {
                out.push(b'\t');
            }
            match value {
                Value::Bytes(bytes) | Value::Json(bytes) => {
                    for part in bytes.chunks(PIECE / 2) {
                        push_escaped(&mut out, part);
                        if !flush(&mut out, PIECE) {
                            return;
                        }
                    }
                }
                value => push_field(&mut out, column, value),
            }
        }
        out.push(b'\n');
        if !flush(&mut out, PIECE) {
            return;
        }
    }
    flush(&mut out, 1);
}

fn push_field(out: &mut Vec<u8>, column: &Column, value: &Value) {
    match (value, &column.kind) {
        (Value::Null, _) => out.extend_from_slice(b"\\N"),
        // The text "0" would be the year 2000.
        (Value::Int(year), Kind::Year) => out.extend_from_slice(format!("{year:04}").as_bytes()),
        (value, _) => value.push_plain(out),
    }
}

/// What a byte is escaped with; zero: it stands for itself.
static ESCAPES: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut escapes = [0; 256];
    for (byte, letter) in [(b'\\', b'\\'), (b'\t', b't'), (b'\n', b'n'), (b'\0', b'0')] {
        escapes[usize::from(byte)] = letter;
    }
    escapes
});

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let escapes = &*ESCAPES;
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|&b| escapes[usize::from(b)] != 0) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(&[b'\\', escapes[usize::from(rest[at])]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = vec![
            Column::for_tests("a", Kind::Int { unsigned: false }),
            Column::for_tests("b", Kind::Binary),
            Column::for_tests("e", Kind::Enum),
            Column::for_tests("j", Kind::Json),
            Column::for_tests("y", Kind::Year),
        ];
        Table::for_tests(columns, vec![0])
    }

    fn row(b: &[u8], e: u64) -> Row {
        let json = Value::Json(b"{}".to_vec());
        vec![Value::Int(-1), Value::Bytes(b.to_vec()), Value::UInt(e), json, Value::Int(0)]
    }

    fn pieces(rows: Vec<Row>) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        encode(&table(), rows, |piece| {
            pieces.push(piece);
            true
        });
        pieces
    }

    #[test]
    fn what_ends_a_field_or_a_line_is_escaped() {
        let mut null = row(b"", 1);
        null[1] = Value::Null;
        let text = pieces(vec![row(b"\t\\N\n\0'\r", 2), row(b"", 0), null]).concat();
        assert_eq!(
            text.escape_ascii().to_string(),
            b"-1\t\\t\\\\N\\n\\0'\r\t2\t{}\t0000\n-1\t\t0\t{}\t0000\n-1\t\\N\t1\t{}\t0000\n"
                .escape_ascii()
                .to_string()
        );
        assert_eq!(zero_members(&table(), &[row(b"", 0), row(b"", 2), row(b"", 0)]), 2);
    }

    #[test]
    fn rows_with_an_expression_are_sent_otherwise() {
        let mut expression = row(b"x", 1);
        expression[3] = Value::JsonSql(b"JSON_ARRAY()".to_vec());
        let rows = vec![row(b"a", 1), expression.clone(), row(b"b", 1)];
        let (file, rest) = can_be_sent(&table(), rows);
        assert_eq!((file, rest), (vec![row(b"a", 1), row(b"b", 1)], vec![expression]));
    }

    #[test]
    fn members_and_documents_go_through_variables() {
        let sql = |zeros: bool| String::from_utf8(statement(&table(), |_| zeros)).unwrap();
        let (numbers, json) =
            ("`e` = CAST(@converge2 AS UNSIGNED)", "`j` = CONVERT(@converge3 USING utf8mb4)");
        let plain = sql(false);
        let end = format!("(`a`, `b`, @converge2, @converge3, `y`) SET {numbers}, {json}");
        assert!(plain.ends_with(&end), "{plain}");
        let counted = sql(true);
        let end =
            format!("(@converge0, `b`, @converge2, @converge3, `y`) SET `a` = @converge0, {numbers}, {json}");
        assert!(counted.ends_with(&end), "{counted}");
        let rows = [row(b"", 1), vec![Value::Int(0); 5]];
        assert!(has_zero(&rows, 0) && !has_zero(&rows[..1], 0) && !has_zero(&rows[..1], 1));
    }

    #[test]
    fn pieces_are_bounded_whatever_a_row_weighs() {
        let pieces = pieces(vec![row(&vec![b'\n'; 3 << 20], 1), row(b"x", 1)]);
        assert!(pieces.len() > 10 && pieces.iter().all(|p| p.len() <= 2 * PIECE), "{}", pieces.len());
        assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), (6 << 20) + 1 + 2 * 14);
    }
}
