//! Steps as SQL, with what each statement must answer. Pure.

use converge_mysql::quote;

use super::equal;
use crate::apply::plan::{Operation, Step};
use crate::key_range::push_comparison;
use crate::schema::{Kind, Table};
use crate::value::{Row, Value, row_weight};

/// How many rows a statement must say that it touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Exactly so many.
    Rows(u64),
    /// So many rows of an INSERT must have been there already, whether or not they changed.
    Found(u64),
    /// Any number.
    Any,
}

/// What a statement does to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They are there behind it, as they were sent.
    Stored,
    /// They are there behind it, but those that have one of their keys taken.
    Missing,
    /// They are gone.
    Removed,
}

/// Rows of a statement, kept for the case that it draws a warning that does not tell what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// The table's index in the workflow.
    pub table: usize,
    /// The rows.
    pub rows: Vec<Row>,
    /// What becomes of them.
    pub fate: Fate,
}

/// One statement and its expected answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The text, in the connection's `binary` character set.
    pub sql: Vec<u8>,
    /// What it must answer.
    pub expect: Expect,
    /// Whether the truncation warnings of an invalid ENUM member, stored as index 0, are in order.
    pub enum_zero: bool,
    /// Whether it may draw harmless warnings, so that it has to be sent alone for them to be read.
    pub alone: bool,
    /// Whether the server reads the whole table for it.
    pub scans: bool,
    /// Its rows, where what the server computes of them may draw warnings as well.
    pub kept: Option<Kept>,
}

impl Statement {
    /// A statement over a table's columns.
    pub fn new(table: &Table, sql: Vec<u8>, expect: Expect) -> Self {
        let alone =
            table.columns.iter().any(|c| matches!(&c.kind, Kind::Char { charset, .. } if charset == "ucs2"));
        Self { sql, expect, enum_zero: false, alone, scans: false, kept: None }
    }

    fn with_values_of(mut self, table: &Table, rows: &[Row]) -> Self {
        self.enum_zero = rows.iter().any(|row| has_enum_zero(table, row));
        self.alone |= self.enum_zero;
        self
    }
}

/// What the rows of a step come to.
pub fn fate(operation: Operation) -> Fate {
    match operation {
        Operation::Delete { .. } | Operation::DeleteEqual => Fate::Removed,
        _ => Fate::Stored,
    }
}

/// The statement of one step. `alias`: new rows have a name instead of the function VALUES().
pub fn step(table: &Table, step: &Step, alias: bool) -> Statement {
    let all = Expect::Rows(step.rows.len() as u64);
    match (step.operation, step.rows.as_slice()) {
        (Operation::Insert, rows) => insert(table, "INSERT", rows, all),
        (Operation::Replace, rows) => insert(table, "REPLACE", rows, Expect::Any),
        (Operation::DeleteEqual, rows) => equal::delete(table, rows),
        // Of a single row the server does not say whether it was there.
        (Operation::Update { must_exist: true }, [row]) => update(table, row),
        (Operation::Update { must_exist }, rows) => {
            let expect = if must_exist { Expect::Found(rows.len() as u64) } else { Expect::Any };
            write_over(table, rows, alias, expect)
        }
        (Operation::Delete { must_exist }, rows) => {
            delete(table, rows, if must_exist { all } else { Expect::Any })
        }
    }
}

/// Columns that are not part of the key, by index.
fn other_columns(table: &Table) -> impl Iterator<Item = usize> {
    (0..table.columns.len()).filter(|i| !table.key.contains(i))
}

/// Columns that are set where a row is written over. One of the key has its value already, but may be one that the
/// server sets to the present time with each update that does not name it.
fn set_columns(table: &Table) -> impl Iterator<Item = usize> {
    let may_be_set = |kind: &Kind| matches!(kind, Kind::DateTime(_) | Kind::Timestamp(_));
    (0..table.columns.len()).filter(move |i| !table.key.contains(i) || may_be_set(&table.columns[*i].kind))
}

/// Whether rows of this table have anything to write over.
pub fn has_other_columns(table: &Table) -> bool {
    other_columns(table).next().is_some()
}

/// Writes rows over those with the same keys, and adds those that are not there.
fn write_over(table: &Table, rows: &[Row], alias: bool, expect: Expect) -> Statement {
    const NEW: &str = "`_converge_new`";
    let mut statement = insert(table, "INSERT", rows, expect);
    let set: Vec<String> = set_columns(table)
        .map(|i| quote::ident(&table.columns[i].name))
        .map(|name| if alias { format!("{name}={NEW}.{name}") } else { format!("{name}=VALUES({name})") })
        .collect();
    let name = if alias { format!(" AS {NEW}") } else { String::new() };
    let tail = format!("{name} ON DUPLICATE KEY UPDATE {}", set.join(","));
    statement.sql.extend_from_slice(tail.as_bytes());
    statement
}

/// Changes one row, which must be there.
fn update(table: &Table, row: &Row) -> Statement {
    let mut sql = format!("UPDATE {} SET ", table.qualified()).into_bytes();
    for (i, k) in set_columns(table).enumerate() {
        sql.extend_from_slice(if i > 0 { b"," } else { b"" });
        sql.extend_from_slice(format!("{}=", quote::ident(&table.columns[k].name)).as_bytes());
        row[k].push_literal(&table.columns[k], &mut sql);
    }
    sql.extend_from_slice(b" WHERE ");
    let rows = std::slice::from_ref(row);
    push_keys(&mut sql, table, rows);
    Statement::new(table, sql, Expect::Rows(1)).with_values_of(table, rows)
}

/// `verb INTO table (columns) VALUES (…), (…)`.
pub fn insert(table: &Table, verb: &str, rows: &[Row], expect: Expect) -> Statement {
    let names: Vec<String> = table.columns.iter().map(|c| quote::ident(&c.name)).collect();
    let mut sql = format!("{verb} INTO {} ({}) VALUES ", table.qualified(), names.join(",")).into_bytes();
    // Growing by halves would hold a large row twice.
    sql.reserve(rows.iter().map(|row| row_weight(row) + row.len()).sum());
    for (i, row) in rows.iter().enumerate() {
        sql.extend_from_slice(if i > 0 { b",(" } else { b"(" });
        for (j, (column, value)) in table.columns.iter().zip(row).enumerate() {
            if j > 0 {
                sql.push(b',');
            }
            value.push_literal(column, &mut sql);
        }
        sql.push(b')');
    }
    Statement::new(table, sql, expect).with_values_of(table, rows)
}

/// Adds the rows none of whose keys is taken. Not INSERT IGNORE, which would also hide values that do not fit.
pub fn insert_missing(table: &Table, rows: &[Row]) -> Statement {
    let mut statement = insert(table, "INSERT", rows, Expect::Any);
    let column = quote::ident(&table.columns[0].name);
    statement.sql.extend_from_slice(format!(" ON DUPLICATE KEY UPDATE {column} = {column}").as_bytes());
    statement
}

fn has_enum_zero(table: &Table, row: &[Value]) -> bool {
    table.columns.iter().zip(row).any(|(c, v)| c.kind == Kind::Enum && *v == Value::UInt(0))
}

/// Deletes rows by key.
pub fn delete(table: &Table, rows: &[Row], expect: Expect) -> Statement {
    let mut sql = format!("DELETE FROM {} WHERE ", table.qualified()).into_bytes();
    push_keys(&mut sql, table, rows);
    Statement::new(table, sql, expect)
}

/// How many rows have one of these keys.
pub fn count(table: &Table, rows: &[Row]) -> Vec<u8> {
    let mut sql = format!("SELECT COUNT(*) FROM {} WHERE ", table.qualified()).into_bytes();
    push_keys(&mut sql, table, rows);
    sql
}

/// How many of these rows are there, alike in every column.
pub fn count_same(table: &Table, rows: &[Row]) -> Vec<u8> {
    let mut sql = b"SELECT ".to_vec();
    for (i, row) in rows.iter().enumerate() {
        let exists = format!("EXISTS (SELECT 1 FROM {} WHERE ", table.qualified());
        sql.extend_from_slice(if i > 0 { b" + " } else { b"" });
        sql.extend_from_slice(exists.as_bytes());
        // No index serves the comparison of whole values.
        if !table.key.is_empty() {
            push_keys(&mut sql, table, std::slice::from_ref(row));
            sql.extend_from_slice(b" AND ");
        }
        equal::push_same_row(&mut sql, table, row);
        sql.push(b')');
    }
    sql
}

/// A condition that holds for the rows with these keys.
fn push_keys(sql: &mut Vec<u8>, table: &Table, rows: &[Row]) {
    if table.key_columns().all(|c| compares_in_lists(&c.kind)) {
        push_in_list(sql, table, rows);
    } else {
        push_alternatives(sql, table, rows);
    }
}

/// Whether a list of keys compares as single ones do. Inside a row an ENUM or SET is compared with a number as text,
/// and so finds nothing.
fn compares_in_lists(kind: &Kind) -> bool {
    matches!(kind, Kind::Int { .. } | Kind::Decimal | Kind::Char { .. } | Kind::Binary | Kind::FixedBinary(_))
}

/// `a IN (1, 2)`, or `(a, b) IN ((1, 2), (3, 4))`: one range of the index per key.
fn push_in_list(sql: &mut Vec<u8>, table: &Table, rows: &[Row]) {
    let columns: Vec<String> = table.key_columns().map(|c| quote::ident(&c.name)).collect();
    let tuple = columns.len() > 1;
    sql.extend_from_slice(
        if tuple { format!("({})", columns.join(",")) } else { columns.concat() }.as_bytes(),
    );
    sql.extend_from_slice(b" IN (");
    for (i, row) in rows.iter().enumerate() {
        sql.extend_from_slice(if i > 0 { b"," } else { b"" });
        sql.extend_from_slice(if tuple { b"(" } else { b"" });
        for (j, &k) in table.key.iter().enumerate() {
            sql.extend_from_slice(if j > 0 { b"," } else { b"" });
            row[k].push_literal(&table.columns[k], sql);
        }
        sql.extend_from_slice(if tuple { b")" } else { b"" });
    }
    sql.push(b')');
}

/// `(a = 1 AND b = 2) OR (a = 3 AND b = 4)`.
fn push_alternatives(sql: &mut Vec<u8>, table: &Table, rows: &[Row]) {
    for (i, row) in rows.iter().enumerate() {
        sql.extend_from_slice(if i > 0 { b" OR (" } else { b"(" });
        for (j, &k) in table.key.iter().enumerate() {
            sql.extend_from_slice(if j > 0 { b" AND " } else { b"" });
            push_comparison(sql, &table.columns[k], "=", &row[k]);
        }
        sql.push(b')');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Column;

    fn table() -> Table {
        let columns = vec![
            Column::for_tests("a", Kind::Int { unsigned: false }),
            Column::for_tests("b", Kind::Char { charset: "utf8mb4".into(), collation: String::new() }),
            Column::for_tests("t", Kind::Timestamp(0)),
        ];
        Table::for_tests(columns, vec![0, 1])
    }

    fn row(a: i64, b: &str) -> Row {
        vec![Value::Int(a), Value::Bytes(b.into()), Value::Text("2020-01-01 00:00:00".into())]
    }

    fn text(statement: Statement) -> String {
        String::from_utf8(statement.sql).unwrap()
    }

    #[test]
    fn deletes_name_whole_keys() {
        let sql = text(delete(&table(), &[row(1, "x"), row(2, "'")], Expect::Any));
        assert_eq!(sql, "DELETE FROM `s`.`t` WHERE (`a`,`b`) IN ((1,_utf8mb4'x'),(2,_utf8mb4'\\''))");
    }

    #[test]
    fn rows_are_written_over_but_for_their_keys() {
        let written = |rows: Vec<Row>, alias| {
            let operation = Operation::Update { must_exist: true };
            let statement = step(&table(), &Step { table: 0, operation, rows }, alias);
            (statement.expect, text(statement))
        };
        let values = "INSERT INTO `s`.`t` (`a`,`b`,`t`) VALUES (1,_utf8mb4'x','2020-01-01 00:00:00'),\
                      (2,_utf8mb4'y','2020-01-01 00:00:00')";
        let rows = || vec![row(1, "x"), row(2, "y")];
        let alias = "AS `_converge_new` ON DUPLICATE KEY UPDATE `t`=`_converge_new`.`t`";
        assert_eq!(written(rows(), true), (Expect::Found(2), format!("{values} {alias}")));
        let function = "ON DUPLICATE KEY UPDATE `t`=VALUES(`t`)";
        assert_eq!(written(rows(), false), (Expect::Found(2), format!("{values} {function}")));
        let one = "UPDATE `s`.`t` SET `t`='2020-01-01 00:00:00' WHERE (`a`,`b`) IN ((1,_utf8mb4'x'))";
        assert_eq!(written(vec![row(1, "x")], true), (Expect::Rows(1), one.into()));
    }

    #[test]
    fn a_time_in_the_key_is_kept_from_the_servers_clock() {
        let table = Table { key: vec![0, 2], ..table() };
        let sql = |rows: Vec<Row>| {
            let operation = Operation::Update { must_exist: true };
            text(step(&table, &Step { table: 0, operation, rows }, false))
        };
        let one = sql(vec![row(1, "x")]);
        assert!(one.contains("SET `b`=_utf8mb4'x',`t`='2020-01-01 00:00:00' WHERE"), "{one}");
        assert!(sql(vec![row(1, "x"), row(2, "y")]).ends_with("UPDATE `b`=VALUES(`b`),`t`=VALUES(`t`)"));
    }

    #[test]
    fn keys_with_an_enum_are_compared_one_by_one() {
        let columns = vec![Column::for_tests("e", Kind::Enum), Column::for_tests("a", Kind::Date)];
        let table = Table::for_tests(columns, vec![0, 1]);
        let row = |e| vec![Value::UInt(e), Value::Text("2020-01-01".into())];
        let sql = text(delete(&table, &[row(1), row(2)], Expect::Any));
        assert_eq!(
            sql,
            "DELETE FROM `s`.`t` WHERE (`e` = 1 AND `a` = '2020-01-01') OR (`e` = 2 AND `a` = '2020-01-01')"
        );
    }

    #[test]
    fn rows_that_are_there_are_left_alone() {
        let sql = text(insert_missing(&table(), &[row(1, "x")]));
        assert!(sql.ends_with(" ON DUPLICATE KEY UPDATE `a` = `a`"), "{sql}");
    }

    #[test]
    fn rows_are_looked_for_by_key_and_by_every_column() {
        let text = |sql: Vec<u8>| String::from_utf8(sql).unwrap();
        let same = "CAST(CONVERT(`b` USING utf8mb4) AS BINARY) = _binary'x' AND `t` = '2020-01-01 00:00:00'";
        let one = |a| {
            let key = format!("(`a`,`b`) IN (({a},_utf8mb4'x'))");
            format!("EXISTS (SELECT 1 FROM `s`.`t` WHERE {key} AND `a` = {a} AND {same})")
        };
        let query = text(count_same(&table(), &[row(1, "x"), row(2, "x")]));
        assert_eq!(query, format!("SELECT {} + {}", one(1), one(2)));
        let without = Table { key: Vec::new(), ..table() };
        assert!(text(count_same(&without, &[row(1, "x")])).contains("WHERE `a` = 1 AND"));
        let sql = text(count(&table(), &[row(1, "x")]));
        assert_eq!(sql, "SELECT COUNT(*) FROM `s`.`t` WHERE (`a`,`b`) IN ((1,_utf8mb4'x'))");
    }

    #[test]
    fn inserts_hold_many_rows() {
        let sql = text(insert(&table(), "INSERT", &[row(1, "x")], Expect::Rows(1)));
        assert_eq!(sql, "INSERT INTO `s`.`t` (`a`,`b`,`t`) VALUES (1,_utf8mb4'x','2020-01-01 00:00:00')");
    }
}
