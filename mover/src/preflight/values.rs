//! Whether each column of a table can cross to the column of that name on the target.

use converge_mysql::quote;

use super::{Finding, Servers};
use crate::error::Side;
use crate::schema::Table;

/// Checks the columns of one table by name and type. `target`: `None` if the move creates the table there.
pub fn check(_servers: &Servers<'_>, source: &Table, target: Option<&Table>) -> Vec<Finding> {
    const NAME: &str = "columns";
    let Some(target) = target else { return Vec::new() };
    let name = target.qualified();
    let mut findings = Vec::new();
    for column in &source.columns {
        let shown = quote::ident(&column.name);
        match target.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name)) {
            None => findings.push(Finding::refuse(
                NAME,
                format!("{name} on the target has no column {shown}"),
                format!("ALTER TABLE {name} ADD {shown} {}", column.sql_type),
            )),
            Some(there) if plain(&there.sql_type) != plain(&column.sql_type) => findings.push(Finding::warn(
                NAME,
                format!(
                    "column {shown} of {name} is {} there, {} on the source: a value that does not fit stops the workflow",
                    there.sql_type, column.sql_type
                ),
                format!("ALTER TABLE {name} MODIFY {shown} {}", column.sql_type),
            )),
            Some(_) => {}
        }
    }
    if findings.is_empty() {
        let what = format!("{} columns have the same names and types on both", source.columns.len());
        findings.push(Finding::pass(NAME, what));
    }
    findings.into_iter().map(|f| f.on(Side::Target).of(&name)).collect()
}

/// A type without the display width of integers, which one product prints and the other does not.
fn plain(sql_type: &str) -> String {
    let text = sql_type.to_lowercase();
    match text.split_once('(').zip(text.split_once(')')) {
        Some(((name, _), (_, rest))) if name.ends_with("int") || name == "year" => format!("{name}{rest}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_widths_do_not_count() {
        assert_eq!(plain("int(10) unsigned"), plain("INT unsigned"));
        assert_eq!(plain("year(4)"), "year");
        assert_ne!(plain("int unsigned"), plain("int"));
        assert_ne!(plain("varchar(10)"), plain("varchar(11)"));
        assert_ne!(plain("bigint(20)"), plain("int(11)"));
    }
}
