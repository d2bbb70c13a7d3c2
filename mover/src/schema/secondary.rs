//! Secondary keys that are built after the copy: taken out of a table's definition before the target's table is made
//! from it, and compared with what the target has before each is added. Pure.
//!
//! Only plain keys are taken out. Unique ones stay, because the apply needs them, and so does whatever something else
//! may rest on: keys of foreign keys, of an AUTO_INCREMENT column, FULLTEXT and SPATIAL ones.

/// A definition without its plain secondary keys, and these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The statement that makes the table without them.
    pub definition: String,
    /// They, as `SHOW CREATE TABLE` writes them: ``KEY `name` (`column`) …``.
    pub keys: Vec<String>,
}

/// Splits what `SHOW CREATE TABLE` answered.
pub fn split(definition: &str) -> Split {
    let whole = || Split { definition: definition.into(), keys: Vec::new() };
    let Some((head, items, tail)) = items(definition) else { return whole() };
    let counted = items.iter().find(|i| i.starts_with('`') && i.contains("AUTO_INCREMENT"));
    let counted = counted.and_then(|i| i.split_inclusive('`').nth(1)).map(|name| format!("(`{name}"));
    let needed = |key: &str| counted.as_ref().is_some_and(|column| key.contains(column.as_str()));
    if items.iter().any(|i| i.contains("FOREIGN KEY")) {
        return whole();
    }
    let (keys, rest): (Vec<&str>, Vec<&str>) =
        items.into_iter().partition(|i| i.starts_with("KEY `") && !needed(i));
    let definition = format!("{head}(\n  {}\n){tail}", rest.join(",\n  "));
    Split { definition, keys: keys.into_iter().map(str::to_owned).collect() }
}

/// The key's name, quoted.
pub fn name(key: &str) -> Option<String> {
    let rest = key.strip_prefix("KEY ")?;
    let end = quoted_end(rest)?;
    Some(rest[..end].to_owned())
}

/// Which of `wanted` the target's definition does not have. `Err`: one of them under the same name, but another.
pub fn missing(wanted: &[String], target: &str) -> Result<Vec<String>, String> {
    let (_, there, _) = items(target).ok_or_else(|| "its definition has an unknown form".to_owned())?;
    let mut missing = Vec::new();
    for key in wanted {
        let same_name = |item: &&&str| {
            let bare = ["UNIQUE ", "FULLTEXT ", "SPATIAL "].iter().find_map(|p| item.strip_prefix(p));
            name(bare.unwrap_or(item)) == name(key)
        };
        match there.iter().find(same_name) {
            Some(found) if found == key => {}
            Some(found) => return Err(format!("it has {found} where {key} belongs")),
            None => missing.push(key.clone()),
        }
    }
    Ok(missing)
}

/// What stands before the outer parentheses, the parts between them, and what stands behind them.
fn items(definition: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = definition.find(" (\n")? + 1;
    let (mut depth, mut begin, mut at) = (0, open + 1, open);
    let mut items = Vec::new();
    let bytes = definition.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\'' | b'`' | b'"' => at += quoted_end(&definition[at..])? - 1,
            b'(' => depth += 1,
            b',' if depth == 1 => {
                items.push(definition[begin..at].trim());
                begin = at + 1;
            }
            b')' => {
                depth -= 1;
                if depth == 0 {
                    items.push(definition[begin..at].trim());
                    return Some((&definition[..open], items, &definition[at + 1..]));
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the quoted text at the beginning ends; a doubled quote is part of it, and a backslash in a string escapes.
fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = *bytes.first()?;
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 1,
            b if b == quote && bytes.get(at + 1) == Some(&quote) => at += 1,
            b if b == quote => return Some(at + 1),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFINITION: &str = "CREATE TABLE `a` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  \
        `k` decimal(9,2) DEFAULT '1.00' COMMENT 'KEY `x` (\\'a\\'), b',\n  `t``, (` text,\n  PRIMARY KEY (`id`),\n  \
        UNIQUE KEY `u` (`k`),\n  KEY `k_1` (`k`,`id`) COMMENT 'a, (b',\n  KEY `t``x` (`t``, (`(10) DESC),\n  \
        FULLTEXT KEY `f` (`t``, (`)\n) ENGINE=InnoDB COMMENT='x (y)'";

    #[test]
    fn plain_keys_are_taken_out_and_nothing_else() {
        let split = split(DEFINITION);
        assert_eq!(split.keys, ["KEY `k_1` (`k`,`id`) COMMENT 'a, (b'", "KEY `t``x` (`t``, (`(10) DESC)"]);
        let expected = DEFINITION
            .replace(",\n  KEY `k_1` (`k`,`id`) COMMENT 'a, (b'", "")
            .replace(",\n  KEY `t``x` (`t``, (`(10) DESC)", "");
        assert_eq!(split.definition, expected);
        assert_eq!(name(&split.keys[1]).unwrap(), "`t``x`");
    }

    #[test]
    fn keys_that_something_rests_on_stay() {
        let counted = "CREATE TABLE `a` (\n  `x` int NOT NULL,\n  `n` int NOT NULL AUTO_INCREMENT,\n  \
            PRIMARY KEY (`x`),\n  KEY `n` (`n`),\n  KEY `x` (`x`)\n)";
        assert_eq!(split(counted).keys, ["KEY `x` (`x`)"]);
        let foreign = "CREATE TABLE `a` (\n  `x` int NOT NULL,\n  PRIMARY KEY (`x`),\n  KEY `y` (`x`),\n  \
            CONSTRAINT `c` FOREIGN KEY (`x`) REFERENCES `b` (`x`)\n)";
        assert_eq!(split(foreign), Split { definition: foreign.into(), keys: Vec::new() });
    }

    #[test]
    fn only_what_is_missing_is_built_and_another_key_of_the_name_is_refused() {
        let Split { definition, keys } = split(DEFINITION);
        assert_eq!(missing(&keys, &definition).unwrap(), keys);
        assert_eq!(missing(&keys, DEFINITION).unwrap(), Vec::<String>::new());
        let other = DEFINITION.replace("(`k`,`id`)", "(`k`)");
        assert!(missing(&keys, &other).unwrap_err().contains("KEY `k_1` (`k`)"));
        let unique = DEFINITION.replace("  KEY `k_1`", "  UNIQUE KEY `k_1`");
        assert!(missing(&keys, &unique).is_err());
    }
}
