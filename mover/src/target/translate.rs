//! A table's definition of one product in the words of the other: MySQL to MariaDB and back. Pure.
//!
//! Only what keeps every value as it is: a column whose values could change, or whose unique key would tell values
//! apart otherwise than on the source, is refused by name, and the operator makes the table himself.

use std::collections::BTreeSet;

use converge_mysql::Flavor;

/// What the target knows.
#[derive(Debug, Clone, Copy)]
pub struct Dialect<'a> {
    /// The target's product.
    pub to: Flavor,
    /// Its collations, in lower case and with their character sets.
    pub collations: &'a BTreeSet<String>,
}

/// The definition for the target, or everything that stands against it.
pub fn translate(definition: &str, dialect: Dialect<'_>) -> Result<String, Vec<String>> {
    let mut refused = Vec::new();
    let lines: Vec<&str> = definition.lines().collect();
    let end = lines.iter().rposition(|l| l.starts_with(") ")).unwrap_or(lines.len());
    let (head, body, tail) = match lines.split_first() {
        Some((head, rest)) => (*head, &rest[..end.saturating_sub(1)], lines.get(end..).unwrap_or(&[])),
        None => return Err(vec!["its definition is empty".into()]),
    };
    let default_collation = tail.first().and_then(|l| word_after(l, "COLLATE=")).unwrap_or_default();
    let unique: Vec<&str> = body
        .iter()
        .map(|l| l.trim())
        .filter(|l| l.starts_with("PRIMARY KEY") || l.starts_with("UNIQUE KEY"))
        .collect();
    let mut out = Vec::new();
    for line in body {
        let line = line.trim().trim_end_matches(',');
        let translated = match line.strip_prefix('`').and_then(|rest| rest.split_once("` ")) {
            Some((name, _)) => {
                let name = format!("`{name}`");
                let in_key = unique.iter().any(|key| key.contains(&name));
                column(&name, line, default_collation, in_key, dialect)
            }
            None => key(line, dialect),
        };
        match translated {
            Ok(Some(line)) => out.push(format!("  {line}")),
            Ok(None) => {}
            Err(why) => refused.push(why),
        }
    }
    refused.extend(body.iter().filter_map(|line| untold(line.trim(), dialect.to)));
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut tail: Vec<String> = tail.iter().map(ToString::to_string).collect();
    if let Some(options) = tail.first_mut() {
        *options = table_options(options, dialect);
    }
    Ok(format!("{head}\n{}\n{}", out.join(",\n"), tail.join("\n")))
}

/// The text with everything inside quotes blanked out, byte for byte, so that places in one are places in the other.
fn mask(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut quote = None;
    let mut escaped = false;
    for b in text.bytes() {
        match quote {
            Some(q) => {
                out.push(b'_');
                match b {
                    _ if escaped => escaped = false,
                    b'\\' if q != b'`' => escaped = true,
                    _ if b == q => quote = None,
                    _ => {}
                }
            }
            None if matches!(b, b'\'' | b'`' | b'"') => {
                quote = Some(b);
                out.push(b'_');
            }
            None if b.is_ascii() => out.push(b),
            None => out.push(b'_'),
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

/// Replaces what stands outside of quotes.
fn replaced(text: &str, from: &str, to: &str) -> String {
    let (mut rest, mut out) = (text, String::new());
    while let Some(at) = mask(rest).find(from) {
        out.push_str(&rest[..at]);
        out.push_str(to);
        rest = &rest[at + from.len()..];
    }
    out + rest
}

/// Why a line's strings would be other ones on MariaDB: it prints those that name a character set in a way of its own, in
/// which backslashes are lost. Without the name they are in the session's, which is utf8mb4.
fn untold(line: &str, to: Flavor) -> Option<String> {
    let masked = mask(line);
    let named = |at: usize| {
        let word = masked[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
        masked[..at].strip_suffix(word)?.ends_with('_').then_some(word)
    };
    let strange = strings(line).into_iter().find(|range| {
        let text = &line[range.start + 1..range.end - 1];
        let plain = text.is_ascii() && !text.contains(['\\', '\'']);
        !plain && named(range.start).is_some_and(|set| !matches!(set, "" | "utf8mb4" | "utf8mb3" | "utf8"))
    });
    let name = line.split(" ").next().unwrap_or_default();
    let name = if line.starts_with('`') { format!("column {name}") } else { line.to_owned() };
    strange.filter(|_| to == Flavor::MariaDb).map(|range| {
        format!("{name}: MariaDB would change the string {} of another character set", &line[range])
    })
}

/// Where the strings in single quotes stand, quotes included.
fn strings(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let (mut begin, mut quote, mut escaped) = (0, None, false);
    let bytes = text.as_bytes();
    for (at, b) in bytes.iter().copied().enumerate() {
        match quote {
            None if matches!(b, b'\'' | b'`' | b'"') => (begin, quote) = (at, Some(b)),
            Some(_) if escaped => escaped = false,
            Some(q) if b == b'\\' && q != b'`' => escaped = true,
            Some(q) if b == q => {
                quote = None;
                if q == b'\'' {
                    found.push(begin..at + 1);
                }
            }
            _ => {}
        }
    }
    found
}

/// Without the names of the session's own character set before strings.
fn without_introducers(line: &str) -> String {
    let mut out = line.to_owned();
    for range in strings(line).into_iter().rev() {
        for name in ["_utf8mb4", "_utf8mb3"] {
            let own = |text: &str| !text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            if line[..range.start].strip_suffix(name).is_some_and(own) {
                out.replace_range(range.start - name.len()..range.start, "");
            }
        }
    }
    out
}

/// The word behind `before`, outside of quotes.
fn word_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let start = mask(text).find(before)? + before.len();
    let rest = &text[start..];
    Some(rest.split([' ', ',']).next().unwrap_or(rest))
}

/// A column's line.
fn column(
    name: &str,
    line: &str,
    default: &str,
    in_key: bool,
    dialect: Dialect<'_>,
) -> Result<Option<String>, String> {
    let sql_type =
        line[name.len()..].trim_start().split([' ', '(', ',']).next().unwrap_or_default().to_lowercase();
    let refuse = |what: &str| Err(format!("column {name}: {what}"));
    match (dialect.to, sql_type.as_str()) {
        (Flavor::MySql, "uuid" | "inet6" | "inet4") => {
            return refuse(&format!("MySQL has no type {sql_type}"));
        }
        (Flavor::MariaDb, "vector") => {
            return refuse("its VECTOR type is another one on MariaDB, or not there at all");
        }
        _ => {}
    }
    if dialect.to == Flavor::MySql && mask(line).contains("nextval(") {
        return refuse("its default is the next value of a sequence, which MySQL does not have");
    }
    if mask(line).contains("COMPRESSED*/") {
        return refuse("MySQL has no COMPRESSED columns");
    }
    let text = matches!(
        sql_type.as_str(),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set"
    );
    let mut out = line.to_owned();
    if text {
        let named = word_after(line, " COLLATE ");
        let collation = named.unwrap_or(default);
        match counterpart(collation, dialect) {
            None => return refuse(&format!("the target has no collation like {collation}")),
            // Members compare by their numbers.
            Some((_, false)) if in_key && !matches!(sql_type.as_str(), "enum" | "set") => {
                return refuse(&format!(
                    "it is in a unique key, and the target has no collation that tells values apart as {collation} does"
                ));
            }
            Some((there, _)) if named.is_some() => {
                out = replaced(&out, &format!(" COLLATE {collation}"), &format!(" COLLATE {there}"));
            }
            Some(_) => {}
        }
    }
    Ok(Some(match dialect.to {
        Flavor::MariaDb => {
            let out = replaced(&out, "/*!80023 INVISIBLE */", "INVISIBLE");
            without_introducers(&replaced(&out, " geomcollection ", " geometrycollection "))
        }
        Flavor::MySql => parenthesised_default(&out, &sql_type),
    }))
}

/// MySQL wants parentheses around a default that is an expression, and around any default of a TEXT or BLOB.
fn parenthesised_default(line: &str, sql_type: &str) -> String {
    let masked = mask(line);
    let Some(start) = masked.find(" DEFAULT ").map(|at| at + " DEFAULT ".len()) else {
        return line.to_owned();
    };
    let mut depth = 0usize;
    let length = masked[start..]
        .bytes()
        .position(|b| {
            match b {
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            b == b' ' && depth == 0
        })
        .unwrap_or(masked.len() - start);
    let value = &line[start..start + length];
    let long = sql_type.ends_with("text") || sql_type.ends_with("blob") || sql_type == "json";
    let lower = value.to_lowercase();
    let plain = lower == "null"
        || lower.starts_with("current_timestamp")
        || !long && (value.starts_with('\'') || lower.starts_with("b'") || lower.starts_with("x'"))
        || !long && value.parse::<f64>().is_ok()
        || value.starts_with('(');
    if plain { line.to_owned() } else { format!("{}({value}){}", &line[..start], &line[start + length..]) }
}

/// A key's or a constraint's line; `None` for one that has no meaning on the target.
fn key(line: &str, dialect: Dialect<'_>) -> Result<Option<String>, String> {
    let masked = mask(line);
    if dialect.to == Flavor::MariaDb {
        if masked.contains("/*!80016 NOT ENFORCED */") {
            return Ok(None);
        }
        if masked.contains("KEY ") && masked.contains("((") {
            return Err(format!("MariaDB has no indexes over expressions: {line}"));
        }
    }
    if dialect.to == Flavor::MySql {
        if masked.starts_with("PERIOD FOR") || masked.contains(" WITHOUT OVERLAPS") {
            return Err(format!("MySQL has no periods: {line}"));
        }
        return Ok(Some(line.to_owned()));
    }
    Ok(Some(without_introducers(line)))
}

/// The line behind the columns: what both products have of it.
fn table_options(line: &str, dialect: Dialect<'_>) -> String {
    let mut kept = Vec::new();
    let masked = mask(line);
    let mut at = 0;
    // Options are separated by spaces outside of quotes.
    for word in masked.split(' ') {
        let original = &line[at..at + word.len()];
        at += word.len() + 1;
        let own =
            ["PAGE_CHECKSUM=", "TRANSACTIONAL=", "STATS_", "ENCRYPTION=", "PACK_KEYS=", "CHECKSUM=", "_"];
        if own.iter().any(|o| word.starts_with(o)) {
            continue;
        }
        let Some(collation) = original.strip_prefix("COLLATE=") else {
            kept.push(original.to_owned());
            continue;
        };
        // Without a counterpart no column relies on it.
        if let Some((there, _)) = counterpart(collation, dialect) {
            kept.push(format!("COLLATE={there}"));
        }
    }
    kept.join(" ")
}

/// The name under which MariaDB has a collation, so that names of both products can be compared: some of MySQL's are
/// another order there, or have another name.
pub fn common_name(collation: &str, of: Flavor) -> String {
    let mut name = collation.to_lowercase();
    if let Some(rest) = name.strip_prefix("utf8_") {
        name = format!("utf8mb3_{rest}");
    }
    let unicode = ["utf8mb3", "utf8mb4", "ucs2", "utf16", "utf32"];
    match name.split_once('_') {
        Some(("utf8mb4", "0900_bin")) if of == Flavor::MySql => "utf8mb4_nopad_bin".into(),
        Some((charset, "croatian_ci")) if of == Flavor::MySql && unicode.contains(&charset) => {
            format!("{charset}_croatian_mysql561_ci")
        }
        _ => name,
    }
}

/// The target's collation for one of the source's, and whether both tell values apart alike.
fn counterpart(collation: &str, dialect: Dialect<'_>) -> Option<(String, bool)> {
    let name = collation.to_lowercase();
    let there = |name: &str| dialect.collations.contains(name);
    let from = if dialect.to == Flavor::MySql { Flavor::MariaDb } else { Flavor::MySql };
    let common = common_name(&name, from);
    if let Some(exact) = dialect.collations.iter().find(|c| common_name(c, dialect.to) == common) {
        return Some((exact.clone(), true));
    }
    let sensitive = ["_as_cs", "_as_ci"].into_iter().find(|s| name.contains(s)).unwrap_or("_ai_ci");
    let charset = name.split('_').next().unwrap_or_default();
    let near = [
        name.replace("_nopad", ""),
        format!("{charset}_uca1400_nopad{sensitive}"),
        format!("{charset}_0900{sensitive}"),
        format!("{charset}_unicode_520_nopad_ci"),
        format!("{charset}_unicode_520_ci"),
        format!("{charset}_bin"),
    ];
    near.into_iter().find(|n| there(n)).map(|n| (n, false))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known() -> BTreeSet<String> {
        [
            "utf8mb4_bin",
            "utf8mb4_uca1400_nopad_ai_ci",
            "utf8mb4_0900_ai_ci",
            "utf8mb4_nopad_bin",
            "latin1_swedish_ci",
        ]
        .map(str::to_owned)
        .into()
    }

    fn to(flavor: Flavor, definition: &str) -> Result<String, Vec<String>> {
        let mut collations = known();
        collations.remove(if flavor == Flavor::MariaDb {
            "utf8mb4_0900_ai_ci"
        } else {
            "utf8mb4_uca1400_nopad_ai_ci"
        });
        translate(definition, Dialect { to: flavor, collations: &collations })
    }

    #[test]
    fn mysql_becomes_mariadb() {
        let definition = "CREATE TABLE `x` (\n  `id` int NOT NULL,\n  `c` int DEFAULT NULL /*!80023 INVISIBLE */,\n  \
            `v` varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci DEFAULT ' COLLATE utf8mb4_0900_ai_ci',\n  \
            PRIMARY KEY (`id`),\n  CONSTRAINT `k` CHECK ((`c` > 0)) /*!80016 NOT ENFORCED */\n\
            ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci COMMENT='a b'";
        assert_eq!(
            to(Flavor::MariaDb, definition).unwrap(),
            "CREATE TABLE `x` (\n  `id` int NOT NULL,\n  `c` int DEFAULT NULL INVISIBLE,\n  \
             `v` varchar(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_nopad_ai_ci DEFAULT ' COLLATE utf8mb4_0900_ai_ci',\n  \
             PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_uca1400_nopad_ai_ci COMMENT='a b'"
        );
    }

    #[test]
    fn mariadb_becomes_mysql() {
        let definition = "CREATE TABLE `x` (\n  `id` int(11) NOT NULL,\n  `e` varchar(9) DEFAULT ucase('x y') COMMENT 'c',\n  \
            `m` text DEFAULT 'it''s',\n  `n` int(11) DEFAULT 5,\n  `t` datetime DEFAULT current_timestamp() ON UPDATE current_timestamp(),\n  \
            PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin `page_compressed`='1' PAGE_CHECKSUM=1";
        assert_eq!(
            to(Flavor::MySql, definition).unwrap(),
            "CREATE TABLE `x` (\n  `id` int(11) NOT NULL,\n  `e` varchar(9) DEFAULT (ucase('x y')) COMMENT 'c',\n  \
             `m` text DEFAULT ('it''s'),\n  `n` int(11) DEFAULT 5,\n  `t` datetime DEFAULT current_timestamp() ON UPDATE current_timestamp(),\n  \
             PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
        );
    }

    #[test]
    fn what_would_change_is_refused_by_column() {
        let table = |column: &str, keys: &str| {
            format!(
                "CREATE TABLE `x` (\n  {column},\n  {keys}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci"
            )
        };
        let refusal =
            |flavor, column: &str, keys: &str| to(flavor, &table(column, keys)).unwrap_err().join(" ");
        let unique = refusal(Flavor::MariaDb, "`k` varchar(9) NOT NULL", "UNIQUE KEY `u` (`k`)");
        assert!(unique.contains("column `k`") && unique.contains("utf8mb4_0900_ai_ci"), "{unique}");
        assert!(refusal(Flavor::MariaDb, "`v` vector(3)", "PRIMARY KEY (`id`)").contains("column `v`"));
        assert!(
            refusal(
                Flavor::MariaDb,
                "`g` char(3) CHARACTER SET gb18030 COLLATE gb18030_bin",
                "PRIMARY KEY (`id`)"
            )
            .contains("`g`")
        );
        assert!(refusal(Flavor::MySql, "`u` uuid NOT NULL", "PRIMARY KEY (`id`)").contains("column `u`"));
        assert!(refusal(Flavor::MariaDb, "`a` int", "KEY `f` ((lower(`a`)))").contains("`f`"));
        assert!(
            to(
                Flavor::MariaDb,
                &table("`k` varchar(9) COLLATE utf8mb4_0900_bin NOT NULL", "PRIMARY KEY (`k`)")
            )
            .is_ok()
        );
    }

    #[test]
    fn one_name_may_be_two_orders() {
        let croatian = |to: Flavor, known: &[&str], name: &str| {
            let collations = known.iter().map(ToString::to_string).collect();
            counterpart(name, Dialect { to, collations: &collations })
        };
        let (ci, old) = ("utf8mb4_croatian_ci", "utf8mb4_croatian_mysql561_ci");
        assert_eq!(croatian(Flavor::MariaDb, &[ci, old], ci), Some((old.into(), true)));
        assert_eq!(croatian(Flavor::MySql, &[ci], old), Some((ci.into(), true)));
        assert_eq!(croatian(Flavor::MySql, &[ci], ci), Some((ci.into(), false)));
        let latin2 = "latin2_croatian_ci";
        assert_eq!(croatian(Flavor::MariaDb, &[latin2], latin2), Some((latin2.into(), true)));
        assert_eq!(croatian(Flavor::MySql, &["utf8_bin"], "utf8mb3_bin"), Some(("utf8_bin".into(), true)));
    }

    #[test]
    fn strings_lose_the_sessions_character_set_and_keep_others() {
        let table = |column: &str| {
            format!(
                "CREATE TABLE `x` (\n  {column},\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
            )
        };
        let to_mariadb = |column: &str| to(Flavor::MariaDb, &table(column));
        let column = "`g` int GENERATED ALWAYS AS (concat(_utf8mb4'é\\'s _utf8mb4',_utf8mb3'x')) COMMENT '_latin1\\'é'";
        let made = to_mariadb(column).unwrap();
        assert!(
            made.contains("concat('é\\'s _utf8mb4','x')") && made.contains("COMMENT '_latin1\\'é'"),
            "{made}"
        );
        assert!(
            to_mariadb("`g` int GENERATED ALWAYS AS (ascii(_latin1'a'))").unwrap().contains("_latin1'a'")
        );
        let refused = to_mariadb("`g` int GENERATED ALWAYS AS (ascii(_latin1'é'))").unwrap_err().join(" ");
        assert!(refused.contains("column `g`") && refused.contains("'é'"), "{refused}");
        let there = table("`a` date,\n  PERIOD FOR `p` (`a`, `b`)");
        assert!(to(Flavor::MySql, &there).unwrap_err()[0].contains("no periods"));
        let counted = table("`a` int DEFAULT nextval(`s`.`q`)");
        assert!(to(Flavor::MySql, &counted).unwrap_err()[0].contains("column `a`"));
    }

    proptest! {
        #[test]
        fn masks_have_the_same_places(text in "[a'`\"\\\\é ]{0,30}") {
            prop_assert_eq!(mask(&text).len(), text.len());
        }
    }
}
