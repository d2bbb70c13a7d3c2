//! Predicates over key ranges. The server compares, in the column's own order; nothing here does.

use converge_mysql::quote;

use crate::planted::{Bug, is_planted};
use crate::schema::{Column, Table};
use crate::value::Value;

/// Keys greater than `after`: `a >= x AND (a > x OR (a = x AND (b > y OR …)))`. The leading term alone gives the
/// server a range of the index.
pub fn push_after(sql: &mut Vec<u8>, table: &Table, after: &[Value]) {
    if after.len() > 1
        && is_planted(Bug::ResumeByFirstColumn)
        && let Some(first) = table.key_columns().next()
    {
        return push_comparison(sql, first, ">", &after[0]);
    }
    push_beyond(sql, table, after, [">=", ">", ">"]);
}

/// Keys up to and including `through`.
pub fn push_through(sql: &mut Vec<u8>, table: &Table, through: &[Value]) {
    push_beyond(sql, table, through, ["<=", "<", "<="]);
}

/// The operators: of the leading term, of every column but the last, and of the last column.
fn push_beyond(sql: &mut Vec<u8>, table: &Table, bound: &[Value], [leading, inner, end]: [&str; 3]) {
    let columns: Vec<&Column> = table.key_columns().collect();
    if columns.len() > 1 {
        push_comparison(sql, columns[0], leading, &bound[0]);
        sql.extend_from_slice(b" AND ");
    }
    let last = columns.len() - 1;
    for (i, (column, value)) in columns.iter().zip(bound).enumerate() {
        sql.extend_from_slice(b"(");
        push_comparison(sql, column, if i < last { inner } else { end }, value);
        if i < last {
            sql.extend_from_slice(b" OR (");
            push_comparison(sql, column, "=", value);
            sql.extend_from_slice(b" AND ");
        }
    }
    sql.extend(std::iter::repeat_n(b')', columns.len() + last));
}

/// `column operator literal`.
pub fn push_comparison(sql: &mut Vec<u8>, column: &Column, operator: &str, value: &Value) {
    sql.extend_from_slice(format!("{} {operator} ", quote::ident(&column.name)).as_bytes());
    value.push_literal(column, sql);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    fn table(key: Vec<usize>) -> Table {
        let columns = vec![
            Column::for_tests("a", Kind::Int { unsigned: false }),
            Column::for_tests("b", Kind::Char { charset: "latin1".into(), collation: "latin1_bin".into() }),
            Column::for_tests("c", Kind::Enum),
        ];
        Table::for_tests(columns, key)
    }

    fn sql(key: Vec<usize>, after: &[Value]) -> String {
        let mut out = Vec::new();
        push_after(&mut out, &table(key), after);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn composite_keys_compare_column_by_column() {
        assert_eq!(sql(vec![0], &[Value::Int(-1)]), "(`a` > -1)");
        assert_eq!(
            sql(vec![0, 1, 2], &[Value::Int(1), Value::Bytes(b"x'".to_vec()), Value::UInt(2)]),
            "`a` >= 1 AND (`a` > 1 OR (`a` = 1 AND (`b` > _latin1'x\\'' OR (`b` = _latin1'x\\'' AND (`c` > 2)))))"
        );
    }

    #[test]
    fn an_upper_bound_includes_its_key() {
        let mut out = Vec::new();
        push_through(&mut out, &table(vec![0, 2]), &[Value::Int(1), Value::UInt(2)]);
        assert_eq!(String::from_utf8(out).unwrap(), "`a` <= 1 AND (`a` < 1 OR (`a` = 1 AND (`c` <= 2)))");
    }
}
