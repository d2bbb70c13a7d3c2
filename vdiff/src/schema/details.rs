//! Reading what belongs to a table beside its columns and keys. What the account may not see is said, never taken for
//! absent.

use std::collections::{BTreeMap, BTreeSet};

use converge_mysql::{Flavor, quote};

use super::read::named_exactly;
use super::{Details, ForeignKey};
use crate::error::Error;
use crate::session::{Cells, Session, text};

/// Adds to what is known of the table `name` in the session's database.
pub async fn read(session: &mut Session, name: &str, known: Details) -> Result<Details, Error> {
    let mut details = known;
    let schema = session.database.clone();
    details.foreign_keys = foreign_keys(session, &schema, name).await?;
    details.checks = checks(session, &schema, name).await?;
    details.triggers = triggers(session, &schema, name).await?;
    (details.view, details.views) = views(session, &schema, name).await?;
    let may = privileges(session, &schema, name).await?;
    if !may.contains("TRIGGER") && details.triggers.is_empty() {
        details.hidden.push("triggers");
    }
    if !may.contains("SHOW VIEW") {
        details.hidden.push("views");
    }
    match grants(session, &schema, name).await? {
        Some(grants) => details.grants = grants,
        None => details.hidden.push("grants"),
    }
    Ok(details)
}

async fn foreign_keys(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<BTreeMap<String, ForeignKey>, Error> {
    let sql = format!(
        "SELECT CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME \
         FROM information_schema.KEY_COLUMN_USAGE WHERE {} AND REFERENCED_TABLE_NAME IS NOT NULL \
         ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION",
        named_exactly("", ["TABLE_SCHEMA", "TABLE_NAME"], [schema, name])
    );
    let mut keys: BTreeMap<String, ForeignKey> = BTreeMap::new();
    for row in session.query("reading the foreign keys", &sql).await? {
        let [column, there, parent, other] = [1, 2, 3, 4].map(|i| text(&row[i]));
        let key = keys.entry(text(&row[0])).or_insert_with(|| ForeignKey {
            columns: Vec::new(),
            // The databases of the two sides may have other names.
            parent: if there == schema { parent } else { format!("{there}.{parent}") },
            parent_columns: Vec::new(),
            rules: String::new(),
        });
        key.columns.push(column.to_lowercase());
        key.parent_columns.push(other.to_lowercase());
    }
    if keys.is_empty() {
        return Ok(keys);
    }
    let sql = format!(
        "SELECT CONSTRAINT_NAME, UPDATE_RULE, DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE {}",
        named_exactly("", ["CONSTRAINT_SCHEMA", "TABLE_NAME"], [schema, name])
    );
    for row in session.query("reading the foreign keys' rules", &sql).await? {
        let Some(key) = keys.get_mut(&text(&row[0])) else { continue };
        let [update, delete] = [1, 2].map(|i| rule(&text(&row[i])));
        key.rules = format!("on update {update} on delete {delete}");
    }
    Ok(keys)
}

/// InnoDB takes NO ACTION for RESTRICT; the families show the default by either name.
fn rule(rule: &str) -> String {
    if rule == "NO ACTION" { "restrict".into() } else { rule.to_lowercase() }
}

async fn checks(session: &mut Session, schema: &str, name: &str) -> Result<Vec<String>, Error> {
    // With constants for both, MariaDB opens no other table.
    let of_table = match session.info.flavor {
        Flavor::MySql => String::new(),
        Flavor::MariaDb => {
            format!(" AND {}", named_exactly("c.", ["CONSTRAINT_SCHEMA", "TABLE_NAME"], [schema, name]))
        }
    };
    let sql = format!(
        "SELECT c.CHECK_CLAUSE FROM information_schema.TABLE_CONSTRAINTS t JOIN information_schema.CHECK_CONSTRAINTS c \
         ON c.CONSTRAINT_SCHEMA = t.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = t.CONSTRAINT_NAME{of_table} \
         WHERE t.CONSTRAINT_TYPE = 'CHECK' AND {}",
        named_exactly("t.", ["TABLE_SCHEMA", "TABLE_NAME"], [schema, name])
    );
    let rows = session.query("reading the checks", &sql).await?;
    let mut clauses: Vec<String> = rows.iter().map(|row| text(&row[0])).collect();
    clauses.sort();
    Ok(clauses)
}

async fn triggers(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<BTreeMap<String, String>, Error> {
    let sql = format!(
        "SELECT TRIGGER_NAME, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER, ACTION_STATEMENT \
         FROM information_schema.TRIGGERS WHERE {}",
        named_exactly("", ["EVENT_OBJECT_SCHEMA", "EVENT_OBJECT_TABLE"], [schema, name])
    );
    let rows = session.query("reading the triggers", &sql).await?;
    let words = |row: &Cells| {
        let [when, what, order, body] = [1, 2, 3, 4].map(|i| text(&row[i]));
        format!("{when} {what} {order}: {}", body.trim())
    };
    Ok(rows.iter().map(|row| (text(&row[0]), words(row))).collect())
}

/// The table's own query if it is a view, and the views that name it.
async fn views(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<(Option<String>, BTreeMap<String, String>), Error> {
    let sql = format!(
        "SELECT TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA = {}",
        quote::text(schema)
    );
    let (mut own, mut others) = (None, BTreeMap::new());
    // The databases of the two sides may have other names.
    let prefix = format!("{}.", quote::ident(schema));
    let wanted = format!("{prefix}{}", quote::ident(name));
    for row in session.query("reading the views", &sql).await? {
        let (view, query) = (text(&row[0]), text(&row[1]));
        if view == name {
            own = Some(query.replace(&prefix, ""));
        } else if query.contains(&wanted) {
            others.insert(view, query.replace(&prefix, ""));
        }
    }
    Ok((own, others))
}

/// What the account may do with the table, as far as it was granted directly; privileges by way of roles are not seen.
async fn privileges(session: &mut Session, schema: &str, name: &str) -> Result<BTreeSet<String>, Error> {
    let current = session.one("reading the account's name", "SELECT CURRENT_USER()").await?;
    let current = text(&current[0]);
    let (user, host) = current.rsplit_once('@').unwrap_or((&current, "%"));
    let account = quote::text(&format!("'{user}'@'{host}'"));
    let sql = format!(
        "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {account} \
         UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = {account} \
         AND {schema} LIKE TABLE_SCHEMA \
         UNION SELECT PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES WHERE GRANTEE = {account} \
         AND TABLE_SCHEMA = {schema} AND TABLE_NAME = {}",
        quote::text(name),
        schema = quote::text(schema)
    );
    let rows = session.query("reading the account's privileges", &sql).await?;
    Ok(rows.iter().map(|row| text(&row[0])).collect())
}

/// Accounts and their privileges on the table and its columns; `None` if the account sees only its own.
async fn grants(
    session: &mut Session,
    schema: &str,
    name: &str,
) -> Result<Option<BTreeSet<(String, String)>>, Error> {
    const MAY: &str = "looking for the right to see grants";
    match session.query(MAY, "SELECT 1 FROM mysql.tables_priv LIMIT 0").await {
        Ok(_) => {}
        Err(Error::Server { inner: converge_mysql::Error::Denied { .. }, .. }) => return Ok(None),
        Err(other) => return Err(other),
    }
    let only = named_exactly("", ["TABLE_SCHEMA", "TABLE_NAME"], [schema, name]);
    let sql = format!(
        "SELECT GRANTEE, PRIVILEGE_TYPE, '' FROM information_schema.TABLE_PRIVILEGES WHERE {only} \
         UNION ALL SELECT GRANTEE, PRIVILEGE_TYPE, COLUMN_NAME FROM information_schema.COLUMN_PRIVILEGES WHERE {only}"
    );
    let rows = session.query("reading the grants", &sql).await?;
    let words = |row: &Cells| {
        let [account, privilege, column] = [0, 1, 2].map(|i| text(&row[i]));
        (account, if column.is_empty() { privilege } else { format!("{privilege} ({column})") })
    };
    Ok(Some(rows.iter().map(words).collect()))
}
