//! Foreign keys: cascades that no log tells of, and parents that would not be on the target.
//!
//! They are read from `SHOW CREATE TABLE`: MariaDB's information_schema hides them from accounts that may only read.

use converge_mysql::{Version, quote};

use super::{Accepted, Finding, Pair, Request, Server, Servers};
use crate::error::{Error, Result, Side};
use crate::schema::{self, Table};
use crate::source::fenced_name;

const CASCADES: &str = "foreign_key_cascades";
const UNCHECKED: &str = "foreign_keys_unchecked";
const PARENTS: &str = "foreign_key_parents";

/// One foreign key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ForeignKey {
    name: String,
    parent_schema: String,
    parent: String,
    cascades: bool,
}

impl ForeignKey {
    /// Whether `table` is the parent; a fenced one has another name for the moment.
    fn refers_to(&self, table: &Table) -> bool {
        let name = self.parent == table.name || self.parent == fenced_name(&table.name);
        name && self.parent_schema == table.schema
    }
}

/// Checks the foreign keys of all moved tables.
pub async fn check(servers: &mut Servers<'_>, request: &Request, pairs: &[Pair]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for pair in pairs {
        let Some(source) = &pair.source else { continue };
        let keys = read(&mut servers.source, source).await?;
        let moved: Vec<&Table> = pairs.iter().filter_map(|p| p.source.as_ref()).collect();
        findings.push(cascades(&servers.source, request.accepted, source, &keys, &moved));
        let keys = match &pair.target {
            Some(target) => {
                let there = read(&mut servers.target, target).await?;
                findings.extend(only_there(target, &keys, &there));
                there
            }
            None => keys,
        };
        findings.extend(parents(servers, request, pairs, pair, &keys).await?);
    }
    Ok(findings)
}

/// Asks again whether a moved table has keys that cascade: one may have come by a statement that was passed over.
pub async fn again(
    server: &mut Server<'_>,
    accepted: Accepted,
    table: &Table,
    moved: &[Table],
) -> Result<Finding> {
    // A table that is fenced has another name for the moment.
    let fenced = Table { name: fenced_name(&table.name), ..table.clone() };
    let keys = match read(server, table).await {
        Err(Error::Redefined { .. }) => read(server, &fenced).await?,
        keys => keys?,
    };
    Ok(cascades(server, accepted, table, &keys, &moved.iter().collect::<Vec<_>>()))
}

async fn read(server: &mut Server<'_>, table: &Table) -> Result<Vec<ForeignKey>> {
    let side = server.side;
    let definition = schema::definition(server.conn(), side, &table.schema, &table.name).await?;
    Ok(foreign_keys(&String::from_utf8_lossy(&definition), &table.schema))
}

/// From MySQL 9.6 on the server logs what cascades change, unless it leaves them to InnoDB. The fence keeps nobody out of
/// parents that are not moved.
fn cascades(
    server: &Server<'_>,
    accepted: Accepted,
    table: &Table,
    keys: &[ForeignKey],
    moved: &[&Table],
) -> Finding {
    let name = table.qualified();
    let found: Vec<&ForeignKey> = keys.iter().filter(|k| k.cascades).collect();
    let native = server.is_on("innodb_native_foreign_keys");
    let logged = server.info.is_mysql_since(Version(9, 6, 0)) && !native;
    let finding = if found.is_empty() {
        Finding::pass(CASCADES, "no foreign key of the table cascades")
    } else if let Some(key) = found.iter().find(|key| logged && !moved.iter().any(|t| key.refers_to(t))) {
        let parent = quote::qualified(&key.parent_schema, &key.parent);
        let what = format!(
            "foreign key {} of {name} cascades from {parent}, which is not moved: a switch fences {name} and not what \
             cascades to it, and after the switch that changes the fenced table instead of the target's",
            key.name
        );
        Finding::warn(
            CASCADES,
            what,
            format!("move {parent} too, or let nobody change its rows from the switch on"),
        )
    } else if logged {
        Finding::pass(CASCADES, format!("{} logs what cascades change", server.info))
    } else {
        let names: Vec<&str> = found.iter().map(|k| k.name.as_str()).collect();
        let what = format!(
            "foreign key {} of {name} cascades: {}{} does not log what it changes",
            names.join(", "),
            server.info,
            if native { " with innodb_native_foreign_keys = ON" } else { "" }
        );
        let drops: Vec<String> =
            names.iter().map(|n| format!("DROP FOREIGN KEY {}", quote::ident(n))).collect();
        let fix = format!("ALTER TABLE {name} {}", drops.join(", "));
        if accepted.unlogged_cascades {
            Finding::warn(CASCADES, what, format!("accepted by --i-know: {fix}"))
        } else {
            let unless = "; or, if no parent row is deleted and no parent key changed during the move, run with --i-know";
            Finding::refuse(CASCADES, what, format!("{fix}{unless}"))
        }
    };
    finding.on(Side::Source).of(name)
}

/// Nothing holds rows against a key that only the target's table has: the mover's sessions check no foreign keys, since
/// parents and children come in any order.
fn only_there(target: &Table, here: &[ForeignKey], there: &[ForeignKey]) -> Option<Finding> {
    let others = there.iter().filter(|key| !here.iter().any(|k| k.parent == key.parent));
    let others: Vec<&str> = others.map(|key| key.name.as_str()).collect();
    let name = target.qualified();
    (!others.is_empty()).then(|| {
        Finding::warn(
            UNCHECKED,
            format!("foreign keys that only the target's {name} has are not checked: {}", others.join(", ")),
            "drop them before the move and add them after it, which checks every row",
        )
        .on(Side::Target)
        .of(name)
    })
}

/// Parents are needed on the target once the application writes there; the mover itself does not check them.
async fn parents(
    servers: &mut Servers<'_>,
    request: &Request,
    pairs: &[Pair],
    pair: &Pair,
    keys: &[ForeignKey],
) -> Result<Option<Finding>> {
    let (from, to) = (&request.source.database, &request.target.database);
    let mut absent = Vec::new();
    for key in keys {
        // A table that the move creates refers to its parent by the source's names.
        let own = if pair.target.is_some() { to } else { from };
        let schema = if &key.parent_schema == own { to } else { &key.parent_schema };
        let moved = schema == to && pairs.iter().any(|p| p.to == key.parent);
        if moved || servers.target.has_table(schema, &key.parent).await? {
            continue;
        }
        absent.push(format!("{} ({})", quote::qualified(schema, &key.parent), key.name));
    }
    if keys.is_empty() {
        return Ok(None);
    }
    let name = quote::qualified(to, &pair.to);
    let finding = if absent.is_empty() {
        Finding::pass(PARENTS, "the tables that foreign keys refer to are moved or there")
    } else {
        Finding::warn(
            PARENTS,
            format!("{name} will refer to tables that are not on the target: {}", absent.join(", ")),
            "move them too, or drop the foreign keys on the target before the switch",
        )
    };
    Ok(Some(finding.on(Side::Target).of(name)))
}

/// Reads the constraints of `SHOW CREATE TABLE`, one a line, in the form in which both products print them.
fn foreign_keys(definition: &str, schema: &str) -> Vec<ForeignKey> {
    definition.lines().filter_map(|line| foreign_key(line.trim(), schema)).collect()
}

fn foreign_key(line: &str, schema: &str) -> Option<ForeignKey> {
    let (name, rest) = ident(line.strip_prefix("CONSTRAINT ")?)?;
    let rest = rest.strip_prefix(" FOREIGN KEY (")?;
    let rest = &rest[rest.find(") REFERENCES ")? + ") REFERENCES ".len()..];
    let (first, rest) = ident(rest)?;
    let (parent_schema, parent, rest) = match rest.strip_prefix('.').and_then(ident) {
        Some((table, rest)) => (first, table, rest),
        None => (schema.to_owned(), first, rest),
    };
    let actions = &rest[rest.rfind(')').map_or(0, |i| i + 1)..];
    let cascades = ["CASCADE", "SET NULL", "SET DEFAULT"].iter().any(|action| actions.contains(action));
    Some(ForeignKey { name, parent_schema, parent, cascades })
}

/// A name in backquotes at the beginning of `text`, and what follows it.
fn ident(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut chars = text.strip_prefix('`')?.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '`' {
            name.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == '`') {
            chars.next();
            name.push('`');
        } else {
            return Some((name, &text[at + 2..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_are_read_as_servers_print_them() {
        let definition = "CREATE TABLE `c` (\n  `id` int NOT NULL,\n  `x` int DEFAULT NULL COMMENT 'ON DELETE CASCADE',\n  \
            PRIMARY KEY (`id`),\n  \
            CONSTRAINT `c_ibfk_1` FOREIGN KEY (`p`) REFERENCES `t` (`id`) ON DELETE CASCADE,\n  \
            CONSTRAINT `odd``) name` FOREIGN KEY (`a`, `b`) REFERENCES `other`.`SET NULL` (`a`, `CASCADE`),\n  \
            CONSTRAINT `n` FOREIGN KEY (`p`) REFERENCES `t` (`id`) ON DELETE NO ACTION ON UPDATE SET NULL,\n  \
            CONSTRAINT `k` CHECK ((`x` > 0))\n) ENGINE=InnoDB";
        let key = |name: &str, parent_schema: &str, parent: &str, cascades| ForeignKey {
            name: name.into(),
            parent_schema: parent_schema.into(),
            parent: parent.into(),
            cascades,
        };
        let found = foreign_keys(definition, "shop");
        assert_eq!(
            found,
            [
                key("c_ibfk_1", "shop", "t", true),
                key("odd`) name", "other", "SET NULL", false),
                key("n", "shop", "t", true),
            ]
        );
    }
}
