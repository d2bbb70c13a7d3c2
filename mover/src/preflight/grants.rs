//! What `SHOW GRANTS` says: privileges by scope, with ALL, patterns, columns, partial revokes and active roles, whose
//! privileges the server lists along. Pure; where the server itself can be asked, its answer counts instead.

/// The privileges of an account.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    revoked: bool,
    privileges: Vec<String>,
    scope: Scope,
}

#[derive(Debug, Clone)]
enum Scope {
    Global,
    /// A database's name, with the wildcards `%` and `_`.
    Database(String),
    Table(String, String),
}

/// What a privilege is wanted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// `*.*`
    Everything,
    /// `database.table`
    Table(&'a str, &'a str),
}

impl<'a> FromIterator<&'a str> for Grants {
    fn from_iter<I: IntoIterator<Item = &'a str>>(lines: I) -> Self {
        Self { entries: lines.into_iter().filter_map(entry).collect() }
    }
}

impl Grants {
    /// Whether the account holds `privilege`, by its name in upper case.
    pub fn holds(&self, privilege: &str, on: On<'_>) -> bool {
        let named = |e: &&Entry| e.privileges.iter().any(|p| p == privilege || p.starts_with("ALL"));
        let matching = || self.entries.iter().filter(named);
        let global = matching().any(|e| !e.revoked && matches!(e.scope, Scope::Global));
        let On::Table(schema, table) = on else { return global };
        let revoked = matching().any(|e| e.revoked && matches!(&e.scope, Scope::Database(d) if d == schema));
        global && !revoked
            || matching().filter(|e| !e.revoked).any(|e| match &e.scope {
                Scope::Global => false,
                Scope::Database(pattern) => like(pattern.as_bytes(), schema.as_bytes()),
                Scope::Table(d, t) => d == schema && t == table,
            })
    }
}

/// `GRANT a, b (x, y) ON scope TO …`; `None` for roles, routines and proxies.
fn entry(line: &str) -> Option<Entry> {
    let (revoked, rest) = match line.split_once(' ')? {
        ("GRANT", rest) => (false, rest),
        ("REVOKE", rest) => (true, rest),
        _ => return None,
    };
    let at = outside(rest, " ON ")?;
    let scope_text = &rest[at + 4..];
    let end = outside(scope_text, " TO ").or_else(|| outside(scope_text, " FROM "))?;
    let scope = scope(scope_text[..end].trim().strip_prefix("TABLE ").unwrap_or(&scope_text[..end]))?;
    Some(Entry { revoked, privileges: privileges(&rest[..at]), scope })
}

/// The names of privileges. One that is granted on some columns only is left out.
fn privileges(list: &str) -> Vec<String> {
    let mut depth = 0;
    let split = list.split(|c: char| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    split.map(|p| p.trim().to_uppercase()).filter(|p| !p.contains('(')).collect()
}

fn scope(text: &str) -> Option<Scope> {
    let dot = outside(text, ".")?;
    let (schema, table) = (&text[..dot], &text[dot + 1..]);
    Some(match (schema, table) {
        ("*", "*") => Scope::Global,
        (_, "*") => Scope::Database(name(schema)?),
        _ => Scope::Table(name(schema)?, name(table)?),
    })
}

/// The name inside backquotes or double quotes; a bare one is something else, such as PROCEDURE.
fn name(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|c| ['`', '"'].contains(c))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
}

/// Where `pattern` first stands outside of quotes and parentheses.
fn outside(text: &str, pattern: &str) -> Option<usize> {
    let (mut quoted, mut depth) = (None, 0);
    text.char_indices().find_map(|(i, c)| {
        if quoted.is_none() && depth == 0 && text[i..].starts_with(pattern) {
            return Some(i);
        }
        match (c, quoted) {
            ('`' | '"' | '\'', None) => quoted = Some(c),
            (c, Some(q)) if c == q => quoted = None,
            ('(', None) => depth += 1,
            (')', None) => depth -= 1,
            _ => {}
        }
        None
    })
}

/// SQL's LIKE, over bytes.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', rest @ ..], _) => (0..=text.len()).any(|i| like(rest, &text[i..])),
        ([b'_', rest @ ..], [_, tail @ ..]) => like(rest, tail),
        ([b'\\', c, rest @ ..], [t, tail @ ..]) => c == t && like(rest, tail),
        ([c, rest @ ..], [t, tail @ ..]) => c == t && like(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: On<'_> = On::Table("shop", "t");

    fn holds(lines: &[&str], privilege: &str, on: On<'_>) -> bool {
        lines.iter().copied().collect::<Grants>().holds(privilege, on)
    }

    #[test]
    fn scopes_and_patterns_are_told_apart() {
        let on = |scope: &str| format!("GRANT SELECT, INSERT ON {scope} TO `u`@`%` WITH GRANT OPTION");
        for (scope, yes) in [
            ("*.*", true),
            ("`shop`.*", true),
            ("`sh_p`.*", true),
            ("`s%`.*", true),
            ("`sh\\_p`.*", false),
            ("`shop`.`t`", true),
            ("`shop`.`u`", false),
            ("`other`.*", false),
        ] {
            assert_eq!(holds(&[&on(scope)], "INSERT", T), yes, "{scope}");
            assert!(!holds(&[&on(scope)], "DELETE", T));
        }
        assert!(!holds(&[&on("`shop`.*")], "SELECT", On::Everything));
    }

    #[test]
    fn all_means_all_on_its_scope() {
        assert!(holds(&["GRANT ALL PRIVILEGES ON *.* TO `r`@`%`"], "REPLICATION SLAVE", On::Everything));
        assert!(holds(&["GRANT ALL PRIVILEGES ON `shop`.* TO `r`@`%`"], "TRIGGER", T));
    }

    #[test]
    fn columns_roles_routines_and_revokes_give_nothing() {
        for line in [
            "GRANT SELECT (`a`, `b ON *.* TO`) ON `shop`.`t` TO `u`@`%`",
            "GRANT `SELECT ON *.*`@`%` TO `u`@`%`",
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*SELECT'",
            "GRANT EXECUTE ON PROCEDURE `shop`.`t` TO `u`@`%`",
            "GRANT PROXY ON ``@`` TO 'root'@'localhost' WITH GRANT OPTION",
            "SET DEFAULT ROLE `r` FOR `u`@`localhost`",
        ] {
            assert!(!holds(&[line], "SELECT", T), "{line}");
        }
        let lines = ["GRANT SELECT, DELETE ON *.* TO `u`@`%`", "REVOKE SELECT ON `shop`.* FROM `u`@`%`"];
        assert!(!holds(&lines, "SELECT", T) && holds(&lines, "DELETE", T));
        assert!(holds(&lines, "SELECT", On::Table("other", "t")));
        assert!(holds(&["GRANT SELECT (`a`), INSERT ON `shop`.`t` TO `u`@`%`"], "INSERT", T));
    }
}
