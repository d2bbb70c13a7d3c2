//! CHECK constraints that nothing holds moved rows against: those that only a MariaDB target's table has. Rows that came
//! before their source's own constraint must be moved as they are, and MariaDB checks all of a session's rows or none.
//!
//! They are read from `SHOW CREATE TABLE`: MariaDB's information_schema hides them from accounts that may only read.

use converge_mysql::Flavor;

use super::{Finding, Pair, Servers};
use crate::error::{Result, Side};
use crate::schema;

const UNCHECKED: &str = "checks_unchecked";

/// Compares the constraints of one table's two sides. MySQL checks each row, and a row that violates one stops the move.
pub async fn only_there(servers: &mut Servers<'_>, pair: &Pair) -> Result<Option<Finding>> {
    let (Some(source), Some(target)) = (&pair.source, &pair.target) else { return Ok(None) };
    if servers.target.info.flavor == Flavor::MySql {
        return Ok(None);
    }
    let here = schema::definition(servers.source.conn(), Side::Source, &source.schema, &source.name).await?;
    let there = schema::definition(servers.target.conn(), Side::Target, &target.schema, &target.name).await?;
    let here = conditions(&String::from_utf8_lossy(&here));
    let there = conditions(&String::from_utf8_lossy(&there));
    let others: Vec<&str> = there.iter().filter(|c| !here.contains(c)).map(String::as_str).collect();
    Ok((!others.is_empty()).then(|| {
        Finding::warn(
            UNCHECKED,
            format!(
                "CHECK constraints that only the target's {} has are not checked: {}",
                target.qualified(),
                others.join(", ")
            ),
            "drop them before the move and add them after it, which checks every row",
        )
        .on(Side::Target)
    }))
}

/// The conditions of a definition, without what the products print differently: quotes of names, parentheses, spaces,
/// letter case and the character sets of strings. Of a JSON column, MySQL's type is MariaDB's condition.
fn conditions(definition: &str) -> Vec<String> {
    definition.lines().filter_map(|line| condition(line.trim().trim_end_matches(','))).collect()
}

fn condition(line: &str) -> Option<String> {
    if let Some(name) = json_column(line) {
        return Some(plain(&format!("json_valid({name})")));
    }
    // A comment that only speaks of one ends with its quote, and what is NOT ENFORCED with its mark.
    let at = line.rfind(" CHECK (")? + " CHECK ".len();
    line.ends_with(')').then(|| plain(&line[at..]))
}

/// The column's name if this is a line of MySQL's about one with JSON.
fn json_column(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix('`')?.split_once("` ")?;
    (rest == "json" || rest.starts_with("json ")).then_some(name)
}

fn plain(condition: &str) -> String {
    let condition = condition.replace("_utf8mb4", "").to_lowercase();
    condition.chars().filter(|c| !c.is_whitespace() && !"`()".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_the_same_however_a_product_prints_them() {
        let mysql = "CREATE TABLE `t` (\n  `x` int DEFAULT NULL COMMENT 'no CHECK (x)',\n  `j` json DEFAULT NULL,\n  \
            CONSTRAINT `t_chk_1` CHECK ((`x` > 0)),\n  CONSTRAINT `c` CHECK ((`s` <> _utf8mb4'A b')),\n  \
            CONSTRAINT `n` CHECK ((`x` > 1)) /*!80016 NOT ENFORCED */\n) ENGINE=InnoDB";
        let mariadb = "CREATE TABLE `t` (\n  `x` int(11) DEFAULT NULL COMMENT 'no CHECK (x)' CHECK (`x` > 0),\n  \
            `j` longtext DEFAULT NULL CHECK (json_valid(`j`)),\n  CONSTRAINT `c` CHECK (`s` <> 'A b'),\n  \
            KEY `x` (`x`)\n) ENGINE=InnoDB";
        let sorted = |definition: &str| {
            let mut found = conditions(definition);
            found.sort();
            found
        };
        assert_eq!(sorted(mysql), sorted(mariadb));
        assert_eq!(sorted(mariadb), ["json_validj", "s<>'ab'", "x>0"]);
    }
}
